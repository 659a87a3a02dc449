"""Models that were recorded for one shape of input: what they state by it, and what doesn't fit it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from modelspace.errors import UsageError
from modelspace.sources.fields import stating
from modelspace.types import Preprocessing

#: Sides of a recorded input in the model's own order of axes, None where it is open; empty: nothing is known.
Shape = Sequence[int | None]


def input_size(shape: Shape, layout: str) -> list[int] | None:
    """(height, width) that a model is bound to, or None.

    >>> input_size((1, 3, 224, 192), "nchw"), input_size((None, 224, 192, 3), "nhwc"), input_size((1, 3, None, None), "nchw")
    ([224, 192], [224, 192], None)
    """
    if len(shape) != 4:
        return None
    sides = shape[1:3] if layout == "nhwc" else shape[2:4]
    return None if None in sides else [int(side or 0) for side in sides]


def check_shape(shape: Shape, preprocessing: Preprocessing, uri: str) -> None:
    """Refuse preprocessing that gives another shape than the model takes.

    Raises:
        UsageError: names both, and the field to change.
    """
    if not shape:
        return
    shown = "x".join("any" if side is None else str(side) for side in shape)
    if len(shape) != 4:
        raise UsageError(
            f"{uri} takes inputs of {shown}, and images come in batches of four axes", "export a model of images"
        )
    given = _sides(preprocessing, None)
    for axis, (own, side) in enumerate(zip(shape, given, strict=True)):
        if own is None or side is None or own == side:
            continue
        size = input_size(shape, preprocessing.layout)
        if axis == (3 if preprocessing.layout == "nhwc" else 1):
            known = {1: stating(channels="gray"), 3: f"{stating(channels='rgb')}, or bgr", 4: stating(channels="rgba")}
            hint = f"add {known[own]}" if own in known else "is it the other `layout=`, nchw or nhwc?"
        else:
            hint = f"use {stating(input_size=size)}" if size else "use the `input_size=` that it was exported for"
        raise UsageError(
            f"{uri} takes inputs of {shown}, not of {'x'.join('any' if s is None else str(s) for s in given)}",
            f"{hint}; or export it again with open shapes",
        )


def example(shape: Shape, preprocessing: Preprocessing, batch: int = 1) -> Tensor:
    """An input of random values in 0..1, the same each time, with `batch` images where the model takes any number."""
    fixed = shape[0] if shape else None
    return torch.rand([int(side or 1) for side in _sides(preprocessing, fixed or batch)], generator=_generator())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _sides(preprocessing: Preprocessing, batch: int | None) -> list[int | None]:
    height, width = preprocessing.input_size
    if preprocessing.layout == "nhwc":
        return [batch, height, width, preprocessing.n_channels]
    return [batch, preprocessing.n_channels, height, width]
