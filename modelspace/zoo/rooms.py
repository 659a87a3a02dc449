"""Rendered rooms with ground truth: the world that the zoo is trained on and that the probe set `rooms` shows.

A small ray caster. Each scene is rendered by itself, in float64, with noise from its own stream and only elementary
arithmetic, so image k never depends on how many are drawn, and its 8-bit pixels hardly on the machine.

Camera frame: x right, y up, z forward, metres. A pixel's ray goes through its centre.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modelspace.errors import UsageError
from modelspace.zoo import shapes, surfaces
from modelspace.zoo.scenes import (
    BOX,
    CEILING,
    FLOOR,
    OBJECTS,
    PLACE_NAMES,
    RENDERER_VERSION,
    SPHERE,
    WALL_XN,
    WALL_XP,
    Primitive,
    Scene,
    Scenes,
    raw_stream,
    sample_scenes,
)

__all__ = ["OBJECTS", "PLACE_NAMES", "RENDERER_VERSION", "SEMANTIC", "Render", "render", "render_rgb8", "sample_scenes"]

#: Semantic classes of a pixel, in label order.
SEMANTIC = ("wall", "floor", "ceiling", "window", "door", "picture", *OBJECTS)

_NOISE_STREAM = 0x6E6F697365  # added to the seed for the sensor noise, which is drawn apart from the scene


@dataclass(frozen=True)
class Render:
    """Images and ground truth of B scenes, S x S pixels, float32 where nothing else is said.

    Attributes:
        rgb: (B, 3, S, S) in [0, 1], gamma 2, with sensor noise.
        distance: (B, S, S) metres from the camera to the surface along the ray.
        zdepth: (B, S, S) metres along the viewing axis; distance times the cosine of the ray's angle.
        normals: (B, 3, S, S) unit, camera frame, towards the camera.
        curvature: (B, 2, S, S) principal curvatures, larger first, 1/metre; 0 on planes, analytic on curved shapes.
        object_id: (B, S, S) int16; 0 room, k the k-th object of the scene, 1 the main one.
        surface_id: (B, S, S) int16; 0..5 walls, floor, ceiling; one number per face of every primitive from 6 up.
        semantic: (B, S, S) int16, index into `SEMANTIC`.
        position: (B, 3) camera in the room, metres (y up, floor 0, room centred).
        rotation: (B, 3, 3) camera to room; columns are right, up, forward.
        fov: (B,) full angle of view, radians.
        layout: (B, 6) metres from the camera to the front, back, left, right wall, floor and ceiling; the front wall
            is the one whose normal lies nearest the viewing direction.
        vanishing: (B, 3, 3) camera-frame unit directions of the room's axes towards front wall, right wall, ceiling.
        object_class: (B,) int64, class of the main object, index into `OBJECTS`.
        place: (B,) int64, index into `PLACE_NAMES`.
    """

    rgb: Tensor
    distance: Tensor
    zdepth: Tensor
    normals: Tensor
    curvature: Tensor
    object_id: Tensor
    surface_id: Tensor
    semantic: Tensor
    position: Tensor
    rotation: Tensor
    fov: Tensor
    layout: Tensor
    vanishing: Tensor
    object_class: Tensor
    place: Tensor

    def __len__(self) -> int:
        return self.rgb.shape[0]


@dataclass(frozen=True)
class _Hits:
    """What P rays meet; vectors are (3, P) in the room's frame."""

    t: Tensor
    point: Tensor
    normal: Tensor
    curvature: Tensor
    surface: Tensor
    primitive: Tensor  # index into scene.primitives, -1 for the room
    thing: Tensor


def _turn(primitive: Primitive, vector: Tensor) -> Tensor:
    """Room directions to the primitive's own frame."""
    c, s = math.cos(primitive.yaw), math.sin(primitive.yaw)
    return torch.stack([c * vector[0] - s * vector[2], vector[1], s * vector[0] + c * vector[2]])


def _turn_back(primitive: Primitive, vector: Tensor) -> Tensor:
    c, s = math.cos(primitive.yaw), math.sin(primitive.yaw)
    return torch.stack([c * vector[0] + s * vector[2], vector[1], -s * vector[0] + c * vector[2]])


def _vector(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]


def _rays(scene: Scene, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(3, size * size) unit directions in the room's frame, and the cosine of each with the viewing axis."""
    reach = math.tan(scene.fov / 2)
    steps = ((torch.arange(size, dtype=torch.float64, device=device) + 0.5) / size * 2 - 1) * reach
    x, y = steps.repeat(size), -steps.repeat_interleave(size)
    cosine = 1 / (x * x + y * y + 1).sqrt()
    x, y, z = x * cosine, y * cosine, cosine
    r = scene.rotation.tolist()
    return torch.stack([r[k][0] * x + r[k][1] * y + r[k][2] * z for k in range(3)]), cosine


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


def _trace(scene: Scene, direction: Tensor) -> _Hits:
    t, surface = _room(scene, direction)
    eye = _vector(scene.eye, direction)
    sign = (1 - 2 * (surface % 2)).to(direction.dtype)  # inward
    normal = torch.stack([torch.where(surface // 2 == axis, sign, 0.0) for axis in range(3)])
    curvature = torch.zeros_like(direction[:2])
    owner = torch.full_like(surface, -1)
    thing = torch.zeros_like(surface)
    for number, primitive in enumerate(scene.primitives):
        to_center = _vector(primitive.center, direction) - eye
        along = (to_center * direction).sum(0)
        off = (to_center * to_center).sum() - along * along
        seen = torch.nonzero((off < 1.01 * primitive.bound**2) & (along > 0))[:, 0]
        if not len(seen):
            continue
        own_origin = _turn(primitive, (-to_center).expand(-1, len(seen)))
        own_direction = _turn(primitive, direction[:, seen])
        reach, face = shapes.intersect(primitive.shape, own_origin, own_direction, primitive.size)
        front = torch.nonzero(reach < t[seen])[:, 0]
        seen, reach, face = seen[front], reach[front], face[front]
        here = own_origin[:, front] + reach * own_direction[:, front]
        own_normal, bends = shapes.surface(primitive.shape, here, face, primitive.size)
        t[seen] = reach
        normal[:, seen] = _turn_back(primitive, own_normal)
        curvature[:, seen] = bends
        surface[seen] = face + (6 + 6 * number)
        owner[seen] = number
        thing[seen] = primitive.thing
    return _Hits(t, eye + t * direction, normal, curvature, surface, owner, thing)


def _wall_coordinates(scene: Scene, surface: int, point: Tensor) -> tuple[Tensor, Tensor]:
    """u, v in metres on a room surface, from its corner."""
    x, z = point[0] + scene.half[0], point[2] + scene.half[1]
    if surface in (FLOOR, CEILING):
        return x, z
    return (z, point[1]) if surface in (WALL_XN, WALL_XP) else (x, point[1])


def _object_coordinates(primitive: Primitive, point: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
    """u, v in metres on a primitive; `point` (3, M) in the room's frame."""
    x, y, z = _turn(primitive, point - _vector(primitive.center, point))
    if primitive.shape == SPHERE:
        return torch.atan2(x, z) * primitive.size[0], y
    if primitive.shape == BOX:
        axis = face // 2
        return torch.where(axis == 0, z, x), torch.where(axis == 1, z, y)
    side = face == 0
    return torch.where(side, torch.atan2(x, z) * primitive.size[0], x), torch.where(side, y, z)


def _albedo(scene: Scene, hits: _Hits) -> tuple[Tensor, Tensor]:
    """Albedo and own light, each (3, P)."""
    albedo, glow = torch.zeros_like(hits.point), torch.zeros_like(hits.point)
    for number, coat in enumerate(scene.coats):
        here = torch.nonzero(hits.surface == number)[:, 0]
        if not len(here):
            continue
        u, v = _wall_coordinates(scene, number, hits.point[:, here])
        albedo[:, here] = surfaces.paint(coat.texture, u, v, coat.scale, coat.color, coat.second)
        if number not in (FLOOR, CEILING):
            albedo[:, here] *= torch.where(v < 0.1, 0.6, 1.0)  # skirting board
        for decal in scene.decals:
            if decal.wall != number:
                continue
            inside = torch.nonzero((u > decal.u0) & (u < decal.u1) & (v > decal.v0) & (v < decal.v1))[:, 0]
            if len(inside):
                spot = here[inside]
                albedo[:, spot], glow[:, spot] = surfaces.paint_decal(decal, u[inside], v[inside])
    for number, primitive in enumerate(scene.primitives):
        here = torch.nonzero(hits.primitive == number)[:, 0]
        if not len(here):
            continue
        face = hits.surface[here] - (6 + 6 * number)
        u, v = _object_coordinates(primitive, hits.point[:, here], face)
        color = surfaces.paint(primitive.texture, u, v, primitive.scale, primitive.color, primitive.second)
        albedo[:, here] = color
        glow[:, here] = primitive.glow * color
    return albedo, glow


def _lit(scene: Scene, start: Tensor, goal: Tensor) -> Tensor:
    """(M,) bool: the way from `start` (3, M) to `goal` (3, 1) is free of primitives."""
    way = goal - start
    length = (way * way).sum(0)
    free = torch.ones_like(length, dtype=torch.bool)
    for primitive in scene.primitives:
        out = _vector(primitive.center, start) - start
        share = ((out * way).sum(0) / length).clamp(0, 1)
        off = out - share * way
        close = torch.nonzero(((off * off).sum(0) < 1.01 * primitive.bound**2) & free)[:, 0]
        if not len(close):
            continue
        t, _ = shapes.intersect(
            primitive.shape, _turn(primitive, -out[:, close]), _turn(primitive, way[:, close]), primitive.size
        )
        free[close] = ~(t < 1)
    return free


def _shade(scene: Scene, direction: Tensor, hits: _Hits) -> Tensor:
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
        if gap < 0.25:  # stands on the floor: dark near its foot
            near = (x - primitive.center[0]) ** 2 + (z - primitive.center[2]) ** 2
            dark = 0.45 * (1 - near / (1.5 * wide) ** 2).clamp_min(0)
            shadow = torch.where(on_floor, shadow * (1 - dark), shadow)
    shiny = torch.nonzero(hits.primitive >= 0)[:, 0]
    total = (scene.ambient * (0.75 + 0.5 * lean) * shadow) * albedo + glow
    for light in scene.lights:
        place = _vector(light.position, direction)
        way = place - hits.point
        square = (way * way).sum(0)
        facing = (way * hits.normal).sum(0) / square.sqrt()
        facing_up = torch.nonzero(facing > 0)[:, 0]
        start = hits.point[:, facing_up] + 1e-3 * hits.normal[:, facing_up]
        strength = torch.zeros_like(facing)
        free = _lit(scene, start, place).to(facing.dtype)
        strength[facing_up] = facing[facing_up] * (0.12 + 0.88 * free) / (0.6 + square[facing_up])
        bright = 1.6 * strength * _vector(light.color, direction)
        total = total + bright * albedo
        half = way[:, shiny] / square[shiny].sqrt() - direction[:, shiny]
        gloss = ((half * hits.normal[:, shiny]).sum(0) / (half * half).sum(0).sqrt()).clamp_min(0)
        for _ in range(5):
            gloss = gloss * gloss
        total[:, shiny] += 0.35 * gloss * strength[shiny]
    return (total / (0.86 + 0.22 * total)).clamp(0, 1).sqrt()


def _noise(scene: Scene, size: int) -> np.ndarray:
    """(3, size, size) float64: triangular noise of amplitude `scene.noise`, from the scene's own stream."""
    words = raw_stream((scene.seed + _NOISE_STREAM) % 2**64, scene.index, -(-3 * size * size // 2))
    halves = words.astype("<u8").view("<u2")[: 6 * size * size].astype(np.float64).reshape(2, 3, size, size)
    return (halves[0] - halves[1]) / 65536 * scene.noise


def _rgb(scene: Scene, size: int, samples: int, device: torch.device) -> Tensor:
    """(3, size, size) float64: the mean of samples x samples rays per pixel, with noise."""
    direction, _ = _rays(scene, size * samples, device)
    color = _shade(scene, direction, _trace(scene, direction))
    color = color.view(3, size, samples, size, samples)
    mean = torch.stack([color[:, :, i, :, j] for i in range(samples) for j in range(samples)]).mean(0)
    return (mean + torch.from_numpy(_noise(scene, size)).to(device)).clamp(0, 1)


def _semantic(scene: Scene, hits: _Hits) -> Tensor:
    label = torch.where(hits.surface == FLOOR, 1, torch.where(hits.surface == CEILING, 2, 0)).to(torch.int16)
    for decal in scene.decals:
        on_wall = hits.surface == decal.wall
        u, v = _wall_coordinates(scene, decal.wall, hits.point)
        inside = on_wall & (u > decal.u0) & (u < decal.u1) & (v > decal.v0) & (v < decal.v1)
        label = torch.where(inside, 3 + decal.kind, label)
    classes = torch.tensor((0, *scene.classes), dtype=torch.int16, device=label.device)
    return torch.where(hits.thing > 0, 6 + classes[hits.thing.long()], label).to(torch.int16)


def _frame(scene: Scene) -> tuple[list[float], np.ndarray]:
    """Layout distances (6) and the (3, 3) camera-frame directions to front wall, right wall and ceiling."""
    forward = scene.rotation[:, 2]
    if abs(forward[0]) > abs(forward[2]):
        front = np.array([math.copysign(1.0, forward[0]), 0.0, 0.0])
    else:
        front = np.array([0.0, 0.0, math.copysign(1.0, forward[2])])
    up = np.array([0.0, 1.0, 0.0])
    right = np.cross(up, front)
    reach = np.array([scene.half[0], 0.0, scene.half[1]])
    eye = np.array(scene.eye)
    layout = [float(reach @ abs(axis) - sign * (eye @ axis)) for axis in (front, right) for sign in (1, -1)]
    front_wall, back_wall, right_wall, left_wall = layout
    distances = [front_wall, back_wall, left_wall, right_wall, scene.eye[1], scene.height - scene.eye[1]]
    return distances, np.stack([front, right, up]) @ scene.rotation


def _render_one(scene: Scene, size: int, samples: int, device: torch.device) -> dict[str, Tensor]:
    direction, cosine = _rays(scene, size, device)
    hits = _trace(scene, direction)
    r = scene.rotation.tolist()
    n = hits.normal
    normals = torch.stack([r[0][k] * n[0] + r[1][k] * n[1] + r[2][k] * n[2] for k in range(3)])
    distances, axes = _frame(scene)

    def real(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.float32).to(device)

    return {
        "rgb": _rgb(scene, size, samples, device).float(),
        "distance": hits.t.float().view(size, size),
        "zdepth": (hits.t * cosine).float().view(size, size),
        "normals": normals.float().view(3, size, size),
        "curvature": hits.curvature.float().view(2, size, size),
        "object_id": hits.thing.view(size, size),
        "surface_id": hits.surface.view(size, size),
        "semantic": _semantic(scene, hits).view(size, size),
        "position": real(scene.eye),
        "rotation": real(scene.rotation),
        "fov": real(scene.fov),
        "layout": real(distances),
        "vanishing": real(axes),
        "object_class": torch.tensor(scene.classes[0], device=device),
        "place": torch.tensor(scene.place, device=device),
    }


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: the tensors of one scene are small, and threads that wait for each other on a busy machine were
    measured to make rendering 30 times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(size: int, samples: int) -> None:
    if size < 2 or samples < 1:
        raise UsageError(f"can't render {size} x {size} pixels with {samples} rays a side", "use 2 pixels or more")


@torch.no_grad()
def render(scenes: Scenes, size: int, device: str | torch.device = "cpu", samples: int = 2) -> Render:
    """Images and ground truth of scenes.

    Args:
        scenes: one or more, from `sample_scenes`.
        size: side of the images in pixels, 2 or more.
        device: where the tensors are made.
        samples: rays a side per pixel for rgb; the ground truth always takes the one ray through the pixel's centre.

    Returns:
        A `Render` on `device`; image k depends on scene k alone.

    Raises:
        UsageError: no scene, or a size that can't be.
    """
    _check(size, samples)
    if not scenes:
        raise UsageError("there is no scene to render", "ask sample_scenes for one or more")
    with _one_thread():
        ones = [_render_one(scene, size, samples, torch.device(device)) for scene in scenes]
    return Render(**{name: torch.stack([one[name] for one in ones]) for name in ones[0]})


@torch.no_grad()
def render_rgb8(first: int, count: int, seed: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8 images of scenes first .. first + count - 1: the probe set `rooms`.

    Raises:
        UsageError: an argument is out of range.
    """
    _check(size, 2)
    out = np.empty((count, size, size, 3), dtype=np.uint8)
    for row, scene in enumerate(sample_scenes(first, count, seed)):
        with _one_thread():
            rgb = _rgb(scene, size, 2, torch.device("cpu"))
        out[row] = (rgb * 255 + 0.5).floor().to(torch.uint8).permute(1, 2, 0).numpy()
    return out
