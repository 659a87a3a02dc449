"""Files from outside: read once, fingerprinted, and refused where they can run code that nobody has said they trust.

What is hashed is what is loaded: the bytes are read once and stay in memory, so that a file that is exchanged between the
check and the loading is not loaded.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.names import did_you_mean

#: Largest file that is read. Its bytes lie in memory beside the weights that are made of them.
MAX_BYTES = 16 << 30


@dataclass(frozen=True)
class FileBytes:
    """The content of a file and its SHA-256, 64 hexadecimal digits."""

    path: Path
    content: bytes = field(repr=False)
    sha256: str


def read_once(place: str, what: str) -> FileBytes:
    """Read a file whole.

    Args:
        place: its path; a relative one is looked up from the current folder.
        what: what it should be, for the error's text: "an ONNX file".

    Raises:
        NotFoundError: there is no such file; near names are given.
        ModelspaceError: it can't be read, or is too large.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not {what}", "name the file in it")
    if not path.is_file():
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise NotFoundError(f"there is no file {path}{where}", did_you_mean(path.name, beside))
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelspaceError(f"{path} can't be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ModelspaceError(
            f"{path} is larger than {MAX_BYTES >> 30} GB", "load it in Python and hand the module over"
        )
    if content.startswith(b"version https://git-lfs"):
        raise ModelspaceError(f"{path} is a pointer of Git LFS, not {what}", "run git lfs pull first")
    return FileBytes(path, content, hashlib.sha256(content).hexdigest())


def require_trust(file: FileBytes, uri: str, trusted: str | None, what: str) -> None:
    """Let exactly the file that the user trusts pass.

    Args:
        file: the file.
        uri: its address.
        trusted: the SHA-256 that the user gave, or None.
        what: what the file is: "an exported program".

    Raises:
        UsageError: no SHA-256 was given, or something that is none.
        ModelspaceError: it is another file's.
    """
    if trusted is None:
        raise UsageError(
            f"{file.path} is {what}, which can run code of its author's when it is loaded; its SHA-256 is {file.sha256}",
            f"if you trust where it comes from: `space.add({uri!r}, trust_code={file.sha256!r})`",
        )
    given = trusted.strip().lower().removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{64}", given):
        raise UsageError(
            f"`trust_code={trusted!r}` is not a SHA-256: that has 64 hexadecimal digits",
            f"sha256sum {file.path} prints the file's; compare it with what its author publishes",
        )
    if given != file.sha256:
        raise ModelspaceError(
            f"{file.path} is not the trusted file: its SHA-256 is {file.sha256}, and {given} was trusted",
            "it was changed or is another one; fetch it again from where you trust it, or trust the new SHA-256",
        )
