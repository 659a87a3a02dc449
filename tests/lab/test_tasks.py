"""Each label's definition, on small cases worked out by hand or compared with a slow version."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from modelspace.errors import NotFoundError
from modelspace.lab import tasks
from modelspace.lab.tasks import TASKS, Constant, Scaling
from modelspace.worlds import rooms

SIDE = 16

TASKONOMY = {
    "2D": "autoencoder denoise edge2d keypoint2d segment2d colorization inpainting_whole",
    "3D": "curvature edge3d keypoint3d reshade rgb2depth rgb2mist rgb2sfnorm segment25d",
    "geometric": "room_layout vanishing_point",
    "semantic": "class_1000 class_places segmentsemantic",
}


def scene(**fields: Tensor) -> rooms.Render:
    """A render of a flat gray wall 2 m ahead, with some fields replaced."""
    plane = torch.ones(1, SIDE, SIDE)
    defaults = {
        "rgb": torch.full((1, 3, SIDE, SIDE), 0.5),
        "distance": 2 * plane,
        "zdepth": 2 * plane,
        "normals": torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, SIDE, SIDE),
        "curvature": torch.zeros(1, 2, SIDE, SIDE),
        "object_id": torch.zeros(1, SIDE, SIDE, dtype=torch.int16),
        "surface_id": torch.zeros(1, SIDE, SIDE, dtype=torch.int16),
        "semantic": torch.zeros(1, SIDE, SIDE, dtype=torch.int16),
        "position": torch.tensor([[0.0, 1.0, 0.0]]),
        "rotation": torch.eye(3)[None],
        "fov": torch.tensor([math.pi / 2]),
        "layout": torch.ones(1, 6),
        "vanishing": torch.eye(3)[None],
        "object_class": torch.tensor([3]),
        "place": torch.tensor([2]),
    }
    return rooms.Render(**{**defaults, **fields})


def label(name: str, **fields: Tensor) -> Tensor:
    return tasks.task(name).label(scene(**fields))


def across(values: Tensor) -> Tensor:
    """(1, SIDE, SIDE) values that vary only along x."""
    return values.view(1, 1, SIDE).expand(1, SIDE, SIDE)


def gray(image: Tensor) -> Tensor:
    return image[:, None].expand(1, 3, SIDE, SIDE)


X = torch.arange(SIDE, dtype=torch.float32)


def test_the_twenty_tasks_and_their_groups() -> None:
    assert {name: t.group for name, t in TASKS.items()} == {n: g for g, line in TASKONOMY.items() for n in line.split()}
    with pytest.raises(NotFoundError, match="no task 'depth'"):
        tasks.task("depth")
    for t in TASKS.values():
        assert len(t.definition) > 30


def test_every_label_has_the_documented_shape() -> None:
    r = rooms.render(rooms.sample_scenes(0, 2, 0), 32, samples=1)
    for t in TASKS.values():
        value = t.label(r)
        shape = {"dense": (2, t.outputs, 16, 16), "vector": (2, t.outputs), "class": (2,), "class_map": (2, 16, 16)}
        assert value.shape == shape[t.kind], t.name
        assert value.dtype == (torch.int64 if t.classifies else torch.float32), t.name
        assert value.float().isfinite().all(), t.name


@pytest.mark.parametrize("name", ["autoencoder", "denoise", "inpainting_whole"])
def test_image_is_the_mean_of_two_by_two_pixels(name: str) -> None:
    rgb = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert label(name, rgb=rgb)[0, 1, 2, 3] == pytest.approx(float(rgb[0, 1, 4:6, 6:8].mean()))


def test_colorization_is_blue_and_red_minus_luma() -> None:
    assert label("colorization").abs().max() < 1e-6
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, SIDE, SIDE)
    assert label("colorization", rgb=red)[0, :, 4, 4].tolist() == pytest.approx([-0.299, 0.701])


def test_edge2d_is_the_slope_of_the_gray_image() -> None:
    assert label("edge2d").abs().max() == 0
    ramp = label("edge2d", rgb=gray(across(0.03 * X)))
    assert torch.allclose(ramp[..., 2:-2], torch.tensor(0.03), atol=1e-6)
    step = label("edge2d", rgb=gray(across((X >= 8).float())))[0, 0, 4]
    assert step.argmax() in (3, 4)
    assert step[[0, 1, 6, 7]].abs().max() == 0


def test_keypoint2d_is_the_root_of_the_determinant_of_the_hessian() -> None:
    assert label("keypoint2d", rgb=gray(across(0.03 * X))).max() < 0.02  # an edge is not a corner
    saddle = 0.002 * X[:, None] * X[None, :]
    center = label("keypoint2d", rgb=gray(saddle[None]))[0, 0, 4, 4]
    assert float(center) == pytest.approx(math.sqrt(0.002), rel=1e-3)  # |det| = 0.002^2


def test_segment2d_is_the_affinity_of_colours() -> None:
    assert torch.allclose(label("segment2d"), torch.ones(1, 4, 8, 8))
    value = label("segment2d", rgb=gray(across(0.2 + 0.6 * (X >= 8).float())))[0]
    assert torch.allclose(value[[1, 3]], torch.ones(2, 8, 8))  # below: the same column
    assert value[0, 4, 0] == pytest.approx(1)
    far = SIDE // 6  # 2 pixels, on both sides of the edge blurred over 2 pixels
    smooth = tasks._blur(tasks._blur(gray(across(0.2 + 0.6 * (X >= 8).float()))))[0, 0, 8]
    expected = [math.exp(-3 * float(smooth[i] - smooth[i + far]) ** 2 / 0.08) for i in (6, 7)]
    assert float(value[2, 4, 3]) == pytest.approx(np.mean(expected), rel=1e-4)


def test_depths_are_logs_of_metres() -> None:
    assert label("rgb2depth", distance=torch.full((1, SIDE, SIDE), math.e)).tolist()[0][0][0][0] == pytest.approx(1)
    assert float(label("rgb2mist", zdepth=across(X + 1))[0, 0, 0, 1]) == pytest.approx((math.log(3) + math.log(4)) / 2)


def test_normals_are_passed_through() -> None:
    assert label("rgb2sfnorm")[0, :, 3, 3].tolist() == [0, 0, -1]


def test_edge3d_is_the_slope_of_the_log_distance_at_most_a_half() -> None:
    assert torch.allclose(label("edge3d", distance=across((0.1 * X).exp()))[..., 1:-1], torch.tensor(0.1), atol=1e-5)
    jump = label("edge3d", distance=across(1 + 9 * (X >= 7).float()))
    assert float(jump.max()) == pytest.approx(0.5)
    assert label("edge3d", rgb=gray(across(X / SIDE))).max() == 0  # paint is not an edge


def test_keypoint3d_is_the_smaller_eigenvalue_of_the_structure_tensor() -> None:
    assert label("keypoint3d", distance=across((0.1 * X).exp())).max() < 0.02  # a straight edge is not a corner
    log = 0.1 * torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    value = label("keypoint3d", distance=log.exp()[None].float())[0, 0]
    slow = np.zeros((SIDE, SIDE))
    values = log.numpy()
    for row in range(3, SIDE - 3):
        for column in range(3, SIDE - 3):
            tensor = np.zeros((2, 2))
            for i in range(row - 2, row + 3):
                for j in range(column - 2, column + 3):
                    g = np.array([values[i, j + 1] - values[i, j - 1], values[i + 1, j] - values[i - 1, j]]) / 2
                    tensor += np.outer(g, g) / 25
            slow[row, column] = min(0.6, np.linalg.eigvalsh(tensor)[0] ** 0.25)
    assert float(value[3, 4]) == pytest.approx(slow[6:8, 8:10].mean(), rel=1e-3)


def test_reshade_is_lambertian_with_a_lamp_at_the_camera() -> None:
    value = label("reshade")[0, 0]
    assert float(value[4, 4]) == pytest.approx(0.5 / math.sqrt(1 + 2 * (1 / 8) ** 2), rel=0.01)  # d = 2 m: 1 / (1 + 1)
    corner = label("reshade", distance=torch.full((1, SIDE, SIDE), 4.0))[0, 0, 0, 0]
    reach = 7 / 8  # centre of the first 2 x 2 pixels at 90 degrees
    assert float(corner) == pytest.approx(0.2 / math.sqrt(1 + 2 * reach**2), rel=0.01)


def test_curvature_is_the_log_of_one_plus_both() -> None:
    bends = torch.tensor([2.5, 1.0]).view(1, 2, 1, 1).expand(1, 2, SIDE, SIDE)
    assert label("curvature", curvature=bends)[0, :, 0, 0].tolist() == pytest.approx([math.log(3.5), math.log(2)])


def test_segment25d_asks_whether_a_neighbour_is_on_the_same_surface() -> None:
    value = label("segment25d", surface_id=across((X >= 8).float()).short())[0]
    assert (value[[1, 3]] == 1).all()
    assert value[0, 0].tolist() == [1, 1, 1, 0.5, 1, 1, 1, 1]  # 1 pixel to the right
    assert value[2, 0].tolist() == [1, 1, 1, 0, 1, 1, 1, 1]  # 2 pixels
    assert (label("segment25d", rgb=gray(across(X / SIDE))) == 1).all()  # paint is not a boundary


def test_layout_vanishing_points_and_classes() -> None:
    layout = torch.tensor([[1.0, 2, 3, 4, 5, 6]])
    assert label("room_layout", layout=layout)[0].tolist() == pytest.approx([math.log(k) for k in range(1, 7)])
    assert label("vanishing_point")[0].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert label("class_1000").tolist() == [3]
    assert label("class_places").tolist() == [2]
    semantic = torch.arange(SIDE * SIDE).view(1, SIDE, SIDE).to(torch.int16)
    assert label("segmentsemantic", semantic=semantic)[0, 1, :3].tolist() == [32, 34, 36]


def test_noise_holes_and_gray() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(8, 3, 32, 32, generator=generator) * 0.2 + 0.4
    noisy = tasks.add_noise(image, generator)
    assert float((noisy - image).std()) == pytest.approx(0.25, rel=0.1)
    assert 0 <= noisy.min() <= noisy.max() <= 1
    masked = tasks.cut_holes(image, generator)
    changed = (masked != image).all(1)
    assert (masked[changed[:, None].expand_as(image)] == 0.5).all()
    assert torch.equal(masked[~changed[:, None].expand_as(image)], image[~changed[:, None].expand_as(image)])
    assert ((changed.sum((1, 2)) >= 64) & (changed.sum((1, 2)) <= 192)).all()
    assert len({tuple(row.flatten().tolist()) for row in changed}) == 8  # different places in each image
    gray_image = tasks.to_gray(image, generator)
    assert torch.allclose(gray_image[:, 0], 0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2])
    assert torch.equal(gray_image[:, 0], gray_image[:, 2])


def test_scaling_standardises_the_training_labels() -> None:
    values = torch.randn(50, 2, 4, 4) * torch.tensor([3.0, 0.1]).view(1, 2, 1, 1) + 7
    scaled = Scaling.measure(values).apply(values)
    assert scaled.mean((0, 2, 3)).abs().max() < 1e-4
    assert torch.allclose(scaled.transpose(0, 1).flatten(1).std(1), torch.ones(2), atol=1e-4)


def test_constant_predictor_by_definition() -> None:
    t = tasks.task("class_1000")
    train, held_out = torch.tensor([0, 0, 0, 1, 1, 7]), torch.tensor([0, 1, 1])
    constant = Constant.fit(t, train)
    shares = (np.bincount(train, minlength=8) + 1) / (6 + 8)
    assert constant.loss(t, held_out) == pytest.approx(-np.log(shares[held_out.numpy()]).mean(), rel=1e-5)
    assert constant.accuracy(held_out) == pytest.approx(1 / 3)
    dense, values = tasks.task("rgb2depth"), torch.randn(5, 1, 8, 8)
    assert Constant.fit(dense, values).loss(dense, values) == pytest.approx(float((values**2).mean()), rel=1e-5)
