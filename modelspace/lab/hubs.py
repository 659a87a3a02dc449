"""Hubness corrections from their definitions: hubs are models near to all others, which would fill every ranking.

Each takes a (n, n) affinity matrix, row = target, column = source, and returns one of the same shape. The diagonal is
neither changed nor used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from modelspace.errors import UsageError
from modelspace.evaluation.rankings import Array


def centred(affinity: ArrayLike) -> Array:
    """s(t, i) - m(i), with m(i) the mean affinity of i to the others (Suzuki et al., EMNLP 2013)."""
    s, others = _checked(affinity)
    mean = np.where(others, s, 0.0).sum(axis=0) / (len(s) - 1)
    return np.where(others, s - mean[None, :], s)


def csls(affinity: ArrayLike, k: int = 5) -> Array:
    """Cross-domain similarity local scaling, 2 s(t, i) - r(t) - r(i) (Conneau et al., ICLR 2018).

    r is a model's mean affinity to its k nearest neighbours; r(t) shifts a whole row, so it changes no ranking, but
    keeps a symmetric matrix symmetric.

    Args:
        affinity: (n, n).
        k: number of neighbours, 1 or more; capped at the number of other models.
    """
    s, others = _checked(affinity)
    if k < 1:
        raise UsageError(f"CSLS needs at least one neighbour, not {k}", "use k = 1 or more")
    k = min(k, len(s) - 1)
    masked = np.where(others, s, -np.inf)
    outgoing = np.sort(masked, axis=1)[:, ::-1][:, :k].mean(axis=1)
    incoming = np.sort(masked, axis=0)[::-1][:k].mean(axis=0)
    return np.where(others, 2 * s - outgoing[:, None] - incoming[None, :], s)


def mutual_z(affinity: ArrayLike) -> Array:
    """z(t, i) + z'(t, i): the affinity's z-score in t's row plus that in i's column.

    Ranks much like `mutual_proximity`, without saturating in the tails. A constant row or column contributes 0.
    """
    s, others = _checked(affinity)
    return np.where(others, _z(s, others) + _z(s.T, others).T, s)


def mutual_proximity(affinity: ArrayLike) -> Array:
    """Probability that t and i are mutually near: Φ(z(t, i)) · Φ(z'(t, i)).

    The Gaussian form, with both sides independent, of Schnitzer et al., JMLR 13 (2012); values in [0, 1].
    """
    s, others = _checked(affinity)
    return np.where(others, norm.cdf(_z(s, others)) * norm.cdf(_z(s.T, others).T), s)


def _z(s: Array, others: np.ndarray) -> Array:
    n = len(s) - 1
    mean = np.where(others, s, 0.0).sum(axis=1, keepdims=True) / n
    deviation = np.where(others, s - mean, 0.0)
    spread = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / n)
    z: Array = np.divide(deviation, spread, out=np.zeros_like(s), where=spread > 0)
    return z


def _checked(affinity: ArrayLike) -> tuple[Array, np.ndarray]:
    s = np.asarray(affinity, dtype=np.float64)
    if s.ndim != 2 or s.shape[0] != s.shape[1] or len(s) < 2:
        raise UsageError(f"an affinity matrix must be square and have two or more models, not shape {s.shape}")
    others = ~np.eye(len(s), dtype=bool)
    if not np.isfinite(s[others]).all():
        raise UsageError("the affinity matrix has a value that is not finite")
    return s, others
