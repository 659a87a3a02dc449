"""Feature similarities of models on the same probe images: the baselines that attribution must beat.

Each function takes a list of n feature matrices, one per model, `(images, d_i)` with the same images in the same order,
and returns the symmetric (n, n) float64 matrix of similarities with ones on the diagonal. All except SVCCA are inner
products of one unit vector per model, so after one N x N kernel per model, a pair costs one inner product.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist, squareform

from modelspace.errors import UsageError
from modelspace.evaluation.rankings import Array
from modelspace.representations import kernels

DDS_KERNELS = ("cosine", "linear", "laplacian", "rbf")


@dataclass(frozen=True)
class Timed:
    """A similarity matrix and its cost.

    Attributes:
        matrix: (n, n).
        seconds: wall time of the comparison, without computing features.
    """

    matrix: Array
    seconds: float


def linear_cka(features: Sequence[ArrayLike]) -> Array:
    """Centred kernel alignment with a linear kernel (Kornblith et al., ICML 2019, eq. 3 and 4), in [0, 1].

    <K, L> / (|K| |L|) with K the centred Gram matrix of the images: the biased estimator, as published.
    """
    return _inner_products([kernels.linear_cka(table).ravel() for table in _checked(features)])


def rsa(features: Sequence[ArrayLike]) -> Array:
    """Representational similarity as in Dwivedi & Roig, CVPR 2019, in [-1, 1].

    Dissimilarity of two images: 1 - Pearson's correlation of their features. Similarity of two models: Spearman's
    correlation of the upper triangles of these matrices. An image with constant features has correlation 0 with all.
    """
    return _inner_products([kernels.rsa(table).ravel() for table in _checked(features)])


def dds(features: Sequence[ArrayLike], kernel: str = "cosine", unbiased: bool = False) -> Array:
    """Duality diagram similarity (Dwivedi et al., ECCV 2020), in [-1, 1].

    Each unit is z-scored over the images, a kernel compares the images, the kernel matrices are centred, and the
    similarity is the cosine between them.

    Args:
        features: n matrices (images, d_i).
        kernel: of two z-scored images x and y with d units: "cosine"; "linear" x·y; "laplacian" exp(-|x - y|₁ / d);
            "rbf" exp(-|x - y|₂² / d).
        unbiased: U-centring (Székely & Rizzo 2014) instead of double centring, as in the paper's code; needs 4 images
            or more. With double centring the similarity is an inner product of positive kernels.
    """
    if kernel not in DDS_KERNELS:
        raise UsageError(f"kernel {kernel!r} is not known", f"use {', '.join(DDS_KERNELS)}")
    vectors = []
    for table in _checked(features):
        z = kernels.z_scored(table)
        gram = _kernel(z, kernel)
        vectors.append(kernels.unit(_centre_unbiased(gram) if unbiased else kernels.centred(gram)).ravel())
    return _inner_products(vectors)


def svcca(features: Sequence[ArrayLike], variance: float = 0.99, images_per_direction: float = 5.0) -> Array:
    """Singular vector canonical correlation (Raghu et al., NeurIPS 2017), in [0, 1].

    Each centred matrix is reduced to the singular directions that explain `variance` of it; the similarity is the mean
    canonical correlation between these subspaces, over the dimensions of the smaller one.

    Args:
        features: n matrices (images, d_i).
        variance: share of the variance to explain, in (0, 1].
        images_per_direction: use at most images / images_per_direction directions. When the number of directions
            approaches that of images, all correlations are high by chance; a rule of thumb is 5 to 10 images per
            direction. 1 or less means no limit.
    """
    if not 0.0 < variance <= 1.0:
        raise UsageError(f"the variance to explain can't be {variance}", "use a number above 0 and up to 1")
    if images_per_direction <= 0.0:
        raise UsageError(
            f"there can't be {images_per_direction} images per direction", "use 1 or more; the default is 5"
        )
    bases = []
    for table in _checked(features):
        left, values, _ = np.linalg.svd(table - table.mean(axis=0), full_matrices=False)
        energy = np.cumsum(values**2)
        if energy[-1] <= 0:
            raise UsageError("a model's features are the same for every image: nothing can be compared")
        rank = int((values > values[0] * max(table.shape) * np.finfo(np.float64).eps).sum())
        explained = int(np.searchsorted(energy, variance * energy[-1] * (1 - 1e-12))) + 1
        limit = max(1, int(len(table) / images_per_direction))
        bases.append(left[:, : min(explained, rank, limit)])
    result = np.eye(len(bases))
    for i, a in enumerate(bases):
        for j, b in enumerate(bases[:i]):
            correlations = np.linalg.svd(a.T @ b, compute_uv=False)
            result[i, j] = result[j, i] = min(1.0, correlations.mean())
    return result


#: What `compare` computes by default.
METHODS: Mapping[str, Callable[[Sequence[ArrayLike]], Array]] = {
    "SVCCA": svcca,
    "linear CKA": linear_cka,
    "RSA": rsa,
    "DDS": dds,
}


def compare(features: Sequence[ArrayLike], methods: Iterable[str] = tuple(METHODS)) -> dict[str, Timed]:
    """The named similarities of the same features, with their wall times.

    Features are converted to float64 before timing starts, so no method pays for it.
    """
    names = list(methods)
    if unknown := [name for name in names if name not in METHODS]:
        raise UsageError(f"similarity {unknown[0]!r} is not known", f"use {', '.join(METHODS)}")
    tables = _checked(features)
    result = {}
    for name in names:
        start = time.perf_counter()
        matrix = METHODS[name](tables)
        result[name] = Timed(matrix, time.perf_counter() - start)
    return result


def _checked(features: Sequence[ArrayLike]) -> list[Array]:
    tables = [np.asarray(table, dtype=np.float64) for table in features]
    tables = [table.reshape(len(table), -1) if table.ndim > 1 else table for table in tables]
    if not tables:
        raise UsageError("there are no features to compare")
    for number, table in enumerate(tables):
        if table.ndim != 2 or table.shape[0] != tables[0].shape[0] or table.shape[1] < 1:
            raise UsageError(
                f"features {number} have shape {table.shape}: each model needs one row per image, for the same images"
            )
        if not np.isfinite(table).all():
            raise UsageError(f"features {number} have a value that is not finite")
    if len(tables[0]) < 3:
        raise UsageError(f"{len(tables[0])} images are too few to compare models on", "use 3 or more, better hundreds")
    return tables


def _kernel(z: Array, kernel: str) -> Array:
    d = max(z.shape[1], 1)
    gram: Array
    if kernel == "cosine":
        rows = kernels.unit_rows(z)
        gram = rows @ rows.T
    elif kernel == "linear":
        gram = z @ z.T
    else:
        distance = pdist(z, "cityblock" if kernel == "laplacian" else "sqeuclidean")
        gram = np.exp(-squareform(distance) / d)
    return gram


def _centre_unbiased(gram: Array) -> Array:
    n = len(gram)
    if n < 4:
        raise UsageError(f"U-centring needs 4 images or more, not {n}")
    gram = gram - np.diag(np.diag(gram))
    rows = gram.sum(axis=0, keepdims=True) / (n - 2)
    gram = gram - rows - rows.T + gram.sum() / ((n - 1) * (n - 2))
    return gram - np.diag(np.diag(gram))


def _inner_products(vectors: list[Array]) -> Array:
    stacked = np.stack(vectors)
    result = stacked @ stacked.T
    result = np.clip((result + result.T) / 2, -1.0, 1.0)
    np.fill_diagonal(result, 1.0)
    return result
