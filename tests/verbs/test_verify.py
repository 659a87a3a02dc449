"""`verify` names everything that is damaged, and its hints never make the damage permanent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from PIL import Image
from tiny import add, net

from modelspace.home import INDEX
from modelspace.registry import Registry
from modelspace.results import Check
from modelspace.spaces import coordinates
from modelspace.workspace import ModelSpace

N, MODELS = 6, "abcdefghij"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    """Ten models in a space of maps, a space of kernels and a blend, on images of a folder."""
    folder = tmp_path_factory.mktemp("verify")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for k in range(N):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / "images" / f"{k}.png")
    space = ModelSpace.create(folder / "home", probes=folder / "images", methods=("saliency", "dds"), canvas=8, bits=8)
    space.blend("both", {"saliency": 1, "dds": 1})
    for seed, name in enumerate(MODELS):
        add(space, name, net(seed))
    return space


@pytest.fixture
def copy(whole: ModelSpace, tmp_path: Path) -> ModelSpace:
    shutil.copytree(whole.home, tmp_path / "home")
    return ModelSpace.open(tmp_path / "home")


def failures(space: ModelSpace, deep: bool = True) -> dict[str, Check]:
    return {check.what: check for check in space.verify(deep=deep) if not check.ok}


def change(space: ModelSpace, statement: str, *values: object) -> None:
    with duckdb.connect(str(space.path)) as db:
        (count,) = db.execute(statement, list(values)).fetchall()[0]
        assert count >= 1, "the statement changed nothing"


def of(space: ModelSpace, model: str, name: str) -> tuple[str, int]:
    """Space id and model id."""
    with Registry.open(space.path) as registry:
        return registry.space(name).spec.space_id, registry.model(model).model_id


def value(space: ModelSpace, statement: str, *values: object) -> Any:
    with duckdb.connect(str(space.path)) as db:
        return db.execute(statement, list(values)).fetchall()[0][0]


def shift(space: ModelSpace, model: str, name: str, column: str, at: int) -> None:
    """Change one number of a model's vector or affinities."""
    key = of(space, model, name)
    numbers = value(space, f"SELECT {column} FROM embeddings WHERE space_id = ? AND model_id = ?", *key)
    numbers[at] += 1e-4
    change(space, f"UPDATE embeddings SET {column} = ? WHERE space_id = ? AND model_id = ?", numbers, *key)


FIRST_PART = "FROM maps WHERE space_id = ? AND model_id = ? AND part = 0 AND first_image = 0"


def damage(space: ModelSpace, model: str, name: str, column: str, edit: Callable[[bytes], bytes]) -> None:
    """Change the first part of a model's maps or of their scales."""
    key = of(space, model, name)
    data = value(space, f"SELECT {column} {FIRST_PART}", *key)
    where = FIRST_PART.removeprefix("FROM maps ")
    change(space, f"UPDATE maps SET {column} = ? {where}", edit(data), *key)


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def test_a_whole_registry_passes(whole: ModelSpace) -> None:
    checks = whole.verify(deep=True)
    assert {check.what for check in checks} == {
        "tables",
        "probe set images",
        *(f"{name}: {what}" for name in ("saliency", "dds", "both") for what in ("vectors", "maps", "index file")),
    }
    assert all(check.ok for check in checks)


@pytest.mark.first(1)
@pytest.mark.parametrize("name", ["saliency", "dds"])
@pytest.mark.parametrize("column", ["codes", "scales"])
def test_damaged_maps_are_named_and_not_made_the_truth(copy: ModelSpace, name: str, column: str) -> None:
    # of a float32 scale the second highest byte, so that it stays a number
    damage(copy, "c", name, column, lambda data: flip(data, 2 if column == "scales" else 0))
    found = failures(copy)
    check = found[f"{name}: maps"]
    assert "not computed from the stored maps of c" in check.detail
    assert "restore a copy" in check.hint
    assert "would rely on the damaged maps" in check.hint
    # a blend is computed from its members' maps
    assert set(found) == {f"{name}: maps", "both: maps"}


@pytest.mark.wide
@pytest.mark.parametrize("name", ["saliency", "dds", "both"])
def test_damaged_vectors_can_be_rebuilt(copy: ModelSpace, name: str) -> None:
    shift(copy, "d", name, "vector", 0)
    found = failures(copy)
    assert set(found) == {f"{name}: vectors"}
    assert "rebuild(coordinates=True)" in found[f"{name}: vectors"].hint
    copy.rebuild(coordinates=True)
    assert not failures(copy)


@pytest.mark.sampled(3)
@pytest.mark.wide
@pytest.mark.parametrize("name", ["saliency", "dds", "both"])
def test_damaged_affinities_can_be_rebuilt(copy: ModelSpace, whole: ModelSpace, name: str) -> None:
    shift(copy, "d", name, "affinities", 1)
    found = failures(copy)
    assert set(found) == {f"{name}: vectors", f"{name}: maps"}
    assert all("rebuild(coordinates=True)" in check.hint for check in found.values())
    copy.rebuild(coordinates=True)
    assert not failures(copy)
    np.testing.assert_allclose(copy.affinity(name).matrix, whole.affinity(name).matrix, atol=1e-9)


def test_deep_compares_every_pair(copy: ModelSpace) -> None:
    """One pair is wrong, and all vectors agree with it: only its maps contradict it. By default five are checked."""
    with Registry.open(copy.path, write=True) as registry, registry.transaction():
        spec = registry.space("saliency").spec
        stored = registry.embeddings(spec.space_id)
        given = [row.affinities.copy() for row in stored]
        given[8][7] += 1e-3
        rows = coordinates.factorise(given, lambda i, j: pytest.fail("all pairs are given"))
        registry.replace_coordinates(
            spec.space_id,
            [
                replace(old, vector=new.vector, affinities=affinities, axis=new.axis, residual=new.residual)
                for old, new, affinities in zip(stored, rows, given, strict=True)
            ],
        )
    assert "saliency: maps" not in failures(copy, deep=False)
    assert "stored maps of h, i" in failures(copy, deep=True)["saliency: maps"].detail


def test_missing_and_half_maps(copy: ModelSpace) -> None:
    change(copy, "DELETE FROM maps WHERE space_id = ? AND model_id = ?", *of(copy, "a", "saliency"))
    found = failures(copy, deep=False)
    assert "don't cover every image" in found["model a"].detail
    assert "missing" in found["saliency: maps"].detail


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("statement", "what", "detail"),
    [
        ("UPDATE models SET weights_sha256 = 'x' WHERE name = 'b'", "model b", "its identity is not that"),
        ("UPDATE models SET layer = 'x' WHERE name = 'b'", "model b", "its identity is not that"),
        ("UPDATE spaces SET n_images = 5 WHERE name = 'dds'", "space dds", "is not that of its definition"),
        ("UPDATE spaces SET is_default = true", "registry", "one default space, not 3"),
        ("DELETE FROM probe_images WHERE k = 2", "probe set images", "not numbered 0..n-1"),
        ("UPDATE embeddings SET position = 0", "space saliency", "its positions are not"),
        ("UPDATE embeddings SET residual = 'nan'", "model a", "are not numbers from -1 to 1"),
        ("DELETE FROM embeddings WHERE model_id = 1", "model a", "no space holds it"),
    ],
)
def test_tables_that_contradict_each_other(copy: ModelSpace, statement: str, what: str, detail: str) -> None:
    change(copy, statement)
    assert detail in " ".join(check.detail for check in copy.verify() if check.what == what and not check.ok)


@pytest.mark.wide
def test_probe_images_that_show_something_else(copy: ModelSpace) -> None:
    change(copy, "UPDATE probe_images SET png = (SELECT png FROM probe_images WHERE k = 1) WHERE k = 0")
    assert "do not match its fingerprint" in failures(copy)["probe set images"].detail
    assert "probe set images" not in failures(copy, deep=False)


@pytest.mark.first(1)
@pytest.mark.parametrize("damage", ["bytes", "manifest"])
def test_damaged_index_files(copy: ModelSpace, damage: str) -> None:
    space_id, _ = of(copy, "a", "saliency")
    file = copy.home / INDEX / f"{space_id}.{'faiss' if damage == 'bytes' else 'json'}"
    if damage == "bytes":
        file.write_bytes(flip(file.read_bytes(), 40))
    else:
        file.write_text("{")
    found = failures(copy)
    assert set(found) == {"saliency: index file"}
    assert "rebuild" in found["saliency: index file"].hint
    copy.rebuild()
    assert not failures(copy)
    manifest = json.loads((copy.home / INDEX / f"{space_id}.json").read_text())
    assert manifest["count"] == len(MODELS)


def test_several_damaged_models_are_told_apart(copy: ModelSpace) -> None:
    damage(copy, "b", "saliency", "codes", lambda data: flip(data, 3))
    damage(copy, "g", "saliency", "codes", lambda data: data[::-1])
    assert "stored maps of b, g" in failures(copy)["saliency: maps"].detail.replace("g, b", "b, g")
