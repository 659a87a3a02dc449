"""Trees and heatmaps of a registry: from the stored maps, with support, for people and for programs."""

from __future__ import annotations

import numpy as np
import pytest
from picture_space import NAMES, make

from modelspace.analysis import parse_newick, to_newick
from modelspace.errors import DamagedError, UsageError
from modelspace.registry import Registry
from modelspace.spaces import affinity as comparison
from modelspace.workspace import ModelSpace


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    return make(tmp_path_factory.mktemp("tree"))


@pytest.mark.wide
def test_cosines_of_all_pairs_are_those_of_the_definition(space: ModelSpace) -> None:
    maps = np.stack([space.maps(name).reshape(6, -1).astype(np.float64) for name in NAMES])
    with Registry.open(space.path) as registry:
        ids = registry.model_ids(registry.space().spec.space_id)
        found = comparison.contributions_of_all(registry, registry.space().spec, ids)
        back = comparison.contributions_of_all(registry, registry.space().spec, ids[::-1])
    assert (found.shape, found.dtype) == ((6, 6, 6), np.float32)
    for image in range(6):
        for i in range(6):
            for j in range(6):
                a, b = maps[i, image], maps[j, image]
                expected = a @ b / np.sqrt((a @ a) * (b @ b))
                assert found[image, i, j] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(back, found[:, ::-1, ::-1], atol=1e-6)
    np.testing.assert_allclose(found.mean(axis=0), space.affinity().matrix, atol=1e-6)
    np.testing.assert_allclose(found, space.cosines(NAMES), atol=1e-6)


def test_cosines_of_a_model_without_maps_are_no_numbers(space: ModelSpace) -> None:
    with Registry.open(space.path) as registry, pytest.raises(DamagedError, match="missing"):
        comparison.contributions_of_all(registry, registry.space().spec, [1, 99])


def test_families_are_clusters_with_support(space: ModelSpace) -> None:
    tree = space.tree(support=100).facts["tree"]
    assert tree.support is not None
    support = {
        frozenset(tree.names[i] for i in members): s for members, s in zip(tree.members(), tree.support, strict=True)
    }
    assert support[frozenset({"a", "a2"})] == 1.0
    assert support[frozenset({"b", "b_2"})] == 1.0
    assert space.clusters(support=0).tree.support is None
    assert space.clusters().tree.support is not None


def test_newick_has_every_name(space: ModelSpace) -> None:
    text = to_newick(space.clusters(support=20).tree)
    assert {leaf.name for leaf in parse_newick(text).leaves()} == set(NAMES)
    some = space.clusters(where="task = 'task a'")
    assert some.tree.names == ("a", "a2")
    assert some.groups == {"a": "2D", "a2": "2D"}


@pytest.mark.wide
def test_pairs_are_the_affinities(space: ModelSpace) -> None:
    pairs = space.clusters(support=0).pairs()
    assert len(pairs) == 15
    for pair in pairs:
        ((affinity,),) = space.sql(f"SELECT affinity('{pair['a']}', '{pair['b']}')").rows
        assert pair["affinity"] == affinity


def test_heatmaps_are_drawn_in_any_space(space: ModelSpace) -> None:
    default, saliency = space.heatmap(), space.heatmap(space="saliency", method="ward")
    assert default.facts["models"] == 6
    assert default.facts["range"] != saliency.facts["range"]


def test_mistakes_have_a_hint(space: ModelSpace) -> None:
    with pytest.raises(UsageError, match="unknown linkage 'centroid'") as caught:
        space.tree(method="centroid")
    assert "ward" in caught.value.hint
    with pytest.raises(UsageError, match="too few") as caught:
        space.tree(support=-1)
    assert "--" in caught.value.hint or "0" in caught.value.hint
    with pytest.raises(UsageError, match="`where="):
        space.tree(where="nonsense = 1")
