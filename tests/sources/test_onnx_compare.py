"""A converted ONNX file is compared with a reference: what differs is named, and what is right is not refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnx")
from onnx import TensorProto
from onnx_graphs import images, load, model, node, run
from onnx_settings import Setting, model_of

from modelspace.errors import ModelspaceError
from modelspace.sources.onnx import compare, reference
from modelspace.sources.onnx.nodes import Node
from modelspace.sources.onnx.operators import OPERATORS

RNG = np.random.default_rng(0)
CONV = {"pads": [1, 1, 1, 1]}


def real(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture(autouse=True)
def _onnx_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where onnxruntime is installed, too."""

    def missing(*_: object) -> Any:
        raise ModuleNotFoundError("onnxruntime")

    monkeypatch.setattr(compare, "_onnxruntime", missing)


def three_steps(opset: int = 17) -> Any:
    nodes = [
        node("Conv", "x w", "a", name="first", **CONV),
        node("Sigmoid", "a", "b", name="squash"),
        node("Softplus", "b", "c", name="soft"),
        node("Conv", "c v", "y", name="last", **CONV),
    ]
    return model(nodes, {"w": real(4, 3, 3, 3), "v": real(2, 4, 3, 3)}, opset=opset)


# ---- what is wrong is found


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (["Softplus"], "Softplus of node soft (number 3)"),
        (["Sigmoid"], "Sigmoid of node squash (number 2)"),
        (["Sigmoid", "Softplus"], "Sigmoid of node squash (number 2)"),
    ],
    ids=str,
)
def test_the_first_node_that_differs_is_named(
    wrong: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in wrong:
        right = OPERATORS[name]
        monkeypatch.setitem(OPERATORS, name, lambda node, x, right=right: right(node, x) * 1.01)
    with pytest.raises(ModelspaceError) as caught:
        load(three_steps(), tmp_path)
    assert f"{named} differs from onnx " in caught.value.message
    assert caught.value.message.endswith("by 1.0e-02")
    assert caught.value.hint


def test_another_shape_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATORS, "Softplus", lambda node, x: nn.functional.softplus(x)[..., :-1])
    with pytest.raises(ModelspaceError, match=r"Softplus of node soft \(number 3\) differs .* by inf"):
        load(three_steps(), tmp_path)


def test_a_small_error_of_a_node_is_seen_and_rounding_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = OPERATORS["Sigmoid"]
    for factor, is_refused in ((1 + 1e-5, False), (1 + 5e-3, True)):
        monkeypatch.setitem(OPERATORS, "Sigmoid", lambda node, x, factor=factor: right(node, x) * factor)
        if is_refused:
            with pytest.raises(ModelspaceError, match="Sigmoid"):
                load(three_steps(), tmp_path)
        else:
            assert 1e-6 < float(load(three_steps(), tmp_path).tags["compared_with"].rpartition(" ")[2]) < 2e-5


def test_how_far_an_output_is() -> None:
    expected = np.float32([3, 4])
    assert compare.relative(torch.tensor([3.0, 4.0]), expected) == 0
    assert compare.relative(torch.tensor([3.0, 4.5]), expected) == pytest.approx(0.1)
    assert compare.relative(torch.tensor([[3.0, 4.0]]), expected) == np.inf
    assert compare.relative(torch.tensor([3.0, torch.nan]), expected) == np.inf
    assert compare.relative(torch.tensor([3.0, torch.nan]), np.float32([3, np.nan])) == 0
    assert compare.relative(torch.tensor([0.25]), np.float32([0])) == 0.25


# ---- what is right is not refused


def test_a_file_that_rounds_is_loaded_as_the_float_model(tmp_path: Path) -> None:
    constants = {
        "w": real(4, 3, 3, 3), "s": np.float32(0.4), "z": np.uint8(128), "v": real(2, 4, 3, 3),
        "q": np.random.default_rng(1).integers(-99, 99, (2, 2, 1, 1)).astype(np.int8), "t": np.float32(0.02),
        "n": np.int8(0),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w", "a", **CONV), node("QuantizeLinear", "a s z", "b"), node("DequantizeLinear", "b s z", "c"),
        node("Conv", "c v", "d", **CONV), node("DequantizeLinear", "q t n", "u"), node("Conv", "d u", "y"),
    ]  # fmt: skip
    for opset in (13, 19):
        loaded = load(model(nodes, constants, opset=opset), tmp_path)
        difference = float(loaded.tags["compared_with"].rpartition(" ")[2])
        assert compare.TOLERANCE < difference < 0.2
        assert loaded.parameters == 4 * 27 + 2 * 36 + 4


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 14, 15, 17])
def test_batch_normalisation_of_tokens_passes(opset: int, tmp_path: Path) -> None:
    """(B, C, L), as in LeViT and PoolFormer; statistics far from the batch's own, which the reference must not use."""
    constants = {
        "w": real(6, 3, 4, 4), "t": np.int64([0, 6, -1]),
        "scale": real(6), "bias": real(6), "mean": 5 * real(6), "variance": np.abs(real(6)) + 4,
    }  # fmt: skip
    nodes = [
        node("Conv", "x w", "a", strides=[4, 4]), node("Reshape", "a t", "b"),
        node("BatchNormalization", "b scale bias mean variance", "c", epsilon=1e-3),
        node("Transpose", "c", "y", perm=[0, 2, 1]),
    ]  # fmt: skip
    loaded = load(model(nodes, constants, opset=opset, rank=3), tmp_path)
    assert loaded.tags["compared_with"].startswith("onnx ")
    x = images()
    tokens = nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(constants["w"]), stride=4).flatten(2).numpy()
    scale, bias, mean, variance = (constants[name].reshape(-1, 1) for name in ("scale", "bias", "mean", "variance"))
    expected = scale * (tokens - mean) / np.sqrt(variance + 1e-3) + bias
    np.testing.assert_allclose(run(loaded, x), expected.transpose(0, 2, 1), rtol=1e-3, atol=1e-4)


RIGHT: dict[str, Callable[[], Any]] = {
    "unequal pads": lambda: model([node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])]),
    "ceil mode": lambda: model(
        [node("AveragePool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1)], opset=11
    ),
    "old softmax": lambda: model([node("Softmax", "x", "y")], opset=11),
    "response norm": lambda: model([node("LRN", "x", "y", size=3, alpha=0.5)]),
    "grouped upsampling": lambda: model(
        [node("ConvTranspose", "x w", "y", group=3, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])],
        {"w": real(3, 2, 3, 3)},
    ),
    "cropping": lambda: model([node("Pad", "x p", "y")], {"p": np.int64([0, 0, -1, 2, 0, 0, -3, 0])}),
    "recurrent": lambda: model(
        [node("Squeeze", "x zero", "t"), node("RNN", "t w r", "y", hidden_size=2, activations=["Relu"])],
        {"zero": np.int64([0]), "w": real(1, 2, 16), "r": real(1, 2, 2)},
    ),
}


@pytest.mark.parametrize("name", list(RIGHT))
def test_what_onnx_has_wrong_is_no_reason_to_refuse(name: str, tmp_path: Path) -> None:
    loaded = load(RIGHT[name](), tmp_path)
    wanted = "nothing: " if name == "recurrent" else "onnx "
    assert loaded.tags["compared_with"].startswith(wanted)


def test_a_disputed_node_is_not_asked_about() -> None:
    disputed = [
        Node("LSTM", 14, {"activations": [b"Relu", b"Tanh", b"Tanh"]}),
        Node("GridSample", 20, {"mode": b"cubic", "padding_mode": b"border"}),
        Node("Resize", 19, {"coordinate_transformation_mode": b"half_pixel_symmetric"}),
    ]
    assert all(map(reference.is_disputed, disputed))
    assert not any(reference.is_disputed(Node(each.kind, each.opset, {})) for each in disputed)


# ---- what it costs


def test_a_file_that_takes_too_long_is_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "TIME_LIMIT", -1.0)
    with pytest.raises(reference.TooCostly):
        reference.evaluator(three_steps()).run(None, {"x": images()})
    assert load(three_steps(), tmp_path).tags["compared_with"].startswith("nothing: ")


def test_a_python_loop_over_many_pixels_is_not_begun() -> None:
    grid = RNG.uniform(-1, 1, (1, 200, 200, 2)).astype(np.float32)
    proto = model_of(Setting("GridSample", 20, real(1, 3, 8, 8), [grid]))
    begun = time.monotonic()
    with pytest.raises(reference.TooCostly):
        reference.evaluator(proto).run(None, {"x": real(1, 3, 8, 8)})
    assert time.monotonic() - begun < 1


def test_the_first_layers_of_a_large_net_take_a_second() -> None:
    """onnx's own pooling goes over its windows in Python, which takes half a minute here."""
    nodes = [
        node("Conv", "x w", "a", strides=[2, 2], pads=[3, 3, 3, 3]),
        node("MaxPool", "a", "b", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("ConvTranspose", "b v", "y", strides=[2, 2], group=64),
    ]
    constants = {"w": real(64, 3, 7, 7), "v": real(64, 1, 2, 2)}
    x = images(1, 3, 224, 224)
    begun = time.monotonic()
    (value,) = reference.evaluator(model(nodes, constants, shape=(1, 3, 224, 224))).run(None, {"x": x})
    assert time.monotonic() - begun < 5
    w, v = (torch.from_numpy(constants[name]) for name in "wv")
    pooled = nn.functional.max_pool2d(nn.functional.conv2d(torch.from_numpy(x), w, None, 2, 3), 3, 2, 1)
    expected = nn.functional.conv_transpose2d(pooled, v, None, 2, groups=64)
    np.testing.assert_allclose(value, expected.numpy(), rtol=1e-3, atol=1e-3)


def test_casts_are_values_that_are_not_compared(tmp_path: Path) -> None:
    """A rounded value on the other side of a step is no error of the conversion."""
    assert "Cast" in compare.ROUNDING
    nodes = [node("Cast", "x", "h", to=TensorProto.FLOAT16), node("Cast", "h", "y", to=TensorProto.FLOAT)]
    assert load(model(nodes), tmp_path).tags["compared_with"].startswith("onnx ")
