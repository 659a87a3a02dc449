"""The documentation as a site: built with warnings as errors, and free of anything from the network."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None and "CI" not in os.environ,
    reason="mkdocs is not installed; it comes with the extra 'docs'",
)

#: What a browser fetches of its own accord when it shows a page.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=["'](?P<src>[^"']+)"""
    r"""|<link\b(?=[^>]*\brel=["'](?:stylesheet|preload|preconnect|prefetch|dns-prefetch|icon)["'])[^>]*\bhref=["'](?P<href>[^"']+)"""
    r"""|url\(["']?(?P<url>[^"')]+)|@import ["'](?P<import>[^"']+)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def remote(text: str) -> list[str]:
    fetched = [next(filter(None, match.groups())) for match in FETCHED.finditer(text)]
    return [target for target in fetched if re.match(r"(https?:)?//", target)]


@pytest.mark.wide
def test_no_page_fetches_anything_from_the_network(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 25
    for page in pages:
        assert remote(page.read_text("utf-8")) == [], page.name


def test_a_remote_script_is_seen() -> None:
    text = '<script src="https://example.org/a.js"></script><link rel="stylesheet" href="//example.org/b.css">'
    assert len(remote(text + "@font-face { src: url(https://example.org/c.woff) }")) == 3
    assert remote('<a href="https://example.org">a link is not fetched</a><img src="a.png">') == []


def test_the_python_reference_has_every_method(site: Path) -> None:
    from modelspace import ModelSpace

    page = (site / "reference" / "python.html").read_text("utf-8")
    for name in vars(ModelSpace):
        if not name.startswith("_"):
            assert f'id="modelspace.workspace.ModelSpace.{name}"' in page, name


def test_pages_outside_docs_are_pages_of_the_site(site: Path) -> None:
    page = (site / "contributing.html").read_text("utf-8")
    assert 'href="how-to/add-a-source.html"' in page
    assert "docs/how-to" not in re.sub(r"<code.*?</code>", "", page, flags=re.DOTALL)


@pytest.mark.wide
def test_a_browser_asks_for_nothing_and_the_search_finds(site: Path) -> None:
    """Opened from disk, with the same Chromium as the tests of the atlas."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium")
    asked: list[str] = []
    errors: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((site / "index.html").as_uri())
        page.goto((site / "how-to" / "load-models.html").as_uri())
        page.keyboard.press("/")
        page.keyboard.type("hubs")
        page.wait_for_selector(".md-search-result__item", timeout=15_000)
        found = page.inner_text(".md-search-result__list")
        browser.close()
    assert "Choose a space" in found
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
