"""The verb `evaluate`: how far the affinities of a registry's spaces agree with measured transfer.

What is judged: spaces, matrices of the caller's own, and the stored feature similarities of the shipped zoo, all on the
same pairs and beside what needs no model at all (`modelspace.evaluation`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from modelspace import comparison, evaluation
from modelspace.attribution import METHODS
from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.evaluation import Cost, Evaluation, Oracle, stored
from modelspace.evaluation.judge import CORRELATIONS, CURVES, MEAN_RANK, POPULARITY
from modelspace.evaluation.names import match
from modelspace.evaluation.rankings import Array
from modelspace.evaluation.stored import StoredBaselines
from modelspace.registry import ModelRow, Registry, SpaceRow

ORACLE = "rooms"
#: What stands for all spaces of a registry.
ALL = "all"

Table = tuple[Sequence[str], ArrayLike]
COLUMNS = ("method", "figure", "k", "mean", "low", "high")


@dataclass(frozen=True)
class Judged(Evaluation):
    """An `Evaluation` with remarks for a person.

    Attributes:
        notes: what is to be known of the table: which baselines are missing and why, where the times come from, what the
            oracle knows and the registry has not.
    """

    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {**super().to_dict(), "notes": list(self.notes)}

    def to_markdown(self, ks: Sequence[int] = (1, 3, 5)) -> str:
        """The table of `Evaluation.to_markdown` with the remarks below."""
        return super().to_markdown(ks) + "".join(f"- {note}\n" for note in self.notes)

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
            if row.cost is not None:
                for figure, value in vars(row.cost).items():
                    if value and not math.isnan(value):
                        yield row.method, figure, None, float(value), None, None


@dataclass(frozen=True)
class _Judgeable:
    """A space: its affinities, and the cards of the models in it that the oracle knows."""

    row: SpaceRow
    table: tuple[tuple[str, ...], Array]
    known: dict[str, ModelRow]


def evaluate(
    path: Path | None,
    *,
    oracle: str | Path | Oracle = ORACLE,
    space: str | Sequence[str] | None = None,
    matrices: Mapping[str, Table] | None = None,
    where: str | None = None,
    with_self: bool = False,
    baselines: StoredBaselines | None = None,
) -> Judged:
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

    Raises:
        NotFoundError: no such oracle, space or registry; the hint says how the oracle is measured.
        UsageError: the oracle and the registry have too few models in common, or the words don't fit together.
        ConflictError: two methods have one name.
    """
    truth = oracle if isinstance(oracle, Oracle) else evaluation.load(oracle)
    methods: dict[str, Table] = {}
    costs: dict[str, Cost] = {}
    notes: list[str] = []
    everything = tuple(dict.fromkeys((*truth.targets, *truth.sources)))
    if path is None:
        if where is not None or space is not None or not matrices:
            raise UsageError("a condition or a space is of a registry, and none is given", "name a space with --space")
    else:
        spaces = _spaces(path, space, where, everything)
        _put(methods, {one.row.spec.name: one.table for one in spaces})
        beside, problem = _baselines(spaces, baselines)
        if problem:
            notes.append(problem)
        same_run = _costs(costs, spaces, beside, notes)
    _put(methods, matrices or {})
    ours = tuple(methods)
    if path is not None and beside is not None:
        names = tuple(spaces[0].known)
        _put(methods, beside.subset(names))
        if set(names) == set(beside.names):
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
    outcome = evaluation.judge(methods, truth, with_self=with_self, costs=costs)
    if missing := [name for name in everything if name not in {*outcome.targets, *outcome.sources}]:
        notes.append(f"oracle {truth.name} also has {', '.join(missing)}, which the registry or a matrix lacks")
    notes += [_gap(outcome, method) for method in ours]
    return Judged(**vars(outcome), notes=tuple(notes))


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
            f"--names has the names of one matrix, and there are {len(files)}", "put NAME.txt beside each NAME.npy"
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
    path: Path, wanted: str | Sequence[str] | None, where: str | None, oracle: Sequence[str]
) -> list[_Judgeable]:
    """The spaces to judge, each with the same models known to the oracle: those that all of them have."""
    with Registry.open(path) as registry:
        asked: list[str | None] = [wanted] if wanted is None or isinstance(wanted, str) else list(wanted)
        rows = registry.spaces() if ALL in asked else [registry.space(name) for name in dict.fromkeys(asked)]
        models = {model.model_id: model for model in registry.models(where)}
        found = []
        for row in rows:
            ids, matrix = comparison.matrix(registry, row.spec, set(models))
            names = tuple(models[i].card.name for i in ids)
            known = {name for name in match(oracle, names) if name is not None}
            found.append((row, (names, matrix), {models[i].card.name: models[i] for i in ids}, known))
    shared = set.intersection(*(known for *_, known in found)) if found else set()
    return [
        _Judgeable(row, table, {name: model for name, model in cards.items() if name in shared})
        for row, table, cards, _ in found
    ]


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
        if beside is not None and spec.space_id in beside.space_costs and set(one.known) == set(beside.names):
            costs[spec.name] = beside.space_costs[spec.space_id]
            continue
        # Captum's methods have passes of their own, whose number is not kept.
        passes = 0 if METHODS[spec.method].captum else spec.n_images * len(one.known)
        costs[spec.name] = Cost(sum(model.card.seconds for model in one.known.values()), passes, passes)
        recorded.append(spec.name)
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
