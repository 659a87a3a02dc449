"""Errors of downloads and of optional packages, as messages with hints."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from modelspace.deprecated import renamed
from modelspace.errors import ModelspaceError, NotFoundError

_LOG_IN = "hf auth login"


def package(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ModuleNotFoundError: it is not installed; `modelspace.sources.load` says how to install it.
        ModelspaceError: it is installed, but can't be imported.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] != "modelspace":
            raise
        raise broken_package(name, error) from error
    except Exception as error:
        raise broken_package(name, error) from error


def broken_package(name: str, error: BaseException) -> ModelspaceError:
    """The error for a package that is installed but fails: usually torchvision, compiled for another build of torch."""
    causes = list(_causes(error))
    if any("torchvision::" in str(cause) for cause in causes):
        return ModelspaceError(
            "the installed torchvision was not built for the installed torch",
            "install both from the same package index: pip install --force-reinstall torch torchvision",
        )
    return ModelspaceError(f"the Python package {name} can't be imported: {line(causes[-1])}", f"pip install -U {name}")


@contextmanager
def download_errors(uri: str, offline: str) -> Iterator[None]:
    """Turn errors of a download into ModelspaceError.

    Errors are identified by the names of their classes: two libraries raise them, which may not both be installed, and
    the most specific one may be the cause of the one caught here.

    Args:
        uri: the address of the model.
        offline: the hint for a missing connection.
    """
    try:
        yield
    except ModelspaceError:
        raise
    except Exception as error:
        explanation = _explain(uri, error, offline)
        if explanation is None:
            raise
        raise explanation from error


def _explain(uri: str, error: BaseException, offline: str) -> ModelspaceError | None:
    for cause in _causes(error):
        kinds = {kind.__name__ for kind in type(cause).__mro__}
        status = getattr(getattr(cause, "response", None), "status_code", None) or getattr(cause, "code", None)
        explanation = _hub_error(uri, kinds, cause, offline)
        if explanation is not None:
            return explanation
        if status in (401, 403, 404, 410):
            return NotFoundError(f"the weights of {uri} can't be downloaded: the server answers {status}", offline)
        if kinds & {"URLError", "HTTPError", "ConnectionError", "TimeoutError", "TransportError", "HfHubHTTPError"}:
            return ModelspaceError(f"the weights of {uri} can't be downloaded: {line(cause)}", offline)
        if isinstance(cause, RuntimeError) and "invalid hash value" in str(cause):
            return ModelspaceError(f"the download of {uri} is damaged: {line(cause)}", "try again")
        if isinstance(cause, OSError) and cause.errno == 28:
            return ModelspaceError(f"no space left on the disk for {uri}", "free some space and try again")
    return None


def _hub_error(uri: str, kinds: set[str], error: BaseException, offline: str) -> ModelspaceError | None:
    """The error for an exception of the Hugging Face Hub with these classes, or None.

    The most specific classes come first: a gated repository also counts as not found.
    """
    if "GatedRepoError" in kinds:
        return ModelspaceError(
            f"{uri} is gated: its authors require you to accept their terms",
            f"accept them on the model's page, then log in: {_LOG_IN}",
        )
    if "DisabledRepoError" in kinds:
        return NotFoundError(f"{uri} has been disabled on the hub", "choose another model")
    if kinds & {"RepositoryNotFoundError", "HFValidationError"}:
        return NotFoundError(
            f"there is no {uri} on the hub, or it is private",
            f"check the spelling (org/name); for a private one log in first: {_LOG_IN}",
        )
    if kinds & {"RevisionNotFoundError", "RevisionResolutionError"}:
        return NotFoundError(f"{uri} has no such revision", "name a branch, a tag or a commit after the @")
    if kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled"}:
        return ModelspaceError(f"{uri} is not on this machine, and the hub can't be reached", offline)
    if "EntryNotFoundError" in kinds:
        return NotFoundError(f"{uri} lacks a required file: {line(error)}", "is it a model's repository?")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    visited: set[int] = set()
    while error is not None and id(error) not in visited:
        visited.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def line(error: BaseException) -> str:
    """An error's text on one line."""
    text = " ".join(str(error).split())
    text = re.sub(r"\s*\(Request ID:[^)]*\)", "", text)[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


__getattr__ = renamed(__name__, {"explained": "download_errors", "broken": "broken_package"})
