"""``mlflow:models:/NAME/VERSION`` and ``mlflow:runs:/ID/path``: models of an MLflow registry, and artifacts of a run.

The artifacts are fetched from the tracking store that `MLFLOW_TRACKING_URI` names, and read by what they are: an ONNX
file, a folder of transformers or timm, or a program, which needs trust. MLflow's own loaders are not used, since they
unpickle whole modules, which runs code.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.names import to_name
from modelspace.sources import identify
from modelspace.sources import load as load_address
from modelspace.sources.base import LoadedModel, PreprocessingFlags
from modelspace.sources.downloads import line, package
from modelspace.sources.identify import Identified

mlflow: Any = package("mlflow")

_FORM = re.compile(r"(models:/[^/]+(/[^/]+|@[^/]+)|runs:/[^/]+/.+)")
_EXAMPLES = "an address is mlflow:models:/NAME/VERSION or mlflow:runs:/ID/path"


def load(name: str, weights: str | None, flags: PreprocessingFlags, trusted: str | None) -> LoadedModel:
    """Fetch the artifacts of a model, and load the one model among them.

    Raises:
        UsageError: the address has another form, weights were given, or a program is not trusted.
        NotFoundError: there is no such model, version, run or artifact.
        ModelspaceError: the store can't be reached, or the artifacts are none that can be read without running code.
    """
    uri = f"mlflow:{name}"
    if not _FORM.fullmatch(name):
        raise UsageError(f"{uri} is not the address of a model", _EXAMPLES)
    if weights is not None:
        raise UsageError(f"{uri} has its own weights", "leave `weights=` out")
    folder = Path(tempfile.mkdtemp(prefix="modelspace-mlflow-"))
    try:
        place = _fetch(name, folder)
        address = _address(uri, name, place)
        model = _loaded(uri, address, flags, trusted)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    # Weights may be mapped into memory from these files.
    weakref.finalize(model.module, shutil.rmtree, folder, ignore_errors=True)
    model.uri = uri
    model.suggested_name = to_name(name.partition(":/")[2].replace("/", "-")) or model.suggested_name
    model.tags = {**model.tags, **_origin(name), "mlflow": str(mlflow.__version__)}
    return model


def _loaded(uri: str, address: str, flags: PreprocessingFlags, trusted: str | None) -> LoadedModel:
    try:
        return load_address(address, preprocessing=flags, trusted=trusted)
    except ModelspaceError as error:
        # What the user typed, where the message or hint repeats the address of the copy.
        error.message, error.hint = (text.replace(address, uri) for text in (error.message, error.hint))
        raise


def _fetch(name: str, folder: Path) -> Path:
    """Fetch the artifacts into a folder; where they are."""
    try:
        with _quiet():
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=name, dst_path=str(folder)))
    # mlflow raises its own exceptions, those of its stores' libraries, and OSError.
    except Exception as error:
        store = _without_password(str(mlflow.get_tracking_uri()))
        kind = (
            NotFoundError if "not found" in str(error).lower() or "path is correct" in str(error) else ModelspaceError
        )
        raise kind(
            f"mlflow:{name} can't be fetched from {store}: {line(error)}",
            "set MLFLOW_TRACKING_URI to the tracking store that has it",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Turn off mlflow's progress bars."""
    variable = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
    before = os.environ.get(variable)
    os.environ[variable] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return uri.replace(f"{parts.netloc}", parts.netloc.rpartition("@")[2], 1) if "@" in parts.netloc else uri


def _address(uri: str, name: str, place: Path) -> str:
    """The address of the copy of the one model among the artifacts.

    Raises:
        NotFoundError: there is none, or several.
        ModelspaceError: it holds weights alone, or a pickled module.
    """
    files = [place] if place.is_file() else identify.candidates(place)
    if len(files) != 1:
        inside = ", ".join(file.relative_to(place).as_posix() for file in files[:4])
        raise NotFoundError(
            f"{uri} holds {len(files) or 'no'} models{f': {inside}' if inside else ''}",
            "name one by its path: mlflow:runs:/ID/path" if files else _LOG_AGAIN,
        )
    try:
        identified = identify.identify(files[0])
    except ModelspaceError as error:
        raise ModelspaceError(
            f"{uri} holds {files[0].name}, which is not loaded: {error.message}", _LOG_AGAIN
        ) from error
    if identified.weights or not identified.uri:
        raise _weights_alone(uri, name, place, files[0], identified)
    return identified.uri


_LOG_AGAIN = (
    "log the model in a form that runs no code: mlflow.onnx.log_model or mlflow.transformers.log_model; if you trust a "
    "pickled module, write a function that returns mlflow.pytorch.load_model(...), and use python:"
)


def _weights_alone(uri: str, name: str, place: Path, file: Path, identified: Identified) -> ModelspaceError:
    target = "artifacts"
    inside = f"{target}/{file.relative_to(place.parent).as_posix()}"
    hint = f"fetch them with mlflow.artifacts.download_artifacts({name!r}, dst_path={target!r})"
    if identified.uri:
        hint += f"; then register them with {identified.call.replace(str(identified.path), inside)}"
    return ModelspaceError(f"{uri} holds weights alone: {identify.summary(identified)}", hint)


def _origin(name: str) -> dict[str, str]:
    """The run that a registered version is from, if the store says so."""
    match = re.fullmatch(r"models:/([^/@]+)/(\d+)", name)
    if match is None:
        return {"run": name.removeprefix("runs:/").partition("/")[0]} if name.startswith("runs:/") else {}
    try:
        run = mlflow.MlflowClient().get_model_version(match[1], match[2]).run_id
    except Exception:  # the model is loaded; that its origin can't be had is no error
        return {}
    return {"run": str(run)} if run else {}
