"""Rows round-trip through the registry, and invalid ones are refused."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import shelf

from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.registry import EmbeddingRow, MapBlock, ProbeRow, Registry
from modelspace.registry.reading import PART_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.duckdb"
    shelf.make(path, shelf.GI, shelf.SALIENCY)
    return path


def test_one_model_in_two_spaces_round_trips(path: Path) -> None:
    card = shelf.card("depth", tags={"family": "rooms", "seed": "1"}, data="rooms", architecture="cnn", seconds=1.5)
    row = shelf.rows(shelf.units(1))[0]
    with Registry.open(path, write=True) as registry, registry.transaction():
        model_id = registry.add_model(card)
        for space in (shelf.GI, shelf.SALIENCY):
            placed = EmbeddingRow(model_id, 0, row.vector, row.affinities, row.axis, row.residual)
            registry.add_embedding(space.space_id, placed, shelf.blocks("depth", space))
    with Registry.open(path) as registry:
        stored = registry.model("depth")
        assert stored.card == card
        assert stored.spaces == ("gi", "saliency")
        assert abs(stored.added_at - datetime.now(UTC)) < timedelta(minutes=5)
        assert registry.models() == [stored] == registry.find_identity(card.identity())
        for space in (shelf.GI, shelf.SALIENCY):
            assert list(registry.map_blocks(space.space_id, model_id)) == list(shelf.blocks("depth", space))
        (embedding,) = registry.embeddings(shelf.GI.space_id)
        np.testing.assert_array_equal(embedding.vector, row.vector)
        assert (embedding.axis, embedding.residual, embedding.position) == (row.axis, row.residual, 0)
        assert [space.n_models for space in registry.spaces()] == [1, 1]
        assert [space.is_default for space in registry.spaces()] == [True, False]
        assert registry.space().spec == shelf.GI
        assert registry.space("saliency").spec == registry.space(shelf.SALIENCY.space_id).spec == shelf.SALIENCY
        assert registry.check() == []


def test_vectors_are_the_embeddings_padded_with_zeros(path: Path) -> None:
    vectors = shelf.units(7)
    shelf.fill(path, [f"m{i}" for i in range(7)], vectors)
    with Registry.open(path) as registry:
        embeddings = registry.embeddings(shelf.GI.space_id)
        ids, matrix = registry.vectors(shelf.GI.space_id)
        assert registry.vectors(shelf.SALIENCY.space_id)[1].shape == (0, 0)
    expected = np.zeros((7, 7))
    for i, embedding in enumerate(embeddings):
        assert embedding.vector.dtype == embedding.affinities.dtype == np.float64
        assert embedding.position == i
        expected[i, : len(embedding.vector)] = embedding.vector
        np.testing.assert_array_equal(embedding.affinities, (vectors @ vectors.T)[i, :i])
    assert (ids.dtype, matrix.dtype) == (np.int64, np.float32)
    assert ids.tolist() == [embedding.model_id for embedding in embeddings]
    np.testing.assert_array_equal(matrix, expected.astype(np.float32))
    np.testing.assert_allclose(expected @ expected.T, vectors @ vectors.T, atol=1e-12)


@pytest.mark.first(3)
@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES])
def test_blocks_of_every_length_are_cut_and_joined(path: Path, size: int) -> None:
    rng = np.random.default_rng(size)
    block = MapBlock(0, shelf.N_IMAGES, rng.bytes(size), rng.bytes(2 * size + 1))
    row = shelf.rows(shelf.units(1))[0]
    with Registry.open(path, write=True) as registry:
        with registry.transaction():
            model_id = registry.add_model(shelf.card("a"))
            placed = EmbeddingRow(model_id, 0, row.vector, row.affinities, 0, row.residual)
            registry.add_embedding(shelf.GI.space_id, placed, [block])
        assert list(registry.map_blocks(shelf.GI.space_id, model_id)) == [block]
        assert registry.check() == []


def test_no_table_has_an_index(path: Path) -> None:
    """DuckDB 2.0.0 loses committed updates of indexed tables when it replays its log: see scripts/kill_loop.py."""
    with Registry.open(path) as registry:
        assert registry.rows("FROM duckdb_indexes()") == []
        kinds = registry.rows("SELECT DISTINCT constraint_type FROM duckdb_constraints() WHERE schema_name = 'main'")
        assert kinds == [("NOT NULL",)]


def test_no_part_is_long_enough_to_be_stored_out_of_line(path: Path) -> None:
    """From 4,096 bytes on, DuckDB rewrites all maps for every model that is added."""
    shelf.fill(path, ["a", "b"], shelf.units(2))
    with Registry.open(path) as registry:
        ((longest,),) = registry.rows("SELECT max(greatest(octet_length(codes), octet_length(scales))) FROM maps")
        compressions = registry.rows(
            "SELECT DISTINCT compression FROM pragma_storage_info('maps') WHERE column_name = 'codes'"
            " AND segment_type = 'BLOB'"
        )
    assert longest < 4096
    assert compressions == [("Uncompressed",)]


def test_one_block_of_many_models_comes_in_bounded_batches(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"m{i}" for i in range(9)]
    shelf.fill(path, names, shelf.units(9))
    monkeypatch.setattr("modelspace.registry.reading._FETCH_BYTES", 4 * PART_BYTES)  # one block of three parts
    with Registry.open(path) as registry:
        assert registry.block_starts(shelf.GI.space_id) == [0, 3]
        for first, number in ((0, 0), (3, 1)):
            expected = [(i + 1, list(shelf.blocks(name))[number]) for i, name in enumerate(names)]
            assert list(registry.map_blocks_at(shelf.GI.space_id, first)) == expected
            selected = [expected[i] for i in (1, 4, 8)]
            assert list(registry.map_blocks_at(shelf.GI.space_id, first, [9, 2, 5, 77])) == selected
        assert list(registry.map_blocks_at(shelf.GI.space_id, 0, [])) == []
        assert list(registry.map_blocks_at(shelf.GI.space_id, 1)) == []


def test_removing_renaming_and_updating(path: Path) -> None:
    shelf.fill(path, ["a", "b", "c"], vectors := shelf.units(3), shelf.GI, shelf.SALIENCY)
    with Registry.open(path, write=True) as registry:
        before = {space.spec.name: space.generation for space in registry.spaces()}
        with registry.transaction():
            registry.remove_model(registry.model("b").model_id)
            for space in (shelf.GI, shelf.SALIENCY):
                registry.replace_coordinates(space.space_id, shelf.rows(vectors[[0, 2]], [1, 3]))
            registry.rename_model("c", "b")  # a name that has just become free
            registry.update_model(3, task=None, tags={"x": "y"})
        after = {space.spec.name: space.generation for space in registry.spaces()}
        assert all(after[name] > before[name] for name in before)
        assert registry.check() == []
    with Registry.open(path) as registry:
        renamed = registry.model("b")
        assert (renamed.model_id, renamed.card.task, renamed.card.tags) == (3, None, {"x": "y"})
        assert list(registry.map_blocks(shelf.GI.space_id, 3)) == list(shelf.blocks("c"))
        assert list(registry.map_blocks(shelf.GI.space_id, 2)) == []
        np.testing.assert_array_equal(registry.embeddings(shelf.GI.space_id)[1].affinities, [vectors[0] @ vectors[2]])


def test_a_models_id_is_never_reused(path: Path) -> None:
    shelf.fill(path, ["a", "b"], shelf.units(2))
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.remove_model(2)
    with Registry.open(path, write=True) as registry, registry.transaction():
        assert registry.add_model(shelf.card("c")) == 3


def test_probe_images_are_kept_in_order(path: Path) -> None:
    probes = ProbeRow("folder-id", "folder", "folder", {"files": ["b.png", "a.png"]}, 3, 32)
    images = [("b.png", b"one"), ("a.png", b"two" * 5000), ("c.png", b"three")]
    with Registry.open(path, write=True) as registry:
        with registry.transaction():
            registry.add_probe_set(probes, iter(images))
        assert registry.probe_set("folder") == registry.probe_set("folder-id") == probes
        assert registry.probe_images("folder-id", 1, 2) == [images[1][1], b"three"]
        assert registry.probe_images("folder-id", 2, 9) == [b"three"]
        with pytest.raises(ConflictError, match="'folder' exists already"), registry.transaction():
            registry.add_probe_set(ProbeRow("other", "folder", "folder", {}, 1, 32), None)
        with pytest.raises(UsageError, match="has 2 images, but got 1"), registry.transaction():
            registry.add_probe_set(ProbeRow("x", "x", "folder", {}, 2, 32), [("a", b"")])
        assert [row.name for row in registry.probe_sets()] == ["rooms", "folder"]


def test_the_default_space_can_be_changed(path: Path) -> None:
    with Registry.open(path, write=True) as registry:
        with registry.transaction():
            registry.set_default_space("saliency")
        assert registry.space().spec.name == "saliency"
        assert registry.check() == []


BAD_ROWS: dict[str, dict] = {
    "nan": {"vector": [np.nan, 1]},
    "infinite": {"vector": [np.inf]},
    "zero": {"vector": [0, 0]},
    "empty": {"vector": []},
    "affinity": {"affinities": [np.nan]},
    "too many affinities": {"affinities": [0.1, 0.2]},
    "residual": {"residual": np.nan},
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_values_that_would_break_every_ranking_are_refused(path: Path, name: str) -> None:
    """DuckDB and FAISS sort NaN and zero vectors first."""
    values: dict = {"vector": [1.0], "affinities": [], "residual": 1.0, **BAD_ROWS[name]}
    row = EmbeddingRow(1, 0, np.array(values["vector"]), np.array(values["affinities"]), 0, values["residual"])
    with Registry.open(path, write=True) as registry:
        with pytest.raises(UsageError, match="model 1"), registry.transaction():
            registry.add_embedding(shelf.GI.space_id, row, shelf.blocks("a"))
        assert registry.models() == []
        shelf_row = shelf.rows(shelf.units(1))[0]
        with registry.transaction():
            model_id = registry.add_model(shelf.card("a"))
            valid = EmbeddingRow(model_id, 0, shelf_row.vector, shelf_row.affinities, 0, 1.0)
            registry.add_embedding(shelf.GI.space_id, valid, shelf.blocks("a"))
        invalid = EmbeddingRow(model_id, 0, row.vector, row.affinities, 0, row.residual)
        with pytest.raises(UsageError, match=f"model {model_id}"), registry.transaction():
            registry.replace_coordinates(shelf.GI.space_id, [invalid])
        np.testing.assert_array_equal(registry.embeddings(shelf.GI.space_id)[0].vector, valid.vector)


def test_conflicts_are_reported(path: Path) -> None:
    shelf.fill(path, ["a", "b"], shelf.units(2))
    row = shelf.rows(shelf.units(3))[2]
    with Registry.open(path, write=True) as registry:

        def refused(error: type[Exception], match: str, change) -> None:  # type: ignore[no-untyped-def]
            with pytest.raises(error, match=match), registry.transaction():
                change()

        gi = shelf.GI.space_id
        add = registry.add_embedding
        third = EmbeddingRow(3, 2, row.vector, row.affinities, 2, row.residual)
        refused(ConflictError, "'a' exists already", lambda: registry.add_model(shelf.card("a")))
        refused(UsageError, "can't be called", lambda: registry.add_model(shelf.card("a\nb")))
        refused(UsageError, "can't be called", lambda: registry.rename_model("a", " b"))
        refused(ConflictError, "'b' exists already", lambda: registry.rename_model("a", "b"))
        refused(NotFoundError, "no model 'x'", lambda: registry.rename_model("x", "y"))
        refused(NotFoundError, "id 9", lambda: registry.remove_model(9))
        refused(NotFoundError, "id 9", lambda: registry.update_model(9, task="x"))
        refused(NotFoundError, "id 3", lambda: add(gi, third, shelf.blocks("c")))
        refused(NotFoundError, "no space", lambda: add("nowhere", third, shelf.blocks("c")))
        duplicate = EmbeddingRow(1, 2, row.vector, row.affinities, 2, row.residual)
        refused(ConflictError, "already", lambda: add(gi, duplicate, shelf.blocks("a")))
        refused(ConflictError, "space 'gi' exists already", lambda: registry.add_space(shelf.GI, default=True))
        same = dataclasses.replace(shelf.GI, name="other")
        message = "'gi' has the same definition as 'other'"
        refused(ConflictError, message, lambda: registry.add_space(same, default=True))
        like_an_id = type(shelf.GI)("0123456789abcdef", "probes", "x", 1, 8)
        refused(UsageError, "looks like a space id", lambda: registry.add_space(like_an_id, default=True))
        refused(
            NotFoundError,
            "no probe set",
            lambda: registry.add_space(type(shelf.GI)("n", "none", "x", 1, 8), default=True),
        )

        def add_third(position: int = 2, blocks: list[MapBlock] | None = None) -> None:
            model_id = registry.add_model(shelf.card("c"))
            placed = EmbeddingRow(model_id, position, row.vector, row.affinities, 2, row.residual)
            add(gi, placed, list(shelf.blocks("c")) if blocks is None else blocks)

        refused(ConflictError, "next position .* is 2, not 3", lambda: add_third(position=3))
        refused(UsageError, "cover 0 of", lambda: add_third(blocks=[]))
        refused(UsageError, "cover 3 of the space's 5", lambda: add_third(blocks=list(shelf.blocks("c"))[:1]))
        refused(UsageError, "image 3, but the next image is 0", lambda: add_third(blocks=list(shelf.blocks("c"))[1:]))

        coordinates = shelf.rows(shelf.units(2))
        replace = registry.replace_coordinates
        refused(ConflictError, "each model", lambda: replace(gi, coordinates[:1]))
        refused(ConflictError, "each model", lambda: replace(gi, [coordinates[0], coordinates[0]]))
        refused(ConflictError, "positions", lambda: replace(gi, coordinates[::-1]))
        assert [model.card.name for model in registry.models()] == ["a", "b"]
        assert registry.check() == []


def test_a_failed_or_interrupted_transaction_leaves_nothing(path: Path) -> None:
    row = shelf.rows(shelf.units(1))[0]

    def interrupted():  # type: ignore[no-untyped-def]
        yield next(shelf.blocks("a"))
        raise KeyboardInterrupt

    def add(registry: Registry) -> None:
        model_id = registry.add_model(shelf.card("a"))
        placed = EmbeddingRow(model_id, 0, row.vector, row.affinities, 0, row.residual)
        registry.add_embedding(shelf.GI.space_id, placed, interrupted())

    with Registry.open(path, write=True) as registry:
        with pytest.raises(KeyboardInterrupt), registry.transaction():
            add(registry)
        assert registry.models() == []
        assert registry.embeddings(shelf.GI.space_id) == []
        assert registry.block_starts(shelf.GI.space_id) == []
        with registry.transaction():
            registry.add_model(shelf.card("a"))  # the registry is still usable


def test_changes_need_a_transaction_and_a_writer(path: Path) -> None:
    with Registry.open(path, write=True) as registry:
        with pytest.raises(RuntimeError, match="need a transaction"):
            registry.add_model(shelf.card("a"))
        with registry.transaction(), pytest.raises(RuntimeError, match="can't be nested"), registry.transaction():
            pass
    with Registry.open(path) as registry, pytest.raises(RuntimeError, match="open for writing"), registry.transaction():
        pass


def test_unknown_names_suggest_near_matches(path: Path) -> None:
    shelf.fill(path, ["surface_normals", "depth"], shelf.units(2))
    with Registry.open(path) as registry:
        with pytest.raises(NotFoundError, match="did you mean surface_normals"):
            registry.model("surfacenormals")
        with pytest.raises(NotFoundError, match="did you mean surface_normals"):
            registry.model("Normals")
        with pytest.raises(NotFoundError, match="available: depth, surface_normals"):
            registry.model("xxxx")
        with pytest.raises(NotFoundError, match="did you mean saliency"):
            registry.space("salency")
        with pytest.raises(NotFoundError, match="did you mean rooms"):
            registry.probe_set("room")


def test_exactness_follows_from_axes_and_residuals(path: Path) -> None:
    shelf.fill(path, ["a", "b"], vectors := shelf.units(2))
    with Registry.open(path, write=True) as registry:
        assert registry.is_exact(shelf.GI.space_id, 1e-10)
        first, second = shelf.rows(vectors)
        for residual, exact in ((1e-11, True), (1e-3, False)):
            cut = EmbeddingRow(2, 1, second.vector[:1], second.affinities, None, residual)
            with registry.transaction():
                registry.replace_coordinates(shelf.GI.space_id, [first, cut])
            assert registry.is_exact(shelf.GI.space_id, 1e-10) is exact
            assert registry.embeddings(shelf.GI.space_id)[1].axis is None
