"""Probe sets whose pixels are stored, and reading them from a folder, one image at a time, at the final size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modelspace.errors import ProbeError, UsageError
from modelspace.names import check_name, to_name
from modelspace.probes.base import MAX_SIZE, ProbeSet, check_range, fingerprint_of_hashes, pixel_hash
from modelspace.probes.decoding import read_square
from modelspace.probes.listing import Choice, choose, list_images

#: All images of a set are in memory while it is registered.
MAX_BYTES = 4 * 2**30


def read_folder(
    path: Path, *, name: str | None, n_images: int | None, per_subfolder: int | None, seed: int, size: int
) -> tuple[ProbeSet, np.ndarray]:
    """See `modelspace.probes.folder`."""
    check_range("number of images", n_images, 1)
    check_range("number of images per subfolder", per_subfolder, 1)
    check_range("seed", seed, 0)
    check_range("image size", size, 1, MAX_SIZE)
    name = check_name(name, "probe set") if name is not None else to_name(path.resolve().name) or "folder"
    chosen = choose(list_images(path), Choice(n_images, per_subfolder, seed), path)
    if (needed := len(chosen) * size * size * 3) > MAX_BYTES:
        raise ProbeError(
            f"{len(chosen)} images of {size} x {size} pixels take {needed / 2**30:.1f} GiB of memory, "
            f"more than the limit of {MAX_BYTES / 2**30:.0f} GiB",
            f"a few hundred suffice; ask for {MAX_BYTES // (size * size * 3)} or fewer",
        )
    images = np.empty((len(chosen), size, size, 3), dtype=np.uint8)
    hashes = []
    for row, file in enumerate(chosen):
        images[row] = read_square(path / file, size)
        hashes.append(pixel_hash(images[row]))
    spec = {
        "kind": "folder",
        "path": _printable(str(path)),
        "n_images": n_images,
        "per_subfolder": per_subfolder,
        "seed": seed,
        "size": size,
        "files": [_printable(file) for file in chosen],
        "duplicates": len(hashes) - len(set(hashes)),
    }
    return ProbeSet(name, "folder", spec, len(chosen), size, fingerprint_of_hashes(hashes, size)), images


def check(probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int) -> None:
    """Make sure that `images` are those of the set; the caller stores them."""
    if images is None:
        raise UsageError(f"the images of probe set {probe_set.name!r} are not rendered: pass their pixels")
    expected = (probe_set.n_images, probe_set.size, probe_set.size, 3)
    if images.shape != expected or images.dtype != np.uint8:
        raise ProbeError(
            f"probe set {probe_set.name!r} has images of {expected} uint8, not {images.shape} {images.dtype}"
        )
    if first + count > probe_set.n_images:
        raise ProbeError(
            f"probe set {probe_set.name!r} has {probe_set.n_images} images, fewer than the {first + count} requested"
        )


def take(probe_set: ProbeSet, images: np.ndarray, first: int, count: int) -> np.ndarray:
    """(count, size, size, 3) uint8."""
    return images[first : first + count]


def _printable(text: str) -> str:
    """A valid string for any file name, since file names need not be valid text."""
    return text.encode("utf-8", "backslashreplace").decode()
