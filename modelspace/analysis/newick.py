"""Tree formats for other programs: Newick (phylogeny viewers) and a flat JSON table (d3.stratify, pandas).

Newick follows Olsen's description (1990): labels with blanks, brackets, punctuation or an underscore are in single
quotes (an unquoted underscore means a blank), and quotes inside them are doubled. Reading and writing is not recursive,
so a chain of thousands of merges does not hit the recursion limit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelspace.analysis.tree import Tree
from modelspace.errors import UsageError

_PLAIN = re.compile(r"[^\s()\[\]':;,_]+")
_SPECIAL = "()[]':;,"


@dataclass
class Clade:
    """A node of a tree from `parse_newick`.

    Attributes:
        name: its label: the model's name for a leaf; support in percent, or empty, for a merge.
        length: length of the branch above it, or None.
        children: empty for a leaf.
    """

    name: str = ""
    length: float | None = None
    children: list[Clade] = field(default_factory=list)

    def leaves(self) -> list[Clade]:
        """The leaves below, from left to right."""
        leaves: list[Clade] = []
        stack = [self]
        while stack:
            node = stack.pop()
            if node.children:
                stack += reversed(node.children)
            else:
                leaves.append(node)
        return leaves


def to_newick(tree: Tree) -> str:
    """The tree as one line of Newick text, ending in ";" and a newline.

    A node's height is half the distance of its merge, so that the path between two leaves is as long as the distance at
    which they are merged. Support is the label of a merge, in whole percent (except at the root).
    """
    n = tree.n_leaves
    root = 2 * n - 2 if n > 1 else 0
    parts: list[str] = []
    # The stack holds strings to be written, and pairs of a node and its parent's height.
    stack: list[str | tuple[int, float | None]] = [";\n", (root, None)]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            parts.append(item)
            continue
        node, parent_height = item
        height = tree.height(node)
        branch = "" if parent_height is None else f":{(parent_height - height) / 2:.9g}"
        if node < n:
            parts.append(quote(tree.names[node]) + branch)
            continue
        support = ""
        if tree.support is not None and node != root:
            support = f"{100 * tree.support[node - n]:.0f}"
        left, right = tree.children(node)
        parts.append("(")
        stack += [f"){support}{branch}", (right, height), ",", (left, height)]
    return "".join(parts)


def quote(name: str) -> str:
    """A Newick label: unchanged if unambiguous, else in single quotes, with inner quotes doubled.

    >>> quote("resnet50"), quote("edge_2d"), quote("Bob's")
    ('resnet50', "'edge_2d'", "'Bob''s'")
    """
    if _PLAIN.fullmatch(name):
        return name
    return "'" + name.replace("'", "''") + "'"


def parse_newick(text: str) -> Clade:
    """Parse one tree in Newick format: quoted and plain labels, branch lengths, [comments].

    Raises:
        UsageError: the text is not Newick; the message gives the position of the error.
    """
    root = Clade()
    path = [root]
    # Labels, lengths and brackets always belong to the last node of the path.
    expects_node = True
    for kind, value, position in _tokens(text):
        node = path[-1]
        if kind == "(" and expects_node:
            child = Clade()
            node.children.append(child)
            path.append(child)
        elif kind == "," and len(path) > 1:
            path[-1] = Clade()
            path[-2].children.append(path[-1])
            expects_node = True
        elif kind == ")" and len(path) > 1:
            path.pop()
            expects_node = False
        elif kind == "label" and not node.name and node.length is None:
            node.name = value
            expects_node = False
        elif kind == "length" and node.length is None:
            node.length = float(value)
            expects_node = False
        elif kind == ";" and len(path) == 1:
            return root
        else:
            raise UsageError(f"not Newick text: unexpected {value!r} at character {position}")
    raise UsageError("not Newick text: a bracket is not closed, or the final semicolon is missing")


def _tokens(text: str) -> list[tuple[str, str, int]]:
    tokens: list[tuple[str, str, int]] = []
    i = 0
    while i < len(text):
        start, char = i, text[i]
        if char.isspace():
            i += 1
        elif char == "[":
            end = text.find("]", i)
            if end < 0:
                raise UsageError(f"not Newick text: the comment at character {i} is not closed")
            i = end + 1
        elif char == "'":
            label = re.compile(r"'((?:[^']|'')*)'").match(text, i)
            if label is None:
                raise UsageError(f"not Newick text: the quote at character {i} is not closed")
            tokens.append(("label", label[1].replace("''", "'"), start))
            i = label.end()
        elif char == ":":
            number = re.compile(r":\s*([-+0-9.eE]+)").match(text, i)
            try:
                if number is None:
                    raise ValueError
                float(number[1])
            except ValueError:
                raise UsageError(f"not Newick text: no branch length after character {i}") from None
            tokens.append(("length", number[1], start))
            i = number.end()
        elif char in "(),;":
            tokens.append((char, char, start))
            i += 1
            if char == ";":
                break
        else:
            while i < len(text) and not text[i].isspace() and text[i] not in _SPECIAL:
                i += 1
            if i == start:
                raise UsageError(f"not Newick text: unexpected {char!r} at character {start}")
            tokens.append(("label", text[start:i].replace("_", " "), start))
    return tokens


def to_json(tree: Tree, groups: Mapping[str, str | None] | None = None, sample_of: int | None = None) -> str:
    """The tree as JSON: a flat list of nodes with parent ids, as for d3.stratify or a data frame.

    ``{"format": "modelspace-tree", "version": 1, "method": ..., "order": [leaf numbers, left to right], "nodes":
    [{"id", "parent", "name", "group", "height", "size", "support"}, ...]}``. Leaves come first, in the order of
    `tree.names`; the root is last and has parent null. "height" is the distance √(2 − 2s) of the merge.

    Args:
        tree: any tree.
        groups: name -> group of the leaves.
        sample_of: number of models that the leaves are a sample of, written as "sample_of" after "method"; None if
            they are all.
    """
    n = tree.n_leaves
    parent: dict[int, int] = {}
    for k in range(n - 1):
        for child in tree.children(n + k):
            parent[child] = n + k
    nodes = []
    for node in range(2 * n - 1):
        leaf = node < n
        nodes.append(
            {
                "id": node,
                "parent": parent.get(node),
                "name": tree.names[node] if leaf else None,
                "group": groups.get(tree.names[node]) if leaf and groups else None,
                "height": tree.height(node),
                "size": 1 if leaf else int(tree.linkage[node - n, 3]),
                "support": None if leaf or tree.support is None else float(tree.support[node - n]),
            }
        )
    document = {
        "format": "modelspace-tree",
        "version": 1,
        "method": tree.method,
        **({} if sample_of is None else {"sample_of": sample_of}),
        "order": [int(i) for i in tree.order],
        "nodes": nodes,
    }
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
