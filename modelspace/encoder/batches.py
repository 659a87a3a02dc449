"""Models that take batches of one size only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from modelspace.errors import EmbeddingError


def batch_size(module: nn.Module) -> int | None:
    """The only batch size that a model accepts, from its attribute `modelspace_batch`; None: it accepts any."""
    return getattr(module, "modelspace_batch", None)


def in_batches(module: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run `run(x)`, in batches of the only size that the model accepts if it has one, and concatenate the results.

    The last batch is padded with copies of its last image, whose results are dropped.

    Args:
        module: the model.
        run: batch -> tensor whose first axis is the batch.
        x: (B, ...).
    """
    size = batch_size(module)
    if size is None or len(x) == size:
        return run(x)
    parts = []
    for part in torch.split(x, size):
        value = run(filled(part, size))
        if value.dim() == 0 or len(value) != size:
            raise EmbeddingError(
                f"the encoder output has shape {tuple(value.shape)} for {size} images: its first axis is not the batch",
                "choose a `layer=` whose first axis is the batch",
            )
        parts.append(value[: len(part)])
    return torch.cat(parts)


def filled(x: Tensor, size: int | None) -> Tensor:
    """The first `size` images of a batch; its last image is repeated if it has fewer."""
    if size is None or len(x) >= size:
        return x[:size]
    return torch.cat([x, x[-1:].expand(size - len(x), *x.shape[1:])])
