"""GBC: Gaussian Bhattacharyya coefficient (Pándy et al., CVPR 2022).

Each class is a Gaussian in the space of the first 64 principal components; the score is minus the overlap of all pairs
of classes,

    GBC = -Σ_{i≠j} exp(-D_ij),
    D_ij = 1/8 (μ_i - μ_j)ᵀ S⁻¹ (μ_i - μ_j) + 1/2 log(|S| / √(|S_i| |S_j|)),    S = (S_i + S_j) / 2,

with spherical (the paper's best) or diagonal covariances. In [-k (k - 1), 0] for k classes.

A variance is at least 1e-3 of the one within all classes, or 1e-9 of the total where classes are points: at 0 the
distance has no value. A class with one image has no variance of its own and takes the one within all classes. Constant
features give -k (k - 1): all classes are one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from modelspace.errors import UsageError
from modelspace.scores.inputs import Array, Classes, centred, checked, classes, one_hot
from modelspace.scores.spectrum import spectrum

SHAPES = ("spherical", "diagonal")
COMPONENTS = 64
#: Smallest variance, in units of that within classes, and of the total.
LEAST_WITHIN, LEAST_TOTAL = 1e-3, 1e-9


def score(
    features: ArrayLike, labels: ArrayLike, *, covariance: str = "spherical", components: int = COMPONENTS
) -> float:
    """Minus the overlap of the classes, in [-k (k - 1), 0].

    Args:
        features: (n, d), used as they are.
        labels: (n,) integers.
        covariance: "spherical" or "diagonal".
        components: how many principal components to keep.

    Raises:
        UsageError: see `modelspace.scores.inputs`; another covariance.
    """
    if covariance not in SHAPES:
        raise UsageError(f"covariance {covariance!r} is not known", f"use {' or '.join(SHAPES)}")
    numbers = classes(labels, len(checked(features)))
    left, values = spectrum(centred(features))
    k = int(numbers.max()) + 1
    if not len(values):
        return -float(k * (k - 1))
    means, variances = _gaussians((left * np.sqrt(values))[:, :components], numbers, covariance)
    total = 0.0
    for i in range(k - 1):
        both = (variances[i] + variances[i + 1 :]) / 2
        distance = ((means[i] - means[i + 1 :]) ** 2 / both).sum(axis=1) / 8
        distance += (np.log(both) - (np.log(variances[i]) + np.log(variances[i + 1 :])) / 2).sum(axis=1) / 2
        total += float(np.exp(-distance).sum())
    return -2.0 * total


def _gaussians(table: Array, numbers: Classes, covariance: str) -> tuple[Array, Array]:
    """Means and variances of the classes, (k, components) each."""
    of_class = one_hot(numbers)
    counts = of_class.sum(axis=0)[:, None]
    means = of_class.T @ table / counts
    squares = of_class.T @ (table - means[numbers]) ** 2
    within, total = squares.sum(axis=0) / len(table), (table**2).mean(axis=0)
    variances = np.where(counts > 1, squares / counts, within)
    if covariance == "spherical":
        within, total = np.full_like(within, within.mean()), np.full_like(total, total.mean())
        variances = np.repeat(variances.mean(axis=1, keepdims=True), table.shape[1], axis=1)
    return means, np.maximum(variances, np.maximum(LEAST_WITHIN * within, LEAST_TOTAL * total))
