"""`onnx:` addresses: the converted model is the exported one, files are checked, and missing operators are named."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_nets import METHODS, NETS, STATED, assert_same_maps, footprint, images, make, maps, sha256
from tiny import space
from torch import nn

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from modelspace import sources  # noqa: E402
from modelspace.attribution.engine import attribute  # noqa: E402
from modelspace.attribution.ledger import ledger  # noqa: E402
from modelspace.encoder.layers import executed_layers, find_encoder_output  # noqa: E402
from modelspace.errors import ModelspaceError, NotFoundError, UsageError  # noqa: E402
from modelspace.sources.base import LoadedModel, flags_of  # noqa: E402
from modelspace.sources.onnx.compare import relative  # noqa: E402
from modelspace.sources.onnx.operators import OPERATORS  # noqa: E402


def export(module: nn.Module, path: Path, *, opset: int = 17, batch: int = 1, dynamic: bool = False) -> Path:
    axes = {"x": {0: "batch"}} if dynamic else None
    noise = contextlib.redirect_stdout(io.StringIO())
    with warnings.catch_warnings(), noise:
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (images(batch),), str(path), dynamo=False, opset_version=opset, input_names=["x"], dynamic_axes=axes
        )
    return path


def load(path: Path, **options: object) -> LoadedModel:
    return sources.load(f"onnx:{path}", preprocessing=flags_of({**STATED, **options}))


def graph(
    nodes: Sequence[Any], shape: Sequence[Any] = (1, 3, 16, 16), constants: dict[str, Any] | None = None, **options: Any
) -> Any:
    """A model of these nodes from "x" to "y"."""
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    kind = options.pop("kind", TensorProto.FLOAT)
    opset = options.pop("opset", 18)
    proto = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list("abcd"))],
        values,
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    helper.set_model_props(model, {key: str(value) for key, value in options.items()})
    return model


def save(model: Any, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def node(kind: str, *inputs: str, y: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs or ("x",), y.split(), name=f"the_{kind}", **attributes)


# ---- the same model


@pytest.mark.first(3)
@pytest.mark.parametrize("name", list(NETS))
def test_maps_equal_those_of_the_model_before_the_export(tmp_path, name):
    model, x = make(name), images()
    loaded = load(export(model, tmp_path / "net.onnx"))
    tap = find_encoder_output(loaded.module, x[:2])
    assert tap.layer.rpartition(":")[2] == find_encoder_output(model, x[:2]).layer.rpartition(":")[2]
    assert_same_maps(maps(loaded.module, x), maps(model, x), 1e-4)
    # The file has float32 weights, and batch norm is folded into the convolution before it.
    actual, expected = maps(loaded.module.double(), x.double()), maps(model.double(), x.double())
    # Close to a kink the ratio y / (x + ε) amplifies this rounding.
    assert_same_maps(actual, {"epsilon_lrp": expected.pop("epsilon_lrp")}, 1e-4)
    assert_same_maps(actual, expected, 1e-5)
    assert ledger(tap, x.double()).residual < 1e-9


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_older_versions_of_the_operators(tmp_path, opset):
    for name in ("attention", "decoder"):
        model = make(name)
        if name == "decoder" and opset == 18:
            continue
        loaded = load(export(model, tmp_path / f"{name}.onnx", opset=opset))
        with torch.no_grad():
            assert torch.allclose(loaded.module(images()[:1]), model(images()[:1]), atol=1e-5)


@pytest.mark.parametrize(("batch", "dynamic"), [(1, False), (2, False), (1, True)])
def test_static_and_open_batches(tmp_path, batch, dynamic):
    model, x = make("residual"), images(5)
    loaded = load(export(model, tmp_path / "net.onnx", batch=batch, dynamic=dynamic))
    assert getattr(loaded.module, "modelspace_batch", None) == (None if dynamic else batch)
    assert_same_maps(maps(loaded.module, x), maps(model, x), 1e-4)


def test_layers_are_found_by_the_names_of_the_file(tmp_path):
    module = load(export(make("residual"), tmp_path / "net.onnx")).module
    rows = executed_layers(module, images(2))
    assert [row.kind for row in rows[:3]] == ["Conv", "Relu", "MaxPool"]
    assert rows[0].shape == (6, 8, 8)
    x = images(2)
    for name in ("/blocks/blocks.0/norm/Add", "/fc/Gemm:in", "fc/Gemm:in", "*Conv"):
        with contextlib.suppress(NotFoundError):
            assert find_encoder_output(module, x, name)(x).shape[0] == 2
    by_tensor = find_encoder_output(
        module, x, next(t for t in module.modelspace_aliases if t.endswith("MaxPool_output_0"))
    )
    assert by_tensor.layer == "MaxPool"
    with pytest.raises(NotFoundError, match="the model has no layer 'MaxPol'") as caught:
        find_encoder_output(module, x, "MaxPol")
    assert "did you mean MaxPool" in caught.value.hint


def test_the_model_comes_back_bit_for_bit(tmp_path):
    module = load(export(make("residual"), tmp_path / "net.onnx")).module
    before = footprint(module)
    maps(module, images())
    assert footprint(module) == before


def test_what_is_known_of_the_file(tmp_path):
    path = export(make("residual"), tmp_path / "net.onnx")
    loaded = load(path)
    assert loaded.tags["file_sha256"] == sha256(path)
    assert re.fullmatch(r"onnx \S+, difference \de-\d+", loaded.tags["compared_with"])
    assert loaded.suggested_name == "net"
    assert loaded.parameters > 500
    other = make("residual")
    nn.init.ones_(other.fc.bias)
    assert load(export(other, tmp_path / "o.onnx")).weights_sha256 != loaded.weights_sha256


def test_channels_last(tmp_path):
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [node("Transpose", y="t", perm=[0, 3, 1, 2]), node("Conv", "t", "w")]
    path = save(graph(nodes, ("n", 16, 16, 3), {"w": weight}), tmp_path / "net.onnx")
    loaded, x = load(path), images()
    assert loaded.preprocessing.layout == "nhwc"
    rows = x.permute(0, 2, 3, 1).contiguous()
    assert torch.allclose(loaded.module(rows), nn.functional.conv2d(x, torch.from_numpy(weight)), atol=1e-5)
    assert maps(loaded.module, rows)["saliency"].shape == rows.shape
    silent = save(graph(nodes, (1, None, None, None), {"w": weight}), tmp_path / "silent")
    with pytest.raises(ModelspaceError, match="the ONNX graph fails on an input of 1x3x16x16"):
        load(silent)
    assert load(silent, layout="nhwc").preprocessing.layout == "nhwc"
    described = save(
        graph(nodes, (1, None, None, None), {"w": weight}, **{"modelspace.layout": "nhwc"}), tmp_path / "any"
    )
    assert load(described).preprocessing.layout == "nhwc"


# ---- operators, against the reference evaluator of onnx

RNG = np.random.default_rng(0)


def real(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.asarray(values, dtype=np.int64)


def case(
    kind: str, *constants: Any, opset: int = 18, x: Sequence[int] = (2, 3, 6, 8), outputs: int = 1, **attributes: Any
):
    label = f"{kind}-{opset}-" + "-".join(f"{k}={v}" for k, v in attributes.items())
    return pytest.param(kind, constants, opset, x, outputs, attributes, id=label)


CASES = [
    *[
        case(kind)
        for kind in [
            "Abs",
            "Ceil",
            "Cos",
            "Erf",
            "Exp",
            "Floor",
            "Identity",
            "Neg",
            "Relu",
            "Round",
            "Sigmoid",
            "Sign",
            "Sin",
            "Softplus",
            "Tanh",
        ]
    ],
    *[
        case(kind)
        for kind in ["Elu", "Celu", "Selu", "LeakyRelu", "HardSigmoid", "HardSwish", "Mish", "Softsign", "Atan"]
    ],
    *[case(kind, real(3, 1, 1)) for kind in ("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu")],
    case("LeakyRelu", alpha=0.3),
    case("Elu", alpha=0.7),
    case("HardSigmoid", alpha=1 / 6, beta=0.5),
    case("Gelu", opset=20),
    case("Gelu", opset=20, approximate="tanh"),
    case("Pow", np.float32(2.0)),
    case("Clip", np.float32(-0.3), np.float32(0.6)),
    case("Clip", opset=6 + 1, min=-0.3, max=0.6),
    case("Cast", to=1),
    case("Conv", real(4, 3, 3, 3), real(4), pads=[1, 0, 2, 1], strides=[2, 1]),
    case("Conv", real(6, 1, 3, 3), group=3, dilations=[2, 1]),
    case("Conv", real(4, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", real(4, 3, 2, 2), auto_pad="SAME_LOWER"),
    case("Conv", real(4, 3, 3), x=(2, 3, 8)),
    case("ConvTranspose", real(3, 4, 3, 3), real(4), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    case("ConvTranspose", real(3, 4, 3, 3), strides=[2, 2], pads=[0, 0, 1, 1]),
    case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    case("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
    case("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    case("GlobalAveragePool"),
    case("GlobalMaxPool"),
    case("Gemm", real(5, 8), real(5), transB=1, x=(2, 8)),
    case("Gemm", real(8, 5), real(2, 5), alpha=0.5, beta=2.0, x=(2, 8)),
    case("MatMul", real(8, 5)),
    case("Einsum", real(8, 5), equation="...i,ij->...j"),
    case("BatchNormalization", real(3), real(3), real(3), np.abs(real(3)) + 0.5, epsilon=1e-3),
    case("InstanceNormalization", real(3), real(3)),
    case("LayerNormalization", real(8), real(8)),
    case("LayerNormalization", real(6, 8), axis=-2),
    case("GroupNormalization", real(3), real(3), num_groups=3, opset=21),
    case("LRN", size=3, alpha=0.1, x=(3, 3, 6, 8)),
    case("LpNormalization", axis=1, p=2),
    case("Softmax", axis=1),
    case("LogSoftmax", axis=-1),
    case("ReduceMean", whole(2, 3)),
    case("ReduceMean", axes=[2, 3], keepdims=0, opset=13),
    case("ReduceMean"),
    case("ReduceSum", whole(-1), keepdims=0),
    case("ReduceMax", whole(1)),
    case("ReduceMin", axes=[1], opset=13),
    case("ReduceL1", whole(1)),
    case("ReduceL2", whole(1, 2)),
    case("ReduceProd", whole(1)),
    case("ReduceSumSquare", whole(1)),
    case("ReduceLogSumExp", whole(1)),
    case("ReduceSum", noop_with_empty_axes=1),
    case("ArgMax", axis=1),
    case("CumSum", np.int64(1)),
    case("TopK", whole(2), axis=-1, outputs=2),
    case("Shape"),
    case("Size"),
    case("Shape", start=1, end=3),
    case("Reshape", whole(0, -1, 4)),
    case("Flatten"),
    case("Flatten", axis=2),
    case("Flatten", axis=0),
    case("Transpose"),
    case("Transpose", perm=[0, 2, 3, 1]),
    case("Squeeze", whole(1), x=(2, 1, 4)),
    case("Squeeze", axes=[1], opset=11, x=(2, 1, 4)),
    case("Squeeze", x=(2, 1, 4)),
    case("Unsqueeze", whole(0, -1)),
    case("Unsqueeze", axes=[1], opset=11),
    case("Concat", real(2, 3, 6, 8), axis=1),
    case("Split", whole(1, 2), axis=1, outputs=2),
    case("Split", axis=3, num_outputs=3, outputs=3),
    case("Split", axis=1, split=[2, 1], opset=11, outputs=2),
    case("Slice", whole(1), whole(-1), whole(3)),
    case("Slice", whole(0, 5), whole(9, -100), whole(1, 2), whole(2, -1)),
    case("Slice", starts=[1], ends=[3], axes=[2], opset=9),
    case("Gather", whole(2, -1), axis=3),
    case("Gather", np.int64(1), axis=1),
    case("GatherElements", np.zeros((2, 1, 6, 8), dtype=np.int64), axis=1),
    case("Expand", whole(2, 2, 3, 6, 8)),
    case("Tile", whole(1, 2, 1, 1)),
    case("Pad", whole(0, 0, 1, 2, 0, 0, 0, 1), np.float32(1.5)),
    case("Pad", whole(0, 0, 1, 2, 0, 0, 0, 1), mode="reflect"),
    case("Pad", whole(0, 0, 1, 2, 0, 0, 0, 1), mode="edge"),
    case("Pad", whole(1, 1), np.float32(0.0), whole(3)),
    case("Pad", pads=[0, 0, 1, 2, 0, 0, 0, 1], value=0.5, opset=9),
    case("DepthToSpace", blocksize=2, x=(1, 8, 2, 3)),
    case("DepthToSpace", blocksize=2, mode="CRD", x=(1, 8, 2, 3)),
    case("SpaceToDepth", blocksize=2),
    case("Where", real(3, 1, 1)),
    case(
        "Resize",
        "",
        real(0),
        whole(2, 3, 12, 16),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    case("Resize", "", np.float32([1, 1, 2, 2]), mode="nearest"),
    case("Resize", "", np.float32([1, 1, 2, 2]), mode="linear"),
    case("Resize", "", np.float32([1, 1, 1.7, 0.5]), mode="linear"),
    case("Resize", "", np.float32([1, 1, 2, 2]), mode="linear", coordinate_transformation_mode="align_corners"),
    case("Resize", "", np.float32([1, 1, 2, 2]), mode="cubic"),
]


@pytest.mark.parametrize(("kind", "constants", "opset", "shape", "n_outputs", "attributes"), CASES)
def test_an_operator_does_what_the_reference_does(kind, constants, opset, shape, n_outputs, attributes):
    from modelspace.sources.onnx.operators import Node

    x = real(*shape)
    names = ["x", *("" if isinstance(value, str) else f"c{i}" for i, value in enumerate(constants))]
    feed: dict[str, np.ndarray] = {"x": x}
    feed |= {f"c{i}": np.asarray(value) for i, value in enumerate(constants) if not isinstance(value, str)}
    if kind == "Where":
        names, feed = ["b", "x", "c0"], {**feed, "b": x > 0}
    outputs = [f"y{i}" for i in range(n_outputs)]
    proto = helper.make_graph(
        [helper.make_node(kind, names, outputs, **attributes)],
        "one",
        [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feed.items()],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    expected = ReferenceEvaluator(model).run(None, feed)
    tensors = [torch.from_numpy(np.array(feed[name])) if name else None for name in names]
    results = OPERATORS[kind](Node(kind, opset, attributes, n_outputs), *tensors)
    results = results if isinstance(results, tuple | list) else (results,)
    assert len(results) == n_outputs
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.numpy(), reference, rtol=1e-4, atol=1e-5)


def test_versions_that_the_reference_does_not_know():
    from modelspace.sources.onnx.operators import Node

    x = torch.from_numpy(real(2, 3, 6, 8))
    flat = x.flatten(1).softmax(1).reshape(x.shape)
    assert torch.allclose(OPERATORS["Softmax"](Node("Softmax", 11, {"axis": 1}), x), flat)
    twice = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    scales = torch.tensor([1.0, 1.0, 2.0, 2.0])
    assert torch.equal(OPERATORS["Resize"](Node("Resize", 10, {"mode": b"nearest"}), x, scales), twice)
    assert torch.equal(OPERATORS["Upsample"](Node("Upsample", 9, {"mode": b"nearest"}), x, scales), twice)
    assert torch.equal(OPERATORS["Upsample"](Node("Upsample", 7, {"scales": [1.0, 1.0, 2.0, 2.0]}), x), twice)


def test_every_gelu_pattern_becomes_one_operator(tmp_path):
    constants = {
        "root": np.float32(2**0.5),
        "inverse": np.float32(0.5**0.5),
        "one": np.float32(1),
        "half": np.float32(0.5),
    }
    start = [node("Div", "x", "root", y="a"), node("Erf", "a", y="b"), node("Add", "b", "one", y="c")]
    ends = [
        [node("Mul", "x", "c", y="d"), node("Mul", "d", "half")],
        [node("Mul", "c", "half", y="d"), node("Mul", "x", "d")],
        [node("Mul", "x", "half", y="d"), node("Mul", "d", "c")],
    ]
    other = [node("Mul", "inverse", "x", y="a"), node("Erf", "a", y="b"), node("Add", "one", "b", y="c")]
    x = images()
    for number, nodes in enumerate([*(start + end for end in ends), other + ends[0]]):
        module = load(save(graph(nodes, constants=constants), tmp_path / f"{number}.onnx")).module
        assert [part.modelspace_kind for part in module.children()] == ["Gelu"]
        assert torch.allclose(module(x), nn.functional.gelu(x), atol=1e-6)
    nodes = [*start, node("Mul", "x", "c", y="d"), node("Mul", "d", "one")]  # twice a GELU
    module = load(save(graph(nodes, constants=constants), tmp_path / "not.onnx")).module
    assert len(list(module.children())) == 5


# ---- what is refused


def refused(model: Any, path: Path, **options: object) -> ModelspaceError:
    with pytest.raises(ModelspaceError) as caught:
        load(save(model, path), **options)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_an_operator_that_is_not_there_is_named_with_its_version(tmp_path):
    error = refused(graph([node("NonZero", y="i"), node("Cast", "i", to=1)]), tmp_path / "a")
    assert error.message.endswith("needs the unsupported ONNX operator NonZero of opset 18")
    model = graph([node("FusedConv", domain="com.microsoft")])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert "com.microsoft.FusedConv of opset 1" in refused(model, tmp_path / "b").message
    nearest = node("Resize", "x", "", "s", mode="nearest", coordinate_transformation_mode="tf_crop_and_resize")
    error = refused(graph([nearest], constants={"s": np.float32([1, 1, 1.5, 2])}), tmp_path / "c")
    assert "operator Resize of opset 18 is not supported with" in error.message
    assert "the_Resize" in error.message


def test_versions_and_inputs(tmp_path):
    assert "has opset 6" in refused(graph([node("Relu")], opset=6), tmp_path / "a").message
    assert "type UINT8" in refused(graph([node("Cast", to=1)], kind=TensorProto.UINT8), tmp_path / "b").message
    assert "a batch of images has four axes" in refused(graph([node("Relu")], (1, 3, 4)), tmp_path / "c").message
    two = graph([node("Add", "x", "z")])
    two.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 3, 16, 16)))
    assert "takes 2 inputs (x, z)" in refused(two, tmp_path / "d").message
    path = save(graph([node("Relu")]), tmp_path / "e")
    with pytest.raises(UsageError, match="takes inputs of 1x3x16x16, not of anyx3x32x32") as caught:
        load(path, input_size=32)
    assert caught.value.hint.startswith("use `preprocessing={'input_size': 16}`; ")
    with pytest.raises(UsageError, match="not of anyx1x16x16"):
        load(path, channels="gray", mean=[0.5], std=[0.5])
    with pytest.raises(UsageError, match="has its own weights"):
        sources.load(f"onnx:{path}", weights="w")
    with pytest.raises(NotFoundError, match="there is no file"):
        load(tmp_path / "nowhere.onnx")


def test_broken_files(tmp_path):
    exported = export(make("residual"), tmp_path / "net.onnx").read_bytes()
    for name, content in {"text": b"hello, world", "empty": b"", "short": exported[: len(exported) // 2]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelspaceError) as caught:
            load(tmp_path / name)
        assert caught.value.hint
    missing = graph([node("Relu", "nothing")])
    assert "is not a valid ONNX model" in refused(missing, tmp_path / "m").message


def test_names_that_are_no_text_are_refused(tmp_path):
    content = graph([node("Relu")]).SerializeToString()
    assert content.count(b"the_Relu") == 1
    (tmp_path / "net.onnx").write_bytes(content.replace(b"the_Relu", b"the_\x80elu"))
    with pytest.raises(ModelspaceError, match="names that are not text"):
        load(tmp_path / "net.onnx")


def test_a_tensor_that_claims_more_than_it_has_is_refused(tmp_path):
    model = graph([node("Add", "x", "c")], constants={"c": np.zeros((1, 3, 1, 1), dtype=np.float32)})
    model.graph.initializer[0].dims[0] = 10**9
    assert "c claims 12,000,000,000 bytes and has 12" in refused(model, tmp_path / "a").message
    huge = [node("ConstantOfShape", "c", y="z"), node("ReduceSum", "z", y="r", keepdims=0), node("Add", "x", "r")]
    error = refused(graph(huge, constants={"c": whole(10**6, 10**6)}), tmp_path / "b")
    assert "a tensor of shape [1000000, 1000000]" in error.message


def external(path: Path, location: str, data: bytes | None, **entries: int) -> Path:
    """A model whose only weight is in another file."""
    model = graph([node("Add", "x", "c")], constants={"c": np.ones((1, 3, 1, 1), dtype=np.float32)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    if data is not None:
        (path.parent / location).write_bytes(data)
    return save(model, path)


def test_data_next_to_the_model_are_read_and_others_are_not(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    data = np.float32([1, 2, 3]).tobytes()
    path = external(folder / "net.onnx", "net.data", data, offset=0, length=12)
    loaded = load(path)
    assert loaded.tags["data_sha256"] == sha256(folder / "net.data")
    assert torch.allclose(loaded.module(torch.zeros(1, 3, 16, 16))[0, :, 0, 0], torch.tensor([1.0, 2.0, 3.0]))
    (tmp_path / "secret").write_bytes(data)
    os.symlink(tmp_path / "secret", folder / "link")
    for location in ("../secret", str(tmp_path / "secret"), "link", "a/../../secret", ""):
        with pytest.raises(ModelspaceError, match=r"is refused: c is in|needs the file"):
            load(external(folder / "bad.onnx", location, None))
    with pytest.raises(ModelspaceError, match="which are not in short"):
        load(external(folder / "short.onnx", "short", data[:8]))
    with pytest.raises(ModelspaceError, match=r"claims 12 bytes, which are not in net\.data"):
        load(external(folder / "big.onnx", "net.data", None, offset=4, length=12))
    with pytest.raises(ModelspaceError, match="needs the file gone next to it"):
        load(external(folder / "gone.onnx", "gone", None))


def test_without_onnx_the_extra_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(sources.importlib, "import_module", missing)
    with pytest.raises(ModelspaceError, match="need the Python package 'onnx'") as caught:
        sources.load("onnx:net.onnx")
    assert caught.value.hint == "pip install 'modelspace-db[onnx]'"


# ---- metadata of the file


def test_metadata_of_the_file(tmp_path):
    stated = {"mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25", "task": "shapes", "data": "drawn", "layer": "the_Relu"}
    model = graph([node("Relu")], **{f"modelspace.{key}": value for key, value in stated.items()}, author="me")
    loaded = sources.load(f"onnx:{save(model, tmp_path / 'net.onnx')}")
    assert loaded.preprocessing.std == (0.25, 0.25, 0.25)
    assert loaded.preprocessing.input_size == (16, 16)  # fixed by the graph
    assert (loaded.task, loaded.data, loaded.layer) == ("shapes", "drawn", "the_Relu")
    assert load(tmp_path / "net.onnx").preprocessing.std == (0.5, 0.5, 0.5)
    with pytest.raises(UsageError, match=r"the mean and std of .* are not given"):
        sources.load(f"onnx:{save(graph([node('Relu')]), tmp_path / 'silent.onnx')}")
    error = refused(graph([node("Relu")], **{"modelspace.meen": 1}), tmp_path / "typo")
    assert "unknown metadata modelspace.meen" in error.message
    assert (
        "layout 'rows' is not known"
        in refused(graph([node("Relu")], **{"modelspace.layout": "rows"}), tmp_path / "l").message
    )


def test_a_constant_sum_is_refused_as_for_any_model(tmp_path):
    tap = find_encoder_output(load(save(graph([node("Softmax", axis=1)]), tmp_path / "net")).module, images(2))
    with pytest.raises(ModelspaceError):
        maps(tap.module, images())
    assert set(attribute(tap, images(), METHODS[:1]).maps) == {"saliency"}


@pytest.mark.wide
def test_the_registry_finds_the_model_before_the_export(tmp_path):
    home = space(tmp_path)
    home.add(make("gated"), name="original", preprocessing=STATED)
    path = export(make("gated"), tmp_path / "net.onnx")
    home.add(f"onnx:{path}", preprocessing=flags_of(STATED))
    assert home.show("net").tags["file_sha256"] == sha256(path)
    for row in home.spaces():
        assert home.nearest("original", space=row.name)[0].affinity == pytest.approx(1, abs=1e-5)


def test_an_onnx_with_known_holes_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx, "__version__", "1.20.1")
    error = refused(graph([node("Relu")]), tmp_path / "net.onnx")
    assert "onnx 1.20.1" in error.message
    assert "modelspace-db[onnx]" in error.hint


# ---- files that ask for too much


def test_names_of_data_files_that_no_file_can_have(tmp_path):
    os.symlink("loop", tmp_path / "loop")
    for location in ("loop", "a" * 5000):
        with pytest.raises(ModelspaceError, match="outside the model's folder") as caught:
            load(external(tmp_path / "bad.onnx", location, None))
        assert len(caught.value.message) < 500


@pytest.mark.parametrize("dims", [[-1], [2**62, 0], [1] * 65])
def test_shapes_that_no_array_can_have(tmp_path, dims):
    model = graph([node("Add", "x", "c")], constants={"c": real(3, 1, 1)})
    model.graph.initializer[0].dims[:] = dims
    model.graph.initializer[0].raw_data = b""
    assert "c has the impossible shape" in refused(model, tmp_path / "a").message


def test_a_type_of_a_later_version_is_refused_by_its_number(tmp_path):
    model = graph([node("Add", "x", "c")], constants={"c": real(3, 1, 1)})
    model.graph.initializer[0].data_type = 99
    assert "c is of type number 99" in refused(model, tmp_path / "a").message


def test_results_larger_than_a_network_needs_are_refused_before_they_are_computed(tmp_path):
    add = [node("ReduceSum", "z", y="r", keepdims=0), node("Add", "x", "r")]
    image = [node("Tile", "x", "c", y="z"), *add]
    assert (
        "a tensor of shape [1, 3, 16384, 16384]"
        in refused(graph(image, constants={"c": whole(1, 1, 1024, 1024)}), tmp_path / "a").message
    )
    constant = [node("ConstantOfShape", "c", y="z"), *add]
    assert (
        "a tensor of shape [16384, 16000], 0.977 GB, more than the limit of 0.25 GB"
        in refused(graph(constant, constants={"c": whole(16384, 16000)}), tmp_path / "b").message
    )
    batch = refused(graph([node("Relu")], (2**30, 3, 16, 16)), tmp_path / "c")
    assert "a tensor of shape [1073741824, 3, 16, 16]" in batch.message


def test_results_that_are_kept_together_are_bounded_together(tmp_path, monkeypatch):
    """Each is of 196,608 bytes; they fit one after the other, and not at once."""
    monkeypatch.setattr("modelspace.sources.onnx.load.LARGEST_TOTAL", 1 << 20)
    sizes = {"c": whole(1, 1, 8, 8)}
    one = [node("Tile", "x", "c", y="z0"), *(node("Relu", f"z{i}", y=f"z{i + 1}") for i in range(9))]
    load(save(graph([*one, node("Abs", "z9")], constants=sizes), tmp_path / "a.onnx"))
    kept = [*(node("Tile", "x", "c", y=f"z{i}") for i in range(10)), node("Sum", *(f"z{i}" for i in range(10)))]
    error = refused(graph(kept, constants=sizes), tmp_path / "b")
    assert "needs more than 0.000977 GB of memory at once" in error.message


def calling(width: int, depth: int) -> Any:
    """A model of one call of a function, each of which calls the next `width` times."""
    model = graph([helper.make_node("f0", ["x"], ["y"], domain="own")])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    model.opset_import.append(opsets[1])
    for level in range(depth):
        names = ["a", *(f"t{i}" for i in range(width - 1)), "b"]
        kind, domain = ("Relu", "") if level == depth - 1 else (f"f{level + 1}", "own")
        body = [helper.make_node(kind, [a], [b], domain=domain) for a, b in itertools.pairwise(names)]
        model.functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], body, opsets))
    return model


def test_functions_that_stand_for_more_nodes_than_fit(tmp_path):
    few = load(save(calling(3, 3), tmp_path / "few.onnx")).module
    assert len(list(few.steps())) == 27
    assert re.search(r"its functions stand for 1,111,111,11\d nodes", refused(calling(10, 9), tmp_path / "a").message)
    error = refused(calling(2, 60), tmp_path / "b")
    assert "its functions stand for" in error.message


def test_large_outputs_are_compared_in_pieces():
    expected = np.broadcast_to(np.float32(2), (3, 1 << 20))
    value = torch.full((3, 1 << 20), 2.0)
    assert relative(value, expected) == 0
    value[2, 5] = float("nan")
    assert relative(value, expected) == float("inf")
    value[2] = 3
    assert relative(value, expected) == pytest.approx(1 / np.sqrt(12))
