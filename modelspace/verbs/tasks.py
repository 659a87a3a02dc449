"""The verbs of tasks and outcomes: a data set with labels is registered once, and what was measured on it is kept."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelspace.errors import ConflictError, ModelspaceError, NotFoundError, UsageError
from modelspace.files import absent, is_regular
from modelspace.registry import ModelRow, Registry, outcomes
from modelspace.registry.rows import OutcomeRow, TaskRow
from modelspace.results import Merged, OutcomeInfo, Records, TaskInfo
from modelspace.tasks.metrics import DEFAULTS, KINDS, Kind, direction

#: How a score was measured by default: elsewhere, by the user.
OBSERVED = "observed"

#: How outcomes are called that are held-out scores on a few training images: a hint at the score, not the score.
HELD_OUT = "held-out"

#: Setting of a held-out score: the value of the readout behind it, a finer measure than the score.
VALUE = "value"


@dataclass(frozen=True)
class Observation:
    """A measurement of a registered model on a task.

    Attributes:
        task: name of the task.
        model: name of the model.
        score: in the task's metric; None if the model failed.
        how: how it was measured.
        n_train: number of training images.
        seed: of the training.
        seconds: that it took.
        note: free text; for a failed model the reason.
        measured_at: default: now.
        settings: of the measurement; JSON values.
        metric: that the score is in, to be compared with the task's; empty if not known.
        weights_sha256: of the weights that were measured, to be compared with the model's; empty if not known.
    """

    task: str
    model: str
    score: float | None
    how: str = OBSERVED
    n_train: int | None = None
    seed: int | None = None
    seconds: float | None = None
    note: str = ""
    measured_at: datetime | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    metric: str = ""
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        if self.score is not None and not math.isfinite(self.score):
            raise UsageError(
                f"the score {self.score} of {self.model} is not a finite number",
                "if the model failed, say why: `failed='out of memory'`",
            )
        if self.score is None and not self.note:
            raise UsageError(
                f"{self.model} has neither a score nor a reason why it failed",
                "example: `space.observe(task, name, 0.912)`",
            )
        for name, value in (("n_train", self.n_train), ("seconds", self.seconds)):
            if value is not None and not value >= 0:
                raise UsageError(f"{name} of {self.model} is {value}", "it can't be below zero")


def add_task(
    path: Path,
    name: str,
    data: str | Path | None = None,
    *,
    metric: str | None = None,
    higher_is_better: bool | None = None,
    kind: Kind | None = None,
    seed: int = 0,
    progress: Any = None,
) -> tuple[TaskInfo, list[str]]:
    """See `modelspace.workspace.ModelSpace.add_task`."""
    if kind is not None and kind not in KINDS:
        raise UsageError(f"{kind!r} is not a kind of labels", f"use {' or '.join(KINDS)}")
    with Registry.open(path) as registry:
        if any(row.name == name for row in outcomes.tasks(registry)):
            raise ConflictError(
                f"task {name!r} exists already",
                f"choose another name, or remove it first: `space.remove_task({name!r})`",
            )
    notes: list[str] = []
    location, fingerprint, n_images = "", "", None
    classes: tuple[str, ...] = ()
    if data is not None:
        from modelspace.tasks.data import read

        images = read(data, kind, progress)
        kind, classes, n_images = images.kind, images.classes, len(images)
        location, fingerprint, notes = images.location, images.fingerprint, list(images.notes)
    kind = kind or "classification"
    metric = metric or DEFAULTS[kind]
    higher = direction(metric, kind, higher_is_better)
    row = TaskRow(0, name, location, fingerprint, kind, metric, higher, n_images, classes, seed, datetime.now(UTC))
    with Registry.open(path, write=True) as registry, registry.transaction():
        copies = [other.name for other in outcomes.tasks(registry) if fingerprint and other.data_sha256 == fingerprint]
        row = outcomes.add_task(registry, row)
    notes += [f"the task {copy} has the same images and labels" for copy in copies]
    return _task_info(row), notes


def tasks(path: Path) -> Records[TaskInfo]:
    """All tasks, in the order in which they were added."""
    with Registry.open(path) as registry:
        return Records([_task_info(row) for row in outcomes.tasks(registry)], TaskInfo)


def task(path: Path, name: str) -> TaskInfo:
    """A task by its name.

    Raises:
        NotFoundError: there is no such task.
    """
    with Registry.open(path) as registry:
        return _task_info(outcomes.task(registry, name))


def observe(path: Path, observations: Sequence[Observation]) -> list[OutcomeInfo]:
    """Store outcomes, all or none.

    Raises:
        NotFoundError: there is no such task or model.
        ConflictError: an outcome says that it is of other weights than the model's, or in another metric than the task.
    """
    with Registry.open(path, write=True) as registry, registry.transaction():
        metrics = {row.name: row.metric for row in outcomes.tasks(registry)}
        models: dict[str, ModelRow] = {}
        rows = []
        for entry in observations:
            if entry.task not in metrics:
                outcomes.task(registry, entry.task)  # says which tasks there are
            model = models.get(entry.model) or models.setdefault(entry.model, registry.model(entry.model))
            _check_same(entry, model, metrics[entry.task])
            rows.append(
                OutcomeRow(
                    outcome_id=0,
                    task=entry.task,
                    model=model.card.name,
                    model_id=model.model_id,
                    weights_sha256=model.card.weights_sha256,
                    score=entry.score,
                    how=entry.how,
                    settings=entry.settings,
                    n_train=entry.n_train,
                    seed=entry.seed,
                    seconds=entry.seconds,
                    measured_at=entry.measured_at or outcomes.now(),
                    note=entry.note,
                )
            )
        outcomes.add_outcomes(registry, rows)
    return [_outcome_info(row, metrics) for row in rows]


def _check_same(entry: Observation, model: ModelRow, metric: str) -> None:
    """Raise ConflictError if an observation is of other weights or in another metric."""
    if entry.weights_sha256 not in ("", model.card.weights_sha256):
        raise ConflictError(
            f"the outcome of {entry.model} on {entry.task} was measured with other weights than those of {entry.model}",
            "leave the column weights_sha256 out to store it all the same",
        )
    if entry.metric not in ("", metric):
        raise ConflictError(
            f"the outcome of {entry.model} is in {entry.metric}, and task {entry.task} in {metric}",
            "create a task with that metric: `space.add_task(name, metric='f1')`",
        )


def measured(path: Path, task_name: str | None = None, model: str | None = None) -> Records[OutcomeInfo]:
    """Outcomes; of one task the best first and held-out scores last, else in the order in which they were stored.

    Raises:
        NotFoundError: there is no such task, or neither a model nor an outcome of that name.
    """
    with Registry.open(path) as registry:
        rows = outcomes.outcomes(registry, task_name, model)
        by_name = {row.name: row for row in outcomes.tasks(registry)}
        if model is not None and not rows:
            registry.model(model)
    if task_name is not None:
        sign = -1.0 if by_name[task_name].higher_is_better else 1.0
        rows.sort(key=lambda row: (row.how == HELD_OUT, math.inf if row.score is None else sign * row.score))
    metrics = {name: row.metric for name, row in by_name.items()}
    return Records([_outcome_info(row, metrics) for row in rows], OutcomeInfo)


def remove_task(path: Path, name: str) -> int:
    """Remove a task with its outcomes, and return their number; the cached features of its images go too."""
    with Registry.open(path, write=True) as registry, registry.transaction():
        data = outcomes.task(registry, name).data_sha256
        count = outcomes.remove_task(registry, name)
        others = {row.data_sha256 for row in outcomes.tasks(registry)}
    if data and data not in others:
        from modelspace.tasks.cache import forget

        forget(data)
    return count


def rename_task(path: Path, old: str, new: str) -> None:
    """Rename a task."""
    with Registry.open(path, write=True) as registry, registry.transaction():
        outcomes.rename_task(registry, old, new)


# --- files of outcomes


def _settings(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError
    return value


#: Columns of a file of outcomes, and how their texts are read.
_COLUMNS: dict[str, Callable[[str], Any]] = {
    "model": str,
    "score": float,
    "task": str,
    "how": str,
    "n_train": int,
    "seed": int,
    "seconds": float,
    "note": str,
    "measured_at": datetime.fromisoformat,
    "settings": _settings,
    "metric": str,
    "weights_sha256": str,
}
#: Further columns that `modelspace outcomes --format csv` writes; they follow from the others.
_IGNORED = ("registered",)


def read_observations(file: Path, task_name: str | None) -> list[Observation]:
    """Read a CSV file with one outcome per line.

    Args:
        file: with the columns "model" and "score", and any of "task", "how", "n_train", "seed", "seconds", "note",
            "measured_at" (ISO 8601), "settings" (JSON), "metric" and "weights_sha256", as `export` and the command
            `outcomes` write them. A line without a score is of a failed model, and its note says why.
        task_name: the task of lines without one; None if the file has a column "task".

    Raises:
        NotFoundError: there is no such file.
        ModelspaceError: it can't be read.
        UsageError: a column is missing or unknown, or a line is wrong; the message says which.
    """
    if not is_regular(file):
        raise NotFoundError(absent(file))
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            names = list(reader.fieldnames or ())
            _check_columns(file, names, task_name)
            return [_observation(row, file, reader.line_num, task_name) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ModelspaceError(f"{file} can't be read as a CSV file: {error}", "save it as CSV in UTF-8") from error


def _check_columns(file: Path, names: Sequence[str], task_name: str | None) -> None:
    required = ["model", "score", *(["task"] if task_name is None else [])]
    if missing := [name for name in required if name not in names]:
        raise UsageError(
            f"{file.name} lacks the column {' and '.join(missing)}",
            f"its first line names the columns: {','.join(required)}",
        )
    if unknown := [name for name in names if name not in (*_COLUMNS, *_IGNORED)]:
        raise UsageError(f"{file.name} has an unknown column {unknown[0]!r}", f"columns: {', '.join(_COLUMNS)}")


def _observation(row: Mapping[str, str | None], file: Path, line: int, task_name: str | None) -> Observation:
    values: dict[str, Any] = {"task": task_name, "score": None}
    for name, text in row.items():
        if name is None or text is None:
            raise UsageError(f"line {line} of {file.name} has another number of columns than the first one")
        if not text.strip() or name in _IGNORED:
            continue
        try:
            values[name] = _COLUMNS[name](text.strip())
        except ValueError:
            raise UsageError(f"line {line} of {file.name}: {name} is {text!r}") from None
    if not values.get("task") or not values.get("model"):
        raise UsageError(f"line {line} of {file.name} names no {'model' if values.get('task') else 'task'}")
    if (when := values.get("measured_at")) is not None and when.tzinfo is None:
        values["measured_at"] = when.replace(tzinfo=UTC)
    try:
        return Observation(**values)
    except UsageError as error:
        raise UsageError(f"line {line} of {file.name}: {error.message}", error.hint) from None


# --- from one registry to another


def merge_tasks(path: Path, source: Path, names: Mapping[str, str], dry_run: bool = False) -> list[Merged]:
    """Import another registry's tasks and outcomes.

    A task of the same name must have the same data, metric and direction; else it is skipped with its outcomes.

    Args:
        path: file of this registry.
        source: file of the other registry.
        names: the other registry's names of models to this registry's names.
        dry_run: only report what would be done.

    Returns:
        One record per task of the other registry, named "task NAME".
    """
    with Registry.open(source) as theirs:
        their_tasks, their_outcomes = outcomes.tasks(theirs), outcomes.outcomes(theirs)
    if not their_tasks:
        return []
    with Registry.open(path, write=not dry_run) as registry, nullcontext() if dry_run else registry.transaction():
        known = {row.name: row for row in outcomes.tasks(registry)}
        models = {row.card.name: row for row in registry.models()}
        records = []
        for row in their_tasks:
            rows = [_translated(each, names, models) for each in their_outcomes if each.task == row.name]
            records.append(_merge_task(registry, row, known.get(row.name), rows, dry_run))
    return records


def _merge_task(
    registry: Registry, row: TaskRow, known: TaskRow | None, rows: Sequence[OutcomeRow], dry_run: bool
) -> Merged:
    """Import one task with its outcomes; `known` is this registry's of the same name."""
    label = f"task {row.name}"
    if known is not None and _definition(known) != _definition(row):
        return Merged(label, label, "skipped", (), _DIFFERENT, _RENAME)
    if dry_run:
        return Merged(label, label, "would add" if known is None else "would complete")
    if known is None:
        outcomes.add_task(registry, row)
    count = outcomes.add_outcomes(registry, rows)
    status = "added" if known is None else "completed" if count else "unchanged"
    return Merged(label, label, status, (), f"{count} outcomes" if count else "")


def _translated(row: OutcomeRow, names: Mapping[str, str], models: Mapping[str, ModelRow]) -> OutcomeRow:
    """An outcome as one of this registry, which has the model only if it has the same weights under that name."""
    name = names.get(row.model, row.model)
    model = models.get(name)
    same = model is not None and model.card.weights_sha256 == row.weights_sha256
    return replace(row, model=name, model_id=model.model_id if model is not None and same else None)


_DIFFERENT = "this registry has a task of the same name with other data or another metric"
_RENAME = "rename one of them: `space.rename_task(old, new)`"


def _definition(row: TaskRow) -> tuple[object, ...]:
    return row.data_sha256, row.kind, row.metric, row.higher_is_better


# --- records


def _task_info(row: TaskRow) -> TaskInfo:
    return TaskInfo(
        name=row.name,
        kind=row.kind,
        metric=row.metric,
        higher_is_better=row.higher_is_better,
        n_images=row.n_images,
        classes=row.classes,
        location=row.location,
        data_sha256=row.data_sha256,
        seed=row.seed,
        added_at=row.added_at.isoformat(timespec="seconds"),
        outcomes=row.n_outcomes,
    )


def _outcome_info(row: OutcomeRow, metrics: Mapping[str, str]) -> OutcomeInfo:
    return OutcomeInfo(
        task=row.task,
        model=row.model,
        score=row.score,
        metric=metrics[row.task],
        how=row.how,
        n_train=row.n_train,
        seed=row.seed,
        seconds=row.seconds,
        measured_at=row.measured_at.isoformat(),
        note=row.note,
        settings=dict(row.settings),
        registered=row.model_id is not None,
        weights_sha256=row.weights_sha256,
    )
