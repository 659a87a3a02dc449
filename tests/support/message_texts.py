"""The messages in the package's source, and the commands that they name."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from modelspace.cli import spelling
from modelspace.cli.spelling import in_flags

PACKAGE = Path(spelling.__file__).parents[1]

#: Stands for the value of an f-string field.
FILLED = "FILLED"

#: Module -> file, except the command line's.
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "cli" not in path.relative_to(PACKAGE).parts
}


def texts(source: str, *, help_texts: bool = True) -> Iterator[str]:
    """The strings of a module except docstrings, with `FILLED` for the fields of f-strings.

    Args:
        source: of the module.
        help_texts: whether help texts of commands and options are among them, with their examples.
    """
    tree = ast.parse(source)
    skipped = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    if not help_texts:
        skipped |= {id(part) for node in ast.walk(tree) if _is_help(node) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else FILLED for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _is_help(node: ast.AST) -> bool:
    if isinstance(node, ast.keyword):
        return node.arg in ("help", "epilog")
    return isinstance(node, ast.Assign) and any(
        isinstance(name, ast.Name) and name.id.endswith("EXAMPLES") for name in node.targets
    )


def commands_of(text: str) -> Iterator[list[str]]:
    """The words of each command line that a message names, without "modelspace"."""
    for code in re.findall(r"`([^`\n]+)`", text):
        typed = in_flags(f"`{code}`")
        if match := re.fullmatch(r"'modelspace (.*)'", typed):
            yield shlex.split(match[1])


@cache
def messages() -> dict[str, tuple[str, ...]]:
    """Module -> its strings, except the command line's."""
    return {name: tuple(texts(path.read_text("utf-8"))) for name, path in MODULES.items()}
