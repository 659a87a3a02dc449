"""How well a source's features at a place and around it predict the target's features there.

A readout of a dense task is a convolution on the encoder's grid, so what it can learn from a source is what is in the
source's features at a place and next to it. Ridge regression is fitted from the 3 x 3 neighbourhood of a place in the
source's grid to the target's channels at the place, over all probe images, and the score is the cross-validated R²
with folds over images:

    R² = 1 − Σ |y − ŷ|² / Σ |y|².

Channels are not standardised: an error in a channel counts as much as the channel varies. Grids come from
`modelspace.representations.grids`; no labels and no forward pass are needed. Every second row and column of places is
predicted, which costs a quarter and loses nothing; the ridge, the neighbourhood and the number of images were chosen on
one half of the targets of the oracle `rooms` (docs/lab-book/evaluation.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import UsageError
from modelspace.representations.grids import CHANNELS, SIDE

#: λ is `RIDGE` times the mean eigenvalue of the neighbourhoods' covariance.
FOLDS, RIDGE = 5, 0.01

#: Rows and columns of the grid whose places are predicted.
_PREDICTED = range(1, SIDE, 2)

#: (4, 3) the rows of the three cells around each of them; the border is repeated.
_AROUND = np.clip(np.array(_PREDICTED)[:, None] + np.arange(-1, 2), 0, SIDE - 1)

Array = NDArray[np.float64]
Grid = NDArray[np.float32]


class Predictor:
    """What predicting from a source needs.

    Args:
        parts: of each fold the features at the predicted places of its images and around them, (places of all images,
            9 CHANNELS) float32.
        systems: (folds, 9 CHANNELS, 9 CHANNELS) float64: XᵀX + λ I without the images of a fold.
    """

    def __init__(self, parts: Sequence[Grid], systems: Array) -> None:
        self.parts = parts
        self._matrices = systems
        self._are_inverses = self._is_used = False

    @property
    def n_bytes(self) -> int:
        """Bytes of its arrays."""
        return sum(part.nbytes for part in self.parts) + self._matrices.nbytes

    @property
    def n_images(self) -> int:
        """Number of images."""
        return sum(map(len, self.parts)) // len(_PREDICTED) ** 2

    @property
    def folds(self) -> int:
        """Number of folds."""
        return len(self._matrices)

    def weights(self, products: Array) -> NDArray[np.float32]:
        """(XᵀX + λ I)⁻¹ XᵀY of each fold, from XᵀY: both (folds, 9 CHANNELS, CHANNELS)."""
        if not self._is_used:
            self._is_used = True  # for one target, solving takes a third of inverting
            return np.linalg.solve(self._matrices, products).astype(np.float32)
        if not self._are_inverses:
            self._matrices, self._are_inverses = np.asarray(np.linalg.inv(self._matrices), dtype=np.float64), True
        return (self._matrices @ products).astype(np.float32)


def predictor(source: Grid, folds: int = FOLDS, ridge: float = RIDGE) -> Predictor:
    """Fit what all predictions from a source share.

    Args:
        source: (N, SIDE², CHANNELS).
        folds: number of folds; image k is held out in fold k mod `folds`.
        ridge: λ in units of the mean eigenvalue.

    Raises:
        UsageError: fewer than two images per fold.
    """
    n = len(source)
    if n < 2 * folds:
        raise UsageError(f"{n} probe images are too few for {folds} folds", f"use {2 * folds} or more")
    parts = [neighbourhoods(source[fold::folds]) for fold in range(folds)]
    width = parts[0].shape[1]
    systems = np.empty((folds, width, width))
    for system, part in zip(systems, parts, strict=True):
        system[:] = part.T @ part
    total = systems.sum(axis=0)
    # Channels that a model does not have are zero; λ keeps the matrix invertible.
    total.flat[:: width + 1] += ridge * np.trace(total) / width
    np.subtract(total, systems, out=systems)
    return Predictor(parts, systems)


def neighbourhoods(source: Grid) -> Grid:
    """The features at the predicted places of N images and around them: (N places, 9 CHANNELS)."""
    cells = source.reshape(len(source), SIDE, SIDE, CHANNELS)
    around: Grid = cells[:, _AROUND[:, None, :, None], _AROUND[None, :, None, :]]
    return around.reshape(-1, 9 * CHANNELS)


def places(target: Grid) -> Grid:
    """The features at the predicted places: (N, places, CHANNELS)."""
    step = _PREDICTED.step
    cells = target.reshape(len(target), SIDE, SIDE, CHANNELS)[:, _PREDICTED.start :: step, _PREDICTED.start :: step]
    return np.ascontiguousarray(cells).reshape(len(target), len(_PREDICTED) ** 2, CHANNELS)


def r2_per_image(target: Grid, source: Predictor) -> Array:
    """Each probe image's contribution to R²: (N,); their mean is R².

    Args:
        target: `places` of the target's grid.
        source: of the source.

    Raises:
        UsageError: their numbers of images differ, or the target's features are all zero there.
    """
    n, folds = len(target), source.folds
    if n != source.n_images:
        raise UsageError(f"grids of {n} and {source.n_images} images can't be compared")
    squares = np.einsum("ijk,ijk->i", target, target, dtype=np.float64)
    if not squares.sum() > 0:
        raise UsageError("the target's features are zero at all predicted places")
    xs = source.parts
    ys = [target[fold::folds].reshape(-1, target.shape[2]) for fold in range(folds)]
    products = np.stack([x.T @ y for x, y in zip(xs, ys, strict=True)]).astype(np.float64)
    weights = source.weights(products.sum(axis=0)[None] - products)
    residual = np.empty(n)
    for fold in range(folds):
        error = (ys[fold] - xs[fold] @ weights[fold]).reshape(-1, target.shape[1] * target.shape[2])
        residual[fold::folds] = np.einsum("ij,ij->i", error, error, dtype=np.float64)
    contributions: Array = 1.0 - residual * (n / squares.sum())
    return contributions


def r2_matrix(grids: Sequence[Grid]) -> Array:
    """R² of all pairs of n models: (n, n), row = target, column = source."""
    targets = [places(grid) for grid in grids]
    columns = [[r2_per_image(target, source).mean() for target in targets] for source in map(predictor, grids)]
    return np.array(columns).T
