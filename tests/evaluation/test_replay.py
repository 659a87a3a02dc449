"""Replay of tries on tables of outcomes: each figure against its definition, and intervals against the model's data."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from modelspace.errors import UsageError
from modelspace.evaluation.oracles import Oracle
from modelspace.evaluation.replay import TRIES, Replay, quarter, replay_outcomes
from modelspace.search.prediction import Prediction, predict
from modelspace.search.strength import Strength, strength
from modelspace.search.units import Unit
from modelspace.verbs.evaluate_search import of_oracle

PERCENT = Unit(True, 100.0, 1.0)


def names(count: int) -> list[str]:
    return [f"t{number}" for number in range(count)]


def drawn(n_targets: int, n_models: int, seed: int = 0) -> np.ndarray:
    """Scores on the line as the random-effects model has them: level and spread of the target, strength, deviation."""
    rng = np.random.default_rng(seed)
    level, spread = rng.normal(1.0, 1.0, (n_targets, 1)), np.exp(rng.normal(-0.7, 0.4, (n_targets, 1)))
    return level + spread * (rng.normal(0, 0.8, n_models) + rng.normal(0, 0.6, (n_targets, n_models)))


def accuracies(n_targets: int, n_models: int, seed: int = 0) -> np.ndarray:
    return np.asarray(PERCENT.from_line(drawn(n_targets, n_models, seed)))


def mean(replay: Replay, policy: str, figure: str) -> float:
    return float(replay.policy(policy).summary(figure).mean)


def test_a_planted_order_is_found() -> None:
    line = np.linspace(-1, 1, 12) * np.array([[0.5], [1.0], [2.0], [1.0]]) + np.array([[0.0], [1], [2], [-1]])
    replay = replay_outcomes("planted", names(4), PERCENT.from_line(line), PERCENT)
    for policy in ("search", "static", "static by score"):
        assert mean(replay, policy, "regret@1") == 0
        assert mean(replay, policy, "weighted_tau") == pytest.approx(1)
    assert mean(replay, "random", "regret@1") > 5
    assert mean(replay, "random", "weighted_tau") == 0


def test_the_expectation_of_random_order_is_exact() -> None:
    table = accuracies(3, 7)
    table[1, 2] = np.nan
    replay = replay_outcomes("random", names(3), table, PERCENT)
    for tries in (1, 2, 3, 5):
        slow = []
        for row in table:
            values = row[np.isfinite(row)]
            slow.append(values.max() - np.mean([max(picks) for picks in itertools.combinations(values, tries)]))
        assert replay.policy("random").figures[f"regret@{tries}"] == pytest.approx(slow)
    assert (replay.policy("random").figures["regret@8"] == 0).all(), "after as many tries as there are models"


def test_regret_of_the_search_is_that_of_its_first_models() -> None:
    table = accuracies(5, 20, seed=3)
    table[:, 4] = [np.nan, 99.9, np.nan, 99.9, 99.9]
    replay = replay_outcomes("slow", names(5), table, PERCENT)
    line = PERCENT.to_line(table)
    for tries in (*TRIES, "quarter"):
        slow = []
        for row, scores in enumerate(table):
            order = np.argsort(-strength(np.delete(line, row, axis=0)).mean)
            order = [number for number in order if np.isfinite(scores[number])]
            count = quarter(len(order)) if isinstance(tries, str) else tries
            slow.append(np.nanmax(scores) - scores[order[:count]].max())
        assert replay.policy("search").figures[f"regret@{tries}"] == pytest.approx(slow)


def test_a_target_knows_nothing_of_its_own_outcomes() -> None:
    """Reversing a row must not change the order that is tried for it."""
    table = accuracies(4, 10, seed=1)
    turned = table.copy()
    turned[0] = np.sort(table[0])[::-1][np.argsort(np.argsort(table[0]))]
    before, after = (replay_outcomes("x", names(4), each, PERCENT).policy("search").figures for each in (table, turned))
    assert before["spearman"][0] == pytest.approx(-after["spearman"][0])


def test_the_own_model_of_a_target_never_counts() -> None:
    table = accuracies(4, 6)
    oracle = Oracle("own", ("a", "b", "c", "d"), ("a", "m1", "m2", "m3", "m4", "m5"), table, is_accuracy=True)
    marked = np.zeros(table.shape, dtype=bool)
    marked[1, 3] = True
    oracle = replace(oracle, own=marked)
    best = table.copy()
    best[0, 0] = best[1, 3] = 99.99
    one, two = of_oracle(oracle), of_oracle(replace(oracle, score=best))
    for policy in one.policies:
        for figure, values in policy.figures.items():
            # The model's outcome is known to the other targets, so only the two targets themselves are the same.
            if policy.name == "random" or figure == "regret@8":
                assert two.policy(policy.name).figures[figure] == pytest.approx(values, nan_ok=True)
    assert (two.policy("random").figures["regret@1"][:2] < 60).all()
    assert max(np.nanmax(policy.figures.get("regret@1", [0.0])[:2]) for policy in two.policies) < 99.99 - table.min()


@pytest.mark.first(1)
@pytest.mark.parametrize("tries", [0, 1, 3, 8])
def test_intervals_cover_what_is_drawn_from_the_model(tries: int) -> None:
    tables = [replay_outcomes("drawn", names(16), accuracies(16, 40, seed), PERCENT) for seed in range(6)]
    coverage = np.mean([mean(table, f"expected after {tries} tries", "coverage") for table in tables])
    assert 0.74 < coverage < 0.9


def test_intervals_that_are_too_narrow_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def narrow(strong: Strength, measured: np.ndarray) -> Prediction:
        return predict(replace(strong, reach=strong.reach / 2), measured)

    monkeypatch.setattr("modelspace.evaluation.replay.predict", narrow)
    replay = replay_outcomes("narrow", names(16), accuracies(16, 40), PERCENT)
    assert mean(replay, "expected after 3 tries", "coverage") < 0.65


def test_tries_narrow_the_intervals() -> None:
    replay = replay_outcomes("width", names(10), accuracies(10, 30), PERCENT)
    widths = [mean(replay, f"expected after {tries} tries", "width") for tries in (0, 1, 8)]
    assert widths[0] > widths[1] > widths[2] > 0


def test_without_a_share_regret_is_relative_to_a_random_model() -> None:
    line = drawn(5, 9)
    scaled = line * np.array([[1.0], [10], [100], [0.1], [5]]) + 7
    one, two = (replay_outcomes("losses", names(5), table) for table in (line, scaled))
    assert one.is_relative
    assert one.policy("random").figures["regret@1"] == pytest.approx(np.ones(5))
    for figure in ("regret@1", "regret@3", "spearman"):
        assert one.policy("search").figures[figure] == pytest.approx(two.policy("search").figures[figure])
    assert np.isnan(one.policy("expected after 3 tries").figures["width"]).all()


def test_a_target_with_two_models_is_left_out() -> None:
    table = accuracies(4, 6)
    table[2, 2:] = np.nan
    replay = replay_outcomes("few", names(4), table, PERCENT)
    for policy in replay.policies:
        for values in policy.figures.values():
            assert np.isnan(values[2])


@pytest.mark.parametrize("table", [np.ones((1, 4)), np.ones(4), np.full((2, 3), np.inf), np.ones((3, 4))])
def test_refusals(table: np.ndarray) -> None:
    with pytest.raises(UsageError, match="is a table of shape"):
        replay_outcomes("wrong", names(len(table) if table.shape != (3, 4) else 2), table)


def test_coverage_is_of_the_models_that_were_not_tried() -> None:
    table = accuracies(6, 12, seed=7)
    table[0, 3] = np.nan
    line = PERCENT.to_line(table)
    slow: dict[str, list[float]] = {"coverage": [], "above": [], "width": []}
    for row, scores in enumerate(line):
        strong = strength(np.delete(line, row, axis=0))
        order = [number for number in np.argsort(-strong.mean) if np.isfinite(scores[number])]
        measured = np.full(12, np.nan)
        measured[order[:3]] = scores[order[:3]]
        expected, rest = predict(strong, measured), order[3:]
        slow["coverage"].append(np.mean([expected.low[m] <= scores[m] <= expected.high[m] for m in rest]))
        slow["above"].append(np.mean([scores[m] > expected.high[m] for m in rest]))
        ends = [(PERCENT.from_line(expected.low[m]), PERCENT.from_line(expected.high[m])) for m in rest]
        slow["width"].append(np.mean([high - low for low, high in ends]))
    figures = replay_outcomes("slow", names(6), table, PERCENT).policy("expected after 3 tries").figures
    for figure, values in slow.items():
        assert figures[figure] == pytest.approx(values), figure
