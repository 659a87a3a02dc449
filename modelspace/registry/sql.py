"""SQL typed by a user: read-only, locked down, with a time-out."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from modelspace.errors import ModelspaceError, UsageError
from modelspace.registry.connection import open_reading, translated

_BATCH = 4096


@dataclass(frozen=True)
class Table:
    """The answer to a query.

    Attributes:
        columns: names.
        types: DuckDB's names of their types.
        rows: one tuple of Python values per row.
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]


def query(path: Path, sql: str, *, timeout_s: float = 30.0, max_rows: int | None = None) -> Table:
    """Run a user's SQL on a registry. Nothing can be changed, and nothing but the registry can be read.

    Args:
        path: the registry file.
        sql: one or several SELECT, FROM, WITH, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN statements.
        timeout_s: seconds until the query is interrupted. DuckDB looks for an interruption between pieces of work, so
            that a single call of a function on a very long value can overrun it.
        max_rows: at most that many rows of the answer.

    Returns:
        What the last statement gives.

    Raises:
        UsageError: the SQL is wrong, does something else than read, or takes too long.
        NotFoundError: there is no such file.
        BusyError: somebody is writing.
        DamagedError: the file is damaged.
    """
    connection = open_reading(path)
    try:
        return run(connection.duck, sql, connection.path, timeout_s=timeout_s, max_rows=max_rows)
    finally:
        connection.close()


def run(
    duck: duckdb.DuckDBPyConnection,
    sql: str,
    path: Path,
    *,
    timeout_s: float = 30.0,
    max_rows: int | None = None,
    most_statements: int | None = None,
) -> Table:
    """`query` on a connection that is locked down already, and in a transaction that can't write."""
    late = threading.Event()

    def interrupt() -> None:
        late.set()
        duck.interrupt()

    timer = threading.Timer(timeout_s, interrupt)
    timer.daemon = True
    timer.start()
    try:
        return _last_answer(duck, sql, max_rows, most_statements)
    except duckdb.Error as error:
        if late.is_set():
            raise _too_long(timeout_s) from None
        raise _explained(error, path) from None
    finally:
        timer.cancel()


def _last_answer(duck: duckdb.DuckDBPyConnection, sql: str, max_rows: int | None, most_statements: int | None) -> Table:
    statements = duck.extract_statements(sql)
    if most_statements is not None and len(statements) > most_statements:
        raise UsageError("there is more than one statement")
    if not statements:
        raise UsageError("there is no SQL statement", "for example: FROM catalog")
    readable = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
    for statement in statements:
        # The connection refuses writing by itself. This keeps out what DuckDB counts as harmless: settings and
        # profiles (1.4 writes them to any file), temporary tables, transactions that stay open.
        if statement.type not in readable:
            name = getattr(statement.type, "name", str(statement.type))
            raise UsageError(
                f"{name} is not a query: the registry can only be read with SQL", "use SELECT, FROM or WITH"
            )
    for statement in statements[:-1]:
        duck.execute(statement).fetchall()
    cursor = duck.execute(statements[-1])
    columns = [column[0] for column in cursor.description or ()]
    types = [str(column[1]) for column in cursor.description or ()]
    rows: list[tuple[Any, ...]] = []
    while max_rows is None or len(rows) < max_rows:
        batch = cursor.fetchmany(_BATCH if max_rows is None else min(_BATCH, max_rows - len(rows)))
        if not batch:
            break
        rows += batch
    return Table(columns, types, rows)


def _explained(error: duckdb.Error, path: Path) -> ModelspaceError:
    if isinstance(error, (duckdb.OutOfMemoryException, duckdb.FatalException, duckdb.IOException)):
        return translated(error, path)
    return UsageError(
        str(error).split("\n", 1)[0], "tables and macros: FROM duckdb_tables(), or docs/reference/schema.md"
    )


def _too_long(timeout_s: float) -> UsageError:
    return UsageError(
        f"the query was interrupted after {timeout_s:g} s", "narrow it, or give it more time: `timeout_s=`"
    )
