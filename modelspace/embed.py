"""The embedding pass: probe images through a model, attribution maps out, quantised as they come.

One forward and one backward per batch serve every space that shares the probe images (`modelspace.attribution.engine`
says which methods need more). Nothing but the codes is kept from one batch to the next, so that memory does not grow
with the number of images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelspace.errors import EmbeddingError, UsageError
from modelspace.maps import MapBlock, MapWriter
from modelspace.types import Preprocessing, SpaceSpec

if TYPE_CHECKING:
    import torch

    from modelspace.layers import Tap

#: Called with (images done, images in all).
Progress = Callable[[int, int], None]

DEFAULT_BATCH_SIZE = 16


@dataclass(frozen=True)
class Embedding:
    """What one pass yields.

    Attributes:
        blocks: for each space id the model's quantised maps.
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
        raise UsageError(f"{name!r} is not a device", "use --device auto, cpu, cuda, cuda:N or mps") from error
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in there:
        raise UsageError(f"device {name!r} is not supported", "use --device auto, cpu, cuda, cuda:N or mps")
    if (device.index or 0) >= there[device.type]:
        raise UsageError(f"this machine has no device {name!r}", "use --device auto")
    return device


def to_canvas(maps: torch.Tensor, canvas: int) -> torch.Tensor:
    """Attribution in input space to unit maps on the canvas.

    Args:
        maps: (B, C, H, W), any sign.
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
        images: batches (b, side, side, 3) uint8, at least as many images as the largest space needs.
        spaces: the spaces to fill; a method may appear in several (canvas, bits, number of images).
        device: where the model is.
        progress: told after every batch.

    Raises:
        EmbeddingError: a gradient that is zero, not finite or not defined; names the images. Nothing was stored.
    """
    from modelspace.attribution.engine import attribute, check_target
    from modelspace.probes.preprocess import to_input

    started = time.perf_counter()
    parameters = _parameters(spaces)
    total = max(space.n_images for space in spaces)
    writers = {space.space_id: MapWriter(space.canvas, space.bits) for space in spaces}
    done = 0
    output_shape: tuple[int, ...] = ()
    for batch in images:
        batch = batch[: total - done]
        if not len(batch):
            break
        x = to_input(batch, preprocessing, device)
        if done == 0:
            check_target(tap, x[:2])
        wanted = [space for space in spaces if space.n_images > done]
        methods = tuple(dict.fromkeys(space.method for space in wanted))
        try:
            result = attribute(tap, x, methods, {method: parameters[method] for method in methods})
        except EmbeddingError as error:
            error.message = f"probe images {done} to {done + len(batch) - 1}: {error.message}"
            raise
        output_shape = tuple(result.output.shape[1:])
        planes: dict[tuple[str, int], np.ndarray] = {}
        for space in wanted:
            key = (space.method, space.canvas)
            if key not in planes:
                planes[key] = to_canvas(result.maps[space.method], space.canvas).cpu().numpy()
                _refuse_empty(planes[key], space, done)
            writers[space.space_id].write(planes[key][: space.n_images - done])
        done += len(batch)
        if progress:
            progress(done, total)
    if done < total:
        raise UsageError(f"the probe set has {done} images, but the space needs {total}")
    blocks = {space_id: writer.close() for space_id, writer in writers.items()}
    return Embedding(blocks, output_shape, time.perf_counter() - started)


def _parameters(spaces: Sequence[SpaceSpec]) -> dict[str, dict[str, Any]]:
    """Parameters by method; two spaces of one method with other parameters need a pass each."""
    parameters: dict[str, dict[str, Any]] = {}
    for space in spaces:
        given = dict(space.parameters)
        if parameters.setdefault(space.method, given) != given:
            raise UsageError(f"spaces of {space.method} with different parameters can't share a pass")
    return parameters


def _refuse_empty(planes: np.ndarray, space: SpaceSpec, first: int) -> None:
    empty = np.flatnonzero(~np.any(planes, axis=(1, 2)))
    if len(empty):
        raise EmbeddingError(
            f"the {space.method} map of probe image {first + int(empty[0])} is zero"
            + (f", and of {len(empty) - 1} more of its batch" if len(empty) > 1 else ""),
            "its cosine with other maps is not defined: tap another layer (--layer; 'modelspace layers URI' lists them)",
        )
