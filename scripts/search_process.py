"""Does a Gaussian process over affinities add to what other tasks let expect? A measurement for the page on the search.

What is left of a model's score after the static prediction is taken to be alike for models of high affinity: residuals
in units of their expected deviation are N(0, ρ K + (1 - ρ) I), with K the double-centred affinities of mean diagonal 1.
ρ is the likeliest of a few values given the residuals on the other tasks, each predicted without its own row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import weightedtau
from search_constants import table

from modelspace.evaluation.metrics import bootstrap
from modelspace.evaluation.replay import interval_figures, others
from modelspace.evaluation.replay_features import Measured, truths
from modelspace.search import prediction
from modelspace.search.strength import Strength, strength
from modelspace.search.units import Unit

SHARES = (0.0, 0.25, 0.5, 0.75, 0.9)
TRIES = (3, 8)
UNIT = Unit(True, 100.0, 1.0)


@dataclass(frozen=True)
class Expected:
    """Expected scores of M models on the line, and their 80% intervals."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def centred(matrix: np.ndarray) -> np.ndarray:
    """Double-centred affinities (M, M) of mean diagonal 1, without negative directions."""
    centring = np.eye(len(matrix)) - 1 / len(matrix)
    values, vectors = np.linalg.eigh(centring @ (matrix + matrix.T) @ centring / 2)
    kernel = (vectors * np.maximum(values, 0.0)) @ vectors.T
    scaled: np.ndarray = kernel * len(kernel) / np.trace(kernel)
    return scaled


def expected(strong: Strength, measured: np.ndarray, kernel: np.ndarray, share: float) -> Expected:
    """The prediction of `modelspace.search.prediction`, with residuals that go together by `share` of a kernel.

    Args:
        strong: of the M models, from other tasks.
        measured: (M,) on the line, NaN where not measured.
        kernel: (M, M).
        share: ρ; with 0 the result is that of `prediction.predict` for the models that were not measured.
    """
    spread_of = strong.variance + strong.deviation
    level = prediction._level(strong, measured, strong.mean, spread_of, None, ())  # noqa: SLF001
    assert level is not None, "other tasks tell the level"
    known = np.isfinite(measured)
    covariance = share * kernel + (1 - share) * np.eye(len(kernel))
    covariance = covariance * np.sqrt(np.outer(spread_of, spread_of))
    residual = (measured[known] - level.mean) / level.spread - strong.mean[known]
    gain = np.linalg.solve(covariance[np.ix_(known, known)], covariance[known]).T
    mean = strong.mean + gain @ residual
    left = np.maximum(np.diag(covariance) - (gain * covariance[:, known]).sum(axis=1), 0.0)
    centre = float(strong.mean[known].mean()) if known.any() else 0.0
    within = left * (1 + level.log_variance) + level.log_variance * (mean - centre) ** 2
    half = strong.reach * np.sqrt(level.variance + level.spread**2 * within)
    places = level.mean + level.spread * mean
    return Expected(places, places - half, places + half)


def likeliest(line: np.ndarray, kernel: np.ndarray) -> float:
    """The ρ of the highest likelihood of the residuals of each row, predicted from the other rows."""
    totals = dict.fromkeys(SHARES, 0.0)
    for row in range(len(line)):
        strong = strength(others(line, row))
        spread_of = np.sqrt(strong.variance + strong.deviation)
        known = np.isfinite(line[row])
        scores = line[row][known]
        z = (scores - scores.mean()) / scores.std() - strong.mean[known]
        z = (z - z.mean()) / spread_of[known]
        for share in SHARES:
            covariance = share * kernel[np.ix_(known, known)] + (1 - share) * np.eye(int(known.sum()))
            _, log_volume = np.linalg.slogdet(covariance)
            # The overall scale of the residuals is not what is asked.
            scale = float(z @ np.linalg.solve(covariance, z)) / len(z)
            totals[share] -= 0.5 * (log_volume + len(z) * math.log(scale))
    return max(totals, key=lambda share: totals[share])


def replayed(line: np.ndarray, row: int, kernel: np.ndarray, share: float, tries: int) -> dict[str, float]:
    """Figures after some tries, each of the model that is expected to be the best."""
    strong = strength(others(line, row))
    measured = np.full(line.shape[1], np.nan)
    candidates = np.isfinite(line[row])
    for _ in range(tries):
        left = candidates & np.isnan(measured)
        best = int(np.argmax(np.where(left, expected(strong, measured, kernel, share).mean, -np.inf)))
        measured[best] = line[row, best]
    last = expected(strong, measured, kernel, share)
    left = candidates & np.isnan(measured)
    points = UNIT.from_line(line[row])
    return {
        "regret": float(np.nanmax(points) - np.nanmax(UNIT.from_line(measured))),
        "tau_w": float(weightedtau(line[row][left], last.mean[left]).statistic),
        **interval_figures(last.low, last.high, line[row], left, UNIT),
    }


def process_text(tasks: Sequence[Measured], matrix: np.ndarray) -> str:
    """The table, and the shares that were chosen."""
    line = UNIT.to_line(truths(tasks))
    kernel = centred(matrix)
    chosen = [likeliest(others(line, row), kernel) for row in range(len(line))]
    rows: list[list[object]] = []
    for tries in TRIES:
        without = [replayed(line, row, kernel, 0.0, tries) for row in range(len(line))]
        shares: dict[str, list[float]] = {"likeliest on the other sets": chosen, "0.5": [0.5] * len(line)}
        results = {"none": without} | {
            name: [replayed(line, row, kernel, share, tries) for row, share in enumerate(values)]
            for name, values in shares.items()
        }
        for name, figures in results.items():
            gain = bootstrap([new["tau_w"] - old["tau_w"] for new, old in zip(figures, without, strict=True)])
            rows.append(
                [tries, name]
                + [float(np.mean([each[key] for each in figures])) for key in ("regret", "tau_w")]
                + ["" if name == "none" else f"{gain.mean:+.2f} ({gain.low:+.2f}..{gain.high:+.2f})"]
                + [float(np.mean([each[key] for each in figures])) for key in ("coverage", "width_in_spreads")]
            )
    counts = ", ".join(f"{share:g} ({chosen.count(share)} sets)" for share in SHARES if chosen.count(share))
    head = ("tries", "share ρ of the process", "regret", "tau_w of the rest", "gain", "coverage", "width / spread")
    return f"Likeliest ρ: {counts}.\n\n" + table(head, rows)
