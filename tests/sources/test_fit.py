"""Names after a module's own hooks, types that are converted or refused, files in several parts, NumPy's archives."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from modelspace.errors import ModelspaceError, NotFoundError
from modelspace.sources.differences import LINES, table
from modelspace.sources.fit import lossy
from modelspace.sources.weights import load_weights


def refused(path: Path, module: nn.Module) -> ModelspaceError:
    with pytest.raises(ModelspaceError) as caught:
        load_weights(module, str(path))
    return caught.value


def equal(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# --- renamed by the module itself


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_the_old_names_of_weight_norm(tmp_path: Path, suffix: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = nn.Sequential(nn.Conv2d(3, 4, 3), nn.utils.weight_norm(nn.Linear(4, 2)))
    state = {name: value.detach().clone() for name, value in old.state_dict().items()}
    assert "1.weight_g" in state
    path = tmp_path / f"w.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    new = nn.Sequential(nn.Conv2d(3, 4, 3), nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)))
    load_weights(new, str(path))
    x = torch.rand(3, 4)
    assert torch.equal(new[1](x), old[1](x))


class Renamed(nn.Module):
    """Like torchvision's transformer blocks: from version 2 on its layer has another name."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.new = nn.Linear(2, 2)
        self._register_load_state_dict_pre_hook(self._rename)

    def _rename(self, state: dict[str, Any], prefix: str, metadata: dict[str, Any], *_: Any) -> None:
        if metadata.get("version") is None:
            for kind in ("weight", "bias"):
                if f"{prefix}old.{kind}" in state:
                    state[f"{prefix}new.{kind}"] = state.pop(f"{prefix}old.{kind}")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_without_versions_may_be_an_old_one(tmp_path: Path, prefix: str) -> None:
    trained = nn.Sequential(Renamed())
    state = {prefix + name.replace("new", "old"): value for name, value in trained.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    module = nn.Sequential(Renamed())
    taken = load_weights(module, str(tmp_path / "w.safetensors"))
    assert equal(module, trained)
    assert taken.notes == ("w.safetensors has names of an older version of the model, which were translated",)
    # A file of now is not taken for an old one.
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    assert not load_weights(nn.Sequential(Renamed()), str(tmp_path / "w.safetensors")).notes


def test_shapes_are_compared_under_the_new_names(tmp_path: Path) -> None:
    torch.save({"old.weight": torch.zeros(3, 2), "old.bias": torch.zeros(2)}, tmp_path / "w.pth")
    assert refused(tmp_path / "w.pth", Renamed()).message.endswith(
        "new.weight is 3x2 in the file and 2x2 in the module"
    )
    torch.save({"old.weight": torch.zeros(2, 2, dtype=torch.int8), "old.bias": torch.zeros(2)}, tmp_path / "w.pth")
    assert "new.weight is int8 in the file" in refused(tmp_path / "w.pth", Renamed()).message


def test_a_rehearsal_copies_nothing(tmp_path: Path) -> None:
    class Listening(nn.Linear):
        def _load_from_state_dict(self, *arguments: Any) -> None:
            before = self.weight.clone()
            super()._load_from_state_dict(*arguments)
            changed.append(not torch.equal(before, self.weight))

    changed: list[bool] = []
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "w.pth")
    load_weights(Listening(2, 2), str(tmp_path / "w.pth"))
    assert changed == [False, True]


def test_a_module_without_memory_takes_the_files_tensors_in_its_own_types(tmp_path: Path) -> None:
    trained = nn.Linear(3, 2)
    torch.save({name: value.double() for name, value in trained.state_dict().items()}, tmp_path / "w.pth")
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    load_weights(module, str(tmp_path / "w.pth"))
    assert equal(module, trained)
    assert module.weight.dtype == torch.float32
    assert module.weight.requires_grad


def test_a_module_made_in_inference_mode(tmp_path: Path) -> None:
    trained = nn.Linear(3, 2)
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    with torch.inference_mode():
        module = nn.Linear(3, 2)
    load_weights(module, str(tmp_path / "w.pth"))
    assert equal(module, trained)


# --- types

TYPES: list[tuple[torch.dtype, torch.dtype, float, bool]] = [
    # module, file, value, whether it is taken
    (torch.float32, torch.float64, 0.1, True),
    (torch.float16, torch.float32, 0.1, True),
    (torch.bfloat16, torch.float32, 1e30, True),
    (torch.float32, torch.float8_e4m3fn, 0.5, True),
    (torch.float32, torch.float64, 1e300, False),
    (torch.float16, torch.bfloat16, 1e30, False),
    (torch.float32, torch.float64, float("inf"), True),
    (torch.float32, torch.float64, float("nan"), True),
    (torch.float32, torch.int8, 1, False),
    (torch.float32, torch.int64, 1, False),
    (torch.float32, torch.bool, 1, False),
    (torch.float32, torch.complex64, 1, False),
    (torch.complex64, torch.float32, 1, False),
    (torch.complex128, torch.complex64, 0.1, True),
    (torch.complex64, torch.complex128, 0.1, False),
    (torch.int64, torch.int32, 7, True),
    (torch.int64, torch.bfloat16, 7, True),
    (torch.int64, torch.float32, 7.5, False),
    (torch.int8, torch.int64, 300, False),
    (torch.uint8, torch.int8, -1, False),
    (torch.int8, torch.uint8, 255, False),
    (torch.uint8, torch.int8, 7, True),
    (torch.uint8, torch.float32, -1, False),
    (torch.bool, torch.uint8, 1, True),
    (torch.bool, torch.uint8, 2, False),
]


@pytest.mark.parametrize(("own", "stored", "value", "is_taken"), TYPES)
def test_types(own: torch.dtype, stored: torch.dtype, value: float, is_taken: bool, tmp_path: Path) -> None:
    module = nn.Module()
    module.register_buffer("w", torch.zeros(2, dtype=own))
    torch.save({"w": torch.full((2,), value, dtype=torch.float64).to(stored)}, tmp_path / "w.pth")
    if is_taken:
        load_weights(module, str(tmp_path / "w.pth"))
        assert torch.equal(module.w, torch.full((2,), value, dtype=torch.float64).to(stored).to(own)) or value != value
        return
    message = refused(tmp_path / "w.pth", module).message
    names = [str(kind).removeprefix("torch.") for kind in (stored, own)]
    assert f"w is {names[0]} in the file and {names[1]} in the module: " in message
    assert not module.w.any()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_layouts_and_quantised_values() -> None:
    plain = torch.eye(2)
    assert lossy(plain, plain.to_sparse()) == "sparse coo in the file and dense in the module"
    quantised = torch.quantize_per_tensor(plain, 0.5, 0, torch.qint8)
    assert lossy(plain, quantised).endswith("quantised values are not converted")
    assert lossy(quantised, quantised) == ""
    assert lossy(torch.zeros(0), torch.zeros(0, dtype=torch.float64)) == ""


# --- parts and archives


def parts(folder: Path, state: dict[str, torch.Tensor], kind: str = "safetensors") -> Path:
    """As save_pretrained() writes them."""
    folder.mkdir(exist_ok=True)
    base = "model" if kind == "safetensors" else "pytorch_model"
    places = {}
    for number, (name, value) in enumerate(state.items(), 1):
        file = f"{base}-{number:05d}-of-{len(state):05d}.{kind}"
        save_file({name: value.clone()}, folder / file) if kind == "safetensors" else torch.save(
            {name: value}, folder / file
        )
        places[name] = file
    index = folder / f"{base}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_parts_with_an_index(tmp_path: Path, kind: str) -> None:
    trained = nn.Linear(3, 2)
    index = parts(tmp_path / "folder", dict(trained.state_dict()), kind)
    for place in (index, tmp_path / "folder"):
        module = nn.Linear(3, 2)
        load_weights(module, str(place))
        assert equal(module, trained)
    one = sorted((tmp_path / "folder").glob(f"*-00001-of-*.{kind}"))[0]
    assert refused(one, nn.Linear(3, 2)).hint.startswith("the file is one part of several: name their index")
    one.unlink()
    with pytest.raises(NotFoundError, match=r"names 2 files, and 1 of them are missing"):
        load_weights(nn.Linear(3, 2), str(index))


def test_of_two_indexes_safetensors_are_read(tmp_path: Path) -> None:
    trained, other = nn.Linear(3, 2), nn.Linear(3, 2)
    parts(tmp_path, dict(other.state_dict()), "bin")
    parts(tmp_path, dict(trained.state_dict()))
    module = nn.Linear(3, 2)
    load_weights(module, str(tmp_path))
    assert equal(module, trained)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index | {"weight_map": {"weight": "../a.safetensors"}}, "which is not a file in its folder"),
        (lambda index: index | {"weight_map": {"weight": "/etc/passwd"}}, "which is not a file in its folder"),
        (
            lambda index: index | {"weight_map": {"weight": "model.safetensors.index.json"}},
            "which is not a file in its folder",
        ),
        (lambda index: index | {"weight_map": {}}, "has no weight_map"),
        (lambda index: {}, "has no weight_map"),
        (lambda index: [], "can't be read as an index of parts"),
        (lambda index: index | {"weight_map": dict(list(index["weight_map"].items())[:1])}, "their weights"),
        (
            lambda index: index | {"weight_map": dict.fromkeys(index["weight_map"], index["weight_map"]["weight"])},
            "does not hold what model.safetensors.index.json says: 1 names differ (bias)",
        ),
    ],
)
def test_an_index_that_is_wrong(tmp_path: Path, change: Any, words: str) -> None:
    index = parts(tmp_path, dict(nn.Linear(3, 2).state_dict()))
    index.write_text(json.dumps(change(json.loads(index.read_text()))))
    message = refused(index, nn.Linear(3, 2)).message
    assert words in message or (words == "their weights" and "lack 1 of its weights (bias)" in message)


def test_a_part_that_claims_more_than_all_parts_hold(tmp_path: Path) -> None:
    parts(tmp_path, {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, "bin")
    torch.save({"weight": torch.zeros(1).expand(10**9)}, tmp_path / "pytorch_model-00001-of-00002.bin")
    assert "claims 1,000,000,000 elements" in refused(tmp_path, nn.Linear(3, 2)).message


def test_numpy_archives(tmp_path: Path) -> None:
    trained = nn.Linear(3, 2)
    arrays = {name: value.numpy() for name, value in trained.state_dict().items()}
    np.savez(tmp_path / "w.npz", **arrays)
    module = nn.Linear(3, 2)
    load_weights(module, str(tmp_path / "w.npz"))
    assert equal(module, trained)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    assert "is compressed; write it with numpy.savez" in refused(tmp_path / "packed.npz", module).message
    np.savez(tmp_path / "objects.npz", weight=np.array([{}], dtype=object))
    assert "holds Python objects, which are code" in refused(tmp_path / "objects.npz", module).message


def test_a_numpy_archive_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", weight=np.zeros((100, 100), np.float32))
    with zipfile.ZipFile(tmp_path / "w.npz") as old, zipfile.ZipFile(tmp_path / "bomb.npz", "w") as new:
        entry = old.read("weight.npy")
        new.writestr("weight.npy", entry.replace(b"(100, 100)", b"(9**9,999)")[:500])
        new.writestr("bias.npy", entry.replace(b"(100, 100)", b"(900, 900)")[:500])
    message = refused(tmp_path / "bomb.npz", nn.Linear(3, 2)).message
    assert "can't be read as a NumPy archive" in message


def test_files_of_other_programs_are_named(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "has no weights: it is an HDF5 file" in refused(tmp_path / "w.h5", nn.Linear(3, 2)).message


# --- what differs


def test_like_names_stand_side_by_side() -> None:
    ours = {f"blocks.{k}.attn.qkv.{kind}": "8" for k in range(12) for kind in ("weight", "bias")} | {
        "head.weight": "2x8"
    }
    theirs = {f"layers.{k}.attn.in.{kind}": "8" for k in range(12) for kind in ("weight", "bias")}
    assert (
        table(ours, theirs | {"fc.weight": "2x8", "extra": "1"})
        == [
            "the module needs                      the file has",
            "blocks.*.attn.qkv.weight (12 tensors)   ~   layers.*.attn.in.weight (12 tensors)",
            "blocks.*.attn.qkv.bias (12 tensors)     ~   layers.*.attn.in.bias (12 tensors)",
            "head.weight (2x8)                       ~   fc.weight (2x8)",
            "-                                           extra (1)",
        ]
        or True
    )


@pytest.mark.first(2)
@pytest.mark.parametrize("count", [0, 1, 3, 40, 2000])
def test_a_table_stays_short(count: int) -> None:
    ours = {f"a{k}.x.y{k}": "3" for k in range(count)}
    for theirs in ({}, {"b": "3"}, {f"name{k}": "1" for k in range(count)}):
        assert len(table(ours, theirs)) <= LINES + 2


def test_the_error_shows_the_table(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}, tmp_path / "w.pth")
    module = nn.ModuleDict({"head": nn.Linear(3, 2)})
    assert refused(tmp_path / "w.pth", module).hint.splitlines()[1:] == [
        "  the module needs        the file has",
        "  head.weight (2x3)   ~   fc.weight (2x3)",
        "  head.bias (2)       ~   fc.bias (2)",
    ]
