"""How many classes weights were trained for: read off the file, so that the network can be built to fit."""

from __future__ import annotations

import torch
from torch import nn

from modelspace.sources.weights import read_state


def classes_in(weights: str, module: nn.Module) -> int | None:
    """The number of classes that the weights in a file have, where the module has another number; else None.

    That is so where names agree and the only shapes that don't are those of the head: a matrix or kernel with another
    number of rows, and its bias.

    Raises:
        ModelspaceError: the file can't be read.
    """
    (state, _), own = read_state(weights, module), module.state_dict()
    rows: set[int] = set()
    for name, value in state.items():
        target = own.get(name)
        if not isinstance(value, torch.Tensor) or not isinstance(target, torch.Tensor) or value.shape == target.shape:
            continue
        if value.dim() != target.dim() or value.dim() == 0 or value.shape[1:] != target.shape[1:]:
            return None
        rows.add(value.shape[0])
    return rows.pop() if len(rows) == 1 else None
