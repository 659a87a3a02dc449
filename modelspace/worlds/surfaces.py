"""Procedural textures, and the rectangles painted on walls.

Coordinates u (along) and v (up) are metres in the surface; colours are albedos in 0..1 as (3, M) tensors. The noise
comes from integer hashes, so it is the same on every machine and device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modelspace.worlds.room_scenes import (
    BOOKS,
    BRICKS,
    CARPET,
    CHECKER,
    CONCRETE,
    DOOR,
    PLANKS,
    STRIPES,
    TILES,
    WINDOW,
    Color,
    Decal,
)


def hashed(i: Tensor, j: Tensor) -> Tensor:
    """Uniform value in [0, 1) for each pair of integers (two rounds of a multiply-xorshift mix)."""
    h = i.to(torch.int64) * 0x27D4EB2F + j.to(torch.int64) * 0x165667B1 + 0x9E3779B1
    for _ in range(2):
        h = (h ^ ((h >> 15) & 0x1FFFF)) * 0x2C1B3C6D
        h = h & 0xFFFFFFFF
    h = h ^ (h >> 13)
    return (h & 0xFFFFFF).to(torch.float64) / 0x1000000


def noise(u: Tensor, v: Tensor, size: float) -> Tensor:
    """Value noise in [0, 1) with cells of `size` metres, smooth within a cell."""
    x, y = u / size, v / size
    i, j = x.floor(), y.floor()
    a, b = x - i, y - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    low = hashed(i, j) * (1 - a) + hashed(i + 1, j) * a
    high = hashed(i, j + 1) * (1 - a) + hashed(i + 1, j + 1) * a
    return low * (1 - b) + high * b


def _column(color: Color, like: Tensor) -> Tensor:
    return torch.tensor(color, dtype=like.dtype, device=like.device)[:, None]


def paint(texture: int, u: Tensor, v: Tensor, scale: float, color: Color, second: Color) -> Tensor:
    """Albedo (3, M) of a texture at (u, v) metres; `scale` is the size of the pattern's element in metres."""
    first, other = _column(color, u), _column(second, u)
    if texture == PLANKS:
        row = (v / scale).floor()
        cell = (u / (6 * scale) + hashed(row, row)).floor()
        shade = 0.78 + 0.34 * hashed(cell, row) + 0.12 * (noise(u, 8 * v, 0.5 * scale) - 0.5)
        gap = (v / scale - row) < 0.08
        return torch.where(gap, other * 0.7, first * shade)
    if texture == TILES:
        i, j = (u / scale).floor(), (v / scale).floor()
        grout = ((u / scale - i) < 0.07) | ((v / scale - j) < 0.07)
        return torch.where(grout, other * 0.8, first * (0.9 + 0.15 * hashed(i, j)))
    if texture == STRIPES:
        return torch.where((v / scale).floor() % 2 == 0, first, other)
    if texture == BRICKS:
        row = (2 * v / scale).floor()
        x = u / scale + 0.5 * (row % 2)
        mortar = ((2 * v / scale - row) < 0.14) | ((x - x.floor()) < 0.07)
        return torch.where(mortar, other, first * (0.75 + 0.45 * hashed(x.floor(), row)))
    if texture == BOOKS:
        shelf = (v / scale).floor()
        inside = v / scale - shelf
        book = (u / 0.09 + 0.4 * hashed(shelf, shelf)).floor()
        hues = torch.stack([hashed(book, shelf * 3 + k) for k in range(3)])
        tall = 0.62 + 0.3 * hashed(book + 7, shelf)
        post = (u / 1.1 - (u / 1.1).floor()) < 0.05
        spine = 0.1 + 0.55 * hues * (0.5 + 0.5 * hashed(book, shelf + 11))
        return torch.where(post | (inside < 0.1), first, torch.where(inside > tall, first * 0.25, spine))
    if texture == CONCRETE:
        return first * (0.72 + 0.34 * noise(u, v, scale) + 0.2 * noise(u, v, 0.22 * scale))
    if texture == CARPET:
        return first + (other - first) * (0.8 * noise(u, v, 0.5 * scale) ** 2)
    if texture == CHECKER:
        return torch.where(((u / scale).floor() + (v / scale).floor()) % 2 == 0, first, other)
    return first * (0.95 + 0.1 * noise(u, v, scale))


def paint_decal(decal: Decal, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Albedo (3, M) and emitted light (3, M) of a window, door or picture at (u, v) metres of its wall."""
    a, b = (u - decal.u0) / (decal.u1 - decal.u0), (v - decal.v0) / (decal.v1 - decal.v0)
    edge = 0.06 / (decal.u1 - decal.u0)
    frame = (a < edge) | (a > 1 - edge) | (b < 0.06) | (b > 0.94)
    first, other = _column(decal.color, u), _column(decal.second, u)
    dark = torch.zeros_like(u).expand(3, -1)
    if decal.kind == WINDOW:
        bars = frame | ((a - 0.5).abs() < edge / 2) | ((b - 0.6).abs() < 0.025)
        sky = _column((0.92, 0.95, 0.98), u) + (b - 0.1).clamp(0, 1) * _column((-0.5, -0.28, -0.02), u)
        hills = b < 0.24 + 0.14 * noise(u, u * 0, 0.35)
        view = torch.where(hills, _column((0.2, 0.42, 0.18), u), sky)
        return torch.where(bars, first, 0.0), torch.where(bars, 0.0, view)
    if decal.kind == DOOR:
        panel = ((a - 0.5).abs() < 0.32) & (((b - 0.28).abs() < 0.17) | ((b - 0.72).abs() < 0.18))
        knob = ((a - 0.88).abs() < 0.04) & ((b - 0.48).abs() < 0.02)
        wood = torch.where(panel, first * 0.75, first)
        wood = torch.where(knob, _column((0.85, 0.75, 0.35), u), wood)
        return torch.where((a < edge) | (a > 1 - edge) | (b > 0.965), first * 0.45, wood), dark
    disc = (a - 0.62) ** 2 + (b - 0.62) ** 2 < 0.045
    land = b < 0.34 + 0.2 * a
    canvas = torch.where(land, other * 0.55, 0.35 + 0.6 * other)
    canvas = torch.where(disc, 1 - 0.8 * other, canvas)
    return torch.where(frame, first, canvas), dark
