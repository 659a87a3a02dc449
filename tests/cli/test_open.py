"""`modelspace open`: the page lies in the cache folder, and a browser is started where there is one."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Any

import pytest
from cli_support import Line, fake_line

from modelspace.cli import browser


class FakeBrowser:
    """A browser that notes what it was asked to show."""

    def __init__(self, name: str = "chromium", works: bool = True) -> None:
        self.name = self.basename = name
        self.works = works
        self.shown: list[str] = []

    def open(self, address: str) -> bool:
        self.shown.append(address)
        return self.works


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    return fake_line(monkeypatch, tmp_path)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeBrowser:
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path / "cache of pages"))
    monkeypatch.setenv("DISPLAY", ":0")
    fake = FakeBrowser()
    monkeypatch.setattr(webbrowser, "get", lambda: fake)
    return fake


def test_the_page_is_in_the_cache_and_the_browser_gets_its_address(
    line: Line, chosen: FakeBrowser, tmp_path: Path
) -> None:
    done = line("open", "--beside", "saliency", "-k", "3", "--format", "json")
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    path = Path(record["file"])
    assert path.parent == tmp_path / "cache of pages"
    assert path.suffix == ".html"
    assert record["browser"] == "opened"
    assert chosen.shown == [path.as_uri()]
    (call,) = [call for call in line.fake.calls if call[0] == "atlas"]
    assert call[2]["beside"] == "saliency"
    assert call[2]["k"] == 3


def test_no_browser_is_started_when_none_is_wanted(line: Line, chosen: FakeBrowser) -> None:
    done = line("open", "--no-browser")
    assert done.stdout.split("\n")[0].endswith(".html")
    assert chosen.shown == []
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "works", "display", "words"),
    [
        ("chromium", True, "", "no display here: open the file in a browser"),
        ("w3m", True, ":0", "only a text browser is installed"),
        ("chromium", False, ":0", "no browser could be started"),
    ],
)
def test_without_a_browser_it_says_so_and_prints_the_path(
    line: Line, chosen: FakeBrowser, monkeypatch: pytest.MonkeyPatch, name: str, works: bool, display: str, words: str
) -> None:
    chosen.basename, chosen.works = name, works
    for variable in ("WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setattr("sys.platform", "linux")
    done = line("open")
    assert done.exit_code == 0
    assert words in done.stderr
    assert done.stdout.split("\n")[0].endswith(".html")
    assert not chosen.shown or name == "chromium"


def test_without_any_browser_webbrowser_raises(chosen: FakeBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none)
    assert "no browser could be started" in str(browser.show(Path("/a.html")))


def test_each_registry_has_its_page(chosen: FakeBrowser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = (browser.page_path(tmp_path / name) for name in ("a", "a", "b"))
    assert first == again != other
    monkeypatch.setenv("MODELSPACE_CACHE", "")
    assert browser.page_path(tmp_path).parent.name.startswith("modelspace-")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path / "file"))
    with pytest.raises(Exception, match="can't be written"):
        browser.page_path(tmp_path)
