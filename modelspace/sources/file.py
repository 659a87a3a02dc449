"""``file:model.pt2`` and ``file:model.pt``: an exported program (torch.export) or a TorchScript archive.

Both formats hold code, and loading them can run it: a file is loaded only if the user names its SHA-256
(`modelspace.sources.trust`). Which format a file is, its content says, not its name.

An exported program was recorded for one shape of input, and refuses train() and eval(). It is taken apart into the
submodules that it was recorded from, whose names and hooks are those of the original model; the size of batch that it
takes is stated in `modelspace_batch`, and `modelspace.encoder.layers` feeds it batches of that size. A TorchScript archive runs in
C++, out of reach of hooks; `modelspace.sources.torchscript` carries its code out in Python instead.
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

from modelspace.encoder.layers import first_tensor
from modelspace.errors import ModelspaceError, UsageError
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe, flags_of, merge_preprocessing
from modelspace.sources.recorded import check_shape, example, input_size
from modelspace.sources.torchscript import Unfollowed, from_script
from modelspace.sources.trust import FileBytes, read_once, require_trust
from modelspace.types import Preprocessing

#: The entry of an archive's extra files in which it may describe itself: JSON with the keys of `METADATA`.
EXTRA_FILE = "modelspace.json"
METADATA = ("preprocessing", "layer", "task", "data")

_EXPORTED, _SCRIPT = "an exported program", "a TorchScript archive"


@dataclass
class _Found:
    """What a file holds: the module, the same as torch itself would run it, the shape of input that it was recorded for
    (None: any), and what it says of itself."""

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
    """What to give torch.export.save as `extra_files`, or torch.jit.save as `_extra_files`, so that no flags are needed.

    >>> metadata({"input_size": 224, "mean": [0.5], "std": [0.5], "channels": "gray"}, task="depth")["modelspace.json"]
    '{"preprocessing": {"input_size": [224, 224], "mean": [0.5], "std": [0.5], "channels": "gray"}, "task": "depth"}'
    """
    stated = {"preprocessing": flags_of(preprocessing).stated(), "layer": layer, "task": task, "data": data}
    return {EXTRA_FILE: json.dumps({key: value for key, value in stated.items() if value})}


def load(rest: str, weights: str | None, flags: PreprocessingFlags, trusted: str | None) -> LoadedModel:
    """Load a program from a file that the user trusts.

    Raises:
        UsageError: no SHA-256 was given, weights were given, or preprocessing that nobody states.
        NotFoundError: there is no such file.
        ModelspaceError: the file is not the trusted one, is damaged, or holds no program.
    """
    uri = f"file:{rest}"
    if weights is not None:
        raise UsageError(f"{uri} brings its own weights", "leave `weights=` out, or use python: with a factory")
    file = read_once(rest, "a program saved by torch.export.save or torch.jit.save")
    kind = _kind(file)
    require_trust(file, uri, trusted, kind)
    found = _exported(file) if kind == _EXPORTED else _scripted(file)
    stated = _preprocessing(found, flags)
    preprocessing = merge_preprocessing(stated, flags, uri)
    check_shape(found.shape, preprocessing, uri)
    # layers have names only where the program was taken apart, and that is used only if it changes nothing
    module = found.module if _same(found.module, found.original, found.shape, preprocessing) else found.original
    loaded = describe(
        module,
        uri=uri,
        name=Path(rest).stem,
        flags=flags,
        stated=stated,
        architecture=getattr(found.module, "modelspace_kind", None),
        tags={"file_sha256": file.sha256, "trusted_code": file.sha256},
        code=file.sha256,
        **{key: found.metadata.get(key) for key in METADATA if key != "preprocessing"},
    )
    if not module.state_dict():
        loaded.weights_sha256 = file.sha256  # its weights are constants in its code
    return loaded


def _as_weights(path: Path) -> str:
    """What to do with a file of weights."""
    return (
        "only programs are loaded from file: addresses; for weights write a function that makes the model, and use "
        f"`space.add('python:nets.py:make', weights={str(path)!r})`"
    )


def _kind(file: FileBytes) -> str:
    """What a file is, from the names of its entries; nothing of it is unpickled or run."""
    if file.content.startswith(b"\x80"):
        raise ModelspaceError(f"{file.path} was saved by an old torch.save", _as_weights(file.path))
    try:
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        what = "is empty" if not file.content else "is no archive of torch's"
        raise ModelspaceError(
            f"{file.path} {what}, or was cut short",
            "file: takes what torch.export.save (.pt2) and torch.jit.save (.pt) write",
        ) from error
    inside = {name.partition("/")[2] if "/" in name else name for name in names}
    if any(name.endswith(".json") and name.startswith("models/") for name in inside) or (
        "serialized_exported_program.json" in {*names, *inside}
    ):
        return _EXPORTED
    if "constants.pkl" in inside and any(name.startswith("code/") for name in inside):
        return _SCRIPT
    if "data.pkl" in inside:
        raise ModelspaceError(
            f"{file.path} holds what torch.save wrote, a state dict or a whole module, and no program",
            _as_weights(file.path),
        )
    raise ModelspaceError(
        f"{file.path} is a zip archive, but not one of torch's",
        "file: takes what torch.export.save (.pt2) and torch.jit.save (.pt) write",
    )


def _read_metadata(extra: str | bytes, path: Path) -> Mapping[str, Any]:
    """The archive's own description, checked: a JSON object with the keys of `METADATA`."""
    if not extra:
        return {}
    hint = "modelspace.sources.file.metadata(...) makes it"
    try:
        value = json.loads(extra)
    except ValueError as error:
        raise ModelspaceError(f"{EXTRA_FILE} in {path} is not JSON: {error}", hint) from error
    if not isinstance(value, dict) or set(value) - set(METADATA):
        raise ModelspaceError(f"{EXTRA_FILE} in {path} may have the entries {', '.join(METADATA)} alone", hint)
    if not isinstance(value.get("preprocessing", {}), dict) or any(
        not isinstance(value.get(key, ""), str) for key in METADATA[1:]
    ):
        raise ModelspaceError(f"{EXTRA_FILE} in {path}: preprocessing is an object, and the others are texts", hint)
    return value


def _preprocessing(found: _Found, flags: PreprocessingFlags) -> Mapping[str, Any]:
    """What the archive states; a height and width that the program is bound to are stated by it, too."""
    stated = dict(found.metadata.get("preprocessing", {}))
    size = input_size(found.shape, str(flags.layout or stated.get("layout", "nchw")))
    if size is not None:
        stated.setdefault("input_size", size)
    PreprocessingFlags.from_dict(stated)
    return stated


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"


# --- exported programs


def _exported(file: FileBytes) -> _Found:
    extra = {EXTRA_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(io.BytesIO(file.content), extra_files=extra)
            plain = program.module()
    except Exception as error:
        raise ModelspaceError(
            f"{file.path} can't be loaded as {_EXPORTED}: {_line(error)}",
            "it may be damaged, or written by a newer torch",
        ) from error
    described = _read_metadata(extra[EXTRA_FILE], file.path)
    inputs = [node for node in plain.graph.nodes if node.op == "placeholder"]
    values = [node.meta.get("val") for node in inputs]
    if len(values) != 1 or not isinstance(values[0], Tensor):
        raise ModelspaceError(
            f"{file.path} takes {len(inputs)} inputs, and a model here takes one batch of images",
            "export a module whose forward() has one argument",
        )
    if trained := _in_training(_operators(plain)):
        raise ModelspaceError(f"{file.path} was exported in training mode: its {trained} is on", _SAVE_IN_EVAL)
    shape = tuple(side if isinstance(side, int) else None for side in values[0].shape)
    module: nn.Module = plain
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # some programs can't be taken apart (a layer's code recorded between another's): no names of layers then
        with suppress(Exception):
            module = torch.export.unflatten(program)
    for part in module.modules():
        kind = getattr(part, "type_name", None)
        if callable(kind) and isinstance(label := kind(), str):
            part.modelspace_kind = label.rpartition(".")[2]  # type: ignore[assignment]
    if shape[:1] != (None,):
        module.modelspace_batch = plain.modelspace_batch = shape[0]  # type: ignore[assignment]
    return _Found(module, plain, shape, described)


_SAVE_IN_EVAL = "save it again after model.eval()"

#: Operators with another meaning in training: the position of the argument that says so.
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
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            yield node.target._schema.name.partition("::")[2], node.args


def _in_training(operators: Iterable[tuple[str, tuple[Any, ...]]]) -> str:
    """The first operator that is in training mode, or nothing."""
    for name, args in operators:
        position = _TRAINING.get(name)
        # for instance norm the argument means: use the statistics of this image, which is its mode in evaluation as well
        if position is not None and name != "instance_norm" and len(args) > position and args[position] is True:
            return name
    return ""


def _same(module: nn.Module, original: nn.Module, shape: tuple[int | None, ...], preprocessing: Preprocessing) -> bool:
    """Whether two forms of one program, both in evaluation mode afterwards, give the same output."""
    if module is original:
        return True
    x = example(shape, preprocessing, batch=2)
    outputs = []
    for form in (original, module):
        with suppress(NotImplementedError):  # an exported program has no modes
            form.eval()
        try:
            with torch.no_grad():
                outputs.append(first_tensor(form(x.clone())))
        except Exception:
            # an input that the program itself refuses is reported where the model is run
            return not outputs and form is original
    a, b = outputs
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True))


# --- TorchScript


def _scripted(file: FileBytes) -> _Found:
    extra: dict[str, Any] = {EXTRA_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's notice that the format is going away
            script, functions = load_script(file.content, extra)
    except Exception as error:
        raise ModelspaceError(
            f"{file.path} can't be loaded as {_SCRIPT}: {_line(error)}",
            "it may be damaged, or written by a newer torch",
        ) from error
    described = _read_metadata(extra[EXTRA_FILE], file.path)
    try:
        module: nn.Module = from_script(script, functions)
    except Unfollowed:
        module = script  # it runs as it is; nothing but its output can be tapped, and ε-LRP names what it can't follow
    else:
        if trained := _in_training(module.constant_calls()):  # type: ignore[operator]
            raise ModelspaceError(f"{file.path} was traced in training mode: its {trained} is on", _SAVE_IN_EVAL)
    return _Found(module, script, (), described)


def load_script(content: bytes, extra: dict[str, Any]) -> tuple[torch.jit.ScriptModule, Any]:
    """A TorchScript archive as torch.jit.load reads it, and the functions that its methods call."""
    unit = torch._C.CompilationUnit()
    read: Any = torch._C.import_ir_module_from_buffer
    inner = read(unit, content, torch.device("cpu"), extra, False)
    return torch.jit._recursive.wrap_cpp_module(inner), unit  # type: ignore[no-untyped-call]
