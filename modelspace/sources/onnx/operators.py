"""The operators of ONNX that vision networks use, in torch: one function each, by the operator's name in `OPERATORS`.

A function is called with the node (`Node`: its attributes and version) and its inputs, None for an omitted one, and
returns the outputs that the standard specifies (https://onnx.ai/onnx/operators/). Versions of an operator differ, for
example in whether axes are an attribute or an input: either is accepted. Unsupported features raise `Unsupported`.
Shapes are computed as int64 tensors that stay on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.sources.onnx import (  # they register their operators
    padding,
    quantised,
    recurrent,
    resize,
    sampling,
    windows,
)
from modelspace.sources.onnx.nodes import (
    DTYPES,
    MAX_ELEMENTS,
    OPERATORS,
    Function,
    Node,
    Unsupported,
    bounded,
    input_or_attribute,
    ints,
    operator,
    text,
)

__all__ = [
    "DTYPES",
    "MAX_ELEMENTS",
    "OPERATORS",
    "Node",
    "Unsupported",
    "bounded",
    "ints",
    "operator",
    "padding",
    "quantised",
    "recurrent",
    "resize",
    "sampling",
    "windows",
]

# --- elementwise


def _plain(function: Function) -> Function:
    return lambda node, *inputs: function(*inputs)


_ELEMENTWISE: dict[str, Function] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "And": torch.logical_and,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Identity": lambda x: x,
    "IsNaN": torch.isnan,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "PRelu": lambda x, slope: torch.where(x < 0, x * slope, x),
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "Xor": torch.logical_xor,
}
OPERATORS.update({name: _plain(function) for name, function in _ELEMENTWISE.items()})


@operator("Add", "Sum")
def add(node: Node, *inputs: Tensor) -> Tensor:
    total = inputs[0]
    for value in inputs[1:]:
        total = total + value
    return total


@operator("Max", "Min")
def extreme(node: Node, *inputs: Tensor) -> Tensor:
    function = torch.maximum if node.kind == "Max" else torch.minimum
    best = inputs[0]
    for value in inputs[1:]:
        best = function(best, value)
    return best


@operator("Mean")
def mean_of(node: Node, *inputs: Tensor) -> Tensor:
    mean: Tensor = add(node, *inputs) / len(inputs)
    return mean


@operator("Div")
def divide(node: Node, a: Tensor, b: Tensor) -> Tensor:
    integers = not a.is_floating_point() and not b.is_floating_point()
    return torch.div(a, b, rounding_mode="trunc") if integers else a / b


@operator("Pow")
def power(node: Node, x: Tensor, exponent: Tensor) -> Tensor:
    # A number instead of a tensor: torch recognises squares, and the gradient needs no logarithm.
    return torch.pow(x, exponent.item() if exponent.numel() == 1 else exponent).to(x.dtype)


@operator("Mod")
def modulo(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


@operator("Clip")
def clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    lowest = node.get("min") if low is None else low.item()
    highest = node.get("max") if high is None else high.item()
    if lowest is None and highest is None:
        return x
    if lowest == 0.0 and highest is None:
        return torch.relu(x)
    return torch.clamp(x, lowest, highest)


@operator("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


@operator("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    return F.elu(x, node.get("alpha", 1.0))


@operator("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    return F.celu(x, node.get("alpha", 1.0))


@operator("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    if "alpha" in node.attributes or "gamma" in node.attributes:
        return float(node.get("gamma", 1.0507009873554805)) * F.elu(x, node.get("alpha", 1.6732632423543772))
    return F.selu(x)


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return torch.where(x > node.get("alpha", 1.0), x, torch.zeros_like(x))


@operator("Shrink")
def shrink(node: Node, x: Tensor) -> Tensor:
    limit, bias = node.get("lambd", 0.5), node.get("bias", 0.0)
    outside = torch.where(x > limit, x - bias, torch.zeros_like(x))
    return torch.where(x < -limit, x + bias, outside)


@operator("HardSwish")
def hard_swish(node: Node, x: Tensor) -> Tensor:
    return F.hardswish(x)


@operator("Swish")
def swish(node: Node, x: Tensor) -> Tensor:
    alpha = node.get("alpha", 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@operator("Mish")
def mish(node: Node, x: Tensor) -> Tensor:
    return F.mish(x)


@operator("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=text(node.get("approximate", "none")))


@operator("Dropout")
def dropout(node: Node, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> Any:
    if training is not None and bool(training):
        raise Unsupported("training mode")
    return (x, torch.ones_like(x, dtype=torch.bool))[: node.n_outputs]


@operator("Cast")
def cast(node: Node, x: Tensor) -> Tensor:
    if node.get("to") not in DTYPES:
        raise Unsupported(f"the type {node.get('to')}")
    return x.to(DTYPES[node.get("to")])


@operator("CastLike")
def cast_like(node: Node, x: Tensor, other: Tensor) -> Tensor:
    return x.to(other.dtype)


@operator("Where")
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    device = a.device if a.requires_grad else b.device
    return torch.where(condition.to(device), a.to(device), b.to(device))


# --- linear maps


@operator("Gemm")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    a = a.t() if node.get("transA", 0) else a
    if alpha == beta == 1.0 and node.get("transB", 0) and (c is None or c.dim() == 1):
        return F.linear(a, b, c)
    product = a @ (b.t() if node.get("transB", 0) else b)
    product = product if alpha == 1.0 else product * alpha
    return product if c is None else product + (c if beta == 1.0 else c * beta)


@operator("Einsum")
def einsum(node: Node, *inputs: Tensor) -> Tensor:
    return torch.einsum(text(node.get("equation")), *inputs)


# --- normalisation


@operator("BatchNormalization")
def batch_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if node.get("training_mode", 0) or node.n_outputs > 1 or not node.get("spatial", 1):
        raise Unsupported("training mode")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.get("epsilon", 1e-5))


@operator("InstanceNormalization")
def instance_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    shape = list(x.shape[node.get("axis", -1) :])
    weight = scale.expand(shape) if list(scale.shape) != shape else scale
    offset = bias.expand(shape) if bias is not None and list(bias.shape) != shape else bias
    output = F.layer_norm(x, shape, weight, offset, node.get("epsilon", 1e-5))
    if node.n_outputs == 1:
        return output
    variance, mean = torch.var_mean(x, list(range(-len(shape), 0)), correction=0, keepdim=True)
    return output, mean, (variance + node.get("epsilon", 1e-5)).rsqrt()


@operator("GroupNormalization")
def group_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    if node.opset < 21 and len(scale) != x.shape[1]:
        repeat = x.shape[1] // len(scale)
        scale, bias = scale.repeat_interleave(repeat), bias.repeat_interleave(repeat)
    return F.group_norm(x, node.get("num_groups"), scale, bias, node.get("epsilon", 1e-5))


@operator("LRN")
def local_response_normalization(node: Node, x: Tensor) -> Tensor:
    size, settings = node.get("size"), (node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0))
    if size % 2:
        return F.local_response_norm(x, size, *settings)
    # A window of even size reaches one channel further up than down, and torch's further down than up.
    return F.local_response_norm(x.flip(1), size, *settings).flip(1)


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, ints(node.get("axes") or [0, 2, 3]), correction=0, keepdim=True)
    return (x - mean) / (variance.sqrt() + 1e-9)


@operator("LpNormalization")
def lp_normalization(node: Node, x: Tensor) -> Tensor:
    return F.normalize(x, float(node.get("p", 2)), node.get("axis", -1))


@operator("Softmax", "LogSoftmax", "Hardmax")
def softmax(node: Node, x: Tensor) -> Tensor:
    function = _SOFTMAX[node.kind]
    if node.opset >= 13:
        return function(x, dim=node.get("axis", -1))
    # Before version 13: over this and all later axes, flattened.
    axis = node.get("axis", 1) % max(x.dim(), 1)
    return function(x.flatten(axis), dim=axis).reshape(x.shape)


def _hardmax(x: Tensor, dim: int) -> Tensor:
    """1 at the first of the largest values, 0 elsewhere."""
    return torch.zeros_like(x).scatter(dim, _extreme_place(x, dim, is_last=False).unsqueeze(dim), 1.0)


_SOFTMAX: dict[str, Callable[..., Tensor]] = {
    "Softmax": torch.softmax,
    "LogSoftmax": torch.log_softmax,
    "Hardmax": _hardmax,
}


# --- reductions


def _reduction(node: Node, x: Tensor, axes: Tensor | None) -> tuple[list[int], bool] | None:
    reduced = input_or_attribute(node, "axes", axes)
    if not reduced and node.get("noop_with_empty_axes", 0):
        return None
    return reduced or list(range(x.dim())), bool(node.get("keepdims", 1))


def _reduce(function: Callable[[Tensor, list[int], bool], Tensor]) -> Function:
    def run(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        settings = _reduction(node, x, axes)
        # Without axes nothing is reduced, but each number is still squared, or its logarithm taken.
        return function(x.unsqueeze(-1), [-1], False) if settings is None else function(x, *settings)

    return run


OPERATORS["ReduceMean"] = _reduce(lambda x, axes, keep: x.mean(axes, keep))
OPERATORS["ReduceSum"] = _reduce(lambda x, axes, keep: x.sum(axes, keep))
OPERATORS["ReduceMax"] = _reduce(lambda x, axes, keep: x.amax(axes, keep))
OPERATORS["ReduceMin"] = _reduce(lambda x, axes, keep: x.amin(axes, keep))
OPERATORS["ReduceL1"] = _reduce(lambda x, axes, keep: x.abs().sum(axes, keep))
OPERATORS["ReduceL2"] = _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep))
OPERATORS["ReduceSumSquare"] = _reduce(lambda x, axes, keep: x.square().sum(axes, keep))
OPERATORS["ReduceLogSum"] = _reduce(lambda x, axes, keep: x.sum(axes, keep).log())
OPERATORS["ReduceLogSumExp"] = _reduce(lambda x, axes, keep: torch.logsumexp(x, axes, keep))


@operator("ReduceProd")
def reduce_product(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    settings = _reduction(node, x, axes)
    if settings is None:
        return x
    for axis in sorted((axis % x.dim() for axis in settings[0]), reverse=True):
        x = x.prod(axis, keepdim=settings[1])
    return x


@operator("ArgMax", "ArgMin")
def argument_of_extreme(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    place = _extreme_place(x if node.kind == "ArgMax" else -x, axis, is_last=bool(node.get("select_last_index", 0)))
    return place.unsqueeze(axis % max(x.dim(), 1)) if node.get("keepdims", 1) else place


def _extreme_place(x: Tensor, axis: int, is_last: bool) -> Tensor:
    """The first or last place of the largest value along an axis; int64 without the axis."""
    if is_last:
        return x.shape[axis] - 1 - x.flip(axis).argmax(axis)
    return x.argmax(axis)


@operator("CumSum")
def cumulative_sum(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    dim = int(axis)
    ordered = x.flip(dim) if node.get("reverse", 0) else x
    sums = ordered.cumsum(dim)
    if node.get("exclusive", 0):
        sums = sums - ordered
    return sums.flip(dim) if node.get("reverse", 0) else sums


@operator("Trilu")
def triangle(node: Node, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    number = int(diagonal) if diagonal is not None else 0
    return torch.triu(x, number) if node.get("upper", 1) else torch.tril(x, number)


@operator("TopK")
def top_k(node: Node, x: Tensor, k: Tensor) -> Any:
    outputs = torch.topk(x, int(k), node.get("axis", -1), bool(node.get("largest", 1)), bool(node.get("sorted", 1)))
    return tuple(outputs)[: node.n_outputs]


# --- shapes


@operator("Shape")
def shape_of(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[node.get("start", 0) : node.get("end")], dtype=torch.int64)


@operator("Size")
def size_of(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


@operator("Reshape")
def reshape(node: Node, x: Tensor, shape: Tensor | None = None) -> Tensor:
    sides = input_or_attribute(node, "shape", shape) or []
    if not node.get("allowzero", 0):
        sides = [x.shape[i] if side == 0 else side for i, side in enumerate(sides)]
    return x.reshape(sides)


@operator("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.flatten(1) if axis == 1 and x.dim() > 1 else x.reshape(math.prod(x.shape[:axis]), -1)


@operator("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm", list(reversed(range(x.dim())))))


@operator("Squeeze")
def squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    squeezed = input_or_attribute(node, "axes", axes)
    return x.squeeze() if squeezed is None else x.squeeze(tuple(axis % max(x.dim(), 1) for axis in squeezed))


@operator("Unsqueeze")
def unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    new_axes = input_or_attribute(node, "axes", axes) or []
    rank = x.dim() + len(new_axes)
    for axis in sorted(axis % rank for axis in new_axes):
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def concatenate(node: Node, *inputs: Tensor) -> Tensor:
    device = next((value.device for value in inputs if value.requires_grad), inputs[0].device)
    return torch.cat([value.to(device) for value in inputs], node.get("axis", 0))


@operator("Split")
def split(node: Node, x: Tensor, sizes: Tensor | None = None) -> Any:
    axis = node.get("axis", 0)
    lengths = input_or_attribute(node, "split", sizes)
    if lengths is None:
        size, n = x.shape[axis], node.get("num_outputs", node.n_outputs)
        part = -(-size // n)
        lengths = [min(part, max(size - k * part, 0)) for k in range(n)]
    return torch.split(x, lengths, axis)


@operator("Slice")
def slice_(node: Node, x: Tensor, *inputs: Tensor | None) -> Tensor:
    names = ("starts", "ends", "axes", "steps")
    padded = (*inputs, *[None] * (4 - len(inputs)))
    starts, ends, axes, steps = (
        input_or_attribute(node, name, value) for name, value in zip(names, padded, strict=True)
    )
    if starts is None or ends is None:
        raise Unsupported("a slice without a start or an end")
    axes = axes if axes is not None else list(range(len(starts)))
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        if step < 0:
            size = x.shape[axis]
            places = list(range(size))[slice(start, None if end < -size else end, step)]
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64, device=x.device))
        else:
            index = [slice(None)] * x.dim()
            index[axis] = slice(start, end, step)
            x = x[tuple(index)]
    return x


@operator("Gather")
def gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0) % max(x.dim(), 1)
    indices = indices.to(x.device, torch.int64)
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    if indices.dim() == 0:
        return x.select(axis, int(indices))
    rows = x.index_select(axis, indices.reshape(-1))
    return rows.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("GatherElements")
def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    indices = indices.to(x.device, torch.int64)
    return x.gather(axis, torch.where(indices < 0, indices + x.shape[axis], indices))


@operator("GatherND")
def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    batched = node.get("batch_dims", 0)
    indices = indices.to(x.device, torch.int64)
    lead, depth = x.shape[:batched], indices.shape[-1]
    x, rows = x.reshape(-1, *x.shape[batched:]), indices.reshape(math.prod(lead), -1, depth)
    image = torch.arange(len(rows), device=x.device)[:, None].expand(rows.shape[:2])
    values: Tensor = x[(image, *rows.unbind(-1))]
    return values.reshape(*indices.shape[:-1], *x.shape[1 + depth :])


@operator("ScatterElements")
def scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis, kind = node.get("axis", 0), text(node.get("reduction", "none"))
    indices = indices.to(x.device, torch.int64)
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    if kind == "none":
        return x.scatter(axis, indices, updates.to(x))
    if kind != "add":
        raise Unsupported(f"reduction {kind}")
    return x.scatter_add(axis, indices, updates.to(x))


@operator("ScatterND")
def scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    kind = text(node.get("reduction", "none"))
    if kind not in ("none", "add"):
        raise Unsupported(f"reduction {kind}")
    places = tuple(indices.to(x.device, torch.int64).unbind(-1))
    return x.index_put(places, updates.to(x), accumulate=kind == "add")


@operator("Expand")
def expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(bounded(np.broadcast_shapes(tuple(x.shape), tuple(ints(shape)))))


@operator("Tile")
def tile(node: Node, x: Tensor, repeats: Tensor) -> Tensor:
    bounded([side * times for side, times in zip(x.shape, ints(repeats), strict=True)])
    return x.repeat(ints(repeats))


@operator("ConstantOfShape")
def constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    value = node.get("value", torch.zeros(1))
    return torch.full(bounded(ints(shape)), value.item(), dtype=value.dtype)


@operator("Range")
def range_(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    begin, end, step = start.item(), limit.item(), delta.item()
    bounded([max(math.ceil((end - begin) / step), 0)])
    return torch.arange(begin, end, step, dtype=start.dtype)


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    size = node.get("blocksize")
    if text(node.get("mode", "DCR")) == "CRD":
        return F.pixel_shuffle(x, size)
    b, c, h, w = x.shape
    x = x.reshape(b, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(b, c // size**2, h * size, w * size)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    size = node.get("blocksize")
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // size, size, w // size, size).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(b, c * size**2, h // size, w // size)
