"""Constant folding: the parts of an ONNX graph that don't depend on the image are computed once, on reading the file.

Weights that are stored as integers, then cast and scaled, become the float parameters that they represent: they are
fingerprinted, counted, and recognised as weights. An `If` whose condition is constant becomes the branch that is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence

import onnx
import torch
from torch import Tensor, nn

from modelspace.sources.onnx.nodes import DOMAINS
from modelspace.sources.onnx.operators import OPERATORS, Node, Unsupported

#: Operators that draw new random numbers in each pass; they are not supported, and never folded.
_NEVER = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")

#: Converts a node to the form that `OPERATORS` accept: (node, number of outputs) -> `Node`.
Reader = Callable[[onnx.NodeProto], Node]


def folded(
    nodes: Sequence[onnx.NodeProto],
    constants: MutableMapping[str, Tensor],
    read: Reader,
    read_constant: Callable[[onnx.NodeProto], Tensor],
    read_tensor: Callable[[onnx.TensorProto], Tensor],
) -> list[onnx.NodeProto]:
    """The nodes that depend on the image, in their order; results of the others are added to the constants.

    Args:
        nodes: in an order in which they can be run.
        constants: name -> value; changed in place.
        read: a node's attributes as `OPERATORS` take them.
        read_constant: the value of a `Constant` node.
        read_tensor: a stored tensor as a constant.
    """
    kept: list[onnx.NodeProto] = []
    taken = {*constants, *(name for node in nodes for name in (*node.input, *node.output))}
    stack = list(reversed(nodes))
    while stack:
        node = stack.pop()
        if node.op_type == "Constant":
            constants[node.output[0]] = read_constant(node)
        elif node.op_type == "If" and node.input[0] in constants:
            branch = _branch(node, bool(constants[node.input[0]].reshape(-1)[0]))
            branch = _with_own_names(branch, node.output[0], taken)
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


def _branch(node: onnx.NodeProto, condition: bool) -> onnx.GraphProto:
    name = "then_branch" if condition else "else_branch"
    branch: onnx.GraphProto = next(entry.g for entry in node.attribute if entry.name == name)
    return branch


def _with_own_names(branch: onnx.GraphProto, prefix: str, taken: set[str]) -> onnx.GraphProto:
    """A copy of a branch whose names are not in use, as two branches may share names; marks its names as used."""
    own = [tensor.name for tensor in branch.initializer] + [
        name for node in branch.node for name in node.output if name
    ]
    fresh = {
        name: next(free for free in _numbered(f"{prefix}/{name}") if free not in taken) for name in own if name in taken
    }
    taken |= {fresh.get(name, name) for name in own}
    copy = onnx.GraphProto()
    copy.CopyFrom(branch)
    _rename(copy, fresh)
    return copy


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(2))


def _rename(graph: onnx.GraphProto, fresh: Mapping[str, str]) -> None:
    """Rename tensors in place, including their uses in subgraphs."""
    for entry in (*graph.initializer, *graph.output):
        entry.name = fresh.get(entry.name, entry.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [fresh.get(name, name) for name in names]
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename(inner, fresh)


def _inlined(node: onnx.NodeProto, branch: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of the branch, whose outputs get the names of the node's outputs."""
    renamed = [
        onnx.helper.make_node("Identity", [inner.name], [outer], name=f"{node.name or 'If'}_{outer}")
        for inner, outer in zip(branch.output, node.output, strict=True)
    ]
    return [*branch.node, *renamed]


def _is_constant(node: onnx.NodeProto, constants: Mapping[str, Tensor]) -> bool:
    is_known = node.domain in DOMAINS and node.op_type in OPERATORS and node.op_type not in _NEVER
    return is_known and all(name in constants for name in node.input if name)


def _computed(node: onnx.NodeProto, constants: Mapping[str, Tensor], read: Reader) -> dict[str, Tensor] | None:
    """The outputs of a node with constant inputs; None if it fails, which is reported when the model is run."""
    inputs = [constants[name].detach() if name else None for name in node.input]
    try:
        with torch.no_grad():
            values = OPERATORS[node.op_type](read(node), *inputs)
    except (Unsupported, RuntimeError, ValueError, IndexError, TypeError):
        return None
    values = values if isinstance(values, tuple | list) else (values,)
    return {name: as_constant(value) for name, value in zip(node.output, values, strict=False) if name}


def as_constant(value: Tensor) -> Tensor:
    """A constant; a floating-point one with axes becomes a parameter, to be fingerprinted and moved with the model."""
    if value.is_floating_point() and value.dim() > 0 and value.numel() > 0:
        return nn.Parameter(value.detach().clone().contiguous(), requires_grad=False)
    return value
