"""Writing a registry anew without the room that earlier changes left in its file."""

from __future__ import annotations

import os
import time
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
    path = connections._existing(path)
    deadline = time.monotonic() + timeout
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    lock = connections._lock(path, deadline)
    try:
        connections._enter(path, write=True, deadline=deadline)
        try:
            before = path.stat().st_size
            duck = connections._retry(lambda: connections._attach(path, beside=temporary), path, deadline)
            try:
                # The log goes into the file first: the new file takes its name, and must not find another's log.
                duck.execute("CHECKPOINT registry; COPY FROM DATABASE registry TO beside; CHECKPOINT beside")
            finally:
                duck.close()
            descriptor = os.open(temporary, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
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
