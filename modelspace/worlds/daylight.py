"""Daylight, shared by the outdoor worlds: the sky with its clouds, hills and sun, and surfaces lit by both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modelspace.worlds.raycast import vector
from modelspace.worlds.room_scenes import Color
from modelspace.worlds.surfaces import noise
from modelspace.worlds.yard_scenes import Sky


@dataclass(frozen=True)
class Surfaces:
    """What M rays hit; vectors are (3, M).

    Attributes:
        normal: unit normals.
        way: unit directions of the rays.
        t: (M,) metres from the eye.
        albedo: in 0..1.
        gloss: (M,) strength of the specular reflection of the sun.
        open_sky: (M,) share of the light from sky and ground that arrives.
        sunny: (M,) bool: whether the sun is visible.
    """

    normal: Tensor
    way: Tensor
    t: Tensor
    albedo: Tensor
    gloss: Tensor
    open_sky: Tensor
    sunny: Tensor


def sky_color(sky: Sky, index: int, direction: Tensor) -> Tensor:
    """(3, M) radiance of the sky, clouds, hills and the sun in directions (3, M); `index` is that of the scene."""
    rise = direction[1].clamp(0, 1)
    share = 1 - (1 - rise) ** 3
    color = vector(sky.horizon, direction) + (vector(sky.zenith, direction) - vector(sky.horizon, direction)) * share
    flat = rise + 0.12
    u, v = direction[0] / flat + 50 + index % 97, direction[2] / flat + 50
    cloud = 0.55 * noise(u, v, 1.1) + 0.3 * noise(u, v, 0.45) + 0.15 * noise(u, v, 0.18)
    thick = ((cloud - 0.75 + 0.5 * sky.cover) * 5).clamp(0, 1) * (rise * 9).clamp(0, 1)
    color = color + (vector(sky.cloud, direction) * (0.75 + 0.3 * cloud) - color) * thick
    glow = (direction * vector(sky.sun, direction)).sum(0).clamp_min(0)
    for _ in range(4):
        glow = glow * glow
    color = color + 0.5 * glow * vector(sky.sun_color, direction)
    around = torch.atan2(direction[0], direction[2]) * 3 + 20
    ridge = sky.hills * (0.3 + noise(around, around * 0 + index % 89, 1.0) + 0.3 * noise(around, around * 0, 0.22))
    hill = vector(sky.hill_color, direction) * 0.55 + vector(sky.horizon, direction) * 0.3
    return torch.where(direction[1] < ridge, hill, color)


def radiance(sky: Sky, ambient: float, ground: Color, hit: Surfaces) -> Tensor:
    """(3, M) radiance of surfaces in the light of the sun, the sky above and the ground below, seen through haze.

    Args:
        sky: with the sun.
        ambient: strength of the light from sky and ground.
        ground: albedo of the ground that reflects light upwards.
        hit: the surfaces.
    """
    sun = vector(sky.sun, hit.normal)
    lean = 0.5 + 0.5 * hit.normal[1]
    dome = 0.5 * (vector(sky.horizon, hit.normal) + vector(sky.zenith, hit.normal))
    bounce = 0.45 * vector(ground, hit.normal)
    light = ambient * (dome * lean + bounce * (1 - lean)) * hit.open_sky
    facing = (hit.normal * sun).sum(0)
    strength = torch.where((facing > 0) & hit.sunny, facing, 0.0)
    sunlight = strength * vector(sky.sun_color, hit.normal)
    mirrored = sun - hit.way
    length = (mirrored * mirrored).sum(0).sqrt().clamp_min(1e-9)
    shine = ((mirrored * hit.normal).sum(0) / length).clamp_min(0)
    for _ in range(5):
        shine = shine * shine
    lit = hit.albedo * (light + sunlight) + hit.gloss * shine * (strength > 0) * vector(sky.sun_color, hit.normal)
    fog = (sky.haze * hit.t / 100).clamp(0, 0.8)
    return lit + (vector(sky.horizon, hit.normal) - lit) * fog


def exposed(light: Tensor) -> Tensor:
    """Radiance to colours in [0, 1], gamma 2."""
    return (1.02 * light / (0.9 + 0.14 * light)).clamp(0, 1).sqrt()
