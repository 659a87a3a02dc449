"""A row that something else changed is noticed by the query that reads it; `verify` says which it is."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest
import shelf
from tiny import add, net

from modelspace.errors import DamagedError
from modelspace.registry import Registry, checksums, outcomes, schema
from modelspace.workspace import ModelSpace

GI = shelf.GI.space_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.duckdb"
    shelf.filled(path, 3)
    return path


def change(path: Path, statement: str) -> None:
    with duckdb.connect(str(path)) as duck:
        (count,) = duck.execute(statement).fetchall()[0]
        assert count >= 1, "the statement changed nothing"


#: Changes that keep every number in its range, so that nothing but a checksum could tell.
OF_VECTORS = {
    "a number": "UPDATE embeddings SET vector = list_transform(vector, lambda x: x * 0.999) WHERE model_id = 2",
    "the sign": "UPDATE embeddings SET vector = list_transform(vector, lambda x: -x) WHERE model_id = 2",
    "of another model": "UPDATE embeddings SET vector = (SELECT any_value(vector) FROM embeddings WHERE model_id = 1)"
    " WHERE model_id = 2",
    "the residual": "UPDATE embeddings SET residual = residual * 0.9 WHERE model_id = 2",
    "the axis": "UPDATE embeddings SET axis = NULL WHERE model_id = 2",
    "models exchanged": "UPDATE embeddings SET model_id = 5 - model_id WHERE model_id IN (2, 3)",
}
OF_AFFINITIES = {
    "a number": "UPDATE embeddings SET affinities = list_transform(affinities, lambda x: x * 0.9 + 0.01)"
    " WHERE model_id = 3",
    "one too few": "UPDATE embeddings SET affinities = affinities[:1] WHERE model_id = 3",
}
OF_MAPS = {
    "a byte": "UPDATE maps SET codes = '\\x01'::BLOB || codes[2:] WHERE model_id = 2",
    "the scales": "UPDATE maps SET scales = '\\x01'::BLOB || scales[2:] WHERE model_id = 2",
    "models exchanged": "UPDATE maps SET model_id = 5 - model_id WHERE model_id IN (2, 3)",
}


@pytest.mark.parametrize("statement", OF_VECTORS.values(), ids=OF_VECTORS)
def test_a_changed_vector_is_refused(path: Path, statement: str) -> None:
    change(path, statement)
    with Registry.open(path) as registry:
        for read in (registry.embeddings, registry.vectors):
            with pytest.raises(
                DamagedError, match=r"the vector of model 'm[12]' in the space .* is not what was stored"
            ):
                read(GI)
        assert set(registry.changed_embeddings(GI)) <= {2, 3}
        assert 2 in registry.changed_embeddings(GI)
        registry.checks_rows = False
        assert len(registry.embeddings(GI)) == len(registry.vectors(GI)[0]) == 3


@pytest.mark.parametrize("statement", OF_AFFINITIES.values(), ids=OF_AFFINITIES)
def test_changed_affinities_are_refused(path: Path, statement: str) -> None:
    change(path, statement)
    with Registry.open(path) as registry:
        with pytest.raises(DamagedError, match="the row of affinities of model 'm2'"):
            registry.embeddings(GI)
        assert registry.changed_embeddings(GI) == [3]
        assert len(registry.vectors(GI)[0]) == 3  # which doesn't read them


@pytest.mark.parametrize("name", OF_MAPS)
def test_changed_maps_are_refused(path: Path, name: str) -> None:
    change(path, OF_MAPS[name])
    with Registry.open(path) as registry:
        with pytest.raises(DamagedError, match="is not what was stored"):
            list(registry.map_blocks(GI, 2))
        with pytest.raises(DamagedError, match="is not what was stored"):
            list(registry.map_blocks_at(GI, 0))
        assert 2 in registry.changed_maps(GI, [1, 2, 3])


def test_rows_without_checksums_are_read(path: Path) -> None:
    change(path, "UPDATE embeddings SET vector_checksum = NULL, affinities_checksum = NULL, residual = residual * 0.9")
    change(path, "UPDATE maps SET checksum = NULL")
    with Registry.open(path) as registry:
        assert len(registry.embeddings(GI)) == 3
        assert registry.changed_embeddings(GI) == []
        assert registry.changed_maps(GI, [1, 2, 3]) == []


def test_a_registry_without_the_columns_is_read(path: Path) -> None:
    with duckdb.connect(str(path)) as duck:
        duck.execute(f"DELETE FROM migrations WHERE number >= {schema.CHECKSUMS}")
        duck.execute("DROP TABLE anchors; DROP TABLE anchor_maps")
        for column in ("next_position", "n_models", "epoch"):
            duck.execute(f"ALTER TABLE spaces DROP {column}")
        for column in ("coordinates", "coordinates_checksum"):
            duck.execute(f"ALTER TABLE embeddings DROP {column}")
        duck.execute("ALTER TABLE embeddings DROP vector_checksum")
        duck.execute("ALTER TABLE embeddings DROP affinities_checksum")
        duck.execute("ALTER TABLE maps DROP checksum")
        duck.execute("ALTER TABLE outcomes DROP checksum")
        duck.execute("ALTER TABLE models DROP torch")
    with Registry.open(path) as registry:
        assert [row.card.torch for row in registry.models()] == ["", "", ""]
        assert len(registry.embeddings(GI)) == len(registry.vectors(GI)[0]) == 3
        assert len(list(registry.map_blocks(GI, 2))) > 0
    with Registry.open(path, write=True) as registry:
        assert registry.schema_number == len(schema.known())
        assert len(registry.embeddings(GI)) == 3


OF_OUTCOMES = {
    "the score": "score = 0.9",
    "of another task": "task_id = (SELECT max(task_id) FROM tasks)",
    "of other weights": "weights_sha256 = 'x'",
    "the seed": "seed = 8",
    "the settings": "settings = '{\"k\": 1}'",
}


@pytest.mark.first(1)
@pytest.mark.parametrize("assignment", OF_OUTCOMES.values(), ids=OF_OUTCOMES)
def test_a_changed_outcome_is_refused(path: Path, assignment: str) -> None:
    space = ModelSpace(path.parent)
    space.add_task("flowers")
    space.add_task("roses")
    space.observe("flowers", "m0", 0.5, seed=7)
    space.observe("flowers", "m1", 0.6)
    change(path, f"UPDATE outcomes SET {assignment} WHERE outcome_id = 1")
    with pytest.raises(DamagedError, match=r"outcome 1, of model 'm0' on the task '\w+', is not what was stored"):
        space.outcomes()
    with Registry.open(path) as registry:
        assert [problem.subject for problem in registry.check()] == ["outcome 1"]
        registry.checks_rows = False
        assert len(outcomes.outcomes(registry)) == 2


@pytest.mark.wide
def test_what_the_program_itself_changes_stays_valid(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, images=3, methods=("saliency", "dds"), canvas=8)
    for seed, name in enumerate("abc"):
        add(space, name, net(seed))
    space.add_task("flowers")
    space.observe("flowers", "a", 0.5)
    space.rename("a", "z")
    space.tag("c", task="depth")
    space.remove("b")
    space.rename_task("flowers", "tulips")
    space.rebuild(coordinates=True)
    assert [check.what for check in space.verify(deep=True) if not check.ok] == []
    assert {row.model for row in space.outcomes()} == {"z"}


@pytest.mark.wide
def test_damaged_maps_are_never_made_the_truth(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, images=3, methods=("saliency",), canvas=8)
    for seed, name in enumerate("abc"):
        add(space, name, net(seed))
    before = space.affinity().matrix.copy()
    change(
        space.path, "UPDATE maps SET codes = (SELECT any_value(codes) FROM maps WHERE model_id = 1) WHERE model_id = 2"
    )
    with pytest.raises(DamagedError, match="is not what was stored"):
        space.rebuild(coordinates=True)
    np.testing.assert_array_equal(space.affinity().matrix, before)
    (failed,) = [check for check in space.verify(deep=True) if not check.ok]
    assert failed.what == "saliency: maps"
    assert "those of b" in failed.detail or "maps of b" in failed.detail
    assert "don't use `space.rebuild(coordinates=True)`" in failed.hint


def test_a_checksum_depends_on_everything() -> None:
    vector, owner = np.array([0.5, -0.25]), checksums.of_owner("s", 1, 0, 5)
    of_vector = {
        checksums.of_vector(*arguments)
        for arguments in (
            ("s", 1, vector, 0, 0.5),
            ("t", 1, vector, 0, 0.5),
            ("s", 2, vector, 0, 0.5),
            ("s", 1, -vector, 0, 0.5),
            ("s", 1, vector[:1], 0, 0.5),
            ("s", 1, vector, None, 0.5),
            ("s", 1, vector, 0, 0.25),
        )
    }
    of_part = {
        checksums.of_part(*arguments)
        for arguments in (
            (owner, 0, b"ab", b"c"),
            (owner, 1, b"ab", b"c"),
            (owner, 0, b"a", b"bc"),
            (checksums.of_owner("s", 1, 1, 5), 0, b"ab", b"c"),
            (checksums.of_owner("s", 1, 0, 6), 0, b"ab", b"c"),
        )
    }
    assert (len(of_vector), len(of_part)) == (7, 5)
    assert checksums.of_vector("s", 1, vector, 0, 0.5) == checksums.of_vector("s", 1, vector[::1].copy(), 0, 0.5)
    assert checksums.of_outcome([1, 0.5, None]) != checksums.of_outcome([1, 0.5, ""])
