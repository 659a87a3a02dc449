"""Files that are not what was written, in the ways that a copy, a full disk or a person leaves them."""

from __future__ import annotations

import os
from pathlib import Path


def spoil(file: Path, change: str) -> bytes:
    """Put something else where a file is; returns what it held.

    Args:
        file: exists.
        change: "cut", "longer", "empty" or "text", a file with other bytes; "folder" or "pipe"; or "gone".
    """
    data = file.read_bytes()
    file.unlink()
    if change == "folder":
        file.mkdir()
    elif change == "pipe":
        os.mkfifo(file)
    elif change != "gone":
        file.write_bytes({"cut": data[:-1], "longer": data + b"0", "empty": b"", "text": b"text"}[change])
    return data
