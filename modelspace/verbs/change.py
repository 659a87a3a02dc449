"""Changing what is registered: models are removed and tagged by name or condition, spaces removed and renamed.

Each function is one transaction, so all of its models or spaces are changed, or none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from modelspace import names
from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.home import INDEX
from modelspace.registry import ModelRow, Registry, SpaceRow
from modelspace.spaces import affinity, index
from modelspace.spaces.kinds import space_of
from modelspace.spaces.ranking import Ranking
from modelspace.spaces.views import views

#: Number of names that a message lists.
_SHOWN = 5


def select(registry: Registry, chosen: Sequence[str], where: str | None) -> list[ModelRow]:
    """The models of these names, or those that meet a condition, each once.

    Raises:
        NotFoundError: there is no model of one of the names, or none meets the condition.
        UsageError: names and a condition, or neither.
    """
    if bool(chosen) == (where is not None):
        raise UsageError(
            "models are chosen by their names or by `where=`, and not by both", "example: `where=\"task = 'depth'\"`"
        )
    if where is None:
        return [registry.model(name) for name in dict.fromkeys(chosen)]
    if not (rows := registry.models(where)):
        raise NotFoundError("no model meets the condition", "`space.list()` shows the models and their columns")
    return rows


def remove_models(path: Path, chosen: Sequence[str], where: str | None) -> dict[int, str]:
    """See `modelspace.workspace.ModelSpace.remove_all`; returns the models' names by their ids."""
    with Registry.open(path, write=True) as registry:
        rows = select(registry, chosen, where)  # before the transaction: a condition sees only what is committed
        with registry.transaction():
            affinity.remove(registry, *(row.model_id for row in rows))
    return {row.model_id: row.card.name for row in rows}


def tag_models(
    path: Path,
    tags: Mapping[str, str | None],
    chosen: Sequence[str],
    where: str | None,
    task: str | None,
    data: str | None,
) -> tuple[str, ...]:
    """See `modelspace.workspace.ModelSpace.tag_all`."""
    with Registry.open(path, write=True) as registry:
        rows = select(registry, chosen, where)
        with registry.transaction():
            for row in rows:
                merged = {**row.card.tags, **tags}
                registry.update_model(
                    row.model_id,
                    task=task if task is not None else row.card.task,
                    data=data if data is not None else row.card.data,
                    tags={key: value for key, value in merged.items() if value is not None},
                )
    return tuple(row.card.name for row in rows)


def rename_space(path: Path, old: str, new: str) -> None:
    """See `modelspace.workspace.ModelSpace.rename_space`."""
    names.check_name(new, "space")
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.rename_space(old, new)


def remove_spaces(path: Path, chosen: str | Sequence[str]) -> tuple[str, ...]:
    """See `modelspace.workspace.ModelSpace.remove_space`."""
    labels = [chosen] if isinstance(chosen, str) else list(chosen)
    if not labels:
        raise UsageError("no space is named", "`space.spaces()` lists them")
    with Registry.open(path, write=True) as registry, registry.transaction():
        rows = list({row.spec.space_id: row for row in map(registry.space, labels)}.values())
        removed = {row.spec.space_id for row in rows}
        left = [row for row in registry.spaces() if row.spec.space_id not in removed]
        _check_needed(registry, rows, left)
        _check_default(rows, left)
        _check_models(registry, removed)
        for row in rows:
            registry.remove_space(row.spec.space_id)
        # While no process can read: an index of the same space, made again later, would pass for one of a later state.
        index.remove(path.parent / INDEX, {row.spec.space_id for row in left})
    return tuple(row.spec.name for row in rows)


def _check_needed(registry: Registry, removed: Sequence[SpaceRow], left: Iterable[SpaceRow]) -> None:
    """Refuse to remove spaces that another one blends, or whose kernels its re-ranking uses."""
    ids = {row.spec.space_id: row.spec.name for row in removed}
    for row in left:
        needed = {source.spec.space_id for source in space_of(row.spec).sources(registry)}
        if Ranking.of(row.spec).is_reranked:
            with suppress(NotFoundError):  # it can't rank as it is
                needed |= {view.space.spec.space_id for view in views(registry, row.spec, Ranking.of(row.spec).rerank)}
        if used := sorted(ids[space_id] for space_id in needed & ids.keys()):
            both = [*ids.values(), row.spec.name]
            raise ConflictError(
                f"the space {row.spec.name!r} is computed from {used[0]!r}",
                f"remove it too: `space.remove_space({both!r})`",
            )


def _check_default(removed: Sequence[SpaceRow], left: Sequence[SpaceRow]) -> None:
    """Refuse to remove the default space while others are left, since queries would not know which to use."""
    for row in removed:
        if row.is_default and left:
            raise ConflictError(
                f"{row.spec.name!r} is the default space of queries",
                f"make another one the default first: `space.set_default({left[0].spec.name!r})`",
            )


def _check_models(registry: Registry, removed: Collection[str]) -> None:
    """Refuse to remove the only spaces that hold a model: its entry alone could not be compared with anything."""
    kept = {row.spec.name for row in registry.spaces() if row.spec.space_id not in removed}
    alone = [row.card.name for row in registry.models() if not kept & set(row.spaces)]
    if alone:
        more = f" and {len(alone) - _SHOWN} more" if len(alone) > _SHOWN else ""
        raise ConflictError(
            f"no other space holds {', '.join(alone[:_SHOWN])}{more}",
            f"remove these models first, for example `space.remove({alone[0]!r})`, or add them to another space: "
            "`space.add(model)`",
        )
