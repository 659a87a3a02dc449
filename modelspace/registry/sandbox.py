"""Users' SQL in a process of its own, whose memory and time are bounded whatever the query is.

A process is started for the first query and kept for the next ones. It opens the registry for each query and closes it
afterwards, so that it keeps no writer waiting in between. A query that takes too long, or an interruption, ends the
process at once. `modelspace.registry.sql_process` is what runs in it.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb

from modelspace import errors
from modelspace.errors import ModelspaceError, UsageError
from modelspace.registry import statements
from modelspace.registry.connection import out_of_memory, restore_to_read
from modelspace.registry.settings import MEMORY_BYTES
from modelspace.registry.sql_process import HEADER, VALUE_TYPES, packed

#: Bytes of a result, as they cross the pipe. In Python they take several times as much.
RESULT_BYTES = 128 << 20

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from modelspace.registry import sql_process; sql_process.main()"
)

#: Where this package and duckdb are, which an editable installation does not add to the path.
_FOLDERS = (Path(errors.__file__).parents[1], Path(duckdb.__file__).parents[1])

#: Seconds to start the process and to open the registry, in addition to waiting for a writer.
_START_S = 60.0
#: Seconds to wait for other processes before that.
_WAIT_S = 10.0
#: Seconds after the time-out, in which DuckDB may still stop by itself.
_GRACE_S = 0.5
#: Processes kept while no query runs.
_MOST_IDLE = 2


class _Unpickler(pickle.Unpickler):
    """Loads values alone: what comes out of the process could be forged, if DuckDB had a hole."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "str"):
            return str
        for known in VALUE_TYPES:
            if (module, name) == (known.__module__, known.__qualname__):
                return known
        raise pickle.UnpicklingError(f"unexpected {module}.{name}")


class _Process:
    """One running process."""

    def __init__(self) -> None:
        # I: no module of the current folder, no environment variable; S: no site. The paths are this interpreter's.
        paths = json.dumps([os.path.abspath(place) for place in (*sys.path, *map(str, _FOLDERS))])
        self._popen = subprocess.Popen(
            [sys.executable, "-ISc", _CODE, paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, which ends this process
        )

    def ask(self, request: Mapping[str, Any]) -> None:
        """Send a query.

        Raises:
            OSError: the process has ended.
        """
        assert self._popen.stdin is not None
        self._popen.stdin.write(packed(dict(request)))
        self._popen.stdin.flush()

    def read(self, size: int, deadline: float) -> bytes:
        """The next bytes of the answer.

        Raises:
            TimeoutError: they had not come by the deadline, on the monotonic clock.
            EOFError: the process has ended.
        """
        assert self._popen.stdout is not None
        descriptor = self._popen.stdout.fileno()
        data = bytearray()
        while len(data) < size:
            if not _readable(descriptor, deadline - time.monotonic()):
                raise TimeoutError
            if not (more := os.read(descriptor, min(size - len(data), 1 << 20))):
                raise EOFError
            data += more
        return bytes(data)

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._popen.poll() is None

    def end(self) -> int:
        """Kill the process, wait until it is gone, since it has the registry open, and return its exit status."""
        self._popen.kill()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                with suppress(OSError):  # a query that was not sent completely
                    stream.close()
        return self._popen.wait()


def _readable(descriptor: int, timeout: float) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()  # unlike select(), for descriptors of any number
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout) * 1000))
    return True  # Windows can't wait for a pipe: there the process itself keeps the time


_idle: list[tuple[int, _Process]] = []
_idle_lock = threading.Lock()


def _take() -> _Process:
    """A process that waits for a query, or a new one."""
    with _idle_lock:
        while _idle:
            owner, process = _idle.pop()
            # After a fork, the pipes of the other process lead to the same place.
            if owner == os.getpid() and process.is_running():
                return process
    return _Process()


def _give_back(process: _Process) -> None:
    with _idle_lock:
        if len(_idle) < _MOST_IDLE:
            _idle.append((os.getpid(), process))
            return
    process.end()


def end_idle() -> None:
    """End the processes that wait for a query; the next query starts a new one."""
    with _idle_lock:
        while _idle:
            owner, process = _idle.pop()
            if owner == os.getpid():
                process.end()


Result = tuple[list[str], list[str], list[tuple[Any, ...]]]


def run(
    path: Path, text: str, *, timeout_s: float, max_rows: int | None = None, most_statements: int | None = None
) -> Result:
    """Run a user's SQL on a registry, in a process of its own.

    Args:
        path: the registry file.
        text: the query.
        timeout_s: seconds until the query is interrupted, or else the process ended.
        max_rows: maximum number of rows.
        most_statements: maximum number of statements.

    Returns:
        Names and types of the columns, and the rows.

    Raises:
        ModelspaceError: as `modelspace.registry.sql.query`.
    """
    request = {
        "path": os.path.abspath(path),
        "sql": text,
        "timeout_s": timeout_s,
        "max_rows": max_rows,
        "most_statements": most_statements,
        "memory_bytes": MEMORY_BYTES,
    }
    restore_to_read(Path(os.path.abspath(path)), time.monotonic() + _WAIT_S)  # the process may not write
    process = _take()
    try:
        process.ask(request)
        result = _result(process, timeout_s)
    except TimeoutError:
        process.end()
        raise statements.too_long(timeout_s) from None
    except (EOFError, OSError):
        raise _died(process.end()) from None
    except BaseException:  # an interruption: the query must not go on
        process.end()
        raise
    _give_back(process)
    if isinstance(result, Exception):
        raise result
    return result


def _result(process: _Process, timeout_s: float) -> Result | Exception:
    columns: list[str] = []
    types: list[str] = []
    rows: list[tuple[Any, ...]] = []
    size, deadline = 0, time.monotonic() + _START_S
    while True:
        (length,) = HEADER.unpack(process.read(HEADER.size, deadline))
        size += length
        if size > RESULT_BYTES:
            raise UsageError(
                f"the result is larger than {RESULT_BYTES >> 20} MB",
                "ask for fewer rows or columns: `max_rows=`; `space.export('models.parquet')` writes whole tables",
            )
        kind, *content = _Unpickler(io.BytesIO(process.read(length, deadline))).load()
        if kind == "started":
            deadline = time.monotonic() + timeout_s + _GRACE_S
        elif kind == "columns":
            columns, types = content
        elif kind == "rows":
            rows += content[0]
        elif kind == "error":
            name, message, hint = content
            return _error(name, message, hint)
        elif kind == "bug":
            return RuntimeError(content[0])
        else:
            return columns, types, rows


def _error(name: str, message: str, hint: str) -> ModelspaceError:
    kind = getattr(errors, name, ModelspaceError)
    return kind(message, hint) if issubclass(kind, ModelspaceError) else ModelspaceError(message, hint)


def _died(exit_status: int) -> ModelspaceError:
    """The error for a process that ended without an answer."""
    # A failed allocation aborts it; a system that is short of memory kills it.
    if exit_status in (-signal.SIGABRT, -signal.SIGKILL):
        return out_of_memory()
    return ModelspaceError(
        f"DuckDB crashed on this query (exit status {exit_status})",
        "`space.verify()` tells whether the file is damaged",
    )
