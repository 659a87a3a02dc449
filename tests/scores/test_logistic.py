"""Folds and readouts of the logistic score against plain scikit-learn and a slow optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from modelspace.scores import logistic

pytest.importorskip("sklearn")


def data(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + d)
    labels = np.arange(n) % 3
    return rng.normal(size=(n, d)) + np.eye(3)[labels] @ rng.normal(size=(3, d)), labels


def slow_readout(x: np.ndarray, labels: np.ndarray, asked: np.ndarray, c: float) -> np.ndarray:
    """Probabilities by minimising the penalised loss over weights and intercepts, with no rotation."""
    n, d = x.shape
    k = labels.max() + 1

    def loss(flat: np.ndarray) -> float:
        w, b = flat[: d * k].reshape(d, k), flat[d * k :]
        logits = x @ w + b
        return 0.5 * (w**2).sum() + c * (logsumexp(logits, axis=1) - logits[np.arange(n), labels]).sum()

    flat = minimize(loss, np.zeros(d * k + k), method="BFGS", options={"gtol": 1e-6}).x
    logits = asked @ flat[: d * k].reshape(d, k) + flat[d * k :]
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


@pytest.mark.first(1)
@pytest.mark.parametrize("shape", [(30, 4), (24, 40)])
def test_images_are_predicted_by_the_readout_of_the_other_folds(shape: tuple[int, int]) -> None:
    features, labels = data(*shape)
    x = (features - features.mean(axis=0)) / features.std(axis=0) / np.sqrt(shape[1])
    fold = logistic.stratified(labels, 3, seed=1)
    chances = np.zeros((len(labels), 3))
    for number in range(3):
        out = fold == number
        chances[out] = slow_readout(x[~out], labels[~out], x[out], 5.0)
    result = logistic.held_out(features, labels, c=5.0, folds=3, seed=1)
    assert result.log_losses == pytest.approx(-np.log(chances[np.arange(len(labels)), labels]), abs=0.02)
    assert (result.correct == (chances.argmax(axis=1) == labels)).mean() > 0.95
    assert logistic.score(features, labels, c=5.0, folds=3, seed=1) == result.correct.mean()


def test_folds_spread_each_class() -> None:
    labels = np.array([0] * 13 + [1] * 7 + [2])
    fold = logistic.stratified(labels, 5, seed=3)
    for label in range(3):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert np.ptp(counts) <= 1
    assert np.ptp(np.bincount(fold)) <= 1
    assert (fold == logistic.stratified(labels, 5, seed=3)).all()
    assert (fold != logistic.stratified(labels, 5, seed=4)).any()


def test_a_class_that_is_not_in_the_other_folds_is_an_error() -> None:
    features, labels = data(21, 4)
    labels = np.where(labels == 2, 0, labels)
    labels[0] = 2
    assert not logistic.held_out(features, labels).correct[0]


def test_folds_that_leave_one_class_predict_it() -> None:
    result = logistic.held_out(np.array([[0.0], [1.0], [2.0]]), np.array([0, 0, 1]), folds=3)
    assert result.correct.tolist() == [True, True, False] or not result.correct[2]
