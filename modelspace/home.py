"""Where a registry lives: the folder that holds `registry.duckdb` and `index/`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from modelspace.errors import DamagedError, NotFoundError, UsageError
from modelspace.files import absent, file_identity, special_kind

REGISTRY = "registry.duckdb"
INDEX = "index"
#: Regular expression of the names of index files: a space's id, perhaps a correction for hubs, and a suffix.
INDEX_FILES = r"[0-9a-f]{16}(?:\.[\w-]+)?\.(?:faiss|added|blocks|proposals|json)"
VARIABLE = "MODELSPACE_HOME"


def find_home(start: str | Path | None = None) -> Path | None:
    """The folder of the registry to use, or None if there is none.

    Args:
        start: the folder. Default: the environment variable MODELSPACE_HOME if set, else the current folder if it holds
            a registry, else the nearest parent that does.

    Returns:
        With `start` or the variable, that folder, even if it holds no registry.

    Raises:
        UsageError: it is a file.
    """
    stated = start if start is not None else os.environ.get(VARIABLE)
    if stated or start is not None:
        check_folder(Path(str(stated)))
        return Path(str(stated))
    current = Path.cwd()
    return next((folder for folder in (current, *current.parents) if (folder / REGISTRY).exists()), None)


def state_of(path: Path) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """What changes whenever a registry does: the identities of its file and of its log, None for one that is missing.

    Args:
        path: the registry file.
    """
    return file_identity(path), file_identity(path.with_name(f"{path.name}.wal"))


def require_home(start: str | Path | None = None) -> Path:
    """As `find_home`, but the folder must hold a registry.

    Raises:
        NotFoundError: there is none; the hint says how to create one.
        UsageError: the home is a file.
        DamagedError: something else than a file has its name.
    """
    home = find_home(start)
    if home is None:
        raise NotFoundError(
            "there is no registry.duckdb in this folder or above it",
            "make one with `ModelSpace.create()`, or name its folder with `home=folder` or MODELSPACE_HOME",
        )
    if special_kind(home / REGISTRY):
        raise DamagedError(absent(home / REGISTRY), "move it away, and restore the registry from a copy")
    if not (home / REGISTRY).is_file():
        raise NotFoundError(f"there is no {REGISTRY} in {home}", f"make one with `ModelSpace.create({str(home)!r})`")
    return home


def check_folder(home: Path) -> None:
    """Refuse a file in the place of a registry's folder; a missing folder is none.

    Raises:
        UsageError: it is a file; the hint names the folder to give instead.
    """
    with suppress(OSError):  # a part of the path that is a file, or can't be searched
        if home.exists() and not home.is_dir():
            is_registry = home.name == REGISTRY or home.suffix == ".duckdb"
            hint = f"the registry is the file {REGISTRY} in a folder: `home={str(home.parent) or '.'!r}`"
            raise UsageError(
                f"{home} is a file, but the home of a registry is a folder",
                hint if is_registry else "name a folder, or leave `home=` out to use the current one",
            )
