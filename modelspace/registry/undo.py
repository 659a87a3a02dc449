"""What a checkpoint overwrites in place, kept in a file until the checkpoint is complete.

DuckDB writes changed rows to free blocks and then one of two headers, and waits in between until the blocks are on
disk: after a power cut, one of the two headers leads to a complete state. But it rewrites in place the blocks that hold
the metadata of tables, 64 parts to a block, of which the old state needs some. A cut in the middle of such a write
leaves a block whose checksum is wrong, and a file that can't be opened by either header.

So before a commit, which may start a checkpoint, and before each checkpoint, those blocks and the headers are copied to
`<registry>.undo`. If the file exists when the registry is opened, a writer was interrupted. If no newer header was
written, the copies are put back; the change is then still in the log, `<registry>.wal`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import duckdb

from modelspace import temporary

try:
    import fcntl
except ImportError:  # Windows locks files that are open, so the copies can't be made
    fcntl = None  # type: ignore[assignment]

_MAGIC = b"modelspace undo 1\n"

#: Bytes before the first block: the main header and two headers of states, of which the one with the higher iteration
#: counts.
HEADERS, _HEADER = 12288, 4096

_PIECE = struct.Struct("<QQ")

#: An iteration and the size of a block, in the header of a state.
_ITERATION, _BLOCK_SIZE = struct.Struct("<8xQ"), struct.Struct("<40xQ")


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

    def keep(self, duck: duckdb.DuckDBPyConnection) -> None:
        """Copy headers and metadata blocks to the undo file, unless it holds those of the current state.

        Args:
            duck: a connection, in which the registry is attached as `registry`.

        Raises:
            OSError: the file can't be written.
            duckdb.Error: DuckDB can't say which blocks hold metadata.
        """
        if self._descriptor is None:
            return
        headers = os.pread(self._descriptor, HEADERS, 0)
        if headers == self._kept:
            return
        size = _BLOCK_SIZE.unpack_from(_newer(headers))[0]
        pieces = [Piece(0, headers)]
        for (block,) in duck.execute("SELECT block_id FROM pragma_metadata_info('registry') ORDER BY 1").fetchall():
            offset = HEADERS + int(block) * size
            if data := os.pread(self._descriptor, size, offset):
                pieces.append(Piece(offset, data))
        _write(file_of(self.path), pieces)
        self._kept = headers

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
    pieces = _read(file_of(path))
    if pieces:
        with path.open("r+b") as file:
            if _is_unfinished(file.read(HEADERS), pieces[0].data, path):
                _put_back(file.fileno(), pieces)
    file_of(path).unlink()


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
    return current == kept or not _can_be_opened(path)


def _can_be_opened(path: Path) -> bool:
    """Whether the header that a checkpoint wrote last is complete. Its blocks were on disk before it was written."""
    try:
        duckdb.connect(str(path), read_only=True, config={"autoload_known_extensions": "false"}).close()
    except duckdb.Error as error:
        return "WAL" in str(error)  # the log is damaged, which no older block would mend
    return True


def _newer(headers: bytes) -> bytes:
    """Of the two headers of states, the one that counts."""
    both = headers[_HEADER : 2 * _HEADER], headers[2 * _HEADER : 3 * _HEADER]
    return max(both, key=lambda header: int(_ITERATION.unpack_from(header)[0]))


def _write(file: Path, pieces: list[Piece]) -> None:
    content = b"".join([_MAGIC, *(_PIECE.pack(piece.offset, len(piece.data)) + piece.data for piece in pieces)])
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        with open(descriptor, "wb", closefd=False) as out:
            out.write(content + hashlib.sha256(content).digest())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.sync(file.parent)


def _read(file: Path) -> list[Piece]:
    """The pieces of an undo file; none if it is incomplete: then no checkpoint had begun."""
    stored = file.read_bytes()
    content, digest = stored[:-32], stored[-32:]
    if not content.startswith(_MAGIC) or hashlib.sha256(content).digest() != digest:
        return []
    pieces, position = [], len(_MAGIC)
    while position < len(content):
        offset, length = _PIECE.unpack_from(content, position)
        position += _PIECE.size
        pieces.append(Piece(offset, content[position : position + length]))
        position += length
    return pieces
