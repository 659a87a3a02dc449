"""The completeness ledger of ε-LRP: where ΣT comes from.

With every nonlinearity replaced by its ratio, a network is an affine function of its input, so

    ΣT = relevance + bias + offset + epsilon leak

holds exactly, up to rounding, if every node has the right rule. This tests the rules on a whole model: a nonlinear node
treated as linear, or a product counted twice, shows up as a residual.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from modelspace.attribution.engine import Tap, backward, encoder_output, followed, ready
from modelspace.attribution.graph import Graph
from modelspace.attribution.rules import Book, Settings, plan


@dataclass(frozen=True)
class Ledger:
    """Shares of ΣT, summed over a batch, all in T's unit except the residual.

    Attributes:
        total: ΣT.
        relevance: Σ x · g̃, the sum of the ε-LRP map.
        bias: Σ c · g̃ over everything else that is added: biases, position embeddings, class tokens, constants, and
            what batch norm subtracts.
        offset: Σ f(0) · g̃ over the nonlinearities, and the remainder of a softmax's tangent.
        epsilon_leak: the part lost to ε in the ratios.
        residual: ΣT minus the four shares, relative to the largest absolute value of the other five. Constants that
            are filled in rather than added (a padding value) also end up here.
    """

    total: float
    relevance: float
    bias: float
    offset: float
    epsilon_leak: float
    residual: float


def ledger(
    tap: Tap, x: Tensor, epsilon: float = 1e-4, offset: str = "secant", *, through_attention: bool = False
) -> Ledger:
    """The ledger of one batch; use float64, where a residual above 1e-9 means a wrong rule.

    Args:
        tap: batch -> T, (B, ...); a module or the tap of one, so that its parameters are known.
        x: (B, C, H, W).
        epsilon: ε of the rule, above 0.
        offset: "secant" or "literal", as for the method `epsilon_lrp`.
        through_attention: whether attention weights carry relevance, as in the method `attn_lrp`.

    Raises:
        EmbeddingError: as `modelspace.attribution.engine.attribute` with ε-LRP.
    """
    constants = _ConstantsAsLeaves()
    with ready(tap, x) as source:
        with constants:
            output = encoder_output(tap, source, graphical=True)
            visible, graph = followed(tap, source, output, Graph(output.grad_fn, source))
        book = Book()
        hooks = plan(graph, Settings(epsilon, offset, book, through_attention))
        leaves = [node.variable for node, kind in graph.kinds.items() if kind == "AccumulateGrad"]
        sources = [source, *(leaf for leaf in leaves if leaf is not source)]
        gradients = backward(visible, sources, torch.ones_like(visible), graph, keep=False, hooks=hooks)
        shares = [0.0 if g is None else _dot(leaf, g) for leaf, g in zip(sources, gradients, strict=True)]
        total = float(visible.detach().double().sum())
    parts = (shares[0], sum(shares[1:]) + book.bias, book.offset, book.leak)
    scale = max(abs(value) for value in (total, *parts))
    return Ledger(total, *parts, residual=abs(total - sum(parts)) / scale if scale else 0.0)


def _dot(leaf: Tensor, gradient: Tensor) -> float:
    product = leaf.detach() * gradient.conj()
    return float((product.real if product.is_complex() else product).double().sum())


#: Functions whose second argument may be a number that is added.
_SUMS = {"add", "add_", "sub", "sub_", "rsub", "__add__", "__radd__", "__iadd__", "__sub__", "__rsub__", "__isub__"}
#: Arguments that have no gradient (running statistics), or for which torch uses another kernel if they have one
#: (masks).
_UNCHANGED = {"running_mean", "running_var", "attn_mask", "out"}
#: Functions that use only the type or shape of their second argument.
_LIKE = {"to", "type_as", "expand_as", "view_as", "reshape_as"}


class _ConstantsAsLeaves(TorchFunctionMode):
    """Context in which each constant that meets a tensor with a gradient becomes a leaf with its own gradient.

    The gradient of such a leaf, times its value, is its share of ΣT. This covers parameters, buffers and constants made
    in the forward pass alike, without changing the model.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        graded = next((t for t in _tensors((args, kwargs)) if t.requires_grad), None)
        if graded is None or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "").partition(".")[0]  # an operator of torch.ops is called "add.Tensor"
        if name in _LIKE:
            return func(*args, **kwargs)
        skip = _statistics(func, name)
        # The target of an in-place call must stay the same tensor.
        if name.endswith("_") or name == "__setitem__":
            skip = (*skip, 0)
        changed = [value if i in skip else _leaf(value) for i, value in enumerate(args)]
        if name in _SUMS and len(args) > 1 and isinstance(args[1], int | float) and not isinstance(args[1], bool):
            changed[1] = torch.tensor(float(args[1]), dtype=graded.dtype, device=graded.device).requires_grad_(True)
        named = {k: v if k in _UNCHANGED else _leaf(v) for k, v in kwargs.items()}
        return func(*changed, **named)


def _leaf(value: Any) -> Any:
    if isinstance(value, Tensor):
        constant = not value.requires_grad and (value.is_floating_point() or value.is_complex())
        return value.detach().clone().requires_grad_(True) if constant else value
    if isinstance(value, list | tuple) and any(isinstance(part, Tensor) for part in value):
        parts = [_leaf(part) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    return value


def _statistics(func: Callable[..., Any], name: str) -> tuple[int, ...]:
    """Positions of the running statistics: torch.nn.functional and torch order these arguments differently."""
    if name not in ("batch_norm", "instance_norm"):
        return ()
    return (1, 2) if inspect.isfunction(func) else (3, 4)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for part in value for tensor in _tensors(part)]
