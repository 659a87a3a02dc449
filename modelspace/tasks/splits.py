"""Which images train, which test, and in which order training images are spent.

Both depend on the images' content and the task's seed alone: not on file names, and an image that is added later moves
no other image of another class from one part to the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from modelspace.errors import UsageError
from modelspace.tasks.data import LabelledImages

#: Share of the images of each class that is held out.
TEST_SHARE = 0.2

#: Images of a class that are seen before the next classes: with one, a readout learns nothing of the class once that
#: image is left out.
PER_CLASS = 3


@dataclass(frozen=True)
class Split:
    """A split of a data set.

    Attributes:
        train: numbers of the training images, in the order in which a search looks at them: every beginning of it is
            balanced over the classes (`spending_order`).
        test: numbers of the held-out images, which no choice sees, in random order.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]


def split(images: LabelledImages, seed: int, first: int = 60, test_share: float = TEST_SHARE) -> Split:
    """The training and test images of a task.

    Within each class, images are put in the order of a hash of seed and content, and the first fifth of them (at least
    one, and at most all but one) is held out. For regression all images are one class.

    Args:
        images: the data set.
        seed: of the task.
        first: number of images that a search looks at first (`spending_order`).
        test_share: share of the images to hold out, in (0, 1).

    Raises:
        UsageError: fewer than four images.
    """
    if len(images) < 4:
        raise UsageError(f"{images.location} has {len(images)} images", "a split needs at least four, better hundreds")
    labels = images.labels if images.classes else (0,) * len(images)
    members: dict[int, list[int]] = {}
    for number in sorted(range(len(images)), key=lambda k: _place(seed, images.hashes[k])):
        members.setdefault(int(labels[number]), []).append(number)
    train: dict[int, list[int]] = {}
    test: list[int] = []
    for label, numbers in members.items():
        held_out = min(max(1, round(test_share * len(numbers))), len(numbers) - 1)
        test += numbers[:held_out]
        train[label] = numbers[held_out:]
    order = sorted(train, key=lambda label: _place(seed, str(label)))
    return Split(
        tuple(spending_order([train[label] for label in order], first)),
        tuple(sorted(test, key=lambda k: _place(seed, images.hashes[k]))),
    )


def spending_order(members: Sequence[Sequence[int]], first: int) -> list[int]:
    """Training images in the order in which they are spent, so that every beginning is balanced over classes.

    With few classes they take turns. With more classes than `first` / `PER_CLASS`, a block of classes has `PER_CLASS`
    turns before the next block begins, so that the first images tell at least some classes apart.

    >>> spending_order([[1, 2, 3], [4, 5], [6]], first=60)
    [1, 4, 6, 2, 5, 3]

    Args:
        members: the images of each class.
        first: number of images that are looked at first.
    """
    block = max(2, first // PER_CLASS)
    chosen: list[int] = []
    for start in range(0, len(members), block):
        classes = members[start : start + block]
        chosen += [numbers[turn] for turn in range(PER_CLASS) for numbers in classes if turn < len(numbers)]
    longest = max(map(len, members), default=0)
    chosen += [numbers[turn] for turn in range(PER_CLASS, longest) for numbers in members if turn < len(numbers)]
    return chosen


def _place(seed: int, content: str) -> str:
    return hashlib.sha256(f"{seed} {content}".encode()).hexdigest()
