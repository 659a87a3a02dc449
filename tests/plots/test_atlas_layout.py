"""The atlas as people see it, in a browser: nothing covers anything, on a screen of 1280 pixels and of 390."""

from __future__ import annotations

import csv
import itertools
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_support import CHROMIUM, FLAGS, sync_api, until
from synthetic_space import make_space

from modelspace.analysis import build_tree, true_neighbours
from modelspace.plots import NearestLists, SecondMap, make_atlas

#: Names that a spreadsheet, a shell or SQL would take for something else; models 30 and later.
ODD = ["=1+1", "it's $(here)", "-rf", "@SUM(1)", 'a,"b"', "`x`; y", "+1", "two words"]
N, SHARED = 38, 34


@pytest.fixture(scope="module")
def atlas_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    space = make_space(N, with_cosines=False)
    names = [*space.names[: N - len(ODD)], *ODD]
    numbers = true_neighbours(space.affinity, 5)
    values = np.take_along_axis(space.affinity, numbers, axis=1)
    rng = np.random.default_rng(0)
    groups = np.array(space.groups)
    islands = {group: 4 * rng.normal(size=2) for group in sorted(set(groups))}
    places = np.array([islands[group] for group in groups]) + rng.normal(size=(N, 2))
    present = np.arange(N)[:, None] < SHARED
    page = make_atlas(
        names,
        places,
        list(groups),
        columns={"task": [f"task {i % 4}" for i in range(N)], "parameters": [1000.0 * 2**i for i in range(N)]},
        neighbours=NearestLists(
            numbers,
            values,
            values - 0.05,
            values + 0.05,
            values / 2 - 0.2,
            np.tile([True, False, False, False, False], (N, 1)),
            "how well their features predict this model's",
        ),
        tree=build_tree(names, space.affinity),
        thumbnails={name: rng.normal(size=(16, 32)) for name in names},
        images=rng.integers(0, 256, size=(2, 16, 16, 3), dtype=np.uint8),
        space="ours",
        beside=SecondMap(
            "another",
            np.where(present, rng.normal(size=(N, 2)), np.nan),
            NearestLists(np.where(numbers < SHARED, numbers, 0), np.where(present, values, np.nan)),
            "a note on the second map",
        ),
        title="A test atlas with a title that is too long for one line of a narrow screen, and so takes two of them",
    )
    return page.save(tmp_path_factory.mktemp("atlas") / "atlas.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


def opened(browser: Any, file: Path, width: int, height: int, **settings: Any) -> Iterator[Any]:
    """The page in a window of its own; a console message is a failure."""
    context = browser.new_context(viewport={"width": width, "height": height}, **settings)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if "GPU stall" not in message.text else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(file.as_uri())
    until(lambda: page.evaluate("Boolean(window.atlas)"))
    yield page
    context.close()
    assert problems == []


@pytest.fixture
def wide(browser: Any, atlas_file: Path) -> Iterator[Any]:
    yield from opened(browser, atlas_file, 1280, 800, accept_downloads=True)


@pytest.fixture
def phone(browser: Any, atlas_file: Path) -> Iterator[Any]:
    yield from opened(browser, atlas_file, 390, 844, has_touch=True, color_scheme="dark")


def boxes(page: Any, selector: str) -> list[list[float]]:
    """[left, top, right, bottom] of the visible elements."""
    found: list[list[float]] = page.evaluate(
        """(selector) => [...document.querySelectorAll(selector)].map((node) => node.getBoundingClientRect())
          .filter((box) => box.width && box.height).map((box) => [box.left, box.top, box.right, box.bottom])""",
        selector,
    )
    return found


def overlap(a: list[float], b: list[float], slack: float = 0.5) -> bool:
    """Whether two boxes share more than an edge."""
    return all(a[i] < b[i + 2] - slack and b[i] < a[i + 2] - slack for i in (0, 1))


def points(page: Any, space: int = 0) -> list[list[float]]:
    """Places of the models in the window; NaN (null) for a model without one."""
    placed: list[list[float]] = page.evaluate(
        """(space) => { const map = atlas.maps[space]; const box = map.overlay.getBoundingClientRect();
          return atlas.names.map((_, i) => map.screenOf(i)).map(([x, y]) => [x + box.left, y + box.top]); }""",
        space,
    )
    return placed


def settle(page: Any) -> None:
    """Wait until the map has stayed where it is for five frames: what was just closed may yet make room for it."""
    page.evaluate(
        """async () => { const map = atlas.maps[0]; let last = "";
          for (let same = 0, n = 0; same < 5 && n < 600; n++) {
            await new Promise(requestAnimationFrame);
            const box = map.overlay.getBoundingClientRect();
            const now = JSON.stringify([box, atlas.names.map((_, i) => map.screenOf(i))]);
            same = now === last ? same + 1 : 0;
            last = now;
          } }"""
    )


def test_a_card_shows_its_text_and_its_pictures_side_by_side(wide: Any) -> None:
    x, y = points(wide)[4]
    wide.mouse.move(x, y)
    until(lambda: wide.locator("#card").is_visible())
    words = boxes(wide, "#card b, #card dt, #card dd")
    pictures = boxes(wide, "#card canvas")
    assert len(pictures) == 3, "two probe images, and the strip of their maps"
    assert len(words) >= 7
    for picture, text in itertools.product(pictures, words):
        assert not overlap(picture, text)
    (card,) = boxes(wide, "#card")
    for box in pictures + words:
        assert card[0] <= box[0] <= box[2] <= card[2]
        assert card[1] <= box[1] <= box[3] <= card[3]
    first, second, strip = pictures
    assert first[3] <= strip[1] + 1.5, "the images are above the maps"
    assert second[0] == pytest.approx((strip[0] + strip[2]) / 2, abs=1.5), "each above its own map"


@pytest.mark.wide
def test_neighbours_say_what_they_are_ordered_by(wide: Any) -> None:
    wide.evaluate("atlas.select(0)")
    panel = wide.locator("#panel")
    assert "Ordered by how well their features predict this model's" in panel.inner_text()
    rows = wide.locator("#panel .nearest").filter(has_text="affinity")
    assert [rows.nth(i).locator(".rank").inner_text() for i in range(3)] == ["1", "≈2", "3"]
    lists = wide.evaluate(
        "(() => { const n = atlas.data.nearest; return [0, 1, 2].map((j) => [n.score[j], n.affinity[j]]); })()"
    )
    for i, (score, affinity) in enumerate(lists):
        row = rows.nth(i)
        assert row.locator(".number").inner_text() == f"{score:.3f}"
        assert f"affinity {affinity:.3f}" in row.inner_text()
        widths = [float(row.locator(f"rect.{kind}").get_attribute("width")) for kind in ("score", "bar")]
        assert widths == pytest.approx([100 * max(score, 0), 100 * affinity], abs=1e-3), "one scale from 0 to 1"
    clipped = "[...document.querySelectorAll('h1, #panel h2, .nearest b')].filter((n) => n.scrollWidth > n.clientWidth)"
    assert wide.evaluate(f"{clipped}.length") == 0
    assert wide.locator("#panel h3").filter(has_text="Nearest models in another").count() == 1
    assert "1,024,000" not in panel.inner_text()


def test_numbers_are_as_people_write_them(wide: Any) -> None:
    values = [3_300_000, 25_557_032, 138_357_544, 96_384, 999_960, 999_949_999, 224, 9999, 0.0125, -12_345, 1e-7, 2.5e9]
    assert wide.evaluate("(values) => values.map(atlas.human)", values) == [
        *("3.3M", "25.6M", "138M", "96.4k", "1M", "1B", "224", "9,999", "0.0125", "-12.3k", "1.00e-7", "2.5B"),
    ]


def test_the_legend_covers_no_point_and_collapses(wide: Any, phone: Any) -> None:
    for page in (wide, phone):
        (key,) = boxes(page, "#key")
        for space in (0, 1):
            placed = [point for point in points(page, space) if point[0] is not None and point[0] == point[0]]
            assert len(placed) == (N, SHARED)[space]
            assert not [p for p in placed if key[0] < p[0] < key[2] and key[1] < p[1] < key[3]]
        assert not any(overlap(key, box) for box in boxes(page, ".drawing"))
        page.locator("#legend-button").click()
        assert page.locator("#legend").is_hidden()
        assert page.locator("#legend-button").get_attribute("aria-expanded") == "false"


def test_labels_of_regions_and_models_do_not_overlap_at_any_zoom(wide: Any) -> None:
    kinds = set()
    for zoom in (1, 2, 3, 8):
        labels = wide.evaluate(
            """(zoom) => { const [map] = atlas.maps; Object.assign(map.view, map.whole()); map.view.zoom *= zoom;
              map.view.x = map.places[0]; map.view.y = map.places[1]; atlas.drawNow(); return map.labels; }""",
            zoom,
        )
        kinds |= {label["kind"] for label in labels}
        for a, b in itertools.combinations(labels, 2):
            assert not overlap(a["box"], b["box"]), (zoom, a, b)
    assert kinds == {"region", "model"}
    wide.evaluate("atlas.maps[0].fit(); atlas.drawNow()")
    names = {label["text"] for label in wide.evaluate("atlas.maps[0].labels") if label["kind"] == "region"}
    assert names & {"2D", "3D", "geometric", "semantic"}, names


def test_models_become_pictures_when_the_map_is_zoomed_in(wide: Any) -> None:
    assert wide.evaluate("atlas.drawNow(), atlas.maps[0].pictured") == []
    pictured = wide.evaluate(
        """() => { const [map] = atlas.maps; map.view.x = map.places[0]; map.view.y = map.places[1];
          map.view.zoom *= 4; atlas.drawNow(); return map.pictured; }"""
    )
    assert 0 in pictured


def test_search_marks_every_hit(wide: Any) -> None:
    # How many models have the colour of the mark at the right of their point.
    ringed = """(models) => {
      atlas.drawNow();
      const [map] = atlas.maps;
      const copy = document.createElement('canvas');
      [copy.width, copy.height] = [map.overlay.width, map.overlay.height];
      const context = copy.getContext('2d', { willReadFrequently: true });
      context.drawImage(map.overlay, 0, 0);
      return models.filter((i) => {
        const [x, y] = map.screenOf(i);
        const right = Math.round(x + map.pointSize() + 2.5);
        const [red, green, , alpha] = context.getImageData(right, Math.round(y), 1, 1).data;
        return red > 150 && green < 120 && alpha > 100;
      }).length;
    }"""
    wide.fill("#search", "e")
    hits = wide.evaluate("[...atlas.state.hits]")
    assert hits == [i for i, name in enumerate(wide.evaluate("atlas.names")) if "e" in name.lower()]
    wide.keyboard.press("Tab")
    assert wide.evaluate(ringed, hits) > 0.6 * len(hits), "names may lie over some"
    wide.fill("#search", "")
    assert wide.evaluate(ringed, hits) == 0


def test_the_lasso_selects_on_both_maps_and_its_table_is_downloaded(wide: Any, tmp_path: Path) -> None:
    wide.keyboard.press("s")
    (left, top, right, bottom), _ = boxes(wide, ".drawing")
    wide.mouse.move(left + 3, top + 3)
    wide.mouse.down()
    for x, y in [(right - 3, top + 3), (right - 3, bottom - 3), (left + 3, bottom - 3)]:
        wide.mouse.move(x, y)
    wide.mouse.up()
    assert wide.evaluate("atlas.state.chosen.length") == N
    assert f"{N} models selected" in wide.locator("#table").inner_text()
    with wide.expect_download() as download:
        wide.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "models.csv")
    rows = list(csv.DictReader((tmp_path / "models.csv").open(encoding="utf-8", newline="")))
    assert list(rows[0]) == ["name", "group", "task", "parameters"]
    names = wide.evaluate("atlas.names")
    unquoted = {row["name"].removeprefix("'"): row for row in rows}
    assert sorted(unquoted) == sorted(names)
    assert float(unquoted[names[3]]["parameters"]) == 8000, "as it is, not 8k"
    # A spreadsheet runs what begins with one of these.
    assert not [row["name"] for row in rows if row["name"][0] in "=+-@"]
    wide.locator("th button").filter(has_text="parameters").click()
    wide.locator("th button").filter(has_text="parameters").click()
    assert wide.locator("#table tbody tr td").first.inner_text() == names[-1], "the largest first"
    command = wide.locator("#table .copy").first.get_attribute("data-command")
    *words, condition = shlex.split(command)
    assert words == ["modelspace", "list", "--where"]
    for name in ODD:
        assert "'" + name.replace("'", "''") + "'" in condition
    wide.locator("#table tbody tr").nth(3).focus()
    wide.keyboard.press("Enter")
    assert wide.evaluate("atlas.names[atlas.state.selected]") == names[-4]
    for _ in ("the lasso's mode", "the selected model", "the lasso's models"):
        wide.keyboard.press("Escape")
    assert wide.evaluate("atlas.state.chosen") is None
    assert wide.locator("#table").is_hidden()


def test_a_copied_command_is_one_word_for_the_shell(wide: Any) -> None:
    for name in ODD:
        wide.evaluate("(name) => atlas.select(atlas.names.indexOf(name))", name)
        button = wide.locator("#panel .copy").first
        command = button.get_attribute("data-command")
        dashes = ["--"] if name.startswith("-") else []
        assert shlex.split(command) == ["modelspace", "nearest", "--space", "ours", *dashes, name]
        assert button.inner_text() == command


def test_two_maps_have_one_selection(wide: Any) -> None:
    x, y = points(wide, 1)[2]
    wide.mouse.click(x, y)
    assert wide.evaluate("atlas.state.selected") == 2
    assert wide.evaluate("atlas.maps[1].labels.map((label) => label.text)").count(wide.evaluate("atlas.names[2]")) == 1
    assert wide.evaluate("atlas.maps[0].labels.map((label) => label.text)").count(wide.evaluate("atlas.names[2]")) == 1
    # A model that the second space lacks is on the first map only, and has no list of the second.
    wide.evaluate(f"atlas.select({N - 1})")
    assert wide.locator("#panel h3").filter(has_text="Nearest models in another").count() == 0
    assert "a note on the second map" in wide.locator("#note").inner_text()
    wide.keyboard.press("b")
    assert wide.locator("#map2").is_hidden()


def test_a_phone_has_no_horizontal_scroll_and_large_buttons(phone: Any) -> None:
    assert phone.evaluate("document.documentElement.dataset.theme") == "dark", "as the device is set"
    for step in (
        "1",
        "document.getElementById('menu-button').click()",
        "atlas.select(2)",
        "atlas.choose([1, 2, 30, 31])",
    ):
        phone.evaluate(step)
        assert phone.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [390, 390]
        for box in boxes(phone, "header input, header button, header select, #panel .copy, footer button"):
            assert 0 <= box[0] <= box[2] <= 390, (step, box)
            assert box[3] - box[1] >= 36, (step, box)
        sections = boxes(phone, "header, .drawing, #panel, #table, footer")
        assert not any(overlap(a, b) for a, b in itertools.combinations(sections, 2)), step
        assert max(box[3] for box in sections) <= 844
        assert min(box[3] - box[1] for box in boxes(phone, "#map .drawing")) >= 60, step


@pytest.mark.wide
def test_touch_taps_drags_and_pinches(phone: Any) -> None:
    x, y = points(phone)[0]
    phone.touchscreen.tap(x + 6, y)
    assert phone.evaluate("atlas.state.selected") >= 0
    phone.evaluate("atlas.select(-1)")
    settle(phone)
    touch = phone.context.new_cdp_session(phone)

    def send(kind: str, *fingers: tuple[float, float]) -> None:
        touches = [{"x": fx, "y": fy, "id": i} for i, (fx, fy) in enumerate(fingers)]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": touches})

    (left, top, right, bottom), _ = boxes(phone, ".drawing")
    mx, my = (left + right) / 2, (top + bottom) / 2
    zoom, before = phone.evaluate("atlas.view.zoom"), points(phone)[0]
    send("Start", (mx, my))
    send("Move", (mx + 30, my + 20))
    send("End")
    assert points(phone)[0] == pytest.approx([before[0] + 30, before[1] + 20], abs=1.5)
    assert phone.evaluate("atlas.state.selected") == -1, "a drag is no tap"
    send("Start", (mx - 30, my), (mx + 30, my))
    send("Move", (mx - 60, my), (mx + 60, my))
    send("End")
    assert phone.evaluate("atlas.view.zoom") == pytest.approx(2 * zoom, rel=0.05)
    phone.locator("#menu-button").tap()
    phone.locator("#lasso-button").tap()
    assert phone.locator("#lasso-button").is_hidden(), "the menu makes room for the map"
    phone.locator("#zoom-all").tap()
    (left, top, right, bottom), _ = boxes(phone, ".drawing")
    corners = [(left + 2, top + 2), (right - 2, top + 2), (right - 2, bottom - 2), (left + 2, bottom - 2)]
    send("Start", corners[0])
    for corner in corners[1:]:
        send("Move", corner)
    send("End")
    assert phone.evaluate("atlas.state.chosen.length") == N
