"""Which models of very many a picture shows: those that cover all of them, or some drawn at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def covering(vectors: ArrayLike, count: int) -> NDArray[np.int64]:
    """Rows that cover all others: the farthest-first traversal of Gonzalez (Theoretical Computer Science, 1985).

    The first row is the one nearest to the mean; each further one is the row that is furthest, by the angle, from all
    that were chosen. No other choice of as many rows has less than half of its largest distance from a row to the
    nearest chosen one.

    Args:
        vectors: (n, d) float32; their lengths do not matter.
        count: number of rows; at most n are returned.

    Returns:
        (count,) row indices, ascending. They depend on the vectors alone.
    """
    rows = np.array(vectors, dtype=np.float32)
    n = len(rows)
    if count >= n:
        return np.arange(n)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows /= np.where(lengths > 0, lengths, 1)[:, None]
    nearest = np.full(n, -np.inf, dtype=np.float32)  # cosine of each row with the nearest chosen one
    chosen = np.empty(count, dtype=np.int64)
    number = int((rows @ rows.mean(axis=0)).argmax())
    for i in range(count):
        chosen[i] = number
        np.maximum(nearest, rows @ rows[number], out=nearest)
        nearest[number] = np.inf
        number = int(nearest.argmin())
    return np.sort(chosen)


def drawn(n: int, count: int, seed: int = 0) -> NDArray[np.int64]:
    """At most `count` of n rows, drawn at random without replacement: ascending indices.

    >>> drawn(3, 5).tolist()
    [0, 1, 2]
    """
    if count >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, count, replace=False))
