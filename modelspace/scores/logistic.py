"""Logistic regression on held-out images, by scikit-learn.

Multinomial logistic regression (Cox, J. Roy. Stat. Soc. B 1958) with a squared penalty: it minimises |w|²/2 + C Σ_i
-log p(y_i | x_i) over the images of four folds of five and predicts the fifth. Features are standardised and divided by
the root of the number of those that vary, so that C means the same for any d. They are rotated to their singular
directions first, at most as many as images: the solution of a penalty on |w|² stays the same.

Each class is spread over the folds as evenly as it goes, in an order drawn by the seed. A class with one image is
unknown to the readout of the other folds, so it counts as an error; where a fold leaves one class alone to learn from,
that class is predicted. Constant features predict the most frequent class.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.errors import UsageError
from modelspace.scores.inputs import Array, Classes, classes, standardised, standardised_with
from modelspace.scores.spectrum import spectrum

#: Weight of the images against the penalty.
C = 10.0
FOLDS = 5
STEPS = 200


@dataclass(frozen=True)
class HeldOut:
    """Predictions of the readouts for images that they were not trained on.

    Attributes:
        correct: (n,) bool, whether the most likely class is the image's.
        log_losses: (n,) -log p(y_i | x_i) in nats; p is at least 1e-12.
        chances: (n, k) probabilities of the k classes that occur.
    """

    correct: NDArray[np.bool_]
    log_losses: Array
    chances: Array


def score(features: ArrayLike, labels: ArrayLike, *, c: float = C, folds: int = FOLDS, seed: int = 0) -> float:
    """Share of held-out images classified correctly, in [0, 1]; arguments as `held_out`."""
    return float(held_out(features, labels, c=c, folds=folds, seed=seed).correct.mean())


def held_out(features: ArrayLike, labels: ArrayLike, *, c: float = C, folds: int = FOLDS, seed: int = 0) -> HeldOut:
    """Every image predicted by the readout of the other folds.

    Args:
        features: (n, d).
        labels: (n,) integers.
        c: weight of the images against the penalty, above 0.
        folds: 2 or more; no more than images.
        seed: of the folds.

    Raises:
        UsageError: see `modelspace.scores.inputs`; c or folds out of range; scikit-learn is missing.
    """
    if not c > 0 or folds < 2:
        raise UsageError(f"logistic regression can't use c={c} with {folds} folds", "use c above 0 and 2 folds or more")
    table = standardised(features)
    numbers = classes(labels, len(table))
    left, values = spectrum(table)
    varying = max(int((table != 0).any(axis=0).sum()), 1)
    coordinates = left * np.sqrt(values / varying) if len(values) else np.zeros((len(table), 1))
    fold = stratified(numbers, min(folds, len(table)), seed)
    chances = np.zeros((len(table), int(numbers.max()) + 1))
    for number in np.unique(fold):
        out = fold == number
        chances[out] = _predict(coordinates[~out], numbers[~out], coordinates[out], chances.shape[1], c)
    own = chances[np.arange(len(table)), numbers]
    return HeldOut(chances.argmax(axis=1) == numbers, -np.log(np.maximum(own, 1e-12)), chances)


def predict(features: ArrayLike, labels: ArrayLike, asked: ArrayLike, *, c: float = C) -> Array:
    """Probabilities of the classes for new images, from a readout of all the images given.

    Args:
        features: (n, d).
        labels: (n,) integers.
        asked: (m, d), standardised as `features` are.
        c: as in `held_out`.

    Returns:
        (m, k) for the k classes that occur in `labels`, in their order.

    Raises:
        UsageError: see `held_out`.
    """
    table, new = standardised_with(features, asked)
    numbers = classes(labels, len(table))
    scale = np.sqrt(max(int((table != 0).any(axis=0).sum()), 1))
    left, values = spectrum(table)
    if not len(values):
        return _predict(np.zeros((len(table), 1)), numbers, np.zeros((len(new), 1)), int(numbers.max()) + 1, c)
    directions = table.T @ (left / np.sqrt(values))
    return _predict(table @ directions / scale, numbers, new @ directions / scale, int(numbers.max()) + 1, c)


def stratified(numbers: Classes, folds: int, seed: int) -> Classes:
    """(n,) fold of each image: within each class, and over all, fold sizes differ by 1 at most."""
    order = np.random.default_rng(seed).permutation(len(numbers))
    order = order[np.argsort(numbers[order], kind="stable")]
    result = np.empty(len(numbers), dtype=np.intp)
    result[order] = np.arange(len(numbers)) % folds
    return result


def _predict(known: Array, numbers: Classes, asked: Array, n_classes: int, c: float) -> Array:
    """(asked, classes) probabilities; 0 for a class that is not among those known."""
    result = np.zeros((len(asked), n_classes))
    present = np.unique(numbers)
    if len(present) == 1:
        result[:, present] = 1.0
        return result
    model = _regression()(C=c, max_iter=STEPS, tol=1e-4)
    with warnings.catch_warnings():
        # If a readout separates all images, its last steps don't change the ranking.
        warnings.filterwarnings("ignore", category=_convergence_warning())
        model.fit(known, numbers)
    result[:, present] = model.predict_proba(asked)
    return result


def _regression() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise UsageError(
            "the logistic score needs scikit-learn, which is not installed",
            "pip install scikit-learn, or use score ridge",
        ) from None
    return LogisticRegression


def _convergence_warning() -> type[Warning]:
    from sklearn.exceptions import ConvergenceWarning

    warning: type[Warning] = ConvergenceWarning
    return warning
