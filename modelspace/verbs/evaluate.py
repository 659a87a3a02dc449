"""The verb `evaluate`: how far the affinities of a registry's spaces agree with measured transfer.

Evaluated on the same pairs: spaces, the caller's matrices, the stored feature similarities of the shipped zoo, and
baselines that need no model (`modelspace.evaluation`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from modelspace import evaluation
from modelspace.deprecated import renamed
from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.evaluation import Cost, Evaluation, Oracle, splits, stored
from modelspace.evaluation.comparison import CORRELATIONS, CURVES, MEAN_RANK, POPULARITY, cell, plain
from modelspace.evaluation.names import match
from modelspace.evaluation.rankings import Array
from modelspace.evaluation.retrieval import Retrieval, same_task
from modelspace.evaluation.stored import StoredBaselines
from modelspace.registry import ModelRow, Registry, SpaceRow
from modelspace.spaces.kinds import Passes, space_of
from modelspace.spaces.neighbours import score_matrix
from modelspace.spaces.ranking import Ranking

ORACLE = "rooms"
#: Stands for all spaces of a registry.
ALL = "all"

Table = tuple[Sequence[str], ArrayLike]
COLUMNS = ("method", "figure", "k", "mean", "low", "high")


@dataclass(frozen=True)
class EvaluationReport(Evaluation):
    """An `Evaluation` with notes for the reader.

    Attributes:
        notes: about the table: which baselines are missing and why, where the times come from, which models the oracle
            has and the registry lacks.
        retrieval: method to how well it retrieves models of the same task among all of the registry's; empty if no two
            models share a task.
    """

    notes: tuple[str, ...] = ()
    retrieval: Mapping[str, Retrieval] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON types."""
        retrieval = {method: asdict(figures) for method, figures in self.retrieval.items()}
        return {**super().to_dict(), "notes": list(self.notes), "same_task": plain(retrieval)}

    def to_markdown(self, ks: Sequence[int] = (1, 3, 5)) -> str:
        """The table of `Evaluation.to_markdown`, a table of same-task retrieval, and the notes."""
        text = super().to_markdown(ks)
        if self.retrieval:
            lines = ["", "| method | same task first | average precision |", "| --- | --- | --- |"]
            for method, figures in self.retrieval.items():
                lines.append(f"| {method} | {cell(figures.first)} | {cell(figures.average_precision)} |")
            chance = next(iter(self.retrieval.values()))
            lines.append(f"| random | {chance.random_first:.2f} | {chance.random_average_precision:.2f} |")
            text += "\n".join(lines) + "\n\n"
        return text + "".join(f"- {note}\n" for note in self.notes)

    def to_rows(self) -> list[tuple[str, str, int | None, float, float | None, float | None]]:
        """One row per figure, with the columns `COLUMNS`; k is None for a figure without one."""
        return list(self._rows())

    def _rows(self) -> Iterator[tuple[str, str, int | None, float, float | None, float | None]]:
        for row in self.rows:
            for figure in CORRELATIONS:
                interval = row.summary[figure]
                yield row.method, figure, None, float(interval.mean), float(interval.low), float(interval.high)
            for figure in CURVES:
                curve = row.summary[figure]
                for i, k in enumerate(self.ks):
                    yield row.method, figure, k, float(curve.mean[i]), float(curve.low[i]), float(curve.high[i])
            if row.method in self.retrieval:
                tasks = self.retrieval[row.method]
                for figure, interval in (
                    ("same_task_first", tasks.first),
                    ("same_task_precision", tasks.average_precision),
                ):
                    yield row.method, figure, None, float(interval.mean), float(interval.low), float(interval.high)
            if row.cost is not None:
                for figure, value in vars(row.cost).items():
                    if value and not math.isnan(value):
                        yield row.method, figure, None, float(value), None, None


@dataclass(frozen=True)
class _RankedSpace:
    """A space with a ranking.

    Attributes:
        row: the space.
        label: its name in the table.
        table: names and scores, row = target, of the models to evaluate.
        known: the models of `table` that the oracle has too, by name.
        cards: all models of `table`, by name.
    """

    row: SpaceRow
    label: str
    table: tuple[tuple[str, ...], Array]
    known: dict[str, ModelRow]
    cards: dict[str, ModelRow]

    @property
    def tasks(self) -> dict[str, str | None]:
        return {name: model.card.task for name, model in self.cards.items()}


def evaluate(
    path: Path | None,
    *,
    oracle: str | Path | Oracle = ORACLE,
    space: str | Sequence[str] | None = None,
    matrices: Mapping[str, Table] | None = None,
    where: str | None = None,
    with_self: bool = False,
    baselines: StoredBaselines | None = None,
    targets: str | Sequence[str] | None = None,
    hubs: str | None = None,
    rerank: str | None = None,
) -> EvaluationReport:
    """Evaluate spaces and matrices against an oracle.

    Args:
        path: of the registry; None to evaluate the matrices alone.
        oracle: one of `evaluation.available()`, the path of a CSV file (`evaluation.load`), or an oracle.
        space: one name or several; "all" for every space; default: the registry's default space.
        matrices: name to (names (n,), matrix (n, n)): row = target, column = source, higher = nearer.
        where: SQL condition on the table `models`.
        with_self: count a model's pair with itself, as some published figures do; it is no prediction.
        baselines: feature similarities; default: those of the package. They are evaluated only if they were computed
            with the weights and layers of all evaluated models; otherwise a note says why not.
        targets: report only these: names, or "chosen" or "kept", the splits of `modelspace.evaluation.splits`.
        hubs: evaluate the spaces with this hubness correction instead of their default; as in `ModelSpace.nearest`.
        rerank: evaluate the spaces with this re-ranking instead of their default; as in `ModelSpace.nearest`.

    Raises:
        NotFoundError: no such oracle, space or registry; the hint says how the oracle is measured.
        UsageError: the oracle and the registry have too few models in common, or the arguments don't fit together.
        ConflictError: two methods have the same name.
    """
    truth = oracle if isinstance(oracle, Oracle) else evaluation.load(oracle)
    methods: dict[str, Table] = {}
    costs: dict[str, Cost] = {}
    retrieval: dict[str, Retrieval] = {}
    notes: list[str] = []
    everything = tuple(dict.fromkeys((*truth.targets, *truth.sources)))
    if path is None:
        if where is not None or space is not None or not matrices:
            raise UsageError("a condition or a space needs a registry, and none is given", "name a space with `space=`")
    else:
        spaces = _spaces(path, space, where, everything, hubs, rerank)
        _put(methods, {entry.label: entry.table for entry in spaces})
        for entry in spaces:
            retrieval |= _retrieval({entry.label: entry.table}, entry.tasks)
        similarities, problem = _baselines(spaces, baselines)
        if problem:
            notes.append(problem)
        same_run = _costs(costs, spaces, similarities, notes)
    _put(methods, matrices or {})
    evaluated = tuple(methods)
    if path is not None and similarities is not None:
        names = tuple(spaces[0].known)
        _put(methods, similarities.subset(names))
        retrieval |= _retrieval(_all_baselines(spaces[0], similarities), spaces[0].tasks)
        if set(names) == set(similarities.timed):
            costs |= similarities.costs
            if same_run:
                notes.append(
                    "seconds: processor time on one thread, from images to all affinities, spaces and similarities in "
                    "one run"
                )
        images = (similarities.probe_id, similarities.n_images)
        same_images = all((entry.row.spec.probe_id, entry.row.spec.n_images) == images for entry in spaces)
        notes.append(
            f"similarities are of the encoders' outputs T on {similarities.n_images} probe images"
            f"{'' if same_images else ', not those of every space'}; {similarities.features}"
        )
    outcome = evaluation.evaluate(methods, truth, with_self=with_self, costs=costs)
    if missing := [name for name in everything if name not in {*outcome.targets, *outcome.sources}]:
        notes.append(f"oracle {truth.name} also has {', '.join(missing)}, which the registry or a matrix lacks")
    if targets is not None:
        outcome = outcome.over(splits.select(outcome.targets, targets))
    notes += [_gap(outcome, method) for method in evaluated]
    if retrieval:
        figures = next(iter(retrieval.values()))
        notes.append(
            f"same task: {figures.queries} queries, models that share their task with another, among "
            f"{len(spaces[0].tasks)}; a random order has {figures.random_first:.2f} first, average precision "
            f"{figures.random_average_precision:.2f}"
        )
    return EvaluationReport(**vars(outcome), notes=tuple(notes), retrieval=retrieval)


def read_matrices(files: Sequence[str | Path], names: str | Path | None = None) -> dict[str, Table]:
    """Matrices by the stems of their files; see `evaluation.read_affinity`.

    Args:
        files: CSV or `.npy` files.
        names: file with the names of the models, for a single `.npy` file.

    Raises:
        UsageError: names are given, but not exactly one file.
        ConflictError: two files have the same stem.
    """
    if names is not None and len(files) != 1:
        raise UsageError(
            f"names are given for one matrix, but there are {len(files)}", "put NAME.txt next to each NAME.npy"
        )
    matrices: dict[str, Table] = {}
    for file in files:
        _put(matrices, {Path(file).stem: evaluation.read_affinity(file, names)})
    return matrices


def _put(methods: dict[str, Table], more: Mapping[str, Table]) -> None:
    if duplicate := next((name for name in more if name in methods), None):
        raise ConflictError(f"two methods are called {duplicate}", "rename the file of the matrix, or leave one out")
    methods.update(more)


def _spaces(
    path: Path,
    spaces: str | Sequence[str] | None,
    where: str | None,
    oracle: Sequence[str],
    hub_correction: str | None,
    rerank: str | None,
) -> list[_RankedSpace]:
    """The spaces to evaluate, all on the same models of the oracle: those that are in every space."""
    with Registry.open(path) as registry:
        requested: list[str | None] = [spaces] if spaces is None or isinstance(spaces, str) else list(spaces)
        rows = registry.spaces() if ALL in requested else [registry.space(name) for name in dict.fromkeys(requested)]
        models = {model.model_id: model for model in registry.models(where)}
        entries = []
        for row in rows:
            ranking = Ranking.of(row.spec, hub_correction, rerank)
            ids, matrix = score_matrix(registry, row.spec, set(models), ranking)
            names = tuple(models[i].card.name for i in ids)
            known = {name for name in match(oracle, names) if name is not None}
            label = row.spec.name if ranking == Ranking.of(row.spec) else f"{row.spec.name}, {ranking.settings}"
            entries.append((row, label, (names, matrix), {models[i].card.name: models[i] for i in ids}, known))
    shared = set.intersection(*(known for *_, known in entries)) if entries else set()
    return [
        _RankedSpace(
            row,
            label.removesuffix(", "),
            table,
            {name: model for name, model in cards.items() if name in shared},
            cards,
        )
        for row, label, table, cards, _ in entries
    ]


def _retrieval(
    tables: Mapping[str, tuple[tuple[str, ...], Array]], tasks: Mapping[str, str | None]
) -> dict[str, Retrieval]:
    retrieval = {
        method: same_task(matrix, [tasks[name] for name in names]) for method, (names, matrix) in tables.items()
    }
    return {method: figures for method, figures in retrieval.items() if figures is not None}


def _all_baselines(space: _RankedSpace, baselines: StoredBaselines) -> dict[str, tuple[tuple[str, ...], Array]]:
    """The similarities of all models of a space, if they are stored for all of them; else none."""
    models = {name: (model.card.weights_sha256, model.card.layer) for name, model in space.cards.items()}
    return {} if baselines.unknown(models) else baselines.subset(space.table[0])


def _baselines(spaces: Sequence[_RankedSpace], baselines: StoredBaselines | None) -> tuple[StoredBaselines | None, str]:
    """The feature similarities if they apply to every model, else why they are left out."""
    left_out = "SVCCA, linear CKA, RSA and DDS are left out"
    if baselines is None:
        try:
            baselines = stored.load()
        except NotFoundError as error:
            return None, f"{left_out}: {error.message} ({error.hint})"
    models = {name: (model.card.weights_sha256, model.card.layer) for name, model in spaces[0].known.items()}
    if others := baselines.unknown(models):
        names = f"{', '.join(others[:5])}{' and others' if len(others) > 5 else ''}"
        return None, (
            f"{left_out}: those stored with the package are of other networks than {names}, by name, weights or layer"
        )
    return baselines, ""


def _costs(
    costs: dict[str, Cost], spaces: Sequence[_RankedSpace], baselines: StoredBaselines | None, notes: list[str]
) -> bool:
    """The cost of each space: from the run that timed the similarities if it was part of it, else recorded by `add`."""
    recorded = []
    for entry in spaces:
        spec = entry.row.spec
        timed = baselines is not None and set(entry.known) == set(baselines.timed)
        if baselines is not None and timed and spec.space_id in baselines.space_costs:
            costs[entry.label] = baselines.space_costs[spec.space_id]
            continue
        n_inputs = spec.n_images * len(entry.known)
        passes = space_of(spec).passes or Passes(0, 0)
        seconds = sum(model.card.seconds for model in entry.known.values())
        costs[entry.label] = Cost(seconds, n_inputs * passes.forward, n_inputs * passes.backward)
        recorded.append(entry.label)
    if recorded:
        notes.append(
            f"seconds of {', '.join(recorded)}: as recorded when the models were added, in a pass that fills all "
            "spaces at once; not comparable with times of another run"
        )
    return len(recorded) < len(spaces)


def _gap(outcome: Evaluation, method: str) -> str:
    """The paired difference to the baselines that use no model."""
    k = min(5, len(outcome.ks))
    gaps = (
        (f"{POPULARITY} in P@{k}", outcome.difference(method, POPULARITY, "precision", k)),
        (f"{MEAN_RANK} in Spearman", outcome.difference(method, MEAN_RANK, "spearman")),
    )
    differences = [
        f"{baseline} {_signed(gap.mean)} [{_signed(gap.low)}, {_signed(gap.high)}]" for baseline, gap in gaps
    ]
    return f"{method} minus {' and minus '.join(differences)}"


def _signed(value: Any) -> str:
    # Adding zero turns the -0.00 of a rounded tiny loss into +0.00.
    return f"{round(float(value), 2) + 0.0:+.2f}"


__getattr__ = renamed(__name__, {"Judged": "EvaluationReport"})
