"""How much an affinity, or the order of two neighbours, depends on the choice of probe images.

The probe images are a sample, and an affinity is a mean over them. The bootstrap (Efron 1979) resamples the N images
with replacement and takes the spread of the means. All neighbours share each resample, so differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Intervals:
    """Bootstrap intervals of a ranking.

    Attributes:
        low, high: (n,) bounds of each mean.
        tied_with_next: (n,) bool, whether the interval of the difference to the next in rank includes zero; False for
            the last.
    """

    low: np.ndarray
    high: np.ndarray
    tied_with_next: np.ndarray


def intervals(
    contributions: np.ndarray,
    scores: np.ndarray | None = None,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Intervals:
    """Intervals of the means over images.

    Args:
        contributions: (n, N) what each probe image adds to each neighbour's affinity; neighbours in rank order.
        scores: (n, N) the same for the score that ranks, and decides ties, if that is not the affinity.
        draws: number of bootstrap resamples.
        level: coverage of the percentile intervals, 0..1.
        seed: of the resampling.
    """
    n, n_images = contributions.shape
    rng = np.random.default_rng(seed)
    # The mean of a resample is a mean weighted by how often each image was drawn.
    indices = rng.integers(0, n_images, (draws, n_images)) + n_images * np.arange(draws)[:, None]
    weights = np.bincount(indices.ravel(), minlength=draws * n_images).reshape(draws, n_images) / n_images
    means = weights @ contributions.T
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    tied = np.zeros(n, dtype=bool)
    if n > 1:
        ranking_means = means if scores is None or scores is contributions else weights @ scores.T
        lower, upper = np.quantile(ranking_means[:, :-1] - ranking_means[:, 1:], [tail, 1 - tail], axis=0)
        tied[:-1] = (lower <= 0) & (upper >= 0)
    return Intervals(low, high, tied)
