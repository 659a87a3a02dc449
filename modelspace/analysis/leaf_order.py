"""Optimal leaf order of a binary tree (Bar-Joseph, Gifford and Jaakkola, Bioinformatics 2001).

A tree of n leaves can be drawn in 2^(n-1) orders. The optimal order minimises the sum of distances between adjacent
leaves. `scipy.cluster.hierarchy.optimal_leaf_ordering` is not exact (scipy #11227, open: it missed the optimum for 24
of 40 random trees of 7 leaves), hence this implementation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def optimal_order(linkage: NDArray[np.float64], distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same merges with left and right swapped where that makes the leaf order optimal.

    Dynamic programming over the tree: best[u, w] is the minimum cost of the smallest subtree with u and w, drawn
    with u at one end and w at the other. O(n³) time and O(n²) memory.

    Args:
        linkage: (n - 1, 4) merges, numbered as in scipy, n >= 2.
        distance: (n, n) float64, symmetric.

    Returns:
        (n - 1, 4), rows in the same order with the first two columns swapped where needed.
    """
    n = len(linkage) + 1
    children = linkage[:, :2].astype(int)
    leaves: list[NDArray[np.int64]] = [np.array([i]) for i in range(n)]
    best = np.zeros((n, n))
    for left, right in children:
        a, b = leaves[left], leaves[right]
        # From end u through the rest of a, then one step to k in b ...
        to_b = np.empty((len(a), len(b)))
        for ends, inner in _orientations(left, leaves, children, n):
            to_b[ends] = _min_plus(best[np.ix_(a[ends], a[inner])], distance[np.ix_(a[inner], b)])
        # ... and from there through b to end w.
        joined = np.empty((len(a), len(b)))
        for ends, inner in _orientations(right, leaves, children, n):
            joined[:, ends] = _min_plus(to_b[:, inner], best[np.ix_(b[inner], b[ends])])
        best[np.ix_(a, b)] = joined
        best[np.ix_(b, a)] = joined.T
        leaves.append(np.concatenate([a, b]))

    # Backtrack from the root: the ends of a subtree determine the ends of its two children.
    ordered = linkage.copy()
    a, b = (leaves[i] for i in children[-1])
    cost = best[np.ix_(a, b)]
    u, w = np.unravel_index(int(cost.argmin()), cost.shape)
    stack = [(2 * n - 2, int(a[u]), int(b[w]))]
    while stack:
        node, first, last = stack.pop()
        if node < n:
            continue
        left, right = children[node - n]
        if first not in leaves[left]:
            left, right = right, left
        ordered[node - n, :2] = left, right
        ends_left = _opposite(left, first, leaves, children, n)
        ends_right = _opposite(right, last, leaves, children, n)
        cost = best[first, ends_left][:, None] + distance[np.ix_(ends_left, ends_right)] + best[ends_right, last]
        m, k = np.unravel_index(int(cost.argmin()), cost.shape)
        stack += [(left, first, int(ends_left[m])), (right, int(ends_right[k]), last)]
    return ordered


def _orientations(
    node: int, leaves: list[NDArray[np.int64]], children: NDArray[np.int64], n: int
) -> list[tuple[slice, slice]]:
    """Both orientations of a subtree: slices of leaves[node] with the possible first ends, and the opposite ends."""
    if node < n:
        return [(slice(0, 1), slice(0, 1))]
    cut = len(leaves[children[node - n, 0]])
    first, second = slice(0, cut), slice(cut, None)
    return [(first, second), (second, first)]


def _opposite(
    node: int, end: int, leaves: list[NDArray[np.int64]], children: NDArray[np.int64], n: int
) -> NDArray[np.int64]:
    """The leaves that can be at the other end of a subtree if `end` is at one end."""
    if node < n:
        return leaves[node]
    left, right = (leaves[i] for i in children[node - n])
    other: NDArray[np.int64] = right if end in left else left
    return other


def _min_plus(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(p, q), (q, r) -> (p, r): the min-plus matrix product."""
    p, q, r = len(a), len(b), b.shape[1]
    result: NDArray[np.float64] = np.empty((p, r))
    if p <= q:
        for i in range(p):
            (a[i, :, None] + b).min(axis=0, out=result[i])
        return result
    np.add(a[:, :1], b[:1], out=result)
    step = np.empty((p, r))
    for j in range(1, q):
        np.add(a[:, j : j + 1], b[j], out=step)
        np.minimum(result, step, out=result)
    return result
