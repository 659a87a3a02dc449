"""Features on a grid of places: where a cell's features come from, principal components, what is stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelspace.errors import EmbeddingError
from modelspace.representations import grids
from modelspace.representations.grids import CHANNELS, SIDE

WHOLE = ((64, 64), (0, 0), (64, 64))


def cells(n: int = 12, channels: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, SIDE * SIDE, channels)).astype(np.float32)


def test_a_grid_of_the_same_size_is_taken_over() -> None:
    output = torch.randn(2, 5, SIDE, SIDE)
    found = grids.on_grid(output, *WHOLE)
    np.testing.assert_allclose(found, output.permute(0, 2, 3, 1).reshape(2, SIDE * SIDE, 5).numpy(), atol=1e-6)


def test_finer_features_are_averaged_and_coarser_ones_repeated() -> None:
    fine = torch.randn(1, 3, 4 * SIDE, 2 * SIDE)
    mean = torch.nn.functional.adaptive_avg_pool2d(fine, SIDE)
    np.testing.assert_allclose(
        grids.on_grid(fine, *WHOLE), mean.permute(0, 2, 3, 1).reshape(1, -1, 3).numpy(), atol=1e-6
    )
    coarse = torch.randn(1, 3, 2, 4)
    repeated = coarse.repeat_interleave(SIDE // 2, 2).repeat_interleave(SIDE // 4, 3)
    np.testing.assert_allclose(
        grids.on_grid(coarse, *WHOLE), repeated.permute(0, 2, 3, 1).reshape(1, -1, 3).numpy(), atol=1e-6
    )


def test_a_crop_covers_the_middle_and_its_edge_what_was_not_seen() -> None:
    # The input is the middle half of the image: cells 2 to 5 of 8, each of which two of the model's eight cover.
    output = torch.arange(8.0)[None, None, None, :].expand(1, 1, 8, 8)
    found = grids.on_grid(output, (64, 64), (16, 16), (32, 32)).reshape(SIDE, SIDE)
    np.testing.assert_allclose(found[0], [0, 0, 0.5, 2.5, 4.5, 6.5, 7, 7], atol=1e-6)


def test_a_border_around_the_image_is_cut_off() -> None:
    output = torch.arange(16.0)[None, None, None, :].expand(1, 1, 16, 16)
    found = grids.on_grid(output, (32, 32), (-16, -16), (64, 64)).reshape(SIDE, SIDE)
    np.testing.assert_allclose(found[0], np.arange(4, 12), atol=1e-6)


@pytest.mark.parametrize("size", [(7, 224, 16, 192), (5, 100, -7, 114), (13, 97, 3, 91), (1, 64, 8, 40)])
def test_shares_of_cells_sum_to_one(size: tuple[int, int, int, int]) -> None:
    shares = grids.overlaps(*size)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)
    assert (shares >= 0).all()


def test_tokens_are_those_of_the_places_after_the_class_token() -> None:
    tokens = torch.randn(2, 1 + 16, 6)
    as_image = tokens[:, 1:].transpose(1, 2).reshape(2, 6, 4, 4)
    np.testing.assert_array_equal(grids.on_grid(tokens, *WHOLE), grids.on_grid(as_image, *WHOLE))


def test_channels_may_come_last() -> None:
    output = torch.randn(2, 7, 7, 96)
    np.testing.assert_array_equal(grids.on_grid(output, *WHOLE), grids.on_grid(output.permute(0, 3, 1, 2), *WHOLE))


@pytest.mark.parametrize("shape", [(3, 20), (3, 20, 1, 1), (3, 2, 2, 5, 2)])
def test_what_has_no_places_says_the_same_of_every_cell(shape: tuple[int, ...]) -> None:
    output = torch.randn(shape)
    found = grids.on_grid(output, *WHOLE)
    np.testing.assert_array_equal(found, np.repeat(output.reshape(3, 1, -1).numpy(), SIDE * SIDE, axis=1))


def test_many_channels_keep_their_inner_products_about() -> None:
    output = torch.randn(30, 4 * grids.MOST_CHANNELS)
    found = grids.on_grid(output, *WHOLE)[:, 0]
    exact, sketched = output @ output.T, torch.tensor(found @ found.T)
    assert torch.corrcoef(torch.stack([exact.flatten(), sketched.flatten()]))[0, 1] > 0.99


def test_principal_components_keep_the_most_variance() -> None:
    table = cells(channels=40) * np.linspace(3, 0.1, 40, dtype=np.float32)
    found = grids.grid(table).astype(np.float64).reshape(-1, CHANNELS)
    flat = table.reshape(-1, 40).astype(np.float64)
    variances = np.linalg.eigvalsh(np.cov(flat.T, bias=True))[::-1]
    kept = found.T @ found / len(found)
    np.testing.assert_allclose(np.diag(kept), variances[:CHANNELS] / variances[:CHANNELS].sum(), rtol=0.02)
    np.testing.assert_allclose(kept - np.diag(np.diag(kept)), 0, atol=2e-3)


def test_features_keep_their_own_scale() -> None:
    table = cells(channels=2)
    table[:, :, 1] *= 0.1
    found = grids.grid(table)
    assert found[:, :, 2:].any() == np.False_
    deviations = found[:, :, :2].reshape(-1, 2).std(axis=0)
    assert deviations[1] / deviations[0] == pytest.approx(0.1, rel=0.1)
    assert np.square(found).sum(axis=2).mean() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_the_scale_of_all_features_is_nothing(factor: float) -> None:
    np.testing.assert_allclose(grids.grid(cells() * np.float32(factor)), grids.grid(cells()), atol=1e-4)


def test_constant_and_infinite_features_are_refused() -> None:
    with pytest.raises(EmbeddingError, match="same for every"):
        grids.grid(np.ones((10, SIDE * SIDE, 4), np.float32))
    broken = cells()
    broken[3, 0, 0] = np.inf
    with pytest.raises(EmbeddingError, match="not finite"):
        grids.grid(broken)


@pytest.mark.parametrize(("bits", "error"), [(1, 4.0), (2, 1.2), (3, 0.5), (4, 0.25), (8, 0.02), (16, 1e-4), (32, 0.0)])
def test_what_is_stored_is_within_a_step(bits: int, error: float) -> None:
    values = grids.grid(cells())
    block = grids.to_block(values, bits)
    found = grids.from_block(block, bits)
    assert len(block.codes) == len(values) * SIDE * SIDE * CHANNELS * bits // 8
    assert np.abs(found - values).max() <= error


def test_four_bits_are_unpacked_as_by_maps() -> None:
    block = grids.to_block(grids.grid(cells()), 4)
    codes = np.frombuffer(block.codes, np.uint8).reshape(block.n_images, -1)
    from modelspace.representations import maps

    np.testing.assert_array_equal(grids._nibbles(codes), maps.unpack(codes, 4, SIDE * SIDE * CHANNELS))
