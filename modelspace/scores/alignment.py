"""Centred kernel-target alignment (Cortes, Mohri & Rostamizadeh, JMLR 2012).

    A = <K, L> / (|K| |L|),    K = X Xᵀ,  L = Y Yᵀ,

with X the standardised features and Y the one-hot labels (or the numbers), both of column mean 0, so that K and L are
centred: the squared norm of XᵀY over those of XᵀX and YᵀY. In [0, 1], the cosine of the two kernels. Constant features
give 0. A class with one image is a class like others, of little weight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from modelspace.scores.inputs import Array, standardised, targets


def score(features: ArrayLike, labels: ArrayLike) -> float:
    """Cosine of the features' kernel and the labels', in [0, 1].

    Args:
        features: (n, d).
        labels: (n,) integers for classes, floats for regression.

    Raises:
        UsageError: see `modelspace.scores.inputs`.
    """
    table = standardised(features)
    expected = targets(labels, len(table))
    expected = expected - expected.mean(axis=0)
    lengths = _kernel_norm(table) * _kernel_norm(expected)
    return float(((table.T @ expected) ** 2).sum()) / lengths if lengths > 0 else 0.0


def _kernel_norm(table: Array) -> float:
    """Frobenius norm of X Xᵀ, from its shorter side."""
    n, d = table.shape
    return float(np.linalg.norm(table @ table.T if n <= d else table.T @ table))
