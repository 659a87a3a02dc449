"""Gallery and curves: cells in the right position, colours centred on zero, lines with the right values."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from picture_checks import all_inside, boxes_of, overlaps, texts_of, written

from modelspace.errors import UsageError
from modelspace.plots import agreement_curves, gallery_figure, ranking_curves
from modelspace.plots.gallery import CLIP, SIGNED, UNSIGNED


def some_maps(n_columns: int, n_rows: int, side: int = 12, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n_columns, n_rows, side, side))


def cells(picture: object) -> list[object]:
    return [axes for axes in picture.axes if axes.images]  # type: ignore[attr-defined]


def test_rows_are_images_and_columns_are_models() -> None:
    maps = some_maps(5, 3)
    images = np.random.default_rng(1).integers(0, 256, size=(3, 8, 8, 3), dtype=np.uint8)
    names = ["autoencoder", "edge2d", "a_model_with_a_rather_long_name", "depth", "normals"]
    picture = gallery_figure(maps, names, ["one", "two", "three"], images=images, title="Maps")
    drawn = cells(picture)
    assert len(drawn) == 3 * (5 + 1)
    for row in range(3):
        here = drawn[6 * row : 6 * row + 6]
        np.testing.assert_array_equal(here[0].images[0].get_array(), images[row])  # type: ignore[attr-defined]
        for column in range(5):
            image = here[column + 1].images[0]  # type: ignore[attr-defined]
            np.testing.assert_array_equal(image.get_array(), maps[column, row])
            limit = np.quantile(np.abs(maps[column, row]), CLIP)
            assert image.get_clim() == pytest.approx((-limit, limit)), "zero is in the middle"
            assert image.get_cmap().name == SIGNED["relief"].name
    assert picture.facts["signed"]
    boxes = boxes_of(picture, written(picture), 240)
    assert all_inside(picture, boxes)
    assert overlaps(boxes) == 0


@pytest.mark.first(1)
@pytest.mark.parametrize("n_columns", [1, 3, 20, 38])
def test_text_fits_at_every_size(n_columns: int) -> None:
    names = [f"some_encoder_{i:02d}" for i in range(n_columns)]
    groups = [("2D", "3D", "semantic")[i % 3] for i in range(n_columns)]
    picture = gallery_figure(some_maps(n_columns, 2), names, ["x", "y"], groups=groups, title="Maps")
    boxes = boxes_of(picture, written(picture), 240)
    assert all_inside(picture, boxes)
    assert overlaps(boxes) == 0
    assert len(texts_of(picture, "column:")) == n_columns


def test_maps_without_a_sign_begin_at_zero() -> None:
    picture = gallery_figure(np.abs(some_maps(2, 2)), ["a", "b"])
    assert not picture.facts["signed"]
    for axes in cells(picture)[:4]:
        image = axes.images[0]  # type: ignore[attr-defined]
        assert image.get_clim()[0] == 0
        assert image.get_cmap().name == UNSIGNED.name


def test_layers_share_a_heading() -> None:
    picture = gallery_figure(some_maps(6, 2), ["l1", "l2", "l3"] * 2, headings=["depth"] * 3 + ["edges"] * 3)
    found = [text.get_text() for text in picture.texts]
    assert found.count("depth") == found.count("edges") == 1
    assert found.count("l1") == 2


def test_an_all_zero_map_is_drawn() -> None:
    assert gallery_figure(np.zeros((1, 1, 4, 4)), ["dead"]).to_bytes(dpi=40)


def test_gallery_refuses_what_it_cannot_draw() -> None:
    maps = some_maps(2, 2)
    bad = maps.copy()
    bad[1, 0, 3, 3] = np.inf
    for arguments, message in (
        ((maps, ["a"]), r"not \(1 columns"),
        ((bad, ["a", "b"]), "map of 'b' contains"),
        ((maps, ["a", "b"], ["x"]), "1 names for 2 rows"),
    ):
        with pytest.raises(UsageError, match=message):
            gallery_figure(*arguments)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not uint8"):
        gallery_figure(maps, ["a", "b"], images=np.zeros((2, 4, 4, 3)))
    with pytest.raises(UsageError, match="1 headings"):
        gallery_figure(maps, ["a", "b"], headings=["x"])
    with pytest.raises(UsageError, match="relief, redblue"):
        gallery_figure(maps, ["a", "b"], colours="jet")
    with pytest.raises(UsageError, match="too many"):
        gallery_figure(np.zeros((40, 40, 1, 1)), [str(i) for i in range(40)])


def test_ranking_curves_draw_the_values_and_the_baselines() -> None:
    k = np.arange(1, 20)
    precision = {"gradient*input": 0.7 / k**0.3, "popularity": 0.5 / k**0.2, "saliency": 0.6 / k**0.3}
    recall = {name: np.clip(p * k / 5, 0, 1) for name, p in precision.items()}
    picture = ranking_curves(precision, recall, chance=0.263, baselines=["popularity"], title="Sources")
    assert len(picture.axes) == 2
    for axes, values in zip(picture.axes, (precision, recall), strict=True):
        lines = {(line.get_gid() or "")[5:]: line for line in axes.lines if (line.get_gid() or "").startswith("line:")}
        assert list(lines) == list(values)
        for name, line in lines.items():
            np.testing.assert_array_equal(line.get_xdata(), k)
            np.testing.assert_allclose(np.asarray(line.get_ydata()), values[name])
        looks = {(line.get_linestyle(), line.get_marker()) for line in lines.values()}
        assert len(looks) == 3, "told apart without colour"
    assert all_inside(picture, boxes_of(picture, written(picture), 240))
    assert [text.get_text() for text in picture.legends[0].get_texts()] == list(precision)


def test_agreement_curves_draw_intervals_and_gaps() -> None:
    bits = [1, 2, 4, 8, 16]
    ours = [0.59, 0.91, np.nan, 0.9998, 1.0]
    picture = agreement_curves(
        bits,
        {"ours": ours, "paper": [0.56, 0.71, 0.85, 0.96, 0.99]},
        intervals={"ours": ([0.5] * 5, [1.0] * 5)},
        xlabel="bits",
        log=True,
        baselines=["paper"],
    )
    axes = picture.axes[0]
    assert axes.get_xscale() == "log"
    assert len(axes.collections) == 1
    assert all_inside(picture, boxes_of(picture, written(picture), 240))
    assert picture.to_bytes("svg") == picture.to_bytes("svg")


def test_curves_refuse_what_they_cannot_draw() -> None:
    with pytest.raises(UsageError, match="0 lines"):
        ranking_curves({})
    with pytest.raises(UsageError, match="13 lines"):
        ranking_curves({str(i): [0.5] for i in range(13)})
    with pytest.raises(UsageError, match="different rankings"):
        ranking_curves({"a": [0.5]}, {"b": [0.5]})
    with pytest.raises(UsageError, match="'a' has a value outside"):
        ranking_curves({"a": [1.5]})
    with pytest.raises(UsageError, match="'a' has no values"):
        ranking_curves({"a": []})
    with pytest.raises(UsageError, match="must ascend"):
        agreement_curves([2, 1], {"a": [0, 1]}, xlabel="x")
    with pytest.raises(UsageError, match="3 values for 2 values of x"):
        agreement_curves([1, 2], {"a": [0, 1, 1]}, xlabel="x")
