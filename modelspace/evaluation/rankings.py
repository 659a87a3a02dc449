"""Order statistics averaged over all ways to break ties.

Similarity scores and published rank tables contain ties. If position broke them, a metric would depend on how the
models are named, so the functions here return expectations over a uniformly random order of tied values.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def inclusion(values: ArrayLike) -> Array:
    """Probability that each value is among the k largest, for every k, with ties broken at random.

    Args:
        values: (n,) finite.

    Returns:
        (n, n) in [0, 1]; row k-1 sums to k. An entry with a values above it and e equal to it (including itself)
        is among the first k with probability min(1, max(0, (k - a) / e)).

    >>> inclusion([3.0, 1.0, 1.0])[1].tolist()
    [1.0, 0.5, 0.5]
    """
    values = np.asarray(values, dtype=np.float64)
    above = (values[None, :] > values[:, None]).sum(axis=1)
    tied = (values[None, :] == values[:, None]).sum(axis=1)
    k = np.arange(1, len(values) + 1)[:, None]
    probabilities: Array = np.clip((k - above[None, :]) / tied[None, :], 0.0, 1.0)
    return probabilities


def best_of_first(scores: ArrayLike, gains: ArrayLike) -> Array:
    """Expected largest gain among the k highest scores, for every k, with ties in the scores broken at random.

    Args:
        scores: (n,) finite, which order the entries.
        gains: (n,) finite.

    Returns:
        (n,) in the unit of `gains`, non-decreasing; the last entry is the largest gain.

    The k-th place falls into a group of e equal scores, of which r are taken. The j-th best gain of the group (from 0)
    is the best one taken with probability C(e-1-j, r-1) / C(e, r); it counts only if it exceeds all gains above the
    group.
    """
    scores = np.asarray(scores, dtype=np.float64)
    gains = np.asarray(gains, dtype=np.float64)
    result = np.empty(len(scores))
    best_above, n_above = -np.inf, 0
    for value in np.unique(scores)[::-1]:
        group = np.sort(gains[scores == value])[::-1]
        size = len(group)
        for n_taken in range(1, size + 1):
            weights = np.array([comb(size - 1 - j, n_taken - 1) for j in range(size - n_taken + 1)]) / comb(
                size, n_taken
            )
            result[n_above + n_taken - 1] = weights @ np.maximum(group[: size - n_taken + 1], best_above)
        best_above, n_above = max(best_above, float(group[0])), n_above + size
    return result
