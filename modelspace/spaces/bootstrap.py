"""How much an affinity, or the order of two neighbours, depends on the choice of probe images.

The probe images are a sample, and an affinity is a mean over them. The bootstrap (Efron 1979) resamples the N images
with replacement and takes the spread of what the resamples give. All neighbours share each resample, so differences are
paired.

The affinity of kernels is a cosine of two matrices, c(t, s) / √(c(t, t) c(s, s)), where c is a sum over images of the
inner products of the matrices' rows. The whole sample has c(t, t) = c(s, s) = N, but a resample has not, so a mean of
its rows would exceed 1, and an exact copy would have an interval around 1. Each resample is therefore normalised as the
whole sample is: the bootstrap of a ratio replicates the ratio (Efron & Tibshirani 1993, section 10.3; Davison & Hinkley
1997, section 2.1). By Cauchy-Schwarz it stays in -1..1, and is 1 for a copy, scaled or not. Attribution maps have
unit rows, for which the ratio is the mean.

Rows are resampled, not rows and columns: an image that is drawn twice would otherwise have the similarity 1 with itself
among the pairs. What the other images in its row contribute counts as given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from modelspace.late import dataclass

DRAWS = 2000
LEVEL = 0.95

#: Differences of scores below this are rounding: two copies of a model are tied.
ROUNDING = 1e-9

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Member:
    """What an affinity is computed from in one space; a blend has several.

    Attributes:
        products: (n, N) inner products of the target's row of each image with that of each of the n sources.
        target: (N,) squared norms of the target's rows; None if all rows have norm 1.
        sources: (n, N) those of the sources' rows; None likewise.
        weight: of this space in the affinity.
        least: the smallest affinity that is possible, -1 or 0.
    """

    products: Array
    target: Array | None = None
    sources: Array | None = None
    weight: float = 1.0
    least: float = -1.0

    def of(self, rows: Sequence[int]) -> Member:
        """The same of some of the sources, in this order."""
        sources = None if self.sources is None else self.sources[rows]
        return replace(self, products=self.products[rows], sources=sources)

    def replicates(self, weights: Array) -> Array:
        """Affinities of resamples: (n, draws).

        Args:
            weights: (N, draws) how often each image was drawn, divided by N.
        """
        if self.target is None or self.sources is None:
            return self.products @ weights
        # One product: reading the weights takes longer than multiplying them.
        sums = np.concatenate([self.products, self.target[None], self.sources]) @ weights
        n = len(self.products)
        affinities, squares = sums[:n], sums[n] * sums[n + 1 :]
        # A resample of rows that are all zero says nothing.
        ratios = np.divide(affinities, np.sqrt(squares), out=np.zeros_like(affinities), where=squares > 0)
        clipped: Array = np.clip(ratios, self.least, 1.0)  # rounding, and rows of quantised kernels
        return clipped


@dataclass(frozen=True)
class Intervals:
    """Bootstrap intervals of a ranking.

    Attributes:
        low, high: (n,) bounds of each affinity, which lies between them.
        tied_with_next: (n,) bool, whether the interval of the difference to the next in rank includes zero; False for
            the last.
    """

    low: np.ndarray
    high: np.ndarray
    tied_with_next: np.ndarray


def intervals(
    members: Sequence[Member],
    scores: np.ndarray | Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Intervals:
    """Percentile intervals of affinities, and ties.

    Args:
        members: of the space, one or more; neighbours in rank order.
        scores: what ranks, and decides ties, if that is not the affinity: a function of affinities, (n, draws) to
            (n, draws), which gets those of the same resamples; or (n, N) what each image adds to the score.
        draws: number of bootstrap resamples.
        level: coverage of the intervals, 0..1.
        seed: of the resampling.
    """
    n, n_images = members[0].products.shape
    weights = _weights(draws, n_images, seed)
    affinities = blended(members, weights)
    point = blended(members, np.full((n_images, 1), 1 / n_images))[:, 0]
    tail = (1 - level) / 2
    low, high = quantiles(affinities, (tail, 1 - tail))
    tied = np.zeros(n, dtype=bool)
    if n > 1:
        if scores is None:
            ranking = affinities
        else:
            ranking = scores(affinities) if callable(scores) else scores @ weights
        difference = ranking[:-1] - ranking[1:]
        lower, upper = quantiles(difference, (tail, 1 - tail))
        tied[:-1] = (lower <= ROUNDING) & (upper >= -ROUNDING)
    # With few images, percentiles of a skewed ratio can miss the affinity itself.
    return Intervals(np.minimum(low, point), np.maximum(high, point), tied)


@lru_cache(maxsize=4)
def _weights(draws: int, n_images: int, seed: int) -> Array:
    """How often each image is drawn in each resample, divided by their number: (n_images, draws).

    The mean of a resample is a mean weighted by it.
    """
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, n_images, (draws, n_images))
    indices += n_images * np.arange(draws)[:, None]
    counts = np.bincount(indices.ravel(), minlength=draws * n_images).reshape(draws, n_images)
    weights: Array = np.ascontiguousarray(counts.T) / n_images
    weights.flags.writeable = False
    return weights


def quantiles(values: Array, shares: Sequence[float]) -> list[Array]:
    """The quantiles of each row of (n, draws) finite values, interpolated linearly, to the bit as NumPy's.

    `np.quantile` imports numpy.ma, a tenth of the time of a whole query.
    """
    draws = values.shape[1]
    places = [share * (draws - 1) for share in shares]
    below = [min(int(place), draws - 2) for place in places]
    ordered = np.partition(values, sorted({*below, *(i + 1 for i in below)}), axis=1)
    return [_between(ordered[:, i], ordered[:, i + 1], place - i) for place, i in zip(places, below, strict=True)]


def _between(below: Array, above: Array, part: float) -> Array:
    """Linear interpolation, as NumPy rounds it."""
    middle: Array = below + (above - below) * part if part < 0.5 else above - (above - below) * (1 - part)
    return middle


def blended(members: Sequence[Member], weights: Array) -> Array:
    """Affinities of resamples, (n, draws): the weighted sum of the members' in the same resamples."""
    total: Array = sum(member.weight * member.replicates(weights) for member in members)  # type: ignore[assignment]
    return total
