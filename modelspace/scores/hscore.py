"""H-score with shrinkage (Bao et al., ICIP 2019; Ibrahim, Ponomareva & Mazumder, ECML PKDD 2022).

    H = tr(cov(f)⁻¹ cov(E[f | y]))

is the variance between classes in units of the total variance, summed over the directions of the features. With few
images cov(f) can't be inverted, so it is shrunk (Ibrahim et al.):

    H_a = tr(S_a⁻¹ (1 - a) cov(E[f | y])),    S_a = (1 - a) cov(f) + a tr(cov(f))/d I,

with a by Ledoit & Wolf (J. Multivariate Analysis 2004). Covariances divide by n. The value
lies in [0, number of classes - 1].

The factor 1 - a is as published, and it makes models hard to compare on few images: where a comes near 1, as for
features spread about equally in all directions, the score drops to 0 however far the classes are apart.
`shrink_means=False` leaves it out.

With more features than images all is computed from the n x n matrix of inner products. Constant features give 0. A
class with one image is its own mean: it adds what it would add if it were tight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from modelspace.errors import UsageError
from modelspace.scores.inputs import Array, centred, checked, classes, one_hot
from modelspace.scores.spectrum import spectrum


def score(
    features: ArrayLike, labels: ArrayLike, *, shrinkage: float | None = None, shrink_means: bool = True
) -> float:
    """H-score, in [0, number of classes - 1].

    Args:
        features: (n, d), used without scaling, minus their mean.
        labels: (n,) integers.
        shrinkage: a in [0, 1]; default: by Ledoit & Wolf. 0 is the score of Bao et al. with a pseudo-inverse.
        shrink_means: multiply the covariance of the class means by 1 - a, as published.

    Raises:
        UsageError: see `modelspace.scores.inputs`; shrinkage outside [0, 1].
    """
    if shrinkage is not None and not 0.0 <= shrinkage <= 1.0:
        raise UsageError(f"a shrinkage of {shrinkage} is not in [0, 1]", "leave it out to choose it by Ledoit & Wolf")
    numbers = classes(labels, len(checked(features)))
    table = centred(features)
    n, d = table.shape
    left, values = spectrum(table)
    if not len(values):
        return 0.0
    a = ledoit_wolf(table, values) if shrinkage is None else shrinkage
    variances = values / n
    of_class = one_hot(numbers)
    between = ((left.T @ of_class) ** 2 / of_class.sum(axis=0)).sum(axis=1)
    shrunk = (1.0 - a) * variances + a * variances.sum() / d
    factor = 1.0 - a if shrink_means else 1.0
    return factor * float((between * variances / shrunk).sum())


def ledoit_wolf(table: Array, values: Array) -> float:
    """The shrinkage with the smallest expected squared error, in [0, 1].

    Args:
        table: (n, d), columns of mean 0.
        values: its squared singular values.

    With S = XᵀX/n and μ = tr(S)/d: min(b², δ²) / δ², δ² = |S - μI|², b² = 1/n² Σ_k |x_k x_kᵀ - S|². Both norms follow
    from the singular values and the lengths of the rows.
    """
    n, d = table.shape
    squared = float((values**2).sum()) / n**2
    distance = squared - float(values.sum() / n) ** 2 / d
    noise = (float(((table**2).sum(axis=1) ** 2).sum()) / n - squared) / n
    return 1.0 if distance <= 0 else float(np.clip(noise / distance, 0.0, 1.0))
