"""PARC: Pearson's correlation of the features, ranked against the labels (Bolya, Mittapalli & Hoffman, NeurIPS 2021).

The distance of two images is 1 - Pearson's correlation of their features (standardised per column, as in the authors'
code), and 1 - Pearson's correlation of their one-hot labels: 0 within a class, the same for all pairs of other classes.
The score is Spearman's correlation of the two over all pairs of images, in [-1, 1] (the paper's is 100 times that). The
paper also reduces features to 32 principal components first. That is left out: Pearson's correlation over components
depends on their signs, which are arbitrary.

For regression the labels' distance is the absolute difference; this is not in the paper. An image whose features are
all equal correlates 0 with all others. Features that make all distances equal give 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from modelspace.scores.inputs import Array, classes, kind, numbers, standardised

#: Correlations that differ by less are equal.
DECIMALS = 10


def score(features: ArrayLike, labels: ArrayLike) -> float:
    """Spearman's correlation of feature distances with label distances, in [-1, 1].

    Args:
        features: (n, d).
        labels: (n,) integers for classes, floats for regression.

    Raises:
        UsageError: see `modelspace.scores.inputs`.
    """
    table = standardised(features)
    n = len(table)
    pairs = np.triu_indices(n, 1)
    if kind(labels) == "classification":
        of_class = classes(labels, n)
        apart = (of_class[pairs[0]] != of_class[pairs[1]]).astype(np.float64)
    else:
        values = numbers(labels, n)
        apart = np.abs(values[pairs[0]] - values[pairs[1]])
    distances = (1.0 - _correlations(table)[pairs]).round(DECIMALS)
    return _pearson(rankdata(distances), rankdata(apart))


def _correlations(table: Array) -> Array:
    """(n, n) Pearson's correlation of the rows; 0 with a row whose entries are all equal."""
    rows = table - table.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    alive = norms > 1e-9 * max(float(np.abs(table).max()), np.finfo(np.float64).tiny)
    rows = np.where(alive, rows / np.where(alive, norms, 1.0), 0.0)
    result: Array = rows @ rows.T
    return result


def _pearson(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length > 0 else 0.0
