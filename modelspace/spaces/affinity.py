"""Affinities of stored models, and the coordinates that follow from them.

Functions that write are called inside a transaction of the registry, which they neither open nor close.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from modelspace.deprecated import renamed
from modelspace.registry import EmbeddingRow, ModelRow, Registry
from modelspace.spaces import anchors, coordinates
from modelspace.spaces.coordinates import Factor, Row
from modelspace.spaces.kinds import BlendSpace, Blocks, KernelSpace, Space, space_of
from modelspace.types import SpaceSpec


def stored_blocks(registry: Registry, spec: SpaceSpec, model_id: int) -> Blocks:
    """The stored blocks of a model that a space's affinities are computed from, by space id."""
    return {
        source.spec.space_id: list(registry.map_blocks(source.spec.space_id, model_id))
        for source in space_of(spec).sources(registry)
    }


def contributions(
    registry: Registry, spec: SpaceSpec, blocks: Blocks, model_ids: Sequence[int]
) -> dict[int, np.ndarray]:
    """What each probe image contributes to one model's affinities with stored models.

    Args:
        registry: an open registry.
        spec: the space.
        blocks: of the one model, covering the space's images: from a pass, or from `stored_blocks`.
        model_ids: the stored models.

    Returns:
        For each id (n_images,) float64, whose mean is the affinity. For maps it is the cosine, in −1..1; for kernels
        the inner product of the image's rows, scaled so that the mean is the inner product of unit matrices; for a
        blend the weighted sum of its members'.

    Raises:
        DamagedError: a stored model's maps do not cover the images.
    """
    return space_of(spec).contributions(registry, blocks, model_ids)


def contributions_of_all(registry: Registry, spec: SpaceSpec, model_ids: Sequence[int]) -> np.ndarray:
    """`contributions` for all pairs of n stored models: (n_images, n, n) float32, in the order of the ids.

    Raises:
        DamagedError: a model's maps do not cover the images.
    """
    return space_of(spec).contributions_of_all(registry, model_ids)


def kernels(registry: Registry, space: KernelSpace, model_ids: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (model id, kernel) of stored models."""
    for model_id, block in registry.map_blocks_at(space.spec.space_id, 0, list(model_ids)):
        yield model_id, space.kernel([block])


def rows_of(stored: Sequence[EmbeddingRow]) -> list[Row]:
    """The coordinates of stored embeddings."""
    return [Row(row.vector, row.axis, row.residual) for row in stored]


def _reach(factor: Factor) -> int:
    """Number of models, in order of position, that a new one must be compared with."""
    return factor.landmarks[-1] + 1 if factor.is_full else factor.n_rows


def affinities(
    registry: Registry, spec: SpaceSpec, blocks: Blocks, known: Mapping[str, Mapping[int, float]] | None = None
) -> dict[int, float]:
    """The affinities that a new model's coordinates are computed from, by model id.

    In a space with anchors they are those with the anchors, by the ids of the models that those were.

    Args:
        registry: an open registry.
        spec: the space.
        blocks: of the new model.
        known: its affinities in other spaces, space id -> model id -> affinity; a blend's follow from its members'.
    """
    space = space_of(spec)
    if registry.has_anchors(spec.space_id):
        return anchors.affinities(registry, space, blocks)
    if isinstance(space, BlendSpace) and (blended := space.blended(known or {})) is not None:
        return {i: blended[i] for i in registry.model_ids(spec.space_id) if i in blended}
    stored = registry.embeddings(spec.space_id)
    needed = [row.model_id for row in stored[: _reach(Factor.from_rows(rows_of(stored)))]]
    return {i: float(values.mean()) for i, values in space.contributions(registry, blocks, needed).items()}


def append(registry: Registry, spec: SpaceSpec, model_id: int, blocks: Blocks, known: Mapping[int, float]) -> None:
    """Write one model's embedding in one space.

    Args:
        registry: open for writing, in a transaction.
        spec: the space.
        model_id: the model.
        blocks: of the model.
        known: affinities by model id, computed before the lock was taken; those with models added since are computed
            here.
    """
    space = space_of(spec)
    state = registry.space(spec.space_id)
    if not state.has_anchors and state.n_models >= coordinates.MAX_EXACT:
        anchors.choose(registry, spec)
        state, known = registry.space(spec.space_id), {}
    if state.has_anchors:
        _append_placed(registry, space, state.end, model_id, blocks, known)
        return
    stored = registry.embeddings(spec.space_id)
    factor = Factor.from_rows(rows_of(stored))
    ids = [row.model_id for row in stored[: _reach(factor)]]
    added = space.contributions(registry, blocks, [i for i in ids if i not in known])
    affinities = np.array([known[i] if i in known else float(added[i].mean()) for i in ids])
    row = factor.append(affinities)
    registry.add_embedding(
        spec.space_id,
        EmbeddingRow(model_id, len(stored), row.vector, affinities, row.axis, row.residual),
        space.own_blocks(blocks),
        derived=space.is_derived,
    )


def _append_placed(
    registry: Registry, space: Space, position: int, model_id: int, blocks: Blocks, known: Mapping[int, float]
) -> None:
    """Write one model's embedding in a space with anchors."""
    if isinstance(space, BlendSpace):
        placed = anchors.place_stored(registry, space, model_id)
    else:
        placed = anchors.place(registry, space, blocks, known)
    registry.add_embedding(
        space.spec.space_id, _placed(model_id, position, placed), space.own_blocks(blocks), derived=space.is_derived
    )


def _placed(model_id: int, position: int, row: Row) -> EmbeddingRow:
    nothing = np.zeros(0)
    return EmbeddingRow(model_id, position, nothing, nothing, None, row.residual, row.vector.astype(np.float32))


def fill(registry: Registry, spec: SpaceSpec) -> int:
    """Add to a new blend the models that all of its members hold, in order of registration; returns their number.

    Nothing is embedded: affinities are weighted sums of the members'.
    """
    blend = space_of(spec)
    assert isinstance(blend, BlendSpace)
    ids = sorted(set.intersection(*(set(registry.model_ids(space_id)) for space_id in blend.weights)))
    if len(ids) > coordinates.MAX_EXACT:
        return anchors.fill(registry, blend, ids)
    total = np.zeros((len(ids), len(ids)))
    for space_id, weight in blend.weights.items():
        order, member = matrix(registry, registry.space(space_id).spec, set(ids))
        by_id = np.argsort(np.array(order, dtype=int))
        total += weight * member[np.ix_(by_id, by_id)]
    affinities = [total[position, : min(position, coordinates.MAX_AXES)] for position in range(len(ids))]
    for row in _factorised(registry, spec, ids, affinities):
        registry.add_embedding(spec.space_id, row, (), derived=True)
    return len(ids)


def project(registry: Registry, spec: SpaceSpec, blocks: Blocks) -> np.ndarray:
    """Vector (d,) float64 of a model that is not stored; its inner products with stored vectors are affinities.

    In a space with anchors it is its coordinates on them.
    """
    if registry.has_anchors(spec.space_id):
        return anchors.place(registry, space_of(spec), blocks, {}).vector
    stored = registry.embeddings(spec.space_id)
    factor = Factor.from_rows(rows_of(stored))
    n_axes = factor.n_axes
    ids = [row.model_id for row in stored[: _reach(factor)]]
    values = contributions(registry, spec, blocks, ids)
    # Stored vectors are zero along the axis that this model would open.
    return factor.append(np.array([values[i].mean() for i in ids])).vector[:n_axes]


def remove(registry: Registry, *model_ids: int) -> None:
    """Remove models from all spaces, and recompute the coordinates of those after them, once for all of them.

    Exact: the stored affinities are factorised again; pairs never computed (past the cap on axes) are computed from the
    maps. In a space with anchors nothing else changes, whichever models are removed.
    """
    plans: list[tuple[SpaceSpec, list[EmbeddingRow]]] = []
    for space in registry.spaces():
        if space.has_anchors:
            continue
        stored = registry.embeddings(space.spec.space_id)
        removed = [row.position for row in stored if row.model_id in model_ids]
        if not removed:
            continue
        others = [row for row in stored if row.position not in removed]
        affinities = [np.delete(row.affinities, [i for i in removed if i < len(row.affinities)]) for row in others]
        plans.append((space.spec, _factorised(registry, space.spec, [row.model_id for row in others], affinities)))
    for model_id in model_ids:
        registry.remove_model(model_id)
    for spec, rows in plans:
        registry.replace_coordinates(spec.space_id, rows)


def rebuild(registry: Registry, spec: SpaceSpec, progress: Callable[[int, int], None] | None = None) -> None:
    """Recompute a space's affinities and coordinates from the stored maps.

    Raises:
        DamagedError: stored maps don't match their checksums. Nothing is changed then: affinities computed from damaged
            maps would make the damage permanent.
    """
    ids = registry.model_ids(spec.space_id)
    placed = anchors.choose_again(registry, spec) if len(ids) > coordinates.MAX_EXACT else {}
    affinities: list[np.ndarray] = []
    exact = ids if not placed else ids[: coordinates.MAX_EXACT]
    for position, model_id in enumerate(exact):
        blocks = stored_blocks(registry, spec, model_id)
        earlier = ids[: min(position, coordinates.MAX_AXES)]
        values = contributions(registry, spec, blocks, earlier)
        affinities.append(np.array([values[i].mean() for i in earlier]))
        if progress:
            progress(position + 1, len(ids))
    rows = _factorised(registry, spec, exact, affinities)
    if placed:
        rows = [replace(row, coordinates=placed[row.model_id]) for row in rows]
        rows += [
            _placed(model_id, position, Row(placed[model_id], None, anchors.residual_of(placed[model_id])))
            for position, model_id in enumerate(ids[len(exact) :], len(exact))
        ]
    registry.replace_coordinates(spec.space_id, rows)
    for blend in anchors.blends_of(registry, spec):
        if placed:
            anchors.join(registry, blend)
        else:  # it holds no more models than its member
            rebuild(registry, blend.spec)


def _factorised(
    registry: Registry, spec: SpaceSpec, ids: Sequence[int], affinities: Sequence[np.ndarray]
) -> list[EmbeddingRow]:
    def missing(i: int, j: int) -> float:
        blocks = stored_blocks(registry, spec, ids[i])
        return float(contributions(registry, spec, blocks, [ids[j]])[ids[j]].mean())

    rows = coordinates.factorise(affinities, missing)
    return [
        EmbeddingRow(model_id, position, row.vector, affinity, row.axis, row.residual)
        for position, (model_id, row, affinity) in enumerate(zip(ids, rows, affinities, strict=True))
    ]


def matrix(registry: Registry, spec: SpaceSpec, chosen: Collection[int]) -> tuple[list[int], np.ndarray]:
    """Affinities of the chosen models of a space: their ids in order of position, and (n, n) float64.

    Pairs that are not stored are compared here: in a space with anchors, which may have many, by matrix products that
    are right to the rounding of float32; in others exactly.
    """
    rows = registry.embeddings(spec.space_id, chosen)
    ids = [row.model_id for row in rows]
    positions = np.array([row.position for row in rows], dtype=int)
    reaches = [int(np.searchsorted(positions[:i], len(row.affinities))) for i, row in enumerate(rows)]
    is_whole = all(reach >= i for i, reach in enumerate(reaches))
    by_products = not is_whole and registry.has_anchors(spec.space_id)
    out = space_of(spec).affinities_of_all(registry, ids) if by_products else np.eye(len(rows))
    for i, (row, reach) in enumerate(zip(rows, reaches, strict=True)):
        out[i, :reach] = row.affinities[positions[:reach]]
        if reach < i and not by_products:
            values = contributions(registry, spec, stored_blocks(registry, spec, row.model_id), ids[reach:i])
            out[i, reach:i] = [values[j].mean() for j in ids[reach:i]]
        out[:i, i] = out[i, :i]
    return ids, out


def find(registry: Registry, name: str) -> ModelRow | None:
    """The model of this name, or None."""
    return registry.find_model(name)


__getattr__ = renamed(
    __name__, {"cosines": "contributions", "all_cosines": "contributions_of_all", "stored_maps": "stored_blocks"}
)
