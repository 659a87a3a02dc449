"""A registry as a collection, the names of its probe images, its kernels, and what notebooks show of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from modelspace.errors import NotFoundError, UsageError
from modelspace.results import ModelInfo
from modelspace.workspace import ModelSpace

FILES = ("a/one.png", "a/two.png", "b/three.png", "four.png")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    """Two models on four images of a folder, each image of one grey value."""
    photos = tmp_path_factory.mktemp("photos")
    for k, name in enumerate(FILES):
        (photos / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (60 * k, 10, 200 - 50 * k)).save(photos / name)
    space = tiny.space(tmp_path_factory.mktemp("registry"), probes=photos, images=4, methods=("dds", "saliency"))
    space.init(probes="rooms", images=3, methods=["rsa"], name="other")
    space.blend("blend", {"dds": 1, "saliency": 1})
    tiny.add(space, "one", tiny.net(1))
    tiny.add(space, "two", tiny.net(2))
    return space


@pytest.mark.wide
def test_a_registry_is_a_collection_of_names(space: ModelSpace, tmp_path: Path) -> None:
    assert len(space) == 2
    assert list(space) == ["one", "two"]
    assert "one" in space
    assert "three" not in space
    assert 7 not in space
    assert space["one"] == space.show("one")
    assert isinstance(space["two"], ModelInfo)
    with pytest.raises(NotFoundError, match="'tow'"):
        space["tow"]
    empty = tiny.space(tmp_path, methods=("saliency",), images=3)
    assert len(empty) == 0
    assert bool(empty), "an empty registry is one"


def test_probe_names_are_in_the_order_of_the_images(space: ModelSpace) -> None:
    names = space.probe_names()
    assert sorted(names) == sorted(FILES)
    assert names != sorted(FILES), "the order is that of a hash"
    pixels = space.probe_images(images=range(4))
    for name, image in zip(names, pixels, strict=True):
        assert tuple(image[0, 0]) == (60 * FILES.index(name), 10, 200 - 50 * FILES.index(name))
    assert space.probe_names("rooms") == ["rooms 0", "rooms 1", "rooms 2"]
    with pytest.raises(NotFoundError):
        space.probe_names("yards")


def test_kernels_are_those_that_affinities_come_from(space: ModelSpace) -> None:
    both = space.kernels(["one", "two"])
    assert both.shape == (2, 4, 4)
    assert np.allclose(both, both.transpose(0, 2, 1))
    assert np.linalg.norm(both, axis=(1, 2)) == pytest.approx([1, 1])
    assert (both[0] * both[1]).sum() == pytest.approx(space.affinity("dds").matrix[0, 1], abs=1e-6)
    assert np.array_equal(space.kernels("two"), both[1])
    assert np.array_equal(space.kernels("two", "dds"), both[1])
    assert space.kernels("one", "other").shape == (3, 3)


def test_spaces_without_kernels_are_named(space: ModelSpace) -> None:
    for name in ("saliency", "blend"):
        with pytest.raises(UsageError, match=f"space '{name}' .* holds no kernels"):
            space.kernels("one", name)
    with pytest.raises(NotFoundError):
        space.kernels("three")


def test_notebooks_show_the_registry_and_its_tree(space: ModelSpace, tmp_path: Path) -> None:
    page = space._repr_html_()
    assert ": 2 models</p>" in page
    for name in ("dds", "saliency", "other", "blend"):
        assert f"<td>{name}</td>" in page
    content, size = space.clusters()._repr_png_()
    assert content.startswith(b"\x89PNG")
    assert size["width"] > 100
    missing = ModelSpace(tmp_path / "<b>")
    assert "<b>" not in missing._repr_html_()
    assert "&lt;b&gt;" in missing._repr_html_()
