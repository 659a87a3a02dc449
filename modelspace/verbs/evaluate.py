"""The verb `evaluate`: how far the affinities of a registry's spaces agree with measured transfer.

What is judged: spaces, matrices of the caller's own, and the stored feature similarities of the shipped zoo, all on the
same pairs and beside what needs no model at all (`modelspace.evaluation`).
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
#: What stands for all spaces of a registry.
ALL = "all"

Table = tuple[Sequence[str], ArrayLike]
COLUMNS = ("method", "figure", "k", "mean", "low", "high")


@dataclass(frozen=True)
class EvaluationReport(Evaluation):
    """An `Evaluation` with remarks for a person.

    Attributes:
        notes: what is to be known of the table: which baselines are missing and why, where the times come from, what the
            oracle knows and the registry has not.
        retrieval: method to how well it finds models of the same task among all of the registry's; empty where no two models
            share a task.
    """

    notes: tuple[str, ...] = ()
    retrieval: Mapping[str, Retrieval] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        found = {method: asdict(one) for method, one in self.retrieval.items()}
        return {**super().to_dict(), "notes": list(self.notes), "same_task": plain(found)}

    def to_markdown(self, ks: Sequence[int] = (1, 3, 5)) -> str:
        """The table of `Evaluation.to_markdown` and that of the same task, with the remarks below."""
        text = super().to_markdown(ks)
        if self.retrieval:
            lines = ["", "| method | same task first | average precision |", "| --- | --- | --- |"]
            for method, one in self.retrieval.items():
                lines.append(f"| {method} | {cell(one.first)} | {cell(one.average_precision)} |")
            chance = next(iter(self.retrieval.values()))
            lines.append(f"| random | {chance.random_first:.2f} | {chance.random_average_precision:.2f} |")
            text += "\n".join(lines) + "\n\n"
        return text + "".join(f"- {note}\n" for note in self.notes)

    def to_rows(self) -> list[tuple[str, str, int | None, float, float | None, float | None]]:
        """One row per figure, with the columns `COLUMNS`; k is None where a figure has none."""
        return list(self._rows())

    def _rows(self) -> Iterator[tuple[str, str, int | None, float, float | None, float | None]]:
        for row in self.rows:
            for figure in CORRELATIONS:
                one = row.summary[figure]
                yield row.method, figure, None, float(one.mean), float(one.low), float(one.high)
            for figure in CURVES:
                curve = row.summary[figure]
                for i, k in enumerate(self.ks):
                    yield row.method, figure, k, float(curve.mean[i]), float(curve.low[i]), float(curve.high[i])
            if row.method in self.retrieval:
                found = self.retrieval[row.method]
                for figure, one in (("same_task_first", found.first), ("same_task_precision", found.average_precision)):
                    yield row.method, figure, None, float(one.mean), float(one.low), float(one.high)
            if row.cost is not None:
                for figure, value in vars(row.cost).items():
                    if value and not math.isnan(value):
                        yield row.method, figure, None, float(value), None, None


@dataclass(frozen=True)
class _Judgeable:
    """A space and a way of ranking.

    Attributes:
        row: the space.
        label: what it is called in the table.
        table: names and scores, row = target, of the models to judge.
        known: the cards of those that the oracle knows too.
        cards: of all models of `table`, by name.
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
    """Judge spaces and matrices against an oracle.

    Args:
        path: of the registry; None to judge the matrices alone.
        oracle: one of `evaluation.available()`, the path of a CSV file (`evaluation.load`), or an oracle.
        space: one name or several; "all" for every space; default: the registry's default space.
        matrices: name to (names (n,), matrix (n, n)): row = target, column = source, higher = nearer.
        where: SQL condition on the table `models`.
        with_self: count a model's pair with itself, as some published figures do; it is no prediction.
        baselines: feature similarities; default: those that come with the package. They are judged only if they hold for
            the weights and layers of all models that are judged; a remark says so if not.
        targets: report these alone: names, or "chosen" or "kept", the halves of `modelspace.evaluation.splits`.
        hubs, rerank: judge the spaces with this correction or re-ranking in place of their own; as in
            `ModelSpace.nearest`.

    Raises:
        NotFoundError: no such oracle, space or registry; the hint says how the oracle is measured.
        UsageError: the oracle and the registry have too few models in common, or the words don't fit together.
        ConflictError: two methods have one name.
    """
    truth = oracle if isinstance(oracle, Oracle) else evaluation.load(oracle)
    methods: dict[str, Table] = {}
    costs: dict[str, Cost] = {}
    retrieval: dict[str, Retrieval] = {}
    notes: list[str] = []
    everything = tuple(dict.fromkeys((*truth.targets, *truth.sources)))
    if path is None:
        if where is not None or space is not None or not matrices:
            raise UsageError("a condition or a space is of a registry, and none is given", "name a space with `space=`")
    else:
        spaces = _spaces(path, space, where, everything, hubs, rerank)
        _put(methods, {one.label: one.table for one in spaces})
        for judged in spaces:
            retrieval |= _retrieval({judged.label: judged.table}, judged.tasks)
        beside, problem = _baselines(spaces, baselines)
        if problem:
            notes.append(problem)
        same_run = _costs(costs, spaces, beside, notes)
    _put(methods, matrices or {})
    ours = tuple(methods)
    if path is not None and beside is not None:
        names = tuple(spaces[0].known)
        _put(methods, beside.subset(names))
        retrieval |= _retrieval(_all_baselines(spaces[0], beside), spaces[0].tasks)
        if set(names) == set(beside.timed):
            costs |= beside.costs
            if same_run:
                notes.append(
                    "seconds: processor time on one thread, from images to all affinities, spaces and similarities in one run"
                )
        same_images = all(
            (one.row.spec.probe_id, one.row.spec.n_images) == (beside.probe_id, beside.n_images) for one in spaces
        )
        notes.append(
            f"similarities are of the encoders' outputs T on {beside.n_images} probe images"
            f"{'' if same_images else ', not those of every space'}; {beside.features}"
        )
    outcome = evaluation.evaluate(methods, truth, with_self=with_self, costs=costs)
    if missing := [name for name in everything if name not in {*outcome.targets, *outcome.sources}]:
        notes.append(f"oracle {truth.name} also has {', '.join(missing)}, which the registry or a matrix lacks")
    if targets is not None:
        outcome = outcome.over(splits.select(outcome.targets, targets))
    notes += [_gap(outcome, method) for method in ours]
    if retrieval:
        one = next(iter(retrieval.values()))
        notes.append(
            f"same task: {one.queries} models that share their task with another are asked for it among "
            f"{len(spaces[0].tasks)}; a random order has {one.random_first:.2f} first, average precision "
            f"{one.random_average_precision:.2f}"
        )
    return EvaluationReport(**vars(outcome), notes=tuple(notes), retrieval=retrieval)


def read_matrices(files: Sequence[str | Path], names: str | Path | None = None) -> dict[str, Table]:
    """Matrices by the stems of their files; see `evaluation.read_affinity`.

    Args:
        files: CSV or `.npy` files.
        names: file with the names of the models, for a single `.npy` file.

    Raises:
        UsageError: names are given, but not one file.
        ConflictError: two files have one stem.
    """
    if names is not None and len(files) != 1:
        raise UsageError(
            f"names are given for one matrix, and there are {len(files)}", "put NAME.txt beside each NAME.npy"
        )
    found: dict[str, Table] = {}
    for file in files:
        _put(found, {Path(file).stem: evaluation.read_affinity(file, names)})
    return found


def _put(methods: dict[str, Table], more: Mapping[str, Table]) -> None:
    if taken := next((name for name in more if name in methods), None):
        raise ConflictError(f"two methods are called {taken}", "rename the file of the matrix, or leave one out")
    methods.update(more)


def _spaces(
    path: Path,
    wanted: str | Sequence[str] | None,
    where: str | None,
    oracle: Sequence[str],
    hub_correction: str | None,
    rerank: str | None,
) -> list[_Judgeable]:
    """The spaces to judge, each with the same models known to the oracle: those that all of them have."""
    with Registry.open(path) as registry:
        asked: list[str | None] = [wanted] if wanted is None or isinstance(wanted, str) else list(wanted)
        rows = registry.spaces() if ALL in asked else [registry.space(name) for name in dict.fromkeys(asked)]
        models = {model.model_id: model for model in registry.models(where)}
        found = []
        for row in rows:
            ranking = Ranking.of(row.spec, hub_correction, rerank)
            ids, matrix = score_matrix(registry, row.spec, set(models), ranking)
            names = tuple(models[i].card.name for i in ids)
            known = {name for name in match(oracle, names) if name is not None}
            label = row.spec.name if ranking == Ranking.of(row.spec) else f"{row.spec.name}, {ranking.settings}"
            found.append((row, label, (names, matrix), {models[i].card.name: models[i] for i in ids}, known))
    shared = set.intersection(*(known for *_, known in found)) if found else set()
    return [
        _Judgeable(
            row,
            label.removesuffix(", "),
            table,
            {name: model for name, model in cards.items() if name in shared},
            cards,
        )
        for row, label, table, cards, _ in found
    ]


def _retrieval(
    tables: Mapping[str, tuple[tuple[str, ...], Array]], tasks: Mapping[str, str | None]
) -> dict[str, Retrieval]:
    found = {method: same_task(matrix, [tasks[name] for name in names]) for method, (names, matrix) in tables.items()}
    return {method: one for method, one in found.items() if one is not None}


def _all_baselines(space: _Judgeable, given: StoredBaselines) -> dict[str, tuple[tuple[str, ...], Array]]:
    """The similarities of all models of a space, if they are stored for all of them; else none."""
    models = {name: (model.card.weights_sha256, model.card.layer) for name, model in space.cards.items()}
    return {} if given.unknown(models) else given.subset(space.table[0])


def _baselines(spaces: Sequence[_Judgeable], given: StoredBaselines | None) -> tuple[StoredBaselines | None, str]:
    """The feature similarities if they hold for every model, else why they are left out."""
    left_out = "SVCCA, linear CKA, RSA and DDS are left out"
    if given is None:
        try:
            given = stored.load()
        except NotFoundError as error:
            return None, f"{left_out}: {error.message} ({error.hint})"
    models = {name: (model.card.weights_sha256, model.card.layer) for name, model in spaces[0].known.items()}
    if others := given.unknown(models):
        named = f"{', '.join(others[:5])}{' and others' if len(others) > 5 else ''}"
        return None, (
            f"{left_out}: those stored with the package are of other networks than {named}, by name, weights or layer"
        )
    return given, ""


def _costs(
    costs: dict[str, Cost], spaces: Sequence[_Judgeable], beside: StoredBaselines | None, notes: list[str]
) -> bool:
    """What each space took, from the run that timed the similarities where it was in it, else as recorded by `add`."""
    recorded = []
    for one in spaces:
        spec = one.row.spec
        if beside is not None and spec.space_id in beside.space_costs and set(one.known) == set(beside.timed):
            costs[one.label] = beside.space_costs[spec.space_id]
            continue
        passes = spec.n_images * len(one.known)
        each = space_of(spec).passes or Passes(0, 0)
        seconds = sum(model.card.seconds for model in one.known.values())
        costs[one.label] = Cost(seconds, passes * each.forward, passes * each.backward)
        recorded.append(one.label)
    if recorded:
        notes.append(
            f"seconds of {', '.join(recorded)}: as recorded when the models were added, a pass that fills all spaces at "
            "once; not comparable with times of another run"
        )
    return len(recorded) < len(spaces)


def _gap(outcome: Evaluation, method: str) -> str:
    """The paired difference to the baselines that know no model."""
    k = min(5, len(outcome.ks))
    gaps = (
        (f"{POPULARITY} in P@{k}", outcome.difference(method, POPULARITY, "precision", k)),
        (f"{MEAN_RANK} in Spearman", outcome.difference(method, MEAN_RANK, "spearman")),
    )
    words = [f"{what} {_signed(gap.mean)} [{_signed(gap.low)}, {_signed(gap.high)}]" for what, gap in gaps]
    return f"{method} minus {' and minus '.join(words)}"


def _signed(value: Any) -> str:
    # Adding zero turns the -0.00 of a rounded tiny loss into +0.00.
    return f"{round(float(value), 2) + 0.0:+.2f}"


__getattr__ = renamed(__name__, {"Judged": "EvaluationReport"})
