"""Placement of labels: none on a marker, a label or a line, and no line across any of them.

Greedy placement: each label gets the cheapest free position of a fan of candidates around its point, first adjacent to
the point, then further out with a leader line. Where labels found no position, placement starts again with them first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Segment = tuple[tuple[float, float], tuple[float, float]]

# Directions in order of preference: right, left, above, below, then the diagonals.
_ANGLES = np.radians([0, 180, 90, 270, 30, 150, 330, 210, 60, 120, 300, 240, 15, 165, 345, 195, 75, 105, 285, 255])

# Costs, in units of the distance between a label and its point: of a leader line, of a label without one that is as
# close to another point, of a label or leader line across a mark, and of a direction by its place in the list.
_LEADER, _UNCLEAR, _MARK, _DIRECTION = 8.0, 25.0, 20.0, 0.15

# Free space around labels and leader lines, in pixels.
_MARGIN = 1.5


@dataclass(frozen=True)
class Place:
    """A label's box and the line to its point, in the unit of the points.

    Attributes:
        index: of the point.
        x: left edge of the box.
        y: lower edge of the box.
        width: of the box.
        height: of the box.
        line: ((x, y), (x, y)) from the edge of the marker to the box; None if the label is adjacent to its point.
    """

    index: int
    x: float
    y: float
    width: float
    height: float
    line: Segment | None


@dataclass(frozen=True, eq=False)
class _Candidates:
    """The positions of a label that no marker and no edge forbids.

    Attributes:
        boxes: (c, 4) left, bottom, right, top.
        leaders: (c, 4) from the marker's edge to the box.
        led: (c,) whether the leader is drawn.
        cost: (c,) lower is better.
    """

    boxes: Array
    leaders: Array
    led: NDArray[np.bool_]
    cost: Array


def place_labels(
    points: Array,
    sizes: Array,
    *,
    radius: float,
    bounds: tuple[float, float, float, float],
    order: list[int],
    reach: float,
    limit: int,
    rounds: int = 1,
    marks: Array | None = None,
) -> list[Place]:
    """Find places for as many labels as possible.

    Args:
        points: (n, 2) all points, in pixels.
        sizes: (n, 2) width and height of each point's label, in pixels; only rows in `order` are used.
        radius: of a drawn marker, in pixels.
        bounds: (left, bottom, right, top) of the area for labels.
        order: the points to label, most important first.
        reach: largest distance of a label from its point.
        limit: largest number of labels.
        rounds: largest number of attempts; each begins with the labels that the previous one could not place.
        marks: (q, 4) segments (x0, y0, x1, y1) that labels and leader lines cross only where they must.

    Returns:
        The places of the labels that fit, in the order in which they were placed.
    """
    crossed = np.empty((0, 4)) if marks is None else np.asarray(marks, dtype=np.float64)
    candidates: dict[int, _Candidates] = {}
    best: list[Place] = []
    for _ in range(max(1, rounds)):
        places: list[Place] = []
        failed: list[int] = []
        taken = _Taken(np.empty((0, 4)), np.empty((0, 4)))
        for index in order:
            if len(places) >= limit:
                break
            if index not in candidates:
                candidates[index] = _candidates(points, sizes[index], index, radius, bounds, reach, crossed)
            place = taken.add(index, candidates[index])
            if place is None:
                failed.append(index)
            else:
                places.append(place)
        if len(places) > len(best):
            best = places
        if not failed or len(best) >= limit:
            break
        order = [*failed, *(index for index in order if index not in failed)]
    return best


@dataclass(eq=False)
class _Taken:
    """The labels and lines placed so far.

    Attributes:
        boxes: (p, 4) of labels.
        lines: (q, 4) leader lines.
    """

    boxes: Array
    lines: Array

    def add(self, index: int, options: _Candidates) -> Place | None:
        """Take the cheapest free candidate of a label; None if there is none."""
        for row in np.argsort(options.cost, kind="stable"):
            box, leader = options.boxes[row : row + 1], options.leaders[row : row + 1]
            led = bool(options.led[row])
            if not self._is_free(box, leader if led else leader[:0]):
                continue
            self.boxes = np.vstack([self.boxes, box])
            if led:
                self.lines = np.vstack([self.lines, leader])
            left, bottom, right, top = (float(side) for side in box[0])
            x0, y0, x1, y1 = (float(end) for end in leader[0])
            line = ((x0, y0), (x1, y1)) if led else None
            return Place(index, left, bottom, right - left, top - bottom, line)
        return None

    def _is_free(self, box: Array, leader: Array) -> bool:
        margin = np.array([-_MARGIN, -_MARGIN, _MARGIN, _MARGIN])
        if overlap(box + margin, self.boxes).any() or line_hits_box(self.lines, box + margin).any():
            return False
        if not len(leader):
            return True
        return not (line_hits_box(leader, self.boxes + margin).any() or _touch(leader, self.lines).any())


def _candidates(
    points: Array,
    size: Array,
    index: int,
    radius: float,
    bounds: tuple[float, float, float, float],
    reach: float,
    marks: Array,
) -> _Candidates:
    """The positions around a point that are free of markers and inside the bounds."""
    width, height = (float(side) for side in size)
    px, py = (float(at) for at in points[index])
    rings = [radius + 2.0]
    while rings[-1] < reach:
        rings.append(rings[-1] * 1.25 + 2.0)
    distance = np.repeat(rings, len(_ANGLES))
    angle = np.tile(_ANGLES, len(rings))
    dx, dy = np.cos(angle), np.sin(angle)
    # The box touches the candidate position with the side or corner that faces its point.
    x = px + dx * distance - width * (1 - dx) / 2
    y = py + dy * distance - height * (1 - dy) / 2
    boxes = np.column_stack([x, y, x + width, y + height])
    left, bottom, right, top = bounds
    fits = (boxes[:, 0] >= left) & (boxes[:, 1] >= bottom) & (boxes[:, 2] <= right) & (boxes[:, 3] <= top)

    # Corners of squares and diamonds are further out than the radius.
    edge = 1.15 * radius
    end = np.column_stack([np.clip(px, boxes[:, 0], boxes[:, 2]), np.clip(py, boxes[:, 1], boxes[:, 3])])
    length = np.maximum(np.linalg.norm(end - points[index], axis=1), 1e-9)
    start = points[index] + (end - points[index]) * np.minimum(edge / length, 1.0)[:, None]
    leaders = np.hstack([start, end])
    led = length > edge + 5.0

    others = np.delete(points, index, axis=0)
    others = others[(np.abs(others - [px, py]) < reach + radius + max(width, height) + 10).all(axis=1)]
    fits[fits] = (_box_distance(boxes[fits], np.vstack([others, points[index]])) > radius + 1).all(axis=1)
    fits[fits & led] &= (_point_distance(leaders[fits & led], others) > edge - 0.01).all(axis=1)

    boxes, leaders, led = boxes[fits], leaders[fits], led[fits]
    unclear = (_box_distance(boxes, others) < (length[fits] + 3.0)[:, None]).sum(axis=1)
    direction = np.tile(np.arange(len(_ANGLES)), len(rings))[fits]
    cost = distance[fits] + _DIRECTION * direction + np.where(led, _LEADER, _UNCLEAR * unclear)
    cost += _MARK * (line_hits_box(marks, boxes).sum(axis=1) + led * lines_cross(leaders, marks).sum(axis=1))
    return _Candidates(boxes, leaders, led, cost)


def _box_distance(boxes: Array, points: Array) -> Array:
    """(p, 4) boxes, (q, 2) points -> (p, q) distances; 0 inside."""
    dx = np.maximum(np.maximum(boxes[:, :1] - points[:, 0], points[:, 0] - boxes[:, 2:3]), 0.0)
    dy = np.maximum(np.maximum(boxes[:, 1:2] - points[:, 1], points[:, 1] - boxes[:, 3:4]), 0.0)
    result: Array = np.hypot(dx, dy)
    return result


def _point_distance(lines: Array, points: Array) -> Array:
    """(p, 4) segments, (q, 2) points -> (p, q) distances."""
    start, delta = lines[:, None, :2], (lines[:, 2:] - lines[:, :2])[:, None]
    square = np.maximum((delta**2).sum(axis=2), 1e-12)
    along = np.clip(((points[None] - start) * delta).sum(axis=2) / square, 0.0, 1.0)
    result: Array = np.linalg.norm(start + along[..., None] * delta - points[None], axis=2)
    return result


def _touch(a: Array, b: Array) -> NDArray[np.bool_]:
    """(p, 4), (q, 4) segments -> (p, q) whether they cross or nearly touch."""
    nearest = np.minimum(
        np.minimum(_point_distance(a, b[:, :2]), _point_distance(a, b[:, 2:])),
        np.minimum(_point_distance(b, a[:, :2]), _point_distance(b, a[:, 2:])).T,
    )
    result: NDArray[np.bool_] = lines_cross(a, b) | (nearest < _MARGIN)
    return result


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


def lines_cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(p, 4), (q, 4) segments -> (p, q) whether they cross, excluding their ends."""

    def side(ax: Array, ay: Array, bx: Array, by: Array, cx: Array, cy: Array) -> Array:
        result: Array = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        return result

    ax, ay, bx, by = (a[:, i, None] for i in range(4))
    cx, cy, dx, dy = (b[None, :, i] for i in range(4))
    first = side(ax, ay, bx, by, cx, cy) * side(ax, ay, bx, by, dx, dy)
    second = side(cx, cy, dx, dy, ax, ay) * side(cx, cy, dx, dy, bx, by)
    return (first < 0) & (second < 0)
