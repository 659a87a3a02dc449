"""Placement of labels without overlaps.

Greedy placement: each label gets the cheapest free position of a fan of candidates around its point, first adjacent to
the point, then further out with a leader line. Labels never overlap or leave the bounds; covering a point or crossing
a line has a cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Directions in order of preference: right, left, above, below, then the diagonals.
_ANGLES = np.radians([0, 180, 90, 270, 30, 150, 330, 210, 60, 120, 300, 240, 15, 165, 345, 195, 75, 105, 285, 255])


@dataclass(frozen=True)
class Place:
    """A label's box and the line to its point, in the unit of the points.

    Attributes:
        index: of the point.
        x: left edge of the box.
        y: lower edge of the box.
        width: of the box.
        height: of the box.
        line: ((x, y), (x, y)) from the point to the box; None if the label is adjacent to its point.
    """

    index: int
    x: float
    y: float
    width: float
    height: float
    line: tuple[tuple[float, float], tuple[float, float]] | None


def place_labels(
    points: NDArray[np.float64],
    sizes: NDArray[np.float64],
    *,
    radius: float,
    bounds: tuple[float, float, float, float],
    order: list[int],
    reach: float,
    limit: int,
    cover: float,
) -> list[Place]:
    """Find places for as many labels as possible.

    Args:
        points: (n, 2) all points, in pixels.
        sizes: (n, 2) width and height of each point's label, in pixels; only rows in `order` are used.
        radius: of a drawn point, in pixels.
        bounds: (left, bottom, right, top) of the area for labels.
        order: the points to label, most important first.
        reach: largest distance of a label from its point.
        limit: largest number of labels.
        cover: cost of covering a point, in units of the distance from the label's point; infinity forbids it.

    Returns:
        The places of the labels that fit.
    """
    places: list[Place] = []
    boxes = np.empty((0, 4))
    lines = np.empty((0, 4))
    rings = [radius + 2.0]
    while rings[-1] < reach:
        rings.append(rings[-1] * 1.35 + 2.0)
    left, bottom, right, top = bounds
    for index in order:
        if len(places) >= limit:
            break
        width, height = sizes[index]
        px, py = points[index]
        distance = np.repeat(rings, len(_ANGLES))
        angle = np.tile(_ANGLES, len(rings))
        dx, dy = np.cos(angle), np.sin(angle)
        # The box touches the candidate position with the side or corner that faces its point.
        x = px + dx * distance - width * (1 - dx) / 2
        y = py + dy * distance - height * (1 - dy) / 2
        box = np.column_stack([x, y, x + width, y + height])
        fits = (box[:, 0] >= left) & (box[:, 1] >= bottom) & (box[:, 2] <= right) & (box[:, 3] <= top)
        if len(boxes):
            fits &= ~overlap(box, boxes).any(axis=1)
        if not fits.any():
            continue
        start = np.column_stack([np.full(len(box), px), np.full(len(box), py)])
        end = np.column_stack([np.clip(px, box[:, 0], box[:, 2]), np.clip(py, box[:, 1], box[:, 3])])
        leader = np.hstack([start, end])
        cost = distance + 0.15 * np.arange(len(distance)) % len(_ANGLES)
        candidates = np.flatnonzero(fits)
        near = np.abs(points - [px, py]).max(axis=1) < reach + width + height
        grown = box[candidates] + np.array([-radius, -radius, radius, radius])
        others = points[near]
        covered = (
            (others[None, :, 0] > grown[:, :1])
            & (others[None, :, 0] < grown[:, 2:3])
            & (others[None, :, 1] > grown[:, 1:2])
            & (others[None, :, 1] < grown[:, 3:])
        ).sum(axis=1)
        with np.errstate(invalid="ignore"):
            cost[candidates] += np.where(covered > 0, cover * covered, 0.0)
        if len(lines):
            # Labels on lines and crossing lines make it unclear which point a label belongs to.
            cost[candidates] += 60 * line_hits_box(lines, box[candidates]).sum(axis=1)
            cost[candidates] += 60 * _lines_cross(leader[candidates], lines).sum(axis=1)
        if len(boxes):
            cost[candidates] += 60 * line_hits_box(leader[candidates], boxes).sum(axis=0)
        best = int(candidates[np.argmin(cost[candidates])])
        if not np.isfinite(cost[best]):
            continue
        is_adjacent = distance[best] <= radius + 6.0
        line = None if is_adjacent else ((float(px), float(py)), (float(end[best, 0]), float(end[best, 1])))
        places.append(Place(index, float(x[best]), float(y[best]), float(width), float(height), line))
        boxes = np.vstack([boxes, box[best]])
        if line is not None:
            lines = np.vstack([lines, leader[best]])
    return places


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(p, 4), (q, 4) boxes (left, bottom, right, top) -> (p, q) whether they overlap; touching does not count."""
    result: NDArray[np.bool_] = (
        (a[:, None, 0] < b[None, :, 2])
        & (b[None, :, 0] < a[:, None, 2])
        & (a[:, None, 1] < b[None, :, 3])
        & (b[None, :, 1] < a[:, None, 3])
    )
    return result


def line_hits_box(lines: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(p, 4) segments (x0, y0, x1, y1), (q, 4) boxes -> (q, p) whether the segment crosses the box (Liang-Barsky)."""
    x0, y0, x1, y1 = lines.T
    enter = np.zeros((len(boxes), len(lines)))
    leave = np.ones((len(boxes), len(lines)))
    inside = np.ones((len(boxes), len(lines)), dtype=bool)
    for origin, delta, low, high in ((x0, x1 - x0, boxes[:, 0], boxes[:, 2]), (y0, y1 - y0, boxes[:, 1], boxes[:, 3])):
        parallel = np.abs(delta) < 1e-9
        step = np.where(parallel, 1.0, delta)
        a = (low[:, None] - origin) / step
        b = (high[:, None] - origin) / step
        inside &= ~parallel | ((origin > low[:, None]) & (origin < high[:, None]))
        enter = np.where(parallel, enter, np.maximum(enter, np.minimum(a, b)))
        leave = np.where(parallel, leave, np.minimum(leave, np.maximum(a, b)))
    return inside & (enter < leave)


def _lines_cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(p, 4), (q, 4) segments -> (p, q) whether they cross, excluding their ends."""

    def side(ax: Array, ay: Array, bx: Array, by: Array, cx: Array, cy: Array) -> Array:
        result: Array = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        return result

    ax, ay, bx, by = (a[:, i, None] for i in range(4))
    cx, cy, dx, dy = (b[None, :, i] for i in range(4))
    first = side(ax, ay, bx, by, cx, cy) * side(ax, ay, bx, by, dx, dy)
    second = side(cx, cy, dx, dy, ax, ay) * side(cx, cy, dx, dy, bx, by)
    return (first < 0) & (second < 0)
