"""Which files of a folder become probe images, and in which order. Nothing is opened here."""

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
    """Paths of the image files in a folder and below, relative to it, with '/' between the parts, sorted.

    Names that begin with a dot are passed over. Links are followed; a folder that is reached twice is listed once, so a
    link that leads back up does no harm.

    Raises:
        ProbeError: the folder, or one below it, is not there or can't be read.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        place = folder / inside
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except NotADirectoryError as error:
            raise ProbeError(f"{place} is a file, not a folder of images", "give the folder that it lies in") from error
        except FileNotFoundError as error:
            raise ProbeError(
                f"there is no folder {place}", "give a folder of images, or 'rooms', 'yards', 'photographs'"
            ) from error
        except OSError as error:
            raise ProbeError(f"the folder {place} can't be read: {error.strerror}") from error
        for entry in ordered:
            if entry.name.startswith("."):
                continue
            relative = f"{inside}/{entry.name}" if inside else entry.name
            kind = _kind(entry)
            if kind == stat.S_IFDIR:
                waiting.append(relative)
            elif kind == stat.S_IFREG and entry.name.lower().endswith(SUFFIXES):
                found.append(relative)
        waiting.sort(reverse=True)
    return sorted(found)


def _kind(entry: os.DirEntry[str]) -> int:
    """The kind of file, of a link's target. What can't be told counts as a file, so that reading it tells why."""
    try:
        return stat.S_IFMT(entry.stat().st_mode)
    except OSError:
        return stat.S_IFREG


@dataclass(frozen=True)
class Choice:
    """How many images to take.

    Attributes:
        n_images: at most so many in all, and an error if there are fewer; None: all.
        per_subfolder: so many from each subfolder that has any; None: subfolders play no part.
        seed: of the order.
    """

    n_images: int | None
    per_subfolder: int | None
    seed: int


def choose(files: Sequence[str], choice: Choice, folder: Path) -> list[str]:
    """The chosen files in the order of the probe set.

    The order is that of a hash of the seed and the path, which is the same everywhere and makes every choice the beginning
    of the larger one. With `per_subfolder` the k-th files of all subfolders come before the k+1-th.

    Args:
        files: from `list_images`, not changed.
        choice: how many.
        folder: for the errors.

    Raises:
        ProbeError: there are fewer than asked for.
    """
    if not files:
        raise ProbeError(f"the folder {folder} has no images", f"it is searched for {', '.join(SUFFIXES)}")
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
        what = f"{folder} has {len(ordered)} images"
        if choice.per_subfolder is not None:
            what = f"{choice.per_subfolder} from each subfolder of {folder} are {len(ordered)} images"
        raise ProbeError(f"{what}, fewer than the {choice.n_images} asked for", f"ask for {len(ordered)} or fewer")
    return ordered[: choice.n_images]


def _rank(file: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:".encode() + os.fsencode(file)).digest()
