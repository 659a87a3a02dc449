"""Duplicates, pairs of nearly identical models, and outliers, models far from all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from modelspace.analysis.distances import check_affinity, distance_matrix
from modelspace.errors import UsageError

# A normal distribution's standard deviation in units of its median absolute deviation.
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Duplicate:
    """Two models with an affinity of at least the threshold; `first` precedes `second` in the list of names."""

    first: str
    second: str
    affinity: float


@dataclass(frozen=True)
class Outlier:
    """A model far from all others.

    Attributes:
        name: the model's name.
        nearest: the name of its nearest model.
        affinity: affinity to the nearest model.
        isolation: mean distance √(2 − 2s) to its k nearest models.
        score: (isolation − median isolation) in robust standard deviations.
    """

    name: str
    nearest: str
    affinity: float
    isolation: float
    score: float


def duplicates(names: Sequence[str], affinity: ArrayLike, threshold: float = 0.98) -> list[Duplicate]:
    """All pairs with an affinity of at least `threshold`, nearest first.

    Args:
        names: n model names.
        affinity: (n, n), symmetric, unit diagonal.
        threshold: in -1..1.

    Raises:
        UsageError: not an affinity matrix, or a threshold outside -1..1.
    """
    matrix = check_affinity(names, affinity)
    _check_threshold(threshold)
    rows, columns = np.nonzero(np.triu(matrix >= threshold, 1))
    return _in_order(names, rows, columns, matrix[rows, columns])


def duplicates_of(
    names: Sequence[str], rows: ArrayLike, neighbours: ArrayLike, affinities: ArrayLike, threshold: float = 0.98
) -> list[Duplicate]:
    """The pairs of `duplicates` that lists of neighbours show.

    Args:
        names: n model names.
        rows: (m,) the models that have lists: indices into the names.
        neighbours: (m, k) indices of their nearest models.
        affinities: (m, k) with these.
        threshold: in -1..1.

    Raises:
        UsageError: a threshold outside -1..1.
    """
    _check_threshold(threshold)
    near, values = np.asarray(neighbours, dtype=np.int64), np.asarray(affinities, dtype=np.float64)
    owners = np.broadcast_to(np.asarray(rows, dtype=np.int64)[:, None], near.shape)
    kept = values >= threshold
    pairs = np.sort(np.stack([owners[kept], near[kept]]), axis=0)
    first = np.unique(pairs, axis=1, return_index=True)[1]
    return _in_order(names, pairs[0, first], pairs[1, first], values[kept][first])


def _check_threshold(threshold: float) -> None:
    if not -1 <= threshold <= 1:
        raise UsageError(f"the threshold must be in -1..1, not {threshold}", "example: `threshold=0.98`")


def _in_order(
    names: Sequence[str], rows: NDArray[np.int64], columns: NDArray[np.int64], values: NDArray[np.float64]
) -> list[Duplicate]:
    """Pairs, nearest first."""
    order = np.lexsort((columns, rows, -values))
    return [Duplicate(names[rows[i]], names[columns[i]], float(values[i])) for i in order]


def duplicate_groups(names: Sequence[str], pairs: Sequence[Duplicate]) -> list[list[str]]:
    """Groups of 2 or more models connected by duplicate pairs, largest first, names in the given order."""
    number = {name: i for i, name in enumerate(names)}
    rows = [number[pair.first] for pair in pairs]
    columns = [number[pair.second] for pair in pairs]
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(number), len(number)))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[str]] = {}
    for name, label in zip(names, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(name)
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)


def outliers(names: Sequence[str], affinity: ArrayLike, k: int = 3, threshold: float = 3.0) -> list[Outlier]:
    """Models whose mean distance to their k nearest models is far above the median, furthest first.

    The score is (isolation − median) / (1.4826 · median absolute deviation). If more than half of the models have the
    same isolation, the deviation is zero and no model is an outlier.

    Args:
        names: n model names.
        affinity: (n, n), symmetric, unit diagonal.
        k: number of nearest models, at most n - 1. With 1, an outlier and its copy would be missed.
        threshold: minimum score of an outlier; 3 is exceeded by about one in 700 normally distributed models.

    Raises:
        UsageError: not an affinity matrix, or k below 1.
    """
    matrix = check_affinity(names, affinity)
    if k < 1:
        raise UsageError(f"outliers need at least one neighbour, not {k}", "example: `k=3`")
    n = len(matrix)
    k = min(k, n - 1)
    if k < 1:
        return []
    np.fill_diagonal(matrix, -np.inf)
    nearest = np.argmax(matrix, axis=1)
    return outliers_of(names, np.arange(n), nearest[:, None], -np.sort(-matrix, axis=1)[:, :k], threshold)


def outliers_of(
    names: Sequence[str], rows: ArrayLike, neighbours: ArrayLike, affinities: ArrayLike, threshold: float = 3.0
) -> list[Outlier]:
    """The `outliers` among models with lists of neighbours.

    Args:
        names: n model names.
        rows: (m,) the models that have lists: indices into the names.
        neighbours: (m, 1 or more) indices of their nearest models, best first.
        affinities: (m, k) with their k nearest models, best first.
        threshold: as in `outliers`.
    """
    models, near = np.asarray(rows, dtype=np.int64), np.asarray(neighbours, dtype=np.int64)
    values = np.asarray(affinities, dtype=np.float64)
    isolation = distance_matrix(values).mean(axis=1)
    median = float(np.median(isolation))
    spread = _MAD_TO_SIGMA * float(np.median(np.abs(isolation - median)))
    if spread <= 1e-12:
        return []
    score = (isolation - median) / spread
    return [
        Outlier(names[models[i]], names[near[i, 0]], float(values[i, 0]), float(isolation[i]), float(score[i]))
        for i in np.argsort(-score, kind="stable")
        if score[i] >= threshold
    ]
