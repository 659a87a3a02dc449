"""Rendered streets with ground truth: a third world, for measuring transfer once; nothing is trained or chosen on it.

Roads between rows of houses under a sky, lit by the sun with hard shadows, seen at eye height. The objects, the houses
and their windows, the places and the skies are others than those of the yards. Every label of a room also exists here,
with the same meaning; for things that a street lacks, the closest counterpart takes the label:

- The sky has the surface and semantic class of the ceiling; it is a sphere about the eye with normals facing the eye.
- Distances are clipped at `RANGE` metres, as by a depth camera: for the sky, and for what is farther.
- Road, pavements and the faces of kerbs are all ground, but different surfaces.
- Each of a house's faces is a surface; its windows, doors and signs are paint, and its roof is wall.
- The walls of `Render.layout` are the building lines, and its floor is the ground under the camera. Its sixth value is
  the height of the eaves straight ahead, above the road.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from modelspace.worlds import daylight, raycast, street_surfaces, yard_surfaces
from modelspace.worlds.raycast import Hits, Render, Renderer, lit, object_coordinates, vector
from modelspace.worlds.shapes import NEAR
from modelspace.worlds.street_scenes import (
    FACE_XN,
    FACE_XP,
    FACE_ZN,
    FACE_ZP,
    KERB_N,
    KERB_P,
    OBJECTS,
    PAVEMENT_N,
    PAVEMENT_P,
    PLACE_NAMES,
    ROAD,
    SKY,
    SKY_DISTANCE,
    STREETS_VERSION,
    House,
    Street,
    sample_scenes,
)

__all__ = ["OBJECTS", "PLACE_NAMES", "SEMANTIC", "STREETS_VERSION", "Render", "render", "render_rgb8", "sample_scenes"]

#: Semantic classes of a pixel, in label order.
SEMANTIC = ("wall", "ground", "sky", "window", "door", "sign", *OBJECTS)

#: The largest recorded distance, metres.
RANGE = 30.0

#: Largest distance from which an object casts a shadow, metres.
_SHADOW = 40.0


def _first_house_surface(street: Street) -> int:
    """Number of the first house's first face: after those of the primitives."""
    return 6 + 6 * len(street.primitives)


def _along(normal: tuple[float, float, float], vectors: Tensor) -> Tensor:
    """(M,) inner products of a plane's normal, which has one or two components, with vectors (3, M)."""
    first, *rest = (axis for axis in range(3) if normal[axis])
    product = normal[first] * vectors[first]
    return product + normal[rest[0]] * vectors[rest[0]] if rest else product


def enter(house: House, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter a house from outside.

    Args:
        house: a convex body.
        origin: (3, M) or (3, 1).
        direction: (3, M) or (3, 1).

    Returns:
        (M,) t, infinite where the ray misses, and (M,) int16 face.
    """
    first = torch.full_like(origin[0] + direction[0], -math.inf)
    last = torch.full_like(first, math.inf)
    face = torch.zeros_like(first, dtype=torch.int16)
    for number, normal, offset in house.planes:
        fall, height = _along(normal, direction), _along(normal, origin)
        entering = fall <= -1e-12
        t = (offset - height) / torch.where(entering, fall, fall.clamp_min(1e-12))
        later = entering & (t > first)
        first = torch.where(later, t, first)
        face = torch.where(later, number, face).to(torch.int16)
        last = torch.where(entering, last, torch.minimum(t, last))
    return torch.where((first < last) & (first > NEAR), first, math.inf), face


def _normals(house: House, like: Tensor) -> Tensor:
    """(3, 6) unit normals of the faces; 0 for a face that the house lacks."""
    normals = torch.zeros(3, 6, dtype=like.dtype, device=like.device)
    for face, normal, _ in house.planes:
        normals[:, face] = vector(normal, like)[:, 0] / math.hypot(*normal)
    return normals


def _on_ground(street: Street, direction: Tensor, hits: Hits) -> Hits:
    """Hits with road, pavements and kerbs included; writes into the tensors of `hits`."""
    ex, ey, _ = street.eye
    fall = torch.where(direction[1] < -1e-12, direction[1], -1e-12)
    up = (0.0, 1.0, 0.0)

    def put(mask: Tensor, t: Tensor, surface: int, normal: tuple[float, float, float]) -> None:
        near = mask & (t > 0) & (t < hits.t)
        hits.t[near] = t[near]
        hits.surface[near] = surface
        hits.normal[:, near] = vector(normal, direction)

    down = direction[1] < 0
    level = -ey / fall
    put(down & ((ex + level * direction[0]).abs() <= street.road), level, ROAD, up)
    level = (street.kerb - ey) / fall
    x = ex + level * direction[0]
    put(down & (x < -street.road), level, PAVEMENT_N, up)
    put(down & (x > street.road), level, PAVEMENT_P, up)
    for side, surface in ((-1.0, KERB_N), (1.0, KERB_P)):
        outward = side * direction[0] > 1e-12
        t = (side * street.road - ex) / torch.where(outward, direction[0], side)
        y = ey + t * direction[1]
        put(outward & (y >= 0) & (y < street.kerb), t, surface, (-side, 0.0, 0.0))
    return hits


def _trace(street: Street, direction: Tensor) -> Hits:
    t = torch.full_like(direction[0], SKY_DISTANCE)
    surface = torch.full_like(t, SKY, dtype=torch.int16)
    hits = _on_ground(street, direction, raycast.background(street, direction, t, surface, -direction))
    eye, base = vector(street.eye, direction), _first_house_surface(street)
    sides = {}
    for front, axis, sign in ((FACE_XN, 0, 1), (FACE_XP, 0, -1), (FACE_ZN, 2, 1), (FACE_ZP, 2, -1)):
        ahead = torch.nonzero(sign * direction[axis] > 0)[:, 0]
        sides[front] = ahead, direction[:, ahead]
    for number, house in enumerate(street.houses):
        ahead, toward = sides[house.front]  # the camera is in front of every house
        t, face = enter(house, eye, toward)
        near = torch.nonzero(t < hits.t[ahead])[:, 0]
        if not len(near):
            continue
        visible, faces = ahead[near], face[near]
        hits.t[visible] = t[near]
        hits.surface[visible] = faces + (base + 6 * number)
        hits.normal[:, visible] = _normals(house, t)[:, faces.long()]
    return raycast.meet(street, direction, replace(hits, point=eye + hits.t * direction))


def front_coordinates(street: Street, house: House, point: Tensor) -> tuple[Tensor, Tensor]:
    """u, v in metres on the front of a house: from its end with the smaller coordinate, and above the pavement."""
    axis = 2 if house.front in (FACE_XN, FACE_XP) else 0
    start = house.center[axis // 2] - house.half[axis // 2]
    return point[axis] - start, point[1] - street.kerb


def _house_albedo(street: Street, house: House, face: int, point: Tensor) -> tuple[Tensor, Tensor | float]:
    if face == house.front:
        return street_surfaces.paint_front(house, *front_coordinates(street, house, point))
    if face in (FACE_XN, FACE_XP, FACE_ZN, FACE_ZP):
        coat = house.wall
        u, v = (point[2] if face in (FACE_XN, FACE_XP) else point[0]) + 200, point[1]
    else:
        coat = house.roof
        u, v = point[house.ridge] + 200, (point[2 - house.ridge] if house.rise else point[2]) + 200
    color = yard_surfaces.paint(coat.texture, u, v, coat.scale, coat.color, coat.second)
    return color, yard_surfaces.GLOSS.get(coat.texture, 0.0)


def _albedo(street: Street, hits: Hits) -> tuple[Tensor, Tensor]:
    """(3, P) albedo, and (P,) strength of the specular reflection of the sun; both are 0 for the sky."""
    albedo, gloss = torch.zeros_like(hits.point), torch.zeros_like(hits.t)
    base = _first_house_surface(street)
    no_object = hits.primitive < 0
    for surface in np.unique(hits.surface[no_object].cpu().numpy()).tolist():
        if surface == SKY:
            continue
        rays = torch.nonzero(hits.surface == surface)[:, 0]
        point = hits.point[:, rays]
        if surface >= base:
            house = street.houses[(surface - base) // 6]
            albedo[:, rays], gloss[rays] = _house_albedo(street, house, (surface - base) % 6, point)
        elif surface == ROAD:
            albedo[:, rays] = street_surfaces.paint_road(street, point[0], point[2])
            gloss[rays] = yard_surfaces.GLOSS.get(street.coats[ROAD].texture, 0.0)
        else:
            coat = street.coats[surface]
            across = point[1] if surface in (KERB_N, KERB_P) else point[0]
            albedo[:, rays] = yard_surfaces.paint(
                coat.texture, point[2] + 200, across + 200, coat.scale, coat.color, coat.second
            )
    for number in np.unique(hits.primitive[~no_object].cpu().numpy()).tolist():
        primitive = street.primitives[number]
        rays = torch.nonzero(hits.primitive == number)[:, 0]
        u, v = object_coordinates(primitive, hits.point[:, rays], hits.surface[rays] - (6 + 6 * number))
        albedo[:, rays] = yard_surfaces.paint(
            primitive.texture, u + 20, v + 20, primitive.scale, primitive.color, primitive.second
        )
        gloss[rays] = yard_surfaces.GLOSS.get(primitive.texture, 0.0)
    return albedo, gloss


def sunny(street: Street, point: Tensor) -> Tensor:
    """(M,) bool: whether nothing is between points (3, M) and the sun."""
    sun = vector(street.sky.sun, point)
    free = torch.ones_like(point[0], dtype=torch.bool)
    for house in street.houses:
        t, _ = enter(house, point, sun)
        free &= ~t.isfinite()
    candidates = torch.nonzero(free)[:, 0]
    free[candidates] = lit(street, point[:, candidates], point[:, candidates] + _SHADOW * sun)
    return free


def _open_sky(street: Street, point: Tensor, on_ground: Tensor) -> Tensor:
    """(M,) share of the light of the sky that arrives: less near the base of houses and objects."""
    house_share = 0.55 + 0.45 * (point[1] / (1.5 * street.half[0])).clamp(0, 1)
    gap = (street.half[0] - point[0].abs()).clamp_min(0)
    open_sky = torch.where(on_ground, 0.5 + 0.5 * (gap / 2.0).clamp(0, 1), house_share)
    for primitive in street.primitives:
        wide = max(primitive.size[0], primitive.size[2])
        if primitive.center[1] - primitive.bound < street.kerb + 0.3:
            near = (point[0] - primitive.center[0]) ** 2 + (point[2] - primitive.center[2]) ** 2
            dark = 0.5 * (1 - near / (1.6 * wide) ** 2).clamp_min(0)
            open_sky = torch.where(on_ground, open_sky * (1 - dark), open_sky)
    return open_sky


def _shade(street: Street, direction: Tensor, hits: Hits) -> Tensor:
    """(3, P) radiance, gamma 2, in [0, 1]."""
    solid = torch.nonzero(hits.surface != SKY)[:, 0]
    above = torch.nonzero(hits.surface == SKY)[:, 0]
    out = torch.zeros_like(direction)
    out[:, above] = daylight.sky_color(street.sky, street.index, direction[:, above])
    albedo, gloss = _albedo(street, hits)
    point, normal = hits.point[:, solid], hits.normal[:, solid]
    open_sky = _open_sky(street, point, hits.surface[solid] < 6)
    toward = torch.nonzero((normal * vector(street.sky.sun, direction)).sum(0) > 0)[:, 0]
    free = torch.zeros_like(open_sky, dtype=torch.bool)
    free[toward] = sunny(street, point[:, toward] + 2e-3 * normal[:, toward])
    hit = daylight.Surfaces(
        normal, direction[:, solid], hits.t[solid], albedo[:, solid], gloss[solid], open_sky, free
    )  # fmt: skip
    out[:, solid] = daylight.radiance(street.sky, street.ambient, street.coats[PAVEMENT_P].color, hit)
    return daylight.exposed(out)


def semantic(street: Street, hits: Hits) -> Tensor:
    """(P,) int16 class of each hit, index into `SEMANTIC`."""
    ground = (hits.surface < 6) & (hits.surface != SKY)
    label = torch.where(ground, 1, torch.where(hits.surface == SKY, 2, 0)).to(torch.int16)
    base = _first_house_surface(street)
    for number, house in enumerate(street.houses):
        rays = torch.nonzero(hits.surface == base + 6 * number + house.front)[:, 0]
        if len(rays):
            label[rays] = street_surfaces.front(house, *front_coordinates(street, house, hits.point[:, rays]))
    classes = torch.tensor((0, *street.classes), dtype=torch.int16, device=label.device)
    return torch.where(hits.object_number > 0, 6 + classes[hits.object_number.long()], label).to(torch.int16)


def _ahead(street: Street) -> House:
    """The house in front of the camera, or the nearest of its row if a gap is there."""
    forward = street.rotation[:, 2]
    if abs(forward[0]) <= abs(forward[2]):
        return street.houses[-1 if forward[2] > 0 else -2]
    row = [house for house in street.houses if house.front == (FACE_XN if forward[0] > 0 else FACE_XP)]
    return min(row, key=lambda house: max(0.0, abs(street.eye[2] - house.center[1]) - house.half[1]))


def _frame(street: Street) -> tuple[list[float], np.ndarray]:
    """As for a room (`raycast.frame`), with the building lines, the ground under the camera, and the eaves ahead."""
    layout, axes = raycast.frame(street)
    ground = street.kerb if abs(street.eye[0]) > street.road else 0.0
    return [*layout[:4], street.eye[1] - ground, _ahead(street).eaves], axes


#: How streets are rendered.
STREETS = Renderer(_trace, _shade, semantic, _frame, RANGE)


def render(streets: list[Street], size: int, device: str | torch.device = "cpu", samples: int = 2) -> Render:
    """Images and ground truth of streets; see `modelspace.worlds.raycast.render`."""
    return raycast.render(STREETS, streets, size, device, samples)


def render_rgb8(first: int, count: int, seed: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8 images of streets first .. first + count - 1: the probe set `streets`.

    Raises:
        UsageError: an argument is out of range.
    """
    return raycast.render_rgb8(STREETS, sample_scenes(first, count, seed), size)
