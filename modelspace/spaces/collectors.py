"""What a space keeps of an embedding pass: attribution maps, or the features that a kernel is computed from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import NoGradientError
from modelspace.representations import grids, kernels, planes
from modelspace.representations.maps import MapBlock, MapWriter, whole_block
from modelspace.representations.planes import Form
from modelspace.types import SpaceSpec

if TYPE_CHECKING:
    from modelspace.attribution.engine import MapRequest


class PassBatch(Protocol):
    """One batch of probe images after its pass through a model.

    Attributes:
        first: index of its first image.
    """

    first: int

    def maps(self, request: MapRequest, canvas: int, form: Form = Form()) -> NDArray[np.float32]:
        """Maps on the canvas, not centred, of unit norm unless zero or the form keeps their scale.

        (b, canvas, canvas), or (b, 3, canvas, canvas) if the form keeps the channels.
        """
        ...

    def features(self) -> NDArray[np.float32]:
        """The encoder output, pooled to at most `kernels.MOST` numbers per image: (b, d)."""
        ...

    def grid(self) -> NDArray[np.float32]:
        """The encoder output on the grid of the probe images: (b, SIDE², C); see `grids.on_grid`."""
        ...


class Collector(ABC):
    """Keeps what its space needs of each batch, up to the space's number of images."""

    def __init__(self, spec: SpaceSpec) -> None:
        self.spec = spec

    def is_full(self, first: int) -> bool:
        """Whether the space has no image from index `first` on."""
        return first >= self.spec.n_images

    @property
    def request(self) -> MapRequest | None:
        """The attribution map that it needs of each image, if any."""
        return None

    @abstractmethod
    def take(self, batch: PassBatch) -> None:
        """Keep what the space needs of this batch."""

    @abstractmethod
    def blocks(self) -> list[MapBlock]:
        """The blocks to store for the model; called after the last batch."""


class MapCollector(Collector):
    """Collects attribution maps, quantising each batch.

    Only where the mean map over the images is subtracted are the unrounded maps held until all are known.
    """

    def __init__(self, spec: SpaceSpec) -> None:
        super().__init__(spec)
        self._form = Form.of(spec.parameters)
        self._writer = MapWriter(spec.canvas, spec.bits, self._form.per_block(spec.canvas, spec.bits, spec.n_images))
        self._held: list[NDArray[np.float32]] = []

    @property
    def request(self) -> MapRequest:
        """The map of the space's method and scalar."""
        from modelspace.attribution.engine import MapRequest

        spec = self.spec
        own = {name: value for name, value in spec.parameters.items() if name not in planes.NAMES}
        return MapRequest.of(spec.method, own, spec.scalar, spec.n_images)

    def take(self, batch: PassBatch) -> None:
        """Quantise the batch's maps.

        Raises:
            NoGradientError: a map is zero.
        """
        attributions = batch.maps(self.request, self.spec.canvas, self._form)[: self.spec.n_images - batch.first]
        if self._form.centring == planes.MEAN_MAP:
            self._refuse_zero(attributions, batch.first)
            self._held.append(attributions)
        else:
            self._write(planes.centred(attributions, self._form), batch.first)

    def _write(self, attributions: NDArray[np.float32], first: int) -> None:
        self._refuse_zero(attributions, first)
        self._writer.write(attributions)

    def _refuse_zero(self, attributions: NDArray[np.float32], first: int) -> None:
        empty = np.flatnonzero(~np.any(attributions.reshape(len(attributions), -1), axis=1))
        if len(empty):
            raise NoGradientError(
                f"the {self.spec.method} map of probe image {first + int(empty[0])} is zero"
                + (f", and so are {len(empty) - 1} more in its batch" if len(empty) > 1 else ""),
                "its cosine with other maps is undefined: tap another `layer=`; `space.layers(model)` lists them",
            )

    def blocks(self) -> list[MapBlock]:
        """The quantised maps."""
        if self._held:
            self._write(planes.centred(np.concatenate(self._held), self._form), 0)
            self._held.clear()
        return self._writer.close()


class KernelCollector(Collector):
    """Collects the encoder output, from which the kernel is computed at the end."""

    def __init__(self, spec: SpaceSpec) -> None:
        super().__init__(spec)
        self._features: list[NDArray[np.float32]] = []

    def take(self, batch: PassBatch) -> None:
        """Keep the batch's features."""
        # All kernel spaces share this array: nothing is copied.
        self._features.append(batch.features())

    def blocks(self) -> list[MapBlock]:
        """The kernel, as one block."""
        table = np.concatenate(self._features)[: self.spec.n_images]
        kernel = kernels.kernel(self.spec.method, table)
        if self.spec.parameters.get(kernels.LAYOUT) == kernels.TRIANGLE:
            return [kernels.to_block(kernel, self.spec.bits)]
        return whole_block(kernel.astype(np.float32), self.spec.bits)


class GridCollector(Collector):
    """Collects the encoder output on the grid, whose principal components are computed at the end."""

    def __init__(self, spec: SpaceSpec) -> None:
        super().__init__(spec)
        self._cells: list[NDArray[np.float32]] = []

    def take(self, batch: PassBatch) -> None:
        """Keep the batch's features."""
        self._cells.append(batch.grid()[: self.spec.n_images - batch.first])

    def blocks(self) -> list[MapBlock]:
        """The grid, as one block."""
        return [grids.to_block(grids.grid(np.concatenate(self._cells)), self.spec.bits)]
