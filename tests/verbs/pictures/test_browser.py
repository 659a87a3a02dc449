"""From a registry to the browser: the atlas shows the same of a model as `modelspace nearest` prints."""

from __future__ import annotations

import csv
import io
import os
import shutil
from pathlib import Path

import pytest
from picture_space import NAMES, FakeFit, make
from typer.testing import CliRunner

from modelspace.cli.app import app

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the browser tests need playwright: pip install playwright"
)
if not CHROMIUM:
    pytest.skip("the browser tests need Chromium: apt-get install chromium", allow_module_level=True)

EVIL = "<script>document.title = 'taken'</script>"


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.wide
def test_the_atlas_shows_what_nearest_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeFit(monkeypatch)
    home = str(make(tmp_path / "home").home)
    run("tag", "c", "--task", EVIL, "--home", home)
    page_file = tmp_path / "atlas.html"
    run("atlas", "-k", "3", "--home", home, "--out", str(page_file))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(page_file.as_uri())
        page.locator("#overlay").wait_for()
        for number, name in enumerate(NAMES):
            printed = csv.DictReader(io.StringIO(run("nearest", name, "-k", "3", "--home", home, "--format", "csv")))
            page.evaluate("(i) => atlas.select(i)", number)
            assert page.locator("#panel h2").inner_text() == name
            nearest = "(i) => [0, 1, 2].map((r) => { const at = 3 * i + r, n = atlas.data.nearest;"
            nearest += " return [atlas.data.names[n.models[at]], n.affinity[at], n.low[at], n.high[at]]; })"
            shown = page.evaluate(nearest, number)
            panel = page.locator("#panel").inner_text()
            for row, (other, *numbers) in zip(printed, shown, strict=True):
                assert row["name"] == other
                assert numbers == pytest.approx([float(row[key]) for key in ("affinity", "low", "high")], abs=1e-6)
                assert other in panel
                assert f"{float(row['affinity']):.3f}" in panel
            if name == "c":
                assert EVIL in panel
        assert page.locator("#panel canvas, #panel img").count() >= 1, "a picture of the maps"
        assert page.title() != "taken"
        assert problems == []
        browser.close()
