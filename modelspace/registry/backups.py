"""The list of a registry's backups, next to the registry."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from modelspace import temporary
from modelspace.files import open_regular, read_regular
from modelspace.late import dataclass

#: The list of backups, next to the registry: it must be readable when the registry is not.
LIST = "backups.json"

#: Number of backups that the list keeps.
_MOST = 100


@dataclass(frozen=True)
class Backup:
    """A copy of a registry.

    Attributes:
        file: absolute path of the copy.
        made_at: ISO 8601, UTC.
        bytes: its size.
        sha256: of its bytes.
        models: number of models in it.
        registry_id: the registry's id.
    """

    file: str
    made_at: str
    bytes: int
    sha256: str
    models: int
    registry_id: str


def known(registry: Path) -> list[Backup]:
    """The backups of a registry that are listed and still exist, oldest first. A damaged list counts as empty."""
    try:
        rows = json.loads(read_regular(registry.resolve().parent / LIST))
        backups = [Backup(**row) for row in rows]
        return [backup for backup in backups if os.path.isfile(backup.file)]
    except (OSError, ValueError, TypeError, RecursionError):
        return []


def note(registry: Path, backup: Backup) -> None:
    """Add a backup to the list next to its registry; where that can't be written, the backup is good all the same."""
    file = registry.resolve().parent / LIST
    rows = [other for other in known(registry) if other.file != backup.file]
    text = json.dumps([asdict(row) for row in [*rows, backup][-_MOST:]], indent=1) + "\n"
    with suppress(OSError), temporary.replacing(file) as out:
        out.write_text(text, "utf-8")


def advice(registry: Path) -> str:
    """What to do about a registry that can't be read: the hint of an error."""
    backups = known(registry)
    if not backups:
        return "restore a copy of the registry"
    last = backups[-1]
    made_at = last.made_at[:16].replace("T", " ")
    return (
        f"`space.restore()` puts the last backup in its place: {last.file}, of {made_at} UTC, with {last.models}"
        f" model{'' if last.models == 1 else 's'}"
    )


def now() -> datetime:
    """The current time, in UTC, without fractions of a second."""
    return datetime.now(UTC).replace(microsecond=0)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
