"""Replay of a search on tables of measured outcomes: what it would have found, and what it expected.

For each target the rows of all other targets are what is known, and the models are tried in some order. An order is as
good as the best model among the first k is near to the best of all. A model that was trained for the target never
counts: its cell is NaN (`Oracle.truth`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.errors import UsageError
from modelspace.evaluation import baselines, metrics
from modelspace.evaluation.metrics import Interval
from modelspace.evaluation.rankings import Array
from modelspace.search.prediction import predict
from modelspace.search.strength import Strength, strength
from modelspace.search.units import Unit

#: Numbers of tries after which regret is reported; besides a quarter of the models.
TRIES = (1, 2, 3, 5, 8)

#: What part of the models a search is asked to do with.
QUARTER = 0.25

#: Numbers of tries after which the predictions for the other models are checked.
CHECKED = (0, 1, 3, 8)

#: Fewer models than this have no order worth a figure.
FEWEST = 3


@dataclass(frozen=True)
class Policy:
    """How one way to search did.

    Attributes:
        name: of the policy.
        figures: figure -> (targets,), NaN where it is not defined.
    """

    name: str
    figures: Mapping[str, Array]

    def summary(self, figure: str) -> Interval:
        """Mean over targets and its 95% bootstrap interval."""
        return metrics.bootstrap(self.figures[figure])


@dataclass(frozen=True)
class Replay:
    """Policies on the same targets.

    Attributes:
        name: of the oracle, or of what else was replayed.
        targets: T names.
        n_models: number of models.
        is_relative: whether regret is divided by that of one random model; else it is in points of the metric.
        policies: one per row of the table.
    """

    name: str
    targets: tuple[str, ...]
    n_models: int
    is_relative: bool
    policies: tuple[Policy, ...]

    def policy(self, name: str) -> Policy:
        """A policy by its name."""
        return next(policy for policy in self.policies if policy.name == name)


def replay_outcomes(name: str, targets: Sequence[str], outcomes: ArrayLike, unit: Unit | None = None) -> Replay:
    """Replay tries on a table of outcomes.

    The policies are "random" (its exact expectation), "static" (mean rank on the other targets), "static by score"
    (mean standardised score) and "search" (`modelspace.search.strength`, which `suggest` goes by); then "expected after
    n tries", the predictions of `modelspace.search.prediction` for the models not tried yet.

    Args:
        name: of the table.
        targets: T names.
        outcomes: (T, M), higher is better; NaN if not measured, or if the model was trained for the target.
        unit: of the outcomes; default: no share, and the same for all targets up to level and spread. If it is a share,
            regret and the width of intervals are in points (hundredths of the full score), else relative.

    Raises:
        UsageError: fewer than two targets, or an infinite outcome.
    """
    table = np.asarray(outcomes, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != len(targets) or len(targets) < 2 or np.isinf(table).any():
        raise UsageError(
            f"{name} is a table of shape {table.shape} for {len(targets)} targets",
            "a replay needs two or more targets, a finite outcome or NaN for each model",
        )
    unit = unit or Unit(False, 1.0, 1.0)
    table = np.where((np.isfinite(table).sum(axis=1) >= FEWEST)[:, None], table, np.nan)
    line = unit.to_line(table)
    strengths = [strength(others(line, row)) for row in range(len(table))]
    points = 100.0 / unit.full if unit.is_share else None
    orders = {
        "random": np.zeros(table.shape),
        "static": baselines.static(table),
        "static by score": baselines.static(table, "score"),
        "search": np.stack([each.mean for each in strengths]),
    }
    policies = [Policy(policy, order_figures(order, table, points)) for policy, order in orders.items()]
    policies += [
        Policy(f"expected after {tries} tries", _checked_intervals(table, line, strengths, unit, tries))
        for tries in CHECKED
    ]
    return Replay(name, tuple(targets), table.shape[1], points is None, tuple(policies))


def others(table: Array, row: int) -> Array:
    """What is known for a target: the rows of the others."""
    rows: Array = np.delete(table, row, axis=0)
    return rows


def quarter(n_models: int) -> int:
    """Number of models that are a quarter of them, rounded up."""
    return max(1, math.ceil(QUARTER * n_models))


def order_figures(order: Array, table: Array, points: float | None) -> dict[str, Array]:
    """Regret after some tries, and agreement of an order with the outcomes.

    Args:
        order: (T, M), the first to be tried has the highest value; ties are broken at random, in expectation.
        table: (T, M) outcomes.
        points: of regret per unit of the outcomes; None for regret relative to that of one random model.
    """
    regret = metrics.regret_at_k(order, table, relative=points is None) * (points or 1.0)
    counts = np.isfinite(table).sum(axis=1)
    figures = {f"regret@{tries}": _at(regret, np.full(len(table), tries), counts) for tries in TRIES}
    figures["regret@quarter"] = _at(regret, np.array([quarter(int(count)) for count in counts]), counts)
    return figures | {
        "weighted_tau": metrics.weighted_kendall(order, table),
        "spearman": metrics.spearman(order, table),
    }


def _at(regret: Array, tries: NDArray[np.intp], counts: NDArray[np.intp]) -> Array:
    """Regret of each target after its number of tries, or after as many as it has models."""
    last = np.minimum(tries, counts) - 1
    return np.array([row[place] if place >= 0 else np.nan for row, place in zip(regret, last, strict=True)])


def _checked_intervals(
    table: Array, line: Array, strengths: Sequence[Strength], unit: Unit, tries: int
) -> dict[str, Array]:
    """The 80% intervals of the models that were not tried, per target."""
    rows = []
    for row, strong in enumerate(strengths):
        known = np.isfinite(table[row])
        tried = [number for number in np.argsort(-strong.mean, kind="stable") if known[number]][:tries]
        measured = np.full(table.shape[1], np.nan)
        measured[tried] = line[row, tried]
        expected = predict(strong, measured)
        asked = known & np.isnan(measured)
        rows.append(interval_figures(expected.low, expected.high, line[row], asked, unit))
    return {figure: np.array([each[figure] for each in rows]) for figure in rows[0]}


def interval_figures(low: Array, high: Array, line: Array, asked: NDArray[np.bool_], unit: Unit) -> dict[str, float]:
    """Coverage and width of intervals on the line; NaN if there is none.

    Args:
        low: (M,) on the line of `unit`.
        high: (M,).
        line: (M,) outcomes.
        asked: (M,) bool, which intervals count.
        unit: the width is in points if it is a share, else NaN.
    """
    usable = asked & np.isfinite(low)
    if not usable.any():
        return dict.fromkeys(("coverage", "above", "width", "width_in_spreads"), math.nan)
    low, high, values = low[usable], high[usable], line[usable]
    scores = line[np.isfinite(line)]
    spread = float(scores.std()) if np.ptp(scores) > 0 else 0.0
    points = (unit.from_line(high) - unit.from_line(low)) * 100.0 / unit.full
    return {
        "coverage": float(((low <= values) & (values <= high)).mean()),
        "above": float((values > high).mean()),
        "width": float(points.mean()) if unit.is_share else math.nan,
        "width_in_spreads": float((high - low).mean()) / spread if spread > 0 else math.nan,
    }
