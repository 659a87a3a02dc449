"""Blends: spaces made of others, filled without a pass, and how they rank: hubs, directed re-ranking, the standard spaces."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from scipy.stats import norm

from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.evaluation import hubs as reference
from modelspace.home import INDEX
from modelspace.registry import Registry
from modelspace.spaces import hubness, index, predictability
from modelspace.spaces.neighbours import score_matrix
from modelspace.spaces.ranking import Ranking
from modelspace.workspace import ModelSpace

N = 12
NETS = {"a": tiny.net(0), "a-near": tiny.near(0, 0.05), "b": tiny.net(1), "c": tiny.net(2), "d": tiny.net(3)}


def fill(space: ModelSpace, *names: str) -> ModelSpace:
    for name in names or NETS:
        tiny.add(space, name, NETS[name])
    return space


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    space = ModelSpace.create(tmp_path_factory.mktemp("blends"), methods=("saliency", "dds"), images=N, canvas=8)
    space.blend("early", {"saliency": 1, "dds": 3})
    fill(space)
    space.blend("late", {"saliency": 0.25, "dds": 0.75}, hubs="csls")
    space.blend("transfer", {"dds": 1}, rerank="directed")
    return space


def test_a_blend_is_the_weighted_sum_however_it_was_filled(filled: ModelSpace) -> None:
    expected = 0.25 * filled.affinity("saliency").matrix + 0.75 * filled.affinity("dds").matrix
    for name in ("early", "late"):
        found = filled.affinity(name)
        assert found.names == tuple(NETS)
        assert np.allclose(found.matrix, expected, atol=1e-12)
    assert all(check.ok for check in filled.verify(deep=True))
    cosines = filled.cosines(["a", "b"], "early")
    assert cosines[:, 0, 1].mean() == pytest.approx(expected[0, 2], abs=1e-6)


def test_a_blend_follows_removal_and_rebuilding(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, methods=("saliency", "dds"), images=N, canvas=8)
    space.blend("both", {"saliency": 1, "dds": 1})
    fill(space, "a", "b", "c")
    space.remove("b")
    fill(space, "d")
    expected = (space.affinity("saliency").matrix + space.affinity("dds").matrix) / 2
    assert space.affinity("both").names == ("a", "c", "d")
    assert np.allclose(space.affinity("both").matrix, expected, atol=1e-12)
    space.rebuild(coordinates=True)
    assert np.allclose(space.affinity("both").matrix, expected, atol=1e-12)
    assert all(check.ok for check in space.verify(deep=True))


def test_a_new_member_space_leaves_the_blend_to_its_models(tmp_path: Path) -> None:
    """A model that a member lacks is not in the blend until it is added again."""
    space = fill(ModelSpace.create(tmp_path, methods=("saliency",), images=N, canvas=8), "a", "b")
    space.init(methods=("dds",), images=N)
    space.blend("both", {"saliency": 1, "dds": 1})
    assert space.affinity("both").names == ()
    added = tiny.add(space, "a", NETS["a"])
    assert set(added.spaces) == {"dds", "both"}  # type: ignore[attr-defined]
    assert space.affinity("both").names == ("a",)
    with pytest.raises(NotFoundError, match="is not in space 'both'"):
        space.nearest("b", space="both")


def test_an_unregistered_model_is_ranked_as_it_would_be(filled: ModelSpace) -> None:
    for name in ("early", "late", "transfer"):
        # weights of its own, so that it is not recognised as a registered one
        found = filled.nearest(tiny.near(0, 0.02), 3, space=name, preprocessing=tiny.PREPROCESSING)
        assert {"a", "a-near"} == {row.name for row in found[:2]}
        assert found.ranked_by == {"early": "affinity", "late": "csls", "transfer": "directed"}[name]


def test_what_can_not_be_blended(filled: ModelSpace) -> None:
    filled.init(methods=("linear_cka",), images=N - 1)
    for members, message in (
        ({}, "needs spaces with weights"),
        ({"dds": 0.0}, "needs spaces with weights"),
        ({"dds": float("nan")}, "needs spaces with weights"),
        ({"early": 1.0}, "is a blend itself"),
        ({"dds": 1.0, "linear_cka": 1.0}, "different probe images"),
    ):
        with pytest.raises(UsageError, match=message):
            filled.blend("new", members)
    with pytest.raises(NotFoundError, match="no space 'nothing'"):
        filled.blend("new", {"nothing": 1.0})
    with pytest.raises(ConflictError, match="there is a space 'dds' already"):
        filled.blend("dds", {"dds": 1.0})
    with pytest.raises(UsageError, match="not known"):
        filled.blend("new", {"dds": 1.0}, hubs="cls")
    assert filled.blend("again", {"dds": 3}, rerank="directed").name == "transfer"  # the same space has its name


# ---- hubs


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
        rest = np.delete(np.arange(n), target)
        gap = scores[rest] - expected[target, rest]
        assert np.allclose(gap, gap[0], atol=1e-4)  # up to a constant of the target's
        line = hubness.score(items[rest], correction, others)
        shift = line(matrix[target, rest]) - expected[target, rest]
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


@pytest.mark.parametrize("correction", ["centred", "csls", "mutual"])
def test_queries_rank_by_the_corrected_scores(filled: ModelSpace, correction: str) -> None:
    with Registry.open(filled.path) as registry:
        spec = registry.space("saliency").spec
        ids, expected = score_matrix(registry, spec, set(registry.model_ids(spec.space_id)), Ranking(correction))
    names = list(NETS)
    for target in range(len(ids)):
        found = filled.nearest(names[target], 4, space="saliency", hubs=correction)
        row = expected[target]
        assert [one.name for one in found] == [names[j] for j in np.argsort(-row) if j != target]
        gaps = [one.score - row[names.index(one.name)] for one in found]
        assert np.ptp(gaps) < 1e-5
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        plain = {one.name: one.affinity for one in filled.nearest(names[target], 4, space="saliency", hubs="none")}
        assert {one.name: one.affinity for one in found} == plain


def test_a_correction_has_an_index_file_that_is_made_anew_when_models_come(tmp_path: Path) -> None:
    space = fill(ModelSpace.create(tmp_path, methods=("saliency",), images=N, canvas=8), "a", "b", "c")
    space.nearest("a", hubs="csls")
    space_id = space.spaces()[0].space_id
    file = tmp_path / INDEX / f"{space_id}.csls.faiss"
    before = file.read_bytes()
    fill(space, "d")
    assert file.exists()
    space.nearest("a", hubs="csls")
    assert file.read_bytes() != before
    index.remove(tmp_path / INDEX, set())
    assert not file.exists()


def test_an_unknown_way_of_ranking_is_refused(filled: ModelSpace) -> None:
    with pytest.raises(UsageError, match="--hubs clsl is not known") as error:
        filled.nearest("a", hubs="clsl")
    assert "csls" in error.value.hint
    with pytest.raises(UsageError, match="--rerank direct is not known"):
        filled.nearest("a", rerank="direct")


# ---- directed


def slow_r2(target: np.ndarray, source: np.ndarray, folds: int, ridge: float) -> float:
    """Ridge regression from features to features, written out, with features whose kernels those are."""
    residual = total = 0.0
    n = len(target)
    penalty = ridge * np.trace(source @ source.T) / n
    for fold in range(folds):
        test = np.arange(n) % folds == fold
        x, y = source[~test], target[~test]
        map_ = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
        residual += float(np.square(target[test] - source[test] @ map_).sum())
        total += float(np.square(target[test]).sum())
    return 1 - residual / total


@pytest.mark.parametrize("ridge", [0.1, 1.0])
def test_r2_from_kernels_is_that_of_ridge_regression(ridge: float) -> None:
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((20, d)) for d in (3, 5, 30)]
    features.append(features[0] @ rng.standard_normal((3, 2)))
    for target in features:
        for source in features:
            weights = predictability.out_of_fold_weights(source @ source.T, folds=4, ridge=ridge)
            shares = predictability.r2_per_image(target @ target.T * 7.0, weights)
            assert shares.mean() == pytest.approx(slow_r2(target, source, 4, ridge), abs=1e-9)
    kernels = [table @ table.T for table in features]
    scores = predictability.r2_matrix(kernels)
    assert scores[3, 0] > 0.8 > scores[0, 3]  # what is made of three features does not give all of them back
    with pytest.raises(UsageError, match="too few"):
        predictability.out_of_fold_weights(np.eye(9))


def test_directed_queries(filled: ModelSpace) -> None:
    with Registry.open(filled.path) as registry:
        spec = registry.space("transfer").spec
        ids, expected = score_matrix(registry, spec, set(registry.model_ids(spec.space_id)))
    names = list(NETS)
    for target in range(len(ids)):
        for found in (
            filled.nearest(names[target], 4, space="transfer"),
            filled.nearest(names[target], 4, space="saliency", rerank="directed"),
        ):
            order = [names[j] for j in np.argsort(-expected[target], kind="stable") if j != target]
            assert [one.name for one in found] == order
            assert found[0].score == pytest.approx(expected[target, names.index(found[0].name)])
    plain = filled.nearest("a", 4, space="transfer", rerank="none")
    assert plain.ranked_by == "affinity"
    assert [one.affinity for one in plain] == sorted((one.affinity for one in plain), reverse=True)


def test_directed_needs_features(tmp_path: Path) -> None:
    space = fill(ModelSpace.create(tmp_path, methods=("saliency", "rsa"), images=N, canvas=8), "a", "b")
    with pytest.raises(NotFoundError, match="needs the features' kernels") as error:
        space.nearest("a", rerank="directed")
    assert "--method dds" in error.value.hint
    with pytest.raises(NotFoundError, match="needs the features' kernels"):
        space.blend("x", {"saliency": 1}, rerank="directed")


def test_sources_are_filtered_before_they_are_ranked_again(filled: ModelSpace) -> None:
    found = filled.nearest("a", 2, space="transfer", where="name in ('c', 'd')")
    assert {one.name for one in found} == {"c", "d"}


# ---- the standard spaces


def test_a_new_registry_has_the_standard_spaces(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, images=N, canvas=8)
    assert [(info.name, info.is_default) for info in space.spaces()] == [
        ("gradient_x_input", False),
        ("dds", False),
        ("transfer", True),
    ]
    assert [info.name for info in space.init(images=N, canvas=8)] == ["gradient_x_input", "dds", "transfer"]
    fill(space, "a", "b", "c")
    assert space.nearest("a").space == "transfer"
    assert space.nearest("a", space="paper").space == "gradient_x_input"
    more = space.init(images=N, canvas=8, seed=1)
    assert [info.method for info in more] == ["gradient_x_input", "dds", "blend"]
    assert len(space.spaces()) == 6
    assert next(info for info in space.spaces() if info.is_default).name == "transfer"


def test_too_few_images_for_folds_leave_the_paper_s_space(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, images=6, canvas=8)
    assert [(info.name, info.is_default) for info in space.spaces()] == [("gradient_x_input", True), ("dds", False)]


@pytest.mark.parametrize("space", ["saliency", "late", "transfer"])
def test_everything_that_shows_neighbours_ranks_them_as_a_query_does(
    filled: ModelSpace, tmp_path: Path, space: str
) -> None:
    queried = {name: [near.name for near in filled.nearest(name, 3, space=space)] for name in NETS}
    filled.export(tmp_path / "near.json", "neighbours", k=3, space=space)
    exported: dict[str, list[str]] = {}
    for row in json.loads((tmp_path / "near.json").read_text()):
        exported.setdefault(row["name"], []).append(row["neighbour"])
    assert exported == queried
    page = filled.atlas(space=space, k=3).html
    found = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    numbers = np.frombuffer(base64.b64decode(data["nearest"]["models"]), "<u4").reshape(-1, 3)
    shown = {name: [data["names"][j] for j in row] for name, row in zip(data["names"], numbers, strict=True)}
    assert shown == queried
    report = filled.report(space=space)
    table = next(section.table for section in report.sections if section.heading == "Nearest")
    assert {row[0]: row[1] for row in table[1:]} == {name: near[0] for name, near in queried.items()}
