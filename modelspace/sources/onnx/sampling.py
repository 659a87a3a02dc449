"""ONNX GridSample: https://onnx.ai/onnx/operators/onnx__GridSample.html."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from modelspace.sources.onnx.nodes import Node, Unsupported, operator, text

_MODES = {
    "bilinear": "bilinear",
    "linear": "bilinear",
    "nearest": "nearest",
    "bicubic": "bicubic",
    "cubic": "bicubic",
}


@operator("GridSample")
def grid_sample(node: Node, x: Tensor, grid: Tensor) -> Tensor:
    mode, padding = text(node.get("mode", "linear")), text(node.get("padding_mode", "zeros"))
    is_cubic = _MODES.get(mode) == "bicubic"
    if (
        mode not in _MODES
        or padding not in ("zeros", "border", "reflection")
        or x.dim() not in ((4,) if is_cubic else (4, 5))
    ):
        raise Unsupported(f"mode {mode}, {padding}, {x.dim() - 2} spatial axes")
    return F.grid_sample(x, grid, _MODES[mode], padding, bool(node.get("align_corners", 0)))
