"""Pictures that `modelspace.plots` has no function for, in the same style."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from modelspace.plots.figure import BODY, FAINT, INK, LINE, SMALL, TITLE, Picture, drawn
from modelspace.plots.groups import CYCLE, GroupLook, group_looks

#: Largest picture to keep in git, in bytes; its resolution is lowered until it fits.
MAX_BYTES = 118_000
DOTS = (200, 170, 145, 125, 110, 95)

#: Line styles in addition to colours, so that lines are distinct in a gray print.
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))


def png(picture: Picture) -> bytes:
    """The picture at the highest resolution that fits, in 256 colours if necessary."""
    content = b""
    for dots_per_inch in DOTS:
        content = picture.to_bytes("png", dpi=dots_per_inch)
        if len(content) <= MAX_BYTES:
            break
        buffer = io.BytesIO()
        Image.open(io.BytesIO(content)).convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
        content = buffer.getvalue()
        if len(content) <= MAX_BYTES:
            break
    return content


def _grid(
    rows: int, columns: int, title: str, width: float, height: float, left: float, below: float, between: float = 0.34
) -> tuple[Picture, list[list[Axes]]]:
    """A grid of axes; sizes in inches."""
    picture = Picture(width, height)
    top = 0.46 if title else 0.26
    if title:
        picture.text(0.012, 1 - 0.07 / height, title, fontsize=TITLE, weight="bold", va="top")
    axes_width = (width - left - 0.08 - (columns - 1) * between) / columns
    axes_height = (height - top - below - (rows - 1) * 0.42) / rows
    grid = []
    for row in range(rows):
        y = height - top - axes_height - row * (axes_height + 0.42)
        boxes = [(left + column * (axes_width + between), y, axes_width, axes_height) for column in range(columns)]
        grid.append([picture.add_axes((x / width, y / height, w / width, h / height)) for x, y, w, h in boxes])
    return picture, grid


def _lines(
    axes: Axes, x: Sequence[float], series: Mapping[str, Sequence[float]], order: Sequence[str], gray: Sequence[str]
) -> None:
    for name, values in series.items():
        i = order.index(name)
        colour, marker = CYCLE[i % len(CYCLE)]
        axes.plot(
            x, values, color=LINE if name in gray else colour, marker=marker, ms=3.0, mec="white", mew=0.3,
            lw=0.9 if name in gray else 1.2, ls=DASHES[(i + i // len(CYCLE)) % len(DASHES)], label=name,
        )  # fmt: skip


@drawn
def line_panels(
    x: Sequence[float],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    rows: int = 1,
    xlabel: str,
    title: str = "",
    gray: Sequence[str] = (),
    log: bool = False,
    log_y: bool = False,
    ticks: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
    top: float | None = 1.02,
    bottom: float | None = 0.0,
    width: float = 7.2,
    height: float = 4.4,
) -> Picture:
    """Small panels of lines with one legend below: heading -> name -> values along x."""
    order = list(dict.fromkeys(name for series in panels.values() for name in series))
    columns = -(-len(panels) // rows)
    legend_rows = -(-len(order) // 4)
    picture, grid = _grid(rows, columns, title, width, height, 0.46 if log_y else 0.34, 0.42 + 0.15 * legend_rows)
    flat = [axes for row in grid for axes in row]
    for axes, (heading, series) in zip(flat, panels.items(), strict=False):
        axes.set_title(heading, fontsize=BODY, pad=4)
        axes.grid(axis="y", color=FAINT, lw=0.4)
        axes.set_axisbelow(True)
        _lines(axes, x, series, order, gray)
        if log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        else:
            axes.set_ylim(bottom, top)
        if log:
            axes.set_xscale("log")
            axes.minorticks_off()
        if ticks is not None:
            axes.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks] if labels is None else list(labels))
    for axes in grid[-1]:
        axes.set_xlabel(xlabel, labelpad=1.5)
    handles = {line.get_label(): line for axes in flat for line in axes.get_lines() if line.get_label() in order}
    picture.legend(
        [handles[name] for name in order], order, loc="lower left", bbox_to_anchor=(0.0, 0.0), ncols=min(4, len(order)),
        handlelength=3.0, columnspacing=1.4, labelspacing=0.3, borderaxespad=0.25,
    )  # fmt: skip
    return picture


@drawn
def dots(
    names: Sequence[str],
    panels: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    title: str = "",
    gray: Sequence[str] = (),
    width: float = 7.2,
    left: float = 2.45,
) -> Picture:
    """Means with intervals, a row per name: panel heading -> (mean, low, high) per name; names of `gray` in gray."""
    height = 0.46 + 0.145 * len(names) + 0.30
    picture, grid = _grid(1, len(panels), title, width, height, left, 0.30, between=0.16)
    for column, (axes, (heading, triples)) in enumerate(zip(grid[0], panels.items(), strict=True)):
        axes.set_title(heading, fontsize=BODY, pad=4)
        axes.grid(axis="x", color=FAINT, lw=0.4)
        axes.set_axisbelow(True)
        mean, low, high = np.array(triples).T
        colours = [LINE if name in gray else CYCLE[0][0] for name in names]
        axes.hlines(range(len(names)), low, high, colors=colours, lw=0.9)
        axes.scatter(mean, range(len(names)), s=11, c=colours, lw=0, zorder=3)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_yticks(range(len(names)), names if column == 0 else [""] * len(names), fontsize=SMALL)
        axes.tick_params(axis="y", length=0)
    return picture


@drawn
def scatter_panels(
    names: Sequence[str],
    groups: Sequence[str | None],
    panels: Sequence[tuple[str, str, np.ndarray, np.ndarray]],
    *,
    marked: Sequence[str] = (),
    title: str = "",
    width: float = 7.2,
    height: float = 3.1,
) -> Picture:
    """A point per name, shaped and coloured by group: (xlabel, heading, x, y) for each panel."""
    looks, legend = group_looks(list(groups))
    picture, grid = _grid(1, len(panels), title, width, height, 0.40, 0.62, between=0.42)
    for axes, (xlabel, heading, x, y) in zip(grid[0], panels, strict=True):
        axes.set_title(heading, fontsize=BODY, pad=4)
        axes.set_xlabel(xlabel, labelpad=1.5)
        axes.grid(color=FAINT, lw=0.4)
        axes.set_axisbelow(True)
        _points(axes, looks, x, y)
        for number, name in enumerate(marked):
            i = list(names).index(name)
            to_left, lower = x[i] > (min(x) + max(x)) / 2, number > 0 and number % 2 == 0
            axes.annotate(
                name, (x[i], y[i]), (-4 if to_left else 4, -4 if lower else 3), textcoords="offset points",
                fontsize=SMALL, color=INK, ha="right" if to_left else "left", va="top" if lower else "baseline",
            )  # fmt: skip
        axes.margins(0.10)
    handles, labels = [], []
    for look in legend:
        handles.append(grid[0][0].scatter([], [], s=16 * look.area, c=look.colour, marker=look.marker, lw=0))
        labels.append(look.label)
    picture.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.0, 0.0), ncols=len(labels), borderaxespad=0.25)
    return picture


def _points(axes: Axes, looks: Sequence[GroupLook], x: np.ndarray, y: np.ndarray) -> None:
    for look, px, py in zip(looks, x, y, strict=True):
        axes.scatter([px], [py], s=18 * look.area, c=look.colour, marker=look.marker, lw=0, zorder=3)
