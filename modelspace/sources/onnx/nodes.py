"""What all ONNX operators share: the node that they are called with, their table, and limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from modelspace.deprecated import renamed

#: Largest tensor, in elements, that an operator may allocate: a few bytes in a file could request any size.
MAX_ELEMENTS = 1 << 28

#: The names of the standard operators' domain.
DOMAINS = ("", "ai.onnx")

#: Tensor types by their number in ONNX.
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
    """Says which feature of an operator is not supported."""


@dataclass(frozen=True)
class Node:
    """One node of a graph: the operator's name and version (opset), its attributes, and the number of outputs used."""

    kind: str
    opset: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    n_outputs: int = 1

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default."""
        return self.attributes.get(name, default)


Function = Callable[..., Any]
Operator = TypeVar("Operator", bound=Function)
OPERATORS: dict[str, Function] = {}


def operator(*names: str) -> Callable[[Operator], Operator]:
    """A decorator that enters a function in the table under these names."""

    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register


def ints(value: Tensor | Sequence[int]) -> list[int]:
    """Convert an attribute or a tensor to a list of integers."""
    return [int(number) for number in (value.reshape(-1).tolist() if isinstance(value, Tensor) else value)]


def input_or_attribute(node: Node, name: str, value: Tensor | None) -> list[int] | None:
    """A list of integers that is an attribute in older opsets and an input in newer ones."""
    if value is not None:
        return ints(value)
    attribute = node.get(name)
    return None if attribute is None else ints(attribute)


def bounded(shape: Sequence[int]) -> list[int]:
    """Check that a shape is small enough to allocate."""
    if any(side < 0 for side in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise Unsupported(f"a tensor of shape {list(shape)}")
    return list(shape)


def text(value: Any) -> str:
    """An attribute as a string."""
    return value.decode() if isinstance(value, bytes) else str(value)


__getattr__ = renamed(__name__, {"given": "input_or_attribute"})
