"""Taskonomy's ordinal normalisation, compared with its definition."""

import math

import numpy as np
import pytest

from modelspace.errors import UsageError
from modelspace.lab import ahp

NAN = math.nan


def test_win_matrix_by_definition() -> None:
    losses = np.random.default_rng(0).integers(0, 5, (4, 30)).astype(float)
    wins = ahp.win_matrix(losses)
    for i in range(4):
        for j in range(4):
            points = [1.0 if a < b else 0.5 if a == b else 0.0 for a, b in zip(losses[i], losses[j], strict=True)]
            assert wins[i, j] == pytest.approx(sum(points) / 30)
    rates = ahp.win_rates(wins)
    assert rates[2] == pytest.approx((wins[2, 0] + wins[2, 1] + wins[2, 3]) / 3)


def test_ahp_by_power_iteration() -> None:
    wins = ahp.win_matrix(np.random.default_rng(1).random((6, 40)) + np.arange(6)[:, None] / 5)
    odds = [
        [min(max(wins[i, j], 0.001), 0.999) / min(max(wins[j, i], 0.001), 0.999) for j in range(6)] for i in range(6)
    ]
    vector = [1.0] * 6
    for _ in range(500):
        vector = [sum(row[j] * vector[j] for j in range(6)) for row in odds]
        vector = [v / sum(vector) for v in vector]
    assert ahp.affinities(wins) == pytest.approx(vector, rel=1e-9)
    assert np.argsort(ahp.affinities(wins)).tolist() == [5, 4, 3, 2, 1, 0]


def test_ahp_recovers_a_consistent_table() -> None:
    # The principal eigenvector of the odds a_i : a_j is a itself.
    a = np.array([0.5, 0.3, 0.15, 0.05])
    assert ahp.affinities(a[:, None] / (a[:, None] + a[None, :])) == pytest.approx(a)


def test_ahp_is_finite_for_a_clean_sweep_and_refuses_invalid_input() -> None:
    swept = ahp.affinities(ahp.win_matrix([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    assert np.isfinite(swept).all()
    assert swept.tolist() == sorted(swept.tolist(), reverse=True)
    with pytest.raises(UsageError, match="summing to 1"):
        ahp.affinities([[0.5, 0.9], [0.9, 0.5]])
    with pytest.raises(UsageError, match="finite"):
        ahp.win_matrix([[1.0, NAN]])
