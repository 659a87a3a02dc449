"""Anchors that stay in memory from one add to the next.

A model is compared with the anchors of a space (`modelspace.spaces.anchors`), whose blocks are read from the registry,
compared with their checksums and decoded. That takes longer than the comparison itself, and anchors stay the same for
years, so a process that uses them a second time keeps what it decoded, up to `KEPT_BYTES` for all spaces. What is kept
is used only as long as the registry holds anchors of the same checksums; results are the same, bit for bit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import field
from pathlib import Path

import numpy as np

from modelspace.late import dataclass
from modelspace.registry import Registry
from modelspace.spaces import coordinates
from modelspace.spaces.kinds import Blocks, Operand, StoredSpace

#: Bytes of decoded blocks that a process keeps.
KEPT_BYTES = 256 << 20


@dataclass
class Anchors:
    """The anchors of a space in one state.

    Attributes:
        ids: the models that they were chosen from, by axis.
        lower: (d, d) float64, the triangular factor of their affinities.
        operands: by first image, (axis, operand) of each anchor's block, of those first images that are kept.
        passed: the first images whose blocks were read.
        is_large: whether the operands need more than `KEPT_BYTES`.
    """

    ids: list[int]
    lower: np.ndarray
    operands: dict[int, list[tuple[int, Operand]]] = field(default_factory=dict)
    passed: set[int] = field(default_factory=set)
    is_large: bool = False

    @property
    def n_bytes(self) -> int:
        """Bytes of the operands."""
        return sum(other.n_bytes for blocks in self.operands.values() for _, other in blocks)


#: Anchors by file and space, those used last at the end, each with the state of the registry's that they are.
_kept: OrderedDict[tuple[Path, str], tuple[object, Anchors]] = OrderedDict()
_lock = threading.Lock()


def of_space(registry: Registry, space: StoredSpace) -> Anchors:
    """The anchors of a space: those kept, if they are the registry's, or else read without their blocks.

    Raises:
        DamagedError: the factor of an anchor does not match its checksum.
    """
    space_id = space.spec.space_id
    key = (registry.path, space_id)
    state = registry.anchors_state(space_id) if registry.checks_rows else None
    if state is not None:
        with _lock:
            known = _kept.get(key)
            if known is not None and known[0] == state:
                _kept.move_to_end(key)
                return known[1]
    rows = registry.anchors(space_id)
    anchors = Anchors([row.model_id for row in rows], coordinates.matrix([row.factor for row in rows]))
    if state is not None:
        with _lock:
            _kept[key] = (state, anchors)
    return anchors


def products(registry: Registry, space: StoredSpace, anchors: Anchors, blocks: Blocks) -> np.ndarray:
    """A model's affinities with the anchors of a space, (d,) float64.

    Raises:
        DamagedError: the anchors' blocks don't match their checksums, or don't cover the images.
    """
    values = space.products_with_anchors(lambda first: _operands(registry, space, anchors, first), blocks)
    if len(values) != len(anchors.ids):
        raise space.missing("an anchor")
    return values


def are_kept(path: Path, space_ids: Collection[str]) -> bool:
    """Whether the process keeps all blocks of anchors of these spaces of a registry, in whatever state it was."""
    with _lock:
        known = [_kept.get((path, space_id)) for space_id in space_ids]
        return all(each is not None and each[1].passed == each[1].operands.keys() != set() for each in known)


def forget() -> None:
    """Keep nothing of what was read so far."""
    with _lock:
        _kept.clear()


def _operands(
    registry: Registry, space: StoredSpace, anchors: Anchors, first_image: int
) -> Iterator[tuple[int, Operand]]:
    """The anchors' blocks at an image, decoded, by axis; memory use is bounded unless they are kept."""
    if first_image in anchors.operands:
        yield from anchors.operands[first_image]
        return
    keeps, left = first_image in anchors.passed and not anchors.is_large, KEPT_BYTES - anchors.n_bytes
    read: list[tuple[int, Operand]] = []
    for axis, block in registry.anchor_blocks_at(space.spec.space_id, first_image):
        other = space.operand(block)
        if keeps:
            read.append((axis, other))
            left -= other.n_bytes
            if left < 0:  # a part of them would be no use
                keeps, anchors.is_large = False, True
                anchors.operands.clear()
                read.clear()
        yield axis, other
    anchors.passed.add(first_image)
    if keeps:
        anchors.operands[first_image] = read
        _make_room(anchors)


def _make_room(anchors: Anchors) -> None:
    """Forget the operands of the spaces that were used least recently, but not these."""
    with _lock:
        total = sum(each.n_bytes for _, each in _kept.values())
        for _, each in list(_kept.values()):
            if total > KEPT_BYTES and each is not anchors:
                total -= each.n_bytes
                each.operands.clear()
