"""How far the choice of probe images decides an affinity or the order of two neighbours.

The probe images are a sample, and an affinity is a mean over them. The bootstrap (Efron 1979) draws the N images again,
with replacement, and takes the spread of the means; one draw serves all neighbours, so that differences are paired.
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
        low, high: (n) bounds of each mean.
        tied_with_next: (n) bool, whether the interval of the difference to the next in rank includes zero; the last
            has no next and is False.
    """

    low: np.ndarray
    high: np.ndarray
    tied_with_next: np.ndarray


def intervals(
    cosines: np.ndarray,
    scores: np.ndarray | None = None,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Intervals:
    """Intervals of the means over images.

    Args:
        cosines: (n, N) cosine of the target's map with neighbour n's, per probe image; neighbours in rank order.
        scores: (n, N) what the ranking is by, per probe image, where that is not the cosine: ties are of these.
        draws: bootstrap samples.
        level: coverage, 0..1; the percentile method.
        seed: of the draws.
    """
    n, n_images = cosines.shape
    rng = np.random.default_rng(seed)
    # How often each image is drawn; the mean of a resample is a weighted mean with these counts.
    drawn = rng.integers(0, n_images, (draws, n_images)) + n_images * np.arange(draws)[:, None]
    weights = np.bincount(drawn.ravel(), minlength=draws * n_images).reshape(draws, n_images) / n_images
    means = weights @ cosines.T
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    tied = np.zeros(n, dtype=bool)
    if n > 1:
        ranked = means if scores is None or scores is cosines else weights @ scores.T
        lower, upper = np.quantile(ranked[:, :-1] - ranked[:, 1:], [tail, 1 - tail], axis=0)
        tied[:-1] = (lower <= 0) & (upper >= 0)
    return Intervals(low, high, tied)
