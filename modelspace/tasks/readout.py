"""Readouts: a small model of the labels on a network's features. Held-out predictions on some images, or on new ones.

A readout is judged twice, on different images: by its predictions for training images that it was not fitted on, which
every choice between networks is made by, and once by its predictions for the test images, which is the score reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.errors import NotFoundError, UsageError
from modelspace.scores import logistic, ridge
from modelspace.scores.inputs import kind
from modelspace.tasks.metrics import Kind

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Predictions for training images, each by a readout of others.

    Attributes:
        value: of the readout, comparable between networks on the same images; higher is better.
        predictions: (n, k) scores of the classes, or (n, 1) numbers.
        errors: (n,) error of each image, lower is better; `value` falls with their mean.
        mistakes: (n,) 1 for an image of another class than predicted, else 0; for regression as `errors`.
        fitted: settings that the held-out errors chose, for `Readout.test`.
    """

    value: float
    predictions: Array
    errors: Array
    mistakes: Array
    fitted: Mapping[str, float]


@dataclass(frozen=True)
class Readout:
    """A kind of readout.

    Attributes:
        name: what users type.
        kinds: kinds of labels that it is for.
        summary: one line.
        held_out: (n, d) features, (n,) labels -> predictions for the same images, each by a readout of others.
        test: (n, d) features, (n,) labels, (m, d) features, the settings found by `held_out` -> (m, k) predictions.
    """

    name: str
    kinds: tuple[Kind, ...]
    summary: str
    held_out: Callable[[Array, ArrayLike], HeldOut]
    test: Callable[[Array, ArrayLike, Array, Mapping[str, float]], Array]


def _ridge_held_out(features: Array, labels: ArrayLike) -> HeldOut:
    left_out = ridge.leave_one_out(features, labels)
    return HeldOut(
        left_out.score, left_out.predictions, left_out.errors, left_out.mistakes, {"penalty": left_out.penalty}
    )


def _ridge_test(features: Array, labels: ArrayLike, asked: Array, fitted: Mapping[str, float]) -> Array:
    return ridge.predict(features, labels, asked, penalty=fitted["penalty"])


def _logistic_held_out(features: Array, labels: ArrayLike) -> HeldOut:
    folds = logistic.held_out(features, labels)
    return HeldOut(
        -float(folds.log_losses.mean()), folds.chances, folds.log_losses, (~folds.correct).astype(np.float64), {}
    )


def _logistic_test(features: Array, labels: ArrayLike, asked: Array, fitted: Mapping[str, float]) -> Array:
    return logistic.predict(features, labels, asked)


#: Name -> readout; the first is the default.
READOUTS: Mapping[str, Readout] = MappingProxyType(
    {
        readout.name: readout
        for readout in (
            Readout(
                "ridge",
                ("classification", "regression"),
                "linear, with a squared penalty chosen by leave-one-out",
                _ridge_held_out,
                _ridge_test,
            ),
            Readout(
                "logistic",
                ("classification",),
                "logistic regression, judged by five folds (scikit-learn)",
                _logistic_held_out,
                _logistic_test,
            ),
        )
    }
)


def readout_for(name: str, labels: ArrayLike) -> Readout:
    """A readout by its name, for these labels.

    Raises:
        NotFoundError: there is no such readout.
        UsageError: it is not for such labels.
    """
    readout = READOUTS.get(name)
    if readout is None:
        raise NotFoundError(f"there is no readout {name!r}", f"use one of {', '.join(READOUTS)}")
    if kind(labels) not in readout.kinds:
        usable = [other.name for other in READOUTS.values() if kind(labels) in other.kinds]
        raise UsageError(f"the readout {name} is not made for {kind(labels)}", f"use {' or '.join(usable)}")
    return readout
