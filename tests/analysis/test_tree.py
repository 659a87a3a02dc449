"""Trees: the merges, the order, the cuts, and the bootstrap, each against a slow version from its definition."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from synthetic_space import make_space

from modelspace.analysis import LINKAGES, build_tree, check_affinity, cluster_support, distance_matrix, paper_distance
from modelspace.analysis import support as support_module
from modelspace.analysis.distances import affinity_from_cosines, is_euclidean
from modelspace.errors import UsageError


def slow_merges(distance: NDArray[np.float64], method: str) -> list[tuple[frozenset[int], float]]:
    """Agglomerative clustering from its definition: every cluster distance recomputed from the models' distances."""
    clusters = [frozenset([i]) for i in range(len(distance))]

    def between(a: frozenset[int], b: frozenset[int]) -> float:
        block = distance[np.ix_(sorted(a), sorted(b))]
        if method == "ward":
            # Growth of the within-cluster sum of squares, which distances alone give.
            def inertia(c: frozenset[int]) -> float:
                return float((distance[np.ix_(sorted(c), sorted(c))] ** 2).sum() / (2 * len(c)))

            return float(np.sqrt(2 * max(0.0, inertia(a | b) - inertia(a) - inertia(b))))
        return float({"average": np.mean, "single": np.min, "complete": np.max}[method](block))

    found = []
    while len(clusters) > 1:
        pairs = [(between(a, b), i, j) for i, a in enumerate(clusters) for j, b in enumerate(clusters) if i < j]
        height, i, j = min(pairs)
        joined = clusters[i] | clusters[j]
        clusters = [c for c in clusters if c not in (clusters[i], clusters[j])] + [joined]
        found.append((joined, height))
    return found


@pytest.mark.parametrize("method", LINKAGES)
def test_merges_and_cophenetic_match_the_definition(method: str) -> None:
    space = make_space(20)
    tree = build_tree(space.names, space.affinity, method)
    expected = slow_merges(distance_matrix(space.affinity), method)
    got = [(frozenset(m.tolist()), h) for m, h in zip(tree.members(), tree.linkage[:, 2], strict=True)]
    assert [c for c, _ in got] == [c for c, _ in expected]
    np.testing.assert_allclose([h for _, h in got], [h for _, h in expected], rtol=1e-9)
    slow = np.zeros((20, 20))
    for i in range(20):
        for j in range(20):
            if i != j:
                slow[i, j] = next(h for c, h in expected if i in c and j in c)
    np.testing.assert_allclose(tree.cophenetic(), slow, rtol=1e-9)


@given(st.integers(2, 7), st.integers(0, 10**6), st.sampled_from(["average", "single", "complete"]))
@settings(max_examples=40, deadline=None)
def test_optimal_order_is_the_best_that_the_tree_allows(n: int, seed: int, method: str) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, 3))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [str(i) for i in range(n)]
    tree = build_tree(names, rows @ rows.T, method)
    distance = distance_matrix(check_affinity(names, rows @ rows.T))
    clusters = [set(m.tolist()) for m in tree.members()]

    def allowed(order: tuple[int, ...]) -> bool:
        return all(np.ptp([order.index(i) for i in c]) == len(c) - 1 for c in clusters)

    def length(order: tuple[int, ...]) -> float:
        return float(sum(distance[a, b] for a, b in pairwise(order)))

    best = min(length(order) for order in permutations(range(n)) if allowed(order))
    assert allowed(tuple(tree.order.tolist()))
    assert length(tuple(tree.order.tolist())) == pytest.approx(best)
    plain = build_tree(names, rows @ rows.T, method, optimal_order=False)
    assert {frozenset(m.tolist()) for m in plain.members()} == {frozenset(c) for c in clusters}


def test_cuts_are_the_clusters_before_the_last_merges() -> None:
    space = make_space(20)
    tree = build_tree(space.names, space.affinity)
    for n_clusters in (1, 2, 5, 19, 20):
        labels = tree.cut(n_clusters)
        groups = [frozenset([i]) for i in range(20)]
        for members in tree.members()[: 20 - n_clusters]:
            new = frozenset(members.tolist())
            groups = [g for g in groups if not g <= new] + [new]
        assert {frozenset(np.flatnonzero(labels == c).tolist()) for c in range(n_clusters)} == set(groups)
        # Numbered from left to right.
        assert list(dict.fromkeys(labels[tree.order].tolist())) == list(range(n_clusters))
    with pytest.raises(UsageError, match="cut into 21"):
        tree.cut(21)


def test_one_and_two_models() -> None:
    one = build_tree(["a"], [[1.0]])
    assert one.order.tolist() == [0]
    assert one.cut(1).tolist() == [0]
    assert one.cophenetic().tolist() == [[0.0]]
    assert cluster_support(one, np.ones((3, 1, 1))).shape == (0,)
    two = build_tree(["a", "b"], [[1, 0.5], [0.5, 1]])
    assert two.linkage[0, 2] == pytest.approx(1.0)
    assert "a" in two.to_text()


@pytest.mark.wide
def test_a_chain_of_merges_is_no_deep_recursion() -> None:
    # Single linkage of points on a line with growing gaps: each merge adds one model.
    n = 3000
    angle = np.cumsum(np.linspace(1e-5, 1e-3, n))
    tree = build_tree([f"m{i}" for i in range(n)], np.cos(angle[:, None] - angle), "single", optimal_order=False)
    assert sorted(tree.order.tolist()) == list(range(n))
    assert len(tree.cut_nodes(n)) == n


@pytest.mark.first(1)
@pytest.mark.parametrize("method", LINKAGES)
def test_support_matches_counting_by_hand(method: str) -> None:
    space = make_space(20, n_images=12, dim=6, seed=2)
    assert space.cosines is not None
    tree = build_tree(space.names, space.affinity, method)
    got = cluster_support(tree, space.cosines, n_resamples=30, seed=5)
    rng = np.random.default_rng(5)
    counts = np.zeros(19)
    for drawn in rng.multinomial(12, np.full(12, 1 / 12), size=30):
        images = np.repeat(np.arange(12), drawn)
        mean = sum(space.cosines[k].astype(np.float64) for k in images) / 12
        again = {cluster for cluster, _ in slow_merges(distance_matrix(mean), method)}
        counts += [frozenset(m.tolist()) in again for m in tree.members()]
    np.testing.assert_allclose(got, counts / 30)
    assert got[-1] == 1
    assert got.min() < 1, "a bootstrap in which nothing ever changes proves nothing"


def test_support_is_the_same_in_any_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    space = make_space(20, n_images=12, dim=6)
    assert space.cosines is not None
    tree = build_tree(space.names, space.affinity)
    whole = cluster_support(tree, space.cosines, 23)
    monkeypatch.setattr(support_module, "_RESAMPLES_AT_ONCE", 7)
    monkeypatch.setattr(support_module, "_PAIRS_AT_ONCE", 11)
    np.testing.assert_array_equal(whole, cluster_support(tree, space.cosines, 23))


def test_a_clear_cluster_is_supported_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(8, 60, 10))
    maps[:3] += 3 * rng.normal(size=(1, 60, 10))
    maps /= np.linalg.norm(maps, axis=2, keepdims=True)
    cosines = np.einsum("aid,bid->iab", maps, maps)
    names = list("abcdefgh")
    tree = build_tree(names, affinity_from_cosines(cosines))
    support = cluster_support(tree, cosines, 100)
    by_cluster = {frozenset(m.tolist()): s for m, s in zip(tree.members(), support, strict=True)}
    assert by_cluster[frozenset({0, 1, 2})] == 1.0
    inside_noise = [s for c, s in by_cluster.items() if len(c) == 2 and not c & {0, 1, 2}]
    assert max(inside_noise) < 0.9


def test_support_refuses_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    space = make_space(10)
    tree = build_tree(space.names, space.affinity)
    with pytest.raises(UsageError, match="9 models, but there are 10"):
        cluster_support(tree, np.ones((4, 9, 9)))
    with pytest.raises(UsageError, match="too few"):
        cluster_support(tree, np.ones((4, 10, 10)), 0)
    monkeypatch.setattr(support_module, "MAX_SUPPORT_MODELS", 9)
    with pytest.raises(UsageError, match="at most 9"):
        cluster_support(tree, np.ones((4, 10, 10)))
    with pytest.raises(UsageError, match="9 merges"):
        tree.with_support(np.ones(10))


def test_ward_needs_euclidean_distances() -> None:
    # a is the same as b and b as c, yet a and c are opposites: no three unit vectors are like that.
    impossible = np.array([[1, 1, -1], [1, 1, 1], [-1, 1, 1]], dtype=float)
    assert not is_euclidean(impossible)
    with pytest.raises(UsageError, match="Ward"):
        build_tree(list("abc"), impossible, "ward")
    assert build_tree(list("abc"), impossible, "average").n_leaves == 3
    space = make_space(38)
    # Rounding to 16-bit floats, as quantised maps do, is not held against it.
    assert is_euclidean(space.affinity.astype(np.float16).astype(np.float64))


def test_the_papers_distance_is_no_metric() -> None:
    far = paper_distance([[1.0, 0.01, 0.5], [0.01, 1.0, 0.5], [0.5, 0.5, 1.0]])
    assert far[0, 1] > far[0, 2] + far[2, 1], "breaks the triangle inequality"
    assert far[0, 0] == 1.0, "is not zero at home"
    assert paper_distance(-0.1) == np.inf


@given(st.integers(2, 12), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_distances_are_a_metric(n: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    matrix = check_affinity([str(i) for i in range(n)], rows @ rows.T)
    distance = distance_matrix(matrix)
    np.testing.assert_allclose(distance, np.linalg.norm(rows[:, None] - rows[None], axis=2), atol=1e-7)
    assert (distance[:, :, None] <= distance[:, None, :] + distance.T[None] + 1e-9).all()


@pytest.mark.parametrize(
    ("names", "matrix", "message"),
    [
        ([], np.zeros((0, 0)), "no models"),
        (["a", "a"], np.eye(2), "more than one model is called 'a'"),
        (["a", "b"], np.eye(3), r"shape \(3, 3\), but there are 2"),
        (["a", "b"], [[1, np.nan], [np.nan, 1]], "'a' and 'b' is not a finite"),
        (["a", "b"], [[1, 0.4], [0.1, 1]], "not symmetric"),
        (["a", "b"], [[0, 0.4], [0.4, 0]], "diagonal must be 1"),
        (["a", "b"], [[1, 1.4], [1.4, 1]], "values in -1..1"),
    ],
)
def test_what_is_no_affinity_is_refused(names: list[str], matrix: NDArray[np.float64], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_affinity(names, matrix)


def test_unknown_linkage_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="average, single, complete, ward"):
        build_tree(["a", "b"], np.eye(2), "median")


def test_text_and_notebook_form() -> None:
    space = make_space(20)
    tree = build_tree(["<b>" + space.names[0], *space.names[1:]], space.affinity).with_support(np.ones(19))
    assert "<b>" not in tree._repr_html_()
    assert "&lt;b&gt;autoencoder" in tree._repr_html_()
    text = tree.to_text()
    assert len(text.splitlines()) == 1 + 39
    assert "[100%]" in text
    short = tree.to_text(max_leaves=4).splitlines()
    assert len(short) == 1 + 4 + 3
