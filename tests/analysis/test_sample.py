"""Samples of very many models, and what lists of neighbours of some of them say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from modelspace.analysis import (
    covering,
    distance_matrix,
    drawn,
    duplicates,
    duplicates_of,
    hubs,
    hubs_of,
    nearest_among,
    nearest_of_vectors,
    neighbour_recall,
    outliers,
    outliers_of,
    place_many,
    place_new,
    true_neighbours,
)
from modelspace.errors import UsageError


def unit(n: int, d: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def farthest_first(vectors: np.ndarray, count: int) -> list[int]:
    """The definition, in float64."""
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    chosen = [int((rows @ rows.mean(axis=0)).argmax())]
    while len(chosen) < count:
        others = [i for i in range(len(rows)) if i not in chosen]
        chosen.append(min(others, key=lambda i: max(float(rows[i] @ rows[j]) for j in chosen)))
    return sorted(chosen)


def radius(vectors: np.ndarray, chosen: list[int]) -> float:
    """The largest angular distance from a row to the nearest chosen one, as a chord."""
    return float(distance_matrix(vectors @ vectors[chosen].T).min(axis=1).max())


def test_a_covering_sample_is_the_farthest_first_traversal() -> None:
    vectors = unit(60, 5)
    chosen = covering(vectors * np.linspace(0.2, 1, 60, dtype=np.float32)[:, None], 9)
    assert chosen.tolist() == farthest_first(vectors, 9)
    few = unit(12, 3, 1).astype(np.float64)
    best = min(radius(few, list(rows)) for rows in itertools.combinations(range(12), 3))
    assert radius(few, covering(few, 3).tolist()) <= 2 * best


def test_a_covering_sample_takes_one_of_copies_and_every_family() -> None:
    vectors = np.repeat(unit(8, 6), 5, axis=0)
    assert (covering(vectors, 8) // 5).tolist() == list(range(8))
    assert covering(vectors, 40).tolist() == list(range(40))
    assert covering(np.zeros((5, 3)), 3).shape == (3,)


def test_models_are_drawn_at_random_and_again_the_same() -> None:
    chosen = drawn(1000, 100, seed=1)
    assert len(set(chosen.tolist())) == 100
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, drawn(1000, 100, seed=1))
    assert not np.array_equal(chosen, drawn(1000, 100, seed=2))
    # No stride: every remainder occurs.
    assert len(set((chosen % 10).tolist())) == 10


def test_neighbours_of_some_are_those_of_all() -> None:
    vectors = unit(700, 8)
    numbers, products = nearest_of_vectors(vectors, 4)
    rows = np.array([3, 600, 42])
    some, values = nearest_of_vectors(vectors, 4, rows)
    assert np.array_equal(some, numbers[rows])
    np.testing.assert_allclose(values, products[rows], atol=1e-6)
    others, values = nearest_among(vectors[:20], vectors[20:], 3)
    truth = vectors[:20].astype(np.float64) @ vectors[20:].T
    assert np.array_equal(others, np.argsort(-truth, axis=1)[:, :3])
    np.testing.assert_allclose(values, -np.sort(-truth, axis=1)[:, :3], atol=1e-6)
    assert nearest_among(vectors[:2], vectors[:3], 9)[0].shape == (2, 3)


def test_recall_of_some_models_says_that_it_is() -> None:
    vectors, points = unit(50, 6), np.random.default_rng(3).normal(size=(50, 2))
    numbers = nearest_of_vectors(vectors, 5)[0]
    whole = neighbour_recall(points, neighbours=numbers)
    rows = np.array([1, 7, 30])
    part = neighbour_recall(points, neighbours=numbers[rows], rows=rows)
    np.testing.assert_array_equal(part.per_model, whole.per_model[rows])
    assert (whole.drawn, part.drawn, part.chance) == (None, 3, whole.chance)
    assert str(part).endswith("measured on 3 of the models)")
    assert "measured" not in str(whole)
    with pytest.raises(UsageError):
        neighbour_recall(points, neighbours=numbers, rows=rows)


def test_many_are_placed_where_one_would_be() -> None:
    vectors, points = unit(40, 6), np.random.default_rng(3).normal(size=(30, 2))
    numbers, products = nearest_among(vectors[30:], vectors[:30], 5)
    placed = place_many(points, numbers, distance_matrix(products))
    width = np.ptp(points, axis=0).max()
    for i in range(10):
        alone = place_new(points, distance_matrix(vectors[30 + i : 31 + i] @ vectors[:30].T))[0]
        assert np.hypot(*(placed[i] - alone)) < 0.02 * width


def test_copies_are_placed_next_to_each_other() -> None:
    points = np.random.default_rng(3).normal(size=(10, 2))
    placed = place_many(points, np.tile([[2, 5, 7]], (200, 1)), np.tile([[0.0, 0.9, 0.9]], (200, 1)))
    distances = np.linalg.norm(placed[:, None] - placed[None], axis=2) + np.eye(200)
    assert distances.min() > 0.002 * np.ptp(points, axis=0).max()
    assert np.hypot(*(placed - points[2]).T).max() < 0.1 * np.ptp(points, axis=0).max()


def test_whole_lists_say_what_the_matrix_says() -> None:
    vectors = np.vstack([unit(30, 4), unit(3, 4) + np.float32(0.01), 0.05 * unit(1, 4, 9) - unit(30, 4).mean(axis=0)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"m{i}" for i in range(len(vectors))]
    matrix = np.clip(vectors.astype(np.float64) @ vectors.T, -1, 1)
    np.fill_diagonal(matrix, 1)
    numbers = true_neighbours(matrix, 33)
    values, rows = np.take_along_axis(matrix, numbers, axis=1), np.arange(len(names))
    pairs = duplicates(names, matrix, 0.9)
    assert pairs == duplicates_of(names, rows, numbers, values, 0.9)
    assert len(pairs) > 2
    isolated = outliers(names, matrix, threshold=1.0)
    assert isolated == outliers_of(names, rows, numbers, values[:, :3], threshold=1.0)
    assert isolated
    frequent = hubs(names, matrix, factor=1.5)
    assert frequent == hubs_of(names, numbers[:, :5], factor=1.5)
    assert frequent


def test_lists_of_some_find_their_own_duplicates() -> None:
    names = ["a", "b", "c", "d"]
    lists = np.array([[1, 2], [3, 1]]), np.array([[1.0, 0.5], [0.99, 0.98]])
    pairs = duplicates_of(names, [0, 2], *lists)
    assert [(p.first, p.second, p.affinity) for p in pairs] == [("a", "b", 1.0), ("c", "d", 0.99), ("b", "c", 0.98)]
    with pytest.raises(UsageError):
        duplicates_of(names, [0, 2], *lists, threshold=2)
