"""Files from other people: read once, hashed, and refused if they can run code that the user has not trusted.

What is hashed is what is loaded: the bytes are read once and stay in memory, so replacing the file between the check
and the loading has no effect.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.files import expanded, is_folder, is_regular, open_regular, special_kind
from modelspace.names import did_you_mean

#: Largest file that is read. Its bytes are in memory together with the weights parsed from them.
MAX_BYTES = 16 << 30


@dataclass(frozen=True)
class FileBytes:
    """The content of a file and its SHA-256, 64 hexadecimal digits."""

    path: Path
    content: bytes = field(repr=False)
    sha256: str


def read_once(location: str, kind: str, largest: int = MAX_BYTES) -> FileBytes:
    """Read a whole file.

    Args:
        location: its path; a relative one is resolved against the current folder.
        kind: what it should be, for error messages: "an ONNX file".
        largest: number of bytes that are read at most.

    Raises:
        NotFoundError: there is no such file; the hint has similar names.
        ModelspaceError: it can't be read, or is too large.
    """
    path = expanded(Path(location))
    if special := special_kind(path):
        raise UsageError(
            f"{path} is {special}, not {kind}", f"name the file{' in it' if is_folder(path) else ' itself'}"
        )
    if not is_regular(path):
        folder = "" if path.is_absolute() else f" in {Path.cwd()}"
        neighbours = [entry.name for entry in path.parent.iterdir()] if is_folder(path.parent) else []
        raise NotFoundError(f"there is no file {path}{folder}", did_you_mean(path.name, neighbours))
    try:
        with open_regular(path) as stream:
            # Not `read(largest + 1)`, which sets aside as much memory as it may read.
            size = os.fstat(stream.fileno()).st_size
            content = stream.read() if size <= largest else b""
    except OSError as error:
        raise ModelspaceError(f"{path} can't be read: {error.strerror}") from error
    if size > largest:
        raise ModelspaceError(f"{path} is larger than {largest >> 30} GB", "load it in Python and pass the module")
    if content.startswith(b"version https://git-lfs"):
        raise ModelspaceError(f"{path} is a Git LFS pointer, not {kind}", "run git lfs pull first")
    return FileBytes(path, content, hashlib.sha256(content).hexdigest())


def require_trust(file: FileBytes, uri: str, trusted: str | None, kind: str) -> None:
    """Accept only the file that the user trusts.

    Args:
        file: the file.
        uri: its address.
        trusted: the SHA-256 that the user passed, or None.
        kind: what the file is: "an exported program".

    Raises:
        UsageError: no SHA-256 was passed, or an invalid one.
        ModelspaceError: the file has another SHA-256.
    """
    if trusted is None:
        raise UsageError(
            f"{file.path} is {kind}, which can run its author's code when it is loaded; its SHA-256 is {file.sha256}",
            f"if you trust its origin: `space.add({uri!r}, trust_code={file.sha256!r})`",
        )
    expected = trusted.strip().lower().removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{64}", expected):
        raise UsageError(
            f"`trust_code={trusted!r}` is not a SHA-256, which has 64 hexadecimal digits",
            f"sha256sum {file.path} prints the file's; compare it with the one that its author publishes",
        )
    if expected != file.sha256:
        raise ModelspaceError(
            f"{file.path} is not the trusted file: its SHA-256 is {file.sha256}, and {expected} was trusted",
            "it was changed or is another file; download it again from a trusted place, or trust the new SHA-256",
        )
