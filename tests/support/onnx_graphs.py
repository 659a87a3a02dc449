"""Small ONNX graphs for tests: nodes and constants to a file, and the file to our conversion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from modelspace import sources
from modelspace.sources.base import LoadedModel, flags_of

STATED = {"input_size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}
IMAGES = (1, 3, 16, 16)


def node(kind: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> NodeProto:
    """A node; its inputs and outputs are names with spaces between, "-" for one that is left out."""
    names = ([name_.replace("-", "") for name_ in text.split(" ")] if text else [] for text in (inputs, outputs))
    return helper.make_node(kind, *names, name=name, **attributes)


def tensors(constants: Mapping[str, Any]) -> list[TensorProto]:
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]


def branch(nodes: Sequence[NodeProto], output: str, constants: Mapping[str, Any] | None = None) -> GraphProto:
    """One branch of an If."""
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    return helper.make_graph(list(nodes), "branch", [], outputs, tensors(constants or {}))


def model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, Any] | None = None,
    *,
    shape: Sequence[Any] = IMAGES,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    rank: int = 4,
) -> ModelProto:
    """A model from "x" to its outputs, each of this rank."""
    proto = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in outputs],
        tensors(constants or {}),
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def load(proto: ModelProto, folder: Path, name: str = "net") -> LoadedModel:
    """The model as `modelspace add onnx:...` reads it."""
    path = folder / f"{name}.onnx"
    path.write_bytes(proto.SerializeToString())
    return sources.load(f"onnx:{path}", preprocessing=flags_of(STATED))


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape or IMAGES).astype(np.float32)


def run(loaded: LoadedModel, x: np.ndarray) -> np.ndarray:
    """The only output."""
    with torch.no_grad():
        return loaded.module(torch.from_numpy(x)).numpy()
