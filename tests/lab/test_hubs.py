"""Hubness corrections, compared with their definitions."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from modelspace.errors import UsageError
from modelspace.lab import hubs

NAN = math.nan


def random_affinity(n: int = 8) -> np.ndarray:
    x = np.random.default_rng(5).normal(size=(n, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def test_hub_corrections_by_definition() -> None:
    s = random_affinity() + np.random.default_rng(6).normal(size=(8, 8)) / 10
    n = len(s)
    results = hubs.centred(s), hubs.csls(s, k=3), hubs.mutual_z(s), hubs.mutual_proximity(s)
    for t in range(n):
        row = [s[t, j] for j in range(n) if j != t]
        for i in range(n):
            if i == t:
                continue
            column = [s[j, i] for j in range(n) if j != i]
            z_row = (s[t, i] - np.mean(row)) / np.std(row)
            z_column = (s[t, i] - np.mean(column)) / np.std(column)
            expected = (
                s[t, i] - np.mean(column),
                2 * s[t, i] - np.mean(sorted(row)[-3:]) - np.mean(sorted(column)[-3:]),
                z_row + z_column,
                norm.cdf(z_row) * norm.cdf(z_column),
            )
            assert [result[t, i] for result in results] == pytest.approx(expected, abs=1e-12)


def test_hub_corrections_ignore_and_keep_the_diagonal() -> None:
    s = random_affinity()
    other = s.copy()
    np.fill_diagonal(other, NAN)
    outside = ~np.eye(len(s), dtype=bool)
    for correct in (hubs.centred, hubs.csls, hubs.mutual_z, hubs.mutual_proximity):
        a, b = correct(s), correct(other)
        assert np.array_equal(a[outside], b[outside])
        assert np.array_equal(np.diag(a), np.diag(s))
        if correct is not hubs.centred:
            assert np.allclose(a, a.T)


def test_a_hub_no_longer_ranks_first_everywhere() -> None:
    s = random_affinity(12)
    s[:, 0] += 1.6
    s[0, :] += 1.6
    diagonal = np.eye(12, dtype=bool)

    def n_led_by_the_hub(matrix: np.ndarray) -> int:
        return int((np.argmax(np.where(diagonal, -np.inf, matrix), axis=1)[1:] == 0).sum())

    assert n_led_by_the_hub(s) >= 10
    for correct in (hubs.centred, hubs.csls, hubs.mutual_z, hubs.mutual_proximity):
        assert n_led_by_the_hub(correct(s)) <= 5


def test_hub_corrections_refuse_invalid_input() -> None:
    with pytest.raises(UsageError, match="square"):
        hubs.centred(np.ones((2, 3)))
    with pytest.raises(UsageError, match="not finite"):
        hubs.csls([[1.0, NAN], [0.5, 1.0]])
    with pytest.raises(UsageError, match="k = 1"):
        hubs.csls(np.eye(3), k=0)
