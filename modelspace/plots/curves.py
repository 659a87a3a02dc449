"""Curves from an evaluation: precision and recall of rankings at K, and agreement as a function of a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from modelspace.errors import UsageError
from modelspace.plots.figure import BODY, FAINT, LINE, Picture, drawn, shorten, text_width
from modelspace.plots.groups import CYCLE, Colouring
from modelspace.plots.margins import Footer, Heading

# Each line has its own colour, marker and dashes; any two of these identify it.
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))

#: Name of a line -> lower and upper ends of its intervals.
Bands: TypeAlias = Mapping[str, tuple[ArrayLike, ArrayLike]]

#: Largest number of lines that can be told apart.
MAX_LINES = 12


@drawn
def ranking_curves(
    precision: Mapping[str, ArrayLike],
    recall: Mapping[str, ArrayLike] | None = None,
    *,
    intervals: Mapping[str, Bands] | None = None,
    chance: float | None = None,
    baselines: Sequence[str] = (),
    title: str = "",
    caption: str = "",
    width: float = 7.2,
    height: float = 3.0,
) -> Picture:
    """P@K and R@K of several rankings, as in the paper's figure.

    Args:
        precision: name of a ranking -> P@1, P@2, ..., each 0..1. Lengths may differ.
        recall: the same for R@K; None: draw only precision.
        intervals: "precision" and "recall" -> name -> (lower ends, upper ends); drawn as bands.
        chance: precision of a random ranking, the same at every K; drawn as a thin line.
        baselines: names of the rankings to draw in gray, for comparison.
        title: printed above the panels.
        caption: printed at the bottom: where the numbers come from.
        width: in inches.
        height: in inches.

    Raises:
        UsageError: no ranking, more than `MAX_LINES`, other names in recall, values outside 0..1, or intervals of
            another length.
    """
    if recall is not None and list(recall) != list(precision):
        raise UsageError("precision and recall have different rankings", "give the same names in the same order")
    panels = [("P@K: share of the first K that are relevant", precision)]
    if recall is not None:
        panels.append(("R@K: share of the relevant among the first K", recall))
    lines = {name: _values(name, values) for name, values in precision.items()}
    picture, axes = _panels(len(panels), lines, baselines, title, caption, width, height)
    longest = 1
    for index, (label, values) in enumerate(panels):
        bands = (intervals or {}).get(("precision", "recall")[index], {})
        for name, ys in values.items():
            array = _values(name, ys)
            if array.min() < 0 or array.max() > 1:
                raise UsageError(f"{name!r} has a value outside 0..1")
            longest = max(longest, len(array))
            number, ks = list(lines).index(name), np.arange(1, len(array) + 1)
            _draw_line(axes[index], number, name, ks, array, baselines)
            if name in bands:
                _draw_band(axes[index], number, name, ks, bands[name], baselines, len(bands))
        axes[index].set_title(label, fontsize=BODY, pad=4)
        axes[index].set(ylim=(0, 1.02), xlabel="K")
    for panel in axes:
        panel.set_xlim(0.5, longest + 0.5)
        panel.set_xticks([k for k in (1, *range(5, longest + 1, 5)) if longest - k != 1] + [longest])
    if chance is not None:
        axes[0].axhline(chance, color=LINE, lw=0.7, ls=(0, (2, 2)), zorder=1)
        axes[0].annotate("random", (longest + 0.5, chance), (0, -2), textcoords="offset points", ha="right", va="top")
    return picture


@drawn
def agreement_curves(
    x: Sequence[float],
    series: Mapping[str, ArrayLike],
    *,
    intervals: Bands | None = None,
    xlabel: str,
    ylabel: str = "Spearman's ρ",
    log: bool = False,
    baselines: Sequence[str] = (),
    title: str = "",
    caption: str = "",
    width: float = 4.8,
    height: float = 3.0,
) -> Picture:
    """Agreement of rankings as a function of a setting: probe images, bits, canvas side.

    Args:
        x: m values of the setting, ascending.
        series: name -> m values, at most 1; NaN for missing ones.
        intervals: name -> (m lower ends, m upper ends); drawn as bands.
        xlabel: label of the horizontal axis, with its unit.
        ylabel: label of the vertical axis, with its unit.
        log: logarithmic horizontal axis.
        baselines: names of the series to draw in gray, for comparison.
        title: printed above the panel.
        caption: printed at the bottom: where the numbers come from.
        width: in inches.
        height: in inches.

    Raises:
        UsageError: no series, more than `MAX_LINES`, lengths that differ from x, or a log axis with values <= 0.
    """
    xs = np.asarray(x, dtype=np.float64)
    if xs.ndim != 1 or len(xs) < 1 or (np.diff(xs) <= 0).any() or (log and xs[0] <= 0):
        raise UsageError("the values of x must ascend, and be positive on a logarithmic axis")
    lines = {name: _values(name, values) for name, values in series.items()}
    for name, values in lines.items():
        if len(values) != len(xs):
            raise UsageError(f"{name!r} has {len(values)} values for {len(xs)} values of x")
    picture, axes = _panels(1, lines, baselines, title, caption, width, height)
    for index, (name, values) in enumerate(lines.items()):
        _draw_line(axes[0], index, name, xs, values, baselines)
        if intervals and name in intervals:
            _draw_band(axes[0], index, name, xs, intervals[name], baselines, len(intervals))
    lowest = min(float(np.nanmin(values)) for values in lines.values())
    axes[0].set(xlabel=xlabel, ylim=(min(0.0, lowest - 0.05), 1.02))
    axes[0].set_title(ylabel, fontsize=BODY, pad=4)
    if log:
        axes[0].set_xscale("log")
    axes[0].set_xticks(xs if len(xs) <= 8 else xs[:: -(-len(xs) // 8)])
    axes[0].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[0].minorticks_off()
    return picture


def _values(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or np.isnan(array).all():
        raise UsageError(f"{name!r} has no values to draw")
    return array


def _panels(
    count: int,
    lines: Mapping[str, NDArray[np.float64]],
    baselines: Sequence[str],
    title: str,
    caption: str,
    width: float,
    height: float,
) -> tuple[Picture, list[Axes]]:
    """An empty picture with `count` panels side by side and a legend of the lines below them."""
    if not 1 <= len(lines) <= MAX_LINES:
        raise UsageError(f"{len(lines)} lines can't be drawn in one picture", f"give 1 to {MAX_LINES} rankings")
    longest = max(text_width(shorten(name, 34), BODY) for name in lines)
    columns = int(np.clip(width / (longest + 0.55), 1, len(lines)))
    rows = -(-len(lines) // columns)
    heading, footer = Heading.of(title, Colouring([], []), width), Footer.of((), caption, width)
    above = 0.26 + heading.height
    below = 0.42 + 0.155 * rows + footer.height
    height = max(height, above + below + 1.2)
    picture = Picture(width, height)
    heading.draw(picture)
    footer.draw(picture)
    axes = []
    margin, between = 0.36, 0.42
    panel_width = (width - margin - 0.1 - between * (count - 1)) / count
    for index in range(count):
        box = (margin + index * (panel_width + between), below, panel_width, height - above - below)
        panel = picture.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        panel.grid(axis="y", color=FAINT, lw=0.4)
        panel.set_axisbelow(True)
        panel.xaxis.labelpad = 1.5
        axes.append(panel)
    handles = []
    for index, name in enumerate(lines):
        (line,) = axes[0].plot([], [], **_style(index, name in baselines), label=shorten(name, 34))
        handles.append(line)
    picture.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, max(0.0, footer.height - 0.06) / height),
        ncols=columns,
        handlelength=3.2,
        columnspacing=1.4,
        labelspacing=0.35,
        borderaxespad=0.25,
    )
    return picture, axes


def _style(index: int, baseline: bool) -> dict[str, Any]:
    colour, marker = CYCLE[index % len(CYCLE)]
    return {
        "color": LINE if baseline else colour,
        "marker": marker,
        "ms": 3.4,
        "mec": "white",
        "mew": 0.3,
        "lw": 0.9 if baseline else 1.2,
        "ls": _DASHES[(index + index // len(CYCLE)) % len(_DASHES)],
    }


def _draw_line(
    axes: Axes, index: int, name: str, x: NDArray[Any], y: NDArray[np.float64], baselines: Sequence[str]
) -> None:
    axes.plot(x, y, **_style(index, name in baselines), zorder=2 if name in baselines else 3, gid=f"line:{name}")


def _draw_band(
    axes: Axes,
    index: int,
    name: str,
    x: NDArray[Any],
    band: tuple[ArrayLike, ArrayLike],
    baselines: Sequence[str],
    count: int,
) -> None:
    """Fill the intervals of a line, one of `count` that have some: many bands on each other must be pale."""
    low, high = (np.asarray(end, dtype=np.float64) for end in band)
    if low.shape != x.shape or high.shape != x.shape:
        raise UsageError(f"{name!r} has {len(x)} values, but {low.size} lower and {high.size} upper ends of intervals")
    colour = LINE if name in baselines else CYCLE[index % len(CYCLE)][0]
    alpha = 0.16 if count <= 4 else 0.07
    axes.fill_between(x, low, high, color=colour, alpha=alpha, lw=0, zorder=1, gid=f"band:{name}")
