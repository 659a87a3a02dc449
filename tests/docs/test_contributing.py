"""CONTRIBUTING.md names files, commands and rules that exist; one version; what a package index shows."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

import modelspace

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
ROWS = re.findall(r"^\| (\d+) \| (.+) \| (.+) \|$", TEXT, re.MULTILINE)


def test_twenty_changes_each_with_a_file_that_exists() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 21))
    answers = [re.findall(r"`([^`]+)`", answer) for _, _, answer in ROWS]
    for files in answers:
        assert files
        for name in files:
            assert (ROOT / name).exists(), name
            assert name.startswith("modelspace/")
    assert len({tuple(files) for files in answers}) == 20
    assert len({change for _, change, _ in ROWS}) == 20


def test_every_file_that_it_names_exists() -> None:
    named = re.findall(r"`((?:modelspace|tests|scripts|docs)/[^`]*|[\w.-]+\.(?:txt|md|toml))`", TEXT)
    assert len(named) > 20
    for name in named:
        assert (ROOT / name).exists(), name


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        named = set(re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", page.read_text("utf-8"), re.MULTILINE))
        assert {word for pair in named for word in pair if word} <= targets, page


def test_what_quick_runs_exists() -> None:
    text = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    (files,) = re.findall(r"^QUICK := (.*)$", text, re.MULTILINE)
    for name in files.split():
        assert (ROOT / name).exists(), name


def test_what_is_called_stable_is_there() -> None:
    for name in modelspace.__all__:
        assert hasattr(modelspace, name)


def test_there_is_one_version() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "modelspace.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", modelspace.__version__)
    assert importlib.metadata.version("modelspace-db") == modelspace.__version__, "install the package again"
    assert f"## {modelspace.__version__} " in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_package_is_typed() -> None:
    assert (ROOT / "modelspace" / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["modelspace"]


def test_links_of_the_project() -> None:
    urls = PROJECT["project"]["urls"]
    assert set(urls) == {"Homepage", "Documentation", "Issues", "Changelog"}
    assert all(url.startswith(urls["Homepage"]) for url in urls.values())


def test_every_dependency_has_its_reason_and_its_version() -> None:
    """One line in the changelog for each of an extra's packages, and a pinned version."""
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8").lower()
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    for name in ("docs", "dev"):
        for requirement in PROJECT["project"]["optional-dependencies"][name]:
            package = re.split(r"[\[<>=]", requirement)[0]
            if package == "modelspace-db":
                continue
            assert re.search(rf"^- .*\b{package}\b", changelog, re.MULTILINE), f"{package} has no reason"
            assert package == "playwright" or re.search(rf"^{package}==", pins, re.MULTILINE), package


def test_issue_templates_and_hooks_can_be_read() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = {file.stem: yaml.safe_load(file.read_text("utf-8")) for file in folder.glob("*.yml")}
    assert set(forms) == {"bug", "model-does-not-load", "idea", "config"}
    for name, form in forms.items():
        if name != "config":
            assert {"name", "description", "body"} <= set(form)
            ids = [part["id"] for part in form["body"]]
            assert len(ids) == len(set(ids))
            assert all(part["type"] in ("textarea", "input") for part in form["body"])
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
