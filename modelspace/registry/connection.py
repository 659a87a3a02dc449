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
from pathlib import Path
from typing import NamedTuple

import duckdb

from modelspace import temporary
from modelspace.errors import BusyError, DamagedError, ModelspaceError, NotFoundError, StorageError, UsageError
from modelspace.files import NotRegularError, absent, file_identity, open_or_create, special_kind
from modelspace.home import INDEX, INDEX_FILES
from modelspace.late import dataclass
from modelspace.registry import backups, trial, undo
from modelspace.registry.interrupts import deferred
from modelspace.registry.settings import LOCK, LOCKED_DOWN, MEMORY_BYTES

try:
    import fcntl
except ImportError:  # Windows, where we rely on DuckDB's own lock
    fcntl = None  # type: ignore[assignment]

#: Seconds for which a lock whose owner is not known is waited for beyond the deadline.
_MOMENT = 1.0

#: The first of the files in which DuckDB looks for limits of memory and processors.
CGROUP = "/proc/self/cgroup"

#: The oldest DuckDB that can read a registry; users may have an older shell than the newest format needs.
STORAGE_VERSION = "v1.4.0"

#: Rows per row group, the smallest that DuckDB allows. A checkpoint rewrites the last row group, so this limits what
#: adding a model writes beyond its own bytes: 2,048 parts of maps are 8 MB.
ROW_GROUP_SIZE = 2048

#: What the system says of a write that fails, as DuckDB quotes it.
_UNWRITABLE = ("No space left on device", "Disk quota exceeded", "File too large", "Input/output error")

_NAME_THE_FILE = "name the file, for example registry.duckdb"

#: Files that this process has open: n > 0 for n readers, -1 for the writer.
_open_files: dict[str, int] = {}
_open_files_lock = threading.Lock()

_FIRST_WAIT, _LONGEST_WAIT = 0.01, 0.25

#: Seconds that a reader waits for a writer that waits for other readers.
_COURTESY = 1.0


@dataclass
class Changes:
    """What this process has changed in registries.

    Attributes:
        committed: number of transactions.
    """

    committed: int = 0


changes = Changes()


class Checked(NamedTuple):
    """What a check of a registry's tables found (`modelspace.registry.schema`).

    Attributes:
        registry_id: the registry's id.
        number: the number of its last migration.
        for_writing: whether it was the check before changes.
        installed: checksums of the migrations that it was compared with.
    """

    registry_id: str
    number: int
    for_writing: bool
    installed: tuple[str, ...]


#: Of files that this process had open, by path: a file's identity when its tables were right, and what was found.
_checked: dict[Path, tuple[object, Checked]] = {}


class Connection:
    """A DuckDB connection to a registry, and the locks that go with it.

    Attributes:
        duck: the DuckDB connection.
        path: the file, with links resolved.
        write: whether it may write.
        checked: what the check of its tables found; None before.
    """

    def __init__(
        self,
        duck: duckdb.DuckDBPyConnection,
        path: Path,
        lock: int | None,
        keeper: undo.Keeper | None = None,
        first: duckdb.DuckDBPyConnection | None = None,
    ) -> None:
        self.duck = duck
        self._first = first
        self.path = path
        self.write = lock is not None
        self._lock = lock
        self._keeper = keeper
        self._closed = False
        self.checked: Checked | None = None

    def known(self, installed: tuple[str, ...]) -> Checked | None:
        """What the last check with these migrations found, if the file is as it was then, or as this process left it.

        A file that somebody else has changed has other times or another inode.
        """
        stored = _checked.get(self.path)
        if stored is None or stored[0] is None or stored[0] != identity_of(self.path):
            return None
        checked = stored[1]
        return checked if checked.installed == installed and (checked.for_writing or not self.write) else None

    def note_checked(self, checked: Checked) -> None:
        """Note what a check found; a writer's counts for the file as it will be when it is closed."""
        self.checked = checked
        if not self.write and self.known(checked.installed) is None:
            _checked[self.path] = (identity_of(self.path), checked)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Another connection to the same database, outside this one's transaction."""
        cursor = self.duck.cursor()
        prefer_builtins(cursor, self.write)
        return cursor

    def commit(self) -> None:
        """Commit the transaction, so that a power cut does not lose it.

        Raises:
            OSError: the folder can't be written to, for example on a full disk.
            duckdb.Error: DuckDB could not commit.
        """
        if self._keeper is not None:
            self._keeper.keep(self.duck)  # DuckDB writes a long change into the file at once
        self.duck.execute("COMMIT")
        temporary.sync(self.path.parent)  # the log is a new file
        if self._keeper is not None:
            with suppress(OSError):  # the change is stored all the same
                self._keeper.acknowledge()

    def checkpoint(self) -> None:
        """Write the log into the file.

        Raises:
            OSError: the folder can't be written to, for example on a full disk.
            duckdb.Error: the file can't be written; the changes stay in the log.
        """
        if self._keeper is not None:
            self._keeper.keep(self.duck)
        self.duck.execute("CHECKPOINT registry")

    @contextmanager
    def defining(self) -> Iterator[None]:
        """In the block, new tables, views and macros go to the registry."""
        self.duck.execute("USE registry")
        try:
            yield
        finally:
            prefer_builtins(self.duck, self.write)

    def close(self) -> None:
        """Write the log into the file, and release the file. May be called twice."""
        if self._closed:
            return
        self._closed = True
        complete = False
        try:
            try:
                if self.write:
                    # Committed changes are safe in the log, but reading is faster without one.
                    with suppress(duckdb.Error, OSError), deferred():
                        if _has_log(self.path):
                            self.checkpoint()
                        complete = True
            finally:
                self.duck.close()
                if self._first is not None:
                    self._first.close()
        finally:
            if self._keeper is not None:
                self._keeper.close(complete=complete)
            if self.write and self.checked is not None:
                _checked[self.path] = (identity_of(self.path), self.checked)
            _leave(self.path, write=self.write)
            if self._lock is not None:
                _unlock(self.path, self._lock)


def identity_of(path: Path) -> tuple[int, ...] | None:
    """What another write to a registry's file changes; None if a log is to be read with it."""
    return None if os.path.lexists(f"{path}.wal") else file_identity(path)


def prefer_builtins(duck: duckdb.DuckDBPyConnection, write: bool) -> None:
    """Make the names of functions mean DuckDB's own.

    A registry file may hold a macro called `count` or `isfinite`, which would otherwise replace the function of that
    name in every query, ours included.
    """
    if write:
        database = "registry"
    else:
        row = duck.execute("SELECT system.main.current_database()").fetchone()
        assert row is not None  # one row
        database = row[0].replace('"', '""').replace("'", "''")
    duck.execute(f"SET search_path = 'system.main,\"{database}\".main'")


def open_reading(path: Path, timeout: float = 10.0, memory_bytes: int = MEMORY_BYTES) -> Connection:
    """Open a registry file for reading.

    Args:
        path: the file.
        timeout: seconds to wait for a writer to finish.
        memory_bytes: what DuckDB may use. All readers of a process share one database, and the first one decides.

    Raises:
        NotFoundError: the file does not exist.
        BusyError: another process was still writing after `timeout`.
        DamagedError: the file is not a DuckDB file, or damaged; it or its log is a pipe, a socket or a device.
    """
    path = _resolve(path)
    deadline = time.monotonic() + timeout
    restore_to_read(path, deadline)
    _let_writer_in(path, deadline)
    _enter(path, write=False, deadline=deadline)
    try:
        duck = _retry(lambda: _connect(path, memory_bytes), path, deadline)
    except BaseException:
        _leave(path, write=False)
        raise
    # In a process without a script (`python -c`, a spawned worker) DuckDB draws progress bars on standard output, and
    # once the configuration is locked that can't be turned off; a second connection to the same database draws none.
    connection = Connection(duck.cursor(), path, None, first=duck)
    try:
        prefer_builtins(connection.duck, write=False)
    except BaseException:
        connection.close()
        raise
    return connection


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
    if not create:
        remove_left(path)
    try:
        _enter(path, write=True, deadline=deadline)
        keeper = None
        try:
            if not create:
                _restore(path, deadline)
                keeper = undo.Keeper(path)
            duck = _retry(lambda: _attach(path), path, deadline)
        except BaseException:
            if keeper is not None:
                keeper.close(complete=False)
            _leave(path, write=True)
            raise
    except BaseException:
        _unlock(path, lock)
        raise
    prefer_builtins(duck, write=True)
    return Connection(duck, path, lock, keeper)


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
    deadline = time.monotonic() + timeout
    with locked(path, timeout) as file:
        _restore(file, deadline)
        keeper, complete = undo.Keeper(file), False
        try:
            yield Opener(file, deadline, keeper)
            complete = True
        finally:
            keeper.close(complete=complete)


@contextmanager
def locked(path: Path, timeout: float) -> Iterator[Path]:
    """Hold the writer's locks on a registry file, which need not be intact and is not opened.

    Args:
        path: the file.
        timeout: seconds to wait for other writers, and for the readers of this process.

    Yields:
        The file, with links resolved.

    Raises:
        NotFoundError: the file does not exist.
        BusyError: they had not finished after `timeout`.
    """
    path = _resolve(path)
    deadline = time.monotonic() + timeout
    lock = _lock(path, deadline)
    try:
        _enter(path, write=True, deadline=deadline)
        try:
            yield path
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
        keeper: keeps what a checkpoint of the file overwrites.
    """

    path: Path
    deadline: float
    keeper: undo.Keeper

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

    def checkpoint(self, duck: duckdb.DuckDBPyConnection) -> None:
        """Write the log of the registry into its file.

        Args:
            duck: a connection from `attach`.
        """
        self.keeper.keep(duck)
        duck.execute("CHECKPOINT registry")

    def take_in_log(self) -> None:
        """Write the log of an interrupted writer into the file.

        Raises:
            OSError: the folder can't be written to, for example on a full disk.
            duckdb.Error: another process reads the file; or it, or the log, is damaged.
        """
        if _has_log(self.path):
            duck = _attach(self.path)
            try:
                self.checkpoint(duck)
            finally:
                duck.close()


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


def remove_left(path: Path) -> None:
    """Remove what a killed creation or compaction left next to a registry, and a killed process in its index."""
    temporary.remove_left(path.parent, re.escape(path.name), r"\.lock|\.wal(?:\.[a-z]+)?")
    temporary.remove_left(path.parent / INDEX, INDEX_FILES)


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
        return DamagedError(f"{path} is not a registry, or is damaged ({first_line})", backups.advice(path))
    if "Permission denied" in text:
        return ModelspaceError(f"{path} can't be opened: permission denied", "ask its owner, or copy it")
    if "Is a directory" in text:
        return UsageError(f"{path} is a folder", _NAME_THE_FILE)
    if isinstance(error, duckdb.OutOfMemoryException):
        return out_of_memory()
    if isinstance(error, duckdb.FatalException | duckdb.InternalException | duckdb.SerializationException):
        # Blocks whose checksums hold, but not where they should be.
        return DamagedError(f"{path} is damaged ({first_line})", backups.advice(path))
    return ModelspaceError(f"{path}: {first_line}", "`space.verify()` says whether the registry is damaged")


def out_of_memory() -> ModelspaceError:
    """The error for a query that can't be answered within the memory it may use."""
    return ModelspaceError(
        f"the query runs out of memory: it gets {MEMORY_BYTES / 1e9:g} GB, or what is left",
        "ask for fewer rows or columns",
    )


def _restore(path: Path, deadline: float) -> None:
    """Undo the checkpoint of a writer that was interrupted, if there was one; the locks of a writer are held."""
    wait, suspect = _FIRST_WAIT, undo.exists(path)
    while True:
        try:
            undo.restore(path)
            _check_log(path)
            return _try_to_read(path) if suspect else None
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BusyError(f"another process is reading {path}", "try again when it has finished") from None
        except OSError as error:
            message = f"{path} can't be repaired after an interruption: {error.strerror}"
            raise StorageError(message, "open it once where it can be written to") from None
        wait = _pause(wait, deadline)


def _try_to_read(path: Path) -> None:
    """Read a file whose writer was interrupted in another process first."""
    try:
        trial.read(path)
    except DamagedError:
        with suppress(OSError):
            undo.file_of(path).touch()  # so that the next one who opens it does not crash either
        raise


def restore_to_read(path: Path, deadline: float) -> None:
    """The same before reading. A folder that can't be written to is no error: the file may be complete."""
    with _open_files_lock:
        in_use = str(path) in _open_files
    if in_use or not undo.exists(path):
        return
    try:
        with exclusive(path, deadline - time.monotonic()) as opener:
            opener.take_in_log()
    except (BusyError, DamagedError):
        raise
    except ModelspaceError:
        _check_log(path)
    except (duckdb.Error, OSError):
        pass  # the log stays, and the undo file with it


def _check_log(path: Path) -> None:
    """Check that the log of an interrupted writer holds all that it acknowledged.

    Raises:
        DamagedError: it does not.
    """
    try:
        undo.check_log(path)
    except undo.LogError as error:
        raise DamagedError(
            f"{path}.wal, the log of the last changes, {error}",
            f"{backups.advice(path)}; to go on without the changes that are lost, remove {undo.file_of(path)}",
        ) from None


def _let_writer_in(path: Path, deadline: float) -> None:
    """Wait a moment while a process wants to write: else readers that follow each other keep it out for good."""
    wait, end = _FIRST_WAIT, min(deadline, time.monotonic() + _COURTESY)
    while time.monotonic() < end and temporary.is_locked(f"{path}.lock", unreadable=False):
        wait = _pause(wait, end)


def _has_log(path: Path) -> bool:
    return os.path.exists(f"{path}.wal")


def _resolve(path: Path) -> Path:
    """An existing registry's path without links, under which DuckDB and this module lock it."""
    if not path.exists():
        raise NotFoundError(f"there is no registry {path}", "create one: `ModelSpace.create()`")
    # DuckDB locks per process, not per connection, and would treat two names of one file as two files.
    file = path.resolve()
    # Neither is opened to ask: closing it again would release DuckDB's lock.
    if path.is_dir():
        raise UsageError(f"{path} is a folder", _NAME_THE_FILE)
    for each in (path, file.with_name(f"{file.name}.wal")):
        if special_kind(each):
            raise DamagedError(absent(each), "move it away, and restore the registry from a copy")
    return file


def _check_system() -> None:
    """DuckDB ends the process where the system's files of limits exist and can't be opened, so ask first.

    Raises:
        ModelspaceError: they can't, in a container for example, or since too many files are open.
    """
    try:
        os.close(os.open(CGROUP, os.O_RDONLY))
    except FileNotFoundError:
        pass  # DuckDB does without
    except OSError as error:
        raise ModelspaceError(
            f"DuckDB can't run: {CGROUP} can't be opened ({error.strerror})",
            "let this process read it, or raise its limit of open files",
        ) from None


def _connect(path: Path, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    _check_system()
    config = {**LOCKED_DOWN, "memory_limit": f"{memory_bytes}B"}
    duck = duckdb.connect(str(path), read_only=True, config=config)
    try:
        duck.execute(LOCK)
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
    _check_system()
    duck = duckdb.connect(":memory:", config={**LOCKED_DOWN, **(settings or {})})
    try:
        duck.execute("PRAGMA disable_checkpoint_on_shutdown")  # `undo` must come first
        # The row group size can only be set in ATTACH.
        for file, name in ((path, "registry"), (target, "target")):
            if file is not None:
                quoted = str(file).replace("'", "''")
                # An existing file keeps its format; DuckDB refuses to open it if an older one is requested.
                version = "" if file.exists() else f", STORAGE_VERSION '{STORAGE_VERSION}'"
                blocks = f", BLOCK_SIZE {block_size}" if block_size and file == target else ""
                duck.execute(f"ATTACH '{quoted}' AS {name} (ROW_GROUP_SIZE {ROW_GROUP_SIZE}{version}{blocks})")
        duck.execute("USE registry")
        # In a notebook without ipywidgets there is no bar, and DuckDB 2.0 refuses to change that.
        with suppress(duckdb.InvalidInputException):
            duck.execute("SET enable_progress_bar = false")
        duck.execute(LOCK)
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
            descriptor = open_or_create(name)
        except NotRegularError as error:
            raise DamagedError(f"{name} can't be locked: {error.strerror}", "move it away") from None
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
        owner = _owner(descriptor)
        os.close(descriptor)
        now = time.monotonic()
        # Without an owner, somebody has just taken the lock or let it go: then one more moment.
        if now > deadline + (0 if owner else _MOMENT):
            raise BusyError(f"process {owner or '(unknown)'} is changing {path}", "try again when it has finished")
        wait = _pause(wait, max(deadline, now + wait))


def _owner(descriptor: int) -> str:
    """The number of the process that holds the lock; it writes it into the file a moment after it has the lock."""
    if owner := os.pread(descriptor, 20, 0).decode("ascii", "replace"):
        return owner
    try:
        locks = Path("/proc/locks").read_text()
    except OSError:  # not on Linux, or hidden
        return ""
    inode = str(os.fstat(descriptor).st_ino)
    # As "1: FLOCK  ADVISORY  WRITE 4711 08:01:131090 0 EOF"; the number is 0 for a process of another namespace.
    words = [line.split() for line in locks.splitlines() if "FLOCK" in line]
    owners = [each[4] for each in words if len(each) > 5 and each[5].rpartition(":")[2] == inode and each[4] != "0"]
    return owners[0] if owners else ""


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
