"""The verb `evaluate --search`: the search replayed on measured outcomes, and on registered tasks.

Oracles tell what tries in a certain order would have found (`modelspace.evaluation.replay`). On the images of a task
all models are measured in full once, and every policy is replayed with what it would have cost
(`modelspace.evaluation.replay_features`); the other tasks given are what is known before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelspace import evaluation
from modelspace.errors import UsageError
from modelspace.evaluation import Oracle, published
from modelspace.evaluation.replay import Policy, Replay, replay_outcomes
from modelspace.evaluation.replay_features import Labelled, Measured, measure, replay_measured, truths
from modelspace.frames import escaped
from modelspace.registry import Registry, outcomes
from modelspace.registry.rows import TaskRow
from modelspace.search.race import ROUNDS
from modelspace.search.units import SHARES, Unit
from modelspace.tasks import measuring
from modelspace.tasks.splits import spending_order
from modelspace.types import ModelCard
from modelspace.verbs.bench import Bench
from modelspace.verbs.knowledge import Knowledge, knowledge

#: Training images, and test images, that are used at most; and orders in which training images are spent.
IMAGES, REPEATS = 400, 3

#: What stands for all tasks with data, and for all oracles that don't repeat each other.
ALL, PUBLISHED = "all", "published"

#: The oracles that were measured by the project or by Taskonomy: the others are parts of these, or other units.
_SHIPPED = ("taskonomy", "rooms-all", "yards-all")

#: Label scores that are replayed: logistic regression takes as long as all others together.
LABEL_SCORES = ("ridge", "logme", "knn", "parc", "hscore", "gbc", "transrate", "alignment")

COLUMNS = ("table", "policy", "figure", "mean", "low", "high", "targets")

#: Figure -> its title in tables, in their order.
TITLES: Mapping[str, str] = {
    **{f"regret@{k}": f"regret@{k}" for k in (1, 2, 3, 5, 8)},
    "regret@quarter": "regret@¼",
    "weighted_tau": "tau_w",
    "spearman": "Spearman",
    "tau_expected": "tau_w expected",
    "images": "images",
    "tries": "tries",
    "seconds": "seconds",
    "coverage": "coverage",
    "above": "above",
    "width": "width",
    "width_in_spreads": "width/spread",
}


@dataclass(frozen=True)
class SearchReport:
    """How the search did.

    Attributes:
        tables: one per oracle, and up to two for the tasks: "tasks", what policies find and cost, and
            "outcomes of the tasks", the tasks' scores as an oracle.
        notes: what a reader of the tables should know.
    """

    tables: tuple[Replay, ...]
    notes: tuple[str, ...] = ()

    def table(self, name: str) -> Replay:
        """A table by its name."""
        return next(table for table in self.tables if table.name == name)

    def to_rows(self) -> list[tuple[str, str, str, float, float, float, int]]:
        """One row per figure, with the columns `COLUMNS`: mean over targets and its 95% bootstrap interval."""
        return list(self._rows())

    def _rows(self) -> Iterator[tuple[str, str, str, float, float, float, int]]:
        for table in self.tables:
            for policy in table.policies:
                for figure in shown(policy):
                    mean = policy.summary(figure)
                    count = int(np.isfinite(policy.figures[figure]).sum())
                    yield table.name, policy.name, figure, float(mean.mean), float(mean.low), float(mean.high), count

    def to_dict(self) -> dict[str, Any]:
        """All figures, per target too, and notes, ready for JSON."""
        return {"tables": [_table_dict(table) for table in self.tables], "notes": list(self.notes)}

    def to_markdown(self) -> str:
        """A table per oracle, with the notes below."""
        parts = [f"{headline(table)}\n\n{table_markdown(table)}" for table in self.tables]
        return "\n".join(parts) + "\n" + "".join(f"- {note}\n" for note in self.notes)

    def _repr_html_(self) -> str:
        return f"<pre>{escaped(self.to_markdown())}</pre>"


def shown(policy: Policy) -> list[str]:
    """The figures of a policy that are defined for any target."""
    return [figure for figure in TITLES if np.isfinite(policy.figures.get(figure, np.array([]))).any()]


def rows(table: Replay) -> list[Policy]:
    """The policies that have any figure."""
    return [policy for policy in table.policies if shown(policy)]


def headline(table: Replay) -> str:
    """What a table is about, in one line."""
    unit = "regret divided by that of one random model" if table.is_relative else "regret and width in points"
    return f"{table.name}: {table.n_models} models, {len(table.targets)} targets; {unit}"


def table_markdown(table: Replay) -> str:
    """The figures of a table, with 95% intervals of regret at the first try and of the agreement."""
    figures = [figure for figure in TITLES if any(figure in shown(policy) for policy in table.policies)]
    lines = [
        "| policy | " + " | ".join(TITLES[figure] for figure in figures) + " |",
        "| --- |" + " --- |" * len(figures),
    ]
    for policy in rows(table):
        cells = [cell(policy, figure) if figure in shown(policy) else "" for figure in figures]
        lines.append(f"| {policy.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(policy: Policy, figure: str) -> str:
    """A mean as text, with its interval where that matters most."""
    mean = policy.summary(figure)
    digits = 1 if figure in ("images", "tries", "seconds", "width") else 2
    text = f"{float(mean.mean):.{digits}f}"
    if figure in ("regret@1", "weighted_tau", "coverage") and math.isfinite(float(mean.low)):
        text += f" ({float(mean.low):.{digits}f}..{float(mean.high):.{digits}f})"
    return text


def _table_dict(table: Replay) -> dict[str, Any]:
    return {
        "name": table.name,
        "targets": list(table.targets),
        "models": table.n_models,
        "regret": "relative" if table.is_relative else "points",
        "policies": [
            {
                "name": policy.name,
                "figures": {
                    figure: {
                        **{part: _plain(getattr(policy.summary(figure), part)) for part in ("mean", "low", "high")},
                        "per_target": [_plain(value) for value in policy.figures[figure]],
                    }
                    for figure in shown(policy)
                },
            }
            for policy in table.policies
        ],
    }


def _plain(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class _Options:
    """How models are measured on tasks; see `evaluate_search`."""

    where: str | None
    space: str | None
    images: int
    repeats: int
    device: str
    batch_size: int | None
    models: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images < 10 or self.repeats < 1:
            raise UsageError(
                f"a replay needs at least 10 images and one repeat, not {self.images} and {self.repeats}",
                "400 and 3 are usual",
            )


def evaluate_search(
    path: Path | None,
    tasks: str | Sequence[str] | None = None,
    oracles: str | Oracle | Sequence[str | Oracle] | None = None,
    *,
    where: str | None = None,
    space: str | None = None,
    images: int = IMAGES,
    repeats: int = REPEATS,
    device: str = "auto",
    batch_size: int | None = None,
    models: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SearchReport:
    """See `modelspace.workspace.ModelSpace.evaluate_search`; without a path, on oracles alone."""
    options = _Options(where, space, images, repeats, device, batch_size, dict(models or {}))
    asked = _listed(oracles) if oracles is not None or tasks is not None else [ALL]
    tables, notes = _replayed(asked)
    if tasks is not None:
        if path is None:
            raise UsageError("tasks need a registry", "open a registry, and ask it")
        more, further = _on_tasks(path, _with_data(path, _listed(tasks)), options, progress)
        tables, notes = [*more, *tables], [*further, *notes]
    elif path is not None and oracles is None:
        notes += _not_replayed(path)
    notes.append("means over targets; intervals are 95% bootstraps over targets, and say nothing of other kinds")
    return SearchReport(tuple(tables), tuple(notes))


def _listed(names: Any) -> list[Any]:
    if names is None:
        return []
    return [names] if isinstance(names, str | Oracle) else list(names)


# --- oracles


def distinct() -> list[str]:
    """Names of the oracles that don't repeat another one's measurements; published tables come last."""
    return [*_SHIPPED, *_published()]


def _published() -> list[str]:
    return [table.name for table in published.tables().values() if not table.part_of and not table.repeats]


def _replayed(asked: Sequence[str | Oracle]) -> tuple[list[Replay], list[str]]:
    every: list[str | Oracle] = []
    for each in asked:
        every += distinct() if each == ALL else _published() if each == PUBLISHED else [each]
    tables, notes = [], []
    for each in dict.fromkeys(every) if all(isinstance(entry, str) for entry in every) else every:
        oracle = each if isinstance(each, Oracle) else evaluation.load(each)
        tables.append(of_oracle(oracle))
        few = int((np.isfinite(oracle.truth()).sum(axis=1) < 3).sum())
        if few:
            notes.append(f"{oracle.name}: {few} targets have fewer than three models and are left out")
    if tables:
        notes.append("oracles: a model that was trained for a target, by its name or the table's mark, never counts")
    return tables, notes


def of_oracle(oracle: Oracle) -> Replay:
    """The replay of tries on an oracle."""
    if oracle.is_accuracy:
        return replay_outcomes(oracle.name, oracle.targets, oracle.truth(), Unit.of("accuracy", True, oracle.score))
    return replay_outcomes(oracle.name, oracle.targets, oracle.gain())


# --- tasks


def _with_data(path: Path, names: Sequence[str]) -> list[str]:
    """The tasks by name; "all" stands for those that have data."""
    with Registry.open(path) as registry:
        if ALL not in names:
            return [outcomes.task(registry, name).name for name in dict.fromkeys(names)]
        names = [row.name for row in outcomes.tasks(registry) if row.location]
    if not names:
        raise UsageError(
            "the registry has no task with data", "register one with its images: `space.add_task('name', 'folder')`"
        )
    return names


def _not_replayed(path: Path) -> list[str]:
    if not path.exists():
        return []
    with Registry.open(path) as registry:
        count = sum(bool(row.location) for row in outcomes.tasks(registry))
    return [f"{count} tasks of the registry have data; replay them too with `tasks='all'`"] if count else []


def _on_tasks(
    path: Path, names: Sequence[str], options: _Options, progress: Callable[[int, int], None] | None
) -> tuple[list[Replay], list[str]]:
    measured, notes = [], []
    # Models and the effective ranks of their kernels are the same for every task.
    known = knowledge(path, names[0], options.where, options.space)
    ranks = known.ranks if np.isfinite(known.ranks).any() else None
    with Registry.open(path) as registry:
        rows = [outcomes.task(registry, name) for name in names]
    for number, row in enumerate(rows):
        report = None if progress is None else partial(_report, progress, number, len(names))
        entry, further = _measure(row, known, options, report)
        measured.append(entry)
        notes += further
    if progress is not None:
        progress(1, 1)
    tables = [replay_measured(measured, ranks)]
    if len(measured) > 1:
        is_share = all(entry.task.unit.is_share for entry in measured)
        unit = Unit(True, 100.0, 1.0) if is_share else None
        tables.append(replay_outcomes("outcomes of the tasks", names, truths(measured), unit))
    else:
        notes.append("one task alone has no other tasks to learn from: give more for the policies that know some")
    if ranks is None:
        notes.append("no kernels are stored, so there is no order by effective rank: add models to a space of kernels")
    notes.append(
        f"{len(names)} tasks, at most {options.images} training and test images, {options.repeats} orders in which "
        "training images are spent; truth is a ridge readout on the test images; a model whose task has the name of "
        "the target is left out, others by a condition on the models alone"
    )
    return tables, notes


def _report(progress: Callable[[int, int], None], number: int, count: int, done: int, total: int, _: str) -> None:
    progress(number * total + done, count * total)


def _measure(
    row: TaskRow, known: Knowledge, options: _Options, on_model: Callable[[int, int, str], None] | None
) -> tuple[Measured, list[str]]:
    """All models measured on a task, and what to note of that."""
    bench = Bench(
        row,
        first=ROUNDS[0],
        most=options.images,
        device=options.device,
        batch_size=options.batch_size,
        models=options.models,
        needs_metric=False,
    )
    task, test = labelled(bench, options.repeats)
    cards = {model.card.name: model.card for model in known.models}
    own = {name for name, card in cards.items() if card.task == row.name}
    seconds: dict[str, float] = {}

    def features(name: str) -> tuple[Any, Any]:
        table = _timed(bench, cards[name], [*bench.split.train, *test], seconds)
        return table[: bench.n_train], table[bench.n_train :]

    names = LABEL_SCORES if task.train.dtype.kind in "iub" else None
    entry = measure(task, list(cards), features, names=names, forward_seconds=seconds, own=own, on_model=on_model)
    return entry, _task_notes(row, task, entry, own, bench.n_test - len(test))


def labelled(bench: Bench, repeats: int) -> tuple[Labelled, list[int]]:
    """A task's labels for a replay, and the numbers of the test images that count: of classes with a training image."""
    train, test = bench.labels[list(bench.split.train)], list(bench.split.test)
    metric = bench.task.metric
    if bench.images.classes:
        metric = metric if metric in SHARES else "accuracy"
        classes, train = np.unique(train, return_inverse=True)
        test = [number for number in test if bench.labels[number] in classes]
        asked: NDArray[Any] = np.searchsorted(classes, bench.labels[test])
    else:
        metric, asked = "r2", np.asarray(bench.labels[test])
    orders = spent(train, bool(bench.images.classes), repeats, bench.task.seed)
    unit = Unit(metric in SHARES, 1.0, 1.0)
    return Labelled(bench.task.name, train, asked, orders, partial(measuring.measured, metric), unit), test


def spent(labels: NDArray[Any], are_classes: bool, repeats: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Orders in which training images are spent: the given one, then some of other seeds.

    Args:
        labels: (n,) of the training images, in the task's own order.
        are_classes: whether orders are balanced over labels.
        repeats: number of orders.
        seed: of the task.
    """
    orders = [tuple(range(len(labels)))]
    for repeat in range(1, repeats):
        shuffled = np.random.default_rng([seed, repeat]).permutation(len(labels))
        groups = [shuffled]
        if are_classes:
            kinds = dict.fromkeys(labels[shuffled].tolist())
            groups = [shuffled[labels[shuffled] == kind] for kind in kinds]
        orders.append(tuple(spending_order([group.tolist() for group in groups], ROUNDS[0])))
    return tuple(orders)


def _timed(bench: Bench, card: ModelCard, numbers: Sequence[int], seconds: dict[str, float]) -> NDArray[np.float64]:
    """Features of some images; the time per image is noted if none of them was cached."""
    extracted = 0

    def count(done: int, total: int) -> None:
        nonlocal extracted
        extracted = total

    bench.on_images = count
    start = time.perf_counter()
    table = bench.features(card, numbers)
    if extracted == len(numbers):
        seconds[card.name] = (time.perf_counter() - start) / len(numbers)
    return table


def _task_notes(row: TaskRow, task: Labelled, entry: Measured, own: set[str], left: int) -> list[str]:
    name, notes = row.name, []
    if own:
        notes.append(f"{name}: left out, since trained for it: {', '.join(sorted(own))}")
    if entry.failures:
        notes.append(f"{name}: left out, since they failed: {', '.join(entry.failures)}")
    if left:
        notes.append(f"{name}: {left} test images are of classes without a training image, and don't count")
    counted = np.isfinite(entry.truth)
    if not np.isfinite(entry.forward_seconds[counted]).all():
        notes.append(f"{name}: features of earlier runs were used, so seconds are not known")
    if row.metric not in SHARES:
        kind = "accuracy" if task.unit.is_share else "r2"
        notes.append(f"{name}: models are compared by {kind}, in points, instead of {row.metric}")
    return notes
