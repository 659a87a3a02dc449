"""A small ray caster, shared by the rendered worlds: rays, primitives, noise, and images with their ground truth.

Each scene is rendered separately, in float64, with noise from its own random stream and only elementary arithmetic, so
image k does not depend on the number of images, and its 8-bit pixels hardly depend on the machine.

Camera frame: x right, y up, z forward, metres. A pixel's ray goes through its centre.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelspace.errors import UsageError
from modelspace.worlds import shapes
from modelspace.worlds.room_scenes import BOX, SPHERE, Primitive, Scene, raw_stream

_NOISE_STREAM = 0x6E6F697365  # added to the seed for the sensor noise, which has a stream of its own


@dataclass(frozen=True)
class Render:
    """Images and ground truth of B scenes, S x S pixels, float32 unless noted otherwise.

    Attributes:
        rgb: (B, 3, S, S) in [0, 1], gamma 2, with sensor noise.
        distance: (B, S, S) metres from the camera to the surface along the ray, at most the world's `Renderer.range`.
        zdepth: (B, S, S) metres along the viewing axis: distance times the cosine of the ray's angle.
        normals: (B, 3, S, S) unit vectors in the camera frame, towards the camera.
        curvature: (B, 2, S, S) principal curvatures, the larger first, 1/metre; 0 on planes, exact on curved shapes.
        object_id: (B, S, S) int16; 0 for the room, k for the k-th object of the scene; object 1 is the main one.
        surface_id: (B, S, S) int16; 0..5 for walls, floor and ceiling; from 6 up, one number per face of each
            primitive.
        semantic: (B, S, S) int16, index into `SEMANTIC`.
        position: (B, 3) camera in the room, metres (y up, floor 0, room centred).
        rotation: (B, 3, 3) camera frame to room frame; columns are right, up, forward.
        fov: (B,) full angle of view, radians.
        layout: (B, 6) metres from the camera to the front, back, left, right wall, floor and ceiling; the front wall
            is the one whose normal is nearest to the viewing direction.
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
class Hits:
    """The first hits of P rays; vectors are (3, P) in the world frame."""

    t: Tensor
    point: Tensor
    normal: Tensor
    curvature: Tensor
    surface: Tensor
    primitive: Tensor  # index into scene.primitives, -1 for other surfaces
    object_number: Tensor


@dataclass(frozen=True)
class Renderer:
    """How the scenes of a world are rendered.

    Attributes:
        trace: (scene, (3, P) unit directions) -> the hits of P rays from the eye.
        shade: (scene, directions, hits) -> (3, P) colours in [0, 1].
        semantic: (scene, hits) -> (P,) int16 classes.
        frame: scene -> the six values of `Render.layout` and the (3, 3) rows of `Render.vanishing`.
        range: largest recorded distance, metres; larger distances are clipped to it. Images are not affected.
    """

    trace: Callable[[Any, Tensor], Hits]
    shade: Callable[[Any, Tensor, Hits], Tensor]
    semantic: Callable[[Any, Hits], Tensor]
    frame: Callable[[Any], tuple[list[float], np.ndarray]]
    range: float = math.inf


def turn(primitive: Primitive, way: Tensor) -> Tensor:
    """Directions (3, M) from the world frame to the primitive's frame."""
    c, s = math.cos(primitive.yaw), math.sin(primitive.yaw)
    return torch.stack([c * way[0] - s * way[2], way[1], s * way[0] + c * way[2]])


def turn_back(primitive: Primitive, way: Tensor) -> Tensor:
    """Directions (3, M) from the primitive's frame to the world frame."""
    c, s = math.cos(primitive.yaw), math.sin(primitive.yaw)
    return torch.stack([c * way[0] + s * way[2], way[1], -s * way[0] + c * way[2]])


def vector(values: Sequence[float], like: Tensor) -> Tensor:
    """Values as a column (n, 1) of the type and device of `like`."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]


def rays(scene: Scene, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(3, size * size) unit directions in the world frame, and their cosines with the viewing axis."""
    reach = math.tan(scene.fov / 2)
    steps = ((torch.arange(size, dtype=torch.float64, device=device) + 0.5) / size * 2 - 1) * reach
    x, y = steps.repeat(size), -steps.repeat_interleave(size)
    cosine = 1 / (x * x + y * y + 1).sqrt()
    x, y, z = x * cosine, y * cosine, cosine
    r = scene.rotation.tolist()
    return torch.stack([r[k][0] * x + r[k][1] * y + r[k][2] * z for k in range(3)]), cosine


def background(scene: Scene, direction: Tensor, t: Tensor, surface: Tensor, normal: Tensor) -> Hits:
    """Hits of P rays with planes only; `t` (P,), `surface` (P,) int16, `normal` (3, P)."""
    return Hits(
        t=t,
        point=vector(scene.eye, direction) + t * direction,
        normal=normal,
        curvature=torch.zeros_like(direction[:2]),
        surface=surface,
        primitive=torch.full_like(surface, -1),
        object_number=torch.zeros_like(surface),
    )


def meet(scene: Scene, direction: Tensor, hits: Hits) -> Hits:
    """`hits` with the scene's primitives included; writes into its tensors."""
    eye = vector(scene.eye, direction)
    for number, primitive in enumerate(scene.primitives):
        to_center = vector(primitive.center, direction) - eye
        along = (to_center * direction).sum(0)
        off = (to_center * to_center).sum() - along * along
        candidates = torch.nonzero((off < 1.01 * primitive.bound**2) & (along > 0))[:, 0]
        if not len(candidates):
            continue
        origin = turn(primitive, (-to_center).expand(-1, len(candidates)))
        local_direction = turn(primitive, direction[:, candidates])
        t, face = shapes.intersect(primitive.shape, origin, local_direction, primitive.size)
        front = torch.nonzero(t < hits.t[candidates])[:, 0]
        visible, t, face = candidates[front], t[front], face[front]
        point = origin[:, front] + t * local_direction[:, front]
        normal, curvature = shapes.surface(primitive.shape, point, face, primitive.size)
        hits.t[visible] = t
        hits.normal[:, visible] = turn_back(primitive, normal)
        hits.curvature[:, visible] = curvature
        hits.surface[visible] = face + (6 + 6 * number)
        hits.primitive[visible] = number
        hits.object_number[visible] = primitive.object_number
    return replace(hits, point=eye + hits.t * direction)


def object_coordinates(primitive: Primitive, point: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
    """u, v in metres on a primitive; `point` (3, M) in the world frame."""
    x, y, z = turn(primitive, point - vector(primitive.center, point))
    if primitive.shape == SPHERE:
        return torch.atan2(x, z) * primitive.size[0], y
    if primitive.shape == BOX:
        axis = face // 2
        return torch.where(axis == 0, z, x), torch.where(axis == 1, z, y)
    side = face == 0
    return torch.where(side, torch.atan2(x, z) * primitive.size[0], x), torch.where(side, y, z)


def lit(scene: Scene, start: Tensor, goal: Tensor) -> Tensor:
    """(M,) bool: whether no primitive lies between `start` (3, M) and `goal` (3, 1) or (3, M)."""
    way = goal - start
    length = (way * way).sum(0)
    free = torch.ones_like(length, dtype=torch.bool)
    for primitive in scene.primitives:
        out = vector(primitive.center, start) - start
        share = ((out * way).sum(0) / length).clamp(0, 1)
        off = out - share * way
        close = torch.nonzero(((off * off).sum(0) < 1.01 * primitive.bound**2) & free)[:, 0]
        if not len(close):
            continue
        t, _ = shapes.intersect(
            primitive.shape, turn(primitive, -out[:, close]), turn(primitive, way[:, close]), primitive.size
        )
        free[close] = ~(t < 1)
    return free


def _noise(scene: Scene, size: int) -> np.ndarray:
    """(3, size, size) float64: triangular noise of amplitude `scene.noise`, from the scene's noise stream."""
    words = raw_stream((scene.seed + _NOISE_STREAM) % 2**64, scene.index, -(-3 * size * size // 2))
    uniform = words.astype("<u8").view("<u2")[: 6 * size * size].astype(np.float64).reshape(2, 3, size, size)
    noise: np.ndarray = (uniform[0] - uniform[1]) / 65536 * scene.noise
    return noise


def _rgb(renderer: Renderer, scene: Scene, size: int, samples: int, device: torch.device) -> Tensor:
    """(3, size, size) float64: the mean of samples x samples rays per pixel, with noise."""
    direction, _ = rays(scene, size * samples, device)
    color = renderer.shade(scene, direction, renderer.trace(scene, direction))
    color = color.view(3, size, samples, size, samples)
    mean = torch.stack([color[:, :, i, :, j] for i in range(samples) for j in range(samples)]).mean(0)
    return (mean + torch.from_numpy(_noise(scene, size)).to(device)).clamp(0, 1)


def frame(scene: Scene) -> tuple[list[float], np.ndarray]:
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


def _render_one(renderer: Renderer, scene: Scene, size: int, samples: int, device: torch.device) -> dict[str, Tensor]:
    direction, cosine = rays(scene, size, device)
    hits = renderer.trace(scene, direction)
    r = scene.rotation.tolist()
    n = hits.normal
    normals = torch.stack([r[0][k] * n[0] + r[1][k] * n[1] + r[2][k] * n[2] for k in range(3)])
    distances, axes = renderer.frame(scene)
    distance = hits.t.clamp_max(renderer.range)

    def real(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.float32).to(device)

    return {
        "rgb": _rgb(renderer, scene, size, samples, device).float(),
        "distance": distance.float().view(size, size),
        "zdepth": (distance * cosine).float().view(size, size),
        "normals": normals.float().view(3, size, size),
        "curvature": hits.curvature.float().view(2, size, size),
        "object_id": hits.object_number.view(size, size),
        "surface_id": hits.surface.view(size, size),
        "semantic": renderer.semantic(scene, hits).view(size, size),
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
    """Use one torch thread.

    The tensors of a scene are small; threads that wait for each other on a busy machine made rendering 30 times slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(size: int, samples: int) -> None:
    if size < 2 or samples < 1:
        raise UsageError(f"can't render {size} x {size} pixels with {samples} rays per side", "use 2 pixels or more")


@torch.no_grad()
def render(
    renderer: Renderer, scenes: Sequence[Scene], size: int, device: str | torch.device = "cpu", samples: int = 2
) -> Render:
    """Images and ground truth of scenes of one world.

    Args:
        renderer: of the world.
        scenes: one or more.
        size: side of the images in pixels, 2 or more.
        device: of the tensors.
        samples: rays per side of a pixel for rgb; the ground truth always uses the ray through the pixel's centre.

    Returns:
        A `Render` on `device`; image k depends only on scene k.

    Raises:
        UsageError: no scene, or an impossible size.
    """
    _check(size, samples)
    if not scenes:
        raise UsageError("there are no scenes to render", "pass one or more scenes from sample_scenes")
    with _one_thread():
        renders = [_render_one(renderer, scene, size, samples, torch.device(device)) for scene in scenes]
    return Render(**{name: torch.stack([tensors[name] for tensors in renders]) for name in renders[0]})


@torch.no_grad()
def render_rgb8(renderer: Renderer, scenes: Sequence[Scene], size: int) -> np.ndarray:
    """(scenes, size, size, 3) uint8 images.

    Raises:
        UsageError: the size is impossible.
    """
    _check(size, 2)
    out = np.empty((len(scenes), size, size, 3), dtype=np.uint8)
    for row, scene in enumerate(scenes):
        with _one_thread():
            rgb = _rgb(renderer, scene, size, 2, torch.device("cpu"))
        out[row] = (rgb * 255 + 0.5).floor().to(torch.uint8).permute(1, 2, 0).numpy()
    return out
