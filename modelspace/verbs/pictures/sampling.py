"""What pictures of very many models show: a sample, which they say, and never all pairs.

A tree, a heatmap and a report show all pairs of models, so of more than `DRAWN` they show that many that cover the
others. A map is fitted to `FITTED` models, and the others are placed next to those. Where neighbours of all are needed,
they come from coordinates: compared with each other up to `COMPARED` models, from the index above that.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from modelspace.analysis import NeighbourRecall, covering, drawn, nearest_of_vectors, neighbour_recall
from modelspace.analysis.projection import MAX_EXACT
from modelspace.errors import UsageError
from modelspace.registry import Registry
from modelspace.spaces.neighbours import load_index
from modelspace.verbs.pictures.selection import Selection, affinities

#: Largest number of models of which a tree, a heatmap or a report shows all pairs by default.
DRAWN = 1000

#: Largest number of models that a map is fitted to by default.
FITTED = 20_000

#: Largest number of models whose neighbours are found by comparing all pairs of coordinates.
COMPARED = 20_000

#: Number of models that are drawn at random to measure how many neighbours a map preserves.
MEASURED = 1000

#: Models that are searched for in the index at a time.
_QUERIES = 1000


def check(sample: int | None, least: int = 2, most: int | None = None) -> None:
    """Check the parameter `sample`.

    Raises:
        UsageError: it is less than `least` or more than `most`.
    """
    if sample is not None and (sample < least or (most is not None and sample > most)):
        bounds = f"{least} or more" if most is None else f"from {least:,} to {most:,}"
        raise UsageError(f"a sample of {sample:,} models can't be shown; it has {bounds}", "example: `sample=500`")


def sampled(registry: Registry, selection: Selection, sample: int | None = None) -> Selection:
    """The selection itself, or a sample of it that covers it if it has more models than can be shown in pairs.

    Args:
        registry: open.
        selection: n models.
        sample: largest number of models; None: `DRAWN`.

    Raises:
        UsageError: `sample` is out of range.
    """
    check(sample, most=MAX_EXACT)
    count, n = DRAWN if sample is None else sample, len(selection.models)
    if n <= count:
        return selection
    rows = covering(vectors_of(registry, selection), count).tolist()
    return replace(
        selection,
        models=tuple(selection.models[i] for i in rows),
        groups=tuple(selection.groups[i] for i in rows),
        total=n,
    )


def remark(selection: Selection) -> str:
    """What is said of a sample; "" if there is none."""
    if selection.total is None:
        return ""
    return (
        f"{len(selection.models):,} of {selection.total:,} models are shown, chosen to cover the others; `sample=` "
        f"chooses another number, `where=` others"
    )


def vectors_of(registry: Registry, selection: Selection) -> NDArray[np.float32]:
    """(n, d) vectors of the selected models, in their order; in a space with anchors their coordinates on those."""
    ids, vectors = registry.vectors(selection.row.spec.space_id)
    if len(ids) == len(selection.models):
        return vectors
    chosen: NDArray[np.float32] = vectors[np.isin(ids, selection.ids)]
    return chosen


def recall_of(registry: Registry, selection: Selection, coordinates: NDArray[np.float64]) -> NeighbourRecall:
    """How many neighbours of the selected models a map of them preserves; of very many, measured on some of them."""
    n = len(selection.models)
    if n <= MAX_EXACT:
        return neighbour_recall(coordinates, affinity=affinities(registry, selection))
    rows = drawn(n, MEASURED)
    numbers, _ = nearest_of_vectors(vectors_of(registry, selection), 5, rows)
    return neighbour_recall(coordinates, neighbours=numbers, rows=rows)


def nearest_by_coordinates(
    registry: Registry, selection: Selection, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k models of largest inner product of coordinates with each selected one, best first.

    Returns:
        (n, k) indices into the selection, and (n, k) inner products; NaN where the index found fewer than k.
    """
    vectors = vectors_of(registry, selection)
    if len(vectors) <= COMPARED:
        nearest = nearest_of_vectors(vectors, k)
        return nearest[0], nearest[1].astype(np.float64)
    ids = np.array(selection.ids)
    index = load_index(registry, registry.space(selection.row.spec.space_id))
    kept = None if index.count == len(ids) else ids
    order = np.argsort(ids)
    numbers = np.zeros((len(ids), k), dtype=np.int64)
    products = np.full((len(ids), k), np.nan)
    for start in range(0, len(ids), _QUERIES):
        scores, hits = index.search(vectors[start : start + _QUERIES], k + 1, kept)
        places = order[np.clip(np.searchsorted(ids, hits, sorter=order), 0, len(ids) - 1)]
        # A model is not always the first of its own list, where it has copies.
        is_other = (hits != ids[start : start + _QUERIES, None]) & (ids[places] == hits)
        first = np.argsort(~is_other, axis=1, kind="stable")[:, :k]
        rows, width = slice(start, start + len(hits)), first.shape[1]
        is_kept = np.take_along_axis(is_other, first, axis=1)
        numbers[rows, :width] = np.where(is_kept, np.take_along_axis(places, first, axis=1), 0)
        products[rows, :width] = np.where(is_kept, np.take_along_axis(scores, first, axis=1), np.nan)
    return numbers, products
