"""Four flat worlds in addition to rooms: faces, portraits, crowds of small faces, and patterns of overlapping shapes.

They stand in for the photographs that the paper's other models were trained on (faces for CelebA, portraits for
CelebA-HQ and 300W-LP, crowds for WIDER FACE, patterns for ImageNet). Image k of a world depends only on (seed, k), as
in rooms. Images are painted at twice the resolution and averaged.

Face coordinates: u to the right, v up; the head is an ellipse with half axes 0.75 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.deprecated import renamed
from modelspace.errors import NotFoundError
from modelspace.worlds import WORLDS
from modelspace.worlds.room_scenes import Color, Draw
from modelspace.worlds.surfaces import noise, paint

_SKIN = ((0.95, 0.80, 0.69), (0.87, 0.67, 0.52), (0.72, 0.50, 0.36), (0.50, 0.33, 0.22), (0.36, 0.23, 0.16))
_HAIR = (
    (0.10, 0.08, 0.07),
    (0.32, 0.20, 0.12),
    (0.55, 0.36, 0.18),
    (0.85, 0.70, 0.40),
    (0.60, 0.58, 0.56),
    (0.62, 0.22, 0.12),
)


@dataclass(frozen=True)
class FlatRender:
    """B images of a flat world with ground truth, S x S pixels, float32.

    Attributes:
        rgb: (B, 3, S, S) in [0, 1].
        face: (B, 3, S, S): whether a face is visible, and its coordinates u and v, or 0 where there is none.
        heat: (B, 1, S, S): maximum over the faces of exp(-d^2 / 2 (r/2)^2), d the distance from the face's centre and
            r its half width, in pixels.
    """

    rgb: Tensor
    face: Tensor
    heat: Tensor


class _Canvas:
    """An image being painted, at twice the resolution."""

    def __init__(self, size: int) -> None:
        steps = ((torch.arange(2 * size) + 0.5) / size - 1).float()
        self.x, self.y = steps.expand(2 * size, -1), -steps[:, None].expand(-1, 2 * size)
        self.rgb = torch.zeros(3, 2 * size, 2 * size)
        self.face = torch.zeros(3, 2 * size, 2 * size)
        self.heat = torch.zeros(1, 2 * size, 2 * size)

    def fill(self, mask: Tensor, color: Color | Tensor) -> None:
        value = color if isinstance(color, Tensor) else torch.tensor(color)[:, None, None]
        self.rgb = torch.where(mask, value, self.rgb)

    def downsample(self, image: Tensor) -> Tensor:
        return F.avg_pool2d(image[None], 2)[0]


def _scaled(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


def _oval(u: Tensor, v: Tensor, at_u: float, at_v: float, half_u: float, half_v: float) -> Tensor:
    return ((u - at_u) / half_u) ** 2 + ((v - at_v) / half_v) ** 2 < 1


def _paint_face(canvas: _Canvas, draw: Draw, center: tuple[float, float], scale: float, rich: bool) -> None:
    """Paint a head and neck of half height `scale`, in half image sides; `rich` adds glasses, beards and hats."""
    roll, yaw, nod = draw.between(-0.3, 0.3), draw.between(-0.22, 0.22), draw.between(-0.08, 0.08)
    c, s = math.cos(roll), math.sin(roll)
    x, y = (canvas.x - center[0]) / scale, (canvas.y - center[1]) / scale
    u, v = c * x + s * y, -s * x + c * y
    skin, hair = draw.near(_SKIN[draw.below(5)], 0.04), draw.near(_HAIR[draw.below(6)], 0.04)
    shirt, eye = draw.vivid(), draw.near((0.25, 0.35, 0.35), 0.2)
    long_hair, fringe = draw.chance(0.5), draw.between(0.3, 0.55)
    if long_hair:
        canvas.fill(_oval(u, v, 0, -0.15, 0.98, 1.2), _scaled(hair, 0.8))
    canvas.fill(_oval(u, v, 0, -2.2, 1.7, 1.1), shirt)
    canvas.fill((u.abs() < 0.3) & (v < -0.7) & (v > -1.35), _scaled(skin, 0.8))
    for side in (-1, 1):
        canvas.fill(_oval(u, v, side * 0.76 - 0.5 * yaw, 0.0, 0.13, 0.22), _scaled(skin, 0.85))
    head = _oval(u, v, 0, 0, 0.75, 1.0)
    depth = (1 - (u / 0.75) ** 2 - v**2).clamp_min(0).sqrt()
    light = 0.62 + 0.38 * (0.85 * depth + draw.between(-0.5, 0.5) * u + 0.35 * v).clamp(0, 1)
    canvas.fill(head, torch.tensor(skin)[:, None, None] * light)
    a, b = u - yaw, v - nod  # facial features shift as the head turns
    if rich and draw.chance(0.35):
        canvas.fill(head & (b < -0.42), torch.tensor(_scaled(hair, 0.9))[:, None, None] * (0.7 + 0.4 * light))
    for side in (-1, 1):
        at = side * 0.3
        canvas.fill(head & _oval(a, b, at, 0.12, 0.16, 0.1), (0.97, 0.97, 0.97))
        canvas.fill(head & _oval(a, b, at + 0.25 * yaw, 0.12, 0.085, 0.085), eye)
        canvas.fill(head & _oval(a, b, at + 0.25 * yaw, 0.12, 0.04, 0.04), (0.04, 0.04, 0.05))
        tilt = 0.3 * side * (a - at)
        canvas.fill(head & ((a - at).abs() < 0.19) & ((b - 0.33 + tilt).abs() < 0.035), _scaled(hair, 0.7))
    canvas.fill(
        head & _oval(a, b, 0.35 * yaw, -0.15, 0.09, 0.14), torch.tensor(_scaled(skin, 0.86))[:, None, None] * light
    )
    smile, lips = draw.between(-0.5, 0.9), draw.near((0.72, 0.28, 0.28), 0.1)
    bend = b + 0.52 - smile * a * a
    canvas.fill(head & (a.abs() < 0.27) & (bend.abs() < 0.055), lips)
    if draw.chance(0.4):
        canvas.fill(head & (a.abs() < 0.2) & (bend.abs() < 0.02), (0.95, 0.94, 0.92))
    if rich and draw.chance(0.4):
        for side in (-1, 1):
            ring = _oval(a, b, side * 0.3, 0.12, 0.23, 0.19) & ~_oval(a, b, side * 0.3, 0.12, 0.19, 0.15)
            canvas.fill(ring, (0.08, 0.08, 0.1))
        canvas.fill((a.abs() < 0.1) & ((b - 0.14).abs() < 0.025), (0.08, 0.08, 0.1))
    canvas.fill(_oval(u, v, 0, 0.1, 0.82, 1.0) & (v > fringe + 0.25 * (u - yaw) ** 2), hair)
    if rich and draw.chance(0.3):
        hat = draw.vivid()
        canvas.fill(_oval(u, v, 0, 0.75, 0.8, 0.5) & (v > 0.62), hat)
        canvas.fill((u.abs() < 0.98) & ((v - 0.63).abs() < 0.06), _scaled(hat, 0.7))
    canvas.face = torch.where(head, torch.stack([torch.ones_like(u), u, v]), canvas.face)
    distance = (canvas.x - center[0]) ** 2 + (canvas.y - center[1]) ** 2
    canvas.heat = torch.maximum(canvas.heat, (-distance / (2 * (0.375 * scale) ** 2)).exp()[None])


def _shapes(canvas: _Canvas, draw: Draw, count: int) -> None:
    """Paint overlapping discs, rectangles and triangles with the textures of rooms."""
    for k in range(count + 1):
        reach = draw.between(0.18, 0.5) if k else 3.0
        x, y, turn = draw.between(-1, 1), draw.between(-1, 1), draw.between(0, math.pi)
        c, s = math.cos(turn), math.sin(turn)
        u, v = c * (canvas.x - x) + s * (canvas.y - y), -s * (canvas.x - x) + c * (canvas.y - y)
        kind = draw.below(3) if k else 1
        if kind == 0:
            mask = u * u + v * v < reach * reach
        elif kind == 1:
            mask = (u.abs() < reach) & (v.abs() < reach * draw.between(0.3, 1.0 if k else 1.01))
        else:
            mask = (v > -reach / 2) & (v < reach - 1.73 * u.abs())
        if not k:
            mask = torch.ones_like(mask)
        pattern = (0, 2, 3, 4, 6, 8)[draw.below(6)]
        first, second = draw.vivid(), draw.vivid()
        painted = paint(
            pattern, u.flatten().double() + 9, v.flatten().double() + 9, draw.between(0.1, 0.25), first, second
        )
        canvas.fill(mask, painted.float().view(3, *u.shape))


def _backdrop(canvas: _Canvas, draw: Draw) -> None:
    first, second = (torch.tensor(draw.vivid())[:, None, None] for _ in range(2))
    share = (canvas.y * draw.between(-0.4, 0.4) + canvas.x * draw.between(-0.4, 0.4) + 0.5).clamp(0, 1)
    cloud = noise((canvas.x + 5).flatten().double(), (canvas.y + 5).flatten().double(), 0.5).float().view(share.shape)
    canvas.rgb = (0.45 + 0.4 * (first * share + second * (1 - share))) * (0.8 + 0.3 * cloud)


def _faces(canvas: _Canvas, draw: Draw) -> None:
    _backdrop(canvas, draw)
    _paint_face(canvas, draw, (draw.between(-0.2, 0.2), draw.between(-0.1, 0.15)), draw.between(0.5, 0.7), rich=False)


def _portraits(canvas: _Canvas, draw: Draw) -> None:
    _shapes(canvas, draw, 3)
    canvas.rgb = 0.25 + 0.4 * canvas.rgb.mean(0, keepdim=True) * torch.tensor(draw.vivid())[:, None, None]
    _paint_face(canvas, draw, (draw.between(-0.12, 0.12), draw.between(-0.1, 0.1)), draw.between(0.72, 0.9), rich=True)


def _crowds(canvas: _Canvas, draw: Draw) -> None:
    _shapes(canvas, draw, 5)
    placed: list[tuple[float, float, float]] = []
    for _ in range(1 + draw.below(6)):
        scale = draw.between(0.12, 0.3)
        x, y = draw.between(-0.8, 0.8), draw.between(-0.7, 0.8)
        if all(math.hypot(x - a, y - b) > 1.1 * (scale + r) for a, b, r in placed):
            placed.append((x, y, scale))
            _paint_face(canvas, draw, (x, y), scale, rich=True)


def _patterns(canvas: _Canvas, draw: Draw) -> None:
    _shapes(canvas, draw, 4 + draw.below(6))


PAINTERS: dict[str, Callable[[_Canvas, Draw], None]] = {
    "faces": _faces,
    "portraits": _portraits,
    "crowds": _crowds,
    "patterns": _patterns,
}


@torch.no_grad()
def render_flat(world: str, first: int, count: int, seed: int, size: int) -> FlatRender:
    """Render images first .. first + count - 1 of a flat world.

    Args:
        world: a name in `PAINTERS`.
        first: index of the first image.
        count: number of images.
        seed: of the world.
        size: side in pixels.

    Raises:
        NotFoundError: there is no such world.
    """
    if world not in PAINTERS:
        raise NotFoundError(f"there is no world {world!r}", f"the worlds are {', '.join((*WORLDS, *PAINTERS))}")
    number = (seed * 1_000_003 + sum(ord(letter) * 257**k for k, letter in enumerate(world))) % 2**64
    images: list[tuple[Tensor, Tensor, Tensor]] = []
    for index in range(first, first + count):
        canvas, draw = _Canvas(size), Draw(number, index)
        PAINTERS[world](canvas, draw)
        rgb = canvas.downsample(canvas.rgb.clamp(0, 1))
        grain = torch.rand(rgb.shape, generator=torch.Generator().manual_seed(draw.below(2**31)))
        rgb = (rgb + 0.03 * (grain - 0.5)).clamp(0, 1)
        images.append((rgb, canvas.downsample(canvas.face), canvas.downsample(canvas.heat)))
    return FlatRender(*(torch.stack([image[k] for image in images]) for k in range(3)))


__getattr__ = renamed(__name__, {"Picture": "FlatRender", "draw_pictures": "render_flat"})
