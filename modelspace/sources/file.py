"""``file:model.pt2`` and ``file:model.pt``: an exported program (torch.export) or a TorchScript archive.

Both formats contain code, which loading can run: a file is loaded only if the user passes its SHA-256
(`modelspace.sources.trust`). The format is detected from the content, not from the name.

An exported program was recorded for one input shape, and rejects train() and eval(). It is unflattened into the
submodules that it was recorded from, with the names and hooks of the original model; `modelspace_batch` is its batch
size, and `modelspace.encoder.layers` feeds it batches of that size. A TorchScript archive runs in C++, where hooks
don't work; `modelspace.sources.torchscript` interprets its code in Python instead.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import CompilationUnit, import_ir_module_from_buffer
from torch._ops import OpOverload
from torch.jit._recursive import wrap_cpp_module

from modelspace.encoder.layers import first_tensor
from modelspace.errors import ModelspaceError, UsageError
from modelspace.sources import identify
from modelspace.sources.base import (
    LoadedModel,
    PreprocessingFlags,
    describe,
    flags_of,
    merge_preprocessing,
)
from modelspace.sources.formats import other_format
from modelspace.sources.recorded import check_shape, example, input_size
from modelspace.sources.torchscript import UnsupportedScript, from_script
from modelspace.sources.trust import FileBytes, read_once, require_trust
from modelspace.types import Preprocessing

#: The extra file of an archive that may describe the model: JSON with the keys of `METADATA`.
EXTRA_FILE = "modelspace.json"
METADATA = ("preprocessing", "layer", "task", "data")

_EXPORTED, _SCRIPT = "an exported program", "a TorchScript archive"


@dataclass
class _Program:
    """The content of a file.

    Attributes:
        module: with submodules that can be tapped.
        original: the program as torch itself runs it.
        shape: of the input that it was recorded for; None: any.
        metadata: the content of `EXTRA_FILE`.
    """

    module: nn.Module
    original: nn.Module
    shape: tuple[int | None, ...]
    metadata: Mapping[str, Any]


def metadata(
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    *,
    layer: str | None = None,
    task: str | None = None,
    data: str | None = None,
) -> dict[str, str]:
    """The `extra_files` for torch.export.save, or `_extra_files` for torch.jit.save, that make flags unnecessary.

    >>> metadata({"input_size": 224, "mean": [0.5], "std": [0.5], "channels": "gray"}, task="depth")["modelspace.json"]
    '{"preprocessing": {"input_size": [224, 224], "mean": [0.5], "std": [0.5], "channels": "gray"}, "task": "depth"}'
    """
    values = {"preprocessing": flags_of(preprocessing).stated(), "layer": layer, "task": task, "data": data}
    return {EXTRA_FILE: json.dumps({key: value for key, value in values.items() if value})}


def load(path: str, weights: str | None, flags: PreprocessingFlags, trusted: str | None) -> LoadedModel:
    """Load a program from a file that the user trusts.

    Raises:
        UsageError: no SHA-256 was given, weights were given, or incomplete preprocessing.
        NotFoundError: there is no such file.
        ModelspaceError: the file is not the trusted one, is damaged, or contains no program.
    """
    uri = f"file:{path}"
    if weights is not None:
        raise UsageError(f"{uri} has its own weights", "leave `weights=` out, or use python: with a factory")
    file = read_once(path, "a program saved by torch.export.save or torch.jit.save")
    kind = _kind(file)
    require_trust(file, uri, trusted, kind)
    program = _exported(file) if kind == _EXPORTED else _scripted(file)
    defaults = _preprocessing(program, flags)
    preprocessing = merge_preprocessing(defaults, flags, uri)
    check_shape(program.shape, preprocessing, uri)
    # Only the unflattened program has named layers, and it is used only if its output is the same.
    same = _same_output(program.module, program.original, program.shape, preprocessing)
    module = program.module if same else program.original
    model = describe(
        module,
        uri=uri,
        name=Path(path).stem,
        flags=flags,
        preprocessing=defaults,
        architecture=getattr(program.module, "modelspace_kind", None),
        tags={"file_sha256": file.sha256, "trusted_code": file.sha256},
        code=file.sha256,
        **{key: program.metadata.get(key) for key in METADATA if key != "preprocessing"},  # type: ignore[arg-type]
    )
    if not module.state_dict():
        model.weights_sha256 = file.sha256  # its weights are constants in its code
    return model


def _weights_hint(path: Path) -> str:
    """What to do with a file of weights: what it is, if its tensors are those of a known architecture."""
    try:
        identified = identify.identify(path)
    except ModelspaceError:
        identified = None
    if identified is not None and identified.architecture:
        return f"{identify.summary(identified)}; {identify.advice(identified)}"
    return (
        "file: addresses are for programs; for weights write a function that builds the model, and use "
        f"`space.add('python:nets.py:make', weights={str(path)!r})`"
    )


_FORMATS_HINT = "file: reads files written by torch.export.save (.pt2) and torch.jit.save (.pt)"


def _kind(file: FileBytes) -> str:
    """The format of a file, from the names of its entries; nothing in it is unpickled or run."""
    if file.content.startswith(b"\x80"):
        raise ModelspaceError(f"{file.path} was saved by an old torch.save", _weights_hint(file.path))
    try:
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        if (other := other_format(file.content)) is not None:
            raise ModelspaceError(f"{file.path} is {other[0]}, not a torch archive", other[1]) from error
        problem = "is empty" if not file.content else "is not a torch archive"
        raise ModelspaceError(f"{file.path} {problem}, or is truncated", _FORMATS_HINT) from error
    entries = {name.partition("/")[2] if "/" in name else name for name in names}
    if any(name.endswith(".json") and name.startswith("models/") for name in entries) or (
        "serialized_exported_program.json" in {*names, *entries}
    ):
        return _EXPORTED
    if "constants.pkl" in entries and any(name.startswith("code/") for name in entries):
        return _SCRIPT
    if "data.pkl" in entries:
        raise ModelspaceError(
            f"{file.path} was written by torch.save: it holds a state dict or a module, not a program",
            _weights_hint(file.path),
        )
    raise ModelspaceError(f"{file.path} is a zip archive, but not a torch archive", _FORMATS_HINT)


def _read_metadata(content: str | bytes, path: Path) -> Mapping[str, Any]:
    """The metadata of an archive, checked: a JSON object with the keys of `METADATA`."""
    if not content:
        return {}
    hint = "modelspace.sources.file.metadata(...) creates it"
    try:
        value = json.loads(content)
    except ValueError as error:
        raise ModelspaceError(f"{EXTRA_FILE} in {path} is not JSON: {error}", hint) from error
    if not isinstance(value, dict) or set(value) - set(METADATA):
        raise ModelspaceError(f"{EXTRA_FILE} in {path} may only have the entries {', '.join(METADATA)}", hint)
    if not isinstance(value.get("preprocessing", {}), dict) or any(
        not isinstance(value.get(key, ""), str) for key in METADATA[1:]
    ):
        raise ModelspaceError(
            f"{EXTRA_FILE} in {path}: preprocessing must be an object, and the others must be strings", hint
        )
    return value


def _preprocessing(program: _Program, flags: PreprocessingFlags) -> Mapping[str, Any]:
    """The preprocessing in the archive, with the height and width of the program's input if they are fixed."""
    values = dict(program.metadata.get("preprocessing", {}))
    size = input_size(program.shape, str(flags.layout or values.get("layout", "nchw")))
    if size is not None:
        values.setdefault("input_size", size)
    PreprocessingFlags.from_dict(values)
    return values


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"


# --- exported programs


def _exported(file: FileBytes) -> _Program:
    extra_files = {EXTRA_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(io.BytesIO(file.content), extra_files=extra_files)
            flat = program.module()
    except Exception as error:
        raise ModelspaceError(
            f"{file.path} can't be loaded as {_EXPORTED}: {_line(error)}",
            "it may be damaged, or written by a newer torch",
        ) from error
    description = _read_metadata(extra_files[EXTRA_FILE], file.path)
    inputs = [node for node in flat.graph.nodes if node.op == "placeholder"]
    values = [node.meta.get("val") for node in inputs]
    if len(values) != 1 or not isinstance(values[0], Tensor):
        raise ModelspaceError(
            f"{file.path} takes {len(inputs)} inputs, and a model must take a single batch of images",
            "export a module whose forward() has one argument",
        )
    if operator := _in_training(_operators(flat)):
        raise ModelspaceError(f"{file.path} was exported in training mode: {operator} is active", _SAVE_IN_EVAL)
    shape: tuple[int | None, ...] = tuple(side if isinstance(side, int) else None for side in values[0].shape)
    module: nn.Module = flat
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Unflattening fails where the operators of two layers are interleaved: the layers have no names then.
        with suppress(Exception):
            module = torch.export.unflatten(program)
    for part in module.modules():
        kind = getattr(part, "type_name", None)
        if callable(kind) and isinstance(label := kind(), str):
            part.modelspace_kind = label.rpartition(".")[2]  # type: ignore[assignment]
    if shape[:1] != (None,):
        module.modelspace_batch = flat.modelspace_batch = shape[0]  # type: ignore[assignment]
    return _Program(module, flat, shape, description)


_SAVE_IN_EVAL = "save it again after model.eval()"

#: Operators that behave differently in training, with the position of the argument that selects the mode.
_TRAINING = {
    "batch_norm": 5,
    "instance_norm": 5,
    "dropout": 2,
    "feature_dropout": 2,
    "alpha_dropout": 2,
    "feature_alpha_dropout": 2,
    "dropout_": 2,
}


def _operators(module: Any) -> Iterable[tuple[str, tuple[Any, ...]]]:
    """Name and arguments of the operators that a graph module runs."""
    for node in module.graph.nodes:
        if node.op == "call_function" and isinstance(node.target, OpOverload):
            yield str(node.target).split(".")[1], node.args


def _in_training(operators: Iterable[tuple[str, tuple[Any, ...]]]) -> str:
    """The name of the first operator in training mode, or an empty string."""
    for name, args in operators:
        position = _TRAINING.get(name)
        # Instance norm's argument selects the statistics of the input, which it uses in evaluation mode too.
        if position is not None and name != "instance_norm" and len(args) > position and args[position] is True:
            return name
    return ""


def _same_output(
    module: nn.Module, original: nn.Module, shape: tuple[int | None, ...], preprocessing: Preprocessing
) -> bool:
    """Whether two forms of a program give the same output. Both are in evaluation mode afterwards."""
    if module is original:
        return True
    x = example(shape, preprocessing, batch=2)
    outputs = []
    for form in (original, module):
        with suppress(NotImplementedError):  # an exported program has no train and eval modes
            form.eval()
        try:
            with torch.no_grad():
                outputs.append(first_tensor(form(x.clone())))
        except Exception:
            # An input that the original rejects too is reported when the model is run.
            return not outputs and form is original
    a, b = outputs
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True))


# --- TorchScript


def _scripted(file: FileBytes) -> _Program:
    extra_files: dict[str, Any] = {EXTRA_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's notice that the format is deprecated
            script, functions = load_script(file.content, extra_files)
    except Exception as error:
        raise ModelspaceError(
            f"{file.path} can't be loaded as {_SCRIPT}: {_line(error)}",
            "it may be damaged, or written by a newer torch",
        ) from error
    description = _read_metadata(extra_files[EXTRA_FILE], file.path)
    try:
        module: nn.Module = from_script(script, functions)
    except UnsupportedScript:
        module = script  # torch runs it; only its output can be tapped, and ε-LRP reports what it can't follow
    else:
        if operator := _in_training(module.constant_calls()):  # type: ignore[operator]
            raise ModelspaceError(f"{file.path} was traced in training mode: {operator} is active", _SAVE_IN_EVAL)
    return _Program(module, script, (), description)


def load_script(content: bytes, extra_files: dict[str, Any]) -> tuple[torch.jit.ScriptModule, Any]:
    """A TorchScript archive, loaded like torch.jit.load, and the compilation unit with the functions that it calls."""
    unit = CompilationUnit()
    read: Any = import_ir_module_from_buffer  # torch's stub lacks the last two arguments
    inner = read(unit, content, torch.device("cpu"), extra_files, False)
    return wrap_cpp_module(inner), unit  # type: ignore[no-untyped-call]
