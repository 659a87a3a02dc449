"""Taskonomy's ordinal normalisation: losses in different units become affinities that are comparable across targets.

Zamir et al., "Taskonomy: Disentangling Task Transfer Learning", CVPR 2018, section 3.3, based on the Analytic Hierarchy
Process (Saaty 1987): for each target, each pair of sources plays a tournament over the held-out images, and the
affinities are the principal eigenvector of the matrix of odds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from modelspace.errors import UsageError
from modelspace.evaluation.rankings import Array

CLIP = (0.001, 0.999)


def win_matrix(losses: ArrayLike) -> Array:
    """Pairwise win rates: W[i, j] is the share of held-out images on which source i has a smaller loss than source j.

    Args:
        losses: (sources, images), finite, of one target; images may be repeated for several seeds.

    Returns:
        (sources, sources) in [0, 1] with W + Wᵀ = 1: an equal loss is half a win for each, and the diagonal is 1/2.

    >>> win_matrix([[1.0, 2.0], [3.0, 2.0]]).tolist()
    [[0.5, 0.75], [0.25, 0.5]]
    """
    table = np.asarray(losses, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape or not np.isfinite(table).all():
        raise UsageError(f"a tournament needs a finite (sources, images) table of losses, not shape {table.shape}")
    wins = np.empty((len(table), len(table)))
    for i, row in enumerate(table):
        wins[i] = (row < table).mean(axis=1) + 0.5 * (row == table).mean(axis=1)
    return wins


def win_rates(wins: ArrayLike) -> Array:
    """(sources,) each source's mean win rate over the other sources, from a `win_matrix`; 1/2 for a single source."""
    wins = np.asarray(wins, dtype=np.float64)
    if len(wins) < 2:
        return np.full(len(wins), 0.5)
    rates: Array = (wins.sum(axis=1) - np.diag(wins)) / (len(wins) - 1)
    return rates


def affinities(wins: ArrayLike, clip: tuple[float, float] = CLIP) -> Array:
    """AHP affinities of one target's sources from their `win_matrix`.

    W is clipped to `clip`; W'[i, j] = W[i, j] / W[j, i] is how many times better i is than j, and the affinities are
    the principal eigenvector of W', scaled to sum to 1 (Zamir et al. 2018, section 3.3).

    Returns:
        (sources,) positive, higher is better.

    Raises:
        UsageError: `wins` is not a square table in [0, 1] with W + Wᵀ = 1.
    """
    wins = np.asarray(wins, dtype=np.float64)
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or not np.allclose(wins + wins.T, 1.0, atol=1e-6):
        raise UsageError("a win matrix must be square, with each pair's two win rates summing to 1")
    clipped = np.clip(wins, *clip)
    values, vectors = np.linalg.eig(clipped / clipped.T)
    # All entries are positive, so the largest eigenvalue is real, and its eigenvector has one sign (Perron 1907).
    principal: Array = np.abs(vectors[:, np.argmax(values.real)].real)
    principal /= principal.sum()
    return principal
