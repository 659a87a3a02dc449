"""LogME: logarithm of maximum evidence (You, Liu, Wang & Long, ICML 2021).

A label column y is modelled as y ~ N(F w, 1/β) with w ~ N(0, 1/α), F the features as they are (n, d), without an
intercept. The score is the largest log evidence over α and β, per image, and its mean over the classes' one-hot
columns (algorithm 1 there):

    L = n/2 log β + d/2 log α - n/2 log 2π - β/2 |F m - y|² - α/2 mᵀm - 1/2 log|A|,
    A = α I + β FᵀF,    m = β A⁻¹ Fᵀ y.

The maximum is found by the fixed point of You et al. (JMLR 2022) for t = α/β, which needs one
eigendecomposition for all columns: with σ the squared singular values of F and z = Uᵀy,

    γ = Σ σ / (t + σ),  |m|² = Σ σ z² / (t + σ)²,  |F m - y|² = Σ (t z / (t + σ))² + |y - U z|²,
    t ← γ / |m|² · |F m - y|² / (n - γ).

For a given t the best β has a closed form, 1/β = (Σ t z² / (t + σ) + |y - U z|²) / n, so that the value returned is
the exact evidence at that t. t stays within 1e-8 and 1e8 times the mean of σ, and 1/β above 1e-12 |y|²/n: an evidence
without bound (labels that the features fit exactly) has a defined value too.

Features are not standardised, as in the paper; scale and rotation of all features change nothing. Features that are
zero throughout give the evidence of w = 0; constant ones act as an intercept. Defined for regression likewise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from modelspace.scores.inputs import Array, checked, targets
from modelspace.scores.spectrum import spectrum

STEPS = 1000
TOLERANCE = 1e-5
#: t in units of the mean of σ.
RANGE = (1e-8, 1e8)
#: Smallest 1/β in units of |y|² / n.
LEAST_NOISE = 1e-12


def score(features: ArrayLike, labels: ArrayLike) -> float:
    """Log maximum evidence per image, averaged over classes; any real number.

    Args:
        features: (n, d).
        labels: (n,) integers for classes, floats for regression.

    Raises:
        UsageError: see `modelspace.scores.inputs`.
    """
    table = checked(features)
    expected = targets(labels, len(table))
    return float(evidence(table, expected).mean())


def evidence(table: Array, columns: Array) -> Array:
    """(k,) largest log evidence per image of each of the (n, k) columns given the (n, d) table."""
    n = len(table)
    left, values = spectrum(table)
    along = (left.T @ columns) ** 2
    length = (columns**2).sum(axis=0)
    beyond = np.maximum(length - along.sum(axis=0), 0.0)
    if not len(values):
        return _evidence(n, values, along, beyond, length, np.ones(columns.shape[1]))
    low, high = (bound * values.mean() for bound in RANGE)
    t = np.full(columns.shape[1], values.mean())
    for _ in range(STEPS):
        before, t = t, np.clip(_step(n, values, along, beyond, t), low, high)
        if (np.abs(t - before) <= TOLERANCE * before).all():
            break
    return _evidence(n, values, along, beyond, length, t)


def _step(n: int, values: Array, along: Array, beyond: Array, t: Array) -> Array:
    """One round of the fixed point for (k,) ratios t = α/β."""
    kept = 1.0 / (t + values[:, None])
    effective = (values[:, None] * kept).sum(axis=0)
    weight = (values[:, None] * along * kept**2).sum(axis=0)
    misfit = ((t * kept) ** 2 * along).sum(axis=0) + beyond
    # With zero weights t has no upper bound; `evidence` clips it.
    result: Array = effective * misfit / np.maximum(weight * (n - effective), np.finfo(np.float64).tiny)
    return result


def _evidence(n: int, values: Array, along: Array, beyond: Array, length: Array, t: Array) -> Array:
    """(k,) log evidence per image at t = α/β with the best β for it: y ~ N(0, (I + FFᵀ/t) / β)."""
    noise = ((t / (t + values[:, None]) * along).sum(axis=0) + beyond) / n
    least = LEAST_NOISE * length / n
    capped = np.maximum(noise, least)
    determinant = np.log1p(values[:, None] / t).sum(axis=0)
    result: Array = -0.5 * (np.log(2 * np.pi * capped) + noise / capped + determinant / n)
    return result
