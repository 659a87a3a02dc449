"""Spaces of features on a grid: affinities, what is stored, and the rankings that use them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelspace import ModelSpace
from modelspace.errors import ConflictError, DamagedError, NotFoundError
from modelspace.registry import Registry
from modelspace.representations import grids
from modelspace.representations.maps import MapBlock
from modelspace.spaces import affinity, evidence, local, predictability, rerankings
from modelspace.spaces.kinds import GridSpace, space_of
from modelspace.spaces.neighbours import Ranker, Target, score_matrix
from modelspace.spaces.ranking import Ranking
from modelspace.spaces.views import grid_space, views

#: The core tests the parts that these are made of.
pytestmark = pytest.mark.wide

NAMES = ("curvature", "edge2d", "rgb2depth", "rgb2mist")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    """Four networks in the standard spaces on twenty images."""
    space = ModelSpace.create(tmp_path_factory.mktemp("grids"), images=20)
    for name in NAMES:
        space.add(f"zoo:{name}", name=name)
    return space


@pytest.fixture
def registry(space: ModelSpace) -> Iterator[Registry]:
    with Registry.open(space.path) as registry:
        yield registry


def features(registry: Registry) -> dict[str, np.ndarray]:
    spec = registry.space("local").spec
    kind = space_of(spec)
    assert isinstance(kind, GridSpace)
    return {name: kind.grid(list(registry.map_blocks(spec.space_id, registry.model(name).model_id))) for name in NAMES}


def test_the_affinity_is_linear_cka_with_cells_as_samples(registry: Registry) -> None:
    stored = features(registry)
    spec = registry.space("local").spec
    ids, matrix = affinity.matrix(registry, spec, set(registry.model_ids(spec.space_id)))
    assert ids == [registry.model(name).model_id for name in NAMES]
    for i, first in enumerate(NAMES):
        for j, second in enumerate(NAMES):
            x, y = (stored[name].reshape(-1, grids.CHANNELS).astype(np.float64) for name in (first, second))
            norm = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
            assert matrix[i, j] == pytest.approx(np.linalg.norm(x.T @ y) ** 2 / norm, abs=1e-12)


def test_all_ways_to_the_affinity_agree(registry: Registry) -> None:
    spec = registry.space("local").spec
    kind = space_of(spec)
    ids = registry.model_ids(spec.space_id)
    blocks = affinity.stored_blocks(registry, spec, ids[0])
    each = affinity.contributions(registry, spec, blocks, ids)
    at_once = affinity.contributions_of_all(registry, spec, ids)
    single = kind.affinities(registry, blocks, ids)
    (member,) = kind.members(registry, blocks, ids)
    for k, i in enumerate(ids):
        np.testing.assert_allclose(at_once[:, 0, k], each[i], atol=1e-4)
        np.testing.assert_allclose(member.products[k], each[i], rtol=1e-12)
        assert single[i] == pytest.approx(each[i].mean(), abs=1e-5)
    assert each[ids[0]].mean() == pytest.approx(1.0, abs=1e-12)
    assert member.target is not None
    assert member.target.mean() == pytest.approx(1.0, abs=1e-12)


def test_a_fresh_pass_and_a_second_registry_have_the_same_grids(space: ModelSpace, tmp_path: Path) -> None:
    other = ModelSpace.create(tmp_path, images=20)
    for name in NAMES[:2]:
        other.add(f"zoo:{name}", name=name)
    assert other.affinity("local").matrix[0, 1] == pytest.approx(space.affinity("local").matrix[0, 1], abs=1e-3)
    merged = other.merge(space.path.parent, spaces=["local"])
    assert {row.status for row in merged} <= {"added", "completed", "unchanged"}


def test_the_standard_ranking_is_the_mean_of_both_predictions(registry: Registry) -> None:
    spec = registry.space("transfer").spec
    assert Ranking.of(spec).rerank == rerankings.COMBINED
    kernels, grid = views(registry, spec, rerankings.COMBINED)
    ids = registry.model_ids(spec.space_id)
    k, g = dict(kernels.stored(registry, ids)), dict(grid.stored(registry, ids))
    expected = predictability.r2_matrix([k[i] for i in ids]) / 2 + local.r2_matrix([g[i] for i in ids]) / 2
    found, matrix = score_matrix(registry, spec, ids)
    assert found == ids
    np.testing.assert_allclose(matrix, expected, atol=1e-9)
    ranker = Ranker(registry, registry.space("transfer"), Ranking.of(spec))
    for row, i in enumerate(ids):
        ranked = ranker.rank(Target(NAMES[row], i), 2)
        scores = ranked.scores.mean(axis=1)
        np.testing.assert_allclose(scores, np.sort(np.delete(expected[row], row))[::-1], atol=1e-9)


def test_a_second_view_scores_the_best_by_the_first(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelspace.spaces.neighbours.RERANKED_AGAIN", 2)
    row = registry.space("transfer")
    ranked = Ranker(registry, row, Ranking(rerank="combined")).rank(
        Target("a", registry.model("rgb2depth").model_id), 1
    )
    first = Ranker(registry, row, Ranking(rerank="directed")).rank(Target("a", registry.model("rgb2depth").model_id), 1)
    assert set(ranked.model_ids) == set(first.model_ids)


def test_what_is_kept_of_sources_is_bounded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelspace.spaces.views._KEPT_BYTES", 1)
    spec = registry.space("transfer").spec
    (view,) = views(registry, spec, "local")
    ids = registry.model_ids(spec.space_id)
    blocks = affinity.stored_blocks(registry, view.space.spec, ids[0])
    first = view.scores(registry, blocks, ids)
    assert not view._sources
    monkeypatch.undo()
    again = view.scores(registry, blocks, ids)
    kept = view.scores(registry, blocks, ids)
    for i in ids:
        np.testing.assert_array_equal(first[i], again[i])
        np.testing.assert_allclose(kept[i], first[i], atol=1e-5)


def test_scores_on_the_first_images_have_the_spread_of_the_score() -> None:
    values = np.random.default_rng(0).normal(0.4, 0.2, 50)
    spread = rerankings.averaged([values], 200)
    assert spread.mean() == pytest.approx(values.mean(), abs=1e-12)
    draws = np.random.default_rng(1)
    wide = [spread[draws.integers(0, 200, 200)].mean() for _ in range(2000)]
    narrow = [values[draws.integers(0, 50, 50)].mean() for _ in range(2000)]
    assert np.std(wide) == pytest.approx(np.std(narrow), rel=0.1)
    both = rerankings.averaged([np.full(200, 0.2), values], 200)
    assert both.mean() == pytest.approx((0.2 + values.mean()) / 2, abs=1e-12)


def test_without_grids_the_error_says_how_to_make_them(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, methods=["dds"], images=10)
    with Registry.open(space.path) as registry, pytest.raises(NotFoundError) as error:
        grid_space(registry, registry.space("dds").spec)
    assert "methods=['local'], probes='rooms', images=10" in str(error.value.hint)


def test_a_space_that_a_ranking_uses_can_not_be_removed(space: ModelSpace) -> None:
    with pytest.raises(ConflictError, match="is computed from 'local'"):
        space.remove_space("local")


def test_damaged_blocks_are_refused(registry: Registry) -> None:
    spec = registry.space("local").spec
    kind = space_of(spec)
    assert isinstance(kind, GridSpace)
    (block,) = registry.map_blocks(spec.space_id, registry.model("edge2d").model_id)
    with pytest.raises(DamagedError, match="2 grids"):
        kind.grid([block, block])
    with pytest.raises(DamagedError, match="wrong size"):
        kind.grid([MapBlock(0, block.n_images, block.codes[:-1], block.scales)])
    zero = grids.to_block(np.zeros((20, grids.SIDE**2, grids.CHANNELS), np.float32), spec.bits)
    with pytest.raises(DamagedError, match="zero or not finite"):
        kind.checked([zero])
    assert kind.checked([block]) == [block]


def test_neighbours_say_what_speaks_for_them(space: ModelSpace) -> None:
    found = space.nearest("rgb2depth", k=1)
    assert found.ranked_by == "combined"
    assert found[0].name == "rgb2mist"
    assert found[0].evidence == ("same features", "same places", "same pixels")
    # Of three models, all are among the best five.
    assert (found[0].confidence, found[0].chance) == ("high", None)
    for plain in (space.nearest("rgb2depth", rerank="directed"), space.nearest("rgb2depth", space="paper")):
        assert {(row.evidence, row.confidence, row.chance) for row in plain} == {((), "", None)}


def test_a_view_that_has_others_first_is_no_evidence(registry: Registry) -> None:
    row = registry.space("transfer")
    target = Target("rgb2depth", registry.model("rgb2depth").model_id)
    ranked = Ranker(registry, row, Ranking.of(row.spec)).rank(target, 3)
    assert set(ranked.orders) == {"same features", "same places"}
    first, second = ranked.model_ids[:2]
    swapped = replace(ranked, orders={"same features": [first, second], "same places": [second, first]})
    reasons = evidence.evidence(registry, row.spec, target, swapped, 1, None)
    assert reasons[first] == ("same features", "same pixels")
    chosen = {second, *ranked.model_ids[2:]}
    assert "same pixels" not in evidence.evidence(registry, row.spec, target, swapped, 1, chosen)[first]
    fresh = Target("zoo:rgb2depth", blocks=target.blocks_in(registry, row.spec))
    assert evidence.evidence(registry, row.spec, fresh, swapped, 1, None)[first] == ("same features",)


def test_measured_tasks_are_counted(space: ModelSpace, tmp_path: Path) -> None:
    shutil.copy(space.path, tmp_path)
    copy = ModelSpace.open(tmp_path)
    for task in ("a", "b"):
        copy.add_task(task, metric="accuracy")
        copy.observe(task, "rgb2mist", 0.5)
        copy.observe(task, "curvature", failed="out of memory")
    reasons = {row.name: row.evidence for row in copy.nearest("rgb2depth", k=3)}
    assert reasons["rgb2mist"][-1] == "measured on 2 tasks"
    assert not any("measured" in word for word in reasons["curvature"])
