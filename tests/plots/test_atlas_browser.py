"""The atlas in a browser: it opens without errors, search finds, click selects, and names stay text.

Needs playwright (pip install playwright) and a Chromium: the one on the PATH, or the file that CHROMIUM names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_support import CHROMIUM, FLAGS, sync_api, until
from synthetic_space import make_space

from modelspace.analysis import build_tree, true_neighbours
from modelspace.plots import make_atlas

EVIL = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>']


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": 1100, "height": 700},
        )
        yield made
        made.close()


@pytest.fixture(scope="module")
def atlas_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    space = make_space(38, with_cosines=False)
    names = [*space.names[:35], *EVIL]
    numbers = true_neighbours(space.affinity, 5)
    values = np.take_along_axis(space.affinity, numbers, axis=1)
    rng = np.random.default_rng(0)
    page = make_atlas(
        names,
        rng.uniform(size=(38, 2)),
        [*space.groups[:36], EVIL[0], None],
        columns={"task": [f"task {i % 4}" for i in range(38)], "parameters": [1000.0 * 2**i for i in range(38)]},
        neighbours=(numbers, values),
        intervals=(values - 0.05, values + 0.05),
        tree=build_tree(names, space.affinity),
        thumbnails={names[0]: rng.normal(size=(16, 32))},
        title="A test atlas",
    )
    return page.save(tmp_path_factory.mktemp("atlas") / "atlas.html")


@pytest.fixture
def page(context: Any, atlas_file: Path) -> Iterator[Any]:
    """The atlas, opened from disk; any console message or network request is a failure."""
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text) if "GPU stall" not in message.text else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    opened.on("request", lambda request: None if request.url.startswith("file:") else problems.append(request.url))
    opened.goto(atlas_file.as_uri())
    until(lambda: opened.evaluate("Boolean(window.atlas)"))
    yield opened
    opened.close()
    assert problems == []


def selected(page: Any) -> str | None:
    name: str | None = page.evaluate("atlas.state.selected < 0 ? null : atlas.names[atlas.state.selected]")
    return name


def click_model(page: Any, number: int) -> None:
    box = page.locator("#overlay").bounding_box()
    x, y = page.evaluate("(i) => atlas.screenOf(i)", number)
    page.mouse.click(box["x"] + x, box["y"] + y)


@pytest.mark.parametrize("renderer", ["webgl", "canvas"])
def test_it_opens_and_draws_every_model(page: Any, atlas_file: Path, renderer: str) -> None:
    page.goto(f"{atlas_file.as_uri()}#renderer={renderer}")
    page.reload()
    until(lambda: page.evaluate("Boolean(window.atlas)"))
    assert page.title() == "A test atlas"
    assert page.evaluate("atlas.renderer") == renderer
    assert page.evaluate("atlas.names.length") == 38
    # Coloured pixels where the first ten models are.
    drawn = page.evaluate(
        """() => {
          atlas.drawNow();
          const source = document.getElementById('points');
          const copy = document.createElement('canvas');
          copy.width = source.width; copy.height = source.height;
          const context = copy.getContext('2d', { willReadFrequently: true });
          context.drawImage(source, 0, 0);
          const ratio = source.width / source.clientWidth;
          return Array.from({ length: 10 }, (_, i) => {
            const [x, y] = atlas.screenOf(i);
            return context.getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data[3];
          });
        }"""
    )
    assert min(drawn) > 100


def test_search_finds_and_selects(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("RESHA")
    hits = page.locator("#hits [role=option]")
    assert hits.all_inner_texts() == ["reshade"]
    page.keyboard.press("Enter")
    assert selected(page) == "reshade"
    assert page.locator("#panel h2").inner_text() == "reshade"
    page.fill("#search", "no such model")
    assert page.locator("#hits").inner_text() == "0 found"


def test_click_selects_and_shows_the_nearest_with_intervals(page: Any) -> None:
    click_model(page, 0)
    assert selected(page) == "autoencoder"
    panel = page.locator("#panel")
    assert "parameters" in panel.inner_text()
    assert "1,000" in panel.inner_text()
    assert panel.locator("canvas.thumbnail").count() == 1
    rows = panel.locator(".nearest")
    assert rows.count() == 5
    assert rows.first.locator("rect.bar").count() == 1
    assert rows.first.locator("line.interval").count() == 3
    first = rows.first.locator("b").inner_text()
    rows.first.click()
    assert selected(page) == first
    page.keyboard.press("Escape")
    assert selected(page) is None


def test_hover_shows_a_card(page: Any) -> None:
    box = page.locator("#overlay").bounding_box()
    x, y = page.evaluate("atlas.screenOf(4)")
    page.mouse.move(box["x"] + x, box["y"] + y)
    until(lambda: page.locator("#card").is_visible())
    name = page.evaluate("atlas.names[4]")
    assert page.locator("#card b").inner_text() == name
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] - 2)
    until(lambda: page.locator("#card").is_hidden())


def test_filter_dims_the_others_and_explains_mistakes(page: Any) -> None:
    def left(condition: str) -> list[int]:
        page.evaluate("(text) => atlas.setFilter(text)", condition)
        numbers: list[int] = page.evaluate("[...atlas.dimmed].flatMap((d, i) => (d ? [] : [i]))")
        return numbers

    tasks = [f"task {i % 4}" for i in range(38)]
    assert left("task = task 2") == [i for i in range(38) if tasks[i] == "task 2"]
    assert left("parameters > 1e6 and not task = 'task 1'") == [
        i for i in range(38) if 1000 * 2**i > 1e6 and tasks[i] != "task 1"
    ]
    assert left("(task = task 0 or task = task 1) and parameters <= 4000") == [0, 1]
    assert left("name ~ CURV") == page.evaluate("atlas.names.flatMap((n, i) => n.includes('curv') ? [i] : [])")
    assert "of 38 models" in page.locator("#note").inner_text()
    for wrong, words in (
        ("colour = red", 'no column "colour"'),
        ("parameters > many", "not a number"),
        ("task > 3", "compares numbers"),
        ("(task = x", "not closed"),
        ("task", "is missing"),
        ("task = x)", "out of place"),
    ):
        assert left(wrong) == list(range(38))
        assert words in page.locator("#filter-error").inner_text()
    assert left("") == list(range(38))
    assert page.locator("#filter-error").is_hidden()


def test_legend_filters_by_a_group(page: Any) -> None:
    page.locator("#legend button").filter(has_text="geometric").click()
    assert page.input_value("#filter") == '"group" = "geometric"'
    assert page.evaluate("atlas.dimmed.filter((d) => !d).length") == page.evaluate(
        "(() => { const c = atlas.data.columns[0]; "
        "return [...c.values].filter((v) => c.texts[v] === 'geometric').length; })()"
    )


def test_tree_and_map_select_together(page: Any) -> None:
    page.keyboard.press("t")
    until(lambda: page.locator("#branches").is_visible())
    page.evaluate("atlas.drawNow()")
    # The merge just below the root is easy to hit: click on its line.
    node = page.evaluate("2 * 38 - 3")
    x, y = page.evaluate("(n) => atlas.treeView.where(n)", node)
    box = page.locator("#branches").bounding_box()
    page.mouse.click(box["x"] + x, box["y"] + y)
    cluster = page.evaluate("atlas.state.cluster")
    assert cluster >= 38
    members = set(page.evaluate("(n) => atlas.treeView.members(n)", cluster))
    shown = set(page.evaluate("[...atlas.dimmed].flatMap((d, i) => (d ? [] : [i]))"))
    assert shown == members
    assert f"Cluster of {len(members)} models" in page.locator("#panel").inner_text()
    page.keyboard.press("Escape")
    assert page.evaluate("atlas.state.cluster") == -1
    # A leaf's name selects it on the map.
    page.mouse.click(box["x"] + box["width"] - 60, box["y"] + 12)
    first = page.evaluate("atlas.data.tree.leaves[atlas.data.tree.order[0]]")
    assert page.evaluate("atlas.state.selected") == first


def test_keys_move_zoom_and_step(page: Any) -> None:
    before = page.evaluate("({ ...atlas.view })")
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    after = page.evaluate("({ ...atlas.view })")
    assert after["zoom"] > before["zoom"]
    assert after["x"] > before["x"]
    page.keyboard.press("0")
    assert page.evaluate("atlas.view.zoom") == pytest.approx(before["zoom"])
    page.evaluate("atlas.select(0)")
    page.keyboard.press("n")
    assert page.evaluate("atlas.state.selected") == page.evaluate("atlas.data.nearest.models[0]")
    page.keyboard.press("p")
    assert page.evaluate("atlas.state.selected") == 0
    page.keyboard.press("?")
    assert "search a name" in page.locator("#help").inner_text()


def test_wheel_zooms_about_the_pointer_and_drag_moves(page: Any) -> None:
    box = page.locator("#overlay").bounding_box()
    x, y = page.evaluate("atlas.screenOf(7)")
    before = page.evaluate("atlas.view.zoom")
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.wheel(0, -400)
    until(lambda: page.evaluate("atlas.view.zoom") > 1.5 * before)
    assert page.evaluate("atlas.screenOf(7)") == pytest.approx([x, y], abs=1.5)
    page.mouse.down()
    page.mouse.move(box["x"] + x + 50, box["y"] + y + 20, steps=4)
    page.mouse.up()
    assert page.evaluate("atlas.screenOf(7)") == pytest.approx([x + 50, y + 20], abs=1.5)
    assert selected(page) is None, "a drag is no click"


def test_a_link_restores_the_view(context: Any, page: Any, atlas_file: Path) -> None:
    page.evaluate("atlas.select(12)")
    page.evaluate("atlas.setFilter('task = task 0')")
    page.select_option("#colour", label="parameters")
    page.locator("#overlay").focus()
    page.keyboard.press("t")
    page.keyboard.press("d")
    page.keyboard.press("+")
    link = page.evaluate("atlas.linkText()")
    again = context.new_page()
    again.goto(f"{atlas_file.as_uri()}#{link}")
    until(lambda: again.evaluate("Boolean(window.atlas)"))
    wanted = "(({ selected: s, filter: f, colour: c, tree: t, dark: d }) => ({ s, f, c, t, d }))(atlas.state)"
    assert again.evaluate(wanted) == page.evaluate(wanted)
    assert again.evaluate(wanted) == {
        "s": 12,
        "f": "task = task 0",
        "c": 2,
        "t": True,
        "d": page.evaluate("atlas.state.dark"),
    }
    assert again.evaluate("atlas.view.x") == pytest.approx(page.evaluate("atlas.view.x"), abs=1e-6)
    assert again.evaluate("atlas.linkText()") == link
    again.close()


def test_evil_names_stay_text(page: Any) -> None:
    """With the fixture: no dialog, no error, no request."""
    for number, name in enumerate(EVIL, start=35):
        page.evaluate("(i) => atlas.select(i)", number)
        assert page.locator("#panel h2").inner_text() == name
        page.fill("#search", name)
        assert page.locator("#hits [role=option]").all_inner_texts() == [name]
        page.keyboard.press("Enter")
        box = page.locator("#overlay").bounding_box()
        x, y = page.evaluate("(i) => atlas.screenOf(i)", number)
        page.mouse.move(box["x"] + x, box["y"] + y)
    page.keyboard.press("t")
    page.wait_for_timeout(100)
    assert page.locator("#legend").inner_text().count(EVIL[0]) == 1
    assert page.locator("script").count() == 2
    assert page.locator("img").count() == 0


def test_it_shows_itself_in_a_notebook(context: Any, tmp_path: Path) -> None:
    notebook = tmp_path / "notebook.html"
    notebook.write_text(make_atlas([*EVIL, "b"], np.eye(4)[:, :2])._repr_html_(), encoding="utf-8")
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(notebook.as_uri())
    inside = until(lambda: next((frame for frame in opened.frames if frame != opened.main_frame), None))
    until(lambda: inside.evaluate("Boolean(window.atlas)"))
    inside.evaluate("atlas.select(0)")
    assert inside.locator("#panel h2").inner_text() == EVIL[0]
    opened.wait_for_timeout(300)
    assert [text for text in problems if "GPU stall" not in text] == []
    opened.close()


def test_without_webgl_canvas_takes_over(context: Any, atlas_file: Path) -> None:
    opened = context.new_page()
    opened.add_init_script(
        "const real = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        "  return kind === 'webgl' ? null : real.call(this, kind, ...rest); };"
    )
    opened.goto(atlas_file.as_uri())
    until(lambda: opened.evaluate("Boolean(window.atlas)"))
    assert opened.evaluate("atlas.renderer") == "canvas"
    assert opened.evaluate("atlas.maps[0].points.isSoftware") is None, "it was asked for WebGL, and refused"
    click_model(opened, 3)
    assert opened.evaluate("atlas.state.selected") == 3
    opened.close()


@pytest.mark.long
def test_100000_models_open_and_pan(context: Any, tmp_path: Path) -> None:
    n = 100_000
    rng = np.random.default_rng(0)
    file = make_atlas(
        [f"model_{i:06d}" for i in range(n)], rng.normal(size=(n, 2)), columns={"size": rng.uniform(size=n)}
    ).save(tmp_path / "large.html")
    opened = context.new_page()
    opened.goto(file.as_uri() + "#renderer=webgl")
    until(lambda: opened.evaluate("Boolean(window.atlas)"), 30)
    assert opened.evaluate("atlas.renderer") == "webgl"
    # What the page itself does per frame; filling the pixels is the graphics card's work, which this machine may lack.
    took = opened.evaluate(
        """() => Array.from({ length: 15 }, () => {
          atlas.view.x += 0.001;
          const before = performance.now();
          atlas.drawNow();
          return performance.now() - before;
        }).sort((a, b) => a - b)"""
    )
    assert took[0] < 1000 / 60, f"a frame at 60 per second has 16.7 ms; {took} were needed"
    by_webgl = min(opened.evaluate("atlas.measure(3)"))
    opened.close()
    # Without a graphics card, writing the pixels is many times faster than WebGL on the processor, and is chosen.
    opened = context.new_page()
    opened.goto(file.as_uri())
    until(lambda: opened.evaluate("Boolean(window.atlas)"), 30)
    if opened.evaluate("atlas.renderer") == "canvas":
        assert min(opened.evaluate("atlas.measure(9)")) < by_webgl
    opened.fill("#search", "099999")
    until(lambda: opened.locator("#hits [role=option]").count() == 1)
    assert opened.evaluate("[...atlas.state.hits]") == [99999]
    opened.close()
