"""Choices against measurements: where the chosen transfer source of each target lies among all that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from modelspace.errors import UsageError
from modelspace.plots.figure import BODY, FAINT, INK, SMALL, Picture, drawn, shorten, text_width
from modelspace.plots.groups import CYCLE, Colouring
from modelspace.plots.margins import QUIET, Footer, Heading

_LONGEST = 26

# Colour of the sources that were not chosen.
_GRAY = "#A3A3A3"

# Heading of the column of chosen sources.
_PICKED = "chosen source"

# Inches: a row, the heading of a block of rows, and the legend above with the axis's two words.
_ROW, _BLOCK, _ABOVE = 0.165, 0.20, 0.40


@drawn
def choices_figure(
    measured: Mapping[str, Mapping[str, float]],
    chosen: Mapping[str, str],
    *,
    blocks: Mapping[str, Sequence[str]] | None = None,
    chooser: str = "chosen",
    title: str = "",
    caption: str = "",
    width: float = 5.0,
) -> Picture:
    """Draw a row for each target: all sources as gray dots from the worst to the best, the chosen one in colour.

    Args:
        measured: target -> source -> how well it transferred, higher is better; at least two sources for a target.
        chosen: target -> one of its sources.
        blocks: heading -> the targets below it, in this order; None: all, without headings.
        chooser: who chose, for the legend.
        title: printed above.
        caption: printed at the bottom.
        width: in inches; the height follows from the number of targets.

    Returns:
        The picture; `facts["best"]` counts the targets of which the best source was chosen, `facts["ranks"]` has the
        place of each target's choice among its sources, 1 for the best.

    Raises:
        UsageError: no targets, a target with fewer than two sources or values that are not finite, or a choice that was
            not measured.
    """
    if blocks is None:
        blocks = {"": list(measured)}
    targets = [target for block in blocks.values() for target in block]
    rows = {target: _Row(target, measured.get(target, {}), chosen.get(target, "")) for target in targets}
    if not rows:
        raise UsageError("there are no targets to draw")
    heading, footer = Heading.of(title, Colouring([], []), width), Footer.of((), caption, width)
    names = {target: shorten(target, _LONGEST) for target in targets}
    picks = {target: shorten(row.chosen, _LONGEST) for target, row in rows.items()}
    left = 0.16 + max(text_width(name) for name in names.values())
    right = 0.20 + max(*(text_width(pick, weight="bold") for pick in picks.values()), text_width(_PICKED))
    n_lines = _BLOCK * sum(bool(block) for block in blocks) + _ROW * len(rows)
    above, below = heading.height + _ABOVE, footer.height + 0.06
    height = above + n_lines + below
    picture = Picture(width, height)
    axes = picture.add_axes((left / width, below / height, 1 - (left + right) / width, n_lines / height))
    axes.set_axis_off()
    axes.set(xlim=(-0.035, 1.035), ylim=(n_lines, 0))
    y = 0.0
    for block, members in blocks.items():
        if block:
            picture.text(0.08 / width, 1 - (above + y + 0.13) / height, block, fontsize=SMALL, color=QUIET)
            y += _BLOCK
        for target in members:
            _draw_row(axes, rows[target], y + _ROW / 2, names[target], picks[target])
            y += _ROW
    heading.draw(picture)
    footer.draw(picture)
    _draw_legend(picture, axes, chooser, heading.height)
    ranks = {target: row.rank for target, row in rows.items()}
    picture.facts |= {"ranks": ranks, "best": sum(rank == 1 for rank in ranks.values())}
    return picture


class _Row:
    """A target: its sources' values, scaled to 0 for the worst and 1 for the best."""

    def __init__(self, target: str, values: Mapping[str, float], chosen: str) -> None:
        array = np.array(list(values.values()), dtype=np.float64)
        if len(array) < 2 or not np.isfinite(array).all():
            raise UsageError(f"target {target!r} needs two or more sources with measured values")
        if chosen not in values:
            raise UsageError(f"the choice {chosen!r} for {target!r} was not measured")
        low, high = float(array.min()), float(array.max())
        self.chosen = chosen
        self.places: NDArray[np.float64] = (array - low) / (high - low or 1.0)
        self.place = (values[chosen] - low) / (high - low or 1.0)
        self.rank = 1 + int((array > values[chosen]).sum())


def _draw_row(axes: Axes, row: _Row, y: float, name: str, pick: str) -> None:
    axes.plot([0, 1], [y, y], color=FAINT, lw=0.5, zorder=1)
    axes.plot(row.places, np.full(len(row.places), y), "o", ms=3.2, mfc=_GRAY, mec="white", mew=0.3, zorder=2)
    axes.plot([row.place], [y], "o", ms=6.4, color=CYCLE[0][0], mec="white", mew=0.6, zorder=3, gid=f"choice:{name}")
    across = axes.get_yaxis_transform()
    axes.annotate(
        name, (0, y), (-4, 0), xycoords=across, textcoords="offset points",
        fontsize=SMALL, ha="right", va="center_baseline",
    )  # fmt: skip
    axes.annotate(
        pick, (1, y), (5, 0), xycoords=across, textcoords="offset points",
        fontsize=SMALL, va="center_baseline", color=CYCLE[0][0] if row.rank == 1 else INK,
        weight="bold" if row.rank == 1 else "normal",
    )  # fmt: skip


def _draw_legend(picture: Picture, axes: Axes, chooser: str, top: float) -> None:
    """What the dots are, and below that the ends of the rows."""
    width, height = picture.get_size_inches()
    dots = picture.add_axes((0, 1 - (top + 0.20) / height, 1, 0.20 / height))
    dots.set_axis_off()
    dots.set(xlim=(0, width), ylim=(0, 1))
    x = 0.14
    for text, size, colour in ((chooser, 6.4, CYCLE[0][0]), ("every other source", 3.6, _GRAY)):
        dots.plot([x], [0.5], "o", ms=size, color=colour, mew=0)
        picture.text((x + 0.09) / width, 1 - (top + 0.10) / height, text, fontsize=BODY, va="center_baseline")
        x += 0.09 + text_width(text, BODY) + 0.24
    y = 1 - (top + _ABOVE - 0.02) / height
    box = axes.get_position()
    for place, text, align in ((box.x0, "worst", "left"), (box.x1, "best measured transfer", "right")):
        picture.text(place, y, text, fontsize=SMALL, ha=align, va="bottom", color=QUIET)
    picture.text(box.x1 + 5 / 72 / width, y, _PICKED, fontsize=SMALL, va="bottom", color=QUIET)
