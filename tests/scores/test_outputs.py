"""LEEP and NCE against versions written from the definition, one image at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.scores import leep, nce


def data(seed: int, n: int, z: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    labels[:3] = 0, 1, 1
    return rng.dirichlet(np.full(z, 0.3), n), labels


def slow_leep(outputs: np.ndarray, labels: np.ndarray) -> float:
    n, z = outputs.shape
    total = 0.0
    for i in range(n):
        likelihood = 0.0
        for c in range(z):
            joint = sum(outputs[j, c] for j in range(n) if labels[j] == labels[i]) / n
            marginal = sum(outputs[j, c] for j in range(n)) / n
            likelihood += joint / marginal * outputs[i, c] if marginal > 0 else 0.0
        total += np.log(likelihood)
    return total / n


def slow_nce(outputs: np.ndarray, labels: np.ndarray) -> float:
    taken = outputs.argmax(axis=1)
    total = 0.0
    for label, z in zip(labels, taken, strict=True):
        total += np.log(((labels == label) & (taken == z)).sum() / (taken == z).sum())
    return total / len(labels)


@given(st.integers(0, 10_000), st.integers(4, 12), st.integers(1, 6), st.integers(2, 4))
@settings(max_examples=30, deadline=None)
def test_both_follow_their_definition(seed: int, n: int, z: int, k: int) -> None:
    outputs, labels = data(seed, n, z, k)
    if len(np.unique(labels)) == n:
        labels[-1] = 0
    entropy = -sum((labels == c).mean() * np.log((labels == c).mean()) for c in np.unique(labels))
    assert leep.score(outputs, labels) == pytest.approx(slow_leep(outputs, labels), abs=1e-12)
    assert nce.score(outputs, labels) == pytest.approx(slow_nce(outputs, labels), abs=1e-12)
    assert -entropy - 1e-12 <= nce.score(outputs, labels) <= 1e-12
    assert leep.score(outputs, labels) <= 1e-12


def test_leep_is_nce_where_the_classifier_is_certain() -> None:
    _, labels = data(0, 40, 5, 3)
    outputs = np.eye(5)[np.random.default_rng(1).integers(4, size=40)]
    assert leep.score(outputs, labels) == pytest.approx(nce.score(outputs, labels))


def test_a_classifier_that_says_the_same_of_all_images_leaves_the_entropy_of_the_labels() -> None:
    labels = np.array([0, 0, 0, 1])
    outputs = np.tile([0.2, 0.3, 0.5], (4, 1))
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert leep.score(outputs, labels) == pytest.approx(-entropy)
    assert nce.score(outputs, labels) == pytest.approx(-entropy)


def test_a_classifier_that_knows_the_labels_scores_zero() -> None:
    labels = np.arange(12) % 3
    outputs = np.eye(7)[labels * 2]
    assert leep.score(outputs, labels) == pytest.approx(0.0)
    assert nce.score(outputs, labels) == pytest.approx(0.0)
