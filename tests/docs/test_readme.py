"""The README's commands and code, run as a newcomer would, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FACTORY = """
import torch


def resnet():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 7, 8),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 5),
    )
"""


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with only the model file that the examples use."""
    (tmp_path / "mymodels.py").write_text(FACTORY)
    make = "import mymodels, safetensors.torch as s; s.save_file(mymodels.resnet().state_dict(), 'resnet.safetensors')"
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, check=True)
    return tmp_path


def run(command: list[str] | str, folder: Path) -> str:
    # The `modelspace` of this environment, and no registry but the one that the commands make.
    environment = {key: value for key, value in os.environ.items() if key != "MODELSPACE_HOME"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        shell=isinstance(command, str),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.wide
@pytest.mark.slow
def test_the_five_lines_of_use_do_what_they_say(folder: Path) -> None:
    (example,) = [block for block in blocks("sh") if "modelspace init" in block]
    lines = example.replace("\\\n", " ").strip().splitlines()
    assert len(lines) == 5
    printed = {line: run(line, folder) for line in lines}
    assert "edge2d" in printed["modelspace nearest resnet"]
    assert "edge2d" in printed["modelspace sql \"FROM nearest_by_affinity('resnet', 5)\""]


def test_the_shipped_registry_answers_as_shown() -> None:
    (shown,) = [block for block in blocks("") if block.startswith("$ modelspace nearest rgb2depth -k 4\n")]
    printed = run("modelspace nearest rgb2depth -k 4", ROOT)
    for line in shown.splitlines()[1:]:
        assert any(real.startswith(line) for real in printed.splitlines()), f"{line}\nis not printed:\n{printed}"


def test_it_is_short_and_has_one_picture() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    assert text.count("![") == 1


@pytest.mark.long
@pytest.mark.slow
def test_the_python_example_runs(folder: Path) -> None:
    (example,) = blocks("python")
    run([sys.executable, "-c", f"import mymodels\nmy_module = mymodels.resnet()\n{example}"], folder)
