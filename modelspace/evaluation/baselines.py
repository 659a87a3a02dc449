"""Rankings that need no model, random and popularity: a method worth its cost must beat them.

Feature similarities, baselines that do use the models, are in `modelspace.lab.similarity`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from modelspace.errors import UsageError
from modelspace.evaluation.rankings import Array, best_of_first, inclusion

POPULARITIES = ("count", "reciprocal", "rank")


def random_precision(n_sources: int, n_relevant: int = 5) -> Array:
    """Expected P@K of a random order: r / n at every K (hypergeometric mean).

    Returns:
        (n_sources,). 5 of 19 give 0.263.
    """
    return np.full(n_sources, _share(n_sources, n_relevant))


def random_recall(n_sources: int, n_relevant: int = 5) -> Array:
    """Expected R@K of a random order: K / n; (n_sources,)."""
    _share(n_sources, n_relevant)
    return np.arange(1, n_sources + 1) / n_sources


def random_regret(gains: ArrayLike) -> Array:
    """Expected regret@K of a random order over sources with these gains (n,): see `rankings.best_of_first`."""
    gains = np.asarray(gains, dtype=np.float64)
    regret: Array = gains.max() - best_of_first(np.zeros(len(gains)), gains)
    return regret


def popularity(truth: ArrayLike, n_relevant: int | ArrayLike = 5, by: str = "count") -> Array:
    """How popular each source is with the *other* targets: the target's own row is excluded.

    Args:
        truth: (targets, sources) the oracle's scores, higher is better; NaN for missing pairs.
        n_relevant: number of first sources that count as relevant, one or (targets,).
        by: "count", the share of the other targets that have the source among their first `n_relevant`, with equal
            shares ordered by the mean of 1 / rank; "reciprocal", that mean alone; "rank", minus the mean of
            (rank - 1) / (number of sources - 1).

    Returns:
        (targets, sources) scores, NaN where `truth` is NaN or no other target has the source.

    Raises:
        UsageError: `by` is unknown, or there is only one target.
    """
    truth = np.asarray(truth, dtype=np.float64)
    if by not in POPULARITIES:
        raise UsageError(f"popularity by {by!r} is not known", f"use {', '.join(POPULARITIES)}")
    if len(truth) < 2:
        raise UsageError("popularity needs two or more targets: a target's own row is excluded")
    known = np.isfinite(truth)
    counts = np.broadcast_to(np.asarray(n_relevant, dtype=np.int64), len(truth))
    relevant, reciprocal, relative = (np.full(truth.shape, np.nan) for _ in range(3))
    for row in range(len(truth)):
        columns = np.flatnonzero(known[row])
        if len(columns) == 0:
            continue
        values = truth[row, columns]
        ranks = rankdata(-values)
        relevant[row, columns] = inclusion(values)[min(int(counts[row]), len(values)) - 1]
        reciprocal[row, columns] = 1.0 / ranks
        relative[row, columns] = (ranks - 1) / max(len(values) - 1, 1)
    result = np.full(truth.shape, np.nan)
    for row in range(len(truth)):
        others = np.arange(len(truth)) != row
        n_known = known[others].sum(axis=0)
        columns = np.flatnonzero(known[row] & (n_known > 0))
        tables = (relevant, reciprocal, relative)
        means = [np.nansum(table[others][:, columns], axis=0) / n_known[columns] for table in tables]
        if by == "count":
            # Order by share, then by reciprocal rank, and score by the place in that order: this needs no weight
            # between the two. Rounding makes equal means equal regardless of summation order.
            keys = np.round(np.stack([means[0], means[1]], axis=1), 12)
            _, place = np.unique(keys, axis=0, return_inverse=True)
            result[row, columns] = place.reshape(-1)
        else:
            result[row, columns] = means[1] if by == "reciprocal" else -means[2]
    return result


def static(truth: ArrayLike, by: str = "rank") -> Array:
    """How good each source is on the *other* targets, one order for all: what no measurement of the target can beat.

    Args:
        truth: (targets, sources) the oracle's scores, higher is better; NaN for missing pairs, which are ignored.
        by: "rank", minus the mean of (rank - 1) / (number of sources - 1); or "score", the mean of the scores
            standardised per target.

    Returns:
        (targets, sources) scores, NaN where `truth` is NaN. A source that no other target has is the last.

    Raises:
        UsageError: `by` is unknown, or there is only one target.
    """
    truth = np.asarray(truth, dtype=np.float64)
    if by not in ("rank", "score"):
        raise UsageError(f"a static order by {by!r} is not known", "use rank or score")
    if len(truth) < 2:
        raise UsageError("a static order needs two or more targets: a target's own row is excluded")
    known = np.isfinite(truth)
    strength = np.full(truth.shape, np.nan)
    for row in range(len(truth)):
        columns = np.flatnonzero(known[row])
        if len(columns):
            strength[row, columns] = (_relative_rank if by == "rank" else _standardised)(truth[row, columns])
    result = np.full(truth.shape, np.nan)
    for row in range(len(truth)):
        others = np.arange(len(truth)) != row
        n_known = known[others].sum(axis=0)
        mean = np.nansum(strength[others], axis=0) / np.maximum(n_known, 1)
        # Rounding makes equal means equal regardless of summation order.
        mean = np.round(np.where(n_known > 0, mean, mean.min() - 1.0), 12)
        result[row, known[row]] = mean[known[row]]
    return result


def _relative_rank(values: Array) -> Array:
    ranks: Array = -(rankdata(-values) - 1) / max(len(values) - 1, 1)
    return ranks


def _standardised(values: Array) -> Array:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros(len(values))


def _share(n_sources: int, n_relevant: int) -> float:
    if n_relevant < 1 or n_sources < 1:
        raise UsageError(f"at least one source must be relevant, not {n_relevant} of {n_sources}")
    return min(n_relevant, n_sources) / n_sources
