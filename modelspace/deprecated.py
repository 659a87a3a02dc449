"""Names that moved in version 0.2: the old ones work for one more version, with a `DeprecationWarning`."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

#: Modules by their old names, below `modelspace`. Those in `lab` a checkout has, and an installed package has not.
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


def _warn(old: str, new: str, level: int) -> None:
    warnings.warn(f"{old} is now {new}; the old name goes in the next version", DeprecationWarning, stacklevel=level)


class _MovedModules(MetaPathFinder, Loader):
    """Imports the module that a moved name stands for, as one and the same module object."""

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
        _warn(old, new, 3)
        # The import system hands out what is found here after loading.
        sys.modules[old] = importlib.import_module(new)


def _new_name(name: str) -> str | None:
    """Where a module below `modelspace` is now, if it or the package that it lay in has moved."""
    package, _, rest = name.rpartition(".")
    if name in MOVED_MODULES:
        return MOVED_MODULES[name]
    return f"{MOVED_MODULES[package]}.{rest}" if package in MOVED_MODULES else None


def attribute_of_a_spec(spec: Any, name: str) -> Any:
    """`SpaceSpec.kind`, `.members` and `.row_length`, which the object of a space's kind knows now."""
    if name not in ("kind", "members", "row_length"):
        raise AttributeError(f"a SpaceSpec has no attribute {name!r}")
    space = importlib.import_module("modelspace.spaces.kinds").space_of(spec)
    _warn(f"modelspace.types.SpaceSpec.{name}", "modelspace.spaces.kinds.space_of(spec)", 3)
    if name == "members":
        return getattr(space, "weights", {})
    return space.row_length if name == "row_length" else {"kernels": "geometry"}.get(space.kind, space.kind)


def install() -> None:
    """Let old names of modules be imported."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        # Before the others: a moved folder has files that they would import a second time, under the old name.
        sys.meta_path.insert(0, _MovedModules())


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` that answers for names which it had before.

    Args:
        module: the module's own name.
        names: old name to the new one, of this module, or with the module that it moved to, as in "modelspace.names.near".
    """

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = names[name].rpartition(".")
        home = home or module
        _warn(f"{module}.{name}", f"{home}.{new}", 3)
        return getattr(importlib.import_module(home), new)

    return __getattr__


def renamed_argument(**names: str) -> Callable[[F], F]:
    """A decorator that accepts keyword arguments under their old names.

    Args:
        **names: old name to new name.
    """

    def decorate(function: F) -> F:
        place = f"{function.__module__}.{function.__qualname__}"

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                _warn(f"{place}({old}=)", f"{place}({names[old]}=)", 3)
                kwargs.setdefault(names[old], kwargs.pop(old))
            return function(*args, **kwargs)

        return cast("F", call)

    return decorate
