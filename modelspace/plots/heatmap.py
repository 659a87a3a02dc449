"""The affinity matrix in leaf order, next to the tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm, to_rgb
from numpy.typing import ArrayLike, NDArray

from modelspace.analysis.distances import check_affinity
from modelspace.analysis.tree import Tree, build_tree
from modelspace.errors import UsageError
from modelspace.plots.figure import FAINT, INK, LINE, SMALL, TITLE, Picture, drawn, shorten
from modelspace.plots.groups import GroupLook, as_list, group_looks
from modelspace.plots.legend import draw_group_legend, legend_height
from modelspace.plots.tree import Row, draw_branches

#: Largest number of models with names at the edges.
MAX_NAMES = 90

_LONGEST = 30

# White to nearly black through yellow-green and blue; lightness decreases evenly, so it can be read in a gray print.
AFFINITY_COLOURS = LinearSegmentedColormap.from_list(
    "modelspace_affinity", ["#FFFFF2", "#DCEBB4", "#93CFA6", "#3FA5AE", "#23719F", "#26397D", "#0C0A33"]
)


@drawn
def heatmap_figure(
    names: Sequence[str],
    affinity: ArrayLike,
    groups: Mapping[str, str | None] | Sequence[str | None] | None = None,
    *,
    tree: Tree | None = None,
    title: str = "",
    width: float = 7.2,
) -> Picture:
    """Draw an affinity matrix, rows and columns in the order of a tree's leaves.

    The colours span the affinities of different models, from the lowest or 0 to the 99.5th percentile; the diagonal
    is gray. If most affinities are small compared with the largest, the colours follow the square root, so that small
    ones can be told apart; the ticks of the colour bar show this.

    Args:
        names: n model names.
        affinity: (n, n), symmetric, unit diagonal.
        groups: the group of each model, by name or in order.
        tree: of the same models; None: average linkage.
        title: printed above.
        width: in inches; the height is nearly the same.

    Returns:
        The picture; `facts["range"]` is the range of affinities of the colours.

    Raises:
        UsageError: not an affinity matrix, or a tree of other models.
    """
    matrix = check_affinity(names, affinity)
    if tree is None:
        tree = build_tree(names, matrix)
    if sorted(tree.names) != sorted(names):
        raise UsageError("the tree and the matrix have different models", "build both from the same names")
    n = len(names)
    number = {name: i for i, name in enumerate(names)}
    order = np.array([number[tree.names[leaf]] for leaf in tree.order])
    by_name = dict(zip(names, as_list(names, groups), strict=True))
    looks, legend = group_looks([by_name[name] for name in tree.names])

    named = n <= MAX_NAMES
    texts = [shorten(names[i], _LONGEST) for i in order]
    # Row height and font size depend on each other; text of less than 3.2 points is not readable.
    longest = max(map(len, texts)) if named else 0
    heading = 0.28 if title else 0.04
    above = heading + legend_height(legend) + 0.06
    at_left, strip, gap = 0.95, 0.09, 0.03
    size = SMALL
    for _ in range(3):
        text_room = 0.10 + longest * size / 72 * 0.60 if named else 0.08
        side = width - at_left - strip - 3 * gap - text_room - 0.03
        size = float(np.clip(0.86 * side / n * 72, 3.2, SMALL))
    below = max(0.46, text_room + 0.06) if named else 0.46
    height = above + side + below
    picture = Picture(width, height)

    def add_axes(x: float, y: float, w: float, h: float) -> Axes:
        return picture.add_axes((x / width, y / height, w / width, h / height))

    x_matrix = 0.03 + at_left + strip + 2 * gap
    axes = add_axes(x_matrix, below, side, side)
    norm = _norm(matrix)
    shown = np.ma.masked_array(matrix[np.ix_(order, order)], mask=np.eye(n, dtype=bool))
    colours = AFFINITY_COLOURS.with_extremes(bad=FAINT)
    axes.imshow(shown, cmap=colours, norm=norm, aspect="auto", interpolation="nearest" if n <= 300 else "antialiased")
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.tick_params(length=0, pad=2)
    axes.set_xticks([])
    axes.set_yticks([])
    if named:
        axes.yaxis.tick_right()
        axes.set_yticks(range(n), texts, fontsize=size)
        axes.set_xticks(range(n), texts, fontsize=size, rotation=90)

    strip_axes = add_axes(0.03 + at_left + gap, below, strip, side)
    _draw_strip(strip_axes, [looks[leaf] for leaf in tree.order])
    branches = add_axes(0.03, below, at_left, side)
    branches.set_axis_off()
    heights = tree.linkage[:, 2]
    top, low = (float(heights.max()), float(heights.min())) if n > 1 else (1.0, 0.0)
    start = max(0.0, low - 0.1 * (top - low)) if low > 0.35 * top else 0.0
    rows = [Row(int(leaf), [int(leaf)]) for leaf in tree.order]
    draw_branches(branches, tree, rows, looks, start, linewidth=0.8 if n <= 120 else 0.35)
    branches.set_xlim(top + 0.02 * max(top - start, 1e-6), start)
    branches.set_ylim(n - 0.5, -0.5)

    if title:
        picture.text(0.012, 1 - 0.07 / height, title, fontsize=TITLE, weight="bold", va="top")
    if legend:
        draw_group_legend(picture, legend, y=1 - heading / height)
    # There is always room below the tree.
    bar = add_axes(0.17, below - 0.20, at_left - 0.22, 0.07)
    _draw_bar(picture, bar, norm, matrix)
    picture.facts["range"] = (float(norm.vmin or 0), float(norm.vmax or 0))
    return picture


def _norm(matrix: NDArray[np.float64]) -> Normalize:
    values = matrix[np.triu_indices(len(matrix), 1)]
    if not len(values):
        return Normalize(0.0, 1.0)
    low = min(0.0, float(np.percentile(values, 0.5)))
    high = max(float(np.percentile(values, 99.5)), low + 1e-6)
    if np.median(values) - low < 0.25 * (high - low):
        return PowerNorm(0.5, low, high, clip=True)
    return Normalize(low, high, clip=True)


def _draw_strip(axes: Axes, looks: list[GroupLook]) -> None:
    """A column of group colours next to the rows."""
    axes.imshow(np.array([[to_rgb(look.colour)] for look in looks]), aspect="auto", interpolation="nearest")
    axes.set_axis_off()


def _draw_bar(picture: Picture, axes: Axes, norm: Normalize, matrix: NDArray[np.float64]) -> None:
    bar = picture.colorbar(ScalarMappable(norm, AFFINITY_COLOURS), cax=axes, orientation="horizontal")
    low, high = float(norm.vmin or 0), float(norm.vmax or 0)
    bar.set_ticks([0.0, high] if low < 0 and -low < 0.15 * (high - low) else sorted({low, 0.0, high}))
    digits = 2 if high >= 0.1 else 3 if high >= 0.01 else 4
    bar.ax.xaxis.set_major_formatter(lambda value, _: f"{value:.{digits}f}" if value else "0")
    bar.ax.tick_params(labelsize=SMALL - 0.5, color=LINE, labelcolor=INK, pad=1.5)
    bar.outline.set_linewidth(0.4)
    axes.set_title("affinity s", fontsize=SMALL, pad=2, loc="left")
