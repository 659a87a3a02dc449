"""Results of the methods of `modelspace.workspace.ModelSpace`: records that convert to dictionaries and pandas."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from modelspace.errors import ModelspaceError
from modelspace.types import ModelCard, SpaceSpec

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ModelspaceError("pandas is not installed", "pip install pandas, or use .to_dicts()") from error
    return pandas


class Records(Sequence[T], Generic[T]):
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
        return [field.name for field in fields(self._kind)]  # type: ignore[arg-type]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary per record, keys in the order of `columns`."""
        return [asdict(record) for record in self._records]  # type: ignore[call-overload]

    def to_pandas(self) -> pandas.DataFrame:
        """A DataFrame with the columns `columns`.

        Raises:
            ModelspaceError: pandas is not installed.
        """
        frame: pandas.DataFrame = _pandas().DataFrame(self.to_dicts(), columns=self.columns)
        return frame

    def __repr__(self) -> str:
        lines = [repr(record) for record in self._records[:20]]
        if len(self) > 20:
            lines.append(f"... {len(self) - 20} more")
        return "\n".join(lines) or f"no {self._kind.__name__}"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        rows = (
            "<tr>" + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in record.values()) + "</tr>"
            for record in self.to_dicts()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Neighbour:
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
        score: what the ranking is sorted by, higher is better: the affinity, the affinity corrected for hubs, or R² of
            the directed re-ranking.
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


class Neighbours(Records[Neighbour]):
    """A ranking of transfer sources, nearest first.

    Attributes:
        target: name or URI of the queried model.
        space: name of the space.
        notes: remarks for the user, such as which layer of an unregistered model was tapped.
        ranked_by: "affinity", a hub correction (`modelspace.spaces.hubness`), or "directed"
            (`modelspace.spaces.predictability`).
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
class Finding:
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
class Compared:
    """Two models, a and b, in one space.

    Attributes:
        space: name of the space.
        affinity: -1..1.
        low: lower bound of its 95% interval over the probe images.
        high: the upper bound.
        ranked_by: "affinity", "directed", or a correction for hubs.
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
class Added:
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
class Outcome:
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
class Merged:
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
class Exported:
    """A file that `export` wrote: its content, format, and number of rows (models, pairs or neighbours)."""

    file: str
    what: str
    format: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class BackupInfo:
    """A copy of the registry: its file, when it was made (ISO 8601, UTC), its number of models, and its size."""

    file: str
    made_at: str
    models: int
    bytes: int


@dataclass(frozen=True)
class Restored:
    """What `restore` did: the copy that was put in place, where the former file is ("" if none), number of models."""

    file: str
    former: str
    models: int


@dataclass(frozen=True)
class ModelInfo:
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
class SpaceInfo:
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
class TaskInfo:
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
class OutcomeInfo:
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
class Prospect:
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
class Trial:
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
class LabelScore:
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
class PublishedInfo:
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
class ProbeInfo:
    """A probe set, as a flat record. `n_images` is None for rendered sets, which have any number of images."""

    name: str
    kind: str
    n_images: int | None
    size: int
    probe_id: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One check of `verify`: what was checked, whether it passed, and what to do if not."""

    what: str
    ok: bool
    detail: str
    hint: str = ""


@dataclass(frozen=True)
class Reembedded:
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
        """A DataFrame (n, n), labelled with the names on both axes.

        Raises:
            ModelspaceError: pandas is not installed.
        """
        frame: pandas.DataFrame = _pandas().DataFrame(self.matrix, index=list(self.names), columns=list(self.names))
        return frame

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.names)
        rows = (
            f"<tr><th>{html.escape(name)}</th>" + "".join(f"<td>{value:.3f}</td>" for value in row) + "</tr>"
            for name, row in zip(self.names, self.matrix, strict=True)
        )
        return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
