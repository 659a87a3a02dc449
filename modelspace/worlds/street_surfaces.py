"""Fronts of houses and the paint on the road: where windows, doors and signs are, and their colours.

u is metres along a front from the end with the smaller coordinate, v metres above its ground. Colours are albedos in
0..1 as (3, M) tensors, and the noise comes from integer hashes, as in `modelspace.worlds.surfaces`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modelspace.worlds.street_scenes import House, Street
from modelspace.worlds.surfaces import hashed, noise
from modelspace.worlds.yard_surfaces import GLOSS, column, paint

#: Parts of a front; the numbers are those of the semantic classes.
WALL, WINDOW, DOOR, SIGN = 0, 3, 4, 5

#: Strength of the sun's specular reflection by window panes.
_PANE = 0.6


def rows(house: House) -> int:
    """Number of rows of windows; none reaches above the eaves."""
    return 1 if house.hall else max(1, int((house.eaves - 0.25) // house.storey))


def opening(house: House) -> tuple[float, float]:
    """(half width, height) of the door, metres."""
    if house.hall:
        return min(1.3, 0.4 * house.bay), 0.68 * house.storey
    return min(0.55, 0.4 * house.bay), min(2.1, 0.78 * house.storey)


def front(house: House, u: Tensor, v: Tensor) -> Tensor:
    """(M,) int16: which part of the front is at (u, v): `WALL`, `WINDOW`, `DOOR` or `SIGN`."""
    bay, storey = (u / house.bay).floor(), (v / house.storey).floor()
    across, up = u / house.bay - bay - 0.5, v / house.storey - storey
    wide, high = house.window
    pane = (across.abs() < wide / 2) & ((up - 0.52).abs() < high / 2) & (storey >= 0) & (storey < rows(house))
    ground = storey == 0
    if house.hall:
        pane = (across.abs() < 0.4) & (v > 0.74 * house.storey) & (v < 0.9 * house.storey)
    elif house.shop:
        pane = torch.where(ground, (across.abs() < 0.46) & (up > 0.12) & (up < 0.76), pane)
    half, top = opening(house)
    at_door = (bay == house.door) & ground
    entrance = at_door & (across.abs() * house.bay < half) & (v < top)
    # Nothing else is in the bay of the door on the ground floor, unless the front is a shop's.
    pane = pane & ~entrance & (~at_door | house.shop | house.hall)
    label = torch.where(pane, WINDOW, torch.where(entrance, DOOR, WALL))
    if house.sign:
        band = (v > 0.8 * house.storey) & (v < 0.98 * house.storey)
        label = torch.where(band & ((u / house.length - 0.5).abs() < (0.42 if house.shop else 0.25)), SIGN, label)
    return label.to(torch.int16)


def _glass(house: House, u: Tensor, v: Tensor) -> Tensor:
    bay, storey = (u / house.bay).floor(), (v / house.storey).floor()
    across, up = u / house.bay - bay - 0.5, v / house.storey - storey
    shade = hashed(bay + 50 * storey, bay * 0 + house.salt)
    curtain = (shade > 0.6) & (up > 0.5)
    mirror = column((0.10, 0.13, 0.17), u) + column((0.20, 0.26, 0.32), u) * (up + 0.4 * across) * (0.4 + shade)
    pane = torch.where(curtain, column((0.72, 0.70, 0.64), u) * (0.8 + 0.2 * shade), mirror)
    if house.shop:  # goods behind the lowest panes
        goods = 0.15 + 0.6 * torch.stack([hashed((u / 0.45).floor(), (v / 0.5).floor() * 3 + k) for k in range(3)])
        pane = torch.where((storey == 0) & (v < 0.5 * house.storey), goods, pane)
    bars = (across.abs() < 0.02) | ((up - 0.6).abs() < 0.012)
    edge = (across.abs() > house.window[0] / 2 - 0.05) | ((up - 0.52).abs() > house.window[1] / 2 - 0.03)
    frame = bars | (edge & ((storey > 0) | (not house.shop)))
    return torch.where(frame, column(house.trim, u), pane)


def paint_front(house: House, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Albedo (3, M) of a front, and (M,) strength of its specular reflection of the sun."""
    coat = house.wall
    color = paint(coat.texture, u + 20, v, coat.scale, coat.color, coat.second)
    color = color * torch.where(v < 0.35, 0.78, 1.0)  # splashed by rain
    ledge = ((v - house.eaves).abs() < 0.14) | ((v > house.storey - 0.06) & (v < house.storey + 0.06))
    color = torch.where(ledge & (not house.hall), column(house.trim, u), color)
    part = front(house, u, v)
    gloss = torch.full_like(u, GLOSS.get(coat.texture, 0.0))
    gloss = torch.where(part == WINDOW, _PANE, torch.where(part == WALL, gloss, 0.0))
    boards = column(house.paint, u) * (0.6 + 0.25 * hashed((u / 0.18).floor(), (u / 0.18).floor()))
    letters = (noise(3 * u, v, 0.5) > 0.55) & ((v / house.storey - 0.89).abs() < 0.045)
    board = torch.where(letters, 1 - 0.8 * column(house.paint, u), column(house.paint, u))
    color = torch.where(part == WINDOW, _glass(house, u, v), color)
    color = torch.where(part == DOOR, boards, color)
    return torch.where(part == SIGN, board, color), gloss


def paint_road(street: Street, x: Tensor, z: Tensor) -> Tensor:
    """Albedo (3, M) of the road, with its line and crossing."""
    coat = street.coats[2]
    color = paint(coat.texture, x + 200.37, z + 200.37, coat.scale, coat.color, coat.second)
    dash = z / 4.0
    line = (x.abs() < 0.07) & (dash - dash.floor() < 0.55) & street.lined
    if street.crossing is not None:
        stripe = x / 0.9
        line = (line & ((z - street.crossing).abs() > 2.2)) | (
            (stripe - stripe.floor() < 0.5) & ((z - street.crossing).abs() < 1.5)
        )
    return torch.where(line, 0.82 * (0.85 + 0.3 * noise(x, z, 0.3)), color)
