"""Running out of memory: which exceptions mean it, and a batch that does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")

#: What torch says when memory runs out and it raises a plain RuntimeError, as it does on the CPU.
_SIGNS = ("out of memory", "DefaultCPUAllocator", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device.

    >>> is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    True
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def in_parts(
    run: Callable[[Tensor, int], Part], x: Tensor, size: int, *, in_powers: bool = False
) -> tuple[list[Part], int]:
    """Run a batch in parts of at most `size` images; whenever memory runs out, halve the part and go on.

    Args:
        run: (part of the batch, index of its first image in the batch) -> result.
        x: (B, ...).
        size: at least 1.
        in_powers: whether the number of images of each part is to be a power of two. Libraries choose among their
            algorithms by it, and for other numbers they take some whose sums differ in the last bits.

    Returns:
        The results in order, and the size that fits.

    Raises:
        torch.OutOfMemoryError, MemoryError, RuntimeError: memory runs out for a single image.
    """
    results: list[Part] = []
    done = 0
    while done < len(x):
        part = x[done : done + size]
        if in_powers:
            part = part[: 1 << (len(part).bit_length() - 1)]
        try:
            results.append(run(part, done))
            done += len(part)
        except Exception as error:
            if len(part) == 1 or not is_out_of_memory(error):
                raise
            size = (len(part) + 1) // 2
        # Outside the except block, where the exception and all tensors of its frames are gone.
        if x.is_cuda and size < len(part):
            torch.cuda.empty_cache()
    return results, size
