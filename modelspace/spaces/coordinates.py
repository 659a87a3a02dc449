"""From affinities to vectors whose inner products are those affinities.

Let G be the affinity matrix of a space's models, in order of registration. G is a Gram matrix (an affinity is an inner
product of unit vectors, `modelspace.representations.maps`), so it has a Cholesky factor L with L Lᵀ = G, and row i of L
is a vector for model i. A new model with affinities k to the existing models gets v = L⁻¹k, followed by √(1 − |v|²):
row n + 1 of the factor. Stored vectors do not change (Golub & Van Loan, Matrix Computations, section 4.2: the factor of
a bordered matrix).

A model whose residual 1 − |v|² is at most `TOLERANCE` lies in the span of the others up to
rounding (an exact or near copy): it opens no new axis, since dividing by its pivot would amplify rounding errors.

A space has at most `MAX_EXACT` models with such vectors, since each is compared with all before it. Then some of them
become its anchors, at most `MAX_ANCHORS`, chosen by a Cholesky factorisation with pivots (Higham, Accuracy and
Stability of Numerical Algorithms, section 10.3): always the model of which the anchors so far explain least. They stay
the same from then on, and a model that is added is compared with them alone: its coordinates are v = L⁻¹k with L the
anchors' factor. Its inner products with anchors are affinities; with other models they are the Nyström approximation
(Williams & Seeger, NIPS 2000), and the caller re-ranks with the stored maps.

Registries of earlier versions may hold more exact vectors, with at most `MAX_AXES` axes; past those, vectors are
projections onto the models that own an axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from modelspace.errors import DamagedError
from modelspace.late import dataclass

#: A new axis is opened only if the residual 1 − |v|² exceeds it. On 200 models in 40 families with near-copies (1e-4 to
#: 1e-2) and exact copies, float64 affinities and float64 vectors, the largest error of an inner product was 7e-14 at
#: 1e-10 (6e-8 after the index rounds to float32), 5e-6 at 1e-8 and 5e-5 at 1e-6. It must stay well above the rounding
#: error of the affinities: with errors of 1e-8, 1e-10 fails (near-copies then differ by noise), so they are summed in
#: float64.
TOLERANCE = 1e-10

#: Rounding may make a vector slightly longer than 1. A larger excess means that the affinities are not a Gram matrix.
_EXCESS = 1e-6

#: Largest number of models with exact vectors; the next one is compared with anchors.
MAX_EXACT = 512

#: Largest number of anchors of a space. What coordinates keep of the ranking depends on it, and hardly on the number of
#: models from which they are chosen (`scripts/measure_anchors.py`); an add costs one comparison for each.
MAX_ANCHORS = 512

#: A model becomes an anchor only if the earlier ones leave more than this of it unexplained. Coordinates are float32,
#: and a smaller pivot would amplify their rounding.
ANCHOR_TOLERANCE = 1e-4

#: Largest dimension of exact vectors, which registries of earlier versions may reach.
MAX_AXES = 4096


@dataclass(frozen=True)
class Row:
    """One model's vector.

    Attributes:
        vector: (d,) float64, d = number of axes up to and including this model's own; entries past the end are zero.
        axis: the axis that this model opened, or None.
        residual: 1 − |v|² before the model's axis was opened, in 0..1: what no earlier model explains.
    """

    vector: np.ndarray
    axis: int | None
    residual: float


class Factor:
    """The factor of one space, to which models are appended.

    Args:
        max_axes: largest number of axes.
        tolerance: see `TOLERANCE`.
    """

    def __init__(self, max_axes: int = MAX_AXES, tolerance: float = TOLERANCE) -> None:
        self.max_axes = max_axes
        self.tolerance = tolerance
        self.landmarks: list[int] = []  # positions of the models that own axis 0, 1, ...
        self._lower = np.zeros((0, 0))
        self._n_rows = 0

    @property
    def n_axes(self) -> int:
        """Number of axes."""
        return len(self.landmarks)

    @property
    def n_rows(self) -> int:
        """Number of models."""
        return self._n_rows

    @property
    def is_full(self) -> bool:
        """Whether no more axes may be opened."""
        return self.n_axes >= self.max_axes

    @classmethod
    def from_rows(cls, rows: Sequence[Row], max_axes: int = MAX_AXES, tolerance: float = TOLERANCE) -> Factor:
        """Restore the factor from stored rows, given in order of position."""
        factor = cls(max_axes, tolerance)
        factor.landmarks = [position for position, row in enumerate(rows) if row.axis is not None]
        lower = np.zeros((factor.n_axes, factor.n_axes))
        for axis, position in enumerate(factor.landmarks):
            vector = rows[position].vector
            lower[axis, : len(vector)] = vector
        factor._lower = lower
        factor._n_rows = len(rows)
        return factor

    @classmethod
    def of_anchors(cls, lower: np.ndarray) -> Factor:
        """The factor of a fixed set of anchors, on which `append` places models.

        Args:
            lower: (d, d) float64, the lower triangular factor of the anchors' affinities.
        """
        factor = cls(max_axes=len(lower))
        factor.landmarks = list(range(len(lower)))
        factor._lower, factor._n_rows = lower, len(lower)
        return factor

    def append(self, affinities: np.ndarray) -> Row:
        """Add a model.

        Args:
            affinities: (n,) float64 in −1..1, to the models at positions 0..n−1; entries of models that own no axis
                are not read, so n may be as small as the last landmark's position + 1.

        Returns:
            The new model's row. Earlier rows do not change.

        Raises:
            DamagedError: the affinities are not those of unit vectors (|v|² exceeds 1 by more than rounding).
        """
        # Importing it with the module would take half of a query's start-up time, and queries add nothing.
        from scipy.linalg import solve_triangular

        known = np.asarray(affinities, dtype=np.float64)[self.landmarks] if self.landmarks else np.zeros(0)
        vector = solve_triangular(self._lower, known, lower=True) if len(known) else known
        residual = float(1.0 - vector @ vector)
        axis = None
        if residual > self.tolerance and not self.is_full:
            axis = self.n_axes
            vector = np.append(vector, np.sqrt(residual))
            lower = np.zeros((axis + 1, axis + 1))
            lower[:axis, :axis] = self._lower
            lower[axis] = vector
            self._lower = lower
            self.landmarks.append(self._n_rows)
        elif vector @ vector > 1.0:
            if residual < -_EXCESS:
                raise DamagedError(
                    f"a model's affinities to {self._n_rows} others contradict the affinities among those "
                    f"(|v|² = {1 - residual:.6g})",
                    "the stored maps or vectors are damaged: `space.verify()` says which, and what to do",
                )
            # A copy, up to rounding. If its vector were longer than 1, it would be nearer to the original than the
            # original itself.
            vector = vector / np.linalg.norm(vector)
        self._n_rows += 1
        return Row(vector, axis, max(residual, 0.0))


def factorise(
    affinities: Sequence[np.ndarray],
    missing: Callable[[int, int], float],
    max_axes: int = MAX_AXES,
    tolerance: float = TOLERANCE,
) -> list[Row]:
    """Recompute all rows, in the order given; used when a model is removed or a space rebuilt.

    Args:
        affinities: for the model at position i its affinities to positions 0..len−1, len ≤ i (float64).
        missing: called as missing(i, j) for a pair whose affinity is needed but not in `affinities`.
        max_axes: largest number of axes.
        tolerance: see `TOLERANCE`.

    Returns:
        One row per model.
    """
    factor = Factor(max_axes, tolerance)
    rows = []
    for position, known in enumerate(affinities):
        needed = factor.landmarks[-1] + 1 if factor.landmarks else 0
        if len(known) < needed:
            full = np.zeros(needed)
            full[: len(known)] = known
            for landmark in factor.landmarks:
                if landmark >= len(known):
                    full[landmark] = missing(position, landmark)
            known = full
        rows.append(factor.append(known))
    return rows


def pivots(
    vectors: np.ndarray, most: int = MAX_ANCHORS, tolerance: float = ANCHOR_TOLERANCE
) -> tuple[list[int], np.ndarray]:
    """Anchors of the models with the given vectors, and the coordinates of all of them on those.

    Args:
        vectors: (n, d) float64, whose inner products are the affinities.
        most: largest number of anchors.
        tolerance: a model is chosen only if more than this of it is unexplained by the ones chosen before; the first
            always is.

    Returns:
        The rows of the anchors in order of choice, and coordinates (n, number of anchors) float64. Those of the anchors
        are their lower triangular factor.
    """
    return pivots_of(len(vectors), lambda i: vectors @ vectors[i], most, tolerance)


def pivots_of(
    n: int, column_of: Callable[[int], np.ndarray], most: int = MAX_ANCHORS, tolerance: float = ANCHOR_TOLERANCE
) -> tuple[list[int], np.ndarray]:
    """As `pivots`, for n models of which `column_of(i)` gives the affinities of model i with all, (n,) float64."""
    left = np.ones(n)
    columns = np.zeros((n, min(most, n)))
    chosen: list[int] = []
    while len(chosen) < columns.shape[1]:
        best = int(np.argmax(left))
        if left[best] <= tolerance and chosen:
            break
        axis = len(chosen)
        column = (column_of(best) - columns[:, :axis] @ columns[best, :axis]) / np.sqrt(left[best])
        column[chosen] = 0.0
        column[best] = np.sqrt(left[best])
        columns[:, axis] = column
        left -= column * column
        chosen.append(best)
        left[chosen] = 0.0
    return chosen, columns[:, : len(chosen)]


def matrix(rows: Sequence[np.ndarray], dtype: type = np.float64) -> np.ndarray:
    """Vectors of different lengths as one (n, d) array, padded with zeros."""
    width = max((len(row) for row in rows), default=0)
    out: np.ndarray = np.zeros((len(rows), width), dtype=dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def is_exact(rows: Sequence[Row], tolerance: float = TOLERANCE) -> bool:
    """Whether all inner products equal the affinities: no model was projected because the axes had run out."""
    return all(row.axis is not None or row.residual <= tolerance for row in rows)
