"""Figures that the sections share; arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr, spearmanr

from modelspace.analysis.tree import Tree
from modelspace.evaluation import Interval, metrics
from modelspace.evaluation.comparison import Evaluation
from modelspace.lab import similarity
from modelspace.representations import kernels as kernel_methods
from modelspace.spaces import hubness, predictability

Array = np.ndarray


def cosines(maps: Array) -> Array:
    """Unit maps (models, images, elements) to their inner products per image, (images, models, models)."""
    rows = maps.transpose(1, 0, 2)
    return np.asarray(rows @ rows.transpose(0, 2, 1), dtype=np.float64)


def affinity(maps: Array) -> Array:
    """s(i, j) of Song et al. 2019, section 3.3: (models, models) from (models, images, elements)."""
    return cosines(maps).mean(axis=0)


def pairs(matrix: Array) -> Array:
    """The elements above the diagonal, row by row."""
    return matrix[np.triu_indices(len(matrix), 1)]


def rank_agreement(first: Array, second: Array) -> float:
    """Spearman's correlation of two symmetric matrices over all pairs of models."""
    return float(spearmanr(pairs(first), pairs(second)).statistic)


def kernels(method: str, tables: Sequence[Array]) -> list[Array]:
    """A kernel of norm 1 for each model, from its encoder outputs."""
    return [kernel_methods.kernel(method, table) for table in tables]


def inner(vectors: Sequence[Array]) -> Array:
    flat = np.stack([vector.ravel() for vector in vectors])
    return flat @ flat.T


def views(maps: Mapping[str, Array], tables: Sequence[Array]) -> dict[str, Array]:
    """Every space of section 9 on one probe set: name to (models, models), row = target.

    Args:
        maps: kind of map to (models, images, elements).
        tables: T of each model, (images, d).
    """
    result = {kind: affinity(values) for kind, values in maps.items()}
    by_method = {method: kernels(method, tables) for method in kernel_methods.KERNELS}
    result |= {method: inner(values) for method, values in by_method.items()}
    result["½ dds + ½ gradient*input"] = (result["dds"] + result["gradient*input"]) / 2
    result["⅓ dds + ⅓ centred energy + ⅓ saliency of the energy"] = (
        result["dds"] + result["gradient*input of the centred energy"] + result["saliency of the energy"]
    ) / 3
    for base in ("gradient*input", "saliency", "dds"):
        for correction in hubness.CORRECTIONS[1:]:
            result[f"{base}, hubs {correction}"] = hubness.corrected(result[base], correction)
    result["linear_cka, directed"] = predictability.r2_matrix(by_method["linear_cka"])
    result[TRANSFER] = predictability.r2_matrix(by_method["dds"])
    result["SVCCA"] = similarity.svcca([np.asarray(table, dtype=np.float64) for table in tables])
    return result


#: The space that queries use: a blend with dds as its only member, and directed re-ranking.
TRANSFER = "dds, directed (`transfer`)"


def mean_and_interval(values: Sequence[float] | Array) -> Interval:
    return metrics.bootstrap(np.asarray(values, dtype=np.float64))


def of(outcome: Evaluation, method: str, figure: str, k: int = 5) -> Interval:
    """A figure of a method with its interval, at K if it is a curve."""
    interval = outcome.row(method).summary[figure]
    if np.ndim(interval.mean) == 0:
        return interval
    return Interval(interval.mean[k - 1], interval.low[k - 1], interval.high[k - 1])


# Uniformity of maps (section 4)


def participation(maps: Array) -> Array:
    """(Σ|a|)² / (n Σa²) of each map (..., n): 1 for a uniform map, 1/n for a single pixel."""
    size = np.abs(np.asarray(maps, dtype=np.float64))
    return size.sum(axis=-1) ** 2 / (size.shape[-1] * np.square(size).sum(axis=-1))


def entropy(maps: Array) -> Array:
    """Entropy of |a| / Σ|a| over log n, of each map (..., n): 1 for a uniform map, 0 for a single pixel."""
    size = np.abs(np.asarray(maps, dtype=np.float64))
    share = size / size.sum(axis=-1, keepdims=True)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return -(share * logs).sum(axis=-1) / np.log(size.shape[-1])


# Clusters (section 5)


@dataclass(frozen=True)
class Cluster:
    """How well some models form a cluster.

    Attributes:
        size: number of models.
        share: share of each model's size - 1 nearest neighbours that are in the cluster; mean.
        chance: `share` of a random order.
        auc: probability that a pair in the cluster is nearer than a pair of a model inside and one outside.
        p: share of random sets of this size with at least this AUC (1,000 draws, one added to both counts).
    """

    size: int
    share: float
    chance: float
    auc: float
    p: float


def cluster(matrix: Array, members: Collection[int], draws: int = 1000) -> Cluster:
    inside = np.zeros(len(matrix), dtype=bool)
    inside[list(members)] = True
    near = []
    for i in np.flatnonzero(inside):
        order = [j for j in np.argsort(-matrix[i], kind="stable") if j != i]
        near.append(np.mean(inside[order[: inside.sum() - 1]]))
    observed = _within(matrix, inside)
    rng = np.random.default_rng(0)
    drawn = [_within(matrix, rng.permutation(inside)) for _ in range(draws)]
    size = int(inside.sum())
    p = (1 + sum(value >= observed for value in drawn)) / (1 + draws)
    return Cluster(size, float(np.mean(near)), (size - 1) / (len(matrix) - 1), observed, p)


def _within(matrix: Array, inside: Array) -> float:
    return auc(pairs(matrix[np.ix_(inside, inside)]), matrix[np.ix_(inside, ~inside)].ravel())


def auc(higher: Array, lower: Array) -> float:
    """Probability that a value of `higher` exceeds one of `lower`; ties count half (Mann and Whitney 1947)."""
    gap = np.asarray(higher)[:, None] - np.asarray(lower)[None, :]
    return float(np.mean(gap > 0) + np.mean(gap == 0) / 2)


def families(matrix: Array, labels: Sequence[str], draws: int = 1000) -> tuple[float, float]:
    """AUC of pairs with the same label against other pairs, and the share of relabellings that reach it (Mantel)."""
    upper = np.triu_indices(len(matrix), 1)
    values = matrix[upper]

    def score(groups: Array) -> float:
        same = (groups[:, None] == groups[None, :])[upper]
        return auc(values[same], values[~same])

    groups = np.array(labels)
    observed = score(groups)
    rng = np.random.default_rng(0)
    reached = sum(score(rng.permutation(groups)) >= observed for _ in range(draws))
    return observed, (1 + reached) / (1 + draws)


# Trees (section 6)


@dataclass(frozen=True)
class Shape:
    """How well a larger tree preserves the tree of a subset of its models.

    Attributes:
        correlation: of the heights at which each two models join.
        random: the same after random relabelling: mean, and 97.5th percentile.
        kept: share of the small tree's clusters (of 2 or more, without the whole) that the larger tree, restricted to
            its models, also has; 1 - the normalised Robinson-Foulds distance.
        random_kept: the same after random relabelling: mean, and 97.5th percentile.
    """

    correlation: float
    random: tuple[float, float]
    kept: float
    random_kept: tuple[float, float]


def shape(small: Tree, large: Tree, draws: int = 1000) -> Shape:
    at = [large.names.index(name) for name in small.names]
    small_heights = small.cophenetic()
    large_heights = large.cophenetic()[np.ix_(at, at)]
    small_clusters, large_clusters = clusters(small.members()), clusters(_restricted(large, at))
    rng = np.random.default_rng(0)
    correlations, shares = [], []
    for _ in range(draws):
        order = rng.permutation(len(at))
        relabelled = small_heights[np.ix_(order, order)]
        correlations.append(pearsonr(pairs(relabelled), pairs(large_heights)).statistic)
        moved = {frozenset(int(order[i]) for i in members) for members in small_clusters}
        shares.append(len(moved & large_clusters) / len(small_clusters))
    return Shape(
        float(pearsonr(pairs(small_heights), pairs(large_heights)).statistic),
        (float(np.mean(correlations)), float(np.quantile(correlations, 0.975))),
        len(small_clusters & large_clusters) / len(small_clusters),
        (float(np.mean(shares)), float(np.quantile(shares, 0.975))),
    )


def _restricted(tree: Tree, leaves: Sequence[int]) -> list[Array]:
    place = {leaf: i for i, leaf in enumerate(leaves)}
    return [np.array([place[leaf] for leaf in below if leaf in place], dtype=int) for below in tree.members()]


def clusters(below: Sequence[Array]) -> set[frozenset[int]]:
    """Sets of leaves, without single leaves and without the whole."""
    most = max(len(leaves) for leaves in below)
    return {frozenset(int(i) for i in leaves) for leaves in below if 1 < len(leaves) < most}
