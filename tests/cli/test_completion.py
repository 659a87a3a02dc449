"""Shell completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import Line, fake_line
from tiny import add, net, space

from modelspace.cli import words


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    return fake_line(monkeypatch, tmp_path)


def completed(line: Line, text: str) -> set[str]:
    """The completions that bash offers for the last word of `text`."""
    result = line(
        env={
            "_MODELSPACE_COMPLETE": "complete_bash",
            "COMP_WORDS": text,
            "COMP_CWORD": str(len(text.split(" ")) - 1),
        }
    )
    assert result.exit_code == 0, result.output
    return set(result.stdout.split())


def test_commands(line: Line) -> None:
    assert completed(line, "modelspace re") == {"remove", "rename", "rebuild", "report", "restore"}


def test_options(line: Line) -> None:
    assert completed(line, "modelspace nearest --wh") == {"--where"}


def test_names_from_the_registry(line: Line) -> None:
    assert completed(line, "modelspace show ") == {"depth", "normals", "edges"}
    assert completed(line, "modelspace nearest no") == {"normals"}
    assert completed(line, "modelspace nearest depth --space s") == {"saliency"}
    assert completed(line, "modelspace probes show r") == {"rooms"}


def test_methods_and_formats(line: Line) -> None:
    assert completed(line, "modelspace init --method sal") == {"saliency"}
    assert completed(line, "modelspace list --format ") == {"table", "json", "csv"}


def test_without_a_registry_nothing_is_offered_or_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = fake_line(monkeypatch, tmp_path, registry=False)
    assert completed(line, "modelspace show ") == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_the_shell_names_the_program(line: Line, shell: str) -> None:
    result = line(env={"_MODELSPACE_COMPLETE": f"source_{shell}"})
    assert "modelspace" in result.stdout
    assert "_MODELSPACE_COMPLETE" in result.stdout


# ---- without typer (modelspace.cli.words)

#: Lines that need no typer, with a word of each kind.
QUICK = (
    "modelspace re",
    "modelspace probes sh",
    "modelspace nearest --w",
    "modelspace show ",
    "modelspace nearest no",
    "modelspace nearest -k 3 depth --space s",
    "modelspace compare depth n",
    "modelspace tag depth nor",
    "modelspace probes show r",
    "modelspace list -q --format ",
)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, line: Line) -> None:
    """The names of the fake registry, as they would be read from a real one."""
    known = {
        "models": ["depth", "normals", "edges"],
        "spaces": ["gradient_x_input", "saliency"],
        "probe_sets": ["rooms"],
        "tasks": [],
        "tags": ["group"],
    }
    monkeypatch.setattr(words, "_names", lambda home: known)


@pytest.mark.parametrize("text", QUICK)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_typer_and_the_table_offer_the_same(
    line: Line, names: None, monkeypatch: pytest.MonkeyPatch, shell: str, text: str
) -> None:
    place = str(len(text.split(" ")) - 1)
    env = {
        words.VARIABLE: f"complete_{shell}",
        "COMP_WORDS": text,
        "COMP_CWORD": place,
        "_TYPER_COMPLETE_ARGS": text,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    quick = words.answer()
    if quick is None:
        assert shell != "bash", "help texts are all that the table lacks"
        assert text.split()[-1] in ("re", "sh", "--w")
    else:
        assert sorted(quick.split("\n")) == sorted(line(env=env).stdout.strip("\n").split("\n"))


@pytest.mark.parametrize(
    "text",
    [
        "modelspace nearest -- a",
        "modelspace nearest --nonsense a",
        "modelspace show 'a",
        "modelspace nonsense a",
        "modelspace show depth ed",
    ],
)
def test_what_the_table_does_not_know_is_left_to_typer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(words.VARIABLE, "complete_bash")
    monkeypatch.setenv("COMP_WORDS", text)
    monkeypatch.setenv("COMP_CWORD", str(len(text.split(" ")) - 1))
    assert words.answer() is None


@pytest.mark.wide
def test_the_file_of_names_follows_the_registry(tmp_path: Path) -> None:
    registry = space(tmp_path, images=4, methods=["gradient_x_input"])
    home = ["show", "--home", str(tmp_path)]
    assert words.candidates(home, "") == []
    add(registry, "first", net(1), tags={"group": "a"})
    assert words.candidates(home, "f") == ["first"]
    file = tmp_path / "index" / words.NAMES
    stored = file.read_text("utf-8")
    file.write_text(stored.replace('"first"', '"kept"'), "utf-8")
    assert words.candidates(home, "") == ["kept"], "an unchanged registry is not opened"
    for damaged in ("", "[]", '{"state": 1}', stored[:40], stored.replace('["first"]', "[1]")):
        file.write_text(damaged, "utf-8")
        assert words.candidates(home, "") == ["first"]
    assert words.candidates(["tag", "--home", str(tmp_path), "--unset"], "") == ["group"]
    registry.rename("first", "second")
    assert words.candidates(home, "") == ["second"]


def test_a_folder_without_write_access_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelspace import temporary

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    space(tmp_path, images=4, methods=["gradient_x_input"])
    monkeypatch.setattr(temporary, "replacing", refuse)
    assert words.candidates(["spaces", "rename", "--home", str(tmp_path)], "") == ["gradient_x_input"]


def test_a_known_name_needs_neither_typer_nor_the_registry(tmp_path: Path) -> None:
    space(tmp_path, images=4, methods=["gradient_x_input"])
    assert words.candidates(["show", "--home", str(tmp_path)], "") == []
    program = (
        "import os, sys\n"
        "heavy = ('typer', 'duckdb', 'numpy', 'rich')\n"
        "def leave(code):\n    print([name for name in heavy if name in sys.modules])\n    sys.exit(code)\n"
        "os._exit = leave\n"
        "from modelspace.cli import main\nmain()\n"
    )
    text = f"modelspace spaces rename --home {tmp_path} "
    env = {**os.environ, words.VARIABLE: "complete_bash", "COMP_WORDS": text, "COMP_CWORD": "5"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=env)
    assert done.stdout.split("\n") == ["gradient_x_input", "[]", ""], done.stderr
