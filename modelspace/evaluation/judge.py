"""One table for all methods: how well each ranks the transfer sources of every target, against one oracle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.evaluation import baselines, metrics
from modelspace.evaluation.metrics import Interval
from modelspace.evaluation.names import match
from modelspace.evaluation.oracles import Oracle, Reliability
from modelspace.evaluation.rankings import Array

RANDOM, POPULARITY, MEAN_RANK = BASELINES = "random", "popularity", "popularity by mean rank"
CURVES = ("precision", "recall", "regret", "relative_regret")
CORRELATIONS = ("spearman", "kendall")


@dataclass(frozen=True)
class Cost:
    """What a method spent to compare the models once.

    Attributes:
        seconds: wall time, or NaN if not taken.
        forward_passes: images sent forward, over all models.
        backward_passes: likewise backward.
    """

    seconds: float = math.nan
    forward_passes: int = 0
    backward_passes: int = 0


@dataclass(frozen=True)
class Row:
    """One method's figures.

    Attributes:
        method: its name.
        per_target: figure name to (targets,) or (targets, K); the names are those of `CURVES` and `CORRELATIONS`.
        summary: figure name to its mean over targets with a bootstrap interval.
        cost: what it took, if known.
    """

    method: str
    per_target: Mapping[str, Array]
    summary: Mapping[str, Interval]
    cost: Cost | None = None


@dataclass(frozen=True)
class Evaluation:
    """The outcome of `judge`.

    Attributes:
        oracle: name of the oracle.
        origin: where the oracle's figures come from.
        targets: judged targets, by the oracle's names.
        sources: judged sources, by the oracle's names.
        rows: one per method; the baselines come last.
        reliability: agreement between the oracle's seeds, on the judged pairs; None if it keeps no seeds.
        left_out: models of some method that were not judged, since the oracle or another method lacks them.
        unmeasured: pairs among the judged models that the oracle does not hold.
        with_self: whether a model's pair with itself counted.
        n_relevant: how many of the oracle's first sources count as relevant.
        confidence: of the intervals.
        n_resamples: draws of the bootstrap.
        seed: of the bootstrap.
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

    @property
    def ks(self) -> tuple[int, ...]:
        """1..M-1, M being the number of judged models (M with self-pairs)."""
        return tuple(range(1, self.rows[0].per_target["precision"].shape[1] + 1))

    def row(self, method: str) -> Row:
        for row in self.rows:
            if row.method == method:
                return row
        raise NotFoundError(f"method {method} was not judged", f"judged: {', '.join(row.method for row in self.rows)}")

    def curves(self, figure: str = "precision") -> dict[str, Interval]:
        """Method to its curve over `ks`: precision, recall, regret (the oracle's unit) or relative_regret."""
        if figure not in CURVES:
            raise UsageError(f"there is no curve of {figure!r}", f"use {', '.join(CURVES)}")
        return {row.method: row.summary[figure] for row in self.rows}

    def difference(self, method: str, reference: str = POPULARITY, figure: str = "spearman", k: int = 5) -> Interval:
        """Mean of method minus reference over the same targets, with its paired bootstrap interval.

        Args:
            figure: one of `CURVES` or `CORRELATIONS`.
            k: which K, for a curve.
        """
        if figure not in (*CURVES, *CORRELATIONS):
            raise UsageError(f"there is no figure {figure!r}", f"use {', '.join((*CORRELATIONS, *CURVES))}")
        a, b = self.row(method).per_target[figure], self.row(reference).per_target[figure]
        gap = a - b
        if figure in CURVES:
            if k not in self.ks:
                raise UsageError(f"K = {k} is not one of 1..{len(self.ks)}")
            gap = gap[:, k - 1]
        return metrics.bootstrap(gap, self.n_resamples, self.confidence, self.seed)

    def over(self, targets: Sequence[str]) -> Self:
        """The same for some of the targets: figures as they were, means and intervals over those alone.

        Popularity still knows all other targets, and a source's relevance is what it was.

        Raises:
            NotFoundError: a target was not judged.
        """
        if unknown := next((name for name in targets if name not in self.targets), None):
            raise NotFoundError(f"target {unknown} was not judged", f"judged: {', '.join(self.targets)}")
        at = [self.targets.index(name) for name in targets]
        rows = []
        for row in self.rows:
            figures = {name: values[at] for name, values in row.per_target.items()}
            summary = {
                name: metrics.bootstrap(values, self.n_resamples, self.confidence, self.seed)
                for name, values in figures.items()
            }
            rows.append(Row(row.method, figures, summary, row.cost))
        return replace(self, targets=tuple(targets), rows=tuple(rows))

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it: lists for arrays, None for NaN."""
        value = {
            "oracle": self.oracle,
            "origin": self.origin,
            "targets": list(self.targets),
            "sources": list(self.sources),
            "left_out": list(self.left_out),
            "unmeasured_pairs": self.unmeasured,
            "with_self": self.with_self,
            "relevant": self.n_relevant,
            "confidence": self.confidence,
            "resamples": self.n_resamples,
            "seed": self.seed,
            "k": list(self.ks),
            "reliability": None if self.reliability is None else vars(self.reliability),
            "methods": [
                {
                    "method": row.method,
                    "cost": None if row.cost is None else vars(row.cost),
                    "summary": {figure: vars(interval) for figure, interval in row.summary.items()},
                    "per_target": dict(row.per_target),
                }
                for row in self.rows
            ],
        }
        return plain(value)

    def to_markdown(self, ks: Sequence[int] = (1, 3, 5)) -> str:
        """The table people read: means with intervals, costs, and the oracle's own reliability below it.

        Args:
            ks: which K of P@K and regret@K to show; those past the last are skipped.
        """
        ks = [k for k in ks if k in self.ks]
        timed = any(row.cost is not None for row in self.rows)
        head = ["method", *(f"P@{k}" for k in ks), "Spearman", "Kendall", *(f"regret@{k}" for k in ks)]
        head += ["seconds", "forward", "backward"] if timed else []
        lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        for row in self.rows:
            cells = [row.method.replace("|", "\\|")]
            cells += [cell(row.summary["precision"], k - 1) for k in ks]
            cells += [cell(row.summary[figure]) for figure in CORRELATIONS]
            cells += [cell(row.summary["relative_regret"], k - 1) for k in ks]
            if timed:
                cost = row.cost or Cost()
                seconds = "" if math.isnan(cost.seconds) else f"{cost.seconds:.3g}"
                cells += [seconds, str(cost.forward_passes), str(cost.backward_passes)]
            lines.append("| " + " | ".join(cells) + " |")
        notes = [
            f"Oracle {self.oracle} ({self.origin}): {len(self.targets)} targets, {len(self.sources)} sources, first "
            f"{self.n_relevant} relevant. Mean over targets [{self.confidence:.0%} bootstrap interval over targets, "
            f"{self.n_resamples} draws, seed {self.seed}]. regret@K: loss given up by keeping the best of the first K, "
            "in units of what one random pick gives up."
        ]
        if self.with_self:
            notes.append("A model's pair with itself is counted in.")
        if self.unmeasured:
            notes.append(f"{self.unmeasured} pairs are not in the oracle and count for no method.")
        if self.left_out:
            notes.append(f"Not judged, since the oracle or another method lacks them: {', '.join(self.left_out)}.")
        if self.reliability is not None:
            r = self.reliability
            precision = ", ".join(f"P@{k} {r.precision[k - 1]:.2f}" for k in ks if k <= len(r.precision))
            notes.append(
                f"Reliability of the oracle: one seed's order against another's ({r.n_seeds} seeds): {precision}, "
                f"Spearman {r.spearman:.2f}, Kendall {r.kendall:.2f}; Spearman of the mean over the seeds with as many "
                f"fresh ones {r.spearman_of_mean:.2f} (Spearman-Brown). No method can be judged beyond it."
            )
        return "\n".join([*lines, "", *notes]) + "\n"


def judge(
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
    """Judge affinity matrices, and the baselines, against an oracle; all methods on the same pairs.

    A target or source is judged if the oracle knows it and every matrix has it, under the same or another spelling
    (`names.match`). Relevance, popularity and regret are taken among the judged pairs only.

    Args:
        affinity_by_method: method name to (names (n,), matrix (n, n)): row = target, column = source, higher = nearer.
            Need not be symmetric. May be empty, then the baselines are judged on the whole oracle.
        oracle: what was measured.
        with_self: count a model's pair with itself, as some published figures do; off, because it is no prediction.
        n_relevant: the oracle's first so many sources of a target are relevant; 5 in the paper.
        include_baselines: add the rows `BASELINES`: random (closed form), and how popular a source is with the other
            targets, counted by first places (the figure to beat on P@K) and by mean rank (on Spearman).
        models: judge only these models; names of the oracle or other spellings of them.
        costs: method name to what it took, shown beside the figures.
        n_resamples: draws of the bootstrap over targets.
        confidence: of its intervals.
        seed: of its draws.

    Raises:
        UsageError: a matrix doesn't fit its names or holds NaN at a judged pair; no pair is left; self-pairs are asked
            for and the oracle has none; a target keeps fewer than two sources.
        ConflictError: a method has the name of a baseline, or two spellings of one model.
        NotFoundError: a model of `models` is not in the oracle.
    """
    tables = {method: _table(method, *pair) for method, pair in affinity_by_method.items()}
    if include_baselines and (taken := set(BASELINES) & set(tables)):
        raise ConflictError(
            f"a method is called {taken.pop()}, which is the name of a baseline", "give it another name"
        )
    everything = tuple(dict.fromkeys((*oracle.targets, *oracle.sources)))
    judged, places = _common(everything, tables, oracle, models)
    targets = tuple(name for name in oracle.targets if name in judged)
    sources = tuple(name for name in oracle.sources if name in judged)
    part = oracle.subset(targets, sources)
    if with_self and not np.isfinite(part.score[part.self_pairs()]).any():
        raise UsageError(f"oracle {oracle.name} holds no model's pair with itself", "judge without `with_self=`")
    truth, gain = part.truth(with_self), part.gain(with_self)
    keep = np.isfinite(truth).sum(axis=1) >= 2
    if keep.sum() < 2:
        raise UsageError(
            f"only {keep.sum()} targets of oracle {oracle.name} have two or more sources among the models given",
            f"the oracle knows {', '.join(everything)}",
        )
    targets = tuple(name for name, kept in zip(targets, keep, strict=True) if kept)
    part, truth, gain = part.subset(targets, sources), truth[keep], gain[keep]
    scores: dict[str, Array] = {}
    for method, (_, matrix) in tables.items():
        rows = [places[method][name] for name in targets]
        scores[method] = matrix[np.ix_(rows, [places[method][name] for name in sources])]
        if (lacking := np.isfinite(truth) & ~np.isfinite(scores[method])).any():
            row, column = np.argwhere(lacking)[0]
            raise UsageError(
                f"{method} has no finite affinity of target {targets[row]} with source {sources[column]}",
                "complete the matrix, or leave the model out of it",
            )
    if include_baselines:
        # Equal scores everywhere: ties count with their expectation, so this row is the closed form.
        scores[RANDOM] = np.zeros_like(truth)
        for name, by in ((POPULARITY, "count"), (MEAN_RANK, "rank")):
            popular = baselines.popularity(truth, n_relevant, by)
            # A source that no other target was measured on is the least popular; all other scores are above -2.
            scores[name] = np.where(np.isfinite(truth) & ~np.isfinite(popular), -2.0, popular)
    spent = dict(costs or {})
    if unknown := sorted(set(spent) - set(scores)):
        raise NotFoundError(f"costs are given for {unknown[0]}, which is not judged")
    rows_out = []
    for method, table in scores.items():
        figures = {
            "precision": metrics.precision_at_k(table, truth, n_relevant),
            "recall": metrics.recall_at_k(table, truth, n_relevant),
            "regret": metrics.regret_at_k(table, gain),
            "relative_regret": metrics.regret_at_k(table, gain, relative=True),
            "spearman": metrics.spearman(table, truth),
            "kendall": metrics.kendall(table, truth),
        }
        summary = {name: metrics.bootstrap(values, n_resamples, confidence, seed) for name, values in figures.items()}
        rows_out.append(Row(method, figures, summary, spent.get(method)))
    existing = np.ones(truth.shape, dtype=bool) if with_self else ~part.self_pairs()
    return Evaluation(
        oracle=oracle.name,
        origin=oracle.origin,
        targets=targets,
        sources=sources,
        rows=tuple(rows_out),
        reliability=part.reliability(with_self, n_relevant),
        left_out=_left_out(tables, places, targets, sources),
        unmeasured=int((existing & ~np.isfinite(truth)).sum()),
        with_self=with_self,
        n_relevant=n_relevant,
        confidence=confidence,
        n_resamples=n_resamples,
        seed=seed,
    )


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
    """The oracle's names that every method has, and where each method has them."""
    judged = set(everything)
    if models is not None:
        found = match(models, everything)
        if None in found:
            raise NotFoundError(
                f"oracle {oracle.name} does not know {models[found.index(None)]}", f"it knows {', '.join(everything)}"
            )
        judged = {name for name in found if name is not None}
    places: dict[str, dict[str, int]] = {}
    for method, (names, _) in tables.items():
        position = {name: i for i, name in enumerate(names)}
        matched = zip(everything, match(everything, names), strict=True)
        places[method] = {known: position[other] for known, other in matched if other is not None}
        judged &= set(places[method])
    return judged, places


def _left_out(
    tables: Mapping[str, tuple[tuple[str, ...], Array]],
    places: Mapping[str, Mapping[str, int]],
    targets: Sequence[str],
    sources: Sequence[str],
) -> tuple[str, ...]:
    missing: dict[str, None] = {}
    for method, (names, _) in tables.items():
        used = {places[method][name] for name in (*targets, *sources)}
        missing |= dict.fromkeys(name for i, name in enumerate(names) if i not in used)
    return tuple(missing)


def cell(interval: Interval, index: int | None = None) -> str:
    mean, low, high = (part if index is None else part[index] for part in (interval.mean, interval.low, interval.high))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]" if math.isfinite(mean) else "n/a"


def plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
