"""ONNX Resize and Upsample in every mode: https://onnx.ai/onnx/operators/onnx__Resize.html.

Interpolation is separable, and linear in the values: along one axis it is a matrix (outputs x inputs) that depends only
on the sizes. So each axis is one product with a constant matrix, which autograd and ε-LRP handle like a linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modelspace.sources.onnx.nodes import Node, Unsupported, bounded, ints, operator, text

_COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
)  # fmt: skip
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True)
class _Axis:
    """One axis to resize: its old and new size, the node's ratio of new to old, and the region to use."""

    number: int
    old: int
    new: int
    scale: float
    roi: tuple[float, float] | None = None


@operator("Resize", "Upsample")
def resize(node: Node, x: Tensor, *inputs: Tensor | None) -> Tensor:
    """Resize the axes of x one by one."""
    axes = _axes(node, x, inputs)
    mode = text(node.get("mode", "nearest"))
    transform = _transform(node)
    if mode not in ("nearest", "linear", "cubic") or transform not in _COORDINATES:
        raise Unsupported(f"mode {mode}, {transform}")
    if transform == "tf_crop_and_resize" and all(axis.roi is None for axis in axes):
        raise Unsupported("tf_crop_and_resize without a region")
    shape = list(x.shape)
    for axis in axes:
        shape[axis.number] = axis.new
    bounded(shape)
    extrapolated: Tensor | None = None
    for axis in axes:
        if axis.old == axis.new and axis.scale == 1.0 and transform != "tf_crop_and_resize":
            continue
        position = _coordinates(axis, transform)
        if mode == "nearest":
            x = x.index_select(axis.number, _nearest(position, axis.old, _rounding(node)).to(x.device))
        else:
            matrix = _matrix(node, mode, axis, position).to(x)
            x = torch.matmul(x.movedim(axis.number, -1), matrix.T).movedim(-1, axis.number)
        if transform == "tf_crop_and_resize":
            mask = ((position < 0) | (position > axis.old - 1)).to(x.device)
            mask = mask.reshape([-1 if k == axis.number else 1 for k in range(x.dim())])
            extrapolated = mask if extrapolated is None else extrapolated | mask
    if extrapolated is not None and bool(extrapolated.any()):
        x = torch.where(extrapolated, torch.full_like(x, float(node.get("extrapolation_value", 0.0))), x)
    return x


def _is_old(node: Node) -> bool:
    """Before version 11 there was only one coordinate transform and one rounding."""
    return node.kind == "Upsample" or node.opset < 11


def _transform(node: Node) -> str:
    return "asymmetric" if _is_old(node) else text(node.get("coordinate_transformation_mode", "half_pixel"))


def _rounding(node: Node) -> str:
    rounding = "floor" if _is_old(node) else text(node.get("nearest_mode", "round_prefer_floor"))
    if rounding not in _ROUNDINGS:
        raise Unsupported(f"nearest_mode {rounding}")
    return rounding


def _axes(node: Node, x: Tensor, inputs: Sequence[Tensor | None]) -> list[_Axis]:
    """The axes that the node resizes, with their scales or sizes."""
    if _is_old(node):
        roi, sizes = None, None
        scales = inputs[0] if inputs else None
        if scales is None and node.get("scales") is not None:
            scales = torch.tensor(node.get("scales"))
    else:
        defaults: tuple[Tensor | None, ...] = (None, None, None)
        roi, scales, sizes = (*inputs, *defaults)[:3]
    numbers = [number % x.dim() for number in ints(node.get("axes") or range(x.dim()))]
    old_sizes = [x.shape[number] for number in numbers]
    if sizes is not None and sizes.numel():
        new_sizes, factors = _from_sizes(node, old_sizes, ints(sizes))
    elif scales is not None and scales.numel():
        factors = [float(value) for value in scales.reshape(-1).tolist()]
        new_sizes = [math.floor(size * factor) for size, factor in zip(old_sizes, factors, strict=True)]
    else:
        raise Unsupported("neither scales nor sizes")
    if min(factors) <= 0 or not all(map(math.isfinite, factors)):
        raise Unsupported(f"scales {factors}")
    n = len(numbers)
    parts = [float(value) for value in roi.reshape(-1).tolist()] if roi is not None and roi.numel() else []
    rois = list(zip(parts[:n], parts[n:], strict=True)) if parts else [None] * n
    return [_Axis(*fields) for fields in zip(numbers, old_sizes, new_sizes, factors, rois, strict=True)]


def _from_sizes(node: Node, old_sizes: list[int], sizes: list[int]) -> tuple[list[int], list[float]]:
    """New sizes of the axes and their ratios to the old ones, for a node with sizes."""
    ratios = [size / old for size, old in zip(sizes, old_sizes, strict=True)]
    policy = text(node.get("keep_aspect_ratio_policy", "stretch"))
    if policy == "stretch":
        return sizes, ratios
    if policy not in ("not_larger", "not_smaller"):
        raise Unsupported(f"keep_aspect_ratio_policy {policy}")
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(ratio * old + 0.5) for old in old_sizes], [ratio] * len(old_sizes)


def _coordinates(axis: _Axis, transform: str) -> Tensor:
    """Position of each output among the inputs, (new,) float64."""
    y = torch.arange(axis.new, dtype=torch.float64)
    length = axis.scale * axis.old  # not yet rounded to whole pixels
    if transform == "align_corners":
        return torch.zeros_like(y) if length == 1 else y * ((axis.old - 1) / (length - 1))
    if transform == "asymmetric":
        return y / axis.scale
    if transform == "tf_crop_and_resize":
        start, end = axis.roi or (0.0, 1.0)
        if length == 1:
            return torch.full_like(y, (end + start) * (axis.old - 1) / 2)
        return start * (axis.old - 1) + y * ((end - start) * (axis.old - 1) / (length - 1))
    if transform == "pytorch_half_pixel" and length == 1:
        return torch.full_like(y, -0.5)
    offset = axis.old / 2 * (1 - axis.new / length) if transform == "half_pixel_symmetric" else 0.0
    return offset + (y + 0.5) / axis.scale - 0.5


def _nearest(position: Tensor, old: int, rounding: str) -> Tensor:
    """Index of the input that each output is copied from, (new,) int64."""
    floor = position.floor()
    ratio = position - floor
    up = {
        "round_prefer_floor": ratio > 0.5,
        "round_prefer_ceil": ratio >= 0.5,
        "floor": torch.zeros_like(ratio, dtype=torch.bool),
        "ceil": ratio > 0,
    }[rounding]
    return (floor + up).long().clamp(0, old - 1)


def _matrix(node: Node, mode: str, axis: _Axis, position: Tensor) -> Tensor:
    """The interpolation matrix of linear and cubic modes, (new, old) float64."""
    antialias = bool(node.get("antialias", 0))
    # When an axis shrinks, antialiasing widens the kernel so that every input contributes.
    shrink = min(axis.scale, 1.0) if antialias else 1.0
    radius = math.ceil((1 if mode == "linear" else 2) / shrink)
    taps = position.floor()[:, None] + torch.arange(1 - radius, radius + 1, dtype=torch.float64)
    distance = ((taps - position[:, None]) * shrink).abs()
    weights = _triangle(distance) if mode == "linear" else _cubic(distance, float(node.get("cubic_coeff_a", -0.75)))
    if antialias:
        weights = weights / weights.sum(dim=1, keepdim=True)
    if node.get("exclude_outside", 0):
        weights = weights * ((taps >= 0) & (taps < axis.old))
        weights = weights / weights.sum(dim=1, keepdim=True)
    matrix = torch.zeros(axis.new, axis.old, dtype=torch.float64)
    return matrix.scatter_add_(1, taps.clamp(0, axis.old - 1).long(), weights)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp_min(0)


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Keys' cubic convolution kernel (IEEE Trans. ASSP 29, 1981)."""
    inner = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    outer = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return torch.where(distance <= 1, inner, torch.where(distance < 2, outer, torch.zeros_like(distance)))
