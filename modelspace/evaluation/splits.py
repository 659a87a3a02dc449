"""Selection and held-out targets: options are chosen on the first, and results reported on the second.

An option evaluated on the targets that it was chosen on looks better than it is. So an oracle's targets are split by
name alone: in alphabetical order, the first, third, fifth, ... are the selection targets, the others are held out.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelspace.deprecated import renamed
from modelspace.errors import NotFoundError

#: The two splits, as an option names them.
SELECTION, HELD_OUT = "chosen", "kept"


def split(targets: Sequence[str], part: str) -> tuple[str, ...]:
    """The targets of one split, in their original order; part: `SELECTION` or `HELD_OUT`.

    >>> split(["normals", "depth", "edges"], HELD_OUT)
    ('edges',)
    """
    ordered = sorted(targets)
    members = set(ordered[::2] if part == SELECTION else ordered[1::2])
    return tuple(name for name in targets if name in members)


def select(targets: Sequence[str], choice: str | Sequence[str]) -> tuple[str, ...]:
    """The targets of a split ("chosen" or "kept"), or those named.

    Raises:
        NotFoundError: a name is not among them.
    """
    if isinstance(choice, str):
        if choice in (SELECTION, HELD_OUT):
            return split(targets, choice)
        choice = choice.split(",")
    for name in choice:
        if name not in targets:
            raise NotFoundError(
                f"{name!r} is not among the evaluated targets",
                f"available: {', '.join(targets)}; or chosen or kept for a split",
            )
    return tuple(name for name in targets if name in choice)


__getattr__ = renamed(__name__, {"half": "split", "CHOSEN": "SELECTION", "KEPT": "HELD_OUT"})
