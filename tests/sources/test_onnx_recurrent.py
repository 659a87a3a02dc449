"""Recurrent layers, GridSample and quantised operators against the reference evaluator that comes with onnx."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from modelspace.attribution.engine import attribute
from modelspace.sources.onnx import quantised, recurrent, sampling
from modelspace.sources.onnx.nodes import OPERATORS, Node, Unsupported

assert recurrent
assert quantised
assert sampling

KINDS = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int8): 3, np.dtype(np.int32): 6}


def both(kind: str, inputs: list[np.ndarray | None], n_outputs: int, opset: int = 19, **attributes: Any) -> Any:
    """The outputs of the reference evaluator and of ours, as lists of arrays."""
    names = [f"i{k}" if value is not None else "" for k, value in enumerate(inputs)]
    outputs = [f"o{k}" for k in range(n_outputs)]
    node = helper.make_node(kind, names, outputs, **attributes)
    given_ = [
        helper.make_tensor_value_info(name, KINDS[value.dtype], value.shape)
        for name, value in zip(names, inputs, strict=True)
        if value is not None
    ]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    model = helper.make_model(
        helper.make_graph([node], "g", given_, infos), opset_imports=[helper.make_opsetid("", opset)]
    )
    feed = {name: value for name, value in zip(names, inputs, strict=True) if value is not None}
    expected = ReferenceEvaluator(model).run(None, feed)
    spelled = {k: v.encode() if isinstance(v, str) else v for k, v in attributes.items()}
    tensors = [None if value is None else torch.from_numpy(value) for value in inputs]
    got = OPERATORS[kind](Node(kind, opset, spelled, n_outputs), *tensors)
    got = got if isinstance(got, tuple) else (got,)
    return expected, [value.numpy() for value in got]


def same(expected: list[np.ndarray], got: list[np.ndarray], atol: float = 1e-5) -> None:
    for left, right in zip(expected, got, strict=False):
        assert left.shape == right.shape
        np.testing.assert_allclose(right, left, atol=atol)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_lstm_is_the_torch_lstm(data: st.DataObject) -> None:
    """The reference evaluator supports fewer cases than torch, whose layer is the definition of the common ones."""
    time, batch, size, hidden = (data.draw(st.integers(1, 4)) for _ in range(4))
    bidirectional = data.draw(st.booleans())
    torch.manual_seed(data.draw(st.integers(0, 100)))
    layer = torch.nn.LSTM(size, hidden, bidirectional=bidirectional)
    x = torch.randn(time, batch, size)
    expected, (state, cell) = layer(x)
    n = 2 if bidirectional else 1
    names = [f"l0{'_reverse' if k else ''}" for k in range(n)]

    def order(value: torch.Tensor) -> torch.Tensor:  # torch has i f g o, ONNX i o f c
        i, f, g, o = value.chunk(4)
        return torch.cat([i, o, f, g])

    w = torch.stack([order(getattr(layer, f"weight_ih_{k}")) for k in names])
    r = torch.stack([order(getattr(layer, f"weight_hh_{k}")) for k in names])
    b = torch.stack(
        [torch.cat([order(getattr(layer, f"bias_ih_{k}")), order(getattr(layer, f"bias_hh_{k}"))]) for k in names]
    )
    direction = b"bidirectional" if bidirectional else b"forward"
    node = Node("LSTM", 14, {"hidden_size": hidden, "direction": direction}, 3)
    sequence, last, last_cell = OPERATORS["LSTM"](node, x, w, r, b)
    joined = sequence.permute(0, 2, 1, 3).flatten(2)
    torch.testing.assert_close(joined, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last_cell, cell, atol=1e-5, rtol=1e-5)
    swapped = Node("LSTM", 14, {**node.attributes, "layout": 1}, 3)
    by_batch = OPERATORS["LSTM"](swapped, x.transpose(0, 1), w, r, b)
    torch.testing.assert_close(by_batch[0], sequence.permute(2, 0, 1, 3))
    torch.testing.assert_close(by_batch[1], last.transpose(0, 1))


@pytest.mark.parametrize("linear_before_reset", [0, 1])
def test_gru_is_the_torch_gru_and_the_reference(linear_before_reset: int) -> None:
    torch.manual_seed(0)
    layer = torch.nn.GRU(3, 4)
    x = torch.randn(5, 2, 3)

    def order(value: torch.Tensor) -> torch.Tensor:  # torch has r z n, ONNX z r h
        r, z, n = value.chunk(3)
        return torch.cat([z, r, n])

    w, r = order(layer.weight_ih_l0)[None].detach(), order(layer.weight_hh_l0)[None].detach()
    b = torch.cat([order(layer.bias_ih_l0), order(layer.bias_hh_l0)])[None].detach()
    node = Node("GRU", 14, {"hidden_size": 4, "linear_before_reset": linear_before_reset}, 2)
    sequence, last = OPERATORS["GRU"](node, x, w, r, b)
    if linear_before_reset:
        expected, state = layer(x)
        torch.testing.assert_close(sequence[:, 0], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(last, state, atol=1e-5, rtol=1e-5)
    inputs = [value.numpy() for value in (x, w, r, b)]
    expected_, got = both("GRU", inputs, 2, 14, hidden_size=4, linear_before_reset=linear_before_reset)
    same(expected_, got)


def test_lstm_with_peepholes_and_first_states_is_the_reference() -> None:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    hidden = 3
    inputs = [
        draw(4, 2, 5), draw(1, 4 * hidden, 5), draw(1, 4 * hidden, hidden), draw(1, 8 * hidden), None,
        draw(1, 2, hidden), draw(1, 2, hidden), draw(1, 3 * hidden),
    ]  # fmt: skip
    same(*both("LSTM", inputs, 2, 14, hidden_size=hidden))


def test_rnn_with_its_activations() -> None:
    torch.manual_seed(0)
    for name in ("Tanh", "Relu"):
        layer = torch.nn.RNN(3, 4, nonlinearity=name.lower(), bidirectional=True)
        x = torch.randn(5, 2, 3)
        w = torch.stack([layer.weight_ih_l0, layer.weight_ih_l0_reverse]).detach()
        r = torch.stack([layer.weight_hh_l0, layer.weight_hh_l0_reverse]).detach()
        b = torch.stack(
            [torch.cat([getattr(layer, f"bias_ih_l0{k}"), getattr(layer, f"bias_hh_l0{k}")]) for k in ("", "_reverse")]
        )
        attributes = {"hidden_size": 4, "direction": b"bidirectional", "activations": [name.encode()] * 2}
        sequence, last = OPERATORS["RNN"](Node("RNN", 14, attributes, 2), x, w, r, b)
        expected, state = layer(x)
        torch.testing.assert_close(sequence.permute(0, 2, 1, 3).flatten(2), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(last, state, atol=1e-5, rtol=1e-5)


def test_what_is_not_supported_is_named() -> None:
    x, w, r = torch.zeros(2, 1, 3), torch.zeros(1, 16, 3), torch.zeros(1, 16, 4)
    for attributes, words in (
        ({"clip": 1.0}, "clip"),
        ({"input_forget": 1}, "input_forget"),
        ({"direction": b"x"}, "x"),
    ):
        with pytest.raises(Unsupported, match=words):
            OPERATORS["LSTM"](Node("LSTM", 14, {"hidden_size": 4, **attributes}, 3), x, w, r)
    with pytest.raises(Unsupported, match="different lengths"):
        OPERATORS["LSTM"](Node("LSTM", 14, {"hidden_size": 4}, 3), x, w, r, None, torch.tensor([1]))


def test_relevance_passes_through_an_unrolled_layer() -> None:
    """ε-LRP has a rule for everything in it, and gives a map that is not zero."""
    torch.manual_seed(0)
    w, r = torch.randn(1, 16, 12), torch.randn(1, 16, 4)

    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            columns = x.permute(3, 0, 1, 2).flatten(2)
            return OPERATORS["LSTM"](Node("LSTM", 14, {"hidden_size": 4}, 3), columns, w, r)[1][0]

    maps = attribute(Net(), torch.rand(2, 3, 4, 6), ["epsilon_lrp", "gradient_x_input"]).maps
    assert all(bool(each.flatten(1).abs().sum(1).min() > 0) for each in maps.values())


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_grid_sample_is_the_reference(mode: str, padding: str, corners: int) -> None:
    if (mode, padding) == ("cubic", "border"):
        pytest.skip("the reference clips the point, torch and onnxruntime each of the sixteen pixels around it")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 2, 5, 4)).astype(np.float32)
    grid = rng.uniform(-1.2, 1.2, (1, 3, 6, 2)).astype(np.float32)
    same(*both("GridSample", [x, grid], 1, 20, mode=mode, padding_mode=padding, align_corners=corners), atol=1e-4)


def test_quantised_values_are_those_of_the_file_but_for_the_rounding() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(-3, 3, (2, 3, 4, 4)).astype(np.float32)
    scale, zero = np.float32(0.02), np.uint8(120)
    expected, got = both("QuantizeLinear", [x, np.array(scale), np.array(zero)], 1)
    assert np.abs(expected[0].astype(float) - got[0]).max() <= 0.5 + 1e-4
    per_channel = [x, np.float32([0.02, 0.01, 0.05]), np.int8([0, 3, -4])]
    expected, got = both("QuantizeLinear", per_channel, 1, axis=1)
    assert np.abs(expected[0].astype(float) - got[0]).max() <= 0.5 + 1e-4
    q = rng.integers(-128, 127, (3, 5)).astype(np.int8)
    same(*both("DequantizeLinear", [q, np.float32([0.1, 0.2, 0.3]), np.int8([1, 2, 3])], 1, axis=0))


def test_integer_products() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 255, (2, 3)).astype(np.uint8), rng.integers(0, 255, (3, 4)).astype(np.uint8)
    expected, got = both("MatMulInteger", [a, b, np.array(np.uint8(7)), np.array(np.uint8(9))], 1)
    np.testing.assert_allclose(got[0], expected[0])
    x, w = rng.integers(0, 255, (1, 2, 5, 5)).astype(np.uint8), rng.integers(0, 255, (3, 2, 3, 3)).astype(np.uint8)
    expected, got = both("ConvInteger", [x, w, np.array(np.uint8(11))], 1, pads=[1, 1, 1, 1])
    np.testing.assert_allclose(got[0], expected[0])


def test_a_quantised_convolution_is_the_reference_but_for_the_rounding() -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(0, 255, (1, 2, 6, 6)).astype(np.uint8)
    w = rng.integers(-100, 100, (3, 2, 3, 3)).astype(np.int8)
    bias = rng.integers(-500, 500, 3).astype(np.int32)
    inputs = [
        x, np.array(np.float32(0.02)), np.array(np.uint8(128)), w, np.float32([0.01, 0.02, 0.015]), np.int8([0, 0, 0]),
        np.array(np.float32(0.1)), np.array(np.uint8(100)), bias,
    ]  # fmt: skip
    expected, got = both("QLinearConv", inputs, 1, 19, pads=[1, 1, 1, 1])
    assert np.abs(expected[0].astype(float) - got[0]).max() <= 0.5 + 1e-3


def test_a_quantised_product_is_the_reference_but_for_the_rounding() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 255, (2, 3)).astype(np.uint8), rng.integers(0, 255, (3, 4)).astype(np.uint8)
    scales, zeros = [np.array(np.float32(each)) for each in (0.02, 0.01, 0.05)], [np.array(np.uint8(7))] * 3
    inputs = [a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2]]
    expected, got = both("QLinearMatMul", inputs, 1)
    assert np.abs(expected[0].astype(float) - got[0]).max() <= 0.5 + 1e-3


def test_values_that_are_quantised_by_their_own_range_stay_as_they_are() -> None:
    x = torch.randn(2, 5)
    value, scale, zero = OPERATORS["DynamicQuantizeLinear"](Node("DynamicQuantizeLinear", 11, {}, 3), x)
    assert torch.equal(OPERATORS["DequantizeLinear"](Node("DequantizeLinear", 19, {}), value, scale, zero), x)
