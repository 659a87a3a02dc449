"""timm's configuration of a model's weights, as preprocessing. timm itself is not needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: Entries that a configuration must have; timm itself would fill in ImageNet's values.
_REQUIRED = ("input_size", "mean", "std", "interpolation", "crop_pct")


def preprocessing_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate timm's configuration into fields of `modelspace.types.Preprocessing`; empty if it is incomplete.

    The image is resized to input size / crop_pct, rounded down, and its centre is cropped (timm's
    `transforms_imagenet_eval`).

    >>> preprocessing_of({"input_size": (3, 224, 224), "mean": [0.5], "std": [0.5], "interpolation": "bicubic",
    ...                   "crop_pct": 0.875})["resize"]
    (256, 256)
    """
    if any(config.get(key) is None for key in _REQUIRED):
        return {}
    sides = tuple(int(side) for side in config["input_size"][1:])
    fields: dict[str, Any] = {
        "input_size": sides,
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "value_range": (0.0, 1.0),
        "resize": tuple(math.floor(side / config["crop_pct"]) for side in sides),
        "crop": config.get("crop_mode") or "center",
        "interpolation": config["interpolation"],
    }
    if config["input_size"][0] == 3:
        fields["channels"] = "rgb"
    elif config["input_size"][0] == 1:
        fields["channels"] = "gray"
    return fields
