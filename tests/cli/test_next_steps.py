"""What the commands about tasks tell to type next can be done: only a task with images can be tried."""

from __future__ import annotations

import shutil
from pathlib import Path

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
