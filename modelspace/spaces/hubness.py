"""Hubness corrections, as coordinates: hubs are models near to all others, which would fill every ranking.

With s(t, i) the affinity of target t and source i, and, over the other models of the space, m(i) the mean of i's
affinities, σ(i) their standard deviation, and r(i) the mean of the `NEIGHBOURS` largest,

- centred: s(t, i) − m(i) (Suzuki et al., EMNLP 2013);
- csls: 2 s(t, i) − r(i) (Conneau et al., ICLR 2018);
- mutual: (s(t, i) − m(t)) / σ(t) + (s(t, i) − m(i)) / σ(i), which ranks like mutual proximity in its Gaussian form
  (Schnitzer et al., JMLR 13, 2012), without saturating in the tails.

s is an inner product of vectors, so each of these is one too: of [v(i), c(i)] and [v(t), −1] for the first two, and of
[v(i)/σ(i), v(i), m(i)/σ(i)] and [v(t), v(t)/σ(t), −1] for the last, up to a constant that depends on the target. A
FAISS index over such vectors ranks exactly. m, r and σ are computed when it is built, since each new model changes
them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelspace.late import dataclass

NONE, CENTRED, CSLS, MUTUAL = "none", "centred", "csls", "mutual"
CORRECTIONS = (NONE, CENTRED, CSLS, MUTUAL)

#: The k of CSLS; in a smaller space, all other models.
NEIGHBOURS = 10

#: Rows of the affinity matrix in memory at a time.
_ROWS = 1024


@dataclass(frozen=True)
class Score:
    """A corrected score as a linear function of the affinity: slope (n,) x affinity + offset (n,)."""

    slope: NDArray[np.float64]
    offset: NDArray[np.float64]

    def __call__(self, affinity: np.ndarray) -> NDArray[np.float64]:
        """Scores of n sources; affinity (n,) or (n, N)."""
        shape = (-1,) + (1,) * (np.ndim(affinity) - 1)
        scores: NDArray[np.float64] = self.slope.reshape(shape) * affinity + self.offset.reshape(shape)
        return scores


def items(vectors: np.ndarray, correction: str) -> NDArray[np.float32]:
    """The extended vectors that the index of a corrected space holds.

    Args:
        vectors: (n, d), one per model.
        correction: one of `CORRECTIONS`.

    Returns:
        (n, d), (n, d + 1) or (n, 2 d + 1) float32.
    """
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if correction == NONE or not len(rows):
        return rows
    if correction == MUTUAL:
        mean, spread, _ = _statistics(rows, 0)
        inverse = _inverse(spread)
        return np.hstack([rows * inverse[:, None], rows, (mean * inverse)[:, None]]).astype(np.float32)
    mean, _, top = _statistics(rows, NEIGHBOURS if correction == CSLS else 0)
    return np.hstack([rows, (top if correction == CSLS else mean)[:, None]]).astype(np.float32)


def vector_of(item: np.ndarray, correction: str) -> NDArray[np.float32]:
    """A model's plain vector, from its row of `items`."""
    if correction == NONE:
        return item
    if correction == MUTUAL:
        return item[(len(item) - 1) // 2 : -1]
    return item[:-1]


def query(vector: np.ndarray, correction: str, width: int, others: np.ndarray | None = None) -> NDArray[np.float32]:
    """The query vector of a target.

    Args:
        vector: (d',) of the target; padded with zeros, or cut off where it has more coordinates than the space.
        correction: one of `CORRECTIONS`.
        width: length of the index's items.
        others: for "mutual", the target's affinities to the other models, (n,).

    Returns:
        (width,) float32.
    """
    if correction == NONE:
        return _fitted(vector, width)
    if correction == MUTUAL:
        assert others is not None
        coordinates = _fitted(vector, (width - 1) // 2)
        return np.concatenate([coordinates, coordinates * _inverse(np.std(others)), [-1.0]]).astype(np.float32)
    coordinates = _fitted(vector, width - 1)
    return np.concatenate([coordinates * (2.0 if correction == CSLS else 1.0), [-1.0]]).astype(np.float32)


def score(items: np.ndarray, correction: str, others: np.ndarray | None = None) -> Score:
    """The linear functions that turn exact affinities of n sources into scores.

    Args:
        items: (n, width) the sources' items.
        correction: one of `CORRECTIONS`.
        others: as in `query`.
    """
    n = len(items)
    if correction == NONE:
        return Score(np.ones(n), np.zeros(n))
    last = np.asarray(items[:, -1], dtype=np.float64)
    if correction == MUTUAL:
        assert others is not None
        half = (items.shape[1] - 1) // 2
        size = np.linalg.norm(items[:, half:-1].astype(np.float64), axis=1)
        source_inverse = np.linalg.norm(items[:, :half].astype(np.float64), axis=1) / np.maximum(size, 1e-30)
        target_inverse = _inverse(np.std(others))
        return Score(source_inverse + target_inverse, -last - np.mean(others) * target_inverse)
    return Score(np.full(n, 2.0 if correction == CSLS else 1.0), -last)


def corrected(affinities: np.ndarray, correction: str) -> NDArray[np.float64]:
    """The scores that queries rank by, for all pairs, from affinities (n, n).

    Row = target, column = source; the diagonal has no meaning.
    """
    matrix: NDArray[np.float64] = np.asarray(affinities, dtype=np.float64)
    n = len(matrix)
    if correction == NONE or n < 2:
        return matrix
    rows = matrix[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    mean, spread = rows.mean(axis=1), rows.std(axis=1)
    scores: NDArray[np.float64]
    if correction == CENTRED:
        scores = matrix - mean[None, :]
    elif correction == CSLS:
        k = min(NEIGHBOURS, n - 1)
        scores = 2 * matrix - np.sort(rows, axis=1)[:, -k:].mean(axis=1)[None, :]
    else:
        inverse = _inverse(spread)
        scores = (matrix - mean[:, None]) * inverse[:, None] + (matrix - mean[None, :]) * inverse[None, :]
    return scores


def _statistics(
    vectors: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each model's affinities to the others, and mean of the k largest: (n,) each."""
    n = len(vectors)
    mean, spread, top = np.zeros(n), np.zeros(n), np.zeros(n)
    if n < 2:
        return mean, spread, top
    k = min(k, n - 1)
    for first in range(0, n, _ROWS):
        rows = (vectors[first : first + _ROWS] @ vectors.T).astype(np.float64)
        diagonal = (np.arange(len(rows)), first + np.arange(len(rows)))
        rows[diagonal] = 0.0
        chunk = slice(first, first + len(rows))
        mean[chunk] = rows.sum(axis=1) / (n - 1)
        # Deviations from the mean: E[x²] − E[x]² would lose precision.
        deviation = rows - mean[chunk, None]
        deviation[diagonal] = 0.0
        spread[chunk] = np.sqrt(np.square(deviation).sum(axis=1) / (n - 1))
        if k:
            rows[diagonal] = -np.inf
            top[chunk] = np.partition(rows, n - k, axis=1)[:, n - k :].mean(axis=1)
    return mean, spread, top


def _inverse(spread: np.ndarray | float) -> NDArray[np.float64]:
    """1 / σ, and 0 for a model equally near to all others, whose term carries no information."""
    sigma = np.asarray(spread, dtype=np.float64)
    return np.divide(1.0, sigma, out=np.zeros_like(sigma), where=sigma > 1e-12)


def _fitted(vector: np.ndarray, width: int) -> NDArray[np.float32]:
    out = np.zeros(width, dtype=np.float32)
    length = min(width, len(vector))
    out[:length] = vector[:length]
    return out
