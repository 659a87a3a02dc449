"""The models that a picture shows, and their groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.registry import ModelRow, Registry, SpaceRow
from modelspace.spaces import affinity
from modelspace.verbs.pictures.caption import caption, source_of

#: The tag that models are grouped by by default; the zoo's models have it ("2D", "3D", "geometric", "semantic").
GROUP_TAG = "group"

#: Column -> its value for a model.
COLUMNS: dict[str, Callable[[ModelRow], Any]] = {
    "name": lambda row: row.card.name,
    "task": lambda row: row.card.task,
    "data": lambda row: row.card.data,
    "architecture": lambda row: row.card.architecture or None,
    "parameters": lambda row: row.card.parameters,
    "input_height": lambda row: row.card.preprocessing.input_size[0],
    "input_width": lambda row: row.card.preprocessing.input_size[1],
    "layer": lambda row: row.card.layer,
    "uri": lambda row: row.card.uri,
    "seconds": lambda row: row.card.seconds,
    "added_at": lambda row: row.added_at.isoformat(timespec="seconds"),
}


@dataclass(frozen=True, eq=False)
class Selection:
    """The models of a picture.

    Attributes:
        row: the space in which they are compared.
        models: n models, in the order in which they were added to the space.
        groups: (n,) the group of each model, or None.
        group_by: the column or tag of the groups.
        source: what a caption says of the space and of the condition on the models.
        total: number of models that this is a sample of; None if it is none.
    """

    row: SpaceRow
    models: tuple[ModelRow, ...]
    groups: tuple[str | None, ...]
    group_by: str
    source: tuple[str, ...] = ()
    total: int | None = None

    @property
    def names(self) -> list[str]:
        """(n,) names of the models."""
        return [row.card.name for row in self.models]

    @property
    def ids(self) -> list[int]:
        """(n,) ids of the models."""
        return [row.model_id for row in self.models]

    @property
    def colours(self) -> tuple[str | float | None, ...]:
        """(n,) what models are coloured by: numbers if the column or all values of the tag are numbers, else groups."""
        numbers = tuple(_number(row, self.group_by) for row in self.models)
        is_known = [group is not None for group in self.groups]
        return numbers if [number is not None for number in numbers] == is_known else self.groups

    @property
    def caption(self) -> str:
        """The line below a picture of these models."""
        return caption(self.source, len(self.models), self.total)


def select(
    registry: Registry,
    space: str | None = None,
    where: str | None = None,
    group_by: str | None = None,
    *,
    least: int = 2,
    what: str = "this picture",
) -> Selection:
    """The models of a space that meet a condition, with their groups.

    Args:
        registry: open.
        space: name or id; None: the default space.
        where: SQL condition on the table `models`.
        group_by: column or tag to group by; None: the tag "group" if one of the models has it, else the task.
        least: smallest number of models.
        what: name of the picture, for the error.

    Raises:
        NotFoundError: no such space, or too few models.
        UsageError: the condition is not SQL, or there is no such column or tag.
    """
    row = registry.space(space)
    rows = {model.model_id: model for model in registry.models(where)}
    models = tuple(rows[i] for i in registry.model_ids(row.spec.space_id) if i in rows)
    if len(models) < least:
        count = f"{len(models)} model{'' if len(models) == 1 else 's'}"
        needed = f"{what} needs {least} or more"
        if where is not None and row.n_models >= least:
            raise NotFoundError(
                f"{count} of the space {row.spec.name!r} {'meets' if len(models) == 1 else 'meet'} the condition, but "
                f"{needed}",
                "widen `where=`",
            )
        raise NotFoundError(f"the space {row.spec.name!r} holds {count}, but {needed}", "add one: `space.add(model)`")
    column, groups = grouped(models, group_by)
    return Selection(row, models, groups, column, source_of(registry, row.spec, where))


def grouped(models: Sequence[ModelRow], group_by: str | None) -> tuple[str, tuple[str | None, ...]]:
    """The column or tag that models are grouped by, and the group of each model.

    Raises:
        UsageError: there is no such column or tag.
    """
    tags = sorted({key for row in models for key in row.card.tags})
    if group_by is None:
        group_by = GROUP_TAG if GROUP_TAG in tags else "task"
    if group_by in COLUMNS:
        values = [COLUMNS[group_by](row) for row in models]
    elif group_by in tags:
        values = [row.card.tags.get(group_by) for row in models]
    else:
        known = [*COLUMNS, *tags]
        raise UsageError(
            f"models have no column or tag {group_by!r} to group by",
            did_you_mean(group_by, known, f"available: {', '.join(known)}"),
        )
    return group_by, tuple(None if value is None else str(value) for value in values)


def _number(row: ModelRow, group_by: str) -> float | None:
    """The value of a column or tag as a number; None if it is none."""
    value = COLUMNS[group_by](row) if group_by in COLUMNS else row.card.tags.get(group_by)
    if isinstance(value, str) and group_by in COLUMNS:
        return None
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def columns(selection: Selection) -> dict[str, list[Any]]:
    """All columns and tags except the group; a tag with the name of a column is called "tag NAME"."""
    models = selection.models
    shown = {name: value for name, value in COLUMNS.items() if name not in ("name", selection.group_by)}
    out = {name: [value(row) for row in models] for name, value in shown.items()}
    for tag in sorted({key for row in models for key in row.card.tags}):
        if tag == selection.group_by and tag not in COLUMNS:
            continue
        # The atlas itself has a column "group".
        name = f"tag {tag}" if tag in COLUMNS or tag == "group" else tag
        out[name] = [row.card.tags.get(tag) for row in models]
    return out


def affinities(registry: Registry, selection: Selection) -> NDArray[np.float64]:
    """(n, n) exact affinities of the selected models, in their order."""
    _, matrix = affinity.matrix(registry, selection.row.spec, set(selection.ids))
    return matrix
