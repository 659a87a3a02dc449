"""Why a forward pass on images fails: the cause in a sentence, and what to do.

The model's own error is about shapes and types somewhere inside. The cause is inferred from how far the pass got, the
signature of the model, the first layer's weights and, for video, whether a time axis helps.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modelspace.attribution.engine import ready
from modelspace.encoder.trace import Trace
from modelspace.errors import EmbeddingError, ModelspaceError

_WRAP = "wrap the model in a module that takes images alone and register that, with python: and a factory"

#: Names of arguments for images, and for text.
_IMAGES = ("pixel_values", "images", "image", "img", "imgs", "pixel_values_videos")
_TEXTS = ("input_ids", "tokens", "token_ids", "text", "texts", "input_text")

_WHOLE_NUMBERS = f"{_WRAP}; it gets floats, also of the values 0..255, since bytes have no gradient"

#: Names of inputs that are one number per image.
_PER_IMAGE = re.compile(r"time_?steps?|t|sigmas?|(class_)?labels?|y")

_LONGEST = 200

_GENERIC = (
    "check the input size, channels and layout; it gets floats, also of the values 0..255, since bytes have no gradient"
)


@dataclass(frozen=True)
class Cause:
    """Why the pass fails, to follow "the forward pass fails on an input of ...:", and what to do."""

    sentence: str
    hint: str


def failure(record: Trace, example: Tensor) -> ModelspaceError:
    """The error to raise for a forward pass that failed.

    Args:
        record: the trace of the pass; its `error` is set.
        example: the images that were passed.
    """
    assert record.error is not None
    if isinstance(record.error, ModelspaceError):
        return record.error
    case = _Case(record, example, record.error)
    cause = next((cause for check in _CHECKS if (cause := check(case)) is not None), None)
    if cause is None:
        cause = Cause(_first_line(record.error), _GENERIC)
    size = f"{tuple(example.shape)} {str(example.dtype).removeprefix('torch.')}"
    return EmbeddingError(f"the forward pass fails on an input of {size}: {cause.sentence}", cause.hint)


class _Case:
    """A failed pass, and the properties that several checks need."""

    def __init__(self, record: Trace, example: Tensor, error: Exception) -> None:
        self.module, self.example, self.error = record.module, example, error
        self.text = str(error)
        self.line = _first_line(error)
        self.inside = record.inside
        self.done = set(record.left)
        self.entered = record.entered
        self.points = record.points
        modules = dict(record.module.named_modules())
        #: The innermost module that was running, with its name; the model itself if it has no submodules.
        self.name = record.inside[-1] if record.inside else ""
        self.part = modules[self.name]
        self.modules = modules

    @property
    def where(self) -> str:
        kind = getattr(self.part, "modelspace_kind", type(self.part).__name__)
        return f"layer {self.name} ({kind})" if self.name else "the model"

    @property
    def first(self) -> bool:
        """Whether it fails in the first layer with weights."""
        return not any(
            isinstance(self.modules[name], nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear | nn.Embedding)
            for name in self.done
        )

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Arguments of the model's forward, without *args and **kwargs."""
        try:
            signature = inspect.signature(self.module.forward)
        except (TypeError, ValueError):
            return {}
        collected = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return {name: entry for name, entry in signature.parameters.items() if entry.kind not in collected}


# --- checks, the most reliable first


def _precision(case: _Case) -> Cause | None:
    types = {p.dtype for p in case.module.parameters() if p.is_floating_point()} - {case.example.dtype}
    if not types or not re.search(r"dtype|type", case.text):
        return None
    shown = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in types))
    own = str(case.example.dtype).removeprefix("torch.")
    return Cause(f"its parameters are {shown}, and images are {own}", "give it in float32, with model.float()")


def _keyword_only(case: _Case) -> Cause | None:
    entries = list(case.parameters.values())
    if not isinstance(case.error, TypeError) or "positional argument" not in case.text or not entries:
        return None
    if any(entry.kind is not inspect.Parameter.KEYWORD_ONLY for entry in entries):
        return None
    names = ", ".join(entry.name for entry in entries[:4])
    return Cause(f"its forward takes arguments by keyword only ({names}), and images are given by position", _WRAP)


def _unknown_argument(case: _Case) -> Cause | None:
    match = re.search(r"unexpected keyword argument '(\w+)'", case.text)
    if match is None or case.inside:
        return None
    known = ", ".join(case.parameters) or "none that are named"
    return Cause(
        f"its forward has no argument {match[1]}; its arguments are {known}", "name the further inputs as forward does"
    )


def _not_first(case: _Case) -> Cause | None:
    """The argument for images is not the first one."""
    names = list(case.parameters)
    own = next((name for name in names if name in _IMAGES), None)
    if not names or own is None or own == names[0] or names[0] in _IMAGES:
        return None
    return Cause(f"its first argument is {names[0]}, and it takes images as {own}", _WRAP)


def _missing_input(case: _Case) -> Cause | None:
    """Arguments that forward needs besides the images."""
    missing = _missing_by_signature(case) or _missing_by_text(case)
    if not missing:
        return None
    value = '"shape": [1], "value": 1'
    if _PER_IMAGE.fullmatch(missing[0]):
        value = '"shape": [], "value": 1'
    elif "ids" not in missing[0]:
        channels, height, width = (*case.example.shape[1:], 1, 1)[:3]
        channels = channels if re.search(r"im(age|g)|frame|^x", missing[0]) else 1
        value = f'"shape": [{channels}, {height}, {width}], "value": 1.0'
    return Cause(
        f"it needs a further input besides the images, {' or '.join(missing)}",
        f'say what it is for every image: modelspace_inputs = {{"{missing[0]}": {{{value}}}}} as an attribute of the '
        "model, or the entry inputs of its preprocessing; or tap a `layer=` that runs before it is needed",
    )


def _missing_by_signature(case: _Case) -> list[str]:
    if not isinstance(case.error, TypeError) or case.inside or "missing" not in case.text:
        return []
    return [name for name in re.findall(r"'(\w+)'", case.text.partition("argument")[2]) if name in case.parameters]


def _missing_by_text(case: _Case) -> list[str]:
    """Names of optional arguments that the error says must be given."""
    further = list(case.parameters)[1:]
    named = [name for name in further if re.search(rf"\b{re.escape(name)}\b", case.text)]
    if named and re.search(
        r"specify|provide|required|must|need|expect|cannot be none|can't be none", case.text, re.IGNORECASE
    ):
        return named[:2]
    if "NoneType" in case.text and not case.inside:
        return [name for name in further if case.parameters[name].default is None][:2]
    return []


def _text(case: _Case) -> Cause | None:
    first = next(iter(case.parameters), "its first argument")
    if isinstance(case.part, nn.Embedding | nn.EmbeddingBag) or ("indices" in case.text and "Long" in case.text):
        return Cause(f"{case.where} looks up whole numbers: {first} is text or a code, not images", _WHOLE_NUMBERS)
    return Cause(f"its first argument, {first}, is text, not images", _WRAP) if first in _TEXTS else None


def _collection(case: _Case) -> Cause | None:
    """The model takes a list of images, a mapping, or an object with its own attributes."""
    match = re.search(r"'Tensor' object has no attribute '(\w+)'", case.text)
    if match is not None and not hasattr(torch.Tensor, match[1]):
        return Cause(f"it reads .{match[1]} of its input, which is a tensor of images and has none", _WRAP)
    if re.search(
        r"(Expected|expects?|must be|should be) (a |an )?(\w+ )?(list|tuple|dict|mapping)", case.text, re.IGNORECASE
    ):
        return Cause(f"it takes a collection, not a tensor of images: {case.line}", _WRAP)
    if isinstance(case.error, IndexError | TypeError | KeyError) and re.search(
        r"only integers, slices|too many indices|indices must be|new\(\): invalid data type 'str'", case.text
    ):
        return Cause(f"it takes something else than a tensor of images: {case.line}", _WRAP)
    return None


def _channels(case: _Case) -> Cause | None:
    """The first convolution or patch embedding expects another number of channels than the images have."""
    part, given = case.part, case.points.get(f"{case.name}:in")
    if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and given is not None and len(given.shape) in (3, 4):
        expected, received = part.in_channels, given.shape[-3]
    else:
        match = re.search(r"input.* to have (\d+) channels, but got (\d+) channels", case.text)
        match = match or re.search(r"make sure that the channel dimension.*", case.text, re.IGNORECASE)
        if match is None or match.lastindex is None:
            return None
        expected, received = int(match[1]), int(match[2])
    if expected == received or not case.first:
        return None
    images = case.example.shape
    if received not in (images[1], images[-1]):
        return None
    name = f"the first convolution, {case.name}," if case.name else "the first convolution"
    if received != images[1 if images[-1] not in (1, 3, 4) or images[1] in (1, 3, 4) else -1]:
        return Cause(
            f"{name} takes {expected} channels and gets {received}, the height or width of the images",
            f"the order of the axes is another: `layout='{'nhwc' if images[1] in (1, 3, 4) else 'nchw'}'`",
        )
    plural = "" if expected == 1 else "s"
    return Cause(
        f"{name} takes {expected} channel{plural}, and the images have {received}", _hint_for_channels(expected)
    )


def _hint_for_channels(expected: int) -> str:
    orders = {1: "`channels='gray'`", 3: "`channels='rgb'` or `channels='bgr'`", 4: "`channels='rgba'`"}
    if expected in orders:
        return f"say what they are with {orders[expected]}"
    return (
        "`channels=` has 1, 3 or 4 of them; "
        f"wrap the model in a module whose forward makes {expected} channels of three, "
        "for example by repeating red, green and blue, and register that"
    )


def _video(case: _Case) -> Cause | None:
    """A video model: it has three-dimensional kernels, unpacks five axes, or runs with a time axis."""
    suspected = isinstance(case.part, nn.Conv3d | nn.BatchNorm3d | nn.MaxPool3d | nn.AvgPool3d) or re.search(
        r"expected 5,? got 4|5-?D|5-dim|Conv3d|conv3d|not enough values to unpack|video", case.text
    )
    if not suspected:
        return None
    for axis, order in ((1, "(batch, time, channels, height, width)"), (2, "(batch, channels, time, height, width)")):
        for frames in _clips(case.module):
            if _runs(case.module, case.example.unsqueeze(axis), axis, frames):
                call, count = f"x.unsqueeze({axis})", f"{frames} frames"
                call, count = (
                    (call, "one frame") if frames == 1 else (f"{call}.repeat_interleave({frames}, {axis})", count)
                )
                return Cause(
                    f"it takes video, {order}, and not images",
                    f"wrap it in a module whose forward gives an image as {count}: model({call})",
                )
    if isinstance(case.part, nn.Conv3d) or re.search(r"expected 5,? got 4|Conv3d|conv3d|video", case.text):
        return Cause(f"it takes video, with an axis of time, and not images: {case.line}", _WRAP)
    return None


def _clips(module: nn.Module) -> Iterator[int]:
    """The numbers of frames to try."""
    stated = getattr(getattr(module, "config", None), "num_frames", None)
    yield from dict.fromkeys(int(count) for count in (stated, 1, 8, 16) if isinstance(count, int))


def _runs(module: nn.Module, x: Tensor, axis: int, frames: int) -> bool:
    with ready(module, x.float() if x.dtype != torch.float64 else x) as source, torch.no_grad():
        try:
            module(source.detach().repeat_interleave(frames, axis))
        except Exception:
            return False
    return True


def _size(case: _Case) -> Cause | None:
    """The input is too small, or not of the size that the model is built for."""
    height, width = case.example.shape[-2:]
    if re.search(
        r"Kernel size can't be greater|Output size is too small|padding size should be less|Padding size should be less"
        r"|Expected more than 1 (value|spatial)|too small|non-empty|nonempty|zero-size|has zero"
        r"|dimension \(s\) is not positive",
        case.text,
    ):
        return Cause(
            f"{height} x {width} pixels are too few: nothing is left of them at {case.where}",
            "choose a larger `input_size=`",
        )
    match = re.search(r"\((\d+)x(\d+) and (\d+)x(\d+)\)", case.text)
    if match is not None and isinstance(case.part, nn.Linear):
        return Cause(
            f"{case.where} takes {match[3]} values and gets {match[2]}: the model is built for another input size",
            _hint_for_values(int(match[3]), whole=case.first and int(match[1]) == len(case.example)),
        )
    if re.search(
        r"(input|image).*(size|height|width|resolution).*(match|divisible|multiple)", case.text, re.IGNORECASE
    ):
        return Cause(case.line.rstrip("."), "give the size that it was trained with: `input_size=`")
    if re.search(r"(size of tensor a|Sizes of tensors) .*must match", case.text):
        return Cause(
            f"at {case.where} two tensors have sizes that don't fit: {case.line}",
            "give the size that it was trained with, `input_size=`; often a multiple of 32",
        )
    return None


def _hint_for_values(count: int, whole: bool) -> str:
    """Which square images have `count` values; `whole`: whether they are the values of a whole image."""
    for planes, channels in ((3, "rgb"), (1, "gray"), (4, "rgba")) if whole else ():
        side = math.isqrt(count // planes)
        if planes * side * side == count:
            return f"it fits `input_size={side}` with `channels='{channels}'`"
    return "give the size that it was trained with: `input_size=`"


_CHECKS: tuple[Callable[[_Case], Cause | None], ...] = (
    _keyword_only,
    _unknown_argument,
    _not_first,
    _missing_input,
    _precision,
    _text,
    _channels,
    _video,
    _collection,
    _size,
)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
