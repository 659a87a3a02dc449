"""Elementwise nonlinearities y = f(x): where autograd saves x and y, and the ε rule that replaces f'(x).

The rule is ε-LRP written as a modified gradient (Ancona, Ceolini, Öztireli, Gross, ICLR 2018, table 1 and
proposition 1): the local gradient is replaced by

    r = y / (x + ε sign x),   sign 0 = +1.

Where f(0) ≠ 0 (sigmoid, softplus, exp) that ratio is unbounded near x = 0. For those functions the rule "secant" uses
r = (y − f(0)) / (x + ε sign x) and counts f(0) as a bias; the rule "literal" uses the ratio above. Where f(0) = 0 the
two are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.attribution.graph import Node

Read = Callable[[Node], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Activation:
    """How one kind of node is read.

    Attributes:
        read: node -> (x, y), tensors of one shape; y is exact, x is recovered from y where autograd saves only y.
        at_zero: node -> f(0); 0 where f has a pole at 0 (log, 1/x), which gives the literal ratio.
    """

    read: Read
    at_zero: Callable[[Node], float | Tensor] = lambda node: 0.0


def ratio(x: Tensor, y: Tensor, f0: float | Tensor, epsilon: float) -> Tensor:
    """r = (y − f0) / (x + ε sign x), a new tensor of the shape of x; sign 0 = +1 (y = f0 or f0 = 0 at x = 0)."""
    denominator = torch.copysign(torch.full((), epsilon, dtype=x.dtype, device=x.device), x).add_(x)
    return torch.div(y if isinstance(f0, float) and f0 == 0.0 else y - f0, denominator, out=denominator)


# --- x from y. Many x may give the same y in floating point (a sigmoid is 1 for every large x): the smallest of them is
# --- used.


def _below_one(y: Tensor) -> float:
    return 1.0 - torch.finfo(y.dtype).eps / 2


def _logit(y: Tensor) -> Tensor:
    clamped = y.clamp(torch.finfo(y.dtype).tiny, _below_one(y))
    return clamped.log() - torch.log1p(-clamped)


def _atanh(y: Tensor) -> Tensor:
    limit = _below_one(y)
    return torch.atanh(y.clamp(-limit, limit))


def _inverse_elu(node: Node) -> Tensor:
    y, alpha, scale = node._saved_result, node._saved_alpha, node._saved_scale
    negative = torch.log1p((y / (alpha * scale)).clamp(min=-_below_one(y))) / node._saved_input_scale
    return torch.where(y > 0, y / scale, negative)


def _inverse_celu(node: Node) -> Tensor:
    y, alpha = node._saved_result, node._saved_alpha
    return torch.where(y > 0, y, alpha * torch.log1p((y / alpha).clamp(min=-_below_one(y))))


def _elu(node: Node) -> Tensor:
    x = node._saved_self
    negative = node._saved_alpha * torch.expm1(x * node._saved_input_scale)
    y: Tensor = node._saved_scale * torch.where(x > 0, x, negative)
    return y


# --- builders of the table


def _forward(f: Callable[[Tensor], Tensor]) -> Read:
    """Autograd saves x: y = f(x)."""

    def read(node: Node) -> tuple[Tensor, Tensor]:
        x = node._saved_self
        return x, f(x)

    return read


def _forward_with(f: Callable[[Node], Tensor]) -> Read:
    """Autograd saves x and the function's constants."""
    return lambda node: (node._saved_self, f(node))


def _backward(inverse: Callable[[Tensor], Tensor]) -> Read:
    """Autograd saves y: x = inverse(y)."""

    def read(node: Node) -> tuple[Tensor, Tensor]:
        y = node._saved_result
        return inverse(y), y

    return read


def _either(forward: Callable[[Node], Tensor], inverse: Callable[[Node], Tensor]) -> Read:
    """The in-place form saves y, the other form x."""

    def read(node: Node) -> tuple[Tensor, Tensor]:
        if hasattr(node, "_saved_self"):
            return node._saved_self, forward(node)
        return inverse(node), node._saved_result

    return read


def _leaky_inverse(slope: Callable[[Node], float]) -> Callable[[Node], Tensor]:
    return lambda node: torch.where(node._saved_result > 0, node._saved_result, node._saved_result / slope(node))


def _slope(node: Node) -> float:
    return float(node._saved_negative_slope)


def _rrelu_slope(node: Node) -> float:
    # The slope of eval mode. In train mode it is random; `frozen` rules that out for modules.
    if node._saved_training:
        raise AttributeError("rrelu in train mode")
    return float(node._saved_lower + node._saved_upper) / 2


def _clamp(node: Node) -> Tensor:
    return torch.clamp(node._saved_self, getattr(node, "_saved_min", None), getattr(node, "_saved_max", None))


def _clamp_zero(node: Node) -> float | Tensor:
    low, high = getattr(node, "_saved_min", None), getattr(node, "_saved_max", None)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return torch.clamp(torch.zeros_like(node._saved_self), low, high)
    return _bounded(0.0, low, high)


def _bounded(value: float, low: float | None, high: float | None) -> float:
    value = value if low is None else max(value, float(low))
    return value if high is None else min(value, float(high))


def _power_zero(node: Node) -> float | Tensor:
    """0 to the power k: 0 for k > 0, 1 for k = 0, and 0 (the literal rule) for the pole at k < 0."""
    exponent = node._saved_exponent
    if isinstance(exponent, Tensor):
        return (exponent == 0).to(node._saved_self.dtype)
    return 1.0 if exponent == 0 else 0.0


def _scalar_base(node: Node) -> tuple[Tensor, Tensor]:
    return node._saved_exponent, node._saved_result


def _value(number: float) -> Callable[[Node], float]:
    return lambda node: number


#: Kind of node -> how to read it. Kinds with no entry here or in `modelspace.attribution.rules` are refused by name.
ACTIVATIONS: dict[str, Activation] = {
    "LeakyRelu": Activation(
        _either(lambda node: F.leaky_relu(node._saved_self, _slope(node)), _leaky_inverse(_slope)),
    ),
    "RreluWithNoise": Activation(
        _either(lambda node: F.leaky_relu(node._saved_self, _rrelu_slope(node)), _leaky_inverse(_rrelu_slope)),
    ),
    "PreluKernel": Activation(
        _forward_with(
            lambda node: torch.where(node._saved_self > 0, node._saved_self, node._saved_self * node._saved_weight)
        )
    ),
    "Hardtanh": Activation(
        _forward_with(lambda node: F.hardtanh(node._saved_self, node._saved_min_val, node._saved_max_val)),
        lambda node: _bounded(0.0, node._saved_min_val, node._saved_max_val),
    ),
    "Clamp": Activation(_forward_with(_clamp), _clamp_zero),
    "ClampMin": Activation(_forward_with(_clamp), _clamp_zero),
    "ClampMax": Activation(_forward_with(_clamp), _clamp_zero),
    "Gelu": Activation(_forward_with(lambda node: F.gelu(node._saved_self, approximate=node._saved_approximate))),
    "Silu": Activation(_forward(F.silu)),
    "Mish": Activation(_forward(F.mish)),
    "Hardswish": Activation(_forward(F.hardswish)),
    "Hardsigmoid": Activation(_forward(F.hardsigmoid), _value(0.5)),
    "Sigmoid": Activation(_backward(_logit), _value(0.5)),
    "Tanh": Activation(_backward(_atanh)),
    "Elu": Activation(_either(_elu, _inverse_elu)),
    "Celu": Activation(_either(lambda node: F.celu(node._saved_self, node._saved_alpha), _inverse_celu)),
    "Softplus": Activation(
        _forward_with(lambda node: F.softplus(node._saved_self, node._saved_beta, node._saved_threshold)),
        lambda node: math.log(2.0) / float(node._saved_beta),
    ),
    "LogSigmoid": Activation(_forward(F.logsigmoid), _value(-math.log(2.0))),
    "Softshrink": Activation(_forward_with(lambda node: F.softshrink(node._saved_self, float(node._saved_lambd)))),
    "Hardshrink": Activation(_forward_with(lambda node: F.hardshrink(node._saved_self, float(node._saved_lambd)))),
    "Erf": Activation(_forward(torch.erf)),
    "Erfc": Activation(_forward(torch.erfc), _value(1.0)),
    "Abs": Activation(_forward(torch.abs)),
    "Sin": Activation(_forward(torch.sin)),
    "Cos": Activation(_forward(torch.cos), _value(1.0)),
    "Asin": Activation(_forward(torch.asin)),
    "Atan": Activation(_forward(torch.atan)),
    "Sinh": Activation(_forward(torch.sinh)),
    "Cosh": Activation(_forward(torch.cosh), _value(1.0)),
    "Asinh": Activation(_forward(torch.asinh)),
    "Exp": Activation(_backward(torch.log), _value(1.0)),
    "Exp2": Activation(_backward(torch.log2), _value(1.0)),
    "Expm1": Activation(_backward(torch.log1p)),
    "Log": Activation(_forward(torch.log)),
    "Log2": Activation(_forward(torch.log2)),
    "Log10": Activation(_forward(torch.log10)),
    "Log1P": Activation(_forward(torch.log1p)),
    "Sqrt": Activation(_backward(torch.square)),
    "Rsqrt": Activation(_backward(lambda y: 1.0 / (y * y))),
    "Reciprocal": Activation(_backward(torch.reciprocal)),
    "Pow": Activation(_forward_with(lambda node: torch.pow(node._saved_self, node._saved_exponent)), _power_zero),
    "PowScalarBase": Activation(_scalar_base, _value(1.0)),
}
