"""What of an embedding pass is kept for a space: attribution maps, or the features that a kernel is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import EmbeddingError
from modelspace.representations import kernels
from modelspace.representations.maps import MapBlock, MapWriter, whole_block
from modelspace.types import SpaceSpec

if TYPE_CHECKING:
    from modelspace.attribution.engine import MapRequest


class PassBatch(Protocol):
    """One batch of probe images after it went through a model.

    Attributes:
        first: number of its first image.
    """

    first: int

    def maps(self, request: MapRequest, canvas: int) -> NDArray[np.float32]:
        """Unit maps on the canvas, (b, canvas, canvas); a map that is zero stays zero."""
        ...

    def features(self) -> NDArray[np.float32]:
        """The encoder output with at most `kernels.MOST` numbers per image, (b, d)."""
        ...


class Collector(ABC):
    """Takes its part of every batch, up to the number of images of its space."""

    def __init__(self, spec: SpaceSpec) -> None:
        self.spec = spec

    def is_full(self, first: int) -> bool:
        """Whether the images from number `first` on are none of its space's."""
        return first >= self.spec.n_images

    @property
    def request(self) -> MapRequest | None:
        """The attribution map that it needs of every image, if any."""
        return None

    @abstractmethod
    def take(self, batch: PassBatch) -> None:
        """Keep what the space needs of a batch."""

    @abstractmethod
    def blocks(self) -> list[MapBlock]:
        """What is stored of the model, after the last batch."""


class MapCollector(Collector):
    """Attribution maps, quantised as they come."""

    def __init__(self, spec: SpaceSpec) -> None:
        super().__init__(spec)
        self._writer = MapWriter(spec.canvas, spec.bits)

    @property
    def request(self) -> MapRequest:
        from modelspace.attribution.engine import MapRequest

        spec = self.spec
        return MapRequest.of(spec.method, spec.parameters, spec.scalar, spec.n_images)

    def take(self, batch: PassBatch) -> None:
        planes = batch.maps(self.request, self.spec.canvas)
        empty = np.flatnonzero(~np.any(planes, axis=(1, 2)))
        if len(empty):
            raise EmbeddingError(
                f"the {self.spec.method} map of probe image {batch.first + int(empty[0])} is zero"
                + (f", and of {len(empty) - 1} more of its batch" if len(empty) > 1 else ""),
                "its cosine with other maps is not defined: tap another `layer=`; `space.layers(model)` lists them",
            )
        self._writer.write(planes[: self.spec.n_images - batch.first])

    def blocks(self) -> list[MapBlock]:
        return self._writer.close()


class KernelCollector(Collector):
    """The table of the encoder output, of which the kernel is made at the end."""

    def __init__(self, spec: SpaceSpec) -> None:
        super().__init__(spec)
        self._features: list[NDArray[np.float32]] = []

    def take(self, batch: PassBatch) -> None:
        # The same array serves all spaces of kernels: nothing is copied.
        self._features.append(batch.features())

    def blocks(self) -> list[MapBlock]:
        table = np.concatenate(self._features)[: self.spec.n_images]
        kernel = kernels.kernel(self.spec.method, table)
        if self.spec.parameters.get(kernels.LAYOUT) == kernels.TRIANGLE:
            return [kernels.to_block(kernel, self.spec.bits)]
        return whole_block(kernel.astype(np.float32), self.spec.bits)
