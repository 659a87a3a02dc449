"""The legend of groups above a picture."""

from __future__ import annotations

from modelspace.plots.figure import Picture, shorten
from modelspace.plots.groups import GroupLook

#: Height of one row of the legend in inches.
HEIGHT = 0.24

#: Characters of the longest name of a group.
_LONGEST = 40


def draw_group_legend(picture: Picture, legend: list[GroupLook], y: float) -> None:
    """Draw each group's shape, name and number of models, with the upper left corner at (0, y) of the picture."""
    handles = []
    for look in legend:
        handle = picture.axes[0].scatter([], [], s=30 * look.area, c=look.colour, marker=look.marker, linewidths=0)
        handle.set_label(f"{shorten(look.label, _LONGEST)} ({look.count:,})")
        handles.append(handle)
    picture.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, y),
        ncols=len(handles) if len(handles) <= 5 else (len(handles) + 1) // 2,
        handletextpad=0.25,
        columnspacing=1.3,
        borderaxespad=0.1,
    )


def legend_height(legend: list[GroupLook]) -> float:
    """Height of the legend in inches; more than five groups take two rows."""
    return HEIGHT * (0 if not legend else 1 if len(legend) <= 5 else 2)
