"""The plain values that the modules hand to each other. Nothing here imports torch, duckdb or faiss."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelspace.errors import UsageError

CHANNEL_ORDERS = ("rgb", "bgr", "gray")

#: Raise it when the same inputs would give other maps than before: spaces of two versions never mix.
EMBEDDING_VERSION = 1

#: Bits per map element that `modelspace.maps` can store.
BITS = (1, 2, 3, 4, 8, 16, 32)


def canonical_json(value: Any) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, no NaN. What hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Preprocessing:
    """How an 8-bit RGB probe image becomes a model's input.

    The image is resized to `input_size` (bilinear, antialiased), its channels are put in the order `channels`
    ("gray" is the ITU-R BT.601 luma), and each value u in 0..255 becomes ``(lo + (hi - lo) * u / 255 - mean) / std``.

    Attributes:
        input_size: (height, width) in pixels.
        mean: one value per channel, in units of `value_range`.
        std: one value per channel, in units of `value_range`; not zero.
        channels: "rgb", "bgr" or "gray".
        value_range: (lo, hi), what 0 and 255 become before mean and std.
    """

    input_size: tuple[int, int]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels: str = "rgb"
    value_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        size = tuple(int(side) for side in self.input_size)
        object.__setattr__(self, "input_size", size)
        for name in ("mean", "std", "value_range"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if len(size) != 2 or min(size) < 1:
            raise UsageError(
                f"input size {self.input_size} is not (height, width) in pixels", "example: --input-size 224"
            )
        if self.channels not in CHANNEL_ORDERS:
            raise UsageError(f"channel order {self.channels!r} is not known", "use --channels rgb, bgr or gray")
        if len(self.mean) != self.n_channels or len(self.std) != self.n_channels:
            raise UsageError(
                f"{self.channels} input has {self.n_channels} channel(s), but mean has {len(self.mean)} "
                f"and std has {len(self.std)} values",
                "give one value per channel, for example --mean 0.485,0.456,0.406",
            )
        lo, hi = self.value_range if len(self.value_range) == 2 else (0.0, 0.0)
        if not all(math.isfinite(v) for v in (*self.mean, *self.std, lo, hi)) or lo == hi or 0.0 in self.std:
            raise UsageError("mean, std and value range must be finite, std not zero, and the range not empty")

    @property
    def n_channels(self) -> int:
        return 1 if self.channels == "gray" else 3

    def to_dict(self) -> dict[str, Any]:
        return {
            "input_size": list(self.input_size),
            "mean": list(self.mean),
            "std": list(self.std),
            "channels": self.channels,
            "value_range": list(self.value_range),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Preprocessing:
        known = {"input_size", "mean", "std", "channels", "value_range"}
        if unknown := set(value) - known:
            raise UsageError(f"preprocessing has unknown entries: {', '.join(sorted(unknown))}")
        if "input_size" not in value:
            raise UsageError("preprocessing does not state input_size")
        size = value["input_size"]
        size = (size, size) if isinstance(size, int) else tuple(size)
        return cls(**{**value, "input_size": size})


@dataclass(frozen=True)
class SpaceSpec:
    """Everything that must be equal for two models' vectors to be comparable.

    Attributes:
        name: what people call the space; not part of its identity.
        probe_id: fingerprint of the probe set (`modelspace.probes`).
        method: name of the attribution method (`modelspace.attribution.METHODS`).
        n_images: how many probe images are used, from the first of the set.
        canvas: side of the square that every map is brought to, in pixels.
        bits: bits per stored map element, one of `BITS`.
        scalar: what of the encoder output T is explained; "sum" is the paper's.
        parameters: the method's own parameters, for example {"epsilon": 1e-4}.
    """

    name: str
    probe_id: str
    method: str
    n_images: int
    canvas: int
    bits: int = 8
    scalar: str = "sum"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    version: int = EMBEDDING_VERSION

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise UsageError(
                f"{self.bits} bits per map element can't be stored", f"use --bits {', '.join(map(str, BITS))}"
            )
        if self.canvas < 2 or self.n_images < 1:
            raise UsageError(
                f"a space needs a canvas of 2 or more pixels and an image, not {self.canvas} and {self.n_images}"
            )

    def identity(self) -> dict[str, Any]:
        """What is hashed into `space_id`."""
        return {
            "probe_id": self.probe_id,
            "method": self.method,
            "n_images": self.n_images,
            "canvas": self.canvas,
            "bits": self.bits,
            "scalar": self.scalar,
            "parameters": dict(self.parameters),
            "version": self.version,
        }

    @property
    def space_id(self) -> str:
        """16 hexadecimal digits."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()[:16]

    @property
    def n_elements(self) -> int:
        """Length of the concatenated maps of one model: images x canvas x canvas."""
        return self.n_images * self.canvas * self.canvas


@dataclass(frozen=True)
class ModelCard:
    """What is known about a model besides its vectors; one row of the table `models`.

    Attributes:
        name: unique in the registry.
        uri: where it was loaded from, for example "zoo:depth".
        weights_sha256: of the tensors' names, types, shapes and bytes (`modelspace.sources.weights_sha256`).
        layer: the tapped tensor, for example "fc:in" or "output".
        layer_found_by: how it was found, for example "input of the last linear map" or "--layer".
        output_shape: shape of T for one image, without the batch axis.
        parameters: number of parameters.
        seconds: wall time of the embedding pass.
        tags: free key-value pairs.
    """

    name: str
    uri: str
    weights_sha256: str
    layer: str
    layer_found_by: str
    output_shape: tuple[int, ...]
    preprocessing: Preprocessing
    parameters: int
    architecture: str = ""
    task: str | None = None
    data: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def identity(self) -> str:
        """Two cards with equal identity have equal maps: weights, tapped layer and preprocessing."""
        value = {"weights": self.weights_sha256, "layer": self.layer, "preprocessing": self.preprocessing.to_dict()}
        return hashlib.sha256(canonical_json(value).encode()).hexdigest()
