"""Finished passes that could not be stored: saved to files next to the registry, and stored by the next writer.

After a pass of an hour, the registry may be locked by another process or the disk may be full. The pass is then saved
to the folder `pending` next to the registry or, if nothing can be written there, to the user's cache. A file has only
numbers and no code, and is checked like untrusted data before it is stored. It is removed once its model is in the
registry.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from modelspace import temporary
from modelspace.errors import BusyError, ConflictError, DamagedError, ModelspaceError, StorageError, UsageError
from modelspace.files import NotRegularError, open_regular
from modelspace.names import check_name, file_name
from modelspace.probes import cache
from modelspace.registry import Registry, SpaceRow
from modelspace.registry.reading import UNREADABLE
from modelspace.representations.maps import MapBlock
from modelspace.results import Added, Check, Outcome
from modelspace.spaces import affinity
from modelspace.spaces.kinds import Space, StoredSpace, space_of
from modelspace.types import ModelCard, Preprocessing
from modelspace.verbs.passes import Computed, store, store_all

FOLDER = "pending"
_SUFFIX = ".pass"
_FORMAT = 1

#: Seconds to wait for a busy registry before new work: passes that wait are tried again after it.
SHORT_WAIT = 1.0
_WAIT = 10.0


@dataclass(frozen=True)
class Pending:
    """A finished pass, read from a file."""

    file: Path
    computed: Computed
    replacing: bool


def store_or_keep(path: Path, computed: Computed, replacing: bool, tries: int = 1) -> Added:
    """Store a pass after those that wait, or save it for the next writer if that fails.

    Args:
        path: the registry.
        computed: the pass.
        replacing: whether it may replace another model of the same name.
        tries: number of attempts while other processes use the registry; each waits 10 seconds.

    Returns:
        What was done; the notes name the waiting models that were stored first.

    Raises:
        ModelspaceError: as `passes.store`; the hint says how to store the pass later.
    """
    notes = notes_of(store_waiting(path))
    if not computed.spaces:
        return _with_notes(store(path, computed, replacing), notes)
    try:
        return _with_notes(_stored(path, computed, replacing, tries), notes)
    except UsageError:  # the fault is in the pass itself, and no later attempt can succeed
        raise
    except Exception as error:
        raise _kept(path, computed, replacing, error) from None


def store_batch(path: Path, passes: Sequence[Computed], replacing: bool, tries: int = 1) -> list[Added]:
    """Store several passes in one transaction, after those that wait; all of them, or none. Nothing is saved.

    Args:
        path: the registry.
        passes: each with spaces to fill.
        replacing: whether they may replace other models of the same names.
        tries: as in `store_or_keep`.

    Raises:
        ModelspaceError: as `passes.store`, for one of them: store them one by one, to learn which.
    """
    notes = notes_of(store_waiting(path))
    while True:
        tries -= 1
        try:
            first, *others = store_all(path, passes, replacing)
        except BusyError:
            if tries < 1:
                raise
        else:
            return [_with_notes(first, notes), *others]


def _stored(path: Path, computed: Computed, replacing: bool, tries: int) -> Added:
    while True:
        tries -= 1
        try:
            return store(path, computed, replacing)
        except BusyError:
            if tries < 1:
                raise


def _with_notes(added: Added, notes: tuple[str, ...]) -> Added:
    return replace(added, notes=(*notes, *added.notes))


def _kept(path: Path, computed: Computed, replacing: bool, error: Exception) -> Exception:
    """The error to raise for a pass that could not be stored, once the pass is saved."""
    if isinstance(error, OSError):
        error = StorageError(f"{path} can't be written: {error.strerror or error}")
    try:
        file = keep(path, computed, replacing)
    except OSError as reason:
        if isinstance(error, ModelspaceError):
            error.message += f", and the finished pass can't be saved either: {reason.strerror or reason}"
        return error
    if isinstance(error, ModelspaceError):
        first = {
            ConflictError: "rename or remove that model, then ",
            StorageError: "free space, then ",
            BusyError: "when that process has finished, ",
        }.get(type(error), "")
        error.hint = (
            f"the finished pass is saved in {file}; "
            f"{first}`space.resume()` stores it, and so does the next model that is added"
        )
    return error


def keep(registry: Path, computed: Computed, replacing: bool) -> Path:
    """Save a finished pass for the next writer: next to the registry or, if that fails, in the user's cache.

    Raises:
        OSError: neither folder is writable.
    """
    data = _to_bytes(computed, replacing)
    name = file_name(computed.card.name, f"-{hashlib.sha256(data).hexdigest()[:8]}{_SUFFIX}")
    *others, last = _folders(registry)
    for folder in others:
        with suppress(OSError):
            return _write(folder, name, data)
    return _write(last, name, data)


def _write(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    _remove_left(folder)
    with temporary.replacing(folder / name) as file:
        file.write_bytes(data)
    temporary.sync(folder.parent)  # the folder itself may be new
    return folder / name


def _remove_left(folder: Path) -> None:
    """Remove what killed processes left unfinished."""
    temporary.remove_left(folder, rf"[^/]+{re.escape(_SUFFIX)}")


def _folders(registry: Path) -> list[Path]:
    """Where passes of a registry wait, most preferred first."""
    registry = registry.resolve()
    folders = [registry.parent / FOLDER]
    if (place := cache.folder()) is not None:
        folders.append(place / FOLDER / hashlib.sha256(os.fsencode(registry)).hexdigest()[:16])
    return folders


def waiting(registry: Path) -> list[Path]:
    """Files of passes to be stored, oldest first."""
    files = [
        file
        for folder in _folders(registry)
        if folder.is_dir()
        for file in folder.glob(f"*{_SUFFIX}")
        if file.is_file() and not file.name.startswith(".")
    ]
    return sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name))


def name_of(file: Path) -> str:
    """The model's name, by the name of its file."""
    return file.name.removesuffix(_SUFFIX).rpartition("-")[0] or file.name


def read(file: Path, registry: Path, timeout: float = _WAIT) -> Pending:
    """Read a pass and check it against the registry.

    Raises:
        DamagedError: the file was not written by `keep`, or its maps don't match the spaces.
        ConflictError: it is a pass for another registry, or for spaces that were changed since.
        BusyError: another process was still writing the registry after `timeout` seconds.
    """
    try:
        with open_regular(file) as stream, zipfile.ZipFile(stream) as archive:
            # Nothing is compressed, so a small file can't fill the memory.
            if sum(entry.file_size for entry in archive.infolist()) > file.stat().st_size:
                raise ValueError("its sizes are wrong")
            content = json.loads(archive.read("pass.json"))
            if content["format"] != _FORMAT:
                raise DamagedError(f"{file} was written by another version", "store it with that version")
            blocks = {
                space_id: [_block(archive, space_id, number, entry) for number, entry in enumerate(entries)]
                for space_id, entries in content["blocks"].items()
            }
        notes, spaces = map(str, content["notes"]), map(str, content["spaces"])
        ids = tuple(map(str, content.get("space_ids", ())))
        computed = Computed(_card(content["card"]), tuple(spaces), blocks, tuple(notes), content["registry_id"], ids)
        pending = Pending(file, computed, content["replacing"] is True)
    except (
        OSError,
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        UsageError,
        *UNREADABLE,
    ) as error:
        detail = error.message if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        detail = str(error.strerror) if isinstance(error, NotRegularError) else detail
        raise DamagedError(f"{file} is not a saved pass ({detail})", _REMOVE) from None
    with Registry.open(registry, timeout=timeout) as connection:
        _check(pending, connection)
    return pending


_REMOVE = "remove the file, and add the model again"


def _check(pending: Pending, registry: Registry) -> None:
    """Raise an error if a pass does not belong to the registry, or does not fit its spaces."""
    computed, file = pending.computed, pending.file
    if computed.registry_id != registry.registry_id:
        raise ConflictError(f"{file} is of another registry", "move it to the folder of that registry, or remove it")
    rows = {row.spec.name: row for row in registry.spaces()}
    held = set(computed.blocks)
    row = affinity.find(registry, computed.card.name)
    if row is not None and not pending.replacing and row.card.is_same_model(computed.card):
        held |= {rows[name].spec.space_id for name in row.spaces}
    for name in computed.spaces if not computed.space_ids else ():
        if name not in rows:
            raise ConflictError(f"space {name!r} was changed after {file} was computed", _REMOVE)
    chosen = computed.spaces_in(registry)
    if not chosen:
        raise ConflictError(f"the spaces of {file} were removed after it was computed", _REMOVE)
    for space in chosen:
        if not _needed(space, registry) <= held:
            raise ConflictError(f"space {space.spec.name!r} was changed after {file} was computed", _REMOVE)
    try:
        for stored in map(_space, rows.values()):
            if isinstance(stored, StoredSpace) and stored.spec.space_id in computed.blocks:
                stored.checked(computed.blocks[stored.spec.space_id])
    except DamagedError as error:
        raise DamagedError(f"{file} is damaged: {error.message}", _REMOVE) from None


def _space(row: SpaceRow) -> Space:
    return space_of(row.spec)


def _needed(row: SpaceRow, registry: Registry) -> set[str]:
    """Ids of the spaces whose blocks a space needs of a model."""
    return {source.spec.space_id for source in _space(row).sources(registry)}


def store_waiting(registry: Path, timeout: float = _WAIT) -> list[Outcome]:
    """Store the saved passes, oldest first. A file whose pass can't be stored stays where it is.

    Args:
        registry: the registry.
        timeout: seconds to wait for other processes; once the registry is found busy, or the disk full, the rest is
            left.

    Returns:
        One outcome per file: "added", "replaced", "completed", "unchanged" or "failed".
    """
    outcomes: list[Outcome] = []
    for number, file in enumerate(waiting(registry), 1):
        try:
            pending = read(file, registry, timeout)
            added = store(registry, pending.computed, pending.replacing, timeout)
        except ConflictError as error:
            hint = error.hint if file.name in error.message else f"rename or remove that model, or remove {file}"
            outcomes.append(Outcome(number, name_of(file), "failed", message=error.message, hint=hint))
        except ModelspaceError as error:
            outcomes.append(Outcome(number, name_of(file), "failed", message=error.message, hint=error.hint))
            if isinstance(error, BusyError | StorageError):
                break
        except Exception as error:
            # One file must not prevent other models from being added.
            message = f"unexpected {type(error).__name__}: {error}"
            outcomes.append(Outcome(number, name_of(file), "failed", message=message, hint=f"see {file}"))
        else:
            with suppress(OSError):
                file.unlink()
            card = added.card
            outcomes.append(Outcome(number, card.name, added.status, card.uri, added.spaces, card.seconds))
    for folder in _folders(registry):
        _remove_left(folder)
        with suppress(OSError):
            folder.rmdir()  # only if it is empty
    return outcomes


def notes_of(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Notes for the user on what `store_waiting` did."""
    return tuple(map(_note, outcomes))


def _note(outcome: Outcome) -> str:
    if outcome.status == "failed":
        hint = f" ({outcome.hint})" if outcome.hint else ""
        return f"the finished pass of {outcome.name} still waits: {outcome.message}{hint}"
    done = "was already stored" if outcome.status == "unchanged" else f"is now stored ({outcome.status})"
    return f"{outcome.name}, whose finished pass waited, {done}"


def checks(registry: Path) -> Iterator[Check]:
    """For `verify`: each saved pass, and whether it can be stored. A pass that waits is no fault; a damaged one is."""
    for file in waiting(registry):
        what = f"finished pass {name_of(file)}"
        try:
            read(file, registry)
        except ModelspaceError as error:
            yield Check(what, False, error.message, error.hint)
        else:
            yield Check(what, True, f"waits to be stored: {file}", "run `space.resume()`")


def _to_bytes(computed: Computed, replacing: bool) -> bytes:
    card = {**asdict(computed.card), "preprocessing": computed.card.preprocessing.to_dict()}
    content = {
        "format": _FORMAT,
        "registry_id": computed.registry_id,
        "card": card,
        "spaces": list(computed.spaces),
        "space_ids": list(computed.space_ids),
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


#: Fields of a card that are texts; the others are checked where they are converted.
_TEXTS = ("uri", "weights_sha256", "layer", "layer_found_by", "architecture", "code_sha256")


def _card(value: dict[str, Any]) -> ModelCard:
    preprocessing = Preprocessing.from_dict(value["preprocessing"])
    card = ModelCard(
        **{
            **value,
            "name": check_name(value["name"]),
            "preprocessing": preprocessing,
            "output_shape": tuple(map(int, value["output_shape"])),
            "parameters": int(value["parameters"]),
            "seconds": float(value["seconds"]),
            "tags": {str(key): str(text) for key, text in value["tags"].items()},
            "options": dict(value["options"]),
        }
    )
    if not all(isinstance(getattr(card, name), str) for name in _TEXTS):
        raise ValueError("an entry of its card is not a text")
    return card
