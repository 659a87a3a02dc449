"""Rendered worlds with ground truth: scenes, the ray caster, and the textures of surfaces.

A new world is added to the table `WORLDS`; it is then available for probe sets, training and evaluation.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from modelspace.errors import ConflictError
from modelspace.worlds.repainted_scenes import REPAINTED_VERSION
from modelspace.worlds.room_scenes import RENDERER_VERSION
from modelspace.worlds.street_scenes import STREETS_VERSION
from modelspace.worlds.yard_scenes import YARDS_VERSION


@dataclass(frozen=True)
class World:
    """A world of scenes; scene k depends only on a seed and on k.

    Attributes:
        name: as in "modelspace init --probes NAME".
        version: of its images; another version makes another probe set.
        module: has ``sample_scenes(first, count, seed)``, ``render(scenes, size, device)`` (images and ground truth,
            `raycast.Render`) and ``render_rgb8(first, count, seed, size)`` ((count, size, size, 3) uint8). It imports
            torch, which is not needed to list the worlds.
    """

    name: str
    version: int
    module: str

    def load(self) -> Any:
        """The module that renders it."""
        return importlib.import_module(self.module)


def world_table(*worlds: World) -> Mapping[str, World]:
    """The worlds by name.

    Raises:
        ConflictError: two worlds have the same name.
    """
    table: dict[str, World] = {}
    for world in worlds:
        if world.name in table:
            raise ConflictError(f"the world {world.name!r} is in {table[world.name].module} and in {world.module}")
        table[world.name] = world
    return MappingProxyType(table)


#: Every rendered world by name.
WORLDS = world_table(
    World("rooms", RENDERER_VERSION, "modelspace.worlds.rooms"),
    World("yards", YARDS_VERSION, "modelspace.worlds.yards"),
    World("streets", STREETS_VERSION, "modelspace.worlds.streets"),
    World("repainted", REPAINTED_VERSION, "modelspace.worlds.repainted"),
)
