"""A map of a space: UMAP on exact distances, and places for models that come later.

McInnes, Healy and Melville (2018), by the umap-learn package. A seed fixes the result on one machine but not across
machines (umap-learn #853, #1108), so coordinates are to be stored and not computed again; `place_new` puts later models
onto a stored map without moving anyone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.analysis.distances import check_affinity, distance_matrix
from modelspace.analysis.neighbours import NeighbourRecall, nearest_of_vectors, neighbour_recall
from modelspace.errors import UsageError

#: A full distance matrix of more models takes over half a gigabyte; beyond it, vectors are needed.
MAX_EXACT = 8000

#: UMAP needs a few models to work with; fewer are laid out by classical scaling.
MIN_UMAP = 6

# A distance below which two places on the map would be drawn as one, as a share of the map's width.
_APART = 0.004


@dataclass(frozen=True, eq=False)
class Projection:
    """A map and how it was made: what the registry stores.

    Attributes:
        names: n model names.
        coordinates: (n, 2) float64; only distances between them mean something, not axes or units.
        parameters: plain values: method ("umap" or "scaling"), input ("distances" or "vectors"), n_neighbors, min_dist,
            umap-learn's version.
        seed: of the layout.
        recall: how far the map can be trusted.
    """

    names: tuple[str, ...]
    coordinates: NDArray[np.float64]
    parameters: Mapping[str, Any]
    seed: int
    recall: NeighbourRecall = field(repr=False)

    def _repr_html_(self) -> str:
        method = self.parameters.get("method", "")
        return f"<p>Map of {len(self.names)} models ({method}, seed {self.seed}): {self.recall}.</p>"


def default_neighbors(n_models: int) -> int:
    """UMAP's n_neighbors where none is given: 15 for large spaces, fewer where 15 would be nearly everybody.

    >>> [default_neighbors(n) for n in (10, 38, 100, 2000)]
    [4, 6, 10, 15]
    """
    return int(min(15, max(4, round(n_models**0.5))))


def fit_projection(
    names: Sequence[str],
    affinity: ArrayLike | None = None,
    *,
    vectors: ArrayLike | None = None,
    neighbours: tuple[ArrayLike, ArrayLike] | None = None,
    n_neighbors: int | None = None,
    min_dist: float = 0.3,
    seed: int = 0,
    k: int = 5,
) -> Projection:
    """Lay out models in the plane so that near models stay near.

    Args:
        names: n model names, all different.
        affinity: (n, n) exact affinities; used for up to `MAX_EXACT` models.
        vectors: (n, d) float32 unit vectors, for larger spaces. Their neighbours are searched exactly (about ten
            minutes for 100,000 vectors of 512 on two cores) unless `neighbours` is given.
        neighbours: with `vectors`: (n, m) numbers of the nearest other models, best first, and (n, m) their affinities,
            for example from an index; m >= max(n_neighbors - 1, k).
        n_neighbors: neighbourhood that UMAP keeps together, the model itself counted; None: `default_neighbors`.
        min_dist: how near models may lie on the map, 0..1; larger values spread clusters.
        seed: of UMAP's sampling, and of nothing else.
        k: neighbours for the recall.

    Returns:
        Coordinates with their parameters and neighbour recall.

    Raises:
        UsageError: when not exactly one of `affinity` and `vectors` is given, shapes differ, there are more than
            `MAX_EXACT` models in an affinity matrix, or a parameter lies outside its range.
    """
    names = tuple(names)
    n = len(names)
    if (affinity is None) == (vectors is None):
        raise UsageError("a map is made from affinities or from vectors", "give one of the two")
    size = default_neighbors(n) if n_neighbors is None else n_neighbors
    if size < 2 or not 0 <= min_dist <= 1:
        raise UsageError(
            f"n_neighbors {size} and min_dist {min_dist} don't make a map", "n_neighbors is 2 or more, min_dist 0..1"
        )
    size = min(size, max(2, n - 1))
    if affinity is not None and n > MAX_EXACT:
        raise UsageError(f"{n} models are too many for a distance matrix", "give their vectors instead")

    parameters: dict[str, Any] = {"method": "umap", "input": "distances" if vectors is None else "vectors"}
    if affinity is not None:
        matrix = check_affinity(names, affinity)
        start = _scaling(matrix)
        if n < MIN_UMAP:
            coordinates = start
        else:
            coordinates = _umap(start, seed, size, min_dist, distances=distance_matrix(matrix))
        recall = neighbour_recall(coordinates, affinity=matrix, k=k)
    else:
        rows = np.asarray(vectors, dtype=np.float32)
        if rows.ndim != 2 or len(rows) != n or len(set(names)) != n:
            raise UsageError(f"vectors have shape {rows.shape}, but there are {n} names, or a name comes twice")
        if neighbours is None:
            numbers, products = nearest_of_vectors(rows, max(size, k))
        else:
            numbers = np.asarray(neighbours[0], dtype=np.int64)
            products = np.asarray(neighbours[1], dtype=np.float32)
            if numbers.shape != products.shape or len(numbers) != n or numbers.shape[1] < min(n - 1, max(size - 1, k)):
                raise UsageError(f"neighbours have shape {numbers.shape}; {n} rows of {max(size - 1, k)} are needed")
        if n < MIN_UMAP:
            coordinates = _scaling(check_affinity(names, rows.astype(np.float64) @ rows.T.astype(np.float64)))
        else:
            start = _principal(rows)
            coordinates = _umap(start, seed, size, min_dist, vectors=rows, neighbours=(numbers, products))
        recall = neighbour_recall(coordinates, neighbours=numbers, k=k)
    if n < MIN_UMAP:
        parameters["method"] = "scaling"
    else:
        from umap import __version__ as version

        parameters |= {"n_neighbors": size, "min_dist": float(min_dist), "umap": str(version)}
    return Projection(names, coordinates, parameters, seed, recall)


def _scaling(affinity: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) classical scaling (Torgerson, 1952) of √(2 − 2s): the two leading axes of the centred affinities."""
    from scipy.sparse.linalg import eigsh

    n = len(affinity)
    mean = affinity.mean(axis=0)
    centred = affinity - mean[None, :] - mean[:, None] + mean.mean()
    if n < 50:
        values, axes = np.linalg.eigh(centred)
    else:
        values, axes = eigsh(centred, k=2, v0=np.linspace(-1, 1, n) ** 3 + 0.1)
    order = np.argsort(-values)[:2]
    points: NDArray[np.float64] = np.zeros((n, 2))
    points[:, : len(order)] = axes[:, order] * np.sqrt(np.maximum(values[order], 0))
    return _same_way_round(points)


def _principal(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, 2) the first two principal axes, from the (d, d) covariance."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = (vectors.T @ vectors).astype(np.float64) / len(vectors) - np.outer(mean, mean)
    _, axes = np.linalg.eigh(covariance)
    axes = axes[:, ::-1][:, :2]
    points: NDArray[np.float64] = np.zeros((len(vectors), 2))
    points[:, : axes.shape[1]] = vectors @ axes - mean @ axes
    return _same_way_round(points)


def _same_way_round(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sign of an axis is arbitrary; make the largest entry of each positive."""
    largest = points[np.abs(points).argmax(axis=0), np.arange(points.shape[1])]
    flipped: NDArray[np.float64] = points * np.where(largest < 0, -1.0, 1.0)
    return flipped


def _umap(
    start: NDArray[np.float64],
    seed: int,
    n_neighbors: int,
    min_dist: float,
    *,
    distances: NDArray[np.float64] | None = None,
    vectors: NDArray[np.float32] | None = None,
    neighbours: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None,
) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        # A seed makes UMAP run in one thread, and it says so; a precomputed metric has no inverse, and it says so.
        warnings.simplefilter("ignore")
        from umap import UMAP

        settings: dict[str, Any] = {
            "n_neighbors": n_neighbors,
            "min_dist": min_dist,
            "random_state": seed,
            "n_jobs": 1,
            "init": _spread(start, seed),
        }
        if distances is not None:
            found = UMAP(metric="precomputed", **settings).fit_transform(distances)
        else:
            assert neighbours is not None
            numbers, products = neighbours
            # UMAP counts a model as its own first neighbour.
            own = np.arange(len(numbers))[:, None]
            knn = np.hstack([own, numbers[:, : n_neighbors - 1]]).astype(np.int32)
            near = distance_matrix(np.hstack([np.ones_like(own), products[:, : n_neighbors - 1]])).astype(np.float32)
            found = UMAP(
                metric="euclidean", precomputed_knn=(knn, near), force_approximation_algorithm=True, **settings
            ).fit_transform(vectors)
    coordinates: NDArray[np.float64] = np.asarray(found, dtype=np.float64)
    return coordinates


def _spread(points: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """Starting places 10 units wide, as UMAP's own are, and coinciding ones shaken apart."""
    width = float(np.ptp(points, axis=0).max()) or 1.0
    shake = np.random.default_rng(seed).normal(scale=1e-3, size=points.shape)
    return (10 * points / width + shake).astype(np.float32)


def place_new(
    coordinates: ArrayLike,
    distances: ArrayLike,
    *,
    between: ArrayLike | None = None,
    k: int = 5,
) -> NDArray[np.float64]:
    """Places for new models on a map that stays where it is.

    A new model goes to the weighted mean of the positions of its k nearest models, with UMAP's weights
    exp(−(d − d₁)/σ), d₁ the nearest distance and σ such that the weights sum to log₂ k. If new models are close to each
    other (`between`), they are placed one after another, starting with the one that has the nearest anchor, and each
    becomes an anchor for the next. No two models get exactly the same position.

    Args:
        coordinates: (n, 2) places of the models that are there; n >= 1.
        distances: (m, n) √(2 − 2s) from each new model to those.
        between: (m, m) distances between the new models; None: they don't see each other.
        k: anchors per model.

    Returns:
        (m, 2) float64.

    Raises:
        UsageError: for shapes that don't fit, or an empty map.
    """
    anchors = np.array(coordinates, dtype=np.float64)
    to_old = np.atleast_2d(np.asarray(distances, dtype=np.float64))
    m = len(to_old)
    if anchors.ndim != 2 or anchors.shape[1:] != (2,) or len(anchors) < 1:
        raise UsageError("there is no map yet to place new models on", "make one: `space.map(refit=True)`")
    if to_old.shape[1] != len(anchors):
        raise UsageError(f"distances reach {to_old.shape[1]} models, but the map shows {len(anchors)}")
    to_new = np.full((m, m), np.inf) if between is None else np.array(between, dtype=np.float64)
    if to_new.shape != (m, m):
        raise UsageError(f"distances between {m} new models have shape {to_new.shape}")
    apart = _APART * (float(np.ptp(anchors, axis=0).max()) or 1.0)
    placed: NDArray[np.float64] = np.full((m, 2), np.nan)
    waiting = list(range(m))
    reach = to_old.min(axis=1)
    done: list[int] = []
    while waiting:
        model = min(waiting, key=lambda i: (reach[i], i))
        waiting.remove(model)
        far = np.concatenate([to_old[model], to_new[model, done]])
        near = np.argsort(far, kind="stable")[:k]
        weights = _membership(far[near])
        place = weights @ anchors[near] / weights.sum()
        placed[model] = _free_place(place, anchors, apart)
        anchors = np.vstack([anchors, placed[model]])
        done.append(model)
        reach = np.minimum(reach, to_new[:, model])
    return placed


def _membership(near: NDArray[np.float64]) -> NDArray[np.float64]:
    """UMAP's weights of a model's nearest neighbours, (k,) ascending distances -> (k,) weights, the first 1."""
    beyond = near - near[0]
    if len(near) == 1 or beyond[-1] <= 0:
        return np.ones(len(near))
    beyond = np.where(np.isfinite(beyond), beyond, np.inf)
    goal = np.log2(len(near))
    low, high = 0.0, np.inf
    sigma = 1.0
    for _ in range(64):
        total = float(np.exp(-beyond / sigma).sum())
        if abs(total - goal) < 1e-6:
            break
        if total > goal:
            high = sigma
            sigma = (low + high) / 2
        else:
            low = sigma
            sigma = sigma * 2 if high == np.inf else (low + high) / 2
    # As UMAP does: where all are almost equally far, none may be left with no weight at all.
    sigma = max(sigma, 1e-3 * float(near[np.isfinite(near)].mean()))
    weights: NDArray[np.float64] = np.exp(-beyond / sigma)
    return weights


def _free_place(place: NDArray[np.float64], taken: NDArray[np.float64], apart: float) -> NDArray[np.float64]:
    """The first place on a sunflower spiral around `place` that is at least `apart` from all that are taken."""
    for step in range(2000):
        angle = step * np.pi * (3 - 5**0.5)
        candidate: NDArray[np.float64] = place + apart * step**0.5 * np.array([np.cos(angle), np.sin(angle)])
        if np.hypot(*(taken - candidate).T).min() >= apart:
            return candidate
    return place
