"""Every page: links and anchors exist, commands parse, lines are short, words are plain. Does not need mkdocs."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelspace.cli.app import COMMANDS, load

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "CHANGELOG.md",
    *sorted(DOCS.rglob("*.md")),
]

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")

#: Written by commands that print what is on them: prose rules are for what people write.
GENERATED = {"cli.md"}

#: Words that a reader in machine learning would have to translate, and what to write.
PLAIN = {
    r"foret[eo]ll?": "predict",
    r"anew": "again",
    r"so many": "the number of",
    r"nobody states": "is not given",
    r"laid back": "resampled",
    r"stonework|oddit(?:y|ies)": "yard surfaces, outliers",
    r"beside (?:it|them|that)": "next to",
    r"taken in|takes in": "imported, imports",
    r"told after": "called after",
    r"space of geometry|spaces of geometry": "space of kernels",
}


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "`code`", FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site name them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE):
        plain = re.sub(r"[`*\\]|\]\([^)]*\)|\[", "", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def dead(page: Path, text: str) -> Iterator[str]:
    """Broken links of a page's text; links to other sites are not followed."""
    # Inline code may hold a link's text, and is no link itself.
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(ROOT):
            yield f"{target}: there is no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            yield f"{target}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(dead(page, page.read_text("utf-8"))) == []


def test_dead_links_are_seen() -> None:
    page = DOCS / "index.md"
    assert list(dead(page, "[a](nowhere.md) [b](concepts.md#nothing) [c](concepts.md#what-is-stored-where)")) == [
        "nowhere.md: there is no such file",
        "concepts.md#nothing: there is no such heading",
    ]


def test_every_page_is_on_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = set(re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE))
    assert listed - {"contributing.md", "security.md", "changelog.md"} == {
        str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")
    }


def test_pages_that_code_names_exist() -> None:
    """Hints, docstrings and scripts name pages by their path from the top of the repository."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    files = [ROOT / name for name in tracked if re.search(r"\.(py|toml|sh|sql|yml|md)$|Makefile$", name)]
    for file in files:
        if file.parent.name == "migrations":
            continue  # never changed once released, also where a page that a comment names has moved
        for name in re.findall(r"\bdocs/[\w/.-]+\.md\b", file.read_text("utf-8")):
            assert (ROOT / name).is_file(), f"{file.relative_to(ROOT)} names {name}"


def commands(page: Path) -> Iterator[str]:
    """Command lines in the code blocks of a page, without prompts and comments."""
    for block in FENCE.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.removeprefix("$ ")
            if line.startswith("modelspace "):
                yield re.sub(r"\s+#\s.*$", "", line)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in GENERATED], ids=lambda page: page.stem)
def test_every_command_parses(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line)[1:]
        if words[0] not in COMMANDS and (words[0].startswith("-") or words[0] == "COMMAND"):
            continue
        command = load(words[0])
        rest = words[1:]
        while rest and rest[0] in getattr(command, "commands", {}):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(words[0], rest)


def test_a_command_that_does_not_parse_is_seen() -> None:
    with pytest.raises(Exception, match="--nonsense"):
        load("nearest").make_context("nearest", ["a", "--nonsense"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_short(page: Path) -> None:
    """Tables, pictures and printed output may have lines of any length."""
    prose = re.sub(r"^```(?:text|json)?\n.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in prose.splitlines() if len(line) > 120 and not line.startswith(("|", "!["))]
    assert not long


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in GENERATED], ids=lambda page: str(page.relative_to(ROOT))
)
def test_words_are_plain(page: Path) -> None:
    text = without_code(page.read_text("utf-8"))
    for word, instead in PLAIN.items():
        match = re.search(rf"\b(?:{word})\w*", text, re.IGNORECASE)
        assert match is None, f"{match[0]!r}: write {instead}"


@pytest.mark.parametrize(
    "page", sorted([*(DOCS / "how-to").glob("*.md"), *(DOCS / "lab-book").glob("*.md")]), ids=lambda page: page.stem
)
def test_a_page_begins_with_something_to_do(page: Path) -> None:
    """A command, or a table of tasks, before the first section and within the first lines."""
    beginning = "\n".join(page.read_text("utf-8").split("\n## ")[0].splitlines()[:20])
    assert "```" in beginning or "\n| " in beginning
