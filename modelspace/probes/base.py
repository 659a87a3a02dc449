"""What a probe set is, and how it is told from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelspace.errors import UsageError
from modelspace.types import canonical_json

if TYPE_CHECKING:
    import numpy as np

MAX_SIZE = 4096

#: Of a set that needs no files, where nothing else is asked for.
DEFAULT_IMAGES, DEFAULT_SIZE = 200, 128


@dataclass(frozen=True)
class ProbeSet:
    """A fixed, ordered set of images. Its pixels are not part of it (`modelspace.probes.batches` yields them).

    Attributes:
        name: what people call it; not part of its identity.
        kind: one of `modelspace.probes.KINDS`.
        spec: what it was made with; JSON can hold it.
        n_images: how many images it has.
        size: side of its square images in pixels.
        probe_id: fingerprint, 16 hexadecimal digits. Equal for two sets whose images are equal one by one.
    """

    name: str
    kind: str
    spec: Mapping[str, Any] = field(hash=False)
    n_images: int
    size: int
    probe_id: str


def short_hash(value: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of a value that JSON can hold."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def fingerprint(images: Iterable[np.ndarray], size: int) -> str:
    """Fingerprint of a set of pictures.

    Args:
        images: (size, size, 3) uint8 each, in order.
        size: their side in pixels.

    Returns:
        16 hexadecimal digits, over the size and the hash of every image's pixels.
    """
    return fingerprint_of_hashes([pixel_hash(image) for image in images], size)


def pixel_hash(image: np.ndarray) -> str:
    """64 hexadecimal digits of an image's pixels, row by row."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def fingerprint_of_hashes(hashes: list[str], size: int) -> str:
    return short_hash({"kind": "folder", "size": size, "images": hashes})


def check_range(what: str, value: int | None, low: int, high: int | None = None) -> None:
    """Raise `UsageError` unless `value` is None or a whole number from `low` to `high`."""
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        limits = f"{low} or more" if high is None else f"{low} to {high}"
        raise UsageError(f"the {what} of a probe set can't be {value}", f"it is a whole number, {limits}")
