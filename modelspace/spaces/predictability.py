"""How well a source's features predict the target's: an asymmetric ranking, computed from stored kernels.

Model i transfers well to the task of model t if a simple function of i's features yields t's. So ridge regression
(Hoerl & Kennard 1970) is fitted from i's features to t's, and the score is the cross-validated R² over the probe
images, with `FOLDS` folds. In the dual form (Saunders et al., ICML 1998) only the kernels of both models are needed:
with K of the source, L of the target, and tr and te the training and test images of a fold,

    A = K[te, tr] (K[tr, tr] + λ I)⁻¹,    residual = diag(L[te, te] − 2 A L[tr, te] + A L[tr, tr] Aᵀ).

No labels and no forward pass are needed. λ is `RIDGE` times the mean eigenvalue of K; 1 was chosen among 0.1, 0.3, 1,
3 and 10 on one half of the targets of the oracle `rooms` (docs/lab-book/evaluation.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from modelspace.deprecated import renamed
from modelspace.errors import UsageError

NONE, DIRECTED = "none", "directed"
RERANKINGS = (NONE, DIRECTED)

#: Methods whose matrices are positive semi-definite kernels; the rank matrices of RSA are not.
POSITIVE = ("dds", "linear_cka")

FOLDS, RIDGE = 5, 1.0

#: Rows of a matrix that LAPACK inverts in one piece, and of each matrix of a stack, which calls it for one at a time.
_SMALL, _SMALL_OF_STACK = 50, 8

Array = NDArray[np.float64]
_Float = TypeVar("_Float", np.float32, np.float64)


def out_of_fold_weights(source: Array, folds: int = FOLDS, ridge: float = RIDGE) -> Array:
    """(N, N) weight of image j's target features in the out-of-fold prediction for image k: the A of every fold.

    Args:
        source: (N, N) kernel of the source's features, any scale.
        folds: number of folds; image k is held out in fold k mod `folds`. Entries within a fold are zero.
        ridge: λ in units of the mean eigenvalue.

    Raises:
        UsageError: fewer than two images per fold.
    """
    n = len(source)
    if n < 2 * folds:
        raise UsageError(f"{n} probe images are too few for {folds} folds", f"use {2 * folds} or more")
    # With G = (K + λ I)⁻¹ over all images, the residual of a held-out fold is G[te, te]⁻¹ (G Y)[te], so one inverse
    # serves all folds (Cook 1977 for one row; the same algebra holds for several).
    regularised = np.array(source, dtype=np.float64)
    regularised.flat[:: n + 1] += ridge * np.trace(source) / n
    inverse = _inverse(regularised)
    weights = np.empty((n, n))
    for fold in range(folds):
        test = slice(fold, None, folds)
        weights[test] = -_inverse(inverse[test, test]) @ inverse[test]
        weights[test, test] = 0.0
    return weights


def _inverse(matrix: NDArray[_Float]) -> NDArray[_Float]:
    """Inverse of symmetric positive definite matrices (..., n, n), by blocks (Boltz 1923), in half of LAPACK's time.

    λ of `out_of_fold_weights` keeps the condition number below n + 1, so the blocks cost no digits.
    """
    n = matrix.shape[-1]
    if n <= (_SMALL if matrix.ndim == 2 else _SMALL_OF_STACK):
        return np.asarray(np.linalg.inv(matrix), dtype=matrix.dtype)
    half = n // 2
    right = matrix[..., :half, half:]
    upper = _inverse(matrix[..., :half, :half])
    step = upper @ right
    transposed = np.swapaxes(step, -1, -2)
    lower = _inverse(matrix[..., half:, half:] - transposed @ right)
    corner = -step @ lower
    inverse = np.empty_like(matrix)
    inverse[..., :half, :half] = upper - corner @ transposed
    inverse[..., :half, half:] = corner
    inverse[..., half:, :half] = np.swapaxes(corner, -1, -2)
    inverse[..., half:, half:] = lower
    return inverse


def r2_per_image(target: Array, weights: Array) -> Array:
    """Each probe image's contribution to R²: (N,); their mean is R².

    Args:
        target: (N, N) kernel of the target's features, any scale.
        weights: `out_of_fold_weights` of the source.

    Raises:
        UsageError: their sizes differ.
    """
    if weights.shape != target.shape:
        raise UsageError(f"kernels of {weights.shape} and {target.shape} can't be compared")
    predicted = weights @ target
    residual = np.diag(target) - 2 * np.diag(predicted) + np.einsum("ij,ij->i", predicted, weights)
    contributions: Array = 1.0 - residual * (len(target) / np.trace(target))
    return contributions


def rough_matrices(sources: NDArray[np.float32], ridge: float = RIDGE) -> NDArray[np.float32]:
    """Of each source the matrix M for which `rough_r2` is ⟨L, M⟩ / tr L, whatever the target's kernel L.

    With G = (K + λ I)⁻¹, an image's error is (G Y)ᵢ / Gᵢᵢ if it is predicted from the others (Cook 1977), and
    L = Y Yᵀ, so M = I − G diag(1 / Gᵢᵢ²) G. One image at a time is left out, not a fold: one inverse is all it takes.

    Args:
        sources: (n, m, m) kernels of the sources' features for m of the images, any scale.
        ridge: as for `out_of_fold_weights`.

    Returns:
        (n, m, m), symmetric.
    """
    diagonal = np.arange(sources.shape[-1])
    regularised = sources.copy()
    means = np.trace(sources, axis1=1, axis2=2) / len(diagonal)
    # A source whose features are all zero predicts zero.
    regularised[:, diagonal, diagonal] += (np.where(means > 0, means, 1.0) * ridge)[:, None]
    inverse = _inverse(regularised)
    own = inverse[:, diagonal, diagonal]
    matrices = (inverse / -(own * own)[:, None, :]) @ inverse
    matrices[:, diagonal, diagonal] += 1
    return matrices


def rough_r2(target: NDArray[np.float32], matrices: NDArray[np.float32]) -> NDArray[np.float32]:
    """R² of many sources on a few of the images, each predicted from the others: (n,) float32.

    It says which sources are worth the whole computation, which takes fifty times as long as with a quarter of 200
    images.

    Args:
        target: (m, m) kernel of the target's features, any scale.
        matrices: `rough_matrices` of the sources.

    Returns:
        Zeros if the target's features are zero for all of these images.
    """
    total = np.trace(target)
    if not total > 0:
        return np.zeros(len(matrices), dtype=np.float32)
    rough: NDArray[np.float32] = matrices.reshape(len(matrices), -1) @ (target / total).ravel()
    return rough


def r2_matrix(kernels: Sequence[Array]) -> Array:
    """R² of all pairs of n models: (n, n), row = target, column = source."""
    predictors = [out_of_fold_weights(kernel) for kernel in kernels]
    return np.array([[r2_per_image(target, weights).mean() for weights in predictors] for target in kernels])


__getattr__ = renamed(__name__, {"weights": "out_of_fold_weights", "shares": "r2_per_image", "matrix": "r2_matrix"})
