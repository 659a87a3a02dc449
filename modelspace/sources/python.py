"""``python:package.module:factory`` and ``python:path/to/file.py:factory``: a callable that returns a torch module.

Loading such an address runs the code it names; that is its purpose. What that code changes in the interpreter is put
back afterwards as far as it concerns others: the import path, helper modules beside the file, and torch's random state,
default type and gradient mode.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe
from modelspace.sources.weights import load_weights

_FORM = "write python:package.module:factory or python:path/to/file.py:factory"
_FILE_PREFIX = "modelspace_file_"
_counter = itertools.count()


def load(rest: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Import the module, call the factory, load the weights.

    The factory is called with no arguments and with torch's random state seeded with 0, so that a model without trained
    weights is the same each time.

    Raises:
        UsageError: a malformed address; something that can't be called without arguments or returns no torch module.
        NotFoundError: no such file, module or factory.
        ModelspaceError: the code raised an error (named with its file and line), or the weights don't fit.
    """
    place, colon, name = rest.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"the address python:{rest} does not name a module and a factory", _FORM)
    is_file = place.endswith(".py") or "/" in place or os.sep in place
    if is_file:
        place = Path(os.path.normpath(place)).as_posix()
    uri = f"python:{place}:{name}"
    with _surroundings():
        if is_file:
            with _beside(Path(place)):
                home = _run_file(Path(place))
                module = _call(_find(home, name, place), uri)
        else:
            with _current_folder_last():
                home = _import(place)
                module = _call(_find(home, name, place), uri)
    if any(
        tensor.device.type not in ("cpu", "meta") for tensor in itertools.chain(module.parameters(), module.buffers())
    ):
        module = module.cpu()
    if weights is not None:
        load_weights(module, weights)
    tags = {} if weights is None else {"weights": weights}
    return describe(module, uri=uri, name=name.rpartition(".")[2], flags=flags, tags=tags, code=[home])


def _import(name: str) -> ModuleType:
    """Import an installed module, or one in the current folder."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} is not the name of a Python module", _FORM)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that is there and in turn imports something that isn't is a fault in the module.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise _blame(f"importing {name}", error) from error
        raise NotFoundError(
            f"there is no Python module {error.name!r}",
            f"is it installed, and is the name right? For a file, write python:{error.name.replace('.', '/')}.py:...",
        ) from error
    except ModelspaceError:
        raise
    except (Exception, SystemExit) as error:
        raise _blame(f"importing {name}", error) from error


def _run_file(path: Path) -> ModuleType:
    """Run a Python file as a module with a name that nothing else has."""
    path = path.expanduser()
    if not path.is_file():
        beside = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        if path.is_dir():
            raise UsageError(f"{path} is a folder, not a Python file", _FORM)
        raise NotFoundError(f"there is no file {path}{where}", did_you_mean(path.name, beside))
    if path.suffix != ".py":
        raise UsageError(f"{path} is not a Python file: its name does not end in .py", _FORM)
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]
    name = f"{_FILE_PREFIX}{digest}_{next(_counter)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file", _FORM)
    module = importlib.util.module_from_spec(spec)
    # It stays there: dataclasses, pickle and inspect look a class's module up by name for as long as the model lives.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ModelspaceError) or not isinstance(error, Exception | SystemExit):
            raise
        raise _blame(f"running {path}", error) from error
    return module


def _find(module: ModuleType, name: str, place: str) -> Callable[[], Any]:
    found: Any = module
    for part in name.split("."):
        names = [other for other in vars(found) if not other.startswith("_")] if hasattr(found, "__dict__") else []
        try:
            found = getattr(found, part)
        except AttributeError as error:
            callables = [other for other in names if callable(getattr(found, other, None))]
            raise NotFoundError(
                f"{place} has nothing called {name!r}",
                did_you_mean(part, callables, "is the name spelled as in the file?"),
            ) from error
    if isinstance(found, nn.Module):
        raise UsageError(
            f"{name!r} in {place} is a model, not a function that returns one",
            f"add to it: def make(): return {name}; and use :make",
        )
    if not callable(found):
        raise UsageError(f"{name!r} in {place} is a {type(found).__name__}, not a function that returns a model", _FORM)
    return found  # type: ignore[no-any-return]


def _call(factory: Callable[[], Any], uri: str) -> nn.Module:
    """The factory's module."""
    name = uri.rpartition(":")[2]
    try:
        signature: inspect.Signature | None = inspect.signature(factory)
    except (TypeError, ValueError):
        signature = None  # Some callables written in C have none.
    if signature is not None:
        try:
            signature.bind()
        except TypeError as error:
            raise UsageError(
                f"{name}{signature} wants arguments, and a factory is called without any",
                f"write one that gives them: def make(): return {name}(...)",
            ) from error
    if asyncio.iscoroutinefunction(factory):
        raise UsageError(f"{name} is asynchronous, and a factory is called plainly", "write it with def, not async def")
    try:
        made = factory()
    except ModelspaceError:
        raise
    except (Exception, SystemExit) as error:
        raise _blame(f"the factory {name}", error) from error
    if isinstance(made, type) and issubclass(made, nn.Module):
        raise UsageError(
            f"the factory {name} returned the class {made.__name__}, not a model", f"return {made.__name__}()"
        )
    if not isinstance(made, nn.Module):
        raise UsageError(
            f"the factory {name} returned {_article(type(made).__name__)}, not a torch module",
            "return an instance of a subclass of torch.nn.Module",
        )
    return made


def _article(name: str) -> str:
    return "None" if name == "NoneType" else f"a {name}"


def _blame(doing: str, error: BaseException) -> ModelspaceError:
    """The error of somebody's code as one sentence, with the line of theirs that is nearest to it."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else text[:300] + " ..."
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{_shown(error.filename)}:{error.lineno}"
        text = error.msg
    else:
        frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
        frames = [frame for frame in frames if frame[0] != __file__ and not frame[0].startswith("<frozen")]
        frames = [frame for frame in frames if Path(frame[0]) != Path(importlib.__file__)]
        theirs = [frame for frame in frames if not _is_library(frame[0])] or frames
        where = f"{_shown(theirs[-1][0])}:{theirs[-1][1]}" if theirs else ""
    kind = type(error).__name__
    return ModelspaceError(f"{doing} raised {kind}" + (f": {text}" if text else "") + (f" ({where})" if where else ""))


def _is_library(filename: str) -> bool:
    paths = sysconfig.get_paths()
    return any(filename.startswith(paths[key] + os.sep) for key in ("stdlib", "platstdlib", "purelib", "platlib"))


def _shown(filename: str) -> str:
    """Relative to the current folder where it lies below it."""
    path = Path(filename)
    with contextlib.suppress(ValueError, OSError):
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    return filename


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """Seed torch, and put back what a factory may set for the whole process: default type, gradients, random state."""
    dtype = torch.get_default_dtype()
    # Of the CPU alone: torch.manual_seed would seed the GPU too, or leave word to seed it once it is started.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(0)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


@contextlib.contextmanager
def _current_folder_last() -> Iterator[None]:
    """Let modules in the current folder be imported, without letting them stand in for installed ones."""
    before = list(sys.path)
    sys.path.append(str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Let a file import its neighbours, as it could if Python ran it as a program.

    Afterwards the neighbours are forgotten, so that the next file's `import blocks` finds its own blocks.py. Modules
    that can be imported without the folder stay.
    """
    folder = path.expanduser().resolve().parent
    path_before, modules_before = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path_before
        new = set(sys.modules) - modules_before
        beside = {n for n in new if "." not in n and _lies_in(sys.modules[n], folder) and not _can_be_found(n)}
        for name in new:
            if name.partition(".")[0] in beside:
                del sys.modules[name]


def _lies_in(module: ModuleType | None, folder: Path) -> bool:
    origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    return isinstance(origin, str) and Path(origin).resolve().is_relative_to(folder)


def _can_be_found(name: str) -> bool:
    if name.startswith(_FILE_PREFIX):
        return True
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and find(name, None) is not None:
            return True
    return False
