"""The yards against ground truth from a second implementation: signed distances for objects, one plane at a time for
walls, and a walk towards the sun for shadows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scene_geometry import check_labels, check_normals, check_normals_of_planes, objects_distance, pixel_rays

from modelspace.errors import UsageError
from modelspace.worlds import rooms, surfaces, yard_scenes, yards
from modelspace.worlds.room_scenes import CEILING, FLOOR, SPHERE, WALL_XN, WALL_ZP, Primitive
from modelspace.worlds.yard_scenes import CRENEL, FLAT, GABLE, ROUND, RUIN, Top, Yard

SIZE = 24

Sampled = tuple[list[Yard], rooms.Render]


def top_height(top: Top, u: float) -> float:
    """Height of a wall at u metres along it, from the definition."""
    part = u / top.period % 1.0
    if top.kind == CRENEL:
        return top.base + (top.rise if part < 0.55 else 0.0)
    if top.kind == GABLE:
        return top.base + top.rise * (2 * part if part < 0.5 else 2 - 2 * part)
    if top.kind == ROUND:
        return top.base + top.rise * (1 - (2 * part - 1) ** 2)
    if top.kind == RUIN:
        at, salt = torch.tensor([u], dtype=torch.float64), torch.tensor([float(top.salt)], dtype=torch.float64)
        smooth = float(surfaces.noise(at, salt, top.period))
        step = float(surfaces.hashed((at / 0.35).floor(), salt))
        return max(0.5, top.base + 2.2 * top.rise * (smooth - 0.35 + 0.12 * step))
    assert top.kind == FLAT
    return top.base


def wall_distance(yard: Yard, origin: np.ndarray, ray: np.ndarray) -> float:
    """Length of a ray from inside the yard up to the first wall that is high enough, or infinity."""
    best = math.inf
    for number, top in enumerate(yard.tops):
        axis, side = (0, 2)[number // 2], (-1, 1)[number % 2]
        half, across = (yard.half[0], yard.half[1]) if axis == 0 else (yard.half[1], yard.half[0])
        if ray[axis] * side <= 0:
            continue
        t = (side * half - origin[axis]) / ray[axis]
        hit = origin + t * ray
        if t < best and hit[1] < top_height(top, hit[2 - axis] + across):
            best = t
    return best


def walk(yard: Yard, origin: np.ndarray, directions: np.ndarray, limit: float) -> np.ndarray:
    """(M,) lengths of rays from `origin` (3,) or (M, 3) up to the first object, ground or wall, at most `limit`."""
    origins = np.broadcast_to(origin, directions.shape)
    t = np.zeros(len(directions))
    for _ in range(400):
        points = origins + t[:, None] * directions
        t = np.minimum(t + np.minimum(points[:, 1], objects_distance(yard, points)), limit)
    walls = np.array([wall_distance(yard, o, d) for o, d in zip(origins, directions, strict=True)])
    return np.minimum(t, walls)


@pytest.fixture(scope="module")
def sampled() -> Sampled:
    drawn = yards.sample_scenes(0, 16, seed=3)
    return drawn, yards.render(drawn, SIZE, samples=1)


@pytest.mark.wide
def test_distance_agrees_with_a_walk_along_each_ray(sampled: Sampled) -> None:
    drawn, r = sampled
    for yard, distance in zip(drawn[:6], r.distance[:6], strict=True):
        expected = walk(yard, np.array(yard.eye), pixel_rays(yard, SIZE), yards.RANGE)
        error = abs(expected - distance.double().numpy().ravel())
        assert np.quantile(error, 0.98) < 1e-3  # the walk is slow where a ray grazes an edge or the ground


@pytest.mark.parametrize("kind", [FLAT, CRENEL, RUIN, GABLE, ROUND])
def test_wall_tops_by_definition(kind: int) -> None:
    top = Top(kind, 3.0, 0.8, 1.7, 5)
    along = torch.linspace(0.01, 11, 300, dtype=torch.float64)
    expected = [top_height(top, float(u)) for u in along]
    assert yards.wall_top(top, along).tolist() == pytest.approx(expected)
    assert (max(expected) > min(expected) + 0.2) == (kind != FLAT)


@pytest.mark.wide
def test_shadows_agree_with_a_walk_towards_the_sun(sampled: Sampled) -> None:
    drawn, r = sampled
    shares = []
    for k, yard in enumerate(drawn[:6]):
        rays = pixel_rays(yard, SIZE)
        points = np.array(yard.eye) + rays * r.distance[k].double().numpy().reshape(-1, 1)
        normals = r.normals[k].double().permute(1, 2, 0).reshape(-1, 3).numpy() @ yard.rotation.T
        sun = np.array(yard.sky.sun)
        inside = (abs(points[:, 0]) < yard.half[0] - 0.05) & (abs(points[:, 2]) < yard.half[1] - 0.05)
        inside &= (normals @ sun > 0.05) & (r.distance[k].numpy().ravel() < yards.RANGE)
        start = points[inside] + 0.02 * normals[inside]
        sunny = yards._sunny(yard, torch.tensor(start.T)).numpy()
        expected = walk(yard, start, np.broadcast_to(sun, start.shape), 30.0) > 29.9
        assert (sunny == expected).mean() > 0.97
        shares.append(sunny.mean())
    assert min(shares) < 0.9  # somewhere there is shadow
    assert max(shares) > 0.5


def test_one_wall_one_ball_and_the_sky_by_hand() -> None:
    ball = Primitive(SPHERE, (0.0, 1.0, 0.5), (0.4, 0.0, 0.0), 0.0, 1, (1, 0, 0), (1, 0, 0), 0, 1.0)
    yard = replace(
        yards.sample_scenes(0, 1, 0)[0], half=(2.0, 3.0), eye=(0.0, 1.0, -2.0), yaw=0.0, pitch=0.0, roll=0.0,
        fov=math.pi / 2, primitives=(ball,), classes=(4,), decals=(),
        tops=tuple(Top(FLAT, base, 0.0, 1.0, 0) for base in (1.2, 1.3, 1.4, 1.5)),
    )  # fmt: skip
    r = yards.render([yard], 101)
    assert r.distance[0, 50, 50] == pytest.approx(2.5 - 0.4)
    assert r.curvature[0, :, 50, 50].tolist() == pytest.approx([2.5, 2.5])
    assert r.zdepth[0, 50, 10] == pytest.approx(2 / ((50 - 10) / 50.5), rel=1e-5)  # the left wall, 2 m away
    assert r.normals[0, :, 50, 10].tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    assert r.surface_id[0, 50, 10] == WALL_XN
    # Straight ahead the front wall is 5 m away and 1.5 m high: 0.5 m above the eye.
    column = 50 + round(50.5 * 1.2 / 5)
    edge = 50 - 50.5 * 0.5 / 5
    assert r.surface_id[0, math.ceil(edge), column] == WALL_ZP
    assert r.surface_id[0, math.floor(edge) - 1, column] == CEILING
    assert r.distance[0, 0, 50] == yards.RANGE
    assert r.surface_id[0, 100, 50] == FLOOR
    assert r.normals[0, :, 100, 50].tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    assert r.layout[0].tolist() == pytest.approx([5, 1, 2, 2, 1, 1.5])
    assert (r.semantic[0, 50, 50], r.semantic[0, 100, 50], r.semantic[0, 50, 0], r.semantic[0, 0, 50]) == (10, 1, 0, 2)


def test_normals_are_unit_and_face_the_camera(sampled: Sampled) -> None:
    check_normals(*sampled)


def test_normals_of_planes_are_cross_products_of_neighbouring_points(sampled: Sampled) -> None:
    check_normals_of_planes(*sampled, yards.RANGE)


def test_labels_have_the_counts_that_the_tasks_predict(sampled: Sampled) -> None:
    check_labels(yards, sampled[1])


@pytest.mark.wide
def test_every_class_is_seen_and_the_main_object_always() -> None:
    drawn = yards.sample_scenes(0, 60, seed=1)
    r = yards.render(drawn, 24, samples=1)
    share = (r.object_id == 1).float().mean((1, 2))
    assert share.min() > 0.008
    assert share.median() > 0.06
    assert len(r.object_class.unique()) == len(yards.OBJECTS)
    assert len(r.place.unique()) == len(yards.PLACE_NAMES)
    assert len(r.semantic.unique()) == len(yards.SEMANTIC)
    for k, yard in enumerate(drawn):
        assert (r.semantic[k][r.object_id[k] == 1] == 6 + yard.classes[0]).all()
        assert abs(yard.eye[0]) < yard.half[0]
        assert abs(yard.eye[2]) < yard.half[1]
        # Rays are tested against bounding spheres in front of the eye, so it must be in none.
        for primitive in yard.primitives:
            assert math.dist(primitive.center, yard.eye) > primitive.bound


def test_yard_k_does_not_depend_on_how_many_are_drawn() -> None:
    many = yards.render_rgb8(0, 6, seed=7, size=20)
    assert np.array_equal(yards.render_rgb8(0, 3, seed=7, size=20), many[:3])
    assert np.array_equal(yards.render_rgb8(4, 2, seed=7, size=20), many[4:])
    assert yards.sample_scenes(0, 6, 7)[4:] == yards.sample_scenes(4, 2, 7)
    assert not np.array_equal(yards.render_rgb8(0, 1, seed=8, size=20), many[:1])


def test_yards_share_no_draw_with_the_rooms_of_a_seed() -> None:
    yard, room = yards.sample_scenes(4, 1, 9)[0], rooms.sample_scenes(4, 1, 9)[0]
    assert yard.seed != room.seed
    # A fixed room and yard of one stream would begin with the same draw, that of the place.
    same = [
        y.place == r.place
        for y, r in zip(yards.sample_scenes(0, 60, 2), rooms.sample_scenes(0, 60, 2), strict=True)
    ]  # fmt: skip
    assert sum(same) < 30


def test_images_are_those_of_this_version() -> None:
    """A change of the images requires a new YARDS_VERSION, and new numbers here."""
    assert yards.YARDS_VERSION == yard_scenes.YARDS_VERSION == 1
    means = yards.render_rgb8(0, 6, seed=0, size=32).mean((1, 2))
    assert means == pytest.approx(np.array(GOLDEN_MEANS), abs=0.3)


GOLDEN_MEANS = [
    [160.89, 155.06, 159.45], [144.95, 112.62, 96.34], [160.93, 148.19, 138.7],
    [90.46, 101.36, 104.41], [153.7, 153.29, 147.83], [131.07, 156.28, 143.78],
]  # fmt: skip


def test_impossible_requests_are_refused() -> None:
    for call in (
        lambda: yards.sample_scenes(-1, 2, 0),
        lambda: yards.sample_scenes(0, 2, -5),
        lambda: yards.render([], 32),
        lambda: yards.render_rgb8(0, 1, 0, 1),
    ):
        with pytest.raises(UsageError):
            call()
