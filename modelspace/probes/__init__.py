"""Probe sets: the unlabelled images that every model of a space is run on.

Four worlds rendered on the fly from a seed, crops of photographs that other packages include, and folders of images.
Importing this package imports neither torch nor Pillow.

    >>> sorted(KINDS)
    ['folder', 'photographs', 'repainted', 'rooms', 'streets', 'yards']
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
    "repainted",
    "rooms",
    "streets",
    "yards",
]


def rooms(n_images: int = 200, size: int = 128, seed: int = 0) -> ProbeSet:
    """The probe set of rendered rooms. It needs no files; image k depends only on the seed and on k.

    Args:
        n_images: number of images; not part of the fingerprint, since a longer set begins with the shorter one.
        size: side of the images in pixels, 16 to 4096.
        seed: 0 or more.

    Raises:
        UsageError: an argument is out of range.
    """
    from modelspace.probes import rendered

    return rendered.describe("rooms", n_images, size, seed)


def yards(n_images: int = 200, size: int = 128, seed: int = 0) -> ProbeSet:
    """The probe set of rendered yards, an outdoor world: like `rooms`, in another style.

    Args:
        n_images: number of images; not part of the fingerprint, since a longer set begins with the shorter one.
        size: side of the images in pixels, 16 to 4096.
        seed: 0 or more.

    Raises:
        UsageError: an argument is out of range.
    """
    from modelspace.probes import rendered

    return rendered.describe("yards", n_images, size, seed)


def streets(n_images: int = 200, size: int = 128, seed: int = 0) -> ProbeSet:
    """The probe set of rendered streets, a third world: like `rooms`, in another style.

    Args:
        n_images: number of images; not part of the fingerprint, since a longer set begins with the shorter one.
        size: side of the images in pixels, 16 to 4096.
        seed: 0 or more.

    Raises:
        UsageError: an argument is out of range.
    """
    from modelspace.probes import rendered

    return rendered.describe("streets", n_images, size, seed)


def repainted(n_images: int = 200, size: int = 128, seed: int = 0) -> ProbeSet:
    """The probe set of repainted rooms: like `rooms`, in any colours and textures, by other lights.

    Args:
        n_images: number of images; not part of the fingerprint, since a longer set begins with the shorter one.
        size: side of the images in pixels, 16 to 4096.
        seed: 0 or more.

    Raises:
        UsageError: an argument is out of range.
    """
    from modelspace.probes import rendered

    return rendered.describe("repainted", n_images, size, seed)


def photographs(n_images: int = 200, size: int = 128, seed: int = 0) -> tuple[ProbeSet, np.ndarray]:
    """Square crops of the photographs that scikit-learn and scikit-image include (the extra `photographs`).

    The photographs take turns. The side and position of each crop are drawn from the seed and its index alone, so a
    longer set begins with the shorter one. Crops with low contrast are redrawn. Nothing is downloaded.

    Args:
        n_images: number of crops.
        size: side of the images in pixels, 16 to 4096.
        seed: 0 or more.

    Returns:
        The set, and its images (N, size, size, 3) uint8 RGB. The fingerprint is that of these pixels. `spec` holds the
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
    """Choose images from a folder and its subfolders, and read them.

    Images are turned upright, cropped to the central square and resized. PNG, JPEG and WebP files are found by their
    suffix; hidden files are skipped, links are followed. The choice and its order depend on the seed and on the paths
    inside the folder, not on the file system; a larger choice with the same seed begins with the smaller one.

    Args:
        path: the folder.
        name: of the set; default: the folder's name.
        n_images: number of images to take; default: all (or `per_subfolder` of each).
        per_subfolder: number of images to take from each immediate subfolder with images, and from the folder itself if
            it also has images. The subfolders take turns, so that the first images are spread over all of them.
        seed: 0 or more.
        size: side of the resulting images in pixels, 1 to 4096.

    Returns:
        The set, and its images (N, size, size, 3) uint8 RGB. The fingerprint is that of these pixels. `spec` holds the
        arguments, "files" (paths inside the folder, in order) and "duplicates" (the number of images with the same
        pixels as an earlier one).

    Raises:
        ProbeError: there are no images, or fewer than requested; or an image can't be read, or is too large to be read
            safely (named).
        UsageError: an argument is out of range.
    """
    from modelspace.probes import pictures

    return pictures.read_folder(
        Path(path), name=name, n_images=n_images, per_subfolder=per_subfolder, seed=seed, size=size
    )


def batches(probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int, batch: int) -> Iterator[np.ndarray]:
    """Images first .. first + count - 1 of a set, in batches.

    Args:
        probe_set: the set.
        images: (N, size, size, 3) uint8, all images of the set, if they are stored; None for the kinds in `RENDERED`,
            whose images are rendered on demand, so that memory does not grow with their number.
        first: index of the first image.
        count: number of images.
        batch: images per batch, at least 1.

    Yields:
        (b, size, size, 3) uint8 RGB; b is `batch`, or fewer in the last batch.

    Raises:
        ProbeError: the set has no such images, or this version can't render them.
        UsageError: an argument is out of range.
    """
    if first < 0 or count < 0 or batch < 1:
        raise UsageError(f"can't make batches of {batch} from {count} images starting at image {first}")
    kind = kind_of(probe_set)
    kind.check(probe_set, images, first, count)
    return (
        kind.take(probe_set, images, start, min(batch, first + count - start))
        for start in range(first, first + count, batch)
    )


def encode_png(image: np.ndarray) -> bytes:
    """An image (H, W, 3) uint8 RGB as the bytes of a PNG file. Lossless.

    Raises:
        UsageError: not such an array.
    """
    from modelspace.probes import decoding

    return decoding.encode_png(image)


def decode_png(data: bytes) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB in the bytes that `encode_png` made.

    Raises:
        DamagedError: the bytes are something else.
    """
    from modelspace.probes import decoding

    return decoding.decode_png(data)
