"""Random settings of ONNX operators, and what a node with them computes: our conversion, and onnx's reference.

A setting is one node with its attributes, its constants and an input. `FAMILIES` has a function for each group of
operators that draws one; `drawn(number)` is always the same setting for the same number, so a failure is repeated with
its number alone.
"""

from __future__ import annotations

import itertools
import math
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

from modelspace.errors import ModelspaceError
from modelspace.sources.onnx.load import OnnxNet, _Graph
from modelspace.sources.onnx.reference import evaluator


@dataclass
class Setting:
    """One node.

    Attributes:
        kind, opset: the operator and its version.
        x: its input, float32; the node's input number `position`.
        constants: its other inputs in order, None for an omitted one.
        attributes: the node's.
        outputs: names of its outputs, "" for one that is not used.
    """

    kind: str
    opset: int
    x: np.ndarray
    constants: Sequence[np.ndarray | None] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ("y",)
    position: int = 0

    def __str__(self) -> str:
        inputs = [
            "-" if value is None else value.tolist() if value.dtype.kind in "iub" and value.size < 20 else value.shape
            for value in self.constants
        ]
        outputs = "" if tuple(self.outputs) == ("y",) else f" -> {','.join(self.outputs)}"
        return f"{self.kind}-{self.opset} of {self.x.shape} {inputs} {self.attributes}{outputs}"


class Draw:
    """Random choices that are the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._numbers = np.random.default_rng(seed)

    def pick(self, *options: Any) -> Any:
        return self._random.choice(options)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def integers(self, n: int, low: int, high: int) -> list[int]:
        return [self.integer(low, high) for _ in range(n)]

    def flag(self) -> bool:
        return self._random.random() < 0.5

    def shuffled(self, values: Sequence[Any]) -> list[Any]:
        return self._random.sample(list(values), len(values))

    def some(self, values: Sequence[Any], least: int = 1) -> list[Any]:
        return self._random.sample(list(values), self.integer(least, len(values)))

    def real(self, *shape: int) -> np.ndarray:
        return self._numbers.standard_normal(shape).astype(np.float32)

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return self._numbers.uniform(low, high, shape).astype(np.float32)

    def maybe(self, **options: Any) -> dict[str, Any]:
        """Each option with one chance in two."""
        return {name: value for name, value in options.items() if self.flag()}


def whole(*values: int) -> np.ndarray:
    return np.asarray(values, dtype=np.int64)


# --- convolutions and windows


def _spatial(draw: Draw, low: int = 5, high: int = 9) -> list[int]:
    return draw.integers(draw.pick(1, 2, 2, 2, 3), low, high)


def _window(draw: Draw, n: int, dilated: bool = True) -> dict[str, Any]:
    """Strides, dilations and padding of a window of n axes."""
    settings: dict[str, Any] = draw.maybe(strides=draw.integers(n, 1, 3))
    if dilated:
        settings |= draw.maybe(dilations=draw.integers(n, 1, 2))
    padding = draw.pick("none", "pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
    if padding in ("pads", "NOTSET"):
        settings["pads"] = draw.integers(2 * n, 0, 1)
    if padding not in ("none", "pads"):
        settings["auto_pad"] = padding
    return settings


def conv(draw: Draw) -> Setting:
    sides = _spatial(draw)
    n, group = len(sides), draw.pick(1, 1, 2)
    kernel = draw.integers(n, 1, 3)
    x, w = draw.real(2, 2 * group, *sides), draw.real(2 * group, 2, *kernel)
    settings = _window(draw, n) | draw.maybe(kernel_shape=kernel)
    if group > 1:
        settings["group"] = group
    return Setting("Conv", draw.pick(7, 11, 18), x, [w, *([draw.real(len(w))] if draw.flag() else [])], settings)


def conv_transpose(draw: Draw) -> Setting:
    sides = _spatial(draw, 3, 6)
    n, group = len(sides), draw.pick(1, 1, 2)
    kernel = draw.integers(n, 1, 4)
    x, w = draw.real(1, 2 * group, *sides), draw.real(2 * group, 3, *kernel)
    settings = _window(draw, n) | draw.maybe(kernel_shape=kernel)
    strides, dilations = settings.get("strides", [1] * n), settings.get("dilations", [1] * n)
    if group > 1:
        settings["group"] = group
    if draw.flag():
        settings["output_padding"] = [draw.integer(0, max(s, d) - 1) for s, d in zip(strides, dilations, strict=True)]
    if draw.pick(True, False, False) and settings.get("auto_pad") != "VALID":
        settings.pop("pads", None)
        extra = settings.get("output_padding", [0] * n)
        full = [
            s * (side - 1) + e + d * (k - 1) + 1
            for side, s, d, k, e in zip(sides, strides, dilations, kernel, extra, strict=True)
        ]
        settings["output_shape"] = [max(side - draw.integer(0, 2), 1) for side in full]
    return Setting(
        "ConvTranspose", draw.pick(7, 11, 18), x, [w, *([draw.real(3 * group)] if draw.flag() else [])], settings
    )


def pool(draw: Draw) -> Setting:
    kind = draw.pick("MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool")
    sides = _spatial(draw)
    n = len(sides)
    opset = draw.pick(
        *{"MaxPool": (8, 10, 11, 12, 22), "AveragePool": (7, 10, 11, 19, 22), "LpPool": (11, 18, 22)}[kind]
    )
    dilated = opset >= {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[kind]
    kernel = draw.integers(n, 1, 3)
    settings = _window(draw, n, dilated) | {"kernel_shape": kernel}
    if settings.get("auto_pad", "").startswith("SAME"):  # refused with dilations: onnx and onnxruntime differ
        settings.pop("dilations", None)
    if "pads" in settings:  # onnxruntime refuses a padding as large as the window
        settings["pads"] = [min(p, k - 1) for p, k in zip(settings["pads"], kernel * 2, strict=True)]
    if opset >= (18 if kind == "LpPool" else 10):
        settings |= draw.maybe(ceil_mode=1)
    if kind == "AveragePool":
        settings |= draw.maybe(count_include_pad=1)
    if kind == "LpPool":
        settings |= draw.maybe(p=draw.integer(1, 3))
    return Setting(kind, opset, draw.real(1, 2, *sides), attributes=settings)


def global_pool(draw: Draw) -> Setting:
    kind = draw.pick("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    settings = draw.maybe(p=draw.integer(1, 3)) if kind == "GlobalLpPool" else {}
    return Setting(kind, 18, draw.real(2, 3, *_spatial(draw, 1, 5)), attributes=settings)


# --- sampling


def grid_sample(draw: Draw) -> Setting:
    n = draw.pick(2, 2, 3)
    opset = draw.pick(16, 20, 22) if n == 2 else draw.pick(20, 22)
    modes = ("bilinear", "nearest", "bicubic") if opset == 16 else ("linear", "nearest", "cubic")
    x = draw.real(2, 2, *draw.integers(n, 2, 5))
    grid = draw.uniform(-1.3, 1.3, 2, *draw.integers(n, 1, 4), n)
    settings = draw.maybe(
        mode=draw.pick(*modes[: 3 if n == 2 else 2]),
        padding_mode=draw.pick("zeros", "border", "reflection"),
        align_corners=draw.integer(0, 1),
    )
    return Setting("GridSample", opset, x, [grid], settings)


def resize(draw: Draw) -> Setting:
    opset = draw.pick(10, 11, 13, 18, 19)
    mode = draw.pick("nearest", "linear", "cubic") if opset > 10 else draw.pick("nearest", "linear")
    settings: dict[str, Any] = {"mode": mode}
    sides = draw.integers(2, 2, 8)
    axes = draw.pick(None, [2, 3], [-1], [3, 2]) if opset >= 18 else None
    if axes:
        settings["axes"] = axes
    n, leading = (len(axes), []) if axes else (2, [1.0, 1.0])
    if opset > 10:
        transforms = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
        transforms += ["half_pixel_symmetric"] if opset >= 19 else []
        settings |= draw.maybe(coordinate_transformation_mode=draw.pick(*transforms))
        if mode == "nearest":
            settings |= draw.maybe(nearest_mode=draw.pick("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))
        if mode == "cubic":
            settings |= draw.maybe(cubic_coeff_a=-0.5, exclude_outside=1)
        if opset >= 18 and mode != "nearest":
            settings |= draw.maybe(antialias=1)
    empty = np.zeros(0, np.float32) if opset == 11 else None  # an input could not be left out
    x = draw.real(1, 2, *sides)
    old = [x.shape[axis] for axis in axes] if axes else sides
    if opset > 10 and draw.flag():
        new = [*([1, 2] if not axes else []), *draw.integers(n, 1, 12)]
        if axes and draw.flag():
            settings["keep_aspect_ratio_policy"] = draw.pick("stretch", "not_larger", "not_smaller")
        return Setting("Resize", opset, x, [empty, empty, whole(*new)], settings)
    factors = [draw.pick(0.5, 0.75, 1.0, 1.3, 1.7, 2.0, 2.5) for _ in range(n)]
    factors = [f if int(f * side) >= 1 else 1.0 for f, side in zip(factors, old, strict=True)]
    scales = np.float32([*leading, *factors])
    return Setting("Resize", opset, x, [scales] if opset == 10 else [empty, scales], settings)


# --- recurrent layers


def recurrent(draw: Draw) -> Setting:
    kind = draw.pick("LSTM", "GRU", "RNN")
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    time, batch, size, hidden = draw.integers(4, 1, 4)
    direction = draw.pick("forward", "reverse", "bidirectional")
    n = 2 if direction == "bidirectional" else 1
    settings: dict[str, Any] = {"hidden_size": hidden} | draw.maybe(direction=direction)
    n = 2 if settings.get("direction") == "bidirectional" else 1
    constants: list[np.ndarray | None] = [
        draw.real(n, gates * hidden, size),
        draw.real(n, gates * hidden, hidden),
        draw.real(n, 2 * gates * hidden) if draw.flag() else None,
        np.full(batch, time, np.int32) if draw.pick(True, False, False) else None,
        draw.real(n, batch, hidden) if draw.flag() else None,
    ]
    if kind == "LSTM":
        constants += [draw.real(n, batch, hidden) if draw.flag() else None, None]
        constants[-1] = draw.real(n, 3 * hidden) if draw.flag() else None
    if kind == "GRU":
        settings |= draw.maybe(linear_before_reset=1)
    if draw.flag():
        usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[kind]
        settings["activations"] = draw.pick(usual, ["Relu" if name == "Tanh" else name for name in usual]) * n
    every = ["y", "h", "c"] if kind == "LSTM" else ["y", "h"]
    outputs = draw.pick(every, ["y"], ["", "h"])
    while constants and constants[-1] is None:
        constants.pop()
    return Setting(kind, draw.pick(7, 14, 22), draw.real(time, batch, size), constants, settings, outputs)


# --- shapes and indices


def pad(draw: Draw) -> Setting:
    opset = draw.pick(7, 11, 13, 18, 19)
    mode = draw.pick("constant", "constant", "reflect", "edge", *(["wrap"] if opset >= 19 else []))
    sides = draw.integers(draw.integer(2, 4), 3, 6)
    axes = draw.some(range(len(sides))) if opset >= 18 and draw.flag() else None
    n = len(axes) if axes else len(sides)
    low = -1 if draw.flag() else 0
    pads = draw.integers(2 * n, low, 2)
    settings = {"mode": mode} if mode != "constant" or draw.flag() else {}
    x = draw.real(*sides)
    if opset < 11:
        return Setting("Pad", opset, x, attributes=settings | {"pads": pads} | draw.maybe(value=0.5))
    constants: list[np.ndarray | None] = [whole(*pads)]
    if mode == "constant" and draw.flag():
        constants.append(np.float32(1.5))
    if axes:
        constants += [None] * (2 - len(constants))
        constants.append(whole(*[axis - draw.pick(0, len(sides)) for axis in axes]))
    return Setting("Pad", opset, x, constants, settings)


def slices(draw: Draw) -> Setting:
    sides = draw.integers(draw.integer(1, 4), 1, 6)
    axes = draw.some(range(len(sides)))
    starts, ends, steps = [], [], []
    for axis in axes:
        size = sides[axis]
        step = draw.pick(1, 1, 2, -1, -2)
        first, last = sorted(draw.integers(2, 0, size))
        if step < 0:
            begin, end = max(last - 1, 0), first - 1
            starts.append(draw.pick(begin, begin - size))
            ends.append(end if end >= 0 else draw.pick(-size - 1, -(2**31), -(2**63)))
        else:
            starts.append(draw.pick(first, first - size - (100 if first == 0 else 0)) if first < size else first)
            ends.append(
                draw.pick(last, last - size, 2**63 - 1) if last < size else draw.pick(last, last + 9, 2**31 - 1)
            )
        steps.append(step)
    x = draw.real(*sides)
    opset = draw.pick(9, 10, 11, 13)
    if opset == 9:
        ends = [min(max(end, -(2**40)), 2**40) for end in ends]
        if min(steps) < 0 or max(steps) > 1:
            opset = 13
    if opset == 9:
        return Setting("Slice", opset, x, attributes={"starts": starts, "ends": ends, "axes": axes})
    if opset > 10:
        axes = [axis - draw.pick(0, len(sides)) for axis in axes]
    constants = [whole(*starts), whole(*ends), whole(*axes)]
    if set(steps) != {1} or draw.flag():
        constants.append(whole(*steps))
    kind = draw.pick(np.int64, np.int64, np.int32)
    if kind == np.int32:
        constants = [np.clip(value, -(2**31), 2**31 - 1).astype(np.int32) for value in constants]
    return Setting("Slice", opset, x, constants)


def gather(draw: Draw) -> Setting:
    sides = draw.integers(draw.integer(1, 4), 1, 5)
    axis = draw.integer(0, len(sides) - 1)
    size, x = sides[axis], draw.real(*sides)
    settings = {"axis": axis - draw.pick(0, len(sides))} if axis or draw.flag() else {}
    kind = draw.pick("Gather", "Gather", "GatherElements", "GatherND")
    if kind == "Gather":
        shape = draw.integers(draw.integer(0, 2), 1, 3)
    elif kind == "GatherElements":
        shape = [side if k == axis else draw.integer(1, side) for k, side in enumerate(sides)]
    else:
        depth = draw.integer(1, len(sides))
        rows = [[draw.integer(-side, side - 1) for side in sides[:depth]] for _ in range(3)]
        return Setting(kind, draw.pick(12, 13), x, [np.asarray(rows, np.int64)])
    number = int(np.prod(shape)) if shape else 1
    indices = np.asarray(draw.integers(number, -size, size - 1), draw.pick(np.int64, np.int32)).reshape(shape)
    return Setting(kind, draw.pick(11, 13), x, [indices], settings)


def scatter(draw: Draw) -> Setting:
    sides = draw.integers(draw.integer(1, 3), 2, 5)
    x, settings = draw.real(*sides), draw.maybe(reduction=draw.pick("none", "add"))
    if draw.flag():
        depth = draw.integer(1, len(sides))
        places = draw.some(list(np.ndindex(*sides[:depth])))  # each once: the order of writing is not defined
        indices = np.asarray([[p - draw.pick(0, s) for p, s in zip(place, sides, strict=False)] for place in places])
        return Setting("ScatterND", 16, x, [indices.astype(np.int64), draw.real(len(places), *sides[depth:])], settings)
    axis = draw.integer(0, len(sides) - 1)
    n = draw.integer(1, sides[axis])
    row = np.asarray(draw.shuffled(range(sides[axis]))[:n]) - draw.pick(0, sides[axis])
    shape = [n if k == axis else side for k, side in enumerate(sides)]
    indices = np.broadcast_to(row.reshape([-1 if k == axis else 1 for k in range(len(sides))]), shape)
    settings["axis"] = axis - draw.pick(0, len(sides))
    return Setting("ScatterElements", 16, x, [indices.astype(np.int64), draw.real(*shape)], settings)


def shapes(draw: Draw) -> Setting:
    sides = draw.integers(draw.integer(1, 4), 1, 5)
    n, x = len(sides), draw.real(*sides)
    kind = draw.pick("Expand", "Tile", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Shape", "Concat")
    opset = draw.pick(11, 13, 18)
    if kind == "Expand":
        target = [side if draw.flag() else 1 for side in draw.pick(sides, [2, *sides], sides[1:] or [1])]
        return Setting(kind, opset, x, [whole(*target)])
    if kind == "Tile":
        return Setting(kind, opset, x, [whole(*draw.integers(n, 0 if draw.pick(0, 0, 1) else 1, 3))])
    if kind == "Flatten":
        return Setting(kind, opset, x, attributes=draw.maybe(axis=draw.integer(-n, n)))
    if kind == "Transpose":
        return Setting(kind, opset, x, attributes=draw.maybe(perm=draw.shuffled(range(n))))
    if kind == "Shape":
        opset = draw.pick(11, 15, 19)
        settings = draw.maybe(start=draw.integer(-n, n + 1), end=draw.integer(-n, n + 1)) if opset > 11 else {}
        return Setting(kind, opset, x, attributes=settings)
    if kind == "Reshape":
        target = draw.pick([-1], [*sides[:-1], -1], [0] * (n - 1) + [-1], [1, *sides], [x.size])
        return Setting(kind, opset, x, [whole(*target)])
    if kind == "Concat":
        axis = draw.integer(0, n - 1)
        others = [draw.real(*[draw.integer(1, 3) if k == axis else s for k, s in enumerate(sides)])]
        return Setting(kind, opset, x, others, {"axis": axis - draw.pick(0, n)}, position=draw.integer(0, 1))
    places = draw.some(range(n + 1 if kind == "Unsqueeze" else n))
    if kind == "Squeeze":
        x = draw.real(*[1 if k in places else s + 1 for k, s in enumerate(sides)])
        if draw.pick(True, False, False):
            return Setting(kind, opset, x)
    rank = n + len(places) if kind == "Unsqueeze" else n
    places = [place - draw.pick(0, rank) for place in places]
    if opset < 13:
        return Setting(kind, opset, x, attributes={"axes": places})
    return Setting(kind, opset, x, [whole(*places)])


def split(draw: Draw) -> Setting:
    sides = draw.integers(draw.integer(1, 4), 2, 7)
    axis, x = draw.integer(0, len(sides) - 1), draw.real(*sides)
    size = sides[axis]
    settings = {"axis": axis - draw.pick(0, len(sides))} if axis or draw.flag() else {}
    opset = draw.pick(7, 11, 13, 18)
    n = draw.integer(1, size)
    outputs = [f"y{k}" for k in range(n)]
    if draw.flag():
        marks = sorted(draw.integers(n - 1, 0, size))
        lengths = [b - a for a, b in zip([0, *marks], [*marks, size], strict=True)]
        if opset >= 13:
            return Setting("Split", opset, x, [whole(*lengths)], settings, outputs)
        return Setting("Split", opset, x, attributes=settings | {"split": lengths}, outputs=outputs)
    if opset >= 18:
        used = -(-size // -(-size // n))  # the parts that are not empty
        settings["num_outputs"] = used
        return Setting("Split", opset, x, attributes=settings, outputs=outputs[:used])
    n = draw.pick(*[k for k in range(1, size + 1) if size % k == 0])
    return Setting("Split", opset, x, attributes=settings, outputs=outputs[:n])


def depth(draw: Draw) -> Setting:
    block = draw.integer(1, 3)
    a, b, c = draw.integers(3, 1, 3)
    if draw.flag():
        return Setting("SpaceToDepth", 13, draw.real(2, a, b * block, c * block), attributes={"blocksize": block})
    settings = {"blocksize": block} | draw.maybe(mode=draw.pick("DCR", "CRD"))
    return Setting("DepthToSpace", draw.pick(11, 13), draw.real(2, a * block**2, b, c), attributes=settings)


def order(draw: Draw) -> Setting:
    sides = draw.integers(draw.integer(1, 4), 1, 6)
    axis, x = draw.integer(-len(sides), len(sides) - 1), draw.real(*sides)
    kind = draw.pick("TopK", "ArgMax", "ArgMin", "CumSum", "Trilu")
    if kind == "TopK":
        settings = draw.maybe(largest=draw.integer(0, 1), sorted=1) | {"axis": axis}
        outputs = ["y", "i"]
        return Setting(kind, draw.pick(11, 24), x, [whole(draw.integer(1, sides[axis]))], settings, outputs)
    if kind == "CumSum":
        return Setting(kind, draw.pick(11, 14), x, [np.int64(axis)], draw.maybe(exclusive=1, reverse=1))
    if kind == "Trilu":
        x = draw.real(2, *draw.integers(2, 1, 5))
        return Setting(kind, 14, x, [np.int64(draw.integer(-3, 3))] if draw.flag() else [], draw.maybe(upper=0))
    x = np.round(x)  # ties
    settings = draw.maybe(keepdims=draw.integer(0, 1), select_last_index=draw.integer(0, 1), axis=axis)
    return Setting(kind, draw.pick(12, 13), x, attributes=settings)


# --- norms, products, reductions


def norm(draw: Draw) -> Setting:
    kinds = ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization")
    kind = draw.pick(*kinds, "LRN", "LpNormalization", "MeanVarianceNormalization")
    c = draw.pick(2, 4, 6)
    sides = draw.integers(draw.integer(1, 3), 2, 5)
    x = draw.real(2, c, *sides)
    epsilon = draw.maybe(epsilon=draw.pick(1e-3, 1e-2))
    if kind == "BatchNormalization":
        x = draw.pick(x, draw.real(3, c))
        constants = [draw.real(c), draw.real(c), draw.real(c), draw.uniform(0.5, 2.0, c)]
        return Setting(kind, draw.pick(7, 8, 9, 11, 13, 14, 15), x, constants, epsilon | draw.maybe(momentum=0.5))
    if kind == "InstanceNormalization":
        return Setting(kind, draw.pick(7, 18, 22), x, [draw.real(c), draw.real(c)], epsilon)
    if kind == "LayerNormalization":
        axis = draw.integer(1, x.ndim - 1)
        shape = [draw.pick(side, side, 1) for side in x.shape[axis:]]
        constants = [draw.real(*shape), *([draw.real(*x.shape[axis:])] if draw.flag() else [])]
        outputs = draw.pick(["y"], ["y"], ["y", "m", "d"])
        return Setting(kind, 17, x, constants, epsilon | {"axis": axis - draw.pick(0, x.ndim)}, outputs)
    if kind == "GroupNormalization":
        groups, opset = draw.pick(1, 2, c), draw.pick(18, 21)
        size = groups if opset == 18 else c
        return Setting(kind, opset, x, [draw.real(size), draw.real(size)], epsilon | {"num_groups": groups})
    if kind == "LRN":
        settings = {"size": draw.integer(1, 5)} | draw.maybe(alpha=0.5, beta=0.6, bias=2.0)
        # The reference takes the number of images for that of channels.
        return Setting(kind, 13, draw.real(c, c, *draw.integers(2, 2, 5)), attributes=settings)
    if kind == "LpNormalization":
        settings = draw.maybe(p=draw.integer(1, 2), axis=draw.integer(-x.ndim, x.ndim - 1))
        return Setting(kind, draw.pick(7, 22), x, attributes=settings)
    return Setting(kind, 13, draw.real(2, c, 3, 4), attributes=draw.maybe(axes=draw.some(range(4), 2)))


def softmax(draw: Draw) -> Setting:
    kind = draw.pick("Softmax", "LogSoftmax", "Hardmax")
    x = draw.real(*draw.integers(draw.integer(1, 4), 1, 5))
    opset = draw.pick(7, 11, 13, 18)
    axis = draw.integer(-x.ndim if opset >= 11 else 0, x.ndim - 1)
    needs_axis = opset < 13 and x.ndim == 1
    return Setting(kind, opset, x, attributes={"axis": axis} if needs_axis or draw.flag() else {})


def product(draw: Draw) -> Setting:
    kind = draw.pick("Gemm", "MatMul", "Einsum")
    if kind == "Gemm":
        m, k, n = draw.integers(3, 1, 5)
        settings = draw.maybe(alpha=0.5, beta=2.0, transA=draw.integer(0, 1), transB=draw.integer(0, 1))
        a = draw.real(*((k, m) if settings.get("transA") else (m, k)))
        b = draw.real(*((n, k) if settings.get("transB") else (k, n)))
        c = draw.real(*draw.pick((), (n,), (1, n), (m, 1), (m, n)))
        return Setting(kind, draw.pick(11, 13), a, [b, *([c] if draw.flag() else [])], settings)
    if kind == "MatMul":
        a, b = draw.pick(
            ((3, 4), (4, 2)), ((4,), (4, 2)), ((3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 2)), ((2, 3, 4), (2, 4, 1))
        )
        return Setting(kind, 13, draw.real(*a), [draw.real(*b)])
    equation, *operands = draw.pick(
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("ij, jk", (2, 3), (3, 4)),
        ("...ij,jk->...ik", (2, 2, 3), (3, 4)),
        ("bhqd,bhkd->bhqk", (1, 2, 3, 4), (1, 2, 5, 4)),
        ("ii->i", (3, 3)),
        ("ij->", (2, 3)),
        ("bij,bjk,k->bi", (2, 3, 4), (2, 4, 5), (5,)),
        ("ij,ij->ij", (2, 3), (1, 3)),
        ("Ab,b->A", (2, 3), (3,)),
    )
    x, *others = (draw.real(*shape) for shape in operands)
    return Setting(kind, 12, x, others, {"equation": equation})


def reduction(draw: Draw) -> Setting:
    names = ("Mean", "Sum", "Max", "Min", "L1", "L2", "Prod", "SumSquare", "LogSumExp", "LogSum")
    name = draw.pick(*names)
    x = draw.real(*draw.integers(draw.integer(1, 4), 1, 4))
    if name == "LogSum":
        x = np.abs(x) + 0.1
    opset = draw.pick(11, 13, 18, 20)
    settings = draw.maybe(keepdims=draw.integer(0, 1))
    axes = [axis - draw.pick(0, x.ndim) for axis in draw.some(range(x.ndim))] if draw.pick(True, True, False) else None
    if opset < (13 if name == "Sum" else 18):
        return Setting(f"Reduce{name}", opset, x, attributes=settings | ({"axes": axes} if axes else {}))
    settings |= draw.maybe(noop_with_empty_axes=draw.integer(0, 1))
    constants = [whole(*axes)] if axes else draw.pick([], [whole()])
    return Setting(f"Reduce{name}", opset, x, constants, settings)


# --- elementwise


def elementwise(draw: Draw) -> Setting:
    x = 2 * draw.real(2, 3, 4)
    kind, settings, opset = draw.pick(
        *[(name, {}, 13) for name in ("Abs", "Ceil", "Erf", "Exp", "Floor", "Neg", "Relu", "Round", "Sigmoid", "Sign")],
        *[(name, {}, 13) for name in ("Softplus", "Softsign", "Tanh", "Cos", "Sin", "Tan", "Atan", "Sinh", "Cosh")],
        *[(name, {}, 13) for name in ("Asinh", "Identity", "HardSwish")],
        *[(name, {"alpha": draw.pick(0.3, 1.4)} if draw.flag() else {}, 16) for name in ("Elu", "Celu", "LeakyRelu")],
        ("Selu", draw.maybe(alpha=1.5, gamma=1.2), 13),
        ("ThresholdedRelu", draw.maybe(alpha=0.4), 13),
        ("HardSigmoid", draw.maybe(alpha=1 / 6, beta=0.4), 13),
        ("Shrink", draw.maybe(lambd=0.8, bias=0.2), 13),
        ("Mish", {}, 18),
        ("Gelu", draw.maybe(approximate=draw.pick("none", "tanh")), 20),
        ("Cast", {"to": draw.pick(1, 6, 7, 9, 10, 11)}, 13),
    )
    return Setting(kind, 14 if kind == "HardSwish" else opset, x, attributes=settings)


def inverse(draw: Draw) -> Setting:
    """Functions of a part of the numbers."""
    kind, low, high = draw.pick(
        ("Log", 0.1, 4.0), ("Sqrt", 0.1, 4.0), ("Reciprocal", 0.2, 4.0), ("Asin", -0.9, 0.9), ("Acos", -0.9, 0.9),
        ("Atanh", -0.9, 0.9), ("Acosh", 1.1, 4.0),
    )  # fmt: skip
    return Setting(kind, 13, draw.uniform(low, high, 2, 5))


def binary(draw: Draw) -> Setting:
    shape = draw.integers(draw.integer(1, 4), 1, 4)
    other = [draw.pick(side, 1) for side in shape][draw.integer(0, len(shape) - 1) :]
    kind = draw.pick(
        "Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "Pow", "Mod", "PRelu", "Greater", "Equal", "Compare"
    )
    if kind == "Compare":
        kind = draw.pick("Less", "LessOrEqual", "GreaterOrEqual")
        return Setting(kind, 16, np.round(draw.real(*shape)), [np.round(draw.real(*other))])
    x, y = draw.real(*shape), draw.real(*other)
    if kind == "Pow":
        return Setting(kind, 13, np.abs(x) + 0.1, [draw.pick(y, np.float32(2), np.float32(0.5), np.int64(3))])
    if kind == "Mod":
        return Setting(kind, 13, x, [np.abs(y) + 0.2], {"fmod": 1})
    if kind in ("Max", "Min", "Mean", "Sum"):
        return Setting(kind, 13, x, [y, draw.real(1)][: draw.integer(0, 2)])
    position = 0 if kind == "PRelu" else draw.integer(0, 1)
    return Setting(kind, draw.pick(9, 13) if kind in ("Greater", "PRelu") else 13, x, [y], position=position)


def clip(draw: Draw) -> Setting:
    x, opset = draw.real(2, 5), draw.pick(7, 11, 12, 13)
    if opset < 11:
        return Setting("Clip", opset, x, attributes=draw.maybe(min=-0.3, max=0.4))
    low, high = draw.pick(None, np.float32(-0.3), np.float32(0)), draw.pick(None, np.float32(0.4))
    constants = [low, high]
    while constants and constants[-1] is None:
        constants.pop()
    return Setting("Clip", opset, x, constants)


FAMILIES: dict[str, Callable[[Draw], Setting]] = {
    family.__name__: family
    for family in (
        conv, conv_transpose, pool, global_pool, grid_sample, resize, recurrent, pad, slices, gather, scatter, shapes,
        split, depth, order, norm, softmax, product, reduction, elementwise, inverse, binary, clip,
    )
}  # fmt: skip

#: How often a family is drawn: those with many settings more than those with few.
WEIGHTS = {
    **{"conv": 2, "conv_transpose": 4, "pool": 5, "grid_sample": 2, "resize": 3, "recurrent": 3, "pad": 2},
    **{"norm": 3, "shapes": 3, "elementwise": 4, "binary": 2, "reduction": 2},
}


def drawn(number: int) -> Setting:
    """The setting with this number."""
    draw = Draw(number)
    names = [name for name in FAMILIES for _ in range(WEIGHTS.get(name, 1))]
    return FAMILIES[draw.pick(*names)](draw)


def model_of(setting: Setting) -> ModelProto:
    """A model of the one node, from "x" to its outputs."""
    inputs = ["" if value is None else f"c{k}" for k, value in enumerate(setting.constants)]
    constants = [
        numpy_helper.from_array(np.asarray(value), f"c{k}")
        for k, value in enumerate(setting.constants)
        if value is not None
    ]
    inputs.insert(setting.position, "x")
    graph = helper.make_graph(
        [helper.make_node(setting.kind, inputs, list(setting.outputs), **setting.attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, setting.x.shape)],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in setting.outputs if name],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", setting.opset)], ir_version=9)
    return shape_inference.infer_shapes(model)


def converted(model: ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """The outputs of our conversion."""
    net = OnnxNet(_Graph(model, Path("one.onnx"))).eval()
    with torch.no_grad():
        value = net(torch.from_numpy(x))
    values = value if isinstance(value, dict) else {net.output_names[0]: value}
    return [values[name].numpy() for name in net.output_names]


def reference(model: ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """The outputs of the reference evaluator of onnx, with what `modelspace.sources.onnx.reference` mends of it."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [np.asarray(value) for value in evaluator(model).run(None, {"x": x})]


# --- slow second versions of what the reference evaluator lacks or has wrong, written from the standard's text


def _positions(setting: Setting) -> tuple[list[list[list[int]]], list[tuple[int, int]]]:
    """For each axis and position of a pool's window, the places below it, with padding; and each axis's padding."""
    settings, kernel = setting.attributes, setting.attributes["kernel_shape"]
    n = len(kernel)
    strides, dilations = settings.get("strides", [1] * n), settings.get("dilations", [1] * n)
    pads, automatic = settings.get("pads", [0] * 2 * n), settings.get("auto_pad", "NOTSET")
    axes, padding = [], []
    for k, size in enumerate(setting.x.shape[2:]):
        begin, end = (0, 0) if automatic == "VALID" else (pads[k], pads[n + k])
        if automatic.startswith("SAME"):
            total = max((math.ceil(size / strides[k]) - 1) * strides[k] + kernel[k] - size, 0)
            begin, end = (total // 2, math.ceil(total / 2))[:: 1 if automatic == "SAME_UPPER" else -1]
        starts = []
        start = -begin
        while True:
            last = start + dilations[k] * (kernel[k] - 1)
            # In ceil mode the window may reach over the end, if it begins in the image or in the padding before it.
            overhang = settings.get("ceil_mode", 0) and start < size and last - strides[k] < size + end - 1
            if last >= size + end and not overhang:
                break
            if start >= size:
                break
            starts.append(start)
            start += strides[k]
        axes.append([[begin_ + dilations[k] * tap for tap in range(kernel[k])] for begin_ in starts])
        padding.append((begin, end))
    return axes, padding


def _pool(setting: Setting) -> list[np.ndarray]:
    axes, padding = _positions(setting)
    x, sides = setting.x.astype(np.float64), setting.x.shape[2:]
    y = np.zeros((*x.shape[:2], *map(len, axes)))
    for place in itertools.product(*[range(len(axis)) for axis in axes]):
        taps = list(itertools.product(*[axis[k] for axis, k in zip(axes, place, strict=True)]))
        real = [tap for tap in taps if all(0 <= t < side for t, side in zip(tap, sides, strict=True))]
        padded = [tap for tap in taps if all(-b <= t < s + e for t, s, (b, e) in zip(tap, sides, padding, strict=True))]
        values = np.stack([x[(slice(None), slice(None), *tap)] for tap in real], axis=-1)
        counted = padded if setting.attributes.get("count_include_pad", 0) else real
        p = setting.attributes.get("p", 2)
        y[(slice(None), slice(None), *place)] = {
            "MaxPool": lambda v=values: v.max(-1),
            "AveragePool": lambda v=values, n=len(counted): v.sum(-1) / n,
            "LpPool": lambda v=values, p=p: (np.abs(v) ** p).sum(-1) ** (1 / p),
        }[setting.kind]()
    return [y]


def _conv_transpose(setting: Setting) -> list[np.ndarray]:
    x, settings = setting.x.astype(np.float64), setting.attributes
    w, *bias = setting.constants
    n, group = x.ndim - 2, settings.get("group", 1)
    kernel, sides, per_group = w.shape[2:], x.shape[2:], w.shape[1]
    strides, dilations = settings.get("strides", [1] * n), settings.get("dilations", [1] * n)
    extra, automatic = settings.get("output_padding", [0] * n), settings.get("auto_pad", "NOTSET")
    full = [
        s * (side - 1) + more + (k - 1) * d + 1
        for side, s, more, k, d in zip(sides, strides, extra, kernel, dilations, strict=True)
    ]
    pads = settings.get("pads", [0] * 2 * n) if automatic != "VALID" else [0] * 2 * n
    begin, end = pads[:n], pads[n:]
    wanted = settings.get("output_shape")
    if automatic.startswith("SAME"):
        wanted = wanted or [side * s for side, s in zip(sides, strides, strict=True)]
    if wanted:
        totals = [size - side for size, side in zip(full, wanted, strict=True)]
        lesser, greater = [t // 2 for t in totals], [t - t // 2 for t in totals]
        begin, end = (lesser, greater) if automatic == "SAME_UPPER" else (greater, lesser)
    y = np.zeros((len(x), per_group * group, *full))
    for place in itertools.product(*map(range, sides)):
        for tap in itertools.product(*map(range, kernel)):
            target = [p * s + t * d for p, s, t, d in zip(place, strides, tap, dilations, strict=True)]
            for g in range(group):
                ins = slice(g * x.shape[1] // group, (g + 1) * x.shape[1] // group)
                outs = slice(g * per_group, (g + 1) * per_group)
                here = x[(slice(None), ins, *place)] @ w[(ins, slice(None), *tap)].astype(np.float64)
                y[(slice(None), outs, *target)] += here
    cut = [slice(b, size - e) for b, e, size in zip(begin, end, full, strict=True)]
    y = y[(slice(None), slice(None), *cut)]
    return [y + bias[0].reshape(1, -1, *[1] * n) if bias else y]


def _pad(setting: Setting) -> list[np.ndarray]:
    """Cropped first where widths are negative, then padded, as onnxruntime does."""
    constants = [*setting.constants, None, None, None][:3]
    pads = setting.attributes.get("pads") if setting.opset < 11 else constants[0].tolist()
    axes = constants[2].tolist() if constants[2] is not None else range(setting.x.ndim)
    value = float(constants[1]) if constants[1] is not None else setting.attributes.get("value", 0.0)
    mode, n, y = setting.attributes.get("mode", "constant"), len(pads) // 2, setting.x
    for k, axis in enumerate(axes):
        begin, end, size = pads[k], pads[n + k], y.shape[axis]
        y = np.take(y, range(max(-begin, 0), size - max(-end, 0)), axis)
        widths = [(0, 0)] * y.ndim
        widths[axis] = (max(begin, 0), max(end, 0))
        y = np.pad(y, widths, mode, **({"constant_values": value} if mode == "constant" else {}))
    return [y]


def _global_pool(setting: Setting) -> list[np.ndarray]:
    axes, p = tuple(range(2, setting.x.ndim)), setting.attributes.get("p", 2)
    if setting.kind == "GlobalMaxPool":
        return [setting.x.max(axes, keepdims=True)]
    return [(np.abs(setting.x.astype(np.float64)) ** p).sum(axes, keepdims=True) ** (1 / p)]


def _softmax(setting: Setting) -> list[np.ndarray]:
    x, new = setting.x.astype(np.float64), setting.opset >= 13
    axis = setting.attributes.get("axis", -1 if new else 1) % x.ndim
    axes = axis if new else tuple(range(axis, x.ndim))
    y = np.exp(x - x.max(axes, keepdims=True))
    y = y / y.sum(axes, keepdims=True)
    if setting.kind == "Hardmax":
        y = (y == y.max(axes, keepdims=True)).astype(np.float64)
    return [np.log(y) if setting.kind == "LogSoftmax" else y]


def _lp_normalization(setting: Setting) -> list[np.ndarray]:
    p, axis = setting.attributes.get("p", 2), setting.attributes.get("axis", -1)
    x = setting.x.astype(np.float64)
    return [x / (np.abs(x) ** p).sum(axis, keepdims=True) ** (1 / p)]


#: Slow definitions of operators that onnx's reference has wrong (`modelspace.sources.onnx.reference` lists how), so
#: that what mends it is tested too. Each was compared with onnxruntime 1.32, which agrees.
DEFINITIONS: dict[str, Callable[[Setting], list[np.ndarray]]] = {
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
    **dict.fromkeys(("GlobalMaxPool", "GlobalLpPool"), _global_pool),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    "ConvTranspose": _conv_transpose,
    "LpNormalization": _lp_normalization,
    "Pad": _pad,
}

#: Settings that the reference has wrong and that are left out: (does it apply, why).
SKIPPED: list[tuple[Callable[[Setting], bool], str]] = [
    (lambda s: s.kind in ("LSTM", "GRU", "RNN") and "activations" in s.attributes, "passes other activations over"),
    (lambda s: s.kind == "GridSample" and s.opset == 16, "knows the modes' names of opset 20 only"),
    (
        lambda s: s.kind == "GridSample" and s.attributes.get("mode") == "cubic"
        and s.attributes.get("padding_mode") == "border",
        "clips the point, where onnxruntime clips each of the sixteen pixels around it",
    ),
    (
        lambda s: s.attributes.get("coordinate_transformation_mode") == "half_pixel_symmetric"
        and len(s.constants) == 2,
        "takes the wrong neighbour where rounding puts a coordinate 1e-16 off a pixel",
    ),
    (lambda s: s.kind == "Resize" and s.opset == 10, "does not know opset 10"),
    (lambda s: s.kind == "Resize" and min(s.attributes.get("axes", [0])) < 0, "negative axes fail"),
]  # fmt: skip


def is_refused(setting: Setting) -> bool:
    """Whether onnx and onnxruntime differ, and we compute neither: an automatic padding that would be negative."""
    automatic = setting.attributes.get("auto_pad", "NOTSET")
    if setting.kind != "ConvTranspose" or not automatic.startswith("SAME") or "output_shape" in setting.attributes:
        return False
    kernel = setting.constants[0].shape[2:]
    strides, dilations, extra = (
        setting.attributes.get(name, [usual] * len(kernel))
        for name, usual in (("strides", 1), ("dilations", 1), ("output_padding", 0))
    )
    return any(s > d * (k - 1) + 1 + e for s, d, k, e in zip(strides, dilations, kernel, extra, strict=True))


def expected(setting: Setting, model: ModelProto) -> list[list[np.ndarray]]:
    """What the node computes according to its definition and the reference; nothing for a setting that is left out."""
    values = [DEFINITIONS[setting.kind](setting)] if setting.kind in DEFINITIONS else []
    if not any(applies(setting) for applies, _ in SKIPPED):
        values.append(reference(model, setting.x))
    return values


def outcome(number: int) -> str:
    """ "equal", "refused" or "left out"; for any other outcome a line that says what differs."""
    setting = drawn(number)
    model = model_of(setting)
    try:
        values = converted(model, setting.x)
    except ModelspaceError as error:
        return "refused" if is_refused(setting) else f"{number}: {setting}: {error.message}"
    except Exception as error:
        return f"{number}: {setting}: {type(error).__name__}: {error}"
    definitions = expected(setting, model)
    for definition in definitions:
        for value, expected_value in zip(values, definition, strict=True):
            if (reason := difference(value, expected_value)) is not None:
                return f"{number}: {setting}: {reason}"
    return "equal" if definitions else "left out"


def difference(value: np.ndarray, expected_value: np.ndarray) -> str | None:
    """What is different, or None."""
    if value.shape != expected_value.shape:
        return f"shape {value.shape} instead of {expected_value.shape}"
    if value.dtype.kind != expected_value.dtype.kind:
        return f"type {value.dtype} instead of {expected_value.dtype}"
    if not np.allclose(value, expected_value, rtol=1e-4, atol=1e-5, equal_nan=True):
        largest = np.abs(value.astype(np.float64) - expected_value.astype(np.float64)).max()
        return f"values differ by up to {largest:.1e}"
    return None
