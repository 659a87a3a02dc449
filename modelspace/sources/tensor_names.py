"""Names and shapes of the tensors in a file of weights, read without running code and mostly without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelspace.errors import ModelspaceError, NotFoundError
from modelspace.files import is_regular, open_regular
from modelspace.sources.parts import placed

#: Largest header of a safetensors file, in bytes; the format itself allows 100 MB.
_LARGEST_HEADER = 100_000_000

#: Entries of a checkpoint that name the architecture it was trained in.
_NAMED_UNDER = ("arch", "architecture", "model_name")


@dataclass(frozen=True)
class Tensors:
    """What a file of weights says of itself.

    Attributes:
        path: the file, or the index of its parts.
        format: "safetensors", "torch" or "numpy".
        shapes: name -> shape, of the state dict that is taken.
        key: where it lies in the file, as `weights_key=` takes it; "": it is the whole file.
        others: keys of further state dicts.
        metadata: texts in the file about itself.
        architecture: the name of the architecture, if the file states one.
    """

    path: Path
    format: str
    shapes: Mapping[str, tuple[int, ...]]
    key: str = ""
    others: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    architecture: str = ""


def read(path: Path) -> Tensors:
    """Read the names and shapes in a file, in the parts that an index names, or in the index in a folder.

    Raises:
        NotFoundError: there is no such file.
        ModelspaceError: it has no weights, or would run code when it is loaded.
    """
    if is_regular(path):
        if path.name.endswith(".index.json"):
            return _parts(path)
        with open_regular(path) as stream:
            head = stream.read(9)
        if head[8:9] == b"{":
            shapes, metadata = _safetensors(path)
            stated = metadata.get("architecture", "")
            return Tensors(path, "safetensors", shapes, metadata=metadata, architecture=stated)
    return _checkpoint(path)


def _safetensors(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """The header of a safetensors file: shapes, and metadata."""
    try:
        with open_regular(path) as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > min(_LARGEST_HEADER, path.stat().st_size):
                raise ValueError(f"its header claims {length:,} bytes")
            header = json.loads(stream.read(length))
        metadata = header.pop("__metadata__", None) or {}
        shapes = {str(name): tuple(int(side) for side in entry["shape"]) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelspaceError(
            f"{path} can't be read as safetensors: {type(error).__name__}: {str(error)[:200]}", "it may be truncated"
        ) from error
    return shapes, {str(key): str(value) for key, value in dict(metadata).items()}


def _parts(index: Path) -> Tensors:
    """The tensors of all parts that an index names."""
    parts = sorted(set(placed(index, index.stat().st_size).values()))
    shapes: dict[str, tuple[int, ...]] = {}
    for part in parts:
        file = index.parent / part
        if not is_regular(file):
            raise NotFoundError(f"{index} names {part!r}, which is not in its folder", "fetch all parts into it")
        shapes.update(read(file).shapes)
    return Tensors(index, "safetensors" if parts[0].endswith(".safetensors") else "torch", shapes)


def _checkpoint(path: Path) -> Tensors:
    """A file that torch or NumPy wrote; only tensors are read (`modelspace.sources.archives`)."""
    import torch

    from modelspace.sources import archives, checkpoints

    contents = archives.read(path)
    choices = checkpoints.stated(contents)
    choice = choices[0]
    stated = ""
    if isinstance(contents.value, Mapping):
        names: list[Any] = [contents.value.get(key) for key in _NAMED_UNDER]
        stated = next((name for name in names if isinstance(name, str)), "")
    shapes = {name: tuple(value.shape) for name, value in choice.state.items() if isinstance(value, torch.Tensor)}
    kind = "numpy" if path.suffix == ".npz" else "torch"
    return Tensors(contents.path, kind, shapes, choice.key, tuple(each.key for each in choices[1:]), {}, stated)
