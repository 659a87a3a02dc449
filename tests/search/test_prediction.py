"""Predicted scores and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from modelspace.search.prediction import Readings, predict
from modelspace.search.strength import strength
from modelspace.search.units import Unit


def world(seed: int, rows: int = 12, models: int = 30, deviation: float = 0.3) -> np.ndarray:
    """Scores of models on tasks: levels and spreads differ between tasks as accuracies on the line do."""
    rng = np.random.default_rng(seed)
    strengths = rng.normal(size=models)
    level = rng.normal(1.0, 1.0, size=(rows, 1))
    spread = np.exp(rng.normal(-0.7, 0.4, size=(rows, 1)))
    scores: np.ndarray = level + spread * (strengths + np.sqrt(deviation) * rng.normal(size=(rows, models)))
    return scores


@pytest.mark.first(2)
@pytest.mark.parametrize("runs", [0, 1, 3, 8])
def test_intervals_cover_four_fifths(runs: int) -> None:
    inside = []
    for seed in range(60):
        scores = world(seed)
        known = strength(scores[1:])
        measured = np.full(scores.shape[1], np.nan)
        picked = np.random.default_rng(seed).permutation(scores.shape[1])[:runs]
        measured[picked] = scores[0, picked]
        result = predict(known, measured)
        left = ~np.isfinite(measured)
        inside.append(((result.low <= scores[0]) & (scores[0] <= result.high))[left].mean())
    # The level is common to all models of a task, so a task is in or out as a whole: 60 tasks leave some noise.
    assert 0.68 < np.mean(inside) < 0.92


def test_measurements_stand_as_they_are_and_move_the_others() -> None:
    scores = world(3)
    known = strength(scores[1:])
    nothing = predict(known, np.full(30, np.nan))
    measured = np.full(30, np.nan)
    measured[:3] = scores[0, :3] + 5.0
    result = predict(known, measured)
    assert result.mean[:3].tolist() == result.low[:3].tolist() == result.high[:3].tolist() == measured[:3].tolist()
    assert (result.mean[3:] > nothing.mean[3:] + 2.0).all()
    assert ((result.high - result.low)[3:] < (nothing.high - nothing.low)[3:]).all()


def test_without_anything_known_there_is_no_score() -> None:
    result = predict(strength(np.zeros((0, 4)), np.arange(4.0)), np.full(4, np.nan))
    assert np.isnan(result.mean).all()
    assert np.isnan(result.low).all()
    assert (np.diff(result.order) > 0).all()
    one = np.array([0.5, np.nan, np.nan, np.nan])
    assert np.isnan(predict(strength(np.zeros((0, 4))), one).mean).all()


def test_rows_in_other_units_tell_the_order_but_no_level() -> None:
    scores = world(5)
    result = predict(strength(scores[1:]), np.full(30, np.nan), comparable=np.zeros(11, dtype=bool))
    assert np.isnan(result.mean).all()
    assert np.corrcoef(result.order, scores[0])[0, 1] > 0.7


def test_readings_sharpen_the_models_that_were_read() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=40)
    known = strength(np.zeros((0, 40)))
    values = truth + 0.5 * rng.normal(size=40)
    values[30:] = np.nan
    result = predict(known, np.full(40, np.nan), [Readings(values, 120, np.isfinite(values))])
    assert np.corrcoef(result.order[:30], truth[:30])[0, 1] > 0.75
    assert (result.variance[:30] < result.variance[30:].min()).all()
    assert np.isfinite(result.mean).all()


def test_the_values_of_readouts_order_models_and_their_scores_give_the_level() -> None:
    scores = np.array([0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0])
    finer = np.arange(10.0)[::-1]
    everyone = np.ones(10, dtype=bool)
    known = strength(np.zeros((0, 10)))
    nothing = np.full(10, np.nan)
    rough = predict(known, nothing, [Readings(scores, 60, everyone)])
    exact = predict(known, nothing, [Readings(scores, 60, everyone, finer)])
    assert rough.order.argmax() == 9
    assert (np.diff(exact.order) < 0).all()
    assert (exact.variance < rough.variance).all()
    assert np.isclose(np.median(exact.mean), np.median(rough.mean), atol=0.2)
    # Where a value is missing, the scores are what there is.
    partly = predict(known, nothing, [Readings(scores, 60, everyone, np.where(finer == 3, np.nan, finer))])
    assert np.array_equal(partly.order, rough.order)


def test_a_short_reading_counts_for_models_that_have_no_longer_one() -> None:
    # Models 0..4 saw 120 images, all saw 60: the scores of the short reading say where model 5 stands among all.
    short = np.linspace(0.0, 0.9, 10)
    long = np.where(np.arange(10) < 5, 2.0 + short, np.nan)
    readings = [
        Readings(short, 60, np.arange(10) >= 5),
        Readings(long, 120, np.arange(10) < 5),
    ]
    order = predict(strength(np.zeros((0, 10))), np.full(10, np.nan), readings).order
    assert (np.diff(order[5:]) > 0).all()
    assert order[5:].mean() > 0  # and not 0, as if they were all the models there are


def test_shares_are_put_on_the_line_and_back() -> None:
    unit = Unit.of("accuracy", True, [0.5, 0.9])
    shares = np.array([0.01, 0.5, 0.9, 0.99])
    assert np.allclose(unit.from_line(unit.to_line(shares)), shares)
    assert unit.to_line(0.5) == 0.0
    assert np.isfinite(unit.to_line([0.0, 1.0])).all()


def test_percent_and_other_metrics() -> None:
    percent = Unit.of("accuracy", True, [55.0, 91.0])
    assert percent.full == 100.0
    assert np.allclose(percent.to_line(50.0), 0.0)
    assert percent.kind == Unit.of("f1", True, [0.2]).kind == "share"
    error = Unit.of("rmse", False, [0.2, 3.0])
    assert error.to_line([1.0, 2.0]).tolist() == [-1.0, -2.0]
    assert error.from_line(error.to_line(2.0)) == 2.0
    assert Unit.of("accuracy", True, [-1.0]).kind == error.kind == "other"
