"""The projection of a space: models as points, groups as colours and shapes, names without overlaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike, NDArray

from modelspace.analysis.neighbours import NeighbourRecall
from modelspace.errors import UsageError
from modelspace.plots.figure import BODY, LINE, SMALL, TITLE, Picture, drawn, shorten
from modelspace.plots.groups import GroupLook, as_list, group_looks
from modelspace.plots.labels import place_labels
from modelspace.plots.legend import draw_group_legend, legend_height

#: Largest number of models that are all named, with leader lines where needed.
NAME_ALL = 60

# Longer names are cut in the middle; the atlas and the exported tree have them in full.
_LONGEST = 30


@drawn
def map_figure(
    names: Sequence[str],
    coordinates: ArrayLike,
    groups: Mapping[str, str | None] | Sequence[str | None] | None = None,
    *,
    recall: NeighbourRecall | None = None,
    title: str = "",
    max_labels: int | None = None,
    width: float = 7.2,
    height: float = 5.6,
) -> Picture:
    """Draw a projection.

    Args:
        names: n model names, n >= 1.
        coordinates: (n, 2) coordinates, as from `modelspace.analysis.fit_projection`.
        groups: the group of each model, by name or in order; None for a model without one.
        recall: printed below, since a projection can mislead.
        title: printed above.
        max_labels: largest number of names; None: all of up to `NAME_ALL` models, else about 45, evenly spread.
        width: in inches.
        height: in inches.

    Returns:
        The picture; `facts["labels"]` is the number of names that fit.

    Raises:
        UsageError: shapes don't fit.
    """
    points = np.asarray(coordinates, dtype=np.float64)
    n = len(names)
    if points.shape != (n, 2) or n < 1 or not np.isfinite(points).all():
        raise UsageError(
            f"coordinates have shape {points.shape}, but there are {n} models", "each model needs a pair (x, y)"
        )
    looks, legend = group_looks(as_list(names, groups))
    picture = Picture(width, height)
    heading = 0.28 if title else 0.04
    above = heading + legend_height(legend) + 0.04
    below = 0.30
    axes = picture.add_axes((0.012, below / height, 0.976, 1 - (above + below) / height))
    axes.set_axis_off()
    if title:
        picture.text(0.012, 1 - 0.07 / height, title, fontsize=TITLE, weight="bold", va="top")
    size = float(np.clip(420 / n**0.55, 7, 46))
    _draw_points(axes, points, looks, legend, size)
    if legend:
        draw_group_legend(picture, legend, y=1 - heading / height)
    _fit(axes, points, width * 0.976, height - above - below, margin=0.055 if n <= NAME_ALL else 0.03)

    limit = max_labels if max_labels is not None else (n if n <= NAME_ALL else 45)
    written = _write_names(picture, axes, names, points, looks, size, limit, every=n <= NAME_ALL)
    picture.facts["labels"] = written
    notes = [] if recall is None else [str(recall)]
    if written < n:
        notes.append(f"{written} of {n:,} models named")
    picture.text(0.012, 0.09 / height, "; ".join(notes) + ("." if notes else ""), fontsize=BODY, va="bottom")
    return picture


def _draw_points(
    axes: Axes, points: NDArray[np.float64], looks: list[GroupLook], legend: list[GroupLook], size: float
) -> None:
    for look in legend or [looks[0]]:
        rows = np.array([i for i, other in enumerate(looks) if other.label == look.label])
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


def _fit(axes: Axes, points: NDArray[np.float64], width: float, height: float, margin: float) -> None:
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
    points: NDArray[np.float64],
    looks: list[GroupLook],
    size: float,
    limit: int,
    *,
    every: bool,
) -> int:
    """Draw names with their leader lines; returns the number of names that fit."""
    per_point = picture.dpi / 72
    pixels = axes.transData.transform(points)
    order = _by_crowding(pixels) if every else _spread_out(pixels, 2 * limit)
    halo = [withStroke(linewidth=1.6, foreground="white")]
    texts = {}
    sizes = np.zeros((len(points), 2))
    for i in order:
        texts[i] = axes.text(
            0, 0, shorten(names[i], _LONGEST), fontsize=SMALL, va="bottom", zorder=5, path_effects=halo
        )
        # Measured as an outline, not in pixels: the placement must hold at any resolution.
        outline = TextPath((0, 0), texts[i].get_text(), size=SMALL, prop=texts[i].get_fontproperties())
        sizes[i] = outline.get_extents().x1 * per_point + 1.0, 1.08 * SMALL * per_point
    box = axes.get_window_extent()
    places = place_labels(
        pixels,
        sizes,
        radius=0.6 * size**0.5 * per_point,
        bounds=(box.x0, box.y0, box.x1, box.y1),
        order=order,
        reach=150 * per_point / 1.4 if every else 16 * per_point,
        limit=limit,
        cover=30.0 if every else np.inf,
    )
    back = axes.transData.inverted()
    placed = {place.index: place for place in places}
    for i, text in texts.items():
        if i not in placed:
            text.remove()
            continue
        text.set_position(tuple(back.transform((placed[i].x, placed[i].y))))
        text.set_gid(f"label:{names[i]}")
    lines = [back.transform(np.array(place.line)) for place in places if place.line is not None]
    colours = [looks[place.index].colour for place in places if place.line is not None]
    axes.add_collection(LineCollection(lines, colors=colours or LINE, linewidths=0.45, zorder=2), autolim=False)
    return len(places)


def _by_crowding(pixels: NDArray[np.float64]) -> list[int]:
    """Points with the nearest neighbours first, since they have the fewest free positions."""
    if len(pixels) < 3:
        return list(range(len(pixels)))
    distances = np.linalg.norm(pixels[:, None] - pixels[None], axis=2)
    return [int(i) for i in np.argsort(np.sort(distances, axis=1)[:, 1:4].mean(axis=1), kind="stable")]


def _spread_out(pixels: NDArray[np.float64], count: int) -> list[int]:
    """Evenly spread points: the most central one, then always the one furthest from those selected."""
    first = int(np.linalg.norm(pixels - np.median(pixels, axis=0), axis=1).argmin())
    selected = [first]
    distances = np.linalg.norm(pixels - pixels[first], axis=1)
    while len(selected) < min(count, len(pixels)):
        selected.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(pixels - pixels[selected[-1]], axis=1))
    return selected
