"""The leave-one-out readout against one that is fitted n times, image by image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modelspace.scores import ridge


def slow(
    features: np.ndarray, wanted: np.ndarray, penalty: float, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of each image by the readout of all others and by their mean; normal equations with an intercept."""
    table = (features - features.mean(axis=0)) / features.std(axis=0)
    n, d = table.shape
    share = weights / weights.sum()
    unit = (weights[:, None] * (table - share @ table) ** 2).sum() / n
    predictions, means = np.empty_like(wanted), np.empty_like(wanted)
    for i in range(n):
        others = np.arange(n) != i
        x = np.column_stack([np.ones(n - 1), table[others]])
        w = weights[others]
        shrink = np.diag([0.0, *np.full(d, penalty * unit)])
        solution = np.linalg.solve(x.T @ (w[:, None] * x) + shrink, x.T @ (w[:, None] * wanted[others]))
        predictions[i] = np.array([1.0, *table[i]]) @ solution
        means[i] = w @ wanted[others] / w.sum()
    return predictions, means


def data(n: int, d: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + d)
    classes = np.array([0, 0, 0, 1, 1, 2] * n)[:n]
    features = rng.normal(size=(n, d)) + np.eye(3)[classes] @ rng.normal(size=(3, d))
    if kind == "classes":
        return features, classes, np.eye(3)[classes]
    numbers = features[:, 0] + rng.normal(size=n)
    return features, numbers, numbers[:, None]


@pytest.mark.parametrize("shape", [(24, 5), (18, 17), (18, 18), (14, 60)])
@pytest.mark.parametrize(("kind", "balanced"), [("classes", False), ("classes", True), ("numbers", False)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 30.0])
def test_errors_are_those_of_n_readouts(shape: tuple[int, int], kind: str, balanced: bool, penalty: float) -> None:
    features, labels, wanted = data(*shape, kind)
    weights = np.ones(len(labels))
    if balanced:
        weights = np.array([len(labels) / (3 * (labels == label).sum()) for label in labels])
    predictions, means = slow(features, wanted, penalty, weights)
    readout = ridge.leave_one_out(features, labels, balanced=balanced, penalties=[penalty])
    assert readout.predictions == pytest.approx(predictions, abs=1e-8)
    assert readout.errors == pytest.approx(weights * ((wanted - predictions) ** 2).sum(axis=1), abs=1e-8)
    assert readout.baseline == pytest.approx(weights * ((wanted - means) ** 2).sum(axis=1), abs=1e-10)
    assert readout.score == pytest.approx(1 - readout.errors.sum() / readout.baseline.sum())
    if kind == "classes":
        assert readout.correct is not None
        assert (readout.correct == (predictions.argmax(axis=1) == labels)).all()
        assert readout.accuracy == pytest.approx((weights * readout.correct).sum() / len(labels))
    else:
        assert readout.correct is None
        assert math.isnan(readout.accuracy)


def test_the_penalty_is_the_one_of_least_error() -> None:
    features, labels, wanted = data(24, 5, "classes")
    readout = ridge.leave_one_out(features, labels)
    errors = []
    for penalty in ridge.PENALTIES[:-1]:
        predictions, _ = slow(features, wanted, penalty, np.ones(24))
        errors.append(((wanted - predictions) ** 2).sum())
    assert readout.penalty == ridge.PENALTIES[int(np.argmin(errors))]
    assert readout.errors.sum() == pytest.approx(min(errors))


def test_features_of_no_use_are_left_alone() -> None:
    rng = np.random.default_rng(1)
    values = [ridge.score(rng.normal(size=(40, 30)), np.arange(40) % 4) for _ in range(20)]
    assert min(values) == 0.0
    assert max(values) < 0.1


def test_features_that_tell_everything_score_one() -> None:
    labels = np.arange(60) % 3
    assert ridge.score(np.eye(3)[labels], labels) > 0.999


def test_balanced_classes_weigh_the_same() -> None:
    labels = np.array([0] * 40 + [1] * 4)
    features = np.random.default_rng(0).normal(size=(44, 3)) + labels[:, None]
    readout = ridge.leave_one_out(features, labels, balanced=True)
    assert readout.weights[labels == 0].sum() == pytest.approx(readout.weights[labels == 1].sum())
    assert readout.weights.mean() == pytest.approx(1.0)
    assert readout.score > 0
