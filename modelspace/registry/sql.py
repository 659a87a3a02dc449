"""User SQL: read-only, sandboxed, with a time-out."""

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
    """The result of a query.

    Attributes:
        columns: their names.
        types: their DuckDB types.
        rows: one tuple of Python values per row.
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]


def query(path: Path, sql: str, *, timeout_s: float = 30.0, max_rows: int | None = None) -> Table:
    """Run a user's SQL on a registry. It can change nothing, and read nothing but the registry.

    Args:
        path: the registry file.
        sql: one or more SELECT, FROM, WITH, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN statements.
        timeout_s: seconds until the query is interrupted. DuckDB checks for interruption between work units, so a
            single function call on a very long value can exceed it.
        max_rows: maximum number of rows of the result.

    Returns:
        The result of the last statement.

    Raises:
        UsageError: the SQL is wrong, does more than read, or takes too long.
        NotFoundError: the file does not exist.
        BusyError: another process is writing.
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
    """`query` on a connection that is locked down already, in a read-only transaction."""
    timed_out = threading.Event()

    def interrupt() -> None:
        timed_out.set()
        duck.interrupt()

    timer = threading.Timer(timeout_s, interrupt)
    timer.daemon = True
    timer.start()
    try:
        return _last_result(duck, sql, max_rows, most_statements)
    except duckdb.Error as error:
        if timed_out.is_set():
            raise _too_long(timeout_s) from None
        raise _explained(error, path) from None
    finally:
        timer.cancel()


def _last_result(duck: duckdb.DuckDBPyConnection, sql: str, max_rows: int | None, most_statements: int | None) -> Table:
    statements = duck.extract_statements(sql)
    if most_statements is not None and len(statements) > most_statements:
        raise UsageError("there is more than one statement")
    if not statements:
        raise UsageError("there is no SQL statement", "for example: FROM catalog")
    readable = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
    for statement in statements:
        # The connection already refuses writes. This refuses what DuckDB considers harmless: settings and
        # profiles (1.4 writes them to any file), temporary tables, and open transactions.
        if statement.type not in readable:
            name = getattr(statement.type, "name", str(statement.type))
            raise UsageError(
                f"{name} is not a query: with SQL the registry can only be read", "use SELECT, FROM or WITH"
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
    return UsageError(f"the query was interrupted after {timeout_s:g} s", "narrow it, or allow more time: `timeout_s=`")
