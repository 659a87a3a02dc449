"""Distances from affinities, and the validation of affinity matrices for pictures and trees.

An affinity s(i,j) is the mean over the probe images of the cosine of two models' maps (Song et al., NeurIPS 2019). It
is an inner product of unit vectors, so √(2 − 2s) is the Euclidean distance of those vectors. The paper's 1/s is
not a metric: it is not zero between a model and itself, breaks the triangle inequality, and jumps at s = 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.errors import UsageError

#: Tolerated deviation of an affinity matrix from symmetry, from a unit diagonal, and from the range -1..1.
TOLERANCE = 1e-3


def check_affinity(names: Sequence[str], affinity: ArrayLike) -> NDArray[np.float64]:
    """A clean copy of an affinity matrix: float64, exactly symmetric, ones on the diagonal, values in -1..1.

    Args:
        names: n model names, all different; n >= 1.
        affinity: (n, n) affinities, symmetric with unit diagonal to within `TOLERANCE`.

    Returns:
        (n, n) float64.

    Raises:
        UsageError: wrong shape, a repeated name, a value that is not finite, or not an affinity matrix.
    """
    names = list(names)
    matrix = np.array(affinity, dtype=np.float64)
    if not names:
        raise UsageError("there are no models", "add models first: `space.add(model)`")
    if len(set(names)) != len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"more than one model is called {duplicate!r}", "names must be unique")
    if matrix.shape != (len(names), len(names)):
        raise UsageError(
            f"the affinity matrix has shape {matrix.shape}, but there are {len(names)} names",
            "it needs one row and one column per name, in the same order",
        )
    if not np.isfinite(matrix).all():
        i, j = np.argwhere(~np.isfinite(matrix))[0]
        raise UsageError(f"the affinity of {names[i]!r} and {names[j]!r} is not a finite number")
    if np.abs(matrix - matrix.T).max() > TOLERANCE:
        raise UsageError("the affinity matrix is not symmetric", "a directed score can't be drawn as a map or a tree")
    if np.abs(np.diagonal(matrix) - 1).max() > TOLERANCE or np.abs(matrix).max() > 1 + TOLERANCE:
        raise UsageError(
            "not an affinity matrix: its diagonal must be 1, and its values in -1..1",
            "give cosines, not distances or hub-corrected scores",
        )
    matrix = np.clip((matrix + matrix.T) / 2, -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def distance_matrix(affinity: ArrayLike) -> NDArray[np.float64]:
    """√(2 − 2s): the Euclidean distance of two models' unit vectors, 0..2.

    >>> distance_matrix([[1.0, 0.5], [0.5, 1.0]])
    array([[0., 1.],
           [1., 0.]])

    Args:
        affinity: any shape, values in -1..1; rounding above 1 gives distance 0.

    Returns:
        float64 array of the same shape.
    """
    distance: NDArray[np.float64] = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * np.asarray(affinity, dtype=np.float64)))
    return distance


def paper_distance(affinity: ArrayLike) -> NDArray[np.float64]:
    """1 / s, the distance of the paper. Not a metric; undefined for s <= 0, which gives infinity here.

    Use it to compare with the paper's figures. `distance_matrix` gives the same ranking, and works with any linkage.
    """
    values = np.asarray(affinity, dtype=np.float64)
    result: NDArray[np.float64] = np.full(values.shape, np.inf)
    np.divide(1.0, values, out=result, where=values > 0)
    return result


def condensed(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper triangle without the diagonal, row by row, as in scipy: (n, n) -> (n (n - 1) / 2,)."""
    upper: NDArray[np.float64] = matrix[np.triu_indices(len(matrix), 1)]
    return upper


def is_euclidean(affinity: NDArray[np.float64], tolerance: float = 1e-4) -> bool:
    """Whether √(2 − 2s) are Euclidean distances: the doubly centred affinities have no negative eigenvalue.

    Args:
        affinity: (n, n) float64, symmetric, unit diagonal.
        tolerance: largest magnitude of a negative eigenvalue; stored maps are quantised, and sums rounded.
    """
    mean = affinity.mean(axis=0)
    centred = affinity - mean[None, :] - mean[:, None] + mean.mean()
    try:
        np.linalg.cholesky(centred + tolerance * np.eye(len(centred)))
    except np.linalg.LinAlgError:
        return False
    return True


def affinity_from_cosines(cosines: ArrayLike) -> NDArray[np.float64]:
    """The affinity matrix: the mean over the images of the per-image cosines.

    Args:
        cosines: (n_images, n, n).

    Returns:
        (n, n) float64.

    Raises:
        UsageError: wrong shape.
    """
    array = check_cosines(cosines)
    mean: NDArray[np.float64] = array.mean(axis=0, dtype=np.float64)
    return mean


def check_cosines(cosines: ArrayLike, n_models: int | None = None) -> NDArray[np.floating]:
    """The per-image cosines as an array (n_images, n, n), n_images >= 1; n equal to `n_models` if given."""
    array = np.asarray(cosines)
    if array.ndim != 3 or array.shape[1] != array.shape[2] or array.shape[0] < 1:
        raise UsageError(f"per-image cosines have shape {array.shape}, not (images, models, models)")
    if n_models is not None and array.shape[1] != n_models:
        raise UsageError(f"per-image cosines are of {array.shape[1]} models, but there are {n_models} names")
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    return array
