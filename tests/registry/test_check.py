"""`check` finds nothing in an intact registry, and every kind of damage that could affect a query."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
import shelf

from modelspace.registry import Registry

DAMAGE = {
    "a name twice": ("UPDATE models SET name = 'm0' WHERE model_id = 2", "model m0", "name exists more than once"),
    "an id twice": ("INSERT INTO models FROM models WHERE model_id = 2", "model 2", "id exists more than once"),
    "a space twice": ("INSERT INTO spaces FROM spaces WHERE name = 'gi'", "space gi", "name exists more than once"),
    "a set twice": ("INSERT INTO probe_sets FROM probe_sets", "probe set rooms", "name exists more than once"),
    "two defaults": ("UPDATE spaces SET is_default = true", "registry", "one default space, not 2"),
    "no default": ("UPDATE spaces SET is_default = false", "registry", "one default space, not 0"),
    "probe set gone": ("DELETE FROM probe_sets", "space gi", "probe set probes is not in the registry"),
    "probe set too small": ("UPDATE probe_sets SET n_images = 4", "space gi", "more images than the 4"),
    "images not all there": (
        "INSERT INTO probe_images VALUES ('probes', 1, 'x', ''::BLOB)",
        "probe set rooms",
        "numbered",
    ),
    "images of nothing": (
        "INSERT INTO probe_images VALUES ('x', 0, 'x', ''::BLOB)",
        "probe set x",
        "missing probe set",
    ),
    "a gap": ("DELETE FROM embeddings WHERE model_id = 2 AND space_id = '{gi}'", "space gi", "0..n-1"),
    "a position twice": ("UPDATE embeddings SET position = 1 WHERE model_id = 3", "space gi", "0..n-1"),
    "embedded twice": ("INSERT INTO embeddings FROM embeddings WHERE model_id = 1", "model m0", "more than once"),
    "in no space": ("DELETE FROM embeddings WHERE model_id = 3", "model m2", "no space holds it"),
    "no such model": ("DELETE FROM models WHERE model_id = 3", "model 3", "the model is missing"),
    "no such space": ("DELETE FROM spaces WHERE name = 'saliency'", "space", "the space is missing"),
    "maps of nothing": ("DELETE FROM embeddings WHERE model_id = 3", "model 3", "but no embedding"),
    "maps gone": ("DELETE FROM maps WHERE model_id = 2", "model m1", "don't cover every image"),
    "one block gone": (
        "DELETE FROM maps WHERE model_id = 2 AND first_image = 3",
        "model m1",
        "don't cover every image",
    ),
    "one part gone": ("DELETE FROM maps WHERE model_id = 2 AND part = 1", "model 2", "incomplete"),
    "blocks overlap": ("UPDATE maps SET first_image = 2 WHERE model_id = 2 AND first_image = 3", "model m1", "cover"),
    "not a number": ("UPDATE embeddings SET vector = ['nan'] WHERE model_id = 1", "model m0", "from -1 to 1"),
    "a zero vector": ("UPDATE embeddings SET vector = [0, 0] WHERE model_id = 1", "model m0", "from -1 to 1"),
    "too long": ("UPDATE embeddings SET vector = [1, 1] WHERE model_id = 1", "model m0", "from -1 to 1"),
    "empty": ("UPDATE embeddings SET vector = [] WHERE model_id = 1", "model m0", "from -1 to 1"),
    "an affinity": ("UPDATE embeddings SET affinities = [2] WHERE model_id = 2", "model m1", "from -1 to 1"),
    "nan affinity": ("UPDATE embeddings SET affinities = ['nan'] WHERE model_id = 2", "model m1", "from -1 to 1"),
    "too many": ("UPDATE embeddings SET affinities = [0, 0, 0] WHERE model_id = 1", "model m0", "from -1 to 1"),
    "axis out of range": ("UPDATE embeddings SET axis = 7 WHERE model_id = 1", "model m0", "axis 7 is outside"),
    "axis twice": ("UPDATE embeddings SET axis = 0 WHERE model_id = 2", "model m1", "another model"),
    "other definition": ("UPDATE spaces SET canvas = 9 WHERE name = 'gi'", "space gi", "not that of its definition"),
    "other weights": ("UPDATE models SET weights_sha256 = 'x' WHERE model_id = 1", "model m0", "its identity"),
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "registry.duckdb"
    shelf.make(path, shelf.GI, shelf.SALIENCY)
    shelf.fill(path, ["m0", "m1", "m2"], shelf.units(3), shelf.GI, shelf.SALIENCY)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, intact: bytes) -> Path:
    path = tmp_path / "registry.duckdb"
    path.write_bytes(intact)
    return path


def test_an_intact_registry_has_no_problems(path: Path) -> None:
    with Registry.open(path) as registry:
        assert registry.check() == []


@pytest.mark.first(12)
@pytest.mark.parametrize("name", DAMAGE)
def test_each_kind_of_damage_is_reported(path: Path, name: str) -> None:
    statement, subject, message = DAMAGE[name]
    duck = duckdb.connect(str(path))
    duck.execute(statement.format(gi=shelf.GI.space_id))
    duck.close()
    with Registry.open(path) as registry:
        registry.checks_rows = False  # as `verify` does
        problems = registry.check()
    assert any(p.subject.startswith(subject) and message in p.message for p in problems), problems
