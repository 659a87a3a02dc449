"""The verb `evaluate`: how well the rankings of a registry's spaces agree with measured transfer.

Evaluates spaces, the caller's own matrices, and the stored feature similarities of the shipped zoo, all on the same
pairs, and compares them with baselines that need no model (`modelspace.evaluation`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modelspace import evaluation
from modelspace.deprecated import renamed
from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.evaluation import Cost, Evaluation, Oracle, splits, stored
from modelspace.evaluation.comparison import CORRELATIONS, CURVES, cell, plain
from modelspace.evaluation.identity import Identified, identify
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

#: Most models of a space that are all scored; of more, those that the oracle has, and none else in `retrieval`.
MAX_SCORED = 2_000

Table = tuple[Sequence[str], ArrayLike]
COLUMNS = ("method", "figure", "k", "mean", "low", "high")


@dataclass(frozen=True)
class EvaluationReport(Evaluation):
    """An `Evaluation` with notes.

    Attributes:
        notes: what a reader of the table should know: which baselines are missing and why, where the times come from,
            which models of the oracle the registry lacks.
        retrieval: method to how well it finds models of the same task among all models of the registry; empty if no two
            models share a task.
    """

    notes: tuple[str, ...] = ()
    retrieval: Mapping[str, Retrieval] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All figures and notes, ready for JSON."""
        same_tasks = {method: asdict(result) for method, result in self.retrieval.items()}
        return {**super().to_dict(), "notes": list(self.notes), "same_task": plain(same_tasks)}

    def to_markdown(self, ks: Sequence[int] = (1, 3, 5)) -> str:
        """The table of `Evaluation.to_markdown` and the one of the same task, with the notes below."""
        text = super().to_markdown(ks)
        if self.retrieval:
            lines = ["", "| method | same task first | average precision |", "| --- | --- | --- |"]
            for method, result in self.retrieval.items():
                lines.append(f"| {method} | {cell(result.first)} | {cell(result.average_precision)} |")
            chance = next(iter(self.retrieval.values()))
            lines.append(f"| random | {chance.random_first:.2f} | {chance.random_average_precision:.2f} |")
            text += "\n".join(lines) + "\n\n"
        return text + "".join(f"- {note}\n" for note in self.notes)

    def to_rows(self) -> list[tuple[str, str, int | None, float, float | None, float | None]]:
        """One row per figure, with the columns `COLUMNS`; k is None for figures without one."""
        return list(self._rows())

    def _rows(self) -> Iterator[tuple[str, str, int | None, float, float | None, float | None]]:
        for row in self.rows:
            for figure in CORRELATIONS:
                mean = row.summary[figure]
                yield row.method, figure, None, float(mean.mean), float(mean.low), float(mean.high)
            for figure in CURVES:
                curve = row.summary[figure]
                for i, k in enumerate(self.ks):
                    yield row.method, figure, k, float(curve.mean[i]), float(curve.low[i]), float(curve.high[i])
            if row.method in self.retrieval:
                result = self.retrieval[row.method]
                for figure, mean in (
                    ("same_task_first", result.first),
                    ("same_task_precision", result.average_precision),
                ):
                    yield row.method, figure, None, float(mean.mean), float(mean.low), float(mean.high)
            if row.cost is not None:
                for figure, value in vars(row.cost).items():
                    if value and not math.isnan(value):
                        yield row.method, figure, None, float(value), None, None


@dataclass(frozen=True)
class _EvaluatedSpace:
    """A space, and the scores of its models under a ranking.

    Attributes:
        row: the space.
        label: its name in the table.
        table: names and scores, row = target, of its models.
        cards: the cards of all models of `table`, by name.
        identified: which of them the oracle measured.
        seconds: processor time that a ranking other than the space's own took for all pairs of these models, else 0.
        known: the cards of the models that the oracle and all evaluated spaces have, by their names in `measured`.
    """

    row: SpaceRow
    label: str
    table: tuple[tuple[str, ...], Array]
    cards: dict[str, ModelRow]
    identified: Identified
    seconds: float
    known: dict[str, ModelRow] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[tuple[str, ...], Array]:
        """The same table by the oracle's names where weights are known, without models that only have such a name."""
        names, matrix = self.table
        kept = [i for i, name in enumerate(names) if name not in self.identified.others]
        theirs = self.identified.oracle_names
        return tuple(theirs.get(names[i], names[i]) for i in kept), matrix[np.ix_(kept, kept)]

    @property
    def judged(self) -> dict[str, ModelRow]:
        """The cards of the models that the oracle measured, by their names in `measured`."""
        by_weights = {theirs: self.cards[mine] for mine, theirs in self.identified.oracle_names.items()}
        return by_weights | {name: self.cards[name] for name in self.identified.by_name}

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
        path: file of the registry; None to evaluate only matrices. Not used if the oracle has accuracies of models on
            data sets: spaces rank models.
        oracle: one of `evaluation.available()`, the path of a CSV file (`evaluation.load`), or an oracle.
        space: one name or several; "all" for every space; default: the registry's default space.
        matrices: name to (names (n,), matrix (n, n)): row = target, column = source, higher = nearer.
        where: SQL condition on the table `models`.
        with_self: count a model's pair with itself, as some published figures do, although it is not a prediction.
        baselines: feature similarities; default: those of the package. They are left out, with a note, unless they were
            measured with the weights and layers of all evaluated models.
        targets: report only these: names, or "chosen" or "kept", the two splits of `modelspace.evaluation.splits`.
        hubs: rank with this hub correction instead of the space's own, as in `ModelSpace.nearest`.
        rerank: rank with this re-ranking instead of the space's own, as in `ModelSpace.nearest`.

    Raises:
        NotFoundError: no such oracle, space or registry; the hint says how to measure the oracle.
        UsageError: the oracle and the registry share too few models, or the arguments contradict each other.
        ConflictError: two methods have the same name.
    """
    truth = oracle if isinstance(oracle, Oracle) else evaluation.load(oracle)
    methods: dict[str, Table] = {}
    costs: dict[str, Cost] = {}
    retrieval: dict[str, Retrieval] = {}
    notes: list[str] = []
    identity: list[str] = []
    everything = tuple(dict.fromkeys((*truth.targets, *truth.sources)))
    if truth.is_accuracy:
        # Targets are data sets, which no space has.
        if any(option is not None for option in (space, where, hubs, rerank)):
            raise UsageError(
                f"the targets of oracle {truth.name} are data sets, and spaces rank models",
                "evaluate without `space=`, `where=`, `hubs=` and `rerank=`; a matrix may have scores on data sets",
            )
        path = None
    elif path is None and (where is not None or space is not None or not matrices):
        raise UsageError("a condition or a space needs a registry, and none is given", "name a space with `space=`")
    if path is not None:
        spaces = _spaces(path, space, where, truth, hubs, rerank)
        identity = _identity_notes(spaces, truth)
        notes += identity
        _put(methods, {entry.label: entry.measured for entry in spaces})
        for entry in spaces:
            retrieval |= _retrieval({entry.label: entry.table}, entry.tasks)
        similarities, problem = _baselines(spaces, baselines)
        if problem:
            notes.append(problem)
        same_run = _costs(costs, spaces, similarities, notes)
    _put(methods, matrices or {})
    if matrices and truth.weights:
        notes.append(f"{', '.join(matrices)}: models are matched with the oracle's by name alone")
    own_methods = tuple(methods)
    if path is not None and similarities is not None:
        names = tuple(spaces[0].known)
        _put(methods, similarities.subset(names))
        retrieval |= _retrieval(_all_baselines(spaces[0], similarities), spaces[0].tasks)
        if set(names) == set(similarities.timed):
            costs |= similarities.costs
            if same_run:
                notes.append(
                    "seconds: processor time on one thread, from images to all affinities; all methods in one run"
                )
        same_images = all(
            (entry.row.spec.probe_id, entry.row.spec.n_images) == (similarities.probe_id, similarities.n_images)
            for entry in spaces
        )
        notes.append(
            f"similarities are of the encoders' outputs T on {similarities.n_images} probe images"
            f"{'' if same_images else ', not those of every space'}; {similarities.features}"
        )
    with _explained(identity):
        outcome = evaluation.evaluate(methods, truth, with_self=with_self, costs=costs)
    missing = [name for name in everything if name not in {*outcome.targets, *outcome.sources}]
    if missing and truth.is_accuracy:
        notes.append(f"not evaluated: {_listing(missing)}; a matrix lacks them, or they have a single model")
    elif missing:
        notes.append(f"oracle {truth.name} also has {', '.join(missing)}, which the registry or a matrix lacks")
    if targets is not None:
        outcome = outcome.over(splits.select(outcome.targets, targets))
    notes += [_gap(outcome, method) for method in own_methods]
    if retrieval:
        chance = next(iter(retrieval.values()))
        notes.append(
            f"same task: {chance.queries} models share their task with another, and are queries among "
            f"{len(spaces[0].tasks)} models; a random order has {chance.random_first:.2f} first, average precision "
            f"{chance.random_average_precision:.2f}"
        )
    return EvaluationReport(**vars(outcome), notes=tuple(notes), retrieval=retrieval)


def read_matrices(files: Sequence[str | Path], names: str | Path | None = None) -> dict[str, Table]:
    """Read matrices, named by the stems of their files; see `evaluation.read_affinity`.

    Args:
        files: CSV or `.npy` files.
        names: file with the names of the models, for a single `.npy` file.

    Raises:
        UsageError: names are given with several files, or without one.
        ConflictError: two files have the same stem.
    """
    if names is not None and len(files) != 1:
        raise UsageError(
            f"names are for a single matrix, and there are {len(files)}", "put NAME.txt next to each NAME.npy"
        )
    tables: dict[str, Table] = {}
    for file in files:
        _put(tables, {Path(file).stem: evaluation.read_affinity(file, names)})
    return tables


def _put(methods: dict[str, Table], more: Mapping[str, Table]) -> None:
    if taken := next((name for name in more if name in methods), None):
        raise ConflictError(f"two methods are called {taken}", "rename the file of the matrix, or leave one out")
    methods.update(more)


def _spaces(
    path: Path,
    space: str | Sequence[str] | None,
    where: str | None,
    oracle: Oracle,
    hub_correction: str | None,
    rerank: str | None,
) -> list[_EvaluatedSpace]:
    """The spaces to evaluate."""
    with Registry.open(path) as registry:
        labels: list[str | None] = [space] if space is None or isinstance(space, str) else list(space)
        rows = registry.spaces() if ALL in labels else [registry.space(name) for name in dict.fromkeys(labels)]
        models = {model.model_id: model for model in registry.models(where)}
        scored = []
        for row in rows:
            ranking = Ranking.of(row.spec, hub_correction, rerank)
            if not row.n_models:
                raise NotFoundError(f"the space {row.spec.name!r} holds no model", "add one: `space.add(model)`")
            start = time.process_time()
            chosen = set(models) if row.n_models <= MAX_SCORED else _measured(registry, row, models, oracle)
            ids, matrix = score_matrix(registry, row.spec, chosen, ranking)
            seconds = 0.0 if ranking == Ranking.of(row.spec) else time.process_time() - start
            names = tuple(models[i].card.name for i in ids)
            label = row.spec.name if ranking == Ranking.of(row.spec) else f"{row.spec.name}, {ranking.settings}"
            cards = {models[i].card.name: models[i] for i in ids}
            identified = identify(oracle, [(name, model.card.weights_sha256) for name, model in cards.items()])
            scored.append(_EvaluatedSpace(row, label.removesuffix(", "), (names, matrix), cards, identified, seconds))
    shared = set.intersection(*(set(entry.judged) for entry in scored)) if scored else set()
    return [
        replace(entry, known={name: model for name, model in entry.judged.items() if name in shared})
        for entry in scored
    ]


def _measured(registry: Registry, row: SpaceRow, models: Mapping[int, ModelRow], oracle: Oracle) -> set[int]:
    """Ids of the models of a space that an oracle has."""
    ids = [i for i in registry.model_ids(row.spec.space_id) if i in models]
    cards = {i: models[i].card for i in ids}
    identified = identify(oracle, [(card.name, card.weights_sha256) for card in cards.values()])
    known = {*identified.oracle_names, *identified.by_name, *identified.others}
    return {i for i, card in cards.items() if card.name in known}


def _identity_notes(spaces: Sequence[_EvaluatedSpace], oracle: Oracle) -> list[str]:
    """How the models were matched with the oracle's, where it is not by weights and name alike."""
    identified = [entry.identified for entry in spaces]
    others = list(dict.fromkeys(name for entry in identified for name in entry.others))
    by_name = list(dict.fromkeys(name for entry in identified for name in entry.by_name))
    elsewhere = {mine: theirs for entry in identified for mine, theirs in entry.oracle_names.items() if mine != theirs}
    notes = []
    if others:
        notes.append(
            f"not evaluated: {_listing(others)}; a model of that name was measured for oracle {oracle.name}, with "
            "other weights"
        )
    if by_name:
        notes.append(
            f"{len(by_name)} {'model is' if len(by_name) == 1 else 'models are'} matched with oracle {oracle.name} by "
            "name alone: it does not say which weights were measured"
        )
    if elsewhere:
        pairs = [f"{mine} is {theirs}" for mine, theirs in elsewhere.items()]
        notes.append(f"by their weights, {_listing(pairs)} of oracle {oracle.name}")
    return notes


@contextmanager
def _explained(notes: Sequence[str]) -> Iterator[None]:
    """Append notes to the message of a UsageError: too few models may be left because of their weights."""
    try:
        yield
    except UsageError as error:
        raise UsageError("; ".join([error.message, *notes]), error.hint) from None


def _listing(words: Sequence[str]) -> str:
    return f"{', '.join(words[:5])}{' and others' if len(words) > 5 else ''}"


def _retrieval(
    tables: Mapping[str, tuple[tuple[str, ...], Array]], tasks: Mapping[str, str | None]
) -> dict[str, Retrieval]:
    results = {method: same_task(matrix, [tasks[name] for name in names]) for method, (names, matrix) in tables.items()}
    return {method: result for method, result in results.items() if result is not None}


def _all_baselines(space: _EvaluatedSpace, baselines: StoredBaselines) -> dict[str, tuple[tuple[str, ...], Array]]:
    """The similarities of all models of a space if they are stored for every one, else an empty dict."""
    models = {name: (model.card.weights_sha256, model.card.layer) for name, model in space.cards.items()}
    return {} if baselines.unknown(models) else baselines.subset(space.table[0])


def _baselines(
    spaces: Sequence[_EvaluatedSpace], baselines: StoredBaselines | None
) -> tuple[StoredBaselines | None, str]:
    """The feature similarities if they are known for every model, else why they are left out."""
    left_out = "SVCCA, linear CKA, RSA and DDS are left out"
    if baselines is None:
        try:
            baselines = stored.load()
        except NotFoundError as error:
            return None, f"{left_out}: {error.message} ({error.hint})"
    models = {name: (model.card.weights_sha256, model.card.layer) for name, model in spaces[0].known.items()}
    if others := baselines.unknown(models):
        return None, f"{left_out}: the package has none for the name, weights and layer of {_listing(others)}"
    return baselines, ""


def _costs(
    costs: dict[str, Cost], spaces: Sequence[_EvaluatedSpace], similarities: StoredBaselines | None, notes: list[str]
) -> bool:
    """Add the cost of each space: from the run that timed the similarities if it has the space, else from `add`.

    Returns:
        Whether any cost is from that run.
    """
    recorded = []
    for entry in spaces:
        spec = entry.row.spec
        if (
            similarities is not None
            and spec.space_id in similarities.space_costs
            and set(entry.known) == set(similarities.timed)
        ):
            costs[entry.label] = _with_comparison(similarities.space_costs[spec.space_id], entry, notes)
            continue
        passes = spec.n_images * len(entry.known)
        per_image = space_of(spec).passes or Passes(0, 0)
        seconds = sum(model.card.seconds for model in entry.known.values())
        cost = Cost(seconds, passes * per_image.forward, passes * per_image.backward)
        costs[entry.label] = _with_comparison(cost, entry, notes)
        recorded.append(entry.label)
    if recorded:
        notes.append(
            f"seconds of {', '.join(recorded)}: recorded when the models were added, in one pass for all spaces; not "
            "comparable with times of another run"
        )
    return len(recorded) < len(spaces)


def _with_comparison(cost: Cost, entry: _EvaluatedSpace, notes: list[str]) -> Cost:
    """A space's cost and that of a ranking other than its own, which is noted."""
    if not entry.seconds:
        return cost
    notes.append(
        f"seconds of {entry.label}: those of space {entry.row.spec.name}, and {entry.seconds:.2f} s in this run to "
        f"compare its {len(entry.cards)} models"
    )
    return replace(cost, seconds=cost.seconds + entry.seconds)


def _gap(outcome: Evaluation, method: str) -> str:
    """The paired difference to the baselines that use no model."""
    k = min(5, len(outcome.ks))
    first, order = outcome.static
    gaps = [
        (f"{first} in P@{k}", outcome.difference(method, first, "precision", k)),
        (f"{order} in Spearman", outcome.difference(method, order, "spearman")),
    ]
    if outcome.is_accuracy:
        gaps.append((f"{order} in tau_w", outcome.difference(method, order, "weighted_kendall")))
    differences = [f"{label} {_signed(gap.mean)} [{_signed(gap.low)}, {_signed(gap.high)}]" for label, gap in gaps]
    return f"{method} minus {' and minus '.join(differences)}"


def _signed(value: Any) -> str:
    # Adding zero turns the -0.00 of a rounded tiny loss into +0.00.
    return f"{round(float(value), 2) + 0.0:+.2f}"


__getattr__ = renamed(__name__, {"Judged": "EvaluationReport"})
