"""Scores expected of models on a task, with 80% intervals: from other tasks, and from what was measured on this one.

In units of the spread between models, the score of model m on the task is N(m_m, v_m): the expectation from other tasks
(`modelspace.search.strength`), sharpened by what the model showed on a few images of the task, if it did. On the line
of `modelspace.search.units` the score is μ + s z. The level μ and the logarithm of the spread s have normal priors, the
mean and variance of which are those of other tasks, and follow what is measured on the task itself. Half an interval is

    q √( var μ + s² v_m (1 + var log s) + s² var(log s) (m_m - m̄)² ),

with m̄ the mean expectation of the models that were measured, and q the half-width that would have covered 80% of the
scores of the other tasks (`Strength.reach`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from modelspace.search.race import NOISE as NOISE_OF_VALUES
from modelspace.search.strength import Strength

Array = NDArray[np.float64]

#: The variance of log s that n measurements leave is this times 2 / (n - 1), the value for normal scores: scores have
#: longer tails, and the models that are measured first are alike. Chosen on nine published tables
#: (docs/lab-book/search.md).
_TAILS = 6.0

#: Half-width of an 80% interval of a normal distribution, in standard deviations.
_NORMAL_80 = 1.2816

#: From a few images to all of them, scores rise by about this number of spreads, and the logarithm of the spread
#: changes with this variance; at least this number of models must have been read. Chosen, like `NOISE`, on digits,
#: clothing and rendered scenes (docs/lab-book/search.md).
_RISE, _CHANGE, _SPREAD_NEEDS = 1.0, 0.3, 8

#: A held-out score on n images deviates from that on all of them with a variance of this / n, in units of the variance
#: between models: twice the noise of the readout's error (`modelspace.search.race.NOISE`), which is a finer measure.
#: Measured are 36 to 40; twice that keeps intervals from being too wide (docs/lab-book/search.md).
NOISE = 80.0

#: The median of few readings is too uncertain to compare a model with.
_FEWEST = 3


@dataclass(frozen=True)
class Level:
    """Where the scores of a task lie on the line.

    Attributes:
        mean: score of an average model.
        variance: of that mean.
        spread: between models, a standard deviation.
        log_variance: of the logarithm of the spread.
    """

    mean: float
    variance: float
    spread: float
    log_variance: float


@dataclass(frozen=True)
class Readings:
    """What models showed on the first images of a task.

    Attributes:
        values: (M,) held-out scores on the line, of a variance of `NOISE` / n around those on all images; NaN where
            there is none.
        n_images: number of images n.
        counts: (M,) bool, whether the reading is the model's longest: a shorter one saw the first of the same images,
            says nothing new of the model, but tells the others what its score means.
        finer: (M,) the values of the readouts behind the scores, higher is better (`modelspace.search.race.Reading`),
            NaN where unknown: they order models better than scores do, which count mistakes.
    """

    values: Array
    n_images: int
    counts: NDArray[np.bool_]
    finer: Array | None = None


@dataclass(frozen=True)
class Prediction:
    """Scores of M models on a task.

    Attributes:
        order: (M,) expected score in units of the spread between models: what models are ranked by.
        variance: (M,) of the score around it, in the same unit.
        mean: (M,) on the line; NaN if nothing tells where its scores lie.
        low, high: (M,) 80% interval.
    """

    order: Array
    variance: Array
    mean: Array
    low: Array
    high: Array


def predict(
    strength: Strength,
    measured: Array,
    readings: Sequence[Readings] = (),
    comparable: NDArray[np.bool_] | None = None,
) -> Prediction:
    """Predict the score of every model.

    Args:
        strength: of the M models, from other tasks.
        measured: (M,) scores on this task, on the line, NaN where not measured.
        readings: what models showed on a few images of this task.
        comparable: (R,) which rows of the strength's table are in this task's kind of unit; default: all.
    """
    order, variance = strength.mean.copy(), strength.score_variance
    first, around = order, variance
    for each in readings:
        sharper, certain = _sharpened(first, around, each)
        order, variance = np.where(each.counts, sharper, order), np.where(each.counts, certain, variance)
    level = _level(strength, measured, order, variance, comparable, readings)
    if level is None:
        nothing = np.full(len(order), np.nan)
        return Prediction(order, variance, nothing, nothing, nothing)
    known = np.isfinite(measured)
    centre = float(order[known].mean()) if known.any() else 0.0
    mean = level.mean + level.spread * order
    within = variance * (1 + level.log_variance) + level.log_variance * (order - centre) ** 2
    half = strength.reach * np.sqrt(level.variance + level.spread**2 * within)
    if known.any():
        order = np.where(known, (measured - level.mean) / level.spread, order)
        mean = np.where(known, measured, mean)
        half = np.where(known, 0.0, half)
    return Prediction(order, variance, mean, mean - half, mean + half)


def _sharpened(order: Array, variance: Array, readings: Readings) -> tuple[Array, Array]:
    """The expectations of the models that were read, after the reading."""
    seen = np.isfinite(readings.values)
    values, noise = readings.values, NOISE / max(readings.n_images, 1)
    if readings.finer is not None and np.isfinite(readings.finer[seen]).all():
        values, noise = readings.finer, NOISE_OF_VALUES / max(readings.n_images, 1)
    spread = float(values[seen].std()) if seen.sum() >= _FEWEST else 0.0
    if spread == 0.0:
        return order, variance
    # The models that were read are taken to be as strong on average as expected.
    middle = values[seen].mean()
    shown = order[seen].mean() + (values - middle) / spread * math.sqrt(1 + noise)
    precision = 1 / variance + 1 / noise
    sharper = (order / variance + np.where(seen, shown, 0.0) / noise) / precision
    return np.where(seen, sharper, order), np.where(seen, 1 / precision, variance)


def _level(
    strength: Strength,
    measured: Array,
    order: Array,
    variance: Array,
    comparable: NDArray[np.bool_] | None,
    readings: Sequence[Readings],
) -> Level | None:
    """Level and spread of the task; None if neither readings, other tasks nor measurements tell them."""
    known = np.isfinite(measured)
    scores, expected, around = measured[known], order[known], variance[known]
    level = _level_of_readings(readings) or _level_of_others(strength, comparable)
    if level is None:
        if len(scores) < 2 or np.ptp(scores) == 0:
            return None
        level = Level(float(scores.mean()), math.inf, float(scores.std(ddof=1)), math.inf)
    if len(scores) > 1:
        level = _with_spread(level, scores, expected, around)
    if len(scores):
        precisions = 1 / (level.spread**2 * around)
        prior = 1 / level.variance
        total = float(precisions.sum()) + prior
        gaps = scores - level.spread * expected
        mean = (float((precisions * gaps).sum()) + prior * level.mean) / total
        level = Level(mean, 1 / total, level.spread, level.log_variance)
    return level


def _level_of_readings(readings: Sequence[Readings]) -> Level | None:
    """Level and spread by the readings of the most models; None if there are too few.

    With more images scores rise, by an amount that only the measured models tell.
    """
    counts = [int(np.isfinite(each.values).sum()) for each in readings]
    if not counts or max(counts) < _SPREAD_NEEDS:
        return None
    best = readings[int(np.argmax(counts))]
    values = best.values[np.isfinite(best.values)]
    spread = float(values.std()) / math.sqrt(1 + NOISE / max(best.n_images, 1))
    return Level(float(values.mean()), (_RISE * spread) ** 2, spread, _CHANGE) if spread > 0 else None


def _level_of_others(strength: Strength, comparable: NDArray[np.bool_] | None) -> Level | None:
    """Level and spread of a task of which nothing is measured yet."""
    usable = np.isfinite(strength.row_means) & (np.nan_to_num(strength.row_spreads) > 0)
    if comparable is not None:
        usable &= comparable
    count = int(usable.sum())
    if not count:
        return None
    means, logs = strength.row_means[usable], np.log(strength.row_spreads[usable])
    spread = math.exp(float(logs.mean()))
    if count == 1:
        # One task says nothing of how tasks differ: then by four spreads between models, and by a factor of two.
        return Level(float(means[0]), (4 * spread) ** 2, spread, math.log(2.0) ** 2)
    # Few tasks leave their variance uncertain: Student's distribution instead of the normal one.
    tails = (float(stdtrit(count - 1, 0.9)) / _NORMAL_80) ** 2
    among = 1 + 1 / count
    return Level(
        float(means.mean()),
        max(float(means.var(ddof=1)) * among * tails, 1e-12),
        spread,
        max(float(logs.var(ddof=1)) * among, 1e-3),
    )


def _with_spread(level: Level, scores: Array, expected: Array, around: Array) -> Level:
    """The level with the spread that two or more measurements suggest, weighted with that of other tasks."""
    noise = _TAILS * 2 / (len(scores) - 1)
    prior = 1 / level.log_variance
    log_spread = math.log(level.spread)
    # The gaps depend on the spread themselves; a few rounds suffice.
    for _ in range(5):
        gaps = scores - math.exp(log_spread) * expected
        squared = float(((gaps - gaps.mean()) ** 2 / around).sum()) / (len(scores) - 1)
        if squared <= 0:
            break
        log_spread = (prior * math.log(level.spread) + 0.5 * math.log(squared) / noise) / (prior + 1 / noise)
    return Level(level.mean, level.variance, math.exp(log_spread), 1 / (prior + 1 / noise))
