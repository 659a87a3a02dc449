"""Backups: a checked copy of the registry, and putting one back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from modelspace.errors import ConflictError, DamagedError, ModelspaceError, NotFoundError, UsageError
from modelspace.files import absent
from modelspace.home import REGISTRY
from modelspace.registry import Registry, backups, copying, trial
from modelspace.registry.backups import Backup
from modelspace.results import BackupInfo, Restored

#: Where backups go by default, in the folder of the registry.
FOLDER = "backups"

Progress = Callable[[int, int], None]


def backup(path: Path, target: Path | None, *, force: bool, progress: Progress | None = None) -> BackupInfo:
    """See `modelspace.workspace.ModelSpace.backup`."""
    file = _file(path, target)
    if file.exists() and file.resolve() == path.resolve():
        raise UsageError(f"{file} is the registry itself", "name another file, or a folder")
    if file.exists() and not force:
        raise ConflictError(f"{file} exists already", "choose another name, or `force=True` to replace it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with copying.copied(path, file) as copy:
            models, registry_id = _check(copy, path, progress)
            row = Backup(
                str(file.resolve()),
                backups.now().isoformat(),
                copy.stat().st_size,
                backups.digest(copy),
                models,
                registry_id,
            )
    except OSError as error:
        raise ModelspaceError(f"{file} can't be written: {error.strerror}", "name another folder") from None
    backups.note(path, row)
    return _info(row)


def _file(path: Path, target: Path | None) -> Path:
    """The file to write."""
    if target is not None and target.suffix and not target.is_dir():
        return target
    folder, name = target or path.parent / FOLDER, f"registry-{backups.now():%Y%m%d-%H%M%S}"
    serials = (f"-{serial}" for serial in itertools.count(2))
    # Two in one second, or the clock was set back.
    return next(file for end in itertools.chain([""], serials) if not (file := folder / f"{name}{end}.duckdb").exists())


def _check(copy: Path, original: Path, progress: Progress | None) -> tuple[int, str]:
    """Read all of a copy; returns its number of models and the registry's id.

    Raises:
        DamagedError: the copy, and so the registry, is damaged.
    """
    try:
        with Registry.open(copy) as registry:
            problems = registry.check()
            if problems:
                raise DamagedError(f"{problems[0].subject}: {problems[0].message}")
            spaces = registry.spaces()
            for done, row in enumerate(spaces):
                ids = [embedding.model_id for embedding in registry.embeddings(row.spec.space_id)]
                for model_id in registry.changed_maps(row.spec.space_id, ids):
                    raise DamagedError(f"model {model_id} in the space {row.spec.name!r} is not what was stored")
                if progress:
                    progress(done + 1, len(spaces))
            return len(registry.models()), registry.registry_id
    except DamagedError as error:
        raise DamagedError(
            f"{original} is damaged, so no copy was kept: {error.message}", backups.advice(original)
        ) from None


def restore(path: Path, copy: Path | None, *, force: bool) -> Restored:
    """See `modelspace.workspace.ModelSpace.restore`."""
    listed = backups.known(path)
    if copy is None:
        if not listed:
            raise NotFoundError(f"no backup of {path} is known", "name a file: `space.restore(file)`")
        copy = Path(listed[-1].file)
    if not copy.is_file():
        raise NotFoundError(absent(copy), "`space.backups()` lists the known ones")
    entry = next((row for row in listed if row.file == str(copy.resolve())), None)
    if entry is not None and backups.digest(copy) != entry.sha256:
        raise DamagedError(f"{copy} is not the file that was written as a backup", "choose another one")
    trial.read(copy, path)
    with Registry.open(copy) as registry:
        problems, models, registry_id = registry.check(), len(registry.models()), registry.registry_id
    if problems:
        raise DamagedError(f"{copy} is damaged: {problems[0].subject}: {problems[0].message}", "choose another one")
    current = _id_of(path)
    if current not in ("", registry_id) and not force:
        raise ConflictError(
            f"{copy} is of another registry than {path}", "to replace that registry nonetheless: `force=True`"
        )
    aside = copying.put_back(copy, path)
    return Restored(str(copy), str(aside) if aside else "", models)


def _id_of(path: Path) -> str:
    """The id of a registry, or "" if it can't be read."""
    try:
        with Registry.open(path, timeout=1.0) as registry:
            return registry.registry_id
    except ModelspaceError:
        return ""


def known(home: Path) -> list[BackupInfo]:
    """The backups of a registry that are known and still exist, oldest first."""
    return [_info(row) for row in backups.known(home / REGISTRY)]


def _info(row: Backup) -> BackupInfo:
    return BackupInfo(row.file, row.made_at, row.models, row.bytes)
