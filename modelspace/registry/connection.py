"""Opening the registry file: who may, how it is locked, and what DuckDB's errors mean.

Many processes may read the file, or one may write it; DuckDB holds a lock on it for as long. Three things are added:

- A writer first takes a lock on a second file, `<registry>.lock`. DuckDB's own lock silently goes away when the same
  process opens and closes the registry file by any other means, and then two writers destroy each other's rows.
- The same process can't open a file for reading while it holds it for writing (the same reason), so that is refused.
- Every connection is locked down before it is handed out: no other file, no network, no extension, no setting.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import duckdb

from modelspace.errors import BusyError, DamagedError, ModelspaceError, NotFoundError, UsageError

try:
    import fcntl
except ImportError:  # no such lock on Windows: DuckDB's own is all there is
    fcntl = None  # type: ignore[assignment]

#: The oldest DuckDB that can read a registry; a file of the newest format would shut out a user's older shell.
STORAGE_VERSION = "v1.4.0"

#: Rows per row group, the least that DuckDB allows. A checkpoint writes the last row group anew, so that this bounds
#: what adding a model writes beyond its own bytes: 2,048 parts of maps are 8 MB.
ROW_GROUP_SIZE = 2048

MEMORY_LIMIT = "2GB"

_LOCKED_DOWN: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": MEMORY_LIMIT,
    "temp_directory": "",  # a query that spills would write beside the registry
    "python_enable_replacements": "false",  # or a missing table name means a Python variable
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}
#: The last two locks, set once a connection is there: DuckDB applies a configuration in any order, so that given with
#: the others they can lock those out.
_LOCK = "SET enable_external_access = false; SET lock_configuration = true"

#: Files that this process has open: 0 < n for n readers, -1 for the writer.
_open_here: dict[str, int] = {}
_open_here_lock = threading.Lock()

_FIRST_WAIT, _LONGEST_WAIT = 0.01, 0.25


class Connection:
    """A DuckDB connection to a registry, and the locks that go with it.

    Attributes:
        duck: the connection.
        path: the file, links resolved.
        write: whether it may write.
    """

    def __init__(self, duck: duckdb.DuckDBPyConnection, path: Path, lock: int | None) -> None:
        self.duck = duck
        self.path = path
        self.write = lock is not None
        self._lock = lock
        self._closed = False

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Another connection to the same database, outside this one's transaction."""
        cursor = self.duck.cursor()
        if self.write:
            cursor.execute("USE registry")
        return cursor

    def close(self) -> None:
        """Write what is in the log into the file, and let go of it. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.write:
                # Not needed for safety: what was committed is in the log. But readers are faster without a log.
                with suppress(duckdb.Error):
                    self.duck.execute("CHECKPOINT")
            self.duck.close()
        finally:
            _leave(self.path, write=self.write)
            if self._lock is not None:
                _unlock(self.path, self._lock)


def open_reading(path: Path, timeout: float = 10.0) -> Connection:
    """Open a registry file to read.

    Args:
        path: the file.
        timeout: seconds to wait for a writer to end.

    Raises:
        NotFoundError: there is no such file.
        BusyError: somebody was still writing after `timeout`.
        DamagedError: the file is not a DuckDB file, or damaged.
    """
    path = _existing(path)
    deadline = time.monotonic() + timeout
    _enter(path, write=False, deadline=deadline)
    try:
        duck = _retry(lambda: _connect(path), path, deadline)
    except BaseException:
        _leave(path, write=False)
        raise
    return Connection(duck, path, None)


def open_writing(path: Path, timeout: float = 10.0, *, create: bool = False) -> Connection:
    """Open a registry file to write, as the only one.

    Args:
        path: the file.
        timeout: seconds to wait for other processes to end.
        create: the file does not exist yet; used under a temporary name only.

    Raises:
        NotFoundError: there is no such file.
        BusyError: somebody was still reading or writing after `timeout`.
        DamagedError: the file is not a DuckDB file, or damaged.
        ModelspaceError: the folder can't be written to.
    """
    path = path if create else _existing(path)
    deadline = time.monotonic() + timeout
    lock = _lock(path, deadline)
    try:
        _enter(path, write=True, deadline=deadline)
        try:
            duck = _retry(lambda: _attach(path), path, deadline)
        except BaseException:
            _leave(path, write=True)
            raise
    except BaseException:
        _unlock(path, lock)
        raise
    return Connection(duck, path, lock)


def translated(error: duckdb.Error, path: Path) -> ModelspaceError:
    """What an error of DuckDB means to the user of a registry."""
    text = str(error)
    first_line = text.split("\n", 1)[0]
    if "Could not set lock on file" in text:
        process = re.search(r"\(PID (\d+)\)", text)
        who = f"process {process[1]}" if process else "another process"
        return BusyError(f"{who} is using {path}", "try again when it has ended")
    if "different configuration than existing connections" in text:
        return _busy_here(path)
    if "version number" in text and "can only read" in text:
        return ModelspaceError(
            f"{path} was written by a newer DuckDB than {duckdb.__version__}", "pip install --upgrade duckdb"
        )
    if "replaying WAL" in text:
        byte = re.search(r"byte position (\d+)", text)
        cut = f"truncate -s {byte[1]} {path}.wal" if byte else f"move {path}.wal away"
        return DamagedError(
            f"{path}.wal, the log of the last changes, is damaged",
            f"keep a copy of both files; then this drops what is beyond the damage: {cut}",
        )
    if any(
        sign in text
        for sign in ("not a valid DuckDB", "Corrupt", "Could not read enough bytes", "database has been invalidated")
    ):
        return DamagedError(f"{path} is not a registry, or is damaged ({first_line})", "restore it from a copy")
    if "Permission denied" in text:
        return ModelspaceError(f"{path} can't be opened: permission denied", "ask its owner, or copy it")
    if "Is a directory" in text:
        return UsageError(f"{path} is a folder", "name the file, for example registry.duckdb")
    if isinstance(error, duckdb.OutOfMemoryException):
        return ModelspaceError(f"the query needs more than {MEMORY_LIMIT} of memory", "ask for fewer rows or columns")
    return ModelspaceError(f"{path}: {first_line}")


def _existing(path: Path) -> Path:
    if not path.exists():
        raise NotFoundError(f"there is no registry {path}", "make one: `ModelSpace.create()`")
    # Two names of one file would be two files to DuckDB, which locks per process and not per connection.
    return path.resolve()


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    duck = duckdb.connect(str(path), read_only=True, config=_LOCKED_DOWN)
    try:
        duck.execute(_LOCK)
    except BaseException as error:
        # All readers of one process share one database: another one may have locked it already.
        if "configuration has been locked" not in str(error):
            duck.close()
            raise
    return duck


def _attach(
    path: Path,
    beside: Path | None = None,
    *,
    settings: Mapping[str, str] | None = None,
    block_size: int | None = None,
) -> duckdb.DuckDBPyConnection:
    """A connection to the registry, to write; with `beside`, also to a second, new file attached under that name.

    Args:
        settings: of DuckDB, beside those that lock the connection down.
        block_size: of the second file, in bytes; default: DuckDB's own, 256 KiB.
    """
    duck = duckdb.connect(":memory:", config={**_LOCKED_DOWN, **(settings or {})})
    try:
        # The size of row groups is an option of ATTACH alone.
        for file, name in ((path, "registry"), (beside, "beside")):
            if file is not None:
                quoted = str(file).replace("'", "''")
                # A file keeps the format that it has; asked for an older one than that, DuckDB refuses to open it.
                version = "" if file.exists() else f", STORAGE_VERSION '{STORAGE_VERSION}'"
                blocks = f", BLOCK_SIZE {block_size}" if block_size and file == beside else ""
                duck.execute(f"ATTACH '{quoted}' AS {name} (ROW_GROUP_SIZE {ROW_GROUP_SIZE}{version}{blocks})")
        duck.execute(f"USE registry; {_LOCK}")
    except BaseException:
        duck.close()
        raise
    return duck


def _retry(connect: Callable[[], duckdb.DuckDBPyConnection], path: Path, deadline: float) -> duckdb.DuckDBPyConnection:
    wait = _FIRST_WAIT
    while True:
        try:
            return connect()
        except duckdb.Error as error:
            reason = translated(error, path)
            if not isinstance(reason, BusyError) or time.monotonic() > deadline:
                raise reason from None
        wait = _pause(wait, deadline)


def _pause(wait: float, deadline: float) -> float:
    """Sleep for `wait` seconds, but not beyond the deadline; how long to sleep the next time."""
    time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
    return min(2 * wait, _LONGEST_WAIT)


def _busy_here(path: Path) -> BusyError:
    return BusyError(f"this process has {path} open already", "close it first: one writer, or readers")


def _enter(path: Path, *, write: bool, deadline: float) -> None:
    """Note that this process opens the file, once no other use of it in this process stands against that."""
    key, wait = str(path), _FIRST_WAIT
    while True:
        with _open_here_lock:
            users = _open_here.get(key, 0)
            if users == 0 or (users > 0 and not write):
                _open_here[key] = -1 if write else users + 1
                return
        if time.monotonic() > deadline:
            raise _busy_here(path)
        wait = _pause(wait, deadline)


def _leave(path: Path, *, write: bool) -> None:
    with _open_here_lock:
        users = 0 if write else _open_here[str(path)] - 1
        if users:
            _open_here[str(path)] = users
        else:
            del _open_here[str(path)]


def _lock(path: Path, deadline: float) -> int:
    """Take the writers' lock: the descriptor of the lock file."""
    name, wait = f"{path}.lock", _FIRST_WAIT
    while True:
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise ModelspaceError(
                f"{path} can't be changed: {error.strerror} ({name})",
                "queries still work; to change it, copy it to a folder of yours",
            ) from None
        try:
            if fcntl is None:
                return descriptor
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last owner removes the file: a lock on a removed file keeps nobody out.
            if os.fstat(descriptor).st_ino == _inode(name):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                return descriptor
        except BlockingIOError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace")
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise BusyError(f"process {owner or '(unknown)'} is changing {path}", "try again when it has ended")
        wait = _pause(wait, deadline)


def _inode(name: str) -> int | None:
    try:
        return os.stat(name).st_ino
    except FileNotFoundError:
        return None


def _unlock(path: Path, descriptor: int) -> None:
    if fcntl is not None:
        with suppress(OSError):
            os.unlink(f"{path}.lock")
    os.close(descriptor)
