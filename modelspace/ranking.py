"""From a target model to its ranked transfer sources. For a registered target nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelspace import comparison, index, sources, spaces
from modelspace.coordinates import TOLERANCE
from modelspace.errors import NotFoundError, UsageError
from modelspace.home import INDEX
from modelspace.maps import MapBlock
from modelspace.registry import ModelRow, ProbeRow, Registry, SpaceRow
from modelspace.results import Neighbour, Neighbours
from modelspace.uncertainty import intervals

if TYPE_CHECKING:
    from modelspace.embed import Progress
    from modelspace.index import SpaceIndex

#: Past the cap on axes the index only proposes: so many candidates per neighbour asked for are ranked by their maps.
CANDIDATES = 8


def nearest(
    path: Path,
    model: Any,
    k: int,
    *,
    where: str | None,
    space: str | None,
    progress: Progress | None,
    batch_size: int | None,
    options: dict[str, Any],
) -> Neighbours:
    """See `modelspace.workspace.ModelSpace.nearest`."""
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}", "example: -k 5")
    with Registry.open(path) as registry:
        row = registry.space(space)
        probe_set = registry.probe_set(row.spec.probe_id)
        target = comparison.find(registry, model) if isinstance(model, str) else None
        if target is None and isinstance(model, str) and not sources.is_uri(model):
            registry.model(model)  # raises: not there, and what is near
        if target is not None:
            if row.spec.name not in target.spaces:
                raise NotFoundError(
                    f"model {model!r} is not in space {row.spec.name!r}",
                    f"fill it with 'modelspace add {target.card.uri} --name {target.card.name}'",
                )
            return _rank(registry, row, target.card.name, k, where, model_id=target.model_id)
    return _rank_unregistered(path, row, probe_set, model, k, where, progress, batch_size, options)


def _rank_unregistered(
    path: Path,
    row: SpaceRow,
    probe_set: ProbeRow,
    model: Any,
    k: int,
    where: str | None,
    progress: Progress | None,
    batch_size: int | None,
    options: dict[str, Any],
) -> Neighbours:
    """Embed without storing, unless the registry turns out to hold this very model."""
    from modelspace.adding import run_pass
    from modelspace.prepare import Request, prepared

    if not isinstance(model, str):
        options.setdefault("name", "module")
    example = next(spaces.images(path, probe_set, 0, 2, 2))
    with prepared(Request(model, **options), example) as ready:
        card = ready.card
        notes = [f"explains {card.layer} ({card.layer_found_by})"]
        with Registry.open(path) as registry:
            same = [found for found in registry.find_identity(card.identity()) if row.spec.name in found.spaces]
            if same:
                notes.append(f"this model is registered as {same[0].card.name}, so no pass was needed")
                return _rank(registry, row, card.uri, k, where, model_id=same[0].model_id, notes=notes)
        blocks, _ = run_pass(path, ready, [(row.spec, probe_set)], batch_size, progress)
    with Registry.open(path) as registry:
        return _rank(registry, row, card.uri, k, where, blocks=blocks[row.spec.space_id], notes=notes)


def load_index(registry: Registry, row: SpaceRow) -> SpaceIndex:
    """The space's index: from its file if that is fresh, else built, and written where the folder allows it."""
    return index.load(
        registry.path.parent / INDEX,
        row.spec.space_id,
        registry_id=registry.registry_id,
        generation=row.generation,
        fetch=lambda: registry.vectors(row.spec.space_id),
    )


def _rank(
    registry: Registry,
    row: SpaceRow,
    label: str,
    k: int,
    where: str | None,
    *,
    model_id: int | None = None,
    blocks: Sequence[MapBlock] | None = None,
    notes: Sequence[str] = (),
) -> Neighbours:
    """The ranking of a stored model (`model_id`) or of maps (`blocks`)."""
    spec = row.spec
    row = registry.space(spec.space_id)  # as this connection sees it
    rows = {found.model_id: found for found in registry.models(where)}
    rows.pop(model_id, None)  # type: ignore[arg-type]
    space_index = load_index(registry, row)
    if model_id is not None:
        vector = space_index.vector(model_id)
        blocks = list(registry.map_blocks(spec.space_id, model_id))
    else:
        assert blocks is not None
        vector = comparison.project(registry, spec, blocks).astype(np.float32)
    exact = space_index.exact and registry.is_exact(spec.space_id, TOLERANCE)
    # The target itself and one more than is shown, since the last shown may be tied with the next.
    reach = len(space_index.ids) if where else (k + 2) * (1 if exact else CANDIDATES)
    found: list[int] = []
    if len(space_index.ids):
        _, ids = space_index.search(vector[None], min(reach, len(space_index.ids)))
        found = [int(i) for i in ids[0] if int(i) in rows]
    if exact:
        found = found[: k + 1]
    cosines = comparison.cosines(registry, spec, blocks, found)
    found = in_order(cosines)[: k + 1]
    return Neighbours(_neighbours([rows[i] for i in found], [cosines[i] for i in found], k), label, spec.name, notes)


def in_order(cosines: Mapping[int, np.ndarray]) -> list[int]:
    """Model ids, nearest first, from their cosines per image with the target.

    Equal affinities keep the order of registration, whatever order the index returns them in.
    """
    return sorted(cosines, key=lambda i: (-round(float(cosines[i].mean()), 12), i))


def _neighbours(rows: Sequence[ModelRow], cosines: Sequence[np.ndarray], k: int) -> list[Neighbour]:
    """Records of the first k of a ranking, from the cosines per image of at least as many."""
    if not rows:
        return []
    bounds = intervals(np.stack(cosines))
    out = []
    for position, found in enumerate(rows[:k]):
        card, affinity = found.card, float(cosines[position].mean())
        out.append(
            Neighbour(
                rank=position + 1,
                name=card.name,
                affinity=affinity,
                low=float(bounds.low[position]),
                high=float(bounds.high[position]),
                distance=float(np.sqrt(max(0.0, 2 - 2 * affinity))),
                tied_with_next=bool(bounds.tied_with_next[position]),
                task=card.task,
                data=card.data,
                architecture=card.architecture,
                uri=card.uri,
            )
        )
    return out
