"""The repainted rooms: rooms of other seeds, of which surfaces, lights and camera alone are changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from modelspace.errors import UsageError
from modelspace.worlds import repainted, room_scenes, rooms
from modelspace.worlds.repainted_scenes import _ROOM


def test_a_scene_depends_on_seed_and_number_alone() -> None:
    scenes = repainted.sample_scenes(0, 6, seed=3)
    assert repainted.sample_scenes(4, 2, seed=3) == scenes[4:]
    assert repainted.sample_scenes(0, 6, seed=4) != scenes
    assert (repainted.render_rgb8(2, 1, 3, 32) == repainted.render_rgb8(0, 3, 3, 32)[2:]).all()
    with pytest.raises(UsageError, match="don't exist"):
        repainted.sample_scenes(-1, 2, seed=0)


def test_what_stands_where_is_that_of_a_room() -> None:
    for changed, room in zip(
        repainted.sample_scenes(0, 20, seed=5), room_scenes.sample_scenes(0, 20, 5 ^ _ROOM), strict=True
    ):
        same = ("index", "place", "half", "height", "eye", "yaw", "pitch", "decals", "classes")
        assert all(getattr(changed, name) == getattr(room, name) for name in same)
        for primitive, was in zip(changed.primitives, room.primitives, strict=True):
            assert (primitive.shape, primitive.center, primitive.size, primitive.object_number, primitive.glow) == (
                was.shape,
                was.center,
                was.size,
                was.object_number,
                was.glow,
            )
        assert changed.coats != room.coats
        assert changed.lights != room.lights
        assert 1 <= len(changed.lights) <= 2


def test_parts_that_looked_the_same_still_do() -> None:
    looks: dict[tuple[int, int, room_scenes.Color], set[room_scenes.Color]] = {}
    pairs = zip(repainted.sample_scenes(0, 30, seed=5), room_scenes.sample_scenes(0, 30, 5 ^ _ROOM), strict=True)
    for changed, room in pairs:
        for primitive, was in zip(changed.primitives, room.primitives, strict=True):
            looks.setdefault((room.index, was.object_number, was.color), set()).add(primitive.color)
    assert all(len(colors) == 1 for colors in looks.values())
    assert len({color for colors in looks.values() for color in colors}) > 0.9 * len(looks)


def test_every_texture_comes_on_walls_and_the_images_are_darker_and_noisier_than_rooms() -> None:
    scenes = repainted.sample_scenes(0, 100, seed=0)
    assert {scene.coats[0].texture for scene in scenes} == set(range(9))
    assert {scene.coats[room_scenes.FLOOR].texture for scene in scenes} == set(range(9))
    before = room_scenes.sample_scenes(0, 100, seed=0)
    for name in ("ambient", "noise"):
        ours, theirs = (np.mean([getattr(scene, name) for scene in group]) for group in (scenes, before))
        assert (ours < theirs) if name == "ambient" else (ours > theirs)
    images, plain = repainted.render_rgb8(0, 12, 0, 32), rooms.render_rgb8(0, 12, 0, 32)
    assert 40 < images.mean() < plain.mean()
    assert images.std(axis=(1, 2)).min() > 5, "none is black or of one colour"


def test_labels_are_those_of_the_room_seen_by_the_same_camera() -> None:
    (scene,), (room,) = repainted.sample_scenes(7, 1, seed=1), room_scenes.sample_scenes(7, 1, 1 ^ _ROOM)
    seen = repainted.render([scene], 24, samples=1)
    tilted = replace(room, roll=scene.roll, fov=scene.fov)
    again = rooms.render([tilted], 24, samples=1)
    assert torch.equal(seen.distance, again.distance)
    assert torch.equal(seen.semantic, again.semantic)
    assert not torch.equal(seen.distance, rooms.render([room], 24, samples=1).distance)
    assert (seen.rgb - again.rgb).abs().mean() > 0.05
