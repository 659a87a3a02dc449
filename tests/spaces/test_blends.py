"""Blends of other spaces, filled without a pass; hubness corrections, directed ranking, standard spaces."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tiny

from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.home import INDEX
from modelspace.registry import Registry
from modelspace.spaces import index
from modelspace.spaces.neighbours import score_matrix
from modelspace.spaces.ranking import Ranking
from modelspace.types import SpaceSpec
from modelspace.workspace import ModelSpace

N = 12
NETS = {"a": tiny.net(0), "a-near": tiny.near(0, 0.05), "b": tiny.net(1), "c": tiny.net(2), "d": tiny.net(3)}


def fill(space: ModelSpace, *names: str) -> ModelSpace:
    for name in names or NETS:
        tiny.add(space, name, NETS[name])
    return space


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    space = ModelSpace.create(
        tmp_path_factory.mktemp("blends"), methods=("saliency", "dds"), images=N, canvas=8, bits=8
    )
    space.blend("early", {"saliency": 1, "dds": 3})
    fill(space)
    space.blend("late", {"saliency": 0.25, "dds": 0.75}, hubs="csls")
    space.blend("transfer", {"dds": 1}, rerank="directed")
    return space


@pytest.mark.wide
def test_a_blend_is_the_weighted_sum_however_it_was_filled(filled: ModelSpace) -> None:
    expected = 0.25 * filled.affinity("saliency").matrix + 0.75 * filled.affinity("dds").matrix
    for name in ("early", "late"):
        affinity = filled.affinity(name)
        assert affinity.names == tuple(NETS)
        assert np.allclose(affinity.matrix, expected, atol=1e-12)
    assert all(check.ok for check in filled.verify(deep=True))
    cosines = filled.cosines(["a", "b"], "early")
    assert cosines[:, 0, 1].mean() == pytest.approx(expected[0, 2], abs=1e-6)


@pytest.mark.wide
def test_a_blend_follows_removal_and_rebuilding(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, methods=("saliency", "dds"), images=N, canvas=8, bits=8)
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


@pytest.mark.wide
def test_a_blend_holds_only_models_that_all_members_hold(tmp_path: Path) -> None:
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


def test_unregistered_models_are_ranked_like_registered_ones(filled: ModelSpace) -> None:
    for name in ("early", "late", "transfer"):
        # with other weights, so that it is not recognised as a registered model
        neighbours = filled.nearest(tiny.near(0, 0.02), 3, space=name, preprocessing=tiny.PREPROCESSING)
        assert {"a", "a-near"} == {row.name for row in neighbours[:2]}
        assert neighbours.ranked_by == {"early": "affinity", "late": "csls", "transfer": "directed"}[name]


def test_invalid_blends_are_refused(filled: ModelSpace) -> None:
    filled.init(methods=("linear_cka",), images=N - 1)
    for members, message in (
        ({}, "needs spaces with positive weights"),
        ({"dds": 0.0}, "needs spaces with positive weights"),
        ({"dds": float("nan")}, "needs spaces with positive weights"),
        ({"early": 1.0}, "is itself a blend"),
        ({"dds": 1.0, "linear_cka": 1.0}, "different probe images"),
    ):
        with pytest.raises(UsageError, match=message):
            filled.blend("new", members)
    with pytest.raises(NotFoundError, match="no space 'nothing'"):
        filled.blend("new", {"nothing": 1.0})
    with pytest.raises(ConflictError, match="space 'dds' exists already"):
        filled.blend("dds", {"dds": 1.0})
    with pytest.raises(UsageError, match="not known"):
        filled.blend("new", {"dds": 1.0}, hubs="cls")
    assert (
        filled.blend("again", {"dds": 3}, rerank="directed").name == "transfer"
    )  # an equal space exists under this name


# ---- hubs


@pytest.mark.first(1)
@pytest.mark.parametrize("correction", ["centred", "csls", "mutual"])
def test_queries_rank_by_the_corrected_scores(filled: ModelSpace, correction: str) -> None:
    with Registry.open(filled.path) as registry:
        spec = registry.space("saliency").spec
        ids, expected = score_matrix(registry, spec, set(registry.model_ids(spec.space_id)), Ranking(correction))
    names = list(NETS)
    for target in range(len(ids)):
        neighbours = filled.nearest(names[target], 4, space="saliency", hubs=correction)
        row = expected[target]
        assert [neighbour.name for neighbour in neighbours] == [names[j] for j in np.argsort(-row) if j != target]
        gaps = [neighbour.score - row[names.index(neighbour.name)] for neighbour in neighbours]
        assert np.ptp(gaps) < 1e-5
        assert [neighbour.score for neighbour in neighbours] == sorted(
            (neighbour.score for neighbour in neighbours), reverse=True
        )
        plain = {
            neighbour.name: neighbour.affinity
            for neighbour in filled.nearest(names[target], 4, space="saliency", hubs="none")
        }
        assert {neighbour.name: neighbour.affinity for neighbour in neighbours} == plain


@pytest.mark.wide
def test_a_correction_has_its_own_index_file_which_is_rebuilt_when_models_are_added(tmp_path: Path) -> None:
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


def test_an_unknown_ranking_is_refused(filled: ModelSpace) -> None:
    with pytest.raises(UsageError, match="`hubs='clsl'` is not known") as error:
        filled.nearest("a", hubs="clsl")
    assert "csls" in error.value.hint
    with pytest.raises(UsageError, match="`rerank='direct'` is not known"):
        filled.nearest("a", rerank="direct")


def test_a_directed_ranking_can_not_be_corrected_for_hubs(filled: ModelSpace) -> None:
    """The correction would change nothing, and nobody would know."""
    with pytest.raises(UsageError, match=r"^`hubs='csls'` corrects affinities, and space 'transfer' ranks by") as error:
        filled.nearest("a", space="transfer", hubs="csls")
    assert "`rerank='none'`" in error.value.hint
    assert filled.nearest("a", space="transfer", hubs="csls", rerank="none").ranked_by == "csls"
    assert filled.nearest("a", space="transfer", hubs="none").ranked_by == "directed"
    with pytest.raises(UsageError, match="this ranking ranks by"):
        filled.nearest("a", space="saliency", hubs="mutual", rerank="directed")
    with pytest.raises(UsageError, match="this ranking ranks by"):
        filled.blend("twice", {"dds": 1.0}, hubs="centred", rerank="directed")
    with pytest.raises(UsageError, match=r"this ranking ranks by jaccard, a similarity of kernels"):
        filled.nearest("a", space="saliency", hubs="mutual", rerank="jaccard")
    with pytest.raises(UsageError, match="space 'transfer' ranks by"):
        filled.evaluate(space="transfer", hubs="csls")
    # A space of an earlier version that has both is still answered, by what it was: directed.
    both = SpaceSpec("both", "probes", "blend", N, 0, parameters={"hubs": "csls", "rerank": "directed"})
    assert Ranking.of(both).label == "directed"


# ---- directed


def test_directed_queries(filled: ModelSpace) -> None:
    with Registry.open(filled.path) as registry:
        spec = registry.space("transfer").spec
        ids, expected = score_matrix(registry, spec, set(registry.model_ids(spec.space_id)))
    names = list(NETS)
    for target in range(len(ids)):
        for neighbours in (
            filled.nearest(names[target], 4, space="transfer"),
            filled.nearest(names[target], 4, space="saliency", rerank="directed"),
        ):
            order = [names[j] for j in np.argsort(-expected[target], kind="stable") if j != target]
            assert [neighbour.name for neighbour in neighbours] == order
            assert neighbours[0].score == pytest.approx(expected[target, names.index(neighbours[0].name)])
    plain = filled.nearest("a", 4, space="transfer", rerank="none")
    assert plain.ranked_by == "affinity"
    assert [neighbour.affinity for neighbour in plain] == sorted(
        (neighbour.affinity for neighbour in plain), reverse=True
    )


@pytest.mark.wide
def test_directed_needs_features(tmp_path: Path) -> None:
    space = fill(ModelSpace.create(tmp_path, methods=("saliency", "rsa"), images=N, canvas=8), "a", "b")
    with pytest.raises(NotFoundError, match="needs the features' kernels") as error:
        space.nearest("a", rerank="directed")
    assert "methods=['dds']" in error.value.hint
    for rerank in ("directed", "jaccard"):
        with pytest.raises(NotFoundError, match="needs the features' kernels"):
            space.blend("x", {"saliency": 1}, rerank=rerank)
    with pytest.raises(NotFoundError, match="re-ranking needs the features' kernels"):
        space.nearest("a", rerank="procrustes")


def test_sources_are_filtered_before_re_ranking(filled: ModelSpace) -> None:
    neighbours = filled.nearest("a", 2, space="transfer", where="name in ('c', 'd')")
    assert {neighbour.name for neighbour in neighbours} == {"c", "d"}


# ---- the standard spaces


def test_a_new_registry_has_the_standard_spaces(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, images=N, canvas=8)
    assert [(info.name, info.is_default) for info in space.spaces()] == [
        ("gradient_x_input", False),
        ("dds", False),
        ("local", False),
        ("transfer", True),
    ]
    assert [info.name for info in space.init(images=N, canvas=8)] == ["gradient_x_input", "dds", "local", "transfer"]
    fill(space, "a", "b", "c")
    assert space.nearest("a").space == "transfer"
    assert space.nearest("a", space="paper").space == "gradient_x_input"
    more = space.init(images=N, canvas=8, seed=1)
    assert [info.method for info in more] == ["gradient_x_input", "dds", "local", "blend"]
    assert len(space.spaces()) == 8
    assert next(info for info in space.spaces() if info.is_default).name == "transfer"


def test_with_too_few_images_for_folds_gradient_x_input_is_the_default(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, images=6, canvas=8)
    assert [(info.name, info.is_default) for info in space.spaces()] == [("gradient_x_input", True), ("dds", False)]


@pytest.mark.wide
@pytest.mark.parametrize("space", ["saliency", "late", "transfer"])
def test_everything_that_shows_neighbours_ranks_them_as_a_query_does(
    filled: ModelSpace, tmp_path: Path, space: str
) -> None:
    queried = {name: [neighbour.name for neighbour in filled.nearest(name, 3, space=space)] for name in NETS}
    filled.export(tmp_path / "near.json", "neighbours", k=3, space=space)
    exported: dict[str, list[str]] = {}
    for row in json.loads((tmp_path / "near.json").read_text()):
        exported.setdefault(row["name"], []).append(row["neighbour"])
    assert exported == queried
    page = filled.atlas(space=space, k=3).html
    script = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert script is not None
    data = json.loads(script[1])
    indices = np.frombuffer(base64.b64decode(data["nearest"]["models"]), "<u4").reshape(-1, 3)
    shown = {name: [data["names"][j] for j in row] for name, row in zip(data["names"], indices, strict=True)}
    assert shown == queried
    report = filled.report(space=space)
    table = next(section.table for section in report.sections if section.heading == "Nearest")
    assert {row[0]: row[1] for row in table[1:]} == {name: neighbour[0] for name, neighbour in queried.items()}
