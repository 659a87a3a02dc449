"""Rendered probe images kept between runs, since rendering costs more than a small model's pass.

A cache and no more: deleting it costs time alone, and where it can't be written nothing is said. Files hold `CHUNK` images
each, compressed; a zip's checksums notice a damaged file, which is then rendered again.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

#: Images per file. Image k lies in file k // CHUNK, whatever part of the set is asked for.
CHUNK = 16

VARIABLE = "MODELSPACE_CACHE"


def folder() -> Path | None:
    """MODELSPACE_CACHE (set but empty: keep nothing), else `modelspace` in XDG_CACHE_HOME, else in ~/.cache."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelspace"


def images(
    key: str, first: int, count: int, shape: tuple[int, int, int], render: Callable[[int, int], np.ndarray]
) -> np.ndarray:
    """Images first .. first + count - 1 of a rendered set.

    Args:
        key: names the set: renderer version, seed, size.
        shape: (side, side, 3) of one image.
        render: (first, count) -> (count, side, side, 3) uint8.

    Returns:
        (count, side, side, 3) uint8.
    """
    place = folder()
    if place is None:
        return render(first, count)
    parts = []
    for chunk in range(first // CHUNK, (first + count - 1) // CHUNK + 1):
        start = chunk * CHUNK
        whole = _chunk(place / f"{key}-{start}.npz", start, shape, render)
        parts.append(whole[max(first - start, 0) : first + count - start])
    return np.concatenate(parts)


def _chunk(file: Path, start: int, shape: tuple[int, int, int], render: Callable[[int, int], np.ndarray]) -> np.ndarray:
    try:
        with np.load(file, allow_pickle=False) as stored:
            found: np.ndarray = stored["images"]
        if found.shape == (CHUNK, *shape) and found.dtype == np.uint8:
            return found
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        pass
    made = render(start, CHUNK)
    _keep(file, made)
    return made


def _keep(file: Path, made: np.ndarray) -> None:
    """Written beside and renamed, so that another process never reads half a file."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as out:
                np.savez_compressed(out, images=made)
            os.replace(temporary, file)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        pass
