"""Ranking the transfer sources of a target model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspace.deprecated import renamed
from modelspace.errors import NotFoundError, UsageError
from modelspace.registry import Registry, SpaceRow
from modelspace.registry.kept import reading
from modelspace.results import Neighbours
from modelspace.spaces.evidence import chance, confidence, evidence
from modelspace.spaces.kinds import space_of
from modelspace.spaces.neighbours import Ranker, Target
from modelspace.spaces.ranking import Ranking
from modelspace.spaces.views import views
from modelspace.timing import phase
from modelspace.verbs.passes import check_batch_size

if TYPE_CHECKING:
    from modelspace.embedding.embed import Progress
    from modelspace.verbs.add import OnNote


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
    hub_correction: str | None = None,
    rerank: str | None = None,
    on_note: OnNote | None = None,
) -> Neighbours:
    """See `modelspace.workspace.ModelSpace.nearest`."""
    check_batch_size(batch_size)
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}", "example: `k=5`")
    with reading(path) as registry:
        row = registry.space(space)
        ranking = Ranking.of(row.spec, hub_correction, rerank)
        views(registry, row.spec, ranking.rerank)  # raises if a space is missing
        stored = registry.find_label(model) if isinstance(model, str) else None
        if stored is None and isinstance(model, str):
            _check_address(registry, model)
        if stored is not None:
            return _ranked(registry, row, ranking, Target(stored.name, stored.model_id), k, where)
    target, notes = _embedded(path, row, ranking, model, progress, batch_size, options, on_note)
    with reading(path) as registry:
        return _ranked(registry, row, ranking, target, k, where, notes)


def _check_address(registry: Registry, model: str) -> None:
    """Raise for a text that is no name of the registry, and no address either."""
    from modelspace import sources  # imported late, since a query of a registered name needs none

    if not sources.is_uri(model):
        if ":" in model:  # no name has one
            sources.parse_uri(model)  # raises, with similar schemes as a hint
        registry.model(model)  # raises, with similar names as a hint


def _embedded(
    path: Path,
    row: SpaceRow,
    ranking: Ranking,
    model: Any,
    progress: Progress | None,
    batch_size: int | None,
    options: dict[str, Any],
    on_note: OnNote | None = None,
) -> tuple[Target, list[str]]:
    """An unregistered model embedded for this query, unless the registry has the same model; with notes."""
    with phase("imports"):
        from modelspace.embedding.prepare import Request, prepared
        from modelspace.spaces import probe_sets
        from modelspace.verbs.add import map_requests, run_pass

    if not isinstance(model, str):
        options.setdefault("name", "module")
    with Registry.open(path) as registry:
        specs = [source.spec for source in space_of(row.spec).sources(registry)]
        specs += [view.space.spec for view in views(registry, row.spec, ranking.rerank)]
        unique = {spec.space_id: spec for spec in specs}
        pairs = [(spec, registry.probe_set(spec.probe_id)) for spec in unique.values()]
    request = Request(model, **options)
    example = probe_sets.first_images(path, pairs[0][1], request.n_images)
    with prepared(request, example, map_requests(unique.values())) as prepared_model:
        card = prepared_model.card
        notes = [f"explains {card.layer} ({card.layer_choice.in_message})", *prepared_model.notes]
        with Registry.open(path) as registry:
            copies = [other for other in registry.find_identity(card.identity()) if row.spec.name in other.spaces]
        if copies:
            notes.append(f"this model is registered as {copies[0].card.name}, so no pass was needed")
            return Target(card.uri, copies[0].model_id), notes
        blocks, _, pass_notes = run_pass(path, prepared_model, pairs, batch_size, progress, on_note)
        notes += pass_notes
    return Target(card.uri, blocks=blocks), notes


def _ranked(
    registry: Registry,
    row: SpaceRow,
    ranking: Ranking,
    target: Target,
    k: int,
    where: str | None,
    notes: list[str] | None = None,
) -> Neighbours:
    """The neighbours of a target as records."""
    with phase("search"):
        chosen = None if where is None else registry.ids_where(where)
        ranker = Ranker(registry, row, ranking, chosen)
        if not ranker.knows(target):
            raise NotFoundError(
                f"model {target.label!r} is not in space {row.spec.name!r}",
                f"fill that space: `space.fill({row.spec.name!r}, models=[{target.label!r}])`",
            )
        neighbours = ranker.rank(target, k)
        rows = registry.labels(neighbours.model_ids)
        records = neighbours.records(rows, k)
        if neighbours.orders:
            reasons = evidence(registry, row.spec, target, neighbours, k, chosen)
            n_sources = ranker.n_sources(target)
            records = [
                replace(
                    record,
                    evidence=reasons[model_id],
                    confidence=confidence(record.score, record.rank, ranking),
                    chance=chance(record.score, record.rank, ranking, n_sources),
                )
                for record, model_id in zip(records, neighbours.model_ids, strict=False)
            ]
    remarks = [*(notes or ()), *([ranker.note] if ranker.note else ())]
    return Neighbours(records, target.label, row.spec.name, remarks, ranking.label)


__getattr__ = renamed(
    __name__,
    {
        "all_scores": "modelspace.spaces.neighbours.score_matrix",
        "in_order": "modelspace.spaces.neighbours.in_order",
        "load_index": "modelspace.spaces.neighbours.load_index",
    },
)
