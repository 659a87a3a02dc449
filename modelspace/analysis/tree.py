"""The clustering tree of a space: agglomerative clustering with optimal leaf order.

The paper's figure clusters models by attribution distance. Here the distance is √(2 − 2s), the Euclidean distance
of the models' vectors, so Ward's method, which is defined for Euclidean distances only, is valid. It would not be for
the paper's 1/s.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster import hierarchy

from modelspace.analysis.distances import check_affinity, condensed, distance_matrix, is_euclidean
from modelspace.analysis.leaf_order import optimal_order as put_in_optimal_order
from modelspace.errors import UsageError

#: How the distance of two clusters follows from the distances of their models.
LINKAGES = ("average", "single", "complete", "ward")

#: Largest number of models in optimal leaf order, which takes 1 s for 1,000 models and 3 s for 2,000 (cubic time).
MAX_OPTIMAL_ORDER = 2000


@dataclass(frozen=True, eq=False)
class Tree:
    """A binary tree over n models. Nodes are numbered as in scipy: 0..n-1 are leaves, n+k is the k-th merge.

    Attributes:
        names: n model names; leaf i is names[i].
        linkage: (n - 1, 4) float64, row k: left node, right node, height and number of leaves of merge k. The height is
            a distance √(2 − 2s), 0..2 except for Ward's method, whose heights grow with the clusters.
        method: one of `LINKAGES`.
        support: (n - 1,) float64 in 0..1, the share of resampled probe sets in which the cluster of merge k appears;
            None if not computed. The last entry, the root, is always 1.
    """

    names: tuple[str, ...]
    linkage: NDArray[np.float64]
    method: str
    support: NDArray[np.float64] | None = None

    @property
    def n_leaves(self) -> int:
        """n, the number of models."""
        return len(self.names)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(n,) leaf numbers from left to right."""
        n = self.n_leaves
        if n == 1:
            return np.zeros(1, dtype=np.int64)
        # A stack, not recursion: the tree may be a chain of thousands of merges.
        leaves: list[int] = []
        stack = [2 * n - 2]
        while stack:
            node = stack.pop()
            if node < n:
                leaves.append(node)
            else:
                left, right = self.children(node)
                stack += [right, left]
        return np.array(leaves, dtype=np.int64)

    @property
    def ordered_names(self) -> list[str]:
        """The names from left to right."""
        return [self.names[i] for i in self.order]

    def children(self, node: int) -> tuple[int, int]:
        """The two children of a merge, left one first."""
        row = self.linkage[node - self.n_leaves]
        return int(row[0]), int(row[1])

    def height(self, node: int) -> float:
        """Height of a node; 0 for a leaf."""
        return 0.0 if node < self.n_leaves else float(self.linkage[node - self.n_leaves, 2])

    def members(self) -> list[NDArray[np.int64]]:
        """For each of the n - 1 merges, the sorted leaf numbers below it."""
        n = self.n_leaves
        below: list[NDArray[np.int64]] = [np.array([i], dtype=np.int64) for i in range(n)]
        for left, right in self.linkage[:, :2].astype(int):
            below.append(np.sort(np.concatenate([below[left], below[right]])))
        return below[n:]

    def cophenetic(self) -> NDArray[np.float64]:
        """(n, n) height at which each two models are merged into one cluster; 0 on the diagonal."""
        n = self.n_leaves
        result: NDArray[np.float64] = np.zeros((n, n))
        below: list[NDArray[np.int64]] = [np.array([i], dtype=np.int64) for i in range(n)]
        for left, right, height in self.linkage[:, :3]:
            a, b = below[int(left)], below[int(right)]
            result[np.ix_(a, b)] = height
            result[np.ix_(b, a)] = height
            below.append(np.concatenate([a, b]))
        return result

    def cut(self, n_clusters: int) -> NDArray[np.int64]:
        """(n,) cluster of each model, 0.. from left to right, if the tree is cut into `n_clusters` clusters.

        Raises:
            UsageError: `n_clusters` is not in 1..n.
        """
        n = self.n_leaves
        if not 1 <= n_clusters <= n:
            raise UsageError(f"a tree of {n} models can't be cut into {n_clusters} clusters")
        labels = np.zeros(n, dtype=np.int64)
        for number, node in enumerate(self.cut_nodes(n_clusters)):
            labels[self.leaves_below(node)] = number
        return labels

    def cut_nodes(self, n_clusters: int) -> list[int]:
        """The nodes whose subtrees are the `n_clusters` clusters, from left to right."""
        n = self.n_leaves
        if n == 1:
            return [0]
        # Undo the last n_clusters - 1 merges; a parent is always a later merge than its child.
        first_undone = 2 * n - n_clusters
        nodes: list[int] = []
        stack = [2 * n - 2]
        while stack:
            node = stack.pop()
            if node >= first_undone:
                left, right = self.children(node)
                stack += [right, left]
            else:
                nodes.append(node)
        return nodes

    def leaves_below(self, node: int) -> list[int]:
        """Leaf numbers below a node, from left to right."""
        leaves: list[int] = []
        stack = [node]
        while stack:
            top = stack.pop()
            if top < self.n_leaves:
                leaves.append(top)
            else:
                left, right = self.children(top)
                stack += [right, left]
        return leaves

    def with_support(self, support: ArrayLike | None) -> Tree:
        """The same tree with other support values."""
        values = None if support is None else np.asarray(support, dtype=np.float64)
        if values is not None and values.shape != (self.n_leaves - 1,):
            raise UsageError(f"support has shape {values.shape}, but the tree has {self.n_leaves - 1} merges")
        return Tree(self.names, self.linkage, self.method, values)

    def __repr__(self) -> str:
        with_support = "" if self.support is None else ", with bootstrap support"
        return f"<Tree of {self.n_leaves} models, {self.method} linkage{with_support}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.to_text())}</pre>"

    def to_text(self, max_leaves: int = 60) -> str:
        """The tree in characters, one line per leaf; larger trees are cut into `max_leaves` clusters first."""
        n = self.n_leaves
        shown = set(self.cut_nodes(min(n, max_leaves)))
        lines = [repr(self)]
        stack: list[tuple[int, str, str]] = [(2 * n - 2 if n > 1 else 0, "", "")]
        while stack:
            node, first, indent = stack.pop()
            if node in shown:
                leaves = self.leaves_below(node)
                more = f" (+{len(leaves) - 1})" if len(leaves) > 1 else ""
                lines.append(f"{first}{self.names[leaves[0]]}{more}")
                continue
            support = "" if self.support is None else f" [{self.support[node - n]:.0%}]"
            lines.append(f"{first}{self.height(node):.3f}{support}")
            left, right = self.children(node)
            stack += [(right, indent + "└─ ", indent + "   "), (left, indent + "├─ ", indent + "│  ")]
        return "\n".join(lines)


def build_tree(
    names: Sequence[str],
    affinity: ArrayLike,
    method: str = "average",
    *,
    optimal_order: bool | None = None,
) -> Tree:
    """Cluster models by the distances √(2 − 2s).

    Args:
        names: n model names, all different.
        affinity: (n, n), symmetric, unit diagonal.
        method: one of `LINKAGES`. Ward's method needs Euclidean distances, so affinities that are inner products.
        optimal_order: put similar leaves next to each other (Bar-Joseph et al., 2001: minimise the sum of distances of
            adjacent leaves over all orders of the tree). None: for up to `MAX_OPTIMAL_ORDER` models.

    Returns:
        The tree, without support; see `cluster_support`.

    Raises:
        UsageError: not an affinity matrix, an unknown method, or Ward's method on non-Euclidean distances.
    """
    matrix = check_affinity(names, affinity)
    if method not in LINKAGES:
        raise UsageError(f"unknown linkage {method!r}", f"use one of: {', '.join(LINKAGES)}")
    if method == "ward" and not is_euclidean(matrix):
        raise UsageError(
            "Ward's method needs Euclidean distances, but these affinities are not inner products",
            "use the average, single or complete linkage",
        )
    if optimal_order is None:
        optimal_order = len(matrix) <= MAX_OPTIMAL_ORDER
    distance = distance_matrix(matrix)
    merges = link(condensed(distance), method)
    if optimal_order and len(merges) > 1:
        merges = put_in_optimal_order(merges, distance)
    return Tree(tuple(names), merges, method)


def link(distances: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    """scipy's linkage, also for a single model: condensed distances -> (n - 1, 4)."""
    if len(distances) == 0:
        return np.zeros((0, 4))
    merges: NDArray[np.float64] = hierarchy.linkage(distances, method)
    return merges
