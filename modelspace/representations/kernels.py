"""How an encoder output tells the probe images apart: one kernel per model, an inner product of kernels per pair.

The forward pass that attribution needs yields T for every probe image, and a table of T (images x features) says which images
a model finds alike. Each function here turns such a table into a symmetric (N, N) matrix of Frobenius norm 1; the inner
product of two models' matrices is their similarity. So a space of them has exact coordinates and an index, as a space of
attribution maps has. Row k of a model's matrix is stored as the map of image k would be (`modelspace.representations.maps`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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

#: T is reduced to so many numbers per image, so that the table of a model stays small, and averaged over the cells of a grid
#: of at most so many to a side before anything else is given up.
MOST, GRID = 8192, 8

#: A parameter of spaces of kernels, and its value where kernels are stored as packed triangles. Spaces that were made before
#: lack it: their kernels are stored row by row (`modelspace.representations.maps.whole_block`).
LAYOUT, TRIANGLE = "layout", "triangle"

#: The kernel of a model is held whole: N x N.
MAX_IMAGES = 4096

_EMPTY = "a model's features are the same for every image: nothing can be compared"


def reduced(output: torch.Tensor) -> torch.Tensor:
    """T with at most `MOST` numbers per image, (B, d) float32.

    A T of that size is flattened. A larger one of channels and pixels (B, C, H, W) is averaged over the cells of the finest
    grid that fits, at most `GRID` x `GRID`; one of tokens (B, L, D) over runs of neighbouring tokens. What is still too
    large is folded: elements are given random signs and dealt out to `MOST` sums (Charikar et al., ICALP 2002: inner
    products are kept up to noise), the same ones in every model of that size.
    """
    import torch
    import torch.nn.functional as F

    values = output.detach().float()
    if values[0].numel() > MOST and values.dim() == 4:
        side = max((n for n in range(1, GRID + 1) if values.shape[1] * n * n <= MOST), default=1)
        rows, columns = min(side, values.shape[2]), min(side, values.shape[3])
        values = F.adaptive_avg_pool2d(values, (rows, columns))
    elif values[0].numel() > MOST and values.dim() == 3:
        runs = max(1, min(MOST // values.shape[2], values.shape[1]))
        values = F.adaptive_avg_pool1d(values.transpose(1, 2), runs)
    values = values.flatten(1)
    if values.shape[1] > MOST:
        generator = torch.Generator().manual_seed(0)
        bucket = torch.randint(MOST, (values.shape[1],), generator=generator).to(values.device)
        sign = (torch.randint(0, 2, (values.shape[1],), generator=generator) * 2 - 1).to(values)
        values = values.new_zeros(len(values), MOST).index_add_(1, bucket, values * sign)
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
    """Ranks of the dissimilarities 1 - Pearson of every two images, centred, zero on the diagonal (Dwivedi & Roig, CVPR 2019).

    The inner product of two such matrices is Spearman's correlation of the upper triangles. An image whose features are all
    equal correlates 0 with all.
    """
    # Queries list the methods, and must not wait for scipy.
    from scipy.stats import rankdata

    rows = unit_rows(table - table.mean(axis=1, keepdims=True))
    upper = np.triu_indices(len(rows), 1)
    ranks = rankdata(-(rows @ rows.T)[upper].round(12))
    matrix = np.zeros((len(rows), len(rows)))
    matrix[upper] = ranks - ranks.mean()
    return unit(matrix + matrix.T)


#: Method to function: (N, d) float64 to (N, N) symmetric of unit norm.
KERNELS: Mapping[str, Callable[[Array], Array]] = MappingProxyType({"dds": dds, "linear_cka": linear_cka, "rsa": rsa})

METHODS = tuple(KERNELS)

#: One line for people.
SUMMARIES: Mapping[str, str] = MappingProxyType(
    {
        "dds": "which images the encoder output finds alike: cosine kernel of z-scored features (duality diagram similarity)",
        "linear_cka": "the same with the linear kernel (centred kernel alignment)",
        "rsa": "the same by ranks of dissimilarities (representational similarity analysis)",
    }
)


def kernel(method: str, features: np.ndarray) -> Array:
    """The (N, N) matrix of one model.

    Args:
        method: one of `KERNELS`.
        features: (N, d), one row per probe image.

    Raises:
        EmbeddingError: features that are not finite, or the same for every image.
        UsageError: fewer than 3 or more than `MAX_IMAGES` images.
    """
    if not 3 <= len(features) <= MAX_IMAGES:
        raise UsageError(
            f"a space of {method} can't have {len(features)} probe images",
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
    """Features with mean 0 and deviation 1 over the images; those that are the same for every image are left out."""
    spread = table.std(axis=0)
    # A unit that is the same for every image tells nothing; dividing by its rounding noise would.
    live = spread > 1e-12 * np.abs(table).max(axis=0, initial=0.0)
    z: Array = (table[:, live] - table[:, live].mean(axis=0)) / spread[live]
    return z


def centred(gram: Array) -> Array:
    """A kernel matrix with the mean of every row and column taken off: H K H."""
    rows = gram.mean(axis=0, keepdims=True)
    return gram - rows - rows.T + gram.mean()


def unit_rows(table: Array) -> Array:
    """Rows scaled to length 1; a row of zeros stays."""
    length = np.linalg.norm(table, axis=1, keepdims=True)
    return np.divide(table, length, out=np.zeros_like(table), where=length > 0)


def unit(matrix: Array) -> Array:
    """A matrix scaled to Frobenius norm 1.

    Raises:
        UsageError: it is zero.
    """
    length = np.linalg.norm(matrix)
    if not length > 0:
        raise UsageError(_EMPTY)
    scaled: Array = matrix / length
    return scaled


def pack_triangle(kernel: np.ndarray) -> np.ndarray:
    """What a symmetric kernel needs to be stored: its diagonal, then row by row what lies above it.

    >>> pack_triangle(np.array([[1, 2, 3], [2, 4, 5], [3, 5, 6]]))
    array([1, 4, 6, 2, 3, 5])

    Args:
        kernel: (n, n), symmetric; what lies below the diagonal is not read.

    Returns:
        (n (n + 1) / 2,), of the kernel's type: n elements of the diagonal, n - 1 of the first row, n - 2 of the second, ...

    Raises:
        UsageError: it is not square, or empty.
    """
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not len(kernel):
        raise UsageError(f"a kernel is a square matrix, not of shape {kernel.shape}")
    return np.concatenate([np.diagonal(kernel), kernel[np.triu_indices(len(kernel), 1)]])


def unpack_triangle(packed: np.ndarray) -> np.ndarray:
    """The symmetric (n, n) kernel of what `pack_triangle` gave, of the same type.

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
    kernel = np.empty((n, n), dtype=packed.dtype)
    above = np.triu_indices(n, 1)
    kernel[above] = kernel.T[above] = packed[n:]
    np.fill_diagonal(kernel, packed[:n])
    return kernel


def to_block(kernel: np.ndarray, bits: int) -> MapBlock:
    """A kernel as it is stored: its packed triangle, quantised uniformly between the extremes of each row.

    The diagonal has a range of its own, since it is much larger than the rest.

    Args:
        kernel: (n, n), symmetric, finite.
        bits: one of `modelspace.types.BITS`.

    Returns:
        One block of n images. Its codes are those of `pack_triangle`'s elements in their order, packed as maps are
        (`modelspace.representations.maps`). Of its n scales the first n - 1 are of the rows above the diagonal, the last one
        of the diagonal.
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
    """The kernel in a block of `to_block`, (n, n), symmetric, float64."""
    n = block.n_images
    count = n * (n + 1) // 2
    scales = np.frombuffer(block.scales, dtype="<f4").reshape(n, 2)
    if bits == 32:
        return unpack_triangle(np.frombuffer(block.codes, dtype="<f4").astype(np.float64))
    if bits >= 8:
        levels = np.frombuffer(block.codes, dtype="<u2" if bits == 16 else np.uint8)
    else:
        levels = maps.unpack(np.frombuffer(block.codes, dtype=np.uint8)[None], bits, count)[0]
    low, step = _ranges(scales, bits)
    return unpack_triangle(levels.astype(np.float64) * step + low)


def packed_bytes(n_images: int, bits: int) -> int:
    """Length of the codes of a packed kernel, in bytes."""
    return -(-n_images * (n_images + 1) // 2 * bits // 8)


def _ranges(scales: np.ndarray, bits: int) -> tuple[Array, Array]:
    """For each element of a packed triangle the lower end of its range, and the step between two levels."""
    n = len(scales)
    part = np.concatenate([np.full(n, n - 1), np.repeat(np.arange(n - 1), np.arange(n - 1, 0, -1))])
    low, high = scales.astype(np.float64).T
    step = np.where(high > low, (high - low) / ((1 << bits) - 1), 1.0)
    return low[part], step[part]
