"""Which files of a folder become probe images, and in which order. No file is opened here."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelspace.errors import ProbeError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def list_images(folder: Path) -> list[str]:
    """Paths of the image files in a folder and its subfolders, relative to it, with '/' as separator, sorted.

    Names that begin with a dot are skipped. Links are followed; a folder that is reached twice is listed once, so
    cyclic links do no harm.

    Raises:
        ProbeError: the folder or a subfolder does not exist or can't be read.
    """
    files: list[str] = []
    seen: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        subfolder = pending.pop()
        directory = folder / subfolder
        try:
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except NotADirectoryError as error:
            raise ProbeError(
                f"{directory} is a file, not a folder of images", "give the folder that contains it"
            ) from error
        except FileNotFoundError as error:
            raise ProbeError(
                f"there is no folder {directory}",
                "give a folder of images, or 'rooms', 'yards', 'streets', 'repainted', 'photographs'",
            ) from error
        except OSError as error:
            raise ProbeError(f"the folder {directory} can't be read: {error.strerror}") from error
        for entry in ordered:
            if entry.name.startswith("."):
                continue
            relative = f"{subfolder}/{entry.name}" if subfolder else entry.name
            kind = _kind(entry)
            if kind == stat.S_IFDIR:
                pending.append(relative)
            elif kind == stat.S_IFREG and entry.name.lower().endswith(SUFFIXES):
                files.append(relative)
        pending.sort(reverse=True)
    return sorted(files)


def _kind(entry: os.DirEntry[str]) -> int:
    """The type of a file, or of a link's target. If it is unknown, a regular file: reading it gives the error."""
    try:
        return stat.S_IFMT(entry.stat().st_mode)
    except OSError:
        return stat.S_IFREG


@dataclass(frozen=True)
class Choice:
    """How many images to take.

    Attributes:
        n_images: number in all, an error if there are fewer; None: all.
        per_subfolder: number from each subfolder that has images; None: subfolders are ignored.
        seed: of the order.
    """

    n_images: int | None
    per_subfolder: int | None
    seed: int


def choose(files: Sequence[str], choice: Choice, folder: Path) -> list[str]:
    """The chosen files in the order of the probe set.

    They are ordered by a hash of the seed and the path: the same order on every machine, in which a smaller choice is
    the beginning of a larger one. With `per_subfolder` the k-th files of all subfolders come before the k+1-th.

    Args:
        files: from `list_images`; not changed.
        choice: how many.
        folder: for error messages.

    Raises:
        ProbeError: there are fewer than requested.
    """
    if not files:
        raise ProbeError(f"the folder {folder} has no images", f"looked for {', '.join(SUFFIXES)}")
    ordered = sorted(files, key=lambda file: (_rank(file, choice.seed), file))
    if choice.per_subfolder is not None:
        groups: dict[str, list[str]] = {}
        for file in ordered:
            groups.setdefault(file.partition("/")[0] if "/" in file else ".", []).append(file)
        short = sorted((len(group), name) for name, group in groups.items() if len(group) < choice.per_subfolder)
        if short:
            listed = ", ".join(f"{name} has {count}" for count, name in short[:3]) + (", ..." if len(short) > 3 else "")
            raise ProbeError(
                f"{len(short)} of the {len(groups)} subfolders of {folder} have fewer than {choice.per_subfolder} "
                f"images: {listed}",
                f"ask for {short[0][0]} per subfolder",
            )
        turns = {file: turn for group in groups.values() for turn, file in enumerate(group)}
        ordered = sorted((file for file in ordered if turns[file] < choice.per_subfolder), key=lambda file: turns[file])
    if choice.n_images is not None and len(ordered) < choice.n_images:
        supply = f"{folder} has {len(ordered)} images"
        if choice.per_subfolder is not None:
            supply = f"{choice.per_subfolder} from each subfolder of {folder} are {len(ordered)} images"
        raise ProbeError(f"{supply}, fewer than the {choice.n_images} requested", f"ask for {len(ordered)} or fewer")
    return ordered[: choice.n_images]


def _rank(file: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:".encode() + os.fsencode(file)).digest()
