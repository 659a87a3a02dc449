"""What can go wrong with models and packages that come from elsewhere, in two lines each."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from modelspace.errors import ModelspaceError, NotFoundError

_LOG_IN = "hf auth login"


def package(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ModuleNotFoundError: it is not installed; `modelspace.sources.load` says how to.
        ModelspaceError: it is installed, but does not work here.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] != "modelspace":
            raise
        raise broken(name, error) from error
    except Exception as error:
        raise broken(name, error) from error


def broken(name: str, error: BaseException) -> ModelspaceError:
    """For a package that is there and fails; most often torchvision, which is compiled against one build of torch."""
    causes = list(_causes(error))
    if any("torchvision::" in str(cause) for cause in causes):
        return ModelspaceError(
            "the installed torchvision was not built for the installed torch",
            "install the two together, from one and the same package index: pip install --force-reinstall torch torchvision",
        )
    return ModelspaceError(f"the Python package {name} can't be imported: {line(causes[-1])}", f"pip install -U {name}")


@contextmanager
def explained(what: str, offline: str) -> Iterator[None]:
    """Turn the errors of fetching a model into ModelspaceError.

    Errors are told apart by the names of their classes: two libraries raise them, which need not both be installed, and
    the class that says most may be the cause of the one that arrives.

    Args:
        what: the address of the model.
        offline: what to do without a connection.
    """
    try:
        yield
    except ModelspaceError:
        raise
    except Exception as error:
        made = _explain(what, error, offline)
        if made is None:
            raise
        raise made from error


def _explain(what: str, error: BaseException, offline: str) -> ModelspaceError | None:
    for cause in _causes(error):
        kinds = {kind.__name__ for kind in type(cause).__mro__}
        status = getattr(getattr(cause, "response", None), "status_code", None) or getattr(cause, "code", None)
        # From the narrow to the wide: a gated repository counts as one that is not found.
        if "GatedRepoError" in kinds:
            return ModelspaceError(
                f"{what} is gated: its authors give it to those who accept their terms",
                f"accept them on the model's page, then log in: {_LOG_IN}",
            )
        if "DisabledRepoError" in kinds:
            return NotFoundError(f"{what} has been disabled on the hub", "choose another model")
        if kinds & {"RepositoryNotFoundError", "HFValidationError"}:
            return NotFoundError(
                f"there is no {what} on the hub, or it is private",
                f"check the spelling (org/name); for a private one log in first: {_LOG_IN}",
            )
        if kinds & {"RevisionNotFoundError", "RevisionResolutionError"}:
            return NotFoundError(f"{what} has no such revision", "name a branch, a tag or a commit after the @")
        if kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled"}:
            return ModelspaceError(f"{what} is not on this machine, and the hub can't be reached", offline)
        if "EntryNotFoundError" in kinds:
            return NotFoundError(f"{what} lacks a file that is needed: {line(cause)}", "is it a model's repository?")
        if status in (401, 403, 404, 410):
            return NotFoundError(f"the weights of {what} are not given out: the server answers {status}", offline)
        if kinds & {"URLError", "HTTPError", "ConnectionError", "TimeoutError", "TransportError", "HfHubHTTPError"}:
            return ModelspaceError(f"the weights of {what} can't be downloaded: {line(cause)}", offline)
        if isinstance(cause, RuntimeError) and "invalid hash value" in str(cause):
            return ModelspaceError(f"what was downloaded for {what} is damaged: {line(cause)}", "try again")
        if isinstance(cause, OSError) and cause.errno == 28:
            return ModelspaceError(f"no space is left on the disk for {what}", "make room and try again")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def line(error: BaseException) -> str:
    """An error's text in one line."""
    text = " ".join(str(error).split())
    text = re.sub(r"\s*\(Request ID:[^)]*\)", "", text)[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
