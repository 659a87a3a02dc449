"""How well features predict features: R² from kernels against ridge regression written out."""

from __future__ import annotations

import numpy as np
import pytest

from modelspace.errors import UsageError
from modelspace.spaces import predictability


def slow_r2(target: np.ndarray, source: np.ndarray, folds: int, ridge: float) -> float:
    """R² of ridge regression from the source's features to the target's, written out."""
    residual = total = 0.0
    n = len(target)
    penalty = ridge * np.trace(source @ source.T) / n
    for fold in range(folds):
        test = np.arange(n) % folds == fold
        x, y = source[~test], target[~test]
        coefficients = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
        residual += float(np.square(target[test] - source[test] @ coefficients).sum())
        total += float(np.square(target[test]).sum())
    return 1 - residual / total


@pytest.mark.parametrize("ridge", [0.1, 1.0])
def test_r2_from_kernels_is_that_of_ridge_regression(ridge: float) -> None:
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((20, d)) for d in (3, 5, 30)]
    features.append(features[0] @ rng.standard_normal((3, 2)))
    for target in features:
        for source in features:
            weights = predictability.out_of_fold_weights(source @ source.T, folds=4, ridge=ridge)
            contributions = predictability.r2_per_image(target @ target.T * 7.0, weights)
            assert contributions.mean() == pytest.approx(slow_r2(target, source, 4, ridge), abs=1e-9)
    kernels = [table @ table.T for table in features]
    scores = predictability.r2_matrix(kernels)
    assert scores[3, 0] > 0.8 > scores[0, 3]  # three features determine a projection of them, but not the reverse
    with pytest.raises(UsageError, match="too few"):
        predictability.out_of_fold_weights(np.eye(9))


def test_weights_are_those_of_the_definition() -> None:
    """A = K[te, tr] (K[tr, tr] + λ I)⁻¹ in every fold; λ in units of the mean eigenvalue of K."""
    rng = np.random.default_rng(1)
    table = rng.standard_normal((11, 4))
    kernel = table @ table.T
    for folds, ridge in ((2, 0.5), (5, 1.0)):
        weights = predictability.out_of_fold_weights(kernel, folds, ridge)
        for fold in range(folds):
            test = np.arange(11) % folds == fold
            inner = kernel[np.ix_(~test, ~test)] + ridge * np.linalg.eigvalsh(kernel).mean() * np.eye((~test).sum())
            expected = kernel[np.ix_(test, ~test)] @ np.linalg.inv(inner)
            np.testing.assert_allclose(weights[np.ix_(test, ~test)], expected, atol=1e-10)
            np.testing.assert_array_equal(weights[np.ix_(test, test)], 0.0)
    default = predictability.out_of_fold_weights(kernel)
    np.testing.assert_array_equal(default, predictability.out_of_fold_weights(kernel, 5, 1.0))


def test_the_contribution_of_each_image_is_its_squared_error() -> None:
    rng = np.random.default_rng(2)
    source, target = rng.standard_normal((10, 3)), rng.standard_normal((10, 2))
    weights = predictability.out_of_fold_weights(source @ source.T)
    errors = np.square(target - weights @ target).sum(axis=1)
    expected = 1 - errors * 10 / np.square(target).sum()
    np.testing.assert_allclose(predictability.r2_per_image(target @ target.T, weights), expected, atol=1e-12)


def test_two_images_per_fold_are_enough_and_sizes_must_agree() -> None:
    assert predictability.out_of_fold_weights(np.eye(10)).shape == (10, 10)
    assert predictability.out_of_fold_weights(np.eye(4), folds=2).shape == (4, 4)
    with pytest.raises(UsageError, match="9 probe images are too few for 5 folds") as error:
        predictability.out_of_fold_weights(np.eye(9))
    assert "use 10 or more" in error.value.hint
    with pytest.raises(UsageError, match="can't be compared"):
        predictability.r2_per_image(np.eye(4), np.eye(5))


def test_the_rough_score_leaves_out_one_image_at_a_time() -> None:
    """R² of ridge regression with as many folds as images, up to λ, which is the mean eigenvalue of all images."""
    rng = np.random.default_rng(4)
    features = [rng.standard_normal((9, d)) for d in (2, 4, 20)]
    kernels = np.array([table @ table.T for table in features], dtype=np.float32)
    for ridge in (1.0, 0.3):
        matrices = predictability.rough_matrices(kernels, *(() if ridge == 1.0 else (ridge,)))
        assert matrices.dtype == np.float32
        np.testing.assert_allclose(matrices, matrices.transpose(0, 2, 1), atol=1e-5)
        for target, kernel in zip(features, kernels, strict=True):
            expected = [slow_r2(target, source, 9, ridge) for source in features]
            for scale in (100.0, 0.001):
                scores = predictability.rough_r2(np.float32(scale) * kernel, matrices)
                np.testing.assert_allclose(scores, expected, atol=2e-4)
            products = np.einsum("ij,nij->n", kernel, matrices) / np.trace(kernel)
            np.testing.assert_allclose(products, expected, atol=2e-4)


def test_rough_scores_of_features_that_are_zero() -> None:
    """A target that is zero has no score; a source that is zero predicts zero, the mean of centred features."""
    kernels = np.array([np.zeros((4, 4)), np.eye(4)], dtype=np.float32)
    matrices = predictability.rough_matrices(kernels)
    np.testing.assert_array_equal(predictability.rough_r2(kernels[0], matrices), [0.0, 0.0])
    np.testing.assert_allclose(predictability.rough_r2(kernels[1], matrices), [0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 50])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_inverses_of_a_stack(n: int, kind: type) -> None:
    features = np.random.default_rng(n).standard_normal((3, n, 2 * n))
    matrices = (features @ features.transpose(0, 2, 1) / n + np.eye(n)).astype(kind)
    before = matrices.copy()
    inverses = predictability._inverse(matrices)
    assert inverses.dtype == kind
    np.testing.assert_allclose(inverses, np.linalg.inv(before), atol=1e-5 if kind is np.float32 else 1e-13)
    np.testing.assert_array_equal(matrices, before)


@pytest.mark.parametrize("n", [1, 50, 51, 103, 200])
def test_the_inverse_by_blocks(n: int) -> None:
    features = np.random.default_rng(n).standard_normal((n, max(n // 4, 1)))
    kernel = features @ features.T
    matrix = kernel + np.trace(kernel) / n * np.eye(n)
    inverse = predictability._inverse(matrix)
    np.testing.assert_allclose(inverse @ matrix, np.eye(n), atol=1e-13 * n)
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix), rtol=1e-9, atol=1e-12 * np.abs(inverse).max())
