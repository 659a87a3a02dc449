"""Every activation in the table: x, y and f(0) as read from its node, against the function itself."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelspace.attribution.activations import ACTIVATIONS, ratio
from modelspace.attribution.graph import kind

#: kind -> functions that leave that node; the names in-place functions end in "_".
CASES: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "LeakyRelu": [lambda x: F.leaky_relu(x, 0.1), lambda x: F.leaky_relu_(x, 0.1)],
    "RreluWithNoise": [F.rrelu, lambda x: F.rrelu(x, inplace=True)],
    "PreluKernel": [lambda x: F.prelu(x, torch.tensor([0.3], dtype=x.dtype))],
    "Hardtanh": [F.relu6, lambda x: F.hardtanh(x, 0.5, 2.0), lambda x: F.hardtanh_(x, -1.0, 1.0)],
    "Clamp": [
        lambda x: x.clamp(-0.7, 0.4),
        lambda x: x.clamp_(0.2, 1.0),
        lambda x: x.clamp(torch.full_like(x, 0.1), torch.full_like(x, 1.0)),
    ],
    "ClampMin": [lambda x: x.clamp_min(0.3), lambda x: x.clamp_min(torch.full_like(x, -0.2))],
    "ClampMax": [lambda x: x.clamp_max(-0.3)],
    "Gelu": [F.gelu, lambda x: F.gelu(x, approximate="tanh")],
    "Silu": [F.silu, lambda x: F.silu(x, inplace=True)],
    "Mish": [F.mish],
    "Hardswish": [F.hardswish, lambda x: F.hardswish(x, inplace=True)],
    "Hardsigmoid": [F.hardsigmoid],
    "Sigmoid": [torch.sigmoid, torch.sigmoid_],
    "Tanh": [torch.tanh, torch.tanh_],
    "Elu": [
        lambda x: F.elu(x, 0.7),
        lambda x: F.elu_(x, 0.7),
        F.selu,
        torch.selu_,
        lambda x: torch.ops.aten.elu(x, 0.7, 1.1, 2.0),
        lambda x: torch.ops.aten.elu_(x, 0.7, 1.1, 2.0),
    ],
    "Celu": [lambda x: F.celu(x, 0.6), lambda x: F.celu_(x, 0.6)],
    "Softplus": [lambda x: F.softplus(x, 2.0, 3.0)],
    "LogSigmoid": [F.logsigmoid],
    "Softshrink": [lambda x: F.softshrink(x, 0.4)],
    "Hardshrink": [lambda x: F.hardshrink(x, 0.4)],
    "Erf": [torch.erf],
    "Erfc": [torch.erfc],
    "Abs": [torch.abs, torch.abs_],
    "Sin": [torch.sin],
    "Cos": [torch.cos],
    "Asin": [lambda x: torch.asin(x)],
    "Atan": [torch.atan],
    "Sinh": [torch.sinh],
    "Cosh": [torch.cosh],
    "Asinh": [torch.asinh],
    "Exp": [torch.exp, torch.exp_],
    "Exp2": [torch.exp2],
    "Expm1": [torch.expm1],
    "Log": [torch.log],
    "Log2": [torch.log2],
    "Log10": [torch.log10],
    "Log1P": [torch.log1p],
    "Sqrt": [torch.sqrt, torch.sqrt_],
    "Rsqrt": [torch.rsqrt],
    "Reciprocal": [torch.reciprocal],
    "Pow": [
        lambda x: x**3.0,
        lambda x: x**0.5,
        lambda x: x**-1.5,
        lambda x: torch.pow(x, torch.tensor(2.0, dtype=x.dtype)),
    ],
    "PowScalarBase": [lambda x: 3.0**x],
}
#: Defined for positive numbers below 1 only, as far as this test goes.
POSITIVE = {"Asin", "Log", "Log2", "Log10", "Log1P", "Sqrt", "Rsqrt", "Reciprocal", "Pow"}
#: A pole at 0: the literal ratio is taken.
POLES = {"Log", "Log2", "Log10", "Rsqrt", "Reciprocal"}


def test_every_activation_has_a_case() -> None:
    assert set(CASES) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", CASES)
def test_x_y_and_f0_are_read_as_they_were(name: str) -> None:
    for f in CASES[name]:
        x = (
            torch.rand(50, dtype=torch.float64) * 0.9 + 0.05
            if name in POSITIVE
            else torch.randn(50, dtype=torch.float64)
        )
        leaf = x.clone().requires_grad_()
        y = f(leaf.clone())
        node = y.grad_fn
        assert kind(node) == ("Pow" if name == "PowScalarBase" else name)
        read_x, read_y = ACTIVATIONS[name].read(node)
        torch.testing.assert_close(read_x.detach(), x, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(read_y.detach(), y.detach(), rtol=1e-12, atol=0)
        f0 = ACTIVATIONS[name].at_zero(node)
        want = 0.0 if name in POLES else f(torch.zeros_like(x))
        if name == "Pow" and float(want[0]) == math.inf:
            want = 0.0  # the pole of a negative power
        torch.testing.assert_close(
            torch.as_tensor(f0, dtype=x.dtype).expand(50), torch.as_tensor(want).expand(50).to(x)
        )


@torch.no_grad()
def test_saturated_values_keep_a_finite_ratio() -> None:
    x = torch.tensor([-1e3, -60.0, -30.0, 30.0, 60.0, 1e3], dtype=torch.float32)
    for f, name in (
        (torch.sigmoid, "Sigmoid"),
        (torch.tanh, "Tanh"),
        (F.elu_, "Elu"),
        (torch.selu_, "Elu"),
        (F.celu_, "Celu"),
    ):
        with torch.enable_grad():
            node = f(x.clone().requires_grad_().clone()).grad_fn
        read_x, read_y = ACTIVATIONS[name].read(node)
        assert torch.isfinite(ratio(read_x, read_y, ACTIVATIONS[name].at_zero(node), 1e-4)).all()
        assert (torch.sign(read_x) == torch.sign(x)).all()


def test_the_ratio_is_the_definition() -> None:
    x = np.array([-2.0, -1e-5, -0.0, 0.0, 1e-5, 2.0])
    y, f0, epsilon = np.tanh(x) + 0.25, 0.25, 1e-3
    sign = np.where(x >= 0, 1.0, -1.0)
    want = (y - f0) / (x + epsilon * sign)
    got = ratio(torch.from_numpy(x), torch.from_numpy(y), f0, epsilon)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)


def test_the_case_list_covers_the_modules_of_torch() -> None:
    # every activation module of torch.nn either has a rule for its node or is named here
    without_node_of_its_own = {"Softsign", "Tanhshrink", "ReLU", "Threshold", "MultiheadAttention", "GLU"}
    without_node_of_its_own |= {"Softmax", "Softmin", "Softmax2d", "LogSoftmax"}
    for name in nn.modules.activation.__all__:
        if name in without_node_of_its_own:
            continue
        module = getattr(nn, name)().eval()
        node = module(torch.randn(4, 3, requires_grad=True).clone()).grad_fn
        assert kind(node) in ACTIVATIONS, name
