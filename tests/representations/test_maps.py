"""Quantised maps: codes, packing, and the cosines that are computed from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspace.representations import maps
from modelspace.spaces.kinds import decode_unit
from modelspace.types import BITS, SpaceSpec

SIDE = 12


def spec(bits: int) -> SpaceSpec:
    return SpaceSpec("s", "0" * 16, "saliency", 4, SIDE, bits)


def heavy_tailed(n: int, signed: bool, seed: int = 0) -> np.ndarray:
    """Maps like those of attribution: most values near zero, few large; (n, SIDE, SIDE) float32 of unit norm."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, SIDE, SIDE)) * rng.exponential(1, (n, SIDE, SIDE)) ** 2
    values = values if signed else np.abs(values)
    return (values / np.linalg.norm(values, axis=(1, 2), keepdims=True)).astype(np.float32)


def write(values: np.ndarray, bits: int, batch: int = 4) -> list[maps.MapBlock]:
    writer = maps.MapWriter(values.shape[1], bits)
    for first in range(0, len(values), batch):
        writer.write(values[first : first + batch])
    return writer.close()


def slow_decode(row: np.ndarray, bits: int) -> np.ndarray:
    """The definition in the module's docstring, element by element, in float64."""
    lo, hi = float(row.min()), float(row.max())
    if bits == 32:
        return row.astype(np.float64)
    top = 2**bits - 1
    if bits >= 8:
        return np.array([lo + round((float(v) - lo) / ((hi - lo) / top)) * (hi - lo) / top for v in row])
    signed = lo < 0
    if bits == 1:
        level = 0.0 if signed else float(row.mean())
        return np.array([1.0 if v >= level else (-1.0 if signed else 0.0) for v in row])
    clip = float(np.percentile(np.abs(row), 99.5))
    out = []
    for v in row:
        root = np.sqrt(min(abs(float(v)) / clip, 1.0)) * (1 if v >= 0 else -1)
        steps = 2 ** (bits - 1) - 1 if signed else top
        root = round(root * steps) / steps
        out.append(clip * np.sign(root) * root**2)
    return np.array(out)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_decoded_codes_are_the_definition(bits: int, signed: bool) -> None:
    values = heavy_tailed(3, signed)
    (block,) = write(values, bits)
    decoded = maps.decode(block, SIDE * SIDE, bits)
    for row, got in zip(values.reshape(3, -1), decoded, strict=True):
        # A value that lies on the edge of two levels may fall on either side of it in float32.
        differs = ~np.isclose(got, slow_decode(row, bits), rtol=1e-4, atol=1e-7)
        assert differs.mean() <= (0.02 if bits == 16 else 0.0)


@pytest.mark.parametrize("bits", BITS)
def test_codes_have_the_stated_length_and_blocks_cover_every_image(bits: int) -> None:
    values = heavy_tailed(11, signed=True)
    blocks = write(values, bits)
    assert [block.first_image for block in blocks] == [0]
    assert sum(block.n_images for block in blocks) == 11
    assert len(blocks[0].codes) == 11 * maps.bytes_per_image(SIDE, bits) == 11 * -(-SIDE * SIDE * bits // 8)
    assert len(blocks[0].scales) == 11 * 2 * 4


@pytest.mark.parametrize("bits", BITS)
def test_scales_are_the_range_that_the_codes_span(bits: int) -> None:
    values = np.concatenate([heavy_tailed(2, signed=True), heavy_tailed(2, signed=False)])
    (block,) = write(values, bits)
    scales = np.frombuffer(block.scales, dtype="<f4").reshape(4, 2)
    for row, (low, high) in zip(values.reshape(4, -1).astype(np.float64), scales, strict=True):
        clip = float(np.percentile(np.abs(row), 99.5)) if bits > 1 else 1.0
        expected = (row.min(), row.max()) if bits >= 8 else (-clip if row.min() < 0 else 0.0, clip)
        np.testing.assert_allclose((low, high), expected, rtol=1e-6)


def test_a_block_is_about_a_mebibyte_and_holds_at_least_one_image() -> None:
    assert maps.BLOCK_BYTES == 2**20
    assert [maps.images_per_block(side, 8) for side in (512, 1024, 1025, 9999)] == [4, 1, 1, 1]
    assert maps.images_per_block(64, 4) == 512


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6), per_block=st.integers(1, 12))
def test_recut_blocks_hold_the_same_images(sizes: list[int], per_block: int) -> None:
    values = heavy_tailed(sum(sizes), signed=True)
    starts = np.cumsum([0, *sizes])
    blocks = []
    for first, size in zip(starts, sizes, strict=False):
        (block,) = write(values[first : first + size], 4)
        blocks.append(maps.MapBlock(int(first), size, block.codes, block.scales))
    cut = maps.recut(blocks, per_block)
    assert [block.first_image for block in cut] == list(range(0, len(values), per_block))
    assert [block.n_images for block in cut] == [min(per_block, len(values) - block.first_image) for block in cut]
    for block in cut:
        (expected,) = write(values[block.first_image : block.first_image + block.n_images], 4)
        assert (block.codes, block.scales) == (expected.codes, expected.scales)


def test_batches_do_not_change_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "BLOCK_BYTES", 3 * SIDE * SIDE)
    values = heavy_tailed(11, signed=True)
    single, batched = write(values, 8, batch=1), write(values, 8, batch=7)
    assert single == batched
    assert [(block.first_image, block.n_images) for block in single] == [(0, 3), (3, 3), (6, 3), (9, 2)]


def test_more_bits_keep_more_of_the_map() -> None:
    values = heavy_tailed(50, signed=True)
    exact = maps.unit(values.reshape(50, -1))
    whole = [SpaceSpec("s", "0" * 16, "saliency", len(values), SIDE, bits) for bits in BITS]
    fidelity = [maps.cosines(decode_unit(write(values, each.bits)[0], each), exact).mean() for each in whole]
    assert fidelity == sorted(fidelity)
    assert fidelity[BITS.index(4)] > 0.95
    assert fidelity[BITS.index(8)] > 0.9999
    assert fidelity[BITS.index(16)] > 1 - 1e-8
    assert fidelity[BITS.index(32)] > 1 - 1e-12


@given(
    bits=st.sampled_from([1, 2, 3, 4]),
    n_elements=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
)
def test_packing_is_lossless(bits: int, n_elements: int, seed: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 2**bits, (3, n_elements), dtype=np.uint8)
    packed = maps.pack(levels, bits)
    assert packed.shape == (3, -(-n_elements * bits // 8))
    np.testing.assert_array_equal(maps.unpack(packed, bits, n_elements), levels)


@pytest.mark.parametrize("bits", BITS)
def test_maps_with_one_value_or_nearly_all_zeros_survive(bits: int) -> None:
    constant = np.full((SIDE, SIDE), 1 / SIDE, dtype=np.float32)
    single = np.zeros((SIDE, SIDE), dtype=np.float32)
    single[3, 4] = -1.0
    (block,) = write(np.stack([constant, single]), bits)
    decoded = decode_unit(block, spec(bits))
    assert np.isfinite(decoded).all()
    np.testing.assert_allclose(decoded[0], 1 / SIDE, rtol=1e-6)
    if bits > 1:
        assert decoded[1].argmin() == 3 * SIDE + 4
        assert abs(decoded[1][3 * SIDE + 4] + 1) < 1e-6


def test_unit_maps_are_float64_and_of_length_one() -> None:
    (block,) = write(heavy_tailed(4, signed=True), 8)
    decoded = decode_unit(block, spec(8))
    assert decoded.dtype == np.float64
    np.testing.assert_allclose((decoded**2).sum(axis=1), 1, atol=1e-14)


@pytest.mark.parametrize("bits", BITS)
def test_whole_rows_are_one_block(bits: int) -> None:
    values = heavy_tailed(5, signed=True)
    assert maps.whole_block(values.reshape(5, -1), bits) == write(values, bits)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_a_map_without_negative_values_has_no_negative_levels(bits: int) -> None:
    """One bit marks values from the mean on, or those from zero on if some are negative."""
    values = np.array([[0.0, 1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 2.0, 3.0, 4.0]], dtype=np.float32)
    codes, scales = maps.quantise(values, bits)
    assert (scales[:, 0] < 0).tolist() == [False, True]
    decoded = maps.dequantise(codes, scales, bits, 5)
    assert decoded[0, 0] == 0
    assert decoded[1, 0] < 0
    if bits == 1:
        np.testing.assert_array_equal(decoded, [[0, 0, 1, 1, 1], [-1, 1, 1, 1, 1]])


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_map_that_is_almost_all_zeros_keeps_its_one_value(bits: int) -> None:
    values = np.zeros((1, 400), dtype=np.float32)
    values[0, 7] = 3.0
    codes, scales = maps.quantise(values, bits)
    np.testing.assert_array_equal(maps.dequantise(codes, scales, bits, 400), values)
