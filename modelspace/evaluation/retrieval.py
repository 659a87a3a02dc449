"""Retrieving models of the same task: evidence that needs no measured transfer.

Models of one task may differ in architecture, training data and input. A good ranking puts models of the query's task
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from modelspace.errors import UsageError
from modelspace.evaluation import metrics
from modelspace.evaluation.metrics import Interval
from modelspace.evaluation.rankings import Array


@dataclass(frozen=True)
class Retrieval:
    """How well a method retrieves models of the same task.

    Attributes:
        queries: number of queries: models that share their task with another.
        first: share of queries whose nearest neighbour has their task, with a bootstrap interval over queries.
        average_precision: mean average precision over queries, with a bootstrap interval.
        random_first, random_average_precision: their expectations for a random order.
    """

    queries: int
    first: Interval
    average_precision: Interval
    random_first: float
    random_average_precision: float


def same_task(
    matrix: ArrayLike,
    tasks: Sequence[str | None],
    *,
    queries: Sequence[bool] | None = None,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Retrieval | None:
    """Evaluate a matrix by the tasks of its models.

    Args:
        matrix: (n, n), row = query, column = candidate, higher = nearer; the diagonal is ignored. Ties are broken
            against the method: a tied model of another task comes first.
        tasks: (n,) the task of each model; None if unknown, and then it is neither a query nor relevant.
        queries: (n,) which models are queries; default: all that share their task with another.
        n_resamples: of the bootstrap over queries.
        confidence: coverage of its intervals.
        seed: of its resampling.

    Returns:
        None if no two models share a task.

    Raises:
        UsageError: the matrix and the tasks differ in size.
    """
    scores = np.asarray(matrix, dtype=np.float64)
    n = len(tasks)
    if scores.shape != (n, n):
        raise UsageError(f"the matrix has shape {scores.shape} for {n} models")
    first, precision, chance_first, chance_precision = [], [], [], []
    for row in range(n):
        others = np.array([j for j in range(n) if j != row], dtype=int)
        relevant = np.array([tasks[j] is not None and tasks[j] == tasks[row] for j in others], dtype=bool)
        if not relevant.any() or (queries is not None and not queries[row]):
            continue
        ranked = relevant[np.lexsort((relevant, -scores[row, others]))]
        first.append(float(ranked[0]))
        precision.append(_average_precision(ranked))
        chance_first.append(float(relevant.mean()))
        chance_precision.append(_expected(int(relevant.sum()), len(relevant)))
    if not first:
        return None
    bootstrap = (n_resamples, confidence, seed)
    return Retrieval(
        len(first),
        metrics.bootstrap(np.array(first), *bootstrap),
        metrics.bootstrap(np.array(precision), *bootstrap),
        float(np.mean(chance_first)),
        float(np.mean(chance_precision)),
    )


def _average_precision(relevant: np.ndarray) -> float:
    places = np.flatnonzero(relevant)
    return float(np.mean((np.arange(len(places)) + 1) / (places + 1)))


def _expected(n_relevant: int, n: int) -> float:
    """Average precision of a random order: mean over ranks i of (1 + (i − 1)(r − 1)/(n − 1)) / i."""
    ranks: Array = np.arange(1, n + 1, dtype=np.float64)
    density = (n_relevant - 1) / (n - 1) if n > 1 else 0.0
    return float(np.mean((1 + (ranks - 1) * density) / ranks))
