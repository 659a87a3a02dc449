"""The probe set `rooms`: images rendered from a seed when they are asked for (`modelspace.zoo.rooms`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelspace.errors import ProbeError
from modelspace.probes import cache
from modelspace.probes.base import MAX_SIZE, ProbeSet, check_range, short_hash
from modelspace.zoo.scenes import RENDERER_VERSION

if TYPE_CHECKING:
    import numpy as np

DEFAULT_SIZE = 128


def describe(n_images: int, size: int, seed: int) -> ProbeSet:
    """See `modelspace.probes.rooms`."""
    check_range("number of images", n_images, 1)
    check_range("image size", size, 16, MAX_SIZE)
    check_range("seed", seed, 0)
    spec: dict[str, Any] = {"kind": "rooms", "renderer": RENDERER_VERSION, "seed": seed, "size": size}
    name = "rooms" + (f"-{size}" if size != DEFAULT_SIZE else "") + (f"-seed{seed}" if seed else "")
    return ProbeSet(name, "rooms", spec, n_images, size, short_hash(spec))


def check(probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int) -> None:
    """There are as many rooms as anybody asks for, but only the renderer that made the set makes it again."""
    renderer = probe_set.spec.get("renderer")
    if renderer != RENDERER_VERSION:
        raise ProbeError(
            f"probe set {probe_set.name!r} was made with renderer {renderer}, and this version has renderer "
            f"{RENDERER_VERSION}, whose images differ",
            "install the version of modelspace that made it, or make a new space",
        )


def take(probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int) -> np.ndarray:
    """(count, size, size, 3) uint8."""
    seed, size = int(probe_set.spec["seed"]), probe_set.size

    def render(start: int, number: int) -> np.ndarray:
        from modelspace.zoo import rooms  # imports torch, which describing a set does not need

        return rooms.render_rgb8(start, number, seed, size)

    return cache.images(f"rooms-v{RENDERER_VERSION}-seed{seed}-{size}px", first, count, (size, size, 3), render)
