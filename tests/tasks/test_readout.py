"""Readouts: held-out predictions on training images and predictions for new ones agree with slow twins."""

from __future__ import annotations

import numpy as np
import pytest

from modelspace.errors import NotFoundError, UsageError
from modelspace.scores import logistic, ridge
from modelspace.tasks.readout import READOUTS, readout_for


def planted(n: int = 120, d: int = 20, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    features = rng.normal(size=(n, d))
    features[:, :k] += 4 * np.eye(k)[labels]
    return features * rng.uniform(0.1, 10, size=d), labels


@pytest.mark.parametrize("name", list(READOUTS))
def test_a_planted_difference_is_found_on_held_out_and_on_new_images(name: str) -> None:
    features, labels = planted()
    readout = readout_for(name, labels)
    held_out = readout.held_out(features[:90], labels[:90])
    assert held_out.predictions.shape == (90, 3)
    assert held_out.mistakes.mean() < 0.2
    assert set(np.unique(held_out.mistakes)) <= {0.0, 1.0}
    assert (held_out.mistakes == (held_out.predictions.argmax(axis=1) != labels[:90])).all()
    predictions = readout.test(features[:90], labels[:90], features[90:], held_out.fitted)
    assert (predictions.argmax(axis=1) == labels[90:]).mean() > 0.8
    noise = readout.held_out(np.random.default_rng(1).normal(size=(90, 20)), labels[:90])
    assert noise.value < held_out.value
    assert noise.errors.mean() > held_out.errors.mean()


def test_ridge_predictions_are_those_of_the_normal_equations() -> None:
    features, labels = planted(60, 12)
    asked = np.random.default_rng(3).normal(size=(7, 12))
    penalty = 0.05
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    x, y = (features - mean) / deviation, np.eye(3)[labels]
    strength = penalty * (x**2).sum() / len(x)
    weights = np.linalg.solve(x.T @ x + strength * np.eye(12), x.T @ (y - y.mean(axis=0)))
    expected = (asked - mean) / deviation @ weights + y.mean(axis=0)
    assert np.allclose(ridge.predict(features, labels, asked, penalty=penalty), expected, atol=1e-10)


def test_a_left_out_image_is_predicted_as_by_a_readout_without_it() -> None:
    # Standardised by all images, as the score is: the fast formula against fitting anew.
    features, labels = planted(30, 5)
    table = (features - features.mean(axis=0)) / features.std(axis=0)
    left_out = ridge.leave_one_out(features, labels)
    y = np.eye(3)[labels]
    strength = left_out.penalty * (table**2).sum() / len(table)
    for k in (0, 13, 29):
        rest = np.arange(30) != k
        x, mean = table[rest] - table[rest].mean(axis=0), y[rest].mean(axis=0)
        weights = np.linalg.solve(x.T @ x + strength * np.eye(5), x.T @ (y[rest] - mean))
        predicted = (table[k] - table[rest].mean(axis=0)) @ weights + mean
        assert np.allclose(left_out.predictions[k], predicted, atol=1e-8)


def test_logistic_predictions_are_those_of_scikit_learn_on_the_features() -> None:
    from sklearn.linear_model import LogisticRegression

    features, labels = planted(80, 10)
    asked = np.random.default_rng(3).normal(size=(9, 10))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = np.sqrt(10)
    model = LogisticRegression(C=logistic.C, max_iter=1000, tol=1e-8)
    model.fit((features - mean) / deviation / scale, labels)
    expected = model.predict_proba((asked - mean) / deviation / scale)
    assert np.allclose(logistic.predict(features, labels, asked), expected, atol=2e-2)


def test_numbers_are_for_ridge_alone() -> None:
    features, labels = planted()
    values = features[:, 0] + 0.1
    readout = readout_for("ridge", values)
    held_out = readout.held_out(features, values)
    assert held_out.value > 0.99
    assert np.array_equal(held_out.mistakes, held_out.errors)
    assert readout.test(features, values, features[:4], held_out.fitted).shape == (4, 1)
    with pytest.raises(UsageError, match="not made for regression"):
        readout_for("logistic", values)
    with pytest.raises(NotFoundError, match="no readout 'svm'"):
        readout_for("svm", labels)


@pytest.mark.parametrize("name", list(READOUTS))
def test_constant_features_predict_the_commonest(name: str) -> None:
    labels = np.array([0, 0, 0, 1] * 6)
    readout = readout_for(name, labels)
    held_out = readout.held_out(np.ones((24, 3)), labels)
    predictions = readout.test(np.ones((24, 3)), labels, np.ones((2, 3)), held_out.fitted)
    assert predictions.argmax(axis=1).tolist() == [0, 0]


def test_new_features_of_another_width_or_not_finite_are_refused() -> None:
    features, labels = planted()
    with pytest.raises(UsageError, match="say nothing about"):
        ridge.predict(features, labels, np.ones((2, 3)), penalty=1.0)
    with pytest.raises(UsageError, match="not finite"):
        ridge.predict(features, labels, np.full((2, 20), np.nan), penalty=1.0)
    with pytest.raises(UsageError, match="above zero"):
        ridge.predict(features, labels, features, penalty=0.0)
