"""The picture of growth with the number of models: both axes logarithmic, the slope of each line stated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import LogLocator

from modelspace.plots.figure import BODY, FAINT, SMALL, TITLE, Picture, drawn
from modelspace.plots.groups import CYCLE

#: Slopes are fitted from this number of models on: below it, fixed costs hide the growth.
FROM = 1_000

_WIDTH, _COLUMNS = 7.2, 3
_LEFT, _TOP, _BELOW, _ACROSS, _DOWN = 0.42, 0.48, 0.36, 0.5, 0.42
_PANEL_HEIGHT = 1.5


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: what is drawn, with its unit.
        lines: label of a line -> name of the measured value.
    """

    title: str
    lines: Mapping[str, str]


def slope(sizes: Sequence[int], values: Sequence[float]) -> str:
    """The slope of a line with both axes logarithmic, from `FROM` models on; 1 is growth in proportion."""
    chosen = [(size, value) for size, value in zip(sizes, values, strict=True) if size >= FROM and value > 0]
    if len(chosen) < 2:
        return ""
    x, y = np.log(np.array(chosen)).T
    return f"{round(float(np.polyfit(x, y, 1)[0]), 2) + 0.0:.2f}"  # no -0.00


def short(size: float) -> str:
    """A number of models in few characters.

    >>> short(1e5)
    '100k'
    """
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:g}{name}"
    return f"{size:g}"


@drawn
def growth(sizes: Sequence[int], panels: Sequence[Panel], results: Mapping[int, Mapping[str, float]]) -> Picture:
    """A panel for each quantity, with the sizes across.

    Args:
        sizes: numbers of models, ascending.
        panels: what is drawn.
        results: size -> name of a value -> value, positive; one that was not measured is not drawn.
    """
    rows = -(-len(panels) // _COLUMNS)
    height = _TOP + _BELOW + rows * _PANEL_HEIGHT + (rows - 1) * _DOWN
    picture = Picture(_WIDTH, height)
    title = "Growth with the number of models; in brackets the slope from 1,000 models on"
    picture.text(0.012, 1 - 0.07 / height, title, fontsize=TITLE, weight="bold", va="top")
    width = (_WIDTH - _LEFT - 0.1 - (_COLUMNS - 1) * _ACROSS) / _COLUMNS
    for number, panel in enumerate(panels):
        row, column = divmod(number, _COLUMNS)
        bottom = height - _TOP - (row + 1) * _PANEL_HEIGHT - row * _DOWN
        left = _LEFT + column * (width + _ACROSS)
        axes = picture.add_axes((left / _WIDTH, bottom / height, width / _WIDTH, _PANEL_HEIGHT / height))
        for line, (label, name) in enumerate(panel.lines.items()):
            values = [results[size].get(name, np.nan) for size in sizes]
            colour, marker = CYCLE[line]
            stated = slope(sizes, values)
            text = f"{label} ({stated})" if stated else label
            axes.plot(sizes, values, color=colour, marker=marker, ms=3.4, mec="white", mew=0.3, lw=1.2, label=text)
        axes.set(xscale="log", yscale="log", xlabel="models" if row == rows - 1 else "")
        low, high = axes.get_ylim()
        legend = 0.1 + 0.085 * len(panel.lines)  # the share of the panel's height that it needs
        axes.set_ylim(low / 1.3, low * (1.3 * high / low) ** (1 / (1 - legend)))
        axes.set_title(panel.title, fontsize=BODY, pad=4)
        axes.grid(color=FAINT, lw=0.4)
        axes.set_axisbelow(True)
        axes.set_xticks(sizes)
        axes.xaxis.set_major_formatter(lambda size, _: short(size))
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if axes.get_ylim()[1] > 300 * axes.get_ylim()[0] else (1, 3)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
        axes.legend(fontsize=SMALL, loc="upper left", handlelength=1.6, labelspacing=0.3, borderaxespad=0.3)
    return picture
