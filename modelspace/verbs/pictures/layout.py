"""The projection of a space: read from the registry, and computed where it is missing.

The rule: stored coordinates are used unchanged. Models without coordinates are placed in the existing projection, which
moves no other model; a space without a projection gets one. New coordinates are stored, so that the next map is the
same. If the registry can't be written to, or must not be (`store=False`), the map is drawn anyway, with a note.

UMAP gets at most `sampling.FITTED` models; the others are placed next to those that they are nearest to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelspace.analysis import distance_matrix, drawn, fit_projection, nearest_among, place_many, place_new
from modelspace.analysis.projection import MAX_EXACT, MIN_UMAP
from modelspace.deprecated import warn_renamed
from modelspace.errors import BusyError, DamagedError, ModelspaceError
from modelspace.registry import ProjectionRow, Registry, SpaceRow
from modelspace.spaces.affinity import matrix as affinity_matrix
from modelspace.verbs.pictures import sampling

#: Number of attempts while other processes store a projection at the same time.
_ATTEMPTS = 3

#: Largest number of new models that are placed one after another, each next to the others too, in a large space.
_PLACED_IN_TURN = 100

#: Number of nearest models that a model is placed by.
_ANCHORS = 5

#: Largest coordinate of a point: UMAP's are below 100, and a picture has axes of floats.
_FARTHEST = 1e6


@dataclass(frozen=True, eq=False)
class Layout:
    """The projection of a whole space.

    Attributes:
        projection: the coordinates of all models of the space.
        origin: "stored" (all coordinates were stored), "fitted", or "placed" (some models were new).
        n_new: number of models with new coordinates.
        stored: whether it is in the registry.
        notes: remarks for the user.
    """

    projection: ProjectionRow
    origin: str
    n_new: int
    stored: bool
    notes: tuple[str, ...] = ()

    @property
    def n_fitted(self) -> int:
        """Number of models that the projection was fitted to; the others were placed next to those."""
        fitted = self.projection.parameters.get("fitted")
        others = int(self.projection.placed.sum())
        return fitted if isinstance(fitted, int) else len(self.projection.model_ids) - others

    @property
    def map(self) -> ProjectionRow:
        """The old name of `projection`."""
        warn_renamed(f"{__name__}.Layout.map", f"{__name__}.Layout.projection")
        return self.projection

    @property
    def made(self) -> str:
        """The old name of `origin`."""
        warn_renamed(f"{__name__}.Layout.made", f"{__name__}.Layout.origin")
        return self.origin

    def places(self, model_ids: list[int]) -> NDArray[np.float64]:
        """(n, 2) coordinates of these models, in this order."""
        index_of = {int(model_id): i for i, model_id in enumerate(self.projection.model_ids)}
        return self.projection.coordinates[[index_of[model_id] for model_id in model_ids]]


def layout(
    path: Path,
    space: str | None = None,
    *,
    refit: bool = False,
    store: bool = True,
    seed: int = 0,
    sample: int | None = None,
) -> Layout:
    """The projection of all models of a space.

    Args:
        path: of the registry.
        space: name or id; None: the default space.
        refit: fit all models again, even if a projection is stored.
        store: store new coordinates in the registry, if it can be written to.
        seed: of a new projection. A stored one keeps its seed.
        sample: largest number of models that a new projection is fitted to; None: `sampling.FITTED`.

    Raises:
        NotFoundError: there is no such space.
        UsageError: `sample` is out of range.
    """
    sampling.check(sample, MIN_UMAP)
    for attempt in range(_ATTEMPTS):
        with Registry.open(path) as registry:
            row = registry.space(space)
            before = registry.projection(row.spec.space_id)
            current = _project(registry, row, None if refit else before, seed, sample or sampling.FITTED)
        current = replace(current, notes=(*current.notes, *_remarks(current.projection)))
        if current.origin == "stored":
            return current
        if not store:
            return replace(current, notes=(*current.notes, "the coordinates were not stored"))
        try:
            if _store(path, row, before, current.projection):
                return replace(current, stored=True)
        except ModelspaceError as error:
            # Queries also work in read-only folders, and while another process writes.
            if attempt + 1 == _ATTEMPTS or not isinstance(error, BusyError):
                reason = f"the coordinates were not stored: {error.message}"
                return replace(current, notes=(*current.notes, reason))
    reason = "the coordinates were not stored: other processes are changing the registry"
    return replace(current, notes=(*current.notes, reason))


def _project(registry: Registry, row: SpaceRow, before: ProjectionRow | None, seed: int, fitted: int) -> Layout:
    ids = registry.model_ids(row.spec.space_id)
    known = set() if before is None else {int(model_id) for model_id in before.model_ids}
    if before is None or not known:
        return Layout(_fit(registry, row, ids, seed, fitted), "fitted", len(ids), False)
    _check(before, set(ids), row.spec.name)
    new = [model_id for model_id in ids if model_id not in known]
    if not new:
        return Layout(before, "stored", 0, True)
    order = [*(int(model_id) for model_id in before.model_ids), *new]
    places = _places_of_new(registry, row, order, before.coordinates)
    return Layout(
        _by_id(
            replace(
                before,
                model_ids=np.array(order, dtype=np.int64),
                coordinates=np.vstack([before.coordinates, places]),
                placed=np.concatenate([before.placed, np.ones(len(new), dtype=bool)]),
            )
        ),
        "placed",
        len(new),
        False,
    )


def _check(projection: ProjectionRow, ids: set[int], space: str) -> None:
    """Check that a stored projection is one of models of the space.

    Raises:
        DamagedError: it is not.
    """
    numbers = projection.model_ids.tolist()
    if not ids.issuperset(numbers):
        problem = "points of models that are not in it"
    elif len(set(numbers)) < len(numbers):
        problem = "two points of one model"
    elif not (np.abs(projection.coordinates) <= _FARTHEST).all():
        problem = "points that can't be drawn"
    else:
        return
    raise DamagedError(
        f"the projection of the space {space!r} has {problem}", "`space.map(refit=True)` fits all models again"
    )


def _fit(registry: Registry, row: SpaceRow, ids: list[int], seed: int, fitted: int) -> ProjectionRow:
    numbers = [str(model_id) for model_id in ids]
    parameters: dict[str, Any] = {}
    if len(ids) <= min(MAX_EXACT, fitted):
        _, matrix = affinity_matrix(registry, row.spec, set(ids))
        projection = fit_projection(numbers, matrix, seed=seed)
        coordinates = projection.coordinates
    else:
        vectors = registry.vectors(row.spec.space_id)[1]
        chosen = drawn(len(ids), fitted, seed)
        projection = fit_projection([numbers[i] for i in chosen], vectors=vectors[chosen], seed=seed)
        coordinates = np.empty((len(ids), 2))
        coordinates[chosen] = projection.coordinates
        if len(chosen) < len(ids):
            others = np.setdiff1d(np.arange(len(ids)), chosen)
            coordinates[others] = _next_to(projection.coordinates, vectors[others], vectors[chosen])
            parameters["fitted"] = len(chosen)
    return _by_id(
        ProjectionRow(
            np.array(ids, dtype=np.int64),
            coordinates,
            np.zeros(len(ids), dtype=bool),
            {**projection.parameters, **parameters},
            projection.seed,
            datetime.now(UTC),
        )
    )


def _next_to(
    coordinates: NDArray[np.float64], new: NDArray[np.float32], vectors: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(m, 2) coordinates of models next to those of n others that they are nearest to by their vectors."""
    numbers, products = nearest_among(new, vectors, _ANCHORS)
    return place_many(coordinates, numbers, distance_matrix(products))


def _places_of_new(
    registry: Registry, row: SpaceRow, order: list[int], coordinates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(m, 2) coordinates of the new models order[n_old:], where those of the old ones are known."""
    n_old = len(coordinates)
    if len(order) > MAX_EXACT and len(order) - n_old > _PLACED_IN_TURN:
        stored, vectors = registry.vectors(row.spec.space_id)
        index_of = {int(model_id): i for i, model_id in enumerate(stored)}
        rows = [index_of[model_id] for model_id in order]
        return _next_to(coordinates, vectors[rows[n_old:]], vectors[rows[:n_old]])
    to_old, between = _distances_of_new(registry, row, order, n_old)
    return place_new(coordinates, to_old, between=between)


def _distances_of_new(
    registry: Registry, row: SpaceRow, order: list[int], n_old: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of the new models order[n_old:] to the old ones, (m, n_old), and to each other, (m, m)."""
    if len(order) <= MAX_EXACT:
        ids, matrix = affinity_matrix(registry, row.spec, set(order))
        index_of = {model_id: i for i, model_id in enumerate(ids)}
        rows = [index_of[model_id] for model_id in order]
        affinity = matrix[np.ix_(rows[n_old:], rows)]
    else:
        stored, vectors = registry.vectors(row.spec.space_id)
        index_of = {int(model_id): i for i, model_id in enumerate(stored)}
        rows = [index_of[model_id] for model_id in order]
        affinity = vectors[rows[n_old:]].astype(np.float64) @ vectors[rows].T
    distances = distance_matrix(affinity)
    return distances[:, :n_old], distances[:, n_old:]


def _by_id(row: ProjectionRow) -> ProjectionRow:
    order = np.argsort(row.model_ids)
    return replace(row, model_ids=row.model_ids[order], coordinates=row.coordinates[order], placed=row.placed[order])


def _remarks(row: ProjectionRow) -> tuple[str, ...]:
    placed, n = int(row.placed.sum()), len(row.placed)
    remarks = []
    fitted = row.parameters.get("fitted")
    if isinstance(fitted, int):
        remarks.append(
            f"the map was fitted to {fitted:,} models drawn at random; the others are placed next to those that they "
            "are nearest to by their coordinates"
        )
    if 2 * placed > n:
        remarks.append(
            f"{placed} of {n} models were added after this map was fitted; `space.map(refit=True)` refits it"
        )
    return tuple(remarks)


def _store(path: Path, space: SpaceRow, before: ProjectionRow | None, projection: ProjectionRow) -> bool:
    """Store a projection; False if another process changed the stored one, or the space's models, in the meantime."""
    with Registry.open(path, write=True) as registry, registry.transaction():
        stored = registry.projection(space.spec.space_id)
        unchanged = (stored is None) == (before is None)
        if stored is not None and before is not None:
            unchanged = stored.made_at == before.made_at and np.array_equal(stored.model_ids, before.model_ids)
        if not unchanged or set(registry.model_ids(space.spec.space_id)) != set(projection.model_ids.tolist()):
            return False
        registry.set_projection(space.spec.space_id, projection)
    return True
