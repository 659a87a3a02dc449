"""Repair writes what is intact into a new registry, says what was lost, and leaves the damaged one as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest
from tiny import add, net
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.errors import ConflictError, DamagedError
from modelspace.registry import Registry
from modelspace.workspace import ModelSpace


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    """Four models in maps, kernels and a blend, with tags, a task and outcomes."""
    space = ModelSpace.create(
        tmp_path_factory.mktemp("repair") / "home", images=3, methods=("saliency", "dds"), canvas=8
    )
    space.blend("both", {"saliency": 1, "dds": 1}, default=True)
    for seed, name in enumerate("abcd"):
        add(space, name, net(seed))
    space.tag("b", {"author": "me"}, task="depth")
    space.add_task("flowers")
    for name, score in zip("abcd", (0.1, 0.2, 0.3, 0.4), strict=True):
        space.observe("flowers", name, score)
    return space


@pytest.fixture
def space(whole: ModelSpace, tmp_path: Path) -> ModelSpace:
    shutil.copytree(whole.home, tmp_path / "home")
    return ModelSpace(tmp_path / "home")


def change(space: ModelSpace, *statements: str) -> None:
    with duckdb.connect(str(space.path)) as duck:
        for statement in statements:
            duck.execute(statement)


def opened(file: Path) -> ModelSpace:
    """The repaired registry as a space of its own."""
    home = file.parent / "repaired"
    home.mkdir()
    shutil.copy(file, home / "registry.duckdb")
    return ModelSpace(home)


def lost(space: ModelSpace, file: Path) -> list[str]:
    return [step.what for step in space.repair(file) if not step.ok]


@pytest.mark.wide
def test_an_intact_registry_is_copied_whole(space: ModelSpace, tmp_path: Path) -> None:
    before = space.path.read_bytes()
    assert lost(space, tmp_path / "out.duckdb") == []
    assert space.path.read_bytes() == before
    copy = opened(tmp_path / "out.duckdb")
    drop = {"seconds"}
    for mine, theirs in zip(space.list(), copy.list(), strict=True):
        assert {k: v for k, v in vars(mine).items() if k not in drop} == {
            k: v for k, v in vars(theirs).items() if k not in drop
        }
    assert [(row.name, row.is_default) for row in copy.spaces()] == [(r.name, r.is_default) for r in space.spaces()]
    for name in ("saliency", "dds", "both"):
        np.testing.assert_allclose(copy.affinity(name).matrix, space.affinity(name).matrix, atol=1e-12)
    assert [(row.model, row.score) for row in copy.outcomes()] == [(row.model, row.score) for row in space.outcomes()]
    assert [check.what for check in copy.verify(deep=True) if not check.ok] == []
    with Registry.open(copy.path) as one, Registry.open(space.path) as other:
        assert one.registry_id == other.registry_id


DAMAGE = {
    "a vector": ("UPDATE embeddings SET vector = list_transform(vector, lambda x: -x) WHERE model_id = 2", []),
    "affinities": ("UPDATE embeddings SET affinities = list_transform(affinities, lambda x: x / 2)", []),
    "maps": ("UPDATE maps SET codes = '\\x01'::BLOB || codes[2:] WHERE model_id = 2", ["model b"]),
    "maps gone": ("DELETE FROM maps WHERE model_id = 3", ["model c"]),
    "an outcome": ("UPDATE outcomes SET score = 0.9 WHERE outcome_id = 2", ["outcome 2"]),
    "a preprocessing": ("UPDATE models SET preprocessing = '{' WHERE model_id = 4", ["model 4"]),
    "no embedding": ("DELETE FROM embeddings WHERE model_id = 1", None),
    "no model": ("DELETE FROM models WHERE model_id = 1", None),
    "two of a name": ("UPDATE models SET name = 'a' WHERE model_id = 2", None),
}


@pytest.mark.sampled(3)
@pytest.mark.wide
@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_intact_is_kept(space: ModelSpace, tmp_path: Path, name: str) -> None:
    statement, expected = DAMAGE[name]
    change(space, statement)
    before = space.path.read_bytes()
    missing = lost(space, tmp_path / "out.duckdb")
    assert expected is None or missing == expected
    assert space.path.read_bytes() == before
    copy = opened(tmp_path / "out.duckdb")
    assert [check.what for check in copy.verify(deep=True) if not check.ok] == []
    assert len(copy.list()) >= 3
    assert len(copy.nearest(copy.list()[-1].name)) == len(copy.list()) - 1


@pytest.mark.wide
def test_a_damaged_log_is_left_out(space: ModelSpace, tmp_path: Path) -> None:
    """Of a writer that was killed: two changes, the first of which is then damaged in the log."""
    code = (
        "import os, sys; from pathlib import Path; from modelspace.registry import Registry\n"
        "registry = Registry.open(Path(sys.argv[1]), write=True)\n"
        "for task in ('one', 'two'):\n"
        "    with registry.transaction(): registry.update_model(1, task=task)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code, str(space.path)], env=environment).returncode == -9
    log = Path(f"{space.path}.wal")
    data = bytearray(log.read_bytes())
    data[len(data) // 4] ^= 255
    log.write_bytes(data)
    Path(f"{space.path}.undo").unlink()  # which knows what was acknowledged
    with pytest.raises(DamagedError, match="the log of the last changes, is damaged"):
        space.list()
    assert lost(space, tmp_path / "out.duckdb") == ["log of the last changes"]
    assert [row.task for row in opened(tmp_path / "out.duckdb").list()] == [None, "depth", None, None]


def test_a_file_that_cannot_be_opened_names_the_backup(space: ModelSpace, tmp_path: Path) -> None:
    backup = space.backup(tmp_path / "backup.duckdb")
    data = bytearray(space.path.read_bytes())
    data[4096:12288] = bytes(8192)
    space.path.write_bytes(data)
    with pytest.raises(DamagedError) as caught:
        space.repair(tmp_path / "out.duckdb")
    assert backup.file in caught.value.hint
    assert not (tmp_path / "out.duckdb").exists()
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_existing_files_stay(space: ModelSpace, tmp_path: Path) -> None:
    (tmp_path / "out.duckdb").write_text("mine")
    with pytest.raises(ConflictError):
        space.repair(tmp_path / "out.duckdb")
    with pytest.raises(ConflictError):
        space.repair(space.path, force=True)
    assert (tmp_path / "out.duckdb").read_text() == "mine"


@pytest.mark.wide
def test_on_the_command_line(space: ModelSpace, tmp_path: Path) -> None:
    change(space, DAMAGE["maps"][0])
    words = ["verify", "--repair", str(tmp_path / "out.duckdb"), "--home", str(space.home), "--format", "json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    assert [row["what"] for row in rows if not row["ok"]] == ["model b"]
    restored = CliRunner().invoke(app, ["restore", str(tmp_path / "out.duckdb"), "--home", str(space.home)])
    assert restored.exit_code == 0
    assert [row.name for row in space.list()] == ["a", "c", "d"]
