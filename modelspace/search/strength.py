"""How strong models are in general, from their outcomes on other tasks.

Outcomes are a table, one row per measurement series: a task, measured in one way. Rows have different units, and miss
different models. A random-effects model separates what belongs to the row from what belongs to the model (Henderson,
Biometrics 1975):

    y_rm = μ_r + s_r (a_m + e_rm),    a_m ~ N(w · x_m, σ_a²),    e_rm ~ N(0, σ_e²),

with μ_r and s_r the middle and the spread of the row, a_m the general strength of a model, and x_m what is known of it
without any outcome (log effective rank), or 0. The strength of a model is shrunk towards w · x_m by how seldom it
was measured: with λ = σ_e² / σ_a² and n rows,

    â_m = w · x_m + n / (n + λ) · mean of (z_rm - w · x_m),    var(a_m | outcomes) = σ_a² λ / (n + λ).

Variances and row effects are found by expectation maximisation (Dempster, Laird & Rubin, JRSS B 1977). One training
that broke down must not decide what a spread is: μ_r and s_r are the median and the interquartile range, and scores
further than `FURTHEST` spreads from the median count as that far. On nine published tables the cut matters; median and
range instead of mean and standard deviation make no clear difference (docs/lab-book/search.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.errors import UsageError

Array = NDArray[np.float64]

_STEPS = 60

#: Largest distance of a score from the median of its row, in spreads.
FURTHEST = 3.0

#: The interquartile range of fewer models is too uncertain; their spread is the standard deviation.
_QUARTILES_NEED = 8

#: Interquartile range of a normal distribution of standard deviation 1.
_NORMAL_RANGE = 1.349

#: Half-width of the 80% interval of a normal distribution, in standard deviations; what it is replaced by must be
#: measured on at least this number of scores, and stay in this range.
_NORMAL_80, _RATIOS_NEED, _REACH = 1.2816, 30, (0.9, 2.0)

#: Variances that are assumed as if they had been seen in this many measurements, so that few outcomes give neither 0
#: nor infinity: strength and its deviation on a task explain half of the spread each.
_PSEUDO, _HALF = 4.0, 0.5

#: Slope of the strength on what is known without outcomes, as if seen in as many measurements. The effective rank of a
#: kernel agreed with readouts of the zoo's networks at a weighted τ of 0.14; once there are outcomes, the slope has no
#: effect (docs/lab-book/search.md).
_SLOPE = 0.3


@dataclass(frozen=True)
class Strength:
    """What the outcomes of other tasks say about each model.

    Attributes:
        mean: (M,) expected score on a new task, in units of the spread of its models; 0 is the average model.
        variance: (M,) of the model's general strength.
        deviation: variance of a model's score on one task around its general strength.
        counts: (M,) rows in which the model was measured.
        row_means: (R,) score of a model of strength 0 in each row, in the row's unit; NaN in a row without a score.
        row_spreads: (R,) spread of the rows' models, in the row's unit; 0 if all scores are equal, NaN with fewer than
            two.
        reach: half-width of an 80% interval of a new score, in standard deviations: the quantile of the deviations of
            each row's scores from what the other rows predict, 1.28 if there are too few.
    """

    mean: Array
    variance: Array
    deviation: float
    counts: NDArray[np.intp]
    row_means: Array
    row_spreads: Array
    reach: float

    @property
    def score_variance(self) -> Array:
        """(M,) of a model's score on a new task around `mean`."""
        return self.variance + self.deviation


def strength(scores: ArrayLike, known: ArrayLike | None = None) -> Strength:
    """Estimate the strength of every model.

    Args:
        scores: (R, M), higher is better, NaN where not measured. Rows with fewer than two different scores say
            nothing about models.
        known: (M,) a quantity that tells models apart before any outcome, NaN where unknown; standardised here.

    Raises:
        UsageError: another shape, or an infinite score.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or np.isinf(table).any():
        raise UsageError(f"outcomes are a finite (rows, models) table, not of shape {table.shape}")
    hint = _standardised(np.zeros(table.shape[1]) if known is None else np.asarray(known, dtype=np.float64))
    measured = np.isfinite(table)
    counted = measured.sum(axis=1)
    means = np.array([_middle(row) for row in table])
    spreads = np.array([_spread(row) for row in table])
    usable = (counted >= 2) & (spreads > 0)
    inside = measured & usable[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(inside, ((table - means[:, None]) / spreads[:, None]).clip(-FURTHEST, FURTHEST), 0.0)
    counts = inside.sum(axis=0)
    mean, variance, deviation, offsets = _expectation_maximisation(z, inside, hint)
    reach = _reach(np.where(inside, z - offsets[:, None], np.nan), mean, variance, deviation)
    return Strength(mean, variance, deviation, counts, means + offsets * np.where(usable, spreads, 0.0), spreads, reach)


def _expectation_maximisation(z: Array, inside: NDArray[np.bool_], hint: Array) -> tuple[Array, Array, float, Array]:
    """Strengths, their variances, the variance of one deviation, and the offset of each row."""
    counts, total = inside.sum(axis=0), float(inside.sum())
    rows = inside.sum(axis=1)
    of_strength = of_deviation = _HALF
    offsets, slope = np.zeros(len(z)), _SLOPE
    mean, variance = hint * slope, np.full(len(hint), of_strength)
    for _ in range(_STEPS):
        shrinkage = of_deviation / of_strength
        gaps = np.where(inside, z - offsets[:, None] - slope * hint, 0.0)
        own = gaps.sum(axis=0) / (counts + shrinkage)
        mean = slope * hint + own
        variance = of_deviation / (counts + shrinkage)
        residual = np.where(inside, z - mean, 0.0)
        # A row of strong models has a mean above that of all models.
        offsets = residual.sum(axis=1) / (rows + shrinkage)
        left = np.where(inside, residual - offsets[:, None], 0.0)
        seen = counts > 0
        of_deviation = (float((left**2 + variance * inside).sum()) + _PSEUDO * _HALF) / (total + _PSEUDO)
        of_strength = (float((own**2 + variance)[seen].sum()) + _PSEUDO * _HALF) / (seen.sum() + _PSEUDO)
        # The slope of strength on the hint, shrunk by as many models as variances are.
        targets = np.where(seen, mean, 0.0)
        slope = (float(hint @ targets) + _PSEUDO * _SLOPE) / (float((hint**2)[seen].sum()) + _PSEUDO)
    return mean, variance, of_deviation, offsets


def _reach(z: Array, mean: Array, variance: Array, deviation: float) -> float:
    """See `Strength.reach`; z is NaN where not measured."""
    # Without its own row, a mean over n rows with pseudo-count λ moves by the row's gap times 1 / (n + λ - 1).
    weight = variance / deviation  # 1 / (n + λ)
    if not np.isfinite(z).any():
        return _NORMAL_80
    left = np.maximum(1 - weight, 1e-9)
    gaps = (z - mean) / left
    spread = np.sqrt(deviation + deviation * weight / left)
    ratios = np.abs(gaps / spread)
    ratios = ratios[np.isfinite(ratios)]
    if len(ratios) < _RATIOS_NEED:
        return _NORMAL_80
    return float(np.clip(np.quantile(ratios, 0.8), *_REACH))


def _standardised(values: Array) -> Array:
    """Mean 0 and standard deviation 1 over what is known; 0 where unknown."""
    finite = np.isfinite(values)
    if finite.sum() < 2 or np.ptp(values[finite]) == 0:
        return np.zeros(len(values))
    centred = values - values[finite].mean()
    return np.where(finite, centred / values[finite].std(), 0.0)


def _middle(row: Array) -> float:
    return float(np.median(row[np.isfinite(row)])) if np.isfinite(row).any() else np.nan


def _spread(row: Array) -> float:
    values = row[np.isfinite(row)]
    if len(values) > 1 and np.ptp(values) == 0:
        return 0.0  # the deviation of equal numbers from their mean is a rounding error
    if len(values) >= _QUARTILES_NEED:
        low, high = np.quantile(values, [0.25, 0.75])
        if high > low:
            return float(high - low) / _NORMAL_RANGE
    return float(values.std()) if len(values) > 1 else np.nan
