"""How attribution maps are stored: as unit vectors, one per probe image, in a few bits per element.

A map on the space's canvas, (side, side) float32, averaged over channels, is scaled to unit norm, quantised, and stored
as codes with two numbers per image. The affinity of two models (Song et al. 2019, section 3.3) is the mean over images
of the cosine of their maps. It is computed from the decoded codes: what is stored is what is compared.

Older kernel spaces (`modelspace.representations.kernels`) are stored the same way: row k of a model's kernel takes the
place of the map of image k, all rows are in one block, and only the whole kernel is scaled to unit norm.

Codes, by bits per element:

- 32: the float32 values themselves.
- 16 and 8: uniform between the image's smallest and largest value.
- 4, 3 and 2: companded. Values are clipped at c, the 99.5th percentile of |a|, and u = sign(a)·√(|a|/c) is rounded to
  equally spaced levels: for a map with both signs 2^bits − 1 levels in −1..1, so that zero stays zero (most of a signed
  map is near zero), for a map without negative values 2^bits levels in 0..1.
- 1: the sign (for maps with both signs), or whether the value exceeds the image's mean.

Layout on disk: codes are packed image by image, each image starting at a byte boundary, the first element in the lowest
bits, little-endian; `scales` is float32 (n_images, 2): lo and hi, the range that the codes span (−c, c or 0, c if
companded; not used at 32 bits). See docs/reference/files.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelspace.deprecated import renamed
from modelspace.late import dataclass

#: Approximate size of a block of maps, so that one block of each of many models fits in memory.
BLOCK_BYTES = 1 << 20

_CLIP_PERCENTILE = 99.5


@dataclass(frozen=True)
class MapBlock:
    """The maps of one model for consecutive probe images.

    Attributes:
        first_image: index of the first image in the probe set.
        n_images: number of images.
        codes: n_images x `bytes_per_image` bytes.
        scales: n_images x 2 float32, little-endian: lo, hi.
    """

    first_image: int
    n_images: int
    codes: bytes
    scales: bytes


def bytes_per_image(canvas: int, bits: int) -> int:
    """Length of one image's codes, in bytes."""
    return -(-canvas * canvas * bits // 8)


def images_per_block(canvas: int, bits: int) -> int:
    """Number of images per block, at least 1."""
    return max(1, BLOCK_BYTES // bytes_per_image(canvas, bits))


def quantise(maps: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes of maps.

    Args:
        maps: (n, elements) float32, finite, each row of unit norm (the norm is not read, but no row may be zero).
        bits: one of `modelspace.types.BITS`.

    Returns:
        Codes (n, bytes) uint8 and scales (n, 2) float32; see the module docstring.
    """
    n = len(maps)
    scales = np.zeros((n, 2), dtype=np.float32)
    if bits == 32:
        codes = np.ascontiguousarray(maps, dtype="<f4").view(np.uint8).reshape(n, -1)
        scales[:, 0], scales[:, 1] = maps.min(axis=1), maps.max(axis=1)
    elif bits >= 8:
        lo, hi = maps.min(axis=1, keepdims=True), maps.max(axis=1, keepdims=True)
        top = (1 << bits) - 1
        step = np.where(hi > lo, (hi - lo) / top, 1).astype(np.float32)
        levels = np.clip(np.rint((maps - lo) / step), 0, top)
        codes = levels.astype("<u2" if bits == 16 else np.uint8).view(np.uint8).reshape(n, -1)
        scales[:, :1], scales[:, 1:2] = lo, hi
    else:
        signed = maps.min(axis=1) < 0
        if bits == 1:
            threshold = np.where(signed, 0, maps.mean(axis=1))[:, None]
            levels = (maps >= threshold).astype(np.uint8)
            scales[:, 0], scales[:, 1] = np.where(signed, -1, 0), 1
        else:
            size = np.abs(maps)
            clip = np.percentile(size, _CLIP_PERCENTILE, axis=1).astype(np.float32)
            # With more than 99.5 % zeros the percentile is 0: clip at the largest value.
            clip = np.where(clip > 0, clip, size.max(axis=1))
            root = np.sqrt(np.minimum(size / clip[:, None], 1))
            half = (1 << (bits - 1)) - 1
            top = (1 << bits) - 1
            levels = np.where(signed[:, None], np.rint(np.copysign(root, maps) * half) + half, np.rint(root * top))
            scales[:, 0], scales[:, 1] = np.where(signed, -clip, 0), clip
        codes = pack(levels.astype(np.uint8), bits)
    return codes, scales


def dequantise(codes: np.ndarray, scales: np.ndarray, bits: int, n_elements: int) -> np.ndarray:
    """Maps from codes: (n, elements) float32, not scaled to unit norm.

    Args:
        codes: (n, bytes) uint8.
        scales: (n, 2) float32.
        bits: as in `quantise`.
        n_elements: elements per image, canvas².
    """
    n = len(codes)
    if bits == 32:
        return codes.reshape(n, -1).view("<f4").astype(np.float32, copy=False)
    lo, hi = scales[:, 0:1], scales[:, 1:2]
    if bits >= 8:
        levels = codes.view("<u2") if bits == 16 else codes
        step = (hi - lo) / np.float32((1 << bits) - 1)
        out: np.ndarray = levels.astype(np.float32)
        out *= step
        out += lo
        return out
    if bits == 4:
        decoded: np.ndarray = _dequantise_pairs(codes, lo[:, 0] < 0, n_elements) * hi
        return decoded
    table = np.stack([_levels(bits, bool(low < 0)) for low in scales[:, 0]]) * hi
    return np.take_along_axis(table, unpack(codes, bits, n_elements).astype(np.intp), axis=1).astype(
        np.float32, copy=False
    )


def _dequantise_pairs(codes: np.ndarray, signed: np.ndarray, n_elements: int) -> np.ndarray:
    """Decoded 4-bit codes (n, bytes), two to a byte, in units of the clip value: (n, elements) float32."""
    out = np.empty((len(codes), 2 * codes.shape[1]), dtype=np.float32)
    for sign in np.unique(signed).tolist():
        levels, byte = _levels(4, sign), np.arange(256)
        pairs = np.stack([levels[byte & 15], levels[byte >> 4]], axis=1).view(np.complex64)[:, 0]
        if signed.all() or not signed.any():
            np.take(pairs, codes, out=out.view(np.complex64))
        else:
            out[signed == sign] = pairs[codes[signed == sign]].view(np.float32)
    return out[:, :n_elements]


def _levels(bits: int, signed: bool) -> np.ndarray:
    """Decoded value of every code, in units of the clip value."""
    codes = np.arange(1 << bits, dtype=np.float32)
    if bits == 1:
        return 2 * codes - 1 if signed else codes
    if signed:
        half = (1 << (bits - 1)) - 1
        root = (codes - half) / half
        return np.sign(root) * root * root
    root = codes / ((1 << bits) - 1)
    return root * root


def pack(levels: np.ndarray, bits: int) -> np.ndarray:
    """(n, elements) uint8 below 2^bits -> (n, bytes) uint8, lowest bits first."""
    spread = np.unpackbits(levels[:, :, None], axis=2, count=bits, bitorder="little")
    return np.packbits(spread.reshape(len(levels), -1), axis=1, bitorder="little")


def unpack(codes: np.ndarray, bits: int, n_elements: int) -> np.ndarray:
    """Inverse of `pack`."""
    spread = np.unpackbits(codes, axis=1, count=n_elements * bits, bitorder="little")
    return np.packbits(spread.reshape(len(codes), n_elements, bits), axis=2, bitorder="little")[:, :, 0]


class MapWriter:
    """Collects maps batch by batch and cuts them into blocks.

    Args:
        canvas: side of the canvas in pixels.
        bits: bits per element.
        per_block: images per block; default: `images_per_block`.
    """

    def __init__(self, canvas: int, bits: int, per_block: int | None = None) -> None:
        self.canvas, self.bits = canvas, bits
        self.blocks: list[MapBlock] = []
        self.n_images = 0
        self._per_block = per_block or images_per_block(canvas, bits)
        self._codes: list[np.ndarray] = []
        self._scales: list[np.ndarray] = []

    def write(self, maps: np.ndarray) -> None:
        """Append the maps (n, ..., canvas, canvas) float32 of the next n images."""
        codes, scales = quantise(maps.reshape(len(maps), -1), self.bits)
        self._codes.extend(codes)
        self._scales.extend(scales)
        while len(self._codes) >= self._per_block:
            self._cut(self._per_block)

    def close(self) -> list[MapBlock]:
        """The blocks of everything written."""
        if self._codes:
            self._cut(len(self._codes))
        return self.blocks

    def _cut(self, count: int) -> None:
        codes, scales = np.stack(self._codes[:count]), np.stack(self._scales[:count])
        del self._codes[:count], self._scales[:count]
        block = MapBlock(self.n_images, count, codes.tobytes(), scales.astype("<f4").tobytes())
        self.blocks.append(block)
        self.n_images += count


def whole_block(rows: np.ndarray, bits: int) -> list[MapBlock]:
    """One block of all rows (n, elements) float32: how older kernel spaces store a kernel."""
    codes, scales = quantise(rows, bits)
    return [MapBlock(0, len(rows), codes.tobytes(), scales.astype("<f4").tobytes())]


def decode(block: MapBlock, row_length: int, bits: int) -> np.ndarray:
    """A block's decoded rows, (n_images, row_length) float32: proportional to unit maps, not scaled."""
    codes = np.frombuffer(block.codes, dtype=np.uint8).reshape(block.n_images, -1)
    scales = np.frombuffer(block.scales, dtype="<f4").reshape(block.n_images, 2)
    return dequantise(codes, scales, bits, row_length)


def unit(maps: np.ndarray) -> np.ndarray:
    """Maps (n, elements) scaled to unit norm, in float64.

    Float64 is needed: the coordinates of near-copies are differences of affinities, which must be exact to about 1e-12
    (`modelspace.spaces.coordinates.TOLERANCE`).
    """
    wide = maps.astype(np.float64)
    wide /= np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
    return wide


def recut(blocks: Sequence[MapBlock], per_block: int) -> list[MapBlock]:
    """Consecutive blocks of one model, re-cut into blocks of `per_block` images (the last may have fewer)."""
    n_images = sum(block.n_images for block in blocks)
    if all(block.n_images == per_block for block in blocks[:-1]) and blocks[-1].n_images <= per_block:
        return list(blocks)
    codes, scales = b"".join(block.codes for block in blocks), b"".join(block.scales for block in blocks)
    size = len(codes) // n_images
    out = []
    for first in range(0, n_images, per_block):
        last = min(first + per_block, n_images)
        out.append(MapBlock(first, last - first, codes[first * size : last * size], scales[first * 8 : last * 8]))
    return out


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine per image of unit maps (n, elements) and (n, elements): (n,) float64 in −1..1."""
    values: np.ndarray = np.einsum("ij,ij->i", a, b)
    return values


__getattr__ = renamed(__name__, {"decode_unit": "modelspace.spaces.kinds.decode_unit"})
