"""Training is a function of its job: reproducible, also after SIGKILL."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from modelspace.errors import ConflictError
from modelspace.lab import training
from modelspace.lab.tasks import FACE_TASKS, TASKS, task
from modelspace.lab.training import Data, Job
from modelspace.worlds import rooms
from modelspace.zoo.architectures import ARCHITECTURES

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_zoo.py"
JOB = Job("depth", "rgb2depth", steps=6, images=24, batch=4)


@pytest.fixture(autouse=True)
def one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def synthetic(name: str = "rgb2depth", count: int = 24) -> Data:
    generator = torch.Generator().manual_seed(1)
    t = task(name)
    rgb = torch.randint(0, 256, (count, 3, 64, 64), generator=generator).to(torch.uint8)
    if t.classifies:
        return Data(rgb, torch.randint(0, t.outputs, (count,), generator=generator))
    return Data(rgb, torch.randn(count, t.outputs, 32, 32, generator=generator))


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.first(1)
@pytest.mark.parametrize("name", ["rgb2depth", "denoise", "class_1000"])
def test_same_job_gives_the_same_weights_bit_for_bit(name: str) -> None:
    job, data = replace(JOB, task=name), synthetic(name)
    first = training.train(job, data)[0]
    torch.rand(3)  # the global random state is not used
    assert same(first, training.train(job, data)[0])
    assert not same(first, training.train(replace(job, seed=1), data)[0])


@pytest.mark.wide
def test_training_lowers_the_loss() -> None:
    data = synthetic()
    data = replace(data, label=data.rgb.float().mean((1, 2, 3)).sub(127)[:, None, None, None].expand(-1, 1, 32, 32))
    losses: list[float] = []
    training.train(replace(JOB, steps=40), data, every=10, on_checkpoint=lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.7 * losses[0]


def test_a_checkpoint_of_another_job_is_refused(tmp_path: Path) -> None:
    training.train(JOB, synthetic(), tmp_path / "c.pt", every=3)
    with pytest.raises(ConflictError, match="another job"):
        training.train(replace(JOB, seed=9), synthetic(), tmp_path / "c.pt")


def options(folder: Path) -> list[str]:
    words = "--tasks rgb2depth --steps 24 --images 8 --held-out 9 --every 4"
    return [*words.split(), "--cache", str(folder / "cache"), "--out", str(folder / "out")]


def script() -> ModuleType:
    """scripts/train_zoo.py as a module."""
    spec = importlib.util.spec_from_file_location("train_zoo", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_zoo"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
def test_resuming_after_sigkill_gives_the_weights_of_an_uninterrupted_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uninterrupted, interrupted = tmp_path / "whole", tmp_path / "broken"
    process = subprocess.Popen([sys.executable, str(SCRIPT), *options(interrupted)], stdout=subprocess.DEVNULL)
    checkpoint = interrupted / "cache" / "checkpoints" / "rgb2depth.pt"
    until = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < torch.load(checkpoint, weights_only=True)["step"] < 24
    assert not (interrupted / "out").exists()

    run = script().main
    assert run(options(interrupted)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed if not line.startswith("  ")] == ["rgb2depth"]  # one line per task
    assert "  rgb2depth step 4 " not in "\n".join(printed)  # it resumed
    (uninterrupted / "cache").mkdir(parents=True)
    (interrupted / "cache" / "rooms").rename(uninterrupted / "cache" / "rooms")
    assert run(options(uninterrupted)) == 0

    files = [folder / "out" / "weights" / "rgb2depth.safetensors" for folder in (uninterrupted, interrupted)]
    assert files[0].read_bytes() == files[1].read_bytes()
    entries = [
        json.loads((folder / "out" / "zoo.json").read_text())["rgb2depth"] for folder in (uninterrupted, interrupted)
    ]
    assert [entry.pop("seconds") > 0 for entry in entries] == [True, True]
    assert entries[0] == entries[1]


def test_the_script_has_all_tasks_and_refuses_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    module = script()
    assert set(module.TASKONOMY) == set(TASKS)
    assert all(
        job.task in {**TASKS, **FACE_TASKS} and job.architecture in ARCHITECTURES for job in module.JOBS.values()
    )
    assert module.main(["--tasks", "nonsense"]) == 1
    assert "no network nonsense" in capsys.readouterr().err


def test_the_table_in_the_docs_is_that_of_zoo_json() -> None:
    module = script()
    page = (module.ROOT / "docs" / "lab-book" / "zoo.md").read_text()
    assert module.with_table(page, module.ROOT / "modelspace" / "zoo") == page


def only_part(cache: Path) -> training.Render:
    (part,) = training.rendered(cache, 5, 3, 16)
    assert isinstance(part, training.Render)
    return part


def test_rendered_images_round_trip_through_the_cache(tmp_path: Path) -> None:
    first = only_part(tmp_path)
    files = sorted(tmp_path.rglob("*.safetensors"))
    before = [file.stat().st_mtime_ns for file in files]
    cached = only_part(tmp_path)
    assert [file.stat().st_mtime_ns for file in files] == before
    assert torch.equal(first.rgb, cached.rgb)
    fresh = rooms.render(rooms.sample_scenes(5, 3, training.WORLD), 16)
    assert torch.allclose(first.rgb, fresh.rgb, atol=0.5 / 255 + 1e-6)
    assert torch.allclose(first.normals, fresh.normals, atol=1e-3)
    assert torch.equal(first.surface_id, fresh.surface_id)


def test_readout_agrees_with_a_slow_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    output = torch.tensor(rng.normal(size=(60, 4))).float()
    t = task("room_layout")
    value = torch.tensor(rng.normal(size=(4, 6)) @ np.eye(6)).float()
    target = output @ value + 0.3 * torch.tensor(rng.normal(size=(60, 6))).float()
    x, y = output.double().numpy(), target.double().numpy()
    mean, std = x[:40].mean(0), x[:40].std(0, ddof=1)
    a, b, y_mean = (x[:40] - mean) / std, (x[40:] - mean) / std, y[:40].mean(0)
    extended = np.vstack([a, np.sqrt(30.0) * np.eye(4)])  # ridge as least squares with extra rows
    weights = np.linalg.lstsq(extended, np.vstack([y[:40] - y_mean, np.zeros((4, 6))]), rcond=None)[0]
    expected = ((y[40:] - y_mean - b @ weights) ** 2).sum() / ((y[40:] - y_mean) ** 2).sum()
    assert training.readout(t, output, target) == pytest.approx(expected, rel=1e-6)
    assert training.readout(t, torch.randn(60, 4), target) > 0.8  # no information


def test_readout_of_a_dense_label_uses_the_cells_around_it() -> None:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(30, 3, 4, 4, generator=generator)
    target = torch.nn.functional.interpolate(output[:, :1], scale_factor=4)
    assert training.readout(task("rgb2depth"), output, target) < 0.2
    assert training.readout(task("rgb2depth"), output.flip(-1), target) > 0.8


def test_adding_an_entry_keeps_the_others(tmp_path: Path) -> None:
    for name in ("b", "a", "b"):
        training.save_entry(tmp_path, name, {"of": name})
    assert json.loads((tmp_path / "zoo.json").read_text()) == {"a": {"of": "a"}, "b": {"of": "b"}}
    module = torch.nn.Linear(2, 1)
    digest, size = training.save_weights(tmp_path / "w.safetensors", module)
    save_file(module.state_dict(), str(tmp_path / "v.safetensors"))
    assert hashlib.sha256((tmp_path / "v.safetensors").read_bytes()).hexdigest() == digest
    assert size == (tmp_path / "w.safetensors").stat().st_size
