"""Spaces of many models: their anchors, and the coordinates of models on them (`modelspace.spaces.coordinates`).

The anchors of a space of maps or kernels are copies of some of its models' blocks, in tables of their own: they are
read one after the other, and stay when their models are removed. A blend has none. Its affinity is a weighted sum of
its members', so a model's coordinates in it are those in the members, each scaled by the root of its weight, joined
in the order of the members' ids.

Functions that write are called inside a transaction of the registry, which they neither open nor close.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from modelspace.errors import DamagedError
from modelspace.registry import AnchorRow, EmbeddingRow, MapBlock, Registry
from modelspace.spaces import coordinates, kept_anchors
from modelspace.spaces.coordinates import Factor, Row
from modelspace.spaces.kept_anchors import Anchors
from modelspace.spaces.kinds import BlendSpace, Blocks, Space, StoredSpace, space_of
from modelspace.types import SpaceSpec

#: Models among which the anchors of a space of more models are chosen again.
SAMPLE = 2048


def affinities(registry: Registry, space: Space, blocks: Blocks) -> dict[int, float]:
    """A model's affinities with the anchors of a space, by the ids of the models that those were; {} for a blend."""
    if not isinstance(space, StoredSpace):
        return {}
    anchors = kept_anchors.of_space(registry, space)
    return _affinities(registry, space, anchors, blocks)


def _affinities(registry: Registry, space: StoredSpace, anchors: Anchors, blocks: Blocks) -> dict[int, float]:
    values = kept_anchors.products(registry, space, anchors, blocks)
    return dict(zip(anchors.ids, values.tolist(), strict=True))


def place(registry: Registry, space: Space, blocks: Blocks, known: Mapping[int, float]) -> Row:
    """The coordinates of a model on the anchors of a space.

    Args:
        registry: an open registry.
        space: a space with anchors.
        blocks: of the model.
        known: its affinities with the anchors, as from `affinities`; computed again if one is missing.
    """
    if isinstance(space, BlendSpace):
        members = space.sources(registry)
        return joined(space, {member.spec.space_id: place(registry, member, blocks, {}).vector for member in members})
    assert isinstance(space, StoredSpace)
    anchors = kept_anchors.of_space(registry, space)
    if any(model_id not in known for model_id in anchors.ids):
        known = _affinities(registry, space, anchors, blocks)
    return Factor.of_anchors(anchors.lower).append(np.array([known[model_id] for model_id in anchors.ids]))


def place_stored(registry: Registry, blend: BlendSpace, model_id: int) -> Row:
    """The coordinates in a blend of a model whose coordinates in the members are stored."""
    return joined(blend, {space_id: registry.coordinates(space_id, model_id) for space_id in blend.weights})


def joined(blend: BlendSpace, vectors: Mapping[str, np.ndarray]) -> Row:
    """A model's coordinates in a blend, from those in its members by space id."""
    parts = [np.sqrt(weight) * vectors[space_id] for space_id, weight in in_order(blend)]
    vector = np.concatenate(parts).astype(np.float64)
    return Row(vector, None, residual_of(vector))


def in_order(blend: BlendSpace) -> list[tuple[str, float]]:
    """Members and weights of a blend in the order in which their coordinates are joined: that of their ids.

    A definition that was read from a registry may name them in another order than the one that was stored.
    """
    return sorted(blend.weights.items())


def choose(registry: Registry, spec: SpaceSpec) -> None:
    """Give a space whose models have exact vectors anchors, some of those models, and all models coordinates on them.

    What is stored of the models stays.
    """
    space = space_of(spec)
    if isinstance(space, BlendSpace):
        join(registry, space)
        return
    stored = registry.embeddings(spec.space_id)
    vectors = coordinates.matrix([row.vector for row in stored])
    chosen, columns = coordinates.pivots(vectors)
    ids = [row.model_id for row in stored]
    _set(registry, spec, [ids[i] for i in chosen], columns[chosen])
    registry.set_coordinates(spec.space_id, ids, columns)
    for blend in blends_of(registry, spec):
        join(registry, blend)


def choose_again(registry: Registry, spec: SpaceSpec) -> dict[int, np.ndarray]:
    """Choose the anchors of a space of many models again, from its maps alone. A blend takes those of its members.

    The anchors are chosen from at most `SAMPLE` models, evenly spaced in order of registration, by the same
    factorisation with pivots as in `coordinates.pivots`, a column at a time.

    Args:
        registry: open for writing.
        spec: the space.

    Returns:
        The coordinates of every model on the new anchors by its id, (d,) float32; they are not stored yet.
    """
    space = space_of(spec)
    ids = registry.model_ids(spec.space_id)
    if isinstance(space, BlendSpace):
        return dict(zip(ids, _joined_rows(registry, space, ids), strict=True))
    assert isinstance(space, StoredSpace)
    sample = [ids[i] for i in np.unique(np.linspace(0, len(ids) - 1, min(SAMPLE, len(ids))).astype(int))]
    chosen, columns = _pivots_of(registry, space, sample)
    _set(registry, spec, [sample[i] for i in chosen], columns[chosen])
    anchors = kept_anchors.of_space(registry, space)
    factor = Factor.of_anchors(anchors.lower)
    out: dict[int, np.ndarray] = {}
    for model_id in ids:
        blocks = {spec.space_id: list(registry.map_blocks(spec.space_id, model_id))}
        values = kept_anchors.products(registry, space, anchors, blocks)
        out[model_id] = factor.append(values).vector.astype(np.float32)
    return out


def fill(registry: Registry, blend: BlendSpace, ids: Sequence[int]) -> int:
    """Add many models to an empty blend, all with coordinates alone; returns their number."""
    nothing = np.zeros(0)
    rows = [
        EmbeddingRow(model_id, position, nothing, nothing, None, residual_of(vector), vector)
        for position, (model_id, vector) in enumerate(zip(ids, _joined_rows(registry, blend, ids), strict=True))
    ]
    registry.fill_derived(blend.spec.space_id, rows)
    return len(rows)


def residual_of(vector: np.ndarray) -> float:
    """How much of a model its coordinates leave unexplained, in 0..1."""
    wide = vector.astype(np.float64)
    return max(0.0, 1.0 - float(wide @ wide))


def blends_of(registry: Registry, spec: SpaceSpec) -> list[BlendSpace]:
    """The blends with anchors of which a space is a member; their coordinates follow from its."""
    blends = [space_of(row.spec) for row in registry.spaces() if row.has_anchors]
    return [blend for blend in blends if isinstance(blend, BlendSpace) and spec.space_id in blend.weights]


def join(registry: Registry, blend: BlendSpace) -> None:
    """Set the coordinates of all models of a blend."""
    ids = registry.model_ids(blend.spec.space_id)
    registry.set_coordinates(blend.spec.space_id, ids, _joined_rows(registry, blend, ids))


def _joined_rows(registry: Registry, blend: BlendSpace, ids: Sequence[int]) -> np.ndarray:
    """Coordinates of some models in a blend, (n, d) float32; members without anchors get some first."""
    parts = []
    for space_id, weight in in_order(blend):
        if not registry.has_anchors(space_id):
            choose(registry, registry.space(space_id).spec)
        parts.append(np.float32(np.sqrt(weight)) * rows_of(registry, space_id, ids))
    joined_rows: np.ndarray = np.concatenate(parts, axis=1)
    return joined_rows


def rows_of(registry: Registry, space_id: str, ids: Sequence[int]) -> np.ndarray:
    """Coordinates of some models of a space with anchors, (n, d) float32, in the order of the ids.

    Raises:
        DamagedError: a model is not in the space.
    """
    stored, vectors = registry.vectors(space_id)
    order = np.argsort(stored)
    places = np.searchsorted(stored, ids, sorter=order)
    if len(ids) and (len(stored) == 0 or (stored[order[np.minimum(places, len(stored) - 1)]] != ids).any()):
        raise DamagedError(f"models of a blend are not in its member {space_id}", "`space.verify()` says which")
    rows: np.ndarray = vectors[order[places]]
    return rows


def _set(registry: Registry, spec: SpaceSpec, ids: Sequence[int], lower: np.ndarray) -> None:
    """Store models as the anchors of a space, with copies of their blocks."""

    def anchors() -> Iterator[tuple[AnchorRow, list[MapBlock]]]:
        for axis, model_id in enumerate(ids):
            yield AnchorRow(axis, model_id, lower[axis, : axis + 1]), list(registry.map_blocks(spec.space_id, model_id))

    registry.set_anchors(spec.space_id, anchors())


def _pivots_of(registry: Registry, space: StoredSpace, sample: Sequence[int]) -> tuple[list[int], np.ndarray]:
    """As `coordinates.pivots`, of models without vectors: each column is the affinities of an anchor, from the maps."""

    def affinities_of(i: int) -> np.ndarray:
        blocks = {space.spec.space_id: list(registry.map_blocks(space.spec.space_id, sample[i]))}
        values = space.contributions(registry, blocks, sample)
        return np.array([values[model_id].mean() for model_id in sample])

    return coordinates.pivots_of(len(sample), affinities_of)
