"""Trees as Newick text: written trees are read back unchanged, with names of any kind."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_space import make_space

from modelspace.analysis import Clade, Tree, build_tree, parse_newick, to_json, to_newick
from modelspace.analysis.newick import quote
from modelspace.errors import UsageError

WORST = [
    "",
    " ",
    "a b",
    "it's",
    "''",
    "(a,b)",
    "x:1",
    "a_b",
    "[c]",
    ";",
    "tab\there",
    "new\nline",
    "é模型",
    "97",
    "a;b",
]


def paths(root: Clade) -> dict[str, list[tuple[int, float]]]:
    """For each leaf the (identity, distance from it) of all nodes above it."""
    found: dict[str, list[tuple[int, float]]] = {}
    stack: list[tuple[Clade, list[tuple[int, float]]]] = [(root, [(id(root), 0.0)])]
    while stack:
        node, above = stack.pop()
        if not node.children:
            found[node.name] = above
        for child in node.children:
            length = child.length or 0.0
            stack.append((child, [(id(child), 0.0)] + [(i, d + length) for i, d in above]))
    return found


def test_path_between_leaves_is_the_cophenetic_distance() -> None:
    space = make_space(38)
    tree = build_tree(space.names, space.affinity)
    above = {name: dict(path) for name, path in paths(parse_newick(to_newick(tree))).items()}
    cophenetic = tree.cophenetic()
    for i, a in enumerate(space.names):
        for j, b in enumerate(space.names):
            meeting = min(above[a][node] + above[b][node] for node in above[a].keys() & above[b].keys())
            assert meeting == pytest.approx(cophenetic[i, j] if i != j else 0.0, abs=1e-6)


def test_leaves_come_in_tree_order_and_support_is_in_percent() -> None:
    space = make_space(20)
    tree = build_tree(space.names, space.affinity).with_support(np.linspace(0, 1, 19))
    text = to_newick(tree)
    assert text.endswith(";\n")
    root = parse_newick(text)
    assert [leaf.name for leaf in root.leaves()] == tree.ordered_names
    assert root.name == ""
    labels = []
    stack = [root]
    while stack:
        node = stack.pop()
        stack += node.children
        if node.children and node is not root:
            labels.append(int(node.name))
    assert sorted(labels) == sorted(round(100 * s) for s in np.linspace(0, 1, 19)[:-1])


@pytest.mark.parametrize("name", WORST)
def test_awkward_names_survive(name: str) -> None:
    tree = build_tree([name, "other"], [[1, 0.2], [0.2, 1]])
    assert sorted(leaf.name for leaf in parse_newick(to_newick(tree)).leaves()) == sorted([name, "other"])


@pytest.mark.wide
@given(st.lists(st.text(max_size=12), min_size=1, max_size=9, unique=True), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_any_names_survive(names: list[str], seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(len(names), 5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    tree = build_tree(names, rows @ rows.T)
    read = parse_newick(to_newick(tree))
    assert [leaf.name for leaf in read.leaves()] == tree.ordered_names
    table = json.loads(to_json(tree))
    assert [table["nodes"][i]["name"] for i in table["order"]] == tree.ordered_names


def test_plain_names_stay_plain() -> None:
    assert quote("resnet50.a1-in1k") == "resnet50.a1-in1k"
    assert quote("edge_2d") == "'edge_2d'"


def test_text_of_other_programs_is_read() -> None:
    read = parse_newick("[&R] ((raccoon:19.2,bear_cub:6.8)0.9:0.8[note], 'sea lion':11.9 , dog);")
    assert [leaf.name for leaf in read.leaves()] == ["raccoon", "bear cub", "sea lion", "dog"]
    assert read.children[0].name == "0.9"
    assert read.children[0].length == 0.8
    assert read.children[2].length is None
    assert parse_newick("alone;").name == "alone"


@pytest.mark.parametrize(
    "text", ["", "(a,b)", "(a,b;", "a,b;", "(a,b));", "(a b);", "('a,b);", "(a:x,b);", "(a[,b);", "(a](b);"]
)
def test_what_is_not_newick_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not Newick"):
        parse_newick(text)


def test_json_gives_the_tree_back() -> None:
    space = make_space(20)
    tree = build_tree(space.names, space.affinity).with_support(np.linspace(0, 1, 19))
    groups = dict(zip(space.names, space.groups, strict=True))
    table = json.loads(to_json(tree, groups))
    nodes = table["nodes"]
    assert [node["id"] for node in nodes] == list(range(39))
    assert [node["group"] for node in nodes[:20]] == space.groups
    assert [node["parent"] is None for node in nodes] == [False] * 38 + [True]
    assert table["order"] == tree.order.tolist()
    for k in range(19):
        children = {node["id"] for node in nodes if node["parent"] == 20 + k}
        assert children == set(tree.children(20 + k))
        assert nodes[20 + k]["height"] == tree.linkage[k, 2]
        assert nodes[20 + k]["size"] == tree.linkage[k, 3]
        assert nodes[20 + k]["support"] == pytest.approx(k / 18)


def test_a_chain_of_thousands_is_written_and_read() -> None:
    n = 3000
    linkage = np.array([[0 if k == 0 else n + k - 1, k + 1, 0.001 * (k + 1), k + 2] for k in range(n - 1)], dtype=float)
    tree = Tree(tuple(f"m{i}" for i in range(n)), linkage, "single")
    assert [leaf.name for leaf in parse_newick(to_newick(tree)).leaves()] == tree.ordered_names
    assert len(json.loads(to_json(tree))["nodes"]) == 2 * n - 1
