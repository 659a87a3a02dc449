"""Rewriting a registry into a new file, without the free space that earlier changes left in the old one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

from modelspace.registry.connection import exclusive, flush, remove, remove_left, translated


def compact(path: Path, timeout: float = 10.0) -> tuple[int, int]:
    """Copy a registry into a new file, and replace it with that.

    DuckDB reuses space freed by changes, but does not return it: a file grows by one row group of maps (8 MB) even if
    models are only added.

    Args:
        path: the registry.
        timeout: seconds to wait until other processes release it.

    Returns:
        Size in bytes before and after.

    Raises:
        BusyError: other processes held the file for longer than `timeout`.
        DamagedError: the file is damaged; it is left unchanged.
    """
    return rewrite(path, lambda duck: duck.execute("COPY FROM DATABASE registry TO target"), timeout=timeout)


def rewrite(
    path: Path,
    copy: Callable[[duckdb.DuckDBPyConnection], object],
    *,
    finish: Callable[[Path], None] = lambda file: None,
    settings: Mapping[str, str] | None = None,
    block_size: int | None = None,
    timeout: float = 10.0,
) -> tuple[int, int]:
    """Replace a registry atomically with a new file that is filled from it.

    Args:
        path: the registry.
        copy: called with a connection to the databases `registry` and `target`; fills `target`.
        finish: called with the new file once it is closed.
        settings: DuckDB settings for that connection.
        block_size: of the new file, in bytes; by default DuckDB's, 256 KiB.
        timeout: seconds to wait until other processes release the registry.

    Returns:
        Size in bytes before and after.

    Raises:
        BusyError: other processes held the file for longer than `timeout`.
        DamagedError: the file is damaged; it is left unchanged.
    """
    with exclusive(path, timeout) as opener:
        path = opener.path
        remove_left(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        remove(temporary)
        try:
            before = path.stat().st_size
            duck = opener.attach(temporary, settings, block_size)
            try:
                # Empty the log first: the new file takes the registry's name, and must not find the old log.
                opener.checkpoint(duck)
                copy(duck)
                duck.execute("CHECKPOINT target")
            finally:
                duck.close()
            finish(temporary)
            flush(temporary)
            os.replace(temporary, path)
            flush(path.parent)
            return before, path.stat().st_size
        except duckdb.Error as error:
            raise translated(error, path) from None
        finally:
            remove(temporary)
