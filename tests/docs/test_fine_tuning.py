"""docs/how-to/fine-tuning.md: its scripts run, its command line is theirs, its table is the code's."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelspace.embedding.finetune import finetune
from modelspace.tasks import data
from modelspace.tasks.script import PLACEHOLDERS, run_script, write_split
from modelspace.tasks.splits import split

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "fine-tuning.md").read_text("utf-8")
SCRIPTS = dict(re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE))


def stripes(folder: Path) -> Path:
    """Sixty images of horizontal or vertical stripes of some width and phase, in two subfolders."""
    generator = np.random.default_rng(0)
    for number in range(60):
        width, phase = generator.uniform(6, 14), generator.uniform(0, 7)
        wave = 128 + 80 * np.sin(np.arange(64) / width * 6.3 + phase)
        image = np.broadcast_to(wave, (64, 64)) + generator.normal(0, 20, (64, 64))
        name = ("lying", "upright")[number % 2]
        (folder / name).mkdir(parents=True, exist_ok=True)
        image = image if number % 2 else image.T
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).convert("RGB").save(folder / name / f"{number}.png")
    return folder


def test_every_placeholder_is_on_the_page() -> None:
    assert dict(re.findall(r"^\| `\{(\w+)\}` \| (.*) \|$", PAGE, re.MULTILINE)) == PLACEHOLDERS


def test_the_recipe_has_the_defaults_of_the_code() -> None:
    defaults = {name: each.default for name, each in inspect.signature(finetune).parameters.items()}
    shown = re.search(
        r"AdamW, (\d+) epochs in batches of (\d+), learning rate ([\d.]+) for the model and ([\d.]+) for the head, "
        r"weight decay ([\d.]+)",
        PAGE,
    )
    assert shown is not None
    names = ("epochs", "batch_size", "learning_rate", "head_learning_rate", "weight_decay")
    assert [float(value) for value in shown.groups()] == [defaults[name] for name in names]


@pytest.mark.wide
@pytest.mark.slow
def test_the_own_script_works_with_a_model_of_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = data.read(stripes(tmp_path / "my data"))
    (tmp_path / "finetune.py").write_text(SCRIPTS["finetune.py"], "utf-8")
    command = re.search(r'--run "python (finetune.py [^"]*)"', PAGE)
    assert command is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    values = {"uri": "zoo:curvature", "seed": "0", **write_split(images, split(images, 0), tmp_path)}
    result = run_script(f"{sys.executable} {command[1]}", values)
    assert result.score >= 0.75  # by chance 0.5
    assert result.last_lines[0].startswith("epoch 0: loss ")


@pytest.mark.long
@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tune.py").write_text(SCRIPTS["tune.py"], "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run(
        [sys.executable, "tune.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    score, epoch, settings = done.stdout.strip().split(" ", 2)
    assert float(score) >= 0.5
    assert 0 <= int(epoch) <= 2
    assert ast.literal_eval(settings)["n_train"] == 12
