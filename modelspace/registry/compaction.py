"""Rewriting a registry into a new file, without the room that earlier changes left in the old one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

from modelspace.registry import connection as connections
from modelspace.registry.store import _remove, _sync_folder


def compact(path: Path, timeout: float = 10.0) -> tuple[int, int]:
    """Copy all that is in a registry into a new file, and put that in its place.

    DuckDB reuses the room of what was changed or removed, but does not give it back: a file grows by one row group of
    maps (8 MB) even where models are only added.

    Args:
        path: the registry.
        timeout: seconds to wait until others let go of it.

    Returns:
        Size in bytes before and after.

    Raises:
        BusyError: others held the file for longer than `timeout`.
        DamagedError: the file is damaged. It is as it was.
    """
    return rewrite(path, lambda duck: duck.execute("COPY FROM DATABASE registry TO beside"), timeout=timeout)


def rewrite(
    path: Path,
    copy: Callable[[duckdb.DuckDBPyConnection], object],
    *,
    finish: Callable[[Path], None] = lambda file: None,
    settings: Mapping[str, str] | None = None,
    block_size: int | None = None,
    timeout: float = 10.0,
) -> tuple[int, int]:
    """Put a new file in a registry's place, filled from it, in one step.

    Args:
        path: the registry.
        copy: called with a connection to the databases `registry` and `beside`; fills `beside`.
        finish: called with the new file once it is closed.
        settings: of DuckDB, for that connection.
        block_size: of the new file, in bytes; default: DuckDB's own, 256 KiB.
        timeout: seconds to wait until others let go of the registry.

    Returns:
        Size in bytes before and after.

    Raises:
        BusyError: others held the file for longer than `timeout`.
        DamagedError: the file is damaged. It is as it was.
    """
    path = connections._existing(path)
    deadline = time.monotonic() + timeout
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    lock = connections._lock(path, deadline)
    try:
        connections._enter(path, write=True, deadline=deadline)
        try:
            before = path.stat().st_size
            duck = connections._retry(
                lambda: connections._attach(path, temporary, settings=settings, block_size=block_size), path, deadline
            )
            try:
                # The log goes into the file first: the new file takes its name, and must not find another's log.
                duck.execute("CHECKPOINT registry")
                copy(duck)
                duck.execute("CHECKPOINT beside")
            finally:
                duck.close()
            finish(temporary)
            _flush(temporary)
            os.replace(temporary, path)
            _sync_folder(path.parent)
            return before, path.stat().st_size
        except duckdb.Error as error:
            raise connections.translated(error, path) from None
        finally:
            connections._leave(path, write=True)
            _remove(temporary)
    finally:
        connections._unlock(path, lock)


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
