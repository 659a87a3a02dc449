"""What is around a picture: titles, legends, scales, notes and captions are wrapped and never cut off."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.colors import to_hex
from picture_checks import all_inside, boxes_of, overlaps, texts_of, written

from modelspace.analysis import build_tree, neighbour_recall
from modelspace.errors import UsageError
from modelspace.plots import (
    choices_figure,
    figure,
    gallery_figure,
    heatmap_figure,
    make_report,
    map_figure,
    ranking_curves,
    tree_figure,
)
from modelspace.plots.figure import Picture, text_width, wrapped
from modelspace.plots.groups import Colouring, GroupLook
from modelspace.plots.legend import legend_height
from modelspace.plots.scale import STEPS, Scale, colour, written_number

N = 12
NAMES = [f"model_{i:02d}" for i in range(N)]
RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(N, 2))
VECTORS = RNG.normal(size=(N, 20)) + 0.6
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
AFFINITY = VECTORS @ VECTORS.T
TREE = build_tree(NAMES, AFFINITY)
LONG = "A title that is far too long for one line of any picture, " * 4
CAPTION = "Space with_a_long_name: a_method_with_parameters (epsilon 0.0001); " * 4
WIDE_GROUPS = [f"a group with a rather long name, number {i % 7}" for i in range(N)]

DRAW: dict[str, Callable[..., Picture]] = {
    "map": lambda **options: map_figure(NAMES, POINTS, width=5, **options),
    "tree": lambda **options: tree_figure(TREE, width=5, **options),
    "heatmap": lambda **options: heatmap_figure(NAMES, AFFINITY, tree=TREE, width=5, **options),
    "gallery": lambda **options: gallery_figure(RNG.normal(size=(N, 2, 4, 4)), NAMES, width=5, **options),
}


def every_text_fits(picture: Picture) -> bool:
    boxes = boxes_of(picture, written(picture), 100)
    return all_inside(picture, boxes) and overlaps(boxes) == 0


@pytest.mark.first(2)
@pytest.mark.parametrize("kind", DRAW)
@pytest.mark.parametrize("groups", [WIDE_GROUPS, [*range(1, N), None]], ids=["groups", "numbers"])
def test_nothing_around_a_picture_is_cut_off(kind: str, groups: list[object]) -> None:
    picture = DRAW[kind](groups=groups, group_by="parameters", title=LONG, caption=CAPTION)
    assert every_text_fits(picture)
    assert " ".join(text.get_text() for text in reversed(texts_of(picture, "caption"))) == CAPTION.strip()


def test_notes_of_narrow_pictures_are_wrapped() -> None:
    recall = neighbour_recall(POINTS, affinity=AFFINITY)
    narrow = map_figure(NAMES, POINTS, recall=recall, max_labels=3, width=2.6)
    assert len(texts_of(narrow, "note")) >= 3
    assert every_text_fits(narrow)
    narrow = tree_figure(TREE.with_support(np.linspace(0.2, 1, N - 1)), width=3.2)
    assert len(texts_of(narrow, "note")) >= 3
    assert every_text_fits(narrow)


def test_curves_and_choices_are_not_cut_off() -> None:
    picture = ranking_curves({"a ranking with a long name": [0.5, 0.4]}, title=LONG, caption=CAPTION, width=5)
    assert every_text_fits(picture)
    measured = {
        f"target {i}": {name: float(value) for name, value in zip(NAMES, AFFINITY[i], strict=True)} for i in (0, 1)
    }
    chosen = {target: max(values, key=values.__getitem__) for target, values in measured.items()}
    picture = choices_figure(measured, chosen, blocks={"all of them": measured}, title=LONG, caption=CAPTION)
    assert every_text_fits(picture)


def test_choices_draw_each_source_where_it_was_measured() -> None:
    measured = {"depth": {"a": 1.0, "b": 3.0, "c": 2.5}, "edges": {"a": -5.0, "c": -1.0, "d": -1.0}}
    picture = choices_figure(measured, {"depth": "c", "edges": "d"})
    assert picture.facts == {"ranks": {"depth": 2, "edges": 1}, "best": 1}
    lines = picture.axes[0].lines
    choices = {line.get_gid(): line.get_xdata() for line in lines if str(line.get_gid()).startswith("choice:")}
    assert choices == {"choice:depth": [0.75], "choice:edges": [1.0]}
    others = [
        sorted(np.asarray(line.get_xdata()))
        for line in lines
        if line.get_marker() == "o" and len(line.get_xdata()) == 3
    ]
    assert others == [[0.0, 0.75, 1.0], [0.0, 1.0, 1.0]]
    for bad, message in (
        (({}, {}), "no targets"),
        (({"x": {"a": 1.0}}, {"x": "a"}), "two or more"),
        (({"x": {"a": 1.0, "b": float("nan")}}, {"x": "a"}), "two or more"),
        (({"x": {"a": 1.0, "b": 2.0}}, {"x": "c"}), "'c' for 'x' was not measured"),
    ):
        with pytest.raises(UsageError, match=message):
            choices_figure(*bad)


def test_lines_are_wrapped_to_the_width_and_lose_nothing() -> None:
    text = "some words and-one-that-is-far-too-long-for-a-line-by-itself then more"
    lines = wrapped(text, 1.2)
    assert all(text_width(line, 7.0) <= 1.2 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrapped("", 1.0) == []
    assert wrapped("W", 0.001) == ["W"], "a letter is not cut"


def test_a_word_of_thousands_of_letters_is_measured_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def width(text: str, size: float, weight: str) -> float:
        measured.append(len(text))
        return 0.05 * len(text)

    monkeypatch.setattr(figure, "text_width", width)
    lines = wrapped("é" * 5_000, 5.0)
    assert {len(part) for part in lines} == {100}
    assert len(measured) < 15 * len(lines)
    assert max(measured) <= 5 * 72 / (7 / 5), "no more characters than a line can hold"


def test_a_legend_has_the_rows_that_its_names_need() -> None:
    def kinds(label: str, count: int) -> Colouring:
        return Colouring([], [GroupLook(f"{label}{i}", "#000000", "o", 1) for i in range(count)])

    row = legend_height(kinds("x", 1), 7.2)
    assert legend_height(kinds("x", 8), 7.2) == row
    assert legend_height(kinds("x" * 30, 8), 7.2) > 2 * row
    assert legend_height(kinds("x" * 30, 4), 2.0) == 4 * row
    assert legend_height(Colouring([], []), 7.2) == 0


def test_numbers_are_a_scale_and_few_or_mixed_ones_are_groups() -> None:
    middle = 10 * 10 ** (4 * (STEPS // 2) / (STEPS - 1))  # in the logarithm
    values = [10, middle, 100_000, None, 10, float("nan")]
    colouring = Colouring.of(NAMES[:6], values, "parameters")
    assert colouring.scale == Scale("parameters", 10, 100_000, log=True)
    colours = [look.colour for look in colouring.looks]
    assert colours[0] == colours[4] == colour(0)
    assert colours[1] == colour(STEPS // 2)
    assert colours[2] == colour(STEPS - 1)
    assert colours[3] == colours[5]
    assert colouring.looks[3].label == "no value"
    assert sum(look.count for look in colouring.kinds) == 6
    for groups in ([1, 2, 1, 2, 1, 2], ["1", "2", "3", "4", "5", "6"], [1, 2, 3, 4, 5, "six"], [None] * 6):
        assert Colouring.of(NAMES[:6], groups).scale is None
    by_name = dict(zip(NAMES, range(N), strict=True))
    assert Colouring.of(NAMES[::-1], by_name).looks[0].colour == colour(STEPS - 1)


def test_a_linear_scale_and_its_texts() -> None:
    scale = Scale.of([-2.0, 0.0, 6.0])
    assert not scale.log
    assert [scale.step(value) for value in (-2, 2, 6, 99, -99)] == [0, round((STEPS - 1) / 2), STEPS - 1, STEPS - 1, 0]
    assert Scale.of([5.0]).step(5.0) == round((STEPS - 1) / 2)
    assert written_number(999_999) == "1M"
    picture = map_figure(NAMES, POINTS, [*range(2, 13), None], group_by="layers")
    texts = [text.get_text() for text in picture.texts]
    assert texts[:3] == ["layers", "2", "12; gray: no value (1)"]
    assert [axes.get_label() for axes in picture.axes][-1] == "scale"
    layers = {c.get_gid(): c for c in picture.axes[0].collections if str(c.get_gid()).startswith("group:")}
    assert list(layers) == ["group:numbers", "group:no value"]
    drawn = [to_hex(value).upper() for value in layers["group:numbers"].get_facecolor()]  # type: ignore[arg-type,union-attr]
    assert drawn == [colour(Scale.of([2, 12]).step(i)) for i in range(2, 13)], "in the order of the models"


@pytest.mark.first(1)
@pytest.mark.parametrize("kind", DRAW)
def test_svg_and_pdf_hold_text(kind: str) -> None:
    picture = DRAW[kind](title="A title", caption="A caption")
    svg = picture.to_bytes("svg").decode()
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"A title", "A caption", *NAMES} <= set(words)
    assert "'DejaVu Sans', Verdana, sans-serif" in svg
    assert not re.search(r'id="[^"]*(?:glyph|DejaVu)', svg), "no text is drawn as outlines"
    pdf = picture.to_bytes("pdf")
    assert b"/Type0" in pdf
    streams = [
        zlib.decompress(part) for part in re.findall(rb"FlateDecode[^>]*>>\s*stream\r?\n(.*?)\r?\nendstream", pdf, re.S)
    ]
    assert sum(stream.count(b" Tf") for stream in streams) >= N + 2


def test_support_of_a_tree_is_text_too() -> None:
    tree = TREE.with_support(np.linspace(0.2, 1, N - 1))
    words = re.findall(r"<text[^>]*>([^<]*)</text>", tree_figure(tree).to_bytes("svg").decode())
    assert sum(word.isdigit() for word in words) == N - 2


def heatmap_texts(affinity: np.ndarray) -> tuple[list[str], list[str]]:
    """Ticks of the colour bar, and the texts beside it."""
    picture = heatmap_figure([f"m{i}" for i in range(len(affinity))], affinity)
    picture.canvas.draw()
    bar = next(axes for axes in picture.axes if axes.get_label() == "affinities")
    assert every_text_fits(picture)
    return [label.get_text() for label in bar.get_xticklabels()], [text.get_text() for text in picture.texts]


def random_affinity(n: int, shift: float) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(n, 12)) + shift
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors @ vectors.T)


def test_the_heatmap_says_where_its_colours_end() -> None:
    ticks, texts = heatmap_texts(random_affinity(40, 0.0))
    assert ticks[0].startswith("≤ −")
    assert ticks[1] == "0"
    assert ticks[2].startswith("≥ ")
    assert any("end at the 0.5th and 99.5th percentiles" in text for text in texts)
    ticks, texts = heatmap_texts(np.where(np.eye(5), 1.0, 0.5))
    assert ticks == ["0", "0.50"], "nothing is beyond the ends"
    assert not any("percentile" in text for text in texts)
    ticks, _ = heatmap_texts(random_affinity(3, 2.0))
    assert ticks[0] == "0"


def test_a_report_passes_numbers_and_caption_on() -> None:
    report = make_report(
        NAMES[::-1], AFFINITY[::-1, ::-1], range(N, 0, -1), tree=TREE, coordinates=POINTS, caption="From here"
    )
    pictures = [section.picture for section in report.sections if section.picture is not None]
    assert len(pictures) == 3
    for picture in pictures:
        assert [text.get_text() for text in texts_of(picture, "caption")] == ["From here"]
    rows = dict(report.sections[0].table)  # type: ignore[arg-type]
    assert rows["lowest and highest value"] == "1 and 12"
