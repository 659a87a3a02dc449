"""From probe images to a model's input, against a second version in float64 written from the definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.errors import UsageError
from modelspace.probes.preprocess import to_input
from modelspace.types import Preprocessing


def resize_matrix(before, after):
    """(after, before): a triangle of half-width max(1, before / after) around each new pixel's centre, sums of 1."""
    scale = before / after
    matrix = np.zeros((after, before))
    for i in range(after):
        for j in range(before):
            matrix[i, j] = max(0.0, 1 - abs((j + 0.5) - (i + 0.5) * scale) / max(1.0, scale))
        matrix[i] /= matrix[i].sum()
    return matrix


def by_definition(images, p):
    """images: (B, S, S, 3) uint8 -> (B, C, H, W) float64, image by image and channel by channel."""
    rows, columns = (resize_matrix(images.shape[1 + axis], p.input_size[axis]) for axis in range(2))
    lo, hi = p.value_range
    out = []
    for image in images.astype(np.float64):
        red, green, blue = (rows @ image[..., c] @ columns.T for c in range(3))
        planes = {
            "rgb": [red, green, blue],
            "bgr": [blue, green, red],
            "gray": [0.299 * red + 0.587 * green + 0.114 * blue],
        }[p.channels]
        out.append([(lo + (hi - lo) * u / 255 - m) / s for u, m, s in zip(planes, p.mean, p.std, strict=True)])
    return np.array(out)


channels = st.sampled_from(["rgb", "bgr", "gray"])
side = st.integers(1, 24)


@st.composite
def preprocessings(draw):
    order = draw(channels)
    n = 1 if order == "gray" else 3
    lo, hi = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (1.0, 0.0)]))
    unit = abs(hi - lo)
    numbers = st.floats(-1, 1).map(lambda v: v * unit)
    return Preprocessing(
        (draw(side), draw(side)),
        tuple(draw(st.lists(numbers, min_size=n, max_size=n))),
        tuple(draw(st.lists(st.floats(0.1, 2).map(lambda v: v * unit), min_size=n, max_size=n))),
        order,
        (lo, hi),
    )


@settings(deadline=None)
@given(preprocessings(), side, st.integers(0, 10**6))
def test_against_the_definition(preprocessing, size, seed):
    images = np.random.default_rng(seed).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    got = to_input(images, preprocessing, torch.device("cpu"))
    assert (got.dtype, got.is_contiguous()) == (torch.float32, True)
    expected = by_definition(images, preprocessing)
    assert got.shape == expected.shape
    # In units of the spread of an image over one std, float32 carries seven digits.
    spread = abs(preprocessing.value_range[1] - preprocessing.value_range[0]) / min(preprocessing.std)
    assert abs(got.numpy() - expected).max() <= 3e-6 * max(spread, abs(expected).max())


def test_the_example_of_every_paper():
    """White and black under ImageNet's mean and std, by hand."""
    preprocessing = Preprocessing((1, 1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    images = np.array([[[[255, 255, 255]]], [[[0, 0, 0]]]], dtype=np.uint8)
    got = to_input(images, preprocessing).reshape(2, 3).numpy()
    assert np.allclose(got, [[2.2489083, 2.4285714, 2.64], [-2.1179039, -2.0357143, -1.8044444]], atol=1e-6)


def test_without_resizing_nothing_is_lost():
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    got = to_input(images, Preprocessing.raw((16, 16), value_range=(0.0, 255.0)))
    assert torch.equal(got[0, 0], torch.arange(256.0).view(16, 16))
    got = to_input(images, Preprocessing.raw((16, 16)))
    assert abs(got[0, 0].double() - torch.arange(256).view(16, 16) / 255).max() < 1e-7


def test_the_images_are_not_changed_and_may_be_read_only():
    images = np.full((1, 4, 4, 3), 7, dtype=np.uint8)
    images.setflags(write=False)
    to_input(images, Preprocessing.raw((2, 2))).zero_()
    assert (images == 7).all()


def test_no_images():
    got = to_input(np.zeros((0, 8, 8, 3), dtype=np.uint8), Preprocessing((4, 6), (0.0,), (1.0,), "gray"))
    assert got.shape == (0, 1, 4, 6)


def test_other_arrays_are_refused():
    for images in (np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 1), np.uint8), np.zeros((1, 4, 4, 3))):
        with pytest.raises(UsageError, match=r"probe images are \(B, S, S, 3\) uint8"):
            to_input(images, Preprocessing.raw((2, 2)))
