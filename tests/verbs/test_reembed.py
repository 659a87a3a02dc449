"""A fresh pass of a registered model against what is stored."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest
import torch
from tiny import PREPROCESSING, near, net, space
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.errors import ConflictError, ModelspaceError, NotFoundError, UsageError
from modelspace.results import Reembedded, Reembedding
from modelspace.workspace import ModelSpace

SOURCE = """
import torch
from torch import nn

def make():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1), nn.SiLU(),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return net
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models in spaces of maps, of kernels and a blend; one of them from a file with weights of its own."""
    folder = tmp_path_factory.mktemp("reembed")
    (folder / "nets.py").write_text(SOURCE)
    registry = space(folder / "home", methods=("saliency", "dds"), images=8, bits=8)
    registry.blend("both", {"saliency": 1, "dds": 1})
    namespace: dict[str, object] = {}
    exec(SOURCE, namespace)
    weights = {k: v * 1.5 for k, v in namespace["make"]().state_dict().items()}  # type: ignore[operator]
    torch.save(weights, folder / "weights.pt")
    registry.add(
        f"python:{folder / 'nets.py'}:make", name="a", weights=folder / "weights.pt", preprocessing=PREPROCESSING
    )
    for name, module in {"b": net(1), "c": net(2)}.items():
        registry.add(module, name=name, preprocessing=PREPROCESSING)
    return folder


def of(result: Reembedding) -> dict[str, Reembedded]:
    return {row.space: row for row in result}


@pytest.mark.wide
def test_the_same_bits_on_the_same_machine(original: Path) -> None:
    registry = ModelSpace.open(original / "home")
    before = registry.path.read_bytes()
    seen: list[tuple[int, int]] = []
    result = registry.reembed("a", progress=lambda *done: seen.append(done))
    assert {row.space: (row.same_bits, row.largest, row.n_affinities) for row in result} == {
        "saliency": (True, 0.0, 2),
        "dds": (True, 0.0, 2),
        "both": (None, None, 2),
    }
    # A blend's are weighted sums, added in another order.
    assert all(row.largest_affinity <= (0.0 if row.same_bits else 1e-15) for row in result)
    assert seen[-1] == (8, 8)
    assert result.name == "a"
    assert registry.path.read_bytes() == before


@pytest.mark.wide
def test_a_module_in_memory_is_given_again(original: Path) -> None:
    registry = ModelSpace.open(original / "home")
    assert all(row.same_bits in (True, None) for row in registry.reembed("b", module=net(1)))
    with pytest.raises(NotFoundError) as raised:
        registry.reembed("b")
    assert raised.value.hint == "in Python, give the module itself: space.reembed('b', module=module)"
    with pytest.raises(ConflictError, match=r"the weights at .* differ"):
        registry.reembed("b", module=near(1, 1e-3))
    with pytest.raises(UsageError):
        registry.reembed("b", module=net(1), weights="w.pt")
    with pytest.raises(NotFoundError, match="there is no model 'z'"):
        registry.reembed("z")


def test_differences_are_measured(original: Path, tmp_path: Path) -> None:
    """Stored maps of another model: the distances are those between the two models."""
    registry = ModelSpace(shutil.copytree(original / "home", tmp_path / "home"))
    with duckdb.connect(str(registry.path)) as db:
        ids = dict(db.execute("SELECT name, model_id FROM models").fetchall())
        db.execute(
            "UPDATE maps SET codes = (SELECT codes FROM maps m WHERE m.space_id = maps.space_id AND m.model_id = $c), "
            "scales = (SELECT scales FROM maps m WHERE m.space_id = maps.space_id AND m.model_id = $c) "
            "WHERE model_id = $b",
            {"b": ids["b"], "c": ids["c"]},
        )
        db.execute("UPDATE embeddings SET affinities = list_transform(affinities, lambda x: x + 0.25)")
        db.execute("UPDATE embeddings SET affinities_checksum = NULL")
        db.execute("UPDATE maps SET checksum = NULL")
    rows = of(registry.reembed("b", module=net(1)))
    assert rows["saliency"].same_bits is False
    distances = (
        torch.tensor(ModelSpace.open(original / "home").maps("b", "saliency") - registry.maps("b", "saliency"))
        .flatten(1)
        .norm(dim=1)
    )
    assert rows["saliency"].largest == pytest.approx(float(distances.max()), abs=1e-6)
    assert rows["saliency"].mean == pytest.approx(float(distances.mean()), abs=1e-6)
    assert rows["saliency"].largest_affinity >= 0.25 - 1e-6


@pytest.mark.wide
def test_what_to_type_where_the_source_is_gone(original: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(original, tmp_path / "copy")
    registry = ModelSpace.open(folder / "home")
    with duckdb.connect(str(registry.path)) as db:
        db.execute("UPDATE models SET uri = ? WHERE name = 'a'", [f"python:{folder / 'nets.py'}:make"])
        moved = "UPDATE models SET tags = map_concat(tags, MAP {'weights': ?}) WHERE name = 'a'"
        db.execute(moved, [str(folder / "gone.pt")])
    with pytest.raises(ModelspaceError, match="'a' can't be loaded again from python:") as raised:
        registry.reembed("a")
    assert raised.value.hint.endswith("`weights=file` says where its weights are now")
    assert of(registry.reembed("a", weights=folder / "weights.pt"))["dds"].same_bits
    result = CliRunner().invoke(app, ["verify", "--reembed", "a", "--home", str(registry.home)])
    assert result.exit_code == 1
    assert "--weights FILE says where" in result.stderr
    (folder / "nets.py").unlink()
    with pytest.raises(ModelspaceError, match="'a' can't be loaded again from python:"):
        registry.reembed("a", weights=folder / "weights.pt")


@pytest.mark.wide
def test_changed_code_is_a_note(original: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(original, tmp_path / "copy")
    registry = ModelSpace.open(folder / "home")
    with duckdb.connect(str(registry.path)) as db:
        db.execute("UPDATE models SET uri = ? WHERE name = 'a'", [f"python:{folder / 'nets.py'}:make"])
    (folder / "nets.py").write_text(SOURCE.replace("nn.ReLU()", "nn.GELU()"))
    result = registry.reembed("a", weights=folder / "weights.pt")
    assert "its code changed since it was registered" in result.notes
    assert of(result)["dds"].same_bits is False
    assert of(result)["dds"].largest_affinity > 1e-4
