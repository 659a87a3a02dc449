"""What of an ONNX graph does not depend on the image is computed once, when the file is read.

Weights that are stored as integers, cast and scaled, become the float parameters that they stand for: they are fingerprinted, counted,
and found as weights. An `If` whose condition is constant becomes the branch that is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence

import onnx
import torch
from torch import Tensor, nn

from modelspace.sources.onnx.operators import OPERATORS, Node, Unsupported

#: Random numbers are drawn anew in each pass; they are not supported at all, and never folded.
_NEVER = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")

#: Makes of a node what `OPERATORS` take: (node, number of outputs) -> `Node`.
Reader = Callable[[onnx.NodeProto], Node]


def folded(
    nodes: Sequence[onnx.NodeProto],
    constants: MutableMapping[str, Tensor],
    read: Reader,
    read_constant: Callable[[onnx.NodeProto], Tensor],
    read_tensor: Callable[[onnx.TensorProto], Tensor],
) -> list[onnx.NodeProto]:
    """The nodes that depend on the image, in their order; results of the others are put among the constants.

    Args:
        nodes: in an order in which they can be run.
        constants: name -> value; changed in place.
        read: a node's attributes as `OPERATORS` take them.
        read_constant: the value of a `Constant` node.
        read_tensor: a stored tensor as a constant.
    """
    kept: list[onnx.NodeProto] = []
    stack = list(reversed(nodes))
    while stack:
        node = stack.pop()
        if node.op_type == "Constant":
            constants[node.output[0]] = read_constant(node)
        elif node.op_type == "If" and node.input[0] in constants:
            branch = _branch(node, bool(constants[node.input[0]].reshape(-1)[0]))
            constants.update((tensor.name, read_tensor(tensor)) for tensor in branch.initializer)
            stack += reversed(_inlined(node, branch))
        elif _is_constant(node, constants):
            results = _computed(node, constants, read)
            if results is None:
                kept.append(node)
            else:
                constants.update(results)
        else:
            kept.append(node)
    return kept


def all_nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of the branches of `If` nodes."""
    for node in nodes:
        yield node
        if node.op_type == "If":
            for entry in node.attribute:
                yield from all_nodes(entry.g.node)


def _branch(node: onnx.NodeProto, condition: bool) -> onnx.GraphProto:
    wanted = "then_branch" if condition else "else_branch"
    return next(entry.g for entry in node.attribute if entry.name == wanted)


def _inlined(node: onnx.NodeProto, branch: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The branch's nodes, and its outputs under the names of the node's."""
    renamed = [
        onnx.helper.make_node("Identity", [inner.name], [outer], name=f"{node.name or 'If'}_{outer}")
        for inner, outer in zip(branch.output, node.output, strict=True)
    ]
    return [*branch.node, *renamed]


def _is_constant(node: onnx.NodeProto, constants: Mapping[str, Tensor]) -> bool:
    named = [name for name in node.input if name]
    return node.op_type in OPERATORS and node.op_type not in _NEVER and all(name in constants for name in named)


def _computed(node: onnx.NodeProto, constants: Mapping[str, Tensor], read: Reader) -> dict[str, Tensor] | None:
    """The outputs of a node of constants; None where it can't be computed, which shows when it is run."""
    inputs = [constants[name].detach() if name else None for name in node.input]
    try:
        with torch.no_grad():
            values = OPERATORS[node.op_type](read(node), *inputs)
    except (Unsupported, RuntimeError, ValueError, IndexError, TypeError):
        return None
    values = values if isinstance(values, tuple | list) else (values,)
    return {name: as_constant(value) for name, value in zip(node.output, values, strict=False) if name}


def as_constant(value: Tensor) -> Tensor:
    """A constant; as a parameter if it has axes and real numbers, so that it is fingerprinted and moves with the model."""
    if value.is_floating_point() and value.dim() > 0 and value.numel() > 0:
        return nn.Parameter(value.detach().clone().contiguous(), requires_grad=False)
    return value
