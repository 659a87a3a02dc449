"""Only regular files are opened: a named pipe would wait for a writer for ever, and a device may do anything.

What a name stands for is asked before it is opened, since opening some devices has effects, and again of what was
opened, since the name may stand for something else by then. Links to regular files are followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from io import BufferedReader, BufferedWriter
from pathlib import Path

#: Test of a file's mode -> what the file is.
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

#: Windows has neither; there, opening never waits.
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class NotRegularError(OSError):
    """Something else than a regular file has the name; `strerror` says what, as in "it is a named pipe, not a file"."""


def special_kind(path: Path) -> str:
    """What lies at a path, or at the end of a link there, if it is no regular file; "" for a regular one or none.

    >>> special_kind(Path("."))
    'a folder'
    >>> special_kind(Path("no such file"))
    ''
    """
    try:
        return _kind(os.stat(path).st_mode)
    except (OSError, ValueError):
        return ""


def absent(path: Path, otherwise: str = "") -> str:
    """Why a name can't be opened as a regular file, as a sentence: what it is, or that there is none.

    >>> absent(Path("no such file"))
    'there is no file no such file'
    """
    kind = special_kind(path)
    return f"{path} is {kind}, not a file" if kind else otherwise or f"there is no file {path}"


def file_identity(path: Path) -> tuple[int, ...] | None:
    """What another write to a file, or another file of its name, changes; None if there is none.

    Device, inode, size, and the times of the last change of its content and of its inode, in nanoseconds.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_regular(path: Path) -> bool:
    """Whether a name, or a link there, stands for a regular file; also of names that no file can have.

    >>> is_regular(Path("a" * 10_000))
    False
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a name, or a link there, stands for a folder; also of names that no folder can have."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def expanded(path: Path) -> Path:
    """The path with the user's folder in place of `~`; as it is if there is no such user.

    >>> str(expanded(Path("~no-such-user/a")))
    '~no-such-user/a'
    """
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def check_regular(path: Path) -> None:
    """Refuse a name that stands for something else than a regular file, before a library opens it by its name.

    Raises:
        NotRegularError: it is a folder, a named pipe, a socket or a device.
        OSError: there is no such file, or it can't be reached.
    """
    _check(os.stat(path).st_mode, path)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, and nothing else; never waits for another process.

    Raises:
        NotRegularError: as `check_regular`.
        OSError: there is no such file, or it can't be opened.
    """
    check_regular(path)
    descriptor = _opened(path, os.O_RDONLY | _AT_ONCE)
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as stream:
        return stream.read()


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The content of a regular file as text.

    Raises:
        OSError: as `open_regular`.
        UnicodeDecodeError: it is not text in this encoding.
    """
    return read_regular(path).decode(encoding)


def open_or_create(path: str) -> int:
    """A descriptor for reading and writing of a regular file, which is created if it is missing; links are refused.

    Raises:
        NotRegularError: something else than a regular file, or a link, has the name.
        OSError: it can't be opened or created.
    """
    try:
        return _opened(path, os.O_RDWR | os.O_CREAT | _AT_ONCE | _NO_LINK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotRegularError(errno.ELOOP, "it is a link, not a file", str(path)) from None
        raise


def open_new(path: Path) -> BufferedWriter:
    """Open a new file for writing; what has the name, such as the rest of an interrupted write, is removed first.

    Raises:
        OSError: it can't be created, or a folder has the name.
    """
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _AT_ONCE | _NO_LINK, 0o666), "wb")


def _opened(path: Path | str, flags: int) -> int:
    """A descriptor of a regular file."""
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        # What was put there after the first question: a socket, or a device without a driver.
        if error.errno in (errno.ENXIO, errno.EISDIR) and (kind := special_kind(Path(path))):
            raise _not_regular(kind, path) from None
        raise
    try:
        _check(os.fstat(descriptor).st_mode, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(mode: int, path: Path | str) -> None:
    if kind := _kind(mode):
        raise _not_regular(kind, path)


def _not_regular(kind: str, path: Path | str) -> NotRegularError:
    return NotRegularError(errno.EINVAL, f"it is {kind}, not a file", str(path))


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    return next((name for matches, name in _KINDS if matches(mode)), "a special file")
