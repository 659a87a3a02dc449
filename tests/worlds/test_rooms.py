"""The renderer against ground truth from a second implementation: signed distances instead of ray intersections."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scene_geometry import objects_distance, pixel_rays, signed_distance

from modelspace.errors import UsageError
from modelspace.worlds import room_scenes, rooms, shapes
from modelspace.worlds.room_scenes import FRUSTUM, SPHERE, Primitive, Scene

SIZE = 24


def scene_distance(scene: Scene, p: np.ndarray) -> np.ndarray:
    """Distance of points (M, 3) of the room from the nearest surface."""
    half = np.array([scene.half[0], scene.height / 2, scene.half[1]])
    best = (half - abs(p - np.array([0, scene.height / 2, 0]))).min(1)
    return np.minimum(best, objects_distance(scene, p))


def march(scene: Scene, size: int) -> np.ndarray:
    """(size * size,) distances by walking along each ray by the distance to the nearest surface."""
    rays, eye = pixel_rays(scene, size), np.array(scene.eye)
    t = np.zeros(len(rays))
    for _ in range(400):
        t += scene_distance(scene, eye + t[:, None] * rays)
    return t


@pytest.fixture(scope="module")
def sampled() -> tuple[list[Scene], rooms.Render]:
    drawn = rooms.sample_scenes(0, 16, seed=3)
    return drawn, rooms.render(drawn, SIZE, samples=1)


@pytest.mark.wide
def test_distance_agrees_with_ray_marching(sampled: tuple[list[Scene], rooms.Render]) -> None:
    drawn, r = sampled
    for scene, distance in zip(drawn[:6], r.distance[:6], strict=True):
        error = abs(march(scene, SIZE) - distance.double().numpy().ravel())
        assert np.quantile(error, 0.99) < 1e-3  # the march is slow where a ray grazes an edge


def test_one_wall_and_one_sphere_by_hand() -> None:
    wall = Primitive(SPHERE, (0.0, 1.0, 0.5), (0.4, 0.0, 0.0), 0.0, 1, (1, 0, 0), (1, 0, 0), 0, 1.0)
    scene = replace(
        rooms.sample_scenes(0, 1, 0)[0], half=(2.0, 3.0), height=2.5, eye=(0.0, 1.0, -2.0), yaw=0.0, pitch=0.0,
        roll=0.0, fov=math.pi / 2, primitives=(wall,), classes=(0,), decals=(),
    )  # fmt: skip
    r = rooms.render([scene], 101)
    assert r.distance[0, 50, 50] == pytest.approx(2.5 - 0.4)
    assert r.normals[0, :, 50, 50].tolist() == pytest.approx([0, 0, -1], abs=1e-6)
    assert r.curvature[0, :, 50, 50].tolist() == pytest.approx([2.5, 2.5])
    assert r.zdepth[0, 50, 10] == pytest.approx(2 / ((50 - 10) / 50.5), rel=1e-5)  # the left wall, 2 m away
    assert r.normals[0, :, 50, 10].tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    assert r.layout[0].tolist() == pytest.approx([5, 1, 2, 2, 1, 1.5])
    assert r.vanishing[0].tolist() == pytest.approx(np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]))
    assert (r.semantic[0, 50, 50], r.semantic[0, 100, 50], r.semantic[0, 50, 0]) == (6, 1, 0)


def test_zdepth_is_distance_times_cosine(sampled: tuple[list[Scene], rooms.Render]) -> None:
    drawn, r = sampled
    for scene, distance, zdepth in zip(drawn, r.distance, r.zdepth, strict=True):
        cosine = pixel_rays(scene, SIZE) @ scene.rotation[:, 2]
        assert np.allclose(zdepth.numpy().ravel(), distance.numpy().ravel() * cosine, rtol=1e-5)


def test_normals_are_unit_and_face_the_camera(sampled: tuple[list[Scene], rooms.Render]) -> None:
    drawn, r = sampled
    assert torch.allclose(r.normals.norm(dim=1), torch.ones_like(r.distance), atol=1e-5)
    for scene, normals in zip(drawn, r.normals, strict=True):
        rays = pixel_rays(scene, SIZE) @ scene.rotation
        assert ((normals.permute(1, 2, 0).reshape(-1, 3).numpy() * rays).sum(1) < 1e-6).all()


def test_normals_of_planes_are_cross_products_of_neighbouring_points(sampled: tuple[list[Scene], rooms.Render]) -> None:
    drawn, r = sampled
    checked = 0
    for k, scene in enumerate(drawn):
        rays = (pixel_rays(scene, SIZE) @ scene.rotation).reshape(SIZE, SIZE, 3)
        points = rays * r.distance[k].double().numpy()[..., None]
        cross = np.cross(points[1:, :-1] - points[:-1, :-1], points[:-1, 1:] - points[:-1, :-1])
        cross /= np.linalg.norm(cross, axis=-1, keepdims=True)
        ids, bends = r.surface_id[k].numpy(), r.curvature[k, 0].numpy()
        flat = (ids[1:, :-1] == ids[:-1, :-1]) & (ids[:-1, 1:] == ids[:-1, :-1]) & (bends[:-1, :-1] == 0)
        rendered = r.normals[k].permute(1, 2, 0).numpy()[:-1, :-1]
        off = np.minimum(abs(cross - rendered).max(-1), abs(cross + rendered).max(-1))
        assert off[flat].max() < 2e-3
        checked += int(flat.sum())
    assert checked > 2000


@pytest.mark.parametrize(
    ("shape", "size"), [(SPHERE, (0.4, 0.0, 0.0)), (FRUSTUM, (0.3, 0.5, 0.1)), (FRUSTUM, (0.2, 0.4, 0.2))]
)
def test_curvatures_are_eigenvalues_of_the_hessian_of_the_signed_distance(
    shape: int, size: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(40, 3)) * [1, 0.4, 1]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    o, d = torch.tensor(-3 * direction.T), torch.tensor(direction.T)
    t, face = shapes.intersect(shape, o, d, size)
    side = torch.isfinite(t) & (face == 0)
    assert side.sum() > 20
    points = (o + t * d)[:, side]
    normal, bends = shapes.surface(shape, points, face[side], size)
    step = 1e-3
    for k, p in enumerate(points.T.numpy()):
        hessian, slope = np.zeros((3, 3)), np.zeros(3)
        e = np.eye(3) * step

        def f(q: np.ndarray) -> float:
            return float(signed_distance(shape, size, q[None])[0])

        for i in range(3):
            slope[i] = (f(p + e[i]) - f(p - e[i])) / (2 * step)
            for j in range(3):
                terms = f(p + e[i] + e[j]) - f(p + e[i] - e[j]) - f(p - e[i] + e[j]) + f(p - e[i] - e[j])
                hessian[i, j] = terms / (4 * step**2)
        flat = np.eye(3) - np.outer(slope, slope)
        values = np.sort(np.linalg.eigvalsh(flat @ hessian @ flat))[::-1]
        values = np.delete(values, np.argmin(abs(values)))  # one zero belongs to the normal's own direction
        assert normal[:, k].tolist() == pytest.approx(slope.tolist(), abs=1e-3)
        assert bends[:, k].tolist() == pytest.approx(values.tolist(), abs=0.02)


def test_scene_k_does_not_depend_on_how_many_are_drawn() -> None:
    many = rooms.render_rgb8(0, 6, seed=7, size=20)
    assert np.array_equal(rooms.render_rgb8(0, 3, seed=7, size=20), many[:3])
    assert np.array_equal(rooms.render_rgb8(4, 2, seed=7, size=20), many[4:])
    assert rooms.sample_scenes(0, 6, 7)[4:] == rooms.sample_scenes(4, 2, 7)
    assert not np.array_equal(rooms.render_rgb8(0, 1, seed=8, size=20), many[:1])
    drawn = rooms.sample_scenes(0, 6, 7)
    single, all_of_them = rooms.render(drawn[5:], 20), rooms.render(drawn, 20)
    assert torch.equal(single.rgb[0], all_of_them.rgb[5])
    assert torch.equal(single.normals[0], all_of_them.normals[5])


def test_rgb8_is_the_rendered_rgb_rounded() -> None:
    r = rooms.render(rooms.sample_scenes(11, 2, 5), 16)
    exact = (r.rgb * 255).permute(0, 2, 3, 1).numpy()
    assert abs(rooms.render_rgb8(11, 2, 5, 16) - exact).max() <= 0.501


def test_images_are_those_of_this_renderer_version() -> None:
    """A change of the images requires a new RENDERER_VERSION, and new numbers here."""
    assert rooms.RENDERER_VERSION == room_scenes.RENDERER_VERSION == 1
    means = rooms.render_rgb8(0, 6, seed=0, size=32).mean((1, 2))
    assert means == pytest.approx(np.array(GOLDEN_MEANS), abs=0.3)


GOLDEN_MEANS = [
    [171.73, 160.74, 129.71], [118.98, 120.93, 116.24], [106.73, 93.55, 78.54],
    [172.88, 164.24, 150.74], [116.38, 131.31, 122.83], [142.43, 120.86, 118.59],
]  # fmt: skip


def test_frame_and_labels_fit_the_picture(sampled: tuple[list[Scene], rooms.Render]) -> None:
    drawn, r = sampled
    eye = torch.eye(3).expand(len(r), 3, 3)
    assert torch.allclose(r.rotation @ r.rotation.transpose(1, 2), eye, atol=1e-5)
    assert torch.allclose(r.vanishing @ r.vanishing.transpose(1, 2), eye, atol=1e-5)
    assert (r.vanishing[:, 0, 2] >= 0.5).all()  # the front wall is in front
    assert torch.allclose(r.vanishing[:, 2], r.rotation[:, 1], atol=1e-6)
    for k, scene in enumerate(drawn):
        assert r.object_class[k] == scene.classes[0]
        main = r.object_id[k] == 1
        assert (r.semantic[k][main] == 6 + scene.classes[0]).all()
        forward = abs(scene.rotation[:, 2])
        assert r.layout[k, :2].sum() == pytest.approx(2 * scene.half[0 if forward[0] > forward[2] else 1])
        for surface in range(6):  # the distance of a wall's points along its normal is the layout's
            mask = r.surface_id[k] == surface
            if not mask.any():
                continue
            rays = torch.tensor((pixel_rays(scene, SIZE) @ scene.rotation).reshape(SIZE, SIZE, 3)).float()
            points = rays[mask] * r.distance[k][mask][:, None]
            normal = r.normals[k, :, mask].T
            towards = [
                (r.vanishing[k, axis] * sign) for axis, sign in ((0, 1), (0, -1), (1, -1), (1, 1), (2, -1), (2, 1))
            ]
            number = int(torch.stack([-(t @ normal[0]) for t in towards]).argmax())
            assert torch.allclose(-(points * normal).sum(1), r.layout[k, number], atol=1e-3)


@pytest.mark.wide
def test_main_object_is_always_seen() -> None:
    r = rooms.render(rooms.sample_scenes(0, 60, seed=1), 24, samples=1)
    share = (r.object_id == 1).float().mean((1, 2))
    assert share.min() > 0.008
    assert share.median() > 0.06
    assert len(r.object_class.unique()) == len(rooms.OBJECTS)
    assert len(r.place.unique()) == len(rooms.PLACE_NAMES)


def test_values_are_in_their_ranges(sampled: tuple[list[Scene], rooms.Render]) -> None:
    _, r = sampled
    assert r.rgb.min() >= 0
    assert r.rgb.max() <= 1
    assert r.rgb.std() > 0.1
    assert r.distance.isfinite().all()
    assert (r.distance > 0.05).all()
    assert 0 <= r.semantic.min() <= r.semantic.max() < len(rooms.SEMANTIC)
    assert (r.curvature >= 0).all()


def test_noise_is_its_own_stream_and_has_the_stated_amplitude() -> None:
    scene = replace(rooms.sample_scenes(0, 1, 2)[0], noise=0.02)
    quiet, loud = (rooms.render([replace(scene, noise=n)], 48).rgb for n in (0.0, 0.02))
    inside = (quiet > 0.05) & (quiet < 0.95)
    noise = (loud - quiet)[inside]
    assert noise.abs().max() < 0.02
    assert float(noise.std()) == pytest.approx(0.02 / math.sqrt(6), rel=0.05)  # triangular
    assert abs(float(noise.mean())) < 0.001


def test_the_number_of_threads_is_left_as_it_was_and_does_not_matter() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = rooms.render_rgb8(0, 1, 0, 64)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert np.array_equal(two, rooms.render_rgb8(0, 1, 0, 64))
    finally:
        torch.set_num_threads(before)


def test_impossible_requests_are_refused() -> None:
    for call in (
        lambda: rooms.sample_scenes(-1, 2, 0),
        lambda: rooms.sample_scenes(0, 2, -5),
        lambda: rooms.render([], 32),
        lambda: rooms.render_rgb8(0, 1, 0, 1),
    ):
        with pytest.raises(UsageError):
            call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_renders_the_same() -> None:
    drawn = rooms.sample_scenes(0, 4, 0)
    on_cpu, on_gpu = rooms.render(drawn, 32), rooms.render(drawn, 32, device="cuda")
    assert on_gpu.rgb.is_cuda
    assert (on_cpu.distance - on_gpu.distance.cpu()).abs().median() < 1e-5
    assert (on_cpu.rgb - on_gpu.rgb.cpu()).abs().mean() < 1e-3
