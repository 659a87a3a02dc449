"""Projections: UMAP in few runs (the first one compiles for half a minute), and placing new models without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_space import make_space

from modelspace.analysis import distance_matrix, fit_projection, place_new
from modelspace.analysis.projection import _membership, _scaling, _store_compiled
from modelspace.errors import UsageError


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.wide
def test_importing_analysis_loads_nothing_heavy() -> None:
    heavy = {"matplotlib", "umap", "sklearn", "numba", "torch", "duckdb", "faiss", "pandas"}
    assert not heavy & loaded_by("import modelspace.analysis")
    assert "sklearn" in loaded_by("import modelspace.analysis, sklearn"), "this test can fail"


def test_what_is_compiled_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small function with the decorator of UMAP's functions; where nothing can be written, nothing fails."""
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    module = ModuleType("small")
    module.doubled = numba.njit(_doubled)  # type: ignore[attr-defined]
    _store_compiled(module)
    assert module.doubled(2.0) == 4.0
    assert list(tmp_path.rglob("*doubled*.nbc"))

    def nowhere(self: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(type(module.doubled), "enable_caching", nowhere)
    _store_compiled(module)


def _doubled(number: float) -> float:
    return 2 * number


@pytest.mark.wide
def test_umap_computes_with_stored_functions() -> None:
    space = make_space(8)
    fit_projection(space.names, space.affinity)
    from umap import layouts, umap_

    for function in (layouts._nb_optimize_layout_euclidean_single_epoch, umap_.smooth_knn_dist):
        assert sum((function.stats.cache_hits + function.stats.cache_misses).values()) == 1


@pytest.mark.slow
def test_umap_keeps_families_together_and_its_map_is_repeatable() -> None:
    space = make_space(38)
    fitted = fit_projection(space.names, space.affinity)
    assert fitted.parameters["method"] == "umap"
    assert fitted.parameters["n_neighbors"] == 6
    assert fitted.recall.mean > 3 * fitted.recall.chance
    again = fit_projection(space.names, space.affinity)
    np.testing.assert_array_equal(fitted.coordinates, again.coordinates)
    assert not np.array_equal(fitted.coordinates, fit_projection(space.names, space.affinity, seed=1).coordinates)
    assert f"{fitted.recall.mean:.0%}" in fitted._repr_html_()
    # The same space from vectors, with and without neighbours from an index: as good a map.
    from modelspace.analysis import nearest_of_vectors

    by_vectors = fit_projection(space.names, vectors=space.vectors)
    assert by_vectors.parameters["input"] == "vectors"
    assert by_vectors.recall.mean > 3 * by_vectors.recall.chance
    brought = fit_projection(space.names, vectors=space.vectors, neighbours=nearest_of_vectors(space.vectors, 6))
    np.testing.assert_array_equal(by_vectors.coordinates, brought.coordinates)


def test_few_models_are_scaled_exactly() -> None:
    # Three unit vectors lie in a plane, so classical scaling keeps every distance.
    space = make_space(10)
    fitted = fit_projection(space.names[:3], space.affinity[:3, :3])
    assert fitted.parameters == {"method": "scaling", "input": "distances"}
    points = fitted.coordinates
    shown = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.testing.assert_allclose(shown, distance_matrix(space.affinity[:3, :3]), atol=1e-9)
    assert fitted.recall.mean == 1.0
    assert fit_projection(["a"], [[1.0]]).coordinates.tolist() == [[0.0, 0.0]]
    assert fit_projection(["a", "b"], vectors=np.eye(2, dtype=np.float32)).coordinates.shape == (2, 2)


def test_scaling_by_lanczos_equals_the_full_eigenproblem() -> None:
    space = make_space(80, with_cosines=False)
    centred = space.affinity - space.affinity.mean(0) - space.affinity.mean(1)[:, None] + space.affinity.mean()
    values, axes = np.linalg.eigh(centred)
    expected = axes[:, :-3:-1] * np.sqrt(values[:-3:-1])
    np.testing.assert_allclose(np.abs(_scaling(space.affinity)), np.abs(expected), atol=1e-8)


def test_a_map_needs_sensible_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelspace.analysis import projection

    with pytest.raises(UsageError, match="either affinities or vectors"):
        fit_projection(["a"])
    with pytest.raises(UsageError, match="min_dist 2"):
        fit_projection(["a", "b"], np.eye(2), min_dist=2)
    with pytest.raises(UsageError, match="vectors have shape"):
        fit_projection(["a", "b"], vectors=np.eye(3))
    with pytest.raises(UsageError, match="neighbours have shape"):
        fit_projection(list("abcdefg"), vectors=np.eye(7), neighbours=(np.zeros((7, 2)), np.zeros((7, 2))))
    monkeypatch.setattr(projection, "MAX_EXACT", 2)
    with pytest.raises(UsageError, match="3 models are too many"):
        fit_projection(["a", "b", "c"], np.eye(3))


def test_a_new_model_goes_to_its_neighbours_and_nobody_moves() -> None:
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.normal(size=(20, 2)), rng.normal(size=(20, 2)) + 30])
    distances = np.full((2, 40), 1.4)
    distances[0, 3:9] = np.linspace(0.3, 0.5, 6)
    distances[1, 25:31] = np.linspace(0.3, 0.5, 6)
    before = places.copy()
    new = place_new(places, distances)
    np.testing.assert_array_equal(places, before)
    for row, (first, last) in zip(new, ((3, 8), (25, 30)), strict=True):
        low, high = places[first:last].min(axis=0), places[first:last].max(axis=0)
        assert (row >= low - 0.2).all()
        assert (row <= high + 0.2).all()
    np.testing.assert_array_equal(new, place_new(places, distances))


def test_the_place_is_the_mean_by_umaps_weights() -> None:
    rng = np.random.default_rng(1)
    places = rng.normal(size=(30, 2)) * 100
    distances = rng.uniform(0.5, 1.3, size=(1, 30))
    near = np.argsort(distances[0])[:5]
    ascending = distances[0, near]
    # sigma by brute force: the one of many whose weights sum nearest to log2 k.
    grid = np.linspace(1e-4, 3, 300_001)
    sums = sum(np.exp(-(d - ascending[0]) / grid) for d in ascending)
    sigma = grid[np.abs(sums - np.log2(5)).argmin()]
    weights = np.exp(-(ascending - ascending[0]) / sigma)
    expected = (weights[:, None] * places[near]).sum(axis=0) / weights.sum()
    np.testing.assert_allclose(place_new(places, distances)[0], expected, atol=1e-2)
    np.testing.assert_allclose(_membership(ascending), weights, atol=1e-4)


def test_new_models_see_each_other() -> None:
    places = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    # The first new model knows an old one; the second is near to the first only.
    distances = np.array([[0.2, 1.2, 1.2, 1.3], [1.41, 1.40, 1.40, 1.39]])
    between = np.array([[0.0, 0.1], [0.1, 0.0]])
    alone = place_new(places, distances, k=2)
    together = place_new(places, distances, between=between, k=2)
    assert np.hypot(*(together[1] - together[0])) < np.hypot(*(alone[1] - alone[0]))


@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_nobody_is_put_onto_another(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(n, 2))
    # Exact copies of old models and of each other are the hard case.
    distances = rng.choice([0.0, 0.5, 1.4], size=(m, n))
    new = place_new(places, distances, between=rng.choice([0.0, 1.4], size=(m, m)))
    assert np.isfinite(new).all()
    everyone = np.concatenate([places, new])
    gap = np.linalg.norm(everyone[:, None] - everyone[None], axis=2)[n:, :]
    gap[np.arange(m), n + np.arange(m)] = np.inf
    assert gap.min() > 0


def test_placing_needs_a_map_and_matching_shapes() -> None:
    with pytest.raises(UsageError, match="refit=True"):
        place_new(np.zeros((0, 2)), np.zeros((1, 0)))
    with pytest.raises(UsageError, match="distances to 3 models, but the projection has 2"):
        place_new(np.zeros((2, 2)), np.zeros((1, 3)))
    with pytest.raises(UsageError, match="between 1 new"):
        place_new(np.zeros((2, 2)), np.zeros((1, 2)), between=np.zeros((2, 2)))
