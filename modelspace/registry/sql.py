"""User SQL: read-only, sandboxed, bounded in memory and time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from modelspace.errors import UsageError
from modelspace.frames import Tabular
from modelspace.registry import sandbox, statements
from modelspace.registry.connection import Connection

#: Seconds that a condition may take.
CONDITION_S = 30.0

#: What a plain condition is made of, as DuckDB's parser names it. Calls of functions are left out, and the operators
#: that are functions: a registry can hold a macro of any function's name.
_PLAIN = frozenset({"COMPARISON", "CONJUNCTION", "CONSTANT", "COLUMN_REF", "BETWEEN"})
_PLAIN_OPERATORS = frozenset(
    {"COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"}
)


@dataclass(frozen=True)
class Table(Tabular):
    """The result of a query.

    Attributes:
        columns: their names.
        types: their DuckDB types.
        rows: one tuple of Python values per row.
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def to_rows(self) -> list[tuple[Any, ...]]:
        """The rows."""
        return self.rows


def query(path: Path, sql: str, *, timeout_s: float = 30.0, max_rows: int | None = None) -> Table:
    """Run a user's SQL on a registry. It can change nothing, and read nothing but the registry.

    It runs in a process of its own (`modelspace.registry.sandbox`), so that its memory and time are bounded whatever
    it does.

    Args:
        path: the registry file.
        sql: one or more SELECT, FROM, WITH, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN statements.
        timeout_s: seconds until the query is interrupted.
        max_rows: maximum number of rows of the result.

    Returns:
        The result of the last statement. Values of types that Python lacks are texts.

    Raises:
        UsageError: the SQL is wrong, does more than read, takes too long, or its result is too large.
        ModelspaceError: it needs too much memory.
        NotFoundError: the file does not exist.
        BusyError: another process is writing.
        DamagedError: the file is damaged.
    """
    return Table(*sandbox.run(path, sql, timeout_s=timeout_s, max_rows=max_rows))


def matching(connection: Connection, condition: str) -> set[int]:
    """Ids of the models that meet a user's condition on the table `models`.

    A condition that only compares columns with constants runs here; any other in a process of its own, which opens
    the registry again, so it sees only what is committed. With the registry open for writing no other process may
    open it, and every condition runs here.

    Raises:
        UsageError: the condition is wrong, or takes too long.
        ModelspaceError: as `query`.
    """
    # The line break ends a comment in the condition. A condition that closes the parenthesis and goes on is still
    # only a query; numbers in its result that are not ids of models are ignored.
    text = f"SELECT model_id FROM main.models WHERE (\n{condition}\n)"
    try:
        if connection.write or _is_plain(connection.duck, text):
            rows = _rows_here(connection, text)
        else:
            _, _, rows = sandbox.run(connection.path, text, timeout_s=CONDITION_S, most_statements=1)
    except UsageError as error:
        raise UsageError(f"`where={condition!r}`: {error.message}", "for example: `where=\"task = 'depth'\"`") from None
    return {row[0] for row in rows if row and isinstance(row[0], int)}


def _rows_here(connection: Connection, text: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    try:
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        parts = statements.parts(cursor, text, connection.path, timeout_s=CONDITION_S, most_statements=1)
        return [row for kind, *content in parts if kind == "rows" for row in content[0]]
    finally:
        cursor.close()


def _is_plain(duck: duckdb.DuckDBPyConnection, text: str) -> bool:
    """Whether a query is `SELECT model_id FROM main.models WHERE` with comparisons of columns and constants alone."""
    try:
        (parsed,) = duck.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0]
        tree = json.loads(parsed)
        (statement,) = tree["statements"]
        node = statement["node"]
        table = node["from_table"]
    except (duckdb.Error, ValueError, KeyError, TypeError, RecursionError):
        return False
    known = {"type", "modifiers", "cte_map", "select_list", "from_table", "where_clause", "aggregate_handling"}
    others = (value for name, value in node.items() if name not in known)
    return (
        (node["type"], table.get("type"), table.get("table_name")) == ("SELECT_NODE", "BASE_TABLE", "models")
        and not node["modifiers"]
        and not any(others)
        and all(map(_is_plain_part, _expressions(node["where_clause"])))
    )


def _is_plain_part(part: dict[str, Any]) -> bool:
    return part["class"] in _PLAIN or (part["class"] == "OPERATOR" and part["type"] in _PLAIN_OPERATORS)


def _expressions(tree: Any) -> Iterable[dict[str, Any]]:
    """The expressions in a parsed query: all objects that have a class."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class" in value:
                yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
