"""The legend above a picture: groups with their shapes, or the scale of a number."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgb

from modelspace.plots.figure import BODY, LINE, Picture, shorten, text_width
from modelspace.plots.groups import NO_VALUE, Colouring, GroupLook
from modelspace.plots.scale import STEPS, Scale, colour

#: Height of one row of the legend in inches.
HEIGHT = 0.24

#: Characters of the longest name of a group.
_LONGEST = 40

# Widths in inches: of a group's shape with the gap to its name, of the gap between columns, of the scale's bar.
_SHAPE, _BETWEEN, _BAR = 0.22, 0.13, 1.6


def draw_legend(picture: Picture, colouring: Colouring, y: float) -> None:
    """Draw each group's shape, name and number of models, or a scale, with the upper left corner at (0, y)."""
    if colouring.scale is not None:
        unknown = sum(look.label == NO_VALUE for look in colouring.looks)
        _draw_scale(picture, colouring.scale, unknown, y)
        return
    handles = []
    for look in colouring.kinds:
        handle = picture.axes[0].scatter([], [], s=30 * look.area, c=look.colour, marker=look.marker, linewidths=0)
        handle.set_label(_entry(look))
        handles.append(handle)
    picture.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, y),
        ncols=_columns(colouring.kinds, picture.get_size_inches()[0]),
        handletextpad=0.25,
        columnspacing=1.3,
        borderaxespad=0.1,
    )


def legend_height(colouring: Colouring, width: float) -> float:
    """Height in inches of the legend of a picture of this width; as many rows as the names need."""
    if not colouring.kinds:
        return 0.0
    if colouring.scale is not None:
        return HEIGHT
    return HEIGHT * -(-len(colouring.kinds) // _columns(colouring.kinds, width))


def _entry(look: GroupLook) -> str:
    return f"{shorten(look.label, _LONGEST)} ({look.count:,})"


def _columns(kinds: list[GroupLook], width: float) -> int:
    """The largest number of columns that fit; matplotlib fills them one after the other."""
    widths = [_SHAPE + text_width(_entry(look), BODY) for look in kinds]
    for columns in range(len(kinds), 1, -1):
        # As matplotlib fills the columns.
        if sum(max(column) + _BETWEEN for column in np.array_split(widths, columns)) <= width - 0.1:
            return columns
    return 1


def _draw_scale(picture: Picture, scale: Scale, unknown: int, y: float) -> None:
    """The number's name, its lowest value, the colours, its highest value; the number of models without a value."""
    width, height = picture.get_size_inches()
    middle = y - 0.5 * HEIGHT / height
    low, high = scale.ends()
    x = 0.05
    for text in (shorten(scale.label, _LONGEST), low):
        picture.text(x / width, middle, text, fontsize=BODY, va="center_baseline")
        x += text_width(text, BODY) + 0.08 if text else 0.0
    axes = picture.add_axes((x / width, middle - 0.045 / height, _BAR / width, 0.09 / height), label="scale")
    axes.imshow(np.array([[to_rgb(colour(step)) for step in range(STEPS)]]), aspect="auto")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.4, color=LINE)
    after = high + (", log scale" if scale.log else "") + (f"; gray: {NO_VALUE} ({unknown:,})" if unknown else "")
    picture.text((x + _BAR + 0.08) / width, middle, after, fontsize=BODY, va="center_baseline")
