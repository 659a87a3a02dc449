"""How precisely a model computes: its maps compared with those of a pass in float64, and internal half precision.

Two things turn a map into noise without an error: the explained sum is constant, as after a softmax, so that its
gradient is rounding error alone; or the model computes in half precision internally. Both show as a low cosine with the
map of the same model in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from modelspace.attribution.engine import encoder_output, gradient_of, ready
from modelspace.attribution.tensors import has_values
from modelspace.encoder.layers import Tap

#: Models with more parameters are not copied to float64, which takes 8 bytes for each parameter.
MAX_PARAMETERS = 400_000_000

HALF = (torch.float16, torch.bfloat16)

#: Types of several numbers in one element, which torch does not convert.
_PACKED = tuple(filter(None, [getattr(torch, "float4_e2m1fn_x2", None)]))


@dataclass(frozen=True)
class Precision:
    """Cosines of the gradients of a pass over two images with those of a pass in float64; the lower of the two images.

    Attributes:
        of_sum: for the gradient of ΣT; None if the model can't run in float64.
        of_elements: for the gradient of a sum of T's elements with random signs, which is not constant even if ΣT is;
            None likewise.
        half: the half-precision dtype that the model computes in internally, or None.
        of_full: if `half` is not None, `of_elements` of a pass in float32 without half precision; None if the model
            can't run in that way.
    """

    of_sum: float | None
    of_elements: float | None
    half: torch.dtype | None = None
    of_full: float | None = None


@dataclass(frozen=True)
class Gradients:
    """Gradients of ΣT and of the sum with random signs, (B, elements) float64 each, on the CPU."""

    of_sum: Tensor
    of_elements: Tensor


def half_inside(tap: Tap, x: Tensor) -> torch.dtype | None:
    """The half-precision dtype that the model computes T in although its input is float32; None if there is none."""
    with Watch() as watch, ready(tap, x) as source:
        encoder_output(tap, source, graphical=False)
    first: torch.dtype | None = watch.first
    return first


def measure(tap: Tap, x: Tensor, half: torch.dtype | None, plain: Gradients | None = None) -> Precision:
    """Compare gradients with those of a float64 pass.

    Args:
        tap: the tapped model, frozen.
        x: (B, C, H, W) float32, preprocessed.
        half: as `half_inside` says.
        plain: the model's own gradients, where they are known.
    """
    plain = plain or _gradients(tap, x)
    exact = _attempt(tap, x, torch.float64, half)
    if exact is None:
        return Precision(None, None, half)
    of_sum, of_elements = (
        smallest_cosine(plain.of_sum, exact.of_sum),
        smallest_cosine(plain.of_elements, exact.of_elements),
    )
    if half is None:
        return Precision(of_sum, of_elements)
    full = _attempt(tap, x, torch.float32, half)
    return Precision(
        of_sum, of_elements, half, None if full is None else smallest_cosine(full.of_elements, exact.of_elements)
    )


def _gradients(tap: Tap, x: Tensor) -> Gradients:
    with ready(tap, x) as source:
        output = encoder_output(tap, source, graphical=True)
        drawn = torch.randint(0, 2, output.shape[1:], generator=torch.Generator().manual_seed(0))
        signs = (drawn * 2 - 1).to(output)[None].expand_as(output)
        of_sum = gradient_of(output, source, torch.ones_like(output), keep=True)
        of_elements = gradient_of(output, source, signs)
    return Gradients(of_sum.detach().flatten(1).cpu().double(), of_elements.detach().flatten(1).cpu().double())


def _attempt(tap: Tap, x: Tensor, dtype: torch.dtype, half: torch.dtype | None) -> Gradients | None:
    """The gradients of a pass with all parameters and buffers in `dtype` and no autocast.

    None if the pass fails, or if the model computes in half precision nevertheless.
    """
    module = tap.module
    size = sum(parameter.numel() for parameter in module.parameters())
    if size > MAX_PARAMETERS or isinstance(module, torch.jit.ScriptModule):
        return None
    try:
        with in_precision(module, dtype):
            # A model that doesn't compute in half precision in its own dtype doesn't in a wider one.
            if half is not None and half_inside(tap, x.to(dtype)) is not None:
                return None
            return _gradients(tap, x.to(dtype))
    except Exception:  # a dtype fixed in the forward pass, an operation without a float64 kernel, too little memory
        return None


@contextmanager
def in_precision(module: nn.Module, dtype: torch.dtype) -> Iterator[nn.Module]:
    """The module with its floating-point parameters and buffers in `dtype`, and with autocast disabled inside it.

    The module's own tensors are replaced temporarily and restored unchanged. In submodules with an attribute
    `modelspace_precision` this attribute is set to `dtype`; they convert their results themselves.
    """
    exchanged: list[tuple[dict[str, Any], str, Tensor]] = []
    converting = [part for part in module.modules() if hasattr(part, "modelspace_precision")]
    copies: dict[int, Tensor] = {}
    try:
        for part in module.modules():
            tables: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
            for table in tables:
                for name, tensor in table.items():
                    if tensor is None or not _is_convertible(tensor) or tensor.dtype == dtype:
                        continue
                    if id(tensor) not in copies:
                        copy = tensor.detach().to(dtype)
                        copies[id(tensor)] = nn.Parameter(copy, False) if isinstance(tensor, nn.Parameter) else copy
                    exchanged.append((table, name, tensor))
                    table[name] = copies[id(tensor)]
        for part in converting:
            part.modelspace_precision = dtype  # type: ignore[assignment]
        with _no_autocast():
            yield module
    finally:
        for part in converting:
            part.modelspace_precision = None  # type: ignore[assignment]
        for table, name, tensor in exchanged:
            table[name] = tensor


def _is_convertible(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and has_values(tensor) and tensor.dtype not in _PACKED


@contextmanager
def _no_autocast() -> Iterator[None]:
    """Disable the autocast contexts that the model opens itself."""
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


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__ has no types
    """Records the half-precision dtypes of results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's has no types
        self.half: set[torch.dtype] = set()

    @property
    def first(self) -> torch.dtype | None:
        """One of the types that were seen, or None."""
        return min(self.half, key=str) if self.half else None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Visible to torch's compiler: to hide it, torch would import the compiler, which takes seconds."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor) and value.dtype in HALF:
                self.half.add(value.dtype)
        return result


def smallest_cosine(a: Tensor, b: Tensor) -> float:
    """Smallest cosine of corresponding rows; 0 for a row of zeros or NaNs."""
    lengths = a.norm(dim=1) * b.norm(dim=1)
    products = (a * b.to(a)).sum(dim=1)
    cosines = torch.where(lengths > 0, products / lengths.clamp_min(1e-300), torch.zeros_like(lengths))
    return float(torch.nan_to_num(cosines, nan=0.0).min())
