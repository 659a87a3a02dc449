"""The affinity matrix in leaf order, next to the tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm, to_rgb
from numpy.typing import ArrayLike, NDArray

from modelspace.analysis.distances import check_affinity
from modelspace.analysis.tree import Tree, build_tree
from modelspace.errors import UsageError
from modelspace.plots.figure import FAINT, INK, LINE, SMALL, Picture, drawn, shorten, text_width, wrapped
from modelspace.plots.groups import Colouring, GroupLook, Groups
from modelspace.plots.margins import Footer, Heading
from modelspace.plots.tree import Row, axis_start, draw_branches

#: Largest number of models with names at the edges.
MAX_NAMES = 90

_LONGEST = 30

Array = NDArray[np.float64]

# White to nearly black through yellow-green and blue; lightness decreases evenly, so it can be read in a gray print.
AFFINITY_COLOURS = LinearSegmentedColormap.from_list(
    "modelspace_affinity", ["#FFFFF2", "#DCEBB4", "#93CFA6", "#3FA5AE", "#23719F", "#26397D", "#0C0A33"]
)


# Inches: tree, strip of groups, gap between the panels, row of the colour bar, and the bar.
_TREE, _STRIP, _GAP, _SCALE_ROW, _BAR = 0.95, 0.09, 0.03, 0.33, 1.7

# The percentiles of the affinities between different models at which the colours end.
_LOWEST, _HIGHEST = 0.5, 99.5


@drawn
def heatmap_figure(
    names: Sequence[str],
    affinity: ArrayLike,
    groups: Groups = None,
    *,
    tree: Tree | None = None,
    group_by: str = "",
    title: str = "",
    caption: str = "",
    width: float = 7.2,
) -> Picture:
    """Draw an affinity matrix, rows and columns in the order of a tree's leaves.

    The colours span the affinities of different models, from 0, or the 0.5th percentile if that is negative, to the
    99.5th percentile; the scale says so where affinities lie beyond. The diagonal is gray. If most affinities are small
    compared with the largest, the colours follow the square root, so that small ones can be told apart.

    Args:
        names: n model names.
        affinity: (n, n), symmetric, unit diagonal.
        groups: the group of each model, by name or in order; 3 or more different numbers are drawn as a scale.
        tree: of the same models; None: average linkage.
        group_by: what the groups are; printed beside a scale.
        title: printed above.
        caption: printed at the bottom: where the models come from.
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
    number = {name: i for i, name in enumerate(names)}
    order = np.array([number[tree.names[leaf]] for leaf in tree.order])
    colouring = Colouring.of(names, groups, group_by).reordered([number[name] for name in tree.names])
    heading, footer = Heading.of(title, colouring, width), Footer.of((), caption, width)
    panel = _Panel.fitted([shorten(names[i], _LONGEST) for i in order], width, heading, footer)
    picture = Picture(width, panel.height)

    norm = _norm(matrix)
    _draw_matrix(_add_axes(picture, panel.left, panel.below, panel.side, panel.side), matrix, order, norm, panel)
    strip = _add_axes(picture, 0.03 + _TREE + _GAP, panel.below, _STRIP, panel.side)
    _draw_strip(strip, [colouring.looks[leaf] for leaf in tree.order])
    branches = _add_axes(picture, 0.03, panel.below, _TREE, panel.side)
    _draw_tree(branches, tree, colouring.looks)
    heading.draw(picture)
    footer.draw(picture)
    _draw_bar(picture, norm, matrix, footer.height)
    picture.facts["range"] = (float(norm.vmin or 0), float(norm.vmax or 0))
    return picture


@dataclass(frozen=True)
class _Panel:
    """The panel of the matrix, in inches from the left and from the bottom.

    Attributes:
        texts: names of the rows, from the top; empty if there are too many.
        size: of the names in points.
        left: edge of the panel.
        below: its lower edge.
        side: its width and height.
        height: of the whole picture.
    """

    texts: list[str]
    size: float
    left: float
    below: float
    side: float
    height: float

    @classmethod
    def fitted(cls, texts: list[str], width: float, heading: Heading, footer: Footer) -> _Panel:
        """The panel for names of rows in a picture of `width`."""
        left = 0.03 + _TREE + _STRIP + 2 * _GAP
        n, longest = len(texts), max(map(text_width, texts))
        if n > MAX_NAMES:
            texts, longest = [], 0.0
        # Row height and font size depend on each other; text of less than 3.2 points is not readable.
        size = SMALL
        for _ in range(3):
            room = longest * size / SMALL + 0.10 if texts else 0.08
            side = width - left - _GAP - room - 0.03
            size = float(np.clip(0.86 * side / n * 72, 3.2, SMALL))
        below = footer.height + _SCALE_ROW + room
        return cls(texts, size, left, below, side, heading.height + 0.06 + side + below)


def _add_axes(picture: Picture, x: float, y: float, w: float, h: float) -> Axes:
    """A panel with its lower left corner at (x, y), all in inches."""
    width, height = picture.get_size_inches()
    return picture.add_axes((x / width, y / height, w / width, h / height))


def _draw_matrix(axes: Axes, matrix: Array, order: NDArray[np.int64], norm: Normalize, panel: _Panel) -> None:
    n = len(matrix)
    shown = np.ma.masked_array(matrix[np.ix_(order, order)], mask=np.eye(n, dtype=bool))
    colours = AFFINITY_COLOURS.with_extremes(bad=FAINT)
    axes.imshow(shown, cmap=colours, norm=norm, aspect="auto", interpolation="nearest" if n <= 300 else "antialiased")
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.tick_params(length=0, pad=2)
    axes.set_xticks([])
    axes.set_yticks([])
    if panel.texts:
        axes.yaxis.tick_right()
        axes.set_yticks(range(n), panel.texts, fontsize=panel.size)
        axes.set_xticks(range(n), panel.texts, fontsize=panel.size, rotation=90)


def _draw_tree(axes: Axes, tree: Tree, looks: list[GroupLook]) -> None:
    n = tree.n_leaves
    axes.set_axis_off()
    top, start = float(tree.linkage[:, 2].max()) if n > 1 else 1.0, axis_start(tree)
    rows = [Row(int(leaf), [int(leaf)]) for leaf in tree.order]
    draw_branches(axes, tree, rows, looks, start, linewidth=0.8 if n <= 120 else 0.35)
    axes.set_xlim(top + 0.02 * max(top - start, 1e-6), start)
    axes.set_ylim(n - 0.5, -0.5)


def _norm(matrix: Array) -> Normalize:
    values = _between(matrix)
    if not len(values):
        return Normalize(0.0, 1.0)
    low = min(0.0, float(np.percentile(values, _LOWEST)))
    high = max(float(np.percentile(values, _HIGHEST)), low + 1e-6)
    if np.median(values) - low < 0.25 * (high - low):
        return PowerNorm(0.5, low, high, clip=True)
    return Normalize(low, high, clip=True)


def _between(matrix: Array) -> Array:
    """The affinities of different models."""
    result: Array = matrix[np.triu_indices(len(matrix), 1)]
    return result


def _draw_strip(axes: Axes, looks: list[GroupLook]) -> None:
    """A column of group colours next to the rows."""
    axes.imshow(np.array([[to_rgb(look.colour)] for look in looks]), aspect="auto", interpolation="nearest")
    axes.set_axis_off()


def _draw_bar(picture: Picture, norm: Normalize, matrix: Array, below: float) -> None:
    """The colour bar: arrows and signs where affinities lie beyond its ends, zero, and what the ends are."""
    width, height = picture.get_size_inches()
    low, high = float(norm.vmin or 0), float(norm.vmax or 0)
    values = _between(matrix)
    least, most = (float(values.min()), float(values.max())) if len(values) else (low, high)
    digits = 2 if high >= 0.1 else 3 if high >= 0.01 else 4
    # Rounding of the percentiles is no clipping.
    under, over = low - least > 0.1**digits / 2, most - high > 0.1**digits / 2
    ends = [f"{'≤ ' if under else ''}{_digits(low, digits)}", f"{'≥ ' if over else ''}{_digits(high, digits)}"]
    y = (below + 0.16) / height
    picture.text(0.08 / width, y, "affinity s", fontsize=SMALL, va="bottom")
    x = 0.08 + text_width("affinity s") + 0.10 + (text_width(ends[0]) if low < 0 else 0.0)
    axes = picture.add_axes((x / width, y, _BAR / width, 0.08 / height), label="affinities")
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[under, over]
    bar = picture.colorbar(
        ScalarMappable(norm, AFFINITY_COLOURS), cax=axes, orientation="horizontal", extend=extend, extendfrac=0.05
    )
    ticks = {low: ends[0], 0.0: "0", high: ends[1]}
    bar.set_ticks(sorted(ticks), labels=[ticks[tick] for tick in sorted(ticks)])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=SMALL - 0.5, color=LINE, labelcolor=INK, pad=1.5)
    labels = bar.ax.xaxis.get_ticklabels()
    # Labels at the ends grow outwards, so that they do not meet the zero.
    labels[-1].set_horizontalalignment("left" if low < 0 or over else "center")
    if low < 0:
        labels[0].set_horizontalalignment("right")
        axes.axvline(0.0, color=INK, lw=0.6)
    bar.outline.set_linewidth(0.4)
    x += _BAR + 0.16 + text_width(ends[1])
    for number, line in enumerate(
        wrapped(_scale_note(under, over, least, most, digits, norm), width - x - 0.05, SMALL)
    ):
        picture.text(x / width, y + (0.085 - 0.1 * number) / height, line, fontsize=SMALL, va="top")


def _digits(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if value else "0"


def _scale_note(under: bool, over: bool, least: float, most: float, digits: int, norm: Normalize) -> str:
    """What the ends of the colours are, if there are affinities beyond them."""
    kept = [f"{_LOWEST:g}th"] * under + [f"{_HIGHEST:g}th"] * over
    notes = []
    if kept:
        notes.append(
            f"colours end at the {' and '.join(kept)} percentile{'s' if len(kept) > 1 else ''}; affinities between "
            f"models are {_digits(least, digits)} to {_digits(most, digits)}"
        )
    if isinstance(norm, PowerNorm):
        notes.append("colours follow the square root")
    return "; ".join(notes)
