"""Symmetric similarities of two models' features, computed from stored kernels: re-rankings of a space's candidates.

K and L are the kernels of two models over the same N probe images, centred, of any scale. They determine the features'
distances, d(i, j)² = K(i, i) + K(j, j) − 2 K(i, j), so nothing else need be stored. n(i) are the k probe images nearest
to image i by these distances (for a kernel of `dds` the order is that of cosines of z-scored features), and r(i, j) is
the rank of image j among them, 1 for the nearest. n', r' and d' are those of L. Means are over the images i.

| name | similarity |
|---|---|
| mutual_knn | mean of ∣n(i) ∩ n'(i)∣ / k (Huh et al., ICML 2024, "Platonic Representation Hypothesis") |
| jaccard | mean of ∣n(i) ∩ n'(i)∣ / ∣n(i) ∪ n'(i)∣ (first for vision in ReSi, Klabunde et al., ICLR 2025) |
| ranksim | mean of 1 / H(m) · Σ 2 / ((1 + ∣r − r'∣) (r + r')) over the m images j of n(i) ∩ n'(i), H(m) = Σ 1 / l for l = 1 to m, 0 where m = 0 (Wang et al., TKDE 34, 2022) |
| second_order | mean of the cosine of (cos K(i, j)) and (cos L(i, j)), j in n(i) ∪ n'(i), with cos K(i, j) = K(i, j) / √(K(i, i) K(j, j)) (Hamilton et al., EMNLP 2016) |
| cknna | A(K, L) / √(A(K, K) A(L, L)), A(K, L) = Σ K(i, j) L(i, j) over j in n(i) ∩ n'(i) (Huh et al. 2024, without the U-centring of masked kernels that their code adds) |
| debiased_cka | HSIC₁(K, L) / √(HSIC₁(K, K) HSIC₁(L, L)) (Song et al., JMLR 13, 2012, eq. 5; Nguyen et al., ICLR 2021) |
| distance_correlation | √(Σ A B / √(Σ A² Σ B²)), A and B the matrices of d and d', double-centred (Székely, Rizzo & Bakirov, Annals of Statistics 35, 2007, definitions 4 and 5) |
| procrustes | ∣K^½ L^½∣ / √(tr K tr L), ∣·∣ the nuclear norm: the cosine of the angular shape distance (Williams et al., NeurIPS 2021) |

Each is 1 for a model with itself, at most 1, and the same for features that are rotated, shifted or scaled. Each is
returned as one number per probe image, whose mean is the similarity: what intervals and ties are computed from. Where
the similarity is a mean over images, these are its terms. Where it is a ratio of such means, they are its empirical
influence values (Davison & Hinkley 1997, section 2.7), so a bootstrap over images has the spread of the ratio to first
order. As elsewhere (`spaces.bootstrap`), what the other images add to the row of an image counts as given: its
neighbours, the centring, and the rotation that aligns two models.
"""  # noqa: E501 -- the rows of a table can't be wrapped

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import UsageError
from modelspace.late import dataclass

Array = NDArray[np.float64]

#: The k of the similarities that compare neighbours, for 2 k + 1 images or more: of 5, 10, 20 and 50 the one with the
#: best P@5 on the targets `chosen` of the oracle `rooms` (docs/lab-book/similarities.md).
NEIGHBOURS = 20

#: HSIC₁ is defined for this number of images or more.
_LEAST_IMAGES = 4


@dataclass(frozen=True)
class Similarity:
    """A similarity of two models.

    Attributes:
        of_model: called with a model's kernel, (N, N), and k; returns what `per_image` needs of that model.
        per_image: called with that of two models; returns (N,), whose mean is the similarity.
        has_neighbours: whether it depends on k.
    """

    of_model: Callable[[Array, int], Any]
    per_image: Callable[[Any, Any], Array]
    has_neighbours: bool = False


def neighbours_of(n_images: int, k: int = NEIGHBOURS) -> int:
    """How many neighbours N images are compared by: k, but at most half of the other images, and at least 1.

    >>> neighbours_of(200), neighbours_of(12), neighbours_of(3)
    (20, 5, 1)
    """
    return max(1, min(k, (n_images - 1) // 2))


def squared_distances(kernel: Array) -> Array:
    """Squared distances of features, (N, N), from their kernel; rounding below 0 is cut off.

    >>> squared_distances(np.array([[1.0, 0.0], [0.0, 4.0]]))
    array([[0., 5.],
           [5., 0.]])
    """
    diagonal = np.diag(kernel)
    distances: Array = np.maximum(diagonal[:, None] + diagonal[None, :] - 2 * kernel, 0.0)
    np.fill_diagonal(distances, 0.0)
    return distances


class Neighbourhood(NamedTuple):
    """The neighbours of the probe images in one model's features.

    Attributes:
        nearest: (N, k) the images nearest to each image, nearest first; equal distances in the order of the images.
        ranks: (N, N) rank of image j among the neighbours of image i, 1 for the nearest; 0 if it is none of them.
        values: (N, N) what the similarity compares of each pair of images.
    """

    nearest: NDArray[np.int64]
    ranks: NDArray[np.int64]
    values: Array


def neighbourhood(kernel: Array, k: int) -> Neighbourhood:
    """The k neighbours of each image, with the kernel as values.

    Raises:
        UsageError: k is not from 1 to N − 1.
    """
    n = len(kernel)
    if not 1 <= k < n:
        raise UsageError(f"{n} probe images can't have {k} neighbours each", f"use 1 to {n - 1}")
    distances = squared_distances(kernel)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    ranks = np.zeros((n, n), dtype=np.int64)
    np.put_along_axis(ranks, nearest, np.arange(1, k + 1)[None], axis=1)
    return Neighbourhood(nearest, ranks, kernel)


def _with_cosines(kernel: Array, k: int) -> Neighbourhood:
    norms = np.sqrt(np.maximum(np.diag(kernel), 0.0))
    return neighbourhood(kernel, k)._replace(values=_quotient(kernel, np.outer(norms, norms)))


def _ranks_in(other: Neighbourhood, own: Neighbourhood) -> NDArray[np.int64]:
    """The other model's rank of each of one's own neighbours, (N, k); 0 for those that are none of its neighbours."""
    return np.take_along_axis(other.ranks, own.nearest, axis=1)


def _shared(a: Neighbourhood, b: Neighbourhood) -> Array:
    """Number of neighbours of each image that both models have, (N,)."""
    count: Array = (_ranks_in(b, a) > 0).sum(axis=1).astype(np.float64)
    return count


def _mutual_knn(a: Neighbourhood, b: Neighbourhood) -> Array:
    overlap: Array = _shared(a, b) / a.nearest.shape[1]
    return overlap


def _jaccard(a: Neighbourhood, b: Neighbourhood) -> Array:
    shared = _shared(a, b)
    overlap: Array = shared / (2 * a.nearest.shape[1] - shared)
    return overlap


def _ranksim(a: Neighbourhood, b: Neighbourhood) -> Array:
    theirs = _ranks_in(b, a)
    k = theirs.shape[1]
    ours = np.arange(1, k + 1)[None]
    terms = np.where(theirs > 0, 2.0 / ((1 + np.abs(ours - theirs)) * (ours + theirs)), 0.0)
    harmonic = np.concatenate([[1.0], np.cumsum(1.0 / np.arange(1, k + 1))])  # terms are 0 where nothing is shared
    similarity: Array = terms.sum(axis=1) / harmonic[(theirs > 0).sum(axis=1)]
    return similarity


def _second_order(a: Neighbourhood, b: Neighbourhood) -> Array:
    union = (a.ranks > 0) | (b.ranks > 0)
    first, second = a.values * union, b.values * union
    squares = np.einsum("ij,ij->i", first, first) * np.einsum("ij,ij->i", second, second)
    return _quotient(np.einsum("ij,ij->i", first, second), np.sqrt(squares))


def _cknna(a: Neighbourhood, b: Neighbourhood) -> Array:
    own = np.take_along_axis(a.values, a.nearest, axis=1)
    theirs = np.take_along_axis(b.values, a.nearest, axis=1) * (_ranks_in(b, a) > 0)
    others = np.take_along_axis(b.values, b.nearest, axis=1)
    return _ratio(*(np.einsum("ij,ij->i", *pair) for pair in ((own, theirs), (own, own), (others, others))))


def _u_centred(kernel: Array, k: int) -> Array:
    """U-centring (Székely & Rizzo 2014): inner products of such matrices are HSIC₁, times N (N − 3)."""
    n = len(kernel)
    if n < _LEAST_IMAGES:
        raise UsageError(
            f"debiased CKA needs {_LEAST_IMAGES} probe images or more, not {n}", "better use a few hundred"
        )
    matrix = kernel - np.diag(np.diag(kernel))
    rows = matrix.sum(axis=0) / (n - 2)
    centred: Array = matrix - rows[:, None] - rows[None, :] + matrix.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0.0)
    return centred


def _centred_distances(kernel: Array, k: int) -> Array:
    distances = np.sqrt(squared_distances(kernel))
    rows = distances.mean(axis=0)
    centred: Array = distances - rows[:, None] - rows[None, :] + distances.mean()
    return centred


def _correlation(a: Array, b: Array) -> Array:
    """The cosine of two matrices, as influence values: (N,)."""
    return _ratio(*(np.einsum("ij,ij->i", *pair) for pair in ((a, b), (a, a), (b, b))))


def _distance_correlation(a: Array, b: Array) -> Array:
    squares = _correlation(a, b)
    square = max(float(squares.mean()), 0.0)
    root = np.sqrt(square)
    return np.zeros(len(squares)) if root == 0 else root + (squares - square) / (2 * root)


def _factor(kernel: Array, k: int) -> Array:
    """X with X Xᵀ = K, (N, number of positive eigenvalues); those that are rounding are left out."""
    values, vectors = np.linalg.eigh(kernel)
    positive = values > len(kernel) * np.finfo(np.float64).eps * abs(values[-1])
    factor: Array = vectors[:, positive] * np.sqrt(values[positive])
    return factor


def _procrustes(a: Array, b: Array) -> Array:
    # ∣K^½ L^½∣ = ∣Xᵀ Y∣ = Σ ⟨x(i) U, y(i) V⟩ with the singular vectors of Xᵀ Y (Schönemann 1966).
    left, _, right = np.linalg.svd(a.T @ b, full_matrices=False)
    aligned = np.einsum("ij,ij->i", a @ left, b @ right.T)
    return _ratio(aligned, np.einsum("ij,ij->i", a, a), np.einsum("ij,ij->i", b, b))


def _ratio(products: Array, first: Array, second: Array) -> Array:
    """Influence values of s = p̄ / √(ā b̄): s + p(i) / √(ā b̄) − s (a(i) / ā + b(i) / b̄) / 2, whose mean is s.

    Args:
        products: (N,) p of each image.
        first: (N,) a of each image. If all are zero, s is 0.
        second: (N,) b of each image; likewise.
    """
    scale = np.sqrt(first.mean() * second.mean())
    if not scale > 0:
        return np.zeros(len(products))
    ratio = products.mean() / scale
    influence: Array = products / scale - ratio * (first / first.mean() + second / second.mean()) / 2
    return np.asarray(influence + ratio)


def _quotient(upper: Array, lower: Array) -> Array:
    """upper / lower, 0 where lower is 0."""
    quotient: Array = np.divide(upper, lower, out=np.zeros_like(upper), where=lower > 0)
    return quotient


#: Name -> similarity.
SIMILARITIES: Mapping[str, Similarity] = MappingProxyType(
    {
        "mutual_knn": Similarity(neighbourhood, _mutual_knn, has_neighbours=True),
        "jaccard": Similarity(neighbourhood, _jaccard, has_neighbours=True),
        "ranksim": Similarity(neighbourhood, _ranksim, has_neighbours=True),
        "second_order": Similarity(_with_cosines, _second_order, has_neighbours=True),
        "cknna": Similarity(neighbourhood, _cknna, has_neighbours=True),
        "debiased_cka": Similarity(_u_centred, _correlation),
        "distance_correlation": Similarity(_centred_distances, _distance_correlation),
        "procrustes": Similarity(_factor, _procrustes),
    }
)

NAMES = tuple(SIMILARITIES)


def per_image(name: str, first: Array, second: Array, k: int | None = None) -> Array:
    """What each probe image adds to the similarity of two models: (N,); the mean is the similarity.

    Args:
        name: one of `SIMILARITIES`.
        first: (N, N) kernel of one model's features, centred, any scale.
        second: that of the other's.
        k: number of neighbours; default: `neighbours_of` N.

    Raises:
        UsageError: their sizes differ, k is not from 1 to N − 1, or N is too small.
    """
    if first.shape != second.shape:
        raise UsageError(f"kernels of {first.shape} and {second.shape} can't be compared")
    similarity = SIMILARITIES[name]
    k = neighbours_of(len(first)) if k is None else k
    return similarity.per_image(similarity.of_model(first, k), similarity.of_model(second, k))


def similarity_matrix(name: str, kernels: Sequence[Array], k: int | None = None) -> Array:
    """Similarities of all pairs of n models: (n, n), symmetric; arguments as of `per_image`."""
    similarity = SIMILARITIES[name]
    n = len(kernels)
    matrix = np.ones((n, n))
    models = [similarity.of_model(kernel, neighbours_of(len(kernel)) if k is None else k) for kernel in kernels]
    for i, model in enumerate(models):
        for j in range(i + 1):
            matrix[i, j] = matrix[j, i] = similarity.per_image(model, models[j]).mean()
    return matrix
