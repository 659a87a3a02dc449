"""Reports: the right numbers, nothing in a name becomes markup, and files that stand alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from synthetic_space import make_space

from modelspace.errors import UsageError
from modelspace.plots import Report, make_report
from modelspace.plots.report import _md


def some_report(n: int = 20, **how: object) -> Report:
    space = make_space(n, with_cosines=False)
    affinity = space.affinity.copy()
    affinity[3, 4] = affinity[4, 3] = 0.991
    places = np.random.default_rng(0).normal(size=(n, 2))
    return make_report(space.names, affinity, space.groups, coordinates=places, **how)  # type: ignore[arg-type]


def test_a_report_says_what_is_there() -> None:
    report = some_report(facts={"method": "gradient*input"}, title="A space")
    assert [s.heading for s in report.sections] == [
        "Counts", "Map", "Tree", "Affinities", "Duplicates", "Outliers", "Hubs",
    ]  # fmt: skip
    text = report.markdown()
    assert "# A space" in text
    assert r"| method | gradient\*input |" in text
    assert "| models | 20 |" in text
    assert "| groups | 3D 8, 2D 7, semantic 3, geometric 2 |" in text
    assert "| keypoint2d | segment2d | 0.9910 |" in text
    assert "true neighbours are among its 5 nearest on the map" in text
    assert "Pairs with an affinity of 0.98 or more: 1, in groups of models: 1." in text


def test_long_tables_are_cut_and_say_so() -> None:
    report = some_report(38, threshold=-1.0)
    duplicates = next(s for s in report.sections if s.heading == "Duplicates")
    assert len(duplicates.table) == 41
    assert "The first 40 of 703 are listed." in duplicates.words


@pytest.mark.wide
def test_markdown_and_html_files(tmp_path: Path) -> None:
    report = some_report()
    files = report.save(tmp_path / "my report.md")
    assert [file.name for file in files] == ["my report.md", "map.svg", "tree.svg", "heatmap.svg"]
    links = re.findall(r"!\[[^]]*\]\(([^)]*)\)", files[0].read_text(encoding="utf-8"))
    assert links == [f"my%20report_pictures/{name}.svg" for name in ("map", "tree", "heatmap")]
    (page,) = report.save(tmp_path / "report.html")
    content = page.read_text(encoding="utf-8")
    assert content.count("<img") == content.count("data:image/svg+xml;base64,") == 3
    assert "http" not in re.sub(r"http-equiv|base64,[^\"]*", "", content)
    assert "<script" not in content
    assert report.html() == some_report().html(), "equal inputs give equal bytes"
    for wrong in ("report.txt", "nowhere/report.html", "nowhere/report.md"):
        with pytest.raises(UsageError):
            report.save(tmp_path / wrong)


def test_names_stay_text() -> None:
    names = ["<script>alert(1)</script>", "a|b", "[x](javascript:alert(1))", "line\nbreak", "![i](http://e.x/y.png)"]
    affinity = np.full((5, 5), 0.99)
    np.fill_diagonal(affinity, 1)
    report = make_report(names, affinity, title="<b>")
    page = report.html()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    text = report.markdown()
    assert "<script" not in text
    assert r"a\|b" in text
    assert r"\[x\](javascript:alert(1))" in text
    assert "](http" not in re.sub(r"\\\](?=\()", "", text)
    assert "line break" in text
    assert 'sandbox width="100%"' in report._repr_html_()


def test_small_spaces_have_reports() -> None:
    for n in (1, 2, 3):
        space = make_space(10, with_cosines=False)
        report = make_report(space.names[:n], space.affinity[:n, :n])
        assert f"| models | {n} |" in report.markdown()
    assert _md("a_b <c> & `d`") == r"a\_b &lt;c&gt; &amp; \`d\`"


def test_control_characters_are_shown_and_svg_is_xml() -> None:
    from xml.etree import ElementTree

    from modelspace.plots import heatmap_figure, make_atlas, make_report

    odd = "a\x1b[2J\x00\u202eb"
    names, affinity = ["one", "two", "three"], np.array([[1, 0.5, 0.2], [0.5, 1, 0.3], [0.2, 0.3, 1]])
    report = make_report(names, affinity, [odd, odd, None], title=odd)
    atlas = make_atlas(names, np.eye(3)[:, :2], groups=[odd, odd, None], columns={odd: [odd, None, "x"]}, title=odd)
    svg = heatmap_figure(names, affinity, [odd, odd, None], title=odd).to_bytes("svg").decode()
    ElementTree.fromstring(svg)
    for text in (report.html(), report.markdown(), atlas.html, svg):
        assert not set(text) & {"\x1b", "\x00", "\u202e"}
        assert "a\\x1b[2J" in text.replace("\\\\", "\\").replace("\\[", "[")
