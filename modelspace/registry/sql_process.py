"""The process in which users' SQL runs: it reads queries from standard input, and writes results to standard output.

DuckDB checks its memory limit and an interruption only between pieces of work, so one function call on a very long
value passes both. A process has limits that hold: the system refuses more memory, and the parent kills it. It is
started, and asked, by `modelspace.registry.sandbox`.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import io
import os
import pickle
import queue
import struct
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import duckdb

from modelspace.errors import ModelspaceError
from modelspace.registry import statements
from modelspace.registry.connection import open_reading, out_of_memory, translated

try:
    import resource
except ImportError:  # Windows: DuckDB's own limits, and the parent's patience, are all there is
    resource = None  # type: ignore[assignment]

#: Beyond DuckDB's limit: the interpreter, the rows of one message, the threads' stacks.
_OWN_BYTES = 1 << 30

#: Types of values that cross the pipe, besides Python's own; any other value is sent as text.
VALUE_TYPES = frozenset(
    {datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone, decimal.Decimal, uuid.UUID}
)

#: What the pickle of a value names.
_CLASSES = (*VALUE_TYPES, str)

#: `nearest` of a registry by names that say what it orders by. They are not in the file, whose schema stays as it is.
_MACROS = """
CREATE TEMP MACRO nearest_by_affinity(name, k := 10) AS TABLE FROM main.nearest(name, k := k);
CREATE TEMP MACRO nearest_by_affinity_in(space, name, k := 10) AS TABLE FROM main.nearest_in(space, name, k := k);
"""

#: A message is its length and its bytes.
HEADER = struct.Struct("<Q")


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if type(obj) in VALUE_TYPES or any(obj is known for known in _CLASSES):
            return NotImplemented
        return str, (str(obj),)


def packed(value: Any) -> bytes:
    """A message: plain Python values and those of `VALUE_TYPES`; whatever else a value holds becomes its text."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return HEADER.pack(buffer.tell()) + buffer.getvalue()


def main() -> None:
    """Answer queries until standard input ends."""
    # Whatever a library prints must not end up between the messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests.put), daemon=True).start()

    def send(*message: Any) -> None:
        answers.write(packed(message))
        answers.flush()

    while True:
        request = requests.get()
        _limit(request["memory_bytes"])
        try:
            _answer(request, send)
        except ModelspaceError as error:
            send("error", type(error).__name__, error.message, error.hint)
        except MemoryError:
            reason = out_of_memory()
            send("error", type(reason).__name__, reason.message, reason.hint)
        except Exception as error:
            send("bug", f"{type(error).__name__}: {error}")


def _listen(stream: IO[bytes], put: Callable[[dict[str, Any]], None]) -> None:
    """Read requests. When the parent is gone, a query that still runs is of no use to anyone."""
    with contextlib.suppress(Exception):
        while header := stream.read(HEADER.size):
            put(pickle.loads(stream.read(HEADER.unpack(header)[0])))
    os._exit(0)


def _limit(memory_bytes: int) -> None:
    """Let the system refuse more memory than DuckDB may use and this process needs, and any byte written to a file."""
    if resource is None:
        return
    for limit, value in ((resource.RLIMIT_DATA, memory_bytes + _OWN_BYTES), (resource.RLIMIT_FSIZE, 0)):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _answer(request: dict[str, Any], send: Callable[..., None]) -> None:
    connection = open_reading(Path(request["path"]), memory_bytes=request["memory_bytes"])
    try:
        try:
            connection.duck.execute(_MACROS)
        except duckdb.Error as error:  # the tables and macros that they use were there a moment ago
            raise translated(error, connection.path) from None
        send("started")
        options = {name: request[name] for name in ("timeout_s", "max_rows", "most_statements")}
        for part in statements.parts(connection.duck, request["sql"], connection.path, **options):
            send(*part)
    finally:
        connection.close()
    send("end")  # only now, so that the asker finds the file free


if __name__ == "__main__":
    main()
