"""Corrections for hubs, as coordinates: models that are near to everybody and would fill every ranking.

With s(t, i) the affinity of target t and source i, and over the other models of the space: m(i) the mean of i's affinities,
σ(i) their standard deviation, r(i) the mean of the `NEIGHBOURS` largest,

- centred: s(t, i) − m(i) (Suzuki et al., EMNLP 2013);
- csls: 2 s(t, i) − r(i) (Conneau et al., ICLR 2018);
- mutual: (s(t, i) − m(t)) / σ(t) + (s(t, i) − m(i)) / σ(i), which ranks as mutual proximity does in its Gaussian form
  (Schnitzer et al., JMLR 13, 2012), without its saturation at the far ends.

s is an inner product of vectors, so each of these is one too: of [v(i), c(i)] and [v(t), −1] for the first two, and of
[v(i)/σ(i), v(i), m(i)/σ(i)] and [v(t), v(t)/σ(t), −1] for the last, up to a constant of the target's. A FAISS index over such
vectors ranks exactly; m, r and σ are computed when it is built, since every model that is added changes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NONE, CENTRED, CSLS, MUTUAL = "none", "centred", "csls", "mutual"
CORRECTIONS = (NONE, CENTRED, CSLS, MUTUAL)

#: The k of CSLS; all others in a space of fewer models.
NEIGHBOURS = 10

#: Rows whose affinities to all models are held at a time.
_ROWS = 1024


@dataclass(frozen=True)
class Score:
    """A corrected score as a line in the affinity: slope (n,) x affinity + offset (n,)."""

    slope: NDArray[np.float64]
    offset: NDArray[np.float64]

    def __call__(self, affinity: np.ndarray) -> NDArray[np.float64]:
        """Scores of n sources; affinity (n,) or (n, N)."""
        shape = (-1,) + (1,) * (np.ndim(affinity) - 1)
        return self.slope.reshape(shape) * affinity + self.offset.reshape(shape)


def items(vectors: np.ndarray, correction: str) -> NDArray[np.float32]:
    """What the index holds instead of the vectors.

    Args:
        vectors: (n, d), one per model.
        correction: one of `CORRECTIONS`.

    Returns:
        (n, d), (n, d + 1) or (n, 2 d + 1) float32.
    """
    wide = np.ascontiguousarray(vectors, dtype=np.float32)
    if correction == NONE or not len(wide):
        return wide
    if correction == MUTUAL:
        mean, spread, _ = _statistics(wide, 0)
        inverse = _inverse(spread)
        return np.hstack([wide * inverse[:, None], wide, (mean * inverse)[:, None]]).astype(np.float32)
    mean, _, top = _statistics(wide, NEIGHBOURS if correction == CSLS else 0)
    return np.hstack([wide, (top if correction == CSLS else mean)[:, None]]).astype(np.float32)


def vector_of(item: np.ndarray, correction: str) -> NDArray[np.float32]:
    """The model's own vector within its item of `items`."""
    if correction == NONE:
        return item
    if correction == MUTUAL:
        return item[(len(item) - 1) // 2 : -1]
    return item[:-1]


def query(vector: np.ndarray, correction: str, width: int, others: np.ndarray | None = None) -> NDArray[np.float32]:
    """What the index is asked with.

    Args:
        vector: (d',) of the target; coordinates beyond the space's are left out, missing ones are zero.
        correction: one of `CORRECTIONS`.
        width: of the index's items.
        others: for "mutual", the target's affinities to the other models, (n,).

    Returns:
        (width,) float32.
    """
    if correction == NONE:
        return _fitted(vector, width)
    if correction == MUTUAL:
        assert others is not None
        own = _fitted(vector, (width - 1) // 2)
        return np.concatenate([own, own * _inverse(np.std(others)), [-1.0]]).astype(np.float32)
    own = _fitted(vector, width - 1)
    return np.concatenate([own * (2.0 if correction == CSLS else 1.0), [-1.0]]).astype(np.float32)


def score(found: np.ndarray, correction: str, others: np.ndarray | None = None) -> Score:
    """The lines that turn exact affinities of the found sources into scores.

    Args:
        found: (n, width) their items.
        correction: one of `CORRECTIONS`.
        others: as in `query`.
    """
    n = len(found)
    if correction == NONE:
        return Score(np.ones(n), np.zeros(n))
    last = np.asarray(found[:, -1], dtype=np.float64)
    if correction == MUTUAL:
        assert others is not None
        half = (found.shape[1] - 1) // 2
        size = np.linalg.norm(found[:, half:-1].astype(np.float64), axis=1)
        inverse = np.linalg.norm(found[:, :half].astype(np.float64), axis=1) / np.maximum(size, 1e-30)
        own = _inverse(np.std(others))
        return Score(inverse + own, -last - np.mean(others) * own)
    return Score(np.full(n, 2.0 if correction == CSLS else 1.0), -last)


def corrected(affinities: np.ndarray, correction: str) -> NDArray[np.float64]:
    """Scores of all pairs from affinities (n, n): row = target, column = source; the diagonal means nothing.

    What a query ranks by, for judging it (`modelspace.verbs.evaluate`).
    """
    wide = np.asarray(affinities, dtype=np.float64)
    n = len(wide)
    if correction == NONE or n < 2:
        return wide
    others = ~np.eye(n, dtype=bool)
    rows = wide[others].reshape(n, n - 1)
    mean, spread = rows.mean(axis=1), rows.std(axis=1)
    if correction == CENTRED:
        return wide - mean[None, :]
    if correction == CSLS:
        k = min(NEIGHBOURS, n - 1)
        return 2 * wide - np.sort(rows, axis=1)[:, -k:].mean(axis=1)[None, :]
    inverse = _inverse(spread)
    return (wide - mean[:, None]) * inverse[:, None] + (wide - mean[None, :]) * inverse[None, :]


def _statistics(
    vectors: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each model's affinities to the others, and the mean of the k largest: (n,) each."""
    n = len(vectors)
    mean, spread, top = np.zeros(n), np.zeros(n), np.zeros(n)
    if n < 2:
        return mean, spread, top
    k = min(k, n - 1)
    for first in range(0, n, _ROWS):
        rows = (vectors[first : first + _ROWS] @ vectors.T).astype(np.float64)
        at = np.arange(len(rows))
        rows[at, first + at] = 0.0
        last = slice(first, first + len(rows))
        mean[last] = rows.sum(axis=1) / (n - 1)
        # around the mean, not by the difference of two large sums
        deviation = rows - mean[last, None]
        deviation[at, first + at] = 0.0
        spread[last] = np.sqrt(np.square(deviation).sum(axis=1) / (n - 1))
        if k:
            rows[at, first + at] = -np.inf
            top[last] = np.partition(rows, n - k, axis=1)[:, n - k :].mean(axis=1)
    return mean, spread, top


def _inverse(spread: np.ndarray | float) -> NDArray[np.float64]:
    """1 / σ, and 0 for a model that is equally near to all others: its side then says nothing."""
    wide = np.asarray(spread, dtype=np.float64)
    return np.divide(1.0, wide, out=np.zeros_like(wide), where=wide > 1e-12)


def _fitted(vector: np.ndarray, width: int) -> NDArray[np.float32]:
    out = np.zeros(width, dtype=np.float32)
    kept = min(width, len(vector))
    out[:kept] = vector[:kept]
    return out
