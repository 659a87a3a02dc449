"""Stored kernels: packed triangles, quantised, against slow code from the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.representations import kernels
from modelspace.representations.maps import MapBlock
from modelspace.spaces.kinds import KernelSpace
from modelspace.types import BITS, SpaceSpec


def kernel_of(n: int, seed: int) -> np.ndarray:
    table = np.random.default_rng(seed).standard_normal((n, 5))
    return kernels.dds(table)


def slow(kernel: np.ndarray, bits: int) -> np.ndarray:
    """Each row above the diagonal, and the diagonal, rounded to 2^bits equal steps between its extremes; float64."""
    n = len(kernel)
    out = np.empty((n, n))

    def rounded(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float32).astype(np.float64)
        low, high = values.min(), values.max()
        if bits == 32 or low == high:
            return values
        step = (high - low) / (2**bits - 1)
        return np.rint((values - low) / step) * step + low

    out[np.diag_indices(n)] = rounded(np.diag(kernel))
    for row in range(n - 1):
        out[row, row + 1 :] = out[row + 1 :, row] = rounded(kernel[row, row + 1 :])
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 12), st.integers(0, 1000), st.sampled_from(BITS))
def test_a_kernel_comes_back_rounded(n: int, seed: int, bits: int) -> None:
    kernel = kernel_of(n, seed)
    block = kernels.to_block(kernel, bits)
    assert (block.first_image, block.n_images, len(block.scales)) == (0, n, 8 * n)
    assert len(block.codes) == kernels.packed_bytes(n, bits)
    got = kernels.from_block(block, bits)
    np.testing.assert_array_equal(got, got.T)
    span = np.ptp(kernel) / (2 ** min(bits, 24) - 1)
    np.testing.assert_allclose(got, slow(kernel, bits), atol=1e-6 + (span if bits < 32 else 0))
    if bits >= 8:
        np.testing.assert_allclose(got, kernel, atol=span)


def test_equal_elements_have_no_range() -> None:
    kernel = np.full((4, 4), 0.25)
    for bits in BITS:
        np.testing.assert_allclose(kernels.from_block(kernels.to_block(kernel, bits), bits), kernel)


@pytest.mark.parametrize("bits", BITS)
def test_half_the_bytes_of_rows(bits: int) -> None:
    n = 50
    packed = KernelSpace(KernelSpace.define("dds", "dds", "p", n, 0, bits, "sum"))
    rows = KernelSpace(SpaceSpec("dds", "p", "dds", n, canvas=0, bits=bits))
    assert packed.is_packed
    assert not rows.is_packed
    assert packed.spec.space_id != rows.spec.space_id
    assert packed.code_bytes(n) < 0.53 * rows.code_bytes(n) + 50


def test_a_space_that_was_made_before_reads_its_rows() -> None:
    from modelspace.representations.maps import whole_block

    kernel = kernel_of(9, 1)
    space = KernelSpace(SpaceSpec("dds", "p", "dds", 9, canvas=0, bits=16))
    (block,) = whole_block(kernel.astype(np.float32), 16)
    np.testing.assert_allclose(space.kernel([block]) / 3, kernel, atol=1e-4)


def test_damaged_blocks_are_refused() -> None:
    from modelspace.errors import DamagedError

    space = KernelSpace(KernelSpace.define("dds", "dds", "p", 9, 0, 8, "sum"))
    block = kernels.to_block(kernel_of(9, 1), 8)
    assert space.checked([block]) == [block]
    for wrong in (
        MapBlock(0, 9, block.codes[:-1], block.scales),
        MapBlock(0, 8, block.codes, block.scales),
        MapBlock(0, 9, block.codes, block.scales[:-8]),
        MapBlock(0, 9, block.codes, np.full(18, np.nan, "<f4").tobytes()),
        MapBlock(0, 9, bytes(len(block.codes)), bytes(len(block.scales))),
    ):
        with pytest.raises(DamagedError):
            space.checked([wrong])
