"""A folder of weights becomes a manifest that can be read, checked without a pass, and added."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import tiny
import torch
import torchvision_ops
from safetensors.torch import save_file

if not torchvision_ops.declare():
    pytest.skip("torchvision is not installed", allow_module_level=True)
timm = pytest.importorskip("timm")

from modelspace.errors import ConflictError, NotFoundError  # noqa: E402
from modelspace.verbs import manifest  # noqa: E402
from modelspace.workspace import ModelSpace  # noqa: E402

CONFIG = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "crop_pct": 1.0}


def save(path: Path, name: str = "test_resnet") -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    path.parent.mkdir(exist_ok=True)
    state = {key: value.clone().contiguous() for key, value in timm.create_model(name).state_dict().items()}
    save_file(state, path)
    return state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my weights"
    state = save(folder / "plain.safetensors")
    save_file({key: torch.zeros(3) if key == "fc.bias" else value for key, value in state.items()}, folder / "odd.bin")
    save(folder / "stated.safetensors")
    (folder / "stated.json").write_text(json.dumps(CONFIG))
    save(folder / "hub" / "model.safetensors")
    (folder / "hub" / "config.json").write_text(
        json.dumps({"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": CONFIG})
    )
    (folder / 'evil"\n[[model]].onnx').write_bytes(b"")
    (folder / "broken.pth").write_bytes(b"garbage")
    (folder / "notes.txt").write_text("not a model")
    return folder


def test_the_statuses_say_what_is_known(folder: Path, tmp_path: Path) -> None:
    statuses = {row.file: row.status for row in ModelSpace(tmp_path).scan(folder)}
    assert statuses == {
        "broken.pth": "unreadable",
        'evil"\n[[model]].onnx': "incomplete",
        "hub": "ready",
        "odd.bin": "unknown",
        "plain.safetensors": "incomplete",
        "stated.safetensors": "ready",
    }


@pytest.mark.wide
def test_the_manifest_is_read_checked_and_added(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = tiny.space(tmp_path / "registry", methods=("dds",), images=3)
    out = folder / "zoo.toml"
    space.scan(folder, out=out)
    entries = {entry["name"]: entry for entry in tomllib.loads(out.read_text("utf-8"))["model"]}
    assert set(entries) == {"evil-model", "hub", "plain", "stated"}
    assert entries["stated"]["weights"] == "stated.safetensors"
    assert entries["stated"]["std"] == [0.25] * 3
    assert entries["hub"]["uri"] == "hf-hub:./hub"
    assert "mean" not in entries["plain"], "what is not stated is left to fill in"
    text = out.read_text("utf-8")
    assert "# mean = [0.0, 0.0, 0.0]  # not in the file: fill in" in text
    assert "# broken.pth: " in text
    assert "# odd.bin: " in text
    monkeypatch.chdir(tmp_path)  # paths are relative to the manifest, from any folder
    planned = {row.name: row for row in space.add_all(out, dry_run=True)}
    assert planned["stated"].status == planned["hub"].status == "would add"
    assert planned["plain"].status == "failed"
    assert "input size" in planned["plain"].message + planned["plain"].hint or "input_size" in planned["plain"].hint
    assert not space.list(), "a dry run adds nothing"
    good = [entry for entry in manifest.read(out) if entry.name in ("stated", "hub")]
    assert [row.status for row in space.add_all(good)] == ["added", "added"]


def test_a_dry_run_of_a_manifest_finds_weights_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    space = tiny.space(tmp_path / "registry", methods=("dds",), images=3)
    entry = {
        "name": "odd",
        "model": "timm:test_resnet",
        "weights": str(folder / "odd.bin"),
        "preprocessing": tiny.PREPROCESSING,
    }
    (outcome,) = space.add_all([entry], dry_run=True)
    assert outcome.status == "failed"
    assert "don't fit" in outcome.message
    (fitting,) = space.add_all([{**entry, "weights": str(folder / "plain.safetensors")}], dry_run=True)
    assert fitting.status == "would add"


def test_a_dry_run_of_a_scan_loads_what_it_can_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "hub" / "config.json").write_text(
        json.dumps({"architecture": "test_vit", "num_classes": 1000, "pretrained_cfg": CONFIG})
    )
    out = tmp_path / "zoo.toml"
    rows = {row.file: row for row in ModelSpace(tmp_path).scan(folder, out=out, dry_run=True)}
    assert not out.exists()
    assert rows["hub"].status == "fails", "its configuration names another network"
    assert "don't fit" in rows["hub"].message
    assert rows["plain.safetensors"].status == "incomplete", "the weights fit"
    assert rows["stated.safetensors"].status == "ready"


def test_nothing_is_overwritten_and_nothing_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "zoo.toml"
    out.write_text("mine")
    with pytest.raises(ConflictError, match=r"zoo\.toml exists"):
        ModelSpace(tmp_path).scan(folder, out=out)
    assert out.read_text() == "mine"
    ModelSpace(tmp_path).scan(folder, out=out, force=True)
    assert "[[model]]" in out.read_text()
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="has no model"):
        ModelSpace(tmp_path).scan(tmp_path / "empty")
    with pytest.raises(NotFoundError, match="no file or folder"):
        ModelSpace(tmp_path).scan(tmp_path / "nowhere")
