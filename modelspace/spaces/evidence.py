"""Why a neighbour is one: which views agree on it, and how far scores like its own have been right.

A view of a re-ranking with several parts agrees on a neighbour if it has it among its own first k. So has a space of
attribution maps on the same probe images. None of this changes the order.

Confidence is a class of the score. On the targets `chosen` of the oracle `rooms`, 1 of 20 sources with a score below
`LOW` was among a target's best five, and every one from `HIGH` on. What came of the classes on the targets kept aside
and in another world is in docs/lab-book/evaluation.md; `scripts/measure_confidence.py` prints it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import numpy as np

from modelspace.errors import NotFoundError
from modelspace.registry import Registry, outcomes
from modelspace.spaces import rerankings
from modelspace.spaces.kinds import MapSpace, space_of
from modelspace.spaces.neighbours import Ranked, Target, load_index
from modelspace.spaces.ranking import Ranking
from modelspace.types import SpaceSpec

#: Scores of the ranking `combined` below which confidence is low, and from which on it is high.
LOW, HIGH = 0.2, 0.4

#: What a space of attribution maps says of a neighbour.
PIXELS = "same pixels"


def confidence(score: float, ranking: Ranking) -> str:
    """The class of a score: "low", "medium" or "high"; "" for rankings whose scores were not classified.

    >>> [confidence(score, Ranking(rerank="combined")) for score in (0.1, 0.2, 0.4)]
    ['low', 'medium', 'high']
    """
    if ranking.rerank != rerankings.COMBINED:
        return ""
    return "low" if score < LOW else "medium" if score < HIGH else "high"


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
