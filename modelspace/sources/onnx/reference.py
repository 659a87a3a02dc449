"""onnx's reference evaluator, with numpy versions of operators that it gets wrong, lacks or loops over in Python.

What is wrong was found by comparing onnx 1.23 with onnxruntime 1.32 in settings drawn at random:

| operator | onnx's own |
|---|---|
| BatchNormalization | opset 9 to 13: mixes the statistics of the batch in |
| MaxPool, AveragePool, LpPool | adds positions if pads are unequal; `ceil_mode` with `auto_pad` fails; a Python loop |
| Conv, ConvTranspose | slow; ConvTranspose fails for groups, and for `output_padding` with pads |
| GlobalMaxPool, GlobalLpPool | an axis too few for inputs of three axes; missing |
| LRN | takes the number of images for that of channels |
| LpNormalization | p = 1 takes no absolute values |
| Pad | negative widths fail |
| QuantizeLinear, DequantizeLinear | missing before opset 19 |
| Softmax, LogSoftmax, Hardmax | before opset 13: go over one axis, where the standard has this one and all later ones |
| GatherElements, Squeeze, Unsqueeze | smaller indices fail; several axes before opset 13 fail |

A few settings are left: `is_disputed` has them.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from modelspace.sources.onnx.nodes import Node, text

#: Seconds after which no further node is begun; a file is then not compared. Each pass over a node takes at most a few.
TIME_LIMIT = 30.0

#: Largest input, in elements, of operators that loop over every element in Python.
LOOPED = {"GridSample": 50_000}

#: Largest window, in places, of operators that loop over it in Python.
MOST_PLACES = 100_000

#: Bytes of results after which no further node is begun.
MOST_BYTES = 4 << 30

Array = np.ndarray


class TooCostly(Exception):
    """The reference would take too long."""


def evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    """The reference of a model, which raises `TooCostly` before a node that begins after the time limit."""
    reference = ReferenceEvaluator(model, new_ops=OPERATORS)
    deadline = time.monotonic() + TIME_LIMIT
    budget = _Budget()
    for node in reference.rt_nodes_:
        node.run = _bounded(node, node.run, deadline, budget)
    return reference


class _Budget:
    """Bytes of all results of a run, none of which the reference frees before its end."""

    def __init__(self) -> None:
        self.used = 0


def _bounded(node: OpRun, run: Any, deadline: float, budget: _Budget) -> Any:
    is_large = _window(node.onnx_node) > MOST_PLACES

    def bounded(*inputs: Any, **options: Any) -> Any:
        size = max((value.size for value in inputs if isinstance(value, np.ndarray)), default=0)
        is_slow = is_large or size > LOOPED.get(node.onnx_node.op_type, math.inf)
        if is_slow or time.monotonic() > deadline or budget.used > MOST_BYTES:
            raise TooCostly(node.onnx_node.op_type)
        results = run(*inputs, **options)
        budget.used += sum(value.nbytes for value in results if isinstance(value, np.ndarray))
        return results

    return bounded


def _window(node: onnx.NodeProto) -> int:
    """Number of places of a window, which some operators loop over in Python."""
    sides = next((entry.ints for entry in node.attribute if entry.name == "kernel_shape"), ())
    return math.prod(abs(side) for side in sides)


def is_disputed(node: Node) -> bool:
    """Whether onnx's reference is known to differ from onnxruntime in a node with these attributes."""
    if node.kind in ("LSTM", "GRU", "RNN"):  # it passes over other activations than the usual ones
        return bool(node.get("activations"))
    if node.kind == "GridSample":  # it clips the point, and onnxruntime each of the sixteen pixels around it
        return "cubic" in text(node.get("mode", "")) and text(node.get("padding_mode", "")) == "border"
    # A wrong neighbour, where rounding puts a coordinate 1e-16 off a pixel.
    return node.kind == "Resize" and text(node.get("coordinate_transformation_mode", "")) == "half_pixel_symmetric"


# --- windows


def _windows(
    x: Array, kernel: Sequence[int], settings: Mapping[str, Any]
) -> tuple[list[list[int]], list[tuple[int, int]], Sequence[int]]:
    """For each axis: where the window begins (negative in the padding), and the padding; and the dilations."""
    n = len(kernel)
    strides, dilations = settings.get("strides") or [1] * n, settings.get("dilations") or [1] * n
    pads, automatic = settings.get("pads") or [0] * 2 * n, settings.get("auto_pad") or "NOTSET"
    begins, padding = [], []
    for k, size in enumerate(x.shape[2:]):
        reach = dilations[k] * (kernel[k] - 1) + 1
        before, after = (0, 0) if automatic == "VALID" else (pads[k], pads[n + k])
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            total = max((math.ceil(size / strides[k]) - 1) * strides[k] + reach - size, 0)
            before, after = total // 2, total - total // 2
            if automatic == "SAME_LOWER":
                before, after = after, before
        room = (size + before + after - reach) / strides[k]
        positions = [k_ * strides[k] - before for k_ in range(math.floor(room) + 1)]
        over = positions[-1] + strides[k]
        if settings.get("ceil_mode") and room % 1 and over < size:  # it begins in the image, or in the padding before
            positions.append(over)
        begins.append(positions)
        padding.append((before, after))
    return begins, padding, dilations


def _taps(x: Array, kernel: Sequence[int], settings: Mapping[str, Any], fill: float) -> tuple[Any, Array]:
    """Pairs of a kernel position and the pixels (B, C, *outputs) below it; and the number counted in each window.

    The second counts the pixels of the image, and with `count_include_pad` those of its padding.
    """
    begins, padding, dilations = _windows(x, kernel, settings)
    ends = [starts[-1] + d * (k - 1) + 1 for starts, d, k in zip(begins, dilations, kernel, strict=True)]
    widths = [(b, max(end - size, 0)) for (b, _), end, size in zip(padding, ends, x.shape[2:], strict=True)]
    wide = np.pad(x, [(0, 0), (0, 0), *widths], constant_values=fill)
    counts = np.ones([1, 1])
    for k, (starts, (before, after)) in enumerate(zip(begins, padding, strict=True)):
        low, high = (-before, x.shape[2 + k] + after) if settings.get("count_include_pad") else (0, x.shape[2 + k])
        counted = [sum(low <= s + dilations[k] * t < high for t in range(kernel[k])) for s in starts]
        counts = counts[..., None] * np.asarray(counted)

    def pairs() -> Any:
        for tap in itertools.product(*map(range, kernel)):
            places = [
                np.asarray(starts) + before + d * t
                for starts, (before, _), d, t in zip(begins, padding, dilations, tap, strict=True)
            ]
            index: Any = (slice(None), slice(None), *np.ix_(*places))
            yield tap, wide[index]

    return pairs(), counts


class Conv(OpRun):
    def _run(self, x: Array, w: Array, b: Array | None = None, **settings: Any) -> tuple[Array]:
        group = settings.get("group") or 1
        pairs, counts = _taps(x, w.shape[2:], settings, 0.0)
        sides = counts.shape[2:]
        y = np.zeros((len(x), group, len(w) // group, math.prod(sides)), dtype=x.dtype)
        for tap, pixels in pairs:
            weights = w[(..., *tap)].reshape(group, len(w) // group, -1)
            y += weights @ pixels.reshape(len(x), group, x.shape[1] // group, -1)
        y = y.reshape(len(x), len(w), *sides)
        return (y if b is None else y + b.reshape(-1, *[1] * len(sides)),)


class ConvTranspose(OpRun):
    def _run(self, x: Array, w: Array, b: Array | None = None, **settings: Any) -> tuple[Array]:
        n, group, kernel = w.ndim - 2, settings.get("group") or 1, w.shape[2:]
        strides, dilations = settings.get("strides") or [1] * n, settings.get("dilations") or [1] * n
        extra = settings.get("output_padding") or [0] * n
        spans = [s * (side - 1) + 1 for side, s in zip(x.shape[2:], strides, strict=True)]
        full = [a + d * (k - 1) + e for a, d, k, e in zip(spans, dilations, kernel, extra, strict=True)]
        y = np.zeros((len(x), group, w.shape[1], *full), dtype=x.dtype)
        inputs = x.reshape(len(x), group, x.shape[1] // group, -1)
        for tap in itertools.product(*map(range, kernel)):
            place: Any = (..., *tap)
            weights = w[place].reshape(group, -1, w.shape[1])
            places = [slice(t * d, t * d + a, s) for t, d, a, s in zip(tap, dilations, spans, strides, strict=True)]
            product = weights.transpose(0, 2, 1) @ inputs
            index: Any = (..., *places)
            y[index] += product.reshape(*y.shape[:3], *x.shape[2:])
        begin, end = self._cut(x.shape[2:], full, strides, settings)
        cut: Any = (..., *(slice(a, size - e) for a, size, e in zip(begin, full, end, strict=True)))
        y = y.reshape(len(x), -1, *full)[cut]
        return (y if b is None else y + b.reshape(-1, *[1] * n),)

    @staticmethod
    def _cut(
        sides: Sequence[int], full: Sequence[int], strides: Sequence[int], settings: Mapping[str, Any]
    ) -> tuple[Sequence[int], Sequence[int]]:
        n, automatic = len(full), settings.get("auto_pad") or "NOTSET"
        output_shape = settings.get("output_shape")
        if output_shape is None and automatic in ("SAME_UPPER", "SAME_LOWER"):
            output_shape = [side * s for side, s in zip(sides, strides, strict=True)]
        if output_shape is None:
            pads = (settings.get("pads") if automatic != "VALID" else None) or [0] * 2 * n
            return pads[:n], pads[n:]
        totals = [size - side for size, side in zip(full, list(output_shape)[-n:], strict=True)]
        less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
        return (less, more) if automatic == "SAME_UPPER" else (more, less)


class MaxPool(OpRun):
    def _run(self, x: Array, **settings: Any) -> tuple[Array]:
        pairs, _ = _taps(x, settings["kernel_shape"], settings, -np.inf)
        return (np.maximum.reduce([pixels for _, pixels in pairs]),)


class AveragePool(OpRun):
    def _run(self, x: Array, **settings: Any) -> tuple[Array]:
        pairs, counts = _taps(x, settings["kernel_shape"], settings, 0.0)
        return ((sum(pixels for _, pixels in pairs) / counts).astype(x.dtype),)


class LpPool(OpRun):
    def _run(self, x: Array, **settings: Any) -> tuple[Array]:
        p = settings.get("p") or 2
        pairs, _ = _taps(np.abs(x), settings["kernel_shape"], settings, 0.0)
        return ((sum(pixels**p for _, pixels in pairs) ** (1 / p)).astype(x.dtype),)


class GlobalMaxPool(OpRun):
    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        return (x.max(tuple(range(2, x.ndim)), keepdims=True),)


class GlobalLpPool(OpRun):
    op_domain = ""

    def _run(self, x: Array, p: int = 2, **_: Any) -> tuple[Array]:
        return (
            ((np.abs(x) ** (p or 2)).sum(tuple(range(2, x.ndim)), keepdims=True) ** (1 / (p or 2))).astype(x.dtype),
        )


# --- norms


class BatchNormalization(OpRun):
    """As the standard has it in inference."""

    def _run(self, *inputs: Array, epsilon: float = 1e-5, **_: object) -> tuple[Array]:
        x = inputs[0]
        scale, bias, mean, variance = (np.reshape(each, (-1, *[1] * (x.ndim - 2))) for each in inputs[1:5])
        return ((scale * (x - mean) / np.sqrt(variance + epsilon) + bias).astype(x.dtype),)


class LRN(OpRun):
    def _run(self, x: Array, **settings: Any) -> tuple[Array]:
        size, total = settings["size"], np.zeros(x.shape)
        for channel in range(x.shape[1]):
            low, high = max(channel - (size - 1) // 2, 0), channel + math.ceil((size - 1) / 2) + 1
            total[:, channel] = (x[:, low:high].astype(np.float64) ** 2).sum(1)
        divisor = (settings["bias"] + settings["alpha"] / size * total) ** settings["beta"]
        return ((x / divisor).astype(x.dtype),)


class LpNormalization(OpRun):
    def _run(self, x: Array, axis: int = -1, p: int = 2, **_: Any) -> tuple[Array]:
        length = (np.abs(x) ** p).sum(axis, keepdims=True) ** (1 / p)
        return (np.where(length > 0, x / np.where(length > 0, length, 1), 0).astype(x.dtype),)


class _Softmax(OpRun):
    def _flat(self, x: Array) -> tuple[Array, int]:
        """x with the axes that the operator's version goes over as one, and its place."""
        is_new = self.run_params["opsets"][""] >= 13
        given = [entry.i for entry in self.onnx_node.attribute if entry.name == "axis"]
        axis = (given[0] if given else -1 if is_new else 1) % max(x.ndim, 1)
        return (x if is_new else x.reshape(*x.shape[:axis], -1)).astype(np.float64), axis

    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        flat, axis = self._flat(x)
        return (self._shares(flat, axis).reshape(x.shape).astype(x.dtype),)

    @staticmethod
    def _shares(x: Array, axis: int) -> Array:
        """exp(x) by its sum along an axis."""
        wide = np.exp(x - x.max(axis, keepdims=True))
        return np.asarray(wide / wide.sum(axis, keepdims=True))


class Softmax(_Softmax):
    pass


class LogSoftmax(_Softmax):
    @staticmethod
    def _shares(x: Array, axis: int) -> Array:
        shifted = x - x.max(axis, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)))


class Hardmax(_Softmax):
    @staticmethod
    def _shares(x: Array, axis: int) -> Array:
        shares = np.zeros_like(x)
        np.put_along_axis(shares, x.argmax(axis, keepdims=True), 1.0, axis)
        return shares


# --- shapes, and values that are quantised


class Pad(OpRun):
    def _run(self, x: Array, *inputs: Array | None, **settings: Any) -> tuple[Array]:
        pads, value, axes = (*inputs, None, None, None)[:3]
        widths = (settings.get("pads") if pads is None else pads.tolist()) or []
        fill = float(value) if value is not None and value.size else settings.get("value") or 0.0
        mode: Any = settings.get("mode") or "constant"
        n = len(widths) // 2
        for k, axis in enumerate(axes.tolist() if axes is not None else range(n)):
            begin, end = widths[k], widths[n + k]
            x = np.take(x, np.arange(max(-begin, 0), x.shape[axis] - max(-end, 0)), axis)
            sides = [(0, 0)] * x.ndim
            sides[axis] = (max(begin, 0), max(end, 0))
            x = np.pad(x, sides, mode, **({"constant_values": fill} if mode == "constant" else {}))
        return (x,)


class GatherElements(OpRun):
    def _run(self, x: Array, indices: Array, axis: int = 0, **_: Any) -> tuple[Array]:
        axis = (axis or 0) % x.ndim
        cut = tuple(slice(None) if k == axis else slice(side) for k, side in enumerate(indices.shape))
        return (np.take_along_axis(x[cut], indices, axis),)


class Squeeze(OpRun):
    def _run(self, x: Array, given: Array | None = None, axes: Sequence[int] | None = None) -> tuple[Array]:
        axes = given.reshape(-1).tolist() if given is not None else axes
        return (np.squeeze(x, tuple(axes) if axes is not None else None),)


class Unsqueeze(OpRun):
    def _run(self, x: Array, given: Array | None = None, axes: Sequence[int] | None = None) -> tuple[Array]:
        axes = given.reshape(-1).tolist() if given is not None else axes
        return (np.expand_dims(x, tuple(axes or ())),)


def _spread(values: Array, x: Array, axis: int) -> Array:
    return (
        values.reshape([-1 if k == axis % x.ndim else 1 for k in range(x.ndim)])
        if values.size > 1
        else values.reshape(())
    )


class QuantizeLinear(OpRun):
    def _run(self, x: Array, scale: Array, zero: Array | None = None, axis: int = 1, **_: Any) -> tuple[Array]:
        kind = np.dtype(np.uint8) if zero is None else zero.dtype
        limits = np.iinfo(kind)
        whole = np.rint(x / _spread(scale, x, axis)) + (
            0 if zero is None else _spread(zero, x, axis).astype(np.float64)
        )
        return (np.clip(whole, limits.min, limits.max).astype(kind),)


class DequantizeLinear(OpRun):
    def _run(self, x: Array, scale: Array, zero: Array | None = None, axis: int = 1, **_: Any) -> tuple[Array]:
        whole = x.astype(scale.dtype) - (0 if zero is None else _spread(zero, x, axis).astype(scale.dtype))
        return ((whole * _spread(scale, x, axis)).astype(scale.dtype),)


OPERATORS: list[type[OpRun]] = [
    *(
        AveragePool,
        BatchNormalization,
        Conv,
        ConvTranspose,
        DequantizeLinear,
        GatherElements,
        GlobalLpPool,
        GlobalMaxPool,
    ),
    *(Hardmax, LRN, LogSoftmax, LpNormalization, LpPool, MaxPool, Pad, QuantizeLinear, Softmax, Squeeze, Unsqueeze),
]
