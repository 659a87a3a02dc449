"""The singular directions of a table of features, computed on its shorter side."""

from __future__ import annotations

import numpy as np

from modelspace.scores.inputs import Array

#: Directions whose squared singular value is below this share of the largest are rounding.
RELATIVE = 1e-12


def spectrum(table: Array) -> tuple[Array, Array]:
    """Left singular vectors and squared singular values of (n, d) `table`.

    Returns:
        (n, r) orthonormal columns and (r,) positive values, falling; r is the numerical rank (`RELATIVE`), 0 for a
        table of zeros. One eigendecomposition of size min(n, d).
    """
    n, d = table.shape
    scale = float(np.abs(table).max(initial=0.0))
    if scale == 0.0:
        return np.zeros((n, 0)), np.zeros(0)
    scaled = table / scale
    values, vectors = np.linalg.eigh(scaled @ scaled.T if n <= d else scaled.T @ scaled)
    keep = values > RELATIVE * values[-1]
    values, vectors = values[keep][::-1], vectors[:, keep][:, ::-1]
    left = vectors if n <= d else scaled @ (vectors / np.sqrt(values))
    return left, values * scale**2
