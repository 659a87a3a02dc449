"""Crops and resizes: what a model sees of an image, and where its map lies on the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelspace.embedding.embed import to_canvas
from modelspace.embedding.prepare import Request, prepared
from modelspace.errors import EmbeddingError, UsageError
from modelspace.home import REGISTRY
from modelspace.probes.preprocess import on_image, to_input
from modelspace.registry import Registry
from modelspace.sources import from_module
from modelspace.sources.base import PreprocessingFlags, merge_preprocessing
from modelspace.spaces.probe_sets import images as probe_images
from modelspace.types import ExtraInput, Preprocessing
from modelspace.workspace import ModelSpace

side = st.integers(2, 40)
box = st.tuples(side, side)
crops = st.sampled_from(["center", "squash", "border"])
PLAIN = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)


def pictures(height: int, width: int, n: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def crop_by_definition(image: np.ndarray, size: tuple[int, int], fill: np.ndarray) -> np.ndarray:
    """The middle of (h, w, 3), pixel by pixel; beside the image `fill`. Offsets as torchvision rounds them."""
    out = np.zeros((*size, 3))
    offsets = []
    for have, want in zip(image.shape, size, strict=False):
        offsets.append(round((have - want) / 2) if have >= want else -((want - have) // 2))
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = i + offsets[0], j + offsets[1]
            inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
            out[i, j] = image[y, x] if inside else fill
    return out


@settings(deadline=None)
@given(box, box, box, crops)
def test_input_is_the_middle_of_the_resized_image(image, resize, size, crop):
    preprocessing = Preprocessing(size, (0.2, 0.3, 0.4), (0.5, 0.6, 0.7), resize=resize, crop=crop)
    images = pictures(*image)
    placed = preprocessing.placement(image)
    whole = Preprocessing.raw(placed.resized, value_range=(0, 255))
    resized = to_input(images, whole).permute(0, 2, 3, 1).double().numpy()
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    fill = 255 * mean if crop == "border" else np.zeros(3)
    got = to_input(images, preprocessing).permute(0, 2, 3, 1).double().numpy()
    for k in range(len(images)):
        expected = (crop_by_definition(resized[k], size, fill) / 255 - mean) / std
        assert abs(got[k] - expected).max() < 1e-5


@pytest.mark.wide
@given(box, box, crops)
def test_the_resized_size_keeps_the_aspect_ratio_and_meets_the_box(image, resize, crop):
    resized = Preprocessing.raw((2, 2), resize=resize, crop=crop).placement(image).resized
    if resize == (2, 2) and crop == "squash":
        assert resized == (2, 2)
    elif crop == "squash":
        assert resized == resize
    elif crop == "center":
        assert all(after >= before for after, before in zip(resized, resize, strict=True))
        assert any(after == before for after, before in zip(resized, resize, strict=True))
    else:
        assert all(after <= before for after, before in zip(resized, resize, strict=True))
        assert any(after == before for after, before in zip(resized, resize, strict=True))
    if crop != "squash":
        ratio = image[0] / image[1]
        assert (resized[0] - 1) / (resized[1] + 1) <= ratio <= (resized[0] + 1) / max(1e-9, resized[1] - 1)


@given(box, box, box, crops, st.sampled_from(["nchw", "nhwc"]), st.sampled_from(["rgb", "gray", "rgba"]))
def test_a_map_comes_back_to_the_pixels_that_it_is_of(image, resize, size, crop, layout, channels):
    """The map "which pixel of the resized image am I" comes back as just that, and 0 where nothing was seen."""
    n = 1 if channels == "gray" else 3
    preprocessing = Preprocessing(
        size, (0.0,) * n, (1.0,) * n, channels, resize=resize, crop=crop, layout=layout, alpha=7.0
    )
    placed = preprocessing.placement(image)
    rows = torch.arange(size[0]).view(-1, 1) + placed.top
    columns = torch.arange(size[1]).view(1, -1) + placed.left
    number = (1 + rows * placed.resized[1] + columns).float()
    maps = number.expand(1, preprocessing.n_channels, *size).clone()
    if channels == "rgba":
        maps[:, 3] = -1e6  # the constant channel is no part of the image
    back = on_image(maps if layout == "nchw" else maps.permute(0, 2, 3, 1), preprocessing, image)
    assert back.shape == (1, n, *placed.resized)
    truth = torch.arange(1, placed.resized[0] * placed.resized[1] + 1).view(placed.resized).float()
    seen = back[0, 0] != 0
    assert torch.equal(back[0, 0][seen], truth[seen])
    inside = [
        min(top + length, whole) - max(top, 0)
        for top, length, whole in zip((placed.top, placed.left), size, placed.resized, strict=True)
    ]
    assert int(seen.sum()) == inside[0] * inside[1]


class Weighing(nn.Module):
    """T = w · x over pixels: gradient*input is w * x, known everywhere."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weight).flatten(1)


def weights(n: int) -> torch.Tensor:
    return torch.randn(3, n, n, generator=torch.Generator().manual_seed(3))


def linear_maps(preprocessing: Preprocessing, weight: torch.Tensor, images: np.ndarray, canvas: int) -> torch.Tensor:
    """Unit maps of gradient*input of the linear model, (n, canvas, canvas)."""
    maps = to_input(images, preprocessing) * weight
    return to_canvas(on_image(maps, preprocessing, images.shape[1:3]), canvas)


@pytest.mark.parametrize("canvas", [32, 16, 8, 64])
@pytest.mark.parametrize(("first", "second"), [(24, 16), (32, 20), (24, 40)])
def test_two_crops_of_one_model_line_up_on_the_pixels_that_both_see(canvas, first, second):
    """The weights belong to pixels of the 32 x 32 image; each model has those of the pixels that it sees."""
    images = pictures(32, 32)
    every = torch.zeros(3, 40, 40)
    every[:, 4:36, 4:36] = weights(32)  # 0 beside the image
    maps_by_size = {}
    for size in (first, second):
        cut = (40 - size) // 2
        preprocessing = Preprocessing.raw((size, size), resize=(32, 32))
        maps_by_size[size] = linear_maps(preprocessing, every[:, cut : 40 - cut, cut : 40 - cut], images, canvas)
    margin = max(0, (32 - min(first, second)) // 2) * canvas / 32
    inside = slice(int(np.ceil(margin)) + 1, canvas - int(np.ceil(margin)) - 1)
    a, b = (maps_by_size[size][:, inside, inside].flatten(1) for size in (first, second))
    cosine = torch.cosine_similarity(a, b, dim=1)
    assert torch.all(cosine > 1 - 1e-5)
    # And where the smaller one saw nothing, its map is 0.
    rim = int(np.floor(margin)) - 1
    if rim > 0:
        assert torch.all(maps_by_size[min(first, second)][:, :rim] == 0)


def test_without_undoing_the_crop_they_would_not_line_up():
    """The guard of the test above: maps that are stretched over the canvas instead have nothing in common."""
    images = pictures(32, 32)
    weight = weights(32)
    whole = to_canvas(to_input(images, Preprocessing.raw((32, 32))) * weight, 32)
    part = Preprocessing.raw((16, 16), resize=(32, 32))
    stretched = to_canvas(to_input(images, part) * weight[:, 8:24, 8:24], 32)
    assert float((whole * stretched).sum((1, 2)).abs().max()) < 0.2
    placed = linear_maps(part, weight[:, 8:24, 8:24], images, 32)
    share = whole[:, 8:24, 8:24].square().sum((1, 2)).sqrt()
    assert torch.allclose((whole * placed).sum((1, 2)), share, atol=1e-5)


@pytest.mark.wide
def test_unseen_pixels_add_nothing_to_the_affinity_in_a_registry(tmp_path):
    """Through the whole program: the affinity of the crop with the whole is the share of the map that it sees."""
    space = ModelSpace.create(tmp_path, methods=("gradient_x_input",), images=4, canvas=32, bits=32)
    weight = weights(32)
    space.add(Weighing(weight), name="whole", preprocessing=Preprocessing.raw((32, 32)), layer="output")
    crop = Preprocessing.raw((16, 16), resize=(32, 32))
    space.add(Weighing(weight[:, 8:24, 8:24]), name="middle", preprocessing=crop, layer="output")
    affinity = space.nearest("whole").to_dicts()[0]["affinity"]

    with Registry.open(tmp_path / REGISTRY) as registry:
        row = registry.probe_sets()[0]
    images = next(probe_images(tmp_path / REGISTRY, row, 0, 4, 4))
    whole = linear_maps(Preprocessing.raw((32, 32)), weight, images, 32)
    assert affinity == pytest.approx(float(whole[:, 8:24, 8:24].square().sum((1, 2)).sqrt().mean()), abs=1e-4)


def test_without_a_crop_nothing_changes():
    """The map of the input's own size is handed on as it is, the very same numbers."""
    maps = torch.randn(2, 3, 16, 16)
    assert on_image(maps, PLAIN, (64, 64)).data_ptr() == maps.data_ptr()
    assert torch.equal(on_image(maps, PLAIN, (64, 64)), maps)


# --- what is stored


def test_only_what_is_not_as_usual_is_stored():
    assert set(PLAIN.to_dict()) == {"input_size", "mean", "std", "channels", "value_range"}
    for key, value, stored in [
        ("resize", (20, 20), {"resize": [20, 20], "crop": "center"}),
        ("interpolation", "bicubic", {"interpolation": "bicubic"}),
        ("layout", "nhwc", {"layout": "nhwc"}),
        ("channels", "rgba", {"channels": "rgba", "alpha": 1.0}),
        ("inputs", {"t": {"shape": [], "value": 3}}, {"inputs": {"t": {"shape": [], "value": 3}}}),
    ]:
        changed = Preprocessing(**{**PLAIN.to_dict(), key: value})
        assert changed.to_dict() == PLAIN.to_dict() | stored
        assert Preprocessing.from_dict(changed.to_dict()) == changed


def test_one_geometry_has_one_spelling():
    assert Preprocessing.raw((8, 6), resize=(8, 6), crop="squash") == Preprocessing.raw((8, 6))
    assert Preprocessing.raw((8, 6), crop="squash") == Preprocessing.raw((8, 6))
    assert Preprocessing.raw((8, 6), crop="border").resize == (8, 6)
    assert Preprocessing.raw((8, 6), resize=(9, 9), crop="squash") != Preprocessing.raw((8, 6), resize=(9, 9))


@pytest.mark.parametrize(
    ("fields", "message", "hint"),
    [
        ({"crop": "left"}, "crop 'left' is not known", "`crop=` center, squash or border"),
        ({"interpolation": "lanczos"}, "interpolation 'lanczos'", "`interpolation=` bilinear, bicubic or nearest"),
        ({"layout": "hwc"}, "layout 'hwc'", "`layout=` nchw or nhwc"),
        ({"resize": (0, 3)}, "resize", "`resize=(256, 256)`"),
        ({"channels": "rgba", "mean": (0.0,) * 4, "std": (1.0,) * 4}, "rgba input has 3 colours", "`mean="),
        ({"input_size": (4, 4, 3)}, r"input size \(4, 4, 3\) is neither a side nor", "`input_size=(224, 224)`"),
        ({"input_size": 0}, "input size 0 is neither", "`input_size=(224, 224)`"),
        ({"input_size": 4.5}, r"input size 4\.5 is neither", "`input_size=(224, 224)`"),
        ({"mean": None}, "mean None is not a list of numbers", "0.5"),
        ({"std": "abc"}, "std 'abc' is not a list of numbers", "0.5"),
        ({"alpha": float("nan")}, "must be finite", ""),
        ({"inputs": {"a b": 1}}, "'a b' is not the name of an argument", "forward"),
        ({"inputs": {"a": {"shape": [2]}}}, "the input a needs a shape and a value", "shape"),
        ({"inputs": {"a": {"shape": [0], "value": 1}}}, "can't be made", "shape"),
        ({"inputs": {"a": {"shape": [2], "value": "x"}}}, "can't be made", "shape"),
        ({"inputs": {"a": [1]}}, "is a list", ""),
    ],
)
def test_what_makes_no_sense_is_refused(fields, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        Preprocessing(**{"input_size": (4, 4), "mean": (0.5,) * 3, "std": (0.5,) * 3, **fields})
    assert hint in caught.value.hint


def test_flags_of_the_geometry_are_read():
    flags = PreprocessingFlags.parse(
        resize="256", crop="Border", interpolation="BICUBIC", layout="nhwc", alpha="0", channels="rgba"
    )
    assert flags.stated() == {
        "channels": "rgba",
        "resize": (256, 256),
        "crop": "border",
        "interpolation": "bicubic",
        "layout": "nhwc",
        "alpha": 0.0,
    }
    with pytest.raises(UsageError, match="`resize='big'` is neither a side"):
        PreprocessingFlags.parse(resize="big")


def test_a_crop_without_a_resize_is_one_of_the_input_size():
    stated = {"input_size": (8, 12), "mean": (0.0,) * 3, "std": (1.0,) * 3}
    flags = PreprocessingFlags(crop="center")
    assert merge_preprocessing(stated, flags) == Preprocessing.raw((8, 12), resize=(8, 12), crop="center")
    assert merge_preprocessing(stated, PreprocessingFlags(crop="squash")) == Preprocessing.raw((8, 12))
    with pytest.raises(UsageError, match="no fourth channel"):
        merge_preprocessing(stated, PreprocessingFlags(alpha=1.0))


def test_another_input_size_with_a_stated_resize_needs_another_resize():
    stated = Preprocessing.raw((224, 224), resize=(256, 256))
    with pytest.raises(UsageError) as caught:
        merge_preprocessing(stated, PreprocessingFlags(input_size=(448, 224)), "timm:net.tag")
    assert caught.value.message.startswith("timm:net.tag resizes images to 256 and crops them to 224")
    assert caught.value.hint.startswith("add `preprocessing={'resize': (512, 256)}`,")
    both = merge_preprocessing(stated, PreprocessingFlags(input_size=(448, 448), resize=(500, 500)))
    assert (both.input_size, both.resize, both.crop) == ((448, 448), (500, 500), "center")
    plain = merge_preprocessing(stated, PreprocessingFlags(resize=(224, 224), crop="squash"))
    assert plain == Preprocessing.raw((224, 224))


# --- layouts, channels, ranges, further inputs


class Last(nn.Module):
    """A model that wants channels last, and says so if it gets something else."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[3] == 3
        return torch.relu(self.conv(x.permute(0, 3, 1, 2)))


def prepared_maps(module, preprocessing, images):
    from modelspace.attribution.engine import attribute

    with prepared(Request(module, name="m", preprocessing=preprocessing), images) as ready:
        x = to_input(images, ready.card.preprocessing)
        return x, attribute(ready.tap, x, ["gradient_x_input", "epsilon_lrp"])


def test_channels_last_is_the_same_model():
    last, images = Last(), pictures(20, 20)
    _, ours = prepared_maps(last, {**PLAIN.to_dict(), "layout": "nhwc"}, images)
    _, plain = prepared_maps(nn.Sequential(last.conv, nn.ReLU()), PLAIN, images)
    for method, maps in ours.maps.items():
        assert maps.shape == (2, 16, 16, 3)
        back = on_image(maps, Preprocessing.from_dict({**PLAIN.to_dict(), "layout": "nhwc"}), (20, 20))
        assert torch.allclose(back, plain.maps[method], atol=1e-6)


def test_the_fourth_channel_is_constant_and_no_part_of_the_map():
    images = pictures(16, 16)
    preprocessing = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3, "rgba", alpha=0.25)
    x, result = prepared_maps(nn.Sequential(nn.Conv2d(4, 3, 1), nn.ReLU()), preprocessing, images)
    assert x.shape == (2, 4, 16, 16)
    assert torch.all(x[:, 3] == 0.25)
    assert torch.equal(x[:, :3], to_input(images, PLAIN))
    assert on_image(result.maps["gradient_x_input"], preprocessing, (16, 16)).shape == (2, 3, 16, 16)


class Two(nn.Module):
    """Images, a mask and a time step, and an output with parts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.modelspace_inputs = {
            "mask": {"shape": [1, 16, 16], "value": 0.5},
            "step": {"shape": [], "value": 3},
            "deep": True,
        }

    def forward(self, image, mask, step, deep=False):
        assert mask.dtype == image.dtype
        assert step.dtype == torch.int64
        assert deep is True
        out = torch.relu(self.conv(torch.cat([image, mask], 1))) * step.view(-1, 1, 1, 1)
        return {"extra": None, "features": out}


def test_further_inputs_are_constants_and_outputs_may_have_parts():
    module, images = Two(), pictures(16, 16)
    before = dict(module.__dict__)
    _, result = prepared_maps(module, PLAIN, images)
    assert result.output.shape == (2, 4, 16, 16)
    assert dict(module.__dict__) == before
    assert not module._forward_pre_hooks
    loaded = from_module(module, preprocessing=PLAIN)
    assert [entry.name for entry in loaded.preprocessing.inputs] == ["deep", "mask", "step"]
    assert loaded.preprocessing.inputs[1] == ExtraInput("mask", 0.5, (1, 16, 16))
    other = from_module(module, preprocessing={**PLAIN.to_dict(), "inputs": {"deep": True}})
    assert [entry.name for entry in other.preprocessing.inputs] == ["deep"]


def test_values_up_to_255_are_fed_as_floats():
    images = pictures(8, 8)
    x = to_input(images, Preprocessing.raw((8, 8), value_range=(0.0, 255.0)))
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.from_numpy(images).permute(0, 3, 1, 2).float())


class Bytes(nn.Module):
    """A model that takes whole numbers and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(256, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x[:, 0]).flatten(1)


def test_a_model_that_takes_only_bytes_is_told_so():
    with pytest.raises(EmbeddingError) as caught:
        prepared_maps(Bytes(), Preprocessing.raw((8, 8), value_range=(0.0, 255.0)), pictures(8, 8))
    assert "the forward pass fails on an input of (2, 3, 8, 8) float32" in caught.value.message
    assert "it gets floats, also of the values 0..255, since bytes have no gradient" in caught.value.hint


def test_nearest_and_bicubic_are_pillows():
    from PIL import Image

    # Of 25 pixels, no new pixel's centre lies between two old ones; and Pillow cuts off at 0 and 255 on each axis.
    images = pictures(25, 25, n=1) // 4 + 96
    for name, method in (("nearest", Image.Resampling.NEAREST), ("bicubic", Image.Resampling.BICUBIC)):
        for size in (9, 25, 31):
            ours = to_input(images, Preprocessing.raw((size, size), value_range=(0.0, 255.0), interpolation=name))
            theirs = np.asarray(Image.fromarray(images[0]).resize((size, size), method)).astype(float)
            # Pillow rounds twice, once per axis.
            assert abs(ours[0].permute(1, 2, 0).numpy() - theirs).max() <= (0 if name == "nearest" else 1.51)
    wild = to_input(pictures(9, 9), Preprocessing.raw((30, 30), value_range=(0.0, 255.0), interpolation="bicubic"))
    assert (float(wild.min()), float(wild.max())) == (0.0, 255.0)
