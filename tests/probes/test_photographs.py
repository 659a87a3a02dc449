"""The probe set of photographs from other packages."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelspace import ModelSpace, probes
from modelspace.errors import ProbeError, UsageError
from modelspace.probes import crops

COUNT = 24


@pytest.fixture(scope="module")
def cropped():
    return probes.photographs(COUNT, size=48)


def test_every_image_is_the_crop_that_its_spec_names(cropped):
    probe_set, images = cropped
    assert (probe_set.name, probe_set.kind, probe_set.n_images) == ("photographs-48", "photographs", COUNT)
    assert (images.shape, images.dtype) == ((COUNT, 48, 48, 3), np.uint8)
    for image, (name, left, upper, side) in zip(images, probe_set.spec["crops"], strict=True):
        package, _, path = name.partition("/")
        folder = Path(importlib.util.find_spec(package).submodule_search_locations[0])
        with Image.open(folder / path) as photograph:
            cut = photograph.convert("RGB").crop((left, upper, left + side, upper + side))
            assert left + side <= photograph.width
            assert upper + side <= photograph.height
            assert 0.299 * min(photograph.size) - 1 < side <= min(photograph.size)
        assert np.array_equal(image, np.asarray(cut.resize((48, 48), Image.Resampling.BILINEAR)))


def test_a_longer_set_begins_with_the_shorter(cropped):
    probe_set, images = cropped
    shorter, fewer = probes.photographs(7, size=48)
    assert np.array_equal(fewer, images[:7])
    assert shorter.spec["crops"] == probe_set.spec["crops"][:7]
    assert shorter.probe_id == probes.fingerprint(images[:7], 48) != probe_set.probe_id
    assert not np.array_equal(probes.photographs(7, size=48, seed=1)[1], fewer)


def test_size_changes_pixels_and_not_places(cropped):
    larger, _ = probes.photographs(COUNT, size=96)
    assert larger.spec["crops"] == cropped[0].spec["crops"]


def test_photographs_take_turns_and_crops_differ(cropped):
    names = [crop[0] for crop in cropped[0].spec["crops"]]
    every = {photograph.name for photograph in crops.PHOTOGRAPHS}
    rounds = [names[k : k + len(every)] for k in range(0, COUNT, len(every))]
    assert all(set(one) == every for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    sides = [crop[3] for crop in cropped[0].spec["crops"]]
    assert max(sides) > 1.8 * min(sides)
    assert cropped[0].spec["duplicates"] == 0


def cut_out(crop: list) -> np.ndarray:
    name, left, upper, side = crop
    package, _, path = name.partition("/")
    folder = Path(importlib.util.find_spec(package).submodule_search_locations[0])
    with Image.open(folder / path) as photograph:
        return np.asarray(photograph.convert("RGB").crop((left, upper, left + side, upper + side)))


def luma_spread(image: np.ndarray) -> float:
    values = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in image.reshape(-1, 3).tolist()]
    mean = sum(values) / len(values)
    return (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5


@pytest.mark.wide
def test_no_crop_is_nearly_uniform(cropped, monkeypatch):
    least = [luma_spread(cut_out(crop)) for crop in cropped[0].spec["crops"][:8]]
    assert min(least) >= crops.MIN_CONTRAST
    # Without the rule some would be.
    monkeypatch.setattr(crops, "MIN_CONTRAST", 0.0)
    crops_of_any_contrast = probes.photographs(40, size=16)[0].spec["crops"]
    assert min(crops.contrast(cut_out(crop)) for crop in crops_of_any_contrast) < 12


def test_where_all_tries_fall_short_the_best_is_taken(monkeypatch):
    monkeypatch.setattr(crops, "MIN_CONTRAST", 1000.0)
    best = probes.photographs(8, size=16)[0].spec["crops"]
    monkeypatch.setattr(crops, "_TRIES", 1)
    first = probes.photographs(8, size=16)[0].spec["crops"]
    gains = [crops.contrast(cut_out(a)) - crops.contrast(cut_out(b)) for a, b in zip(best, first, strict=True)]
    assert min(gains) >= 0
    assert max(gains) > 5


def test_every_photograph_states_its_author_and_a_free_licence(cropped):
    licences = cropped[0].spec["licences"]
    assert set(licences) == {photograph.name for photograph in crops.PHOTOGRAPHS}
    assert {photograph.licence for photograph in crops.PHOTOGRAPHS} == {"CC0", "CC BY 2.0", "public domain"}
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "choose-probe-images.md").read_text()
    for photograph in crops.PHOTOGRAPHS:
        assert f"`{photograph.name}`" in page
        assert photograph.author in page


def test_without_scikit_image_the_error_says_what_to_install(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skimage" else real(name))
    with pytest.raises(ProbeError, match="in scikit-image, which is not installed") as caught:
        probes.photographs(2)
    assert caught.value.hint == "install it with: pip install 'modelspace-db[photographs]'"


def test_a_missing_photograph_is_named(monkeypatch):
    gone = crops.Photograph("skimage", "data/gone.png", "nobody", "CC0")
    monkeypatch.setattr(crops, "PHOTOGRAPHS", (gone,))
    with pytest.raises(ProbeError, match=r"scikit-image has no readable photograph data/gone\.png"):
        probes.photographs(1)


@pytest.mark.parametrize("options", [{"n_images": 0}, {"size": 8}, {"size": 9999}, {"seed": -1}])
def test_arguments_out_of_range(options):
    with pytest.raises(UsageError, match="of a probe set can't be"):
        probes.photographs(**options)
    with pytest.raises(ProbeError, match="more than the limit"):
        probes.photographs(10**6, size=4096)


def test_neither_package_is_imported_so_nothing_can_be_downloaded():
    program = """
import sys
from modelspace import probes
probes.photographs(2, size=16)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"skimage", "sklearn", "pooch", "torch"}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.wide
def test_a_registry_keeps_the_pixels(tmp_path, monkeypatch):
    space = ModelSpace.create(tmp_path, probes="photographs", images=5, canvas=8)
    (row,) = space.probe_sets()
    assert (row.name, row.kind, row.n_images, row.size) == ("photographs", "photographs", 5, 128)
    assert row.probe_id == probes.photographs(5)[0].probe_id
    # Neither what is registered nor a part of it needs the photographs again; more of them does.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    space.init(probes="photographs", images=4, canvas=8)
    assert [one.n_images for one in space.probe_sets()] == [5]
    space.add("zoo:rgb2depth")
    assert space.verify()
    assert all(check.ok for check in space.verify())
    with pytest.raises(ProbeError, match="not installed"):
        space.init(probes="photographs", images=6, canvas=8)
    with pytest.raises(ProbeError, match="not installed"):
        space.init(probes="photographs", images=4, seed=1, canvas=8)


def test_the_built_in_sets_go_by_their_names(tmp_path, monkeypatch):
    space = ModelSpace(tmp_path / "home")
    assert space.create_probes("outside", "yards", seed=2).kind == "yards"
    assert space.create_probes("crops", "photographs", images=2, size=16).n_images == 2
    # A folder of such a name is given as a path.
    (tmp_path / "yards").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProbeError, match="has no images"):
        space.create_probes("mine", Path("yards"))
    with pytest.raises(ProbeError, match="has no images"):
        space.create_probes("mine", "./yards")
    probe_set, _ = probes.photographs(2, size=16)
    with pytest.raises(UsageError, match="has no images with it"):
        space.init(probes=probe_set)
