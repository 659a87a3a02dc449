"""Empty gaps of a projection, drawn shorter.

A projection often falls into islands with nothing between them, and distances between islands mean nothing. Where no
point lies in a wide band across the map, the band is cut narrower. Everything on one side of it moves as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: A gap is shortened if it is wider than this share of the rest of the map, and keeps that of the second number.
WIDE, KEPT = 0.3, 0.14

#: Fewest points of a projection in which gaps are shortened: among few, every gap is wide.
LEAST = 8

# A gap is also wide compared with the distances of points to their nearest neighbours.
_SPACINGS = 4.0


@dataclass(frozen=True, eq=False)
class Compressed:
    """Points with shortened gaps.

    Attributes:
        points: (n, 2).
        breaks: (axis, position) of the middle of each shortened gap, axis 0 for x; positions are in the new points'
            coordinates.
    """

    points: Array
    breaks: tuple[tuple[int, float], ...] = ()


def shorten_gaps(points: Array) -> Compressed:
    """Shorten the empty bands parallel to an axis; (n, 2) points keep their order along both axes."""
    if len(points) < LEAST:
        return Compressed(points)
    gaps = [_gaps(points[:, axis], _spacing(points)) for axis in (0, 1)]
    rest = max(_rest(points[:, axis], wide) for axis, wide in enumerate(gaps))
    moved = points.copy()
    breaks: list[tuple[int, float]] = []
    for axis, wide in enumerate(gaps):
        shift = 0.0
        for low, high in wide:
            if high - low <= WIDE * rest:
                continue
            cut = high - low - KEPT * rest
            moved[points[:, axis] >= high, axis] -= cut
            breaks.append((axis, low - shift + KEPT * rest / 2))
            shift += cut
    return Compressed(moved, tuple(breaks))


def _gaps(values: Array, spacing: float) -> list[tuple[float, float]]:
    """The ends of the gaps of an axis that are wide compared with what remains of it without them, from low to high."""
    places = np.sort(values)
    gaps = [(float(a), float(b)) for a, b in pairwise(places) if b - a > _SPACINGS * spacing]
    wide: list[tuple[float, float]] = []
    for gap in sorted(gaps, key=lambda ends: ends[0] - ends[1]):
        rest = _rest(values, [*wide, gap])
        if gap[1] - gap[0] <= WIDE * rest:
            break
        wide.append(gap)
    return sorted(wide)


def _rest(values: Array, gaps: list[tuple[float, float]]) -> float:
    return float(np.ptp(values)) - sum(high - low for low, high in gaps)


def _spacing(points: Array) -> float:
    """Median distance of a point to its nearest other point; estimated from 500 points of larger projections."""
    sample = points[:: -(-len(points) // 500)]
    distances = np.linalg.norm(sample[:, None] - sample[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(axis=1)))
