"""Names, leader lines, markers and gaps of a map, computed from the drawn artists: nothing covers anything else."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Affine2D, Bbox
from numpy.typing import NDArray
from picture_checks import texts_of

from modelspace.analysis import neighbour_recall
from modelspace.plots import map_figure
from modelspace.plots.figure import Picture
from modelspace.plots.islands import KEPT, shorten_gaps

GROUPS = ("2D", "3D", "geometric", "semantic", None)


class Drawn(NamedTuple):
    """In pixels: boxes of the names, outlines of the markers, leader lines, and lines that mark shortened gaps."""

    labels: list[Bbox]
    markers: list[Path]
    leaders: list[Path]
    gaps: list[Path]


def drawn(picture: Picture) -> Drawn:
    axes = picture.axes[0]
    renderer = picture.canvas.get_renderer()  # type: ignore[attr-defined]
    markers, leaders = [], []
    for collection in axes.collections:
        if isinstance(collection, PathCollection) and str(collection.get_gid()).startswith("group:"):
            side = np.sqrt(collection.get_sizes()[0]) * picture.dpi / 72
            outline = Affine2D().scale(side).transform_path(collection.get_paths()[0])
            for x, y in axes.transData.transform(collection.get_offsets()):
                markers.append(Affine2D().translate(x, y).transform_path(outline))
        elif isinstance(collection, LineCollection):
            leaders = [axes.transData.transform_path(path) for path in collection.get_paths()]
    gaps = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
    return Drawn([text.get_window_extent(renderer) for text in texts_of(picture, "label:")], markers, leaders, gaps)


def collisions(art: Drawn) -> list[str]:
    """What touches what, by at least half a pixel."""
    found = []
    extents = [marker.get_extents() for marker in art.markers]
    small = [Bbox.from_extents(b.x0 + 0.5, b.y0 + 0.5, b.x1 - 0.5, b.y1 - 0.5) for b in art.labels]
    for a, b in combinations(small, 2):
        found += ["name on name"] * bool(a.overlaps(b))
    for box in small:
        found += ["name on marker" for extent in extents if extent.overlaps(box)]
        found += ["line on name" for line in art.leaders if line.intersects_bbox(box, filled=False)]
    for line in art.leaders:
        start, end = line.vertices
        along = start + np.linspace(0, 1, 60)[:, None] * (end - start)
        near = [m for m, extent in zip(art.markers, extents, strict=True) if line.get_extents().overlaps(extent)]
        found += ["line on marker" for marker in near if marker.contains_points(along, radius=-0.5).any()]
    for i, line in enumerate(art.leaders):
        others = art.leaders[i + 1 :]
        found += ["line on line" for other in others if line.intersects_path(other, filled=False)]
    return found


def crowd(seed: int) -> NDArray[np.float64]:
    """39 points in some islands, dense or not, two of them at one place."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(1 + seed % 5, 2)) * rng.uniform(1, 12)
    points = centres[rng.integers(0, len(centres), 39)] + rng.normal(size=(39, 2)) * rng.uniform(0.2, 1)
    points[1] = points[0]
    return points


def names_of(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{'model_with_a_long_name'[: rng.integers(1, 22)]}_{i}" for i in range(n)]


@pytest.mark.first(2)
@pytest.mark.parametrize("seed", range(12))
def test_nothing_covers_anything(seed: int) -> None:
    points = crowd(seed)
    picture = map_figure(names_of(39, seed), points, [GROUPS[i % 5] for i in range(39)], title="A map")
    art = drawn(picture)
    assert len(art.markers) == 39
    assert collisions(art) == []
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= picture.bbox.x1 and b.y1 <= picture.bbox.y1 for b in art.labels)
    named = picture.facts["labels"]
    assert len(art.labels) == named
    assert named >= 30, "a name is left out only where there is no room"
    notes = " ".join(text.get_text() for text in picture.texts)
    assert (f"{named} of 39 models named" in notes) == (named < 39)


@pytest.mark.parametrize("n", [2, 5, 90])
def test_maps_of_other_sizes(n: int) -> None:
    points = np.random.default_rng(n).normal(size=(n, 2)) * [3, 1]
    picture = map_figure(names_of(n), points)
    art = drawn(picture)
    assert collisions(art) == []
    assert len(art.labels) == picture.facts["labels"]
    assert picture.facts["labels"] == n if n < 10 else picture.facts["labels"] >= 15


def test_the_check_sees_collisions() -> None:
    points = np.array([[0, 0], [1, 0], [0, 1], [1, 1.0]])
    picture = map_figure(["a", "b", "c", "d"], points)
    labels: list[Text] = texts_of(picture, "label:")
    axes = picture.axes[0]
    labels[0].set_position((1.0, 0.0))
    assert "name on marker" in collisions(drawn(picture))
    labels[0].set_position(labels[1].get_position())
    assert "name on name" in collisions(drawn(picture))
    lines = next(c for c in axes.collections if isinstance(c, LineCollection))
    lines.set_segments([[(0.02, -0.02), (-0.02, 0.02)], [(-0.02, -0.02), (0.02, 0.02)]])
    assert {"line on marker", "line on line"} <= set(collisions(drawn(picture)))


def islands() -> NDArray[np.float64]:
    """20 points around (0, 0), 12 around (0, 60) and 8 around (90, 60)."""
    points = np.random.default_rng(0).uniform(-4, 4, size=(40, 2))
    points[20:, 1] += 60
    points[32:, 0] += 90
    return points


def test_gaps_are_shortened_and_nothing_else_moves() -> None:
    points = islands()
    short = shorten_gaps(points)
    assert [axis for axis, _ in short.breaks] == [0, 1]
    for rows in (slice(0, 20), slice(20, 32), slice(32, 40)):
        moved = short.points[rows] - points[rows]
        np.testing.assert_allclose(moved, moved[:1].repeat(len(moved), axis=0), atol=1e-12, err_msg="one island")
    for axis, position in short.breaks:
        np.testing.assert_array_equal(np.argsort(short.points[:, axis]), np.argsort(points[:, axis]))
        below = short.points[short.points[:, axis] < position, axis].max()
        above = short.points[short.points[:, axis] > position, axis].min()
        assert position == pytest.approx((below + above) / 2), "the mark is in the middle"
        assert above - below == pytest.approx(KEPT * 16, rel=0.1), "two islands of 8 side by side"


def test_gaps_between_many_points_are_found_too() -> None:
    points = np.random.default_rng(0).uniform(size=(4000, 2))
    points[2000:, 0] += 2
    (axis, position), *others = shorten_gaps(points).breaks
    assert axis == 0
    assert 1.0 < position < 2.0
    assert others == []


@pytest.mark.parametrize("n", [1, 2, 7, 39, 2000])
def test_points_without_a_wide_gap_do_not_move(n: int) -> None:
    points = np.random.default_rng(n).uniform(size=(n, 2))
    short = shorten_gaps(points)
    assert short.breaks == ()
    np.testing.assert_array_equal(short.points, points)
    assert shorten_gaps(np.zeros((n, 2))).breaks == (), "copies of one model"


def test_shortened_gaps_are_marked_and_the_recall_is_that_of_the_coordinates() -> None:
    points = islands()
    recall = neighbour_recall(points, affinity=1 / (1 + np.linalg.norm(points[:, None] - points[None], axis=2)))
    picture = map_figure(names_of(40), points, recall=recall)
    art = drawn(picture)
    assert len(art.gaps) == picture.facts["shortened_gaps"] == 2
    assert collisions(art) == []
    notes = " ".join(text.get_text() for text in picture.texts)
    assert "Dotted line: an empty gap, drawn shorter." in notes
    for text, box in zip(texts_of(picture, "label:"), art.labels, strict=True):
        across = any(gap.intersects_bbox(box, filled=False) for gap in art.gaps)
        assert (text.get_bbox_patch() is not None) == across, "a name on a dotted line is written on white"
    assert str(recall) in notes
