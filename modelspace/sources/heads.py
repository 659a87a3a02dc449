"""The number of classes that weights were trained for, so that a matching network can be built."""

from __future__ import annotations

import torch
from torch import nn

from modelspace.sources.weights import read_state


def classes_in(weights: str, module: nn.Module) -> int | None:
    """The number of classes of the weights in a file, if it differs from the module's; else None.

    It differs if the only shapes that don't match are those of the head: a weight matrix or kernel with another number
    of rows, and its bias.

    Raises:
        ModelspaceError: the file can't be read.
    """
    (state, _), targets = read_state(weights, module), module.state_dict()
    rows: set[int] = set()
    for name, value in state.items():
        target = targets.get(name)
        if not isinstance(value, torch.Tensor) or not isinstance(target, torch.Tensor) or value.shape == target.shape:
            continue
        if value.dim() != target.dim() or value.dim() == 0 or value.shape[1:] != target.shape[1:]:
            return None
        rows.add(value.shape[0])
    return rows.pop() if len(rows) == 1 else None
