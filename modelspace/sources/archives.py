"""The contents of weights files, read without running code: safetensors, torch.save, NumPy archives, and their parts.

The format is detected from the first bytes of a file, not from its name. Pickles are read with ``weights_only=True``
only. Sizes that a file claims are compared with the size of the file before memory is allocated.
"""

from __future__ import annotations

import math
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from modelspace.errors import ModelspaceError, NotFoundError
from modelspace.files import is_folder, is_regular, open_regular, special_kind
from modelspace.names import did_you_mean
from modelspace.sources import parts as parts_index
from modelspace.sources.formats import other_format

#: Names of the index of a state dict in several files, the preferred one first; they may have a prefix.
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

#: Suffixes of weights files, for suggestions.
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".npz")

_LARGEST_INDEX = 64 << 20
_SAVE_AGAIN = (
    "load it in a program of your own that you trust it in, and write its tensors alone: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)


@dataclass(frozen=True)
class Contents:
    """The contents of a weights file, or of all parts of one.

    Attributes:
        path: the file, or the index of the parts.
        value: usually a mapping with tensors at some depth; they may be memory-mapped.
        size: of the file, or of all parts, in bytes.
    """

    path: Path
    value: Any
    size: int


def read(place: Path) -> Contents:
    """Read a weights file, or the parts that are listed in an index or in the index of a folder.

    Raises:
        NotFoundError: no such file or part.
        ModelspaceError: not a weights file, or one that would run code.
    """
    file = _indexed(place)
    if not is_regular(file):
        raise _absent(file)
    try:
        size = file.stat().st_size
        with open_regular(file) as stream:
            head = stream.read(64)
    except OSError as error:
        raise ModelspaceError(f"the weights file {file} can't be read: {error.strerror}") from error
    if head.startswith(b"version https://git-lfs"):
        raise ModelspaceError(f"{file} is a Git LFS pointer, not the weights themselves", "run git lfs pull first")
    if file.name.endswith(".json") and head.lstrip()[:1] in (b"{", b"["):
        return _read_parts(file, size)
    return Contents(file, _read_one(file, head, size), size)


def _read_one(file: Path, head: bytes, size: int) -> Any:
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return _read_safetensors(file)
    if head.startswith(b"PK"):
        return _read_zip(file)
    if head.startswith(b"\x80"):
        return _unpickle(file, mmap=False)
    other = other_format(head)
    format_name = other[0] if other is not None else "neither safetensors nor a state dict saved by torch"
    raise ModelspaceError(
        f"{file} has no weights: it is {format_name}",
        "the file is empty" if size == 0 else "write one with safetensors.torch.save_file(model.state_dict(), ...)",
    )


# --- one state dict in several files


def _indexed(place: Path) -> Path:
    """The index in a folder that contains one; any other path unchanged."""
    if not is_folder(place):
        return place
    names = sorted(path.name for path in place.glob("*.index.json"))
    for ending in (*INDEXES, ".safetensors.index.json", ".bin.index.json"):
        matching = [name for name in names if name.endswith(ending)]
        if len(matching) == 1:
            return place / matching[0]
    return place


def _absent(file: Path) -> NotFoundError:
    if (kind := special_kind(file)) and not is_folder(file):
        return NotFoundError(f"{file} is {kind}, not a file of weights", "name the file itself")
    if not is_folder(file):
        siblings = [other.name for other in file.parent.iterdir()] if is_folder(file.parent) else []
        return NotFoundError(f"the weights file {file} does not exist", did_you_mean(file.name, siblings))
    inside = sorted(other.name for other in file.iterdir() if other.suffix in SUFFIXES)
    hint = f"name a file in it: {', '.join(inside[:6])}{', ...' if len(inside) > 6 else ''}" if inside else ""
    return NotFoundError(f"the weights file {file} is a folder, not a file of weights", hint)


def _read_parts(index: Path, size: int) -> Contents:
    """The state dict whose tensors an index distributes over other files in its folder."""
    places = parts_index.placed(index, size)
    parts = list(dict.fromkeys(places.values()))
    if missing := [part for part in parts if not is_regular(index.parent / part)]:
        raise NotFoundError(
            f"{index} names {len(parts)} files, and {len(missing)} of them are missing: {_some(missing)}",
            "fetch them into the folder of the index",
        )
    state: dict[str, Any] = {}
    total = size
    for part in parts:
        contents = read(index.parent / part)
        names = {name for name, place in places.items() if place == part}
        if not isinstance(contents.value, Mapping) or names != set(contents.value):
            value = contents.value if isinstance(contents.value, Mapping) else {}
            differing = sorted(names ^ set(map(str, value)))
            raise ModelspaceError(
                f"{contents.path} does not hold what {index.name} says: {len(differing)} names differ "
                f"({_some(differing)})",
                "fetch the index and all parts again, of one and the same version",
            )
        state.update(contents.value)
        total += contents.size
    return Contents(index, state, total)


def is_part(file: Path) -> bool:
    """Whether a file's name says that it is one part of several.

    >>> is_part(Path("model-00001-of-00003.safetensors"))
    True
    """
    return re.search(r"-\d+-of-0*[^0]\d*\.\w+$", file.name) is not None and "-of-00001." not in file.name


# --- formats


def _read_safetensors(file: Path) -> Any:
    from safetensors.torch import load_file

    try:
        # The format keeps every offset inside the file, so what is read is never larger than the file.
        return load_file(file, device="cpu")
    except Exception as error:
        raise ModelspaceError(f"{file} can't be read as safetensors: {line(error)}", "it may be truncated") from error


def _read_zip(file: Path) -> Any:
    """Read what torch.save or numpy.savez wrote, once the archive is checked: memory-mapped reading trusts it."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelspaceError(f"{file} can't be read: {line(error)}", "it may be truncated") from error
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise ModelspaceError(f"{file} is a TorchScript archive, which runs code when it is loaded", _SAVE_AGAIN)
    if names and all(name.endswith(".npy") for name in names):
        return _read_numpy(file, entries)
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
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return [storage for inner in value.values() for storage in _storages(inner, depth + 1)]
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        return [storage for inner in value for storage in _storages(inner, depth + 1)]
    return []


def _read_numpy(file: Path, entries: Sequence[zipfile.ZipInfo]) -> dict[str, torch.Tensor]:
    """The arrays of numpy.savez, by name; each entry is compared with its own header before it is read."""
    import numpy as np

    state = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{entry.filename} is compressed; write it with numpy.savez")
                with archive.open(entry) as stream:
                    _check_array(stream, entry)
                with archive.open(entry) as stream:
                    array = np.lib.format.read_array(stream, allow_pickle=False)
                state[entry.filename.removesuffix(".npy")] = torch.from_numpy(array)
    except Exception as error:
        raise ModelspaceError(f"{file} can't be read as a NumPy archive: {line(error)}", _SAVE_AGAIN) from error
    return state


def _check_array(stream: Any, entry: zipfile.ZipInfo) -> None:
    from numpy.lib import format as layout

    version = layout.read_magic(stream)
    header = layout.read_array_header_1_0 if version == (1, 0) else layout.read_array_header_2_0
    shape, _, dtype = header(stream)
    if dtype.hasobject:
        raise ValueError(f"{entry.filename} holds Python objects, which are code")
    if math.prod(shape) * dtype.itemsize != entry.file_size - stream.tell():
        raise ValueError(f"{entry.filename} claims {math.prod(shape):,} elements, and does not hold them")


class _Nothing:
    """Replaces an object in a pickle that is not a tensor and not needed: accepts all arguments and does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> _Nothing:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


#: What training programs save along with the weights: their options, a score. None of it is needed, so no such object
#: is created.
_HARMLESS = (
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
)


def _unpickle(file: Path, mmap: bool) -> Any:
    stand_ins: list[Any] = [(_Nothing, name) for name in _HARMLESS]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # torch's warnings about old formats; an unreadable file raises an error.
            if file.suffix == ".safetensors":
                # torch.load would go by the suffix, which the content contradicts.
                with open_regular(file) as stream:
                    value = torch.load(stream, map_location="cpu", weights_only=True)
            else:
                value = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        text = str(error)
        if "unsupported global" in text.lower() or "unsupported class" in text.lower():
            named = text.partition("GLOBAL ")[2].split(" ")[0]
            needs = f" ({named})" if named else ""
            raise ModelspaceError(
                f"{file} needs code{needs} to be loaded, and only tensors are read", _SAVE_AGAIN
            ) from error
        raise ModelspaceError(
            f"{file} can't be read as weights: {line(error)}", "it may be damaged or truncated"
        ) from error
    _check_paths(value, file)
    return value


#: How deep the containers of a checkpoint are looked into, here and in `modelspace.sources.checkpoints`.
_DEEPEST = 8

#: Largest number of entries, counted once for each path that leads to them, that need not be as many in the file.
_MOST_PATHS = 1_000_000


def _check_paths(value: Any, file: Path) -> None:
    """Refuse containers that hold the same containers many times: a few bytes would be walked through for years."""
    counted: dict[tuple[int, int], int] = {}
    lengths: dict[int, int] = {}
    n_entries = _count_paths(value, 0, counted, lengths)
    if n_entries > max(_MOST_PATHS, 4 * sum(lengths.values())):
        raise ModelspaceError(
            f"{file} is refused: {n_entries:.0e} paths lead to its {sum(lengths.values()):,} entries",
            "no training program writes such a file",
        )


def _count_paths(value: Any, depth: int, counted: dict[tuple[int, int], int], lengths: dict[int, int]) -> int:
    """Number of entries in a container, once for each path to them; each container is looked at once per depth."""
    key = id(value), depth
    if key not in counted:
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        lengths[id(value)] = len(inner)
        containers = (each for each in inner if isinstance(each, Mapping | list | tuple)) if depth < _DEEPEST else ()
        counted[key] = len(inner) + sum(_count_paths(each, depth + 1, counted, lengths) for each in containers)
    return counted[key]


def _some(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def line(error: BaseException) -> str:
    """An error's text in one line. torch's have many, and advise unsafe loading before they name the problem."""
    text = str(error).strip()
    text = text.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0].partition(". In PyTorch")[0]
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
