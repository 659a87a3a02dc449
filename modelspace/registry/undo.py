"""What a checkpoint overwrites in place, kept in a file until the checkpoint is complete.

DuckDB writes changed rows to free blocks and then one of two headers, and waits in between until the blocks are on
disk: after a power cut, one of the two headers leads to a complete state. But it rewrites in place the blocks that hold
the metadata of tables, 64 parts to a block, of which the old state needs some. A cut in the middle of such a write
leaves a block whose checksum is wrong, and a file that can't be opened by either header.

So before a commit, which may start a checkpoint, and before each checkpoint, those blocks and the headers are copied to
`<registry>.undo`. If the file exists when the registry is opened, a writer was interrupted. If no newer header was
written, the copies are put back; the change is then still in the log, `<registry>.wal`.

DuckDB accepts a log that ends early, or that has zeros in place of a change, but refuses one whose last change is there
in part, with a gap. So the length of the log is noted as well, before and after each commit, and a checksum of its
bytes. What follows it is a change that was not yet acknowledged, and is cut off if it can't be read. If other bytes are
there than were noted, acknowledged changes are lost, which is an error. The file stays as long as the log does.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import duckdb

from modelspace import temporary

try:
    import fcntl
except ImportError:  # Windows locks files that are open, so the copies can't be made
    fcntl = None  # type: ignore[assignment]

#: The second version chains its checksums; files of the first may be left of a writer that was interrupted.
_MAGIC, _MAGIC_UNCHAINED = b"modelspace undo 2\n", b"modelspace undo 1\n"

#: Bytes before the first block: the main header and two headers of states, of which the one with the higher iteration
#: counts.
HEADERS, _HEADER = 12288, 4096

_PIECE, _LENGTH = struct.Struct("<QQ"), struct.Struct("<Q")

#: In place of an offset: a length of the log, with a checksum of it, and a checksum of the pieces before.
_LOG, _END = 2**64 - 1, 2**64 - 2

#: An iteration and the size of a block, in the header of a state.
_ITERATION, _BLOCK_SIZE = struct.Struct("<8xQ"), struct.Struct("<40xQ")


class LogError(Exception):
    """The log lacks changes that were acknowledged; the text says of the log how."""


class Piece(NamedTuple):
    """Bytes of a registry file."""

    offset: int
    data: bytes


def file_of(path: Path) -> Path:
    """The undo file of a registry."""
    return path.with_name(f"{path.name}.undo")


def exists(path: Path) -> bool:
    """Whether a writer of the registry was interrupted, or is at work."""
    with suppress(OSError):
        return stat.S_ISREG(file_of(path).lstat().st_mode)
    return False


class Keeper:
    """Copies what the next checkpoint of an open registry may overwrite.

    DuckDB's lock on a file vanishes as soon as its process closes any descriptor of it. So the keeper is created before
    DuckDB opens the file, and closed after DuckDB has closed it.

    Args:
        path: the registry file; locked by this process's writer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None if fcntl is None else os.open(path, os.O_RDONLY)
        self._kept: bytes | None = None
        self._end = b""
        self._log = _Log(_log_of(path))
        self._noted = 0

    def keep(self, duck: duckdb.DuckDBPyConnection) -> None:
        """Copy headers and metadata blocks to the undo file, unless it holds those of the current state.

        Args:
            duck: a connection, in which the registry is attached as `registry`. What it committed is on disk.

        Raises:
            OSError: the file can't be written.
            duckdb.Error: DuckDB can't say which blocks hold metadata.
        """
        if self._descriptor is None:
            return
        headers = os.pread(self._descriptor, HEADERS, 0)
        if headers != self._kept:
            self._end = _write(file_of(self.path), [self._log.note(), *self._pieces(headers, duck)])
            self._kept, self._noted = headers, self._log.length
        elif _length(self._log.file) != self._noted:
            self._note(flush=True)

    def acknowledge(self) -> None:
        """Note how long the log is after a commit, which is on disk. The note itself need not be.

        Raises:
            OSError: the file can't be written.
        """
        if self._descriptor is None or os.pread(self._descriptor, HEADERS, 0) != self._kept:
            return
        try:
            self._note(flush=False)
        except OSError:
            self._kept = None  # a part may be there, after which nothing is read: write the file again
            raise

    def _note(self, *, flush: bool) -> None:
        self._end = _append(file_of(self.path), [self._log.note()], self._end, flush=flush)
        self._noted = self._log.length

    def _pieces(self, headers: bytes, duck: duckdb.DuckDBPyConnection) -> Iterator[Piece]:
        assert self._descriptor is not None
        size = _BLOCK_SIZE.unpack_from(_newer(headers))[0]
        yield Piece(0, headers)
        for (block,) in duck.execute("SELECT block_id FROM pragma_metadata_info('registry') ORDER BY 1").fetchall():
            offset = HEADERS + int(block) * size
            if data := os.pread(self._descriptor, size, offset):
                yield Piece(offset, data)

    def close(self, *, complete: bool) -> None:
        """Close the registry file; may be called twice.

        Args:
            complete: whether the last checkpoint was completed, so that the undo file is no longer needed.
        """
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if complete and self._kept is not None:
            with suppress(OSError):
                file_of(self.path).unlink()


def restore(path: Path) -> None:
    """Put back what an interrupted checkpoint overwrote, and remove the undo file.

    The caller holds the writers' lock, and has the registry not open.

    Args:
        path: the registry file.

    Raises:
        BlockingIOError: another process reads the file.
        OSError: the file can't be written.
    """
    if not exists(path):
        return
    pieces, note = _kept(path)
    if pieces:
        with path.open("r+b") as file:
            unfinished = _is_unfinished(file.read(HEADERS), pieces[0].data, path)
            if unfinished:
                _put_back(file.fileno(), pieces)
        if unfinished:
            _cut_log(path, note.length)
            if note.length:
                return  # what is left of it guards the log
    file_of(path).unlink()


def check_log(path: Path) -> None:
    """Compare the log with what the undo file says of it.

    Args:
        path: the registry file, which this process does not have open.

    Raises:
        LogError: it lacks changes that were acknowledged.
        OSError: a file can't be read.
    """
    if not exists(path):
        return
    pieces, note = _kept(path)
    if not pieces or not note.length:
        return
    with path.open("rb") as file:
        headers = file.read(HEADERS)
    if headers != pieces[0].data:
        return  # a checkpoint was complete, or began and was not undone
    if (length := _length(_log_of(path))) < note.length:
        raise LogError(f"has {length} bytes, of which {note.length} were stored" if length else "is missing")
    log = _Log(_log_of(path))
    if note.digest and log.read(note.length) != note.digest:
        raise LogError("is not what was stored")


def _kept(path: Path) -> tuple[list[Piece], _Note]:
    """The pieces of a registry's undo file, and what it notes of the longest log."""
    notes = _read(file_of(path))
    lengths = [_Note(_LENGTH.unpack_from(note.data)[0], note.data[8:]) for note in notes if note.offset == _LOG]
    return [piece for piece in notes if piece.offset != _LOG], max(lengths, default=_Note(0, b""))


def _cut_log(path: Path, length: int) -> None:
    """Cut off what follows the acknowledged changes in a log that can't be read, if it can be read then."""
    log = _log_of(path)
    if _length(log) <= length or "WAL" not in _error_of(path):
        return
    with log.open("r+b") as file:
        file.seek(length)
        rest = file.read()
        file.truncate(length)
        if "WAL" in _error_of(path):  # damage of another kind
            file.seek(length)
            file.write(rest)
        file.flush()
        os.fsync(file.fileno())


def _put_back(descriptor: int, pieces: list[Piece]) -> None:
    """Write the pieces that differ, the headers last, as a checkpoint does."""
    changed = [piece for piece in pieces if os.pread(descriptor, len(piece.data), piece.offset) != piece.data]
    if not changed:
        return
    if fcntl is not None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for group in ([piece for piece in changed if piece.offset], [piece for piece in changed if not piece.offset]):
        for piece in group:
            os.pwrite(descriptor, piece.data, piece.offset)
        os.fsync(descriptor)


def _is_unfinished(current: bytes, kept: bytes, path: Path) -> bool:
    """Whether the kept headers are those of the state before the checkpoint that was interrupted.

    Args:
        current: the file's headers.
        kept: the undo file's.
        path: the registry file.
    """
    if current[:_HEADER] != kept[:_HEADER] or _newer(kept) not in current:
        return False  # another file, restored from a copy or compacted
    if current == kept:
        return True
    # The last header may be incomplete. If it is not, its blocks were on disk before it was written.
    error = _error_of(path)
    return bool(error) and "WAL" not in error


def _error_of(path: Path) -> str:
    """Why DuckDB can't open a registry; empty if it can."""
    try:
        duckdb.connect(str(path), read_only=True, config={"autoload_known_extensions": "false"}).close()
    except duckdb.Error as error:
        return str(error)
    return ""


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def _length(file: Path) -> int:
    """Bytes of a file; 0 if it is missing."""
    with suppress(OSError):
        return file.stat().st_size
    return 0


def _newer(headers: bytes) -> bytes:
    """Of the two headers of states, the one that counts."""
    both = headers[_HEADER : 2 * _HEADER], headers[2 * _HEADER : 3 * _HEADER]
    return max(both, key=lambda header: int(_ITERATION.unpack_from(header)[0]))


class _Note(NamedTuple):
    """Of a log whose changes are acknowledged: its length, and a SHA-256 of its bytes, which older files lack."""

    length: int
    digest: bytes


class _Log:
    """A log that grows, and the checksum of what was read of it.

    Attributes:
        file: the log.
        length: number of bytes that were read.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.length = 0
        self._digest = hashlib.sha256()

    def read(self, length: int) -> bytes:
        """Read on up to a length, and return the SHA-256 of all bytes up to there."""
        if length < self.length:  # a new log
            self.length, self._digest = 0, hashlib.sha256()
        with suppress(FileNotFoundError), self.file.open("rb") as stream:
            stream.seek(self.length)
            while data := stream.read(min(1 << 20, length - self.length)):
                self._digest.update(data)
                self.length += len(data)
        return self._digest.digest()

    def note(self) -> Piece:
        """What it is now."""
        digest = self.read(_length(self.file))
        return Piece(_LOG, _LENGTH.pack(self.length) + digest)


def _packed(pieces: Iterable[Piece], before: bytes) -> tuple[bytes, bytes]:
    """Pieces as they are stored, and the checksum at their end.

    Args:
        pieces: what to store.
        before: the checksum of what is stored before them in the file, empty at its beginning. It is part of theirs:
            when a file was written again, what follows its end may be of the file before, since a power cut may keep
            what was written and not that the file was made shorter first.
    """
    content = b"".join(_PIECE.pack(piece.offset, len(piece.data)) + piece.data for piece in pieces)
    end = hashlib.sha256(before + content).digest()
    return content + _PIECE.pack(_END, len(end)) + end, end


def _write(file: Path, pieces: Iterable[Piece]) -> bytes:
    """Write the whole file; returns the checksum at its end."""
    content, end = _packed(pieces, b"")
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    _finish(descriptor, _MAGIC + content)
    temporary.sync(file.parent)
    return end


def _append(file: Path, pieces: Iterable[Piece], before: bytes, *, flush: bool) -> bytes:
    """Add to the file, whose last checksum is `before`; returns the new one."""
    content, end = _packed(pieces, before)
    _finish(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK), content, flush=flush)
    return end


def _finish(descriptor: int, content: bytes, *, flush: bool = True) -> None:
    with open(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        if flush:
            os.fsync(descriptor)


def _read(file: Path) -> list[Piece]:
    """The pieces of an undo file, up to the last complete checksum; none: no change had begun."""
    stored = file.read_bytes()
    complete: list[Piece] = []
    pieces: list[Piece] = []
    position = start = len(_MAGIC)
    chained, before = stored.startswith(_MAGIC), b""
    while stored.startswith((_MAGIC, _MAGIC_UNCHAINED)) and position + _PIECE.size <= len(stored):
        offset, length = _PIECE.unpack_from(stored, position)
        data = stored[position + _PIECE.size : position + _PIECE.size + length]
        if offset != _END:
            pieces.append(Piece(offset, data))
        elif data == hashlib.sha256(before + stored[start:position]).digest():
            complete, pieces, start = complete + pieces, [], position + _PIECE.size + length
            before = data if chained else b""
        else:
            break
        position += _PIECE.size + length
    return complete
