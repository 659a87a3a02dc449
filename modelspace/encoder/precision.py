"""How exactly a model computes: the maps of two images against those of a pass in float64, and half precision inside.

Two things make a map noise without an error: the explained sum is constant, as behind a softmax, so that its gradient is nothing but
rounding; or the model computes in half precision inside. Both show as a low cosine with the map of the same model in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from modelspace.attribution.engine import encoder_output, ready
from modelspace.encoder.layers import Tap

#: Above so many parameters no copy in float64 is made: it would be 8 bytes for each.
MAX_PARAMETERS = 400_000_000

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Precision:
    """What a pass over two images showed.

    Attributes:
        cosine: smallest cosine of an image's gradient of ΣT with that of the float64 pass; None where the model can't run
            in float64.
        half: the half-precision type that the model computes in inside, or None.
        cosine_of_full: where `half` is not None, the cosine with the float64 pass of a float32 pass without half precision;
            None where the model can't run so.
    """

    cosine: float | None
    half: torch.dtype | None = None
    cosine_of_full: float | None = None


def measure(tap: Tap, x: Tensor) -> Precision:
    """Compare the gradient of ΣT with that of a float64 pass.

    Args:
        tap: the tapped model, frozen.
        x: (B, C, H, W) float32, preprocessed.
    """
    with _Watch() as watch:
        plain = _gradient(tap, x)
    half = next(iter(sorted(watch.half, key=str)), None)
    exact = _attempt(tap, x, torch.float64)
    cosine = None if exact is None else _cosine(plain, exact)
    if half is None or exact is None:
        return Precision(cosine, half)
    full = _attempt(tap, x, torch.float32)
    return Precision(cosine, half, None if full is None else _cosine(full, exact))


def _gradient(tap: Tap, x: Tensor) -> Tensor:
    """∂ΣT/∂x, (B, elements) float64."""
    with ready(tap, x) as source:
        output = encoder_output(tap, source, graphical=True)
        return torch.autograd.grad(output.double().sum(), source)[0].detach().flatten(1).double()


def _attempt(tap: Tap, x: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The gradient of a pass with all parameters and buffers in `dtype` and no autocast; None where that fails."""
    module = tap.module
    size = sum(parameter.numel() for parameter in module.parameters())
    if size > MAX_PARAMETERS or isinstance(module, torch.jit.ScriptModule):
        return None
    try:
        with in_precision(module, dtype):
            return _gradient(tap, x.to(dtype))
    except Exception:  # a type that is written down in the forward pass, a kernel that float64 does not have, memory
        return None


@contextmanager
def in_precision(module: nn.Module, dtype: torch.dtype) -> Iterator[nn.Module]:
    """The module with its floating parameters and buffers in `dtype`, and with autocast switched off inside.

    The module's own tensors are exchanged for the time being and come back untouched.
    """
    exchanged: list[tuple[dict[str, Any], str, Tensor]] = []
    copies: dict[int, Tensor] = {}
    try:
        for part in module.modules():
            tables: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
            for table in tables:
                for name, tensor in table.items():
                    if tensor is None or not tensor.is_floating_point() or tensor.dtype == dtype:
                        continue
                    if id(tensor) not in copies:
                        copy = tensor.detach().to(dtype)
                        copies[id(tensor)] = nn.Parameter(copy, False) if isinstance(tensor, nn.Parameter) else copy
                    exchanged.append((table, name, tensor))
                    table[name] = copies[id(tensor)]
        with _no_autocast():
            yield module
    finally:
        for table, name, tensor in exchanged:
            table[name] = tensor


@contextmanager
def _no_autocast() -> Iterator[None]:
    """Autocast contexts that the model opens itself do nothing."""
    before = torch.amp.autocast.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs["enabled"] = False
        # the third positional argument is `enabled`
        before(self, *args[:2], **kwargs)

    torch.amp.autocast.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.amp.autocast.__init__ = before  # type: ignore[method-assign]


class _Watch(TorchDispatchMode):
    """Notes half-precision results of floating operations."""

    def __init__(self) -> None:
        super().__init__()
        self.half: set[torch.dtype] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor) and value.dtype in HALF:
                self.half.add(value.dtype)
        return result


def _cosine(a: Tensor, b: Tensor) -> float:
    """Smallest cosine of two rows; 0 for a row of zeros or of no numbers."""
    lengths = a.norm(dim=1) * b.norm(dim=1)
    products = (a * b.to(a)).sum(dim=1)
    cosines = torch.where(lengths > 0, products / lengths.clamp_min(1e-300), torch.zeros_like(lengths))
    return float(torch.nan_to_num(cosines, nan=0.0).min())
