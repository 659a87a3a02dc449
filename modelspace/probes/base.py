"""What a probe set is, and the fingerprint that identifies it."""

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

#: Defaults of sets that need no files.
DEFAULT_IMAGES, DEFAULT_SIZE = 200, 128


@dataclass(frozen=True)
class ProbeSet:
    """A fixed, ordered set of images, without their pixels (`modelspace.probes.batches` yields those).

    Attributes:
        name: for people; not part of its identity.
        kind: one of `modelspace.probes.KINDS`.
        spec: the arguments that it was made with; JSON-serialisable.
        n_images: number of images.
        size: side of its square images in pixels.
        probe_id: fingerprint, 16 hexadecimal digits. Equal for two sets whose images are pairwise equal.
    """

    name: str
    kind: str
    spec: Mapping[str, Any] = field(hash=False)
    n_images: int
    size: int
    probe_id: str


def short_hash(value: Mapping[str, Any]) -> str:
    """Hash of a JSON-serialisable value, 16 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def fingerprint(images: Iterable[np.ndarray], size: int) -> str:
    """Fingerprint of a set of images.

    Args:
        images: (size, size, 3) uint8 each, in order.
        size: their side in pixels.

    Returns:
        16 hexadecimal digits, over the size and the hash of every image's pixels.
    """
    return fingerprint_of_hashes([pixel_hash(image) for image in images], size)


def pixel_hash(image: np.ndarray) -> str:
    """Hash of an image's pixels, row by row, 64 hexadecimal digits."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def fingerprint_of_hashes(hashes: list[str], size: int) -> str:
    """`fingerprint` from the `pixel_hash` of every image, in order."""
    return short_hash({"kind": "folder", "size": size, "images": hashes})


def check_range(what: str, value: int | None, low: int, high: int | None = None) -> None:
    """Raise `UsageError` unless `value` is None or an integer from `low` to `high`."""
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        limits = f"{low} or more" if high is None else f"{low} to {high}"
        raise UsageError(f"the {what} of a probe set can't be {value}", f"it is a whole number, {limits}")
