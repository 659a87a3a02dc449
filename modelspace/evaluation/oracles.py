"""Measured transfer: how good each source is for each target task. Rankings are evaluated against it.

An oracle is a table of (target, source, score) rows in a CSV file. Several ship with the package (`available`).
"""

from __future__ import annotations

import csv
import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from modelspace.errors import DamagedError, NotFoundError, UsageError
from modelspace.evaluation import metrics, published
from modelspace.evaluation.names import SPELLINGS
from modelspace.evaluation.rankings import Array
from modelspace.files import absent, is_regular

#: Columns with measurements, in order of preference, with the sign that makes higher better.
FIGURES = {"score": 1.0, "loss": -1.0, "rank": -1.0}


@dataclass(frozen=True)
class Reliability:
    """Agreement between an oracle's seeds, an upper limit on how well rankings can be told apart.

    Attributes:
        n_seeds: number of complete measurements.
        spearman: correlation between two seeds, mean over targets and pairs of seeds.
        kendall: the same for tau-b.
        precision: (K,) P@K of one seed's order against another's.
        spearman_of_mean: expected correlation between the mean over these K seeds and the mean over K new ones,
            K r / (1 + (K - 1) r) (Spearman 1910, Brown 1910).
        per_target: (targets,) the Spearman correlation of each target, mean over pairs of seeds.
    """

    n_seeds: int
    spearman: float
    kendall: float
    precision: Array
    spearman_of_mean: float
    per_target: Array


@dataclass(frozen=True)
class Oracle:
    """Measured transfer of every (target, source) pair.

    Attributes:
        name: its name in tables.
        targets: T names.
        sources: S names; in a closed set of tasks a superset of the targets, but not always.
        score: (T, S) float64, higher is better; NaN if not measured.
        loss: (T, S) mean test loss over the seeds, in the target's own unit, or None.
        seed_losses: (seeds, T, S) or None; NaN if not measured.
        origin: where the measurements come from.
        own: (T, S) bool, pairs of a source with a target that it was trained on under another name, or None.
        is_accuracy: whether scores are accuracies in percent, of models (sources) on data sets (targets).
        methods: published method -> (T, S) its scores, higher is better.
        reported: published method -> its weighted Kendall on this table, as its paper gives it.
        weights: name -> SHA-256 of the tensors that were measured (`modelspace.types.ModelCard.weights_sha256`); empty
            if they are not known.
    """

    name: str
    targets: tuple[str, ...]
    sources: tuple[str, ...]
    score: Array
    loss: Array | None = None
    seed_losses: Array | None = None
    origin: str = ""
    own: np.ndarray | None = None
    is_accuracy: bool = False
    methods: Mapping[str, Array] = field(default_factory=dict)
    reported: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.targets), len(self.sources))
        for kind, names in (("target", self.targets), ("source", self.sources)):
            if len(set(names)) != len(names):
                raise UsageError(f"oracle {self.name} names a {kind} twice")
        for kind, table in (("score", self.score), ("loss", self.loss)):
            if table is not None and (table.shape != shape or np.isinf(table).any()):
                raise UsageError(f"the {kind} table of oracle {self.name} is not a finite {shape} array")
        if self.seed_losses is not None and self.seed_losses.shape[1:] != shape:
            raise UsageError(
                f"seed losses of oracle {self.name}: shape {self.seed_losses.shape}, not (seeds, *{shape})"
            )

    def self_pairs(self) -> np.ndarray:
        """(T, S) bool: whether the source is the target's own model, by its name or because `own` says so."""
        same = np.array([[target == source for source in self.sources] for target in self.targets], dtype=bool)
        return same if self.own is None else same | self.own

    def truth(self, with_self: bool = False) -> Array:
        """(T, S) scores; a model paired with itself is NaN unless `with_self`."""
        return self.score.copy() if with_self else np.where(self.self_pairs(), np.nan, self.score)

    def gain(self, with_self: bool = False) -> Array:
        """(T, S) the gains that regret is computed from: minus the loss if it is known, else the score."""
        gain = self.score if self.loss is None else -self.loss
        return gain.copy() if with_self else np.where(self.self_pairs(), np.nan, gain)

    def subset(self, targets: Sequence[str], sources: Sequence[str]) -> Oracle:
        """The oracle restricted to these targets and sources, in this order."""
        rows = [self.targets.index(name) for name in targets]
        columns = [self.sources.index(name) for name in sources]
        block = np.ix_(rows, columns)
        return replace(
            self,
            targets=tuple(targets),
            sources=tuple(sources),
            score=self.score[block],
            loss=None if self.loss is None else self.loss[block],
            seed_losses=None if self.seed_losses is None else self.seed_losses[:, rows][:, :, columns],
            own=None if self.own is None else self.own[block],
            methods={method: scores[block] for method, scores in self.methods.items()},
        )

    def reliability(self, with_self: bool = False, n_relevant: int | ArrayLike = 5) -> Reliability | None:
        """Agreement between seeds, over pairs measured with all of them; None with fewer than two seeds.

        Args:
            with_self: count a model's pair with itself.
            n_relevant: of P@K, one number or (targets,).
        """
        if self.seed_losses is None or len(self.seed_losses) < 2:
            return None
        excluded = ~np.isfinite(self.seed_losses).all(axis=0)
        if not with_self:
            excluded |= self.self_pairs()
        seeds = [np.where(excluded, np.nan, -losses) for losses in self.seed_losses]
        pairs = list(combinations(seeds, 2))
        per_target = np.nanmean([metrics.spearman(a, b) for a, b in pairs], axis=0)
        tau = np.nanmean([metrics.kendall(a, b) for a, b in pairs])
        both_ways = [metrics.precision_at_k(a, b, n_relevant) for x, y in pairs for a, b in ((x, y), (y, x))]
        r, n = float(np.nanmean(per_target)), len(seeds)
        return Reliability(
            n_seeds=n,
            spearman=r,
            kendall=float(tau),
            precision=np.nanmean(both_ways, axis=(0, 1)),
            spearman_of_mean=n * r / (1 + (n - 1) * r) if r > -1 / (n - 1) else math.nan,
            per_target=per_target,
        )


@dataclass(frozen=True)
class _Shipped:
    file: str
    column: str
    origin: str
    leave_out: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    @property
    def is_of_zoo(self) -> bool:
        """Whether the networks of the zoo were measured."""
        return self.file.startswith(("rooms_", "yards_", "streets_", "repainted_"))


#: Taskonomy's twenty tasks, by the names of its published order.
_TASKS = tuple(group[0] for group in SPELLINGS)
_ROOMS = "test losses in rendered rooms, frozen encoders (scripts/measure_transfer.py)"
_YARDS = "test losses in rendered yards of encoders trained in rooms (scripts/measure_transfer.py --world yards)"
_STREETS = "test losses in rendered streets of encoders trained in rooms (scripts/measure_transfer.py --world streets)"
_REPAINTED = "test losses in repainted rooms, for choosing (scripts/measure_transfer.py --world repainted)"
_ZAMIR = "Zamir et al., CVPR 2018, github.com/StanfordVL/taskonomy, folder results"
#: "self" is not a model, but a network trained on the target itself with all data.
_SHIPPED = {
    "taskonomy": _Shipped("taskonomy_order.csv", "rank", f"published transfer order, 18 targets; {_ZAMIR}"),
    "taskonomy-affinity": _Shipped(
        "taskonomy_first_order.csv", "affinity", f"AHP affinities, all data; {_ZAMIR}", ("self",)
    ),
    "taskonomy-affinity-16k": _Shipped(
        "taskonomy_first_order.csv", "affinity_16k", f"AHP affinities, 16k images; {_ZAMIR}", ("self",)
    ),
    "taskonomy-wins-pixels-16k": _Shipped(
        "taskonomy_first_order.csv", "wins_vs_pixels_16k", f"win rate over pixels, 16k images; {_ZAMIR}", ("self",)
    ),
    "taskonomy-wins-task-16k": _Shipped(
        "taskonomy_first_order.csv", "wins_vs_task_16k", f"win rate over the target's own, 16k; {_ZAMIR}", ("self",)
    ),
    "rooms": _Shipped("rooms_transfer.csv", "loss", f"{_ROOMS}, the 20 tasks' networks", only=_TASKS),
    "rooms-all": _Shipped("rooms_transfer.csv", "loss", f"{_ROOMS}, all networks measured"),
    "rooms-wins": _Shipped("rooms_affinity.csv", "win_rate", f"win rate over the other networks; {_ROOMS}"),
    "rooms-affinity": _Shipped("rooms_affinity.csv", "affinity", f"AHP affinities; {_ROOMS}"),
    "yards": _Shipped("yards_transfer.csv", "loss", f"{_YARDS}, the 20 tasks' networks", only=_TASKS),
    "yards-all": _Shipped("yards_transfer.csv", "loss", f"{_YARDS}, all networks measured"),
    "yards-wins": _Shipped("yards_affinity.csv", "win_rate", f"win rate over the other networks; {_YARDS}"),
    "yards-affinity": _Shipped("yards_affinity.csv", "affinity", f"AHP affinities; {_YARDS}"),
    "streets": _Shipped("streets_transfer.csv", "loss", f"{_STREETS}, the 20 tasks' networks", only=_TASKS),
    "streets-all": _Shipped("streets_transfer.csv", "loss", f"{_STREETS}, all networks measured"),
    "streets-wins": _Shipped("streets_affinity.csv", "win_rate", f"win rate over the other networks; {_STREETS}"),
    "streets-affinity": _Shipped("streets_affinity.csv", "affinity", f"AHP affinities; {_STREETS}"),
    "repainted": _Shipped("repainted_transfer.csv", "loss", f"{_REPAINTED}, the 20 tasks' networks", only=_TASKS),
    "repainted-all": _Shipped("repainted_transfer.csv", "loss", f"{_REPAINTED}, all networks measured"),
    "repainted-wins": _Shipped("repainted_affinity.csv", "win_rate", f"win rate over the others; {_REPAINTED}"),
    "repainted-affinity": _Shipped("repainted_affinity.csv", "affinity", f"AHP affinities; {_REPAINTED}"),
}


def available() -> dict[str, str]:
    """Names of the oracles that ship with the package, each with its origin; those of published tables come last."""
    measured = {name: entry.origin for name, entry in _SHIPPED.items() if _data(entry.file).is_file()}
    return measured | {name: _origin(table) for name, table in published.tables().items()}


def load(name_or_path: str | Path, column: str | None = None) -> Oracle:
    """Load an oracle that ships with the package by name, or another one from a CSV file.

    The file has a header with `target`, `source` and one of `score` (higher is better), `loss` or `rank` (lower is
    better). With a `seed` column there may be several rows per pair, which are averaged. Other columns are ignored. An
    empty cell means "not measured".

    Args:
        name_or_path: one of `available()`, or the path of a CSV file.
        column: the column with the measurements, if not one of the three; higher is better. Not for published tables.

    Raises:
        NotFoundError: there is no oracle and no file of that name.
        UsageError: a column is missing, or a pair occurs twice without a seed column.
        DamagedError: a cell is not a number.
    """
    entry = _SHIPPED.get(str(name_or_path))
    if entry is not None:
        path = _data(entry.file)
        if not path.is_file():
            raise NotFoundError(
                f"oracle {name_or_path} has no data in this installation", "measure it: scripts/measure_transfer.py"
            )
        oracle = _read(path, str(name_or_path), column or entry.column, entry.origin, entry.leave_out, entry.only)
        return replace(oracle, weights=_weights_of_zoo()) if entry.is_of_zoo else oracle
    if (table := published.tables().get(str(name_or_path))) is not None:
        if column is not None:
            raise UsageError(f"oracle {table.name} has no column {column}", "it has one figure, accuracy in percent")
        return _of_table(table)
    path = Path(name_or_path)
    if not is_regular(path):
        known = ", ".join(available())
        message = absent(path, f"there is no oracle {name_or_path}")
        raise NotFoundError(message, f"use one of {known}, or the path of a CSV file")
    return _read(path, path.stem, column, str(path.name))


@functools.cache
def _weights_of_zoo() -> Mapping[str, str]:
    """Name -> SHA-256 of the tensors of each network of the zoo; empty if this installation has no record of them."""
    path = _data("rooms_baselines.json")  # see `evaluation.stored`
    if not path.is_file():
        return {}
    similarities = json.loads(path.read_text("utf-8"))
    return dict(zip(similarities["names"], similarities["weights"], strict=True))


def _origin(table: published.Table) -> str:
    return f"{table.title}; {table.source}"


def _of_table(table: published.Table) -> Oracle:
    rows = published.measurements(table)
    targets, sources = dict.fromkeys(row.target for row in rows), dict.fromkeys(row.source for row in rows)
    target_at, source_at = ({name: i for i, name in enumerate(names)} for names in (targets, sources))
    shape = (len(targets), len(sources))
    score, own = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    methods = {method: np.full(shape, np.nan) for method in table.methods}
    for row in rows:
        pair = target_at[row.target], source_at[row.source]
        score[pair], own[pair] = row.score, row.own
        for method, value in row.methods.items():
            methods[method][pair] = value
    return Oracle(
        name=table.name,
        targets=tuple(targets),
        sources=tuple(sources),
        score=score,
        origin=_origin(table),
        own=own,
        is_accuracy=True,
        methods=methods,
        reported=table.reported,
    )


def _data(file: str) -> Path:
    return Path(str(resources.files("modelspace.evaluation"))) / "data" / file


def _read(
    path: Path,
    name: str,
    column: str | None,
    origin: str,
    leave_out: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
) -> Oracle:
    """Read an oracle from a CSV file, without the names in `leave_out`, and restricted to those in `only` if any."""
    try:
        return _read_rows(path, name, column, origin, leave_out, only)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DamagedError(f"{path.name} can't be read as a CSV file: {error}", "save it as CSV in UTF-8") from error


def _read_rows(
    path: Path, name: str, column: str | None, origin: str, leave_out: tuple[str, ...], only: tuple[str, ...]
) -> Oracle:
    """As `_read`, with the errors of the file."""
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        header = reader.fieldnames or []
        column = column or next((figure for figure in FIGURES if figure in header), None)
        missing = [needed for needed in ("target", "source") if needed not in header]
        if column is None or column not in header:
            missing.append(column or "score, loss or rank")
        if missing or column is None:
            raise UsageError(
                f"{path.name} has no column {' and no column '.join(missing)}",
                "its first line must name target, source and score (or loss, or rank)",
            )
        seeded = "seed" in header
        cells: dict[tuple[str, str, str], float] = {}
        for row in reader:
            pair = {row["target"], row["source"]}
            if pair & set(leave_out) or (only and not pair <= set(only)):
                continue
            key = (row["target"], row["source"], row["seed"] if seeded else "")
            if key in cells:
                raise UsageError(
                    f"{path.name}, line {reader.line_num}: {row['target']} from {row['source']} occurs twice",
                    "keep one row per target and source, or add a seed column",
                )
            cells[key] = _number(row[column], path.name, reader.line_num)
    targets = list(dict.fromkeys(target for target, _, _ in cells))
    sources = list(dict.fromkeys(source for _, source, _ in cells))
    seeds = list(dict.fromkeys(seed for _, _, seed in cells))
    table = np.full((len(seeds), len(targets), len(sources)), np.nan)
    seed_at, target_at, source_at = ({label: i for i, label in enumerate(axis)} for axis in (seeds, targets, sources))
    for (target, source, seed), value in cells.items():
        table[seed_at[seed], target_at[target], source_at[source]] = value
    measured = np.isfinite(table)
    if not measured.any():
        raise UsageError(f"{path.name} has no measurement in column {column}")
    # Drop targets without any measurement: some columns are measured for other targets only.
    rows, columns = measured.any(axis=(0, 2)), measured.any(axis=(0, 1))
    table = table[:, rows][:, :, columns]
    count = np.isfinite(table).sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.nansum(table, axis=0) / np.where(count > 0, count, np.nan)
    is_loss = column == "loss"
    return Oracle(
        name=name,
        targets=tuple(name for name, keep in zip(targets, rows, strict=True) if keep),
        sources=tuple(name for name, keep in zip(sources, columns, strict=True) if keep),
        score=FIGURES.get(column, 1.0) * mean,
        loss=mean if is_loss else None,
        seed_losses=table if is_loss and seeded else None,
        origin=origin,
    )


def _number(text: str | None, file: str, line: int) -> float:
    if text is None or not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise DamagedError(f"{file}, line {line}: {text!r} is not a finite number", "leave it empty if not measured")
    return value
