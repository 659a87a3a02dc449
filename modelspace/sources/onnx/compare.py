"""Whether a converted ONNX file computes what the file says: one forward pass against onnxruntime or onnx's reference.

A wrong conversion is silently another network. If the results differ, every node is run on the reference's inputs,
which identifies the first wrong node even if the difference becomes large only later.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from modelspace.sources.onnx.reference import evaluator, is_disputed

#: Accepted relative difference of an output from the reference's: float32 sums in another order.
TOLERANCE = 1e-4

#: Likewise for a single node that is run on the reference's inputs.
NODE_TOLERANCE = 1e-3

#: Elements of an output that are compared at a time.
_PIECE = 1 << 20

#: Operators that round: their results are not compared, since a rounded value that falls to the other side is no error.
ROUNDING = {
    *("ArgMax", "ArgMin", "TopK", "Round", "Floor", "Ceil", "Cast", "NonMaxSuppression"),
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"),
    *("ConvInteger", "MatMulInteger"),
}
QUANTISED = {name for name in ROUNDING if name.startswith(("Q", "Dynamic")) or name.endswith("Integer")}


@dataclass(frozen=True)
class Comparison:
    """How a converted file compares with the reference.

    Attributes:
        reference: "onnxruntime 1.22" or "onnx 1.21", for example; "" if neither can run the file.
        difference: largest relative difference of an output, by the length of the reference's.
        node: the first node that differs, for example "Conv conv1 (node 12)"; "" if none does.
        node_difference: relative difference of that node's output.
    """

    reference: str
    difference: float = 0.0
    node: str = ""
    node_difference: float = 0.0

    @property
    def is_equal(self) -> bool:
        """Whether the file is computed correctly: if no node differs, the difference is accumulated rounding."""
        return not self.node


def compare(model: onnx.ModelProto, net: Any, x: Tensor) -> Comparison:
    """Run the file and its conversion on one input.

    Args:
        model: the file, with its external data loaded.
        net: its conversion (`modelspace.sources.onnx.load.OnnxNet`), in eval mode.
        x: an input, in the file's own order of axes.
    """
    with torch.no_grad():
        value = net(x)
    own = value if isinstance(value, Mapping) else {net.output_names[0]: value}
    feed = {net.input_name: x.numpy()}
    name, outputs = _reference(model, feed)
    if outputs is None:
        return Comparison("")
    floats = {key: array for key, array in outputs.items() if array.dtype.kind == "f" and key in own}
    difference = max((relative(own[key], array) for key, array in floats.items()), default=0.0)
    if difference <= TOLERANCE:
        return Comparison(name, difference)
    for title, node_difference in _differing(model, net, feed, difference):
        return Comparison(name, difference, title, node_difference)
    return Comparison(name, difference)


def is_quantised(model: onnx.ModelProto) -> bool:
    """Whether the file rounds values internally, which the conversion omits."""
    return any(node.op_type in QUANTISED for node in model.graph.node)


def relative(value: Tensor, expected: np.ndarray) -> float:
    """Norm of the difference relative to the expected norm; infinite if shapes differ or values are missing."""
    got = value.detach().cpu().numpy()
    if got.shape != expected.shape:
        return float("inf")
    length = difference = 0.0
    # In pieces, since copies in float64 of a large output would take many times its memory.
    for start in range(0, expected.size, _PIECE):
        wide, reference = (array.flat[start : start + _PIECE].astype(np.float64) for array in (got, expected))
        finite = np.isfinite(reference)
        if not np.array_equal(np.isfinite(wide), finite):
            return float("inf")
        length = math.hypot(length, float(np.linalg.norm(reference[finite])))
        difference = math.hypot(difference, float(np.linalg.norm(wide[finite] - reference[finite])))
    return difference / length if length > 0 else difference


def _reference(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray] | None]:
    names = [entry.name for entry in model.graph.output]
    for run in (_onnxruntime, _evaluator):
        try:
            title, values = run(model, feed)
            return title, dict(zip(names, values, strict=True))
        except Exception:  # not installed, an unsupported operator, a file that it rejects
            continue
    return "", None


def _onnxruntime(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> tuple[str, list[np.ndarray]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return f"onnxruntime {onnxruntime.__version__}", session.run(None, feed)


def _evaluator(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> tuple[str, list[np.ndarray]]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return f"onnx {onnx.__version__}", list(evaluator(model).run(None, feed))


def _differing(
    model: onnx.ModelProto, net: Any, feed: dict[str, np.ndarray], difference: float
) -> Iterator[tuple[str, float]]:
    """Nodes whose results differ from the reference's for the same inputs: title and relative difference.

    Args:
        model: as for `compare`.
        net: as for `compare`.
        feed: as for `compare`.
        difference: of the outputs; returned if the reference can't run single nodes.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            values = evaluator(model).run(None, feed, intermediate=True)
    except Exception:
        yield "its output", difference
        return
    for number, (step, inputs, outputs) in enumerate(net.steps(), start=1):
        if step.modelspace_kind in ROUNDING or is_disputed(step.node) or not all(name in values for name in inputs):
            continue
        with torch.no_grad():
            result = step(*[torch.as_tensor(np.asarray(values[name])) for name in inputs])
        results = result if isinstance(result, tuple | list) else (result,)
        for name, value in zip(outputs, results, strict=False):
            expected = np.asarray(values[name]) if name in values else None
            if expected is None or expected.dtype.kind != "f":
                continue
            if (node_difference := relative(value, expected)) > NODE_TOLERANCE:
                yield f"{step.modelspace_kind} of {step.title} (number {number})", node_difference
