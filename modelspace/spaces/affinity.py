"""Stored maps compared, and what follows for the coordinates: the bookkeeping between registry, maps and coordinates.

Functions that write are called inside a transaction of the registry, which they neither open nor close.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from modelspace.deprecated import renamed
from modelspace.errors import NotFoundError
from modelspace.registry import EmbeddingRow, ModelRow, Registry
from modelspace.spaces import coordinates
from modelspace.spaces.coordinates import Factor, Row
from modelspace.spaces.kinds import BlendSpace, Blocks, KernelSpace, space_of
from modelspace.types import SpaceSpec


def stored_blocks(registry: Registry, spec: SpaceSpec, model_id: int) -> Blocks:
    """What is stored of a model that a space's affinities are computed from, by space id."""
    return {
        source.spec.space_id: list(registry.map_blocks(source.spec.space_id, model_id))
        for source in space_of(spec).sources(registry)
    }


def contributions(
    registry: Registry, spec: SpaceSpec, blocks: Blocks, model_ids: Sequence[int]
) -> dict[int, np.ndarray]:
    """What each probe image adds to the affinities of one model with stored models.

    Args:
        blocks: of the one model, covering the space's images: what a pass yields, or `stored_blocks`.
        model_ids: the stored models.

    Returns:
        For each id (n_images,) float64, whose mean is the affinity. Between maps it is the cosine, in −1..1; between kernels
        the inner product of the image's rows, in units in which the mean is that of unit matrices; of a blend the
        weighted sum of its members'.

    Raises:
        DamagedError: a stored model's maps do not cover the images.
    """
    return space_of(spec).contributions(registry, blocks, model_ids)


def contributions_of_all(registry: Registry, spec: SpaceSpec, model_ids: Sequence[int]) -> np.ndarray:
    """`contributions` of every two of n stored models: (n_images, n, n) float32, in the order of the ids.

    Raises:
        DamagedError: a model's maps do not cover the images.
    """
    return space_of(spec).contributions_of_all(registry, model_ids)


def kernels(registry: Registry, space: KernelSpace, model_ids: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(model id, kernel) of stored models, one at a time."""
    for model_id, block in registry.map_blocks_at(space.spec.space_id, 0, list(model_ids)):
        yield model_id, space.kernel([block])


def rows_of(stored: Sequence[EmbeddingRow]) -> list[Row]:
    """The coordinates in stored embeddings."""
    return [Row(row.vector, row.axis, row.residual) for row in stored]


def _reach(factor: Factor) -> int:
    """To how many of the first models a new one must be compared."""
    return factor.landmarks[-1] + 1 if factor.is_full else factor.n_rows


def affinities(
    registry: Registry, spec: SpaceSpec, blocks: Blocks, known: Mapping[str, Mapping[int, float]] | None = None
) -> dict[int, float]:
    """Affinities of a new model to those that its coordinates need, by model id.

    Args:
        known: affinities by model id in other spaces, by space id: a blend's follow from those of its members.
    """
    space = space_of(spec)
    if isinstance(space, BlendSpace) and (blended := space.blended(known or {})) is not None:
        return {i: blended[i] for i in registry.model_ids(spec.space_id) if i in blended}
    stored = registry.embeddings(spec.space_id)
    needed = [row.model_id for row in stored[: _reach(Factor.from_rows(rows_of(stored)))]]
    return {i: float(values.mean()) for i, values in space.contributions(registry, blocks, needed).items()}


def append(registry: Registry, spec: SpaceSpec, model_id: int, blocks: Blocks, known: Mapping[int, float]) -> None:
    """Write one model's embedding in one space.

    Args:
        known: affinities by model id, computed before the lock was taken; those of models that came since are computed now.
    """
    space = space_of(spec)
    stored = registry.embeddings(spec.space_id)
    factor = Factor.from_rows(rows_of(stored))
    ids = [row.model_id for row in stored[: _reach(factor)]]
    late = space.contributions(registry, blocks, [i for i in ids if i not in known])
    given = np.array([known[i] if i in known else float(late[i].mean()) for i in ids])
    row = factor.append(given)
    registry.add_embedding(
        spec.space_id,
        EmbeddingRow(model_id, len(stored), row.vector, given, row.axis, row.residual),
        space.own_blocks(blocks),
        derived=space.is_derived,
    )


def fill(registry: Registry, spec: SpaceSpec) -> int:
    """Bring into a new blend the models that all of its members hold, in order of adding; how many.

    Nothing is embedded: the affinities are those of the members, weighted.
    """
    blend = space_of(spec)
    assert isinstance(blend, BlendSpace)
    ids = sorted(set.intersection(*(set(registry.model_ids(space_id)) for space_id in blend.weights)))
    total = np.zeros((len(ids), len(ids)))
    for space_id, weight in blend.weights.items():
        order, member = matrix(registry, registry.space(space_id).spec, set(ids))
        at = np.argsort(np.array(order, dtype=int))
        total += weight * member[np.ix_(at, at)]
    given = [total[position, : min(position, coordinates.MAX_AXES)] for position in range(len(ids))]
    for row in _factorised(registry, spec, ids, given):
        registry.add_embedding(spec.space_id, row, (), derived=True)
    return len(ids)


def project(registry: Registry, spec: SpaceSpec, blocks: Blocks) -> np.ndarray:
    """Vector (d,) float64 of a model that is not stored; its inner products with stored vectors are affinities."""
    stored = registry.embeddings(spec.space_id)
    factor = Factor.from_rows(rows_of(stored))
    n_axes = factor.n_axes
    ids = [row.model_id for row in stored[: _reach(factor)]]
    values = contributions(registry, spec, blocks, ids)
    # Only the part along existing axes meets other models; an axis of its own would be one more zero.
    return factor.append(np.array([values[i].mean() for i in ids])).vector[:n_axes]


def remove(registry: Registry, model_id: int) -> None:
    """Forget a model everywhere, and give the models after it coordinates without it.

    Exact: the stored affinities are factorised again; pairs that were never computed (past the cap on axes) are computed
    from the maps.
    """
    plans: list[tuple[SpaceSpec, list[EmbeddingRow]]] = []
    for space in registry.spaces():
        stored = registry.embeddings(space.spec.space_id)
        gone = next((row.position for row in stored if row.model_id == model_id), None)
        if gone is None:
            continue
        kept = [row for row in stored if row.position != gone]
        given = [np.delete(row.affinities, gone) if gone < len(row.affinities) else row.affinities for row in kept]
        plans.append((space.spec, _factorised(registry, space.spec, [row.model_id for row in kept], given)))
    registry.remove_model(model_id)
    for spec, rows in plans:
        registry.replace_coordinates(spec.space_id, rows)


def rebuild(registry: Registry, spec: SpaceSpec, progress: Callable[[int, int], None] | None = None) -> None:
    """Recompute a space's affinities and coordinates from the stored maps."""
    ids = [row.model_id for row in registry.embeddings(spec.space_id)]
    given: list[np.ndarray] = []
    for position, model_id in enumerate(ids):
        blocks = stored_blocks(registry, spec, model_id)
        earlier = ids[: min(position, coordinates.MAX_AXES)]
        values = contributions(registry, spec, blocks, earlier)
        given.append(np.array([values[i].mean() for i in earlier]))
        if progress:
            progress(position + 1, len(ids))
    registry.replace_coordinates(spec.space_id, _factorised(registry, spec, ids, given))


def _factorised(
    registry: Registry, spec: SpaceSpec, ids: Sequence[int], given: Sequence[np.ndarray]
) -> list[EmbeddingRow]:
    def missing(i: int, j: int) -> float:
        blocks = stored_blocks(registry, spec, ids[i])
        return float(contributions(registry, spec, blocks, [ids[j]])[ids[j]].mean())

    rows = coordinates.factorise(given, missing)
    return [
        EmbeddingRow(model_id, position, row.vector, affinity, row.axis, row.residual)
        for position, (model_id, row, affinity) in enumerate(zip(ids, rows, given, strict=True))
    ]


def matrix(registry: Registry, spec: SpaceSpec, chosen: Collection[int]) -> tuple[list[int], np.ndarray]:
    """Exact affinities of the chosen models of a space: their ids in order of position, and (n, n) float64."""
    stored = registry.embeddings(spec.space_id)
    kept = [row for row in stored if row.model_id in chosen]
    positions = np.array([row.position for row in kept], dtype=int)
    out = np.eye(len(kept))
    for i, row in enumerate(kept):
        reach = int(np.searchsorted(positions[:i], len(row.affinities)))
        out[i, :reach] = row.affinities[positions[:reach]]
        rest = [other.model_id for other in kept[reach:i]]
        if rest:
            values = contributions(registry, spec, stored_blocks(registry, spec, row.model_id), rest)
            out[i, reach:i] = [values[j].mean() for j in rest]
        out[:i, i] = out[i, :i]
    return [row.model_id for row in kept], out


def find(registry: Registry, name: str) -> ModelRow | None:
    """A model by its name, or None."""
    try:
        return registry.model(name)
    except NotFoundError:
        return None


__getattr__ = renamed(
    __name__, {"cosines": "contributions", "all_cosines": "contributions_of_all", "stored_maps": "stored_blocks"}
)
