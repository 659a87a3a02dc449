"""``python:package.module:factory`` and ``python:path/to/file.py:factory``: a callable that returns a torch module.

Loading such an address runs the code that it names. Changes to the interpreter that could affect other code are undone
afterwards: the import path, helper modules next to the file, and torch's random state, default type and gradient mode.
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
from modelspace.files import absent, expanded, is_folder, is_regular
from modelspace.names import did_you_mean
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe
from modelspace.sources.weights import LoadedWeights, load_weights

_FORM = "write python:package.module:factory or python:path/to/file.py:factory"
_FILE_PREFIX = "modelspace_file_"
_counter = itertools.count()


def load(path: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Import the module, call the factory, load the weights.

    The factory is called without arguments, with torch's random state seeded with 0, so that a model with random
    weights is the same each time.

    Raises:
        UsageError: a malformed address; a factory that needs arguments or doesn't return a torch module.
        NotFoundError: no such file, module or factory.
        ModelspaceError: the code raised an error (reported with its file and line), or the weights don't fit.
    """
    location, colon, name = path.rpartition(":")
    if not colon or not location or not name:
        raise UsageError(f"the address python:{path} does not name a module and a factory", _FORM)
    is_file = location.endswith(".py") or "/" in location or os.sep in location
    if is_file:
        location = Path(os.path.normpath(location)).as_posix()
    uri = f"python:{location}:{name}"
    with _torch_state_restored():
        if is_file:
            with _sibling_imports(Path(location)):
                home = _run_file(Path(location))
                module = _call(_find(home, name, location), uri)
        else:
            with _current_folder_last():
                home = _import(location)
                module = _call(_find(home, name, location), uri)
    if any(
        tensor.device.type not in ("cpu", "meta") for tensor in itertools.chain(module.parameters(), module.buffers())
    ):
        module = module.cpu()
    taken = LoadedWeights() if weights is None else load_weights(module, weights)
    label = name.rpartition(".")[2]
    return describe(module, uri=uri, name=label, flags=flags, tags=taken.tags, code=[home], notes=taken.notes)


def _import(name: str) -> ModuleType:
    """Import an installed module, or one in the current folder."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} is not the name of a Python module", _FORM)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # If the module exists but imports a missing one, the fault is in the module.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise _blame(f"importing {name}", error) from error
        raise NotFoundError(
            f"there is no Python module {error.name!r}",
            f"is it installed and spelled correctly? For a file, write python:{error.name.replace('.', '/')}.py:...",
        ) from error
    except ModelspaceError:
        raise
    except (Exception, SystemExit) as error:
        raise _blame(f"importing {name}", error) from error


def _run_file(path: Path) -> ModuleType:
    """Run a Python file as a module with a unique name."""
    path = expanded(path)
    if not is_regular(path):
        neighbours = [file.name for file in path.parent.glob("*.py")] if is_folder(path.parent) else []
        folder = "" if path.is_absolute() else f" in {Path.cwd()}"
        if is_folder(path):
            raise UsageError(f"{path} is a folder, not a Python file", _FORM)
        raise NotFoundError(absent(path, f"there is no file {path}{folder}"), did_you_mean(path.name, neighbours))
    if path.suffix != ".py":
        raise UsageError(f"{path} is not a Python file: its name does not end in .py", _FORM)
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]
    name = f"{_FILE_PREFIX}{digest}_{next(_counter)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file", _FORM)
    module = importlib.util.module_from_spec(spec)
    # Not removed: dataclasses, pickle and inspect look up the module of a class by name while the model is in use.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ModelspaceError) or not isinstance(error, Exception | SystemExit):
            raise
        raise _blame(f"running {path}", error) from error
    return module


def _find(module: ModuleType, name: str, location: str) -> Callable[[], Any]:
    """The factory of a (dotted) name in a module."""
    factory: Any = module
    for part in name.split("."):
        scope = factory
        try:
            factory = getattr(scope, part)
        except AttributeError as error:
            attributes = [key for key in vars(scope) if not key.startswith("_")] if hasattr(scope, "__dict__") else []
            callables = [key for key in attributes if callable(getattr(scope, key, None))]
            raise NotFoundError(
                f"{location} has nothing called {name!r}",
                did_you_mean(part, callables, "is the name spelled as in the file?"),
            ) from error
    if isinstance(factory, nn.Module):
        raise UsageError(
            f"{name!r} in {location} is a model, not a function that returns one",
            f"add to it: def make(): return {name}; and use :make",
        )
    if not callable(factory):
        raise UsageError(
            f"{name!r} in {location} is a {type(factory).__name__}, not a function that returns a model", _FORM
        )
    return factory  # type: ignore[no-any-return]


def _call(factory: Callable[[], Any], uri: str) -> nn.Module:
    """Call the factory and check that it returns a module."""
    name = uri.rpartition(":")[2]
    try:
        signature: inspect.Signature | None = inspect.signature(factory)
    except (TypeError, ValueError):
        signature = None  # some callables written in C have none
    if signature is not None:
        try:
            signature.bind()
        except TypeError as error:
            raise UsageError(
                f"{name}{signature} needs arguments, and a factory is called without any",
                f"write one that passes them: def make(): return {name}(...)",
            ) from error
    if asyncio.iscoroutinefunction(factory):
        raise UsageError(f"{name} is a coroutine function, and factories must be synchronous", "write it with def")
    try:
        module = factory()
    except ModelspaceError:
        raise
    except (Exception, SystemExit) as error:
        raise _blame(f"the factory {name}", error) from error
    if isinstance(module, type) and issubclass(module, nn.Module):
        raise UsageError(
            f"the factory {name} returned the class {module.__name__}, not a model", f"return {module.__name__}()"
        )
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"the factory {name} returned {_article(type(module).__name__)}, not a torch module",
            "return an instance of a subclass of torch.nn.Module",
        )
    return module


def _article(name: str) -> str:
    return "None" if name == "NoneType" else f"a {name}"


def _blame(action: str, error: BaseException) -> ModelspaceError:
    """An error of the user's code as one sentence, with the innermost line of that code in its traceback."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else text[:300] + " ..."
    if isinstance(error, SyntaxError) and error.filename:
        line = f"{_relative(error.filename)}:{error.lineno}"
        text = error.msg
    else:
        frames = [(frame.f_code.co_filename, number) for frame, number in traceback.walk_tb(error.__traceback__)]
        frames = [frame for frame in frames if frame[0] != __file__ and not frame[0].startswith("<frozen")]
        frames = [frame for frame in frames if Path(frame[0]) != Path(importlib.__file__)]
        frames = [frame for frame in frames if not _is_library(frame[0])] or frames
        line = f"{_relative(frames[-1][0])}:{frames[-1][1]}" if frames else ""
    kind = type(error).__name__
    return ModelspaceError(f"{action} raised {kind}" + (f": {text}" if text else "") + (f" ({line})" if line else ""))


def _is_library(filename: str) -> bool:
    paths = sysconfig.get_paths()
    return any(filename.startswith(paths[key] + os.sep) for key in ("stdlib", "platstdlib", "purelib", "platlib"))


def _relative(filename: str) -> str:
    """Relative to the current folder if the file is inside it."""
    path = Path(filename)
    with contextlib.suppress(ValueError, OSError):
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    return filename


@contextlib.contextmanager
def _torch_state_restored() -> Iterator[None]:
    """Seed torch, and restore what a factory may set for the process: default type, gradient mode, random state."""
    dtype = torch.get_default_dtype()
    # Only on the CPU: torch.manual_seed would seed the GPU too, or schedule it for when CUDA is initialised.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(0)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


@contextlib.contextmanager
def _current_folder_last() -> Iterator[None]:
    """Allow imports from the current folder, without shadowing installed modules."""
    old_path = list(sys.path)
    sys.path.append(str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = old_path


@contextlib.contextmanager
def _sibling_imports(path: Path) -> Iterator[None]:
    """Let a file import its siblings, as if Python ran it as a program.

    Afterwards the siblings are removed from sys.modules, so that the next file's `import blocks` finds its own
    blocks.py. Modules that can be imported without the folder stay.
    """
    folder = expanded(path).resolve().parent
    old_path, old_modules = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = old_path
        new_modules = set(sys.modules) - old_modules
        siblings = {
            name
            for name in new_modules
            if "." not in name and _is_inside(sys.modules[name], folder) and not _is_importable(name)
        }
        for name in new_modules:
            if name.partition(".")[0] in siblings:
                del sys.modules[name]


def _is_inside(module: ModuleType | None, folder: Path) -> bool:
    origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    return isinstance(origin, str) and Path(origin).resolve().is_relative_to(folder)


def _is_importable(name: str) -> bool:
    if name.startswith(_FILE_PREFIX):
        return True
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and find(name, None) is not None:
            return True
    return False
