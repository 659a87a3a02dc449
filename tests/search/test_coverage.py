"""Near-copies and the middles of clusters."""

from __future__ import annotations

import numpy as np

from modelspace.search.coverage import medoids, neighbourhood, standing_for


def families(sizes: list[int], inside: float = 0.9) -> np.ndarray:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    matrix = np.where(labels[:, None] == labels, inside, 0.05)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def test_the_more_promising_of_two_near_copies_stands_for_both() -> None:
    affinity = np.eye(4)
    affinity[0, 2] = affinity[2, 0] = 0.995
    assert standing_for(affinity, [0, 1, 2, 3]) == {0: 0, 1: 1, 2: 0, 3: 3}
    assert standing_for(affinity, [3, 2, 1, 0]) == {0: 2, 1: 1, 2: 2, 3: 3}


def test_a_chain_of_near_copies_is_no_copy() -> None:
    affinity = np.eye(3)
    affinity[0, 1] = affinity[1, 0] = affinity[1, 2] = affinity[2, 1] = 0.99
    assert standing_for(affinity, [0, 1, 2]) == {0: 0, 1: 0, 2: 2}


def test_middles_come_from_different_families_the_largest_first() -> None:
    affinity = families([3, 6, 4])
    chosen = medoids(affinity, range(13), 3)
    assert [np.searchsorted([3, 9, 13], number, side="right") for number in chosen] == [1, 2, 0]


def test_middles_are_chosen_among_the_models_given() -> None:
    affinity = families([3, 6, 4])
    assert set(medoids(affinity, [8, 12], 5)) == {8, 12}


def test_the_neighbourhood_of_the_best() -> None:
    affinity = families([3, 6, 4])
    affinity[3, 5] = affinity[5, 3] = 0.95
    assert neighbourhood(affinity, [3], [3, 4], 3) == [5, 6, 7]
    assert neighbourhood(affinity, [3], range(13), 3) == []
