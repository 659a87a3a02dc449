"""Procedural textures of the yards: stone, metal, leaves, roofs, painted walls and water.

As in `modelspace.worlds.surfaces`, whose textures are also used: u (along) and v (up) are metres in the surface,
colours are albedos in 0..1 as (3, M) tensors, and the noise comes from integer hashes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modelspace.worlds import surfaces
from modelspace.worlds.room_scenes import BRICKS, DOOR, WINDOW, Color, Decal
from modelspace.worlds.surfaces import hashed, noise
from modelspace.worlds.yard_scenes import (
    ASHLAR,
    ASPHALT,
    BARK,
    COBBLES,
    GRASS,
    LEAVES,
    MARBLE,
    METAL,
    SAND,
    SCALES,
    STUCCO,
    TIMBER,
    WATER,
)

#: Strength of a texture's specular reflection of the sun.
GLOSS = {METAL: 0.7, WATER: 0.9, MARBLE: 0.3, SCALES: 0.15}


def column(color: Color, like: Tensor) -> Tensor:
    """A colour as a column (3, 1) of the type and device of `like`."""
    return torch.tensor(color, dtype=like.dtype, device=like.device)[:, None]


def _fraction(x: Tensor) -> Tensor:
    return x - x.floor()


def paint(texture: int, u: Tensor, v: Tensor, scale: float, color: Color, second: Color) -> Tensor:
    """Albedo (3, M) of a texture at (u, v) metres; `scale` is the size of the pattern's element in metres."""
    first, other = column(color, u), column(second, u)
    if texture == ASHLAR:
        row = (v / scale).floor()
        x = u / (1.7 * scale) + 0.5 * (row % 2) + 0.3 * hashed(row, row)
        joint = ((v / scale - row) < 0.06) | (_fraction(x) < 0.035)
        block = 0.72 + 0.36 * hashed(x.floor(), row) + 0.22 * (noise(u, v, 0.3 * scale) - 0.5)
        return torch.where(joint, other * 0.8, first * block)
    if texture == COBBLES:
        row = (v / scale).floor()
        x = u / scale + 0.5 * (row % 2)
        cell = x.floor()
        a, b = x - cell - 0.5, v / scale - row - 0.5
        far = a * a + b * b
        return torch.where(far > 0.21, other * 0.6, first * (0.72 + 0.5 * hashed(cell, row)) * (1.1 - 1.6 * far))
    if texture == GRASS:
        blades = 0.6 * noise(u, v, 0.12 * scale) + 0.4 * noise(u, v, 0.03 * scale)
        dry = (noise(u, v, 5 * scale) - 0.35).clamp(0, 1)
        return (first + (other - first) * dry) * (0.5 + 0.8 * blades)
    if texture == LEAVES:
        i, j = (u / scale).floor(), (v / scale).floor()
        clump = noise(u, v, 3.5 * scale)
        return first + (other - first) * (1.25 - 1.1 * clump - 0.6 * hashed(i, j)).clamp(0, 1)
    if texture == METAL:
        wave = _fraction(u / scale)
        rust = (noise(u, v, 1.3) + 0.5 * noise(8 * u, v, 0.9) - 0.92).clamp(0, 0.25) * 4
        return (first + (other - first) * rust) * (0.62 + 1.7 * wave * (1 - wave))
    if texture == STUCCO:
        worn = noise(u, v, 1.5) > 0.74
        wall = first * (0.84 + 0.16 * noise(u, v, 0.9) + 0.12 * noise(u, v, 0.1))
        return torch.where(worn, surfaces.paint(BRICKS, u, v, 0.28, (0.60, 0.34, 0.26), (0.66, 0.6, 0.54)), wall)
    if texture == SAND:
        ripple = (2 * _fraction(v / (0.5 * scale) + 1.2 * noise(u, v, scale)) - 1).abs()
        return first * (0.74 + 0.2 * ripple + 0.16 * noise(u, v, 0.1 * scale))
    if texture == ASPHALT:
        crack = (noise(u, v, 1.8) - 0.5).abs() < 0.012
        line = (_fraction(u / 4.2) < 0.035) & (_fraction(v / 3.0) < 0.6)
        rough = first * (0.7 + 0.3 * noise(u, v, 0.06) + 0.25 * noise(u, v, 1.2))
        return torch.where(line, other * 0.9, torch.where(crack, first * 0.35, rough))
    if texture == MARBLE:
        i, j = (u / scale).floor(), (v / scale).floor()
        flow = _fraction(u / (1.4 * scale) + 1.5 * noise(u, v, 0.7 * scale) + hashed(i, j))
        vein = (1 - 12 * (flow - 0.5).abs()).clamp(0, 1)
        joint = (_fraction(u / scale) < 0.02) | (_fraction(v / scale) < 0.02)
        slab = (first + (other - first) * 0.55 * vein) * (0.9 + 0.14 * hashed(i, j))
        return torch.where(joint, first * 0.55, slab)
    if texture == TIMBER:
        i, j = (u / 1.25).floor(), (v / 1.35).floor()
        a, b = u / 1.25 - i, v / 1.35 - j
        slant = hashed(i, j)
        brace = ((slant > 0.55) & ((a - b).abs() < 0.09)) | ((slant < 0.2) & ((a + b - 1).abs() < 0.09))
        beam = (a < 0.11) | (b < 0.11) | brace
        return torch.where(beam, other * (0.8 + 0.4 * noise(u, v, 0.15)), first * (0.88 + 0.16 * noise(u, v, 0.6)))
    if texture == SCALES:
        row = (v / scale).floor()
        x = u / scale + 0.5 * (row % 2)
        a, b = _fraction(x) - 0.5, v / scale - row
        edge = b < 2.2 * a * a
        return torch.where(edge, other * 0.7, first * (0.75 + 0.35 * hashed(x.floor(), row)))
    if texture == BARK:
        return first + (other - first) * noise(4 * u, v, 3 * scale)
    if texture == WATER:
        ripple = noise(u, 2.5 * v, 1.2 * scale) * noise(u + 7, 2.5 * v, 0.35 * scale)
        return first + (other - first) * (3.2 * ripple - 0.9).clamp(0, 1)
    return surfaces.paint(texture, u, v, scale, color, second)


def paint_decal(decal: Decal, u: Tensor, v: Tensor) -> Tensor:
    """Albedo (3, M) of a window with shutters, a planked door or a banner at (u, v) metres of its wall."""
    wide, tall = decal.u1 - decal.u0, decal.v1 - decal.v0
    a, b = (u - decal.u0) / wide, (v - decal.v0) / tall
    first, other = column(decal.color, u), column(decal.second, u)
    if decal.kind == WINDOW:
        shutter = (a - 0.5).abs() > 0.27
        slat = _fraction(v / 0.11) < 0.3
        frame = (
            ((a - 0.5).abs() > 0.23) | ((a - 0.5).abs() < 0.025) | (b > 0.94) | (b < 0.07) | ((b - 0.55).abs() < 0.02)
        )
        glass = column((0.08, 0.11, 0.15), u) + (0.25 * (a + b - 0.9).clamp(0, 1))
        return torch.where(shutter, torch.where(slat, other * 0.6, other), torch.where(frame, first, glass))
    if decal.kind == DOOR:
        jamb = ((a - 0.5).abs() > 0.5 - 0.12 / wide) | (b > 1 - 0.14 / tall)
        board = (u / 0.22).floor()
        wood = first * (0.7 + 0.4 * hashed(board, board) + 0.15 * noise(8 * u, v, 0.4))
        iron = ((b - 0.2).abs() < 0.03) | ((b - 0.75).abs() < 0.03) | ((a - 0.5).abs() < 0.02)
        return torch.where(jamb, column((0.62, 0.57, 0.5), u), torch.where(iron, first * 0.3, wood))
    hem = (b < 0.05) | ((a - 0.5).abs() > 0.46)
    disc = (u - (decal.u0 + decal.u1) / 2) ** 2 + (v - (decal.v0 + decal.v1) / 2) ** 2 < (0.28 * min(wide, tall)) ** 2
    band = _fraction((a + 0.7 * b) * 2.0) < 0.5
    return torch.where(hem, other * 0.5, torch.where(disc, 1 - 0.7 * first, torch.where(band, first, other)))
