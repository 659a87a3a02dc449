"""Neighbours, neighbour recall, hubs, duplicates and outliers, against loops over plain lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from synthetic_space import make_space

from modelspace.analysis import (
    Duplicate,
    duplicate_groups,
    duplicates,
    hubs,
    nearest_of_vectors,
    neighbour_recall,
    occurrence,
    outliers,
    true_neighbours,
)
from modelspace.analysis import neighbours as neighbours_module
from modelspace.errors import UsageError


def slow_recall(points: NDArray[np.float64], affinity: NDArray[np.float64], k: int) -> list[float]:
    shares = []
    n = len(points)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        true = set(sorted(others, key=lambda j: (-affinity[i, j], j))[:k])
        shown = set(sorted(others, key=lambda j: float(np.hypot(*(points[i] - points[j]))))[:k])
        shares.append(len(true & shown) / min(k, n - 1))
    return shares


@given(st.integers(2, 25), st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_recall_matches_counting(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 6))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    affinity, points = rows @ rows.T, rng.normal(size=(n, 2))
    got = neighbour_recall(points, affinity=affinity, k=k)
    np.testing.assert_allclose(got.per_model, slow_recall(points, affinity, k))
    assert got.mean == pytest.approx(np.mean(slow_recall(points, affinity, k)))
    assert got.k == min(k, n - 1)
    again = neighbour_recall(points, neighbours=true_neighbours(affinity, k), k=k)
    np.testing.assert_allclose(again.per_model, got.per_model)


def test_recall_of_a_perfect_and_of_a_random_map() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 2))
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    affinity = 1 - squared / squared.max()
    assert neighbour_recall(points, affinity=affinity).mean == 1.0
    random = neighbour_recall(rng.normal(size=(400, 2)), affinity=affinity)
    assert random.mean == pytest.approx(random.chance, abs=0.01)


def test_ties_and_coinciding_points_count_fairly() -> None:
    # Eight copies of one model: whichever five of the seven the map shows, they are true neighbours.
    affinity = np.ones((8, 8))
    assert neighbour_recall(np.random.default_rng(1).normal(size=(8, 2)), affinity=affinity).mean == 1.0
    assert neighbour_recall(np.zeros((8, 2)), affinity=affinity).mean == 1.0
    assert neighbour_recall(np.zeros((1, 2)), affinity=[[1.0]]).mean == 1.0


def test_recall_says_what_is_missing() -> None:
    with pytest.raises(UsageError, match="either the affinities or"):
        neighbour_recall(np.zeros((3, 2)))
    with pytest.raises(UsageError, match="at least one neighbour"):
        neighbour_recall(np.zeros((3, 2)), affinity=np.eye(3), k=0)
    with pytest.raises(UsageError, match="the map shows 3"):
        neighbour_recall(np.zeros((3, 2)), affinity=np.eye(4))
    with pytest.raises(UsageError, match="2 of 3 models are needed"):
        neighbour_recall(np.zeros((3, 2)), neighbours=[[1], [0], [0]], k=2)


def test_blocks_of_vectors_give_the_exact_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours_module, "_ROWS_AT_ONCE", 17)
    space = make_space(100, with_cosines=False)
    numbers, products = nearest_of_vectors(space.vectors, 7)
    exact = space.vectors.astype(np.float64) @ space.vectors.T.astype(np.float64)
    np.testing.assert_array_equal(numbers, true_neighbours(exact, 7))
    np.testing.assert_allclose(products, np.take_along_axis(exact, numbers, axis=1), atol=1e-6)
    for k in (98, 99, 500):
        assert nearest_of_vectors(space.vectors, k)[0].shape == (100, min(k, 99))


def test_hubs_are_counted() -> None:
    rows = np.random.default_rng(0).normal(size=(100, 40))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    affinity = rows @ rows.T
    affinity[7, :] = affinity[:, 7] = 0.6
    lists = true_neighbours(affinity, 5)
    counts = occurrence(lists)
    assert counts.tolist() == [sum(i in row for row in lists.tolist()) for i in range(100)]
    assert hubs([f"m{i}" for i in range(100)], affinity) == [("m7", 99)]
    assert hubs([f"m{i}" for i in range(100)], affinity, factor=1.9) == sorted(
        ((f"m{i}", int(c)) for i, c in enumerate(counts) if c > 9.5), key=lambda pair: -pair[1]
    )


def test_duplicates_are_all_pairs_above_the_threshold() -> None:
    space = make_space(38)
    affinity = space.affinity.copy()
    for i, j, s in ((3, 9, 0.995), (9, 4, 0.99), (20, 21, 0.98), (5, 6, 0.979)):
        affinity[i, j] = affinity[j, i] = s
    pairs = duplicates(space.names, affinity)
    assert [(p.first, p.second, p.affinity) for p in pairs] == [
        (space.names[3], space.names[9], 0.995),
        (space.names[4], space.names[9], 0.99),
        (space.names[20], space.names[21], 0.98),
    ]
    assert duplicate_groups(space.names, pairs) == [
        [space.names[3], space.names[4], space.names[9]],
        [space.names[20], space.names[21]],
    ]
    assert len(duplicates(space.names, affinity, -1)) == 38 * 37 // 2
    assert duplicate_groups(space.names, []) == []
    with pytest.raises(UsageError, match="the threshold must be in"):
        duplicates(space.names, affinity, 98)
    assert isinstance(pairs[0], Duplicate)


def test_outliers_match_the_definition_and_find_the_lonely_model() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(40, 200)) * 0.3
    rows[:39] += np.repeat(rng.normal(size=(3, 200)), 13, axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"m{i}" for i in range(40)]
    affinity = rows @ rows.T
    found = outliers(names, affinity, threshold=-np.inf)
    isolation = []
    for i in range(40):
        far = sorted(np.sqrt(2 - 2 * affinity[i, j]) for j in range(40) if j != i)
        isolation.append(sum(far[:3]) / 3)
    median = sorted(isolation)[19] / 2 + sorted(isolation)[20] / 2
    deviation = sorted(abs(x - median) for x in isolation)
    spread = 1.4826 * (deviation[19] + deviation[20]) / 2
    for entry in found:
        i = names.index(entry.name)
        assert entry.isolation == pytest.approx(isolation[i])
        assert entry.score == pytest.approx((isolation[i] - median) / spread)
        assert entry.affinity == max(affinity[i, j] for j in range(40) if j != i)
    assert next(x.name for x in outliers(names, affinity)) == "m39"
    assert found == sorted(found, key=lambda x: -x.score)


def test_no_outliers_where_there_is_no_spread() -> None:
    assert outliers(["a", "b", "c"], np.eye(3)) == []
    assert outliers(["a"], [[1.0]]) == []
    with pytest.raises(UsageError, match="at least one neighbour"):
        outliers(["a", "b"], np.eye(2), k=0)
