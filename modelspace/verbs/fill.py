"""Registered models embedded in the spaces that lack them, each loaded again from what the registry knows of it.

A space that is made after its models is empty. A model is loaded from its address with the stored weights file, layer,
preprocessing and options, and refused unless it is the registered one: its weights have the stored SHA-256, and its
code is the same. Each model is stored when its pass is finished, so an interruption loses one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.registry import ModelRow, ProbeRow, ProbeSets, Registry, SpaceRow
from modelspace.results import Outcome
from modelspace.sources import is_uri
from modelspace.spaces import probe_sets
from modelspace.spaces.kinds import space_of
from modelspace.types import SpaceSpec
from modelspace.verbs import pending
from modelspace.verbs.add_many import STORE_TRIES, Interrupted, checked
from modelspace.verbs.manifest import Entry
from modelspace.verbs.passes import Computed
from modelspace.verbs.pools import describe

if TYPE_CHECKING:
    from modelspace.verbs.add_many import BulkProgress


@dataclass(frozen=True)
class Sources:
    """Where models are now, if not where they were registered from.

    Attributes:
        weights: model name to its weights file.
        modules: model name to the module itself, for models that were added as modules in memory.
        device: see `modelspace.embedding.embed.pick_device`.
        batch_size: images per pass.
    """

    weights: Mapping[str, str]
    modules: Mapping[str, Any]
    device: str = "auto"
    batch_size: int | None = None


@dataclass(frozen=True)
class Gap:
    """A model and what it lacks.

    Attributes:
        row: the model.
        computed: the spaces that its pass has to fill, with their probe sets.
        spaces: names of these, and of those that follow from them.
        registry_id: of the registry.
    """

    row: ModelRow
    computed: tuple[tuple[SpaceSpec, ProbeRow], ...]
    spaces: tuple[str, ...]
    registry_id: str


def fill(
    path: Path,
    space: str | None,
    models: Sequence[str],
    sources: Sources,
    *,
    dry_run: bool = False,
    progress: BulkProgress | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """See `modelspace.workspace.ModelSpace.fill`."""
    waited = () if dry_run else pending.notes_of(pending.store_waiting(path))
    gaps = gaps_of(path, space, models)
    _check_names({gap.row.card.name for gap in gaps}, sources)
    outcomes: list[Outcome] = []
    for number, gap in enumerate(gaps, 1):
        try:
            outcome = _planned(number, gap, sources)
            if outcome.status != "failed" and not dry_run:
                outcome = _filled(path, outcome, gap, sources, _of_model(progress, number, len(gaps), gap))
        except KeyboardInterrupt:
            cards = [(n, each.row.card) for n, each in enumerate(gaps, 1)]
            rest = [Outcome(n, card.name, "not reached", card.uri) for n, card in cards[len(outcomes) :]]
            raise Interrupted([*outcomes, *rest]) from None
        if waited and not outcomes:
            outcome = replace(outcome, notes=(*waited, *outcome.notes))
        outcomes.append(outcome)
        if on_outcome:
            on_outcome(outcome)
    return outcomes


def _of_model(progress: BulkProgress | None, number: int, total: int, gap: Gap) -> Callable[[int, int], None] | None:
    """The progress of one model's pass."""
    if progress is None:
        return None
    progress(number - 1, total, gap.row.card.name, 0, 0)
    return lambda images, of: progress(number - 1, total, gap.row.card.name, images, of)


def _check_names(names: Collection[str], sources: Sources) -> None:
    for parameter, given in (("weights", sources.weights), ("modules", sources.modules)):
        if unknown := sorted(set(given) - set(names)):
            raise UsageError(
                f"{parameter} are given for {', '.join(unknown)}, which no space to be filled lacks",
                "see `space.list()` for the spaces of each model",
            )


def gaps_of(path: Path, space: str | None = None, models: Sequence[str] = ()) -> list[Gap]:
    """The models that a space lacks, or any space if none is named, in order of registration.

    Args:
        path: the registry.
        space: name or id of the space; a blend is filled through its members.
        models: only these.

    Raises:
        NotFoundError: there is no such space or model, or no space at all.
    """
    with Registry.open(path) as registry:
        rows = registry.spaces()
        if not rows:
            raise NotFoundError("the registry has no space yet", "make one with `space.init()`")
        targets = [registry.space(space)] if space is not None else rows
        chosen = [registry.model(name) for name in dict.fromkeys(models)] or registry.models()
        sets = ProbeSets(registry.probe_sets())
        members = {row.spec.name: [each.spec for each in space_of(row.spec).sources(registry)] for row in rows}
        gaps = []
        for row in chosen:
            lacking = [each for each in targets if each.spec.name not in row.spaces]
            specs = {spec.name: spec for each in lacking for spec in members[each.spec.name]}
            computed = [spec for name, spec in specs.items() if name not in row.spaces]
            names = _following(rows, members, row, {spec.name for spec in computed})
            if names:
                pairs = tuple((spec, sets[spec.probe_id]) for spec in computed)
                gaps.append(Gap(row, pairs, names, registry.registry_id))
    return gaps


def _following(
    rows: Sequence[SpaceRow], members: Mapping[str, Sequence[SpaceSpec]], model: ModelRow, computed: set[str]
) -> tuple[str, ...]:
    """The spaces that hold a model once some are filled and did not before: these, and the blends that follow."""
    held = set(model.spaces) | computed
    return tuple(
        row.spec.name
        for row in rows
        if row.spec.name not in model.spaces and {spec.name for spec in members[row.spec.name]} <= held
    )


def _planned(number: int, gap: Gap, sources: Sources) -> Outcome:
    """What would be done, or a failure if that can be told without loading the model."""
    card = gap.row.card
    outcome = Outcome(number, card.name, "would complete", card.uri, gap.spaces)
    if not gap.computed or card.name in sources.modules:
        return outcome
    if not is_uri(card.uri):
        return replace(
            outcome,
            status="failed",
            spaces=(),
            message=f"{card.name!r} was added as a module in memory, so it can't be loaded again",
            hint=f"in Python, give the module itself: space.fill(modules={{{card.name!r}: module}})",
        )
    weights = sources.weights.get(card.name) or card.tags.get("weights")
    plan = checked(Entry({"model": card.uri, "name": card.name, **({"weights": weights} if weights else {})}), outcome)
    if plan.status == "failed" and weights:
        return replace(plan, hint="; ".join(filter(None, (plan.hint, _moved(card.name)))))
    return plan


def _moved(name: str) -> str:
    return f"`weights={{{name!r}: file}}` says where its weights are now"


def _filled(
    path: Path, planned: Outcome, gap: Gap, sources: Sources, progress: Callable[[int, int], None] | None
) -> Outcome:
    """Load a model, embed it in the spaces that it lacks, and store it."""
    try:
        computed, seconds = _computed(path, gap, sources, progress)
        added = pending.store_or_keep(path, computed, False, tries=STORE_TRIES)
    except Exception as error:  # one model must not prevent the others from being filled
        message, hint = describe(error)
        return replace(planned, status="failed", spaces=(), message=message, hint=hint)
    return replace(planned, status=added.status, spaces=added.spaces, seconds=seconds, notes=added.notes)


def _computed(
    path: Path, gap: Gap, sources: Sources, progress: Callable[[int, int], None] | None
) -> tuple[Computed, float]:
    """The pass of a model, and its duration in seconds; none is needed where only blends lack it.

    Raises:
        ConflictError: what was loaded is not the registered model.
        ModelspaceError: it can't be loaded or embedded.
    """
    card = gap.row.card
    if not gap.computed:
        return Computed(card, gap.spaces, {}, (), gap.registry_id), 0.0
    from modelspace.verbs.add import run_pass
    from modelspace.verbs.reembed import loaded_again, request_again

    request = request_again(card, sources.modules.get(card.name), sources.weights.get(card.name), sources.device)
    example = probe_sets.first_images(path, gap.computed[0][1], request.n_images)
    with ExitStack() as stack:
        model = loaded_again(stack, request, card, example, _moved(card.name), [spec for spec, _ in gap.computed])
        if not card.is_same_model(model.card):
            changes = " and ".join(card.differences(model.card))
            raise ConflictError(
                f"the {changes} of {card.name!r} changed since it was registered",
                f"put back what was registered; or remove it, `space.remove({card.name!r})`, and add it again",
            )
        blocks, passed, notes = run_pass(path, model, gap.computed, sources.batch_size, progress)
        notes = (*model.notes, *notes)
    return Computed(card, gap.spaces, blocks, notes, gap.registry_id), passed.seconds
