"""Where models come from: an address such as ``zoo:rgb2depth`` becomes a torch module with all that is known about it.

An address is ``scheme:rest``. Each scheme is one file of this package, named in the table `SOURCES` and imported when
an address of its scheme is loaded; importing this package imports no torch. What such a file must offer is described in
`modelspace.sources.base`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from modelspace.errors import ConflictError, ModelspaceError, NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.sources.base import (
    LIVE_SCHEME,
    LoadedModel,
    PreprocessingFlags,
    SourceInfo,
    WeightsFile,
    describe,
    flags_of,
    weights_sha256,
)
from modelspace.types import Preprocessing

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "SOURCES",
    "LoadedModel",
    "PreprocessingFlags",
    "SourceInfo",
    "flags_of",
    "from_module",
    "is_uri",
    "load",
    "parse_uri",
    "source_table",
    "weights_sha256",
]


def source_table(rows: Iterable[SourceInfo]) -> Mapping[str, SourceInfo]:
    """The rows by scheme.

    Raises:
        ConflictError: two rows have the same scheme.
    """
    table: dict[str, SourceInfo] = {}
    for row in rows:
        if row.scheme in table or row.scheme == LIVE_SCHEME:
            other = table[row.scheme].module if row.scheme in table else __name__
            raise ConflictError(f"the scheme {row.scheme!r} is taken twice, by {other} and {row.module}")
        table[row.scheme] = row
    return MappingProxyType(table)


#: Every kind of address that is understood, by its scheme. One row and one file more is one ecosystem more.
SOURCES: Mapping[str, SourceInfo] = source_table(
    [
        SourceInfo("zoo", "modelspace.sources.zoo", "small models that come with modelspace", "zoo:rgb2depth"),
        SourceInfo(
            "python",
            "modelspace.sources.python",
            "a Python function without arguments that returns a torch module",
            "python:my_package.models:resnet18 or python:path/to/file.py:resnet18",
        ),
        SourceInfo(
            "timm",
            "modelspace.sources.timm_models",
            "the models of timm, with the preprocessing of their weights",
            "timm:resnet50.a1_in1k",
            extra="timm",
        ),
        SourceInfo(
            "torchvision",
            "modelspace.sources.torchvision_models",
            "the models of torchvision, with the transforms of their weights",
            "torchvision:resnet50/IMAGENET1K_V2",
            extra="torchvision",
        ),
        SourceInfo(
            "hf-hub",
            "modelspace.sources.huggingface",
            "vision models on the Hugging Face hub, or in a folder of that form; of transformers and timm",
            "hf-hub:facebook/dinov2-small or hf-hub:./folder",
            extra="huggingface",
        ),
        SourceInfo(
            "file",
            "modelspace.sources.file",
            "an exported program (.pt2) or a TorchScript archive (.pt); needs `trust_code=`, since both can run code",
            "file:model.pt2",
            runs_code=True,
        ),
        SourceInfo("onnx", "modelspace.sources.onnx.load", "an ONNX file", "onnx:model.onnx", extra="onnx"),
        SourceInfo(
            "taskonomy",
            "modelspace.sources.taskonomy",
            "the encoders of Taskonomy, from their published weights",
            "taskonomy:depth_euclidean",
        ),
    ]
)


def parse_uri(uri: str) -> tuple[str, str]:
    """Scheme and rest of a model's address.

    Raises:
        UsageError: not of the form ``scheme:rest``.
        NotFoundError: no such scheme; the hint has the near matches and all schemes.

    >>> parse_uri("python:net.py:make")
    ('python', 'net.py:make')
    """
    scheme, colon, rest = uri.partition(":")
    examples = "; ".join(info.example for info in SOURCES.values())
    if not colon or not scheme:
        raise UsageError(f"{uri!r} is not the address of a model", f"an address is SCHEME:NAME, for example {examples}")
    if scheme == LIVE_SCHEME:
        raise UsageError(
            f"{uri!r} was handed over by a Python program and can't be loaded again", "hand the module over once more"
        )
    if scheme not in SOURCES:
        known = f"known schemes: {', '.join(sorted(SOURCES))}"
        meant = did_you_mean(scheme, SOURCES)
        raise NotFoundError(f"no source of models is called {scheme!r}", f"{meant} {known}".strip())
    if not rest:
        raise UsageError(f"the address {uri!r} names no model", f"example: {SOURCES[scheme].example}")
    return scheme, rest


def is_uri(text: object) -> bool:
    """Whether the text is an address (a known scheme and a colon) rather than a model's name or something else.

    >>> is_uri("zoo:rgb2depth"), is_uri("depth"), is_uri("C:depth")
    (True, False, False)
    """
    return isinstance(text, str) and ":" in text and text.partition(":")[0] in SOURCES


def load(
    uri: str,
    *,
    weights: str | None = None,
    weights_key: str | None = None,
    preprocessing: PreprocessingFlags | None = None,
    trusted: str | None = None,
) -> LoadedModel:
    """Load the model at an address.

    Args:
        uri: for example "zoo:rgb2depth" or "python:path/to/file.py:factory".
        weights: a file of weights to load into the module, where the source leaves that open: safetensors, or a state
            dict saved by torch, which is read without running any code; or the index of such files, or its folder.
        weights_key: which of the state dicts in that file is meant: keys with dots between them.
        preprocessing: overrides what the source or the module states (`modelspace.sources.base.merge_preprocessing`).
        trusted: SHA-256, 64 hexadecimal digits, of the one file whose code may run; for the sources that need it.

    Returns:
        The module on the CPU, in the mode that its source left it in, and what is known about it.

    Raises:
        UsageError: a malformed address, or preprocessing that nobody states; the hint has the flags to add.
        NotFoundError: nothing is there under that address.
        ModelspaceError: the model's own code failed, or the weights don't fit it.
    """
    scheme, rest = parse_uri(uri)
    try:
        backend = importlib.import_module(SOURCES[scheme].module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "modelspace"):
            raise
        raise ModelspaceError(
            f"addresses that begin with {scheme}: need the Python package {package!r}, which is not installed",
            f"pip install 'modelspace[{SOURCES[scheme].extra}]'" if SOURCES[scheme].extra else f"pip install {package}",
        ) from error
    flags = preprocessing or PreprocessingFlags()
    file = _weights_file(weights, weights_key)
    loaded: LoadedModel
    if SOURCES[scheme].runs_code:
        loaded = backend.load(rest, file, flags, trusted)
    elif trusted is not None:
        coded = ", ".join(f"{info.scheme}:" for info in SOURCES.values() if info.runs_code)
        raise UsageError(
            f"`trust_code=` has no meaning for {scheme}: addresses", f"leave it out; it is for {coded} alone"
        )
    else:
        loaded = backend.load(rest, file, flags)
    return loaded


def _weights_file(weights: str | None, key: str | None) -> WeightsFile | None:
    if weights is None:
        if key is not None:
            raise UsageError(f"`weights_key={key!r}` names a part of a file of weights", "add it: `weights=file`")
        return None
    return WeightsFile(os.path.expanduser(weights), key, weights)


def from_module(
    module: nn.Module,
    *,
    preprocessing: Preprocessing | PreprocessingFlags | Mapping[str, object] | None = None,
    uri: str | None = None,
) -> LoadedModel:
    """Describe a torch module that is already in memory. The module is not changed, copied or moved.

    Args:
        module: the model.
        preprocessing: complete, or some of the fields of `modelspace.types.Preprocessing` (a mapping, or flags), which
            override what the module states; None where the module states everything.
        uri: where it can be loaded from again. Left out, the address is ``live:`` and the name of the module's class,
            which tells what it was but can't be loaded.

    Raises:
        UsageError: not a torch module, or preprocessing that nobody states.
    """
    kind = type(module)
    name = kind.__name__
    if uri is None:
        uri = f"{LIVE_SCHEME}:{kind.__module__}.{kind.__qualname__}"
    elif is_uri(uri):
        name = uri.replace("/", ":").rpartition(":")[2]
    return describe(module, uri=uri, name=name, flags=flags_of(preprocessing))
