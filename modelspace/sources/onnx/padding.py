"""ONNX Pad: https://onnx.ai/onnx/operators/onnx__Pad.html.

Any axis can be padded or, with a negative width, cropped. All modes but the constant one copy values, so they are a
choice of places along each axis.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.sources.onnx.nodes import Node, Unsupported, bounded, input_or_attribute, ints, operator, text

_MODES = ("constant", "reflect", "edge", "wrap")


@operator("Pad")
def pad(
    node: Node, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    widths = input_or_attribute(node, "pads", pads) or []
    n = len(widths) // 2
    padded_axes = [axis % x.dim() for axis in ints(axes)] if axes is not None else list(range(n))
    sides = {axis: (widths[i], widths[n + i]) for i, axis in enumerate(padded_axes)}
    bounded([max(size + sum(sides.get(axis, (0, 0))), 0) for axis, size in enumerate(x.shape)])
    mode = text(node.get("mode", "constant"))
    if mode not in _MODES:
        raise Unsupported(f"mode {mode}")
    if mode != "constant":
        for axis, (before, after) in sides.items():
            if before or after:
                x = x.index_select(axis, _places(mode, x.shape[axis], before, after).to(x.device))
        return x
    flat = [side for axis in reversed(range(x.dim())) for side in sides.get(axis, (0, 0))]
    while len(flat) >= 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    fill = float(value) if value is not None and value.numel() else float(node.get("value", 0.0))
    return F.pad(x, flat, value=fill) if flat else x


def _places(mode: str, size: int, before: int, after: int) -> Tensor:
    """Which place along an axis each place of the padded axis is copied from, (size + before + after,) int64.

    Negative widths crop the axis first, so that what is cut off is not copied.
    """
    first, size = max(-before, 0), size - max(-before, 0) - max(-after, 0)
    if size <= 0:
        raise Unsupported(f"mode {mode} of an empty axis")
    places = torch.arange(-max(before, 0), size + max(after, 0))
    if mode == "edge" or size == 1:
        return places.clamp(0, size - 1) + first
    if mode == "wrap":
        return places.remainder(size) + first
    turn = 2 * (size - 1)  # there and back
    places = places.remainder(turn)
    return torch.where(places < size, places, turn - places) + first
