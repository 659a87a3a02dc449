"""Maps resampled to the canvas: area averages, against a slow version from the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from modelspace.embedding.embed import to_canvas


def area_average(plane: np.ndarray, side: int) -> np.ndarray:
    """Each cell is the mean of all pixels that it touches, at every ratio of the sides; float64."""
    out = np.empty((side, side))
    height, width = plane.shape
    for i in range(side):
        rows = slice(math.floor(i * height / side), math.ceil((i + 1) * height / side))
        for j in range(side):
            columns = slice(math.floor(j * width / side), math.ceil((j + 1) * width / side))
            out[i, j] = plane[rows, columns].mean()
    return out


@pytest.mark.parametrize(("height", "width", "side"), [(12, 12, 4), (15, 15, 5), (14, 21, 7), (16, 16, 6), (9, 13, 8)])
def test_a_smaller_canvas_averages_areas(height: int, width: int, side: int) -> None:
    maps = torch.randn(3, 4, height, width, generator=torch.Generator().manual_seed(0))
    got = to_canvas(maps, side).double().numpy()
    for image, plane in zip(got, maps.double().mean(dim=1).numpy(), strict=True):
        expected = area_average(plane, side)
        np.testing.assert_allclose(image, expected / np.linalg.norm(expected), atol=1e-6)


def test_every_pixel_counts() -> None:
    """Interpolation at a factor of 3 would look at one pixel of nine."""
    for row, column in ((0, 0), (4, 5), (11, 7)):
        maps = torch.zeros(1, 1, 12, 12)
        maps[0, 0, row, column] = 1.0
        image = to_canvas(maps, 4)[0]
        assert image[row // 3, column // 3] == 1.0
        assert float(image.abs().sum()) == 1.0


def test_a_canvas_of_the_same_size_changes_nothing_but_the_norm() -> None:
    maps = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    plane = maps.mean(dim=1)
    torch.testing.assert_close(to_canvas(maps, 6), plane / plane.flatten(1).norm(dim=1)[:, None, None])


def test_a_larger_canvas_is_smooth_and_of_unit_norm() -> None:
    maps = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    image = to_canvas(maps, 10)
    torch.testing.assert_close(image.flatten(1).norm(dim=1), torch.ones(2))
    assert float(torch.diff(image, dim=-1).abs().max()) < float(torch.diff(to_canvas(maps, 5), dim=-1).abs().max())


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_the_size_of_a_gradient_does_not_matter(size: float) -> None:
    maps = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(to_canvas(maps * size, 4), to_canvas(maps, 4), rtol=1e-4, atol=1e-5)
    assert not torch.any(to_canvas(maps * 0, 4))
