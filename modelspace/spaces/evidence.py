"""Why a neighbour is one: which views agree on it, and how far scores like its own have been right.

A view of a re-ranking with several parts agrees on a neighbour if it has it among its own first k. So has a space of
attribution maps on the same probe images. None of this changes the order.

The chance that a neighbour is among the target's best five comes from its score and its rank, by a logistic regression
on measured transfers: on the targets `chosen`, in the world that the networks were trained in and in one that is
strange to them. Confidence is its class. How right it was on targets kept aside and in other worlds is in
docs/lab-book/evaluation.md; `scripts/measure_confidence.py` fits and checks it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from modelspace.errors import NotFoundError
from modelspace.registry import Registry, outcomes
from modelspace.spaces import rerankings
from modelspace.spaces.kinds import MapSpace, space_of
from modelspace.spaces.neighbours import Ranked, Target, load_index
from modelspace.spaces.ranking import Ranking
from modelspace.types import SpaceSpec

#: Number of a target's sources that are called its best, and the fewest sources of which these are a third.
BEST, FEWEST = 5, 15


class Weights(NamedTuple):
    """Of a logistic regression: a constant, and the weights of the score and of the logarithm of the rank."""

    constant: float
    score: float
    log_rank: float


#: As fitted for the ranking `combined`, with 19 to 38 sources.
WEIGHTS = Weights(2.388, 3.419, -2.378)

#: Classes of a chance, and from which chance on it is in the second and in the third.
CLASSES, LIMITS = ("low", "medium", "high"), (1 / 3, 2 / 3)

#: What a space of attribution maps says of a neighbour.
PIXELS = "same pixels"


def chance(score: float, rank: int, ranking: Ranking, n_sources: int) -> float | None:
    """The chance that a neighbour is among the target's `BEST` best sources, 0..1.

    Args:
        score: of the ranking.
        rank: 1 for the first.
        ranking: how it was ranked.
        n_sources: number of models that were ranked.

    Returns:
        None for rankings whose scores were not compared with measured transfer, and with fewer than `FEWEST` sources.
    """
    if ranking.rerank != rerankings.COMBINED or n_sources < FEWEST:
        return None
    return chance_of(score, rank)


def confidence(score: float, rank: int, ranking: Ranking) -> str:
    """The class of the chance that a neighbour would have among enough sources: "low", "medium" or "high".

    Args:
        score: of the ranking.
        rank: 1 for the first.
        ranking: how it was ranked.

    Returns:
        "" for rankings whose scores were not compared with measured transfer.
    """
    return class_of(chance_of(score, rank)) if ranking.rerank == rerankings.COMBINED else ""


def chance_of(score: float, rank: float, weights: Weights = WEIGHTS) -> float:
    """1 / (1 + exp(−x)), x linear in the score and in the logarithm of the rank; (0, 1)."""
    x = weights.constant + weights.score * score + weights.log_rank * math.log(rank)
    return 1 / (1 + math.exp(-x))


def class_of(chance: float) -> str:
    """The class of a chance.

    >>> [class_of(chance) for chance in (0.1, 0.5, 0.9)]
    ['low', 'medium', 'high']
    """
    return CLASSES[sum(chance >= limit for limit in LIMITS)]


def evidence(
    registry: Registry, spec: SpaceSpec, target: Target, ranked: Ranked, k: int, chosen: Collection[int] | None
) -> dict[int, tuple[str, ...]]:
    """What speaks for each of the first k neighbours, by model id.

    Args:
        registry: an open registry.
        spec: the space of the ranking.
        target: of the query.
        ranked: its neighbours, by a re-ranking with several parts.
        k: number of neighbours shown.
        chosen: ids of the models that were ranked; None for all.

    Returns:
        Words such as "same features", "same places", "same pixels" and "measured on 3 tasks"; none if no view has the
        neighbour among its first k.
    """
    first = {word: set(ids[:k]) for word, ids in ranked.orders.items()}
    first[PIXELS] = set(_nearest_by_maps(registry, spec, target, k, chosen))
    measured = _measured(registry, ranked.model_ids[:k])
    return {
        i: (*(word for word, ids in first.items() if i in ids), *([measured[i]] if i in measured else []))
        for i in ranked.model_ids[:k]
    }


def _nearest_by_maps(
    registry: Registry, spec: SpaceSpec, target: Target, k: int, chosen: Collection[int] | None
) -> Sequence[int]:
    """The k nearest models in the first space of maps on the same probe set; none if the target is not in it."""
    if target.model_id is None:
        return ()
    for row in registry.spaces():
        if row.spec.probe_id == spec.probe_id and isinstance(space_of(row.spec), MapSpace):
            index = load_index(registry, row)
            among = None if chosen is None else np.array(sorted(chosen), np.int64)
            with suppress(NotFoundError):  # this space does not have the target
                _, (ids,) = index.search(index.vector(target.model_id)[None], k + 1, among)
                return [i for i in ids.tolist() if i != target.model_id][:k]
    return ()


def _measured(registry: Registry, model_ids: Sequence[int]) -> Mapping[int, str]:
    """For models with outcomes, the number of tasks that they were measured on, in words."""
    return {
        model_id: f"measured on {count} {'task' if count == 1 else 'tasks'}"
        for model_id, count in outcomes.tasks_of_models(registry, model_ids).items()
    }
