"""Vectors whose inner products are the affinities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.errors import DamagedError
from modelspace.spaces import coordinates
from modelspace.spaces.coordinates import Factor, Row


def families(seed: int = 0, n_families: int = 40, size: int = 3000) -> np.ndarray:
    """200 unit vectors: 40 families of an original, near-copies at 1e-4, 1e-3 and 1e-2, and an exact copy, shuffled."""
    rng = np.random.default_rng(seed)
    members = []
    for _ in range(n_families):
        original = rng.standard_normal(size)
        members += [original, original.copy()]
        members += [original + noise * rng.standard_normal(size) for noise in (1e-4, 1e-3, 1e-2)]
    vectors = np.array(members)[rng.permutation(len(members))]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def add_all(gram: np.ndarray, **options: float) -> list[Row]:
    """Add one model at a time, restoring the factor from stored rows each time."""
    rows: list[Row] = []
    for position in range(len(gram)):
        rows.append(Factor.from_rows(rows, **options).append(gram[position, :position]))  # type: ignore[arg-type]
    return rows


def test_inner_products_are_affinities_with_near_copies_among_200_models() -> None:
    unit = families()
    gram = unit @ unit.T
    rows = add_all(gram)
    vectors = coordinates.matrix([row.vector for row in rows])
    np.testing.assert_allclose(vectors @ vectors.T, gram, atol=1e-12)
    index = coordinates.matrix([row.vector for row in rows], np.float32)
    np.testing.assert_allclose(index @ index.T, gram, atol=1e-6)
    assert coordinates.is_exact(rows)
    # Exact copies open no axis.
    assert len(Factor.from_rows(rows).landmarks) == 160


def test_adding_leaves_stored_vectors_unchanged() -> None:
    unit = families(n_families=4)
    gram = unit @ unit.T
    fewer, more = add_all(gram[:-1, :-1]), add_all(gram)
    for before, after in zip(fewer, more, strict=False):
        np.testing.assert_array_equal(before.vector, after.vector)


def test_factor_is_numpys_cholesky_factor_where_there_are_no_copies() -> None:
    rng = np.random.default_rng(1)
    unit = rng.standard_normal((12, 100))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    gram = unit @ unit.T
    vectors = coordinates.matrix([row.vector for row in add_all(gram)])
    np.testing.assert_allclose(vectors, np.linalg.cholesky(gram), atol=1e-12)


def test_past_the_cap_vectors_are_projections() -> None:
    rng = np.random.default_rng(2)
    unit = rng.standard_normal((30, 40))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    gram = unit @ unit.T
    rows = add_all(gram, max_axes=10)
    vectors = coordinates.matrix([row.vector for row in rows])
    assert vectors.shape == (30, 10)
    assert not coordinates.is_exact(rows)
    # Exact with the ten that own an axis; the Nyström approximation G[:, L] G[L, L]⁻¹ G[L, :] between the others.
    nystroem = gram[:, :10] @ np.linalg.inv(gram[:10, :10]) @ gram[:10]
    np.testing.assert_allclose(vectors @ vectors.T, nystroem, atol=1e-10)
    np.testing.assert_allclose(vectors[10:] @ vectors[:10].T, gram[10:, :10], atol=1e-10)
    assert rows[20].residual == pytest.approx(1 - nystroem[20, 20], abs=1e-10)


def test_affinities_that_are_no_gram_matrix_are_refused() -> None:
    factor = Factor()
    factor.append(np.array([]))
    factor.append(np.array([0.0]))
    with pytest.raises(DamagedError, match="contradict"):
        factor.append(np.array([0.9, 0.9]))


def test_factorise_computes_only_what_is_missing() -> None:
    unit = families(n_families=3)
    gram = unit @ unit.T
    pairs = []

    def missing(i: int, j: int) -> float:
        pairs.append((i, j))
        return float(gram[i, j])

    whole = coordinates.factorise([gram[i, :i] for i in range(len(gram))], missing)
    assert pairs == []
    short = coordinates.factorise([gram[i, : min(i, 5)] for i in range(len(gram))], missing)
    assert pairs
    assert all(j >= 5 for _, j in pairs)
    for a, b in zip(whole, short, strict=True):
        np.testing.assert_allclose(a.vector, b.vector, atol=1e-12)


def test_a_residual_of_exactly_the_tolerance_opens_no_axis() -> None:
    """|v|² = 1/4 in all digits, so that the residual is 3/4: what is at most the tolerance is a copy."""
    for tolerance, axes in ((0.75, 1), (np.nextafter(0.75, 0), 2)):
        factor = Factor(tolerance=tolerance)
        first, second = factor.append(np.zeros(0)), factor.append(np.array([0.5]))
        assert second.residual == 0.75
        assert (factor.n_axes, factor.n_rows) == (axes, 2)
        assert coordinates.is_exact([first, second], tolerance)
    assert not coordinates.is_exact([first, Row(np.array([0.5]), None, 0.75)], np.nextafter(0.75, 0))


def test_a_space_has_4096_axes_and_restores_its_counts() -> None:
    rows = [Row(np.array([1.0]), 0, 1.0), Row(np.array([1.0]), None, 0.0), Row(np.array([0.6, 0.8]), 1, 0.64)]
    factor = Factor.from_rows(rows)
    assert (factor.n_axes, factor.n_rows, factor.landmarks, factor.max_axes) == (2, 3, [0, 2], 4096)
    assert not factor.is_full
    assert Factor.from_rows(rows, max_axes=2).is_full


def test_rounding_makes_no_vector_longer_than_one_and_more_is_damage() -> None:
    for excess in (1e-9, 0.9e-6, 1.1e-6):
        factor = Factor()
        factor.append(np.zeros(0))
        affinities = np.array([np.sqrt(1 + excess)])
        if excess > 1e-6:
            with pytest.raises(DamagedError, match="affinities to 1 others"):
                factor.append(affinities)
            continue
        row = factor.append(affinities)
        assert (row.axis, row.residual) == (None, 0.0)
        assert np.linalg.norm(row.vector) == pytest.approx(1, abs=1e-15)


def test_vectors_are_padded_with_zeros() -> None:
    np.testing.assert_array_equal(coordinates.matrix([np.array([1.0]), np.array([2.0, 3.0])]), [[1, 0], [2, 3]])
    assert coordinates.matrix([]).shape == (0, 0)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 15), size=st.integers(1, 20), seed=st.integers(0, 2**32 - 1), copies=st.integers(0, 5))
def test_any_set_of_unit_vectors_is_reproduced(n: int, size: int, seed: int, copies: int) -> None:
    rng = np.random.default_rng(seed)
    unit = rng.standard_normal((n, size))
    unit = np.concatenate([unit, unit[rng.integers(0, n, copies)]])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    gram = unit @ unit.T
    vectors = coordinates.matrix([row.vector for row in add_all(gram)])
    # A residual of up to 1e-10 opens no axis and is dropped.
    np.testing.assert_allclose(vectors @ vectors.T, gram, atol=1e-6)
