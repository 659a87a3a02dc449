"""The inputs of every score: features and labels, checked once, in the form that the formulas use."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.errors import UsageError

Array = NDArray[np.float64]
Classes = NDArray[np.intp]

#: Beyond this a square of a square is not finite in float64.
LARGEST = 1e75
#: A column whose standard deviation is below this share of its largest value is constant.
CONSTANT = 1e-9


def kind(labels: ArrayLike) -> Literal["classification", "regression"]:
    """Integers and booleans are classes, floats are numbers.

    Raises:
        UsageError: they are neither.
    """
    dtype = np.asarray(labels).dtype
    if dtype.kind in "iub":
        return "classification"
    if dtype.kind == "f":
        return "regression"
    raise UsageError(f"labels of type {dtype} are neither classes nor numbers", "number the classes from 0")


def check_range(labels: ArrayLike, n_classes: int) -> None:
    """Labels must be within 0..n_classes-1.

    Raises:
        UsageError: one of them is not, or there are fewer than two classes.
    """
    values = np.asarray(labels)
    if n_classes < 2:
        raise UsageError(f"a task with {n_classes} classes leaves nothing to tell apart")
    if values.size and not 0 <= int(values.min()) <= int(values.max()) < n_classes:
        raise UsageError(f"labels from {values.min()} to {values.max()} don't fit {n_classes} classes from 0")


def checked(features: ArrayLike) -> Array:
    """(n, d) float64; n is 2 or more, d is 1 or more.

    Raises:
        UsageError: another shape, or a value that is not finite.
    """
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 1:
        raise UsageError(f"features have shape {values.shape}", "give one row of numbers for each image")
    if len(values) < 2:
        raise UsageError(f"{len(values)} images are too few for a score from labels", "use 2 or more, better hundreds")
    if not (np.abs(values) < LARGEST).all():
        raise UsageError("features hold a value that is not finite", "look at the image and the layer that gave it")
    return values


def classes(labels: ArrayLike, n: int) -> Classes:
    """(n,) numbers 0..k-1 of the k classes that occur, in the order of the labels.

    Raises:
        UsageError: not n integers; one class alone; one image for each class.
    """
    values = np.asarray(labels)
    _check_length(values, n)
    if values.dtype.kind not in "iub":
        raise UsageError(f"labels of type {values.dtype} are not classes", "number the classes from 0")
    names, numbers = np.unique(values, return_inverse=True)
    if len(names) < 2:
        raise UsageError(f"all {n} images are of one class: nothing can be told apart", "add images of another class")
    if len(names) == n:
        raise UsageError(f"each of {n} classes has one image: nothing can be learned", "add images of each class")
    return numbers.reshape(-1).astype(np.intp)


def numbers(labels: ArrayLike, n: int) -> Array:
    """(n,) float64.

    Raises:
        UsageError: not n finite numbers, or all equal.
    """
    values = np.asarray(labels, dtype=np.float64)
    _check_length(values, n)
    if not (np.abs(values) < LARGEST).all():
        raise UsageError("labels hold a value that is not finite", "leave out the images that have no label")
    if np.ptp(values) == 0:
        raise UsageError(f"all {n} labels are {values[0]:g}: there is nothing to predict")
    return values


def targets(labels: ArrayLike, n: int) -> Array:
    """(n, k) columns to predict: one-hot for k classes, one column for numbers."""
    if kind(labels) == "classification":
        return one_hot(classes(labels, n))
    return numbers(labels, n)[:, None]


def one_hot(numbers: Classes) -> Array:
    """(n, k) float64 of (n,) class numbers 0..k-1."""
    result: Array = np.eye(int(numbers.max()) + 1)[numbers]
    return result


def standardised(features: ArrayLike) -> Array:
    """(n, d) with mean 0 and standard deviation 1 (of n, not n - 1) in each column; 0 where a column is constant."""
    values = checked(features)
    centred = values - values.mean(axis=0)
    deviation = np.sqrt((centred**2).mean(axis=0))
    varies = deviation > CONSTANT * np.abs(values).max(axis=0)
    return np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0)


def standardised_with(features: ArrayLike, asked: ArrayLike) -> tuple[Array, Array]:
    """Features standardised as by `standardised`, and new ones by the same means and deviations.

    Args:
        features: (n, d).
        asked: (m, d); m may be 0.

    Raises:
        UsageError: as `checked`; the two have another number of columns.
    """
    values = checked(features)
    new = np.asarray(asked, dtype=np.float64)
    if new.ndim != 2 or new.shape[1] != values.shape[1]:
        raise UsageError(f"features of shape {values.shape} say nothing about features of shape {new.shape}")
    if not (np.abs(new) < LARGEST).all():
        raise UsageError("features hold a value that is not finite", "look at the image and the layer that gave it")
    mean = values.mean(axis=0)
    deviation = np.sqrt(((values - mean) ** 2).mean(axis=0))
    varies = deviation > CONSTANT * np.abs(values).max(axis=0)
    scale = np.where(varies, deviation, 1.0)
    return np.where(varies, (values - mean) / scale, 0.0), np.where(varies, (new - mean) / scale, 0.0)


def centred(features: ArrayLike) -> Array:
    """(n, d) with mean 0 in each column; exactly 0 where a column is constant (see `CONSTANT`)."""
    values = checked(features)
    moved = values - values.mean(axis=0)
    varies = np.sqrt((moved**2).mean(axis=0)) > CONSTANT * np.abs(values).max(axis=0)
    return np.where(varies, moved, 0.0)


def probabilities(class_outputs: ArrayLike) -> Array:
    """(n, z) float64, each row non-negative with sum 1 (to 1e-3; made exact).

    Raises:
        UsageError: another shape, or rows that are no probabilities.
    """
    values = checked(class_outputs)
    sums = values.sum(axis=1, keepdims=True)
    if (values < 0).any() or (np.abs(sums - 1) > 1e-3).any():
        raise UsageError("class outputs are not probabilities", "apply a softmax to the logits first")
    result: Array = values / sums
    return result


def _check_length(labels: NDArray[np.generic], n: int) -> None:
    if labels.shape != (n,):
        raise UsageError(f"labels have shape {labels.shape}, but there are {n} images", "give one label for each image")
