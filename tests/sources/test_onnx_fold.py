"""What is computed when an ONNX file is read: weights behind casts and scales, branches of If; names that repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnx")
from onnx import ModelProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_graphs import IMAGES, branch, images, load, model, node, run

from modelspace.errors import ModelspaceError
from modelspace.sources.onnx.fold import _NEVER
from modelspace.sources.onnx.load import OnnxNet, _Graph
from modelspace.sources.onnx.operators import OPERATORS

RNG = np.random.default_rng(0)
CONV = {"pads": [1, 1, 1, 1]}


def whole(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-127, 128, size=shape).astype(np.int8)


def real(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def kinds(module: nn.Module) -> list[str]:
    return [str(part.modelspace_kind) for part in module.children()]


def net(proto: ModelProto) -> OnnxNet:
    return OnnxNet(_Graph(proto, Path("net.onnx"))).eval()


def refusal(proto: ModelProto, folder: Path) -> str:
    with pytest.raises(ModelspaceError) as caught:
        load(proto, folder)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value.message


# ---- weights


def chains(seed: int) -> dict[str, tuple[list[Any], dict[str, Any], np.ndarray]]:
    """Ways in which files store an int8 weight (4, 3, 3, 3): the nodes before the Conv, their constants, its value."""
    q, scale, zero = whole(4, 3, 3, 3, seed=seed), np.float32([0.01, 0.02, 0.03, 0.04]), np.int8([0, 1, -2, 3])
    spread = scale.reshape(4, 1, 1, 1)
    return {
        "cast and scale": (
            [node("Cast", "q", "f", to=TensorProto.FLOAT), node("Mul", "f s", "w")],
            {"q": q, "s": spread},
            q * spread,
        ),
        "dequantised": (
            [node("DequantizeLinear", "q s z", "w", axis=0)],
            {"q": q, "s": scale, "z": zero},
            (q - zero.reshape(4, 1, 1, 1).astype(np.float32)) * spread,
        ),
        "identities": ([node("Identity", "v", "i"), node("Identity", "i", "w")], {"v": q * spread}, q * spread),
        "transposed": (
            [node("Transpose", "v", "w", perm=[3, 2, 0, 1])],
            {"v": (q * spread).transpose(2, 3, 1, 0).copy()},
            q * spread,
        ),
        "half": (
            [node("Cast", "v", "w", to=TensorProto.FLOAT)],
            {"v": (q * spread).astype(np.float16)},
            (q * spread).astype(np.float16).astype(np.float32),
        ),
        "shared constant node": (
            [node("Constant", "", "s", value_float=0.25), node("Cast", "q", "f", to=1), node("Mul", "f s", "w")],
            {"q": q},
            q * np.float32(0.25),
        ),
    }


@pytest.mark.parametrize("name", list(chains(1)))
def test_what_is_computed_from_constants_is_a_weight(name: str, tmp_path: Path) -> None:
    def build(seed: int) -> ModelProto:
        nodes, constants, _ = chains(seed)[name]
        return model([*nodes, node("Conv", "x w", "a", name="c", **CONV), node("Relu", "a", "y")], constants, opset=19)

    loaded, other = load(build(1), tmp_path, "one"), load(build(2), tmp_path, "two")
    assert kinds(loaded.module) == ["Conv", "Relu"]
    weight = dict(loaded.module.named_parameters())["c.constant1"]
    torch.testing.assert_close(weight.data, torch.from_numpy(chains(1)[name][2]))
    assert loaded.parameters == 4 * 27
    assert loaded.weights_sha256 != other.weights_sha256
    assert loaded.weights_sha256 == load(build(1), tmp_path, "again").weights_sha256
    x = images()
    np.testing.assert_allclose(run(loaded, x), ReferenceEvaluator(build(1)).run(None, {"x": x})[0], atol=1e-4)


def test_a_weight_that_two_nodes_use_counts_once(tmp_path: Path) -> None:
    nodes = [node("Cast", "q", "w", to=1), node("Conv", "x w", "a", **CONV), node("Conv", "a w", "y", **CONV)]
    assert load(model(nodes, {"q": whole(3, 3, 3, 3)}), tmp_path).parameters == 81


def test_integers_that_shapes_are_computed_from_are_no_parameters(tmp_path: Path) -> None:
    constants = {"w": real(4, 3, 1, 1), "zero": np.int64([0]), "rest": np.int64([-1])}
    nodes = [
        node("Conv", "x w", "a"), node("Shape", "a", "s"), node("Gather", "s zero", "b"),
        node("Concat", "b rest", "t", axis=0), node("Reshape", "a t", "y"),
    ]  # fmt: skip
    loaded = load(model(nodes, constants, rank=2), tmp_path)
    assert loaded.parameters == 12
    assert run(loaded, images(2, 3, 16, 16)).shape == (2, 4 * 256)


def test_random_numbers_and_other_domains_are_not_folded(tmp_path: Path) -> None:
    assert not set(_NEVER) & set(OPERATORS)
    foreign = helper.make_node("Mul", ["w", "w"], ["v"], domain="com.example")
    proto = model([foreign, node("Conv", "x v", "y")], {"w": real(4, 3, 1, 1)})
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    assert "com.example.Mul of opset 1" in refusal(proto, tmp_path)


def test_outputs_that_are_the_same_for_every_image_are_left_out(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "y"), node("Add", "k k", "sizes")]
    proto = model(nodes, {"k": real(1, 1, 1, 1)}, outputs=["sizes", "y"])
    x = images()
    np.testing.assert_array_equal(run(load(proto, tmp_path), x), np.maximum(x, 0))
    message = refusal(model([node("Add", "k k", "y")], {"k": real(1, 1, 1, 1)}), tmp_path)
    assert message.endswith("computes the same for every image")


# ---- If


def choice(condition: Any, then: Any, otherwise: Any, output: str = "y") -> Any:
    return node("If", condition, output, name=f"if_{output}", then_branch=then, else_branch=otherwise)


@pytest.mark.parametrize("value", [True, False])
def test_a_constant_condition_takes_its_branch(value: bool, tmp_path: Path) -> None:
    then = branch([node("Conv", "x w", "t", **CONV)], "t", {"w": real(3, 3, 3, 3)})
    otherwise = branch([node("Relu", "x", "e")], "e")
    proto = model([choice("k", then, otherwise)], {"k": np.array([value])})
    loaded, x = load(proto, tmp_path), images()
    assert ("Conv" in kinds(loaded.module)) == value
    assert loaded.parameters == (81 if value else 0)
    np.testing.assert_allclose(run(loaded, x), ReferenceEvaluator(proto).run(None, {"x": x})[0], atol=1e-4)


def test_the_condition_may_be_computed_and_the_branch_not_taken_may_hold_anything(tmp_path: Path) -> None:
    then, otherwise = branch([node("Relu", "x", "t")], "t"), branch([node("NonZero", "x", "e")], "e")
    nodes = [node("Less", "one two", "l"), node("Not", "l", "n"), node("Not", "n", "k"), choice("k", then, otherwise)]
    loaded = load(model(nodes, {"one": np.int64(1), "two": np.int64(2)}), tmp_path)
    assert kinds(loaded.module) == ["Relu", "Identity"]


def test_a_condition_inside_a_branch(tmp_path: Path) -> None:
    inner = choice("k", branch([node("Neg", "m", "t")], "t"), branch([node("Relu", "m", "e")], "e"), "i")
    outer = choice("k", branch([node("Abs", "x", "m"), inner], "i"), branch([node("Relu", "x", "e")], "e"))
    x = images()
    np.testing.assert_array_equal(run(load(model([outer], {"k": np.array(True)}), tmp_path), x), -np.abs(x))


def test_branches_of_two_nodes_may_use_the_same_names(tmp_path: Path) -> None:
    """One branch computes "t" and has a weight "w", the other has a weight "t" and computes "w"."""
    factor, other = np.float32(3).reshape(1, 1, 1, 1), np.float32(5).reshape(1, 1, 1, 1)
    first = branch([node("Mul", "x w", "t"), node("Relu", "t", "o")], "o", {"w": factor})
    second = branch([node("Mul", "a t", "w"), node("Neg", "w", "o")], "o", {"t": other})
    rest = branch([node("Identity", "x", "o")], "o")
    nodes = [choice("k", first, rest, "a"), choice("k", second, rest, "b"), node("Add", "a b", "y")]
    proto, x = model(nodes, {"k": np.array(True)}), images()
    np.testing.assert_allclose(net(proto)(torch.from_numpy(x)).numpy(), -4 * np.maximum(3 * x, 0), rtol=1e-5)
    np.testing.assert_allclose(run(load(proto, tmp_path), x), -4 * np.maximum(3 * x, 0), rtol=1e-5)


def test_a_condition_that_depends_on_the_image_is_refused(tmp_path: Path) -> None:
    nodes = [
        node("ReduceMean", "x", "m", keepdims=0), node("Greater", "m zero", "k"),
        choice("k", branch([node("Relu", "x", "t")], "t"), branch([node("Neg", "x", "e")], "e")),
    ]  # fmt: skip
    message = refusal(model(nodes, {"zero": np.float32(0)}), tmp_path)
    assert message.endswith("decides by the image what it computes: the condition of If if_y is not constant")


# ---- names


@pytest.mark.parametrize(
    "names",
    [("", "", "Conv_2"), ("c", "c", "c_2"), ("c.1", "c_1", "c_1_2"), ("", "Conv_1", ""), ("/a/", "a", "a"),
     ("x", "y", "b")],
    ids=" ".join,
)  # fmt: skip
def test_names_may_be_empty_and_repeat(names: tuple[str, str, str], tmp_path: Path) -> None:
    constants = {f"w{k}": real(3, 3, 3, 3) * 0.3 for k in range(3)}
    tensors = ["x", "a", "b", "y"]
    nodes = [node("Conv", f"{tensors[k]} w{k}", tensors[k + 1], name=names[k], **CONV) for k in range(3)]
    loaded, x = load(model(nodes, constants), tmp_path), images()
    expected = ReferenceEvaluator(model(nodes, constants)).run(None, {"x": x})[0]
    np.testing.assert_allclose(run(loaded, x), expected, rtol=1e-4, atol=1e-4)
    assert loaded.parameters == 3 * 81
    assert len(list(loaded.module.children())) == 3


def test_an_output_in_the_middle_that_is_not_used() -> None:
    """The first output of a recurrent layer is left out, and its second one is not the first."""
    time, size, hidden = 4, 3, 2
    constants = {"w": real(1, 4 * hidden, size), "r": real(1, 4 * hidden, hidden)}
    for outputs, place in (("- h", 1), ("- - c", 2), ("y - c", 2)):
        recurrent = node("LSTM", "x w r", outputs, hidden_size=hidden)
        proto = model([recurrent], constants, shape=(time, 2, size), outputs=[outputs[-1]], rank=3)
        values = OPERATORS["LSTM"](
            recurrent_node(), torch.from_numpy(x := images(time, 2, size)), *map(torch.from_numpy, constants.values())
        )
        torch.testing.assert_close(net(proto)(torch.from_numpy(x)), values[place])


def recurrent_node() -> Any:
    from modelspace.sources.onnx.operators import Node

    return Node("LSTM", 17, {"hidden_size": 2}, 3)


# ---- sides of the input


@pytest.mark.parametrize(
    "shape", [(-1, 3, "h", "w"), (-1, 3, -1, -1), (0, 3, 16, 16), ("b", 3, 16, 16), (2, 3, 16, 16)]
)
def test_sides_that_are_open_or_fixed(shape: tuple[Any, ...], tmp_path: Path) -> None:
    constants = {"w": real(4, 3, 1, 1), "t": np.int64([2 if shape[0] == 2 else -1, 4 * 256])}
    nodes = [node("Conv", "x w", "a"), node("Reshape", "a t", "y")]
    loaded = load(model(nodes, constants, shape=shape, rank=2), tmp_path)
    assert run(loaded, images(2, *IMAGES[1:])).shape == (2, 1024)


def test_a_batch_that_is_fixed_to_one(tmp_path: Path) -> None:
    """Images go one by one through a graph whose shapes are written for one."""
    from modelspace.encoder.layers import executed_layers

    constants = {"w": real(4, 3, 1, 1), "t": np.int64([1, 4 * 256])}
    loaded = load(model([node("Conv", "x w", "a"), node("Reshape", "a t", "y")], constants, rank=2), tmp_path)
    assert loaded.module.modelspace_batch == 1
    assert executed_layers(loaded.module, torch.from_numpy(images(2, *IMAGES[1:])))
