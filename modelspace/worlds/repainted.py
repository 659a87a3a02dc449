"""Repainted rooms with ground truth: a world that options are chosen on, and that no network is trained in.

The geometry, objects, places and labels are those of rooms (`modelspace.worlds.rooms`) of other seeds. What a network
can have got used to is different: any texture in any colour is on any surface, one or two coloured lamps stand low or
at the camera in the place of lamps on the ceiling, little light comes from elsewhere, the sensor is noisy, and the
camera is tilted and has a wider or narrower view. An encoder trained in rooms is of less use here, and how much less
depends on the encoder, so measured transfer tells rankings apart that agree in rooms.
"""

from __future__ import annotations

import numpy as np
import torch

from modelspace.worlds import raycast
from modelspace.worlds.raycast import Render
from modelspace.worlds.repainted_scenes import REPAINTED_VERSION, sample_scenes
from modelspace.worlds.room_scenes import OBJECTS, PLACE_NAMES, Scenes
from modelspace.worlds.rooms import ROOMS, SEMANTIC

__all__ = [
    "OBJECTS",
    "PLACE_NAMES",
    "REPAINTED_VERSION",
    "SEMANTIC",
    "Render",
    "render",
    "render_rgb8",
    "sample_scenes",
]


def render(scenes: Scenes, size: int, device: str | torch.device = "cpu", samples: int = 2) -> Render:
    """Images and ground truth of repainted rooms; see `modelspace.worlds.raycast.render`."""
    return raycast.render(ROOMS, scenes, size, device, samples)


def render_rgb8(first: int, count: int, seed: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8 images of scenes first .. first + count - 1: the probe set `repainted`.

    Raises:
        UsageError: an argument is out of range.
    """
    return raycast.render_rgb8(ROOMS, sample_scenes(first, count, seed), size)
