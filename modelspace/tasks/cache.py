"""Cache of features: what a model computed for the images of a task is not computed again, also after an interruption.

A model's features are kept under its identity (weights, code, layer, preprocessing, options) and the SHA-256 of each
image, so a second search on the same data, or on more of it, runs the model on new images only. Like the cache of probe
images, it can be deleted at any time, and if it can't be written, no error is raised.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modelspace.files import open_regular
from modelspace.names import file_name
from modelspace.probes.cache import DAMAGED, folder, store

_SUFFIX = ".npz"


class FeatureCache:
    """The features of one model for the images of one data set.

    Args:
        data: fingerprint of the data set.
        model: everything that the features depend on, as text.
        root: the folder of the cache; default: `modelspace.probes.cache.folder`; None there means no cache on disk.
    """

    def __init__(self, data: str, model: str, root: Path | None = None) -> None:
        root = root or folder()
        key = hashlib.sha256(model.encode()).hexdigest()[:32]
        self._folder = None if root is None else _folder_of(root, data) / key
        self._rows: dict[str, np.ndarray] = {}
        self._read()

    def missing(self, images: Sequence[str]) -> list[int]:
        """Positions of the images (SHA-256 each) whose features are not known."""
        return [place for place, digest in enumerate(images) if digest not in self._rows]

    def get(self, images: Sequence[str]) -> np.ndarray:
        """(n, d) float32 of known images.

        Raises:
            KeyError: an image is not known.
        """
        return np.stack([self._rows[digest] for digest in images])

    def put(self, images: Sequence[str], features: np.ndarray) -> None:
        """Keep the features of some images, (n, d), in a file of their own."""
        self._rows |= dict(zip(images, features, strict=True))
        if self._folder is None:
            return
        # The name tells the content, so two processes that compute the same write the same file.
        name = hashlib.sha256("".join(images).encode()).hexdigest()[:32]
        store(self._folder / f"{name}{_SUFFIX}", lambda out: np.savez(out, images=np.array(images), features=features))

    def _read(self) -> None:
        if self._folder is None or not self._folder.is_dir():
            return
        width: int | None = None
        for file in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                with open_regular(file) as stream, np.load(stream, allow_pickle=False) as stored:
                    names, features = stored["images"], stored["features"]
            except DAMAGED:
                continue  # damaged: computed again
            width = width or features.shape[-1]
            if features.ndim == 2 and features.shape == (len(names), width) and np.isfinite(features).all():
                self._rows |= {str(name): row for name, row in zip(names, features, strict=True)}


def forget(data: str) -> int:
    """Delete the features of all models for a data set (its fingerprint), and return the number of files deleted."""
    root = folder()
    count = 0
    if root is None or not data:
        return count
    with contextlib.suppress(OSError):
        for file in sorted(_folder_of(root, data).rglob("*"), reverse=True):
            if file.is_dir():
                file.rmdir()
            else:
                file.unlink()
                count += 1
        _folder_of(root, data).rmdir()
    return count


def _folder_of(root: Path, data: str) -> Path:
    """Where the features for a data set are; its fingerprint is what a registry file says, so it may be any text."""
    return root / "features" / file_name(data[:32])
