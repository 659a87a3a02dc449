"""`taskonomy:NAME`: the architecture, where its weights are searched for, and how they are checked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from modelspace import sources
from modelspace.encoder.layers import find_encoder_output
from modelspace.errors import ConflictError, DamagedError, ModelspaceError, NotFoundError
from modelspace.evaluation import names
from modelspace.sources import taskonomy
from modelspace.sources.taskonomy import ENCODERS, TaskonomyEncoder, find
from modelspace.types import Preprocessing


@pytest.fixture(scope="module")
def trained() -> TaskonomyEncoder:
    """Random weights of the right shapes, with running statistics like those of a trained network."""
    torch.manual_seed(0)
    module = TaskonomyEncoder().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return module


@pytest.fixture(scope="module")
def published(trained, tmp_path_factory) -> Path:
    """A checkpoint like the published ones: a state dict under "state_dict", in the old pickle format."""
    path = tmp_path_factory.mktemp("weights") / "normal.pth"
    torch.save({"state_dict": trained.state_dict(), "epoch": 3}, path, _use_new_zipfile_serialization=False)
    return path


def named_after_its_hash(path: Path, folder: Path, digits: int, name: str = "normal_encoder") -> Path:
    content = path.read_bytes()
    target = folder / f"{name}-{hashlib.sha256(content).hexdigest()[:digits]}.pth"
    target.write_bytes(content)
    return target


# ---- the architecture


def test_an_image_of_256_pixels_becomes_8_x_16_x_16(trained):
    x = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        assert trained(x).shape == (1, 8, 16, 16)
        stem = trained.maxpool(trained.relu(trained.bn1(trained.conv1(x))))
        assert stem.shape == (1, 64, 64, 64)
        sides = [
            (stem := stage(stem)).shape[1:]
            for stage in (trained.layer1, trained.layer2, trained.layer3, trained.layer4)
        ]
    assert [tuple(side) for side in sides] == [(256, 32, 32), (512, 16, 16), (1024, 16, 16), (2048, 16, 16)]


def test_names_and_shapes_of_the_weights(trained):
    state = trained.state_dict()
    assert len(state) == 324
    assert sum(p.numel() for p in trained.parameters()) == 23_655_504
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert "layer1.2.downsample.0.weight" not in state  # it takes every second pixel, without weights
    assert state["compress1.weight"].shape == (8, 2048, 3, 3)
    assert state["compress_bn.running_var"].shape == (8,)
    blocks = [len(getattr(trained, f"layer{n}")) for n in (1, 2, 3, 4)]
    assert blocks == [3, 4, 6, 3]
    strides = [[block.conv2.stride[0] for block in getattr(trained, f"layer{n}")] for n in (1, 2, 3, 4)]
    assert strides == [[1, 1, 2], [1, 1, 1, 2], [1] * 6, [1] * 3]


def test_a_block_is_what_its_definition_says(trained):
    """The subsampling block, computed from its definition in float64."""
    block = trained.layer1[2].double()
    x = torch.rand(1, 256, 6, 6, dtype=torch.float64)
    y = x
    for number in (1, 2, 3):
        convolution, norm = getattr(block, f"conv{number}"), getattr(block, f"bn{number}")
        y = nn.functional.conv2d(y, convolution.weight, None, (2 if number == 2 else 1), (1 if number == 2 else 0))
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        y = (y - norm.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
        y = y.clamp_min(0) if number < 3 else y
    with torch.no_grad():
        assert torch.allclose(block(x), (y + x[:, :, ::2, ::2]).clamp_min(0), atol=1e-12)
    block.float()


# ---- names


def test_the_twenty_tasks_under_all_their_names():
    assert len(ENCODERS) == 20
    assert len({entry.sha256 for entry in ENCODERS.values()}) == 20
    assert all(len(entry.sha256) == 64 for entry in ENCODERS.values())
    for entry in ENCODERS.values():
        assert find(entry.name) is entry
        assert find(entry.original) is entry
    tasks = {group[0] for group in names.SPELLINGS}
    assert {entry.original for entry in ENCODERS.values()} == tasks
    assert find("class_scene") is find("class_place") is find("class_places")
    assert find("semantic").name == "segment_semantic"


def test_the_two_depths_are_those_of_taskonomys_own_list():
    # its task_dict.txt: "Depth : rgb2depth", "Euclidean-Distance : rgb2mist"
    assert find("rgb2depth").name == "depth_zbuffer"
    assert find("rgb2mist").name == "depth_euclidean"
    with pytest.raises(NotFoundError, match="is ambiguous: two encoders have this name") as caught:
        find("depth")
    assert caught.value.hint == "use taskonomy:depth_zbuffer or taskonomy:depth_euclidean"


def test_a_wrong_name_gets_the_near_ones():
    with pytest.raises(NotFoundError, match="no encoder called 'normall'") as caught:
        sources.load("taskonomy:normall")
    assert "did you mean normal" in caught.value.hint
    with pytest.raises(NotFoundError) as caught:
        sources.load("taskonomy:qqqq")
    assert caught.value.hint.startswith("it has autoencoding, ")


# ---- weights


def test_without_weights_it_says_what_to_fetch_and_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(NotFoundError) as caught:
        sources.load("taskonomy:normal")
    file = f"normal_encoder-{ENCODERS['normal'].sha256}.pth"
    assert caught.value.message == f"the weights of taskonomy:normal are missing: {file}"
    assert f"{taskonomy.URL}{file}" in caught.value.hint
    assert str(tmp_path / "hub" / "checkpoints") in caught.value.hint
    with pytest.raises(NotFoundError, match="the weights file"):
        sources.load("taskonomy:normal", weights=str(tmp_path / "nowhere.pth"))


@pytest.mark.wide
def test_weights_from_a_file(trained, published):
    loaded = sources.load("taskonomy:normals", weights=str(published))
    assert (loaded.uri, loaded.suggested_name, loaded.architecture) == (
        "taskonomy:normal",
        "normal",
        "TaskonomyEncoder",
    )
    assert (loaded.task, loaded.data, loaded.layer) == ("rgb2sfnorm", "taskonomy", "output")
    assert loaded.preprocessing == Preprocessing.raw((256, 256), value_range=(-1.0, 1.0))
    assert loaded.weights_sha256 == sources.weights_sha256(trained)
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    assert loaded.tags == {"file_sha256": digest, "published": "no", "weights": str(published)}
    tap = find_encoder_output(loaded.module, torch.rand(2, 3, 64, 64), loaded.layer)
    assert tap(torch.rand(2, 3, 64, 64)).shape == (2, 8, 4, 4)


@pytest.mark.wide
def test_weights_from_the_cache(monkeypatch, tmp_path, published):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    known = taskonomy.Encoder("normal", "rgb2sfnorm", digest)
    monkeypatch.setitem(ENCODERS, "normal", known)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / known.file).write_bytes(published.read_bytes())
    loaded = sources.load("taskonomy:normal")
    assert loaded.tags == {"file_sha256": digest, "published": "yes"}
    other = {**ENCODERS}
    assert other["reshading"].sha256 != digest
    with pytest.raises(ConflictError, match="holds the encoder normal, not reshading") as caught:
        sources.load("taskonomy:reshading", weights=str(folder / known.file))
    assert caught.value.hint == "use taskonomy:normal"
    (folder / known.file).write_bytes(published.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match="does not match the hash in its name"):
        sources.load("taskonomy:normal")


@pytest.mark.first(1)
@pytest.mark.parametrize("digits", [8, 64])
def test_the_hash_in_a_files_name_is_checked(tmp_path, published, digits):
    path = named_after_its_hash(published, tmp_path, digits)
    sources.load("taskonomy:normal", weights=str(path))
    wrong = path.with_name(f"normal_encoder-{'0' * digits}.pth")
    path.rename(wrong)
    with pytest.raises(DamagedError) as caught:
        sources.load("taskonomy:normal", weights=str(wrong))
    assert caught.value.hint == "it is damaged or was replaced; download it again"


def test_no_code_of_the_file_is_run_and_other_weights_are_refused(tmp_path):
    torch.save({"state_dict": nn.Linear(2, 2)}, tmp_path / "code.pth")
    with pytest.raises(ModelspaceError, match="needs code"):
        sources.load("taskonomy:normal", weights=str(tmp_path / "code.pth"))
    torch.save({"state_dict": nn.Linear(2, 2).state_dict()}, tmp_path / "other.pth")
    with pytest.raises(ModelspaceError, match="don't fit TaskonomyEncoder"):
        sources.load("taskonomy:normal", weights=str(tmp_path / "other.pth"))
