"""Making in-place changes of views visible in the autograd graph.

``x.view(b, c, h, w).relu_()`` leaves one node "CopySlices" in the autograd graph, which hides the ReLU: its plain
gradient is right, but no rule can see the ReLU. While the mode below is active, such a call runs as
``view.copy_(view.clone().relu_())``: the same values in the same tensors, with nodes for clone, ReLU and copy.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: In-place calls that copy, fill or change the view: linear, so left unchanged.
_PLAIN_NAMES = """
    copy_ fill_ zero_ masked_fill_ index_put_ index_fill_ requires_grad_ detach_ set_ resize_ resize_as_ as_strided_ t_
    transpose_ swapaxes_ swapdims_ squeeze_ unsqueeze_ rename_ share_memory_
"""
_PLAIN = set(_PLAIN_NAMES.split())
_OPERATORS = {"__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__", "__ipow__"}


class VisibleInPlace(TorchFunctionMode):
    """Context in which in-place functions of views of tensors with a gradient are rewritten as described above."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("input")
        if not (isinstance(target, Tensor) and _in_place(func, args, kwargs) and _is_view(target, args[1:])):
            return func(*args, **kwargs)
        copy = target.clone()
        if args:
            func(copy, *args[1:], **kwargs)
        else:
            func(**{**kwargs, "input": copy})
        return target.copy_(copy)


def _is_view(target: Tensor, others: tuple[Any, ...]) -> bool:
    graded = target.requires_grad or any(isinstance(t, Tensor) and t.requires_grad for t in others)
    return torch.is_grad_enabled() and graded and target._is_view()


def _in_place(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    name = getattr(func, "__name__", "").partition(".")[0]  # an operator of torch.ops is called "relu_.default"
    if name in _PLAIN:
        return False
    if name.startswith("__"):
        return name in _OPERATORS
    if name.endswith("_"):
        return True
    position = _inplace_position(func)
    if position is None:
        return False
    return bool(kwargs.get("inplace", args[position] if position < len(args) else False))


@functools.cache
def _inplace_position(func: Callable[..., Any]) -> int | None:
    """Position of the argument `inplace`, which activations of torch.nn.functional have; None for other functions."""
    if not inspect.isfunction(func):
        return None
    names = list(inspect.signature(func).parameters)
    return names.index("inplace") if "inplace" in names else None
