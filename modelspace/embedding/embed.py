"""The embedding pass: probe images through a model, attribution maps and kernels out, quantised as they come.

One forward and one backward per batch serve every space that shares the probe images (`modelspace.attribution.engine`
says which methods and scalars need more). Nothing but the codes is kept from one batch to the next, and for spaces of geometry
at most `modelspace.representations.kernels.MOST` numbers per image, so that memory hardly grows with the number of images. The
centred energy alone needs a forward pass over all images first, for the mean of T.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelspace.errors import EmbeddingError, UsageError
from modelspace.representations import kernels
from modelspace.representations.maps import MapBlock, MapWriter, whole_block
from modelspace.types import Preprocessing, SpaceSpec

if TYPE_CHECKING:
    import torch

    from modelspace.attribution.engine import Wanted
    from modelspace.encoder.layers import Tap

#: Called with (images done, images in all).
Progress = Callable[[int, int], None]

DEFAULT_BATCH_SIZE = 16


@dataclass(frozen=True)
class Embedding:
    """What one pass yields.

    Attributes:
        blocks: for each space id the model's quantised maps, or the block with its kernel.
        output_shape: of T for one image, without the batch axis.
        seconds: wall time of the pass.
    """

    blocks: dict[str, list[MapBlock]]
    output_shape: tuple[int, ...]
    seconds: float


def pick_device(name: str = "auto") -> torch.device:
    """The torch device of a name: "auto" (CUDA, else Apple's MPS, else CPU), "cpu", "cuda", "cuda:1", "mps".

    Raises:
        UsageError: not a device, or not there.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{name!r} is not a device", "use `device=` auto, cpu, cuda, cuda:N or mps") from error
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in there:
        raise UsageError(f"device {name!r} is not supported", "use `device=` auto, cpu, cuda, cuda:N or mps")
    if (device.index or 0) >= there[device.type]:
        raise UsageError(f"this machine has no device {name!r}", "use `device='auto'`")
    return device


def to_canvas(maps: torch.Tensor, canvas: int) -> torch.Tensor:
    """Attribution in input space to unit maps on the canvas.

    Args:
        maps: (B, C, H, W), any sign, covering the whole image (`modelspace.probes.preprocess.on_image`).
        canvas: side S of the canvas in pixels.

    Returns:
        (B, S, S) float32: averaged over channels (Song et al. 2019), resized by area averaging where the canvas is
        smaller than the map and bilinearly where it is larger. Scaled to unit norm per image; a zero map stays zero.
    """
    import torch.nn.functional as F

    plane = maps.mean(dim=1, keepdim=True).float()
    height, width = plane.shape[-2:]
    if (height, width) != (canvas, canvas):
        if canvas <= min(height, width):
            plane = F.adaptive_avg_pool2d(plane, canvas)
        else:
            plane = F.interpolate(plane, size=(canvas, canvas), mode="bilinear", align_corners=False, antialias=True)
    # Gradients of a sum over many elements can be far from 1 in size, and squares of them leave float32's range.
    plane = plane / plane.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-38)
    norm = plane.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
    return (plane / norm.clamp_min(1e-38)).squeeze(1)


def embed(
    tap: Tap,
    preprocessing: Preprocessing,
    images: Iterable[np.ndarray],
    spaces: Sequence[SpaceSpec],
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> Embedding:
    """Embed one model in several spaces that share their probe images.

    Args:
        tap: the tapped model, on `device`, frozen (`modelspace.attribution.engine.frozen`).
        preprocessing: from probe image to input.
        images: batches (b, side, side, 3) uint8, at least as many images as the largest space needs. A space of the
            centred energy goes over them twice, so that an iterator will not do.
        spaces: the spaces to fill, no blends; a method may appear in several (scalar, parameters, canvas, bits, images).
        device: where the model is.
        progress: told after every batch.

    Raises:
        EmbeddingError: a gradient that is zero, not finite or not defined; names the images. Nothing was stored.
    """
    from modelspace.attribution.engine import check_independent, check_target, explain, mean_output
    from modelspace.probes.preprocess import on_image, to_input

    started = time.perf_counter()
    total = max(space.n_images for space in spaces)
    shown = [space for space in spaces if space.kind == "maps"]
    kinds = {space.space_id: _wanted(space) for space in shown}
    writers = {space.space_id: MapWriter(space.canvas, space.bits) for space in shown}
    features = _Features(space.n_images for space in spaces if space.kind == "geometry")
    centres: dict[int, torch.Tensor] = {}
    for count in sorted({kind.images for kind in kinds.values()} - {0}):
        if iter(images) is images:
            raise UsageError("a space of the centred energy goes over the images twice", "give a list, no iterator")
        centres[count] = mean_output(tap, (to_input(batch, preprocessing, device) for batch in _first(images, count)))
    done = 0
    output_shape: tuple[int, ...] = ()
    for batch in _first(images, total):
        x = to_input(batch, preprocessing, device)
        if done == 0:
            if shown:
                check_target(tap, x[:2], constant=any(kind.scalar == "sum" for kind in kinds.values()))
            else:
                check_independent(tap, x[:2])
        wanted = [space for space in shown if space.n_images > done]
        try:
            maps, output = explain(tap, x, tuple(dict.fromkeys(kinds[space.space_id] for space in wanted)), centres)
        except EmbeddingError as error:
            error.message = f"probe images {done} to {done + len(batch) - 1}: {error.message}"
            raise
        output_shape = tuple(output.shape[1:])
        features.take(output)
        planes: dict[tuple[Any, int], np.ndarray] = {}
        for space in wanted:
            key = (kinds[space.space_id], space.canvas)
            if key not in planes:
                # Crops are undone first, so that the same place of two models' maps is the same place of the image.
                whole = on_image(maps[key[0]], preprocessing, (batch.shape[1], batch.shape[2]))
                planes[key] = to_canvas(whole, space.canvas).cpu().numpy()
                _refuse_empty(planes[key], space, done)
            writers[space.space_id].write(planes[key][: space.n_images - done])
        done += len(batch)
        if progress:
            progress(done, total)
    if done < total:
        raise UsageError(f"the probe set has {done} images, but the space needs {total}")
    blocks = {space_id: writer.close() for space_id, writer in writers.items()}
    for space in spaces:
        if space.kind == "geometry":
            blocks[space.space_id] = features.block(space)
    return Embedding(blocks, output_shape, time.perf_counter() - started)


class _Features:
    """The table of T, collected batch by batch up to the largest number of images that a space of geometry uses."""

    def __init__(self, counts: Iterable[int]) -> None:
        self._most = max(counts, default=0)
        self._rows: list[np.ndarray] = []

    def take(self, output: torch.Tensor) -> None:
        if sum(map(len, self._rows)) < self._most:
            self._rows.append(kernels.reduced(output).cpu().numpy())

    def block(self, space: SpaceSpec) -> list[MapBlock]:
        table = np.concatenate(self._rows)[: space.n_images]
        return whole_block(kernels.kernel(space.method, table).astype(np.float32), space.bits)


def _first(images: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The first images of the batches."""
    for batch in images:
        if count <= 0:
            return
        yield batch[:count]
        count -= len(batch)


def _wanted(space: SpaceSpec) -> Wanted:
    from modelspace.attribution.engine import Wanted

    return Wanted.of(space.method, space.parameters, space.scalar, space.n_images)


def _refuse_empty(planes: np.ndarray, space: SpaceSpec, first: int) -> None:
    empty = np.flatnonzero(~np.any(planes, axis=(1, 2)))
    if len(empty):
        raise EmbeddingError(
            f"the {space.method} map of probe image {first + int(empty[0])} is zero"
            + (f", and of {len(empty) - 1} more of its batch" if len(empty) > 1 else ""),
            "its cosine with other maps is not defined: tap another `layer=`; `space.layers(model)` lists them",
        )
