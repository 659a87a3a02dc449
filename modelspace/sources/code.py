"""Fingerprint of a model's code: with a corrected forward pass the same weights are another model.

Only the user's own code counts: code in an installed package is identified by the version of the package.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from modelspace.types import canonical_json

if TYPE_CHECKING:
    from torch import nn

_PACKAGE = Path(__file__).resolve().parents[1]


def code_sha256(module: nn.Module, more: Iterable[ModuleType] = ()) -> str:
    """Fingerprint of the code of a model's own classes, and of the user's files that they import.

    Comments, docstrings and formatting don't affect it.

    Args:
        module: the model; the classes of all of its parts are looked at.
        more: further Python modules that belong to it, such as that of the factory.

    Returns:
        64 hexadecimal digits; "" if all of its classes are from installed packages.
    """
    start = {sys.modules.get(type(part).__module__) for part in module.modules()} | set(more)
    texts = {_spelled(path.read_bytes()) for path in _files({each for each in start if each is not None})}
    texts |= set(_typed(module))
    if not texts:
        return ""
    return hashlib.sha256(canonical_json(sorted(texts)).encode()).hexdigest()


def _files(modules: set[ModuleType]) -> set[Path]:
    """The user's files among the modules and everything that they import by name."""
    seen: set[ModuleType] = set()
    files: set[Path] = set()
    stack = list(modules)
    while stack:
        module = stack.pop()
        if module in seen:
            continue
        seen.add(module)
        path = _own_file(module)
        if path is None:
            continue
        files.add(path)
        for value in list(vars(module).values()):
            other = (
                value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
            )
            if other is not None and other not in seen:
                stack.append(other)
    return files


def _own_file(module: ModuleType) -> Path | None:
    """The Python file of one of the user's modules; None for other modules and for interactive input."""
    name = getattr(module, "__file__", None)
    if not isinstance(name, str) or not name.endswith(".py"):
        return None
    path = Path(name).resolve()
    return path if path.is_file() and not _is_installed(path) else None


def _is_installed(path: Path) -> bool:
    installed = any(root in path.parents for root in _installation()) or {"site-packages", "dist-packages"} & set(
        path.parts
    )
    return bool(installed) or _PACKAGE in path.parents


@cache
def _installation() -> frozenset[Path]:
    """The folders of the standard library and of installed packages."""
    return frozenset(Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib"))


def _typed(module: nn.Module) -> Iterator[str]:
    """The classes of a model that were typed into a notebook or a console, as far as their source is known."""
    for cls in sorted({type(part) for part in module.modules()}, key=lambda each: each.__qualname__):
        owner = sys.modules.get(cls.__module__)
        if owner is None or getattr(owner, "__file__", None) is None:
            try:
                yield _spelled(inspect.getsource(cls).encode())
            except (OSError, TypeError):
                continue


def _spelled(source: bytes) -> str:
    """A text that changes only with what the code does: its syntax tree without docstrings."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return hashlib.sha256(source).hexdigest()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _is_text(
            node.body[:1]
        ):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(statements: Sequence[ast.stmt]) -> bool:
    """Whether the first statement is a docstring."""
    return any(isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant) for each in statements)
