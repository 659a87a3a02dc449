"""Resize in every mode, against the reference evaluator that comes with onnx."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from modelspace.sources.onnx import resize
from modelspace.sources.onnx.operators import OPERATORS, Node

TRANSFORMS = resize._COORDINATES
ROUNDINGS = resize._ROUNDINGS


def reference(
    x: np.ndarray, inputs: dict[str, np.ndarray], attributes: dict[str, object], opset: int = 19
) -> np.ndarray:
    names = ["x", *(name if name in inputs else "" for name in ("roi", "scales", "sizes"))]
    node = helper.make_node("Resize", names, ["y"], **attributes)
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    for name, value in inputs.items():
        kind = TensorProto.INT64 if name == "sizes" else TensorProto.FLOAT
        infos.append(helper.make_tensor_value_info(name, kind, value.shape))
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return ReferenceEvaluator(model).run(None, {"x": x, **inputs})[0]


def ours(x: np.ndarray, inputs: dict[str, np.ndarray], attributes: dict[str, object], opset: int = 19) -> np.ndarray:
    node = Node("Resize", opset, {k: v.encode() if isinstance(v, str) else v for k, v in attributes.items()})
    tensors = [torch.from_numpy(inputs[name]) if name in inputs else None for name in ("roi", "scales", "sizes")]
    return OPERATORS["Resize"](node, torch.from_numpy(x), *tensors).numpy()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_it_equals_the_reference(data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
    transform = data.draw(st.sampled_from(TRANSFORMS))
    shape = data.draw(st.tuples(st.integers(2, 9), st.integers(2, 9)))
    axes = data.draw(st.sampled_from([None, [2, 3], [3], [3, 2]]))
    attributes: dict[str, object] = {"mode": mode, "coordinate_transformation_mode": transform}
    if mode == "nearest":
        attributes["nearest_mode"] = data.draw(st.sampled_from(ROUNDINGS))
    else:
        attributes["antialias"] = data.draw(st.sampled_from([0, 1])) if transform != "tf_crop_and_resize" else 0
        attributes["exclude_outside"] = data.draw(st.sampled_from([0, 1])) if mode == "cubic" else 0
    if mode == "cubic":
        attributes["cubic_coeff_a"] = data.draw(st.sampled_from([-0.75, -0.5]))
    if axes:
        attributes["axes"] = axes
    x = np.random.default_rng(0).standard_normal((1, 2, *shape)).astype(np.float32)
    old_sizes = [x.shape[axis] for axis in (axes or range(4))]
    spatial = len(axes) if axes else 2
    leading = [] if axes else [1.0, 1.0]
    inputs: dict[str, np.ndarray] = {}
    if data.draw(st.booleans()):
        factors = [data.draw(st.sampled_from([0.4, 0.5, 0.6, 0.75, 1.0, 1.3, 1.7, 2.0, 2.5])) for _ in range(spatial)]
        inputs["scales"] = np.array([*leading, *factors], np.float32)
        new_sizes = [int(size * factor) for size, factor in zip(old_sizes, inputs["scales"], strict=True)]
        assume(min(new_sizes) >= 1)
    else:
        sizes = [data.draw(st.integers(1, 14)) for _ in range(spatial)]
        inputs["sizes"] = np.array([*([1, 2] if not axes else []), *sizes], np.int64)
    if transform == "tf_crop_and_resize":
        low = [data.draw(st.sampled_from([0.0, 0.25, -0.125])) for _ in range(spatial)]
        high = [data.draw(st.sampled_from([1.0, 0.75, 1.25])) for _ in range(spatial)]
        begin, end = ([0.0] * len(leading) + low), ([1.0] * len(leading) + high)
        inputs["roi"] = np.array([*begin, *end], np.float32)
        attributes["extrapolation_value"] = 7.0
    node = Node("Resize", 19, {k: v.encode() if isinstance(v, str) else v for k, v in attributes.items()})
    tensors = [torch.from_numpy(inputs[name]) if name in inputs else None for name in ("roi", "scales", "sizes")]
    for axis in resize._axes(node, torch.from_numpy(x), tensors):
        position = resize._coordinates(axis, transform)
        # The reference takes the wrong neighbour where rounding puts a coordinate 1e-16 off a pixel.
        assume(bool(((position == position.round()) | ((position - position.round()).abs() > 1e-9)).all()))
    expected = reference(x, inputs, attributes)
    actual = ours(x, inputs, attributes)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, atol=2e-5)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_the_aspect_ratio_is_kept(policy: str, mode: str) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 6, 9)).astype(np.float32)
    inputs = {"sizes": np.array([7, 7], np.int64)}
    attributes: dict[str, object] = {"mode": mode, "axes": [2, 3], "keep_aspect_ratio_policy": policy}
    np.testing.assert_allclose(ours(x, inputs, attributes), reference(x, inputs, attributes), atol=1e-6)


def test_upsample_and_version_10_round_down() -> None:
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    expected = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    scales = torch.tensor([1.0, 1.0, 2.0, 2.0])
    assert torch.equal(OPERATORS["Upsample"](Node("Upsample", 9, {"mode": b"nearest"}), x, scales), expected)
    assert torch.equal(OPERATORS["Upsample"](Node("Upsample", 7, {"scales": [1.0, 1.0, 2.0, 2.0]}), x), expected)
    assert torch.equal(OPERATORS["Resize"](Node("Resize", 10, {}), x, scales), expected)


def test_the_gradient_is_that_of_the_matrix() -> None:
    x = torch.randn(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    node = Node("Resize", 19, {"mode": b"cubic", "antialias": 1})
    assert torch.autograd.gradcheck(
        lambda value: OPERATORS["Resize"](node, value, None, torch.tensor([1.0, 1.0, 0.6, 1.7])), (x,)
    )
