"""Hubness corrections: as coordinates, as lines, as a matrix, and by the definitions of the papers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from modelspace.lab import hubs as reference
from modelspace.spaces import hubness


def affinities(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.random.default_rng(seed).standard_normal((n, 6)) + 0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, vectors @ vectors.T


@pytest.mark.parametrize("correction", hubness.CORRECTIONS)
@pytest.mark.parametrize("n", [3, 30])
def test_the_index_ranks_as_the_corrected_matrix_does(correction: str, n: int) -> None:
    vectors, matrix = affinities(n)
    expected = hubness.corrected(matrix, correction)
    items = hubness.items(vectors, correction)
    for target in range(n):
        others = np.delete(matrix[target], target)
        assert np.allclose(hubness.vector_of(items[target], correction), vectors[target], atol=1e-6)
        query = hubness.query(vectors[target], correction, items.shape[1], others)
        scores = items @ query
        sources = np.delete(np.arange(n), target)
        gap = scores[sources] - expected[target, sources]
        assert np.allclose(gap, gap[0], atol=1e-4)  # up to a constant per target
        line = hubness.score(items[sources], correction, others)
        shift = line(matrix[target, sources]) - expected[target, sources]
        assert np.allclose(shift, shift[0], atol=1e-4)


def test_corrections_are_those_of_the_reference() -> None:
    _, matrix = affinities(30)
    off = ~np.eye(30, dtype=bool)
    assert np.allclose(hubness.corrected(matrix, "centred")[off], reference.centred(matrix)[off])
    csls = reference.csls(matrix, hubness.NEIGHBOURS)
    ours = hubness.corrected(matrix, "csls")
    assert all(np.ptp(np.delete(csls[t] - ours[t], t)) < 1e-9 for t in range(30))
    assert np.allclose(hubness.corrected(matrix, "mutual")[off], reference.mutual_z(matrix)[off])


def test_mutual_ranks_nearly_as_mutual_proximity() -> None:
    _, matrix = affinities(60)
    ours, proximity = hubness.corrected(matrix, "mutual"), reference.mutual_proximity(matrix)
    agree = [np.corrcoef(norm.cdf(np.delete(ours[t], t)), np.delete(proximity[t], t))[0, 1] for t in range(60)]
    assert min(agree) > 0.8


def slow_scores(matrix: np.ndarray, correction: str) -> np.ndarray:
    """The module's text, pair by pair."""
    n = len(matrix)
    others = [np.delete(matrix[i], i) for i in range(n)]
    out = np.zeros((n, n))
    for t in range(n):
        for i in range(n):
            s = matrix[t, i]
            if correction == "centred":
                out[t, i] = s - others[i].mean()
            elif correction == "csls":
                out[t, i] = 2 * s - sum(sorted(others[i], reverse=True)[:10]) / min(10, n - 1)
            else:
                out[t, i] = (s - others[t].mean()) / others[t].std() + (s - others[i].mean()) / others[i].std()
    return out


@pytest.mark.parametrize("correction", ["centred", "csls", "mutual"])
@pytest.mark.parametrize("n", [3, 11, 12, 25])
def test_scores_are_those_of_the_definition(correction: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in chunks of rows, of which the last is shorter."""
    vectors, matrix = affinities(n, seed=n)
    expected = slow_scores(matrix, correction)
    off = ~np.eye(n, dtype=bool)
    np.testing.assert_allclose(hubness.corrected(matrix, correction)[off], expected[off], atol=1e-12)
    for rows in (1024, 4):
        monkeypatch.setattr(hubness, "_ROWS", rows)
        items = hubness.items(vectors, correction)
        for target in range(n):
            sources = np.delete(np.arange(n), target)
            others = matrix[target, sources]
            line = hubness.score(items[sources], correction, others)
            scores = line(others)
            np.testing.assert_allclose(scores, expected[target, sources], atol=2e-5)
            per_image = line(others[:, None] + np.array([[-0.1, 0.0, 0.1]]))
            np.testing.assert_allclose(per_image.mean(axis=1), scores, atol=1e-12)


@pytest.mark.parametrize("correction", hubness.CORRECTIONS)
def test_items_have_the_stated_shape_and_type(correction: str) -> None:
    vectors, _ = affinities(5)
    width = {"none": 6, "centred": 7, "csls": 7, "mutual": 13}[correction]
    items = hubness.items(vectors, correction)
    assert (items.shape, items.dtype) == ((5, width), np.float32)
    assert hubness.items(np.zeros((0, 6)), correction).shape[0] == 0
    query = hubness.query(vectors[0], correction, width, vectors[1:] @ vectors[0])
    assert (query.shape, query.dtype) == ((width,), np.float32)
    if correction != "none":
        assert query[-1] == -1


@pytest.mark.parametrize(("given", "width", "expected"), [(2, 3, [1, 2, 0]), (3, 3, [1, 2, 3]), (4, 3, [1, 2, 3])])
def test_a_target_is_padded_or_cut_to_the_space(given: int, width: int, expected: list[float]) -> None:
    np.testing.assert_array_equal(hubness.query(np.arange(1.0, given + 1), "none", width), expected)
    np.testing.assert_array_equal(hubness.query(np.arange(1.0, given + 1), "centred", width + 1), [*expected, -1])


def test_one_model_alone_has_nothing_to_correct_by() -> None:
    vectors = np.array([[1.0]])
    for correction in hubness.CORRECTIONS:
        np.testing.assert_array_equal(hubness.corrected(np.array([[1.0]]), correction), [[1.0]])
        items = hubness.items(vectors, correction)
        assert np.isfinite(items).all()
        assert items[0, -1] == (1.0 if correction == "none" else 0.0)


def test_a_model_equally_near_to_all_others_has_no_term_of_its_own() -> None:
    """Three vectors at right angles: no deviation to divide by."""
    matrix, vectors = np.eye(3), np.eye(3)
    with np.errstate(all="raise"):
        scores = hubness.corrected(matrix, "mutual")
        items = hubness.items(vectors, "mutual")
    np.testing.assert_array_equal(scores, np.zeros((3, 3)))
    np.testing.assert_array_equal(items[:, :3], np.zeros((3, 3)))
    # twice the affinities, two models: the same affinity to all others, with rounding noise
    assert not np.any(
        hubness.corrected(np.array([[1.0, 0.3, 0.3 + 1e-15], [0.3, 1, 0.3], [0.3, 0.3, 1]]), "mutual")[0, 1:]
    )


@pytest.mark.parametrize("correction", ["centred", "csls"])
def test_of_two_models_each_is_the_only_neighbour_of_the_other(correction: str) -> None:
    vectors = np.array([[1.0, 0.0], [0.6, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(hubness.items(vectors, correction), [[1, 0, 0.6], [0.6, 0.8, 0.6]], rtol=1e-6)
    np.testing.assert_allclose(hubness.items(vectors[:1], correction), [[1, 0, 0]])
