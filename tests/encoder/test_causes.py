"""Why a forward pass on images fails: the cause is named, and what the hint says works when it is done."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structured_nets as nets
import torch
from torch import Tensor, nn

from modelspace.encoder.inputs import fed
from modelspace.encoder.layers import Survey, find_encoder_output, survey
from modelspace.errors import EmbeddingError, ModelspaceError, UsageError
from modelspace.types import ExtraInput, Preprocessing
from modelspace.workspace import ModelSpace

X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
STATED = Preprocessing(input_size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)
HOME = ModelSpace(Path())

FAILS = "the forward pass fails on an input of (2, 3, 64, 64) float32: "
WRAP = "wrap the model in a module that takes images alone and register that, with python: and a factory"


def refused(net: nn.Module, x: Tensor = X) -> ModelspaceError:
    """What adding the model ends in; `layers` says the same."""
    with pytest.raises(ModelspaceError) as caught:
        find_encoder_output(net.eval(), x)
    result = survey(net, x)
    assert result.refusal is not None
    assert (result.tap, result.complete, result.refusal.message) == (None, False, caught.value.message)
    return caught.value


def cause(net: nn.Module) -> tuple[str, str]:
    """The sentence behind the shape, and the hint."""
    error = refused(net)
    assert isinstance(error, EmbeddingError)
    assert error.message.startswith(FAILS)
    return error.message.removeprefix(FAILS), error.hint


class Through(nn.Module):
    """Its forward pass is a function of its parts and the images."""

    def __init__(self, run: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def works(net: nn.Module, x: Tensor = X) -> bool:
    return len(find_encoder_output(net.eval(), x)(x)) == len(x)


# --- further inputs


class LateTime(nn.Module):
    """One number per image, as networks of diffusion take it."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.t = nn.Conv2d(3, 4, 3), nn.Linear(1, 4)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        return self.c(x) + self.t(timestep[:, None].float())[:, :, None, None]


class Asked(nn.Module):
    """Its own error says what must be given."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            raise ValueError("You must specify mask")
        return self.c(x * mask)


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("net", "name"),
    [(nets.TwoInputs(), "mask"), (nets.LateMask(), "mask"), (LateTime(), "timestep"), (Asked(), "mask")],
)
def test_a_missing_second_input_is_named_and_can_be_given_as_the_hint_says(net: nn.Module, name: str) -> None:
    sentence, hint = cause(net)
    assert sentence == f"it needs a further input besides the images, {name}"
    match = re.search(r"modelspace_inputs = (\{.*\}) as an attribute", hint)
    assert match is not None
    given = json.loads(match[1])
    assert list(given) == [name]
    if isinstance(net, nets.LateMask):
        given[name]["shape"] = [1, 62, 62]
    with fed(net, [ExtraInput(name, **given[name])]):
        assert works(net)
    # and on the whole way
    net.modelspace_inputs = given  # type: ignore[assignment]
    result = HOME.survey(net, preprocessing=replace(STATED, inputs=(ExtraInput(name, **given[name]),)))
    assert (result.refusal, result.complete) == (None, True)


def test_a_layer_before_the_second_input_can_be_tapped_as_the_hint_says() -> None:
    net = nets.LateMask().eval()
    assert "tap a `layer=` that runs before it is needed" in cause(net)[1]
    assert find_encoder_output(net, X, "c")(X).shape == (2, 4, 62, 62)


def test_a_further_input_of_a_wrong_name_is_refused_with_the_right_ones() -> None:
    with fed(net := nets.TwoInputs(), [ExtraInput("masks", value=1.0, shape=(1, 64, 64))]):
        sentence, hint = cause(net)
    assert sentence == "its forward has no argument masks; its arguments are x, mask"
    assert hint == "name the further inputs as forward does"


# --- images by another door


class Second(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3)

    def forward(self, input_ids: Tensor | None = None, pixel_values: Tensor | None = None) -> Tensor:
        assert pixel_values is not None
        return self.c(pixel_values)


class OfLists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3)

    def forward(self, images: list[Tensor]) -> Tensor:
        if not isinstance(images, list):
            raise TypeError("Expected a list of images")
        return self.c(torch.stack(images))


class Box:
    def __init__(self, tensors: Tensor) -> None:
        self.tensors = tensors


DOORS = {
    "keyword only": (
        nets.KeywordOnly(),
        "its forward takes arguments by keyword only (pixel_values), and images are given by position",
        lambda net, x: net(pixel_values=x),
    ),
    "second argument": (
        Second(),
        "its first argument is input_ids, and it takes images as pixel_values",
        lambda net, x: net(pixel_values=x),
    ),
    "object": (
        nets.Nested(),
        "it reads .tensors of its input, which is a tensor of images and has none",
        lambda net, x: net(Box(x)),
    ),
    "mapping": (
        nets.Mapping(),
        "it takes something else than a tensor of images: too many indices for tensor of dimension 4",
        lambda net, x: net({"image": x}),
    ),
    "list": (
        OfLists(),
        "it takes a collection, not a tensor of images: Expected a list of images",
        lambda net, x: net(list(x)),
    ),
}


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("door", DOORS)
def test_images_by_another_door_need_a_wrapper(door: str) -> None:
    net, sentence, call = DOORS[door]
    assert cause(net) == (sentence, WRAP)
    assert works(Through(lambda self, x: call(self.model, x), model=net))


def test_text_is_not_images() -> None:
    sentence, hint = cause(nets.Tokens())
    assert sentence == "layer words (Embedding) looks up whole numbers: input_ids is text or a code, not images"
    assert hint == f"{WRAP}; it gets floats, also of the values 0..255, since bytes have no gradient"


# --- video


class Threes(nn.Module):
    """Three-dimensional kernels over eight frames."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv3d(3, 4, (8, 3, 3))

    def forward(self, clip: Tensor) -> Tensor:
        return self.c(clip).mean(2)


@pytest.mark.parametrize(
    ("net", "order", "call"),
    [
        (nets.Video(), "(batch, time, channels, height, width)", "model(x.unsqueeze(1))"),
        (Threes(), "(batch, channels, time, height, width)", "model(x.unsqueeze(2).repeat_interleave(8, 2))"),
    ],
)
def test_video_is_told_with_the_order_of_its_axes_and_the_call_that_works(
    net: nn.Module, order: str, call: str
) -> None:
    sentence, hint = cause(net)
    assert sentence == f"it takes video, {order}, and not images"
    assert hint.partition(": ")[2] == call
    assert works(Through(lambda self, x: eval(call, {"model": self.clips, "x": x}), clips=net))


# --- channels, layout, precision, size


@pytest.mark.parametrize(
    ("wanted", "text", "channels"),
    [(1, "1 channel", "gray"), (4, "4 channels", "rgba"), (12, "12 channels", ""), (6, "6 channels", "")],
)
def test_another_number_of_channels_is_named(wanted: int, text: str, channels: str) -> None:
    net = nn.Sequential(nn.Conv2d(wanted, 4, 3))
    sentence, hint = cause(net)
    assert sentence == f"the first convolution, 0, takes {text}, and the images have 3"
    assert cause(nn.Conv2d(wanted, 4, 3))[0] == f"the first convolution takes {text}, and the images have 3"
    if channels:
        assert hint == f"say what they are with `channels='{channels}'`"
        mean = {"gray": (0.5,), "rgba": (0.5,) * 3}[channels]
        stated = Preprocessing(input_size=(64, 64), mean=mean, std=mean, channels=channels)  # type: ignore[arg-type]
        assert HOME.survey(net, preprocessing=stated).complete
    else:
        assert f"a module whose forward makes {wanted} channels of three, for example by repeating" in hint
        assert works(Through(lambda self, x: self.model(x.repeat(1, wanted // 3, 1, 1)), model=net))


def test_channels_that_go_wrong_later_are_not_those_of_the_images() -> None:
    sentence, _ = cause(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)))
    assert "the images have" not in sentence
    assert "expected input[2, 4, 62, 62] to have 5 channels" in sentence


def test_channels_last_is_a_matter_of_layout() -> None:
    net = Through(lambda self, x: self.c(x.permute(0, 3, 1, 2)), c=nn.Conv2d(3, 4, 3))
    sentence, hint = cause(net)
    assert sentence == "the first convolution, c, takes 3 channels and gets 64, the height or width of the images"
    assert hint == "the order of the axes is another: `layout='nhwc'`"
    assert HOME.survey(net, preprocessing=replace(STATED, layout="nhwc")).complete


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_parameters_of_another_precision_are_named(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)).to(dtype)
    name = str(dtype).removeprefix("torch.")
    assert cause(net) == (
        f"its parameters are {name}, and images are float32",
        "give it in float32, with model.float()",
    )
    assert works(net.float())


@pytest.mark.parametrize(
    "last", [nn.Conv2d(4, 4, 99), nn.MaxPool2d(99), nn.Sequential(nn.AvgPool2d(62), nn.InstanceNorm2d(4))]
)
def test_images_that_are_too_small_are_called_that(last: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), last)
    sentence, hint = cause(net)
    assert sentence.startswith("64 x 64 pixels are too few: nothing is left of them at layer 1")
    assert hint == "choose a larger `input_size=`"
    assert works(net, torch.rand(2, 3, 128, 128))


def test_a_linear_layer_of_another_size() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 30 * 30, 5))
    sentence, hint = cause(net)
    assert sentence == "layer 2 (Linear) takes 3600 values and gets 15376: the model is built for another input size"
    assert hint == "give the size that it was trained with: `input_size=`"
    assert works(net, torch.rand(2, 3, 32, 32))


@pytest.mark.parametrize(("values", "side", "channels"), [(784, 28, "gray"), (3072, 32, "rgb"), (1024, 16, "rgba")])
def test_a_first_linear_layer_says_which_images_it_fits(values: int, side: int, channels: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(values, 8), nn.ReLU(), nn.Linear(8, 4))
    # 1024 values are also those of gray images of 32 x 32 pixels
    side, channels = (32, "gray") if values == 1024 else (side, channels)
    assert cause(net)[1] == f"it fits `input_size={side}` with `channels='{channels}'`"
    planes = {"gray": 1, "rgb": 3}[channels]
    assert works(net, torch.rand(2, planes, side, side))


def test_sizes_that_do_not_fit_each_other() -> None:
    net = Through(
        lambda self, x: nn.functional.interpolate(self.c(x), scale_factor=2) + x[:, :1], c=nn.Conv2d(3, 1, 3, 2, 1)
    )
    x = torch.rand(2, 3, 63, 63)
    error = refused(net, x)
    assert "two tensors have sizes that don't fit" in error.message
    assert error.hint == "give the size that it was trained with, `input_size=`; often a multiple of 32"
    assert works(net)


# --- what has no cause that is known


def test_an_error_of_another_kind_is_given_as_it_is() -> None:
    def fail(_: Any, __: Tensor) -> Any:
        raise RuntimeError("gremlins in the forward pass\nand more of them")

    sentence, hint = cause(Through(fail))
    assert sentence == "gremlins in the forward pass"
    assert hint.startswith("check the input size, channels and layout")

    def silent(_: Any, __: Tensor) -> Any:
        raise RuntimeError

    assert cause(Through(silent))[0] == "RuntimeError"

    def long(_: Any, __: Tensor) -> Any:
        raise RuntimeError("x" * 1000)

    assert cause(Through(long))[0] == f"{'x' * 200} ..."


def test_an_error_of_the_library_stays_what_it_is() -> None:
    own = UsageError("an own message", "an own hint")

    def fail(_: Any, __: Tensor) -> Any:
        raise own

    result: Survey = survey(Through(fail), X)
    assert result.refusal is own


def test_running_out_of_memory_is_no_property_of_the_model() -> None:
    def fail(_: Any, __: Tensor) -> Any:
        raise torch.OutOfMemoryError("none left")

    with pytest.raises(torch.OutOfMemoryError):
        survey(Through(fail), X)
