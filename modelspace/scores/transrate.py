"""TransRate: coding rates (Huang, Huang, Rong, Yang & Wei, ICML 2022; listing 1 there is code).

    TrR = R(Z) - Σ_c n_c/n R(Z_c),    R(Z) = 1/2 log det(I + ZᵀZ / (n ε)),    ε = 1e-4,

with Z the features less their mean and Z_c its rows of class c: how many nats it takes to tell the features up to a
distortion, less what it takes within the classes. Listing 1 weighs all classes the same, which is equal for classes of
equal size; here they have their share of the images, as in the formula.

Features are scaled so that the mean squared distance from their mean is 1, which is not in the paper: otherwise the
score of a model changes with the unit of its features. Computed on the shorter side of each table: det(I + ZᵀZ) =
det(I + ZZᵀ). At least 0. Constant features give 0. With ε this small the value grows with the rank of the features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from modelspace.errors import UsageError
from modelspace.scores.inputs import Array, centred, checked, classes

EPSILON = 1e-4


def score(features: ArrayLike, labels: ArrayLike, *, epsilon: float = EPSILON) -> float:
    """Difference of coding rates in nats, 0 or more.

    Args:
        features: (n, d).
        labels: (n,) integers.
        epsilon: distortion, above 0.

    Raises:
        UsageError: see `modelspace.scores.inputs`; epsilon is not above 0.
    """
    if not epsilon > 0:
        raise UsageError(f"epsilon {epsilon} is no distortion", "use a number above 0; the default is 0.0001")
    numbers = classes(labels, len(checked(features)))
    table = centred(features)
    spread = float((table**2).sum() / len(table))
    if spread == 0.0:
        return 0.0
    table = table / np.sqrt(spread)
    parts = (table[numbers == number] for number in range(int(numbers.max()) + 1))
    within = sum(len(part) / len(table) * coding_rate(part, epsilon) for part in parts)
    return coding_rate(table, epsilon) - within


def coding_rate(table: Array, epsilon: float) -> float:
    """R of an (n, d) table, in nats."""
    n, d = table.shape
    gram = table @ table.T if n <= d else table.T @ table
    return 0.5 * float(np.linalg.slogdet(np.eye(len(gram)) + gram / (n * epsilon)).logabsdet)
