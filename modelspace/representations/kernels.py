"""Kernels of the encoder output: one kernel per model; the similarity of two models is an inner product.

The forward pass that attribution needs yields T for every probe image, and a table of T (images x features) shows which
images a model finds similar. Each function here turns such a table into a symmetric (N, N) matrix of Frobenius norm 1;
the inner product of two models' matrices is their similarity. So a space of kernels has exact coordinates and an index,
like a space of attribution maps. A kernel is stored as a packed triangle (`to_block`), in older spaces row by row
(`modelspace.representations.maps.whole_block`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import EmbeddingError, UsageError
from modelspace.representations import maps
from modelspace.representations.maps import MapBlock

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

#: T is reduced to at most `MOST` numbers per image, so that the table of a model stays small; images of channels are
#: first averaged over the cells of a grid of at most `GRID` x `GRID`.
MOST, GRID = 8192, 8

#: A parameter of kernel spaces, and its value if kernels are stored as packed triangles. Older spaces do not have it:
#: their kernels are stored row by row (`modelspace.representations.maps.whole_block`).
LAYOUT, TRIANGLE = "layout", "triangle"

#: The whole N x N kernel of a model is held in memory.
MAX_IMAGES = 4096

_CONSTANT = "the features are the same for every image, so the kernel is zero"


def reduced(output: torch.Tensor, most: int = MOST) -> torch.Tensor:
    """T with at most `most` numbers per image, (B, d) float32, detached; see `condensed`."""
    return condensed(output.detach(), most)


def condensed(output: torch.Tensor, most: int = MOST) -> torch.Tensor:
    """T with at most `most` numbers per image, (B, d) float32, through which gradients flow.

    A T that is small enough is flattened. A larger feature map (B, C, H, W) is averaged over the cells of the finest
    grid that fits, at most `GRID` x `GRID`; a larger T of tokens (B, L, D) over runs of neighbouring tokens. If the
    result is still too large, its elements get random signs and are added up in `most` random groups (count sketch,
    Charikar et al., ICALP 2002: inner products are preserved up to noise), the same for every model of that size.
    """
    import torch
    import torch.nn.functional as F

    values = output.float()
    if values[0].numel() > most and values.dim() == 4:
        side = max((n for n in range(1, GRID + 1) if values.shape[1] * n * n <= most), default=1)
        rows, columns = min(side, values.shape[2]), min(side, values.shape[3])
        values = F.adaptive_avg_pool2d(values, (rows, columns))
    elif values[0].numel() > most and values.dim() == 3:
        runs = max(1, min(most // values.shape[2], values.shape[1]))
        values = F.adaptive_avg_pool1d(values.transpose(1, 2), runs)
    values = values.flatten(1)
    if values.shape[1] > most:
        generator = torch.Generator().manual_seed(0)
        bucket = torch.randint(most, (values.shape[1],), generator=generator).to(values.device)
        sign = (torch.randint(0, 2, (values.shape[1],), generator=generator) * 2 - 1).to(values)
        values = values.new_zeros(len(values), most).index_add_(1, bucket, values * sign)
    return values


def linear_cka(table: Array) -> Array:
    """The linear kernel, centred: its inner products are linear CKA (Kornblith et al., ICML 2019, eq. 3 and 4)."""
    # Centring the features first keeps the kernel exact where a large common offset would swamp the differences.
    table = table - table.mean(axis=0)
    return unit(centred(table @ table.T))


def dds(table: Array) -> Array:
    """The cosine kernel of z-scored features, centred: duality diagram similarity (Dwivedi et al., ECCV 2020)."""
    rows = unit_rows(z_scored(table))
    return unit(centred(rows @ rows.T))


def rsa(table: Array) -> Array:
    """Ranks of 1 - Pearson's correlation of every two images, centred, zero on the diagonal.

    The inner product of two such matrices is Spearman's correlation of the upper triangles (Dwivedi & Roig, CVPR 2019).
    An image whose features are all equal has correlation 0 with every other image.
    """
    # Queries list the methods and must not wait for scipy.
    from scipy.stats import rankdata

    rows = unit_rows(table - table.mean(axis=1, keepdims=True))
    upper = np.triu_indices(len(rows), 1)
    ranks = rankdata(-(rows @ rows.T)[upper].round(12))
    matrix = np.zeros((len(rows), len(rows)))
    matrix[upper] = ranks - ranks.mean()
    return unit(matrix + matrix.T)


#: Method -> function from (N, d) float64 to (N, N), symmetric, of unit norm.
KERNELS: Mapping[str, Callable[[Array], Array]] = MappingProxyType({"dds": dds, "linear_cka": linear_cka, "rsa": rsa})

METHODS = tuple(KERNELS)

#: One line of description per method.
SUMMARIES: Mapping[str, str] = MappingProxyType(
    {
        "dds": "which images have similar encoder outputs: cosine kernel of z-scored features (duality diagram "
        "similarity)",
        "linear_cka": "the same with the linear kernel (centred kernel alignment)",
        "rsa": "the same by ranks of dissimilarities (representational similarity analysis)",
    }
)


def kernel(method: str, features: np.ndarray) -> Array:
    """The (N, N) kernel of one model.

    Args:
        method: one of `KERNELS`.
        features: (N, d), one row per probe image.

    Raises:
        EmbeddingError: the features are not finite, or the same for every image.
        UsageError: fewer than 3 or more than `MAX_IMAGES` images.
    """
    if not 3 <= len(features) <= MAX_IMAGES:
        raise UsageError(
            f"a space with method {method} can't have {len(features)} probe images",
            f"use 3 to {MAX_IMAGES}; a few hundred suffice",
        )
    table = np.asarray(features, dtype=np.float64)
    if not np.isfinite(table).all():
        raise EmbeddingError(
            "the encoder output is not finite for some probe images", "check weights and preprocessing"
        )
    try:
        return KERNELS[method](table)
    except UsageError as error:
        raise EmbeddingError(
            "the encoder output is the same for every probe image", "tap another layer with `layer=`"
        ) from error


def z_scored(table: Array) -> Array:
    """Features with mean 0 and standard deviation 1 over the images, without those that are constant over them."""
    spread = table.std(axis=0)
    # A feature that is the same for every image would turn into amplified rounding noise.
    varying = spread > 1e-12 * np.abs(table).max(axis=0, initial=0.0)
    z: Array = (table[:, varying] - table[:, varying].mean(axis=0)) / spread[varying]
    return z


def centred(gram: Array) -> Array:
    """A kernel matrix with the mean of every row and column subtracted: H K H."""
    rows: Array = gram.mean(axis=0, keepdims=True)
    matrix: Array = gram - rows - rows.T + gram.mean()
    return matrix


def unit_rows(table: Array) -> Array:
    """Rows scaled to norm 1; rows of zeros are unchanged."""
    norm = np.linalg.norm(table, axis=1, keepdims=True)
    rows: Array = np.divide(table, norm, out=np.zeros_like(table), where=norm > 0)
    return rows


def unit(matrix: Array) -> Array:
    """A matrix scaled to Frobenius norm 1.

    Raises:
        UsageError: the matrix is zero.
    """
    norm = np.linalg.norm(matrix)
    if not norm > 0:
        raise UsageError(_CONSTANT)
    scaled: Array = matrix / norm
    return scaled


def pack_triangle(kernel: np.ndarray) -> np.ndarray:
    """The stored part of a symmetric kernel: its diagonal, then the elements above it row by row.

    >>> pack_triangle(np.array([[1, 2, 3], [2, 4, 5], [3, 5, 6]]))
    array([1, 4, 6, 2, 3, 5])

    Args:
        kernel: (n, n), symmetric; elements below the diagonal are not read.

    Returns:
        (n (n + 1) / 2,), of the kernel's type: n elements of the diagonal, n - 1 of the first row, n - 2 of the second,
        ...

    Raises:
        UsageError: the kernel is not square, or empty.
    """
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not len(kernel):
        raise UsageError(f"a kernel is a square matrix, not of shape {kernel.shape}")
    return np.ascontiguousarray(kernel).take(_packed_places(len(kernel)))


def unpack_triangle(packed: np.ndarray) -> np.ndarray:
    """Inverse of `pack_triangle`: the symmetric (n, n) kernel, of the same type.

    >>> unpack_triangle(np.array([1, 4, 6, 2, 3, 5]))
    array([[1, 2, 3],
           [2, 4, 5],
           [3, 5, 6]])

    Raises:
        UsageError: no kernel has that many elements.
    """
    n = (math.isqrt(8 * packed.size + 1) - 1) // 2
    if packed.ndim != 1 or not n or n * (n + 1) // 2 != packed.size:
        raise UsageError(f"no kernel is packed in {packed.size} elements of shape {packed.shape}")
    kernel: np.ndarray = packed.take(_places(n))
    return kernel


def to_block(kernel: np.ndarray, bits: int) -> MapBlock:
    """A kernel as stored: its packed triangle, quantised uniformly between the minimum and maximum of each row.

    The diagonal has its own range, since it is much larger than the other elements.

    Args:
        kernel: (n, n), symmetric, finite.
        bits: one of `modelspace.types.BITS`.

    Returns:
        One block of n images. Its codes are those of the elements of `pack_triangle`, in the same order, packed like
        maps (`modelspace.representations.maps`). The first n - 1 of its n scales are those of the rows above the
        diagonal, the last is that of the diagonal.
    """
    packed = pack_triangle(np.asarray(kernel, dtype=np.float32))
    n = len(kernel)
    starts = np.concatenate([[0], n + np.concatenate([[0], np.cumsum(np.arange(n - 1, 1, -1))])]).astype(int)[
        : max(n, 1)
    ]
    low, high = np.minimum.reduceat(packed, starts), np.maximum.reduceat(packed, starts)
    scales = np.roll(np.stack([low, high], axis=1), -1, axis=0).astype("<f4")
    if bits == 32:
        return MapBlock(0, n, packed.astype("<f4").tobytes(), scales.tobytes())
    low, step = _ranges(scales, bits)
    levels = np.clip(np.rint((packed - low) / step), 0, (1 << bits) - 1)
    if bits >= 8:
        codes = levels.astype("<u2" if bits == 16 else np.uint8).tobytes()
    else:
        codes = maps.pack(levels.astype(np.uint8)[None], bits).tobytes()
    return MapBlock(0, n, codes, scales.tobytes())


def from_block(block: MapBlock, bits: int) -> Array:
    """The kernel in a block from `to_block`: (n, n), symmetric, float64."""
    return unpack_triangle(packed_triangle(block, bits))


def packed_triangle(block: MapBlock, bits: int) -> Array:
    """The packed triangle of the kernel in a block from `to_block`, float64; see `pack_triangle`."""
    if bits == 32:
        return np.frombuffer(block.codes, dtype="<f4").astype(np.float64)
    low, packed = _ranges(_scales(block), bits)
    packed *= _levels(block, bits)
    packed += low
    return packed


def rough_triangle(block: MapBlock, bits: int) -> NDArray[np.float32]:
    """`packed_triangle` up to a positive factor, float32, with elements of at most 1: in half of the time."""
    if bits == 32:
        packed = np.frombuffer(block.codes, dtype="<f4").astype(np.float64)
        return (packed / (np.abs(packed).max() or 1.0)).astype(np.float32)
    scales = _scales(block)
    low, step = _rows(scales, bits)
    factor = 1.0 / (float(np.abs(scales).max()) or 1.0)
    counts = _counts(len(low))
    rough: NDArray[np.float32] = (step * factor).astype(np.float32).repeat(counts)
    rough *= _levels(block, bits)
    rough += (low * factor).astype(np.float32).repeat(counts)
    return rough


def spread(n_images: int, count: int) -> slice:
    """About a number of the images, spread over all of them.

    >>> list(range(7)[spread(7, 3)])
    [0, 2, 4, 6]
    """
    return slice(None, None, max(1, n_images // count))


def rough_submatrices(blocks: Sequence[MapBlock], bits: int, chosen: slice) -> NDArray[np.float32]:
    """The kernels in blocks from `to_block`, of some of their images alone, each up to a positive factor.

    Args:
        blocks: n of the same number of images.
        bits: as for `to_block`.
        chosen: m of the images.

    Returns:
        (n, m, m) float32, with elements of at most 1.
    """
    n_images = blocks[0].n_images
    places = _places(n_images)[chosen, chosen]
    if bits == 32:
        parts = np.stack([np.frombuffer(block.codes, dtype="<f4").take(places) for block in blocks])
        largest = np.abs(parts).max(axis=(1, 2), keepdims=True)
        scaled: NDArray[np.float32] = (parts / np.where(largest > 0, largest, 1.0)).astype(np.float32)
        return scaled
    levels = np.stack([_levels(block, bits).take(places) for block in blocks])
    scales = np.stack([_scales(block) for block in blocks]).astype(np.float64)
    largest = np.abs(scales).max(axis=(1, 2), initial=0.0)
    scales /= np.where(largest > 0, largest, 1.0)[:, None, None]
    low, step = _rows(scales, bits)
    rows = _row_places(n_images)[chosen, chosen]
    kernels: NDArray[np.float32] = levels * step.astype(np.float32)[:, rows]
    kernels += low.astype(np.float32)[:, rows]
    return kernels


def _scales(block: MapBlock) -> np.ndarray:
    """The ranges of the rows above the diagonal, and of the diagonal: (n, 2)."""
    return np.frombuffer(block.scales, dtype="<f4").reshape(block.n_images, 2)


def _levels(block: MapBlock, bits: int) -> np.ndarray:
    """The codes of the elements of a packed triangle."""
    codes = np.frombuffer(block.codes, dtype="<u2" if bits == 16 else np.uint8)
    return codes if bits >= 8 else maps.unpack(codes[None], bits, block.n_images * (block.n_images + 1) // 2)[0]


@lru_cache(maxsize=8)
def _places(n: int) -> NDArray[np.int64]:
    """Where each element of an (n, n) kernel is in its packed triangle, (n, n)."""
    places = np.empty((n, n), dtype=np.int64)
    above = np.triu_indices(n, 1)
    places[above] = places.T[above] = np.arange(n, n * (n + 1) // 2)
    np.fill_diagonal(places, np.arange(n))
    return places


@lru_cache(maxsize=8)
def _row_places(n: int) -> NDArray[np.int64]:
    """Where the range of each element of an (n, n) kernel is in the result of `_rows`, (n, n)."""
    rows = 1 + np.minimum.outer(np.arange(n), np.arange(n))
    np.fill_diagonal(rows, 0)
    return rows


@lru_cache(maxsize=8)
def _packed_places(n: int) -> NDArray[np.intp]:
    """Where each element of a packed triangle is in an (n, n) kernel, row by row."""
    return np.concatenate([np.arange(n) * (n + 1), np.ravel_multi_index(np.triu_indices(n, 1), (n, n))])


def packed_bytes(n_images: int, bits: int) -> int:
    """Length of the codes of a packed kernel, in bytes."""
    return -(-n_images * (n_images + 1) // 2 * bits // 8)


def _ranges(scales: np.ndarray, bits: int) -> tuple[Array, Array]:
    """For each element of a packed triangle, the lower end of its range and the step between two levels."""
    low, step = _rows(scales, bits)
    counts = _counts(len(scales))
    return low.repeat(counts), step.repeat(counts)


def _rows(scales: np.ndarray, bits: int) -> tuple[Array, Array]:
    """The same for the diagonal and for each row above it, (..., n) each."""
    # The range of the diagonal, which is the first in a packed triangle, is the last.
    ordered = np.concatenate([scales[..., -1:, :], scales[..., :-1, :]], axis=-2).astype(np.float64)
    low, high = ordered[..., 0], ordered[..., 1]
    return low, np.where(high > low, (high - low) / ((1 << bits) - 1), 1.0)


@lru_cache(maxsize=8)
def _counts(n: int) -> NDArray[np.int64]:
    """How many elements of a packed triangle are of the diagonal, and of each row above it."""
    return np.concatenate([[n], np.arange(n - 1, 0, -1)])
