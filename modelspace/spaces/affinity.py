"""Stored maps compared, and what follows for the coordinates: the bookkeeping between registry, maps and coordinates.

Functions that write are called inside a transaction of the registry, which they neither open nor close.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from modelspace.errors import DamagedError, NotFoundError
from modelspace.registry import EmbeddingRow, ModelRow, Registry
from modelspace.representations.maps import MapBlock, decode_unit
from modelspace.representations.maps import cosines as map_cosines
from modelspace.spaces import coordinates, predictability
from modelspace.spaces.coordinates import Factor, Row
from modelspace.types import SpaceSpec

#: What a space stores of a model: its blocks; for a blend, those of each member by space id.
Maps = Sequence[MapBlock] | Mapping[str, Sequence[MapBlock]]


def stored_maps(registry: Registry, spec: SpaceSpec, model_id: int) -> Maps:
    """What is stored of a model."""
    if spec.members:
        return {space_id: list(registry.map_blocks(space_id, model_id)) for space_id in spec.members}
    return list(registry.map_blocks(spec.space_id, model_id))


def maps_of(spec: SpaceSpec, blocks: Mapping[str, Sequence[MapBlock]]) -> Maps:
    """A space's part of what a pass yields, blocks by space id."""
    return {space_id: blocks[space_id] for space_id in spec.members} if spec.members else blocks[spec.space_id]


def cosines(registry: Registry, spec: SpaceSpec, maps: Maps, model_ids: Sequence[int]) -> dict[int, np.ndarray]:
    """What each probe image adds to the affinities of one model with stored models.

    Args:
        maps: of the one model, covering the space's images.
        model_ids: the stored models.

    Returns:
        For each id (n_images,) float64, whose mean is the affinity. Between maps it is the cosine, in −1..1; between kernels
        the inner product of the image's rows, in units in which the mean is that of unit matrices; of a blend the
        weighted sum of its members'.

    Raises:
        DamagedError: a stored model's maps do not cover the images.
    """
    if not model_ids:
        return {}
    if isinstance(maps, Mapping):
        total = {model_id: np.zeros(spec.n_images) for model_id in model_ids}
        for space_id, weight in spec.members.items():
            member = registry.space(space_id).spec
            for model_id, values in cosines(registry, member, maps[space_id], model_ids).items():
                total[model_id] += weight * values
        return total
    out = {model_id: np.full(spec.n_images, np.nan) for model_id in model_ids}
    for block in maps:
        own = decode_unit(block, spec)
        where = slice(block.first_image, block.first_image + block.n_images)
        for model_id, other in registry.map_blocks_at(spec.space_id, block.first_image, list(out)):
            out[model_id][where] = map_cosines(own, decode_unit(other, spec))
    for model_id, values in out.items():
        if np.isnan(values).any():
            raise DamagedError(f"maps of model {model_id} in space {spec.name!r} are missing", "run `space.verify()`")
    return out


def kernel_of(spec: SpaceSpec, maps: Sequence[MapBlock]) -> np.ndarray:
    """A model's kernel in a space of geometry, (n_images, n_images) float64, symmetric.

    Rows are quantised one by one, so that the stored matrix is symmetric only to rounding.
    """
    (block,) = maps
    rows = decode_unit(block, spec)
    return (rows + rows.T) / 2


def kernels(registry: Registry, spec: SpaceSpec, model_ids: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(model id, kernel) of stored models, one at a time."""
    for model_id, block in registry.map_blocks_at(spec.space_id, 0, list(model_ids)):
        yield model_id, kernel_of(spec, [block])


def features_of(registry: Registry, spec: SpaceSpec) -> SpaceSpec:
    """The space whose kernels the directed re-ranking of a space uses: itself, else a member, else one on the same images.

    Raises:
        NotFoundError: there is none.
    """
    rows = [row.spec for row in registry.spaces()]
    own = [spec, *(registry.space(space_id).spec for space_id in spec.members)]
    for other in [*own, *rows]:
        same = (other.probe_id, other.n_images) == (spec.probe_id, spec.n_images)
        if other.method in predictability.POSITIVE and same:
            return other
    raise NotFoundError(
        f"the directed re-ranking needs the features' kernels on the probe images of space {spec.name!r}",
        f"make a space of them with `space.init(methods=['dds'], images={spec.n_images})`, and add the models again",
    )


def rows_of(stored: Sequence[EmbeddingRow]) -> list[Row]:
    """The coordinates in stored embeddings."""
    return [Row(row.vector, row.axis, row.residual) for row in stored]


def _reach(factor: Factor) -> int:
    """To how many of the first models a new one must be compared."""
    return factor.landmarks[-1] + 1 if factor.is_full else factor.n_rows


def affinities(registry: Registry, spec: SpaceSpec, maps: Maps) -> dict[int, float]:
    """Affinities of a new model to those that its coordinates need, by model id."""
    stored = registry.embeddings(spec.space_id)
    wanted = [row.model_id for row in stored[: _reach(Factor.from_rows(rows_of(stored)))]]
    return {i: float(values.mean()) for i, values in cosines(registry, spec, maps, wanted).items()}


def append(registry: Registry, spec: SpaceSpec, model_id: int, maps: Maps, known: Mapping[int, float]) -> None:
    """Write one model's embedding in one space.

    Args:
        known: affinities by model id, computed before the lock was taken; those of models that came since are computed now.
    """
    stored = registry.embeddings(spec.space_id)
    factor = Factor.from_rows(rows_of(stored))
    ids = [row.model_id for row in stored[: _reach(factor)]]
    fresh = cosines(registry, spec, maps, [i for i in ids if i not in known])
    given = np.array([known[i] if i in known else float(fresh[i].mean()) for i in ids])
    row = factor.append(given)
    registry.add_embedding(
        spec.space_id,
        EmbeddingRow(model_id, len(stored), row.vector, given, row.axis, row.residual),
        () if isinstance(maps, Mapping) else maps,
    )


def fill(registry: Registry, spec: SpaceSpec) -> int:
    """Bring into a new blend the models that all of its members hold, in order of adding; how many.

    Nothing is embedded: the affinities are those of the members, weighted.
    """
    held = [set(registry.model_ids(space_id)) for space_id in spec.members]
    ids = sorted(set.intersection(*held)) if held else []
    total = np.zeros((len(ids), len(ids)))
    for space_id, weight in spec.members.items():
        order, member = matrix(registry, registry.space(space_id).spec, set(ids))
        at = np.argsort(np.array(order, dtype=int))
        total += weight * member[np.ix_(at, at)]
    given = [total[position, : min(position, coordinates.MAX_AXES)] for position in range(len(ids))]
    for row in _factorised(registry, spec, ids, given):
        registry.add_embedding(spec.space_id, row, ())
    return len(ids)


def project(registry: Registry, spec: SpaceSpec, maps: Maps) -> np.ndarray:
    """Vector (d,) float64 of a model that is not stored; its inner products with stored vectors are affinities."""
    stored = registry.embeddings(spec.space_id)
    factor = Factor.from_rows(rows_of(stored))
    n_axes = factor.n_axes
    ids = [row.model_id for row in stored[: _reach(factor)]]
    found = cosines(registry, spec, maps, ids)
    # Only the part along the axes that are there meets other models; an axis of its own would be one more zero.
    return factor.append(np.array([found[i].mean() for i in ids])).vector[:n_axes]


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
    """Compute a space's affinities and coordinates anew from the stored maps."""
    ids = [row.model_id for row in registry.embeddings(spec.space_id)]
    given: list[np.ndarray] = []
    for position, model_id in enumerate(ids):
        maps = stored_maps(registry, spec, model_id)
        earlier = ids[: min(position, coordinates.MAX_AXES)]
        values = cosines(registry, spec, maps, earlier)
        given.append(np.array([values[i].mean() for i in earlier]))
        if progress:
            progress(position + 1, len(ids))
    registry.replace_coordinates(spec.space_id, _factorised(registry, spec, ids, given))


def _factorised(
    registry: Registry, spec: SpaceSpec, ids: Sequence[int], given: Sequence[np.ndarray]
) -> list[EmbeddingRow]:
    def missing(i: int, j: int) -> float:
        maps = stored_maps(registry, spec, ids[i])
        return float(cosines(registry, spec, maps, [ids[j]])[ids[j]].mean())

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
            maps = stored_maps(registry, spec, row.model_id)
            values = cosines(registry, spec, maps, rest)
            out[i, reach:i] = [values[j].mean() for j in rest]
        out[:i, i] = out[i, :i]
    return [row.model_id for row in kept], out


def find(registry: Registry, name: str) -> ModelRow | None:
    """A model by its name, or None."""
    try:
        return registry.model(name)
    except NotFoundError:
        return None


def all_cosines(registry: Registry, spec: SpaceSpec, model_ids: Sequence[int]) -> np.ndarray:
    """`cosines` of every two of n stored models: (n_images, n, n) float32, in the order of the ids.

    The maps of one block of images are held at a time, of all n models.

    Raises:
        DamagedError: a model's maps do not cover the images.
    """
    if spec.members:
        total = np.zeros((spec.n_images, len(model_ids), len(model_ids)), dtype=np.float32)
        for space_id, weight in spec.members.items():
            total += np.float32(weight) * all_cosines(registry, registry.space(space_id).spec, model_ids)
        return total
    at = {model_id: i for i, model_id in enumerate(model_ids)}
    n = len(at)
    out = np.full((spec.n_images, n, n), np.nan, dtype=np.float32)
    for first in registry.block_starts(spec.space_id):
        maps: np.ndarray | None = None
        for model_id, block in registry.map_blocks_at(spec.space_id, first, list(at)):
            if maps is None:
                maps = np.full((block.n_images, n, spec.row_length), np.nan, dtype=np.float32)
            maps[:, at[model_id]] = decode_unit(block, spec)
        if maps is not None:
            out[first : first + len(maps)] = maps @ maps.transpose(0, 2, 1)
    if np.isnan(out).any():
        raise DamagedError(f"maps of a model in space {spec.name!r} are missing", "run `space.verify()`")
    return out
