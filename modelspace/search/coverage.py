"""Which models stand for the others: near-copies, and the middles of clusters in a large registry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Models of at least this affinity are taken to be the same: one is tried for all.
NEAR_COPY = 0.99

#: From this number of models on, a search starts with the middles of clusters instead of the order of promise alone.
MANY = 500


def standing_for(affinity: Array, order: Sequence[int]) -> dict[int, int]:
    """For each model, the one that is tried in its place: itself, or an earlier near-copy that is.

    Args:
        affinity: (n, n).
        order: numbers of models, the most promising first.
    """
    chosen: list[int] = []
    result: dict[int, int] = {}
    for model in order:
        near = [other for other in chosen if affinity[model, other] >= NEAR_COPY]
        result[model] = near[0] if near else model
        if not near:
            chosen.append(model)
    return result


def medoids(affinity: Array, order: Sequence[int], count: int) -> list[int]:
    """Models that cover the others: each next one raises the affinity of all models to their nearest one the most.

    Greedy facility location, within 1 - 1/e of the best choice (Nemhauser, Wolsey & Fisher, Mathematical Programming
    1978). Ties go to the earlier model of the order.

    Args:
        affinity: (n, n).
        order: numbers of the models to choose from, the most promising first.
        count: how many to choose.
    """
    candidates = list(order)
    covered = np.zeros(len(affinity))
    chosen: list[int] = []
    gains = np.maximum(affinity[candidates], 0.0)
    for _ in range(min(count, len(candidates))):
        gain = np.maximum(gains - covered, 0.0).sum(axis=1)
        gain[[candidates.index(model) for model in chosen]] = -1.0
        best = int(np.argmax(gain))
        chosen.append(candidates[best])
        covered = np.maximum(covered, gains[best])
    return chosen


def neighbourhood(affinity: Array, best: Sequence[int], seen: Sequence[int], count: int) -> list[int]:
    """The models nearest to any of the best that were not seen yet, nearest first.

    Args:
        affinity: (n, n).
        best: numbers of the best models so far.
        seen: numbers of models that are left out.
        count: how many to return at most.
    """
    nearness = affinity[:, list(best)].max(axis=1).copy()
    nearness[list(seen)] = -np.inf
    order = np.argsort(-nearness, kind="stable")
    return [int(model) for model in order[:count] if np.isfinite(nearness[model])]
