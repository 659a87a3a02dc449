"""Metrics as functions: from predictions and labels to one number.

Predictions of classes are scores, larger for the likelier class: of a ridge readout, logits, or probabilities. With
p_ik the score of class k for image i, c_i the image's class, and y_ik 1 for k = c_i and 0 else:

| metric | formula |
|---|---|
| accuracy | share of the images whose largest score is that of their class; of equal scores the first counts |
| balanced_accuracy | mean over the classes that occur of the share of their images predicted correctly |
| f1 | mean over the classes that occur or are predicted of 2 TP / (2 TP + FP + FN) |
| auroc | mean over the classes that occur of P(p_ik > p_jk) + P(p_ik = p_jk) / 2, c_i = k and c_j ≠ k |
| loss | classes: mean over images of Σ_k (p_ik - y_ik)²; numbers: mean squared error |
| r2 | 1 - Σ_i (p_i - y_i)² / Σ_i (y_i - mean of y)² |
| rmse, mae | root of the mean squared error, mean absolute error |
| spearman | correlation of the ranks, ties sharing their mean rank; 0 if all predictions are equal |

The area under the curve is computed from ranks (Hanley & McNeil, Radiology 1982), one class against the rest. The loss
of classes is the score of Brier (Monthly Weather Review 1950) if scores are probabilities; a cross-entropy is not
defined for the scores of a ridge readout.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from modelspace.errors import UsageError
from modelspace.scores.inputs import check_range

Array = NDArray[np.float64]
Numbers = NDArray[np.intp]


def computable(metric: str) -> bool:
    """Whether `measured` knows the metric; of a metric that a user named it does not.

    >>> computable("f1"), computable("top5")
    (True, False)
    """
    return metric in _OF_CLASSES or metric in _OF_NUMBERS


def measured(metric: str, predictions: ArrayLike, labels: ArrayLike) -> float:
    """The metric's value.

    >>> measured("accuracy", [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 1, 1])
    0.6666666666666666

    Args:
        metric: a name in `modelspace.tasks.metrics.METRICS`.
        predictions: (n, k) scores of k ≥ 2 classes, or (n,) or (n, 1) numbers.
        labels: (n,) numbers of classes, 0..k-1, which need not all occur; or numbers.

    Raises:
        UsageError: the metric is unknown or for the other kind of labels, shapes don't fit, a value is not finite, or
            the metric is not defined, since all labels are the same.
    """
    table = np.asarray(predictions, dtype=np.float64)
    if table.ndim == 2 and table.shape[1] == 1:
        table = table[:, 0]
    known: dict[str, Callable[..., float]] = {**(_OF_CLASSES if table.ndim == 2 else _OF_NUMBERS)}
    if metric not in known:
        raise UsageError(f"{metric!r} can't be computed from {_described(table)}", f"use one of {', '.join(known)}")
    values = np.asarray(labels)
    if table.ndim not in (1, 2) or not len(table) or values.shape != table.shape[:1]:
        raise UsageError(f"predictions of shape {table.shape} don't fit labels of shape {values.shape}")
    if not (np.isfinite(table).all() and np.isfinite(values.astype(np.float64)).all()):
        raise UsageError("a prediction or a label is not finite", "look at the model's output for this data")
    if table.ndim == 1:
        return float(known[metric](table, values.astype(np.float64)))
    if values.dtype.kind not in "iub":
        raise UsageError(f"labels of type {values.dtype} are not classes", "number the classes from 0")
    check_range(values, table.shape[1])
    return float(known[metric](table, values.astype(np.intp)))


def _described(table: Array) -> str:
    return f"scores of {table.shape[1]} classes" if table.ndim == 2 else "one number per image"


# --- classes: scores (n, k), numbers of classes (n,)


def _accuracy(scores: Array, classes: Numbers) -> float:
    return float((scores.argmax(axis=1) == classes).mean())


def _balanced_accuracy(scores: Array, classes: Numbers) -> float:
    correct = scores.argmax(axis=1) == classes
    return float(np.mean([correct[classes == k].mean() for k in np.unique(classes)]))


def _f1(scores: Array, classes: Numbers) -> float:
    predicted = scores.argmax(axis=1)
    k = scores.shape[1]
    hits = np.bincount(classes[predicted == classes], minlength=k)
    # 2 TP + FP + FN: how often the class occurs and is predicted.
    total = np.bincount(classes, minlength=k) + np.bincount(predicted, minlength=k)
    return float(np.mean(2 * hits[total > 0] / total[total > 0]))


def _auroc(scores: Array, classes: Numbers) -> float:
    occurring = np.unique(classes)
    if len(occurring) < 2:
        raise UsageError(f"all {len(classes)} images are of one class: auroc is not defined", "add images of another")
    return float(np.mean([_area(scores[:, k], classes == k) for k in occurring]))


def _area(scores: Array, members: NDArray[np.bool_]) -> float:
    """Area under the curve of one class: the statistic of Mann and Whitney over the number of pairs."""
    n = int(members.sum())
    wins = rankdata(scores)[members].sum() - n * (n + 1) / 2
    return float(wins / (n * (len(members) - n)))


def _brier(scores: Array, classes: Numbers) -> float:
    expected = np.eye(scores.shape[1])[classes]
    return float(((scores - expected) ** 2).sum(axis=1).mean())


# --- numbers: predictions (n,), labels (n,)


def _mean_squared_error(predictions: Array, labels: Array) -> float:
    return float(((predictions - labels) ** 2).mean())


def _rmse(predictions: Array, labels: Array) -> float:
    return math.sqrt(_mean_squared_error(predictions, labels))


def _mae(predictions: Array, labels: Array) -> float:
    return float(np.abs(predictions - labels).mean())


def _r2(predictions: Array, labels: Array) -> float:
    _check_varied(labels, "r2")
    return 1.0 - _mean_squared_error(predictions, labels) / float(((labels - labels.mean()) ** 2).mean())


def _spearman(predictions: Array, labels: Array) -> float:
    _check_varied(labels, "spearman")
    if (predictions == predictions[0]).all():
        return 0.0
    return float(np.corrcoef(rankdata(predictions), rankdata(labels))[0, 1])


def _check_varied(labels: Array, metric: str) -> None:
    if (labels == labels[0]).all():
        raise UsageError(
            f"all {len(labels)} labels are {labels[0]:g}: {metric} is not defined", "add images with other labels"
        )


_OF_CLASSES: dict[str, Callable[[Array, Numbers], float]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "auroc": _auroc,
    "loss": _brier,
}
_OF_NUMBERS: dict[str, Callable[[Array, Array], float]] = {
    "loss": _mean_squared_error,
    "r2": _r2,
    "rmse": _rmse,
    "mae": _mae,
    "spearman": _spearman,
}
