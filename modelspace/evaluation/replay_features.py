"""Replay of a search on the features of models: what it finds, and at what cost, beside every label score.

Each model is measured once (`measure`): readouts and label scores on the first training images of several orders, and
the truth, the metric of a readout of all training images on the test images. The policies are then replayed without
the models (`replay_measured`), with the other tasks' truths as what is known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from modelspace import scores
from modelspace.errors import UsageError
from modelspace.evaluation.metrics import weighted_kendall
from modelspace.evaluation.rankings import Array, best_of_first
from modelspace.evaluation.replay import FEWEST, Policy, Replay, interval_figures, others, quarter
from modelspace.scores import ridge
from modelspace.search.prediction import Readings, predict
from modelspace.search.race import FINALISTS, ROUNDS, Expected, ModelFailedError, Race, Reading, race
from modelspace.search.strength import Strength, strength
from modelspace.search.units import Unit

#: Features of a model: (n, d) of the training images, (m, d) of the test images; raises if the model fails on them.
Features = Callable[[str], tuple[Array, Array]]

#: Predictions (n, k) and labels -> the task's metric.
Metric = Callable[[Array, NDArray[np.generic]], float]


@dataclass(frozen=True)
class Labelled:
    """The labels of a task, and how it is measured.

    Attributes:
        name: of the task.
        train: (n,) labels of the training images: integers for classes, floats for numbers.
        test: (m,) of the test images.
        orders: several orders in which training images are spent.
        metric: of predictions; higher is better.
        unit: of the metric; a share, or points are hundredths of it.
    """

    name: str
    train: NDArray[np.generic]
    test: NDArray[np.generic]
    orders: tuple[tuple[int, ...], ...]
    metric: Metric
    unit: Unit

    def __post_init__(self) -> None:
        if self.train.dtype.kind not in "iub":
            return
        classes = np.unique(self.train)
        if not np.array_equal(classes, np.arange(len(classes))) or not np.isin(self.test, classes).all():
            raise UsageError(
                f"the classes of task {self.name} are not numbered from 0, or one has no training image",
                "each class needs a training image: leave the others out, and number those that remain",
            )


@dataclass(frozen=True)
class Shown:
    """What a model showed on the first images of one order.

    Attributes:
        reading: of its ridge readout, as in a search.
        metric: of the held-out predictions.
        scores: label score -> value; NaN where it is not defined on these images.
        seconds: wall time of each label score, and of the readout under "readout".
    """

    reading: Reading
    metric: float
    scores: Mapping[str, float]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Measured:
    """All that a replay needs of a task.

    Attributes:
        task: its labels.
        models: M names.
        truth: (M,) the metric on the test images after a readout of all training images; NaN where a model failed or is
            left out.
        shown: model -> (order, number of images) -> what it showed; all training images are the same in all orders.
        forward_seconds: (M,) of one image through the model; NaN if not measured.
        failures: model -> why it is left out.
    """

    task: Labelled
    models: tuple[str, ...]
    truth: Array
    shown: Mapping[str, Mapping[tuple[int, int], Shown]] = field(repr=False)
    forward_seconds: Array
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_train(self) -> int:
        """Number of training images."""
        return len(self.task.train)

    @property
    def candidates(self) -> list[int]:
        """Numbers of the models that can be chosen."""
        return [int(number) for number in np.flatnonzero(np.isfinite(self.truth))]


def measure(
    task: Labelled,
    models: Sequence[str],
    features: Features,
    *,
    sizes: Sequence[int] = ROUNDS,
    names: Iterable[str] | None = None,
    forward_seconds: Mapping[str, float] | None = None,
    own: Collection[str] = (),
    on_model: Callable[[int, int, str], None] | None = None,
) -> Measured:
    """Measure models on a task.

    Args:
        task: the task.
        models: M names.
        features: of a model; a model for which it raises ModelFailedError or UsageError can't be chosen.
        sizes: numbers of first images, besides all; those above half of the training images are left out, as in a race.
        names: label scores; default: all that handle the labels.
        forward_seconds: model -> seconds of one image; looked up once all features are known.
        own: models that were trained for the task; they can't be chosen, and are not measured.
        on_model: called before each model with (models done, models, name).
    """
    kept = tuple(scores.applicable(task.train) if names is None else names)
    truth = np.full(len(models), np.nan)
    shown: dict[str, dict[tuple[int, int], Shown]] = {}
    failures: dict[str, str] = {}
    for number, model in enumerate(models):
        if on_model is not None:
            on_model(number, len(models), model)
        if model in own:
            continue
        try:
            train, test = features(model)
            truth[number], shown[model] = _measured(task, train, test, sizes, kept)
        except (UsageError, ModelFailedError) as error:
            failures[model] = str(error)
    seconds = np.array([(forward_seconds or {}).get(model, math.nan) for model in models])
    return Measured(task, tuple(models), truth, shown, seconds, failures)


def _measured(
    task: Labelled, train: Array, test: Array, sizes: Sequence[int], names: Sequence[str]
) -> tuple[float, dict[tuple[int, int], Shown]]:
    """A model's truth, and what it shows on the first images of each order and on all."""
    n_train = len(task.train)
    result = {}
    for number, order in enumerate(task.orders):
        for size in (size for size in sizes if 2 * size <= n_train):
            first = list(order[:size])
            result[number, size] = _shown(task, train[first], task.train[first], names)[0]
    whole, left_out = _shown(task, train, task.train, names)
    result |= {(number, n_train): whole for number in range(len(task.orders))}
    predictions = ridge.predict(train, task.train, test, penalty=left_out.penalty)
    return task.metric(predictions, task.test), result


def _shown(
    task: Labelled, features: Array, labels: NDArray[np.generic], names: Sequence[str]
) -> tuple[Shown, ridge.Readout]:
    if labels.dtype.kind in "iub":
        # Numbered by the classes that occur, as in a search.
        labels = np.unique(labels, return_inverse=True)[1].reshape(-1)
    start = time.perf_counter()
    left_out = ridge.leave_one_out(features, labels)
    seconds = {"readout": time.perf_counter() - start}
    reading = Reading(left_out.score, left_out.errors, left_out.mistakes)
    values = {}
    for name in names:
        start = time.perf_counter()
        try:
            # The default score is the readout's own.
            values[name] = left_out.score if name == "ridge" else scores.score(name, features, labels)
        except UsageError:
            values[name] = math.nan
        seconds[name] = seconds["readout"] if name == "ridge" else time.perf_counter() - start
    return Shown(reading, task.metric(left_out.predictions, labels), values, seconds), left_out


@dataclass(frozen=True)
class _Known:
    """What is known of a task's candidates before its images are looked at.

    Attributes:
        measured: of the task.
        strength: of all M models, from the other tasks; uninformed if there are none.
        cold: the same without any other task: by effective rank, or nothing.
        static: (M,) minus the mean rank on the other tasks; None if there are none.
        ranks: (M,) effective rank of the stored kernel, or None.
        comparable: (tasks - 1,) bool, which other tasks are in the same kind of unit.
    """

    measured: Measured
    strength: Strength
    cold: Strength
    static: Array | None
    ranks: Array | None
    comparable: NDArray[np.bool_]


@dataclass(frozen=True)
class _Outcome:
    """What a policy did on one task and order.

    Attributes:
        regret: points.
        order: (candidates,) its ranking of the candidates, higher is better; None if it ranks only some.
        expected: (candidates,) the same by the scores expected afterwards; None if nothing was measured.
        images: forwarded, summed over models; test images don't count.
        tries: models measured on all training images.
        seconds: of forward passes, readouts and scores.
        intervals: of the models not tried, `interval_figures`.
    """

    regret: float
    order: Array | None
    images: float
    tries: float
    seconds: float
    expected: Array | None = None
    intervals: Mapping[str, float] = field(default_factory=dict)


_Run = Callable[[_Known, int], _Outcome]

#: Figures of each policy, in points of the metric, images per model, and numbers.
FIGURES = (
    "regret@1",
    "weighted_tau",
    "tau_expected",
    "images",
    "tries",
    "seconds",
    "coverage",
    "above",
    "width",
    "width_in_spreads",
)


def replay_measured(
    tasks: Sequence[Measured],
    ranks: Array | None = None,
    *,
    rounds: Sequence[int] = ROUNDS,
    finalists: int = FINALISTS,
    name: str = "tasks",
) -> Replay:
    """Replay every policy on every task and order.

    Args:
        tasks: measured with the same models, in the same order.
        ranks: (M,) effective rank of the models' stored kernels, NaN where unknown.
        rounds: of the race.
        finalists: models that a race measures in full.
        name: of the replay.

    Raises:
        UsageError: no task, or tasks with different models, or a task with fewer than three models.
    """
    if not tasks or len({task.models for task in tasks}) > 1:
        raise UsageError("a replay needs tasks that were measured with the same models")
    few = [task.task.name for task in tasks if len(task.candidates) < FEWEST]
    if few:
        raise UsageError(
            f"fewer than {FEWEST} models could be measured on {', '.join(few)}", "add models, or leave the task out"
        )
    known = [_known(tasks, row, ranks) for row in range(len(tasks))]
    policies = []
    for policy, run in _policies(tasks, ranks, rounds, finalists).items():
        rows = [[run(each, order) for order in range(len(each.measured.task.orders))] for each in known]
        policies.append(Policy(policy, _figures(known, rows)))
    return Replay(name, tuple(task.task.name for task in tasks), len(tasks[0].models), False, tuple(policies))


def truths(tasks: Sequence[Measured]) -> Array:
    """(tasks, M) the metric of full readouts, in points."""
    return np.stack([task.truth * _points(task) for task in tasks])


def _points(task: Measured) -> float:
    return 100.0 / task.task.unit.full if task.task.unit.is_share else 100.0


def _known(tasks: Sequence[Measured], row: int, ranks: Array | None) -> _Known:
    line = np.stack([task.task.unit.to_line(task.truth) for task in tasks])
    rest = others(line, row)
    with np.errstate(divide="ignore", invalid="ignore"):
        hint = None if ranks is None else np.log(ranks)
    cold = strength(np.zeros((0, line.shape[1])), hint)
    static = None
    if len(rest):
        from modelspace.evaluation.baselines import static as static_order

        table = truths(tasks)
        table[row] = np.where(np.isfinite(table[row]), 0.0, np.nan)
        static = static_order(table)[row]
    kinds = np.array([task.task.unit.kind for task in tasks])
    comparable = np.delete(kinds, row) == kinds[row]
    return _Known(tasks[row], strength(rest, hint), cold, static, ranks, comparable)


def _policies(tasks: Sequence[Measured], ranks: Array | None, rounds: Sequence[int], finalists: int) -> dict[str, _Run]:
    """The policies by name."""
    has_others, n_train = len(tasks) > 1, min(task.n_train for task in tasks)
    result: dict[str, _Run] = {"random": _random}
    if ranks is not None:
        result["effective rank"] = lambda known, order: _picked(known, _finite(known.ranks))
    if has_others:
        result["static"] = lambda known, order: _picked(known, _finite(known.static))
        result["search order"] = lambda known, order: _picked(known, known.strength.mean)
    sizes = [size for size in rounds if 2 * size <= n_train]
    every = {
        score: None
        for task in tasks
        for shown in task.shown.values()
        for each in shown.values()
        for score in each.scores
    }
    for score in every:
        for size in (*sizes, None):
            result[f"{score}, {'all' if size is None else size} images"] = _by_score(score, size)
    if has_others:
        result[f"search order, {finalists} in full"] = _race((), finalists, warm=True)
    for each in (sizes[:1], sizes) if len(sizes) > 1 else (sizes,) if sizes else ():
        label = ", ".join(map(str, each))
        result[f"race ({label}), nothing known"] = _race(each, finalists, warm=False)
        if has_others:
            result[f"race ({label}), other tasks known"] = _race(each, finalists, warm=True)
    if ranks is not None:
        result["race of a quarter by effective rank"] = _race(sizes, finalists, warm=False, part=True)
    if has_others:
        result["race of a quarter by search order"] = _race(sizes, finalists, warm=True, part=True)
    return result


def _finite(values: Array | None) -> Array:
    """Values in which what is unknown comes last."""
    assert values is not None, "the policy needs them"
    known = np.isfinite(values)
    return np.where(known, values, values[known].min() - 1.0 if known.any() else 0.0)


def _random(known: _Known, order: int) -> _Outcome:
    gains = known.measured.truth[known.measured.candidates] * _points(known.measured)
    return _Outcome(float(gains.max() - gains.mean()), np.zeros(len(gains)), 0.0, 0.0, 0.0)


def _picked(known: _Known, values: Array, images: float = 0.0, tries: float = 0.0, seconds: float = 0.0) -> _Outcome:
    """The first of an order is taken; of equals, by expectation."""
    measured = known.measured
    gains = measured.truth[measured.candidates] * _points(measured)
    ranking = values[measured.candidates]
    regret = float(gains.max() - best_of_first(ranking, gains)[0])
    return _Outcome(regret, ranking, images, tries, seconds)


def _by_score(score: str, size: int | None) -> _Run:
    """All models are ordered by a label score on the first images, or on all."""

    def run(known: _Known, order: int) -> _Outcome:
        measured = known.measured
        n_images = size or measured.n_train
        values, seconds = np.full(len(measured.models), np.nan), 0.0
        for number in measured.candidates:
            shown = measured.shown[measured.models[number]][order, n_images]
            values[number] = shown.scores.get(score, math.nan)
            seconds += shown.seconds.get(score, math.nan) + measured.forward_seconds[number] * n_images
        count = len(measured.candidates)
        return _picked(known, _finite(values), count * n_images, count if size is None else 0, seconds)

    return run


def _race(rounds: Sequence[int], finalists: int, *, warm: bool, part: bool = False) -> _Run:
    """The search itself, on all candidates or on the first quarter of them, with or without outcomes of other tasks."""

    def run(known: _Known, order: int) -> _Outcome:
        measured = known.measured
        strong = known.strength if warm else known.cold
        places = sorted(measured.candidates, key=lambda number: -strong.mean[number])
        places = places[: quarter(len(places))] if part else places
        names = [measured.models[number] for number in places]
        variance = strong.score_variance
        expected = {
            measured.models[number]: Expected(float(strong.mean[number]), float(variance[number])) for number in places
        }
        # Without a round before, only the first are measured in full.
        result = race(
            names if rounds else names[:finalists],
            lambda model, n_images: measured.shown[model][order, n_images].reading,
            measured.n_train,
            rounds=rounds,
            finalists=finalists,
            expected=expected if warm else None,
        )
        return _raced(known, order, strong, result)

    return run


def _raced(known: _Known, order: int, strong: Strength, result: Race) -> _Outcome:
    measured = known.measured
    place = {model: number for number, model in enumerate(measured.models)}
    gains = measured.truth * _points(measured)
    regret = float(np.nanmax(gains) - gains[place[str(result.winner)]])
    line = measured.task.unit.to_line(measured.truth)
    tried = [place[each.model] for each in result.standings if each.stage == "finalist"]
    outcomes = np.full(len(line), np.nan)
    outcomes[tried] = line[tried]
    comparable = known.comparable if strong is known.strength else None
    expected = predict(strong, outcomes, _readings(measured, order, result, place), comparable)
    asked = np.isfinite(line) & np.isnan(outcomes)
    intervals = interval_figures(expected.low, expected.high, line, asked, measured.task.unit)
    seconds = sum(_seconds(measured, order, place[each.model], each.n_images) for each in result.standings)
    ranking = np.full(len(line), np.nan)
    ranking[[place[each.model] for each in result.standings]] = -np.arange(len(result.standings), dtype=np.float64)
    ranking = ranking[measured.candidates]
    return _Outcome(
        regret,
        ranking if np.isfinite(ranking).all() else None,
        result.n_forwarded,
        len(tried),
        seconds,
        expected.order[measured.candidates],
        intervals,
    )


def _seconds(measured: Measured, order: int, number: int, n_images: int) -> float:
    """Of one model up to its last round: forward passes, and the readout of each round."""
    shown = measured.shown[measured.models[number]]
    readouts = sum(
        each.seconds["readout"] for (which, size), each in shown.items() if which == order and size <= n_images
    )
    return readouts + float(measured.forward_seconds[number]) * n_images


def _readings(measured: Measured, order: int, result: Race, place: Mapping[str, int]) -> list[Readings]:
    """What a search stores of a race: the held-out metric of each model after each round before the last."""
    sizes = sorted({size for shown in measured.shown.values() for which, size in shown if size < measured.n_train})
    readings = []
    for size in sizes:
        values, finer = np.full(len(measured.models), np.nan), np.full(len(measured.models), np.nan)
        counts = np.zeros(len(measured.models), dtype=bool)
        for each in result.standings:
            if each.n_images >= size and each.reading is not None:
                shown = measured.shown[each.model][order, size]
                values[place[each.model]] = float(measured.task.unit.to_line(shown.metric))
                finer[place[each.model]] = shown.reading.value
                counts[place[each.model]] = size == max(other for other in sizes if other <= each.n_images)
        if np.isfinite(values).any():
            readings.append(Readings(values, size, counts, finer))
    return readings


def _figures(known: Sequence[_Known], rows: Sequence[Sequence[_Outcome]]) -> dict[str, Array]:
    """Means over orders, one number per task and figure; figures that no task has are left out."""
    result: dict[str, list[float]] = {figure: [] for figure in FIGURES}
    for each, outcomes in zip(known, rows, strict=True):
        count = len(each.measured.candidates)
        truth = each.measured.truth[each.measured.candidates]
        taus = [_tau(outcome.order, truth) for outcome in outcomes]
        columns = {
            "regret@1": [outcome.regret for outcome in outcomes],
            "weighted_tau": taus,
            "tau_expected": [_tau(outcome.expected, truth) for outcome in outcomes],
            "images": [outcome.images / count for outcome in outcomes],
            "tries": [outcome.tries for outcome in outcomes],
            "seconds": [outcome.seconds for outcome in outcomes],
        }
        for figure in FIGURES:
            values = columns.get(figure) or [outcome.intervals.get(figure, math.nan) for outcome in outcomes]
            result[figure].append(float(np.mean(values)))
    return {figure: np.array(values) for figure, values in result.items() if np.isfinite(values).any()}


def _tau(order: Array | None, truth: Array) -> float:
    return math.nan if order is None else float(weighted_kendall(order[None], truth[None])[0])
