"""Stored maps, their affinities and coordinates, without models: the maps are random."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modelspace.registry import Registry
from modelspace.representations.maps import MapWriter
from modelspace.spaces import affinity, coordinates, index
from modelspace.spaces.neighbours import Ranker, Target, load_index
from modelspace.spaces.ranking import PLAIN
from modelspace.types import ModelCard, Preprocessing
from modelspace.workspace import ModelSpace

N_IMAGES, SIDE = 6, 8


def card(name: str) -> ModelCard:
    return ModelCard(name, f"test:{name}", name, "output", "test", (1,), Preprocessing.raw((8, 8)), 1)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    ModelSpace.create(tmp_path, images=N_IMAGES, canvas=SIDE, bits=32)
    with Registry.open(tmp_path / "registry.duckdb", write=True) as opened:
        yield opened


def store(registry: Registry, name: str, maps: np.ndarray) -> int:
    """Register a model with these maps, (N_IMAGES, SIDE, SIDE)."""
    spec = registry.space().spec
    writer = MapWriter(SIDE, spec.bits)
    writer.write((maps / np.linalg.norm(maps, axis=(1, 2), keepdims=True)).astype(np.float32))
    blocks = writer.close()
    with registry.transaction():
        model_id = registry.add_model(card(name))
        affinity.append(registry, spec, model_id, {spec.space_id: blocks}, {})
    return model_id


def definition(registry: Registry, ids: list[int]) -> np.ndarray:
    """Mean cosine per image of the stored maps, all pairs, in float64."""
    spec = registry.space().spec
    stacked = []
    for model_id in ids:
        codes = b"".join(block.codes for block in registry.map_blocks(spec.space_id, model_id))
        maps = np.frombuffer(codes, "<f4").astype(np.float64).reshape(N_IMAGES, -1)
        stacked.append(maps / np.linalg.norm(maps, axis=1, keepdims=True))
    stack = np.stack(stacked)
    return np.einsum("anp,bnp->ab", stack, stack) / N_IMAGES


def family(rng: np.random.Generator) -> list[np.ndarray]:
    """An original, an exact copy, and near-copies at 1e-4, 1e-3 and 1e-2."""
    original = rng.standard_normal((N_IMAGES, SIDE, SIDE))
    return [original + amount * rng.standard_normal(original.shape) for amount in (0, 0, 1e-4, 1e-3, 1e-2)]


@pytest.mark.wide
@pytest.mark.parametrize("families", [12, pytest.param(40, marks=pytest.mark.long)])
def test_index_inner_products_are_the_affinities_of_models_with_near_copies(registry: Registry, families: int) -> None:
    rng = np.random.default_rng(0)
    members = [maps for _ in range(families) for maps in family(rng)]
    ids = [store(registry, f"m{i}", members[i]) for i in rng.permutation(len(members))]
    expected = definition(registry, ids)
    loaded = load_index(registry, registry.space())
    vectors = np.stack([loaded.vector(i) for i in ids]).astype(np.float64)
    assert len(ids) == 5 * families
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-6)
    scores, neighbours = loaded.search(vectors.astype(np.float32), len(ids))
    for row, target in enumerate(ids):
        by_id = dict(zip(neighbours[row].tolist(), scores[row].tolist(), strict=True))
        np.testing.assert_allclose([by_id[i] for i in ids], expected[ids.index(target)], atol=1e-6)
    order, matrix = affinity.matrix(registry, registry.space().spec, set(ids))
    assert order == ids
    np.testing.assert_allclose(matrix, expected, atol=1e-12)


@pytest.mark.wide
def test_removing_an_original_keeps_its_copies_exact(registry: Registry) -> None:
    rng = np.random.default_rng(1)
    ids = [store(registry, f"m{i}", maps) for i, maps in enumerate(maps for _ in range(3) for maps in family(rng))]
    for removed in (ids[0], ids[7], ids[-1]):
        with registry.transaction():
            affinity.remove(registry, removed)
        ids.remove(removed)
        expected = definition(registry, ids)
        stored = registry.embeddings(registry.space().spec.space_id)
        vectors = coordinates.matrix([row.vector for row in stored])
        assert [row.model_id for row in stored] == ids
        np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-12)
    assert registry.check() == []


@pytest.mark.wide
def test_past_the_cap_queries_are_ranked_by_the_maps(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    # The cap is a default argument of several functions.
    monkeypatch.setattr(coordinates.Factor.__init__, "__defaults__", (4, coordinates.TOLERANCE))
    monkeypatch.setattr(coordinates.Factor.from_rows.__func__, "__defaults__", (4, coordinates.TOLERANCE))
    monkeypatch.setattr(coordinates.factorise, "__defaults__", (4, coordinates.TOLERANCE))
    rng = np.random.default_rng(2)
    shared = rng.standard_normal((N_IMAGES, SIDE, SIDE))
    ids = [store(registry, f"m{i}", shared + rng.standard_normal(shared.shape)) for i in range(12)]
    spec = registry.space().spec
    assert not registry.is_exact(spec.space_id, coordinates.TOLERANCE)
    expected = definition(registry, ids)
    rows = {row.model_id: row for row in registry.models()}
    for position, target in enumerate(ids):
        ranking = Ranker(registry, registry.space(), PLAIN).rank(Target("target", target), 3).records(rows, 3)
        order = [int(i) for i in np.argsort(-expected[position]) if i != position]
        assert [row.name for row in ranking] == [f"m{i}" for i in order[:3]]
        np.testing.assert_allclose([row.affinity for row in ranking], expected[position][order[:3]], atol=1e-12)
    order, matrix = affinity.matrix(registry, spec, set(ids))
    np.testing.assert_allclose(matrix, expected, atol=1e-12)
    with registry.transaction():
        affinity.remove(registry, ids.pop(1))
    _, matrix = affinity.matrix(registry, spec, set(ids))
    np.testing.assert_allclose(matrix, definition(registry, ids), atol=1e-12)
    with registry.transaction():
        affinity.rebuild(registry, spec)
    assert registry.check() == []


@pytest.mark.wide
def test_a_stale_or_damaged_index_is_never_used(registry: Registry) -> None:
    rng = np.random.default_rng(3)
    ids = [store(registry, f"m{i}", maps) for i, maps in enumerate(family(rng))]
    space = registry.space()
    folder = registry.path.parent / "index"
    load_index(registry, space)
    assert index.status(folder, space.spec.space_id, registry.registry_id, space.generation)[0] == "fresh"
    ids.append(store(registry, "late", rng.standard_normal((N_IMAGES, SIDE, SIDE))))
    space = registry.space()
    assert index.status(folder, space.spec.space_id, registry.registry_id, space.generation)[0] == "stale"
    assert load_index(registry, space).ids.tolist() == ids
    file = folder / f"{space.spec.space_id}.faiss"
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(bytes(data))
    assert index.status(folder, space.spec.space_id, registry.registry_id, space.generation)[0] == "damaged"
    vectors = np.stack([load_index(registry, space).vector(i) for i in ids]).astype(np.float64)
    np.testing.assert_allclose(vectors @ vectors.T, definition(registry, ids), atol=1e-6)
