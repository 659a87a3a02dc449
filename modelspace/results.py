"""What the verbs of `modelspace.workspace.ModelSpace` return: plain records that turn into dictionaries, tables or pandas."""

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
    """A list of dataclass records, all of one kind."""

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
        return [field.name for field in fields(self._kind)]  # type: ignore[arg-type]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One plain dictionary per record, keys in the order of `columns`."""
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
        name: of the model.
        affinity: mean cosine of the attribution maps, −1..1; in a space of another kind its inner product of unit vectors.
        low, high: 95% bootstrap interval of the affinity over probe images (percentile method).
        distance: √(2 − 2·affinity), 0..2, a metric.
        tied_with_next: the 95% interval of the difference to the next in rank includes zero, so that this set of probe
            images does not tell the two apart.
        task, data, architecture, uri: as registered.
        score: what the ranking is by, the higher the better: the affinity, the affinity corrected for hubs, or R² of the
            directed re-ranking.
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
        target: name or URI of the model that was asked about.
        space: name of the space.
        notes: remarks for a person, such as which layer of an unregistered model was tapped.
        ranked_by: "affinity", a correction for hubs (`modelspace.spaces.hubness`), or "directed" (`modelspace.spaces.predictability`).
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
class Added:
    """What `add` did.

    Attributes:
        name: of the model in the registry.
        status: "added", "replaced", "completed" (spaces that it was missing in were filled) or "unchanged".
        spaces: names of the spaces that were filled now.
        card: the stored metadata.
        notes: remarks for a person, such as another model with the same weights.
    """

    name: str
    status: str
    spaces: tuple[str, ...]
    card: ModelCard
    notes: tuple[str, ...] = ()


#: Statuses of an `Outcome` that say what a run would do.
PLANNED = ("would add", "would complete", "would compare")


@dataclass(frozen=True)
class Outcome:
    """What became of one model of a manifest.

    Attributes:
        entry: its number in the manifest, from 1.
        name: in the registry; where it never got one, its address.
        status: "added", "replaced", "completed" (spaces that it was missing in were filled), "unchanged", "failed", "needs"
            (the manifest says what the user has to bring), or "not reached" (interrupted). Of a dry run: "would add",
            "would complete", "would compare" (its name is taken, by itself or by another model: loading it will tell).
        uri: its address.
        spaces: names of the spaces that were filled now, or would be.
        seconds: wall time of its embedding.
        message, hint: why it failed, or what it needs, and what to do.
        notes: remarks for a person.
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
    """What became of one model, or one space, of another registry.

    Attributes:
        name: in this registry; where it did not come in, its name there.
        theirs: its name in the other registry.
        status: "added", "completed" (spaces that it was missing in were filled), "unchanged" (this registry holds it all),
            "skipped" (a conflict of names) or "refused" (what is stored of it is damaged). Of a dry run "would add" and
            "would complete".
        spaces: names of this registry's spaces that it came into.
        message, hint: why it did not come in, and what to do.
    """

    name: str
    theirs: str
    status: str
    spaces: tuple[str, ...] = ()
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Exported:
    """A file that `export` wrote: what is in it, in which format, and how many rows (models, pairs, neighbours) it has."""

    file: str
    what: str
    format: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class ModelInfo:
    """A registered model, flat, for listing.

    `preprocessing` is the dictionary of `modelspace.types.Preprocessing`; `seconds` is the wall time of its embedding.
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


@dataclass(frozen=True)
class SpaceInfo:
    """A space, flat, for listing. `exact`: every inner product of its vectors is an affinity."""

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
class ProbeInfo:
    """A probe set, flat, for listing. `n_images` is None for a set that is rendered, which has as many as asked for."""

    name: str
    kind: str
    n_images: int | None
    size: int
    probe_id: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One line of `verify`: what was looked at, whether it held, and what to do if not."""

    what: str
    ok: bool
    detail: str
    hint: str = ""


@dataclass(frozen=True)
class AffinityMatrix:
    """Affinities of all pairs of a space.

    Attributes:
        names: (n) in the order of registration.
        matrix: (n, n) float64, symmetric, ones on the diagonal.
        space: the space's definition.
    """

    names: tuple[str, ...]
    matrix: np.ndarray
    space: SpaceSpec

    @property
    def distances(self) -> np.ndarray:
        """√(2 − 2s), (n, n) float64: the Euclidean distance of the models' unit vectors."""
        return np.sqrt(np.maximum(0.0, 2.0 - 2.0 * self.matrix))

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary per ordered pair of different models."""
        return [
            {"a": a, "b": b, "affinity": float(self.matrix[i, j])}
            for i, a in enumerate(self.names)
            for j, b in enumerate(self.names)
            if i != j
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """A DataFrame (n, n) with the names on both axes.

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
