"""Packed triangles: half of a symmetric kernel determines all of it."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelspace.errors import UsageError
from modelspace.representations import kernels
from modelspace.representations.kernels import kernel, pack_triangle, unpack_triangle
from modelspace.spaces.kinds import KernelSpace
from modelspace.types import BITS

SQUARES = st.integers(1, 12).flatmap(
    lambda n: arrays.arrays(st.sampled_from([np.float64, np.float32, np.uint8]), (n, n), elements=st.integers(0, 200))
)


@given(SQUARES)
def test_what_is_unpacked_is_what_was_packed_bit_for_bit(square: np.ndarray) -> None:
    symmetric = np.triu(square) + np.triu(square, 1).T
    packed = pack_triangle(symmetric)
    n = len(square)
    assert packed.shape == (n * (n + 1) // 2,)
    assert packed.dtype == square.dtype
    assert np.array_equal(unpack_triangle(packed), symmetric)
    assert np.array_equal(pack_triangle(unpack_triangle(packed)), packed)


@given(SQUARES)
def test_the_order_is_the_diagonal_and_then_row_by_row(square: np.ndarray) -> None:
    n = len(square)
    slow = [square[i, i] for i in range(n)] + [square[i, j] for i in range(n) for j in range(i + 1, n)]
    assert pack_triangle(square).tolist() == slow


def test_nothing_is_written_into_the_given_arrays() -> None:
    square = np.array([[1.0, 2.0], [3.0, 4.0]])
    packed = pack_triangle(square)
    unpack_triangle(packed)[:] = 0
    assert square.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert packed.tolist() == [1.0, 4.0, 2.0]


@pytest.mark.parametrize("method", ["dds", "linear_cka", "rsa"])
def test_inner_products_of_kernels_are_kept(method: str) -> None:
    """Twice the elements above the diagonal, and the diagonal once: kernels are compared without unpacking."""
    rng = np.random.default_rng(0)
    first, second = (kernel(method, rng.standard_normal((9, 5))) for _ in range(2))
    twice = np.repeat([1.0, 2.0], [9, 36])
    assert pack_triangle(first) @ (twice * pack_triangle(second)) == pytest.approx((first * second).sum(), abs=1e-14)
    np.testing.assert_allclose(unpack_triangle(pack_triangle(first)), first, atol=1e-15)


@pytest.mark.parametrize("shape", [(0, 0), (2, 3), (4,), (2, 2, 2)])
def test_what_is_no_kernel_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="square"):
        pack_triangle(np.zeros(shape))


@pytest.mark.parametrize("shape", [(0,), (2,), (5,), (3, 1)])
def test_what_is_no_triangle_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="no kernel is packed in"):
        unpack_triangle(np.zeros(shape))


def test_the_examples_of_the_docstrings_are_right() -> None:
    outcome = doctest.testmod(kernels)
    assert (outcome.failed, outcome.attempted > 0) == (0, True)


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_triangles_of_blocks_are_those_of_their_kernels(bits: int) -> None:
    rng = np.random.default_rng(bits)
    features = rng.normal(size=(3, 7, 4))
    blocks = [kernels.to_block(kernels.kernel("dds", each), bits) for each in features]
    packed = [kernels.pack_triangle(kernels.from_block(block, bits)) for block in blocks]
    np.testing.assert_allclose([kernels.packed_triangle(block, bits) for block in blocks], packed, atol=1e-6)
    space = KernelSpace(KernelSpace.define("dds", "dds", "rooms", 7, 0, bits, "sum"))
    for one, other in itertools.product(blocks, blocks):
        expected = (space.unit_rows(one) * space.unit_rows(other)).sum()
        assert space.product(space.query(one), space.operand(other)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e25])
def test_a_rough_triangle_is_the_packed_one_up_to_a_factor(bits: int, scale: float) -> None:
    features = np.random.default_rng(bits).normal(size=(20, 6))
    block = kernels.to_block(scale * (features @ features.T), bits)
    exact, rough = kernels.packed_triangle(block, bits), kernels.rough_triangle(block, bits)
    assert rough.dtype == np.float32
    assert np.abs(rough).max() <= 1 + 1e-6
    factor = (exact @ rough) / (exact @ exact)
    assert factor > 0
    np.testing.assert_allclose(rough, factor * exact, atol=1e-6)


def test_a_rough_triangle_of_zeros() -> None:
    for bits in (8, 32):
        assert not kernels.rough_triangle(kernels.to_block(np.zeros((5, 5)), bits), bits).any()


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
@pytest.mark.parametrize("chosen", [slice(None), slice(None, None, 3), slice(1, 2)])
def test_kernels_of_some_images_up_to_a_factor(bits: int, chosen: slice) -> None:
    rng = np.random.default_rng(bits)
    features = [scale * rng.standard_normal((7, 3)) for scale in (1.0, 30.0, 1e-3)]
    blocks = [kernels.to_block(table @ table.T, bits) for table in features]
    rough = kernels.rough_submatrices(blocks, bits, chosen)
    assert rough.dtype == np.float32
    assert np.abs(rough).max() <= 1 + 1e-6
    for part, block in zip(rough, blocks, strict=True):
        whole = kernels.from_block(block, bits)[chosen, chosen]
        np.testing.assert_allclose(part / np.linalg.norm(part), whole / np.linalg.norm(whole), atol=1e-6)


def test_kernels_of_zeros_stay_zeros() -> None:
    for bits in (8, 32):
        rough = kernels.rough_submatrices([kernels.to_block(np.zeros((4, 4)), bits)], bits, slice(None, None, 2))
        np.testing.assert_array_equal(rough, np.zeros((1, 2, 2)))
