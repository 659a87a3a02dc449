"""Opening the registry file: locking, sandboxing, and what DuckDB's errors mean.

Many processes may read the file, or one may write it; DuckDB locks the file while it is open. This module adds:

- A writer first locks a second file, `<registry>.lock`. DuckDB's own lock silently disappears when the same process
  opens and closes the registry file in any other way, and then two writers overwrite each other's rows.
- For the same reason a process can't open a file for reading while it has it open for writing.
- Each connection is sandboxed before it is returned: no other files, no network, no extensions, no settings.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from modelspace.errors import BusyError, DamagedError, ModelspaceError, NotFoundError, StorageError, UsageError
from modelspace.registry.interrupts import deferred

try:
    import fcntl
except ImportError:  # Windows, where we rely on DuckDB's own lock
    fcntl = None  # type: ignore[assignment]

#: The oldest DuckDB that can read a registry; users may have an older shell than the newest format needs.
STORAGE_VERSION = "v1.4.0"

#: Rows per row group, the smallest that DuckDB allows. A checkpoint rewrites the last row group, so this limits what
#: adding a model writes beyond its own bytes: 2,048 parts of maps are 8 MB.
ROW_GROUP_SIZE = 2048

MEMORY_LIMIT = "2GB"

_LOCKED_DOWN: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": MEMORY_LIMIT,
    "temp_directory": "",  # a query that spills to disk would write next to the registry
    "python_enable_replacements": "false",  # an unknown table name would be read as a Python variable
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}
#: Set once the connection is open: DuckDB applies a configuration in no particular order, and these two could prevent
#: the other settings.
_LOCK = "SET enable_external_access = false; SET lock_configuration = true"

#: What the system says of a write that fails, as DuckDB quotes it.
_UNWRITABLE = ("No space left on device", "Disk quota exceeded", "File too large", "Input/output error")

#: Files that this process has open: n > 0 for n readers, -1 for the writer.
_open_files: dict[str, int] = {}
_open_files_lock = threading.Lock()

_FIRST_WAIT, _LONGEST_WAIT = 0.01, 0.25


@dataclass
class Changes:
    """What this process has changed in registries.

    Attributes:
        committed: number of transactions.
    """

    committed: int = 0


changes = Changes()


class Connection:
    """A DuckDB connection to a registry, and the locks that go with it.

    Attributes:
        duck: the DuckDB connection.
        path: the file, with links resolved.
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
        """Write the log into the file, and release the file. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            try:
                if self.write:
                    # Committed changes are safe in the log, but reading is faster without one.
                    with suppress(duckdb.Error), deferred():
                        self.duck.execute("CHECKPOINT")
            finally:
                self.duck.close()
        finally:
            _leave(self.path, write=self.write)
            if self._lock is not None:
                _unlock(self.path, self._lock)


def open_reading(path: Path, timeout: float = 10.0) -> Connection:
    """Open a registry file for reading.

    Args:
        path: the file.
        timeout: seconds to wait for a writer to finish.

    Raises:
        NotFoundError: the file does not exist.
        BusyError: another process was still writing after `timeout`.
        DamagedError: the file is not a DuckDB file, or damaged.
    """
    path = _resolve(path)
    deadline = time.monotonic() + timeout
    _enter(path, write=False, deadline=deadline)
    try:
        duck = _retry(lambda: _connect(path), path, deadline)
    except BaseException:
        _leave(path, write=False)
        raise
    return Connection(duck, path, None)


def open_writing(path: Path, timeout: float = 10.0, *, create: bool = False) -> Connection:
    """Open a registry file for writing, exclusively.

    Args:
        path: the file.
        timeout: seconds to wait for other processes to finish.
        create: create the file, which must have a temporary name.

    Raises:
        NotFoundError: the file does not exist.
        BusyError: another process was still reading or writing after `timeout`.
        DamagedError: the file is not a DuckDB file, or damaged.
        ModelspaceError: the folder can't be written to.
    """
    path = path if create else _resolve(path)
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


@contextmanager
def exclusive(path: Path, timeout: float) -> Iterator[Opener]:
    """Hold the writer's locks on a registry file while its file is replaced.

    Args:
        path: the file.
        timeout: seconds to wait for other processes to finish.

    Yields:
        What opens the file together with a new one.

    Raises:
        NotFoundError: the file does not exist.
        BusyError: another process was still reading or writing after `timeout`.
    """
    path = _resolve(path)
    deadline = time.monotonic() + timeout
    lock = _lock(path, deadline)
    try:
        _enter(path, write=True, deadline=deadline)
        try:
            yield Opener(path, deadline)
        finally:
            _leave(path, write=True)
    finally:
        _unlock(path, lock)


@dataclass(frozen=True)
class Opener:
    """Opens a registry whose locks are held.

    Attributes:
        path: the file, with links resolved.
        deadline: when to give up, on the monotonic clock.
    """

    path: Path
    deadline: float

    def attach(
        self, target: Path, settings: Mapping[str, str] | None, block_size: int | None
    ) -> duckdb.DuckDBPyConnection:
        """Connect to the file, as database `registry`, and to a new one, as database `target`.

        Args:
            target: the new file.
            settings: DuckDB settings, in addition to the sandbox's.
            block_size: of the new file, in bytes; by default DuckDB's, 256 KiB.
        """
        return _retry(
            lambda: _attach(self.path, target, settings=settings, block_size=block_size), self.path, self.deadline
        )


def flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a database file and its log, if they exist."""
    for name in (str(path), f"{path}.wal"):
        with suppress(OSError):
            os.unlink(name)


def translated(error: duckdb.Error, path: Path) -> ModelspaceError:
    """The error that a user of the registry sees for a DuckDB error."""
    text = str(error)
    first_line = text.split("\n", 1)[0]
    if "Could not set lock on file" in text:
        process = re.search(r"\(PID (\d+)\)", text)
        owner = f"process {process[1]}" if process else "another process"
        return BusyError(f"{owner} is using {path}", "try again when it has finished")
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
            f"keep a copy of both files; then this drops the changes after the damage: {cut}",
        )
    # Before the next, since a failed write also invalidates the open database, but not the file.
    if (cause := next((sign for sign in _UNWRITABLE if sign in text), None)) is not None:
        return StorageError(f"{path} can't be written: {cause[:1].lower()}{cause[1:]}", "free space on that disk")
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


def _resolve(path: Path) -> Path:
    """An existing registry's path without links, under which DuckDB and this module lock it."""
    if not path.exists():
        raise NotFoundError(f"there is no registry {path}", "create one: `ModelSpace.create()`")
    # DuckDB locks per process, not per connection, and would treat two names of one file as two files.
    return path.resolve()


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    duck = duckdb.connect(str(path), read_only=True, config=_LOCKED_DOWN)
    try:
        duck.execute(_LOCK)
    except BaseException as error:
        # All readers in a process share one database, which another reader may have locked already.
        if "configuration has been locked" not in str(error):
            duck.close()
            raise
    return duck


def _attach(
    path: Path,
    target: Path | None = None,
    *,
    settings: Mapping[str, str] | None = None,
    block_size: int | None = None,
) -> duckdb.DuckDBPyConnection:
    """Connect to the registry for writing; `target` is a new file to attach as database `target`.

    Args:
        path: the registry file, attached as `registry`.
        target: the second file.
        settings: DuckDB settings, in addition to the sandbox's.
        block_size: of the second file, in bytes; by default DuckDB's, 256 KiB.
    """
    duck = duckdb.connect(":memory:", config={**_LOCKED_DOWN, **(settings or {})})
    try:
        # The row group size can only be set in ATTACH.
        for file, name in ((path, "registry"), (target, "target")):
            if file is not None:
                quoted = str(file).replace("'", "''")
                # An existing file keeps its format; DuckDB refuses to open it if an older one is requested.
                version = "" if file.exists() else f", STORAGE_VERSION '{STORAGE_VERSION}'"
                blocks = f", BLOCK_SIZE {block_size}" if block_size and file == target else ""
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
    """Sleep for `wait` seconds, at most until the deadline; returns the next wait."""
    time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
    return min(2 * wait, _LONGEST_WAIT)


def _busy_here(path: Path) -> BusyError:
    return BusyError(f"this process already has {path} open", "close it first: one writer, or several readers")


def _enter(path: Path, *, write: bool, deadline: float) -> None:
    """Record that this process has the file open, as soon as no conflicting use in this process remains."""
    key, wait = str(path), _FIRST_WAIT
    while True:
        with _open_files_lock:
            users = _open_files.get(key, 0)
            if users == 0 or (users > 0 and not write):
                _open_files[key] = -1 if write else users + 1
                return
        if time.monotonic() > deadline:
            raise _busy_here(path)
        wait = _pause(wait, deadline)


def _leave(path: Path, *, write: bool) -> None:
    with _open_files_lock:
        users = 0 if write else _open_files[str(path)] - 1
        if users:
            _open_files[str(path)] = users
        else:
            del _open_files[str(path)]


def _lock(path: Path, deadline: float) -> int:
    """Take the writers' lock; returns the lock file's descriptor."""
    name, wait = f"{path}.lock", _FIRST_WAIT
    while True:
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise ModelspaceError(
                f"{path} can't be changed: {error.strerror} ({name})",
                "queries still work; to change it, copy it to a folder that you can write to",
            ) from None
        try:
            if fcntl is None:
                return descriptor
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last owner removes the file, and a lock on a removed file is worthless.
            if os.fstat(descriptor).st_ino == _inode(name):
                # The number is for messages of other processes; the lock holds also where the disk is full.
                with suppress(OSError):
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
            raise BusyError(f"process {owner or '(unknown)'} is changing {path}", "try again when it has finished")
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
