"""What a file of weights is, from its tensors alone, and the call that registers it."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision_ops
from safetensors.torch import save_file

if not torchvision_ops.declare():
    pytest.skip("torchvision is not installed", allow_module_level=True)
timm = pytest.importorskip("timm")

from modelspace import sources  # noqa: E402
from modelspace.cli.spelling import in_flags  # noqa: E402
from modelspace.errors import ModelspaceError, NotFoundError, UsageError  # noqa: E402
from modelspace.sources import identify, signatures  # noqa: E402

CONFIG: dict[str, object] = {
    "input_size": [3, 160, 160],
    "mean": [0.5] * 3,
    "std": [0.25] * 3,
    "interpolation": "bicubic",
    "crop_pct": 0.95,
}


def state(name: str, **options: object) -> dict[str, torch.Tensor]:
    return {key: value.clone().contiguous() for key, value in timm.create_model(name, **options).state_dict().items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder of weights."""
    folder = tmp_path_factory.mktemp("weights")
    resnet = state("test_resnet")
    save_file(resnet, folder / "net.safetensors")
    save_file(state("test_vit", num_classes=7), folder / "seven.safetensors")
    save_file({**resnet, "extra.weight": torch.zeros(3)}, folder / "more.safetensors")
    save_file(
        {key: value for key, value in resnet.items() if not key.startswith("fc.")}, folder / "headless.safetensors"
    )
    save_file({"x": torch.zeros(2, 2)}, folder / "other.safetensors")
    wrapped = {f"module.{key}": value for key, value in resnet.items()}
    torch.save({"state_dict": wrapped, "state_dict_ema": wrapped, "arch": "test_resnet", "epoch": 3}, folder / "ck.pth")
    np.savez(folder / "arrays.npz", **{key: value.numpy() for key, value in resnet.items()})
    (folder / "hf").mkdir()
    save_file(resnet, folder / "hf" / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": CONFIG}
    (folder / "hf" / "config.json").write_text(json.dumps(config))
    return folder


def test_a_file_is_named_by_its_tensors_and_the_call_loads_it(folder: Path) -> None:
    file = folder / "net.safetensors"
    identified = identify.identify(file)
    assert identified.architecture == "timm:test_resnet"
    assert identified.missing == ("input_size", "mean", "std")
    assert identified.preprocessing == {}, "never guessed"
    call = identified.call
    assert call.startswith(f"`space.add('timm:test_resnet', weights={str(file)!r}, preprocessing={{'input_size': side")
    assert in_flags(call).startswith("'modelspace add timm:test_resnet --weights ")
    flags = sources.PreprocessingFlags((160, 160), (0.5,) * 3, (0.5,) * 3)
    loaded = sources.load(identified.uri, weights=identified.weights, preprocessing=flags)
    assert loaded.architecture == "test_resnet"


def test_another_number_of_classes_is_said(folder: Path) -> None:
    identified = identify.identify(folder / "seven.safetensors")
    assert identified.architecture == "timm:test_vit"
    assert "with 7 classes instead of 1000" in identify.summary(identified)


def test_a_checkpoint_is_looked_into_without_running_code(folder: Path) -> None:
    identified = identify.identify(folder / "ck.pth")
    assert (identified.architecture, identified.weights_key) == ("timm:test_resnet", "state_dict")
    assert "further state dicts: state_dict_ema" in identify.summary(identified)
    assert identify.identify(folder / "arrays.npz").architecture == "timm:test_resnet"


def test_what_differs_from_the_nearest_is_named(folder: Path) -> None:
    identified = identify.identify(folder / "more.safetensors")
    assert (identified.architecture, identified.uri) == ("", "")
    assert "nearest is timm:test_resnet (the file has besides extra.weight)" in identify.summary(identified)
    headless = identify.identify(folder / "headless.safetensors")
    assert headless.architecture == "timm:test_resnet"
    assert "lacks the head (fc.weight, fc.bias)" in headless.problem
    assert not headless.uri
    other = identify.identify(folder / "other.safetensors")
    assert identify.summary(other) == "its 1 tensor is not those of an architecture that is known here"


def test_without_its_package_the_nearest_is_named_by_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify, "_built", lambda name: None)
    text = identify.summary(identify.identify(folder / "more.safetensors"))
    assert "nearest is timm:test_resnet (about " in text


def test_preprocessing_comes_from_the_configuration(folder: Path, tmp_path: Path) -> None:
    identified = identify.identify(folder / "hf")
    assert identified.uri == f"hf-hub:{folder / 'hf'}"
    assert identified.missing == ()
    assert identified.preprocessing["std"] == (0.25,) * 3
    assert identified.call == f"`space.add('hf-hub:{folder / 'hf'}')`"
    save_file(state("test_resnet"), tmp_path / "a.safetensors", metadata={"pretrained_cfg": json.dumps(CONFIG)})
    assert identify.identify(tmp_path / "a.safetensors").preprocessing["resize"] == (168, 168)
    (tmp_path / "b.json").write_text(json.dumps(CONFIG))
    os.link(folder / "net.safetensors", tmp_path / "b.safetensors")
    assert identify.identify(tmp_path / "b.safetensors").missing == ()
    half = {key: value for key, value in CONFIG.items() if key != "std"}
    (tmp_path / "b.json").write_text(json.dumps(half))
    assert identify.identify(tmp_path / "b.safetensors").preprocessing == {}, "all of it or nothing"


@pytest.mark.parametrize("form", ["{0}", "file:{0}"])
def test_a_path_in_the_place_of_an_address_is_explained(folder: Path, form: str) -> None:
    with pytest.raises(UsageError, match="are those of timm:test_resnet") as caught:
        sources.parse_uri(form.format(folder / "net.safetensors"))
    assert "register it with `space.add('timm:test_resnet', weights=" in caught.value.hint
    assert "input size, mean and std are not in the file" in caught.value.hint


def test_a_folder_of_several_is_to_be_scanned(folder: Path) -> None:
    with pytest.raises(UsageError, match="has 8 models") as caught:
        sources.parse_uri(str(folder))
    assert in_flags(caught.value.hint) == f"list them with 'modelspace scan {folder}'"
    with pytest.raises(UsageError, match="hf is not the address of a model") as caught:
        sources.parse_uri(str(folder / "hf"))
    assert f"`space.add('hf-hub:{folder / 'hf'}')`" in caught.value.hint


def test_what_is_no_path_is_no_path() -> None:
    for text in ("resnet50", "zoo:depth", "", "a\0b", "nowhere:depth"):
        assert not identify.looks_like_a_path(text), text
    with pytest.raises(NotFoundError, match=r"there is no file nothing\.pth"):
        sources.parse_uri("./nothing.pth")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.open, (str(self.target), os.O_CREAT)


@pytest.mark.parametrize("name", ["trap.pth", "trap.bin", "trap.ckpt"])
def test_hostile_files_run_no_code_and_are_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps({"state_dict": Trap(tmp_path / "ran")}))
    with pytest.raises(ModelspaceError):
        identify.identify(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 7 + b"\x7f{}",
        (10).to_bytes(8, "little") + b'{"a": 1}  ',
        (40).to_bytes(8, "little") + b'{"a": {"shape": "no", "dtype": "F32"}}  ',
        (2).to_bytes(8, "little") + b"{",
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        (200_001).to_bytes(8, "little") + b'{"a":' + b"[" * 199_996,
    ],
)
def test_broken_headers_are_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ModelspaceError):
        identify.identify(tmp_path / "a.safetensors")


def test_the_shipped_signatures_are_small_and_of_many_architectures() -> None:
    assert signatures.INDEX.stat().st_size < 300_000
    names = {name for each in signatures.architectures() for name in each.names}
    for name in (
        "timm:resnet50",
        "timm:vit_base_patch16_224",
        "torchvision:resnet50",
        "transformers:ViTForImageClassification",
    ):
        assert name in names
    assert len(names) > 1200
    assert set(signatures.versions()) == {"timm", "torchvision", "transformers"}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("model.safetensors.index.json", "which is not a file in its folder"),
        ("../model.safetensors", "which is not a file in its folder"),
        ("model-1.safetensors", "'model-1.safetensors', which is not in its folder"),
    ],
)
def test_an_index_of_parts_names_files_next_to_it(tmp_path: Path, part: str, words: str) -> None:
    """One that names itself would be read without end."""
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": part}}), "utf-8")
    with pytest.raises(ModelspaceError) as caught:
        identify.identify(index)
    assert words in caught.value.message
