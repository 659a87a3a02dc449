"""Files of weights: read without running code, checked against the module, then copied into it.

Two formats: safetensors, and state dicts saved by torch, which are always unpickled with ``weights_only=True``. The
format is detected from the first bytes, not from the name. All sizes in a file are checked against the module and the
size of the file before memory is allocated.
"""

from __future__ import annotations

import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present
from torch.nn.parameter import is_lazy

from modelspace.errors import ModelspaceError, NotFoundError
from modelspace.names import did_you_mean

if TYPE_CHECKING:
    from torch import nn

    State = dict[str, Any]

#: Keys under which checkpoints store the state dict.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")

#: Prefixes that wrappers of modules add to every name: DataParallel, torch.compile, Lightning.
PREFIXES = ("module.", "_orig_mod.", "model.")

#: How many names a message lists.
_MAX_LISTED = 3
_SAVE_AGAIN = (
    "load it in your own program if you trust it, and save only its tensors: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)


def load_weights(module: nn.Module, path: str) -> None:
    """Copy the weights in a file into a module. Names and shapes must match exactly; types are converted.

    Args:
        module: changed in place.
        path: a safetensors file, or a state dict saved by torch, possibly inside a checkpoint (`WRAPPERS`) and with a
            prefix before every name (`PREFIXES`).

    Raises:
        NotFoundError: no such file.
        ModelspaceError: not a file of weights, one that would run code, or one that doesn't fit the module.
    """
    file = Path(path)
    state = read_state(file)
    _strip_prefixes(state, module)
    _check_fit(state, module, file)
    if not hasattr(state, "_metadata"):
        # safetensors has no versions of the layers, which some layers check.
        state = with_versions(state, module)
    try:
        module.load_state_dict(state, strict=False)
    except Exception as error:
        raise ModelspaceError(
            f"the weights in {file} can't be loaded into {type(module).__name__}: {_line(error)}"
        ) from error


def with_versions(state: State, module: nn.Module) -> State:
    """A copy of a state dict with the versions of a module's layers, as `module.state_dict()` has them."""
    # torch keeps the versions in a private attribute of the dict.
    versioned: State = module.state_dict()
    versioned.clear()
    versioned.update(state)
    return versioned


def read_state(file: Path) -> State:
    """Read the state dict in a file; its tensors may be memory-mapped.

    Raises:
        NotFoundError: no such file.
        ModelspaceError: not a file of weights, or one that would run code.
    """
    if not file.is_file():
        problem = "is a folder" if file.is_dir() else "does not exist"
        neighbours = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        raise NotFoundError(f"the weights file {file} {problem}", did_you_mean(file.name, neighbours))
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise ModelspaceError(f"the weights file {file} can't be read: {error.strerror}") from error
    if head.startswith(b"version https://git-lfs"):
        raise ModelspaceError(f"{file} is a Git LFS pointer, not the weights themselves", "run git lfs pull first")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return _read_safetensors(file)
    if head.startswith(b"PK"):
        return _unwrap(_read_zip(file), file)
    if head.startswith(b"\x80"):
        return _unwrap(_unpickle(file, mmap=False), file)
    raise ModelspaceError(
        f"{file} has no weights: it is neither safetensors nor a state dict saved by torch",
        "the file is empty" if size == 0 else "write one with safetensors.torch.save_file(model.state_dict(), ...)",
    )


def _read_safetensors(file: Path) -> State:
    from safetensors.torch import load_file

    try:
        # The format checks that every offset is inside the file, so no more than its size is read.
        return cast("State", load_file(file, device="cpu"))
    except Exception as error:
        raise ModelspaceError(f"{file} can't be read as safetensors: {_line(error)}", "it may be truncated") from error


def _read_zip(file: Path) -> Any:
    """Read an archive of torch.save. It is checked first, since memory-mapped reading trusts the sizes in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelspaceError(f"{file} can't be read: {_line(error)}", "it may be truncated") from error
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise ModelspaceError(f"{file} is a TorchScript archive, which runs code when it is loaded", _SAVE_AGAIN)
    if "data.pkl" not in names:
        raise ModelspaceError(f"{file} is a zip archive, but not a state dict saved by torch", _SAVE_AGAIN)
    if compressed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
        raise ModelspaceError(
            f"{file} has compressed entries such as {compressed[0]}, which torch never writes", _SAVE_AGAIN
        )
    value = _unpickle(file, mmap=True)
    tensor_sizes = Counter({s.data_ptr(): s.nbytes() for s in _storages(value) if s.nbytes()}.values())
    entry_sizes = Counter(entry.file_size for entry in entries)
    if missing := tensor_sizes - entry_sizes:
        raise ModelspaceError(
            f"{file} is damaged: a tensor of {max(missing):,} bytes has no entry of that size",
            "download or save it again",
        )
    return value


def _storages(value: Any, depth: int = 0) -> list[torch.UntypedStorage]:
    if isinstance(value, torch.Tensor):
        has_storage = value.layout == torch.strided and value.device.type == "cpu"
        return [value.untyped_storage()] if has_storage else []
    if isinstance(value, Mapping) and depth < 8:
        return [storage for inner in value.values() for storage in _storages(inner, depth + 1)]
    if isinstance(value, list | tuple) and depth < 8:
        return [storage for inner in value for storage in _storages(inner, depth + 1)]
    return []


def _unpickle(file: Path, mmap: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's notices about old formats; a file that can't be read raises
            if file.suffix == ".safetensors":
                # torch.load goes by the name, which contradicts the content here.
                with file.open("rb") as stream:
                    return torch.load(stream, map_location="cpu", weights_only=True)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        text = str(error)
        if "unsupported global" in text.lower() or "unsupported class" in text.lower():
            name = text.partition("GLOBAL ")[2].split(" ")[0]
            code = f"code ({name})" if name else "code"
            raise ModelspaceError(
                f"{file} needs {code} to be loaded, and only tensors are read", _SAVE_AGAIN
            ) from error
        raise ModelspaceError(
            f"{file} can't be read as weights: {_line(error)}", "it may be damaged or truncated"
        ) from error


def _unwrap(value: Any, file: Path) -> State:
    """The state dict inside a checkpoint."""
    for _ in range(3):
        if not isinstance(value, Mapping):
            break
        if any(isinstance(entry, torch.Tensor) for entry in value.values()):
            return cast("State", value)
        nested = [key for key in WRAPPERS if isinstance(value.get(key), Mapping)]
        if len(nested) > 1:
            raise ModelspaceError(
                f"{file} has several state dicts: {', '.join(nested)}", "save the one you want in a separate file"
            )
        if not nested:
            break
        value = value[nested[0]]
    content = f"a {type(value).__name__}"
    if isinstance(value, Mapping):
        content = f"a dict with {_list([str(key) for key in value])}" if value else "an empty dict"
    raise ModelspaceError(
        f"there is no state dict in {file}, but {content}", f"it may also be under {', '.join(WRAPPERS)}"
    )


def _strip_prefixes(state: State, module: nn.Module) -> None:
    """Remove the prefixes of wrappers from a state dict, in place."""
    names = module.state_dict().keys()
    for _ in range(len(PREFIXES)):
        prefix = next((p for p in PREFIXES if state and all(str(key).startswith(p) for key in state)), None)
        if prefix is None or any(key in state for key in names):
            break
        consume_prefix_in_state_dict_if_present(state, prefix)


def _check_fit(state: State, module: nn.Module, file: Path) -> None:
    """Refuse weights that don't fit, before any of them is copied."""
    targets = module.state_dict()
    kind = type(module).__name__
    unexpected = [key for key in state if key not in targets]
    missing = _missing(state, targets)
    if unexpected or missing:
        parts = [f"lack {len(missing)} of its weights ({_list(missing)})"] if missing else []
        parts += [f"have {len(unexpected)} unknown to it ({_list(unexpected)})"] if unexpected else []
        raise ModelspaceError(
            f"the weights in {file} don't fit {kind}: they {' and '.join(parts)}",
            "is it the architecture that was trained with these weights?",
        )
    size = file.stat().st_size
    mismatches = []
    for key, value in state.items():
        target = targets[key]
        if not isinstance(target, torch.Tensor):
            continue
        if not isinstance(value, torch.Tensor):
            raise ModelspaceError(f"the entry {key} in {file} is a {type(value).__name__}, not a tensor")
        lazy = is_lazy(target)
        if (lazy or value.shape != target.shape) and value.numel() * value.element_size() > size:
            raise ModelspaceError(
                f"{file} is refused: {key} claims {value.numel():,} elements, and the file has {size:,} bytes"
            )
        if not lazy and value.shape != target.shape:
            mismatches.append(f"{key} is {_shape(value)} in the file and {_shape(target)} in the module")
    if mismatches:
        others = f", and {len(mismatches) - _MAX_LISTED} more" if len(mismatches) > _MAX_LISTED else ""
        raise ModelspaceError(
            f"the weights in {file} don't fit {kind}: {'; '.join(mismatches[:_MAX_LISTED])}{others}",
            "does the factory build a network of the same size and number of classes?",
        )


def _missing(state: State, targets: Mapping[str, Any]) -> list[str]:
    """Names of the module's weights that a state dict lacks.

    A tensor with two names may be stored under one of them, and files from before torch 0.4.1 lack the counters of
    BatchNorm.
    """
    present = {_memory(value) for key, value in targets.items() if key in state}
    return [
        key
        for key in targets
        if key not in state
        and not key.endswith("num_batches_tracked")
        and (_memory(targets[key]) is None or _memory(targets[key]) not in present)
    ]


def _memory(value: Any) -> tuple[Any, ...] | None:
    """Equal for two tensors that share the same memory; None if unknown."""
    if not isinstance(value, torch.Tensor) or is_lazy(value) or value.layout != torch.strided or not value.numel():
        return None
    return (value.device, value.data_ptr(), value.shape, value.stride()) if value.data_ptr() else None


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _list(names: list[str]) -> str:
    return ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")


def _line(error: BaseException) -> str:
    """An error's text on one line. Torch's have many, and recommend unsafe loading before they name the problem."""
    text = str(error).strip()
    text = text.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0].partition(". In PyTorch")[0]
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
