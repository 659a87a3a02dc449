"""The streets against ground truth from a second implementation: signed distances for objects, houses and the ground,
rectangles for what is painted on fronts, and a walk towards the sun for shadows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from scene_geometry import check_labels, check_normals, check_normals_of_planes, objects_distance, pixel_rays

from modelspace.errors import UsageError
from modelspace.worlds import rooms, street_scenes, street_surfaces, streets, yards
from modelspace.worlds.room_scenes import PLAIN, SPHERE, Coat, Primitive
from modelspace.worlds.street_scenes import (
    FACE_XN,
    FACE_XP,
    FACE_ZN,
    FACE_ZP,
    KERB_P,
    PAVEMENT_N,
    PAVEMENT_P,
    ROAD,
    ROOF_N,
    ROOF_P,
    SKY,
    House,
    Street,
)
from modelspace.worlds.street_surfaces import DOOR, SIGN, WALL, WINDOW
from modelspace.worlds.yard_scenes import WATER

#: The core tests the parts that these are made of.
pytestmark = pytest.mark.wide

SIZE = 24

Sampled = tuple[list[Street], rooms.Render]


def house_distance(house: House, p: np.ndarray) -> np.ndarray:
    """A distance that points (M, 3) have at least from a house; negative inside."""
    x, z = abs(p[:, 0] - house.center[0]), abs(p[:, 2] - house.center[1])
    across, half = (x, house.half[0]) if house.ridge == 2 else (z, house.half[1])
    above = p[:, 1] - (house.eaves + house.rise * (1 - across / half))
    roof = above * math.cos(math.atan2(house.rise, half))
    return np.max([x - house.half[0], z - house.half[1], roof], axis=0)


def street_distance(street: Street, p: np.ndarray) -> np.ndarray:
    """A distance that points (M, 3) have at least from the nearest object, house or ground."""
    pavement = np.maximum(street.road - abs(p[:, 0]), p[:, 1] - street.kerb)
    houses = [house_distance(house, p) for house in street.houses]
    return np.min([p[:, 1], pavement, objects_distance(street, p), *houses], axis=0)


def walk(street: Street, origin: np.ndarray, directions: np.ndarray, limit: float) -> np.ndarray:
    """(M,) lengths of rays from `origin` (3,) or (M, 3) up to the first surface, at most `limit`."""
    t = np.zeros(len(directions))
    for _ in range(200):
        t = np.minimum(t + street_distance(street, origin + t[:, None] * directions), limit)
    return t


@pytest.fixture(scope="module")
def sampled() -> Sampled:
    drawn = streets.sample_scenes(0, 12, seed=3)
    return drawn, streets.render(drawn, SIZE, samples=1)


def test_distance_agrees_with_a_walk_along_each_ray(sampled: Sampled) -> None:
    drawn, r = sampled
    for street, distance in zip(drawn[:3], r.distance[:3], strict=True):
        expected = walk(street, np.array(street.eye), pixel_rays(street, SIZE), streets.RANGE)
        error = abs(expected - distance.double().numpy().ravel())
        assert np.quantile(error, 0.98) < 1e-3  # the walk is slow where a ray grazes an edge or the ground


def test_shadows_agree_with_a_walk_towards_the_sun(sampled: Sampled) -> None:
    drawn, r = sampled
    shares = []
    for k, street in enumerate(drawn[:3]):
        points = np.array(street.eye) + pixel_rays(street, SIZE) * r.distance[k].double().numpy().reshape(-1, 1)
        normals = r.normals[k].double().permute(1, 2, 0).reshape(-1, 3).numpy() @ street.rotation.T
        sun = np.array(street.sky.sun)
        facing = (normals @ sun > 0.05) & (r.distance[k].numpy().ravel() < streets.RANGE)
        start = points[facing] + 0.02 * normals[facing]
        expected = walk(street, start, np.broadcast_to(sun, start.shape), 39.0) > 38.9
        bright = streets.sunny(street, torch.tensor(start.T)).numpy()
        assert (bright == expected).mean() > 0.97
        shares.append(bright.mean())
    assert min(shares) < 0.9  # somewhere there is shadow
    assert max(shares) > 0.3


def by_hand(eye: tuple[float, float, float], **changes: object) -> Street:
    """A road 6 m wide with pavements of 2 m, one house on each side and at both ends, and a ball on the right."""
    coat = Coat(PLAIN, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 1.0)

    def house(center: tuple[float, float], half: tuple[float, float], front: int, rise: float, ridge: int) -> House:
        return House(
            center=center, half=half, eaves=4.0, rise=rise, ridge=ridge, front=front, wall=coat, roof=coat,
            trim=(1, 1, 1), paint=(1, 0, 0), storey=3.0, bay=2.0, window=(0.5, 0.5), hall=False, shop=False,
            sign=False, door=0, salt=1,
        )  # fmt: skip

    houses = (
        house((-8.0, 0.0), (3.0, 6.0), FACE_XP, 3.0, 2), house((8.0, 0.0), (3.0, 6.0), FACE_XN, 0.0, 2),
        house((0.0, -13.0), (9.0, 3.0), FACE_ZP, 0.0, 0), house((0.0, 13.0), (9.0, 3.0), FACE_ZN, 2.0, 2),
    )  # fmt: skip
    ball = Primitive(SPHERE, (4.0, 1.0, 2.0), (0.4, 0.0, 0.0), 0.0, 1, (1, 0, 0), (1, 0, 0), PLAIN, 1.0)
    street = replace(
        streets.sample_scenes(0, 1, 0)[0], half=(5.0, 10.0), road=3.0, kerb=0.2, houses=houses, primitives=(ball,),
        classes=(3,), eye=eye, yaw=0.0, pitch=0.0, roll=0.0, fov=math.pi / 2,
    )  # fmt: skip
    return replace(street, **changes)  # type: ignore[arg-type]


def test_a_street_by_hand() -> None:
    street = by_hand((0.0, 1.0, -4.0))
    r = streets.render([street], 101, samples=1)
    distance, surface, kind = r.distance[0], r.surface_id[0], r.semantic[0]
    first_house = 6 + 6 * 1
    # Straight ahead is the last house, 14 m away; its gable is 4 m to 6 m high.
    assert distance[50, 50] == pytest.approx(14.0)
    assert surface[50, 50] == first_house + 6 * 3 + FACE_ZN
    assert r.normals[0, :, 50, 50].tolist() == pytest.approx([0, 0, -1], abs=1e-6)
    ridge = 50 - 50.5 * 5 / 14
    assert surface[math.ceil(ridge), 50] == first_house + 6 * 3 + FACE_ZN
    assert surface[math.floor(ridge) - 1, 50] == SKY
    assert distance[math.floor(ridge) - 1, 50] == streets.RANGE
    # At the side of the gable, 7 m from the middle, the roof is lower.
    column = 50 + round(50.5 * 7 / 14)
    assert surface[50 - math.floor(50.5 * 4 / 14), column] == SKY
    # The road below, and the right pavement behind its kerb.
    assert (surface[100, 50], kind[100, 50]) == (ROAD, 1)
    assert r.zdepth[0, 100, 50] == pytest.approx(1 / (50 / 50.5))
    across = 50 + 45  # 45 columns aside: the kerb is met 3 m aside, 3.37 m ahead
    heights = {number: 1 - (row - 50) / 45 * 3 for number, row in (("kerb", 64), ("pavement", 60))}
    assert 0 < heights["kerb"] < 0.2 < heights["pavement"]
    assert surface[64, across] == KERB_P
    assert r.normals[0, :, 64, across].tolist() == pytest.approx([-1, 0, 0], abs=1e-6)
    assert surface[60, across] == PAVEMENT_P
    assert surface[60, 100 - across] == PAVEMENT_N
    assert (kind[64, across], kind[60, across]) == (1, 1)
    # The ball, 4 m aside and 6 m ahead, is a lamp.
    seen = 50 + round(50.5 * 4 / 6)
    assert kind[50, seen] == 6 + 3
    assert distance[50, seen] == pytest.approx(math.hypot(4, 6) - 0.4, abs=0.02)
    assert r.curvature[0, :, 50, seen].tolist() == pytest.approx([2.5, 2.5])
    # Front, back, left, right, ground, eaves.
    assert r.layout[0].tolist() == pytest.approx([14, 6, 5, 5, 1, 4])


def test_roofs_and_the_ground_under_the_camera_by_hand() -> None:
    # From the right pavement, across the street to the house with a roof along it, and up.
    street = by_hand((4.0, 3.0, 0.0), yaw=-math.pi / 2, pitch=0.3, primitives=(), classes=(0,))
    r = streets.render([street], 101, samples=1)
    slopes = r.normals[0][:, r.surface_id[0] == 6 + ROOF_P]
    assert slopes.shape[1] > 100
    # 45 degrees in the world, and the camera looks up by 0.3.
    expected = [0, math.cos(math.pi / 4 - 0.3), -math.sin(math.pi / 4 - 0.3)]
    assert slopes.mean(1).tolist() == pytest.approx(expected, abs=1e-5)
    assert not (r.surface_id[0] == 6 + ROOF_N).any()
    assert r.layout[0].tolist() == pytest.approx([9, 1, 10, 10, 2.8, 4])
    flat = by_hand((-4.0, 6.0, 0.0), yaw=math.pi / 2, pitch=-0.3, primitives=(), classes=(0,))
    r = streets.render([flat], 51, samples=1)
    top = r.surface_id[0] == 6 + 6 + ROOF_P
    assert top.any()
    assert r.normals[0][:, top].mean(1).tolist() == pytest.approx([0, math.cos(0.3), -math.sin(0.3)], abs=1e-5)


def rectangles(house: House) -> Iterator[tuple[int, float, float, float, float]]:
    """What is painted on a front, the later on top: kind, and the bounds of u and v."""
    bays = round(house.length / house.bay)
    half, top = street_surfaces.opening(house)
    for storey in range(street_surfaces.rows(house)):
        for bay in range(bays):
            u, v = (bay + 0.5) * house.bay, storey * house.storey
            wide, high = house.window[0] * house.bay / 2, house.window[1] * house.storey / 2
            low, up = v + 0.52 * house.storey - high, v + 0.52 * house.storey + high
            if house.hall:
                wide, low, up = 0.4 * house.bay, 0.74 * house.storey, 0.9 * house.storey
            elif house.shop and storey == 0:
                wide, low, up = 0.46 * house.bay, 0.12 * house.storey, 0.76 * house.storey
            if storey or bay != house.door or house.shop or house.hall:
                yield WINDOW, u - wide, u + wide, low, up
    door = (house.door + 0.5) * house.bay
    yield DOOR, door - half, door + half, 0.0, top
    if house.sign:
        share = 0.42 if house.shop else 0.25
        yield SIGN, house.length * (0.5 - share), house.length * (0.5 + share), 0.8 * house.storey, 0.98 * house.storey


def test_fronts_by_definition() -> None:
    drawn = [house for street in streets.sample_scenes(0, 40, seed=2) for house in street.houses]
    shops = [house for house in drawn if house.shop]
    halls = [house for house in drawn if house.hall]
    signs = [house for house in drawn if house.sign and not house.shop]
    assert min(len(shops), len(halls), len(signs)) >= 3
    for house in (*drawn[:4], *shops[:3], *halls[:3], *signs[:3]):
        rng = np.random.default_rng(house.salt)
        u, v = rng.uniform(0, house.length, 1500), rng.uniform(-0.2, house.eaves + 0.5, 1500)
        expected = np.full(1500, WALL)
        for kind, u0, u1, v0, v1 in rectangles(house):
            expected[(u > u0) & (u < u1) & (v >= v0) & (v < v1)] = kind
            assert v1 < house.eaves
            assert 0 <= u0 < u1 <= house.length
        assert (street_surfaces.front(house, torch.tensor(u), torch.tensor(v)).numpy() == expected).all()
        assert {WALL, WINDOW, DOOR} <= set(expected.tolist())
        assert (SIGN in expected) == house.sign


def test_what_is_painted_on_a_front_has_its_class(sampled: Sampled) -> None:
    drawn, r = sampled
    checked = 0
    for k, street in enumerate(drawn):
        first = 6 + 6 * len(street.primitives)
        points = np.array(street.eye) + pixel_rays(street, SIZE) * r.distance[k].double().numpy().reshape(-1, 1)
        ids, kinds = r.surface_id[k].numpy().ravel(), r.semantic[k].numpy().ravel()
        near = r.distance[k].numpy().ravel() < streets.RANGE
        for number, house in enumerate(street.houses):
            axis = 0 if house.front in (FACE_ZN, FACE_ZP) else 2
            u = points[:, axis] - (house.center[axis // 2] - house.half[axis // 2])
            for pixel in np.flatnonzero((ids == first + 6 * number + house.front) & near):
                v, kind = points[pixel, 1] - street.kerb, WALL
                for painted, u0, u1, v0, v1 in rectangles(house):
                    if u0 < u[pixel] < u1 and v0 < v < v1:
                        kind = painted
                checked += int(kinds[pixel] == kind)
                assert (
                    kinds[pixel] == kind
                    or min(
                        min(abs(u[pixel] - u0), abs(u[pixel] - u1), abs(v - v0), abs(v - v1))
                        for _, u0, u1, v0, v1 in rectangles(house)
                    )
                    < 1e-4
                )  # float32 distances
    assert checked > 500


def test_normals_are_unit_and_face_the_camera(sampled: Sampled) -> None:
    check_normals(*sampled)


def test_normals_of_planes_are_cross_products_of_neighbouring_points(sampled: Sampled) -> None:
    check_normals_of_planes(*sampled, streets.RANGE)


def test_labels_have_the_counts_that_the_tasks_predict(sampled: Sampled) -> None:
    check_labels(streets, sampled[1])


def test_every_class_is_seen_and_the_main_object_always() -> None:
    drawn = streets.sample_scenes(0, 60, seed=1)
    r = streets.render(drawn, 24, samples=1)
    share = (r.object_id == 1).float().mean((1, 2))
    assert share.min() > 0.006
    assert share.median() > 0.05
    assert len(r.object_class.unique()) == len(streets.OBJECTS)
    assert len(r.place.unique()) == len(streets.PLACE_NAMES)
    assert len(r.semantic.unique()) == len(streets.SEMANTIC)
    for k, street in enumerate(drawn):
        assert (r.semantic[k][r.object_id[k] == 1] == 6 + street.classes[0]).all()


def test_the_camera_stands_on_the_ground_outside_of_everything() -> None:
    for street in streets.sample_scenes(0, 300, seed=4):
        x, y, z = street.eye
        assert abs(x) < street.half[0] - 0.4
        assert abs(z) < street.half[1] - 0.7
        assert 0.7 < y - (street.kerb if abs(x) > street.road else 0.0) < 2.7
        assert street.coats[ROAD].texture != WATER or abs(x) > street.road
        # Rays are tested against bounding spheres in front of the eye, so it must be in none.
        for primitive in street.primitives:
            assert math.dist(primitive.center, street.eye) > primitive.bound
        # No house is nearer than the building lines.
        for house in street.houses:
            axis, sign = {FACE_XN: (0, 1), FACE_XP: (0, -1), FACE_ZN: (1, 1), FACE_ZP: (1, -1)}[house.front]
            assert sign * house.center[axis] - house.half[axis] > street.half[axis] - 1e-9


def test_street_k_does_not_depend_on_how_many_are_drawn() -> None:
    many = streets.render_rgb8(0, 4, seed=7, size=20)
    assert np.array_equal(streets.render_rgb8(0, 2, seed=7, size=20), many[:2])
    assert np.array_equal(streets.render_rgb8(3, 1, seed=7, size=20), many[3:])
    assert streets.sample_scenes(0, 6, 7)[4:] == streets.sample_scenes(4, 2, 7)
    assert not np.array_equal(streets.render_rgb8(0, 1, seed=8, size=20), many[:1])


def test_streets_share_no_draw_with_the_other_worlds_of_a_seed() -> None:
    worlds = (streets, yards, rooms)
    assert len({world.sample_scenes(4, 1, 9)[0].seed for world in worlds}) == 3
    # Fixed scenes of one stream would begin with the same draw, that of the place.
    drawn = [[scene.place for scene in world.sample_scenes(0, 60, 2)] for world in worlds]
    for other in drawn[1:]:
        assert sum(a == b for a, b in zip(drawn[0], other, strict=True)) < 30


def test_images_are_those_of_this_version() -> None:
    """A change of the images requires a new STREETS_VERSION, and new numbers here."""
    assert streets.STREETS_VERSION == street_scenes.STREETS_VERSION == 1
    means = streets.render_rgb8(0, 6, seed=0, size=32).mean((1, 2))
    assert means == pytest.approx(np.array(GOLDEN_MEANS), abs=0.3)


GOLDEN_MEANS = [
    [132.71, 119.79, 119.19], [111.74, 120.56, 108.16], [164.64, 168.65, 172.44],
    [85.19, 87.01, 99.19], [150.73, 141.5, 145.58], [139.35, 129.52, 130.58],
]  # fmt: skip


def test_impossible_requests_are_refused() -> None:
    for call in (
        lambda: streets.sample_scenes(-1, 2, 0),
        lambda: streets.sample_scenes(0, 2, -5),
        lambda: streets.render([], 32),
        lambda: streets.render_rgb8(0, 1, 0, 1),
    ):
        with pytest.raises(UsageError):
            call()
