"""Results of the methods of `modelspace.workspace.ModelSpace`: records, which convert to tables of other libraries.

A list of records becomes dictionaries (`.to_dicts()`), a pandas or Polars DataFrame (`.to_pandas()`, `.to_polars()`) or
an Arrow table (`.to_arrow()`). Notebooks show lists and single records as tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, field, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from modelspace import frames
from modelspace.frames import Tabular
from modelspace.late import dataclass
from modelspace.types import ModelCard, SpaceSpec

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

T = TypeVar("T")


class Record:
    """A single result; a notebook shows it as a table of its fields."""

    def _repr_html_(self) -> str:
        return frames.record(_fields(self))


def _fields(record: Any) -> dict[str, Any]:
    """The fields of a record; of a record in it, those as well."""
    values = asdict(record)
    for name, value in list(values.items()):
        if isinstance(value, dict) and hasattr(getattr(record, name), "__dataclass_fields__"):
            values |= {key: inner for key, inner in values.pop(name).items() if key not in values}
    return values


class Records(Tabular, Sequence[T], Generic[T]):
    """A list of dataclass records of one type."""

    def __init__(self, records: Sequence[T], kind: type[T]) -> None:
        self._records = list(records)
        self._kind = kind

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[T]:
        return iter(self._records)

    @property
    def columns(self) -> list[str]:
        """Field names of the records."""
        return [each.name for each in fields(self._kind)]  # type: ignore[arg-type]

    def to_rows(self) -> list[tuple[Any, ...]]:
        """One tuple of values per record, in the order of `columns`."""
        return [tuple(record.values()) for record in self.to_dicts()]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary per record, keys in the order of `columns`."""
        return [asdict(record) for record in self._records]  # type: ignore[call-overload]

    def __repr__(self) -> str:
        lines = [repr(record) for record in self._records[:20]]
        if len(self) > 20:
            lines.append(f"... {len(self) - 20} more")
        return "\n".join(lines) or f"no {self._kind.__name__}"


@dataclass(frozen=True)
class Neighbour(Record):
    """One transfer source of a ranking.

    Attributes:
        rank: 1 is the nearest.
        name: name of the model.
        affinity: mean cosine of the attribution maps, −1..1; in other kinds of spaces an inner product of unit vectors.
        low, high: 95% bootstrap interval of the affinity over probe images (percentile method; `spaces.bootstrap`).
        distance: √(2 − 2·affinity), 0..2, a metric.
        tied_with_next: the 95% interval of the difference to the next rank includes zero, so these probe images do not
            separate the two.
        task, data, architecture, uri: as registered.
        score: what the ranking is sorted by, higher is better: the affinity, the affinity corrected for hubs, R² of a
            directed re-ranking, or another similarity of kernels.
        evidence: of a ranking by several views: those that have it among their first neighbours too, such as "same
            features", "same places" and "same pixels", and the number of tasks that it was measured on.
        confidence: the class of the chance that its score and rank have among enough sources: "low" below 1/3,
            "medium", "high" from 2/3 on; "" for rankings that were not compared with measured transfer.
        chance: that it is among the target's best five sources, 0..1, as measured transfers suggest
            (`modelspace.spaces.evidence.chance`); None for other rankings, and with fewer than 15 sources.
    """

    rank: int
    name: str
    affinity: float
    low: float
    high: float
    distance: float
    tied_with_next: bool
    task: str | None
    data: str | None
    architecture: str
    uri: str
    score: float
    evidence: tuple[str, ...] = ()
    confidence: str = ""
    chance: float | None = None


class Neighbours(Records[Neighbour]):
    """A ranking of transfer sources, nearest first.

    Attributes:
        target: name or URI of the queried model.
        space: name of the space.
        notes: remarks for the user, such as which layer of an unregistered model was tapped.
        ranked_by: "affinity", a hub correction (`modelspace.spaces.hubness`), "directed",
            "local" or "combined" (`modelspace.spaces.rerankings`), or a similarity of kernels.
    """

    def __init__(
        self,
        records: Sequence[Neighbour],
        target: str,
        space: str,
        notes: Sequence[str] = (),
        ranked_by: str = "affinity",
    ) -> None:
        super().__init__(records, Neighbour)
        self.target, self.space, self.notes, self.ranked_by = target, space, tuple(notes), ranked_by


@dataclass(frozen=True)
class Finding(Record):
    """One line of a bug report (`modelspace.verbs.doctor`).

    Attributes:
        part: "versions", "optional", "machine", "environment" or "registry".
        name: what it is about.
        value: what was found.
        ok: whether nothing is wrong with it.
        hint: what to do or type next; may be empty.
    """

    part: str
    name: str
    value: str
    ok: bool = True
    hint: str = ""


@dataclass(frozen=True)
class Compared(Record):
    """Two models, a and b, in one space.

    Attributes:
        space: name of the space.
        affinity: -1..1.
        low: lower bound of its 95% interval over the probe images.
        high: the upper bound.
        ranked_by: "affinity", a correction for hubs, "directed", "local", "combined", or a similarity of kernels.
        a_to_b: score of a as a transfer source for b, as `nearest` ranks; None if it can't be ranked there.
        b_to_a: likewise with the roles exchanged; the same number unless the ranking is directed.
        height: distance √(2 − 2s) at which the clustering tree merges the two; None if the space is too large for one.
        with_a: the models that the tree merges with a before, a included.
        with_b: likewise of b. Both together are the smallest cluster that holds a and b.
        n_models: number of models in the space.
    """

    space: str
    affinity: float
    low: float
    high: float
    ranked_by: str
    a_to_b: float | None
    b_to_a: float | None
    height: float | None
    with_a: tuple[str, ...]
    with_b: tuple[str, ...]
    n_models: int


@dataclass(frozen=True)
class PairAffinity(Record):
    """The affinity of the models a and b in one space, with its 95% interval over the probe images."""

    a: str
    b: str
    space: str
    affinity: float
    low: float
    high: float


@dataclass(frozen=True)
class Added(Record):
    """The result of `add`.

    Attributes:
        name: name of the model in the registry.
        status: "added", "replaced", "completed" (added to spaces that lacked it) or "unchanged".
        spaces: names of the spaces it was added to.
        card: the stored metadata.
        notes: remarks for the user, such as another model with the same weights.
    """

    name: str
    status: str
    spaces: tuple[str, ...]
    card: ModelCard
    notes: tuple[str, ...] = ()


#: Statuses of an `Outcome` of a dry run.
PLANNED = ("would add", "would complete", "would compare")


@dataclass(frozen=True)
class Outcome(Record):
    """The result for one model of a manifest.

    Attributes:
        entry: its number in the manifest, from 1.
        name: its name in the registry; its address if it has no name.
        status: "added", "replaced", "completed" (added to spaces that lacked it), "unchanged", "failed", "needs" (the
            manifest says what the user must supply), or "not reached" (interrupted). In a dry run: "would add", "would
            complete", "would compare" (the name exists; only loading shows whether it is the same model).
        uri: its address.
        spaces: names of the spaces it was, or would be, added to.
        seconds: wall time of its embedding.
        message, hint: why it failed, or what it needs, and what to do.
        notes: remarks for the user.
    """

    entry: int
    name: str
    status: str
    uri: str | None = None
    spaces: tuple[str, ...] = ()
    seconds: float = 0.0
    message: str = ""
    hint: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scanned(Record):
    """What a file of weights is.

    Attributes:
        file: its path in the scanned folder.
        name: a name for the registry.
        status: "ready", "incomplete" (the preprocessing is not stated anywhere), "needs trust" (it can contain code),
            "unknown" (no known architecture has these tensors), "unreadable", or in a dry run "fails".
        architecture: for example "timm:resnet50"; "" if unknown.
        others: other architectures with the same tensors.
        classes: number of classes of its head; None if it is not known.
        tensors: number of tensors in it.
        uri, weights, weights_key, preprocessing: what `add` takes.
        missing: fields of the preprocessing that have to be filled in.
        message, hint: what it is, and how it is registered.
    """

    file: str
    name: str
    status: str
    architecture: str = ""
    others: tuple[str, ...] = ()
    classes: int | None = None
    tensors: int = 0
    uri: str = ""
    weights: str = ""
    weights_key: str = ""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Merged(Record):
    """The result for one model of another registry, or for one task, which is called "task NAME".

    Attributes:
        name: its name in this registry; if it was not imported, its name in the other.
        theirs: its name in the other registry.
        status: "added", "completed" (added to spaces that lacked it), "unchanged" (nothing was missing here), "skipped"
            (name conflict) or "refused" (its stored data are damaged). In a dry run: "would add" and "would complete".
        spaces: names of this registry's spaces it was added to.
        message, hint: why it was not imported, and what to do; of a task also the number of new outcomes.
    """

    name: str
    theirs: str
    status: str
    spaces: tuple[str, ...] = ()
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Exported(Record):
    """A file that `export` wrote: its content, format, and number of rows (models, pairs, neighbours or images).

    `space` is the name of the space that it is of; empty for a table of the whole registry.
    """

    file: str
    what: str
    format: str
    rows: int
    bytes: int
    space: str = ""


@dataclass(frozen=True)
class BackupInfo(Record):
    """A copy of the registry: its file, when it was made (ISO 8601, UTC), its number of models, and its size."""

    file: str
    made_at: str
    models: int
    bytes: int


@dataclass(frozen=True)
class Restored(Record):
    """What `restore` did: the copy that was put in place, where the former file is ("" if none), number of models."""

    file: str
    former: str
    models: int


@dataclass(frozen=True)
class ModelInfo(Record):
    """A registered model, as a flat record.

    `preprocessing` is `modelspace.types.Preprocessing` as a dictionary, `seconds` the wall time of the embedding,
    `outcomes` the number of measurements on tasks, failures included, and `torch` the version that ran the embedding
    ("" if unknown).
    """

    name: str
    task: str | None
    data: str | None
    architecture: str
    parameters: int
    layer: str
    layer_found_by: str
    output_shape: tuple[int, ...]
    uri: str
    preprocessing: dict[str, Any]
    weights_sha256: str
    seconds: float
    added_at: str
    spaces: tuple[str, ...]
    tags: dict[str, str]
    outcomes: int = 0
    torch: str = ""


@dataclass(frozen=True)
class SpaceInfo(Record):
    """A space, as a flat record; `index` is the state of its index file."""

    name: str
    is_default: bool
    method: str
    probes: str
    n_images: int
    canvas: int
    bits: int
    scalar: str
    parameters: dict[str, Any]
    n_models: int
    space_id: str
    index: str


@dataclass(frozen=True)
class IndexInfo(Record):
    """The copy of a space's vectors in a store, as a flat record.

    `state` is "fresh", "behind" (models were added since, which queries find in the registry), "missing", "damaged" or
    "empty" (no models); `reason` says why. `n_indexed` counts the models in its `parts`, those that were removed since
    included; `n_written` those that this call has written. `recall` is that at 10, measured when the copy was filled.
    """

    space: str
    state: str
    reason: str
    n_models: int
    n_indexed: int
    n_written: int
    parts: int
    recall: float


@dataclass(frozen=True)
class TaskInfo(Record):
    """A task, as a flat record.

    `location` is the path of its data as it was given. A task without data has an empty one, no `n_images` and no
    `classes`; a regression has no `classes` either. `outcomes` counts the measurements, failures included.
    """

    name: str
    kind: str
    metric: str
    higher_is_better: bool
    n_images: int | None
    classes: tuple[str, ...]
    location: str
    data_sha256: str
    seed: int
    added_at: str
    outcomes: int


@dataclass(frozen=True)
class OutcomeInfo(Record):
    """What was measured of a model on a task, as a flat record.

    `score` is None if the model failed, and `note` then says why. `registered` says whether the registry still has the
    model, and `weights_sha256` which weights were measured.
    """

    task: str
    model: str
    score: float | None
    metric: str
    how: str
    n_train: int | None
    seed: int | None
    seconds: float | None
    measured_at: str
    note: str
    settings: dict[str, Any]
    registered: bool
    weights_sha256: str


@dataclass(frozen=True)
class Prospect(Record):
    """What to expect of a model on a task, as a flat record.

    `score` is in the task's metric, with an 80% interval from `low` to `high`; all three are None where nothing tells
    on which level the task's scores lie. `basis` says what that rests on: "measured", "held-out" (a readout on a few
    images of the task), "outcomes" (of other tasks), "effective rank" (of the stored kernel) or "size", and `why` the
    same in words. `stands_for` names near-copies that need no try of their own.
    """

    rank: int
    name: str
    score: float | None
    low: float | None
    high: float | None
    basis: str
    why: str
    stands_for: tuple[str, ...]
    task: str | None
    architecture: str
    parameters: int
    uri: str


class Prospects(Records[Prospect]):
    """The models in the order in which they are worth trying, the most promising first.

    Attributes:
        target: name of the task.
        metric: of its scores.
        notes: for the user; the first says what the order rests on.
    """

    def __init__(self, records: Sequence[Prospect], target: str, metric: str, notes: Sequence[str] = ()) -> None:
        super().__init__(records, Prospect)
        self.target, self.metric, self.notes = target, metric, tuple(notes)


@dataclass(frozen=True)
class Trial(Record):
    """How a model did in a search, as a flat record.

    `stage` is "finalist" (it saw all training images), "dropped" (after a round) or "failed"; `images` counts the
    training images that it saw. `held_out` is the task's metric on these, each predicted by a readout of the others;
    `score` the metric on the test images, with a 95% interval from `low` to `high` over them. `tied`: the data do not
    tell it apart from the winner. `seconds` is the wall time of all its measurements, and `note` says why it failed or
    was dropped.
    """

    rank: int
    name: str
    stage: str
    images: int
    held_out: float | None
    score: float | None
    low: float | None
    high: float | None
    tied: bool
    seconds: float
    note: str


class Trials(Records[Trial]):
    """The result of a search, the best model first.

    Attributes:
        target: name of the task.
        metric: of its scores.
        how: how the finalists were measured.
        n_forwarded: images that went through models, summed over models; those whose features were cached count.
        n_test: number of test images.
        notes: for the user.
    """

    def __init__(
        self,
        records: Sequence[Trial],
        target: str,
        metric: str,
        how: str,
        n_forwarded: int,
        n_test: int,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(records, Trial)
        self.target, self.metric, self.how, self.notes = target, metric, how, tuple(notes)
        self.n_forwarded, self.n_test = n_forwarded, n_test

    @property
    def winner(self) -> Trial | None:
        """The model to start from; None if all failed."""
        first = self[0] if len(self) else None
        return first if first is not None and first.stage == "finalist" else None


@dataclass(frozen=True)
class LabelScore(Record):
    """A score from labels (`modelspace.scores`) of one model on a task, as a flat record.

    `value` is higher for the better model and None if the model failed or has not what the score needs; `note` says
    which. `seconds` is the wall time of the score alone, `pass_seconds` that of getting the features of all images.
    """

    model: str
    score: str
    value: float | None
    n_images: int
    seconds: float
    pass_seconds: float
    note: str = ""


@dataclass(frozen=True)
class PublishedInfo(Record):
    """What one table of published accuracies brings to a registry.

    Attributes:
        table: its name, also that of the oracle.
        tasks: number of its data sets, each a task "published.TABLE.DATA_SET".
        matched: the table's name of a model to the registry's, for models that are the same checkpoint.
        added: number of outcomes stored; in a dry run that would be.
        known: number of outcomes that were stored already.
        ambiguous: the table's name of a model to several models of the registry that could be it; none has outcomes.
        origin: where the figures are from, and under which licence.
    """

    table: str
    tasks: int
    matched: dict[str, str]
    added: int
    known: int
    ambiguous: dict[str, list[str]]
    origin: str


@dataclass(frozen=True)
class ProbeInfo(Record):
    """A probe set, as a flat record. `n_images` is None for rendered sets, which have any number of images."""

    name: str
    kind: str
    n_images: int | None
    size: int
    probe_id: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Check(Record):
    """One check of `verify`: what was checked, whether it passed, and what to do if not."""

    what: str
    ok: bool
    detail: str
    hint: str = ""


@dataclass(frozen=True)
class Reembedded(Record):
    """How far a fresh pass of a model is from what is stored, in one space.

    Attributes:
        space: name of the space.
        same_bits: whether the maps or the kernel are equal bit for bit; None in a blend, which stores none.
        largest: largest distance, over the probe images, of a fresh map or row of the kernel from the stored one, both
            of unit norm; None in a blend.
        mean: their mean.
        n_affinities: number of other models in the space.
        largest_affinity: largest difference of an affinity with one of them.
        mean_affinity: their mean.
    """

    space: str
    same_bits: bool | None
    largest: float | None
    mean: float | None
    n_affinities: int
    largest_affinity: float
    mean_affinity: float


class Reembedding(Records[Reembedded]):
    """A fresh pass of a model against what is stored, space by space.

    Attributes:
        name: of the model.
        notes: for the user.
    """

    def __init__(self, records: Sequence[Reembedded], name: str, notes: Sequence[str] = ()) -> None:
        super().__init__(records, Reembedded)
        self.name, self.notes = name, tuple(notes)


@dataclass(frozen=True)
class AffinityMatrix:
    """Affinities of all pairs of models in a space.

    Attributes:
        names: (n), in order of registration.
        matrix: (n, n) float64, symmetric, ones on the diagonal.
        space: definition of the space.
    """

    names: tuple[str, ...]
    matrix: np.ndarray
    space: SpaceSpec

    @property
    def distances(self) -> np.ndarray:
        """√(2 − 2s), (n, n) float64: Euclidean distances between the models' unit vectors."""
        distances: np.ndarray = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * self.matrix))
        return distances

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary per ordered pair of different models."""
        return [
            {"a": a, "b": b, "affinity": float(self.matrix[i, j])}
            for i, a in enumerate(self.names)
            for j, b in enumerate(self.names)
            if i != j
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """A pandas DataFrame (n, n), labelled with the names on both axes.

        Raises:
            ModelspaceError: pandas is not installed.
        """
        names = list(self.names)
        frame: pandas.DataFrame = frames.library("pandas").DataFrame(self.matrix, index=names, columns=names)
        return frame

    def to_arrow(self) -> pyarrow.Table:
        """An Arrow table with the columns a, b and affinity, a row per ordered pair of different models.

        Raises:
            ModelspaceError: pyarrow is not installed.
        """
        return self._pairs().to_arrow()

    def to_polars(self) -> polars.DataFrame:
        """A Polars DataFrame with the columns a, b and affinity, a row per ordered pair of different models.

        Raises:
            ModelspaceError: Polars is not installed.
        """
        return self._pairs().to_polars()

    def _pairs(self) -> _Pairs:
        return _Pairs([tuple(pair.values()) for pair in self.to_dicts()])

    def _repr_html_(self) -> str:
        shown = frames.SHOWN // 2
        rows = [
            (name, *(f"{value:.3f}" for value in row[:shown]))
            for name, row in zip(self.names[:shown], self.matrix, strict=False)
        ]
        return frames.table(("", *self.names[:shown]), rows, len(self.names) - shown)


class _Pairs(Tabular):
    """The affinities of ordered pairs of models."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return ["a", "b", "affinity"]

    def to_rows(self) -> list[tuple[Any, ...]]:
        """One tuple per pair."""
        return self._rows
