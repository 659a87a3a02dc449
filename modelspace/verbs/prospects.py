"""The verbs ``nearest --task`` and ``suggest``: which models to expect the most of, and why."""

from __future__ import annotations

import math
from pathlib import Path

from scipy.special import ndtr

from modelspace.errors import UsageError
from modelspace.results import Prospect, Prospects
from modelspace.search.coverage import MANY, medoids, neighbourhood
from modelspace.verbs.knowledge import Knowledge, knowledge

#: Around how many of the best models of a large registry a search looks for more.
BEST = 3


def prospects(path: Path, task: str, k: int, *, where: str | None = None, space: str | None = None) -> Prospects:
    """See `modelspace.workspace.ModelSpace.nearest`, with `task`."""
    _check(k)
    known = knowledge(path, task, where, space)
    return _records(known, known.order()[:k])


def suggest(path: Path, task: str, n: int, *, where: str | None = None, space: str | None = None) -> Prospects:
    """See `modelspace.workspace.ModelSpace.suggest`."""
    _check(n)
    known = knowledge(path, task, where, space)
    records = _records(known, trying_order(known, n)[:n])
    left = len(known.models) - len(known.measured)
    notes = list(records.notes)
    if not records:
        notes.append("every model was measured on this task: `space.outcomes(task)` lists the scores")
    elif len(records) < n:
        notes.append(f"only {left} models are not measured yet, near-copies included")
    return Prospects(list(records), task, known.task.metric, notes)


def trying_order(known: Knowledge, count: int) -> list[int]:
    """Numbers of the models that were not measured on the task, in the order in which to try them.

    Near-copies of an earlier or measured model are left out. In a registry of at least `MANY` models of which no
    outcome is known, the middles of clusters come first; once models are measured, the neighbours of the best.

    Args:
        known: what the registry knows.
        count: how many will be tried.
    """
    names = known.names
    done = set(known.measured)
    order = [number for number in known.order() if names[number] not in done and known.twins.get(names[number]) is None]
    if len(names) < MANY or known.n_tasks or len(order) <= count:
        return order
    scored = [number for number, name in enumerate(names) if name in done and known.measured[name].score is not None]
    if scored:
        best = sorted(scored, key=lambda number: -known.prediction.order[number])[:BEST]
        first = [n for n in neighbourhood(known.affinity, best, [*map(names.index, done)], len(names)) if n in order]
        first = first[:count]
    else:
        first = medoids(known.affinity, order, count)
    taken = set(first)
    return [*first, *(number for number in order if number not in taken)]


def _check(count: int) -> None:
    if count < 1:
        raise UsageError(f"k must be at least 1, not {count}", "example: `k=5`")


def _records(known: Knowledge, numbers: list[int]) -> Prospects:
    records = [_record(known, number, rank) for rank, number in enumerate(numbers, start=1)]
    return Prospects(records, known.task.name, known.task.metric, [basis_note(known)])


def basis_note(known: Knowledge, lead: str = "ranked by") -> str:
    """What the order of the models rests on, in words that begin with `lead`."""
    own = len(known.hints.keys() | known.measured.keys())
    own_part = f"{own} model{'s' if own > 1 else ''} measured on {known.task.name!r}" if own else ""
    if known.n_tasks:
        tasks = f"outcomes of {known.n_tasks} other task{'s' if known.n_tasks > 1 else ''}"
        return f"{lead} " + " and ".join(filter(None, (tasks, own_part)))
    if own_part:
        return f"{lead} {own_part}; no outcome of any other task is registered"
    order = "this is the order of" if lead == "ranked by" else lead
    nothing = f"no outcome of any task is registered: {order} "
    if known.basis == "effective rank":
        return f"{nothing}the effective rank of the kernels in space {known.rank_space!r}, a weak hint"
    return f"{nothing}the number of parameters, which says next to nothing"


def _record(known: Knowledge, number: int, rank: int) -> Prospect:
    card = known.models[number].card
    name = card.name
    basis, why = _basis(known, number)
    to_score = known.unit.from_line
    ends = [float(to_score(getattr(known.prediction, part)[number])) for part in ("low", "high")]
    mean = float(to_score(known.prediction.mean[number]))
    measured = known.measured.get(name)
    if measured is not None and measured.score is not None:
        mean = measured.score
        ends = [mean, mean]
    low, high = sorted(ends) if not any(map(math.isnan, ends)) else ends
    return Prospect(
        rank=rank,
        name=name,
        score=_or_none(mean),
        low=_or_none(low),
        high=_or_none(high),
        basis=basis,
        why=why,
        stands_for=tuple(twin for twin, other in known.twins.items() if other == name),
        task=card.task,
        architecture=card.architecture,
        parameters=card.parameters,
        uri=card.uri,
    )


def _basis(known: Knowledge, number: int) -> tuple[str, str]:
    """What is known of a model, as a word and as a sentence."""
    name = known.names[number]
    outcome = known.measured.get(name)
    if outcome is not None:
        if outcome.score is None:
            return "measured", f"failed: {outcome.note}"
        return "measured", f"measured on {outcome.measured_at:%Y-%m-%d} ({outcome.how})"
    parts = []
    if name in known.hints:
        parts.append(f"a readout on {known.hints[name]} images of the task")
    count = int(known.strength.counts[number])
    if count:
        level = float(known.strength.mean[number])
        parts.append(f"better than {float(ndtr(level)):.0%} of models in {count} outcome{'s' if count > 1 else ''}")
    if parts:
        return ("held-out" if name in known.hints else "outcomes"), "; ".join(parts)
    rank = float(known.ranks[number])
    if math.isfinite(rank):
        return "effective rank", f"effective rank {rank:.0f}; no outcome"
    return "size", f"{known.models[number].card.parameters:,} parameters; no outcome"


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
