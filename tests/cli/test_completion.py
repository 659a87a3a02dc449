"""Shell completion."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_support import Line, fake_line


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
