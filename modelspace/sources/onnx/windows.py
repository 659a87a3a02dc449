"""ONNX convolutions and pooling: Conv, ConvTranspose, MaxPool, AveragePool, LpPool and their global versions.

The operators' definitions: https://onnx.ai/onnx/operators/onnx__Conv.html and its neighbours.
torch pads both sides of an axis equally, ONNX each side separately; with `ceil_mode` or automatic padding they usually
differ. If they are equal, torch's own padding is used; otherwise the input is padded first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.sources.onnx.nodes import Function, Node, Unsupported, bounded, ints, operator, text

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True)
class Window:
    """How a window moves over the n spatial axes of an input; all tuples are of length n.

    Attributes:
        kernel, strides, dilations: of the window.
        begin, end: padding before and after each axis, as the node has it.
        outputs: number of positions along each axis.
        overhang: padding after each axis that the last position needs; `end`, more in ceil mode, less where none
            reaches it.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    outputs: tuple[int, ...]
    overhang: tuple[int, ...]

    @property
    def is_even(self) -> bool:
        """Whether torch's own padding, the same on both sides and at most half the window, does the same."""
        halves = (2 * side <= size for side, size in zip(self.begin, self.kernel, strict=True))
        return self.begin == self.end and self.begin == self.overhang and all(halves)


def window(node: Node, sides: Sequence[int], kernel: Sequence[int]) -> Window:
    """The window of a node over spatial axes of these sizes.

    Raises:
        Unsupported: a position of the window has only padding below it.
    """
    n = len(kernel)
    strides, dilations = _each(node, "strides", n), _each(node, "dilations", n)
    begin, end = _padding(node, sides, kernel)
    outputs, overhang = [], []
    for size, side, stride, dilation, before, after in zip(sides, kernel, strides, dilations, begin, end, strict=True):
        extent = dilation * (side - 1) + 1
        room = size + before + after - extent
        if room < 0:
            raise Unsupported(f"a window of {extent} on {size + before + after} pixels")
        positions = (-(-room // stride) if node.get("ceil_mode", 0) else room // stride) + 1
        if (positions - 1) * stride >= size + before:  # it would start in the padding at the end
            positions -= 1
        outputs.append(positions)
        overhang.append(max((positions - 1) * stride + extent - size - before, 0))
    return Window(tuple(kernel), tuple(strides), tuple(dilations), begin, end, tuple(outputs), tuple(overhang))


def _each(node: Node, name: str, n: int) -> list[int]:
    """An attribute that has a number for each of n axes, 1 by default."""
    return ints(node.get(name) or [1] * n)


def _padding(node: Node, sides: Sequence[int], kernel: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The padding before and after each axis."""
    n = len(kernel)
    automatic = text(node.get("auto_pad", "NOTSET"))
    if automatic in ("NOTSET", ""):
        pads = ints(node.get("pads") or [0] * 2 * n)
        return tuple(pads[:n]), tuple(pads[n:])
    if automatic == "VALID":
        return (0,) * n, (0,) * n
    begin, end = [], []
    strides, dilations = _each(node, "strides", n), _each(node, "dilations", n)
    for size, side, stride, dilation in zip(sides, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + dilation * (side - 1) + 1 - size, 0)
        first, second = _shared(total, automatic)
        begin.append(first)
        end.append(second)
    return tuple(begin), tuple(end)


def _shared(total: int, automatic: str) -> tuple[int, int]:
    """Padding of both sides, of which one gets more if the total is odd: the end for SAME_UPPER, else the beginning."""
    half = total // 2
    return (half, total - half) if automatic == "SAME_UPPER" else (total - half, half)


def _padded(x: Tensor, begin: Sequence[int], end: Sequence[int], value: float = 0.0) -> Tensor:
    """x with padding on its last axes; cropped where it is negative."""
    flat = [side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


def _of_rank(table: Mapping[int, Function], n: int) -> Function:
    if n not in table:
        raise Unsupported(f"{n} spatial axes")
    return table[n]


@operator("Conv")
def convolution(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = list(weight.shape[2:])
    run = _of_rank(_CONVOLUTIONS, len(kernel))
    begin, end = _padding(node, x.shape[2:], kernel)
    padding = begin
    if begin != end:
        x, padding = _padded(x, begin, end), (0,) * len(kernel)
    strides, dilations = _each(node, "strides", len(kernel)), _each(node, "dilations", len(kernel))
    output: Tensor = run(x, weight, bias, strides, padding, dilations, node.get("group", 1))
    return output


@operator("ConvTranspose")
def transposed_convolution(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = list(weight.shape[2:])
    n = len(kernel)
    run = _of_rank(_TRANSPOSED, n)
    strides, dilations, group = _each(node, "strides", n), _each(node, "dilations", n), node.get("group", 1)
    extra = ints(node.get("output_padding") or [0] * n)
    full = [
        stride * (size - 1) + dilation * (side - 1) + 1
        for size, stride, dilation, side in zip(x.shape[2:], strides, dilations, kernel, strict=True)
    ]
    begin, end = _cropping(node, x, full, extra)
    bounded([len(x), weight.shape[1] * group, *(size + more for size, more in zip(full, extra, strict=True))])
    fits = all(more < max(s, d) for more, s, d in zip(extra, strides, dilations, strict=True))
    if begin == end and fits and min(begin) >= 0:
        output: Tensor = run(x, weight, bias, strides, begin, extra, group, dilations)
        return output
    # All that the window reaches, and then what the node asks for; what the window does not reach is the bias.
    reached = run(x, weight, None, strides, 0, 0, group, dilations)
    cut = _padded(reached, [-side for side in begin], [more - side for more, side in zip(extra, end, strict=True)])
    return cut if bias is None else cut + bias.reshape(1, -1, *[1] * n)


def _cropping(node: Node, x: Tensor, full: Sequence[int], extra: Sequence[int]) -> tuple[list[int], list[int]]:
    """What a transposed convolution crops before and after each axis of its full output, whose sizes are `full`."""
    n = len(full)
    automatic = text(node.get("auto_pad", "NOTSET"))
    output_shape = ints(node.get("output_shape") or [])[-n:]
    if not output_shape and automatic in ("NOTSET", "", "VALID"):
        pads = ints(node.get("pads") or [0] * 2 * n) if automatic != "VALID" else [0] * 2 * n
        return pads[:n], pads[n:]
    if not output_shape:
        output_shape = [size * stride for size, stride in zip(x.shape[2:], _each(node, "strides", n), strict=True)]
    totals = [size + more - side for size, more, side in zip(full, extra, output_shape, strict=True)]
    if min(totals) < 0:
        raise Unsupported(
            "an output that is larger than the window reaches, which onnx and onnxruntime compute differently"
        )
    begin, end = zip(*(_shared(total, automatic) for total in totals), strict=True)
    return list(begin), list(end)


# --- pooling


def _pool_window(node: Node, x: Tensor) -> Window:
    kernel = ints(node.get("kernel_shape"))
    place = window(node, x.shape[2:], kernel)
    if text(node.get("auto_pad", "NOTSET")).startswith("SAME") and max(place.dilations) > 1:
        raise Unsupported("auto_pad and dilations, which onnx and onnxruntime compute differently")
    for side, dilation, before, after in zip(kernel, place.dilations, place.begin, place.end, strict=True):
        if max(before, after) >= dilation * (side - 1) + 1:
            raise Unsupported("windows that have only padding below them")
    return place


@operator("MaxPool")
def max_pool(node: Node, x: Tensor) -> Any:
    if node.n_outputs > 1:
        raise Unsupported("the output of indices")
    place = _pool_window(node, x)
    run = _of_rank(_MAX_POOLS, len(place.kernel))
    if place.is_even:
        return run(x, place.kernel, place.strides, place.begin, place.dilations)
    lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    return run(_padded(x, place.begin, place.overhang, lowest), place.kernel, place.strides, 0, place.dilations)


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    place = _pool_window(node, x)
    with_pads = bool(node.get("count_include_pad", 0))
    if place.is_even and set(place.dilations) == {1}:
        run = _of_rank(_AVERAGE_POOLS, len(place.kernel))
        pooled: Tensor = run(x, place.kernel, place.strides, place.begin, False, with_pads)
        return pooled
    summed = _sum_pool(place, x)
    # The pixels that count: those of the image, and with `count_include_pad` its padding, but no overhang of ceil mode.
    ones = torch.ones_like(x[:1, :1])
    counted = _padded(ones, place.begin, place.end, 1.0) if with_pads else _padded(ones, place.begin, place.end)
    short = [max(over - after, 0) for over, after in zip(place.overhang, place.end, strict=True)]
    counts = _summed(place, _padded(counted, [0] * len(short), short))
    return summed / counts.detach()


@operator("LpPool")
def lp_pool(node: Node, x: Tensor) -> Tensor:
    p = node.get("p", 2)
    total = _sum_pool(_pool_window(node, x), x.abs() if p == 1 else x.abs().pow(p))
    # The root's gradient at 0 is infinite; the norm's is taken for 0, as torch does.
    return total if p == 1 else total.clamp_min(torch.finfo(total.dtype).tiny).pow(1 / p)


def _sum_pool(place: Window, x: Tensor) -> Tensor:
    """The sum below each position of the window, (B, C, *outputs)."""
    return _summed(place, _padded(x, place.begin, place.overhang))


def _summed(place: Window, x: Tensor) -> Tensor:
    """The same of an input that is padded already."""
    if set(place.dilations) == {1}:
        pooled: Tensor = _of_rank(_AVERAGE_POOLS, len(place.kernel))(x, place.kernel, place.strides)
        return pooled * math.prod(place.kernel)
    weight = torch.ones(x.shape[1], 1, *place.kernel, dtype=x.dtype, device=x.device)
    run = _of_rank(_CONVOLUTIONS, len(place.kernel))
    total: Tensor = run(x, weight, None, place.strides, 0, place.dilations, x.shape[1])
    return total


def _over_space(function: Callable[[Tensor, list[int]], Tensor]) -> Function:
    return lambda node, x: function(x, list(range(2, x.dim())))


operator("GlobalAveragePool")(_over_space(lambda x, axes: x.mean(dim=axes, keepdim=True)))
operator("GlobalMaxPool")(_over_space(lambda x, axes: x.amax(dim=axes, keepdim=True)))


@operator("GlobalLpPool")
def global_lp_pool(node: Node, x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, node.get("p", 2), list(range(2, x.dim())), keepdim=True)
    return norm
