"""Coordinates of the models on a space's projection: read from the registry, and computed if missing.

Stored coordinates are used unchanged. Models without coordinates are placed on the existing projection, which moves no
other model; a space without a projection gets one. New coordinates are stored, so that the next map is the same. If the
registry can't be written to, or must not be (`store=False`), the map is drawn all the same, with a note.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelspace.analysis import distance_matrix, fit_projection, place_new
from modelspace.analysis.projection import MAX_EXACT
from modelspace.errors import BusyError, ModelspaceError
from modelspace.registry import ProjectionRow, Registry, SpaceRow
from modelspace.spaces.affinity import matrix as affinity_matrix

#: How often a map is made anew because another process stored one meanwhile.
_ATTEMPTS = 3


@dataclass(frozen=True, eq=False)
class Layout:
    """The map of a whole space.

    Attributes:
        map: the places, those of all models of the space.
        made: how it came to be now: "stored" (nothing had to be made), "fitted", or "placed" (some models were new).
        n_new: how many models got their place now.
        stored: whether the registry holds it.
        notes: remarks for a person.
    """

    map: ProjectionRow
    made: str
    n_new: int
    stored: bool
    notes: tuple[str, ...] = ()

    def places(self, model_ids: list[int]) -> NDArray[np.float64]:
        """(n, 2) coordinates of these models, in this order."""
        at = {int(model_id): i for i, model_id in enumerate(self.map.model_ids)}
        return self.map.coordinates[[at[model_id] for model_id in model_ids]]


def layout(path: Path, space: str | None = None, *, refit: bool = False, store: bool = True, seed: int = 0) -> Layout:
    """The map of a space, of all its models.

    Args:
        path: of the registry.
        space: name or id; None: the default space.
        refit: lay out all models anew, even where a map is stored.
        store: keep what had to be made in the registry, where it can be written to.
        seed: of a new layout. A stored map keeps its own.

    Raises:
        NotFoundError: there is no such space.
    """
    for attempt in range(_ATTEMPTS):
        with Registry.open(path) as registry:
            row = registry.space(space)
            before = registry.projection(row.spec.space_id)
            made = _make(registry, row, None if refit else before, seed)
        made = replace(made, notes=(*made.notes, *_remarks(made.map)))
        if made.made == "stored":
            return made
        if not store:
            return replace(made, notes=(*made.notes, "the coordinates were not stored"))
        try:
            if _store(path, row, before, made.map):
                return replace(made, stored=True)
        except ModelspaceError as error:
            # Queries work in folders that nobody may write to, and while somebody else writes.
            if attempt + 1 == _ATTEMPTS or not isinstance(error, BusyError):
                reason = f"the coordinates were not stored: {error.message}"
                return replace(made, notes=(*made.notes, reason))
    return replace(made, notes=(*made.notes, "the coordinates were not stored: others are changing the registry"))


def _make(registry: Registry, row: SpaceRow, before: ProjectionRow | None, seed: int) -> Layout:
    ids = registry.model_ids(row.spec.space_id)
    known = set() if before is None else {int(model_id) for model_id in before.model_ids}
    if before is None or not known:
        return Layout(_fit(registry, row, ids, seed), "fitted", len(ids), False)
    new = [model_id for model_id in ids if model_id not in known]
    if not new:
        return Layout(before, "stored", 0, True)
    order = [*(int(model_id) for model_id in before.model_ids), *new]
    n_old = len(order) - len(new)
    to_old, between = _distances_of_new(registry, row, order, n_old)
    places = place_new(before.coordinates, to_old, between=between)
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


def _fit(registry: Registry, row: SpaceRow, ids: list[int], seed: int) -> ProjectionRow:
    numbers = [str(model_id) for model_id in ids]
    if len(ids) <= MAX_EXACT:
        _, matrix = affinity_matrix(registry, row.spec, set(ids))
        found = fit_projection(numbers, matrix, seed=seed)
    else:
        found = fit_projection(numbers, vectors=registry.vectors(row.spec.space_id)[1], seed=seed)
    return _by_id(
        ProjectionRow(
            np.array(ids, dtype=np.int64),
            found.coordinates,
            np.zeros(len(ids), dtype=bool),
            dict(found.parameters),
            found.seed,
            datetime.now(UTC),
        )
    )


def _distances_of_new(
    registry: Registry, row: SpaceRow, order: list[int], n_old: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of the models order[n_old:] to the ones before, (m, n_old), and to each other, (m, m)."""
    if len(order) <= MAX_EXACT:
        ids, matrix = affinity_matrix(registry, row.spec, set(order))
        at = {model_id: i for i, model_id in enumerate(ids)}
        rows = [at[model_id] for model_id in order]
        affinity = matrix[np.ix_(rows[n_old:], rows)]
    else:
        stored, vectors = registry.vectors(row.spec.space_id)
        at = {int(model_id): i for i, model_id in enumerate(stored)}
        rows = [at[model_id] for model_id in order]
        affinity = vectors[rows[n_old:]].astype(np.float64) @ vectors[rows].T
    distances = distance_matrix(affinity)
    return distances[:, :n_old], distances[:, n_old:]


def _by_id(row: ProjectionRow) -> ProjectionRow:
    order = np.argsort(row.model_ids)
    return replace(row, model_ids=row.model_ids[order], coordinates=row.coordinates[order], placed=row.placed[order])


def _remarks(row: ProjectionRow) -> tuple[str, ...]:
    placed = int(row.placed.sum())
    if 2 * placed <= len(row.placed):
        return ()
    return (
        f"{placed} of {len(row.placed)} models came after this map was made; `space.map(refit=True)` makes a new one",
    )


def _store(path: Path, space: SpaceRow, before: ProjectionRow | None, made: ProjectionRow) -> bool:
    """Store a map; False where another process has changed the stored one or the space's models since it was read."""
    with Registry.open(path, write=True) as registry, registry.transaction():
        there = registry.projection(space.spec.space_id)
        same = (there is None) == (before is None)
        if there is not None and before is not None:
            same = there.made_at == before.made_at and np.array_equal(there.model_ids, before.model_ids)
        if not same or set(registry.model_ids(space.spec.space_id)) != set(made.model_ids.tolist()):
            return False
        registry.set_projection(space.spec.space_id, made)
    return True
