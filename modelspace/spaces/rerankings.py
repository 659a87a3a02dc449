"""Re-rankings: how the candidates of a query are scored once more, from what is stored of their features.

Most compare kernels; `local` compares features on a grid of places. `combined` is the mean of the scores of its parts,
`directed` and `local`: both are a cross-validated R², so nothing is scaled, and a score depends on no other candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelspace.late import dataclass
from modelspace.spaces import local, predictability, similarities
from modelspace.spaces.kinds import LOCAL, GridSpace, KernelSpace

Array = NDArray[np.float64]

COMBINED = "combined"

#: How candidates can be re-ranked; "none" leaves their order.
RERANKINGS = (*predictability.RERANKINGS, LOCAL, COMBINED, *similarities.NAMES)

#: Re-rankings that are means of others, with their parts.
_PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType({COMBINED: (predictability.DIRECTED, LOCAL)})

#: Those that say how well a source's features predict the target's, by another score for each direction.
PREDICTING = (predictability.DIRECTED, LOCAL, COMBINED)


class Rough(NamedTuple):
    """About the score of a re-ranking, from kernels of some of the images (m, m), float32, of any scale.

    Attributes:
        of_sources: called with the kernels of n sources, (n, m, m); returns what `scores` needs of each.
        scores: called with the target's kernel and the result of `of_sources`; returns (n,).
    """

    of_sources: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    scores: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Reranking:
    """A score of a source for a target, from what is stored of both: kernels (N, N), or grids.

    Attributes:
        kind: of the spaces that store it.
        of_target: called with what is stored of the target; returns what `per_image` needs of it.
        of_source: the same of a source; it is computed once for all targets.
        per_image: called with both, target first; returns (N,) what each probe image adds to the score, their mean.
        is_symmetric: whether the score stays the same if source and target change roles.
        agrees_on: what it says of a pair with a high score, in words.
        rough: a shorter way to about the same order, if there is one.
    """

    kind: type[KernelSpace] | type[GridSpace]
    of_target: Callable[[Any], Any]
    of_source: Callable[[Any], Any]
    per_image: Callable[[Any, Any], Array]
    is_symmetric: bool
    agrees_on: str = "same features"
    rough: Rough | None = None


def reranking(name: str) -> Reranking:
    """The re-ranking of a name of `RERANKINGS` that has no parts and is not "none"."""
    if name == LOCAL:
        return Reranking(
            GridSpace, local.places, local.predictor, local.r2_per_image, is_symmetric=False, agrees_on="same places"
        )
    if name == predictability.DIRECTED:
        return Reranking(
            KernelSpace,
            lambda kernel: kernel,
            predictability.out_of_fold_weights,
            predictability.r2_per_image,
            is_symmetric=False,
            rough=Rough(predictability.rough_matrices, predictability.rough_r2),
        )
    similarity = similarities.SIMILARITIES[name]

    def of_model(kernel: Array) -> Any:
        return similarity.of_model(kernel, similarities.neighbours_of(len(kernel)))

    return Reranking(KernelSpace, of_model, of_model, similarity.per_image, is_symmetric=True)


def parts(name: str) -> tuple[str, ...]:
    """The re-rankings whose scores are averaged: the parts of a name of `RERANKINGS`, or itself; none of "none".

    >>> parts("combined"), parts("directed"), parts("none")
    (('directed', 'local'), ('directed',), ())
    """
    return () if name == predictability.NONE else _PARTS.get(name, (name,))


def score_matrix(name: str, stored: Sequence[Any]) -> Array:
    """Scores of all pairs of n models: (n, n), row = target, column = source.

    Args:
        name: as for `reranking`.
        stored: what is stored of the models: kernels, or grids.
    """
    if name == LOCAL:
        return local.r2_matrix(stored)
    if name == predictability.DIRECTED:
        return predictability.r2_matrix(stored)
    return similarities.similarity_matrix(name, stored)


def averaged(parts: Sequence[Array], n_images: int) -> Array:
    """The mean of several scores, as what each of N images adds to it.

    Args:
        parts: what each image adds to each score: (n,) of the first n images, n at most N; their mean is the score.
        n_images: N.

    Returns:
        (N,), whose mean is the mean of the scores. An image that a score does not know adds the score itself, and the
        others their deviations as many times as there are images for each of them, so that a bootstrap over all images
        has the spread of the score.
    """
    total = np.zeros(n_images)
    for values in parts:
        mean = values.mean()
        total += mean
        total[: len(values)] += (values - mean) * (n_images / len(values))
    averages: Array = total / len(parts)
    return averages
