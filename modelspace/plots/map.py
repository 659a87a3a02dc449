"""The projection of a space: models as points, groups as colours and shapes, names without overlaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import ArrayLike, NDArray

from modelspace.analysis.neighbours import NeighbourRecall
from modelspace.errors import UsageError
from modelspace.plots.figure import LINE, SMALL, Picture, drawn, shorten, text_width
from modelspace.plots.groups import Colouring, GroupLook, Groups
from modelspace.plots.islands import Compressed, shorten_gaps
from modelspace.plots.labels import line_hits_box, place_labels
from modelspace.plots.margins import Footer, Heading

#: Largest number of models that are all named, with leader lines where needed.
NAME_ALL = 60

# Longer names are cut in the middle; the atlas and the exported tree have them in full.
_LONGEST = 30

# Attempts to place all names of a map.
_ROUNDS = 16

Array = NDArray[np.float64]


@drawn
def map_figure(
    names: Sequence[str],
    coordinates: ArrayLike,
    groups: Groups = None,
    *,
    recall: NeighbourRecall | None = None,
    group_by: str = "",
    title: str = "",
    caption: str = "",
    max_labels: int | None = None,
    width: float = 7.2,
    height: float = 5.6,
) -> Picture:
    """Draw a projection.

    No name covers a marker, a name or a leader line, and no leader line crosses any of them. Wide empty bands between
    islands are drawn shorter, and marked by a dotted line.

    Args:
        names: n model names, n >= 1.
        coordinates: (n, 2) coordinates, as from `modelspace.analysis.fit_projection`.
        groups: the group of each model, by name or in order; None for a model without one. Numbers, if there are 3 or
            more different ones, are drawn as a scale of colours.
        recall: printed below, since a projection can mislead.
        group_by: what the groups are; printed beside a scale.
        title: printed above.
        caption: printed at the bottom: where the models come from.
        max_labels: largest number of names; None: all of up to `NAME_ALL` models, else about 45, evenly spread.
        width: in inches.
        height: in inches; a map with a legend of many rows is higher.

    Returns:
        The picture; `facts["labels"]` is the number of names that fit, `facts["shortened_gaps"]` the number of gaps.

    Raises:
        UsageError: shapes don't fit.
    """
    points = np.asarray(coordinates, dtype=np.float64)
    n = len(names)
    if points.shape != (n, 2) or n < 1 or not np.isfinite(points).all():
        raise UsageError(
            f"coordinates have shape {points.shape}, but there are {n} models", "each model needs a pair (x, y)"
        )
    colouring = Colouring.of(names, groups, group_by)
    islands = shorten_gaps(points)
    heading = Heading.of(title, colouring, width)
    limit = max_labels if max_labels is not None else (n if n <= NAME_ALL else 45)
    # The number of names is known when they are placed, so there is room for the longest note.
    footer = Footer.of(_notes(recall, islands, 0, n, limit), caption, width)
    above, below = heading.height + 0.04, footer.height + 0.04
    height = max(height, above + below + 0.8)
    picture = Picture(width, height)
    axes = picture.add_axes((0.012, below / height, 0.976, 1 - (above + below) / height))
    axes.set_axis_off()
    _fit(axes, islands.points, width * 0.976, height - above - below, margin=0.055 if n <= NAME_ALL else 0.03)
    size = _marker_size(axes, islands.points, picture.dpi)
    _draw_points(axes, islands.points, colouring, size)
    heading.draw(picture)
    _draw_breaks(axes, islands)
    written = _write_names(picture, axes, names, islands, colouring.looks, size, limit)
    picture.facts |= {"labels": written, "shortened_gaps": len(islands.breaks)}
    Footer.of(_notes(recall, islands, written, n, limit), caption, width).draw(picture)
    return picture


def _notes(recall: NeighbourRecall | None, islands: Compressed, written: int, n: int, limit: int) -> list[str]:
    notes = [] if recall is None else [f"{recall}."]
    if written < n:
        notes.append(f"{written} of {n:,} models named{'; there is no room for more' if written < limit else ''}.")
    if islands.breaks:
        notes.append("Dotted line: an empty gap, drawn shorter.")
    return [" ".join(notes)] if notes else []


def _draw_points(axes: Axes, points: Array, colouring: Colouring, size: float) -> None:
    for look in colouring.kinds or [colouring.looks[0]]:
        rows = np.array([i for i, other in enumerate(colouring.looks) if other.label == look.label])
        axes.scatter(
            points[rows, 0],
            points[rows, 1],
            s=size * look.area,
            c=look.colour,
            marker=look.marker,
            linewidths=0.35 if len(points) <= 300 else 0,
            edgecolors="white",
            alpha=None if len(points) <= 300 else 0.8,
            zorder=3,
            gid=f"group:{look.label}",
        )


def _marker_size(axes: Axes, points: Array, dpi: float) -> float:
    """Area of the markers in square points; of a few models that are close to each other smaller, to leave gaps."""
    n = len(points)
    size = float(np.clip(420 / n**0.55, 7, 46))
    if not 2 < n <= NAME_ALL:
        return size
    distances = _distances(axes.transData.transform(points)) * 72 / dpi
    np.fill_diagonal(distances, np.inf)
    close = float(np.percentile(distances.min(axis=1), 25))
    return float(np.clip((0.75 * close) ** 2, 13, size))


def _distances(pixels: Array) -> Array:
    """(n, n) distances of points."""
    result: Array = np.linalg.norm(pixels[:, None] - pixels[None], axis=2)
    return result


def _draw_breaks(axes: Axes, islands: Compressed) -> None:
    """A dotted line across the map in the middle of each shortened gap."""
    for axis, position in islands.breaks:
        draw = axes.axvline if axis == 0 else axes.axhline
        draw(position, color=LINE, lw=0.8, ls=(0, (1, 3)), zorder=1, gid=f"gap:{'xy'[axis]}")


def _fit(axes: Axes, points: Array, width: float, height: float, margin: float) -> None:
    """Set equal scales on both axes, with all points inside and a margin for names."""
    low, high = points.min(axis=0), points.max(axis=0)
    middle, extent = (low + high) / 2, np.maximum(high - low, 1e-9)
    scale = max(extent[0] / (width * (1 - 2 * margin - 0.06)), extent[1] / (height * (1 - 2 * margin)))
    axes.set_xlim(middle[0] - scale * width / 2, middle[0] + scale * width / 2)
    axes.set_ylim(middle[1] - scale * height / 2, middle[1] + scale * height / 2)


def _write_names(
    picture: Picture,
    axes: Axes,
    names: Sequence[str],
    islands: Compressed,
    looks: Sequence[GroupLook],
    size: float,
    limit: int,
) -> int:
    """Draw names with their leader lines; returns the number of names that fit."""
    per_point = picture.dpi / 72
    pixels = axes.transData.transform(islands.points)
    every = len(names) <= NAME_ALL
    order = _by_crowding(pixels) if every else _spread_out(pixels, 2 * limit)
    marks = _marks(axes, islands)
    texts = {i: shorten(names[i], _LONGEST) for i in order}
    sizes = np.zeros((len(names), 2))
    for i, text in texts.items():
        sizes[i] = text_width(text, SMALL) * picture.dpi + 1.0, 1.17 * SMALL * per_point
    box = axes.get_window_extent()
    places = place_labels(
        pixels,
        sizes,
        radius=0.6 * size**0.5 * per_point,
        bounds=(box.x0, box.y0, box.x1, box.y1),
        order=order,
        reach=(110 if every else 28) * per_point,
        limit=limit,
        rounds=_ROUNDS if every else 1,
        marks=marks,
    )
    back = axes.transData.inverted()
    for place in places:
        x, y = back.transform((place.x, place.y))
        label = axes.text(x, y, texts[place.index], fontsize=SMALL, va="bottom", zorder=1.5)
        corners = np.array([[place.x, place.y, place.x + place.width, place.y + place.height]])
        if line_hits_box(marks, corners).any():
            label.set_bbox({"boxstyle": "square,pad=0", "facecolor": "white", "linewidth": 0})
        label.set_gid(f"label:{names[place.index]}")
    led = [place for place in places if place.line is not None]
    lines = [back.transform(np.array(place.line)) for place in led]
    colours = [looks[place.index].colour for place in led]
    axes.add_collection(
        LineCollection(lines, colors=colours or LINE, linewidths=0.45, zorder=2, gid="leaders"), autolim=False
    )
    return len(places)


def _marks(axes: Axes, islands: Compressed) -> Array:
    """(q, 4) the lines of the shortened gaps in pixels."""
    box = axes.get_window_extent()
    lines = []
    for axis, position in islands.breaks:
        x, y = axes.transData.transform((position, position))
        lines.append((x, box.y0, x, box.y1) if axis == 0 else (box.x0, y, box.x1, y))
    return np.array(lines).reshape(-1, 4)


def _by_crowding(pixels: Array) -> list[int]:
    """Points with the nearest neighbours first, since they have the fewest free positions."""
    if len(pixels) < 3:
        return list(range(len(pixels)))
    distances = _distances(pixels)
    return [int(i) for i in np.argsort(np.sort(distances, axis=1)[:, 1:4].mean(axis=1), kind="stable")]


def _spread_out(pixels: Array, count: int) -> list[int]:
    """Evenly spread points: the most central one, then always the one furthest from those selected."""
    first = int(np.linalg.norm(pixels - np.median(pixels, axis=0), axis=1).argmin())
    selected = [first]
    distances = np.linalg.norm(pixels - pixels[first], axis=1)
    while len(selected) < min(count, len(pixels)):
        selected.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(pixels - pixels[selected[-1]], axis=1))
    return selected
