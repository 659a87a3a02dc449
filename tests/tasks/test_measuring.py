"""Metrics against scikit-learn and scipy, with ties, absent classes and constant predictions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as sklearn_metrics

from modelspace.errors import UsageError
from modelspace.tasks.measuring import computable, measured
from modelspace.tasks.metrics import METRICS


@st.composite
def classified(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores on a coarse grid, so that ties are common, and labels that may leave classes out."""
    n, k = draw(st.integers(2, 25)), draw(st.integers(2, 5))
    levels = draw(st.sampled_from([1, 3, 1000]))
    cells = draw(st.lists(st.integers(0, levels - 1), min_size=n * k, max_size=n * k))
    labels = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    return np.array(cells, dtype=float).reshape(n, k) / 8 - 1, np.array(labels)


@st.composite
def predicted(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Predictions with ties, possibly all the same, and labels with at least two values."""
    n = draw(st.integers(2, 25))
    number = st.integers(-4, 4) if draw(st.booleans()) else st.integers(-1000, 1000)
    predictions = draw(st.lists(number, min_size=n, max_size=n))
    labels = draw(st.lists(number, min_size=n, max_size=n).filter(lambda values: len(set(values)) > 1))
    return np.array(predictions) / 4, np.array(labels) / 8


@pytest.mark.wide
@given(classified())
def test_metrics_of_classes(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    guess = scores.argmax(axis=1)
    one_hot = np.eye(scores.shape[1])[labels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on classes that are predicted and don't occur
        balanced = sklearn_metrics.balanced_accuracy_score(labels, guess)
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, guess),
        "balanced_accuracy": balanced,
        "f1": sklearn_metrics.f1_score(labels, guess, average="macro"),
        "loss": sum(float(np.square(row).sum()) for row in scores - one_hot) / len(labels),
    }
    for metric, value in expected.items():
        assert measured(metric, scores, labels) == pytest.approx(value, abs=1e-12), metric


@pytest.mark.wide
@given(classified())
def test_auroc(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    present = np.unique(labels)
    if len(present) < 2:
        with pytest.raises(UsageError, match="of one class: auroc is not defined"):
            measured("auroc", scores, labels)
        return
    areas = [sklearn_metrics.roc_auc_score(labels == k, scores[:, k]) for k in present]
    assert measured("auroc", scores, labels) == pytest.approx(np.mean(areas), abs=1e-12)


def test_auroc_is_that_of_probabilities_in_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), 200)
    labels = generator.integers(0, 4, 200)
    expected = sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert measured("auroc", probabilities, labels) == pytest.approx(expected)
    binary, classes = probabilities[:, :1] / 1.5, labels % 2
    expected = sklearn_metrics.roc_auc_score(classes, binary[:, 0])
    assert measured("auroc", np.hstack([1 - binary, binary]), classes) == pytest.approx(expected)


@given(predicted())
def test_metrics_of_numbers(case: tuple[np.ndarray, np.ndarray]) -> None:
    predictions, labels = case
    squared = sklearn_metrics.mean_squared_error(labels, predictions)
    expected = {
        "loss": squared,
        "rmse": squared**0.5,
        "mae": sklearn_metrics.mean_absolute_error(labels, predictions),
        "r2": sklearn_metrics.r2_score(labels, predictions),
        "spearman": 0.0 if len(set(predictions)) == 1 else spearmanr(predictions, labels).statistic,
    }
    for metric, value in expected.items():
        assert measured(metric, predictions, labels) == pytest.approx(value, rel=1e-9, abs=1e-9), metric
        assert measured(metric, predictions[:, None], labels) == measured(metric, predictions, labels)


def test_every_known_metric_is_computed() -> None:
    assert all(computable(name) for name in METRICS)
    assert not computable("top5")
    for name, metric in METRICS.items():
        for kind in metric.kinds:
            table = [[1.0, 0.0], [0.0, 1.0]] if kind == "classification" else [0.0, 1.0]
            best = 1.0 if metric.higher_is_better else 0.0
            assert measured(name, table, [0, 1]) == pytest.approx(best)


def test_constant_predictions_know_nothing() -> None:
    assert measured("auroc", np.ones((6, 3)), [0, 1, 2, 0, 1, 2]) == 0.5
    assert measured("accuracy", np.ones((6, 3)), [0, 1, 2, 1, 1, 2]) == pytest.approx(1 / 6)
    assert measured("spearman", [2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) == 0.0
    assert measured("r2", [2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) == 0.0


@pytest.mark.parametrize(
    ("metric", "predictions", "labels", "message"),
    [
        ("top5", [[1.0, 0.0]], [0], "'top5' can't be computed from scores of 2 classes"),
        ("r2", [[1.0, 0.0]], [0], "'r2' can't be computed from scores of 2 classes"),
        ("accuracy", [1.0], [0], "'accuracy' can't be computed from one number per image"),
        ("accuracy", [[1.0, 0.0]], [0, 1], r"shape \(1, 2\) don't fit labels of shape \(2,\)"),
        ("accuracy", np.ones((0, 2)), [], "don't fit"),
        ("accuracy", [[1.0, np.nan]], [0], "not finite"),
        ("rmse", [1.0], [np.inf], "not finite"),
        ("accuracy", [[1.0, 0.0]], [2], "don't fit 2 classes"),
        ("accuracy", [[1.0, 0.0]], [0.0], "are not classes"),
        ("r2", [1.0, 2.0], [3.0, 3.0], "all 2 labels are 3: r2 is not defined"),
        ("spearman", [1.0, 2.0], [3.0, 3.0], "spearman is not defined"),
    ],
)
def test_refusals(metric: str, predictions: object, labels: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measured(metric, predictions, labels)
