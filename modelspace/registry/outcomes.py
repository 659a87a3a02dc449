"""Tasks and outcomes in a registry: reading, and changes inside a transaction of `Registry`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from modelspace.errors import ConflictError, DamagedError, NotFoundError, UsageError
from modelspace.names import check_name, did_you_mean, readable_name
from modelspace.registry import checksums, schema
from modelspace.registry.reading import Reader, in_utc, json_object
from modelspace.registry.rows import OutcomeRow, TaskRow
from modelspace.types import canonical_json

if TYPE_CHECKING:
    from modelspace.registry.store import Registry

_TASK_COLUMNS = (
    "t.task_id, t.name, t.location, t.data_sha256, t.kind, t.metric, t.higher_is_better, t.n_images, t.classes, t.seed,"
    " t.added_at"
)
_OUTCOME_COLUMNS = (
    "o.outcome_id, t.name, o.model, o.model_id, o.weights_sha256, o.score, o.how, o.settings, o.n_train, o.seed,"
    " o.seconds, o.measured_at, o.note"
)

#: Of the number of the task, the checksum and these columns: those that have a value in every row.
_NEEDED_OF_OUTCOMES = (0, 2, 4, 6, 8, 9, 13, 14)

#: Rows of one INSERT: a statement per row takes about 2 ms.
_ROWS_AT_ONCE = 200


def has_tables(registry: Reader) -> bool:
    """Whether the registry has tables of tasks; one of an older version can be read without them."""
    return registry.schema_number >= schema.TASKS


def tasks(registry: Reader) -> list[TaskRow]:
    """All tasks, in the order in which they were added."""
    if not has_tables(registry):
        return []
    rows = registry.rows(
        f"SELECT {_TASK_COLUMNS}, (SELECT count(*) FROM main.outcomes o WHERE o.task_id = t.task_id)"
        " FROM main.tasks t ORDER BY t.task_id",
        needed=(0, 2, 3, 4, 5, 6, 8, 9, 10),
    )
    read = []
    for row in rows:
        with registry.reading(f"the task {readable_name(row[1])!r}"):
            read.append(_task_row(row))
    return read


def task(registry: Reader, name: str) -> TaskRow:
    """A task by its name, as it is shown (`modelspace.names.readable_name`).

    Raises:
        NotFoundError: there is no such task.
    """
    rows = tasks(registry)
    for row in rows:
        if row.name == name:
            return row
    names = [row.name for row in rows]
    hint = did_you_mean(readable_name(name), names, f"tasks: {', '.join(names[:8])}")
    if not names:
        hint = "add one: `space.add_task(name, data)`"
    raise NotFoundError(f"there is no task {name!r}", hint)


def outcomes(registry: Reader, task_name: str | None = None, model_name: str | None = None) -> list[OutcomeRow]:
    """Outcomes in the order in which they were stored.

    Args:
        registry: an open registry.
        task_name: only of this task.
        model_name: only of the model with this name.

    Raises:
        NotFoundError: there is no such task.
    """
    task_id = None if task_name is None else task(registry, task_name).task_id
    name = None if model_name is None else registry.stored_name(model_name) or model_name
    stored = _stored(registry, task_id, name)
    for row, is_changed in stored:
        if is_changed and registry.checks_rows:
            raise DamagedError(
                f"outcome {row.outcome_id}, of model {row.model!r} on the task {row.task!r}, is not what was stored",
                "`space.verify()` says what is damaged, and what to do",
            )
    return [row for row, _ in stored]


def changed(registry: Reader) -> list[OutcomeRow]:
    """Outcomes that don't match their checksums: they were changed by something else. Unreadable ones are left out."""
    return [row for row, is_changed in _stored(registry, readable=True) if is_changed]


def _stored(
    registry: Reader, task_id: int | None = None, model_name: str | None = None, *, readable: bool = False
) -> list[tuple[OutcomeRow, bool]]:
    """Outcomes as stored, and whether each differs from its checksum; with `readable`, without the unreadable ones."""
    if not has_tables(registry):
        return []
    checksum = "o.checksum" if registry.schema_number >= schema.CHECKSUMS else "NULL"
    rows = registry.rows(
        f"SELECT t.task_id, {checksum}, {_OUTCOME_COLUMNS} FROM main.outcomes o"
        " JOIN main.tasks t ON t.task_id = o.task_id"
        " WHERE (?::BIGINT IS NULL OR t.task_id = ?) AND (?::VARCHAR IS NULL OR o.model = ?) ORDER BY o.outcome_id",
        [task_id, task_id, model_name, model_name],
        needed=() if readable else _NEEDED_OF_OUTCOMES,
    )
    out = []
    for number, known, *columns in rows:
        with suppress(DamagedError) if readable else nullcontext(), registry.reading(f"the outcome {columns[0]}"):
            row = _outcome_row(columns)
            out.append((row, known is not None and known != _checksum(_values(row, number))))
    return out


def _checksum(values: Sequence[Any]) -> int:
    """Of an outcome's values as stored, without the model's number and name, which may change."""
    task_id, _, _, *others = values
    return checksums.of_outcome([task_id, *others])


# --- changes


def counts(registry: Reader) -> dict[int, int]:
    """Model id -> number of its outcomes; models without any are missing."""
    if not has_tables(registry):
        return {}
    return dict(
        registry.rows("SELECT model_id, count(*) FROM main.outcomes WHERE model_id IS NOT NULL GROUP BY model_id")
    )


def tasks_of_models(registry: Reader, model_ids: Sequence[int]) -> dict[int, int]:
    """Model id -> number of tasks that these models have outcomes on; models without any are missing."""
    if not model_ids or not has_tables(registry):
        return {}
    marks = ", ".join("?" * len(model_ids))
    return dict(
        registry.rows(
            "SELECT model_id, count(DISTINCT task_id) FROM main.outcomes"
            f" WHERE score IS NOT NULL AND model_id IN ({marks}) GROUP BY model_id",
            list(model_ids),
        )
    )


def add_task(registry: Registry, row: TaskRow) -> TaskRow:
    """Store a task; its number and time are given here.

    Raises:
        ConflictError: a task of that name exists.
        UsageError: the name has characters that names can't have.
    """
    registry.require_transaction()
    check_name(row.name, "task")
    if any(known.name == row.name for known in tasks(registry)):
        raise ConflictError(
            f"task {row.name!r} exists already",
            f"choose another name, or remove it first: `space.remove_task({row.name!r})`",
        )
    added_at = schema.now()
    values = {
        "name": row.name,
        "location": row.location,
        "data_sha256": row.data_sha256,
        "kind": row.kind,
        "metric": row.metric,
        "higher_is_better": row.higher_is_better,
        "n_images": row.n_images,
        "classes": list(row.classes),
        "seed": row.seed,
        "added_at": added_at,
    }
    (task_id,) = registry.rows(
        f"INSERT INTO main.tasks (task_id, {', '.join(values)}) VALUES (nextval('main.task_ids'),"
        f" {', '.join('?' * len(values))}) RETURNING task_id",
        list(values.values()),
    )[0]
    return replace(row, task_id=int(task_id), added_at=added_at.replace(tzinfo=UTC), n_outcomes=0)


def remove_task(registry: Registry, name: str) -> int:
    """Remove a task and its outcomes, and return the number of outcomes.

    Raises:
        NotFoundError: there is no such task.
    """
    registry.require_transaction()
    row = task(registry, name)
    removed = registry.rows("DELETE FROM main.outcomes WHERE task_id = ? RETURNING outcome_id", [row.task_id])
    registry.execute("DELETE FROM main.tasks WHERE task_id = ?", [row.task_id])
    return len(removed)


def rename_task(registry: Registry, old: str, new: str) -> None:
    """Rename a task.

    Raises:
        NotFoundError: no task has the old name.
        ConflictError: another task has the new name.
        UsageError: the new name has characters that names can't have.
    """
    registry.require_transaction()
    row = task(registry, old)
    check_name(new, "task")
    if new != old and any(known.name == new for known in tasks(registry)):
        raise ConflictError(f"task {new!r} exists already", "choose another name")
    registry.execute("UPDATE main.tasks SET name = ? WHERE task_id = ?", [new, row.task_id])


def add_outcomes(registry: Registry, rows: Sequence[OutcomeRow]) -> int:
    """Store outcomes, except those that are stored already, and return the number of new ones.

    Two outcomes are the same if task, model, weights, score, way of measuring, settings, seed and time are.

    Raises:
        NotFoundError: there is no such task.
        UsageError: a score is not finite.
    """
    registry.require_transaction()
    task_ids = {row.name: row.task_id for row in tasks(registry)}
    known = {_key(row) for name in dict.fromkeys(row.task for row in rows) for row in outcomes(registry, name)}
    new: list[list[Any]] = []
    for row in rows:
        if row.score is not None and not math.isfinite(row.score):
            raise UsageError(f"the score {row.score} of {row.model} is not a number", "leave it out")
        if _key(row) not in known:
            known.add(_key(row))
            new.append(_values(row, task_ids[row.task]))
    for start in range(0, len(new), _ROWS_AT_ONCE):
        part = new[start : start + _ROWS_AT_ONCE]
        places = ", ".join([f"(nextval('main.outcome_ids'){', ?' * (len(part[0]) + 1)})"] * len(part))
        registry.execute(
            f"INSERT INTO main.outcomes VALUES {places}",
            [value for values in part for value in (*values, _checksum(values))],
        )
    return len(new)


def _values(row: OutcomeRow, task_id: int) -> list[Any]:
    """The columns of the table `outcomes` after the number."""
    return [
        task_id,
        row.model_id,
        row.model,
        row.weights_sha256,
        row.score,
        row.how,
        canonical_json(dict(row.settings)),
        row.n_train,
        row.seed,
        row.seconds,
        row.measured_at.astimezone(UTC).replace(tzinfo=None),
        row.note,
    ]


def claim(registry: Registry, outcome_id: int, model_id: int, name: str, weights_sha256: str) -> None:
    """Give an outcome without weights, of a model that never was in the registry, to a model."""
    registry.require_transaction()
    rows = registry.rows(
        f"SELECT t.task_id, {_OUTCOME_COLUMNS} FROM main.outcomes o JOIN main.tasks t ON t.task_id = o.task_id"
        " WHERE o.outcome_id = ? AND o.weights_sha256 = ''",
        [outcome_id],
    )
    for task_id, *columns in rows:
        values = _values(replace(_outcome_row(columns), weights_sha256=weights_sha256), task_id)
        registry.execute(
            "UPDATE main.outcomes SET model_id = ?, model = ?, weights_sha256 = ?, checksum = ? WHERE outcome_id = ?",
            [model_id, name, weights_sha256, _checksum(values), outcome_id],
        )


def now() -> datetime:
    """The current time, with time zone UTC."""
    return schema.now().replace(tzinfo=UTC)


def detach(registry: Registry, model_id: int) -> None:
    """Keep the outcomes of a model that is being removed, by its weights."""
    if has_tables(registry):
        registry.execute("UPDATE main.outcomes SET model_id = NULL WHERE model_id = ?", [model_id])


def attach(registry: Registry, model_id: int, name: str, weights_sha256: str) -> None:
    """Give a model the outcomes of its weights that belong to no model of the registry."""
    if has_tables(registry):
        registry.execute(
            "UPDATE main.outcomes SET model_id = ?, model = ? WHERE model_id IS NULL AND weights_sha256 = ?",
            [model_id, name, weights_sha256],
        )


def rename_model(registry: Registry, model_id: int, name: str) -> None:
    """Give the outcomes of a model its new name."""
    if has_tables(registry):
        registry.execute("UPDATE main.outcomes SET model = ? WHERE model_id = ?", [name, model_id])


def _key(row: OutcomeRow) -> tuple[Any, ...]:
    return (
        *(row.task, row.model, row.weights_sha256, row.score, row.how, canonical_json(dict(row.settings)), row.seed),
        row.measured_at.astimezone(UTC),
    )


def _task_row(columns: Sequence[Any]) -> TaskRow:
    values = dict(zip((entry.name for entry in fields(TaskRow)), columns, strict=True))
    values["name"] = readable_name(values["name"])
    return TaskRow(
        **{**values, "classes": tuple(map(_text, values["classes"])), "added_at": in_utc(values["added_at"])}
    )


def _outcome_row(columns: Sequence[Any]) -> OutcomeRow:
    values = dict(zip((entry.name for entry in fields(OutcomeRow)), columns, strict=True))
    settings, measured_at = json_object(values["settings"]), in_utc(values["measured_at"])
    if any(values[name] is not None and not math.isfinite(values[name]) for name in ("score", "seconds")):
        raise ValueError("its score or its seconds are not finite")
    values["task"] = readable_name(values["task"])
    if values["model_id"] is not None:  # without an id, it is what a published table calls the model: any text
        values["model"] = readable_name(values["model"])
    return OutcomeRow(**{**values, "settings": settings, "measured_at": measured_at})


def _text(value: str | None) -> str:
    if value is None:
        raise ValueError("a class without a name")
    return value
