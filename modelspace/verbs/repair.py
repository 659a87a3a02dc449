"""Repair: a new registry with all that is intact in a damaged one, and a list of what is not.

The damaged registry is not changed. What can be read is imported into an empty registry as from somebody else's
(`modelspace.verbs.merge`): maps are checked, vectors and affinities are recomputed from them. So the result holds only
what could have been added to it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from modelspace import temporary
from modelspace.errors import ConflictError, DamagedError, ModelspaceError
from modelspace.home import REGISTRY
from modelspace.registry import Registry, SpaceRow, backups, copying, outcomes, trial
from modelspace.results import Check
from modelspace.spaces import affinity
from modelspace.spaces.kinds import space_of
from modelspace.verbs.merge import merge

Progress = Callable[[int, int], None]


def repair(path: Path, target: Path, *, force: bool, progress: Progress | None = None) -> list[Check]:
    """See `modelspace.workspace.ModelSpace.repair`."""
    if target.exists() and (not force or target.resolve() == path.resolve()):
        raise ConflictError(f"{target} exists already", "choose another name, or `force=True` to replace it")
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the target's folder, which has room for the result.
    with tempfile.TemporaryDirectory(prefix=".repair-", dir=target.parent) as name:
        damaged, fresh = Path(name, "damaged.duckdb"), Path(name, REGISTRY)
        steps = [*_opened(path, damaged), *_cleared(damaged)]
        steps += _moved(damaged, fresh, progress)
        try:
            with temporary.replacing(target) as out:
                copying.copy_bytes(fresh, out)
        except OSError as error:
            raise ModelspaceError(f"{target} can't be written: {error.strerror}") from None
    return steps


def _opened(path: Path, copy: Path) -> Iterator[Check]:
    """Copy the registry to a file that DuckDB opens; if it does not with the log, without it.

    Raises:
        DamagedError: DuckDB can't open it at all.
    """
    try:
        with copying.copied(path, copy):
            pass
    except DamagedError:
        with copying.copied(path, copy, log=False):
            pass
        yield Check("log of the last changes", False, "it is damaged: the changes in it are lost", "make them again")
    try:
        trial.read(copy, path)
        with Registry.open(copy, write=True):
            pass
    except DamagedError as error:
        raise DamagedError(f"{path} can't be repaired: {error.message}", backups.advice(path)) from None


def _cleared(copy: Path) -> list[Check]:
    """Remove from the copy what would keep the rest from being read; returns what that was."""
    removed: list[Check] = []
    with Registry.open(copy, write=True) as registry:
        registry.checks_rows = False
        for (model_id,) in registry.rows("SELECT DISTINCT model_id FROM main.models ORDER BY 1"):
            try:
                registry.model_by_id(model_id)
            except ModelspaceError as error:
                with registry.transaction():
                    registry.execute("DELETE FROM main.models WHERE model_id = ?", [model_id])
                removed.append(Check(f"model {model_id}", False, f"{error.message}; lost", "add it again"))
        for row in outcomes.changed(registry):
            with registry.transaction():
                registry.execute("DELETE FROM main.outcomes WHERE outcome_id = ?", [row.outcome_id])
            removed.append(
                Check(
                    f"outcome {row.outcome_id}",
                    False,
                    f"of {row.model} on the task {row.task}: it is not what was stored; lost",
                    "observe it again: `space.observe(task, name, score)`",
                )
            )
    return removed


def _moved(damaged: Path, fresh: Path, progress: Progress | None) -> Iterator[Check]:
    """Import everything from the copy into a new registry."""
    with Registry.open(damaged) as registry:
        spaces, registry_id = registry.spaces(), registry.registry_id
        dates = {row.card.name: row.added_at for row in registry.models()}
        addresses = {row.card.name: row.card.uri for row in registry.models()}
    Registry.create(fresh)
    stored = [row.spec.name for row in spaces if not space_of(row.spec).is_derived]
    results = merge(fresh, damaged, spaces="all", on_conflict="rename", progress=progress) if stored else []
    _finish(fresh, spaces, registry_id, dates)
    kept = 0
    for row in results:
        if row.status == "refused":
            hint = f"add it again, from {addresses[row.theirs]}" if row.theirs in addresses else ""
            yield Check(f"model {row.theirs}", False, f"{row.message}; lost", hint)
        elif row.theirs in addresses:
            kept += 1
    with Registry.open(fresh) as registry:
        problems = registry.check()
        for problem in problems:
            yield Check(problem.subject, False, problem.message)
        yield Check("models", True, f"{kept} of {len(addresses)} kept")
        yield Check("spaces", True, f"{len(registry.spaces())} of {len(spaces)}, vectors and affinities recomputed")
        tasks = outcomes.tasks(registry)
        if tasks:
            yield Check("tasks", True, f"{len(tasks)}, with {sum(task.n_outcomes for task in tasks)} outcomes")


def _finish(fresh: Path, spaces: Sequence[SpaceRow], registry_id: str, dates: Mapping[str, datetime]) -> None:
    """What importing leaves out: blends, the default space, the registry's id, and when models were added."""
    with Registry.open(fresh, write=True) as registry, registry.transaction():
        names = {row.spec.name for row in registry.spaces()}
        for row in spaces:
            if row.spec.name not in names and space_of(row.spec).is_derived:
                registry.add_space(row.spec, default=False)
                affinity.fill(registry, row.spec)
            if row.is_default:
                registry.set_default_space(row.spec.name)
        registry.execute("UPDATE main.meta SET registry_id = ?", [registry_id])
        for name, date in dates.items():
            added_at = date.astimezone(UTC).replace(tzinfo=None)
            registry.execute("UPDATE main.models SET added_at = ? WHERE name = ?", [added_at, name])
