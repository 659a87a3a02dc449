"""Map, tree and heatmap: everything is drawn, nothing overlaps, and equal inputs give equal bytes."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from picture_checks import all_inside, boxes_of, overlaps, texts_of, written
from PIL import Image
from synthetic_space import make_space

from modelspace.analysis import build_tree, cluster_support, neighbour_recall
from modelspace.analysis.projection import _scaling
from modelspace.errors import UsageError
from modelspace.plots import heatmap_figure, map_figure, tree_figure
from modelspace.plots.figure import Picture, shorten
from modelspace.plots.groups import CYCLE, group_looks
from modelspace.plots.labels import line_hits_box, overlap, place_labels


def laid_out(n: int, seed: int = 0) -> NDArray[np.float64]:
    """A map with crowded families, without umap."""
    space = make_space(n, with_cosines=False)
    rng = np.random.default_rng(seed)
    return _scaling(space.affinity) + rng.normal(scale=0.01, size=(n, 2))


@pytest.mark.first(2)
@pytest.mark.parametrize("n", [1, 2, 10, 38])
def test_every_name_of_a_small_map_is_written_and_none_overlap(n: int) -> None:
    space = make_space(max(n, 10), with_cosines=False)
    names, places = space.names[:n], laid_out(max(n, 10))[:n]
    picture = map_figure(names, places, space.groups[:n], title="A map")
    labels = texts_of(picture, "label:")
    assert {text.get_gid() for text in labels} == {f"label:{name}" for name in names}
    assert picture.facts["labels"] == n
    for dpi in (100, 240):
        boxes = boxes_of(picture, labels, dpi)
        assert overlaps(boxes) == 0
        assert all_inside(picture, boxes)


@pytest.mark.wide
def test_a_crowd_of_2000_gets_few_names_that_do_not_overlap() -> None:
    space = make_space(2000, with_cosines=False)
    rng = np.random.default_rng(0)
    picture = map_figure(space.names, rng.normal(size=(2000, 2)), space.groups)
    labels = texts_of(picture, "label:")
    assert 8 <= len(labels) <= 45
    assert picture.facts["labels"] == len(labels)
    assert overlaps(boxes_of(picture, labels, 240)) == 0
    assert any("of 2,000 models named" in text.get_text() for text in picture.texts)


def test_the_overlap_check_can_fail() -> None:
    picture = map_figure(["first model", "second model"], [[0, 0], [1, 1]])
    labels = texts_of(picture, "label:")
    labels[0].set_position(labels[1].get_position())
    assert overlaps(boxes_of(picture, labels, 100)) == 1


def test_map_prints_its_recall_and_draws_every_point() -> None:
    space = make_space(38, with_cosines=False)
    places = laid_out(38)
    recall = neighbour_recall(places, affinity=space.affinity)
    picture = map_figure(space.names, places, space.groups, recall=recall)
    assert any(f"{recall.mean:.0%} of each model's 5 true neighbours" in text.get_text() for text in picture.texts)
    drawn = [c for c in picture.axes[0].collections if (c.get_gid() or "").startswith("group:")]
    assert sorted(c.get_gid() or "" for c in drawn) == ["group:2D", "group:3D", "group:geometric", "group:semantic"]
    assert sum(len(c.get_offsets()) for c in drawn) == 38  # type: ignore[arg-type]
    shapes = {c.get_paths()[0].vertices.tobytes() for c in drawn}  # type: ignore[union-attr]
    assert len(shapes) == 4, "a shape of its own for each group"


def test_map_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(UsageError, match="but there are 2 models"):
        map_figure(["a", "b"], np.zeros((3, 2)))
    with pytest.raises(UsageError, match="each model needs"):
        map_figure(["a"], [[np.nan, 0]])
    with pytest.raises(UsageError, match="1 groups for 2 models"):
        map_figure(["a", "b"], np.zeros((2, 2)), ["2D"])


@pytest.mark.first(1)
@pytest.mark.parametrize("n", [1, 2, 10, 38])
def test_tree_has_a_row_per_model_and_no_text_on_another(n: int) -> None:
    space = make_space(max(n, 10))
    assert space.cosines is not None
    tree = build_tree(space.names[:n], space.affinity[:n, :n])
    tree = tree.with_support(cluster_support(tree, space.cosines[:, :n, :n], 50))
    picture = tree_figure(tree, dict(zip(space.names, space.groups, strict=True)), title="A tree")
    leaves = texts_of(picture, "leaf:")
    assert [text.get_text() for text in leaves] == tree.ordered_names
    boxes = boxes_of(picture, leaves, 240)
    assert overlaps(boxes) == 0
    assert all_inside(picture, boxes)
    assert all(a.y0 > b.y0 for a, b in pairwise(boxes)), "from the top down"
    numbers = texts_of(picture, "support:")
    assert len(numbers) == max(0, n - 2), "every merge but the root"
    assert overlaps(boxes_of(picture, numbers, 240)) == 0
    assert all_inside(picture, boxes_of(picture, written(picture), 240))


def test_a_large_tree_is_folded_and_counts_everybody() -> None:
    space = make_space(300, with_cosines=False)
    tree = build_tree(space.names, space.affinity, optimal_order=False)
    picture = tree_figure(tree, space.groups, max_rows=25)
    leaves = texts_of(picture, "leaf:")
    assert picture.facts["rows"] == len(leaves) == 25
    counts = [1 + int(t.get_text().rpartition(" +")[2]) if " +" in t.get_text() else 1 for t in leaves]
    assert sum(counts) == 300
    boxes = boxes_of(picture, leaves, 240)
    assert overlaps(boxes) == 0
    assert all_inside(picture, boxes)


def test_branches_of_one_group_have_its_colour() -> None:
    names = ["a", "b", "c", "d"]
    affinity = np.array([[1, 0.9, 0.1, 0.1], [0.9, 1, 0.1, 0.1], [0.1, 0.1, 1, 0.8], [0.1, 0.1, 0.8, 1]])
    picture = tree_figure(build_tree(names, affinity), ["2D", "2D", "3D", "semantic"])
    lines = next(c for c in picture.axes[0].collections if c.get_gid() == "branches")
    colours = [mpl.colors.to_hex(c).upper() for c in lines.get_edgecolor()]  # type: ignore[attr-defined]
    assert colours.count(CYCLE[0][0]) == 4, "two leaves of 2D, their merge and its branch"
    assert colours.count(CYCLE[1][0]) == 1
    assert colours.count(CYCLE[3][0]) == 1


@pytest.mark.wide
def test_heatmap_shows_the_matrix_in_leaf_order() -> None:
    space = make_space(38, with_cosines=False)
    tree = build_tree(space.names, space.affinity)
    picture = heatmap_figure(space.names, space.affinity, space.groups, tree=tree, title="A matrix")
    axes = picture.axes[0]
    shown = axes.images[0].get_array()
    assert shown is not None
    order = tree.order
    np.testing.assert_allclose(np.ma.getdata(shown), space.affinity[np.ix_(order, order)], atol=1e-12)
    assert np.array_equal(np.ma.getmaskarray(shown), np.eye(38, dtype=bool))
    assert [t.get_text() for t in axes.get_yticklabels()] == tree.ordered_names
    assert [t.get_text() for t in axes.get_xticklabels()] == tree.ordered_names
    assert all_inside(picture, boxes_of(picture, written(picture), 240))
    assert overlaps(boxes_of(picture, list(axes.get_yticklabels()), 240)) == 0
    # Names in another order than the tree's make no difference.
    turned = [space.names[i] for i in range(37, -1, -1)]
    groups = dict(zip(space.names, space.groups, strict=True))
    other = heatmap_figure(turned, space.affinity[::-1, ::-1], groups, tree=tree, title="A matrix")
    assert other.to_bytes("png", dpi=60) == picture.to_bytes("png", dpi=60)


def test_heatmap_of_many_models_has_no_names_and_small_ones_work() -> None:
    space = make_space(200, with_cosines=False)
    tree = build_tree(space.names, space.affinity, optimal_order=False)
    assert not heatmap_figure(space.names, space.affinity, tree=tree).axes[0].get_yticks().size
    for n in (1, 2):
        assert heatmap_figure(space.names[:n], space.affinity[:n, :n]).to_bytes(dpi=40)
    with pytest.raises(UsageError, match="different models"):
        heatmap_figure(space.names[:2], np.eye(2), tree=tree)


def test_the_tree_of_two_models_begins_at_0_and_is_seen_at_a_heatmap() -> None:
    affinity = np.array([[1.0, 0.3], [0.3, 1.0]])
    tree = build_tree(["a", "b"], affinity)
    assert tree_figure(tree).axes[0].get_xlim()[1] == 0
    branches = heatmap_figure(["a", "b"], affinity, tree=tree).axes[2]
    (lines,) = branches.collections
    width = max(np.ptp(path.vertices[:, 0]) for path in lines.get_paths())
    assert width > 0.9 * abs(np.subtract(*branches.get_xlim()))


def test_colours_of_the_heatmap_span_the_affinities_between_models() -> None:
    space = make_space(38, with_cosines=False)
    low, high = heatmap_figure(space.names, space.affinity).facts["range"]
    between = space.affinity[np.triu_indices(38, 1)]
    assert low == pytest.approx(np.percentile(between, 0.5))
    assert high == pytest.approx(np.percentile(between, 99.5))


@pytest.mark.first(1)
@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_equal_inputs_give_equal_bytes_whatever_the_users_settings(kind: str) -> None:
    space = make_space(10, with_cosines=False)

    def make() -> bytes:
        return map_figure(space.names, laid_out(10), space.groups, title="A map").to_bytes(kind)

    first = make()
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": None, "lines.linewidth": 9}):
        before = dict(mpl.rcParams)
        assert make() == first
        assert dict(mpl.rcParams) == before, "the caller's settings are left alone"
    if kind == "svg":
        tree = build_tree(space.names, space.affinity)
        assert tree_figure(tree, space.groups).to_bytes(kind) == tree_figure(tree, space.groups).to_bytes(kind)
        heat = [heatmap_figure(space.names, space.affinity, space.groups).to_bytes(kind) for _ in range(2)]
        assert heat[0] == heat[1]


def test_the_suffix_says_what_file_is_written(tmp_path: Path) -> None:
    picture = map_figure(["a", "b"], [[0, 0], [1, 1]])
    magic = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    for suffix, start in magic.items():
        assert picture.save(tmp_path / f"map{suffix.upper()}").read_bytes().startswith(start)
    with Image.open(tmp_path / "map.PNG") as image:
        assert image.size == (round(7.2 * 240), round(5.6 * 240))
    assert picture.dpi == 100
    with pytest.raises(UsageError, match=r"use one of: \.png, \.svg, \.pdf"):
        picture.save(tmp_path / "map.gif")
    with pytest.raises(UsageError, match="can't be written"):
        picture.save(tmp_path / "nowhere" / "map.png")
    with pytest.raises(UsageError, match="'gif'"):
        picture.to_bytes("gif")


def test_names_are_text_and_not_tex_or_markup(tmp_path: Path) -> None:
    # The second is no valid TeX: an attempt to set it would raise.
    names = ["$x^2$", r"$\frac{$", "<script>", "a & b"]
    picture = map_figure(names, [[0, 0], [1, 1], [2, 0], [3, 1]])
    assert {text.get_text() for text in texts_of(picture, "label:")} == set(names)
    content = picture.to_bytes("svg")
    assert b"<script>" not in content
    tree_figure(build_tree(names, np.eye(4)), title="$1").save(tmp_path / "tree.pdf")


def test_a_picture_shows_itself_in_a_notebook() -> None:
    picture = map_figure(["a", "b"], [[0, 0], [1, 1]], width=3, height=2)
    content, size = picture._repr_png_()
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (576, 384)
    assert size == {"width": 288, "height": 192}
    assert isinstance(picture, Picture)
    assert isinstance(picture, Figure)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted({{m for m in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.wide
def test_drawing_loads_neither_umap_nor_pyplot() -> None:
    draw = "from modelspace.plots import map_figure; map_figure(['a', 'b'], [[0, 0], [1, 1]]).to_bytes(dpi=20)"
    loaded = loaded_by(draw)
    assert "matplotlib" in loaded
    assert not {"umap", "sklearn", "torch", "matplotlib.pyplot"} & loaded
    assert "matplotlib" not in loaded_by("import modelspace.plots")


def test_groups_keep_their_looks() -> None:
    looks, legend = group_looks(["semantic", "2D", None, "zebra", "3D", "ant"])
    assert [look.label for look in legend] == ["2D", "3D", "semantic", "ant", "zebra", "no group"]
    assert (looks[1].colour, looks[1].marker) == CYCLE[0]
    assert (looks[4].colour, looks[4].marker) == CYCLE[1]
    assert (looks[0].colour, looks[0].marker) == CYCLE[3]
    assert (looks[5].colour, looks[5].marker) == CYCLE[2], "the look that geometric does not use"
    assert looks[2].label == "no group"
    many = [f"g{i:02d}" for i in range(12) for _ in range(12 - i)] + ["2D"]
    looks, legend = group_looks(many)
    assert [look.label for look in legend] == ["2D", *(f"g{i:02d}" for i in range(7)), "other"]
    assert legend[-1].count == sum(range(1, 6))
    assert len({look.colour for look in legend}) == len({look.marker for look in legend}) == 9
    assert group_looks([None, None])[1] == []


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def lab(colour: str, matrix: NDArray[np.float64] | list[list[float]]) -> NDArray[np.float64]:
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.clip(np.array(matrix) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = xyz / [0.9505, 1, 1.089]
    f = np.where(f > 0.008856, np.cbrt(f), 7.787 * f + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_group_colours_stay_apart(kind: str) -> None:
    colours = [lab(colour, BLINDNESS[kind]) for colour, _ in CYCLE]
    apart = [float(np.linalg.norm(a - b)) for a, b in combinations(colours, 2)]
    assert min(apart) > 15, "2 is just seen side by side; 15 is told apart at a distance"
    lightness = sorted(float(colour[0]) for colour in colours[:4])
    if kind == "none":
        assert min(b - a for a, b in pairwise(lightness)) > 12, "the paper's four groups differ in gray too"
        assert max(lightness) < 75, "dark enough for a white page"


def test_sequential_and_relief_colours_have_even_lightness() -> None:
    from modelspace.plots.gallery import SIGNED, UNSIGNED
    from modelspace.plots.heatmap import AFFINITY_COLOURS

    for colours in (AFFINITY_COLOURS, SIGNED["relief"], UNSIGNED):
        light = [lab(mpl.colors.to_hex(colours(x)), np.eye(3))[0] for x in np.linspace(0, 1, 40)]
        steps = np.diff(light)
        assert (steps > 0).all() or (steps < 0).all(), "a gray print keeps the order"


def test_box_and_line_geometry_against_sampling() -> None:
    rng = np.random.default_rng(0)
    lines = rng.uniform(0, 10, size=(60, 4))
    lines[:10, 3] = lines[:10, 1]
    corner = rng.uniform(0, 9, size=(40, 2))
    boxes = np.hstack([corner, corner + rng.uniform(0.2, 4, size=(40, 2))])
    t = np.linspace(0, 1, 4001)
    hits = line_hits_box(lines, boxes)
    for i, (x0, y0, x1, y1) in enumerate(lines):
        x, y = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
        for j, (left, bottom, right, top) in enumerate(boxes):
            inside = (x > left) & (x < right) & (y > bottom) & (y < top)
            if inside.sum() != 0 or not hits[j, i]:
                assert hits[j, i] == inside.any()
            # A line that only clips a corner can pass between two samples.
    for i, j in combinations(range(40), 2):
        a, b = Bbox.from_extents(*boxes[i]), Bbox.from_extents(*boxes[j])
        assert overlap(boxes[i : i + 1], boxes[j : j + 1])[0, 0] == (Bbox.intersection(a, b) is not None)


def test_labels_stay_inside_and_respect_the_limit() -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 300, size=(80, 2))
    how = {"radius": 3.0, "bounds": (0.0, 0.0, 300.0, 300.0), "order": list(range(80)), "reach": 60.0}
    places = place_labels(points, np.full((80, 2), (40.0, 8.0)), limit=30, **how)  # type: ignore[arg-type]
    assert len(places) == 30
    assert [place.index for place in places] == sorted(place.index for place in places)
    assert all(p.x >= 0 and p.x + p.width <= 300 and p.y >= 0 and p.y + p.height <= 300 for p in places)
    assert place_labels(points, np.full((80, 2), (400.0, 8.0)), limit=30, **how) == []  # type: ignore[arg-type]


def test_names_are_shortened_in_the_middle() -> None:
    assert shorten("a name", 20) == "a name"
    assert shorten("two\nlines\tand  blanks", 30) == "two lines and blanks"
    assert shorten("resnet50.a1_in1k", 9) == "resn…in1k"
    assert all(len(shorten("x" * 50, k)) == k for k in range(3, 50))
