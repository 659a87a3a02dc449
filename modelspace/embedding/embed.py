"""The embedding pass: from probe images and a model to attribution maps and kernels, quantised batch by batch.

One forward and one backward pass per batch serve every space with the same probe images
(`modelspace.attribution.engine` lists the methods and scalars that need more). From one batch to the next only the
codes are kept, and for kernel spaces at most `modelspace.representations.kernels.MOST` values per image, so memory
hardly grows with the number of images. Only the centred energy first needs a forward pass over all images, for the mean
of T.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from modelspace.embedding.ahead import ahead
from modelspace.errors import EmbeddingError, UsageError
from modelspace.representations import grids, kernels, planes
from modelspace.representations.maps import MapBlock
from modelspace.representations.planes import Form
from modelspace.spaces.kinds import space_of
from modelspace.timing import phase
from modelspace.types import Preprocessing, SpaceSpec

if TYPE_CHECKING:
    import torch

    from modelspace.attribution.engine import MapRequest
    from modelspace.encoder.layers import Tap

T = TypeVar("T")

#: Called with (images done, total images).
Progress = Callable[[int, int], None]

DEFAULT_BATCH_SIZE = 16

#: The fewest images that are run at once. Libraries compute a single image by other algorithms, whose sums differ in
#: the last bits; where a ReLU is undecided within rounding, its gradient then jumps, and with it the map.
LEAST_BATCH_SIZE = 2


@dataclass(frozen=True)
class Embedding:
    """The result of one pass.

    Attributes:
        blocks: space id -> the model's quantised maps, or the block with its kernel.
        output_shape: of T for one image, without the batch axis.
        seconds: wall time of the pass.
        notes: for the user.
    """

    blocks: dict[str, list[MapBlock]]
    output_shape: tuple[int, ...]
    seconds: float
    notes: tuple[str, ...] = ()


def pick_device(name: str = "auto") -> torch.device:
    """The torch device of a name: "auto" (CUDA, else Apple's MPS, else CPU), "cpu", "cuda", "cuda:1", "mps".

    Raises:
        UsageError: not a device, or not available.
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
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in available:
        raise UsageError(f"device {name!r} is not supported", "use `device=` auto, cpu, cuda, cuda:N or mps")
    if (device.index or 0) >= available[device.type]:
        raise UsageError(f"this machine has no device {name!r}", "use `device='auto'`")
    return device


def to_canvas(maps: torch.Tensor, canvas: int, form: Form = Form()) -> torch.Tensor:
    """Unit maps on the canvas from attributions in input space.

    Args:
        maps: (B, C, H, W), any sign, covering the whole image (`modelspace.probes.preprocess.on_image`).
        canvas: side S of the canvas in pixels.
        form: how channels become one, and what smooths them; nothing is centred here.

    Returns:
        (B, S, S) float32: averaged over channels (Song et al. 2019) unless the form says otherwise, or (B, 3, S, S) if
        it keeps them; resized by area averaging where the canvas is smaller than the map and bilinearly where it is
        larger. Scaled to unit norm per image unless the form keeps their scale; a zero map stays zero.
    """
    import torch.nn.functional as F

    plane = _smoothed(_planes(maps, form.channels), form.smoothing)
    height, width = plane.shape[-2:]
    if (height, width) != (canvas, canvas):
        if canvas <= min(height, width):
            plane = F.adaptive_avg_pool2d(plane, canvas)
        else:
            plane = F.interpolate(plane, size=(canvas, canvas), mode="bilinear", align_corners=False, antialias=True)
    if form.scale == planes.IMAGE:
        # Gradients of a sum over many elements can be far from 1 in size, and squares of them leave float32's range.
        plane = plane / plane.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-38)
        plane = plane / plane.square().sum(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(1e-38)
    return plane if form.n_planes > 1 else plane.squeeze(1)


def _planes(maps: torch.Tensor, channels: str) -> torch.Tensor:
    """(B, C, H, W) -> (B, 1 or 3, H, W) float32; a map of one channel stands for three equal ones."""
    if channels == planes.EACH:
        return maps.expand(-1, 3, -1, -1).float()
    if channels == planes.NORM:
        # Scaled first, since squares of small gradients leave float32's range.
        size = maps.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-38)
        return (maps / size).square().sum(dim=1, keepdim=True).sqrt().float()
    return (maps.abs() if channels == planes.ABSOLUTE else maps).mean(dim=1, keepdim=True).float()


def _smoothed(plane: torch.Tensor, share: float) -> torch.Tensor:
    """(B, P, H, W) after a Gaussian whose σ is this share of each side; the border is continued outwards."""
    import torch
    import torch.nn.functional as F

    if not share:
        return plane
    for axis in (2, 3):
        weights = torch.from_numpy(planes.gaussian(share * plane.shape[axis])).to(plane)
        reach, n_planes = len(weights) // 2, plane.shape[1]
        padding, shape = ([0, 0, reach, reach], (-1, 1)) if axis == 2 else ([reach, reach, 0, 0], (1, -1))
        kernel = weights.reshape(1, 1, *shape).expand(n_planes, -1, -1, -1)
        plane = F.conv2d(F.pad(plane, padding, mode="replicate"), kernel, groups=n_planes)
    return plane


class Batch:
    """One batch of probe images and what the model computed for it; see `spaces.collectors.PassBatch`."""

    def __init__(
        self,
        first: int,
        image_size: tuple[int, int],
        attribution: Mapping[MapRequest, torch.Tensor],
        output: torch.Tensor,
        preprocessing: Preprocessing,
    ) -> None:
        self.first = first
        self._image_size = image_size
        self._attribution = attribution
        self._output = output
        self._preprocessing = preprocessing
        self._maps: dict[tuple[MapRequest, int, Form], np.ndarray] = {}
        self._features: np.ndarray | None = None
        self._grid: np.ndarray | None = None

    def maps(self, request: MapRequest, canvas: int, form: Form = Form()) -> np.ndarray:
        """Maps on the canvas (`to_canvas`), in the probe image's frame; computed once."""
        from modelspace.probes.preprocess import on_image

        key = (request, canvas, form)
        if key not in self._maps:
            # Crops are undone first, so that a position in two models' maps is the same position in the image.
            whole = on_image(self._attribution[request], self._preprocessing, self._image_size)
            self._maps[key] = to_canvas(whole, canvas, form).cpu().numpy()
        return self._maps[key]

    def features(self) -> np.ndarray:
        """The encoder output reduced to at most `kernels.MOST` numbers per image, (b, d) float32; computed once."""
        if self._features is None:
            self._features = kernels.reduced(self._output).cpu().numpy()
        return self._features

    def grid(self) -> np.ndarray:
        """The encoder output on the grid of the probe images, (b, SIDE², C) float32; computed once."""
        if self._grid is None:
            placed = self._preprocessing.placement(self._image_size)
            origin, size = (placed.top, placed.left), self._preprocessing.input_size
            self._grid = grids.on_grid(self._output, placed.resized, origin, size)
        return self._grid


def embed(
    tap: Tap,
    preprocessing: Preprocessing,
    images: Iterable[np.ndarray],
    spaces: Sequence[SpaceSpec],
    *,
    device: torch.device,
    progress: Progress | None = None,
    passes: int = 1,
    check: bool = True,
    on_first_batch: Callable[[float, int], None] | None = None,
) -> Embedding:
    """Embed one model in several spaces that use the same probe images.

    Args:
        tap: the tapped model, on `device`, frozen (`modelspace.attribution.engine.frozen`).
        preprocessing: how probe images become the model's input.
        images: batches (b, side, side, 3) uint8, in all at least the number of images of the largest space. A space of
            the centred energy reads them twice and so needs a list, not an iterator.
        spaces: the spaces to fill, none of them derived; several may have the same method (with another scalar,
            parameters, canvas, bits or number of images).
        device: the device of the model.
        progress: called after each batch.
        passes: for a model with a random forward pass: the number of passes whose maps and outputs are averaged for
            each image; the random numbers depend only on the indices of the image and the pass.
        check: whether the model is first checked on two images (`modelspace.embedding.checks`); needed once per model.
        on_first_batch: called after the first batch with the seconds per image that it took, without the check, and its
            number of images; may raise, which ends the pass.

    Raises:
        EmbeddingError: a gradient is zero, not finite or undefined; names the images. Nothing is stored.
    """
    started = time.perf_counter()
    total = max(spec.n_images for spec in spaces)
    collectors = {spec.space_id: collector for spec in spaces if (collector := space_of(spec).collector())}
    requests = [collector.request for collector in collectors.values() if collector.request]
    if passes > 1 and any(request.images for request in requests):
        raise UsageError("a space of the centred energy can't average random passes", "leave `stochastic=` out")
    memory = _Memory(tap.module)
    centres = _centres(tap, preprocessing, images, requests, device, memory)
    done = 0
    output_shape: tuple[int, ...] = ()
    first = _FirstImages()
    with closing(_inputs(images, total, preprocessing, device)) as batches:
        for pixels, plain in batches:
            if done == 0 and passes == 1:
                first = _seen(tap, plain[:2], preprocessing, requests, check)
            x = first.in_order(plain)
            batch_started = time.perf_counter()
            open_collectors = [collector for collector in collectors.values() if not collector.is_full(done)]
            batch_requests = tuple(
                dict.fromkeys(collector.request for collector in open_collectors if collector.request)
            )
            try:
                attribution, output = memory.explained(tap, x, batch_requests, centres, passes, done)
            except EmbeddingError as error:
                error.message = f"probe images {done} to {done + len(pixels) - 1}: {error.message}"
                raise
            output_shape = tuple(output.shape[1:])
            batch = Batch(done, (pixels.shape[1], pixels.shape[2]), attribution, output, preprocessing)
            for collector in open_collectors:
                collector.take(batch)
            done += len(pixels)
            if progress:
                progress(done, total)
            if on_first_batch and done == len(pixels):
                on_first_batch((time.perf_counter() - batch_started) / done, done)
    if done < total:
        raise UsageError(f"the probe set has {done} images, but the space needs {total}")
    blocks = {space_id: collector.blocks() for space_id, collector in collectors.items()}
    return Embedding(blocks, output_shape, time.perf_counter() - started, (*first.notes, *memory.notes()))


@dataclass(frozen=True)
class _FirstImages:
    """What the first two images show of a model: notes, and whether it runs with channels last in memory."""

    notes: tuple[str, ...] = ()
    is_channels_last: bool = False

    def in_order(self, x: torch.Tensor) -> torch.Tensor:
        """The batch in the order in memory that the model runs in."""
        from modelspace.embedding.memory_layout import channels_last

        return channels_last(x) if self.is_channels_last else x


def _seen(
    tap: Tap, x: torch.Tensor, preprocessing: Preprocessing, requests: Sequence[MapRequest], check: bool
) -> _FirstImages:
    """Check a model on its first two images, and choose its order in memory; `check` is as for `embed`.

    Without the check no gradient is known and T is compared: the check of the model's first pass compared gradients.
    """
    from modelspace.embedding.checks import Checked, check_model
    from modelspace.embedding.memory_layout import prefers_channels_last

    with phase("checks"):
        checked = check_model(tap, x, requests) if check else Checked()
        return _FirstImages(checked.notes, prefers_channels_last(tap, x, preprocessing, checked.gradient))


def _inputs(
    images: Iterable[np.ndarray], count: int, preprocessing: Preprocessing, device: torch.device
) -> Generator[tuple[np.ndarray, torch.Tensor], None, None]:
    """Batches of the first `count` images and the model's input for them, on its device; prepared ahead of use."""
    import torch

    from modelspace.probes.preprocess import to_input

    def prepare(pixels: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        x = to_input(pixels, preprocessing)
        if device.type != "cuda":
            return pixels, x
        # Copies from pinned memory need not wait for the device. Without its number, torch would pin for device 0.
        with torch.cuda.device(device):
            return pixels, x.pin_memory()

    with closing(ahead(_first(images, count), prepare)) as batches:
        for pixels, x in batches:
            yield pixels, x.to(device, non_blocking=device.type == "cuda")


def outputs(tap: Tap, x: torch.Tensor, passes: int = 1, first: int = 0) -> torch.Tensor:
    """T of a batch, (B, ...), detached, without a backward pass; the mean over the passes of a random model.

    Args:
        tap: as for `embed`.
        x: (B, C, H, W), preprocessed.
        passes: as for `embed`.
        first: index of the first image, on which random numbers depend.

    Raises:
        EmbeddingError: the model fails, or T is not finite.
    """
    return _Memory(tap.module).explained(tap, x, (), {}, passes, first)[1]


class _Memory:
    """The number of images that fit into memory at once; it shrinks when memory runs out.

    Attributes:
        size: the number; None: more than any batch so far.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.size: int | None = None
        self._fixed = getattr(module, "modelspace_batch", None) is not None

    def explained(
        self,
        tap: Tap,
        x: torch.Tensor,
        requests: tuple[MapRequest, ...],
        centres: Mapping[int, torch.Tensor],
        passes: int,
        first: int,
    ) -> tuple[dict[MapRequest, torch.Tensor], torch.Tensor]:
        """Attribution maps and T of a batch, whose first image has the index `first`.

        The images are run a power of two at a time, the last of an odd number with a copy of itself where two fit, so
        that an image has the same map in batches of any size. Random passes are not: each of theirs has one image
        anyway.

        Raises:
            EmbeddingError: memory runs out for a single image; also as `modelspace.attribution.engine.attribute`.
        """
        import torch

        from modelspace.encoder.batches import filled

        count = len(x)
        if passes == 1 and not self._fixed and self.size != 1:
            x = filled(x, count + count % LEAST_BATCH_SIZE)
        size = max(count, LEAST_BATCH_SIZE)  # no more at once than the caller allows
        parts = self.run(lambda part, offset: _explained(tap, part, requests, centres, passes, first + offset), x, size)
        if len(parts) == 1 and len(x) == count:
            return parts[0]
        joined = {request: torch.cat([maps[request] for maps, _ in parts])[:count] for request in requests}
        return joined, torch.cat([output for _, output in parts])[:count]

    def run(self, run: Callable[[torch.Tensor, int], T], x: torch.Tensor, most: int | None = None) -> list[T]:
        """Results of the parts of a batch, of at most `most` images (`modelspace.attribution.memory.in_parts`).

        Raises:
            EmbeddingError: memory runs out for a single image.
        """
        from modelspace.attribution.memory import in_parts, is_out_of_memory

        size = self.size or most or len(x)
        try:
            parts, fits = in_parts(run, x, size, in_powers=not self._fixed)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise EmbeddingError(
                f"memory ran out for {'a single image' if not self._fixed else 'the only batch size of the model'}",
                "free memory, use another `device=`, or a smaller `preprocessing={'input_size': 224}`",
            ) from error
        if fits < size:
            self.size = fits
        return parts

    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        if self.size is None:
            return ()
        ran = f"memory ran out, so the images were run {self.size} at a time"
        return (ran if self.size < LEAST_BATCH_SIZE else f"{ran}; `batch_size={self.size}` does so from the start",)


def _explained(
    tap: Tap,
    x: torch.Tensor,
    requests: tuple[MapRequest, ...],
    centres: Mapping[int, torch.Tensor],
    passes: int,
    first: int,
) -> tuple[dict[MapRequest, torch.Tensor], torch.Tensor]:
    """Attribution maps and T of a batch; `first` is the index of its first image."""
    import torch

    from modelspace.attribution.engine import explain

    if passes == 1:
        return explain(tap, x, requests, centres)
    images = []
    for k in range(len(x)):
        draws = []
        for number in range(passes):
            with seeded(passes * (first + k) + number, x.device):
                draws.append(explain(tap, x[k : k + 1], requests, centres))
        mean = {request: torch.stack([maps[request] for maps, _ in draws]).mean(0) for request in requests}
        images.append((mean, torch.stack([output for _, output in draws]).mean(0)))
    joined = {request: torch.cat([maps[request] for maps, _ in images]) for request in requests}
    return joined, torch.cat([output for _, output in images])


def _centres(
    tap: Tap,
    preprocessing: Preprocessing,
    images: Iterable[np.ndarray],
    requests: Iterable[MapRequest],
    device: torch.device,
    memory: _Memory,
) -> dict[int, torch.Tensor]:
    """Number of images -> the mean of T over them, which the centred energy subtracts; a forward pass for each."""
    from modelspace.attribution.engine import mean_output

    centres: dict[int, torch.Tensor] = {}
    for count in sorted({request.images for request in requests} - {0}):
        if iter(images) is images:
            raise UsageError("a space of the centred energy reads the images twice", "pass a list, not an iterator")
        with closing(_inputs(images, count, preprocessing, device)) as batches:
            centres[count] = mean_output(tap, (x for _, x in batches), memory.run)
    return centres


def _first(images: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The first `count` images of the batches."""
    for batch in images:
        yield batch[:count]
        count -= len(batch)
        if count <= 0:
            return


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch, numpy and Python, and restore their random states afterwards."""
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
