"""Cache of rendered probe images, since rendering costs more than a pass of a small model.

The cache can be deleted at any time, and if it can't be written, no error is raised. Each file holds `CHUNK` images,
compressed; the checksums of the zip format detect a damaged file, and its images are rendered again.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from modelspace.files import open_regular
from modelspace.names import file_name

#: Images per file. Image k is in file k // CHUNK, whichever images are requested.
CHUNK = 16

VARIABLE = "MODELSPACE_CACHE"

#: What reading a missing or damaged file of arrays raises.
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def folder() -> Path | None:
    """MODELSPACE_CACHE (set but empty: no cache), else `modelspace` in XDG_CACHE_HOME, else in ~/.cache."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelspace"


def images(
    key: str, first: int, count: int, shape: tuple[int, int, int], render: Callable[[int, int], np.ndarray]
) -> np.ndarray:
    """Images first .. first + count - 1 of a rendered set.

    Args:
        key: identifies the set: renderer version, seed, size.
        first: index of the first image.
        count: number of images.
        shape: (side, side, 3) of one image.
        render: (first, count) -> (count, side, side, 3) uint8.

    Returns:
        (count, side, side, 3) uint8.
    """
    directory = folder()
    if directory is None:
        return render(first, count)
    slices = []
    for chunk in range(first // CHUNK, (first + count - 1) // CHUNK + 1):
        start = chunk * CHUNK
        chunk_images = _chunk(directory / file_name(f"{key}-{start}", ".npz"), start, shape, render)
        slices.append(chunk_images[max(first - start, 0) : first + count - start])
    return np.concatenate(slices)


def _chunk(file: Path, start: int, shape: tuple[int, int, int], render: Callable[[int, int], np.ndarray]) -> np.ndarray:
    try:
        with open_regular(file) as stream, np.load(stream, allow_pickle=False) as stored:
            cached: np.ndarray = stored["images"]
        if cached.shape == (CHUNK, *shape) and cached.dtype == np.uint8:
            return cached
    except DAMAGED:
        pass
    rendered = render(start, CHUNK)
    store(file, lambda out: np.savez_compressed(out, images=rendered))
    return rendered


def store(file: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name and rename it, so that another process never reads a part of it.

    Args:
        file: of a cache; if it can't be written, no error is raised.
        write: writes the content.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as out:
                write(out)
            os.replace(temporary, file)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        pass
