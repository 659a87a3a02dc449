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
from modelspace.representations import kernels as geometry
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
    """What lies above the diagonal, in rows."""
    return matrix[np.triu_indices(len(matrix), 1)]


def rank_agreement(one: Array, other: Array) -> float:
    """Spearman's correlation of two symmetric matrices over all pairs of models."""
    return float(spearmanr(pairs(one), pairs(other)).statistic)


def kernels(method: str, tables: Sequence[Array]) -> list[Array]:
    """One kernel of norm 1 per model from its encoder outputs."""
    return [geometry.kernel(method, table) for table in tables]


def inner(vectors: Sequence[Array]) -> Array:
    flat = np.stack([vector.ravel() for vector in vectors])
    return flat @ flat.T


def views(maps: Mapping[str, Array], tables: Sequence[Array]) -> dict[str, Array]:
    """Every space of section 9 on one probe set: name to (models, models), row = target.

    Args:
        maps: kind of map to (models, images, elements).
        tables: of each model, T as (images, d).
    """
    found = {kind: affinity(values) for kind, values in maps.items()}
    geometries = {method: kernels(method, tables) for method in geometry.KERNELS}
    found |= {method: inner(values) for method, values in geometries.items()}
    found["½ dds + ½ gradient*input"] = (found["dds"] + found["gradient*input"]) / 2
    found["⅓ dds + ⅓ centred energy + ⅓ saliency of the energy"] = (
        found["dds"] + found["gradient*input of the centred energy"] + found["saliency of the energy"]
    ) / 3
    for base in ("gradient*input", "saliency", "dds"):
        for correction in hubness.CORRECTIONS[1:]:
            found[f"{base}, hubs {correction}"] = hubness.corrected(found[base], correction)
    found["linear_cka, directed"] = predictability.r2_matrix(geometries["linear_cka"])
    found[TRANSFER] = predictability.r2_matrix(geometries["dds"])
    found["SVCCA"] = similarity.svcca([np.asarray(table, dtype=np.float64) for table in tables])
    return found


#: The space that queries use, a blend of dds alone with directed re-ranking.
TRANSFER = "dds, directed (`transfer`)"


def mean_and_interval(values: Sequence[float] | Array) -> Interval:
    return metrics.bootstrap(np.asarray(values, dtype=np.float64))


def of(outcome: Evaluation, method: str, figure: str, k: int = 5) -> Interval:
    """A figure of a method with its interval, at K where it is a curve."""
    found = outcome.row(method).summary[figure]
    if np.ndim(found.mean) == 0:
        return found
    return Interval(found.mean[k - 1], found.low[k - 1], found.high[k - 1])


# Uniformity of maps (section 4)


def participation(maps: Array) -> Array:
    """(Σ|a|)² / (n Σa²) of each map (..., n): 1 if it is equally strong everywhere, 1/n if in one pixel."""
    size = np.abs(np.asarray(maps, dtype=np.float64))
    return size.sum(axis=-1) ** 2 / (size.shape[-1] * np.square(size).sum(axis=-1))


def entropy(maps: Array) -> Array:
    """Entropy of |a| / Σ|a| over log n, of each map (..., n): 1 if equally strong everywhere, 0 if in one pixel."""
    size = np.abs(np.asarray(maps, dtype=np.float64))
    share = size / size.sum(axis=-1, keepdims=True)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return -(share * logs).sum(axis=-1) / np.log(size.shape[-1])


# Clusters (section 5)


@dataclass(frozen=True)
class Cluster:
    """How far some models keep together.

    Attributes:
        size: how many.
        found: of each one's nearest size - 1 others, the share that are among them; mean.
        chance: of a random order.
        auc: probability that a pair within is nearer than a pair of one within and one outside.
        p: share of random sets of this size with as large an AUC (1,000 draws, one added to both counts).
    """

    size: int
    found: float
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
    own = _within(matrix, inside)
    rng = np.random.default_rng(0)
    drawn = [_within(matrix, rng.permutation(inside)) for _ in range(draws)]
    size = int(inside.sum())
    p = (1 + sum(value >= own for value in drawn)) / (1 + draws)
    return Cluster(size, float(np.mean(near)), (size - 1) / (len(matrix) - 1), own, p)


def _within(matrix: Array, inside: Array) -> float:
    return auc(pairs(matrix[np.ix_(inside, inside)]), matrix[np.ix_(inside, ~inside)].ravel())


def auc(higher: Array, lower: Array) -> float:
    """Probability that one of the first is larger than one of the second; ties count half (Mann and Whitney 1947)."""
    gap = np.asarray(higher)[:, None] - np.asarray(lower)[None, :]
    return float(np.mean(gap > 0) + np.mean(gap == 0) / 2)


def families(matrix: Array, labels: Sequence[str], draws: int = 1000) -> tuple[float, float]:
    """AUC of pairs of one label against pairs of two, and the share of relabellings that reach it (Mantel's test)."""
    upper = np.triu_indices(len(matrix), 1)
    values = matrix[upper]

    def score(own: Array) -> float:
        same = (own[:, None] == own[None, :])[upper]
        return auc(values[same], values[~same])

    given = np.array(labels)
    found = score(given)
    rng = np.random.default_rng(0)
    reached = sum(score(rng.permutation(given)) >= found for _ in range(draws))
    return found, (1 + reached) / (1 + draws)


# Trees (section 6)


@dataclass(frozen=True)
class Shape:
    """How much of a tree of some models is found again in a larger tree.

    Attributes:
        correlation: of the heights at which every two models join.
        random: the same after random relabelling: mean, and 97.5th percentile.
        kept: share of the small tree's clusters (of 2 or more, without the whole) that the larger one, restricted to its models,
            has too; 1 - the normalised Robinson-Foulds distance.
        random_kept: the same after random relabelling, likewise.
    """

    correlation: float
    random: tuple[float, float]
    kept: float
    random_kept: tuple[float, float]


def shape(small: Tree, large: Tree, draws: int = 1000) -> Shape:
    at = [large.names.index(name) for name in small.names]
    own = small.cophenetic()
    inside = large.cophenetic()[np.ix_(at, at)]
    mine, theirs = clusters(small.members()), clusters(_restricted(large, at))
    rng = np.random.default_rng(0)
    heights, kept = [], []
    for _ in range(draws):
        order = rng.permutation(len(at))
        heights.append(pearsonr(pairs(own[np.ix_(order, order)]), pairs(inside)).statistic)
        moved = {frozenset(int(order[i]) for i in one) for one in mine}
        kept.append(len(moved & theirs) / len(mine))
    return Shape(
        float(pearsonr(pairs(own), pairs(inside)).statistic),
        (float(np.mean(heights)), float(np.quantile(heights, 0.975))),
        len(mine & theirs) / len(mine),
        (float(np.mean(kept)), float(np.quantile(kept, 0.975))),
    )


def _restricted(tree: Tree, leaves: Sequence[int]) -> list[Array]:
    place = {leaf: i for i, leaf in enumerate(leaves)}
    return [np.array([place[leaf] for leaf in below if leaf in place], dtype=int) for below in tree.members()]


def clusters(below: Sequence[Array]) -> set[frozenset[int]]:
    """Sets of leaves, without single ones and without the whole."""
    most = max(len(one) for one in below)
    return {frozenset(int(i) for i in one) for one in below if 1 < len(one) < most}
