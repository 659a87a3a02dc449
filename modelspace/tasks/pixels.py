"""The images of a task as arrays: decoded when they are needed, kept while they fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelspace.probes.decoding import read_whole
from modelspace.tasks.data import LabelledImages

#: Bytes of decoded images that are kept: a search shows the same hundred images to every model.
KEPT = 256 * 2**20


class Pixels:
    """Images by their number, (height, width, 3) uint8 RGB each, upright and whole."""

    def __init__(self, images: LabelledImages, kept: int = KEPT) -> None:
        self._images = images
        self._room = kept
        self._arrays: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> np.ndarray:
        """An image.

        Raises:
            ProbeError: the file is gone or damaged; names it.
        """
        known = self._arrays.get(number)
        if known is not None:
            return known
        array = read_whole(self._images.files[number])
        if array.nbytes <= self._room:
            self._room -= array.nbytes
            self._arrays[number] = array
        return array

    def take(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """Several images, in this order."""
        return [self[number] for number in numbers]
