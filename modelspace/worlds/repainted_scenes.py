"""Parameters of the repainted rooms: rooms of other seeds with other surfaces, lights and camera.

Every scene has two counter-based generators of its own (`modelspace.worlds.room_scenes`): one of the room, one of what
is changed.
"""

from __future__ import annotations

import math
from dataclasses import replace

from modelspace.worlds import room_scenes
from modelspace.worlds.room_scenes import (
    CARPET,
    CEILING,
    FLOOR,
    Coat,
    Color,
    Draw,
    Light,
    Primitive,
    Scene,
    check_range,
)

#: To be raised when the same (seed, index, size) gives another image than before.
REPAINTED_VERSION = 1

#: Keeps the rooms that are repainted apart from the rooms of the same seed, and the changes from both.
_ROOM, _CHANGE = 0x7061696E74, 0x6C616D7073

#: Number of textures.
_TEXTURES = 9


def sample_scenes(first: int, count: int, seed: int) -> list[Scene]:
    """Scenes first .. first + count - 1 of the world with this seed; see `room_scenes.sample_scenes`.

    Raises:
        UsageError: an argument is out of range.
    """
    check_range(first, count, seed)
    rooms = room_scenes.sample_scenes(first, count, seed ^ _ROOM)
    return [_changed(room, Draw(seed ^ _CHANGE, room.index)) for room in rooms]


def _changed(scene: Scene, draw: Draw) -> Scene:
    """A room with other surfaces, lights and camera."""
    walls, floor, above = _coat(draw), _coat(draw), _coat(draw)
    coats = tuple(floor if k == FLOOR else above if k == CEILING else walls for k in range(len(scene.coats)))
    return replace(
        scene,
        coats=coats,
        primitives=_repainted(scene, draw),
        lights=_lights(scene, draw),
        ambient=draw.between(0.05, 0.16),
        roll=draw.between(-0.35, 0.35),
        fov=draw.between(math.radians(45), math.radians(95)),
        noise=draw.between(0.03, 0.09),
    )


def _color(draw: Draw) -> Color:
    """Pale, dark or saturated."""
    if draw.chance(0.5):
        return draw.vivid()
    grey = draw.between(0.15, 0.9)
    return draw.near((grey, grey, grey), 0.1)


def _coat(draw: Draw) -> Coat:
    """Any texture in any two colours, fine or coarse."""
    return Coat(draw.below(_TEXTURES), _color(draw), _color(draw), 0.12 * 8 ** draw.unit())


def _repainted(scene: Scene, draw: Draw) -> tuple[Primitive, ...]:
    """The primitives in other colours and textures; those of one object that looked the same still do."""
    coats: dict[tuple[int, Color], Coat] = {}
    out = []
    for primitive in scene.primitives:
        key = (primitive.object_number, primitive.color)
        coat = coats.setdefault(key, replace(_coat(draw), scale=0.05 * 6 ** draw.unit()))
        changed = replace(primitive, color=coat.color, second=coat.second, texture=coat.texture, scale=coat.scale)
        # Leaves keep their fine texture: spheres of a plain colour would be balls.
        leaf = primitive.texture == CARPET
        out.append(replace(changed, texture=CARPET, scale=primitive.scale) if leaf else changed)
    return tuple(out)


def _lights(scene: Scene, draw: Draw) -> tuple[Light, ...]:
    """One or two coloured lamps: at the camera, or low and anywhere in the room."""
    lights = []
    for number in range(1 + draw.below(2)):
        tint = draw.near((0.8, 0.8, 0.8), 0.4)
        power = draw.between(0.5, 1.2) * (scene.height - 0.6) ** 1.2 / (1 + number)
        color: Color = (tint[0] * power, tint[1] * power, tint[2] * power)
        if draw.chance(0.35):
            x, y, z = scene.eye
            lights.append(Light((x + draw.between(-0.3, 0.3), max(0.2, y - 0.2), z + draw.between(-0.1, 0.1)), color))
        else:
            at = draw.between(-0.85, 0.85), draw.between(0.3, 1.6), draw.between(-0.85, 0.85)
            lights.append(Light((at[0] * scene.half[0], at[1], at[2] * scene.half[1]), color))
    return tuple(lights)
