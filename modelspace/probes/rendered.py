"""Probe sets of a rendered world: images made from a seed when they are asked for (`modelspace.zoo`)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelspace.errors import ProbeError
from modelspace.probes import cache
from modelspace.probes.base import MAX_SIZE, ProbeSet, check_range, short_hash
from modelspace.worlds.room_scenes import RENDERER_VERSION
from modelspace.worlds.yard_scenes import YARDS_VERSION

if TYPE_CHECKING:
    import numpy as np

DEFAULT_SIZE = 128


@dataclass(frozen=True)
class World:
    """A world that probe images are rendered from.

    Attributes:
        version: of its pictures; another version makes another set.
        module: has render_rgb8(first, count, seed, size); it imports torch, which describing a set does not need.
    """

    version: int
    module: str


#: Kind of probe set to the world that it shows.
WORLDS = {
    "rooms": World(RENDERER_VERSION, "modelspace.worlds.rooms"),
    "yards": World(YARDS_VERSION, "modelspace.worlds.yards"),
}


def describe(kind: str, n_images: int, size: int, seed: int) -> ProbeSet:
    """See `modelspace.probes.rooms`; `kind` is a key of `WORLDS`."""
    check_range("number of images", n_images, 1)
    check_range("image size", size, 16, MAX_SIZE)
    check_range("seed", seed, 0)
    spec: dict[str, Any] = {"kind": kind, "renderer": WORLDS[kind].version, "seed": seed, "size": size}
    name = kind + (f"-{size}" if size != DEFAULT_SIZE else "") + (f"-seed{seed}" if seed else "")
    return ProbeSet(name, kind, spec, n_images, size, short_hash(spec))


def check(probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int) -> None:
    """There are as many scenes as anybody asks for, but only the renderer that made the set makes it again."""
    made, here = probe_set.spec.get("renderer"), WORLDS[probe_set.kind].version
    if made != here:
        raise ProbeError(
            f"probe set {probe_set.name!r} was made with renderer {made}, and this version has renderer {here}, whose "
            "images differ",
            "install the version of modelspace that made it, or make a new space",
        )


def take(probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int) -> np.ndarray:
    """(count, size, size, 3) uint8."""
    kind, seed, size = probe_set.kind, int(probe_set.spec["seed"]), probe_set.size
    world = WORLDS[kind]

    def render(start: int, number: int) -> np.ndarray:
        source: Any = importlib.import_module(world.module)
        made: np.ndarray = source.render_rgb8(start, number, seed, size)
        return made

    return cache.images(f"{kind}-v{world.version}-seed{seed}-{size}px", first, count, (size, size, 3), render)
