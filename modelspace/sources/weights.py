"""Files of weights: read without running code, checked against the module, then copied into it.

Two formats: safetensors, and state dicts saved by torch, which are unpickled with ``weights_only=True`` and nothing
else. Which one a file is, its first bytes say, not its name. Everything that a file claims is compared with the module
and with the file's own size before memory is set aside for it.
"""

from __future__ import annotations

import warnings
import zipfile
from collections import Counter, OrderedDict
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

#: Where training programs put the state dict inside a checkpoint.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")

#: What wrappers of modules put before every name: DataParallel, torch.compile, Lightning.
PREFIXES = ("module.", "_orig_mod.", "model.")

_LISTED = 3
_SAVE_AGAIN = (
    "load it in a program of your own that you trust it in, and write its tensors alone: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)


def load_weights(module: nn.Module, path: str) -> None:
    """Copy the weights in a file into a module. Names and shapes must agree exactly; types are converted.

    Args:
        module: changed in place.
        path: a file of safetensors, or a state dict saved by torch, possibly inside a checkpoint (`WRAPPERS`) and with
            a prefix before every name (`PREFIXES`).

    Raises:
        NotFoundError: no such file.
        ModelspaceError: not a file of weights, one that would run code, or one that doesn't fit the module.
    """
    file = Path(path)
    state = read_state(file)
    state = _without_prefix(state, module)
    _check_fit(state, module, file)
    if not hasattr(state, "_metadata"):
        # safetensors keep no versions of the layers, and some layers ask for theirs: the file is taken for one of now.
        versioned = OrderedDict(state)
        cast(Any, versioned)._metadata = cast(Any, module.state_dict())._metadata
        state = versioned
    try:
        module.load_state_dict(state, strict=False)
    except Exception as error:
        raise ModelspaceError(
            f"the weights in {file} can't be loaded into {type(module).__name__}: {_line(error)}"
        ) from error


def read_state(file: Path) -> State:
    """The state dict in a file, by name; its tensors may still lie in the file.

    Raises:
        NotFoundError: no such file.
        ModelspaceError: not a file of weights, or one that would run code.
    """
    if not file.is_file():
        what = "a folder, not a file of weights" if file.is_dir() else "not there"
        beside = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
        raise NotFoundError(f"the weights file {file} is {what}", did_you_mean(file.name, beside))
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise ModelspaceError(f"the weights file {file} can't be read: {error.strerror}") from error
    if head.startswith(b"version https://git-lfs"):
        raise ModelspaceError(f"{file} is a pointer of Git LFS, not the weights themselves", "run git lfs pull first")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return _read_safetensors(file)
    if head.startswith(b"PK"):
        return _unwrap(_read_zip(file), file)
    if head.startswith(b"\x80"):
        return _unwrap(_unpickle(file, mmap=False), file)
    raise ModelspaceError(
        f"{file} holds no weights: it is neither safetensors nor a state dict saved by torch",
        "the file is empty" if size == 0 else "write one with safetensors.torch.save_file(model.state_dict(), ...)",
    )


def _read_safetensors(file: Path) -> State:
    from safetensors.torch import load_file

    try:
        # The format keeps every offset inside the file, so what is read is never larger than the file.
        return cast("State", load_file(file, device="cpu"))
    except Exception as error:
        raise ModelspaceError(f"{file} can't be read as safetensors: {_line(error)}", "it may be cut short") from error


def _read_zip(file: Path) -> Any:
    """What torch.save wrote. The archive is checked first: memory-mapped reading believes whatever it says."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelspaceError(f"{file} can't be read: {_line(error)}", "it may be cut short") from error
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise ModelspaceError(f"{file} is a TorchScript archive, which runs code when it is loaded", _SAVE_AGAIN)
    if "data.pkl" not in names:
        raise ModelspaceError(f"{file} is a zip archive, but not a state dict saved by torch", _SAVE_AGAIN)
    if packed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
        raise ModelspaceError(
            f"{file} has compressed entries such as {packed[0]}, which torch never writes", _SAVE_AGAIN
        )
    value = _unpickle(file, mmap=True)
    claimed = Counter({s.data_ptr(): s.nbytes() for s in _storages(value) if s.nbytes()}.values())
    stored = Counter(entry.file_size for entry in entries)
    if absent := claimed - stored:
        raise ModelspaceError(
            f"{file} is damaged: a tensor of {max(absent):,} bytes has no entry of that size", "fetch or save it again"
        )
    return value


def _storages(value: Any, depth: int = 0) -> list[torch.UntypedStorage]:
    if isinstance(value, torch.Tensor):
        plain = value.layout == torch.strided and value.device.type == "cpu"
        return [value.untyped_storage()] if plain else []
    if isinstance(value, Mapping) and depth < 8:
        return [storage for inner in value.values() for storage in _storages(inner, depth + 1)]
    if isinstance(value, list | tuple) and depth < 8:
        return [storage for inner in value for storage in _storages(inner, depth + 1)]
    return []


def _unpickle(file: Path, mmap: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Torch's remarks on old formats; what can't be read raises.
            if file.suffix == ".safetensors":
                # By that name torch.load would take it for what its content says it isn't.
                with file.open("rb") as stream:
                    return torch.load(stream, map_location="cpu", weights_only=True)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        text = str(error)
        if "unsupported global" in text.lower() or "unsupported class" in text.lower():
            named = text.partition("GLOBAL ")[2].split(" ")[0]
            needs = f" ({named})" if named else ""
            raise ModelspaceError(
                f"{file} needs code{needs} to be loaded, and only tensors are read", _SAVE_AGAIN
            ) from error
        raise ModelspaceError(
            f"{file} can't be read as weights: {_line(error)}", "it may be damaged or cut short"
        ) from error


def _unwrap(value: Any, file: Path) -> State:
    """The state dict inside a checkpoint."""
    for _ in range(3):
        if not isinstance(value, Mapping):
            break
        if any(isinstance(entry, torch.Tensor) for entry in value.values()):
            return cast("State", value)
        inside = [key for key in WRAPPERS if isinstance(value.get(key), Mapping)]
        if len(inside) > 1:
            raise ModelspaceError(
                f"{file} holds several state dicts: {', '.join(inside)}", "save the one you mean in a file of its own"
            )
        if not inside:
            break
        value = value[inside[0]]
    found = f"a {type(value).__name__}"
    if isinstance(value, Mapping):
        found = f"a dict with {_some([str(key) for key in value])}" if value else "an empty dict"
    raise ModelspaceError(f"no state dict was found in {file}, but {found}", f"looked under {', '.join(WRAPPERS)} too")


def _without_prefix(state: State, module: nn.Module) -> State:
    """The state dict without what wrappers put before every name. The given one is not changed."""
    own = module.state_dict().keys()
    for _ in range(len(PREFIXES)):
        prefix = next((p for p in PREFIXES if state and all(str(key).startswith(p) for key in state)), None)
        if prefix is None or any(key in state for key in own):
            break
        metadata = getattr(state, "_metadata", None)
        # A copy of the caller's kind of dict: torch keeps the versions of the layers in its attribute `_metadata`.
        stripped = type(state)(state)
        if metadata is not None:
            cast(Any, stripped)._metadata = type(metadata)(metadata)
        consume_prefix_in_state_dict_if_present(stripped, prefix)
        state = stripped
    return state


def _check_fit(state: State, module: nn.Module, file: Path) -> None:
    """Refuse weights that don't fit, before a byte of them is copied."""
    own = module.state_dict()
    kind = type(module).__name__
    strangers = [key for key in state if key not in own]
    missing = [key for key in own if key not in state]
    if missing:
        # A tensor that two names share may be stored under one of them; and BatchNorm's counters came with torch 0.4.1.
        present = {_memory(value) for key, value in own.items() if key in state}
        missing = [
            key
            for key in missing
            if not key.endswith("num_batches_tracked")
            and (_memory(own[key]) is None or _memory(own[key]) not in present)
        ]
    if strangers or missing:
        parts = [f"lack {len(missing)} of its weights ({_some(missing)})"] if missing else []
        parts += [f"have {len(strangers)} that it hasn't ({_some(strangers)})"] if strangers else []
        raise ModelspaceError(
            f"the weights in {file} don't fit {kind}: they {' and '.join(parts)}",
            "is it the architecture that these weights were trained in?",
        )
    size = file.stat().st_size
    wrong = []
    for key, value in state.items():
        target = own[key]
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
            wrong.append(f"{key} is {_shape(value)} in the file and {_shape(target)} in the module")
    if wrong:
        more = f", and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise ModelspaceError(
            f"the weights in {file} don't fit {kind}: {'; '.join(wrong[:_LISTED])}{more}",
            "does the factory build the size of network, and the number of classes, that these weights have?",
        )


def _memory(value: Any) -> tuple[Any, ...] | None:
    """Equal for two tensors that share the same elements; None where that can't be told."""
    if not isinstance(value, torch.Tensor) or is_lazy(value) or value.layout != torch.strided or not value.numel():
        return None
    return (value.device, value.data_ptr(), value.shape, value.stride()) if value.data_ptr() else None


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _line(error: BaseException) -> str:
    """An error's text in one line. Torch's run over many, and advise to load without safety before they say what is."""
    text = str(error).strip()
    text = text.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0].partition(". In PyTorch")[0]
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
