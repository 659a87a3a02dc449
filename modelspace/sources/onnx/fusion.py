"""GELU, which opsets before 20 have no operator for: its nodes are fused into one.

ε-LRP treats a product of two activations differently from a GELU, and the exported model had a GELU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import numpy_helper


def fuse_gelu(nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes with each x · (1 + erf(x / √2)) / 2 replaced by one Gelu."""
    wiring = _Wiring(nodes, graph)
    removed: set[int] = set()
    fused: dict[int, onnx.NodeProto] = {}
    for erf in nodes:
        inner = wiring.producers.get(erf.input[0]) if erf.op_type == "Erf" else None
        if inner is None or inner.op_type not in ("Div", "Mul"):
            continue
        source = wiring.operand(inner, math.sqrt(2.0) if inner.op_type == "Div" else math.sqrt(0.5))
        plus = wiring.only_user(erf.output[0], "Add")
        if source is None or plus is None or wiring.operand(plus, 1.0) is None:
            continue
        products = _products(source, plus, wiring)
        if products is None or wiring.only_user(inner.output[0], "Erf") is None:
            continue
        last = products[-1]
        removed |= {id(node) for node in (inner, erf, plus, *products)}
        fused[id(last)] = onnx.helper.make_node("Gelu", [source], [last.output[0]], name=last.name or erf.name)
    return [fused.get(id(node), node) for node in nodes if id(node) not in removed or id(node) in fused]


class _Wiring:
    """Which nodes produce and use the tensors of a graph.

    Attributes:
        producers: by the name of the tensor.
    """

    def __init__(self, nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto) -> None:
        self.producers = {name: node for node in nodes for name in node.output}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._constants |= {
            node.output[0]: node.attribute[0].t for node in nodes if node.op_type == "Constant" and node.attribute
        }
        self._outputs = {entry.name for entry in graph.output}

    def operand(self, node: onnx.NodeProto, number: float) -> str | None:
        """The other input of a node with two inputs, one of which is this number; None for any other node."""
        if len(node.input) == 2:
            for position, other in ((0, 1), (1, 0)):
                divides_number = node.op_type == "Div" and position == 0
                if self._is_number(node.input[position], number) and not divides_number:
                    return str(node.input[other])
        return None

    def only_user(self, name: str, kind: str) -> onnx.NodeProto | None:
        """The node that uses a tensor, if it is the only one and of this kind."""
        users = self._users.get(name, [])
        return users[0] if len(users) == 1 and users[0].op_type == kind and name not in self._outputs else None

    def _is_number(self, name: str, number: float) -> bool:
        tensor = self._constants.get(name)
        if tensor is None or math.prod(tensor.dims) != 1 or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return False
        array = numpy_helper.to_array(tensor)
        return array.dtype.kind in "fiu" and math.isclose(float(array.reshape(-1)[0]), number, rel_tol=1e-4)


def _products(source: str, plus: onnx.NodeProto, wiring: _Wiring) -> list[onnx.NodeProto] | None:
    """The two products of x, (1 + erf) and a half in any order, the last one last; None if they aren't there."""
    product = wiring.only_user(plus.output[0], "Mul")
    if product is None:
        return None
    factor = next((name for name in product.input if name != plus.output[0]), plus.output[0])
    half = wiring.producers.get(factor)
    if factor == source:  # (x · (1 + erf)) · ½
        last = wiring.only_user(product.output[0], "Mul")
        return [product, last] if last is not None and wiring.operand(last, 0.5) is not None else None
    if wiring.operand(product, 0.5) is not None:  # ((1 + erf) · ½) · x
        last = wiring.only_user(product.output[0], "Mul")
        return [product, last] if last is not None and source in last.input else None
    if half is not None and half.op_type == "Mul" and wiring.operand(half, 0.5) == source:  # (x · ½) · (1 + erf)
        return [half, product] if wiring.only_user(half.output[0], "Mul") is not None else None
    return None
