"""ONNX's quantised operators, computed as float: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html.

Rounding has no gradient, so a quantised model is explained as the float model that it represents: values are scaled and
clipped like the quantised ones, but not rounded. Its output differs from that of the file by the rounding, which the
comparison with the reference takes into account.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.sources.onnx.nodes import Node, Unsupported, ints, operator, text

_RANGES = {torch.uint8: (0.0, 255.0), torch.int8: (-128.0, 127.0), torch.int16: (-32768.0, 32767.0)}


def _spread(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """A scale or zero point of one axis, in a shape that broadcasts with `x`."""
    if values.numel() == 1:
        return values.reshape(())
    if values.dim() != 1:
        raise Unsupported("blocks of quantised values")
    return values.reshape([-1 if k == axis % x.dim() else 1 for k in range(x.dim())])


@operator("QuantizeLinear")
def quantize_linear(node: Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    axis = node.get("axis", 1)
    kind = zero_point.dtype if zero_point is not None else torch.uint8
    if kind not in _RANGES:
        raise Unsupported(f"values of type {str(kind).removeprefix('torch.')}")
    shifted = x / _spread(scale, x, axis).to(x)
    if zero_point is not None:
        shifted = shifted + _spread(zero_point, x, axis).to(x)
    return shifted.clamp(*_RANGES[kind])


@operator("DequantizeLinear")
def dequantize_linear(node: Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    axis = node.get("axis", 1)
    values = x.to(scale.dtype)
    if zero_point is not None:
        values = values - _spread(zero_point, x, axis).to(scale.dtype)
    return values * _spread(scale, x, axis)


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # Scale and zero point are of the whole batch; a float value is the same whatever they are.
    return x, torch.ones((), dtype=x.dtype, device=x.device), torch.zeros((), dtype=x.dtype, device=x.device)


@operator("MatMulInteger")
def matmul_integer(
    node: Node, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    kind = a.dtype if a.is_floating_point() else torch.float32
    left = a.to(kind) - (a_zero.to(kind) if a_zero is not None else 0)
    right = b.to(kind) - (b_zero.to(kind) if b_zero is not None else 0)
    return left @ right


@operator("ConvInteger")
def conv_integer(
    node: Node, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    kind = x.dtype if x.is_floating_point() else torch.float32
    shifted = x.to(kind) - (x_zero.to(kind) if x_zero is not None else 0)
    weights = w.to(kind) - (_spread(w_zero, w, 0).to(kind) if w_zero is not None else 0)
    return _convolution(node, shifted, weights, None)


@operator("QLinearConv")
def qlinear_conv(node: Node, x: Tensor, *rest: Tensor | None) -> Tensor:
    x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *more = rest
    if x_scale is None or w is None or w_scale is None or y_scale is None:
        raise Unsupported("missing scales or weights")
    values = dequantize_linear(node, x, x_scale, x_zero)
    weights = dequantize_linear(Node(node.kind, node.opset, {"axis": 0}), w, w_scale, w_zero)
    bias = None
    if more and more[0] is not None:
        bias = more[0].to(weights) * (x_scale * w_scale.reshape(-1)).to(weights)
    return quantize_linear(node, _convolution(node, values, weights, bias), y_scale, y_zero)


@operator("QLinearMatMul")
def qlinear_matmul(node: Node, a: Tensor, *rest: Tensor | None) -> Tensor:
    a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = rest
    if a_scale is None or b is None or b_scale is None or y_scale is None:
        raise Unsupported("missing scales or factors")
    left = dequantize_linear(Node(node.kind, node.opset, {"axis": -2}), a, a_scale, a_zero)
    right = dequantize_linear(Node(node.kind, node.opset, {"axis": -1}), b, b_scale, b_zero)
    return quantize_linear(node, left @ right, y_scale, y_zero)


def _convolution(node: Node, x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    n = x.dim() - 2
    if text(node.get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
        raise Unsupported("auto_pad")
    pads = ints(node.get("pads") or [0] * 2 * n)
    if any(pads):
        x = F.pad(x, [side for k in reversed(range(n)) for side in (pads[k], pads[k + n])])
    convolution = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    strides, dilations = ints(node.get("strides") or [1] * n), ints(node.get("dilations") or [1] * n)
    return convolution(x, weights, bias, strides, 0, dilations, node.get("group", 1))
