"""Two models side by side: what is shown agrees with `nearest`, the affinities and the tree."""

from __future__ import annotations

import numpy as np
import pytest
import small_spaces
from small_spaces import BOTH, KERNELS, MAPS

from modelspace.errors import NotFoundError, UsageError
from modelspace.home import REGISTRY
from modelspace.spaces.kinds import BlendSpace
from modelspace.workspace import ModelSpace

SEEDS = (1, 2, 3, 4, 5)
RANKED = BlendSpace.of("ranked", [(KERNELS, 1.0)], "none", "directed")
HUBS = BlendSpace.of("hubs", [(MAPS, 1.0)], "centred", "none")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    folder = tmp_path_factory.mktemp("compare")
    specs = (MAPS, KERNELS, BOTH, RANKED, HUBS)
    with small_spaces.create(folder / REGISTRY, *specs) as registry:
        for seed in SEEDS:
            small_spaces.add(registry, seed, *specs)
        small_spaces.add(registry, 6, MAPS)
        small_spaces.add(registry, 7, KERNELS)
    return ModelSpace(folder)


@pytest.mark.wide
def test_affinities_and_scores_are_those_of_nearest(space: ModelSpace) -> None:
    compared = {row.space: row for row in space.compare("m4", "m2")}
    assert list(compared) == ["saliency", "dds", "both", "ranked", "hubs"]
    for name, row in compared.items():
        forth = next(each for each in space.nearest("m2", 9, space=name) if each.name == "m4")
        back = next(each for each in space.nearest("m4", 9, space=name) if each.name == "m2")
        assert row.a_to_b == pytest.approx(forth.score, abs=1e-9)
        assert row.b_to_a == pytest.approx(back.score, abs=1e-9)
        assert (row.affinity, row.low, row.high) == pytest.approx((back.affinity, back.low, back.high), abs=1e-9)
    assert compared["dds"].affinity == pytest.approx(small_spaces.images(KERNELS, 4, 2).mean(), abs=1e-6)
    assert [row.ranked_by for row in compared.values()][3] == "directed"
    assert compared["ranked"].a_to_b != pytest.approx(compared["ranked"].b_to_a)


def test_the_common_cluster_is_that_of_the_tree(space: ModelSpace) -> None:
    tree = space.clusters(space="dds", support=0).tree
    heights = tree.cophenetic()
    members = {frozenset(tree.names[i] for i in part) for part in tree.members()}
    for a, b in (("m1", "m5"), ("m5", "m1"), ("m2", "m3")):
        (row,) = space.compare(a, b, space="dds")
        assert row.height == pytest.approx(heights[tree.names.index(a), tree.names.index(b)])
        assert a in row.with_a
        assert b in row.with_b
        assert {*row.with_a, *row.with_b} in members
        assert row.n_models == 6


def test_only_spaces_that_hold_both(space: ModelSpace) -> None:
    assert [row.space for row in space.compare("m1", "m6")] == ["saliency"]
    with pytest.raises(NotFoundError, match="no space holds both 'm6' and 'm7'") as error:
        space.compare("m6", "m7")
    assert "their spaces are saliency, and dds" in error.value.hint
    with pytest.raises(NotFoundError, match="the space 'dds' does not hold both"):
        space.compare("m1", "m6", space="dds")


def test_mistakes(space: ModelSpace) -> None:
    with pytest.raises(UsageError, match="can't be compared with itself"):
        space.compare("m1", "m1")
    with pytest.raises(NotFoundError, match="there is no model 'm9'"):
        space.compare("m1", "m9")


def test_a_space_of_many_models_has_no_tree(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelspace.verbs.compare.MOST_IN_TREE", 3)
    (row,) = space.compare("m1", "m2", space="dds")
    assert (row.height, row.with_a, row.with_b) == (None, (), ())
    assert np.isfinite(row.affinity)
