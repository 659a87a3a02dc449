"""Probe sets of a rendered world: images rendered on demand from a seed (`modelspace.worlds`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelspace.errors import ProbeError
from modelspace.probes import cache
from modelspace.probes.base import DEFAULT_SIZE, MAX_SIZE, ProbeSet, check_range, short_hash
from modelspace.worlds import WORLDS

if TYPE_CHECKING:
    import numpy as np


def describe(kind: str, n_images: int, size: int, seed: int) -> ProbeSet:
    """See `modelspace.probes.rooms`; `kind` names a world."""
    check_range("number of images", n_images, 1)
    check_range("image size", size, 16, MAX_SIZE)
    check_range("seed", seed, 0)
    spec: dict[str, Any] = {"kind": kind, "renderer": WORLDS[kind].version, "seed": seed, "size": size}
    name = kind + (f"-{size}" if size != DEFAULT_SIZE else "") + (f"-seed{seed}" if seed else "")
    return ProbeSet(name, kind, spec, n_images, size, short_hash(spec))


def check(probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int) -> None:
    """Make sure that this version has the renderer of the set; the number of scenes is unlimited."""
    version, current = probe_set.spec.get("renderer"), WORLDS[probe_set.kind].version
    if version != current:
        raise ProbeError(
            f"probe set {probe_set.name!r} was made with renderer {version}, but this version has renderer {current}, "
            "whose images differ",
            "install the version of modelspace that made it, or create a new space",
        )


def seed_of(probe_set: ProbeSet) -> int:
    """The seed of a set.

    Raises:
        ProbeError: it has none, or no number: another program wrote it.
    """
    seed = probe_set.spec.get("seed")
    if not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ProbeError(
            f"probe set {probe_set.name!r} has the seed {str(seed)[:40]!r}, not a number from 0 on",
            "create a new space",
        )
    return seed


def take(probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int) -> np.ndarray:
    """(count, size, size, 3) uint8."""
    kind, seed, size = probe_set.kind, seed_of(probe_set), probe_set.size
    world = WORLDS[kind]

    def render(start: int, number: int) -> np.ndarray:
        pixels: np.ndarray = world.load().render_rgb8(start, number, seed, size)
        return pixels

    return cache.images(f"{kind}-v{world.version}-seed{seed}-{size}px", first, count, (size, size, 3), render)
