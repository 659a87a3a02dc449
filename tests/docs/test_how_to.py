"""How-to pages that change the package: their changes are applied to a copy of it, and their tests are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "how-to"
BLOCK = re.compile(r'^```(python|diff) title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(kind, file, text) of each titled block of a page."""
    found = [(match[1], match[2], match[3]) for match in BLOCK.finditer((PAGES / page).read_text("utf-8"))]
    assert found, page
    return found


def patched(text: str, diff: str) -> str:
    """A file's text after a diff without line numbers, whose context must occur in the file exactly once.

    >>> patched("a\\nb\\n", " a\\n-b\\n+c\\n")
    'a\\nc\\n'
    """
    lines = diff.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    assert text.count(old) == 1, f"this stands {text.count(old)} times in the file:\n{old}"
    return text.replace(old, new)


def carry_out(pages: Sequence[str], folder: Path) -> list[str]:
    """Copy the package and apply the changes of all pages; returns the files of the pages' tests."""
    left_out = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(ROOT / "modelspace", folder / "modelspace", ignore=left_out)
    for file in (ROOT / "modelspace").rglob("*.safetensors"):
        (folder / file.relative_to(ROOT)).symlink_to(file)
    tests = set()
    for kind, name, text in (block for page in pages for block in blocks(page)):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if kind == "python":
            assert not (ROOT / name).exists(), f"{name} is there already"
            file.write_text(text, "utf-8")
        else:
            file.write_text(patched((file if file.exists() else ROOT / name).read_text("utf-8"), text), "utf-8")
        if name.startswith("tests/"):
            tests.add(name)
    return sorted(tests)


@pytest.mark.wide
@pytest.mark.slow
def test_the_changes_work(tmp_path: Path) -> None:
    """All of them at once: they don't conflict."""
    pages = sorted(page.name for page in PAGES.glob("add-*.md"))
    assert len(pages) == 4
    tests = carry_out(pages, tmp_path)
    assert len(tests) == 5
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *tests]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout
    lint = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), "modelspace", "tests"]
    done = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", sorted(PAGES.glob("add-*.md")), ids=lambda page: page.stem)
def test_the_file_list_names_what_is_changed(page: Path) -> None:
    """Each row is a file that exists, or that the page says is new."""
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", page.read_text("utf-8"), re.MULTILINE)
    assert rows
    for name, change in rows:
        assert change.startswith("new") != (ROOT / name).exists(), name
    changed = {name for _, name, _ in blocks(page.name)} if "title=" in page.read_text("utf-8") else set()
    assert changed <= {name for name, _ in rows}


def test_a_change_that_does_not_fit_is_seen() -> None:
    with pytest.raises(AssertionError, match="stands 0 times"):
        patched("a\n", " b\n+c\n")
