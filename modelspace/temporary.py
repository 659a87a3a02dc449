"""Files that appear complete or not at all, and what a killed process left of them.

A file is written under the temporary name `.NAME.PID.tmp` in the same folder, flushed, and renamed. A process that is
killed while it writes leaves the temporary file, which the next one that writes the same file removes. A temporary file
is left over if the process of its name no longer runs and its `flock` is free: process numbers alone mean nothing where
the folder is shared between machines or containers.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

try:
    import fcntl
except ImportError:  # Windows: temporary files of killed processes stay
    fcntl = None  # type: ignore[assignment]

#: The end of a temporary name; a second number tells two threads apart that write the same file.
_ENDING = r"\.(\d{1,9})(?:\.\d+)?\.tmp"

#: Temporary files that this process is writing.
_in_progress: set[Path] = set()
_in_progress_lock = threading.Lock()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name; at the end of the block it replaces `path`, unless an exception leaves it.

    The block must write into the existing, empty temporary file and not put another in its place.

    Args:
        path: the file. Left-over temporary files of it are removed first.

    Yields:
        The temporary file.

    Raises:
        OSError: the folder is missing or can't be written to, or the disk is full.
    """
    remove_left(path.parent, re.escape(path.name))
    temporary = _name_for(path)
    try:
        # A name of this process can only be left over from one with the same number, or be somebody's trap.
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield temporary
            os.fsync(descriptor)
            os.replace(temporary, path)
            sync(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()
            os.close(descriptor)
    finally:
        with _in_progress_lock:
            _in_progress.discard(temporary)


class Together:
    """Files that replace their targets together at the end of the block; an exception leaves none of them.

    Folders are created where they are missing, and removed again after an exception. If the last step itself fails, at
    one of several files, those that have not existed before are removed too.
    """

    def __init__(self) -> None:
        self._temporary: dict[Path, Path] = {}
        self._folders: list[Path] = []

    def __enter__(self) -> Self:
        return self

    @contextmanager
    def file(self, path: Path) -> Iterator[Path]:
        """Write one of the files under a temporary name.

        No file is held open, since there may be thousands: unlike one of `replacing`, a file is not locked against
        another machine that writes the same one.

        Yields:
            The temporary file.

        Raises:
            OSError: it can't be written.
        """
        self.folder(path.parent)
        remove_left(path.parent, re.escape(path.name))
        temporary = self._temporary[path] = self._temporary.get(path) or _name_for(path)
        temporary.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        os.close(os.open(temporary, flags, 0o666))
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())

    def folder(self, path: Path) -> None:
        """Create a folder, and those above it, unless it exists."""
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            self._folders.append(folder)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_complete = False
        try:
            if kind is None:
                self._replace()
                is_complete = True
        finally:
            self._discard(is_complete)

    def _replace(self) -> None:
        for path, temporary in self._temporary.items():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            os.lstat(temporary)
        added = []
        try:
            for path, temporary in self._temporary.items():
                is_new = not os.path.lexists(path)
                os.replace(temporary, path)
                if is_new:
                    added.append(path)
        except BaseException:
            for path in added:
                with suppress(OSError):
                    path.unlink()
            raise
        for folder in {path.parent for path in self._temporary}:
            sync(folder)

    def _discard(self, is_complete: bool) -> None:
        for temporary in self._temporary.values():
            with suppress(OSError):
                temporary.unlink()
        if not is_complete:
            for folder in reversed(self._folders):
                with suppress(OSError):
                    folder.rmdir()
        with _in_progress_lock:
            _in_progress.difference_update(self._temporary.values())


def sync(folder: Path) -> None:
    """Wait until the entries of a folder are on disk; where that can't be asked for, do nothing."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_left(folder: Path, names: str, companions: str = "") -> None:
    """Remove the temporary files in a folder that belong to no running process.

    Args:
        folder: the folder; it may be missing, or forbid changes.
        names: regular expression of the names of the files that were to be written.
        companions: regular expression of what may follow a temporary name: the log of a database, for example.
    """
    if fcntl is None:
        return
    pattern = re.compile(rf"(\.(?:{names}){_ENDING})(?:{companions})?")
    with suppress(OSError):
        for name in sorted(os.listdir(folder), reverse=True):  # a database's log and lock file before the database
            match = pattern.fullmatch(name)
            if match and not _is_used(folder / match[1], folder / name, int(match[2])):
                with suppress(OSError):
                    os.unlink(folder / name)


def _name_for(path: Path) -> Path:
    """A temporary name that no other thread of this process uses."""
    with _in_progress_lock:
        serial, ending = 0, f"{os.getpid()}.tmp"
        while (temporary := path.with_name(f".{path.name}.{ending}")) in _in_progress:
            serial += 1
            ending = f"{os.getpid()}.{serial}.tmp"
        _in_progress.add(temporary)
    return temporary


def _is_used(temporary: Path, file: Path, process: int) -> bool:
    """Whether a process that runs may still write a temporary file, or a file that belongs to it."""
    if process == os.getpid():
        return True  # it will use the name again, or does so now
    with suppress(ProcessLookupError):
        with suppress(PermissionError):
            os.kill(process, 0)
        return True
    return any(is_locked(path) for path in {temporary, file, temporary.with_name(f"{temporary.name}.lock")})


def is_locked(path: str | Path, *, unreadable: bool = True) -> bool:
    """Whether a process, perhaps of another machine, holds the file's `flock` for itself alone.

    Asking takes the lock for a moment, shared, so two processes that ask at once don't mistake each other for a holder.

    Args:
        path: the file; a missing one has no lock.
        unreadable: the answer for what can't be opened, such as a link, a device or a file of another user.
    """
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return unreadable
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
