"""The mutants of a module: copies of its syntax tree, each with one small change.

The changes are the usual ones (DeMillo, Lipton & Sayward 1978; Offutt et al. 1996, the five sufficient operators):
comparisons, arithmetic, connectives, conditions, constants, returned values, and statements left out. Docstrings,
annotations and the text of messages are left alone, since tests do not pin prose.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
#: The name that an instrumented module calls with the line of each statement that is about to run.
PROBE = "__reached__"

#: Characters of a change's source text on either side.
_LONGEST = 90
#: Not looked into: annotations are not executed, and a decorator that is changed rarely says anything about tests.
_SKIPPED_FIELDS = ("annotation", "returns", "decorator_list")


@dataclass(frozen=True, eq=False)
class Mutant:
    """One change of a module.

    Attributes:
        function: dotted name of the function or class around it; "module" at the top.
        line: of the statement in the source.
        change: "before → after", as source text; with `function` it names the mutant whatever the line.
        apply: changes a copy of the module's tree, in place.
    """

    function: str
    line: int
    change: str
    apply: Callable[[ast.Module], None]

    def code(self, tree: ast.Module) -> ast.Module:
        """The changed copy of the module's tree."""
        changed = copy.deepcopy(tree)
        self.apply(changed)
        return ast.fix_missing_locations(changed)


@dataclass(frozen=True)
class _Place:
    """A node of the tree: its parent, the fields and indices that lead to it, and the function around it."""

    node: ast.AST
    parent: ast.AST | None
    path: tuple[tuple[str, int | None], ...]
    function: str
    is_statement_of_body: bool


def mutants(tree: ast.Module) -> list[Mutant]:
    """All mutants of a module, in the order of the source."""
    out: list[Mutant] = []
    seen: Counter[tuple[str, str]] = Counter()
    for place in _places(tree, None, (), "", False):
        for replacement in _replacements(place):
            function, change = place.function or "module", _change(place, replacement)
            seen[function, change] += 1
            if seen[function, change] > 1:
                change += f" ({seen[function, change]})"
            out.append(Mutant(function, getattr(place.node, "lineno", 0), change, _put(place.path, replacement)))
    return out


def _change(place: _Place, replacement: ast.AST) -> str:
    change = f"{_text(place.node)} → {_text(replacement)}"
    if isinstance(place.node, ast.Constant) and isinstance(place.parent, ast.expr | ast.keyword | ast.Assign):
        return f"{change} in {_text(place.parent)}"
    return change


def instrumented(tree: ast.Module) -> ast.Module:
    """A copy of the module that calls `PROBE` with its line before each statement."""
    changed = copy.deepcopy(tree)
    for node in ast.walk(changed):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                setattr(node, field, [new for old in block for new in _probed(old)])
    return ast.fix_missing_locations(changed)


def _probed(statement: ast.stmt) -> list[ast.stmt]:
    if _is_prose(statement) or (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
        return [statement]
    probe = ast.Expr(ast.Call(ast.Name(PROBE, ast.Load()), [ast.Constant(statement.lineno)], []))
    return [ast.copy_location(probe, statement), statement]


def statement_line(tree: ast.Module, line: int) -> int:
    """The first line of the innermost statement around a line."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return max(around, key=lambda node: node.lineno).lineno


def _text(node: ast.AST) -> str:
    """Source text on one line; of a condition without its block."""
    if isinstance(node, ast.If | ast.While):
        return f"{type(node).__name__.lower()} {_text(node.test)}"
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _put(path: tuple[tuple[str, int | None], ...], replacement: ast.AST) -> Callable[[ast.Module], None]:
    def apply(tree: ast.Module) -> None:
        parent: ast.AST = tree
        for field, index in path[:-1]:
            parent = getattr(parent, field) if index is None else getattr(parent, field)[index]
        field, index = path[-1]
        new = ast.copy_location(copy.deepcopy(replacement), _at(parent, field, index))
        if index is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[index] = new

    return apply


def _at(parent: ast.AST, field: str, index: int | None) -> ast.AST:
    value = getattr(parent, field)
    node: ast.AST = value if index is None else value[index]
    return node


def _places(
    node: ast.AST, parent: ast.AST | None, path: tuple[tuple[str, int | None], ...], function: str, in_body: bool
) -> Iterator[_Place]:
    if path:
        yield _Place(node, parent, path, function, in_body)
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}" if function else node.name
    for field, value in ast.iter_fields(node):
        if field in _SKIPPED_FIELDS:
            continue
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if isinstance(child, ast.AST) and not _is_prose(child):
                yield from _places(child, node, (*path, (field, index)), function, field in ("body", "orelse"))


def _is_prose(node: ast.AST) -> bool:
    """Docstrings and messages."""
    if isinstance(node, ast.JoinedStr):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _replacements(place: _Place) -> Iterator[ast.AST]:
    node = place.node
    if isinstance(node, ast.Compare):
        yield from _comparisons(node)
    elif isinstance(node, ast.BinOp):
        yield from _arithmetic(node)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.stmt):
        yield from _statements(node, place.is_statement_of_body)
    elif isinstance(node, ast.IfExp) and _is_plain(node.test):
        yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)


def _comparisons(node: ast.Compare) -> Iterator[ast.AST]:
    for index, operator in enumerate(node.ops):
        operators = list(node.ops)
        operators[index] = _COMPARISONS[type(operator)]()
        yield ast.Compare(node.left, operators, node.comparators)


def _arithmetic(node: ast.BinOp) -> Iterator[ast.AST]:
    is_text = any(isinstance(n, ast.JoinedStr) or isinstance(getattr(n, "value", None), str) for n in ast.walk(node))
    if type(node.op) in _ARITHMETIC and not is_text:
        yield ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)


def _constants(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)


def _statements(node: ast.stmt, in_body: bool) -> Iterator[ast.AST]:
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.If | ast.While) and _is_plain(node.test):
        negated = ast.UnaryOp(ast.Not(), node.test)
        yield type(node)(negated, node.body, node.orelse)
    elif in_body and _has_effect(node):
        yield ast.Pass()


def _has_effect(node: ast.stmt) -> bool:
    """Whether a statement can be left out of a block without a name missing afterwards."""
    is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    return is_call or isinstance(node, ast.Raise | ast.AugAssign | ast.Delete)


def _is_plain(test: ast.expr) -> bool:
    """Whether a condition has no operator of its own that is changed anyway."""
    return not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.NamedExpr)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
