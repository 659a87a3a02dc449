"""Finding a model of the same task: the other kind of evidence, which needs no measured transfer.

Models of one task may differ in architecture, training data and input. A good ranking puts the others of a model's task first.
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
    """How well one method finds models of the same task.

    Attributes:
        queries: models that share their task with another; the rest have nothing to be found.
        first: 1 where a model's nearest neighbour has its task, mean over queries with a bootstrap interval.
        average_precision: mean over the models of its task of the share of that task among all up to it, likewise.
        random_first, random_average_precision: expectation of a random order.
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
    """Judge a matrix by the tasks of its models.

    Args:
        matrix: (n, n), row = query, column = candidate, higher = nearer; the diagonal is not looked at. Ties are broken
            against the method: a tied model of another task comes first.
        tasks: (n,) the task of each; None: not known, and then never a query nor right.
        queries: (n,) which models are asked about; default: all that share their task with another.
        n_resamples, confidence, seed: of the bootstrap over queries.

    Returns:
        None where no two models share a task.

    Raises:
        UsageError: the matrix doesn't fit the tasks.
    """
    scores = np.asarray(matrix, dtype=np.float64)
    n = len(tasks)
    if scores.shape != (n, n):
        raise UsageError(f"the matrix has shape {scores.shape} for {n} models")
    first, precision, chance_first, chance_precision = [], [], [], []
    for row in range(n):
        others = np.array([j for j in range(n) if j != row], dtype=int)
        right = np.array([tasks[j] is not None and tasks[j] == tasks[row] for j in others], dtype=bool)
        if not right.any() or (queries is not None and not queries[row]):
            continue
        found = right[np.lexsort((right, -scores[row, others]))]
        first.append(float(found[0]))
        precision.append(_average_precision(found))
        chance_first.append(float(right.mean()))
        chance_precision.append(_expected(int(right.sum()), len(right)))
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


def _average_precision(found: np.ndarray) -> float:
    places = np.flatnonzero(found)
    return float(np.mean((np.arange(len(places)) + 1) / (places + 1)))


def _expected(right: int, n: int) -> float:
    """Average precision of a random order: mean over ranks i of (1 + (i − 1)(r − 1)/(n − 1)) / i."""
    ranks: Array = np.arange(1, n + 1, dtype=np.float64)
    between = (right - 1) / (n - 1) if n > 1 else 0.0
    return float(np.mean((1 + (ranks - 1) * between) / ranks))
