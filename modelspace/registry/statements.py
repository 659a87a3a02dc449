"""A user's statements on a connection that is locked down: which are accepted, and the time they may take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from modelspace.errors import ModelspaceError, UsageError
from modelspace.registry.connection import translated

_BATCH = 4096


def parts(
    duck: duckdb.DuckDBPyConnection,
    text: str,
    path: Path,
    *,
    timeout_s: float,
    max_rows: int | None = None,
    most_statements: int | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Run a user's statements, and yield the result of the last one.

    Args:
        duck: a connection that is read-only and locked down.
        text: one or more SELECT, FROM, WITH, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN statements.
        path: the registry file, for error messages.
        timeout_s: seconds until the query is interrupted, which DuckDB notices between pieces of work.
        max_rows: maximum number of rows.
        most_statements: maximum number of statements.

    Yields:
        ("columns", names, types) once, then ("rows", [tuple, ...]) any number of times.

    Raises:
        UsageError: the SQL is wrong, does more than read, or takes too long.
        ModelspaceError: it needs too much memory, or the file is damaged.
    """
    timed_out = threading.Event()

    def interrupt() -> None:
        timed_out.set()
        duck.interrupt()

    timer = threading.Timer(timeout_s, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield from _last_result(duck, text, max_rows, most_statements)
    except duckdb.Error as error:
        if timed_out.is_set():
            raise too_long(timeout_s) from None
        raise _explained(error, path) from None
    finally:
        timer.cancel()


def _kind(statement: duckdb.Statement) -> str:
    """The kind of a statement, for example "SELECT"."""
    try:
        kind = statement.type
    except (ValueError, RuntimeError):  # UPDATE EXTENSIONS (2.0.0)
        return "UNNAMED KIND OF STATEMENT"
    return str(getattr(kind, "name", kind))


def _last_result(
    duck: duckdb.DuckDBPyConnection, text: str, max_rows: int | None, most_statements: int | None
) -> Iterator[tuple[Any, ...]]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the SQL has half of a character at position {error.start + 1}", "type it again: it was broken in a copy"
        ) from None
    statements = duck.extract_statements(text)
    if most_statements is not None and len(statements) > most_statements:
        raise UsageError("there is more than one statement")
    if not statements:
        raise UsageError("there is no SQL statement", "for example: FROM catalog")
    readable = ("SELECT", "EXPLAIN", "MULTI")
    for statement in statements:
        # The connection already refuses writes. This refuses what DuckDB considers harmless: settings and
        # profiles (1.4 writes them to any file), temporary tables, and open transactions.
        name = _kind(statement)
        if name not in readable:
            raise UsageError(
                f"{name} is not a query: with SQL the registry can only be read", "use SELECT, FROM or WITH"
            )
    for statement in statements[:-1]:
        duck.execute(statement).fetchall()
    cursor = duck.execute(statements[-1])
    description = cursor.description or ()
    yield "columns", [column[0] for column in description], [str(column[1]) for column in description]
    left = max_rows
    while left is None or left > 0:
        batch = cursor.fetchmany(_BATCH if left is None else min(_BATCH, left))
        if not batch:
            break
        yield "rows", batch
        left = None if left is None else left - len(batch)


def _explained(error: duckdb.Error, path: Path) -> ModelspaceError:
    if isinstance(error, (duckdb.OutOfMemoryException, duckdb.FatalException, duckdb.IOException)):
        return translated(error, path)
    return UsageError(
        str(error).split("\n", 1)[0], "tables and macros: FROM duckdb_tables(), or docs/reference/schema.md"
    )


def too_long(timeout_s: float) -> UsageError:
    """The error for a query that took longer than `timeout_s` seconds."""
    return UsageError(f"the query was interrupted after {timeout_s:g} s", "narrow it, or allow more time: `timeout_s=`")
