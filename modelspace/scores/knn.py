"""Nearest neighbours, leaving one out.

Every image is labelled by its k nearest other images (Cover & Hart, IEEE Trans. Inf. Theory 1967); near is a large
cosine of the standardised features. Classification: the class with most votes; the score is the accuracy, in [0, 1].
Regression: the mean of the neighbours' numbers; the score is 1 - squared error / squared error of the mean of all
others, at most 1 and below 0 where neighbours mislead.

Nothing depends on the order of the images: images equally far from the k-th place share its vote, and classes with
equally many votes share the credit. Constant features make all images equally far: each is then labelled by all
others. A class with one image is never predicted correctly. With n <= k images all others are neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from modelspace.errors import UsageError
from modelspace.scores.inputs import Array, kind, standardised, targets

#: Cosines that differ by less are equal; so are votes.
DECIMALS = 10
#: Rows of the cosine matrix in memory at a time.
BLOCK = 1024


def score(features: ArrayLike, labels: ArrayLike, *, k: int = 5) -> float:
    """Leave-one-out accuracy of k nearest neighbours, or the share of squared error removed for regression.

    Args:
        features: (n, d).
        labels: (n,) integers for classes, floats for regression.
        k: number of neighbours; at most n - 1 are used.

    Raises:
        UsageError: see `modelspace.scores.inputs`; k below 1.
    """
    if k < 1:
        raise UsageError(f"k = {k} is not a number of neighbours", "use 1 or more; the default is 5")
    table = standardised(features)
    expected = targets(labels, len(table))
    votes = _votes(table, expected, min(k, len(table) - 1))
    if kind(labels) == "regression":
        n = len(table)
        baseline = (n / (n - 1) * (expected - expected.mean(axis=0))) ** 2
        return 1.0 - float(((expected - votes) ** 2).sum() / baseline.sum())
    votes = votes.round(DECIMALS)
    first = votes == votes.max(axis=1, keepdims=True)
    return float(((first & (expected > 0)).sum(axis=1) / first.sum(axis=1)).mean())


def _votes(table: Array, expected: Array, k: int) -> Array:
    """(n, columns) mean of the targets of each image's k nearest other images."""
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    rows = table / np.where(norms > 0, norms, 1.0)
    result = np.empty_like(expected)
    for start in range(0, len(rows), BLOCK):
        cosines = (rows[start : start + BLOCK] @ rows.T).round(DECIMALS)
        here = np.arange(len(cosines))
        cosines[here, start + here] = -np.inf
        last = -np.partition(-cosines, k - 1, axis=1)[:, k - 1 : k]
        nearer, level = cosines > last, cosines == last
        share = (k - nearer.sum(axis=1, keepdims=True)) / level.sum(axis=1, keepdims=True)
        result[start : start + BLOCK] = (nearer + share * level) @ expected / k
    return result
