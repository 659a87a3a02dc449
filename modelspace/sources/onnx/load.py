"""``onnx:model.onnx``: an ONNX file, converted to a torch module, so that it has gradients and layers to tap.

No code in the file is run: operators are looked up in `modelspace.sources.onnx.operators`, and an unknown one is
refused by name and version. Every node becomes a submodule with the node's name, which has the weights that the node
uses; `--layer` accepts that name, and the original names of the node and of its outputs.

A file is checked before it is converted: the bytes of each tensor against its shape, external data against the file's
folder, and the graph with onnx's checker.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
from modelspace.files import absent, read_regular
from modelspace.names import did_you_mean
from modelspace.probes.preprocess import to_input
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe, merge_preprocessing
from modelspace.sources.formats import other_format
from modelspace.sources.onnx.compare import compare, is_quantised
from modelspace.sources.onnx.fold import as_constant, folded
from modelspace.sources.onnx.fusion import fuse_gelu
from modelspace.sources.onnx.limits import LARGEST_RESULT, LARGEST_TOTAL, Limited, check_size, constant_limit
from modelspace.sources.onnx.nodes import DOMAINS
from modelspace.sources.onnx.operators import DTYPES, OPERATORS, Node, Unsupported
from modelspace.sources.recorded import check_shape, example, input_size, sides
from modelspace.sources.trust import FileBytes, read_once
from modelspace.types import Preprocessing

#: Supported versions of the standard operators. Older ones broadcast and normalise differently.
OPSETS = range(7, 27)

#: Entries in a file's metadata that describe the model, each with the prefix "modelspace.".
TEXTS = ("layer", "task", "data")
METADATA = (*(entry.name for entry in fields(PreprocessingFlags) if entry.name != "inputs"), *TEXTS)

#: First version of the package onnx that reads untrusted files safely.
OLDEST = (1, 21)

_PREFIX = "modelspace."
#: Positions of the inputs that are running statistics: buffers in torch, without a gradient.
_STATISTICS = {"BatchNormalization": (3, 4)}
_REEXPORT = (
    "export it again, for example with torch.onnx.export(..., opset_version=18), or load its source with python:"
)


class OnnxStep(nn.Module):
    """One node of an ONNX graph. It stores its constant inputs, and is called with the others."""

    def __init__(self, node: Node, title: str, constants: Sequence[Tensor | None], is_input: Sequence[bool]) -> None:
        super().__init__()
        self.modelspace_kind = node.kind
        self.node = node
        self.title = title
        self._run = OPERATORS[node.kind]
        #: The type that floating results are converted to, if the model runs in another precision than its file's.
        self.modelspace_precision: torch.dtype | None = None
        # For each input: the attribute that stores it, "" if forward() is called with it, None if it is omitted.
        self._slots: list[str | None] = []
        for number, (value, variable) in enumerate(zip(constants, is_input, strict=True)):
            if variable or value is None:
                self._slots.append("" if variable else None)
                continue
            name = f"constant{number}"
            self._slots.append(name)
            if isinstance(value, nn.Parameter) and number in _STATISTICS.get(node.kind, ()):
                self.register_buffer(name, value.data)
            elif isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                # Numbers that shapes are computed from stay on the CPU when the model is moved.
                setattr(self, name, value)

    def forward(self, *inputs: Tensor) -> Any:
        """Run the operator."""
        queue = iter(inputs)
        values = [next(queue) if slot == "" else None if slot is None else getattr(self, slot) for slot in self._slots]
        try:
            result = self._run(self.node, *values)
            return result if self.modelspace_precision is None else _converted(result, self.modelspace_precision)
        except Unsupported as reason:
            raise unsupported(self.node, f"{reason} ({self.title})") from reason


def _converted(value: Any, dtype: torch.dtype) -> Any:
    """The floating tensors of a result in a type."""
    if isinstance(value, tuple | list):
        return tuple(_converted(each, dtype) for each in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


class OnnxNet(nn.Module):
    """The graph of an ONNX file. Takes its only input, in the file's order of axes."""

    def __init__(self, graph: _Graph) -> None:
        super().__init__()
        self.input_name, self.output_names = graph.input, tuple(graph.outputs)
        self._dtype = graph.dtype
        self.modelspace_aliases: dict[str, str] = {}
        if graph.shape and graph.shape[0] is not None:
            self.modelspace_batch = graph.shape[0]
        # For each step: its name, its input and output tensors, and the tensors that no later step uses.
        self._plan: list[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = []
        used: set[str] = set()
        for step in graph.steps():
            name = _module_name(step.name, step.node.kind, used)
            self.add_module(name, OnnxStep(step.node, step.title, step.constants, step.is_input))
            inputs = tuple(tensor for tensor, is_input in zip(step.inputs, step.is_input, strict=True) if is_input)
            self._plan.append((name, inputs, step.outputs, ()))
            for alias in (step.name, *step.outputs):
                if alias and alias != name:
                    self.modelspace_aliases.setdefault(alias, name)
        self._plan_releases()

    def steps(self) -> Iterator[tuple[OnnxStep, tuple[str, ...], tuple[str, ...]]]:
        """The nodes in the order in which they run: the step, and the names of its input and output tensors."""
        for name, inputs, outputs, _ in self._plan:
            yield self._modules[name], inputs, outputs  # type: ignore[misc]

    def _plan_releases(self) -> None:
        last_use = dict.fromkeys(self.output_names, len(self._plan))
        for number in reversed(range(len(self._plan))):
            name, inputs, outputs, _ = self._plan[number]
            unused = tuple(tensor for tensor in dict.fromkeys((*inputs, *outputs)) if tensor and tensor not in last_use)
            last_use.update(dict.fromkeys(unused, number))
            self._plan[number] = (name, inputs, outputs, unused)

    def forward(self, x: Tensor) -> Any:
        """The only output, or a dict of all outputs."""
        values = {self.input_name: x if x.dtype == torch.float64 else x.to(self._dtype)}
        for name, inputs, outputs, unused in self._plan:
            results = self._modules[name](*[values[tensor] for tensor in inputs])  # type: ignore[misc]
            results = results if isinstance(results, tuple | list) else (results,)
            # An output that is not used has no name, but its place.
            values.update((tensor, value) for tensor, value in zip(outputs, results, strict=False) if tensor)
            for tensor in unused:
                values.pop(tensor, None)
        if len(self.output_names) == 1:
            return values[self.output_names[0]]
        return {tensor: values[tensor] for tensor in self.output_names}


def _module_name(name: str, kind: str, used: set[str]) -> str:
    """A valid and unique name for a submodule: without dots, not empty. Names in a file may repeat, or be empty."""
    valid = re.sub(r"[^0-9A-Za-z_/:-]", "_", name.strip("/")) or kind
    # A name with a number may be another node's name, so each is looked up. Nodes without a name are counted.
    numbered = (f"{valid}_{number}" for number in itertools.count(1 if not name.strip("/") else 2))
    candidates = itertools.chain([valid] if name.strip("/") else [], numbered)
    unique = next(candidate for candidate in candidates if candidate not in used)
    used.add(unique)
    return unique


def unsupported(node: Node, detail: str) -> ModelspaceError:
    """The error for a node that can't be run."""
    return ModelspaceError(
        f"the ONNX operator {node.kind} of opset {node.opset} is not supported with {detail}", _REEXPORT
    )


#: Protocol buffers have at most 2 GB; larger models keep their weights in other files.
_LARGEST = 2 << 30


def load(path: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Load an ONNX file.

    Raises:
        NotFoundError: there is no such file.
        UsageError: weights were given, or incomplete preprocessing.
        ModelspaceError: the file is damaged, refers to data outside its folder, or has an unsupported operator.
    """
    uri = f"onnx:{path}"
    if weights is not None:
        raise UsageError(f"{uri} has its own weights", "leave `weights=` out")
    if tuple(int(part) for part in onnx.__version__.split(".")[:2] if part.isdecimal()) < OLDEST:
        raise ModelspaceError(
            f"onnx {onnx.__version__} reads external data unsafely (CVE-2026-27489, CVE-2026-34445)",
            "pip install 'modelspace-db[onnx]' installs a safe version",
        )
    file = read_once(path, "an ONNX file", _LARGEST)
    model = _parse(file)
    metadata = _metadata(model, file.path)
    graph = _Graph(model, file.path, len(file.content))
    texts = {key: metadata.pop(key, None) for key in TEXTS}
    defaults = PreprocessingFlags.parse(**metadata).stated()
    if graph.channels_last:
        defaults.setdefault("layout", "nhwc")
    size = input_size(graph.shape, str(flags.layout or defaults.get("layout", "nchw")))
    if size is not None:
        defaults.setdefault("input_size", size)
    preprocessing = merge_preprocessing(defaults, flags, uri)
    check_shape(graph.shape, preprocessing, uri)
    net = OnnxNet(graph).eval()
    _try(net, graph, preprocessing)
    compared = _compared(model, net, preprocessing, file.path)
    return describe(
        net,
        uri=uri,
        name=Path(path).stem,
        flags=flags,
        preprocessing=defaults,
        architecture=f"ONNX {model.graph.name}".strip(),
        tags={"file_sha256": file.sha256, **graph.external, **compared},
        code=file.sha256,
        **texts,  # type: ignore[arg-type]
    )


def _try(net: OnnxNet, graph: _Graph, preprocessing: Preprocessing) -> None:
    """Run the model once, so that unsupported nodes are reported when it is loaded."""
    shape = sides(graph.shape, preprocessing)
    check_size(shape, 4 * math.prod(shape), LARGEST_RESULT)
    x = example(graph.shape, preprocessing)
    try:
        with torch.no_grad(), Limited(LARGEST_RESULT, LARGEST_TOTAL):
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
        return {"compared_with": "nothing: neither onnxruntime nor onnx's reference runs the file in time"}
    if not result.is_equal and not is_quantised(model):
        raise ModelspaceError(
            f"{path} is not computed as it should be: {result.node} differs from {result.reference} by "
            f"{result.node_difference:.1e}",
            "please report it with the file; until then export the model again, or load its source with python:",
        )
    return {"compared_with": f"{result.reference}, difference {result.difference:.0e}"}


# --- reading and checking


def _parse(file: FileBytes) -> onnx.ModelProto:
    if (other := other_format(file.content)) is not None:
        raise ModelspaceError(f"{file.path} is {other[0]}, not ONNX", other[1])
    model = onnx.ModelProto()
    try:
        model.ParseFromString(file.content)
    except Exception as error:
        raise ModelspaceError(f"{file.path} can't be read as ONNX", "it may be damaged or truncated") from error
    if not model.graph.node or not model.opset_import:
        raise ModelspaceError(f"{file.path} has no ONNX model", "is it the file that the exporter wrote?")
    if not _is_text(model):
        raise ModelspaceError(
            f"{file.path} has names that are not text", "it may be damaged: download or export it again"
        )
    for tensor in _tensors(model.graph):
        _check_tensor(tensor, file.path)
    try:
        onnx.checker.check_model(str(file.path) if _is_external(model) else model)
    except Exception as error:
        text = (str(error).strip().splitlines() or [""])[0]
        raise ModelspaceError(f"{file.path} is not a valid ONNX model: {text[:200]}", "export it again") from error
    if model.functions:
        _check_functions(model, file.path)
        model = onnx.inliner.inline_local_functions(model)
    return model


def _is_text(message: Any) -> bool:
    """Whether all strings in a message of protobuf are: bytes that are not UTF-8 come back as bytes.

    Of a tensor only what names it is read, since reading its numbers would copy them.
    """
    if isinstance(message, onnx.TensorProto):
        entries = [text for entry in message.external_data for text in (entry.key, entry.value)]
        return all(isinstance(text, str) for text in (message.name, message.doc_string, *entries))
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        values = [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        is_string = field.type == field.TYPE_STRING
        if not all(isinstance(each, str) if is_string else _is_text(each) for each in values):
            return False
    return True


#: Most nodes of a graph, once the calls of functions are replaced by their nodes.
_MOST_NODES = 200_000

Key = tuple[str, str, str]


def _check_functions(model: onnx.ModelProto, path: Path) -> None:
    """Refuse functions that call functions that call functions: a few lines would become more nodes than fit."""
    functions = {(each.domain, each.name, each.overload): each for each in model.functions}
    sizes: dict[Key, int] = {}
    for start in functions:
        pending = [start]
        while pending:
            key = pending[-1]
            calls = [call for call in _calls(functions[key].node) if call in functions]
            if missing := [call for call in calls if call not in sizes]:
                if missing[0] in pending:
                    raise ModelspaceError(
                        f"{path} is refused: the function {missing[0][1]} calls itself", "export it again"
                    )
                pending.append(missing[0])
                continue
            sizes[key] = len(functions[key].node) + sum(sizes[call] for call in calls)
            pending.pop()
    n_nodes = len(model.graph.node) + sum(sizes.get(call, 0) for call in _calls(model.graph.node))
    if n_nodes > _MOST_NODES:
        raise ModelspaceError(
            f"{path} is refused: its functions stand for {n_nodes:,} nodes, more than {_MOST_NODES:,}",
            "export it again",
        )


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[Key]:
    """What may be calls of functions: domain, name and overload of all nodes, including those of subgraphs."""
    for node in nodes:
        yield node.domain, node.op_type, node.overload
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _calls(inner.node)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All constants of a graph: initialisers and attributes, including those of subgraphs."""
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


def _type_name(number: int) -> str:
    known: dict[int, str] = {value: name for name, value in onnx.TensorProto.DataType.items()}
    return known.get(number, f"number {number}")


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    """Refuse a constant whose size doesn't match its shape, or whose data is outside the file's folder."""
    name = tensor.name or "a constant"
    if tensor.data_type not in DTYPES and tensor.data_type != onnx.TensorProto.STRING:
        kind = _type_name(tensor.data_type)
        raise ModelspaceError(f"{path}: {name} is of type {kind}, which has no gradient here", "export it in float32")
    # numpy has no more axes; and a huge axis next to an empty one is no array of numpy either.
    if len(tensor.dims) > _MOST_AXES or any(side < 0 for side in tensor.dims) or _span(tensor.dims) >= 1 << 60:
        raise ModelspaceError(
            f"{path} is refused: {name} has the impossible shape {[*tensor.dims[:4]]}{_more(tensor.dims[4:])}",
            "download it again",
        )
    size = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        data = _inside(path, entries.get("location", ""), name)
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
        except ValueError as error:
            raise ModelspaceError(f"{path}: {name} has an offset or length that is not a number") from error
        if length != size or offset < 0 or offset + length > data.stat().st_size:
            raise ModelspaceError(
                f"{path} is refused: {name} claims {size:,} bytes, which are not in {data.name}",
                "download both files again",
            )
        return
    if tensor.HasField("raw_data") and len(tensor.raw_data) != size:
        raise ModelspaceError(
            f"{path} is refused: {name} claims {size:,} bytes and has {len(tensor.raw_data):,}", "download it again"
        )
    if not tensor.HasField("raw_data") and tensor.data_type != onnx.TensorProto.STRING:
        count = max(len(tensor.float_data), len(tensor.int32_data), len(tensor.int64_data), len(tensor.double_data))
        if count != math.prod(tensor.dims):
            raise ModelspaceError(
                f"{path} is refused: {name} claims {math.prod(tensor.dims):,} elements and has {count:,}",
                "download it again",
            )


#: Axes that a tensor can have.
_MOST_AXES = 64


def _span(dims: Sequence[int]) -> int:
    """Number of elements, where empty axes count as one."""
    return math.prod(side or 1 for side in dims)


def _more(dims: Sequence[int]) -> str:
    return f" and {len(dims)} more axes" if dims else ""


def _inside(path: Path, location: str, name: str) -> Path:
    """The file with a tensor's data. It must be in the model's folder, after resolving links and dots."""
    folder = path.resolve().parent
    data = folder / location
    try:
        is_inside = bool(location) and not Path(location).is_absolute() and data.resolve().is_relative_to(folder)
        is_file = data.is_file() and not data.is_symlink()
    except (OSError, ValueError, RuntimeError):  # a loop of links, a name that no file can have
        is_inside = is_file = False
    if not is_inside:
        raise ModelspaceError(
            f"{path} is refused: {name} is in {location[:200] or 'no file'!r}, outside the model's folder",
            "export it again with the data file next to the model",
        )
    if not is_file:
        message = f"{path} needs the file {location} next to it"
        raise ModelspaceError(
            message if data.is_symlink() else absent(data, message),
            "download it too, or export to a single file",
        )
    return data


def _metadata(model: onnx.ModelProto, path: Path) -> dict[str, str]:
    """The file's metadata with the prefix "modelspace.": texts like the values of flags."""
    entries = {
        entry.key.removeprefix(_PREFIX): entry.value for entry in model.metadata_props if entry.key.startswith(_PREFIX)
    }
    if unknown := sorted(set(entries) - set(METADATA)):
        raise UsageError(
            f"{path} has unknown metadata {_PREFIX}{unknown[0]}",
            did_you_mean(unknown[0], METADATA, f"known entries: {', '.join(METADATA)}"),
        )
    return entries


# --- the graph


@dataclass
class _Step:
    """A node with its inputs: their names, whether they are computed in the forward pass, and values of constants."""

    name: str
    title: str
    node: Node
    inputs: list[str]
    outputs: tuple[str, ...]
    is_input: list[bool]
    constants: list[Tensor | None]


class _Graph:
    """A checked ONNX graph.

    Attributes:
        input: name of the only input; shape: its sides in the file's order of axes, None for dynamic ones.
        channels_last: whether its shape can only be (B, H, W, C).
        outputs: names of the outputs that depend on the input.
        external: tags with the hashes of external data files.
    """

    def __init__(self, model: onnx.ModelProto, path: Path, n_bytes: int = 0) -> None:
        self._path = path
        self._n_bytes = n_bytes
        self._versions = {entry.domain: entry.version for entry in model.opset_import}
        version = next((self._versions[domain] for domain in DOMAINS if domain in self._versions), 0)
        self._nodes = fuse_gelu(list(model.graph.node), model.graph)
        if version not in OPSETS:
            raise ModelspaceError(
                f"{path} has opset {version}, and {OPSETS[0]} to {OPSETS[-1]} are supported",
                "onnx.version_converter.convert_version(model, 18) converts it",
            )
        self._opset = version
        self._constants: dict[str, Tensor] = {}
        self.external: dict[str, str] = {}
        self._read_constants(model)
        self._refuse_operators()
        inputs = [entry for entry in model.graph.input if entry.name not in self._constants]
        if len(inputs) != 1:
            names = ", ".join(entry.name for entry in inputs)
            raise ModelspaceError(
                f"{path} takes {len(inputs)} inputs ({names}), and a model must take a single batch of images",
                "export a model with one input",
            )
        self.input = inputs[0].name
        self.outputs = [entry.name for entry in model.graph.output if entry.name not in self._constants]
        if not self.outputs:
            raise ModelspaceError(
                f"{path} computes the same for every image", "export a model whose output depends on its input"
            )
        kind = inputs[0].type.tensor_type
        if kind.elem_type not in (1, 11):
            name = _type_name(kind.elem_type)
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
        """Report all unsupported operators at once, of those that depend on the image."""
        unknown: Counter[str] = Counter()
        for node in self._nodes:
            if node.domain not in DOMAINS or node.op_type not in OPERATORS:
                domain = f"{node.domain}." if node.domain not in DOMAINS else ""
                version = self._versions.get(node.domain, self._versions.get("", 0))
                unknown[f"{domain}{node.op_type} of opset {version}"] += 1
        if unknown:
            names = ", ".join(name if n == 1 else f"{name} x {n}" for name, n in unknown.items())
            operators = "operators" if len(unknown) > 1 else "operator"
            raise ModelspaceError(f"{self._path} needs the unsupported ONNX {operators} {names}", _REEXPORT)

    def _read_constants(self, model: onnx.ModelProto) -> None:
        files: dict[str, str] = {}
        for tensor in model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                location = next(entry.value for entry in tensor.external_data if entry.key == "location")
                data = _inside(self._path, location, tensor.name)
                if location not in files:
                    files[location] = hashlib.sha256(read_regular(data)).hexdigest()
                external_data_helper.load_external_data_for_tensor(tensor, str(self._path.resolve().parent))
            self._constants[tensor.name] = _weight(tensor)
        if files:
            self.external["data_sha256"] = ",".join(files.values())
        n_bytes = self._n_bytes + sum(value.nbytes for value in self._constants.values())
        limit = constant_limit(n_bytes)
        with Limited(limit, 2 * limit):
            self._nodes = folded(self._nodes, self._constants, self._read, _constant, _weight)
        if undecided := [node.name or node.output[0] for node in self._nodes if node.op_type == "If"]:
            raise ModelspaceError(
                f"{self._path} decides by the image what it computes: "
                f"the condition of If {undecided[0]} is not constant",
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
        """The nodes in the order of the file. The checker has verified that they can be run in it."""
        for node in self._nodes:
            inputs, outputs = list(node.input), tuple(node.output)
            while outputs and not outputs[-1]:
                outputs = outputs[:-1]
            is_input = [bool(name) and name not in self._constants for name in inputs]
            constants = [self._constants.get(name) if name else None for name in inputs]
            title = f"node {node.name}" if node.name else f"the node with the output {outputs[0]}"
            yield _Step(node.name, title, self._read(node), inputs, outputs, is_input, constants)


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
        raise ModelspaceError(f"the ONNX constant {node.output[0]} has the unsupported form {entry.name}", _REEXPORT)
    return torch.tensor(value)


def _attribute(entry: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, onnx.TensorProto):
        weight = _weight(value)
        return weight.data if isinstance(weight, nn.Parameter) else weight
    return list(value) if entry.type in (entry.FLOATS, entry.INTS, entry.STRINGS) else value
