"""Further inputs of a model, the same for every probe image (`modelspace.types.ExtraInput`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.encoder.layers import unwrap
from modelspace.errors import EmbeddingError
from modelspace.types import ExtraInput


@contextmanager
def fed(module: nn.Module, inputs: Sequence[ExtraInput]) -> Iterator[nn.Module]:
    """The module, which receives the further inputs whenever it is called with images alone.

    They are added by a hook, not by a wrapper, so that the names of the layers don't change.
    """
    if not inputs:
        yield module
        return

    def add(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        images = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        if images is None:
            raise EmbeddingError("the model was called without images")
        return args, {**{entry.name: _filled(entry, images) for entry in inputs}, **kwargs}

    handle = unwrap(module).register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield module
    finally:
        handle.remove()


def _filled(entry: ExtraInput, images: Tensor) -> Any:
    """A further input for a batch of images."""
    if entry.shape is None:
        return entry.value
    dtype = (
        torch.bool if isinstance(entry.value, bool) else torch.int64 if isinstance(entry.value, int) else images.dtype
    )
    return torch.full((len(images), *entry.shape), entry.value, dtype=dtype, device=images.device)  # type: ignore[arg-type]
