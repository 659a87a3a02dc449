"""How well a source's features predict the target's: a ranking that is not symmetric, from kernels that are stored anyway.

Transferring from model i to the task of model t means that a simple map from i's features gives what t computes. So ridge
regression (Hoerl & Kennard 1970) is fitted from i's features to t's on most of the probe images, and the score is R², the
share of t's variance that it predicts on the others, over `FOLDS` folds. In the dual form (Saunders et al., ICML 1998) both
sides enter by their kernels alone: with K of the source, L of the target, tr and te the images of a fold,

    A = K[te, tr] (K[tr, tr] + λ I)⁻¹,    residual = diag(L[te, te] − 2 A L[tr, te] + A L[tr, tr] Aᵀ).

Nothing but the kernels of a kernel space is needed: no labels, no forward pass. λ is `RIDGE` times the mean
eigenvalue of K; 1 was chosen among 0.1, 0.3, 1, 3 and 10 on one half of the targets of the oracle `rooms`
(docs/lab-book/evaluation.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelspace.deprecated import renamed
from modelspace.errors import UsageError

NONE, DIRECTED = "none", "directed"
RERANKINGS = (NONE, DIRECTED)

#: Methods whose matrices are positive semi-definite kernels; ranks (RSA) are not.
POSITIVE = ("dds", "linear_cka")

FOLDS, RIDGE = 5, 1.0

Array = NDArray[np.float64]


def out_of_fold_weights(source: Array, folds: int = FOLDS, ridge: float = RIDGE) -> Array:
    """What the prediction for image k takes of the target's features of image j: (N, N), A of each fold in its place.

    Args:
        source: (N, N) kernel of the source's features, any scale.
        folds: image k is held out in fold k mod `folds`; entries within a fold are zero.
        ridge: λ in units of the mean eigenvalue.

    Raises:
        UsageError: fewer than two images per fold.
    """
    n = len(source)
    if n < 2 * folds:
        raise UsageError(f"{n} probe images are too few for {folds} folds", f"use {2 * folds} or more")
    # With G = (K + λ I)⁻¹ of all images, the residual of a fold that was held out is G[te, te]⁻¹ (G Y)[te]: one inverse serves
    # all folds (Cook 1977 for one row; the same algebra for several).
    inverse = np.linalg.inv(source + ridge * np.trace(source) / n * np.eye(n))
    out = np.empty((n, n))
    for number in range(folds):
        held = slice(number, None, folds)
        out[held] = -np.linalg.solve(inverse[held, held], inverse[held])
        out[held, held] = 0.0
    return out


def r2_per_image(target: Array, weights: Array) -> Array:
    """What each probe image adds to R²: (N,), their mean is R².

    Args:
        target: (N, N) kernel of the target's features, any scale.
        weights: of the source (`out_of_fold_weights`).

    Raises:
        UsageError: they are of different size.
    """
    if weights.shape != target.shape:
        raise UsageError(f"kernels of {weights.shape} and {target.shape} can't be compared")
    predicted = weights @ target
    residual = np.diag(target) - 2 * np.diag(predicted) + np.einsum("ij,ij->i", predicted, weights)
    shared: Array = 1.0 - residual * (len(target) / np.trace(target))
    return shared


def r2_matrix(kernels: Sequence[Array]) -> Array:
    """R² of every pair of n models: (n, n), row = target, column = source."""
    predictors = [out_of_fold_weights(kernel) for kernel in kernels]
    return np.array([[r2_per_image(target, source).mean() for source in predictors] for target in kernels])


__getattr__ = renamed(__name__, {"weights": "out_of_fold_weights", "shares": "r2_per_image", "matrix": "r2_matrix"})
