"""Re-rankings: how the candidates of a query are scored once more, from the kernels of their features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelspace.spaces import predictability, similarities

Array = NDArray[np.float64]

#: How candidates can be re-ranked; "none" leaves their order.
RERANKINGS = (*predictability.RERANKINGS, *similarities.NAMES)


@dataclass(frozen=True)
class Reranking:
    """A score of a source for a target, from the (N, N) kernels of both.

    Attributes:
        of_target: called with the target's kernel; returns what `per_image` needs of it.
        of_source: the same of a source; it is computed once for all targets.
        per_image: called with both, target first; returns (N,) what each probe image adds to the score, their mean.
        is_symmetric: whether the score stays the same if source and target change roles.
    """

    of_target: Callable[[Array], Any]
    of_source: Callable[[Array], Any]
    per_image: Callable[[Any, Any], Array]
    is_symmetric: bool


def reranking(name: str) -> Reranking:
    """The re-ranking of a name of `RERANKINGS` other than "none"."""
    if name == predictability.DIRECTED:
        return Reranking(
            lambda kernel: kernel,
            predictability.out_of_fold_weights,
            predictability.r2_per_image,
            is_symmetric=False,
        )
    similarity = similarities.SIMILARITIES[name]

    def of_model(kernel: Array) -> Any:
        return similarity.of_model(kernel, similarities.neighbours_of(len(kernel)))

    return Reranking(of_model, of_model, similarity.per_image, is_symmetric=True)


def score_matrix(name: str, kernels: Sequence[Array]) -> Array:
    """Scores of all pairs of n models: (n, n), row = target, column = source."""
    if name == predictability.DIRECTED:
        return predictability.r2_matrix(kernels)
    return similarities.similarity_matrix(name, kernels)
