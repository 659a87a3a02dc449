"""Models that were recorded for one input shape: the preprocessing that it implies, and checks against it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from modelspace.errors import UsageError
from modelspace.sources.fields import preprocessing_hint
from modelspace.types import Preprocessing

#: Sides of a recorded input in the model's own order of axes, None for a dynamic one; empty: unknown.
Shape = Sequence[int | None]


def input_size(shape: Shape, layout: str) -> list[int] | None:
    """(height, width) of a fixed input size, or None.

    >>> input_size((1, 3, 224, 192), "nchw"), input_size((None, 224, 192, 3), "nhwc")
    ([224, 192], [224, 192])
    >>> input_size((1, 3, None, None), "nchw")
    """
    if len(shape) != 4:
        return None
    sides = shape[1:3] if layout == "nhwc" else shape[2:4]
    return None if None in sides else [int(side or 0) for side in sides]


def check_shape(shape: Shape, preprocessing: Preprocessing, uri: str) -> None:
    """Refuse preprocessing whose output doesn't have the shape of the model's input.

    Raises:
        UsageError: names both shapes, and the field to change.
    """
    if not shape:
        return
    if len(shape) != 4:
        raise UsageError(
            f"{uri} takes inputs of {_text(shape)}, and a batch of images has four axes", "export a model of images"
        )
    sides = _sides(preprocessing, None)
    for axis, (expected, side) in enumerate(zip(shape, sides, strict=True)):
        if expected is None or side is None or expected == side:
            continue
        size = input_size(shape, preprocessing.layout)
        if axis == (3 if preprocessing.layout == "nhwc" else 1):
            hint = _channels_hint(expected)
        else:
            hint = (
                f"use {preprocessing_hint(input_size=size)}"
                if size
                else "use the `input_size=` that it was exported for"
            )
        raise UsageError(
            f"{uri} takes inputs of {_text(shape)}, not of {_text(sides)}",
            f"{hint}; or export it again with dynamic shapes",
        )


def _channels_hint(n_channels: int) -> str:
    orders = {
        1: preprocessing_hint(channels="gray"),
        3: f"{preprocessing_hint(channels='rgb')}, or bgr",
        4: preprocessing_hint(channels="rgba"),
    }
    return f"add {orders[n_channels]}" if n_channels in orders else "is it the other `layout=`, nchw or nhwc?"


def _text(shape: Shape) -> str:
    return "x".join("any" if side is None else str(side) for side in shape)


def example(shape: Shape, preprocessing: Preprocessing, batch: int = 1) -> Tensor:
    """An input of fixed random values in 0..1, with `batch` images if the model takes any number."""
    return torch.rand(sides(shape, preprocessing, batch), generator=_generator())


def sides(shape: Shape, preprocessing: Preprocessing, batch: int = 1) -> list[int]:
    """The shape of `example`."""
    fixed = shape[0] if shape else None
    return [int(side or 1) for side in _sides(preprocessing, fixed or batch)]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _sides(preprocessing: Preprocessing, batch: int | None) -> list[int | None]:
    height, width = preprocessing.input_size
    if preprocessing.layout == "nhwc":
        return [batch, height, width, preprocessing.n_channels]
    return [batch, preprocessing.n_channels, height, width]
