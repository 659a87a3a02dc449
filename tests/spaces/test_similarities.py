"""Similarities of kernels against their definitions on features, image by image, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import cdist, squareform
from scipy.spatial.distance import pdist as pairwise

from modelspace.errors import UsageError
from modelspace.representations import kernels
from modelspace.spaces import predictability, rerankings, similarities
from modelspace.spaces.similarities import NAMES, SIMILARITIES, per_image, similarity_matrix

N, K = 15, 4
WITH_NEIGHBOURS = tuple(name for name in NAMES if SIMILARITIES[name].has_neighbours)


def features(seed: int, width: int = 6) -> np.ndarray:
    """Features of N images that share something with those of every other seed."""
    shared, own = np.random.default_rng(100), np.random.default_rng(seed)
    return shared.normal(size=(N, 5)) @ own.normal(size=(5, width)) + 0.8 * own.normal(size=(N, width)) + 3.0


def kernel(table: np.ndarray) -> np.ndarray:
    return kernels.linear_cka(table)


def similarity(name: str, x: np.ndarray, y: np.ndarray, k: int = K) -> float:
    return float(per_image(name, kernel(x), kernel(y), k).mean())


# ---- the definitions


def nearest(x: np.ndarray, i: int) -> list[int]:
    """The K images nearest to image i, nearest first."""
    distances = {j: float(np.linalg.norm(x[i] - x[j])) for j in range(N) if j != i}
    return sorted(distances, key=lambda j: distances[j])[:K]


def mutual_knn(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean([len({*nearest(x, i)} & {*nearest(y, i)}) / K for i in range(N)]))


def jaccard(x: np.ndarray, y: np.ndarray) -> float:
    pairs = [({*nearest(x, i)}, {*nearest(y, i)}) for i in range(N)]
    return float(np.mean([len(a & b) / len(a | b) for a, b in pairs]))


def ranksim(x: np.ndarray, y: np.ndarray) -> float:
    values = []
    for i in range(N):
        a, b = nearest(x, i), nearest(y, i)
        shared = [(a.index(j) + 1, b.index(j) + 1) for j in a if j in b]
        largest = sum(1 / position for position in range(1, len(shared) + 1))
        total = sum(2 / ((1 + abs(r - s)) * (r + s)) for r, s in shared)
        values.append(total / largest if shared else 0.0)
    return float(np.mean(values))


def second_order(x: np.ndarray, y: np.ndarray) -> float:
    values = []
    for i in range(N):
        near = sorted({*nearest(x, i)} | {*nearest(y, i)})
        a, b = (
            1 - cdist(table[[i]] - table.mean(0), table[near] - table.mean(0), "cosine").ravel() for table in (x, y)
        )
        values.append(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    return float(np.mean(values))


def cknna(x: np.ndarray, y: np.ndarray) -> float:
    def align(a: np.ndarray, b: np.ndarray) -> float:
        a0, b0 = a - a.mean(0), b - b.mean(0)
        return sum(
            float(a0[i] @ a0[j]) * float(b0[i] @ b0[j])
            for i in range(N)
            for j in range(N)
            if j in nearest(a, i) and j in nearest(b, i)
        )

    return align(x, y) / float(np.sqrt(align(x, x) * align(y, y)))


def debiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """With eq. 5 of Song et al. 2012, from Gram matrices that are not centred."""

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        gram, other = a @ a.T, b @ b.T
        np.fill_diagonal(gram, 0)
        np.fill_diagonal(other, 0)
        total = np.trace(gram @ other) + gram.sum() * other.sum() / ((N - 1) * (N - 2))
        return float(total - 2 / (N - 2) * (gram @ other).sum()) / (N * (N - 3))

    return hsic(x, y) / float(np.sqrt(hsic(x, x) * hsic(y, y)))


def distance_correlation(x: np.ndarray, y: np.ndarray) -> float:
    def covariance(a: np.ndarray, b: np.ndarray) -> float:
        centred = []
        for table in (a, b):
            d = squareform(pairwise(table))
            centred.append([[d[i, j] - d[i].mean() - d[:, j].mean() + d.mean() for j in range(N)] for i in range(N)])
        return float(np.mean(np.array(centred[0]) * np.array(centred[1])))

    return float(np.sqrt(covariance(x, y) / np.sqrt(covariance(x, x) * covariance(y, y))))


def procrustes(x: np.ndarray, y: np.ndarray) -> float:
    """The cosine of the angle after the best rotation of one onto the other, in as many dimensions."""
    width = max(x.shape[1], y.shape[1])
    a, b = (np.pad(table - table.mean(0), ((0, 0), (0, width - table.shape[1]))) for table in (x, y))
    rotation, _ = orthogonal_procrustes(a, b)
    return float(np.sum((a @ rotation) * b) / (np.linalg.norm(a) * np.linalg.norm(b)))


DEFINITIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    function.__name__: function
    for function in (
        *(mutual_knn, jaccard, ranksim, second_order, cknna),
        *(debiased_cka, distance_correlation, procrustes),
    )
}


@pytest.mark.parametrize("name", NAMES)
def test_a_similarity_is_what_its_definition_on_features_gives(name: str) -> None:
    for seed in range(4):
        x, y = features(2 * seed, 6), features(2 * seed + 1, 3)
        assert similarity(name, x, y) == pytest.approx(DEFINITIONS[name](x, y), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_like_itself_rotated_shifted_and_scaled_and_no_other_is_more_like_it(name: str) -> None:
    x = features(1)
    turned = 7.0 * x @ np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0] + 2.0
    # Every image agrees, so a copy has no spread: ties of copies are certain.
    np.testing.assert_allclose(per_image(name, kernel(x), 3 * kernel(turned), K), 1.0, atol=1e-7)
    others = [similarity(name, x, features(seed)) for seed in range(2, 8)]
    assert max(others) < 0.99
    np.testing.assert_allclose(others, [similarity(name, turned, features(seed)) for seed in range(2, 8)], atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_roles_of_models_and_the_order_of_images_do_not_matter(name: str) -> None:
    x, y = features(1), features(2, 4)
    forth = per_image(name, kernel(x), kernel(y), K)
    np.testing.assert_allclose(per_image(name, kernel(y), kernel(x), K), forth, atol=1e-12)
    order = np.random.default_rng(0).permutation(N)
    np.testing.assert_allclose(per_image(name, kernel(x[order]), kernel(y[order]), K), forth[order], atol=1e-9)


@pytest.mark.parametrize("name", WITH_NEIGHBOURS)
def test_the_number_of_neighbours_counts_and_has_a_default(name: str) -> None:
    x, y = kernel(features(1)), kernel(features(2))
    by_default = per_image(name, x, y)
    np.testing.assert_array_equal(by_default, per_image(name, x, y, 7))
    assert by_default.mean() != per_image(name, x, y, 2).mean()
    for k in (0, N):
        with pytest.raises(UsageError, match=f"15 probe images can't have {k} neighbours"):
            per_image(name, x, y, k)


def test_kernels_that_can_not_be_compared() -> None:
    with pytest.raises(UsageError, match=r"kernels of \(3, 3\) and \(4, 4\)"):
        per_image("jaccard", np.eye(3), np.eye(4))
    with pytest.raises(UsageError, match="debiased CKA needs 4 probe images or more, not 3"):
        per_image("debiased_cka", np.eye(3), np.eye(3))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_undefined_is_0(name: str) -> None:
    """All images alike: no distances and no kernel. Neighbours are then those that come first."""
    values = per_image(name, np.zeros((N, N)), kernel(features(1)), K)
    assert np.isfinite(values).all()
    if name not in ("mutual_knn", "jaccard", "ranksim"):
        np.testing.assert_array_equal(values, 0.0)


# ---- what each image adds


def ratio(first: np.ndarray, second: np.ndarray) -> Callable[[np.ndarray], float]:
    """The cosine of two matrices whose rows have weights."""
    rows = [np.sum(a * b, axis=1) for a, b in ((first, second), (first, first), (second, second))]
    return lambda weights: float(weights @ rows[0] / np.sqrt((weights @ rows[1]) * (weights @ rows[2])))


def weighted(name: str, x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], float]:
    """The similarity as a function of the images' weights, with neighbours and centring as they are."""
    if name == "procrustes":
        a, b = x - x.mean(0), y - y.mean(0)
        squares = np.sum(a**2, axis=1), np.sum(b**2, axis=1)
        return lambda w: float(
            np.linalg.norm(a.T @ (w[:, None] * b), "nuc") / np.sqrt((w @ squares[0]) * (w @ squares[1]))
        )
    models = [SIMILARITIES[name].of_model(kernel(table), K) for table in (x, y)]
    if name == "distance_correlation":
        square = ratio(*models)
        return lambda w: float(np.sqrt(square(w)))
    if name == "debiased_cka":
        return ratio(*models)
    near = [model.ranks > 0 for model in models]
    both = near[0] & near[1]
    own = [np.sum((model.values * mask) ** 2, axis=1) for model, mask in zip(models, near, strict=True)]
    products = np.sum(models[0].values * models[1].values * both, axis=1)
    return lambda w: float(w @ products / np.sqrt((w @ own[0]) * (w @ own[1])))


@pytest.mark.parametrize("name", ["cknna", "debiased_cka", "distance_correlation", "procrustes"])
def test_what_an_image_adds_to_a_ratio_is_the_change_with_its_weight(name: str) -> None:
    x, y = features(1), features(2, 4)
    function, even, step = weighted(name, x, y), np.full(N, 1 / N), 1e-6
    assert function(even) == pytest.approx(similarity(name, x, y), abs=1e-9)
    slopes = [(function(even + step * row) - function(even - step * row)) / (2 * step) for row in np.eye(N)]
    values = per_image(name, kernel(x), kernel(y), K)
    np.testing.assert_allclose(values - values.mean(), slopes, atol=1e-6)
    assert np.std(slopes) > 0.01


# ---- as re-rankings


@pytest.mark.parametrize("name", [predictability.DIRECTED, *similarities.NAMES])
def test_a_reranking_scores_pairs_as_its_matrix_does(name: str) -> None:
    tables = [kernel(features(seed)) for seed in range(3)]
    reranking = rerankings.reranking(name)
    sources: list[Any] = [reranking.of_source(table) for table in tables]
    scores = [
        [reranking.per_image(reranking.of_target(table), source).mean() for source in sources] for table in tables
    ]
    matrix = rerankings.score_matrix(name, tables)
    np.testing.assert_allclose(matrix, scores, atol=1e-12)
    assert np.allclose(matrix, matrix.T) == reranking.is_symmetric
    if reranking.is_symmetric:
        np.testing.assert_allclose(matrix[0, 1], per_image(name, tables[0], tables[1]).mean())
    else:
        np.testing.assert_allclose(matrix, predictability.r2_matrix(tables))


def test_a_matrix_of_similarities() -> None:
    tables = [kernel(features(seed)) for seed in range(3)]
    matrix = similarity_matrix("jaccard", tables, 2)
    np.testing.assert_array_equal(np.diag(matrix), 1.0)
    assert matrix[0, 2] == matrix[2, 0] == per_image("jaccard", tables[2], tables[0], 2).mean()
    assert similarities.similarity_matrix("jaccard", []).shape == (0, 0)
