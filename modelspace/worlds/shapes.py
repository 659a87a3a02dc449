"""Intersections of rays with a sphere, a box or a frustum, and the normal and curvature of the surface.

All coordinates are in the primitive's frame: centre at the origin, sides along the axes, y up. Points and directions
are (3, M) float64; directions need not have unit length, and t is in units of their length.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modelspace.worlds.room_scenes import BOX, SPHERE

#: Nearer hits are ignored: they are the surface that the ray starts on.
NEAR = 1e-4

Size = tuple[float, float, float]


def _sphere(o: Tensor, d: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - size[0] ** 2
    q = b * b - a * c
    t = (-b - q.clamp_min(0).sqrt()) / a
    t = torch.where((q > 0) & (t > NEAR), t, math.inf)
    return t, torch.zeros_like(t, dtype=torch.int16)


def _box(o: Tensor, d: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    half = torch.tensor(size, dtype=o.dtype, device=o.device)[:, None]
    inverse = 1 / torch.where(d.abs() < 1e-12, 1e-12, d)
    low, high = (-half - o) * inverse, (half - o) * inverse
    enter, leave = torch.minimum(low, high), torch.maximum(low, high)
    t = torch.maximum(torch.maximum(enter[0], enter[1]), enter[2])
    end = torch.minimum(torch.minimum(leave[0], leave[1]), leave[2])
    axis = torch.where(enter[0] >= t, 0, torch.where(enter[1] >= t, 1, 2))
    along = torch.where(axis == 0, d[0], torch.where(axis == 1, d[1], d[2]))
    face = (2 * axis + (along < 0)).to(torch.int16)
    return torch.where((t < end) & (t > NEAR), t, math.inf), face


def _frustum(o: Tensor, d: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    low, h, high = size
    middle, slope = (low + high) / 2, (high - low) / (2 * h)
    radius_at_origin = middle + slope * o[1]
    a = d[0] * d[0] + d[2] * d[2] - (slope * d[1]) ** 2
    b = o[0] * d[0] + o[2] * d[2] - slope * radius_at_origin * d[1]
    c = o[0] * o[0] + o[2] * o[2] - radius_at_origin * radius_at_origin
    a = torch.where(a.abs() < 1e-12, 1e-12, a)
    q = b * b - a * c
    root = q.clamp_min(0).sqrt()
    t = torch.full_like(a, math.inf)
    face = torch.zeros_like(t, dtype=torch.int16)
    for sign in (-1.0, 1.0):
        s = (-b + sign * root) / a
        y = o[1] + s * d[1]
        valid = (q > 0) & (s > NEAR) & (y.abs() <= h) & (s < t)
        t = torch.where(valid, s, t)
    rise = torch.where(d[1].abs() < 1e-12, 1e-12, d[1])
    for number, (level, radius) in enumerate(((-h, low), (h, high)), 1):
        s = (level - o[1]) / rise
        x, z = o[0] + s * d[0], o[2] + s * d[2]
        valid = (x * x + z * z <= radius * radius) & (s > NEAR) & (s < t)
        t = torch.where(valid, s, t)
        face = torch.where(valid, number, face)
    return t, face.to(torch.int16)


def intersect(shape: int, origin: Tensor, direction: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """First hit of rays that start outside the primitive.

    Args:
        shape: SPHERE, BOX or FRUSTUM of `modelspace.worlds.room_scenes`.
        origin: (3, M).
        direction: (3, M), not zero.
        size: as `Primitive.size`.

    Returns:
        (M,) t, infinite where the ray misses, and (M,) int16 face: 0 for a sphere; 2 * axis + (1 on the positive side)
        for a box; 0 side, 1 bottom, 2 top for a frustum.
    """
    if shape == SPHERE:
        return _sphere(origin, direction, size)
    if shape == BOX:
        return _box(origin, direction, size)
    return _frustum(origin, direction, size)


def surface(shape: int, point: Tensor, face: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Outward unit normal (3, M) and principal curvatures (2, M), the larger first, 1/metre, at points of the surface.

    For a sphere of radius r both curvatures are 1/r, for a plane both are 0. On the side of a frustum the larger one is
    cos(a)/rho, where rho is the radius of the circle through the point and a the angle of the normal with the
    horizontal (Meusnier); along the straight line the curvature is 0.
    """
    flat = torch.zeros_like(point[0])
    if shape == SPHERE:
        normal = point / size[0]
        return normal, torch.stack([flat + 1 / size[0]] * 2)
    if shape == BOX:
        axis, sign = face // 2, (2 * (face % 2) - 1).to(point.dtype)
        normal = torch.stack([torch.where(axis == k, sign, 0.0) for k in range(3)])
        return normal, torch.stack([flat, flat])
    low, h, high = size
    slope = (high - low) / (2 * h)
    rho = ((low + high) / 2 + slope * point[1]).clamp_min(1e-3)
    lean = 1 / math.sqrt(1 + slope * slope)
    side = face == 0
    cap = torch.where(face == 2, 1.0, -1.0).to(point.dtype)
    normal = torch.stack(
        [
            torch.where(side, point[0] / rho * lean, 0.0),
            torch.where(side, torch.full_like(rho, -slope * lean), cap),
            torch.where(side, point[2] / rho * lean, 0.0),
        ]
    )
    return normal, torch.stack([torch.where(side, lean / rho, 0.0), flat])
