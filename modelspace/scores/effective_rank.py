"""Effective rank of a kernel: how many directions a model spreads the images over. Needs no labels and no outcomes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from modelspace.errors import UsageError


def effective_rank(kernel: ArrayLike) -> float:
    """Exponential of the entropy of the normalised eigenvalues (Roy & Vetterli, EUSIPCO 2007, definition 1).

        exp(-Σ p_i log p_i),    p_i = λ_i / Σ λ

    Args:
        kernel: (N, N) symmetric, finite; a stored kernel of N images, for example. Only its scale-free shape counts.
            Negative eigenvalues, which quantisation leaves behind, count as 0.

    Returns:
        A number in [1, N]: N for the identity, 1 for a kernel of rank one.

    Raises:
        UsageError: not a symmetric finite matrix, or no positive eigenvalue.

    >>> round(effective_rank([[2.0, 0.0], [0.0, 2.0]]), 6)
    2.0
    """
    matrix = np.asarray(kernel, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise UsageError(f"a kernel is a square matrix, not {matrix.shape}", "unpack a stored triangle first")
    if not np.isfinite(matrix).all():
        raise UsageError("the kernel holds a value that is not finite")
    scale = float(np.abs(matrix).max())
    if np.abs(matrix - matrix.T).max() > 1e-6 * scale:
        raise UsageError("the kernel is not symmetric")
    values = np.maximum(np.linalg.eigvalsh((matrix + matrix.T) / 2), 0.0)
    if values.sum() <= 0.0:
        raise UsageError("the kernel has no positive eigenvalue: the features are the same for all images")
    shares = values / values.sum()
    return float(np.exp(-xlogy(shares, shares).sum()))
