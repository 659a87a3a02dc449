"""The projection of a space to the plane: UMAP on exact distances, and coordinates for models added later.

McInnes, Healy and Melville (2018), by the umap-learn package. A seed fixes the result on one machine but not across
machines (umap-learn #853, #1108), so coordinates should be stored rather than recomputed; `place_new` adds models to a
stored projection without moving the others.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.analysis.distances import check_affinity, distance_matrix
from modelspace.analysis.neighbours import NeighbourRecall, nearest_of_vectors, neighbour_recall
from modelspace.errors import UsageError

#: Largest number of models of which all pairs are compared; larger spaces need vectors.
MAX_EXACT = 2000

#: Smallest number of models for UMAP; fewer are projected by classical scaling.
MIN_UMAP = 6

# Smallest distance between placed models, as a share of the projection's width, so that they are drawn apart.
_APART = 0.004

# Number of models up to which that share holds; among more they are closer together, the area of a model being the same
# share of the map.
_APART_MODELS = 1000


@dataclass(frozen=True, eq=False)
class Projection:
    """A projection and its parameters, as stored in the registry.

    Attributes:
        names: n model names.
        coordinates: (n, 2) float64; only distances are meaningful, not axes or units.
        parameters: plain values: method ("umap" or "scaling"), input ("distances" or "vectors"), n_neighbors, min_dist,
            umap-learn's version.
        seed: of the layout.
        recall: how many neighbours the projection preserves.
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
    """UMAP's default n_neighbors: 15 for large spaces, fewer where 15 would be most of the models.

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
    """Project models to the plane so that near models stay near.

    Args:
        names: n model names, all different.
        affinity: (n, n) exact affinities; used for up to `MAX_EXACT` models.
        vectors: (n, d) float32 unit vectors, for larger spaces. Without `neighbours`, they are searched exactly, in
            about ten minutes for 100,000 vectors of 512 dimensions on two cores.
        neighbours: with `vectors`: (n, m) indices of the nearest other models, best first, and (n, m) their affinities,
            for example from an index; m >= max(n_neighbors - 1, k).
        n_neighbors: UMAP's neighbourhood size, including the model itself; None: `default_neighbors`.
        min_dist: UMAP's minimum distance between models, 0..1; larger values spread clusters.
        seed: of UMAP's sampling.
        k: number of neighbours for the recall.

    Returns:
        Coordinates with their parameters and neighbour recall.

    Raises:
        UsageError: not exactly one of `affinity` and `vectors` is given, shapes differ, an affinity matrix has more
            than `MAX_EXACT` models, or a parameter is out of range.
    """
    names = tuple(names)
    n = len(names)
    if (affinity is None) == (vectors is None):
        raise UsageError("a projection needs either affinities or vectors", "give one of the two")
    size = default_neighbors(n) if n_neighbors is None else n_neighbors
    if size < 2 or not 0 <= min_dist <= 1:
        raise UsageError(
            f"n_neighbors {size} or min_dist {min_dist} is out of range", "n_neighbors is 2 or more, min_dist 0..1"
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
            raise UsageError(f"vectors have shape {rows.shape} for {n} names, or a name occurs twice")
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
    return _with_fixed_signs(points)


def _principal(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, 2) the first two principal axes, from the (d, d) covariance."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = (vectors.T @ vectors).astype(np.float64) / len(vectors) - np.outer(mean, mean)
    _, axes = np.linalg.eigh(covariance)
    axes = axes[:, ::-1][:, :2]
    points: NDArray[np.float64] = np.zeros((len(vectors), 2))
    points[:, : axes.shape[1]] = vectors @ axes - mean @ axes
    return _with_fixed_signs(points)


def _with_fixed_signs(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points with the arbitrary sign of each axis chosen so that its entry of largest magnitude is positive."""
    largest = points[np.abs(points).argmax(axis=0), np.arange(points.shape[1])]
    signed: NDArray[np.float64] = points * np.where(largest < 0, -1.0, 1.0)
    return signed


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
        # UMAP warns that a seed makes it run in one thread, and that a precomputed metric has no inverse transform.
        warnings.simplefilter("ignore")
        from umap import UMAP

        _keep_compiled()
        settings: dict[str, Any] = {
            "n_neighbors": n_neighbors,
            "min_dist": min_dist,
            "random_state": seed,
            "n_jobs": 1,
            "init": _spread(start, seed),
        }
        if distances is not None:
            embedding = UMAP(metric="precomputed", **settings).fit_transform(distances)
        else:
            assert neighbours is not None
            numbers, products = neighbours
            # UMAP counts a model as its own first neighbour.
            itself = np.arange(len(numbers))[:, None]
            knn = np.hstack([itself, numbers[:, : n_neighbors - 1]]).astype(np.int32)
            near = distance_matrix(np.hstack([np.ones_like(itself), products[:, : n_neighbors - 1]])).astype(np.float32)
            embedding = UMAP(
                metric="euclidean", precomputed_knn=(knn, near), force_approximation_algorithm=True, **settings
            ).fit_transform(vectors)
    coordinates: NDArray[np.float64] = np.asarray(embedding, dtype=np.float64)
    return coordinates


@cache
def _keep_compiled() -> None:
    """Make numba store what it compiles of UMAP, so that only the first process of an environment waits for it.

    Compiling takes thirteen seconds, reading what was stored a tenth of one; the machine code is the same. Numba stores
    it next to UMAP's files, or in the user's cache, or in NUMBA_CACHE_DIR.
    """
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("umap", "pynndescent"):
            _store_compiled(module)


def _store_compiled(module: ModuleType) -> None:
    from numba.core.registry import CPUDispatcher

    for function in vars(module).values():
        if isinstance(function, CPUDispatcher):
            with contextlib.suppress(RuntimeError):  # no folder that can be written to
                function.enable_caching()


def _spread(points: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """Initial coordinates 10 units wide, like UMAP's, with noise that separates coinciding points."""
    width = float(np.ptp(points, axis=0).max()) or 1.0
    noise = np.random.default_rng(seed).normal(scale=1e-3, size=points.shape)
    return (10 * points / width + noise).astype(np.float32)


def place_new(
    coordinates: ArrayLike,
    distances: ArrayLike,
    *,
    between: ArrayLike | None = None,
    k: int = 5,
) -> NDArray[np.float64]:
    """Coordinates for new models in an existing projection, which is not changed.

    A new model is placed at the weighted mean of the coordinates of its k nearest models, with UMAP's weights
    exp(−(d − d₁)/σ), d₁ the nearest distance and σ such that the weights sum to log₂ k. With `between`, new models are
    placed one after another, the one with the nearest anchor first, and each becomes an anchor for the next. No two
    models are placed at the same point.

    Args:
        coordinates: (n, 2) coordinates of the existing models; n >= 1.
        distances: (m, n) √(2 − 2s) from each new model to the existing ones.
        between: (m, m) distances between the new models; None: they are placed independently.
        k: number of anchors per model.

    Returns:
        (m, 2) float64.

    Raises:
        UsageError: shapes don't fit, or the projection is empty.
    """
    anchors = np.array(coordinates, dtype=np.float64)
    to_old = np.atleast_2d(np.asarray(distances, dtype=np.float64))
    m = len(to_old)
    if anchors.ndim != 2 or anchors.shape[1:] != (2,) or len(anchors) < 1:
        raise UsageError("there is no projection to place new models in", "compute one: `space.map(refit=True)`")
    if to_old.shape[1] != len(anchors):
        raise UsageError(f"there are distances to {to_old.shape[1]} models, but the projection has {len(anchors)}")
    to_new = np.full((m, m), np.inf) if between is None else np.array(between, dtype=np.float64)
    if to_new.shape != (m, m):
        raise UsageError(f"distances between {m} new models have shape {to_new.shape}")
    apart = _APART * (float(np.ptp(anchors, axis=0).max()) or 1.0)
    placed: NDArray[np.float64] = np.full((m, 2), np.nan)
    waiting = list(range(m))
    reach = to_old.min(axis=1)
    placed_order: list[int] = []
    while waiting:
        model = min(waiting, key=lambda i: (reach[i], i))
        waiting.remove(model)
        to_anchors = np.concatenate([to_old[model], to_new[model, placed_order]])
        near = np.argsort(to_anchors, kind="stable")[:k]
        weights = _membership(to_anchors[near])
        mean = weights @ anchors[near] / weights.sum()
        placed[model] = _free_place(mean, anchors, apart)
        anchors = np.vstack([anchors, placed[model]])
        placed_order.append(model)
        reach = np.minimum(reach, to_new[:, model])
    return placed


def place_many(coordinates: ArrayLike, neighbours: ArrayLike, distances: ArrayLike) -> NDArray[np.float64]:
    """Coordinates for very many models, each next to those that are nearest to it in an existing projection.

    As `place_new`, but independently of each other; models with the same nearest one lie around it on a spiral.

    Args:
        coordinates: (n, 2) coordinates of the existing models.
        neighbours: (m, k) indices of each new model's nearest existing ones, best first.
        distances: (m, k) √(2 − 2s) to those.

    Returns:
        (m, 2) float64.
    """
    anchors = np.asarray(coordinates, dtype=np.float64)
    near = np.asarray(neighbours, dtype=np.int64)
    weights = _memberships(np.asarray(distances, dtype=np.float64))
    means = (weights[:, :, None] * anchors[near]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
    # The number of each model among those with the same nearest one, from 1.
    order = np.argsort(near[:, 0], kind="stable")
    ordered = near[order, 0]
    turn = np.empty(len(near))
    turn[order] = np.arange(len(near)) - np.searchsorted(ordered, ordered) + 1
    width = float(np.ptp(anchors, axis=0).max()) or 1.0
    apart = _APART * width * min(1.0, (_APART_MODELS / (len(anchors) + len(near))) ** 0.5)
    angle = turn * np.pi * (3 - 5**0.5)
    placed: NDArray[np.float64] = means + apart * (turn**0.5 * np.array([np.cos(angle), np.sin(angle)])).T
    return placed


def _membership(near: NDArray[np.float64]) -> NDArray[np.float64]:
    """UMAP's weights of a model's nearest neighbours: (k,) ascending distances -> (k,) weights, the first is 1."""
    weights: NDArray[np.float64] = _memberships(near[None])[0]
    return weights


def _memberships(near: NDArray[np.float64]) -> NDArray[np.float64]:
    """`_membership` of m models, (m, k)."""
    beyond = near - near[:, :1]
    is_flat = beyond[:, -1] <= 0
    beyond = np.where(np.isfinite(beyond), beyond, np.inf)
    goal = np.log2(near.shape[1])
    low, high, sigma = np.zeros(len(near)), np.full(len(near), np.inf), np.ones(len(near))
    for _ in range(64):
        total = np.exp(-beyond / sigma[:, None]).sum(axis=1)
        is_open = np.abs(total - goal) >= 1e-6
        is_high, is_low = is_open & (total > goal), is_open & (total <= goal)
        high, low = np.where(is_high, sigma, high), np.where(is_low, sigma, low)
        middle = np.where(np.isinf(high), 2 * sigma, (low + high) / 2)
        sigma = np.where(is_open, middle, sigma)
    # As in UMAP: if all distances are almost equal, no weight may vanish.
    finite = np.isfinite(near)
    mean = np.where(finite, near, 0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)
    sigma = np.maximum(sigma, 1e-3 * mean)
    weights: NDArray[np.float64] = np.where(is_flat[:, None], 1.0, np.exp(-beyond / np.maximum(sigma, 1e-300)[:, None]))
    return weights


def _free_place(place: NDArray[np.float64], taken: NDArray[np.float64], apart: float) -> NDArray[np.float64]:
    """The first point on a sunflower spiral around `place` that is at least `apart` from all points in `taken`."""
    for step in range(2000):
        angle = step * np.pi * (3 - 5**0.5)
        candidate: NDArray[np.float64] = place + apart * step**0.5 * np.array([np.cos(angle), np.sin(angle)])
        if np.hypot(*(taken - candidate).T).min() >= apart:
            return candidate
    return place
