"""Files that an installed package carries, with small packages made here."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modelspace import sources
from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.sources import PreprocessingFlags, package
from modelspace.verbs.manifest import read

FLAGS = PreprocessingFlags(input_size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages with the distribution Tiny-Nets 1.2, which is imported as tiny_nets."""
    folder = tmp_path / "site"
    files = folder / "tiny_nets" / "data"
    files.mkdir(parents=True)
    (folder / "tiny_nets" / "__init__.py").write_text("raise RuntimeError('the package was imported')\n")
    torch.jit.save(torch.jit.trace(net(), torch.zeros(1, 3, 8, 8)), str(files / "net.pt"))
    torch.save(net().state_dict(), files / "weights.pth")
    (files / "weights.safetensors").write_bytes(b"")
    (files / "classes.txt").write_text("cat\n")
    (folder / "secret.onnx").write_bytes(b"not of the package")
    distribution(folder, "Tiny-Nets", "tiny_nets", list((folder / "tiny_nets").rglob("*")))
    monkeypatch.syspath_prepend(str(folder))
    return folder


def distribution(folder: Path, name: str, top: str, files: list[Path]) -> None:
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "top_level.txt").write_text(f"{top}\n")
    rows = [f"{path.relative_to(folder).as_posix()},," for path in files if path.is_file()]
    (info / "RECORD").write_text("\n".join([*rows, "../../bin/tiny,,", f"{info.name}/RECORD,,"]) + "\n")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(uri: str, trusted: str | None = None, weights: str | None = None) -> ModelspaceError:
    with pytest.raises(ModelspaceError) as caught:
        sources.load(uri, preprocessing=FLAGS, trusted=trusted, weights=weights)
    return caught.value


def test_a_program_in_a_package(site: Path) -> None:
    file = site / "tiny_nets" / "data" / "net.pt"
    # Names of packages are equal but for case and the kind of hyphen.
    for name in ("Tiny-Nets", "tiny_nets", "TINY.nets"):
        model = sources.load(f"package:{name}/tiny_nets/data/net.pt", preprocessing=FLAGS, trusted=sha256(file))
        assert model.uri == "package:Tiny-Nets/tiny_nets/data/net.pt"
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(model.module(x), net()(x), atol=1e-6)
    assert model.suggested_name == "net"
    assert model.tags["package"] == "Tiny-Nets 1.2"
    assert model.tags["file_sha256"] == sha256(file) == model.code_sha256
    plain = sources.load(f"file:{file}", preprocessing=FLAGS, trusted=sha256(file))
    assert (plain.weights_sha256, plain.parameters) == (model.weights_sha256, model.parameters)
    assert "tiny_nets" not in sys.modules


def test_a_program_has_to_be_trusted(site: Path) -> None:
    file = site / "tiny_nets" / "data" / "net.pt"
    error = refused("package:tiny-nets/tiny_nets/data/net.pt")
    assert error.message == (
        f"{file} is a TorchScript archive, which can run its author's code when it is loaded; "
        f"its SHA-256 is {sha256(file)}"
    )
    address = "package:Tiny-Nets/tiny_nets/data/net.pt"
    assert error.hint == f"if you trust its origin: `space.add({address!r}, trust_code={sha256(file)!r})`"
    assert "is not the trusted file" in refused(address, "0" * 64).message


def test_an_onnx_file_in_a_package(site: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 6, 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = site / "more_nets" / "net.onnx"
    path.parent.mkdir()
    onnx.save(model, str(path))
    distribution(site, "more-nets", "more_nets", [path])
    loaded = sources.load("package:more-nets/more_nets/net.onnx", preprocessing=FLAGS)
    assert loaded.uri == "package:more-nets/more_nets/net.onnx"
    assert loaded.architecture == "ONNX tiny"
    assert loaded.tags["package"] == "more-nets 1.2"
    x = torch.rand(1, 3, 8, 8)
    expected = torch.nn.functional.conv2d(x, torch.from_numpy(weight)).relu()
    assert torch.allclose(loaded.module(x), expected, atol=1e-6)
    # Complete sentences of the source that reads it name the package's address.
    with pytest.raises(UsageError) as caught:
        sources.load("package:more-nets/more_nets/net.onnx")
    assert caught.value.message == "the mean and std of package:more-nets/more_nets/net.onnx are not given"
    assert refused("package:more-nets/more_nets/net.onnx", "0" * 64).message.startswith("`trust_code=` does not apply")


def test_a_package_or_file_that_is_not_there(site: Path) -> None:
    error = refused("package:no-such-nets/a.onnx")
    assert isinstance(error, NotFoundError)
    assert (error.message, error.hint) == ("the package no-such-nets is not installed", "pip install no-such-nets")
    error = refused("package:tiny-nets/tiny_nets/data/nett.pt")
    assert isinstance(error, NotFoundError)
    assert error.message == "the package Tiny-Nets 1.2 carries no file tiny_nets/data/nett.pt"
    assert error.hint.startswith("did you mean tiny_nets/data/net.pt")
    assert refused("package:tiny-nets/zzz").hint == "it carries tiny_nets/data/net.pt, tiny_nets/data/weights.pth"
    for address in ("package:tiny-nets", "package:tiny-nets/"):
        error = refused(address)
        assert error.message == f"{address} names no file in the package"
        assert "tiny_nets/data/net.pt" in error.hint
    for name in ("-r", "a b", "a;b", ""):
        assert "can't be the name of a package" in refused(f"package:{name}/x.onnx").message


def test_a_name_that_is_imported_leads_to_the_package(site: Path) -> None:
    distribution(site, "other-name", "odd_nets", [])
    assert refused("package:odd_nets/x.onnx").hint == "did you mean other-name?"


def test_only_files_of_the_package_are_read(site: Path) -> None:
    for inside in ("../secret.onnx", "tiny_nets/../secret.onnx", "..\\secret.onnx"):
        assert "leads out of the package" in refused(f"package:tiny-nets/{inside}").message
    for inside in ("secret.onnx", f"{site}/secret.onnx", "tiny_nets/__init__.py"):
        assert "carries no file" in refused(f"package:tiny-nets/{inside}").message


def test_files_that_are_no_models(site: Path) -> None:
    folder = site / "tiny_nets" / "data"
    error = refused("package:tiny-nets/tiny_nets/data/classes.txt")
    assert error.message == "package:Tiny-Nets/tiny_nets/data/classes.txt is no file of a model, by its name"
    assert ".onnx" in error.hint
    error = refused("package:tiny-nets/tiny_nets/data/weights.safetensors")
    assert error.message.endswith("holds weights, by its name, and no network")
    assert f"weights={str(folder / 'weights.safetensors')!r}" in error.hint
    error = refused("package:tiny-nets/tiny_nets/data/weights.pth")
    assert "it holds a state dict or a module, not a program" in error.message
    assert f"weights={str(folder / 'weights.pth')!r}" in error.hint
    assert "has its own weights" in refused("package:tiny-nets/tiny_nets/data/net.pt", weights="w.pth").message


def test_an_editable_package_lists_no_files(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "source" / "edited_nets"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('the package was imported')\n")
    (folder / "net.pt").write_bytes((site / "tiny_nets" / "data" / "net.pt").read_bytes())
    distribution(site, "edited", "edited_nets", [])
    monkeypatch.syspath_prepend(str(folder.parent))
    assert package.find("edited/edited_nets/net.pt").path == folder / "net.pt"


def test_a_manifest_leaves_the_address_as_it_is(site: Path) -> None:
    # A file of that path next to the manifest is not meant.
    (site / "tiny-nets").mkdir()
    (site / "tiny-nets" / "net.pt").write_bytes(b"")
    (site / "models.toml").write_text('[[model]]\nname = "a"\nuri = "package:tiny-nets/net.pt"\n')
    assert read(site / "models.toml")[0].options["model"] == "package:tiny-nets/net.pt"


def test_the_tables_ends_of_names_are_sources() -> None:
    assert set(package.SCHEMES.values()) <= set(sources.SOURCES)
    assert all(end.startswith(".") for end in package.SCHEMES)
