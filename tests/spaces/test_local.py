"""Predicting a target's features from those of a source around each place."""

from __future__ import annotations

import numpy as np
import pytest

from modelspace.errors import UsageError
from modelspace.representations.grids import CHANNELS, SIDE
from modelspace.spaces import local

N = 20


def grid(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, SIDE * SIDE, CHANNELS)).astype(np.float32)


def score(target: np.ndarray, source: np.ndarray) -> float:
    return float(local.r2_per_image(local.places(target), local.predictor(source)).mean())


def test_it_is_cross_validated_ridge_regression_on_neighbourhoods() -> None:
    """Against a plain implementation in float64: one place, one fold at a time."""
    rng = np.random.default_rng(5)
    source = grid(1)
    images = np.pad(
        source.reshape(N, SIDE, SIDE, CHANNELS).astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)), "edge"
    )
    mix = rng.standard_normal((9 * CHANNELS, CHANNELS))
    rows, places = [], []
    for i in range(1, SIDE, 2):
        for j in range(1, SIDE, 2):
            rows.append(images[:, i : i + 3, j : j + 3].reshape(N, -1))
            places.append(i * SIDE + j)
    x = np.stack(rows, axis=1)
    target = grid(2)
    target[:, places] = (x @ mix / 12 + 0.5 * rng.standard_normal((N, len(places), CHANNELS))).astype(np.float32)
    residual = np.zeros(N)
    scale = local.RIDGE * np.square(x).sum() / x.shape[2]
    for fold in range(local.FOLDS):
        held = np.arange(N) % local.FOLDS == fold
        train, answers = x[~held].reshape(-1, x.shape[2]), target[~held][:, places].reshape(-1, CHANNELS)
        weights = np.linalg.solve(train.T @ train + scale * np.eye(x.shape[2]), train.T @ answers)
        residual[held] = np.square(target[held][:, places] - x[held] @ weights).sum(axis=(1, 2))
    expected = 1 - residual * N / np.square(target[:, places]).sum()
    found = local.r2_per_image(local.places(target), local.predictor(source))
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert 0.1 < found.mean() < 0.95


def test_a_model_predicts_itself_and_nothing_predicts_noise() -> None:
    assert score(grid(1, 100), grid(1, 100)) > 0.95
    assert score(grid(1, 100), grid(2, 100)) < 0.05


def test_a_shift_by_one_cell_is_found_and_one_by_three_is_not() -> None:
    source = grid(3, 100).reshape(100, SIDE, SIDE, CHANNELS)
    near = np.roll(source, 1, axis=1).reshape(100, -1, CHANNELS)
    far = np.roll(source, 3, axis=1).reshape(100, -1, CHANNELS)
    flat = source.reshape(100, -1, CHANNELS)
    assert score(near, flat) > 0.95
    assert score(far, flat) < 0.05


def test_it_is_no_symmetric_score() -> None:
    whole = grid(4, 100)
    part = np.zeros_like(whole)
    part[:, :, :4] = whole[:, :, :4]
    assert score(part, whole) > 0.9 > 0.5 > score(whole, part)


def test_neither_a_rotation_nor_a_factor_changes_it() -> None:
    target, source = grid(1, 50) + grid(2, 50), grid(2, 50)
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS)))
    turned = (3 * source @ turn).astype(np.float32)
    assert score(target, turned) == pytest.approx(score(target, source), abs=1e-4)


def test_a_second_target_is_scored_as_the_first() -> None:
    source = local.predictor(grid(2, 50))
    target = local.places(grid(1, 50) + grid(2, 50))
    first = local.r2_per_image(target, source)
    assert source.n_bytes < (before := 2 * source.n_bytes)
    np.testing.assert_allclose(local.r2_per_image(target, source), first, atol=1e-6)
    assert source.n_bytes < before


def test_the_matrix_has_targets_as_rows() -> None:
    grids = [grid(1, 30), grid(1, 30) + grid(2, 30)]
    matrix = local.r2_matrix(grids)
    assert matrix[0, 1] == pytest.approx(score(grids[0], grids[1]), abs=1e-6)


def test_what_can_not_be_compared() -> None:
    with pytest.raises(UsageError, match="too few"):
        local.predictor(grid(1, 9))
    with pytest.raises(UsageError, match="can't be compared"):
        local.r2_per_image(local.places(grid(1, 20)), local.predictor(grid(1, 30)))
    with pytest.raises(UsageError, match="zero"):
        local.r2_per_image(local.places(np.zeros_like(grid(1))), local.predictor(grid(1)))
