"""Bootstrap support of a tree's clusters: would they appear with other probe images?

Felsenstein's bootstrap (Evolution, 1985) with probe images in place of characters: resample the images with
replacement, cluster again, and count how often each cluster of the tree reappears with exactly the same models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.analysis.distances import check_cosines, distance_matrix
from modelspace.analysis.tree import Tree, link
from modelspace.errors import UsageError

#: Per-image cosines of more models would take gigabytes (256 images of 500 models: 256 MB as float32).
MAX_SUPPORT_MODELS = 500

# Number of resampled probe sets, and of pairs, that are processed at once.
_RESAMPLES_AT_ONCE = 50
_PAIRS_AT_ONCE = 8192


def cluster_support(tree: Tree, cosines: ArrayLike, n_resamples: int = 200, seed: int = 0) -> NDArray[np.float64]:
    """The share of resampled probe sets in which each cluster of `tree` appears.

    Args:
        tree: over n models, n <= `MAX_SUPPORT_MODELS`.
        cosines: (n_images, n, n) float32 or float64, cosine of models i and j on each image, models as in `tree.names`.
        n_resamples: number of resampled probe sets; 200 gives each share to within about 0.07 (two standard errors).
        seed: of the resampling.

    Returns:
        (n - 1,) float64 in 0..1, one share per merge of `tree.linkage`. The root's is 1 by definition.

    Raises:
        UsageError: wrong shape, too many models, or no resample.
    """
    n = tree.n_leaves
    array = check_cosines(cosines, n)
    if n > MAX_SUPPORT_MODELS:
        raise UsageError(
            f"bootstrap support is computed for at most {MAX_SUPPORT_MODELS} models, not {n}",
            "leave `support=` out, or draw the tree of fewer models",
        )
    if n_resamples < 1:
        raise UsageError(f"{n_resamples} resampled probe sets are too few", "use 200 or more")
    if n == 1:
        return np.zeros(0)

    clusters = cluster_masks(tree.linkage)
    counts = dict.fromkeys(clusters, 0)
    rows, columns = np.triu_indices(n, 1)
    n_images = len(array)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_resamples) / n_images
    for first in range(0, n_resamples, _RESAMPLES_AT_ONCE):
        block = weights[first : first + _RESAMPLES_AT_ONCE]
        affinity = np.empty((len(block), len(rows)))
        for start in range(0, len(rows), _PAIRS_AT_ONCE):
            pairs = slice(start, start + _PAIRS_AT_ONCE)
            affinity[:, pairs] = block @ array[:, rows[pairs], columns[pairs]].astype(np.float64)
        for row in affinity:
            for mask in cluster_masks(link(distance_matrix(row), tree.method)):
                if mask in counts:
                    counts[mask] += 1
    return np.array([counts[mask] / n_resamples for mask in clusters])


def cluster_masks(linkage: NDArray[np.float64]) -> list[int]:
    """Each merge's cluster as an integer whose bit i is set if it contains leaf i: a set with fast hash and union."""
    n = len(linkage) + 1
    masks = [1 << i for i in range(n)]
    for left, right in linkage[:, :2].astype(int).tolist():
        masks.append(masks[left] | masks[right])
    return masks[n:]
