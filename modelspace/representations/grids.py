"""Features on a grid of places: what a model's encoder says about each part of a probe image.

A readout works on the encoder's grid: it predicts the labels of a place from the features there and around it. So a
space of grids keeps, for each probe image, the encoder output T resampled to `SIDE` x `SIDE` cells that cover the whole
image, with its channels reduced to at most `CHANNELS` by their principal components over all cells of all images.
Features keep their own scale, except for one factor per model: nothing is standardised, as weak channels carry little.
A T without places, such as a pooled vector, says the same of every cell.

The affinity of two models is the linear CKA (Kornblith et al., ICML 2019) of their features with cells as samples.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import EmbeddingError
from modelspace.representations import maps
from modelspace.representations.maps import MapBlock

if TYPE_CHECKING:
    import torch

#: Cells per side of the grid, and channels kept.
SIDE, CHANNELS = 8, 16

#: T of more channels is first reduced to as many by a count sketch (Charikar et al., ICALP 2002).
MOST_CHANNELS = 2048

#: Tokens that may come before those of the places: class, distillation and register tokens.
_PREFIX = 8

#: Steps and surplus columns of the subspace iteration for principal components (Halko, Martinsson & Tropp 2011).
_STEPS, _SURPLUS = 4, 8

Array = NDArray[np.float64]


def on_grid(
    output: torch.Tensor, resized: tuple[int, int], origin: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.float32]:
    """T on the grid, in the frame of the whole probe image.

    Cells that the model did not see, since its input is a crop, have the features of the nearest ones that it saw.

    Args:
        output: T of a batch: channels and places (B, C, h, w) or, where the last dimension alone differs, (B, h, w, C);
            tokens (B, L, D), of which the last are those of the places if their number is a square up to a few tokens
            at the front; or anything else, which says the same of every cell.
        resized: (height, width) of the whole image, in pixels of the resized image.
        origin: (top, left) of the model's input in it; negative where a border was added.
        size: (height, width) of the model's input.

    Returns:
        (B, SIDE², C) float32, C at most `MOST_CHANNELS`.
    """
    values = _fewer_channels(_places(output.detach().float())).cpu().numpy()
    batch, channels, height, width = values.shape
    if (height, width) == (1, 1):
        return np.broadcast_to(values.reshape(batch, 1, channels), (batch, SIDE * SIDE, channels))
    rows = overlaps(height, resized[0], origin[0], size[0])
    columns = overlaps(width, resized[1], origin[1], size[1])
    grid: NDArray[np.float32] = np.einsum("ih,bchw,jw->bijc", rows, values, columns, optimize=True)
    return grid.reshape(batch, SIDE * SIDE, channels).astype(np.float32)


@lru_cache(maxsize=64)
def overlaps(cells: int, whole: int, start: int, length: int) -> NDArray[np.float32]:
    """The shares of the model's cells in each cell of the grid, along one dimension: (SIDE, cells), rows sum to 1.

    >>> overlaps(4, 64, 0, 64).argmax(axis=1).tolist()
    [0, 0, 1, 1, 2, 2, 3, 3]

    Args:
        cells: number of the model's cells along its input.
        whole: pixels of the resized image.
        start: pixel of it at which the input begins.
        length: pixels of the input.
    """
    edges = start + np.arange(cells + 1) * (length / cells)
    borders = np.arange(SIDE + 1) * (whole / SIDE)
    # A cell beyond the first or last of the model's is that one.
    low, high = np.clip(borders[:-1], edges[0], edges[-1]), np.clip(borders[1:], edges[0], edges[-1])
    shares = np.minimum(high[:, None], edges[None, 1:]) - np.maximum(low[:, None], edges[None, :-1])
    shares = np.clip(shares, 0.0, None)
    outside = shares.sum(axis=1) <= 1e-9 * length
    shares[outside & (borders[1:] <= edges[0] + 1e-9), 0] = 1.0
    shares[outside & (borders[:-1] >= edges[-1] - 1e-9), -1] = 1.0
    normalised: NDArray[np.float32] = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def _places(values: torch.Tensor) -> torch.Tensor:
    """T as (B, C, h, w); h and w are 1 where it has no places."""
    if values.dim() == 4:
        _, first, second, third = values.shape
        return values.permute(0, 3, 1, 2) if first == second != third else values
    if values.dim() == 3:
        length = values.shape[1]
        side = math.isqrt(length)
        if side > 1 and length - side * side <= _PREFIX:
            tokens = values[:, length - side * side :]
            return tokens.transpose(1, 2).reshape(len(values), -1, side, side)
    return values.flatten(1)[:, :, None, None]


def _fewer_channels(values: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) with at most `MOST_CHANNELS` channels: random signs, added up in random groups."""
    import torch

    channels = values.shape[1]
    if channels <= MOST_CHANNELS:
        return values
    generator = torch.Generator().manual_seed(0)
    bucket = torch.randint(MOST_CHANNELS, (channels,), generator=generator).to(values.device)
    sign = (torch.randint(0, 2, (channels,), generator=generator) * 2 - 1).to(values)
    sketch = values.new_zeros(len(values), MOST_CHANNELS, *values.shape[2:])
    return sketch.index_add_(1, bucket, values * sign[:, None, None])


def grid(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """The grid that is stored of a model.

    Args:
        cells: (N, SIDE², C) from `on_grid`, of all probe images.

    Returns:
        (N, SIDE², CHANNELS) float32: principal components, centred over all cells of all images; channels that the
        model does not have are zero. Scaled so that the mean squared norm of a cell is 1.

    Raises:
        EmbeddingError: not finite, or the same for every cell of every image.
    """
    n, places, channels = cells.shape
    if not np.isfinite(cells).all():
        raise EmbeddingError(
            "the encoder output is not finite for some probe images", "check weights and preprocessing"
        )
    same_everywhere = channels > 1 and bool((cells == cells[:, :1]).all())
    table = (cells[:, :1] if same_everywhere else cells).reshape(-1, channels)
    largest = float(np.abs(table).max(initial=0.0))
    table = table / np.float32(largest) if largest > 0 else table  # squares must stay in the range of float32
    table = table - table.mean(axis=0, dtype=np.float64).astype(np.float32)
    if channels > CHANNELS:
        table = _principal(table, CHANNELS)
    power = float(np.einsum("ij,ij->", table, table, dtype=np.float64)) / len(table)
    if not power > 1e-12:
        raise EmbeddingError("the encoder output is the same for every probe image", "tap another layer with `layer=`")
    out = np.zeros((n, places, CHANNELS), dtype=np.float32)
    out[:, :, : table.shape[1]] = (table / np.sqrt(power)).reshape(n, -1, table.shape[1])
    return out


def _principal(table: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """A centred table (rows, C) in its first principal components, (rows, count), by subspace iteration."""
    start = np.random.default_rng(0).standard_normal((table.shape[1], min(count + _SURPLUS, table.shape[1])))
    basis = start.astype(np.float32)
    for _ in range(_STEPS):
        basis, _ = np.linalg.qr(table.T @ (table @ basis))
    scores = (table @ basis).astype(np.float64)
    _, directions = np.linalg.eigh(scores.T @ scores)
    directions = directions[:, ::-1][:, :count]
    # The sign of a component is arbitrary: here its largest weight is positive, so that two passes agree.
    weights = basis @ directions.astype(np.float32)
    largest = np.abs(weights).argmax(axis=0)
    components: NDArray[np.float32] = table @ (weights * np.sign(weights[largest, np.arange(weights.shape[1])]))
    return components


def to_block(values: NDArray[np.float32], bits: int) -> MapBlock:
    """A grid as stored: one block, quantised uniformly between the minimum and maximum of each image.

    Args:
        values: (N, SIDE², CHANNELS) float32, finite.
        bits: one of `modelspace.types.BITS`.
    """
    rows = np.ascontiguousarray(values, dtype="<f4").reshape(len(values), -1)
    scales = np.stack([rows.min(axis=1), rows.max(axis=1)], axis=1).astype("<f4")
    if bits == 32:
        return MapBlock(0, len(rows), rows.tobytes(), scales.tobytes())
    low, step = _ranges(scales, bits)
    levels = np.clip(np.rint((rows - low) / step), 0, (1 << bits) - 1)
    if bits >= 8:
        codes = levels.astype("<u2" if bits == 16 else np.uint8).tobytes()
    else:
        codes = maps.pack(levels.astype(np.uint8), bits).tobytes()
    return MapBlock(0, len(rows), codes, scales.tobytes())


def from_block(block: MapBlock, bits: int) -> NDArray[np.float32]:
    """The grid in a block from `to_block`: (N, SIDE², CHANNELS) float32."""
    n, count = block.n_images, SIDE * SIDE * CHANNELS
    if bits == 32:
        values = np.frombuffer(block.codes, dtype="<f4").astype(np.float32)
        return values.reshape(n, SIDE * SIDE, CHANNELS)
    scales = np.frombuffer(block.scales, dtype="<f4").reshape(n, 2)
    codes = np.frombuffer(block.codes, dtype="<u2" if bits == 16 else np.uint8).reshape(n, -1)
    levels = codes if bits >= 8 else _nibbles(codes) if bits == 4 else maps.unpack(codes, bits, count)
    low, step = _ranges(scales, bits)
    values = (levels * step + low).astype(np.float32)
    return values.reshape(n, SIDE * SIDE, CHANNELS)


def _nibbles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`maps.unpack` of 4 bits, without a detour over single bits."""
    levels = np.empty((len(codes), 2 * codes.shape[1]), dtype=np.uint8)
    levels[:, 0::2] = codes & 15
    levels[:, 1::2] = codes >> 4
    return levels


def _ranges(scales: np.ndarray, bits: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lower end of each image's range, and the step between two levels: (n, 1) float32 each."""
    low, high = scales[:, :1].astype(np.float32), scales[:, 1:].astype(np.float32)
    step = np.where(high > low, (high - low) / np.float32((1 << bits) - 1), np.float32(1.0))
    return low, step.astype(np.float32)
