"""Help texts: complete, with examples that parse, and the page in docs/ generated from them."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from modelspace.cli.app import COMMANDS, load

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "make_cli_docs.py"


def script() -> Any:
    spec = importlib.util.spec_from_file_location("make_cli_docs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves() -> Iterator[tuple[str, Any]]:
    for name in COMMANDS:
        command = load(name)
        if below := getattr(command, "commands", None):
            yield from ((f"{name} {each}", member) for each, member in below.items())
        else:
            yield name, command


LEAVES = dict(leaves())


def examples(command: Any) -> list[str]:
    text = command.epilog.partition("Examples:\n")[2]
    return [entry.strip() for entry in re.sub(r"\\\n\s*", "", text).strip().split("\n")]


def test_the_page_is_up_to_date() -> None:
    made = script()
    assert made.PAGE.read_text("utf-8") == made.page(), "run 'python scripts/make_cli_docs.py'"
    assert made.TABLE.read_text("utf-8") == made.words_text(), "run 'python scripts/make_cli_docs.py'"


@pytest.mark.wide
def test_the_check_fails_when_the_page_is_old(tmp_path: Path) -> None:
    copy = tmp_path / "scripts" / SCRIPT.name
    copy.parent.mkdir()
    copy.write_text(SCRIPT.read_text("utf-8"), "utf-8")
    run = [sys.executable, str(copy)]
    options: dict[str, Any] = {"cwd": ROOT, "env": {"PYTHONPATH": str(ROOT)}, "timeout": 60}
    assert subprocess.run([*run, "--check"], capture_output=True, **options).returncode == 1
    assert subprocess.run(run, **options).returncode == 0
    assert subprocess.run([*run, "--check"], **options).returncode == 0


def test_every_file_of_a_command_is_in_the_table_and_documented() -> None:
    files = {path.stem for path in (ROOT / "modelspace" / "cli").glob("*.py")}
    having = {
        name
        for name in files - {"__init__"}
        if re.search(r"^def command\(|^group = ", (ROOT / f"modelspace/cli/{name}.py").read_text("utf-8"), re.MULTILINE)
    }
    assert having == set(COMMANDS)
    page = script().PAGE.read_text("utf-8")
    for words in LEAVES:
        assert f"## modelspace {words}\n" in page


@pytest.mark.parametrize("words", LEAVES)
def test_every_option_says_what_it_does(words: str) -> None:
    command = LEAVES[words]
    assert command.help
    for param in command.params:
        assert param.help, param.name
        assert param.help.rstrip().endswith((".", "'", ")")), param.help


@pytest.mark.parametrize("words", LEAVES)
def test_the_summary_fits_its_line(words: str) -> None:
    context = typer.Context(LEAVES[words], info_name=words, terminal_width=80)
    first = LEAVES[words].help.split("\n\n")[0].replace("\n", " ").partition(". ")[0].rstrip(".")
    assert len(first) <= 64, first
    assert context.command.help


@pytest.mark.parametrize("words", LEAVES)
def test_the_examples_parse(words: str) -> None:
    command = LEAVES[words]
    lines = examples(command)
    assert lines
    for text in lines:
        told = shlex.split(text)
        told = told[told.index("modelspace") + 1 :]
        if ">" in told:
            told = told[: told.index(">")]
        assert " ".join(told).startswith(words), text
        # Parses, converts and refuses unknown words, and runs nothing.
        command.make_context(words, told[len(words.split()) :])


def test_an_example_that_does_not_parse_is_seen() -> None:
    with pytest.raises(Exception, match="--nonsense"):
        LEAVES["list"].make_context("list", ["--nonsense"])


def test_the_defaults_that_help_texts_state_are_the_real_ones() -> None:
    from modelspace.embedding.embed import DEFAULT_BATCH_SIZE
    from modelspace.spaces import create, probe_sets

    texts = {param.name: param.help for param in LEAVES["init"].params}
    assert f"Default: {create.DEFAULT_IMAGES}" in texts["images"]
    assert f"Default: {create.DEFAULT_CANVAS}" in texts["canvas"]
    assert f"Default: {create.DEFAULT_BITS}" in texts["bits"]
    assert f"Default: {probe_sets.DEFAULT_PROBES}" in texts["probes"]
    assert f"Default: {create.DEFAULT_METHODS[0]}" in texts["method"]
    assert f"Default: {DEFAULT_BATCH_SIZE}" in {p.name: p.help for p in LEAVES["add"].params}["batch_size"]
