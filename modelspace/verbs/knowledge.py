"""What a registry knows of its models with regard to a task: outcomes, kernels, near-copies; and what follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import NotFoundError, UsageError
from modelspace.registry import ModelRow, Registry, outcomes
from modelspace.registry.rows import OutcomeRow, TaskRow
from modelspace.search.coverage import standing_for
from modelspace.search.prediction import Prediction, Readings, predict
from modelspace.search.race import Expected
from modelspace.search.strength import Strength, strength
from modelspace.search.units import Unit
from modelspace.spaces import affinity
from modelspace.spaces.views import kernel_space
from modelspace.verbs.tasks import HELD_OUT, VALUE

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """Outcomes that can be compared with each other: of one task, measured in one way.

    Attributes:
        task: name of the task.
        how: how it was measured.
        n_train: number of training images of held-out scores; 0 for others.
        scores: name of the model -> score, in the task's metric; the mean of several.
        values: name of the model -> value of the readout behind a held-out score; models of which it is not known are
            missing.
    """

    task: str
    how: str
    n_train: int
    scores: Mapping[str, float]
    values: Mapping[str, float]


@dataclass(frozen=True)
class Knowledge:
    """See the module.

    Attributes:
        task: the task asked for.
        models: the models to choose from.
        prediction: of their scores, on the line of `unit`; arrays in the order of `models`.
        strength: of the models, from other tasks.
        unit: of the task's scores.
        outcomes: of the task, all of them.
        measured: name -> the outcome that is taken for its score on this task; failed ones have no score.
        hints: name -> number of images of the held-out score that the prediction rests on.
        ranks: (M,) effective rank of each model's stored kernel, NaN where there is none.
        rank_space: name of the space of those kernels; "" if the registry has none.
        twins: name -> name of the near-copy that is tried in its place.
        n_tasks: number of other tasks with outcomes that tell models apart.
    """

    task: TaskRow
    models: tuple[ModelRow, ...]
    prediction: Prediction
    strength: Strength
    unit: Unit
    outcomes: tuple[OutcomeRow, ...]
    measured: Mapping[str, OutcomeRow]
    hints: Mapping[str, int]
    ranks: Array
    rank_space: str
    twins: Mapping[str, str]
    n_tasks: int
    affinity: Array = field(repr=False)

    @property
    def names(self) -> list[str]:
        """Names of the models."""
        return [model.card.name for model in self.models]

    @property
    def basis(self) -> str:
        """What the order rests on: "outcomes", "effective rank" or "size"."""
        if self.n_tasks or self.hints:
            return "outcomes"
        return "effective rank" if np.isfinite(self.ranks).any() else "size"

    def order(self) -> list[int]:
        """Numbers of the models, the most promising first; those that failed on the task last."""
        promise = self.prediction.order
        if self.basis == "size":
            promise = np.where(
                np.isin(self.names, list(self.measured)), promise, [float(m.card.parameters) for m in self.models]
            )
        failed = np.array([name in self.measured and self.measured[name].score is None for name in self.names])
        return [int(number) for number in np.lexsort((-promise, failed))]

    def expected(self) -> dict[str, Expected]:
        """For a race: what outcomes let expect of each model; empty if there are none."""
        if not self.n_tasks:
            return {}
        mean, variance = self.strength.mean, self.strength.score_variance
        return {name: Expected(float(m), float(v)) for name, m, v in zip(self.names, mean, variance, strict=True)}


def knowledge(path: Path, task_name: str, where: str | None = None, space: str | None = None) -> Knowledge:
    """Collect what is known with regard to a task.

    Args:
        path: the registry.
        task_name: name of the task.
        where: SQL condition on the models to choose from.
        space: whose affinities tell near-copies, and near which a kernel is looked for; default: the default space.

    Raises:
        NotFoundError: there is no such task or space.
        UsageError: no model meets the condition.
    """
    with Registry.open(path) as registry:
        task = outcomes.task(registry, task_name)
        tasks = {row.name: row for row in outcomes.tasks(registry)}
        rows = outcomes.outcomes(registry)
        models = tuple(registry.models(where))
        if not models:
            raise UsageError(
                "the registry has no models" if where is None else "no model meets the condition",
                "add some first: `space.add('zoo:curvature')`" if where is None else "see `space.list()`",
            )
        ranks, rank_space = _effective_ranks(registry, space, models)
        similar = _affinity(registry, space, models)
    names = [model.card.name for model in models]
    every = series(rows)
    copies = _copies(similar, names)
    others = [entry for entry in every if entry.task != task_name]
    known, units = _table(others, tasks, names, copies)
    with np.errstate(invalid="ignore"):
        strong = strength(known, np.append(np.log(ranks), np.full(known.shape[1] - len(names), np.nan)))
    own = [entry for entry in every if entry.task == task_name]
    unit = _unit(task, own)
    measured = _measured(task_name, rows, names)
    placed = np.full(known.shape[1], np.nan)
    for number, name in enumerate(names):
        score = measured[name].score if name in measured else None
        if score is not None:
            placed[number] = unit.to_line(score)
    readings, hints = _readings(own, unit, names, known.shape[1])
    comparable = np.array([kind == unit.kind for kind in units], dtype=bool)
    predicted = predict(strong, placed, readings, comparable if len(units) else None)
    cut = slice(len(names))
    predicted = Prediction(*(getattr(predicted, each)[cut] for each in ("order", "variance", "mean", "low", "high")))
    own_strength = Strength(
        strong.mean[cut], strong.variance[cut], strong.deviation, strong.counts[cut], strong.row_means,
        strong.row_spreads, strong.reach,
    )  # fmt: skip
    order = [int(number) for number in np.argsort(-predicted.order, kind="stable")]
    stands = standing_for(similar, order)
    twins = {names[model]: names[other] for model, other in stands.items() if other != model}
    informed = {
        entry.task for entry in others if len(set(entry.scores.values())) > 1 and set(entry.scores) & set(names)
    }
    return Knowledge(
        task,
        models,
        predicted,
        own_strength,
        unit,
        tuple(row for row in rows if row.task == task_name),
        measured,
        hints,
        ranks,
        rank_space,
        twins,
        len(informed),
        similar,
    )


def series(rows: Iterable[OutcomeRow]) -> list[Series]:
    """The outcomes grouped into series; failures have no score and are left out."""
    groups: dict[tuple[str, str, int], dict[str, list[float]]] = {}
    values: dict[tuple[str, str, int], dict[str, float]] = {}
    for row in rows:
        if row.score is not None:
            key = (row.task, row.how, (row.n_train or 0) if row.how == HELD_OUT else 0)
            groups.setdefault(key, {}).setdefault(row.model, []).append(row.score)
            value = row.settings.get(VALUE)
            if isinstance(value, float):
                values.setdefault(key, {})[row.model] = value
    return [
        Series(*key, {model: float(np.mean(scores)) for model, scores in group.items()}, values.get(key, {}))
        for key, group in groups.items()
    ]


def _copies(similar: Array, names: Sequence[str]) -> dict[str, list[int]]:
    """For each model the numbers of itself and its near-copies."""
    stands = standing_for(similar, range(len(names)))
    groups: dict[int, list[int]] = {}
    for model, other in stands.items():
        groups.setdefault(other, []).append(model)
    return {names[model]: groups[other] for model, other in stands.items()}


def _table(
    entries: Sequence[Series], tasks: Mapping[str, TaskRow], names: Sequence[str], copies: Mapping[str, list[int]]
) -> tuple[Array, list[str]]:
    """Outcomes of other tasks on the line, (rows, models), and the kind of unit of each row.

    Models that are not in `names` follow as further columns: they tell how strong the others of their row are. An
    outcome counts for near-copies too, unless they have their own.
    """
    further = {name for entry in entries for name in entry.scores} - set(names)
    column = {name: number for number, name in enumerate([*names, *sorted(further)])}
    table = np.full((len(entries), len(column)), np.nan)
    kinds = []
    for row, entry in zip(table, entries, strict=True):
        task = tasks[entry.task]
        unit = Unit.of(task.metric, task.higher_is_better, list(entry.scores.values()))
        kinds.append(unit.kind)
        for name, score in entry.scores.items():
            place = float(unit.to_line(score))
            for copy in copies.get(name, ()):
                if names[copy] not in entry.scores:
                    row[copy] = place
            row[column[name]] = place
    return table, kinds


def _unit(task: TaskRow, own: Sequence[Series]) -> Unit:
    return Unit.of(task.metric, task.higher_is_better, [score for entry in own for score in entry.scores.values()])


def _measured(task: str, rows: Sequence[OutcomeRow], names: Sequence[str]) -> dict[str, OutcomeRow]:
    """The latest outcome of each model on the task that is no held-out hint; a score is preferred to a failure."""
    latest: dict[str, OutcomeRow] = {}
    known = set(names)
    for row in sorted(rows, key=lambda row: row.measured_at):
        if row.task != task or row.how == HELD_OUT or row.model not in known:
            continue
        if row.score is not None or row.model not in latest:
            latest[row.model] = row
    return latest


def _readings(
    own: Sequence[Series], unit: Unit, names: Sequence[str], width: int
) -> tuple[list[Readings], dict[str, int]]:
    """What models showed on a few images of the task, and on how many images each was read at most."""
    column = {name: number for number, name in enumerate(names)}
    best: dict[str, int] = {}
    held_out = sorted((entry for entry in own if entry.how == HELD_OUT), key=lambda entry: entry.n_train)
    for entry in held_out:
        best |= {name: entry.n_train for name in entry.scores if name in column}
    readings = []
    for entry in held_out:
        values, finer = np.full(width, np.nan), np.full(width, np.nan)
        counts = np.zeros(width, dtype=bool)
        for name, score in entry.scores.items():
            if name in column:
                values[column[name]] = unit.to_line(score)
                finer[column[name]] = entry.values.get(name, np.nan)
                counts[column[name]] = best[name] == entry.n_train
        readings.append(Readings(values, entry.n_train, counts, finer))
    return readings, best


def _affinity(registry: Registry, space: str | None, models: Sequence[ModelRow]) -> Array:
    """(M, M) affinities in a space; 0 between models that are not both in it."""
    result = np.eye(len(models))
    try:
        spec = registry.space(space).spec
    except NotFoundError:
        if space is not None:
            raise
        return result
    ids, values = affinity.matrix(registry, spec, {model.model_id for model in models})
    place = {model.model_id: number for number, model in enumerate(models)}
    at = [place[model_id] for model_id in ids]
    result[np.ix_(at, at)] = values
    return result


def _effective_ranks(registry: Registry, space: str | None, models: Sequence[ModelRow]) -> tuple[Array, str]:
    """Effective rank of each model's kernel, and the name of the space that holds it."""
    from modelspace.scores.effective_rank import effective_rank

    ranks = np.full(len(models), np.nan)
    try:
        kernels = kernel_space(registry, registry.space(space).spec)
    except NotFoundError:
        return ranks, ""
    place = {model.model_id: number for number, model in enumerate(models)}
    inside = [model_id for model_id in registry.model_ids(kernels.spec.space_id) if model_id in place]
    for model_id, kernel in affinity.kernels(registry, kernels, inside):
        try:
            ranks[place[model_id]] = effective_rank(kernel)
        except UsageError:
            continue  # a kernel of rounding noise says nothing
    return ranks, kernels.spec.name if inside else ""
