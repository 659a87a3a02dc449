"""The verbs end to end on small nets: register, find, change, verify."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import METHODS, PREPROCESSING, add, near, net, space

from modelspace.errors import ConflictError, EmbeddingError, ModelspaceError, NotFoundError, UsageError
from modelspace.home import INDEX, REGISTRY
from modelspace.probes import batches, rooms
from modelspace.probes.preprocess import to_input
from modelspace.workspace import ModelSpace


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five models: two families of two, and a singleton."""
    where = space(tmp_path_factory.mktemp("original"))
    for name, module in {
        "a": net(1),
        "a-near": near(1, 0.1),
        "b": net(2),
        "b-near": near(2, 0.1),
        "loner": net(3),
    }.items():
        add(where, name, module, task=name[0])
    return where.home


@pytest.fixture
def shelf(original: Path, tmp_path: Path) -> ModelSpace:
    """A copy of `original`, to change."""
    return ModelSpace(shutil.copytree(original, tmp_path / "shelf"))


def slow_affinity(one: torch.nn.Module, other: torch.nn.Module, method: str) -> float:
    """Song et al. 2019 from the definition, in float64: mean cosine of channel-averaged maps on the canvas."""
    images = next(batches(rooms(6), None, 0, 6, 6))
    planes = []
    for module in (one, other):
        module = module.double().eval()
        x = to_input(images, PREPROCESSING, torch.device("cpu")).double().requires_grad_(True)
        features = torch.relu(module.conv1(x))
        features = torch.nn.functional.silu(module.conv2(features)).mean((2, 3))
        (gradient,) = torch.autograd.grad(features.sum(), x)
        values = gradient.abs() if method == "saliency" else gradient * x.detach()
        plane = values.mean(1)
        planes.append(plane.reshape(6, 8, 2, 8, 2).mean((2, 4)).reshape(6, -1))
        module.float()
    return float(torch.nn.functional.cosine_similarity(planes[0], planes[1]).mean())


@pytest.mark.parametrize("method", ["gradient_x_input", "saliency"])
def test_affinities_are_the_papers_from_pass_to_vectors(shelf: ModelSpace, method: str) -> None:
    found = shelf.affinity(method)
    nets = {"a": net(1), "a-near": near(1, 0.1), "b": net(2), "b-near": near(2, 0.1), "loner": net(3)}
    for i, one in enumerate(found.names):
        for j, other in enumerate(found.names):
            expected = 1.0 if i == j else slow_affinity(nets[one], nets[other], method)
            assert found.matrix[i, j] == pytest.approx(expected, abs=1e-5)


def test_nearest_ranks_by_affinity_with_intervals_around_it(shelf: ModelSpace) -> None:
    matrix = shelf.affinity().to_pandas()
    ranking = shelf.nearest("a", k=4)
    expected = matrix.loc["a"].drop("a").sort_values(ascending=False)
    assert [row.name for row in ranking] == list(expected.index)
    assert ranking[0].name == "a-near"
    for row in ranking:
        assert row.affinity == pytest.approx(expected[row.name], abs=1e-6)
        assert row.low <= row.affinity <= row.high
        assert row.distance == pytest.approx(np.sqrt(2 - 2 * row.affinity))
    assert [row.rank for row in ranking] == [1, 2, 3, 4]
    assert ranking.to_pandas().shape == (4, 15)
    assert ranking.to_dicts()[0]["name"] == "a-near"


def test_every_method_fills_its_own_space(shelf: ModelSpace) -> None:
    assert [info.name for info in shelf.spaces()] == list(METHODS)
    assert all(info.n_models == 5 and info.index == "fresh" for info in shelf.spaces())
    assert [info.is_default for info in shelf.spaces()] == [True, False, False]
    assert shelf.nearest("b", k=1, space="saliency")[0].name == "b-near"
    with pytest.raises(NotFoundError, match="salency"):
        shelf.nearest("b", space="salency")


def test_where_filters_before_ranking(shelf: ModelSpace) -> None:
    assert [row.name for row in shelf.nearest("a", k=5, where="task = 'b'")] != []
    assert {row.name for row in shelf.nearest("a", k=5, where="task = 'b'")} == {"b", "b-near"}
    assert shelf.nearest("a", where="task = 'nothing'").to_dicts() == []
    with pytest.raises(UsageError):
        shelf.nearest("a", where="tusk = 1")


def test_a_model_that_is_not_registered_is_ranked_and_not_stored(shelf: ModelSpace) -> None:
    before = (shelf.home / REGISTRY).read_bytes()
    ranking = shelf.nearest(near(2, 0.05, noise_seed=9), k=2, preprocessing=PREPROCESSING)
    assert {row.name for row in ranking} == {"b", "b-near"}
    assert (shelf.home / REGISTRY).read_bytes() == before
    # The same model, registered, has the same affinities.
    add(shelf, "b-other", near(2, 0.05, noise_seed=9))
    again = {row.name: row.affinity for row in shelf.nearest("b-other", k=2)}
    for row in ranking:
        assert again[row.name] == pytest.approx(row.affinity, abs=1e-9)


def test_a_registered_model_given_as_a_module_is_recognised(shelf: ModelSpace) -> None:
    ranking = shelf.nearest(net(1), k=1, preprocessing=PREPROCESSING)
    assert ranking[0].name == "a-near"
    assert any("registered as a" in note for note in ranking.notes)


def test_adding_the_same_thing_again_changes_nothing(shelf: ModelSpace) -> None:
    before = (shelf.home / REGISTRY).read_bytes()
    added = add(shelf, "a", net(1))
    assert added.status == "unchanged"
    assert (shelf.home / REGISTRY).read_bytes() == before


@pytest.mark.wide
def test_a_taken_name_is_refused_with_the_way_out(shelf: ModelSpace) -> None:
    with pytest.raises(ConflictError, match="other weights") as caught:
        add(shelf, "a", net(9))
    assert "`replace=True`" in caught.value.hint
    assert "`name=`" in caught.value.hint
    with pytest.raises(ConflictError, match="other layer"):
        add(shelf, "a", net(1), layer="conv1")
    added = add(shelf, "a", net(9), replace=True)
    assert added.status == "replaced"
    assert len(shelf.list()) == 5
    assert all(check.ok for check in shelf.verify(deep=True))


@pytest.mark.wide
def test_which_layer_is_explained_is_a_field_and_no_remark(shelf: ModelSpace) -> None:
    added = add(shelf, "named", net(7), layer="conv*")
    assert added.notes == ()
    assert added.card.layer == "conv2"
    assert added.card.layer_choice.pattern == "conv*"
    assert not add(shelf, "left", net(8)).card.layer_choice.given
    remark = shelf.nearest(net(9), preprocessing=PREPROCESSING, layer="conv*", name="x").notes[0]
    assert remark == "explains conv2 (`layer='conv*'` (the last of 2 executed layers that match))"


def test_a_copy_under_another_name_is_noted_and_found_first(shelf: ModelSpace) -> None:
    added = add(shelf, "a-copy", net(1))
    assert added.status == "added"
    assert any("same weights" in note and "a" in note for note in added.notes)
    first = shelf.nearest("a-copy", k=1)[0]
    assert first.name == "a"
    assert first.affinity == pytest.approx(1, abs=1e-9)
    assert first.distance == pytest.approx(0, abs=1e-4)


def test_a_new_space_is_filled_by_adding_again(shelf: ModelSpace) -> None:
    shelf.init(methods=["saliency"], images=4, canvas=4, bits=8, name="small")
    with pytest.raises(NotFoundError, match="not in space"):
        shelf.nearest("a", space="small")
    added = add(shelf, "a", net(1))
    assert added.status == "completed"
    assert added.spaces == ("small",)
    add(shelf, "b", net(2))
    assert shelf.nearest("a", k=5, space="small")[0].name == "b"


def test_removing_leaves_the_others_affinities(shelf: ModelSpace) -> None:
    before = shelf.affinity().to_pandas()
    shelf.remove("a")
    after = shelf.affinity().to_pandas()
    assert list(after.index) == ["a-near", "b", "b-near", "loner"]
    np.testing.assert_allclose(after, before.loc[after.index, after.index], atol=1e-12)
    assert all(check.ok for check in shelf.verify(deep=True))
    with pytest.raises(NotFoundError, match="'a'"):
        shelf.nearest("a")
    add(shelf, "a", net(1))
    back = shelf.affinity().to_pandas()
    np.testing.assert_allclose(back.loc[before.index, before.index], before, atol=1e-9)


def test_index_folder_can_be_deleted(shelf: ModelSpace) -> None:
    before = shelf.nearest("a").to_dicts()
    shutil.rmtree(shelf.home / INDEX)
    assert shelf.nearest("a").to_dicts() == before
    assert shelf.spaces()[0].index == "fresh"


def test_vectors_can_be_made_again_from_the_maps(shelf: ModelSpace) -> None:
    before = shelf.affinity().matrix
    shelf.rebuild(coordinates=True)
    np.testing.assert_allclose(shelf.affinity().matrix, before, atol=1e-12)
    assert all(check.ok for check in shelf.verify(deep=True))


def test_rename_and_tag(shelf: ModelSpace) -> None:
    shelf.rename("a", "alpha")
    assert shelf.nearest("a-near", k=1)[0].name == "alpha"
    with pytest.raises(ConflictError):
        shelf.rename("alpha", "b")
    with pytest.raises(UsageError):
        shelf.rename("alpha", "zoo:alpha")
    info = shelf.tag("alpha", {"owner": "me", "year": "2026"}, data="rooms")
    assert info.tags == {"owner": "me", "year": "2026"}
    assert shelf.tag("alpha", {"year": None}).tags == {"owner": "me"}
    assert shelf.show("alpha").data == "rooms"
    assert shelf.show("alpha").task == "a"


def test_a_live_module_comes_back_as_it_was(shelf: ModelSpace) -> None:
    module = net(4).train()
    module.fc.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = [(name, parameter.requires_grad) for name, parameter in module.named_parameters()]
    add(shelf, "live", module)
    assert module.training
    assert all(child.training for child in module.modules())
    assert [(name, parameter.requires_grad) for name, parameter in module.named_parameters()] == flags
    assert all(parameter.grad is None for parameter in module.parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in module.modules())


class Broken(torch.nn.Module):
    """Fails on images after the first four."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net(5)
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        if self.seen > 60:
            raise KeyboardInterrupt
        return self.inner(x)


def test_an_interrupted_add_leaves_the_registry_as_it_was(shelf: ModelSpace) -> None:
    before = (shelf.home / REGISTRY).read_bytes()
    broken = Broken()
    broken.seen = 58
    with pytest.raises(KeyboardInterrupt):
        add(shelf, "broken", broken, batch_size=2)
    assert (shelf.home / REGISTRY).read_bytes() == before
    assert "broken" not in [info.name for info in shelf.list()]


@pytest.mark.parametrize("spoil", ["nan", "zero"])
def test_maps_that_say_nothing_are_refused_and_not_stored(shelf: ModelSpace, spoil: str) -> None:
    module = net(6)
    with torch.no_grad():
        module.conv1.weight.fill_(float("nan") if spoil == "nan" else 0.0)
    with pytest.raises(EmbeddingError):
        add(shelf, spoil, module)
    assert spoil not in [info.name for info in shelf.list()]
    assert all(check.ok for check in shelf.verify(deep=True))


def test_a_model_that_cannot_take_the_images_is_named_without_a_traceback(shelf: ModelSpace) -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(10, 4))
    with pytest.raises(EmbeddingError, match="forward pass fails on an input of"):
        add(shelf, "flat", module)


def test_init_states_what_is_wrong(tmp_path: Path) -> None:
    for options, words in (
        ({"methods": ["salency"]}, "not known"),
        ({"bits": 5}, "bits"),
        ({"images": 1}, "probe images"),
        ({"canvas": 1}, "canvas"),
        ({"probes": "nowhere"}, "nowhere"),
    ):
        with pytest.raises(ModelspaceError, match=words):
            ModelSpace.create(tmp_path / "new", **options)
        assert not (tmp_path / "new" / REGISTRY).exists()
    with pytest.raises(NotFoundError, match=r"registry\.duckdb"):
        ModelSpace.open(tmp_path / "new")


def test_init_again_makes_nothing_new(shelf: ModelSpace) -> None:
    shelf.init(methods=METHODS, images=6, canvas=8, bits=32)
    assert len(shelf.spaces()) == 3


@pytest.mark.wide
def test_a_folder_of_images_is_copied_into_the_registry(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(5):
        Image.fromarray(rng.integers(0, 256, (20 + k, 30, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    where = ModelSpace.create(tmp_path / "home", probes=folder, images=4, canvas=8)
    add(where, "one", net(1))
    shutil.rmtree(folder)
    add(where, "two", net(2))
    assert where.nearest("one", k=1)[0].name == "two"
    assert where.probe_images(images=[0, 3]).shape[0] == 2
    assert where.probe_sets()[0].kind == "folder"


def test_stored_maps_are_unit_maps_on_the_canvas(shelf: ModelSpace) -> None:
    maps = shelf.maps("a")
    assert maps.shape == (6, 8, 8)
    np.testing.assert_allclose(np.linalg.norm(maps, axis=(1, 2)), 1, atol=1e-6)
    cosines = shelf.cosines(["a", "b", "loner"])
    assert cosines.shape == (6, 3, 3)
    matrix = shelf.affinity().to_pandas().loc[["a", "b", "loner"], ["a", "b", "loner"]]
    np.testing.assert_allclose(cosines.mean(axis=0), matrix, atol=1e-6)
