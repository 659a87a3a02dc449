"""Nearest neighbours in a space and in its projection, and how many the projection preserves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from modelspace.errors import UsageError

# Rows of inner products held in memory at once: 512 rows for 100,000 vectors are 200 MB of float32.
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class NeighbourRecall:
    """How far a projection can be trusted.

    Attributes:
        k: number of neighbours, at most n - 1.
        per_model: (m,) float64 in 0..1: share of a model's k true neighbours among its k nearest in the projection.
        mean: over the m models.
        chance: expected for a random projection: k / (n - 1).
        drawn: m, if the m models are a sample of the n; None if they are all.
    """

    k: int
    per_model: NDArray[np.float64]
    mean: float
    chance: float
    drawn: int | None = None

    def __str__(self) -> str:
        near = f"{self.mean:.0%} of each model's {self.k} true neighbours are among its {self.k} nearest on the map"
        chance = f"by chance {self.chance:.{0 if self.chance >= 0.01 else 1 if self.chance >= 0.0005 else 3}%}"
        of = "" if self.drawn is None else f"; measured on {self.drawn:,} of the models"
        return f"{near} ({chance}{of})"


def true_neighbours(affinity: ArrayLike, k: int = 5) -> NDArray[np.int64]:
    """(n, k') indices of the models of largest affinity, best first, without the model itself; k' = min(k, n - 1).

    Ties are in the order of the models.
    """
    matrix = np.array(affinity, dtype=np.float64)
    n = len(matrix)
    np.fill_diagonal(matrix, -np.inf)
    nearest: NDArray[np.int64] = np.argsort(-matrix, axis=1, kind="stable")[:, : min(k, n - 1)].astype(np.int64)
    return nearest


def nearest_of_vectors(
    vectors: ArrayLike, k: int, rows: ArrayLike | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Exact nearest neighbours of unit vectors by inner product, computed in blocks.

    UMAP's own approximate search found 40 % of the neighbours of strongly clustered vectors, so it is not used.

    Args:
        vectors: (n, d) float32, rows of unit length.
        k: number of neighbours; k' = min(k, n - 1) are returned.
        rows: (m,) indices of the rows whose neighbours are searched; None: of all.

    Returns:
        (m, k') int64 row indices, best first, without the row itself, and (m, k') float32 inner products.
    """
    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    searched = np.arange(len(matrix)) if rows is None else np.asarray(rows, dtype=np.int64)
    return _nearest(matrix[searched], matrix, min(k, len(matrix) - 1), searched)


def nearest_among(queries: ArrayLike, vectors: ArrayLike, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest of n vectors to each query by inner product: as `nearest_of_vectors`, with (m, min(k, n)) results."""
    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    return _nearest(np.asarray(queries, dtype=np.float32), matrix, min(k, len(matrix)), None)


def _nearest(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int, itself: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(m, k) indices and products; `itself` has the index of each query among the vectors, which is left out."""
    numbers = np.empty((len(queries), k), dtype=np.int64)
    products = np.empty((len(queries), k), dtype=np.float32)
    for start in range(0, len(queries), _ROWS_AT_ONCE):
        block = queries[start : start + _ROWS_AT_ONCE] @ vectors.T
        if itself is not None:
            block[np.arange(len(block)), itself[start : start + len(block)]] = -np.inf
        is_part = 0 < k < len(vectors) - 1
        best = np.argpartition(-block, k - 1, axis=1)[:, :k] if is_part else np.argsort(-block, axis=1)[:, :k]
        values = np.take_along_axis(block, best, axis=1)
        # Best first, with ties in the order of the models.
        order = np.lexsort((best, -values), axis=1)
        numbers[start : start + len(block)] = np.take_along_axis(best, order, axis=1)
        products[start : start + len(block)] = np.take_along_axis(values, order, axis=1)
    return numbers, products


def neighbour_recall(
    coordinates: ArrayLike,
    *,
    affinity: ArrayLike | None = None,
    neighbours: ArrayLike | None = None,
    rows: ArrayLike | None = None,
    k: int = 5,
) -> NeighbourRecall:
    """The share of each model's k true neighbours that are among its k nearest in the projection.

    Args:
        coordinates: (n, 2) coordinates of the projection.
        affinity: (n, n) exact affinities. If several models tie for the k-th place, any of them counts.
        neighbours: instead of `affinity`, (n, k or more) indices of the true neighbours, best first.
        rows: (m,) the models whose recall is measured, with `neighbours` (m, k or more) of theirs; None: all.
        k: number of neighbours.

    Raises:
        UsageError: not exactly one of `affinity` and `neighbours` is given, or shapes differ.
    """
    points = np.asarray(coordinates, dtype=np.float64)
    n = len(points)
    if (affinity is None) == (neighbours is None):
        raise UsageError("neighbour recall needs either the affinities or the true neighbours")
    if k < 1:
        raise UsageError(f"neighbour recall needs at least one neighbour, not {k}", "example: `k=5`")
    k = min(k, n - 1)
    if k < 1:
        return NeighbourRecall(0, np.ones(n), 1.0, 1.0)
    measured = np.arange(n) if rows is None else np.asarray(rows, dtype=np.int64)
    projected = _nearest_points(points, k, measured)
    if affinity is not None:
        matrix = np.array(affinity, dtype=np.float64)
        if matrix.shape != (n, n):
            raise UsageError(f"affinities have shape {matrix.shape}, but the map shows {n} models")
        np.fill_diagonal(matrix, -np.inf)
        worst = -np.partition(-matrix, k - 1, axis=1)[:, k - 1 : k]
        hits = (np.take_along_axis(matrix[measured], projected, axis=1) >= worst[measured]).sum(axis=1)
    else:
        true = np.asarray(neighbours)
        if true.ndim != 2 or len(true) != len(measured) or true.shape[1] < k:
            raise UsageError(f"true neighbours have shape {true.shape}, but {k} of {len(measured)} models are needed")
        hits = (projected[:, :, None] == true[:, None, :k]).any(axis=2).sum(axis=1)
    share = hits / k
    return NeighbourRecall(k, share, float(share.mean()), k / (n - 1), len(measured) if len(measured) < n else None)


def _nearest_points(points: NDArray[np.float64], k: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m, k) indices of the nearest other points of m of them, nearest first."""
    _, matches = cKDTree(points).query(points[rows], k=k + 1)
    matches = np.asarray(matches).reshape(len(rows), k + 1)
    # The point itself is not always first, and may be missing altogether, if points coincide.
    is_self = matches == rows[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    others: NDArray[np.int64] = matches[~is_self].reshape(len(rows), k).astype(np.int64)
    return others


def occurrence(neighbours: ArrayLike, n_models: int | None = None) -> NDArray[np.int64]:
    """(n,) the number of neighbour lists that contain each model; the mean is k, and a hub is in many.

    >>> occurrence([[1], [0], [1]]).tolist()
    [1, 2, 0]

    Args:
        neighbours: (m, k) indices.
        n_models: n, if it differs from the number of lists.
    """
    lists = np.asarray(neighbours, dtype=np.int64)
    counts: NDArray[np.int64] = np.bincount(lists.ravel(), minlength=len(lists) if n_models is None else n_models)
    return counts


def hubs(names: Sequence[str], affinity: ArrayLike, k: int = 5, factor: float = 4.0) -> list[tuple[str, int]]:
    """(name, number of lists) of the models in more than `factor` x k neighbour lists; most frequent first."""
    return hubs_of(names, true_neighbours(affinity, k), factor)


def hubs_of(names: Sequence[str], neighbours: ArrayLike, factor: float = 4.0) -> list[tuple[str, int]]:
    """As `hubs`, of (m, k) lists of neighbours, which are indices into the names."""
    lists = np.asarray(neighbours, dtype=np.int64)
    counts, k = occurrence(lists, len(names)), lists.shape[1]
    return [(names[i], int(counts[i])) for i in np.argsort(-counts, kind="stable") if counts[i] > factor * k]
