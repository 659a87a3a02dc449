"""Finished passes that could not be stored: saved to files next to the registry, and stored by the next writer.

After a pass of an hour, the registry may be locked by another process or the disk may be full. The file has only
numbers and no code; it is checked like untrusted data.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelspace.errors import DamagedError, ModelspaceError
from modelspace.registry import Registry
from modelspace.representations.maps import MapBlock
from modelspace.results import Added
from modelspace.spaces.kinds import StoredSpace, space_of
from modelspace.types import ModelCard, Preprocessing
from modelspace.verbs.add import Computed, store

FOLDER = "pending"
_SUFFIX = ".pass"
_FORMAT = 1


@dataclass(frozen=True)
class Pending:
    """A finished pass, read from a file."""

    file: Path
    computed: Computed
    replacing: bool


def keep(registry: Path, computed: Computed, replacing: bool) -> Path:
    """Save a finished pass next to the registry, for the next writer.

    Raises:
        OSError: the folder is not writable.
    """
    data = _to_bytes(computed, replacing)
    name = f"{computed.card.name}-{hashlib.sha256(data).hexdigest()[:8]}{_SUFFIX}"
    folder = registry.parent / FOLDER
    folder.mkdir(exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    return folder / name


def waiting(registry: Path) -> list[Path]:
    """Files of passes to be stored, oldest first."""
    folder = registry.parent / FOLDER
    files = [file for file in folder.glob(f"*{_SUFFIX}") if file.is_file()] if folder.is_dir() else []
    return sorted(files, key=lambda file: (file.stat().st_mtime, file.name))


def read(file: Path, registry: Path) -> Pending:
    """Read a pass and check it against the registry's spaces.

    Raises:
        DamagedError: the file was not written by `keep`, or its maps don't match the spaces.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            content = json.loads(archive.read("pass.json"))
            if content["format"] != _FORMAT:
                raise DamagedError(f"{file} was written by another version", "add the model again")
            blocks = {
                space_id: [_block(archive, space_id, number, entry) for number, entry in enumerate(entries)]
                for space_id, entries in content["blocks"].items()
            }
        card = _card(content["card"])
        computed = Computed(card, tuple(content["spaces"]), blocks, tuple(content["notes"]))
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{file} is not a saved pass: {error}", "remove it, and add the model again") from None
    with Registry.open(registry) as connection:
        for row in connection.spaces():
            space = space_of(row.spec)
            if row.spec.space_id in blocks and isinstance(space, StoredSpace):
                space.checked(blocks[row.spec.space_id])
    return Pending(file, computed, bool(content["replacing"]))


def store_waiting(registry: Path) -> tuple[list[Added], list[ModelspaceError]]:
    """Store the saved passes. The files of those that fail are not removed; their errors are returned."""
    added, errors = [], []
    for file in waiting(registry):
        try:
            pending = read(file, registry)
            added.append(store(registry, pending.computed, pending.replacing))
        except ModelspaceError as error:
            errors.append(error)
            continue
        with suppress(OSError):
            file.unlink()
    with suppress(OSError):
        (registry.parent / FOLDER).rmdir()
    return added, errors


def _to_bytes(computed: Computed, replacing: bool) -> bytes:
    card = {**asdict(computed.card), "preprocessing": computed.card.preprocessing.to_dict()}
    content = {
        "format": _FORMAT,
        "card": card,
        "spaces": list(computed.spaces),
        "notes": list(computed.notes),
        "replacing": replacing,
        "blocks": {
            space_id: [{"first_image": block.first_image, "n_images": block.n_images} for block in blocks]
            for space_id, blocks in computed.blocks.items()
        },
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pass.json", json.dumps(content))
        for space_id, blocks in computed.blocks.items():
            for number, block in enumerate(blocks):
                archive.writestr(f"{space_id}/{number}.codes", block.codes)
                archive.writestr(f"{space_id}/{number}.scales", block.scales)
    return buffer.getvalue()


def _block(archive: zipfile.ZipFile, space_id: str, number: int, entry: dict[str, Any]) -> MapBlock:
    codes, scales = (archive.read(f"{space_id}/{number}.{part}") for part in ("codes", "scales"))
    return MapBlock(int(entry["first_image"]), int(entry["n_images"]), codes, scales)


def _card(value: dict[str, Any]) -> ModelCard:
    preprocessing = Preprocessing.from_dict(value["preprocessing"])
    return ModelCard(**{**value, "preprocessing": preprocessing, "output_shape": tuple(value["output_shape"])})
