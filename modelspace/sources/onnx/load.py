"""``onnx:model.onnx``: an ONNX file, turned into a torch module, so that it has gradients and layers to tap.

Nothing of the file is run as code: its operators are looked up in `modelspace.sources.onnx.operators`, and one that is not there
is refused by name and version. Every node becomes a submodule with the node's name, which owns the weights that the node
uses; `--layer` takes that name, or the name of the node or of one of its outputs as the file has it.

Before anything is made of a file its claims are checked: each tensor's bytes against its shape, data outside the file
against the file's own folder, and the graph by onnx's checker.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import torch
from onnx import external_data_helper, numpy_helper
from torch import Tensor, nn

from modelspace.errors import ModelspaceError, UsageError
from modelspace.names import did_you_mean
from modelspace.probes.preprocess import to_input
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe, merge_preprocessing
from modelspace.sources.onnx.compare import compare, is_quantised
from modelspace.sources.onnx.fold import all_nodes, as_constant, folded
from modelspace.sources.onnx.operators import DTYPES, OPERATORS, Node, Unsupported
from modelspace.sources.recorded import check_shape, example, input_size
from modelspace.sources.trust import FileBytes, read_once
from modelspace.types import Preprocessing

#: Versions of the standard operators that are understood. Older files differ in how they broadcast and normalise.
OPSETS = range(7, 27)

#: Entries of a file's metadata by which it describes itself, each "modelspace." and one of these.
TEXTS = ("layer", "task", "data")
METADATA = (*(entry.name for entry in fields(PreprocessingFlags) if entry.name != "inputs"), *TEXTS)

#: First version of the package onnx that is safe to read foreign files with.
OLDEST = (1, 21)

_PREFIX = "modelspace."
_DOMAINS = ("", "ai.onnx")
#: Inputs that are running statistics: buffers in torch, and without a gradient.
_STATISTICS = {"BatchNormalization": (3, 4)}
_REEXPORT = "export it anew, for example with torch.onnx.export(..., opset_version=18), or load its source with python:"


class OnnxStep(nn.Module):
    """One node of an ONNX graph. Its constant inputs are its own; it is called with the others."""

    def __init__(self, node: Node, title: str, constants: Sequence[Tensor | None], given: Sequence[bool]) -> None:
        super().__init__()
        self.modelspace_kind = node.kind
        self._node = node
        self.title = title
        self._run = OPERATORS[node.kind]
        #: The type that floating results are converted to, while the model runs in another than its file's.
        self.modelspace_precision: torch.dtype | None = None
        # per input: the attribute that holds it, "" where it is given, None where it is left out
        self._slots: list[str | None] = []
        for number, (value, is_given) in enumerate(zip(constants, given, strict=True)):
            if is_given or value is None:
                self._slots.append("" if is_given else None)
                continue
            name = f"constant{number}"
            self._slots.append(name)
            if isinstance(value, nn.Parameter) and number in _STATISTICS.get(node.kind, ()):
                self.register_buffer(name, value.data)
            elif isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                # numbers that shapes are computed from stay on the CPU, wherever the model goes
                setattr(self, name, value)

    def forward(self, *inputs: Tensor) -> Any:
        left = iter(inputs)
        values = [next(left) if slot == "" else None if slot is None else getattr(self, slot) for slot in self._slots]
        try:
            result = self._run(self._node, *values)
            return result if self.modelspace_precision is None else _converted(result, self.modelspace_precision)
        except Unsupported as reason:
            raise unsupported(self._node, f"{reason} ({self.title})") from reason


def _converted(value: Any, dtype: torch.dtype) -> Any:
    """The floating tensors of a result in a type."""
    if isinstance(value, tuple | list):
        return tuple(_converted(each, dtype) for each in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


class OnnxNet(nn.Module):
    """The graph of an ONNX file. Takes its one input, in the file's own order of axes."""

    def __init__(self, graph: _Graph) -> None:
        super().__init__()
        self.input_name, self.output_names = graph.input, tuple(graph.outputs)
        self._dtype = graph.dtype
        self.modelspace_aliases: dict[str, str] = {}
        if graph.shape and graph.shape[0] is not None:
            self.modelspace_batch = graph.shape[0]
        # Per step: its name, the tensors that it is given and gives, and those that nothing needs after it.
        self._plan: list[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = []
        used: set[str] = set()
        for step in graph.steps():
            name = _module_name(step.name, step.node.kind, used)
            self.add_module(name, OnnxStep(step.node, step.title, step.constants, step.given))
            inputs = tuple(text for text, given in zip(step.inputs, step.given, strict=True) if given)
            self._plan.append((name, inputs, step.outputs, ()))
            for alias in (step.name, *step.outputs):
                if alias and alias != name:
                    self.modelspace_aliases.setdefault(alias, name)
        self._forget()

    def steps(self) -> Iterator[tuple[OnnxStep, tuple[str, ...], tuple[str, ...]]]:
        """The nodes in the order in which they run: the step, and the names of the tensors that it is given and gives."""
        for name, inputs, outputs, _ in self._plan:
            yield self._modules[name], inputs, outputs  # type: ignore[misc]

    def _forget(self) -> None:
        last = dict.fromkeys(self.output_names, len(self._plan))
        for number in reversed(range(len(self._plan))):
            name, inputs, outputs, _ = self._plan[number]
            over = tuple(text for text in dict.fromkeys((*inputs, *outputs)) if text and text not in last)
            last.update(dict.fromkeys(over, number))
            self._plan[number] = (name, inputs, outputs, over)

    def forward(self, x: Tensor) -> Any:
        values = {self.input_name: x if x.dtype == torch.float64 else x.to(self._dtype)}
        for name, inputs, outputs, over in self._plan:
            made = self._modules[name](*[values[text] for text in inputs])  # type: ignore[misc]
            made = made if isinstance(made, tuple | list) else (made,)
            values.update(zip((text for text in outputs if text), made, strict=False))
            for text in over:
                values.pop(text, None)
        results = [values[text] for text in self.output_names]
        return results[0] if len(results) == 1 else dict(zip(self.output_names, results, strict=True))


def _module_name(name: str, kind: str, used: set[str]) -> str:
    """A name that torch allows for a submodule: no dots, not empty, not taken. Names in a file may repeat, or be empty."""
    plain = re.sub(r"[^0-9A-Za-z_/:-]", "_", name.strip("/")) or kind
    # A number behind a name may make another node's name, so each is looked up. Nodes without a name are counted.
    numbered = (f"{plain}_{number}" for number in itertools.count(1 if not name.strip("/") else 2))
    candidates = itertools.chain([plain] if name.strip("/") else [], numbered)
    chosen = next(candidate for candidate in candidates if candidate not in used)
    used.add(chosen)
    return chosen


def unsupported(node: Node, detail: str) -> ModelspaceError:
    return ModelspaceError(
        f"the ONNX operator {node.kind} of opset {node.opset} is not supported with {detail}", _REEXPORT
    )


def load(rest: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Load an ONNX file.

    Raises:
        NotFoundError: there is no such file.
        UsageError: weights were given, or preprocessing that nobody states.
        ModelspaceError: the file is damaged, refers to data outside its folder, or has an operator that is not supported.
    """
    uri = f"onnx:{rest}"
    if weights is not None:
        raise UsageError(f"{uri} brings its own weights", "leave `weights=` out")
    if tuple(int(part) for part in onnx.__version__.split(".")[:2] if part.isdecimal()) < OLDEST:
        raise ModelspaceError(
            f"onnx {onnx.__version__} reads files beside a model without care (CVE-2026-27489, CVE-2026-34445)",
            "pip install 'modelspace[onnx]' brings a version that does not",
        )
    file = read_once(rest, "an ONNX file")
    model = _parse(file)
    stated = _metadata(model, file.path)
    graph = _Graph(model, file.path)
    texts = {key: stated.pop(key, None) for key in TEXTS}
    own = PreprocessingFlags.parse(**stated).stated()
    if graph.channels_last:
        own.setdefault("layout", "nhwc")
    size = input_size(graph.shape, str(flags.layout or own.get("layout", "nchw")))
    if size is not None:
        own.setdefault("input_size", size)
    preprocessing = merge_preprocessing(own, flags, uri)
    check_shape(graph.shape, preprocessing, uri)
    net = OnnxNet(graph).eval()
    _try(net, graph, preprocessing)
    compared = _compared(model, net, preprocessing, file.path)
    return describe(
        net,
        uri=uri,
        name=Path(rest).stem,
        flags=flags,
        stated=own,
        architecture=f"ONNX {model.graph.name}".strip(),
        tags={"file_sha256": file.sha256, **graph.external, **compared},
        code=file.sha256,
        **texts,
    )


def _try(net: OnnxNet, graph: _Graph, preprocessing: Preprocessing) -> None:
    """Run it once, so that what is not supported is known when the model is loaded."""
    x = example(graph.shape, preprocessing)
    try:
        with torch.no_grad():
            net(x)
    except ModelspaceError:
        raise
    except Exception as error:
        text = (str(error).strip().splitlines() or [""])[0]
        raise ModelspaceError(
            f"the ONNX graph fails on an input of {'x'.join(map(str, x.shape))}: {type(error).__name__}: {text[:200]}",
            "check `input_size=` and `channels=`",
        ) from error


def _compared(model: onnx.ModelProto, net: OnnxNet, preprocessing: Preprocessing, path: Path) -> dict[str, str]:
    """Refuse a file whose conversion computes something else; returns a tag that says what it was compared with.

    Raises:
        ModelspaceError: names the first node that differs from the reference.
    """
    draw = np.random.default_rng(0)
    height, width = preprocessing.input_size
    coarse = draw.integers(0, 256, (1, -(-height // 8), -(-width // 8), 3))
    image = np.kron(coarse, np.ones((1, 8, 8, 1), dtype=int))[:, :height, :width]
    pixels = np.clip(image + draw.integers(-20, 21, image.shape), 0, 255).astype(np.uint8)
    x = to_input(pixels, replace(preprocessing, resize=None))
    size = getattr(net, "modelspace_batch", None) or 1
    result = compare(model, net, x.expand(size, *x.shape[1:]).contiguous())
    if not result.reference:
        return {"compared_with": "nothing: neither onnxruntime nor onnx's reference can run the file"}
    if not result.is_equal and not is_quantised(model):
        raise ModelspaceError(
            f"{path} is not computed as it should be: {result.node} differs from {result.reference} by "
            f"{result.node_difference:.1e}",
            "please report it with the file; until then export the model anew, or load its source with python:",
        )
    return {"compared_with": f"{result.reference}, difference {result.difference:.0e}"}


# --- reading and checking


def _parse(file: FileBytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(file.content)
    except Exception as error:
        raise ModelspaceError(f"{file.path} can't be read as ONNX", "it may be damaged or cut short") from error
    if not model.graph.node or not model.opset_import:
        raise ModelspaceError(f"{file.path} holds no ONNX model", "is it the file that the exporter wrote?")
    for tensor in _tensors(model.graph):
        _check_tensor(tensor, file.path)
    try:
        onnx.checker.check_model(str(file.path) if _is_external(model) else model)
    except Exception as error:
        text = (str(error).strip().splitlines() or [""])[0]
        raise ModelspaceError(f"{file.path} is no valid ONNX model: {text[:200]}", "export it again") from error
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return model


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All constants of a graph: initialisers and attributes, also those of graphs inside nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _tensors(inner)


def _is_external(model: onnx.ModelProto) -> bool:
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model.graph))


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    """Refuse a constant whose shape claims other than its bytes hold, or whose bytes lie outside the file's folder."""
    name = tensor.name or "a constant"
    if tensor.data_type not in DTYPES and tensor.data_type != onnx.TensorProto.STRING:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        raise ModelspaceError(f"{path}: {name} is of type {kind}, which has no gradient here", "export it in float32")
    size = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        data = _inside(path, entries.get("location", ""), name)
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
        except ValueError as error:
            raise ModelspaceError(f"{path}: {name} states no number for where its data lie") from error
        if length != size or offset < 0 or offset + length > data.stat().st_size:
            raise ModelspaceError(
                f"{path} is refused: {name} claims {size:,} bytes, and {data.name} does not hold them",
                "fetch both files again",
            )
        return
    if tensor.HasField("raw_data") and len(tensor.raw_data) != size:
        raise ModelspaceError(
            f"{path} is refused: {name} claims {size:,} bytes and has {len(tensor.raw_data):,}", "fetch it again"
        )
    if not tensor.HasField("raw_data") and tensor.data_type != onnx.TensorProto.STRING:
        stored = max(len(tensor.float_data), len(tensor.int32_data), len(tensor.int64_data), len(tensor.double_data))
        if stored != math.prod(tensor.dims):
            raise ModelspaceError(
                f"{path} is refused: {name} claims {math.prod(tensor.dims):,} elements and has {stored:,}",
                "fetch it again",
            )


def _inside(path: Path, location: str, name: str) -> Path:
    """The file beside the model that holds a tensor's bytes; it may lie in no other folder, by any detour."""
    folder = path.resolve().parent
    data = folder / location
    if not location or Path(location).is_absolute() or not data.resolve().is_relative_to(folder):
        raise ModelspaceError(
            f"{path} is refused: {name} lies in {location or 'no file'!r}, outside the model's folder",
            "put the data file beside the model and export it again",
        )
    if data.is_symlink() or not data.is_file():
        raise ModelspaceError(f"{path} needs the file {location} beside it", "fetch it too, or export with one file")
    return data


def _metadata(model: onnx.ModelProto, path: Path) -> dict[str, str]:
    """What the file says of itself under "modelspace.": texts as the flags of the command line take them."""
    stated = {entry.key: entry.value for entry in model.metadata_props if entry.key.startswith(_PREFIX)}
    found = {key.removeprefix(_PREFIX): value for key, value in stated.items()}
    if strangers := sorted(set(found) - set(METADATA)):
        raise UsageError(
            f"{path} has unknown metadata {_PREFIX}{strangers[0]}",
            did_you_mean(strangers[0], METADATA, f"known are {', '.join(METADATA)}"),
        )
    return found


# --- the graph


@dataclass
class _Step:
    """A node with its inputs: tensors' names, which of them are given in the forward pass, and the others' values."""

    name: str
    title: str
    node: Node
    inputs: list[str]
    outputs: tuple[str, ...]
    given: list[bool]
    constants: list[Tensor | None]


class _Graph:
    """What is needed of an ONNX graph, checked.

    Attributes:
        input: name of the one input; shape: its sides as the file orders them, None where open.
        channels_last: whether its sides show that it is (B, H, W, C).
        outputs: names of the outputs.
        external: tags that fingerprint data outside the file.
    """

    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        self._path = path
        self._versions = {entry.domain: entry.version for entry in model.opset_import}
        version = next((self._versions[domain] for domain in _DOMAINS if domain in self._versions), 0)
        self._nodes = _fused(list(model.graph.node), version, model.graph)
        self._refuse_operators()
        if version not in OPSETS:
            raise ModelspaceError(
                f"{path} has opset {version}, and {OPSETS[0]} to {OPSETS[-1]} are understood",
                "onnx.version_converter.convert_version(model, 18) brings it to another one",
            )
        self._opset = version
        self._constants: dict[str, Tensor] = {}
        self.external: dict[str, str] = {}
        self._read_constants(model)
        inputs = [entry for entry in model.graph.input if entry.name not in self._constants]
        if len(inputs) != 1:
            names = ", ".join(entry.name for entry in inputs)
            raise ModelspaceError(
                f"{path} takes {len(inputs)} inputs ({names}), and a model here takes one batch of images",
                "export a model with one input",
            )
        self.input = inputs[0].name
        self.outputs = [entry.name for entry in model.graph.output]
        kind = inputs[0].type.tensor_type
        if kind.elem_type not in (1, 11):
            name = onnx.TensorProto.DataType.Name(kind.elem_type)
            raise ModelspaceError(
                f"{path} takes an input of type {name}, and gradients need float32", "export it with a float32 input"
            )
        self.dtype = DTYPES[kind.elem_type]
        sides = [side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim]
        # 0 and, from older exporters, -1 stand for an open side.
        sides = [side if side is not None and side > 0 else None for side in sides]
        self.shape: tuple[int | None, ...] = tuple(sides)
        self.channels_last = len(sides) == 4 and sides[1] not in (1, 3) and sides[3] in (1, 3)

    def _refuse_operators(self) -> None:
        """All operators that are not there, before anything is made of the file."""
        absent: Counter[str] = Counter()
        for node in all_nodes(self._nodes):
            if node.domain not in _DOMAINS or node.op_type not in {*OPERATORS, "Constant", "If"}:
                domain = f"{node.domain}." if node.domain not in _DOMAINS else ""
                version = self._versions.get(node.domain, self._versions.get("", 0))
                absent[f"{domain}{node.op_type} of opset {version}"] += 1
        if absent:
            named = ", ".join(name if n == 1 else f"{name} x {n}" for name, n in absent.items())
            more = "s" if len(absent) > 1 else ""
            raise ModelspaceError(
                f"{self._path} needs the ONNX operator{more} {named}, which is not supported", _REEXPORT
            )

    def _read_constants(self, model: onnx.ModelProto) -> None:
        files: dict[str, str] = {}
        for tensor in model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                location = next(entry.value for entry in tensor.external_data if entry.key == "location")
                data = _inside(self._path, location, tensor.name)
                if location not in files:
                    files[location] = hashlib.sha256(data.read_bytes()).hexdigest()
                external_data_helper.load_external_data_for_tensor(tensor, str(self._path.resolve().parent))
            self._constants[tensor.name] = _weight(tensor)
        if files:
            self.external["data_sha256"] = ",".join(files.values())
        self._nodes = folded(self._nodes, self._constants, self._read, _constant, _weight)
        if undecided := [node.name or node.output[0] for node in self._nodes if node.op_type == "If"]:
            raise ModelspaceError(
                f"{self._path} decides by the image what it computes: the condition of If {undecided[0]} is not constant",
                _REEXPORT,
            )

    def _read(self, node: onnx.NodeProto) -> Node:
        """A node as `OPERATORS` take it."""
        outputs = list(node.output)
        while outputs and not outputs[-1]:
            outputs.pop()
        attributes = {entry.name: _attribute(entry) for entry in node.attribute}
        return Node(node.op_type, self._opset, attributes, len(outputs))

    def steps(self) -> Iterator[_Step]:
        """The nodes in the order of the file, which the checker has found to be one that they can be run in."""
        for node in self._nodes:
            inputs, outputs = list(node.input), tuple(node.output)
            while outputs and not outputs[-1]:
                outputs = outputs[:-1]
            given = [bool(name) and name not in self._constants for name in inputs]
            constants = [self._constants.get(name) if name else None for name in inputs]
            title = f"node {node.name}" if node.name else f"the node that makes {outputs[0]}"
            yield _Step(node.name, title, self._read(node), inputs, outputs, given, constants)


def _weight(tensor: onnx.TensorProto) -> Tensor:
    """A stored tensor as a constant."""
    array = numpy_helper.to_array(tensor)
    return as_constant(torch.tensor(np.array(array if array.dtype.kind in "fiub" else array.astype(np.float32))))


def _constant(node: onnx.NodeProto) -> Tensor:
    entry = node.attribute[0]
    value = _attribute(entry)
    if isinstance(value, Tensor):
        return as_constant(value)
    if entry.name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise ModelspaceError(f"the ONNX constant {node.output[0]} is given as {entry.name}", _REEXPORT)
    return torch.tensor(value)


def _attribute(entry: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, onnx.TensorProto):
        found = _weight(value)
        return found.data if isinstance(found, nn.Parameter) else found
    return list(value) if entry.type in (entry.FLOATS, entry.INTS, entry.STRINGS) else value


# --- GELU, which older versions have no operator for


def _fused(nodes: list[onnx.NodeProto], opset: int, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes with x · (1 + erf(x / √2)) / 2 put together to one Gelu.

    ε-LRP treats a product of two activations otherwise than a GELU, and the model that was exported had a GELU.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t for node in nodes if node.op_type == "Constant" and node.attribute
    }
    makers = {name: node for node in nodes for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)
    kept = {entry.name for entry in graph.output}

    def number(name: str) -> float | None:
        tensor = constants.get(name)
        if tensor is None or math.prod(tensor.dims) != 1 or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        array = numpy_helper.to_array(tensor)
        return float(array.reshape(-1)[0]) if array.dtype.kind in "fiu" else None

    def beside(node: onnx.NodeProto, value: float) -> str | None:
        """The other input of a node of two, one of which is this number."""
        for own, other in ((0, 1), (1, 0)):
            if (
                len(node.input) == 2
                and _near(number(node.input[own]), value)
                and not (node.op_type == "Div" and own == 0)
            ):
                return str(node.input[other])
        return None

    def only_user(name: str, kind: str) -> onnx.NodeProto | None:
        found = users.get(name, [])
        return found[0] if len(found) == 1 and found[0].op_type == kind and name not in kept else None

    gone: set[int] = set()
    replaced: dict[int, onnx.NodeProto] = {}
    for erf in nodes:
        inner = makers.get(erf.input[0]) if erf.op_type == "Erf" else None
        if inner is None or inner.op_type not in ("Div", "Mul"):
            continue
        source = beside(inner, math.sqrt(2.0) if inner.op_type == "Div" else math.sqrt(0.5))
        plus = only_user(erf.output[0], "Add")
        if source is None or plus is None or beside(plus, 1.0) is None or only_user(inner.output[0], "Erf") is None:
            continue
        chain = _gelu_end(source, plus, only_user, beside, makers)
        if chain is None:
            continue
        last = chain[-1]
        gone |= {id(node) for node in (inner, erf, plus, *chain)}
        replaced[id(last)] = onnx.helper.make_node("Gelu", [source], [last.output[0]], name=last.name or erf.name)
    return [replaced.get(id(node), node) for node in nodes if id(node) not in gone or id(node) in replaced]


def _gelu_end(
    source: str,
    plus: onnx.NodeProto,
    only_user: Callable[[str, str], onnx.NodeProto | None],
    beside: Callable[[onnx.NodeProto, float], str | None],
    makers: Mapping[str, onnx.NodeProto],
) -> list[onnx.NodeProto] | None:
    """The products of x, (1 + erf) and a half, in whichever order they are taken; the last one last."""
    first = only_user(plus.output[0], "Mul")
    if first is None:
        return None
    other = next((name for name in first.input if name != plus.output[0]), plus.output[0])
    half = makers.get(other)
    if other == source:  # (x · (1 + erf)) · ½
        second = only_user(first.output[0], "Mul")
        return [first, second] if second is not None and beside(second, 0.5) is not None else None
    if beside(first, 0.5) is not None:  # ((1 + erf) · ½) · x
        second = only_user(first.output[0], "Mul")
        return [first, second] if second is not None and source in second.input else None
    if half is not None and half.op_type == "Mul" and beside(half, 0.5) == source:  # (x · ½) · (1 + erf)
        return [half, first] if only_user(half.output[0], "Mul") is not None else None
    return None


def _near(found: float | None, value: float) -> bool:
    return found is not None and math.isclose(found, value, rel_tol=1e-4)
