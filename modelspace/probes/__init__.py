"""Probe sets: the unlabelled images that every model of a space is shown.

Two worlds that are rendered on the fly from a seed, crops of photographs that come with other packages, and a folder of
images. Importing this package imports neither torch nor Pillow.

    >>> sorted(KINDS)
    ['folder', 'photographs', 'rooms', 'yards']
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from modelspace.errors import UsageError
from modelspace.probes.base import ProbeSet, fingerprint
from modelspace.probes.kinds import BUILT_IN, KINDS, RENDERED, kind_of

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "BUILT_IN",
    "KINDS",
    "RENDERED",
    "ProbeSet",
    "batches",
    "decode_png",
    "encode_png",
    "fingerprint",
    "folder",
    "kind_of",
    "photographs",
    "rooms",
    "yards",
]


def rooms(n_images: int = 200, size: int = 128, seed: int = 0) -> ProbeSet:
    """The probe set of rendered rooms: no files, image k depends on the seed and on k alone.

    Args:
        n_images: how many images the set has; not part of its fingerprint, since a longer set begins with the shorter.
        size: side of the images in pixels, 16 to 4096.
        seed: 0 or more.

    Raises:
        UsageError: an argument is out of range.
    """
    from modelspace.probes import rendered

    return rendered.describe("rooms", n_images, size, seed)


def yards(n_images: int = 200, size: int = 128, seed: int = 0) -> ProbeSet:
    """The probe set of rendered yards, an open-air world: like `rooms`, in another style.

    Args:
        n_images: how many images the set has; not part of its fingerprint, since a longer set begins with the shorter.
        size: side of the images in pixels, 16 to 4096.
        seed: 0 or more.

    Raises:
        UsageError: an argument is out of range.
    """
    from modelspace.probes import rendered

    return rendered.describe("yards", n_images, size, seed)


def photographs(n_images: int = 200, size: int = 128, seed: int = 0) -> tuple[ProbeSet, np.ndarray]:
    """Square crops of the photographs that scikit-learn and scikit-image carry (the extra `photographs`).

    The photographs take turns; each crop has its own side and place, drawn from the seed and its number alone, so that the
    first images of a longer set are the shorter one. Crops without contrast are drawn again. Nothing is downloaded.

    Args:
        n_images: how many crops.
        size: side of the images in pixels, 16 to 4096.
        seed: 0 or more.

    Returns:
        The set, and its images (N, size, size, 3) uint8 RGB. The fingerprint is of these pixels. `spec` holds the
        arguments, "crops" (file, left edge, upper edge and side of each image), "licences" and "duplicates".

    Raises:
        ProbeError: one of the two packages is not installed, or lacks a photograph.
        UsageError: an argument is out of range.
    """
    from modelspace.probes import crops

    return crops.make(n_images, size, seed)


def folder(
    path: str | Path,
    *,
    name: str | None = None,
    n_images: int | None = None,
    per_subfolder: int | None = None,
    seed: int = 0,
    size: int = 256,
) -> tuple[ProbeSet, np.ndarray]:
    """Choose images from a folder and its subfolders, and read them: turned upright, cropped to the central square,
    resized.

    PNG, JPEG and WebP files are found by their suffix, hidden ones are passed over, links are followed. What is chosen,
    and in which order, depends on the seed and on the paths inside the folder, not on the file system; the first images
    of a larger choice are the smaller choice with the same seed.

    Args:
        path: the folder.
        name: of the set; default: the folder's.
        n_images: how many to take; default: all (or `per_subfolder` of each).
        per_subfolder: take so many from each immediate subfolder that has images, and from the folder itself where it
            has any beside its subfolders. The subfolders take turns, so that the first images are spread over all.
        seed: 0 or more.
        size: side of the resulting images in pixels, 1 to 4096.

    Returns:
        The set, and its images (N, size, size, 3) uint8 RGB. The fingerprint is of these pixels. `spec` holds the
        arguments, "files" (paths inside the folder, in order) and "duplicates" (how many images have the same pixels as
        an earlier one).

    Raises:
        ProbeError: no images, fewer than asked for, an image that can't be read or is too large to be read safely; the
            message names it.
        UsageError: an argument is out of range.
    """
    from modelspace.probes import pictures

    return pictures.read_folder(
        Path(path), name=name, n_images=n_images, per_subfolder=per_subfolder, seed=seed, size=size
    )


def batches(probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int, batch: int) -> Iterator[np.ndarray]:
    """The images first .. first + count - 1 of a set, a few at a time.

    Args:
        probe_set: the set.
        images: (N, size, size, 3) uint8, all images of the set, where they are stored; None for the kinds in `RENDERED`,
            whose images are made as they are asked for, so that memory does not grow with their number.
        first: index of the first image.
        count: how many images in all.
        batch: how many at a time, at least 1.

    Yields:
        (b, size, size, 3) uint8 RGB; b is `batch`, and less at the end.

    Raises:
        ProbeError: the set has no such images, or can't be made again by this version.
        UsageError: an argument is out of range.
    """
    if first < 0 or count < 0 or batch < 1:
        raise UsageError(f"no batches of {batch} images can be made from image {first} on, {count} in all")
    kind = kind_of(probe_set)
    kind.check(probe_set, images, first, count)
    return (
        kind.take(probe_set, images, start, min(batch, first + count - start))
        for start in range(first, first + count, batch)
    )


def encode_png(image: np.ndarray) -> bytes:
    """An image (H, W, 3) uint8 RGB as the bytes of a PNG file. Lossless.

    Raises:
        UsageError: not such an image.
    """
    from modelspace.probes import decoding

    return decoding.encode_png(image)


def decode_png(data: bytes) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB in the bytes that `encode_png` made.

    Raises:
        DamagedError: something else.
    """
    from modelspace.probes import decoding

    return decoding.decode_png(data)
