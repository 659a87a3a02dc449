"""Projections in the registry: they round-trip, follow their models, and are checked."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest
import shelf

from modelspace.errors import NotFoundError, UsageError
from modelspace.registry import ProjectionRow, Registry, schema

MADE_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def projection(ids: list[int], seed: int = 0) -> ProjectionRow:
    points = np.random.default_rng(seed).normal(size=(len(ids), 2))
    placed = np.arange(len(ids)) % 2 == 1
    return ProjectionRow(
        np.array(ids, dtype=np.int64), points, placed, {"method": "umap", "min_dist": 0.3}, seed, MADE_AT
    )


def store(path: Path, row: ProjectionRow) -> None:
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.set_projection("gi", row)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.duckdb"
    shelf.make(path, shelf.GI, shelf.SALIENCY)
    shelf.fill(path, ["m0", "m1", "m2"], shelf.units(3), shelf.GI, shelf.SALIENCY)
    return path


def test_a_projection_round_trips_and_replaces_the_last(path: Path) -> None:
    with Registry.open(path) as registry:
        generations = [row.generation for row in registry.spaces()]
        assert registry.projection(shelf.GI.space_id) is None
    for row in (projection([1, 2], 7), projection([1, 2, 3], 8)):
        store(path, row)
        with Registry.open(path) as registry:
            stored = registry.projection(shelf.GI.space_id)
            assert stored is not None
            np.testing.assert_array_equal(stored.model_ids, row.model_ids)
            np.testing.assert_array_equal(stored.coordinates, row.coordinates)
            np.testing.assert_array_equal(stored.placed, row.placed)
            assert (stored.parameters, stored.seed, stored.made_at) == (row.parameters, row.seed, MADE_AT)
            assert registry.projection(shelf.SALIENCY.space_id) is None
            assert registry.check() == []
            # The index does not depend on it.
            assert [row.generation for row in registry.spaces()] == generations


def test_removing_a_model_removes_its_point(path: Path) -> None:
    store(path, projection([1, 2, 3]))
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.remove_model(2)
    with Registry.open(path) as registry:
        stored = registry.projection(shelf.GI.space_id)
        assert stored is not None
        assert stored.model_ids.tolist() == [1, 3]


def test_invalid_projections_are_refused(path: Path) -> None:
    valid = projection([1, 2])
    invalid = projection([1, 2])
    invalid.coordinates[0, 0] = np.nan
    for row, kind in ((projection([1, 9]), NotFoundError), (projection([1, 1]), UsageError), (invalid, UsageError)):
        with pytest.raises(kind):
            store(path, row)
    with pytest.raises(NotFoundError), Registry.open(path, write=True) as registry, registry.transaction():
        registry.set_projection("nowhere", valid)
    with Registry.open(path, write=True) as registry, pytest.raises(RuntimeError, match="transaction"):
        registry.set_projection("gi", valid)


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("INSERT INTO projections FROM projections", "stored 2 times"),
        ("UPDATE projections SET space_id = 'x'", "the space is missing"),
        ("DELETE FROM projections", "which is missing"),
        ("UPDATE projection_points SET model_id = 9 WHERE model_id = 1", "does not hold it"),
        ("INSERT INTO projection_points FROM projection_points WHERE model_id = 1", "stored twice"),
        ("UPDATE projection_points SET x = 'nan' WHERE model_id = 1", "not finite"),
    ],
)
def test_damage_is_detected(path: Path, statement: str, message: str) -> None:
    store(path, projection([1, 2]))
    duck = duckdb.connect(str(path))
    duck.execute(statement)
    duck.close()
    with Registry.open(path) as registry:
        assert any(message in problem.message for problem in registry.check())


def test_an_older_registry_has_no_projection_and_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(schema.FOLDER, folder)
    newer = sorted(folder.glob("*.sql"))[2:]
    for file in newer:
        file.unlink()
    path = tmp_path / "registry.duckdb"
    with monkeypatch.context() as before:
        before.setattr(schema, "FOLDER", folder)
        shelf.filled(path, 2)  # only creates; no migration 3 yet
    with Registry.open(path) as registry:
        assert registry.projection(shelf.GI.space_id) is None
        assert registry.check() == []
    store(path, projection([1, 2]))
    with Registry.open(path) as registry:
        assert registry.projection(shelf.GI.space_id) is not None
