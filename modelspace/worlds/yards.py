"""Rendered yards with ground truth: a second, outdoor world, which no network of the zoo was trained on.

Courtyards, streets, gardens, ruins, depots and terraces under a sky, lit by the sun with hard shadows, with other
objects, textures, palettes, angles of view and camera heights than the rooms. Every label of a room also exists here,
with the same meaning; for things that a yard lacks, the closest counterpart takes the label:

- The sky has the surface and semantic class of the ceiling; it is a sphere about the eye with normals facing the eye.
- Distances are clipped at `RANGE` metres, as by a depth camera: for the sky, and for the 2 % of the ground and walls
  that are farther. With the sky at 90 metres, the sky alone caused 86 % of the variance of the log distance.
- The ground continues outside the walls, as the same plane and class.
- The sixth value of `Render.layout` is the height of the front wall's top above the ground (its `Top.base`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from modelspace.worlds import daylight, raycast, yard_surfaces
from modelspace.worlds.raycast import Hits, Render, Renderer, lit, object_coordinates, vector
from modelspace.worlds.room_scenes import CEILING, FLOOR, WALL_XN, WALL_XP, WALL_ZN, WALL_ZP
from modelspace.worlds.rooms import semantic, wall_coordinates
from modelspace.worlds.surfaces import hashed, noise
from modelspace.worlds.yard_scenes import (
    CRENEL,
    GABLE,
    OBJECTS,
    PLACE_NAMES,
    ROUND,
    RUIN,
    SKY_DISTANCE,
    WALLS,
    YARDS_VERSION,
    Top,
    Yard,
    sample_scenes,
)

__all__ = ["OBJECTS", "PLACE_NAMES", "SEMANTIC", "YARDS_VERSION", "Render", "render", "render_rgb8", "sample_scenes"]

#: Semantic classes of a pixel, in label order.
SEMANTIC = ("wall", "ground", "sky", "window", "door", "banner", *OBJECTS)

#: The largest recorded distance, metres.
RANGE = 20.0

#: Largest distance from which a shadow is cast, metres; longer shadows fall outside the yard.
_SHADOW = 40.0


def wall_top(top: Top, u: Tensor) -> Tensor:
    """(M,) height in metres of a wall's upper edge at u metres along it."""
    x = u / top.period
    part = x - x.floor()
    if top.kind == CRENEL:
        return top.base + top.rise * (part < 0.55)
    if top.kind == GABLE:
        return top.base + top.rise * (1 - (2 * part - 1).abs())
    if top.kind == ROUND:
        return top.base + top.rise * 4 * part * (1 - part)
    if top.kind == RUIN:
        salt = torch.full_like(u, top.salt)
        broken = noise(u, salt, top.period) - 0.35 + 0.12 * hashed((u / 0.35).floor(), salt)
        return (top.base + 2.2 * top.rise * broken).clamp_min(0.5)
    return torch.full_like(u, top.base)


def _along(yard: Yard, wall: int, point: Tensor) -> Tensor:
    """u in metres on a wall, from its corner."""
    return point[2] + yard.half[1] if wall in (WALL_XN, WALL_XP) else point[0] + yard.half[0]


def _plane(yard: Yard, wall: int) -> tuple[int, float]:
    """Axis and position of a wall's plane."""
    axis = wall // 2
    half = yard.half[0] if axis == 0 else yard.half[1]
    return axis, half if wall % 2 else -half


def _trace(yard: Yard, direction: Tensor) -> Hits:
    eye = vector(yard.eye, direction)
    t = torch.full_like(direction[0], SKY_DISTANCE)
    surface = torch.full_like(t, CEILING, dtype=torch.int16)
    normal = -direction
    fall = direction[1]
    ground = -yard.eye[1] / torch.where(fall.abs() < 1e-12, 1e-12, fall)
    near = (fall < 0) & (ground < t)
    t = torch.where(near, ground, t)
    surface = torch.where(near, FLOOR, surface).to(torch.int16)
    normal = torch.where(near, vector((0.0, 1.0, 0.0), direction), normal)
    for top, wall in zip(yard.tops, WALLS, strict=True):
        axis, at = _plane(yard, wall)
        d = direction[axis]
        reach = (at - yard.eye[axis]) / torch.where(d.abs() < 1e-12, 1e-12, d)
        near = (reach > 0) & (reach < t)
        point = eye + reach * direction
        near &= point[1] < wall_top(top, _along(yard, wall, point))
        t = torch.where(near, reach, t)
        surface = torch.where(near, wall, surface).to(torch.int16)
        inward = [0.0, 0.0, 0.0]
        inward[axis] = -1.0 if at > 0 else 1.0
        normal = torch.where(near, vector(inward, direction), normal)
    return raycast.meet(yard, direction, raycast.background(yard, direction, t, surface, normal))


def _inside(yard: Yard, point: Tensor) -> Tensor:
    return (point[0].abs() < yard.half[0] + 1e-6) & (point[2].abs() < yard.half[1] + 1e-6)


def _albedo(yard: Yard, hits: Hits) -> tuple[Tensor, Tensor]:
    """(3, P) albedo, and (P,) strength of the specular reflection of the sun; both are 0 for the sky."""
    albedo = torch.zeros_like(hits.point)
    gloss = torch.zeros_like(hits.t)
    on_ground = hits.surface == FLOOR
    within = _inside(yard, hits.point)
    for coat, mask in ((yard.coats[FLOOR], on_ground & within), (yard.field, on_ground & ~within)):
        rays = torch.nonzero(mask)[:, 0]
        if len(rays):
            u, v = hits.point[0, rays] + 200, hits.point[2, rays] + 200
            albedo[:, rays] = yard_surfaces.paint(coat.texture, u, v, coat.scale, coat.color, coat.second)
            gloss[rays] = yard_surfaces.GLOSS.get(coat.texture, 0.0)
    for top, wall in zip(yard.tops, WALLS, strict=True):
        rays = torch.nonzero(hits.surface == wall)[:, 0]
        if not len(rays):
            continue
        coat = yard.coats[wall]
        u, v = wall_coordinates(yard, wall, hits.point[:, rays])
        color = yard_surfaces.paint(coat.texture, u, v, coat.scale, coat.color, coat.second)
        color = color * torch.where(v < 0.25, 0.75, 1.0)  # splashed by rain
        for decal in yard.decals:
            if decal.wall != wall:
                continue
            inside = torch.nonzero((u > decal.u0) & (u < decal.u1) & (v > decal.v0) & (v < decal.v1))[:, 0]
            if len(inside):
                color[:, inside] = yard_surfaces.paint_decal(decal, u[inside], v[inside])
        if top.kind != RUIN and top.kind != ROUND:
            edge = wall_top(top, u) - v < min(0.16, 0.12 * top.base)
            color = torch.where(edge, vector(yard.coping, color), color)
        albedo[:, rays] = color
        gloss[rays] = yard_surfaces.GLOSS.get(coat.texture, 0.0)
    for number, primitive in enumerate(yard.primitives):
        rays = torch.nonzero(hits.primitive == number)[:, 0]
        if not len(rays):
            continue
        face = hits.surface[rays] - (6 + 6 * number)
        u, v = object_coordinates(primitive, hits.point[:, rays], face)
        albedo[:, rays] = yard_surfaces.paint(
            primitive.texture, u + 20, v + 20, primitive.scale, primitive.color, primitive.second
        )
        gloss[rays] = yard_surfaces.GLOSS.get(primitive.texture, 0.0)
    return albedo, gloss


def _sunny(yard: Yard, point: Tensor) -> Tensor:
    """(M,) bool: whether nothing is between points (3, M) and the sun."""
    sun = vector(yard.sky.sun, point)
    free = torch.ones_like(point[0], dtype=torch.bool)
    within = _inside(yard, point)
    for top, wall in zip(yard.tops, WALLS, strict=True):
        axis, at = _plane(yard, wall)
        slope = yard.sky.sun[axis]
        if slope * at <= 1e-9:
            continue
        reach = (at - point[axis]) / slope
        crossing = point + reach * sun
        hidden = (reach > 1e-3) & (crossing[1] < wall_top(top, _along(yard, wall, crossing)))
        side = _along(yard, wall, crossing)
        length = 2 * (yard.half[1] if axis == 0 else yard.half[0])
        free &= ~(hidden & within & (side > 0) & (side < length))
    candidates = torch.nonzero(free)[:, 0]
    free[candidates] = lit(yard, point[:, candidates], point[:, candidates] + _SHADOW * sun)
    return free


def _shade(yard: Yard, direction: Tensor, hits: Hits) -> Tensor:
    """(3, P) radiance, gamma 2, in [0, 1]."""
    solid = torch.nonzero(hits.surface != CEILING)[:, 0]
    above = torch.nonzero(hits.surface == CEILING)[:, 0]
    out = torch.zeros_like(direction)
    out[:, above] = daylight.sky_color(yard.sky, yard.index, direction[:, above])
    albedo, gloss = _albedo(yard, hits)
    point, normal = hits.point[:, solid], hits.normal[:, solid]
    # Less light near the base of walls and objects.
    open_sky = 0.6 + 0.4 * (point[1] / 1.2).clamp(0, 1)
    wall_gap = torch.minimum((yard.half[0] - point[0].abs()).abs(), (yard.half[1] - point[2].abs()).abs())
    on_ground = hits.surface[solid] == FLOOR
    open_sky = torch.where(on_ground, 0.55 + 0.45 * (wall_gap / 1.5).clamp(0, 1), open_sky)
    for primitive in yard.primitives:
        wide = max(primitive.size[0], primitive.size[2])
        if primitive.center[1] - primitive.bound < 0.3:
            near = (point[0] - primitive.center[0]) ** 2 + (point[2] - primitive.center[2]) ** 2
            dark = 0.5 * (1 - near / (1.7 * wide) ** 2).clamp_min(0)
            open_sky = torch.where(on_ground, open_sky * (1 - dark), open_sky)
    toward = torch.nonzero((normal * vector(yard.sky.sun, direction)).sum(0) > 0)[:, 0]
    sunny = torch.zeros_like(open_sky, dtype=torch.bool)
    sunny[toward] = _sunny(yard, point[:, toward] + 2e-3 * normal[:, toward])
    hit = daylight.Surfaces(
        normal, direction[:, solid], hits.t[solid], albedo[:, solid], gloss[solid], open_sky, sunny
    )  # fmt: skip
    out[:, solid] = daylight.radiance(yard.sky, yard.ambient, yard.coats[FLOOR].color, hit)
    return daylight.exposed(out)


def _frame(yard: Yard) -> tuple[list[float], np.ndarray]:
    """As for a room (`raycast.frame`), with the height of the front wall instead of that of the ceiling."""
    layout, axes = raycast.frame(yard)
    forward = yard.rotation[:, 2]
    if abs(forward[0]) > abs(forward[2]):
        front = WALL_XP if forward[0] > 0 else WALL_XN
    else:
        front = WALL_ZP if forward[2] > 0 else WALL_ZN
    return [*layout[:5], yard.tops[WALLS.index(front)].base], axes


#: How yards are rendered.
YARDS = Renderer(_trace, _shade, semantic, _frame, RANGE)


def render(yards: list[Yard], size: int, device: str | torch.device = "cpu", samples: int = 2) -> Render:
    """Images and ground truth of yards; see `modelspace.worlds.raycast.render`."""
    return raycast.render(YARDS, yards, size, device, samples)


def render_rgb8(first: int, count: int, seed: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8 images of yards first .. first + count - 1: the probe set `yards`.

    Raises:
        UsageError: an argument is out of range.
    """
    return raycast.render_rgb8(YARDS, sample_scenes(first, count, seed), size)
