"""User SQL: read-only, sandboxed, bounded in memory and time."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb

from modelspace.errors import ConditionWarning, ModelspaceError, UsageError
from modelspace.frames import Tabular
from modelspace.late import dataclass
from modelspace.registry import conditions, sandbox, statements
from modelspace.registry.connection import Connection

#: Seconds that a condition may take.
CONDITION_S = 30.0

#: Seconds to find out for which models it is NULL.
_NULLS_S = 5.0

#: Unquoted texts in a condition that a hint puts in quotes.
_MOST_FIXES = 8

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
    open it, and every condition runs here. A tag that is no column may be named like one, as in "group = '2D'".

    Warns:
        ConditionWarning: the condition is NULL for some of the models, which are left out.

    Raises:
        UsageError: the condition is wrong, or takes too long.
        ModelspaceError: as `query`.
    """
    tags: list[str] = []
    try:
        try:
            ids = _ids_of(connection, condition)
        except UsageError as error:
            # Looked for only now, so that other conditions cost nothing.
            tags = _tags_named(connection, condition)
            if not tags:
                raise
            ids = _ids_with_tags(connection, condition, tags, error)
    except UsageError as error:
        hint = _hint(connection, condition, error.message)
        raise UsageError(f"`where={condition!r}`: {error.message}", hint) from None
    if conditions.is_closed(condition):
        _warn_of_nulls(connection, condition, tags)
    return ids


def _ids_of(
    connection: Connection, condition: str, tags: Sequence[str] = (), timeout_s: float | None = None
) -> set[int]:
    """Ids of the models that meet a condition, in which some names stand for tags."""
    # The line break ends a comment in the condition. A condition that closes the parenthesis and goes on is still
    # only a query; numbers in its result that are not ids of models are ignored.
    table = conditions.models_with(tags) if tags else "main.models"
    plain, text = (
        f"SELECT model_id FROM {place} WHERE (\n{conditions.with_quoted_names(condition, tags)}\n)"
        for place in ("main.models", table)
    )
    timeout_s = CONDITION_S if timeout_s is None else timeout_s
    if connection.write or _is_plain(connection.duck, plain) or _has_syntax_error(connection.duck, text):
        rows = _rows_here(connection, text, timeout_s)
    else:
        _, _, rows = sandbox.run(connection.path, text, timeout_s=timeout_s, most_statements=1)
    return {row[0] for row in rows if row and isinstance(row[0], int)}


def _ids_with_tags(connection: Connection, condition: str, tags: Sequence[str], first: UsageError) -> set[int]:
    """As `_ids_of`, for a condition that was refused without its tags."""
    try:
        return _ids_of(connection, condition, tags)
    except UsageError as error:
        raise (first if "syntax error" in error.message.lower() else error) from None


def _tags(connection: Connection) -> list[str]:
    """The keys of all models' tags."""
    text = "SELECT DISTINCT unnest(system.main.map_keys(tags)) AS tag FROM main.models"
    return sorted(str(row[0]) for row in _rows_here(connection, text, CONDITION_S))


def _tags_named(connection: Connection, condition: str) -> list[str]:
    """The tags that a condition names like columns, as `group_by=` does."""
    return conditions.tags_named(condition, _tags(connection), _columns(connection))


def _columns(connection: Connection) -> list[str]:
    cursor = connection.cursor()
    try:
        return [str(column[0]) for column in cursor.execute("FROM main.models LIMIT 0").description or ()]
    finally:
        cursor.close()


def _warn_of_nulls(connection: Connection, condition: str, tags: Sequence[str]) -> None:
    """Warn if a condition is NULL for some of the models, which are then left out."""
    try:
        count = len(_ids_of(connection, f"({condition}\n) IS NULL", tags, min(CONDITION_S, _NULLS_S)))
    except ModelspaceError:
        return  # the condition itself was answered
    if not count:
        return
    left_out = "1 model has no value that this condition compares, and is left out"
    if count > 1:
        left_out = f"{count} models have no value that this condition compares, and are left out"
    safe = conditions.null_safe(condition)
    advice = f"to keep what has no value, write `where={safe!r}`" if safe != condition else "IS NULL would find them"
    warnings.warn(f"{left_out}; {advice}", ConditionWarning, stacklevel=4)


def _hint(connection: Connection, condition: str, message: str) -> str:
    """What was probably meant by a condition that DuckDB refuses."""
    general = "for example: `where=\"task = 'depth'\"`"
    name = conditions.unknown_name(message)
    if name is None:
        return general
    fixed, unknown = condition, name
    for _ in range(_MOST_FIXES):
        attempt = conditions.with_quoted_text(fixed, unknown)
        if attempt is None:
            break
        fixed = attempt
        try:
            _ids_of(connection, fixed, _tags_named(connection, fixed), min(CONDITION_S, _NULLS_S))
        except ModelspaceError as error:
            unknown = conditions.unknown_name(error.message) or unknown
        else:
            return f"a text is written in single quotes: `where={fixed!r}`"
    return f"{conditions.hint_for_name(name, _tags(connection))}; {general}"


def _rows_here(connection: Connection, text: str, timeout_s: float) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    try:
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        parts = statements.parts(cursor, text, connection.path, timeout_s=timeout_s, most_statements=1)
        return [row for kind, *content in parts if kind == "rows" for row in content[0]]
    finally:
        cursor.close()


def _parsed(duck: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any]:
    """A query as DuckDB's parser sees it; empty where it can't say."""
    try:
        (parsed,) = duck.execute("SELECT system.main.json_serialize_sql(?)", [text]).fetchall()[0]
        return dict(json.loads(parsed))
    except (duckdb.Error, ValueError, TypeError, RecursionError):
        return {}


def _has_syntax_error(duck: duckdb.DuckDBPyConnection, text: str) -> bool:
    """Whether a query is no SQL, so that nothing of it can run."""
    return _parsed(duck, text).get("error_type") == "parser"


def _is_plain(duck: duckdb.DuckDBPyConnection, text: str) -> bool:
    """Whether a query is `SELECT model_id FROM main.models WHERE` with comparisons of columns and constants alone."""
    try:
        (statement,) = _parsed(duck, text)["statements"]
        node = statement["node"]
        table = node["from_table"]
    except (ValueError, KeyError, TypeError):
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
