"""How well one table of scores ranks the sources of each target, judged by another table.

Every function takes two arrays of shape (targets, sources), both "higher is better": `scores` is the method's,
`truth` is the oracle's. Where `truth` is NaN the pair does not exist and never counts: a missing measurement, or a
model's pair with itself. Every other pair needs a finite score. Results are per target; `bootstrap` averages them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import kendalltau, rankdata

from modelspace.errors import UsageError
from modelspace.evaluation.rankings import Array, best_of_first, inclusion


@dataclass(frozen=True)
class Interval:
    """A mean over targets and its bootstrap interval; floats, or arrays of one entry per K.

    Attributes:
        mean: over the targets on which the figure is defined.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    mean: Array
    low: Array
    high: Array


def precision_at_k(scores: ArrayLike, truth: ArrayLike, n_relevant: int = 5) -> Array:
    """Share of the first K sources that are relevant, the relevant ones being the oracle's first `n_relevant`.

    Returns:
        (targets, K) in [0, 1] for K = 1..the most sources that any target has; NaN past a target's own number.

    Ties, in the scores or at the edge of the relevant ones, count with their expectation over random orders.
    """
    return _hits(scores, truth, n_relevant, lambda n, relevant: np.arange(1.0, n + 1))


def recall_at_k(scores: ArrayLike, truth: ArrayLike, n_relevant: int = 5) -> Array:
    """Share of the relevant sources that are among the first K; shapes and ties as in `precision_at_k`."""
    return _hits(scores, truth, n_relevant, lambda n, relevant: np.full(n, relevant))


def spearman(scores: ArrayLike, truth: ArrayLike) -> Array:
    """Spearman's rank correlation of each target: Pearson's correlation of the ranks, ties sharing their mean rank.

    Returns:
        (targets,) in [-1, 1]. Scores that are all equal say nothing and get 0; a target whose oracle values are all
        equal, or that has fewer than two sources, gets NaN.
    """
    return _per_target(scores, truth, lambda s, t: _pearson(rankdata(s), rankdata(t)))


def kendall(scores: ArrayLike, truth: ArrayLike) -> Array:
    """Kendall's tau-b of each target (Kendall 1945), which corrects for ties on both sides; shape as `spearman`."""
    return _per_target(scores, truth, lambda s, t: float(kendalltau(s, t, variant="b").statistic))


def regret_at_k(scores: ArrayLike, truth: ArrayLike, relative: bool = False) -> Array:
    """What is given up by trying the first K sources and keeping the best of them, against the best source of all.

    Args:
        scores: (targets, sources).
        truth: (targets, sources), minus the measured loss where there is one; the result is in its unit.
        relative: divide by what one random pick gives up on average, so that targets whose losses have different
            units can be averaged: 1 is as bad as one random pick, 0 is the best source.

    Returns:
        (targets, K), never negative and never rising with K; NaN past a target's own number of sources, and, if
        `relative`, where all sources of a target are equally good.
    """
    scores, truth = _checked(scores, truth)
    result = np.full((len(truth), _most_sources(truth)), np.nan)
    for row, s, t in _rows(scores, truth):
        regret = np.maximum(t.max() - best_of_first(s, t), 0.0)
        if relative:
            regret = regret / (t.max() - t.mean()) if np.ptp(t) > 0 else np.full(len(t), np.nan)
        result[row, : len(t)] = regret
    return result


def bootstrap(per_target: ArrayLike, n_resamples: int = 2000, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Mean over targets with a percentile bootstrap interval: targets are drawn with replacement.

    Args:
        per_target: (targets,) or (targets, K); NaN entries are left out of their column.
        n_resamples: how many draws.
        confidence: share of the draws between the interval's ends, in (0, 1).
        seed: of the draws. Equal seeds and numbers of targets give equal draws, so that methods are compared on the
            same ones.

    Returns:
        `Interval` of shape () or (K,). The targets are the sample here: noise of the oracle itself is not in it.
    """
    if not 0.0 < confidence < 1.0 or n_resamples < 1:
        raise UsageError("a bootstrap needs a confidence between 0 and 1 and at least one draw")
    values = np.asarray(per_target, dtype=np.float64)
    if values.ndim not in (1, 2) or len(values) == 0:
        raise UsageError(f"a bootstrap over targets needs a (targets,) or (targets, K) array, not shape {values.shape}")
    table = values.reshape(len(values), -1)
    known = np.isfinite(table)
    filled = np.where(known, table, 0.0)
    counts = _resamples(len(table), n_resamples, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=0) / known.sum(axis=0)
        draws = (counts @ filled) / (counts @ known)
    low, high = np.full(mean.shape, np.nan), np.full(mean.shape, np.nan)
    tail = (1.0 - confidence) / 2.0
    whole, some = known.all(axis=0), known.any(axis=0) & ~known.all(axis=0)
    low[whole], high[whole] = np.quantile(draws[:, whole], [tail, 1.0 - tail], axis=0)
    for column in np.flatnonzero(some):
        low[column], high[column] = np.nanquantile(draws[:, column], [tail, 1.0 - tail])
    shape = values.shape[1:]
    return Interval(mean.reshape(shape), low.reshape(shape), high.reshape(shape))


@functools.lru_cache(maxsize=8)
def _resamples(n: int, n_resamples: int, seed: int) -> Array:
    """(n_resamples, n) how often each of n targets is drawn."""
    picks = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
    cells = picks + n * np.arange(n_resamples)[:, None]
    return np.bincount(cells.ravel(), minlength=n * n_resamples).reshape(n_resamples, n).astype(np.float64)


def _hits(scores: ArrayLike, truth: ArrayLike, n_relevant: int, divisor: Callable[[int, float], Array]) -> Array:
    if n_relevant < 1:
        raise UsageError(f"{n_relevant} relevant sources leave nothing to find", "use 1 or more; the paper uses 5")
    scores, truth = _checked(scores, truth)
    result = np.full((len(truth), _most_sources(truth)), np.nan)
    for row, s, t in _rows(scores, truth):
        relevant = inclusion(t)[min(n_relevant, len(t)) - 1]
        result[row, : len(t)] = inclusion(s) @ relevant / divisor(len(t), relevant.sum())
    return result


def _per_target(scores: ArrayLike, truth: ArrayLike, correlation: Callable[[Array, Array], float]) -> Array:
    scores, truth = _checked(scores, truth)
    result = np.full(len(truth), np.nan)
    for row, s, t in _rows(scores, truth):
        if len(t) > 1 and np.ptp(t) > 0:
            result[row] = correlation(s, t) if np.ptp(s) > 0 else 0.0
    return result


def _pearson(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _most_sources(truth: Array) -> int:
    return int(np.isfinite(truth).sum(axis=1).max(initial=0))


def _rows(scores: Array, truth: Array) -> Iterator[tuple[int, Array, Array]]:
    for row in range(len(truth)):
        known = np.isfinite(truth[row])
        if known.any():
            yield row, scores[row, known], truth[row, known]


def _checked(scores: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    s, t = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if s.ndim != 2 or s.shape != t.shape:
        raise UsageError(f"scores and oracle must be two equal (targets, sources) tables, not {s.shape} and {t.shape}")
    if np.isinf(t).any():
        raise UsageError("the oracle holds an infinite value")
    missing = np.isfinite(t) & ~np.isfinite(s)
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise UsageError(
            f"{missing.sum()} pairs of the oracle have no finite score, the first at row {row}, column {column}",
            "give every pair a score, or set the oracle's entry to NaN so that the pair is left out for all methods",
        )
    return s, t
