"""Slow second versions of what the ray caster computes, from the definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch

from modelspace.lab import tasks
from modelspace.worlds import rooms
from modelspace.worlds.raycast import Render
from modelspace.worlds.room_scenes import BOX, SPHERE, Scene


def signed_distance(shape: int, size: tuple[float, float, float], p: np.ndarray) -> np.ndarray:
    """Exact distance of points (M, 3) in the primitive's frame from its surface, negative inside (Quilez)."""
    if shape == SPHERE:
        return np.linalg.norm(p, axis=1) - size[0]
    if shape == BOX:
        q = abs(p) - np.array(size)
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)
    low, h, high = size
    q = np.stack([np.hypot(p[:, 0], p[:, 2]), p[:, 1]], 1)
    k1, k2 = np.array([high, h]), np.array([high - low, 2 * h])
    ca = np.stack([q[:, 0] - np.minimum(q[:, 0], np.where(q[:, 1] < 0, low, high)), abs(q[:, 1]) - h], 1)
    cb = q - k1 + k2 * np.clip(((k1 - q) @ k2) / (k2 @ k2), 0, 1)[:, None]
    sign = np.where((cb[:, 0] < 0) & (ca[:, 1] < 0), -1, 1)
    return sign * np.sqrt(np.minimum((ca**2).sum(1), (cb**2).sum(1)))


def pixel_rays(scene: Scene, size: int) -> np.ndarray:
    """(size * size, 3) unit directions in the room, written from the definition of the camera frame."""
    out = []
    for row in range(size):
        for column in range(size):
            x = (2 * (column + 0.5) / size - 1) * math.tan(scene.fov / 2)
            y = (1 - 2 * (row + 0.5) / size) * math.tan(scene.fov / 2)
            ray = scene.rotation @ np.array([x, y, 1.0])
            out.append(ray / np.linalg.norm(ray))
    return np.array(out)


def objects_distance(scene: Scene, p: np.ndarray) -> np.ndarray:
    """Distance of points (M, 3) in the world frame from the nearest object; infinite if there is none."""
    best = np.full(len(p), np.inf)
    for primitive in scene.primitives:
        c, s = math.cos(primitive.yaw), math.sin(primitive.yaw)
        q = p - np.array(primitive.center)
        local = np.stack([c * q[:, 0] - s * q[:, 2], q[:, 1], s * q[:, 0] + c * q[:, 2]], 1)
        best = np.minimum(best, signed_distance(primitive.shape, primitive.size, local))
    return best


def normals_of_planes(scene: Scene, render: Render, number: int, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Rendered normals of planes nearer than `limit`, and cross products of neighbouring points, each (n, 3)."""
    size = render.rgb.shape[-1]
    rays = (pixel_rays(scene, size) @ scene.rotation).reshape(size, size, 3)
    points = rays * render.distance[number].double().numpy()[..., None]
    cross = np.cross(points[1:, :-1] - points[:-1, :-1], points[:-1, 1:] - points[:-1, :-1])
    cross /= np.linalg.norm(cross, axis=-1, keepdims=True)
    ids, bends = render.surface_id[number].numpy(), render.curvature[number, 0].numpy()
    flat = (ids[1:, :-1] == ids[:-1, :-1]) & (ids[:-1, 1:] == ids[:-1, :-1]) & (bends[:-1, :-1] == 0)
    near = render.distance[number].numpy() < limit  # what is farther is recorded nearer, and a sky is a sphere
    flat &= near[:-1, :-1] & near[1:, :-1] & near[:-1, 1:]
    return render.normals[number].permute(1, 2, 0).numpy()[:-1, :-1][flat], cross[flat]


def check_normals(scenes: Sequence[Scene], render: Render) -> None:
    """Normals are of norm 1 and face the camera, and the depth is the distance along the view."""
    size = render.rgb.shape[-1]
    assert torch.allclose(render.normals.norm(dim=1), torch.ones_like(render.distance), atol=1e-5)
    for scene, normals, distance, zdepth in zip(scenes, render.normals, render.distance, render.zdepth, strict=True):
        rays = pixel_rays(scene, size) @ scene.rotation
        assert ((normals.permute(1, 2, 0).reshape(-1, 3).numpy() * rays).sum(1) < 1e-6).all()
        assert np.allclose(zdepth.numpy().ravel(), distance.numpy().ravel() * rays[:, 2], rtol=1e-5)


def check_normals_of_planes(scenes: Sequence[Scene], render: Render, limit: float) -> None:
    """Normals of planes nearer than `limit` are cross products of neighbouring points."""
    checked = 0
    for k, scene in enumerate(scenes):
        rendered, cross = normals_of_planes(scene, render, k, limit)
        off = np.minimum(abs(cross - rendered).max(-1), abs(cross + rendered).max(-1))
        assert off.max() < 2e-3
        checked += len(off)
    assert checked > 2000


def check_labels(world: ModuleType, render: Render) -> None:
    """Labels of a world outside have the counts that the tasks predict, and vary."""
    assert len(world.SEMANTIC) == len(rooms.SEMANTIC) == tasks.task("segmentsemantic").outputs
    assert len(world.OBJECTS) == tasks.task("class_1000").outputs
    assert len(world.PLACE_NAMES) == tasks.task("class_places").outputs
    for task in tasks.TASKS.values():
        label = task.label(render)
        assert len(label) == len(render)
        if task.classifies:
            assert 0 <= label.min() <= label.max() < task.outputs
        else:
            assert label.shape[1] == task.outputs
            assert label.isfinite().all()
            assert (label.flatten(1).std(0) > 1e-6).any()
