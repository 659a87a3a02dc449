"""`modelspace verify`: does the registry agree with itself, and the index with the registry?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from modelspace.errors import ModelspaceError
from modelspace.home import INDEX, REGISTRY
from modelspace.registry import Registry, SpaceRow
from modelspace.results import Check
from modelspace.spaces import affinity, coordinates, index

#: Largest error of a stored affinity or of an inner product of vectors that rounding explains.
TOLERANCE = 1e-6

#: Without `deep`, the maps of so many models per space are compared again.
SAMPLE = 5


def verify(home: Path, *, deep: bool, progress: Callable[[int, int], None] | None) -> list[Check]:
    """All checks, in the order in which they were made; see `modelspace.workspace.ModelSpace.verify`."""
    checks: list[Check] = []
    with Registry.open(home / REGISTRY) as registry:
        problems = registry.check()
        checks += [
            Check(problem.subject, False, problem.message, "restore a copy of the registry") for problem in problems
        ]
        if not problems:
            checks.append(Check("tables", True, f"{len(registry.models())} models, {len(registry.spaces())} spaces"))
        for row in registry.spaces():
            checks += _space(registry, row, home, deep, progress)
    return checks


def _space(
    registry: Registry, row: SpaceRow, home: Path, deep: bool, progress: Callable[[int, int], None] | None
) -> Iterator[Check]:
    spec, name = row.spec, row.spec.name
    stored = registry.embeddings(spec.space_id)
    if stored:
        try:
            yield _vectors(registry, row)
            yield _maps(registry, row, deep, progress)
        except ModelspaceError as error:
            yield Check(f"{name}: maps", False, error.message, error.hint)
    state, reason = index.status(home / INDEX, spec.space_id, registry.registry_id, row.generation)
    # A stale or missing file is no fault: the next query makes it anew.
    yield Check(
        f"{name}: index file",
        state in ("fresh", "missing", "stale"),
        state + (f": {reason}" if reason else ""),
        "" if state == "fresh" else "run `space.rebuild()`",
    )


def _vectors(registry: Registry, row: SpaceRow) -> Check:
    """Inner products of the vectors against the stored affinities."""
    stored = registry.embeddings(row.spec.space_id)
    vectors = coordinates.matrix([embedding.vector for embedding in stored])
    worst = 0.0
    exact = coordinates.is_exact(affinity.rows_of(stored))
    for position, embedding in enumerate(stored):
        owners = [j for j in range(len(embedding.affinities)) if exact or stored[j].axis is not None]
        if owners:
            error = np.abs(vectors[owners] @ vectors[position] - embedding.affinities[owners])
            worst = max(worst, float(error.max()))
    return Check(
        f"{row.spec.name}: vectors",
        worst <= TOLERANCE,
        f"{len(stored)} models; largest error of an inner product {worst:.1e}",
        "" if worst <= TOLERANCE else "run `space.rebuild(coordinates=True)`",
    )


def _maps(registry: Registry, row: SpaceRow, deep: bool, progress: Callable[[int, int], None] | None) -> Check:
    """Stored affinities against the maps: of all models if `deep`, else of a few, spread evenly."""
    spec = row.spec
    stored = registry.embeddings(spec.space_id)
    chosen = range(len(stored)) if deep else np.unique(np.linspace(0, len(stored) - 1, SAMPLE).astype(int))
    worst, pairs = 0.0, 0
    for done, position in enumerate(chosen):
        embedding = stored[int(position)]
        maps = affinity.stored_maps(registry, spec, embedding.model_id)
        earlier = [other.model_id for other in stored[: len(embedding.affinities)]]
        # The model itself is among the compared, so that maps that are not there are seen for the first model too.
        values = affinity.cosines(registry, spec, maps, [*earlier, embedding.model_id])
        again = np.array([values[i].mean() for i in earlier])
        if len(again):
            worst = max(worst, float(np.abs(again - embedding.affinities).max()))
        pairs += len(again)
        if progress:
            progress(done + 1, len(chosen))
    return Check(
        f"{spec.name}: maps",
        worst <= TOLERANCE,
        f"{pairs} affinities computed again; largest difference {worst:.1e}",
        "" if worst <= TOLERANCE else "run `space.rebuild(coordinates=True)`",
    )
