"""Which architecture a file of weights belongs to, by the names and shapes of its tensors.

`architectures.json` holds a signature of each architecture of timm, torchvision and transformers that
`scripts/make_architectures.py` could build: no weights, and nothing that can't be computed from their public code. It
is compared with the names and shapes in a file, so that none of these packages has to be installed or imported.

A signature leaves out the head, the tensors whose shapes depend on the number of classes, and batch norm's counters,
which old files lack.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

#: Name of a tensor -> its shape.
Shapes = Mapping[str, tuple[int, ...]]

INDEX = Path(__file__).with_name("architectures.json")

#: Values in a sketch, of `_WIDTH` bytes each.
SKETCH, _WIDTH = 12, 3

#: Least estimated share of equal tensors of an architecture that is called near.
NEAR = 0.3


@dataclass(frozen=True)
class Architecture:
    """An architecture, or several whose tensors have the same names and shapes.

    Attributes:
        names: addresses without weights, for example "timm:resnet50"; the first is the commonest, as far as known.
        head: names of the tensors whose shapes depend on the number of classes.
        classes: default number of classes; 0 without a head.
        digest: of all other tensors (`digest`).
        sketch: of these (`sketch`).
        tensors: number of all tensors, without counters.
        parameters: number of elements of all tensors.
    """

    names: tuple[str, ...]
    head: tuple[str, ...]
    classes: int
    digest: str
    sketch: frozenset[int]
    tensors: int
    parameters: int


@dataclass(frozen=True)
class Match:
    """An architecture that a file's tensors are compared with.

    Attributes:
        architecture: it.
        share: 1.0 if all tensors but those of the head are equal; else the estimated share of tensors that are.
        classes: number of classes of the file's head; None: not known, or the head is missing.
        is_headless: whether the file has all tensors but those of the head.
    """

    architecture: Architecture
    share: float
    classes: int | None = None
    is_headless: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether all tensors but those of the head are equal."""
        return self.share == 1.0


def counted(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The tensors that signatures are made of: all but batch norm's counters."""
    return {name: tuple(shape) for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}


def _element(name: str, shape: Sequence[int]) -> bytes:
    return f"{name} {'x'.join(map(str, shape))}".encode()


def digest(shapes: Shapes) -> str:
    """A fingerprint of names and shapes, 8 characters.

    >>> digest({"a.weight": (2, 3), "b": ()}) == digest({"b": (), "a.weight": (2, 3)})
    True
    """
    lines = sorted(_element(name, shape) for name, shape in shapes.items())
    return base64.b64encode(hashlib.sha256(b"\n".join(lines)).digest()[:6]).decode()


def sketch(shapes: Shapes) -> list[int]:
    """The `SKETCH` smallest hashes of the tensors, from which `similarity` is estimated (Broder, SEQUENCES 1997)."""
    hashes = {
        int.from_bytes(hashlib.sha256(_element(name, shape)).digest()[:_WIDTH], "big") for name, shape in shapes.items()
    }
    return sorted(hashes)[:SKETCH]


def similarity(a: Iterable[int], b: Iterable[int]) -> float:
    """Estimated share of tensors that two sketches have in common, of all tensors of both (Jaccard)."""
    first, second = set(a), set(b)
    smallest = sorted(first | second)[:SKETCH]
    return len(first & second & set(smallest)) / len(smallest) if smallest else 0.0


def packed(values: Sequence[int]) -> str:
    """A sketch as text."""
    return base64.b64encode(b"".join(value.to_bytes(_WIDTH, "big") for value in values)).decode()


def _unpacked(text: str) -> frozenset[int]:
    data = base64.b64decode(text)
    return frozenset(int.from_bytes(data[k : k + _WIDTH], "big") for k in range(0, len(data), _WIDTH))


@cache
def _index() -> dict[str, Any]:
    index: dict[str, Any] = json.loads(INDEX.read_text("utf-8"))
    return index


def versions() -> Mapping[str, str]:
    """The packages that the signatures were made from, with their versions."""
    return dict(_index()["versions"])


@cache
def architectures() -> tuple[Architecture, ...]:
    """All architectures with a signature."""
    index = _index()
    heads = [tuple(head) for head in index["heads"]]
    return tuple(
        Architecture(tuple(names), heads[head], classes, mark, _unpacked(marks), tensors, parameters)
        for names, head, classes, mark, marks, tensors, parameters in index["architectures"]
    )


def matching(shapes: Shapes, most: int = 3) -> list[Match]:
    """The architectures with these tensors but for the head; if there is none, the nearest ones.

    Args:
        shapes: of all tensors in a state dict.
        most: number of near architectures.
    """
    own = counted(shapes)
    by_head: dict[tuple[str, ...], str] = {}
    exact = []
    for each in architectures():
        if each.head not in by_head:
            by_head[each.head] = digest({name: shape for name, shape in own.items() if name not in each.head})
        if by_head[each.head] == each.digest and (match := _exact(each, own)) is not None:
            exact.append(match)
    if exact:
        return sorted(exact, key=lambda match: (match.is_headless, -len(match.architecture.head)))
    marks = sketch(own)
    near = [Match(each, similarity(marks, each.sketch)) for each in architectures()]
    near = [match for match in near if match.share >= NEAR]
    near.sort(key=lambda match: (-match.share, abs(match.architecture.tensors - len(own))))
    # An estimate of 1 is no proof.
    return [Match(match.architecture, min(match.share, 0.99)) for match in near[:most]]


def _exact(architecture: Architecture, own: Shapes) -> Match | None:
    """The match of a file that has all but the head; None if its head is no head of any number of classes."""
    head = [own[name] for name in architecture.head if name in own]
    if not architecture.head:
        return Match(architecture, 1.0)
    if not head:
        return Match(architecture, 1.0, is_headless=True)
    rows = {shape[:1] for shape in head}
    if len(head) < len(architecture.head) or len(rows) > 1 or () in rows:
        return None
    return Match(architecture, 1.0, rows.pop()[0])
