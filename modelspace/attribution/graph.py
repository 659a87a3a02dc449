"""The autograd graph from a tensor back to the input it was computed from: nodes, their kinds, and dependences.

A *kind* is a node's name without the namespace, the word "Backward" and the version digit: "ReluBackward0" is "Relu",
"torch::autograd::CopySlices" is "CopySlices".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

#: An autograd node. torch gives its C++ nodes no common Python base class.
Node = Any

CUSTOM = "custom function"


def kind(node: Node) -> str:
    """The operation that `node` is the backward of, for example "Relu"; `CUSTOM` for a Python `autograd.Function`.

    A Python function may also be called Relu, so its name says nothing about what it computes.
    """
    if isinstance(node, BackwardCFunction):
        return CUSTOM
    return _kind_of(str(node.name()))


@cache
def _kind_of(name: str) -> str:
    """The kind of a node of this name."""
    name = name.rpartition("::")[2].rstrip("0123456789")
    for ending in ("Backwards", "Backward"):
        if name.endswith(ending):
            return name[: -len(ending)]
    return name


def kinds_below(root: Node) -> dict[Node, str]:
    """All nodes from `root` to the leaves, with their kinds."""
    kinds: dict[Node, str] = {}
    stack = [root]
    while stack:
        node = stack.pop()
        if node not in kinds:
            kinds[node] = kind(node)
            stack += [function for function, _ in node.next_functions if function is not None]
    return kinds


class Graph:
    """All nodes from `root` to the leaves.

    Holding a `Graph` keeps the Python wrappers of its nodes alive, which hooks on nodes need (pytorch #102174).

    Attributes:
        root: grad_fn of the explained tensor.
        inputs: node -> the node behind each of its inputs, None for an input without a gradient.
        numbers: node -> for each of its inputs, the number of that output of the node behind it.
        kinds: node -> its kind.
    """

    def __init__(self, root: Node, source: Tensor, others: Sequence[Node] = ()) -> None:
        """Walk the graph.

        Args:
            root: grad_fn of the explained tensor.
            source: the leaf tensor that attributions are computed for.
            others: more nodes to start from.
        """
        self.root = root
        self.inputs: dict[Node, tuple[Node | None, ...]] = {}
        self.numbers: dict[Node, tuple[int, ...]] = {}
        self.kinds: dict[Node, str] = {}
        self._source = torch.autograd.graph.get_gradient_edge(source).node
        stack = [node for node in (root, *others) if node is not None]
        while stack:
            node = stack.pop()
            if node in self.inputs:
                continue
            edges = node.next_functions
            below = tuple(function for function, _ in edges)
            self.inputs[node] = below
            self.numbers[node] = tuple(number for _, number in edges)
            self.kinds[node] = kind(node)
            stack += [function for function in below if function is not None]

    @cached_property
    def _live(self) -> set[Node]:
        """The nodes that depend on the source; plain gradients need no such list."""
        users: dict[Node, list[Node]] = {}
        for node, below in self.inputs.items():
            for function in below:
                if function is not None:
                    users.setdefault(function, []).append(node)
        seen: set[Node] = set()
        stack = [self._source]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack += users.get(node, ())
        return seen

    def depends(self, node: Node | None) -> bool:
        """Whether the tensor behind `node` depends on the source; parameters and constants do not."""
        return node in self._live

    def live(self, node: Node, indices: Sequence[int]) -> list[int]:
        """The input positions among `indices` whose tensors depend on the source."""
        below = self.inputs[node]
        return [i for i in indices if i < len(below) and below[i] in self._live]

    def all_live(self, node: Node) -> list[int]:
        """All input positions of `node` whose tensors depend on the source."""
        return [i for i, function in enumerate(self.inputs[node]) if function in self._live]


def align_batch_norm(kinds: Mapping[Node, str]) -> list[Any]:
    """Work around a wrong gradient of torch; returns hook handles that the caller removes.

    The CPU backward of batch norm is silently wrong at batch size 1 if the incoming gradient has another memory layout
    than the input, as after ``flatten(2).transpose(1, 2)`` (seen in torch 2.13, for 2-d batch norm and for instance
    norm, which runs as a batch of 1). With a copy in the input's layout it is right.
    """
    handles = []
    for node, name in kinds.items():
        if name == "NativeBatchNorm" and node._saved_input.shape[0] == 1:
            handles.append(node.register_prehook(_in_layout_of(node._saved_input)))
    return handles


def _in_layout_of(reference: Tensor) -> Any:
    # Only shape and strides are stored, so that the hook does not keep the graph's tensors alive.
    shape, strides = reference.shape, reference.stride()

    def hook(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...] | None:
        first = gradients[0]
        if first is None or first.stride() == strides or first.shape != shape:
            return None
        aligned = torch.empty_strided(shape, strides, dtype=first.dtype, device=first.device).copy_(first)
        return (aligned, *gradients[1:])

    return hook
