"""What the operators of ONNX have in common: the node that they get, the table that they are entered in, limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

#: Largest tensor, in elements, that an operator may make out of nothing: a few bytes in a file could ask for any size.
MAX_ELEMENTS = 1 << 28

#: ONNX's numbers of the types of tensors.
DTYPES: dict[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


class Unsupported(Exception):
    """Says what of an operator can't be done."""


@dataclass(frozen=True)
class Node:
    """One node of a graph: the operator's name and version (opset), attributes, and how many outputs are wanted."""

    kind: str
    opset: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    n_outputs: int = 1

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)


Function = Callable[..., Any]
OPERATORS: dict[str, Function] = {}


def operator(*names: str) -> Callable[[Function], Function]:
    def keep(function: Function) -> Function:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return keep


def ints(value: Tensor | Sequence[int]) -> list[int]:
    """Numbers that an operator takes as an attribute or as a tensor."""
    return [int(number) for number in (value.reshape(-1).tolist() if isinstance(value, Tensor) else value)]


def given(node: Node, name: str, value: Tensor | None) -> list[int] | None:
    """A list that older versions take as an attribute and newer ones as an input."""
    if value is not None:
        return ints(value)
    found = node.get(name)
    return None if found is None else ints(found)


def bounded(shape: Sequence[int]) -> list[int]:
    """A shape that may be set aside memory for."""
    if any(side < 0 for side in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise Unsupported(f"a tensor of shape {list(shape)}")
    return list(shape)


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
