"""Ranking metrics: how well one table of scores ranks the sources of each target, compared with another table.

Each function takes two arrays of shape (targets, sources), higher is better: `scores` from the method, `truth` from
the oracle. Pairs with NaN in `truth` are ignored: missing measurements, or a model paired with itself. All other pairs
need a finite score. Results are per target; `bootstrap` averages them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau, rankdata, weightedtau

from modelspace.errors import UsageError
from modelspace.evaluation.rankings import Array, best_of_first, inclusion


@dataclass(frozen=True)
class Interval:
    """A mean over targets and its bootstrap interval: floats, or arrays with one entry per K.

    Attributes:
        mean: over the targets for which the metric is defined.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    mean: Array
    low: Array
    high: Array


def relevant_counts(truth: ArrayLike, n_relevant: int = 5) -> NDArray[np.int64]:
    """How many of each target's sources are relevant: `n_relevant`, but at most a third of its sources, and at least 1.

    Of four sources, five would all be relevant, and every order perfect.

    Returns:
        (targets,).

    >>> relevant_counts([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, np.nan, np.nan]]).tolist()
    [1, 1]
    """
    if n_relevant < 1:
        raise UsageError(f"at least one source must be relevant, not {n_relevant}", "use 1 or more; the paper uses 5")
    n_sources = np.isfinite(np.asarray(truth, dtype=np.float64)).sum(axis=1)
    counts: NDArray[np.int64] = np.clip(n_sources // 3, 1, n_relevant)
    return counts


def precision_at_k(scores: ArrayLike, truth: ArrayLike, n_relevant: int | ArrayLike = 5) -> Array:
    """Share of the first K sources that are relevant: the oracle's first `n_relevant`, one number or (targets,).

    Returns:
        (targets, K) in [0, 1], K = 1..maximum number of sources of a target; NaN past a target's number of sources.

    Ties, in the scores or at the edge of the relevant sources, count by their expectation over random orders.
    """
    return _hits(scores, truth, n_relevant, lambda n, relevant: np.arange(1.0, n + 1))


def recall_at_k(scores: ArrayLike, truth: ArrayLike, n_relevant: int | ArrayLike = 5) -> Array:
    """Share of the relevant sources that are among the first K; shapes and ties as in `precision_at_k`."""
    return _hits(scores, truth, n_relevant, lambda n, relevant: np.full(n, relevant))


def spearman(scores: ArrayLike, truth: ArrayLike) -> Array:
    """Spearman's rank correlation per target: Pearson's correlation of the ranks, where ties share their mean rank.

    Returns:
        (targets,) in [-1, 1]; 0 if all scores are equal, NaN if a target's oracle values are all equal or it has fewer
        than two sources.
    """
    return _per_target(scores, truth, lambda s, t: _pearson(rankdata(s), rankdata(t)))


def kendall(scores: ArrayLike, truth: ArrayLike) -> Array:
    """Kendall's tau-b per target (Kendall 1945), which corrects for ties on both sides; shape as in `spearman`."""
    return _per_target(scores, truth, lambda s, t: float(kendalltau(s, t, variant="b").statistic))


def weighted_kendall(scores: ArrayLike, truth: ArrayLike) -> Array:
    """Weighted Kendall's tau per target (Vigna 2015): exchanges among the first places count most.

    Hyperbolic, additive weights 1 / (1 + rank), averaged over the order by truth and the order by scores: the default
    of `scipy.stats.weightedtau`, and what papers on model selection report (You et al. 2021, LogME; Shao et al. 2022,
    SFDA). Shape as in `spearman`.
    """
    return _per_target(scores, truth, lambda s, t: float(weightedtau(s, t).statistic))


def regret_at_k(scores: ArrayLike, truth: ArrayLike, relative: bool = False) -> Array:
    """Gap between the best of the first K sources and the best of all sources.

    Args:
        scores: (targets, sources).
        truth: (targets, sources), the negative of the measured loss if there is one; the result is in its unit.
        relative: divide by the mean regret of one random pick, so that targets whose losses have different units can
            be averaged: 1 is as bad as one random pick, 0 is the best source.

    Returns:
        (targets, K), non-negative and non-increasing in K; NaN past a target's number of sources, and, if `relative`,
        for targets whose sources are all equally good.
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
    """Mean over targets with a percentile bootstrap interval; targets are resampled with replacement.

    Args:
        per_target: (targets,) or (targets, K); NaN entries are excluded from their column.
        n_resamples: number of resamples.
        confidence: coverage of the interval, in (0, 1).
        seed: of the resampling. Equal seeds and numbers of targets give equal resamples, so methods are compared on
            the same ones.

    Returns:
        `Interval` of shape () or (K,). Only the choice of targets is resampled: it excludes noise in the oracle.
    """
    if not 0.0 < confidence < 1.0 or n_resamples < 1:
        raise UsageError("a bootstrap needs a confidence between 0 and 1 and at least one resample")
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
    complete, partial = known.all(axis=0), known.any(axis=0) & ~known.all(axis=0)
    low[complete], high[complete] = np.quantile(draws[:, complete], [tail, 1.0 - tail], axis=0)
    for column in np.flatnonzero(partial):
        low[column], high[column] = np.nanquantile(draws[:, column], [tail, 1.0 - tail])
    shape = values.shape[1:]
    return Interval(mean.reshape(shape), low.reshape(shape), high.reshape(shape))


@functools.lru_cache(maxsize=8)
def _resamples(n: int, n_resamples: int, seed: int) -> Array:
    """(n_resamples, n): how often each of n targets is drawn."""
    picks = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
    cells = picks + n * np.arange(n_resamples)[:, None]
    return np.bincount(cells.ravel(), minlength=n * n_resamples).reshape(n_resamples, n).astype(np.float64)


def _hits(
    scores: ArrayLike, truth: ArrayLike, n_relevant: int | ArrayLike, divisor: Callable[[int, float], Array]
) -> Array:
    scores, truth = _checked(scores, truth)
    counts = np.broadcast_to(np.asarray(n_relevant, dtype=np.int64), len(truth))
    if (counts < 1).any():
        raise UsageError(f"at least one source must be relevant, not {counts.min()}", "use 1 or more; the paper uses 5")
    result = np.full((len(truth), _most_sources(truth)), np.nan)
    for row, s, t in _rows(scores, truth):
        relevant = inclusion(t)[min(int(counts[row]), len(t)) - 1]
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
        raise UsageError(
            f"scores and oracle must be (targets, sources) tables of equal shape, not {s.shape} and {t.shape}"
        )
    if np.isinf(t).any():
        raise UsageError("the oracle has an infinite value")
    missing = np.isfinite(t) & ~np.isfinite(s)
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise UsageError(
            f"{missing.sum()} pairs of the oracle have no finite score, the first at row {row}, column {column}",
            "give each pair a score, or set the oracle's entry to NaN to exclude the pair for all methods",
        )
    return s, t
