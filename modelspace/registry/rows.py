"""The rows that the registry hands out and takes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from modelspace.representations.maps import MapBlock as MapBlock
from modelspace.types import ModelCard, SpaceSpec


@dataclass(frozen=True)
class SpaceRow:
    """A space of the registry.

    Attributes:
        spec: what defines the space.
        is_default: whether it is the one that is meant where none is named.
        generation: grows with every change of the space's embeddings, by a random step: of two copies of a registry
            that went different ways, neither takes the other's index for its own.
        n_models: number of embedded models.
    """

    spec: SpaceSpec
    is_default: bool
    generation: int
    n_models: int


@dataclass(frozen=True)
class ProbeRow:
    """A probe set of the registry.

    Attributes:
        probe_id: fingerprint of its images (`modelspace.probes`).
        name: what people call it; unique.
        kind: how it is made, for example "folder" or "rooms".
        spec: whatever `modelspace.probes` needs to make it again; JSON values.
        n_images: number of images; None for a set that is rendered, which has as many as asked for.
        size: side of the images in pixels.
    """

    probe_id: str
    name: str
    kind: str
    spec: Mapping[str, Any]
    n_images: int | None
    size: int


@dataclass(frozen=True)
class ModelRow:
    """A model of the registry.

    Attributes:
        model_id: the registry's number for it; never given again to another model.
        card: what is known about it.
        added_at: when it was added, with time zone UTC.
        spaces: names of the spaces that hold it, sorted.
    """

    model_id: int
    card: ModelCard
    added_at: datetime
    spaces: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class EmbeddingRow:
    """A model's place in a space.

    Attributes:
        model_id: the model.
        position: 0..n-1, in order of adding, without gaps.
        vector: (d,) float64, d as long as it needs; entries beyond it are zero. Inner product of two vectors = affinity.
        affinities: (m,) float64 in [-1, 1], exact affinities to the models at positions 0..m-1; m <= position + 1.
        axis: index of the coordinate that this model opened, or None.
        residual: 1 - |vector without its own axis|^2: how much of the model the earlier axes leave unexplained.
    """

    model_id: int
    position: int
    vector: np.ndarray
    affinities: np.ndarray
    axis: int | None
    residual: float


@dataclass(frozen=True, eq=False)
class ProjectionRow:
    """The map of a space.

    Attributes:
        model_ids: (n,) int64, ascending.
        coordinates: (n, 2) float64; only distances between them mean something.
        placed: (n,) bool, whether a model was placed on a map that was there, and not laid out with it.
        parameters: how it was laid out; JSON values.
        seed: of the layout.
        made_at: when it was laid out, with time zone UTC; placing further models does not change it.
    """

    model_ids: np.ndarray
    coordinates: np.ndarray
    placed: np.ndarray
    parameters: Mapping[str, Any]
    seed: int
    made_at: datetime


@dataclass(frozen=True)
class Problem:
    """Something in the registry that does not fit together.

    Attributes:
        subject: what it is about, for example "space gradient*input" or "model depth".
        message: what is wrong with it.
    """

    subject: str
    message: str
