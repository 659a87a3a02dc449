"""Parquet files, written and read by DuckDB so that no other package is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from modelspace.errors import ModelspaceError, UsageError
from modelspace.files import check_regular

#: Rows per INSERT.
_ROWS_AT_ONCE = 50_000

#: A map from its keys and its values. DuckDB takes a list of dictionaries for structs of one type, which have all keys
#: that occur anywhere, and fails on an empty one among others.
_MAP = "map(unnest(?::VARCHAR[][]), unnest(?::VARCHAR[][]))"


def write_parquet(columns: Mapping[str, tuple[str, Sequence[Any]]], path: Path) -> None:
    """Write a table as a Parquet file (ZSTD).

    Args:
        columns: name -> (DuckDB type, values), all of the same length; the only maps are MAP(VARCHAR, VARCHAR).
        path: the file; an existing one is overwritten.

    Raises:
        ModelspaceError: it can't be written.
    """
    # A separate database in memory: connections to a registry may not access other files.
    duck = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
    try:
        column_types = {f'"{name.replace(chr(34), chr(34) * 2)}"': column for name, column in columns.items()}
        duck.execute(f"CREATE TABLE t ({', '.join(f'{name} {kind}' for name, (kind, _) in column_types.items())})")
        n_rows = len(next(iter(columns.values()))[1])
        width_factor = max(1, math.ceil(len(columns) / 50))
        step = max(1, _ROWS_AT_ONCE // width_factor)
        values = ", ".join(_MAP if kind.startswith("MAP(") else f"unnest(?::{kind}[])" for kind, _ in columns.values())
        for start in range(0, n_rows, step):
            parts = [_parameters(kind, column[start : start + step]) for kind, column in columns.values()]
            duck.execute(f"INSERT INTO t SELECT {values}", [parameter for part in parts for parameter in part])
        quoted = str(path).replace("'", "''")
        duck.execute(f"COPY t TO '{quoted}' (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)")
    except duckdb.IOException as error:
        raise ModelspaceError(f"{path} can't be written: {str(error).splitlines()[0]}") from None
    finally:
        duck.close()


def _parameters(kind: str, values: Sequence[Any]) -> list[list[Any]]:
    """The query parameters that stand for a part of a column: the values, or the keys and values of maps."""
    if not kind.startswith("MAP("):
        return [list(values)]
    return [[list(mapping) for mapping in values], [list(mapping.values()) for mapping in values]]


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Columns of a Parquet file, by name, in order; all of them unless some are named.

    Raises:
        UsageError: a column is missing.
        ModelspaceError: the file can't be read.
    """
    try:
        check_regular(path)
    except OSError as error:
        raise ModelspaceError(f"{path} can't be read: {error.strerror}", "is it a Parquet file?") from None
    duck = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
    try:
        quoted = str(path).replace("'", "''")
        names = [row[0] for row in duck.execute(f"DESCRIBE SELECT * FROM read_parquet('{quoted}')").fetchall()]
        if columns is not None and (missing := [name for name in columns if name not in names]):
            raise UsageError(
                f"{path.name} has the columns {', '.join(names)}", f"it must have the columns {' and '.join(missing)}"
            )
        shown = "*" if columns is None else ", ".join(columns)
        rows = duck.execute(f"SELECT {shown} FROM read_parquet('{quoted}')").fetchall()
    except duckdb.Error as error:
        raise ModelspaceError(f"{path} can't be read: {str(error).splitlines()[0]}", "is it a Parquet file?") from None
    finally:
        duck.close()
    return {name: [row[i] for row in rows] for i, name in enumerate(names if columns is None else columns)}
