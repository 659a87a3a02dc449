"""Ridge readout evaluated by leave-one-out: the default score.

A linear readout b + x·w with penalty λ|w|² (Hoerl & Kennard, Technometrics 1970) predicts the labels (one column per
class, 1 for the image's class and 0 else; the number itself for regression) from standardised features; the intercept b
is not penalised. Every image is predicted by the readout of all others, without refitting (Allen, Technometrics 1974;
Golub, Heath & Wahba, Technometrics 1979):

    y_i - ŷ_i⁻ = (y_i - ŷ_i) / (1 - h_ii),    h = 1 1ᵀ / n + U diag(s² / (s² + λ)) Uᵀ,

with U and s the left singular vectors and values of the centred features. One λ serves all columns, the one of least
squared error; a λ without end, which predicts the mean of the others, is among them. The score is

    1 - Σ_i |y_i - ŷ_i⁻|² / Σ_i |y_i - mean of the others|²,

in [0, 1]: 0 says that the features are of no use, 1 that they tell everything. Standardisation sees all images, labels
none; choosing λ on the same errors makes the score slightly high, for all models alike.

Constant features give 0. A class with one image is predicted from the others' images, so it counts as an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.errors import UsageError
from modelspace.scores.inputs import Array, classes, kind, standardised, standardised_with, targets
from modelspace.scores.spectrum import spectrum

#: λ in units of the mean squared norm of the standardised features (the number of those that vary).
PENALTIES = (*np.logspace(-4, 4, 17).tolist(), math.inf)


@dataclass(frozen=True)
class Readout:
    """A ridge readout, every image predicted from the others.

    Attributes:
        score: 1 - sum of `errors` / sum of `baseline`.
        penalty: the λ that was chosen, one of the penalties given.
        predictions: (n, k) for k classes, (n, 1) for regression.
        errors: (n,) squared error of each image, summed over the columns, times its weight.
        baseline: (n,) likewise for the mean of the other images.
        weights: (n,) of the images, mean 1; all 1 unless balanced.
        correct: (n,) bool, whether the largest prediction is that of the image's class; None for regression.
    """

    score: float
    penalty: float
    predictions: Array
    errors: Array
    baseline: Array
    weights: Array
    correct: NDArray[np.bool_] | None

    @property
    def mistakes(self) -> Array:
        """(n,) 1 for an image of another class than predicted, else 0; `errors` for regression."""
        return self.errors if self.correct is None else (~self.correct).astype(np.float64)

    @property
    def accuracy(self) -> float:
        """Share of the images predicted correctly, weighted as the errors are; NaN for regression."""
        return math.nan if self.correct is None else float(np.average(self.correct, weights=self.weights))


def score(
    features: ArrayLike, labels: ArrayLike, *, balanced: bool = False, penalties: Sequence[float] = PENALTIES
) -> float:
    """Share of the leave-one-out squared error that the features remove, in [0, 1]; see `leave_one_out`."""
    return leave_one_out(features, labels, balanced=balanced, penalties=penalties).score


def leave_one_out(
    features: ArrayLike, labels: ArrayLike, *, balanced: bool = False, penalties: Sequence[float] = PENALTIES
) -> Readout:
    """The readout with the smallest leave-one-out error, with its prediction for every image.

    Args:
        features: (n, d).
        labels: (n,) integers for classes, floats for regression.
        balanced: weight images so that all classes have the same weight, in the fit and in the errors.
        penalties: λ to choose from, positive, in units of the mean squared norm of the features.

    Raises:
        UsageError: see `modelspace.scores.inputs`; a penalty that is not positive; balanced regression.
    """
    if not penalties or not all(penalty > 0 for penalty in penalties):
        raise UsageError(f"ridge penalties must be above zero, not {tuple(penalties)}")
    table = standardised(features)
    expected = targets(labels, len(table))
    weights = _weights(labels, len(table), balanced)
    root = np.sqrt(weights)[:, None]
    share = weights / weights.sum()
    left, values = spectrum(root * (table - share @ table))
    residual = root * (expected - share @ expected)
    fit = _Fit(left, values, left.T @ residual, residual, share)
    totals = [float((fit.left_out(penalty) ** 2).sum()) for penalty in penalties]
    best = penalties[int(np.argmin(totals))]
    gaps = fit.left_out(best)
    errors, baseline = (gaps**2).sum(axis=1), (fit.left_out(math.inf) ** 2).sum(axis=1)
    predictions = expected - gaps / root
    correct = None
    if kind(labels) == "classification":
        correct = predictions.argmax(axis=1) == classes(labels, len(table))
    value = 1.0 - float(errors.sum() / baseline.sum())
    return Readout(value, float(best), predictions, errors, baseline, weights, correct)


def predict(features: ArrayLike, labels: ArrayLike, asked: ArrayLike, *, penalty: float) -> Array:
    """Predictions of the readout of all images for new ones.

    Args:
        features: (n, d).
        labels: (n,) integers for classes, floats for regression.
        asked: (m, d), standardised as `features` are.
        penalty: λ, above 0, in units of the mean squared norm of the features, as `Readout.penalty`.

    Returns:
        (m, k) for the k classes that occur in `labels`, in their order; (m, 1) for regression.

    Raises:
        UsageError: see `leave_one_out`; the new features have another width.
    """
    if not penalty > 0:
        raise UsageError(f"ridge penalties must be above zero, not {penalty}")
    table, new = standardised_with(features, asked)
    expected = targets(labels, len(table))
    mean = expected.mean(axis=0)
    left, values = spectrum(table)
    if math.isinf(penalty) or not len(values):
        return np.tile(mean, (len(new), 1))
    ridge = penalty * values.sum() / len(table)
    # w = Xᵀ U diag(1 / (s² + λ)) Uᵀ (y - ȳ), with Xᵀ U = V diag(s).
    weights = table.T @ (left @ ((left.T @ (expected - mean)) / (values + ridge)[:, None]))
    result: Array = new @ weights + mean
    return result


@dataclass(frozen=True)
class _Fit:
    """Everything that does not depend on λ; rows are scaled by the root of their weights.

    Attributes:
        left: (n, r) singular directions.
        values: (r,) squared singular values.
        along: (r, k) the targets in these directions.
        residual: (n, k) of the mean.
        share: (n,) leverage of the intercept.
    """

    left: Array
    values: Array
    along: Array
    residual: Array
    share: Array

    def left_out(self, penalty: float) -> Array:
        """(n, k) target minus prediction of the readout of all other images; the penalty in units of |x|²."""
        if math.isinf(penalty) or not len(self.values):
            return self.residual / (1.0 - self.share)[:, None]
        kept = self.values / (self.values + penalty * self.values.sum() / len(self.share))
        leverage = self.left**2 @ kept
        misfit = self.residual - self.left @ (kept[:, None] * self.along)
        result: Array = misfit / (1.0 - self.share - leverage)[:, None]
        return result


def _weights(labels: ArrayLike, n: int, balanced: bool) -> Array:
    if not balanced:
        return np.ones(n)
    if kind(labels) == "regression":
        raise UsageError("regression has no classes to balance", "leave the balancing out")
    numbers = classes(labels, n)
    counts = np.bincount(numbers)
    weights: Array = n / (len(counts) * counts[numbers])
    return weights
