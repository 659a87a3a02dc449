"""The rows that the registry returns and accepts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from modelspace.errors import DamagedError
from modelspace.late import dataclass
from modelspace.representations.maps import MapBlock as MapBlock
from modelspace.types import ModelCard, SpaceSpec


@dataclass(frozen=True)
class SpaceRow:
    """A space of the registry.

    Attributes:
        spec: what defines the space.
        is_default: whether it is used when no space is named.
        generation: increases by a random step with each change of the space's embeddings, so that two diverged copies
            of a registry never accept each other's index.
        n_models: number of embedded models.
        epoch: changes whenever vectors of models change that stay in the space. Adding a model changes none, nor does
            removing one of a space with anchors.
        next_position: of a space with anchors, the position of the next model: past every position that was ever
            taken, also by a model that was removed since. None without anchors.
    """

    spec: SpaceSpec
    is_default: bool
    generation: int
    n_models: int
    epoch: int = 0
    next_position: int | None = None

    @property
    def has_anchors(self) -> bool:
        """Whether its models have coordinates on a fixed set of anchors."""
        return self.next_position is not None

    @property
    def end(self) -> int:
        """The position of the next model."""
        return self.n_models if self.next_position is None else self.next_position


@dataclass(frozen=True)
class ProbeRow:
    """A probe set of the registry.

    Attributes:
        probe_id: fingerprint of its images (`modelspace.probes`).
        name: its name; unique.
        kind: how it is made, for example "folder" or "rooms".
        spec: what `modelspace.probes` needs to recreate it; JSON values.
        n_images: number of images; None for a rendered set, which has no fixed number.
        size: side of the images in pixels.
    """

    probe_id: str
    name: str
    kind: str
    spec: Mapping[str, Any]
    n_images: int | None
    size: int


class ProbeSets(dict[str, ProbeRow]):
    """Probe sets by id. One that a space names is there, unless another program wrote the file."""

    def __init__(self, rows: Iterable[ProbeRow]) -> None:
        super().__init__((row.probe_id, row) for row in rows)

    def __missing__(self, probe_id: str) -> ProbeRow:
        raise DamagedError(
            f"the registry lacks the probe set {probe_id!r} of one of its spaces",
            "`space.verify()` says of which; restore a copy, or remove that space",
        )


@dataclass(frozen=True)
class ModelRow:
    """A model of the registry.

    Attributes:
        model_id: its number in the registry; never reused for another model.
        card: its metadata.
        added_at: when it was added, with time zone UTC.
        spaces: names of the spaces that hold it, sorted.
    """

    model_id: int
    card: ModelCard
    added_at: datetime
    spaces: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class EmbeddingRow:
    """A model's embedding in a space.

    Attributes:
        model_id: the model.
        position: 0..n-1, in order of registration, without gaps; in a space with anchors removed models leave gaps.
        vector: (d,) float64; entries past the end are zero. The inner product of two vectors is the affinity. Empty in
            models that were added to a space with anchors.
        affinities: (m,) float64 in [-1, 1], exact affinities to the models at positions 0..m-1; m <= position + 1.
        axis: index of the axis that this model opened, or None.
        residual: 1 - |vector without its own axis|^2: how much of the model the earlier axes leave unexplained.
        coordinates: in a space with anchors, (d,) float32 coordinates on them; otherwise None. Their inner products
            are affinities with the anchors, and approximate those with other models.
    """

    model_id: int
    position: int
    vector: np.ndarray
    affinities: np.ndarray
    axis: int | None
    residual: float
    coordinates: np.ndarray | None = None


@dataclass(frozen=True)
class ModelLabel:
    """What a list of neighbours shows of a model; `ModelRow` has the rest.

    Attributes:
        model_id: its number.
        name, task, data, architecture, uri: as in `modelspace.types.ModelCard`.
    """

    model_id: int
    name: str
    task: str | None
    data: str | None
    architecture: str
    uri: str


@dataclass(frozen=True, eq=False)
class AnchorRow:
    """An anchor of a space: a model with which later ones are compared, kept even if the model is removed.

    Attributes:
        axis: 0, 1, ...: the coordinate that is its own.
        model_id: the model that it was chosen from.
        factor: (axis + 1,) float64, its row of the Cholesky factor of the anchors' affinities.
    """

    axis: int
    model_id: int
    factor: np.ndarray


@dataclass(frozen=True, eq=False)
class ProjectionRow:
    """The 2-D projection of a space.

    Attributes:
        model_ids: (n,) int64, ascending.
        coordinates: (n, 2) float64; only distances between them are meaningful.
        placed: (n,) bool, whether a model was placed on an existing layout instead of laid out with the others.
        parameters: of the layout; JSON values.
        seed: of the layout.
        made_at: when it was laid out, with time zone UTC; placing more models does not change it.
    """

    model_ids: np.ndarray
    coordinates: np.ndarray
    placed: np.ndarray
    parameters: Mapping[str, Any]
    seed: int
    made_at: datetime


@dataclass(frozen=True)
class TaskRow:
    """A task of the registry: a data set with labels, or only its name.

    Attributes:
        task_id: its number in the registry; never reused for another task.
        name: its name; unique.
        location: path of the data, as the user gave it; empty for a task without data.
        data_sha256: fingerprint of the images and their labels (`modelspace.tasks.data`); empty without data.
        kind: "classification" or "regression".
        metric: what scores are, for example "accuracy".
        higher_is_better: direction of the metric.
        n_images: number of labelled images; None for a task without data.
        classes: names of the classes, sorted; empty for regression and for a task without data.
        seed: of the splits.
        added_at: when it was added, with time zone UTC.
        n_outcomes: number of outcomes, failures included.
    """

    task_id: int
    name: str
    location: str
    data_sha256: str
    kind: str
    metric: str
    higher_is_better: bool
    n_images: int | None
    classes: tuple[str, ...]
    seed: int
    added_at: datetime
    n_outcomes: int = 0


@dataclass(frozen=True)
class OutcomeRow:
    """What was measured of one model on one task.

    Attributes:
        outcome_id: its number in the registry.
        task: name of the task.
        model: name of the model; of a removed model its last one.
        model_id: the model; None if it is no longer in the registry, or never was.
        weights_sha256: fingerprint of its weights; empty for a model that never was in the registry.
        score: in the metric of the task; None if the model failed.
        how: how it was measured, for example "finetune" or "observed".
        settings: of the measurement; JSON values.
        n_train: number of training images, or None.
        seed: of the training, or None.
        seconds: that it took, or None.
        measured_at: with time zone UTC.
        note: the user's, or why the model failed.
    """

    outcome_id: int
    task: str
    model: str
    model_id: int | None
    weights_sha256: str
    score: float | None
    how: str
    settings: Mapping[str, Any]
    n_train: int | None
    seed: int | None
    seconds: float | None
    measured_at: datetime
    note: str


@dataclass(frozen=True)
class Problem:
    """An inconsistency in the registry.

    Attributes:
        subject: what it concerns, for example "space gradient*input" or "model depth".
        message: what is wrong with it.
        hint: what to do.
    """

    subject: str
    message: str
    hint: str = "restore a copy of the registry"
