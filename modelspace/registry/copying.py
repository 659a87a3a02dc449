"""Copying a registry file while others read it, and putting a copy in its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from modelspace import temporary
from modelspace.errors import ModelspaceError
from modelspace.files import open_regular
from modelspace.registry import connection, undo
from modelspace.registry.backups import now


@contextmanager
def copied(registry: Path, target: Path, timeout: float = 10.0, *, log: bool = True) -> Iterator[Path]:
    """Copy a registry, complete with its log, to a temporary file, which becomes `target` at the end of the block.

    Writers wait in the meantime; readers do not.

    Args:
        registry: the file.
        target: the copy; an existing file is replaced.
        timeout: seconds to wait for a writer to finish.
        log: whether changes that are only in the log are taken along.

    Yields:
        The temporary file, for checks. If an exception leaves the block, there is no copy.

    Raises:
        NotFoundError: there is no registry.
        BusyError: another process was still writing after `timeout`.
        DamagedError: DuckDB can't open the copy.
        OSError: it can't be written.
    """
    with temporary.replacing(target) as out:
        try:
            with connection.exclusive(registry, timeout) as opener:
                copy_bytes(opener.path, out)
                if log and os.path.exists(name := f"{opener.path}.wal"):
                    copy_bytes(Path(name), Path(f"{out}.wal"))
            _take_in_log(out)
            yield out
        finally:
            with suppress(OSError):
                os.unlink(f"{out}.wal")


def copy_bytes(source: Path, target: Path) -> None:
    """Copy the bytes of a file into another one, which keeps its inode."""
    with open_regular(source) as stream, target.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())


def _take_in_log(path: Path) -> None:
    """Write a copy's log into the copy."""
    if not os.path.exists(f"{path}.wal"):
        return
    try:
        duck = duckdb.connect(str(path), config={"autoinstall_known_extensions": "false"})
        try:
            duck.execute("CHECKPOINT")
        finally:
            duck.close()
    except duckdb.Error as error:
        raise connection.translated(error, path) from None


def put_back(copy: Path, registry: Path, timeout: float = 10.0) -> Path | None:
    """Put a copy in the place of a registry, which is moved aside.

    Args:
        copy: the copy; it stays where it is.
        registry: the registry; it may be missing, or damaged.
        timeout: seconds to wait for other processes to finish.

    Returns:
        Where the former registry is now; None if there was none.

    Raises:
        BusyError: another process was still reading or writing after `timeout`.
        ModelspaceError: the folder can't be written to.
    """
    try:
        if not registry.exists():
            with temporary.replacing(registry) as out:
                copy_bytes(copy, out)
            return None
        with connection.locked(registry, timeout) as path, temporary.replacing(path) as out:
            copy_bytes(copy, out)
            aside = _free_name(path)
            # The log and what a checkpoint kept belong to the former file, and must not meet the new one.
            for companion in (f"{path}.wal", undo.file_of(path)):
                with suppress(FileNotFoundError):
                    os.rename(companion, f"{aside}{str(companion).removeprefix(str(path))}")
            _keep(path, aside)
        return aside
    except OSError as error:
        raise ModelspaceError(f"{registry} can't be replaced: {error.strerror}") from None


def _free_name(path: Path) -> Path:
    """A name next to a file that says when it was moved."""
    name = f"{path.name}.replaced-{now():%Y%m%d-%H%M%S}"
    serial, free = 1, path.with_name(name)
    while os.path.lexists(free):
        serial += 1
        free = path.with_name(f"{name}-{serial}")
    return free


def _keep(path: Path, aside: Path) -> None:
    """Give a file that is about to be replaced a second name."""
    try:
        os.link(path, aside)
    except OSError:  # the file system has no hard links
        with temporary.replacing(aside) as out:
            copy_bytes(path, out)
