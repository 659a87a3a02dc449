"""A comparison of methods: how well each ranks the transfer sources of each target, according to one oracle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.evaluation import baselines, metrics
from modelspace.evaluation.metrics import Interval
from modelspace.evaluation.names import match
from modelspace.evaluation.oracles import Oracle, Reliability
from modelspace.evaluation.rankings import Array
from modelspace.frames import escaped

RANDOM, POPULARITY, MEAN_RANK = BASELINES = "random", "popularity", "popularity by mean rank"
#: The baselines of oracles of accuracies.
RANDOM, STATIC, STATIC_BY_SCORE = ACCURACY_BASELINES = "random", "static", "static by score"
CURVES = ("precision", "recall", "regret", "relative_regret")
CORRELATIONS = ("spearman", "kendall", "weighted_kendall")
#: The correlations' names in tables; tau_w is the literature's.
TITLES = {"spearman": "Spearman", "kendall": "Kendall", "weighted_kendall": "tau_w"}


@dataclass(frozen=True)
class Cost:
    """The cost of comparing the models once.

    Attributes:
        seconds: wall time, or NaN if not measured.
        forward_passes: number of images over all models.
        backward_passes: the same for backward passes.
    """

    seconds: float = math.nan
    forward_passes: int = 0
    backward_passes: int = 0


@dataclass(frozen=True)
class Row:
    """One method's metrics.

    Attributes:
        method: its name.
        per_target: metric -> (targets,) or (targets, K); the metrics are those of `CURVES` and `CORRELATIONS`.
        summary: metric -> its mean over targets with a bootstrap interval.
        cost: of the method, if known.
    """

    method: str
    per_target: Mapping[str, Array]
    summary: Mapping[str, Interval]
    cost: Cost | None = None


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        oracle: name of the oracle.
        origin: where the oracle's measurements come from.
        targets: evaluated targets, by the oracle's names.
        sources: evaluated sources, by the oracle's names.
        rows: one per method; baselines last.
        reliability: agreement between the oracle's seeds on the evaluated pairs; None if it has no seeds.
        left_out: models of a method that were not evaluated, because the oracle or another method lacks them.
        unmeasured: number of pairs of evaluated models that are not in the oracle.
        with_self: whether pairs of a model with itself count.
        relevant: (targets,) number of the oracle's first sources that count as relevant: `n_relevant`, but at most a
            third of the target's sources.
        n_relevant: the number that was asked for.
        confidence: of the intervals.
        n_resamples: of the bootstrap.
        seed: of the bootstrap.
        is_accuracy: whether the oracle has accuracies in percent, so that regret is in points.
        reported: published method -> weighted Kendall on the whole oracle, as its paper gives it.
    """

    oracle: str
    origin: str
    targets: tuple[str, ...]
    sources: tuple[str, ...]
    rows: tuple[Row, ...]
    reliability: Reliability | None
    left_out: tuple[str, ...]
    unmeasured: int
    with_self: bool
    n_relevant: int
    confidence: float
    n_resamples: int
    seed: int
    is_accuracy: bool = False
    reported: Mapping[str, float] = field(default_factory=dict)
    relevant: tuple[int, ...] = ()

    @property
    def relevance(self) -> str:
        """How many sources of a target are relevant, in words."""
        least, most = min(self.relevant), max(self.relevant)
        numbers = f"{most}" if least == most else f"{least} to {most}"
        words = "the first of a target is relevant" if most == 1 else f"the first {numbers} of a target are relevant"
        return f"{words} (not {self.n_relevant}: at most a third of its sources)" if least < self.n_relevant else words

    @property
    def shown(self) -> tuple[str, ...]:
        """The correlations that tables show: weighted Kendall where the literature reports it."""
        return CORRELATIONS if self.is_accuracy else CORRELATIONS[:2]

    @property
    def regret(self) -> str:
        """The regret that tables show: in accuracy points, or relative to one random pick."""
        return "regret" if self.is_accuracy else "relative_regret"

    @property
    def static(self) -> tuple[str, str]:
        """The baselines that use no model, to beat on P@K and on correlations."""
        return (STATIC, STATIC) if self.is_accuracy else (POPULARITY, MEAN_RANK)

    @property
    def ks(self) -> tuple[int, ...]:
        """1..M-1, where M is the number of evaluated models (1..M with self-pairs)."""
        return tuple(range(1, self.rows[0].per_target["precision"].shape[1] + 1))

    def row(self, method: str) -> Row:
        """The metrics of one method.

        Raises:
            NotFoundError: the method was not evaluated.
        """
        for row in self.rows:
            if row.method == method:
                return row
        methods = ", ".join(row.method for row in self.rows)
        raise NotFoundError(f"method {method} was not evaluated", f"evaluated: {methods}")

    def curves(self, figure: str = "precision") -> dict[str, Interval]:
        """Method -> its curve over `ks`: precision, recall, regret (in the oracle's unit) or relative_regret."""
        if figure not in CURVES:
            raise UsageError(f"there is no curve of {figure!r}", f"use {', '.join(CURVES)}")
        return {row.method: row.summary[figure] for row in self.rows}

    def difference(self, method: str, reference: str | None = None, figure: str = "spearman", k: int = 5) -> Interval:
        """Mean paired difference, method minus reference, with its bootstrap interval over targets.

        Args:
            method: one of the methods.
            reference: another one; default: popularity, or static if the oracle has accuracies.
            figure: the metric, one of `CURVES` or `CORRELATIONS`.
            k: which K, for a curve.
        """
        if figure not in (*CURVES, *CORRELATIONS):
            raise UsageError(f"there is no metric {figure!r}", f"use {', '.join((*CORRELATIONS, *CURVES))}")
        reference = self.static[0] if reference is None else reference
        a, b = self.row(method).per_target[figure], self.row(reference).per_target[figure]
        gap = a - b
        if figure in CURVES:
            if k not in self.ks:
                raise UsageError(f"K = {k} is not one of 1..{len(self.ks)}")
            gap = gap[:, k - 1]
        return metrics.bootstrap(gap, self.n_resamples, self.confidence, self.seed)

    def over(self, targets: Sequence[str]) -> Self:
        """The same evaluation with means and intervals over a subset of the targets.

        Metrics per target are unchanged: popularity still uses all other targets, and relevance all sources.

        Raises:
            NotFoundError: a target was not evaluated.
        """
        if unknown := next((name for name in targets if name not in self.targets), None):
            raise NotFoundError(f"target {unknown} was not evaluated", f"evaluated: {', '.join(self.targets)}")
        subset = [self.targets.index(name) for name in targets]
        rows = []
        for row in self.rows:
            per_target = {name: values[subset] for name, values in row.per_target.items()}
            summary = {
                name: metrics.bootstrap(values, self.n_resamples, self.confidence, self.seed)
                for name, values in per_target.items()
            }
            rows.append(Row(row.method, per_target, summary, row.cost))
        relevant = tuple(self.relevant[self.targets.index(name)] for name in targets)
        return replace(self, targets=tuple(targets), rows=tuple(rows), relevant=relevant)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values: lists for arrays, None for NaN."""
        return {
            "oracle": self.oracle,
            "origin": self.origin,
            "targets": list(self.targets),
            "sources": list(self.sources),
            "left_out": list(self.left_out),
            "unmeasured_pairs": self.unmeasured,
            "with_self": self.with_self,
            "relevant": max(self.relevant),
            "relevant_of_targets": list(self.relevant),
            "confidence": self.confidence,
            "resamples": self.n_resamples,
            "seed": self.seed,
            "is_accuracy": self.is_accuracy,
            "reported": dict(self.reported),
            "k": list(self.ks),
            "reliability": None if self.reliability is None else plain(vars(self.reliability)),
            "methods": [
                {
                    "method": row.method,
                    "cost": None if row.cost is None else plain(vars(row.cost)),
                    "summary": {metric: plain(vars(interval)) for metric, interval in row.summary.items()},
                    "per_target": plain(row.per_target),
                }
                for row in self.rows
            ],
        }

    def _repr_html_(self) -> str:
        return f"<pre>{escaped(self.to_markdown())}</pre>"

    def to_markdown(self, ks: Sequence[int] = (1, 3, 5)) -> str:
        """A table with means, intervals and costs, followed by notes and the oracle's reliability.

        Args:
            ks: which K of P@K and regret@K to show; those past the last are skipped.
        """
        ks = [k for k in ks if k in self.ks]
        is_timed = any(row.cost is not None for row in self.rows)
        head = ["method", *(f"P@{k}" for k in ks), *(TITLES[metric] for metric in self.shown)]
        head += [f"regret@{k}" for k in ks]
        head += ["seconds", "forward", "backward"] if is_timed else []
        lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        for row in self.rows:
            cells = [row.method.replace("|", "\\|")]
            cells += [cell(row.summary["precision"], k - 1) for k in ks]
            cells += [cell(row.summary[metric]) for metric in self.shown]
            cells += [cell(row.summary[self.regret], k - 1) for k in ks]
            if is_timed:
                cost = row.cost or Cost()
                seconds = "" if math.isnan(cost.seconds) else f"{cost.seconds:.3g}"
                cells += [seconds, str(cost.forward_passes), str(cost.backward_passes)]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join([*lines, "", *self._notes(ks)]) + "\n"

    @property
    def explanation(self) -> str:
        """What the figures of a table mean; a part of a sentence."""
        if self.is_accuracy:
            return (
                "regret@K: accuracy points between the best of the first K and the best source; tau_w: weighted Kendall"
            )
        return "regret@K: extra loss of the best of the first K over the best source, relative to one random pick"

    @property
    def report(self) -> str:
        """What published methods reach on the whole oracle, in words; empty if nothing is known."""
        figures = ", ".join(f"{method} {value:.3f}" for method, value in self.reported.items())
        return f"tau_w in papers, on the whole table: {figures}." if figures else ""

    def _notes(self, ks: Sequence[int]) -> list[str]:
        notes = [
            f"Oracle {self.oracle} ({self.origin}): {len(self.targets)} targets, {len(self.sources)} sources, "
            f"{self.relevance}. Mean over targets [{self.confidence:.0%} bootstrap interval over targets, "
            f"{self.n_resamples} resamples, seed {self.seed}]. {self.explanation}."
        ]
        if self.reported:
            notes.append(self.report)
        if self.with_self:
            notes.append("Pairs of a model with itself count.")
        if self.unmeasured:
            notes.append(f"{self.unmeasured} pairs are not in the oracle and are ignored for all methods.")
        if self.left_out:
            notes.append(f"Not evaluated, because the oracle or a method lacks them: {', '.join(self.left_out)}.")
        if self.reliability is not None:
            r = self.reliability
            precision = ", ".join(f"P@{k} {r.precision[k - 1]:.2f}" for k in ks if k <= len(r.precision))
            notes.append(
                f"Reliability of the oracle: one seed's order against another's ({r.n_seeds} seeds): {precision}, "
                f"Spearman {r.spearman:.2f}, Kendall {r.kendall:.2f}; Spearman of the mean over the seeds with that "
                f"over {r.n_seeds} new ones {r.spearman_of_mean:.2f} (Spearman-Brown). Methods can't be told apart "
                "more finely."
            )
        return notes


def evaluate(
    affinity_by_method: Mapping[str, tuple[Sequence[str], ArrayLike]],
    oracle: Oracle,
    *,
    with_self: bool = False,
    n_relevant: int = 5,
    include_baselines: bool = True,
    models: Sequence[str] | None = None,
    costs: Mapping[str, Cost] | None = None,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """Evaluate affinity matrices, and the baselines, against an oracle; all methods on the same pairs.

    A target or source is evaluated if the oracle and all matrices have it, under the same or another spelling
    (`names.match`). Relevance, popularity and regret refer to the evaluated pairs only.

    Args:
        affinity_by_method: method -> (names (n,), matrix (n, n)): row = target, column = source, higher = nearer. Need
            not be symmetric. If it is empty, the baselines are evaluated on the whole oracle.
        oracle: measured transfer.
        with_self: count pairs of a model with itself, as some published results do; off, because they are not
            predictions.
        n_relevant: number of the oracle's first sources that are relevant to a target; 5 in the paper. At most a third
            of a target's sources are (`metrics.relevant_counts`).
        include_baselines: add the rows `BASELINES`: random (closed form), and the popularity of a source with the
            other targets, by first places (to beat on P@K) and by mean rank (to beat on Spearman). If the oracle has
            accuracies add `ACCURACY_BASELINES` instead: random, and static order by mean rank and by mean standardised
            score on the other targets; and the scores of published methods that come with the oracle.
        models: restrict the evaluation to these models, by the oracle's names or other spellings.
        costs: method -> its cost, shown next to the metrics.
        n_resamples: of the bootstrap over targets.
        confidence: of its intervals.
        seed: of its resampling.

    Raises:
        UsageError: a matrix and its names differ in size, or it has NaN at an evaluated pair; no pair is left;
            `with_self` is set and the oracle has no such pair; fewer than two targets have two or more sources.
        ConflictError: a method has the name of a baseline, or two spellings of one model.
        NotFoundError: a model of `models` is not in the oracle.
    """
    tables = {method: _table(method, *pair) for method, pair in affinity_by_method.items()}
    if include_baselines and (conflicts := _reserved(oracle) & set(tables)):
        raise ConflictError(f"a method has the name of a baseline, {conflicts.pop()}", "give it another name")
    everything = tuple(dict.fromkeys((*oracle.targets, *oracle.sources)))
    common, index_of = _common(everything, tables, oracle, models)
    targets = tuple(name for name in oracle.targets if name in common)
    sources = tuple(name for name in oracle.sources if name in common)
    part = oracle.subset(targets, sources)
    if with_self and not np.isfinite(part.score[part.self_pairs()]).any():
        raise UsageError(f"oracle {oracle.name} has no pair of a model with itself", "evaluate without `with_self=`")
    is_usable = np.isfinite(part.truth(with_self)).sum(axis=1) >= 2
    if is_usable.sum() < 2:
        raise UsageError(
            f"only {is_usable.sum()} targets of oracle {oracle.name} have two or more sources among these models",
            f"the oracle has {', '.join(everything)}",
        )
    targets = tuple(name for name, usable in zip(targets, is_usable, strict=True) if usable)
    part = part.subset(targets, sources)
    truth, gain = part.truth(with_self), part.gain(with_self)
    relevant = metrics.relevant_counts(truth, n_relevant)
    scores = _scores(tables, index_of, targets, sources, truth)
    if include_baselines:
        scores |= _accuracy_scores(part, truth) if oracle.is_accuracy else _baseline_scores(truth, relevant)
    if unknown := sorted(set(costs or {}) - set(scores)):
        raise NotFoundError(f"costs are given for {unknown[0]}, which is not evaluated")
    rows = []
    for method, table in scores.items():
        per_target = _metrics(table, truth, gain, relevant)
        summary = {
            name: metrics.bootstrap(values, n_resamples, confidence, seed) for name, values in per_target.items()
        }
        rows.append(Row(method, per_target, summary, (costs or {}).get(method)))
    pairs = np.ones(truth.shape, dtype=bool) if with_self else ~part.self_pairs()
    return Evaluation(
        oracle=oracle.name,
        origin=oracle.origin,
        targets=targets,
        sources=sources,
        rows=tuple(rows),
        reliability=part.reliability(with_self, relevant),
        left_out=_left_out(tables, index_of, targets, sources),
        unmeasured=int((pairs & ~np.isfinite(truth)).sum()),
        with_self=with_self,
        n_relevant=n_relevant,
        confidence=confidence,
        n_resamples=n_resamples,
        seed=seed,
        is_accuracy=oracle.is_accuracy,
        reported=dict(oracle.reported),
        relevant=tuple(relevant.tolist()),
    )


def _reserved(oracle: Oracle) -> set[str]:
    """The names of methods that `evaluate` adds itself."""
    return {*(ACCURACY_BASELINES if oracle.is_accuracy else BASELINES), *map(_published, oracle.methods)}


def _published(method: str) -> str:
    return f"{method} (published)"


def _scores(
    tables: Mapping[str, tuple[tuple[str, ...], Array]],
    index_of: Mapping[str, Mapping[str, int]],
    targets: Sequence[str],
    sources: Sequence[str],
    truth: Array,
) -> dict[str, Array]:
    """Each method's matrix, restricted to the evaluated targets and sources."""
    scores: dict[str, Array] = {}
    for method, (_, matrix) in tables.items():
        index = index_of[method]
        scores[method] = matrix[np.ix_([index[name] for name in targets], [index[name] for name in sources])]
        if (missing := np.isfinite(truth) & ~np.isfinite(scores[method])).any():
            row, column = np.argwhere(missing)[0]
            raise UsageError(
                f"{method} has no finite affinity of target {targets[row]} with source {sources[column]}",
                "complete the matrix, or remove the model from it",
            )
    return scores


def _baseline_scores(truth: Array, n_relevant: ArrayLike) -> dict[str, Array]:
    # With equal scores, and ties counted by their expectation, this row is the closed form.
    scores: dict[str, Array] = {RANDOM: np.zeros_like(truth)}
    for name, by in ((POPULARITY, "count"), (MEAN_RANK, "rank")):
        popular = baselines.popularity(truth, n_relevant, by)
        # A source that no other target was measured with is the least popular; all other scores are above -2.
        scores[name] = np.where(np.isfinite(truth) & ~np.isfinite(popular), -2.0, popular)
    return scores


def _accuracy_scores(oracle: Oracle, truth: Array) -> dict[str, Array]:
    scores = {_published(method): table for method, table in oracle.methods.items()}
    return scores | {
        RANDOM: np.zeros_like(truth),
        STATIC: baselines.static(truth, "rank"),
        STATIC_BY_SCORE: baselines.static(truth, "score"),
    }


def _metrics(scores: Array, truth: Array, gain: Array, n_relevant: ArrayLike) -> dict[str, Array]:
    return {
        "precision": metrics.precision_at_k(scores, truth, n_relevant),
        "recall": metrics.recall_at_k(scores, truth, n_relevant),
        "regret": metrics.regret_at_k(scores, gain),
        "relative_regret": metrics.regret_at_k(scores, gain, relative=True),
        "spearman": metrics.spearman(scores, truth),
        "kendall": metrics.kendall(scores, truth),
        "weighted_kendall": metrics.weighted_kendall(scores, truth),
    }


def _table(method: str, names: Sequence[str], matrix: ArrayLike) -> tuple[tuple[str, ...], Array]:
    values = np.asarray(matrix, dtype=np.float64)
    if values.shape != (len(names), len(names)):
        raise UsageError(f"the matrix of {method} has shape {values.shape} for {len(names)} names")
    if len(set(names)) != len(names):
        raise ConflictError(f"the matrix of {method} names a model twice")
    return tuple(names), values


def _common(
    everything: Sequence[str],
    tables: Mapping[str, tuple[tuple[str, ...], Array]],
    oracle: Oracle,
    models: Sequence[str] | None,
) -> tuple[set[str], dict[str, dict[str, int]]]:
    """The oracle's names that all methods have, and their index in each method's matrix."""
    common = set(everything)
    if models is not None:
        matches = match(models, everything)
        if None in matches:
            raise NotFoundError(
                f"oracle {oracle.name} does not have {models[matches.index(None)]}", f"it has {', '.join(everything)}"
            )
        common = {name for name in matches if name is not None}
    index_of: dict[str, dict[str, int]] = {}
    for method, (names, _) in tables.items():
        position = {name: i for i, name in enumerate(names)}
        pairs = zip(everything, match(everything, names), strict=True)
        index_of[method] = {name: position[spelling] for name, spelling in pairs if spelling is not None}
        common &= set(index_of[method])
    return common, index_of


def _left_out(
    tables: Mapping[str, tuple[tuple[str, ...], Array]],
    index_of: Mapping[str, Mapping[str, int]],
    targets: Sequence[str],
    sources: Sequence[str],
) -> tuple[str, ...]:
    missing: dict[str, None] = {}
    for method, (names, _) in tables.items():
        used = {index_of[method][name] for name in (*targets, *sources)}
        missing |= dict.fromkeys(name for i, name in enumerate(names) if i not in used)
    return tuple(missing)


def cell(interval: Interval, index: int | None = None) -> str:
    """An interval as text, as in "0.56 [0.41, 0.72]"; index: which entry of a curve."""
    mean, low, high = (part if index is None else part[index] for part in (interval.mean, interval.low, interval.high))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]" if math.isfinite(mean) else "n/a"


def plain(value: Any) -> Any:
    """A value as JSON can hold it: lists for arrays, None for NaN and infinities."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
