"""Galleries show stored maps, and maps of layers as they would be stored if they were explained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from picture_space import NAMES, make
from tiny import PREPROCESSING, net

from modelspace.encoder.layers import LayerRow
from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.plots import gallery as drawn
from modelspace.registry import Registry
from modelspace.verbs.pictures import gallery
from modelspace.workspace import ModelSpace


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    return make(tmp_path_factory.mktemp("gallery"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The drawn maps."""
    maps: list[np.ndarray] = []
    real = drawn.gallery_figure

    def figure(array: np.ndarray, *args: object, **options: object) -> object:
        maps.append(array)
        return real(array, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(drawn, "gallery_figure", figure)
    return maps


@pytest.mark.wide
def test_it_shows_the_stored_maps(space: ModelSpace, shown: list[np.ndarray]) -> None:
    picture = space.gallery(["d", "a"], images=[5, 0])
    assert picture.facts["models"] == ["d", "a"]
    expected = np.stack([space.maps("d", images=[5, 0]), space.maps("a", images=[5, 0])])
    np.testing.assert_allclose(shown[0], expected, atol=1e-7)


@pytest.mark.wide
def test_without_names_it_goes_group_by_group(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert space.gallery().facts["models"] == NAMES
    assert space.gallery().facts["images"] == [0, 1, 2, 3]
    assert space.gallery(where="name > 'b'").facts["models"] == ["b_2", "c", "d"]
    monkeypatch.setattr(gallery, "MODELS", 3)
    some = space.gallery()
    assert len(some.facts["models"]) == 3
    assert "3 of 6" in some.facts["notes"][0]


def test_blocks_of_many_images_are_found(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry.open(space.path) as registry:
        spec = registry.space().spec
        model_id = registry.model("b").model_id
        for images in ([0], [5], [3, 1, 4], list(range(6))):
            found = gallery.stored_maps(registry, spec, model_id, images)
            np.testing.assert_allclose(found, space.maps("b", images=images), atol=1e-7)


def test_the_explained_layer_looks_as_it_is_stored(space: ModelSpace, shown: list[np.ndarray]) -> None:
    picture = space.gallery([net(1)], layers=["conv1", "fc:in"], images=[0, 4], preprocessing=PREPROCESSING)
    assert picture.facts["layers"] == ["conv1", "fc:in"]
    np.testing.assert_allclose(shown[0][1], space.maps("a", images=[0, 4]), atol=1e-5)
    assert np.abs(shown[0][0] - shown[0][1]).max() > 0.01


@pytest.mark.wide
def test_auto_ends_at_the_explained_layer(space: ModelSpace) -> None:
    picture = space.gallery([net(1)], layers=["auto"], preprocessing=PREPROCESSING)
    assert picture.facts["layers"] == ["conv1", "conv2", "fc:in"]


def rows(*names: str) -> list[LayerRow]:
    return [LayerRow(name, "Module", (1,), 0, 1) for name in (*names, "output")]


def test_layers_from_shallow_to_deep() -> None:
    spread = gallery.spread
    assert spread(rows(), "output") == ["output"]
    assert spread(rows("conv", "relu", "fc"), "fc:in") == ["conv", "relu", "fc:in"]
    assert spread(rows("conv", "relu", "fc"), "relu") == ["conv", "relu"]
    # The whole model ends where its last part does.
    assert spread(rows("conv", "head"), "output") == ["conv", "output"]
    deep = rows("stem", "stages", *(f"stages.{i}" for i in range(9)), "head")
    assert spread(deep, "output", 4) == ["stem", "stages.3", "stages.8", "output"]
    assert spread(deep, "stages.3", 9) == ["stem", "stages.0", "stages.1", "stages.2", "stages.3"]


def test_mistakes_have_a_hint(space: ModelSpace) -> None:
    cases: list[tuple[type[Exception], str, dict[str, object]]] = [
        (NotFoundError, "no model 'aa'", {"models": ["aa"]}),
        (NotFoundError, "no probe image 6", {"images": [6]}),
        (UsageError, "one model, not of 2", {"models": ["a", "b"], "layers": ["auto"]}),
        (UsageError, "takes no device", {"models": ["a"], "device": "cpu"}),
        (NotFoundError, "not among the selected models", {"models": ["a"], "where": "name = 'b'"}),
    ]
    for kind, message, options in cases:
        with pytest.raises(kind, match=message) as caught:
            space.gallery(**options)  # type: ignore[arg-type]
        assert caught.value.hint, message  # type: ignore[attr-defined]


FACTORY = """
import os, sys
sys.path.insert(0, {tests!r})
from tiny import net
def made():
    return net(int(open({seed!r}).read()))
"""


@pytest.mark.wide
def test_a_registered_model_is_loaded_from_its_address(
    space: ModelSpace, tmp_path: Path, shown: list[np.ndarray]
) -> None:
    seed = tmp_path / "seed"
    seed.write_text("7")
    (tmp_path / "nets.py").write_text(FACTORY.format(tests=str(Path(__file__).parents[2] / "support"), seed=str(seed)))
    space.add(f"python:{tmp_path / 'nets.py'}:made", name="made", preprocessing=PREPROCESSING)
    try:
        assert space.gallery(["made"], layers=["auto"], device="cpu").facts["layers"][-1] == "fc:in"
        np.testing.assert_allclose(shown[0][-1], space.maps("made", images=range(4)), atol=1e-5)
        seed.write_text("8")
        with pytest.raises(ConflictError, match="differ from those") as caught:
            space.gallery(["made"], layers=["auto"])
        assert "`weights=file`" in caught.value.hint
    finally:
        space.remove("made")
