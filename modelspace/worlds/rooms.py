"""Rendered rooms with ground truth: the world that the zoo is trained on, and the images of the probe set `rooms`.

`modelspace.worlds.raycast` renders them; this module has the planes and the shading of a room.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from modelspace.worlds import raycast, surfaces
from modelspace.worlds.raycast import Hits, Render, Renderer, lit, object_coordinates, vector
from modelspace.worlds.room_scenes import (
    CEILING,
    FLOOR,
    OBJECTS,
    PLACE_NAMES,
    RENDERER_VERSION,
    WALL_XN,
    WALL_XP,
    Scene,
    Scenes,
    sample_scenes,
)

__all__ = ["OBJECTS", "PLACE_NAMES", "RENDERER_VERSION", "SEMANTIC", "Render", "render", "render_rgb8", "sample_scenes"]

#: Semantic classes of a pixel, in label order.
SEMANTIC = ("wall", "floor", "ceiling", "window", "door", "picture", *OBJECTS)


def _room(scene: Scene, direction: Tensor) -> tuple[Tensor, Tensor]:
    """(P,) distance to the room's planes and (P,) int16 surface 0..5."""
    bounds = ((-scene.half[0], scene.half[0]), (0.0, scene.height), (-scene.half[1], scene.half[1]))
    best = torch.full_like(direction[0], math.inf)
    surface = torch.zeros_like(best, dtype=torch.int16)
    for axis, (low, high) in enumerate(bounds):
        d = direction[axis]
        up = d > 0
        t = torch.where(up, high - scene.eye[axis], low - scene.eye[axis]) / torch.where(d.abs() < 1e-12, 1e-12, d)
        near = (t < best) & (t > 0)
        best = torch.where(near, t, best)
        surface = torch.where(near, (2 * axis + up).to(torch.int16), surface)
    return best, surface


def _trace(scene: Scene, direction: Tensor) -> Hits:
    t, surface = _room(scene, direction)
    sign = (1 - 2 * (surface % 2)).to(direction.dtype)  # inward
    normal = torch.stack([torch.where(surface // 2 == axis, sign, 0.0) for axis in range(3)])
    return raycast.meet(scene, direction, raycast.background(scene, direction, t, surface, normal))


def wall_coordinates(scene: Scene, surface: int, point: Tensor) -> tuple[Tensor, Tensor]:
    """u, v in metres on a room surface, from its corner."""
    x, z = point[0] + scene.half[0], point[2] + scene.half[1]
    if surface in (FLOOR, CEILING):
        return x, z
    return (z, point[1]) if surface in (WALL_XN, WALL_XP) else (x, point[1])


def _albedo(scene: Scene, hits: Hits) -> tuple[Tensor, Tensor]:
    """Albedo and emitted light, each (3, P)."""
    albedo, glow = torch.zeros_like(hits.point), torch.zeros_like(hits.point)
    for number, coat in enumerate(scene.coats):
        rays = torch.nonzero(hits.surface == number)[:, 0]
        if not len(rays):
            continue
        u, v = wall_coordinates(scene, number, hits.point[:, rays])
        albedo[:, rays] = surfaces.paint(coat.texture, u, v, coat.scale, coat.color, coat.second)
        if number not in (FLOOR, CEILING):
            albedo[:, rays] *= torch.where(v < 0.1, 0.6, 1.0)  # skirting board
        for decal in scene.decals:
            if decal.wall != number:
                continue
            inside = torch.nonzero((u > decal.u0) & (u < decal.u1) & (v > decal.v0) & (v < decal.v1))[:, 0]
            if len(inside):
                spot = rays[inside]
                albedo[:, spot], glow[:, spot] = surfaces.paint_decal(decal, u[inside], v[inside])
    for number, primitive in enumerate(scene.primitives):
        rays = torch.nonzero(hits.primitive == number)[:, 0]
        if not len(rays):
            continue
        face = hits.surface[rays] - (6 + 6 * number)
        u, v = object_coordinates(primitive, hits.point[:, rays], face)
        color = surfaces.paint(primitive.texture, u, v, primitive.scale, primitive.color, primitive.second)
        albedo[:, rays] = color
        glow[:, rays] = primitive.glow * color
    return albedo, glow


def _shade(scene: Scene, direction: Tensor, hits: Hits) -> Tensor:
    """(3, P) radiance, gamma 2, in [0, 1]."""
    albedo, glow = _albedo(scene, hits)
    x, y, z = hits.point
    lean = 0.5 + 0.5 * hits.normal[1]
    corner = torch.stack(
        [scene.half[0] - x.abs(), scene.half[1] - z.abs(), y.clamp_min(0), (scene.height - y).clamp_min(0)]
    ).clamp_min(0)
    corner = corner.sort(0).values[1]  # distance to the second nearest plane: small in corners of the room
    shadow = 0.55 + 0.45 * (corner / 0.5).clamp_max(1)
    on_floor = hits.surface == FLOOR
    for primitive in scene.primitives:
        gap = primitive.center[1] - primitive.bound
        wide = max(primitive.size[0], primitive.size[2])
        if gap < 0.25:  # stands on the floor: a dark area around it
            near = (x - primitive.center[0]) ** 2 + (z - primitive.center[2]) ** 2
            dark = 0.45 * (1 - near / (1.5 * wide) ** 2).clamp_min(0)
            shadow = torch.where(on_floor, shadow * (1 - dark), shadow)
    shiny = torch.nonzero(hits.primitive >= 0)[:, 0]
    total = (scene.ambient * (0.75 + 0.5 * lean) * shadow) * albedo + glow
    for light in scene.lights:
        position = vector(light.position, direction)
        way = position - hits.point
        square = (way * way).sum(0)
        facing = (way * hits.normal).sum(0) / square.sqrt()
        facing_up = torch.nonzero(facing > 0)[:, 0]
        start = hits.point[:, facing_up] + 1e-3 * hits.normal[:, facing_up]
        strength = torch.zeros_like(facing)
        free = lit(scene, start, position).to(facing.dtype)
        strength[facing_up] = facing[facing_up] * (0.12 + 0.88 * free) / (0.6 + square[facing_up])
        bright = 1.6 * strength * vector(light.color, direction)
        total = total + bright * albedo
        half = way[:, shiny] / square[shiny].sqrt() - direction[:, shiny]
        gloss = ((half * hits.normal[:, shiny]).sum(0) / (half * half).sum(0).sqrt()).clamp_min(0)
        for _ in range(5):
            gloss = gloss * gloss
        total[:, shiny] += 0.35 * gloss * strength[shiny]
    return (total / (0.86 + 0.22 * total)).clamp(0, 1).sqrt()


def semantic(scene: Scene, hits: Hits) -> Tensor:
    """(P,) int16 class of each hit, index into `SEMANTIC`."""
    label = torch.where(hits.surface == FLOOR, 1, torch.where(hits.surface == CEILING, 2, 0)).to(torch.int16)
    for decal in scene.decals:
        on_wall = hits.surface == decal.wall
        u, v = wall_coordinates(scene, decal.wall, hits.point)
        inside = on_wall & (u > decal.u0) & (u < decal.u1) & (v > decal.v0) & (v < decal.v1)
        label = torch.where(inside, 3 + decal.kind, label)
    classes = torch.tensor((0, *scene.classes), dtype=torch.int16, device=label.device)
    return torch.where(hits.object_number > 0, 6 + classes[hits.object_number.long()], label).to(torch.int16)


#: How rooms are rendered.
ROOMS = Renderer(_trace, _shade, semantic, raycast.frame)


def render(scenes: Scenes, size: int, device: str | torch.device = "cpu", samples: int = 2) -> Render:
    """Images and ground truth of rooms; see `modelspace.worlds.raycast.render`."""
    return raycast.render(ROOMS, scenes, size, device, samples)


def render_rgb8(first: int, count: int, seed: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8 images of scenes first .. first + count - 1: the probe set `rooms`.

    Raises:
        UsageError: an argument is out of range.
    """
    return raycast.render_rgb8(ROOMS, sample_scenes(first, count, seed), size)
