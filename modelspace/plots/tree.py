"""The clustering tree of a space: root at the left, models at the right, groups as colours and shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from modelspace.analysis.tree import Tree
from modelspace.plots.figure import LINE, SMALL, Picture, drawn, shorten, text_width
from modelspace.plots.groups import Colouring, GroupLook, Groups
from modelspace.plots.labels import line_hits_box, overlap
from modelspace.plots.margins import Footer, Heading

#: Largest number of rows of a drawn tree; in larger trees, the smallest clusters become triangles with a count.
MAX_ROWS = 80

_ROW = 0.128  # inches per row: SMALL text with a little air
_LONGEST = 40
_SUPPORT_SIZE = 4.6


@dataclass(frozen=True)
class Row:
    """One row at the right edge of a drawn tree: a model, or a folded cluster.

    Attributes:
        node: its node number in the tree.
        leaves: the leaf numbers below it, from left to right.
    """

    node: int
    leaves: list[int]


@drawn
def tree_figure(
    tree: Tree,
    groups: Groups = None,
    *,
    group_by: str = "",
    title: str = "",
    caption: str = "",
    max_rows: int = MAX_ROWS,
    width: float = 7.2,
) -> Picture:
    """Draw a tree.

    The horizontal axis is the distance √(2 − 2s) at which clusters join. Numbers at the nodes are the bootstrap support
    in percent, if the tree has it. Clusters of a single group have its colour.

    Args:
        tree: any tree.
        groups: the group of each model, by name or in the order of `tree.names`; 3 or more different numbers are drawn
            as a scale of colours.
        group_by: what the groups are; printed beside a scale.
        title: printed above.
        caption: printed at the bottom: where the models come from.
        max_rows: larger trees are cut into this number of clusters, drawn as triangles with the name of the model in
            the middle of the cluster, the number of other models, and a bar of the groups.
        width: in inches; the height follows from the number of rows.

    Returns:
        The picture; `facts["rows"]` is the number of rows.
    """
    n = tree.n_leaves
    colouring = Colouring.of(tree.names, groups, group_by)
    rows = [Row(node, tree.leaves_below(node)) for node in tree.cut_nodes(min(n, max(2, max_rows)))]
    start = axis_start(tree)
    heading, footer = Heading.of(title, colouring, width), Footer.of(_notes(tree, start), caption, width)
    above, below = heading.height + 0.04, footer.height + 0.17
    height = max(1.6, above + below + _ROW * len(rows))
    picture = Picture(width, height)
    picture.facts["rows"] = len(rows)
    texts = [_row_text(tree, row) for row in rows]
    right = 0.18 + max(map(text_width, texts)) + (0.0 if len(rows) == n else 0.5)
    axes = picture.add_axes((0.02, below / height, 1 - 0.02 - right / width, 1 - (above + below) / height))
    heading.draw(picture)
    footer.draw(picture)
    _set_axis(axes, tree, start)
    lines = draw_branches(axes, tree, rows, colouring.looks, start)
    _draw_rows(axes, tree, rows, texts, colouring, start)
    if tree.support is not None:
        _draw_support(picture, axes, tree, rows, lines)
    return picture


def _row_text(tree: Tree, row: Row) -> str:
    if len(row.leaves) == 1:
        return shorten(tree.names[row.leaves[0]], _LONGEST)
    return f"{shorten(tree.names[row.leaves[len(row.leaves) // 2]], _LONGEST - 6)} +{len(row.leaves) - 1:,}"


def axis_start(tree: Tree) -> float:
    """The distance at the right end of the horizontal axis.

    Models are often nearly orthogonal, so that every merge is near √2. The axis then begins near the first merge, and
    its label says so; otherwise the tree would look like a comb. A single merge is drawn from 0.
    """
    heights = tree.linkage[:, 2]
    if len(heights) < 2 or heights.min() <= 0.35 * heights.max():
        return 0.0
    low, top = float(heights.min()), float(heights.max())
    return low - 0.12 * max(top - low, 0.02)


def _set_axis(axes: Axes, tree: Tree, start: float) -> None:
    top = float(tree.linkage[:, 2].max()) if len(tree.linkage) else 1.0
    axes.set_xlim(top + 0.03 * max(top - start, 1e-6), start)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])


def _notes(tree: Tree, start: float) -> list[str]:
    """What the axis and the numbers at the merges are."""
    label = "Ward distance, from √(2 − 2s)" if tree.method == "ward" else "distance √(2 − 2s)"
    notes = [label + (f"; the axis begins at {start:.2f}, not at 0" if start else "")]
    if tree.support is not None:
        notes.append("numbers: support in %, the share of resampled probe sets in which the same cluster appears")
    return notes


def draw_branches(
    axes: Axes, tree: Tree, rows: Sequence[Row], looks: list[GroupLook], start: float, linewidth: float = 0.9
) -> list[list[tuple[float, float]]]:
    """Draw the merges above the rows; row i is at y = i, counted from the top.

    Returns:
        The lines drawn: two (distance, row) points each.
    """
    n = tree.n_leaves
    place = {row.node: float(i) for i, row in enumerate(rows)}
    colour: dict[int, str] = {}
    for row in rows:
        group_colours = {looks[leaf].colour for leaf in row.leaves if looks[leaf].label != "no group"}
        colour[row.node] = group_colours.pop() if len(group_colours) == 1 else LINE
    lines: list[list[tuple[float, float]]] = []
    colours = []
    # Merges are numbered by height, so children precede their parents.
    for node in range(n, 2 * n - 1):
        left, right = tree.children(node)
        if left not in place or right not in place:
            continue
        place[node] = (place[left] + place[right]) / 2
        colour[node] = colour[left] if colour[left] == colour[right] else LINE
        high = tree.height(node)
        for child in (left, right):
            lines.append([(max(tree.height(child), start), place[child]), (high, place[child])])
            colours.append(colour[child])
        lines.append([(high, place[left]), (high, place[right])])
        colours.append(colour[node])
    axes.add_collection(
        LineCollection(lines, colors=colours or LINE, linewidths=linewidth, capstyle="projecting", gid="branches")
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    return lines


def _draw_rows(
    axes: Axes,
    tree: Tree,
    rows: Sequence[Row],
    texts: Sequence[str],
    colouring: Colouring,
    start: float,
) -> None:
    looks = colouring.looks
    folded = any(len(row.leaves) > 1 for row in rows)
    across = axes.get_yaxis_transform()  # x in axes fractions, y in rows
    figure = axes.figure
    assert isinstance(figure, Figure)  # no subfigures are used
    inch = 1 / (figure.get_size_inches()[0] * axes.get_position().width)
    largest = max(len(row.leaves) for row in rows)
    for look in colouring.kinds:
        ys = [i for i, row in enumerate(rows) if not folded and looks[row.leaves[0]].label == look.label]
        axes.scatter(
            [1 + 0.055 * inch] * len(ys),
            ys,
            s=15 * look.area,
            c=look.colour,
            marker=look.marker,
            linewidths=0,
            transform=across,
            clip_on=False,
        )
    for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
        x = 1 + 0.12 * inch
        if len(row.leaves) > 1:
            half = 0.16 + 0.26 * np.log(len(row.leaves)) / np.log(largest)
            tip = tree.height(row.node)
            group_colours = {looks[leaf].colour for leaf in row.leaves}
            colour = group_colours.pop() if len(group_colours) == 1 else LINE
            corners = [(tip, i), (start, i - half), (start, i + half)]
            axes.add_patch(Polygon(corners, facecolor=to_rgba(colour, 0.3), edgecolor=colour, lw=0.5))
        if folded:
            _draw_shares(axes, row, colouring, i, x, 0.42 * inch)
            x += 0.50 * inch
        label = axes.text(x, i, text, fontsize=SMALL, va="center_baseline", transform=across)
        label.set_gid(f"leaf:{text}")


def _draw_shares(axes: Axes, row: Row, colouring: Colouring, i: int, x: float, width: float) -> None:
    """A bar of the groups in a folded cluster."""
    counts = Counter(colouring.looks[leaf].label for leaf in row.leaves)
    for look in colouring.kinds:
        share = width * counts[look.label] / len(row.leaves)
        if share:
            corners = [(x, i - 0.3), (x + share, i - 0.3), (x + share, i + 0.3), (x, i + 0.3)]
            bar = Polygon(corners, facecolor=look.colour, lw=0, transform=axes.get_yaxis_transform(), clip_on=False)
            axes.add_patch(bar)
        x += share


def _draw_support(
    picture: Picture, axes: Axes, tree: Tree, rows: Sequence[Row], lines: list[list[tuple[float, float]]]
) -> None:
    """Print support in percent next to each node except the root (100 by definition), crossing the fewest lines."""
    assert tree.support is not None
    n = tree.n_leaves
    place = {row.node: float(i) for i, row in enumerate(rows)}
    pixels = axes.transData.transform(np.array(lines).reshape(-1, 2)).reshape(-1, 4)
    point = picture.dpi / 72
    taken = np.empty((0, 4))
    for node in range(n, 2 * n - 2):
        left, right = tree.children(node)
        if left not in place or right not in place:
            continue
        place[node] = (place[left] + place[right]) / 2
        support = tree.support[node - n]
        label = f"{100 * support:.0f}"
        sure = support >= 0.95
        # Digits of this font are 0.64 em wide and 0.73 em high, bold ones 0.70 em wide.
        width, height = len(label) * (0.70 if sure else 0.64) * _SUPPORT_SIZE, 0.73 * _SUPPORT_SIZE
        # Left of the node above or below its branch, or between its children.
        corners = [(-width - 1.2, 0.9), (-width - 1.2, -height - 0.9), (1.4, -height / 2)]
        at = axes.transData.transform((tree.height(node), place[node]))
        boxes = at + point * np.array(corners)
        boxes = np.hstack([boxes, boxes + np.array([width * point, height * point])])
        hits = line_hits_box(pixels, boxes).sum(axis=1)
        if len(taken):
            hits = hits + 2 * overlap(boxes, taken).sum(axis=1)
        best = int(hits.argmin())
        taken = np.vstack([taken, boxes[best]])
        # A white patch, not an outline: outlined text is not stored as text in SVG and PDF files.
        patch = {"boxstyle": "square,pad=0", "facecolor": "white", "linewidth": 0} if hits[best] else None
        axes.annotate(
            label,
            (tree.height(node), place[node]),
            corners[best],
            textcoords="offset points",
            fontsize=_SUPPORT_SIZE,
            weight="bold" if sure else "normal",
            bbox=patch,
            gid=f"support:{node}",
        )
