"""What the commands about tasks print below a table: what to type next can be done, and what scores are of."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import cli_support
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from modelspace.cli.app import app

ROOT = Path(__file__).resolve().parents[2]


def printed(home: Path, *words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--home", str(home)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped registry, and a folder of two classes."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(ROOT / "registry.duckdb", folder)
    shutil.copytree(ROOT / "index", folder / "index")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    for number, image in enumerate(pixels):
        file = folder / "images" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return folder


def test_a_task_with_images_is_tried(home: Path) -> None:
    assert "next: modelspace try pairs\n" in printed(home, "task", "add", "pairs", str(home / "images"))
    assert "next: modelspace try pairs --budget 8\n" in printed(home, "nearest", "--task", "pairs", "-k", "1")
    assert "next:" not in printed(home, "nearest", "--task", "pairs", "-k", "1", "--quiet")


def test_a_task_without_images_is_only_observed(home: Path) -> None:
    assert "next: modelspace observe private MODEL SCORE\n" in printed(home, "task", "add", "private")
    assert "next:" not in printed(home, "nearest", "--task", "private", "-k", "1")


@pytest.mark.parametrize(
    ("how", "shown"),
    [
        ("ridge", "accuracy: on 120 test images, which say what to expect and choose nothing"),
        ("finetune", "that chose the epoch"),
        ("script", "accuracy: what the program printed, which ranks the finalists"),
    ],
)
def test_try_says_what_the_scores_are_of(how: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    trials = cli_support.trials()
    trials.how = how
    importlib.import_module("modelspace.cli.try")._print(trials)
    printed = " ".join(capsys.readouterr().out.split())
    assert shown in printed
    assert ("choose nothing" in printed) == (how != "script")
    assert ("chose the epoch" in printed) == (how == "finetune")
