"""ONNX files that attack: data outside their folder, initialisers that are absent, cycles, bombs, nesting, damage.

    python scripts/torture/graphs.py [--count 200 | --full] [--seed 0] [--out graphs.json]

Each is loaded by the address `onnx:FILE`, without flags where it has metadata. No file outside the folder is read, no
process ends, memory and time are bounded, and the error is one sentence.
"""

from __future__ import annotations

import functools
import itertools
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.hostile import Input, main
from torture.weights import mutated

SIDE = 8

#: Axes of any length.
_OPEN = ("a", "b", "c", "d")


def node(kind: str, *inputs: str, y: str = "y", name: str = "", **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, list(inputs), [y], name, **attributes)


def model(
    nodes: Sequence[Any],
    constants: dict[str, Any] | None = None,
    tensors: Sequence[Any] = (),
    opset: int = 17,
    shape: Sequence[Any] = (1, 3, SIDE, SIDE),
    axes: Sequence[Any] = _OPEN,
) -> Any:
    """A model of one image whose preprocessing is in the file."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, axes)],
        [*stored, *tensors],
    )
    out = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    for key, value in (("mean", "0.5,0.5,0.5"), ("std", "0.5,0.5,0.5"), ("input_size", str(SIDE))):
        out.metadata_props.add(key=f"modelspace.{key}", value=value)
    return out


def small() -> Any:
    """A sound network: convolution, activation, pooling, resizing, a linear layer."""
    import numpy as np

    draw = np.random.default_rng(1)
    constants = {
        "w": draw.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b": draw.normal(size=4).astype(np.float32),
        "s": np.array([1, 1, 2, 2], np.float32),
        "m": draw.normal(size=(4, 5)).astype(np.float32),
        "shape": np.array([1, 4], np.int64),
    }
    nodes = [
        node("Conv", "x", "w", "b", y="c", name="conv", pads=[1, 1, 1, 1]),
        node("Relu", "c", y="r", name="relu"),
        node("Resize", "r", "", "s", y="u", name="up", mode="nearest"),
        node("GlobalAveragePool", "u", y="p", name="pool"),
        node("Reshape", "p", "shape", y="f", name="flat"),
        node("MatMul", "f", "m", y="y", name="fc"),
    ]
    return model(nodes, constants, axes=(1, 5))


@functools.cache
def sound() -> bytes:
    return bytes(small().SerializeToString())


def load(folder: Path, content: bytes) -> None:
    from modelspace import sources

    (folder / "net.onnx").write_bytes(content)
    sources.load(f"onnx:{folder / 'net.onnx'}")


Graph = Callable[[], Any]


def given(graph: Graph) -> Callable[[Path], None]:
    return lambda folder: load(folder, graph().SerializeToString())


# --- data elsewhere


def _external(location: str, size: int = 1, more: dict[str, Any] | None = None, where: str = "initialiser") -> Any:
    """A model whose only constant lies in another file: an initialiser, an attribute, or one in a subgraph."""
    from onnx import TensorProto, helper

    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[size], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **(more or {})}.items():
        tensor.external_data.add(key=key, value=str(value))
    if where == "initialiser":
        return model([node("Add", "x", "c")], tensors=[tensor])
    if where == "attribute":
        return model([node("Constant", y="c", value=tensor), node("Add", "x", "c")])
    inner = helper.make_graph(
        [node("Constant", y="k", value=tensor), node("Identity", "k", y="o")],
        "inner",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, _OPEN)],
    )
    return model([node("If", "t", y="i", then_branch=inner, else_branch=inner), node("Add", "x", "i")], {"t": [True]})


def _secret(folder: Path) -> None:
    """What must not be read, outside the folder of the model and behind links in it."""
    (folder / "secret").write_bytes(bytes(64))
    (folder / "model").mkdir()
    (folder / "model" / "link").symlink_to("../secret")
    (folder / "model" / "folder").symlink_to("..")
    (folder / "model" / "zeros").symlink_to("/dev/zero")
    (folder / "model" / "loop").symlink_to("loop")
    os.link(folder / "secret", folder / "model" / "data")
    os.mkfifo(folder / "model" / "pipe")
    (folder / "model" / "part").mkdir()


def external_inputs() -> Iterator[Input]:
    """Constants in files that are none of the model's."""

    def attempt(folder: Path, location: str, where: str, more: dict[str, Any] | None, size: int) -> None:
        _secret(folder)
        load(
            folder / "model", _external(location.replace("FOLDER", str(folder)), size, more, where).SerializeToString()
        )

    places = (
        "../secret",
        "FOLDER/secret",
        "link",
        "folder/secret",
        "zeros",
        "loop",
        "pipe",
        "part",
        "gone",
        "",
        ".",
        "..",
    )
    odd = (
        "./../secret",
        "part/../../secret",
        "..\\secret",
        "file:///etc/passwd",
        "a\x00b",
        "~/secret",
        "%2e%2e/secret",
    )
    for location in (*places, *odd, "a" * 10_000):
        for where in ("initialiser", "attribute", "subgraph"):
            tried = functools.partial(attempt, location=location, where=where, more=None, size=1)
            yield Input("external data", f"{location[:30]!r} of an {where}", tried)
    for more in (
        {"offset": -4},
        {"offset": 1 << 62},
        {"offset": 64, "length": 4},
        {"length": -4},
        {"length": 1 << 62},
        {"length": 8},
        {"offset": "0x0"},
        {"offset": "1e3"},
        {"offset": "9" * 5000},
        {"checksum": "no"},
        {"location": "../secret"},
        {"basepath": ".."},
        {"__class__": "x"},
    ):
        for where in ("initialiser", "attribute"):
            tried = functools.partial(attempt, location="data", where=where, more=more, size=1)
            must = "either" if set(more) & {"checksum", "basepath"} or where == "attribute" else "refuse"
            yield Input("external data", f"{str(more)[:40]} of an {where}", tried, must)
    for size in (1 << 40, 1 << 62, -1, 0):
        tried = functools.partial(attempt, location="data", where="initialiser", more=None, size=size)
        yield Input("external data", f"{size} elements", tried, "either" if size == 0 else "refuse")


# --- constants that claim too much


def _claiming(dims: Sequence[int], data: bytes = b"", kind: int = 1, field: str = "raw_data") -> Any:
    from onnx import TensorProto

    tensor = TensorProto(name="c", data_type=kind, dims=dims)
    if field == "raw_data":
        tensor.raw_data = data
    elif field == "strings":
        tensor.string_data.extend([b"a"] * len(data))
    else:
        getattr(tensor, field).extend([1] * len(data))
    return model([node("Add", "x", "c")], tensors=[tensor])


def claim_inputs() -> Iterator[Input]:
    """Initialisers whose data are absent, or of another size or type than is said."""
    for dims in ([1 << 40], [1 << 31, 1 << 31], [1 << 62, 4], [-1], [-1, -4], [0], [1 << 62, 0], [1] * 1000, [3, 1, 1]):
        for data in (b"", bytes(4)):
            must = "either" if 0 in dims or dims == [1] * 1000 else "refuse"
            name = f"{dims if len(dims) < 9 else '1,000 axes'} with {len(data)} bytes"
            yield Input("claims", name, given(functools.partial(_claiming, dims, data)), must)
            for field in ("float_data", "int32_data", "int64_data", "double_data", "strings"):
                tried = given(functools.partial(_claiming, dims, data, 1, field))
                yield Input("claims", f"{name} as {field}", tried, "either")
    for kind in range(32):
        yield Input("claims", f"type {kind}", given(functools.partial(_claiming, [1], bytes(4), kind)), "either")


# --- graphs that are none


def _cycle(length: int) -> Any:
    nodes = [node("Add", f"t{i}", "x", y=f"t{(i + 1) % length}", name=f"n{i}") for i in range(length)]
    return model([*nodes, node("Relu", "t0")])


def _twice(kind: str) -> Any:
    import numpy as np

    ones = {"c": np.ones(1, np.float32)}
    if kind == "outputs":
        return model([node("Relu", "x", y="a"), node("Abs", "x", y="a"), node("Relu", "a")])
    if kind == "nodes":
        return model([node("Relu", "x", y="a", name="n"), node("Add", "a", "c", y="y", name="n")], ones)
    out = model([node("Add", "x", "c")], ones)
    out.graph.initializer.append(out.graph.initializer[0])
    if kind == "input":
        out.graph.initializer[1].name = "x"
    if kind == "graph output":
        out.graph.output.append(out.graph.output[0])
    return out


def _nested(depth: int, breadth: int = 1) -> bytes:
    """`If` inside `If`: wire format by hand, since building it would take as long as reading it."""
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("o", TensorProto.FLOAT, _OPEN)
    inner = helper.make_graph([node("Identity", "x", y="o")], "inner", [], [value])
    for _ in range(depth):
        nodes = [
            node("If", "t", y="o" if i == 0 else f"o{i}", then_branch=inner, else_branch=inner) for i in range(breadth)
        ]
        inner = helper.make_graph(nodes, "g", [], [value])
    return bytes(model([node("If", "t", then_branch=inner, else_branch=inner)], {"t": [True]}).SerializeToString())


def _deep(depth: int) -> bytes:
    """Graphs in attributes in nodes in graphs, one in each, deeper than the parser may follow."""
    from onnx import AttributeProto, TensorProto, helper

    def field(number: int, content: bytes) -> bytes:
        size, out = len(content), bytes([number << 3 | 2])
        while size > 127:
            out, size = out + bytes([size & 127 | 128]), size >> 7
        return out + bytes([size]) + content

    value = helper.make_tensor_value_info("o", TensorProto.FLOAT, _OPEN).SerializeToString()
    graph = field(1, node("Identity", "x", y="o").SerializeToString()) + field(12, value)
    for _ in range(depth):
        branch = field(1, b"then_branch") + field(6, graph) + bytes([20 << 3 | 0, AttributeProto.GRAPH])
        inner = field(1, b"t") + field(2, b"o") + field(4, b"If") + field(5, branch)
        graph = field(1, inner) + field(12, value)
    out = small()
    out.graph.ClearField("node")
    return bytes(out.SerializeToString()) + field(7, graph)


def structure_inputs() -> Iterator[Input]:
    """Cycles, names that are used twice, nesting, functions that call themselves."""
    for length in (1, 2, 1000):
        yield Input("structure", f"a cycle of {length}", given(functools.partial(_cycle, length)))
    for kind in ("outputs", "nodes", "initialisers", "input", "graph output"):
        yield Input("structure", f"{kind} twice", given(functools.partial(_twice, kind)), "either")
    for depth, breadth in ((10, 1), (13, 1), (4, 4)):
        tried = functools.partial(_nested, depth, breadth)
        yield Input("structure", f"{depth} levels of {breadth} subgraphs", lambda f, t=tried: load(f, t()), "either")
    for depth in (20, 40, 1000, 20_000):
        yield Input("structure", f"{depth} levels, one in each", lambda f, d=depth: load(f, _deep(d)), "either")

    def long_chain() -> Any:
        names = ["x", *(f"t{i}" for i in range(4999)), "y"]
        return model([node("Relu", a, y=b) for a, b in itertools.pairwise(names)])

    def wide() -> Any:
        return model([node("Sum", *["x"] * 20_000)])

    def doubling(depth: int = 60) -> Any:
        names = ["x", *(f"t{i}" for i in range(depth)), "y"]
        return model([node("Add", a, a, y=b) for a, b in itertools.pairwise(names)])

    def function(mutual: bool) -> Any:
        from onnx import helper

        out = model([helper.make_node("f", ["x"], ["y"], domain="own")])
        out.opset_import.append(helper.make_opsetid("own", 1))
        for name, other in (("f", "g" if mutual else "f"), ("g", "f")):
            body = [helper.make_node(other, ["a"], ["b"], domain="own")]
            opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
            out.functions.append(helper.make_function("own", name, ["a"], ["b"], body, opsets))
        return out

    def laughing(depth: int, width: int) -> Any:
        """Each function calls the next `width` times."""
        from onnx import helper

        out = model([helper.make_node("f0", ["x"], ["y"], domain="own")])
        out.opset_import.append(helper.make_opsetid("own", 1))
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        for level in range(depth):
            names = ["a", *(f"t{i}" for i in range(width - 1)), "b"]
            kind, domain = ("Relu", "") if level == depth - 1 else (f"f{level + 1}", "own")
            pairs = itertools.pairwise(names)
            body = [helper.make_node(kind, [a], [b], domain=domain) for a, b in pairs]
            out.functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], body, opsets))
        return out

    yield Input("structure", "a chain of 5,000 nodes", given(long_chain), "either")
    yield Input("structure", "a sum of 20,000", given(wide), "either")
    yield Input("structure", "60 doublings", given(doubling), "either")
    yield Input("structure", "a function that calls itself", given(lambda: function(False)))
    yield Input("structure", "two functions that call each other", given(lambda: function(True)))
    for depth, width in ((3, 10), (9, 10), (30, 2)):
        name = f"functions that call the next {width} times, {depth} deep"
        yield Input("structure", name, given(functools.partial(laughing, depth, width)), "either")
    for version in (-1, 0, 1, 6, 27, 1 << 40):
        yield Input("structure", f"opset {version}", given(functools.partial(_opset, version)), "either")


def _opset(version: int) -> Any:
    out = small()
    out.opset_import[0].version = version
    return out


# --- outputs that are too large


def bomb_inputs() -> Iterator[Input]:
    """Operators with a few bytes of arguments and huge results, of constants and of the image."""
    import numpy as np

    def ints(*values: int) -> Any:
        return np.array(values, np.int64)

    def floats(*values: float) -> Any:
        return np.array(values, np.float32)

    zero, step = floats(0)[0], floats(1e-3)[0]
    sum_up = [node("ReduceSum", "z", y="r", keepdims=0), node("Add", "x", "r")]
    for side in (1 << 14, 1 << 17, 1 << 20, 1 << 40, 1 << 62):
        shape, scale = ints(side, side), floats(1, 1, side, side)
        sides = ints(1, 3, side, side)
        for name, first, constants in (
            ("ConstantOfShape", node("ConstantOfShape", "c", y="z"), {"c": shape}),
            ("Expand of a constant", node("Expand", "k", "c", y="z"), {"c": shape, "k": floats(1)}),
            ("Expand of the image", node("Expand", "x", "c", y="z"), {"c": ints(side, 3, SIDE, SIDE)}),
            ("Tile of a constant", node("Tile", "k", "c", y="z"), {"c": shape, "k": floats(1).reshape(1, 1)}),
            ("Tile of the image", node("Tile", "x", "c", y="z"), {"c": ints(1, 1, side, side)}),
            ("Resize by a factor", node("Resize", "x", "", "c", y="z"), {"c": scale}),
            ("Resize to a size", node("Resize", "x", "", "", "c", y="z"), {"c": sides}),
            (
                "Range",
                node("Range", "a", "c", "k", y="z"),
                {"a": zero, "c": floats(side)[0], "k": step},
            ),
            ("Pad", node("Pad", "x", "c", y="z"), {"c": ints(0, 0, 0, 0, 0, 0, side, side)}),
            ("Pad of a constant", node("Pad", "k", "c", y="z"), {"c": ints(side, side), "k": floats(1)}),
            ("OneHot", node("OneHot", "a", "c", "k", y="z"), {"a": ints(1), "c": ints(side), "k": floats(0, 1)}),
            ("EyeLike", node("EyeLike", "e", y="z"), {"e": np.zeros((2, 2), np.float32)}),
        ):
            tried = given(functools.partial(model, [first, *sum_up], constants))
            yield Input("bomb", f"{name}, {side}", tried, "either")
        grow = [node("Concat", *["x"] * min(side, 4096), y="z", axis=0), *sum_up]
        yield Input("bomb", f"Concat, {side}", given(functools.partial(model, grow)), "either")
        for shape in ((1, 3, side, side), (side, 3, 8, 8), (1, side, 8, 8)):
            tried = given(functools.partial(model, [node("Relu", "x")], None, (), 17, shape))
            yield Input("bomb", f"input of {shape}", tried, "either")
        window = functools.partial(model, [node("MaxPool", "x", kernel_shape=[side, side], pads=[side // 2] * 4)])
        yield Input("bomb", f"MaxPool of {side}", given(window), "either")
        average = functools.partial(model, [node("AveragePool", "x", kernel_shape=[1, 1], pads=[side] * 4)])
        yield Input("bomb", f"AveragePool with pads of {side}", given(average), "either")
        wide = np.ones((1, 3, 1, 1), np.float32)
        padded = [node("Conv", "x", "w", pads=[side] * 4)]
        yield Input("bomb", f"Conv with pads of {side}", given(functools.partial(model, padded, {"w": wide})), "either")
        spread = [node("ConvTranspose", "x", "w", strides=[side, side])]
        wide = np.ones((3, 1, 1, 1), np.float32)
        name = f"ConvTranspose with strides of {side}"
        yield Input("bomb", name, given(functools.partial(model, spread, {"w": wide})), "either")
    twice = [node("Concat", a, a, y=b, axis=0) for a, b in ((f"t{i}", f"t{i + 1}") for i in range(40))]
    chain = [node("Identity", "x", y="t0"), *twice, node("ReduceSum", "t40")]
    yield Input("bomb", "40 doublings of the image", given(functools.partial(model, chain)), "either")
    start = [node("Concat", a, a, y=b, axis=0) for a, b in ((f"t{i}", f"t{i + 1}") for i in range(40))]
    folded = [*start, node("ReduceSum", "t40", y="r", keepdims=0), node("Add", "x", "r")]
    yield Input(
        "bomb", "40 doublings of a constant", given(functools.partial(model, folded, {"t0": floats(1)})), "either"
    )


# --- damage


def damage_inputs(step: int, count: int, seed: int) -> Iterator[Input]:
    """A sound file cut at every `step`-th byte, with one byte changed, and with several changes."""
    content = sound()
    for length in range(0, len(content), step):
        yield Input("truncated", f"after {length} bytes", lambda f, n=length: load(f, content[:n]), "either")
    draw = random.Random(seed)
    for number in range(count):
        place, bit = draw.randrange(len(content)), 1 << draw.randrange(8)
        flipped = content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
        yield Input("flipped", f"{bit} at byte {place}", lambda f, c=flipped: load(f, c), "either")
        if number % 2:
            changed = functools.partial(mutated, content, random.Random(f"{seed} {number}"))
            yield Input("mutated", str(number), lambda f, c=changed: load(f, c()), "either")


def inputs(count: int, seed: int) -> list[Input]:
    """All inputs; `count` random flips, and half as many mutations."""
    sound_input = Input("sound", "the network", lambda folder: load(folder, sound()), "load")
    listed = [sound_input, *external_inputs(), *claim_inputs(), *structure_inputs(), *bomb_inputs()]
    return [*listed, *damage_inputs(16 if count > 1000 else 64, count, seed)]


if __name__ == "__main__":
    main(__file__, "ONNX files", inputs, short=100, full=6000, growth=4096)
