"""The atlas as a file: what is in it, that nothing in the data can become code, and that it needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from synthetic_space import make_space

from modelspace.analysis import build_tree, true_neighbours
from modelspace.errors import UsageError
from modelspace.names import printable
from modelspace.plots import Atlas, NearestLists, SecondMap, make_atlas

EVIL = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "\u2028'\"`${alert(1)}&lt;\\u003c",
    "%%SCRIPT%%",
]


def document_of(page: str) -> dict[str, Any]:
    """What the page's script would read, found as a browser finds it: up to the first </script."""
    start = page.index('id="data">') + len('id="data">')
    end = re.compile("</script", re.I).search(page, start)
    assert end is not None
    found: dict[str, Any] = json.loads(page[start : end.start()])
    return found


def unpack(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def test_the_data_comes_back() -> None:
    space = make_space(38, with_cosines=False)
    places = np.random.default_rng(0).normal(size=(38, 2)) * 7
    tree = build_tree(space.names, space.affinity).with_support(np.linspace(0, 1, 37))
    parameters = [None if i == 3 else 1000 * i for i in range(38)]
    thumbnail = np.linspace(-1, 1, 200 * 100).reshape(200, 100)
    page = make_atlas(
        space.names,
        places,
        space.groups,
        columns={"task": ["depth"] * 37 + [None], "parameters": parameters, "frozen": [True] * 38},
        affinity=space.affinity,
        k=4,
        tree=tree,
        thumbnails={space.names[2]: thumbnail},
    )
    document = document_of(page.html)
    assert document["names"] == space.names
    shown = unpack(document["places"], "<f4").reshape(38, 2)
    assert np.abs(shown).max() == pytest.approx(1)
    factor = np.ptp(places, axis=0) / np.ptp(shown, axis=0)
    assert factor[0] == pytest.approx(factor[1]), "both axes by the same factor"
    group, task, size, frozen = document["columns"]
    assert [group["texts"][code] for code in unpack(group["values"], "<i4")] == space.groups
    assert [look["label"] for look in group["looks"]] == ["2D", "3D", "geometric", "semantic"]
    assert unpack(task["values"], "<i4").tolist() == [0] * 37 + [-1]
    numbers = unpack(size["values"], "<f8")
    assert np.isnan(numbers[3])
    assert numbers[4] == 4000
    assert frozen["texts"] == ["yes"]
    nearest = document["nearest"]
    expected = true_neighbours(space.affinity, 4)
    assert unpack(nearest["models"], "<u4").reshape(38, 4).tolist() == expected.tolist()
    np.testing.assert_allclose(
        unpack(nearest["affinity"], "<f4").reshape(38, 4), np.take_along_axis(space.affinity, expected, 1), atol=1e-6
    )
    branches = document["tree"]
    assert unpack(branches["merges"], "<u4").reshape(37, 2).tolist() == tree.linkage[:, :2].astype(int).tolist()
    assert unpack(branches["order"], "<u4").tolist() == tree.order.tolist()
    np.testing.assert_allclose(unpack(branches["support"], "<f4"), np.linspace(0, 1, 37), atol=1e-7)
    width, height, signed, levels = document["thumbnails"]["2"]
    assert (width, height, signed) == (25, 50, 1)
    values = unpack(levels, "<i1").reshape(height, width)
    assert values[0, 0] == -127
    assert values[-1, -1] == 127


def test_a_second_map_and_probe_images_come_back() -> None:
    places = np.array([[0.0, 0.0], [4.0, 1.0], [np.nan, np.nan]])
    lists = NearestLists([[1], [0], [0]], [[0.5], [0.5], [np.nan]], score=[[0.2], [0.1], [np.nan]], ordered_by="luck")
    images = np.arange(2 * 130 * 130 * 3, dtype=np.uint32).reshape(2, 130, 130, 3).astype(np.uint8)
    page = make_atlas(
        ["a", "b", "c"], np.eye(3)[:, :2], images=images, beside=SecondMap("b", places, lists, "n"), space="ours"
    )
    document = document_of(page.html)
    second = document["beside"]
    assert (document["space"], second["space"], second["note"]) == ("ours", "b", "n")
    assert unpack(second["places"], "<f4").reshape(3, 2)[:2].tolist() == [[-1, -0.25], [1, 0.25]]
    assert np.isnan(unpack(second["places"], "<f4")[4:]).all()
    assert second["nearest"]["ordered_by"] == "luck"
    np.testing.assert_allclose(unpack(second["nearest"]["score"], "<f4"), [0.2, 0.1, np.nan], rtol=1e-6)
    width, height, pixels = document["images"][1]
    assert (width, height, document["tiles"]) == (43, 43, 2)
    first = unpack(pixels, "<u1").reshape(43, 43, 3)[0, 0]
    assert np.abs(first - images[1, :3, :3].mean(axis=(0, 1))).max() <= 0.5


def test_equal_inputs_give_equal_pages() -> None:
    space = make_space(10, with_cosines=False)
    pages = [make_atlas(space.names, np.eye(10)[:, :2], space.groups, affinity=space.affinity).html for _ in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("evil", EVIL)
def test_a_name_is_never_markup(evil: str) -> None:
    page = make_atlas([evil, "b"], [[0, 0], [1, 1]], [evil, None], columns={evil: [evil, 1]}, title=evil).html
    document = document_of(page)
    assert document["names"][0] == document["title"] == document["columns"][1]["name"] == printable(evil)
    assert page.lower().count("<script") == 2, "the data and the one script of the page"
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert "\u2028" not in page[page.index('id="data"') :]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5, unique=True))
@settings(max_examples=60, deadline=None)
def test_any_name_comes_back_with_its_invisible_characters_escaped(names: list[str]) -> None:
    page = make_atlas(names, np.zeros((len(names), 2))).html
    assert document_of(page)["names"] == [printable(name) for name in names]
    assert page.count("</script>") == 2


def test_the_page_needs_no_network_and_allows_no_other_script() -> None:
    page = make_atlas(["a", "b"], [[0, 0], [1, 1]]).html
    addresses = set(re.findall(r"https?://[^\s\"'`)]*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the name of a namespace, fetched by nobody"
    assert not re.search(r"\s(src|href|action)\s*=\s*[\"']|@import|url\(", page)
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|importScripts|eval|innerHTML)\b", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    for tag, kind in (("script", "script-src"), ("style", "style-src")):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy[1]


def test_the_page_is_saved_and_shown(tmp_path: Path) -> None:
    page = make_atlas(["a", "\udcff"], [[0, 0], [1, 1]], title="Two <models>")
    assert page.save(tmp_path / "atlas.html").read_text(encoding="utf-8") == page.html
    assert "<title>Two &lt;models&gt;</title>" in page.html
    assert repr(page).startswith("<Atlas of 2 models, 0.")
    assert page._repr_html_().count("<") == 2, "the page is escaped inside its frame"
    with pytest.raises(UsageError, match=r"end it in \.html"):
        page.save(tmp_path / "atlas.pdf")
    with pytest.raises(UsageError, match="can't be written"):
        page.save(tmp_path / "nowhere" / "atlas.html")
    assert isinstance(page, Atlas)


def test_what_does_not_fit_is_refused() -> None:
    two = [[0, 0], [1, 1]]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"columns": {"x": [1]}}, "column 'x' has 1 values for 2"),
        ({"columns": {"x": [object(), 1]}}, "neither numbers nor strings"),
        ({"affinity": np.eye(3)}, "but there are 2 models"),
        ({"neighbours": (np.zeros((2, 1)), np.zeros((2, 2)))}, "neighbours have shapes"),
        ({"neighbours": (np.full((2, 1), 2), np.zeros((2, 1)))}, r"outside 0\.\.1"),
        ({"intervals": (np.zeros((2, 1)), np.zeros((2, 1)))}, "belong to the neighbours"),
        ({"tree": build_tree(["a", "c"], np.eye(2))}, "the tree and the atlas have different models"),
        ({"thumbnails": {"z": np.zeros((2, 2))}}, "no such model"),
        ({"thumbnails": {"a": np.zeros(4)}}, "not a \\(height, width\\)"),
        ({"images": np.zeros((1, 2, 2, 3))}, "array of uint8"),
        ({"neighbours": NearestLists([[1], [0]], [[1.0], [1.0]], score=[1.0, 1.0])}, "scores have shape"),
        ({"neighbours": NearestLists([[1], [0]], [[1.0], [1.0]], tied=[True])}, "ties have shape"),
        ({"beside": SecondMap("b", [[0, 0]])}, "second map have shape"),
        ({"beside": SecondMap("b", np.full((2, 2), np.nan))}, "each model needs a pair"),
    ]
    for arguments, message in cases:
        with pytest.raises(UsageError, match=message):
            make_atlas(["a", "b"], two, **arguments)
    with pytest.raises(UsageError, match="unique names"):
        make_atlas(["a", "a"], two)
    with pytest.raises(UsageError, match="each model needs"):
        make_atlas(["a", "b"], [[0, 0], [np.nan, 1]])
