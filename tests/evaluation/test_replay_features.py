"""Replay of races and label scores on planted features: who wins, what it costs, and who never takes part."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from modelspace.errors import UsageError
from modelspace.evaluation.replay import Replay
from modelspace.evaluation.replay_features import Labelled, Measured, measure, replay_measured, truths
from modelspace.scores import ridge
from modelspace.search.prediction import Readings, predict
from modelspace.search.race import Expected, ModelFailedError, Reading, race
from modelspace.search.strength import strength
from modelspace.search.units import Unit
from modelspace.tasks import measuring

MODELS = tuple(f"m{number:02}" for number in range(12))
N_TRAIN, N_TEST = 260, 200
NAMES = ("ridge", "knn")


def labels(count: int) -> np.ndarray:
    return np.arange(count) % 4


def features_of(task: int, signal: dict[str, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each model noise, and as much of the classes as its signal says."""
    rng = np.random.default_rng(task)
    every = labels(N_TRAIN + N_TEST)
    tables = {}
    for model in MODELS:
        table = rng.normal(size=(len(every), 12))
        table[:, :4] += signal[model] * np.eye(4)[every]
        tables[model] = table[:N_TRAIN], table[N_TRAIN:]
    return tables


def planted(task: int, **changes: object) -> Measured:
    """Strong and weak models in an order that the tasks share up to a little."""
    rng = np.random.default_rng(task + 50)
    signal = {model: 0.25 * number + rng.normal(0, 0.2) for number, model in enumerate(MODELS)}
    tables = features_of(task, signal)
    orders = tuple(tuple(_balanced(np.random.default_rng(seed))) for seed in range(2))
    metric = partial(measuring.measured, "accuracy")
    test = labels(N_TRAIN + N_TEST)[N_TRAIN:]
    entry = Labelled(f"task {task}", labels(N_TRAIN), test, orders, metric, Unit(True, 1.0, 1.0))
    return measure(entry, MODELS, lambda model: tables[model], names=NAMES, **changes)  # type: ignore[arg-type]


def _balanced(rng: np.random.Generator) -> list[int]:
    groups = [rng.permutation(np.flatnonzero(labels(N_TRAIN) == kind)) for kind in range(4)]
    return [int(number) for turn in zip(*groups, strict=True) for number in turn]


@pytest.fixture(scope="module")
def tasks() -> list[Measured]:
    return [planted(task) for task in range(4)]


@pytest.fixture(scope="module")
def replay(tasks: list[Measured]) -> Replay:
    return replay_measured(tasks, np.arange(12.0)[::-1] + 1)


def mean(replay: Replay, policy: str, figure: str) -> float:
    return float(replay.policy(policy).summary(figure).mean)


def test_a_race_beats_random_and_a_wrong_order(replay: Replay) -> None:
    random = mean(replay, "random", "regret@1")
    assert random > 20
    for policy in ("race (60, 120), nothing known", "race (60, 120), other tasks known", "search order"):
        assert mean(replay, policy, "regret@1") < 4
        assert mean(replay, policy, "weighted_tau") > 0.8
    assert mean(replay, "effective rank", "regret@1") > random, "the planted ranks are the wrong way round"
    assert mean(replay, "effective rank", "weighted_tau") < -0.8


def test_costs_are_those_of_the_rounds(replay: Replay) -> None:
    """All 12 models see 60 images, six 60 more, three all 260; nobody leaves early where other tasks are known."""
    assert mean(replay, "race (60, 120), other tasks known", "images") == (12 * 60 + 6 * 60 + 3 * 140) / 12
    assert mean(replay, "race (60), other tasks known", "images") == (12 * 60 + 3 * 200) / 12
    assert mean(replay, "race of a quarter by search order", "images") == 3 * 260 / 12
    assert mean(replay, "race (60, 120), other tasks known", "tries") == 3
    assert mean(replay, "ridge, 60 images", "images") == 60
    assert mean(replay, "ridge, all images", "images") == N_TRAIN
    assert mean(replay, "ridge, all images", "tries") == 12
    for policy in ("random", "static", "search order", "effective rank"):
        assert mean(replay, policy, "images") == 0


def test_a_label_score_picks_its_best(tasks: list[Measured], replay: Replay) -> None:
    for policy, size in (("ridge, 60 images", 60), ("ridge, all images", N_TRAIN)):
        slow = []
        for number, task in enumerate(tasks):
            rng = np.random.default_rng(number + 50)
            tables = features_of(number, {m: 0.25 * i + rng.normal(0, 0.2) for i, m in enumerate(MODELS)})
            gaps = []
            for order in task.task.orders:
                first = list(order[:size])
                values = [ridge.score(tables[model][0][first], task.task.train[first]) for model in MODELS]
                gaps.append(100 * (task.truth.max() - task.truth[int(np.argmax(values))]))
            slow.append(np.mean(gaps))
        assert replay.policy(policy).figures["regret@1"] == pytest.approx(slow)


def test_the_truth_is_a_full_readout_on_the_test_images(tasks: list[Measured]) -> None:
    rng = np.random.default_rng(50)
    tables = features_of(0, {m: 0.25 * i + rng.normal(0, 0.2) for i, m in enumerate(MODELS)})
    train, test = tables["m11"]
    fitted = ridge.leave_one_out(train, tasks[0].task.train)
    predicted = ridge.predict(train, tasks[0].task.train, test, penalty=fitted.penalty).argmax(axis=1)
    assert tasks[0].truth[11] == (predicted == tasks[0].task.test).mean()
    assert truths(tasks)[0, 11] == pytest.approx(100 * tasks[0].truth[11])


def test_models_that_are_the_targets_own_or_fail_take_no_part() -> None:
    """The best model is the target's own, the next one fails."""
    tables = features_of(0, {model: float(number) for number, model in enumerate(MODELS)})

    def features(model: str) -> tuple[np.ndarray, np.ndarray]:
        if model == "m10":
            raise ModelFailedError("out of memory")
        assert model != "m11"
        return tables[model]

    whole = planted(0)
    entry = measure(whole.task, MODELS, features, names=NAMES, own={"m11"})
    assert entry.candidates == list(range(10))
    assert entry.failures == {"m10": "out of memory"}
    replay = replay_measured([entry, planted(1)])
    best, middle = 100 * entry.truth[:10].max(), 100 * entry.truth[:10].mean()
    assert replay.policy("random").figures["regret@1"][0] == pytest.approx(best - middle)
    assert replay.policy("race (60, 120), nothing known").figures["regret@1"][0] == pytest.approx(0, abs=2)


def test_one_task_alone_has_nothing_known(tasks: list[Measured]) -> None:
    replay = replay_measured(tasks[:1])
    names = [policy.name for policy in replay.policies]
    assert "race (60, 120), nothing known" in names
    assert not [name for name in names if ("known" in name and "nothing" not in name) or name.startswith("static")]


def test_rounds_above_half_of_the_images_are_left_out() -> None:
    short = Labelled("short", labels(100), labels(40), (tuple(range(100)),), partial(measuring.measured, "accuracy"),
                     Unit(True, 1.0, 1.0))  # fmt: skip
    rng = np.random.default_rng(0)
    entry = measure(short, MODELS, lambda model: (rng.normal(size=(100, 5)), rng.normal(size=(40, 5))), sizes=(30, 60))
    assert {size for _, size in entry.shown["m00"]} == {30, 100}


def test_seconds_are_forward_passes_and_scores() -> None:
    entry = planted(0, forward_seconds=dict.fromkeys(MODELS, 0.5))
    figures = replay_measured([entry]).policy("ridge, 60 images").figures
    assert 0 < figures["seconds"][0] - 0.5 * 60 * 12 < 5
    assert "seconds" not in replay_measured([planted(0)]).policy("ridge, 60 images").figures


def test_refusals(tasks: list[Measured]) -> None:
    with pytest.raises(UsageError, match="measured with the same models"):
        replay_measured([])
    with pytest.raises(UsageError, match="fewer than 3 models could be measured on task 0"):
        replay_measured([planted(0, own=set(MODELS[2:]))])
    entry = tasks[0].task
    with pytest.raises(UsageError, match="not numbered from 0"):
        Labelled("gap", entry.train * 2, entry.test, entry.orders, entry.metric, entry.unit)
    with pytest.raises(UsageError, match="no training image"):
        Labelled("new", entry.train, entry.test + 1, entry.orders, entry.metric, entry.unit)


def test_where_nothing_is_known_other_tasks_change_nothing(tasks: list[Measured]) -> None:
    one, two = replay_measured([tasks[0], tasks[1]]), replay_measured([tasks[0], tasks[2], tasks[3]])
    differ = []
    for figure in ("regret@1", "weighted_tau", "tau_expected", "images", "coverage", "width"):
        cold, warm = (
            [each.policy(f"race (60, 120), {kind}").figures[figure][0] for each in (one, two)]
            for kind in ("nothing known", "other tasks known")
        )
        assert cold[0] == cold[1]
        differ.append(warm[0] != warm[1])
    assert any(differ)


def test_intervals_after_a_race_are_those_of_the_prediction(tasks: list[Measured]) -> None:
    """The race again by hand, with other tasks known: readings at 60, at 120 of the better six, three outcomes."""
    figures = replay_measured(tasks).policy("race (60, 120), other tasks known").figures
    line = np.stack([task.task.unit.to_line(task.truth) for task in tasks])
    strong = strength(line[1:])
    order = np.argsort(-strong.mean)
    variance = strong.variance + strong.deviation
    expected = {MODELS[m]: Expected(float(strong.mean[m]), float(variance[m])) for m in order}
    covered, widths = [], []
    for which in range(2):
        shown = {model: tasks[0].shown[model] for model in MODELS}

        def reading(model: str, size: int, which: int = which, shown: dict[str, Any] = shown) -> Reading:
            result: Reading = shown[model][which, size].reading
            return result

        result = race([MODELS[m] for m in order], reading, N_TRAIN, expected=expected)
        images = np.array([{each.model: each.n_images for each in result.standings}[model] for model in MODELS])
        outcomes = np.where(images == N_TRAIN, line[0], np.nan)
        at = {
            size: np.array([float(tasks[0].task.unit.to_line(shown[model][which, size].metric)) for model in MODELS])
            for size in (60, 120)
        }
        values = {size: np.array([shown[model][which, size].reading.value for model in MODELS]) for size in (60, 120)}
        later, finer = (np.where(images >= 120, each[120], np.nan) for each in (at, values))
        told = [Readings(at[60], 60, images == 60, values[60]), Readings(later, 120, images >= 120, finer)]
        after = predict(strong, outcomes, told)
        rest = images < N_TRAIN
        covered.append(((after.low <= line[0]) & (line[0] <= after.high))[rest].mean())
        unit = tasks[0].task.unit
        widths.append(100 * (unit.from_line(after.high) - unit.from_line(after.low))[rest].mean())
    assert figures["coverage"][0] == pytest.approx(np.mean(covered))
    assert figures["width"][0] == pytest.approx(np.mean(widths))
