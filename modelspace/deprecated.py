"""Names that moved: the old ones work until the next version, with a `DeprecationWarning`."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

#: Old to new names of modules, relative to `modelspace`. `lab` exists in a checkout only, not in an installed package.
MOVED_MODULES = {
    "adding": "verbs.add",
    "analysis.oddities": "analysis.outliers",
    "bulk": "verbs.add_many",
    "comparison": "spaces.affinity",
    "coordinates": "spaces.coordinates",
    "directed": "spaces.predictability",
    "embed": "embedding.embed",
    "evaluation.ahp": "lab.ahp",
    "evaluation.halves": "evaluation.splits",
    "evaluation.hubs": "lab.hubs",
    "evaluation.judge": "evaluation.comparison",
    "evaluation.similarity": "lab.similarity",
    "evaluation.transfer": "lab.transfer",
    "export": "verbs.export",
    "geometry": "representations.kernels",
    "hubs": "spaces.hubness",
    "index": "spaces.index",
    "inputs": "encoder.inputs",
    "judging": "verbs.evaluate",
    "layers": "encoder.layers",
    "manifest": "verbs.manifest",
    "maps": "representations.maps",
    "merge": "verbs.merge",
    "pictures": "verbs.pictures",
    "pools": "verbs.pools",
    "prepare": "embedding.prepare",
    "ranking": "verbs.nearest",
    "sources.onnx_file": "sources.onnx.load",
    "sources.onnx_ops": "sources.onnx.operators",
    "uncertainty": "spaces.bootstrap",
    "verification": "verbs.verify",
    "worlds.patterns": "lab.patterns",
    "zoo.collected": "zoo.literature_nets",
    "zoo.raycast": "worlds.raycast",
    "zoo.rooms": "worlds.rooms",
    "zoo.scenes": "worlds.room_scenes",
    "zoo.shapes": "worlds.shapes",
    "zoo.stonework": "worlds.yard_surfaces",
    "zoo.surfaces": "worlds.surfaces",
    "zoo.tasks": "lab.tasks",
    "zoo.training": "lab.training",
    "zoo.worlds": "lab.patterns",
    "zoo.yard_scenes": "worlds.yard_scenes",
    "zoo.yards": "worlds.yards",
}


def warn_renamed(old: str, new: str, level: int = 3) -> None:
    """Warn the caller of a renamed function or property, `level` frames up."""
    message = f"{old} is now {new}; the old name will be removed in the next version"
    warnings.warn(message, DeprecationWarning, stacklevel=level)


class _MovedModules(MetaPathFinder, Loader):
    """Imports a moved module by its old name; both names give the same module object."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != "modelspace" or _new_name(name) is None:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        new = f"modelspace.{_new_name(old.partition('.')[2])}"
        warn_renamed(old, new, 3)
        # The import system returns this entry after loading.
        sys.modules[old] = importlib.import_module(new)


def _new_name(name: str) -> str | None:
    """The new name of a module below `modelspace`, or None if neither it nor its package has moved."""
    package, _, module = name.rpartition(".")
    if name in MOVED_MODULES:
        return MOVED_MODULES[name]
    return f"{MOVED_MODULES[package]}.{module}" if package in MOVED_MODULES else None


def attribute_of_a_spec(spec: Any, name: str) -> Any:
    """`SpaceSpec.kind`, `.members` and `.row_length`, which are now attributes of the space object."""
    if name not in ("kind", "members", "row_length"):
        raise AttributeError(f"a SpaceSpec has no attribute {name!r}")
    space = importlib.import_module("modelspace.spaces.kinds").space_of(spec)
    warn_renamed(f"modelspace.types.SpaceSpec.{name}", "modelspace.spaces.kinds.space_of(spec)", 3)
    if name == "members":
        return getattr(space, "weights", {})
    return space.row_length if name == "row_length" else {"kernels": "geometry"}.get(space.kind, space.kind)


def install() -> None:
    """Make old module names importable."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        # First, since the other finders would import files of a moved folder a second time, under the old name.
        sys.meta_path.insert(0, _MovedModules())


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a module that resolves its old names.

    Args:
        module: the name of the module.
        names: old name to new name; the new name is dotted if it is in another module, as in "modelspace.names.near".
    """

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = names[name].rpartition(".")
        home = home or module
        warn_renamed(f"{module}.{name}", f"{home}.{new}", 3)
        return getattr(importlib.import_module(home), new)

    return __getattr__


def renamed_argument(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that accepts a keyword argument under its old name too."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{function.__name__}() got both {new!r} and its old name {old!r}")
                name = f"{function.__module__}.{function.__qualname__}"
                warn_renamed(f"{name}({old}=...)", f"{name}({new}=...)", 3)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
