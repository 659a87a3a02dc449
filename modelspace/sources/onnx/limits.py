"""Memory that a file may use while it is loaded: a few bytes of ONNX can ask for a tensor larger than any machine.

The size of each result is computed on torch's meta device, where tensors have shapes and no values, before memory is
allocated for it. Limits are far above what networks of images need for one image.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from modelspace.errors import ModelspaceError

_GB = 1 << 30

#: Largest single result of a forward pass of one image, and all results that are in memory at once, in bytes.
LARGEST_RESULT, LARGEST_TOTAL = 1 * _GB, 3 * _GB

#: Largest result that is computed from constants, in bytes: this, or a multiple of what the file holds.
LARGEST_CONSTANT, TIMES_THE_FILE = _GB // 4, 8


_HINT = "is the file damaged? If not, build the network in Python and pass the module"


class Limited(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within this context, no operator of torch allocates more than the limits.

    Args:
        largest: bytes of a single result.
        total: bytes of all results that are in memory at once.

    Raises:
        ModelspaceError: by the operator, instead of allocating more.
    """

    def __init__(self, largest: int, total: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._largest = largest
        self._total = total
        self._used = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator if its results are small enough."""
        for shape, size in _claims(func, args, kwargs or {}):
            check_size(shape, size, self._largest)
            if self._used + size > self._total:
                raise ModelspaceError(
                    f"the ONNX graph needs more than {self._total / _GB:.3g} GB of memory at once", _HINT
                )
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            size = tensor.untyped_storage().nbytes()
            self._used += size
            weakref.finalize(tensor, self._release, size)
        return result

    def _release(self, size: int) -> None:
        self._used -= size


def constant_limit(n_bytes: int) -> int:
    """Largest result computed from constants, in bytes, for a file of `n_bytes`."""
    return max(LARGEST_CONSTANT, TIMES_THE_FILE * n_bytes)


def check_size(shape: Sequence[int], size: int, limit: int) -> None:
    """Refuse a tensor that needs more than a limit.

    Raises:
        ModelspaceError: names its shape.
    """
    if size > limit:
        raise ModelspaceError(
            f"the ONNX graph needs a tensor of shape {list(shape)}, {size / _GB:.3g} GB, "
            f"more than the limit of {limit / _GB:.3g} GB",
            _HINT,
        )


def _claims(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[tuple[int, ...], int]]:
    """Shape and bytes of each result for which an operator allocates memory; none where they depend on values."""
    if func.is_view or func is torch.ops.aten.detach.default:
        return
    meta = {key: _on_meta(value) for key, value in kwargs.items()}
    if any(argument.name == "device" for argument in func._schema.arguments):  # noqa: SLF001
        meta["device"] = torch.device("meta")
    try:
        result = func(*_on_meta(args), **meta)
    except Exception:  # it has no such form, or it fails, which it then does with values as well
        return
    for tensor in _tensors(result):
        yield tuple(tensor.shape), math.prod(tensor.shape) * tensor.element_size()


def _on_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")
    if isinstance(value, list | tuple):
        return type(value)(map(_on_meta, value))
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
