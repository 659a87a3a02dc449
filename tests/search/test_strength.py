"""The strength of models from outcomes of other tasks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.errors import UsageError
from modelspace.search.strength import strength


def drawn(rows: int, models: int, seed: int = 0, deviation: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Scores drawn from the model itself, and the strengths they were drawn with."""
    rng = np.random.default_rng(seed)
    strengths = rng.normal(size=models)
    level, spread = rng.uniform(0, 50, size=(rows, 1)), rng.uniform(0.1, 10, size=(rows, 1))
    return level + spread * (strengths + np.sqrt(deviation) * rng.normal(size=(rows, models))), strengths


def test_planted_strengths_come_back() -> None:
    scores, strengths = drawn(12, 40)
    assert np.corrcoef(strength(scores).mean, strengths)[0, 1] > 0.95


def test_missing_scores_are_filled_by_what_the_rows_share() -> None:
    scores, strengths = drawn(20, 40)
    scores[np.random.default_rng(1).random(scores.shape) < 0.6] = np.nan
    assert np.corrcoef(strength(scores).mean, strengths)[0, 1] > 0.85


def test_a_row_of_strong_models_does_not_make_them_average() -> None:
    scores, strengths = drawn(10, 30, deviation=0.05)
    best = np.argsort(-strengths)[:6]
    row = np.full(30, np.nan)
    row[best] = strengths[best]
    alone, together = strength(scores), strength(np.vstack([scores, row]))
    # Centred on its own models, the row would pull the best six towards 0, by about a tenth of their strength.
    assert np.abs(together.mean - alone.mean)[best].mean() < 0.1
    assert together.row_means[-1] < np.median(row[best]) - 0.2


def test_a_model_that_was_seldom_measured_is_nearer_to_the_average() -> None:
    scores, _ = drawn(6, 20, deviation=1.0)
    best = int(np.argmax(strength(scores).mean))
    seldom = scores.copy()
    seldom[1:, best] = np.nan
    seldom[0, best] = scores[0].max() + scores[0].std()
    result = strength(seldom)
    assert result.counts[best] == 1
    assert np.delete(result.counts, best).tolist() == [6] * 19
    assert result.variance[best] > 2 * np.delete(result.variance, best).max()
    z = (seldom[0, best] - result.row_means[0]) / result.row_spreads[0]
    assert 0 < result.mean[best] < 0.6 * z


def test_one_training_that_broke_down_hardly_changes_the_others() -> None:
    scores, _ = drawn(8, 20, deviation=0.05)
    broken = scores.copy()
    broken[3, 5] = -1e6
    others = np.arange(20) != 5
    assert np.abs(strength(broken).mean - strength(scores).mean)[others].max() < 0.15


def test_what_is_known_without_outcomes_orders_models_until_there_are_some() -> None:
    known = np.arange(30.0)
    cold = strength(np.zeros((0, 30)), known)
    assert (np.diff(cold.mean) > 0).all()
    assert not cold.counts.any()
    scores, _ = drawn(15, 30, seed=2)
    warm = strength(scores, known)
    assert np.corrcoef(warm.mean, strength(scores).mean)[0, 1] > 0.97


def test_unknown_hints_count_as_average() -> None:
    known = np.array([1.0, 2.0, np.nan, 3.0])
    assert strength(np.zeros((0, 4)), known).mean[2] == 0.0


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 5),
    st.integers(1, 12),
    st.integers(0, 10_000),
    st.floats(0, 1),
)
def test_any_table_gives_finite_strengths(rows: int, models: int, seed: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=(rows, models)), 1)
    scores[rng.random(scores.shape) < missing] = np.nan
    result = strength(scores)
    assert np.isfinite(result.mean).all()
    assert (result.variance > 0).all()
    assert result.deviation > 0
    assert 0.9 <= result.reach <= 2.0


def test_tables_of_another_shape_or_with_infinities_are_refused() -> None:
    with pytest.raises(UsageError, match="finite"):
        strength([[1.0, np.inf]])
    with pytest.raises(UsageError, match="shape"):
        strength([1.0, 2.0])
