"""A sealed registry: its bytes depend only on its content, not on the process that wrote it, and it works as before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
import tiny

from modelspace.errors import ModelspaceError
from modelspace.home import REGISTRY
from modelspace.lab import sealing
from modelspace.registry import Registry
from modelspace.workspace import ModelSpace

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def filled(folder: Path, names: str = "cab") -> ModelSpace:
    folder.mkdir(parents=True, exist_ok=True)
    space = ModelSpace.create(folder, methods=("saliency", "dds"), images=12, canvas=8)
    space.blend("also", {"dds": 1}, rerank="directed")
    for seed, name in enumerate(names):
        tiny.add(space, name, tiny.net(seed))
    space.map()
    return space


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a filled registry, which tests copy."""
    return filled(tmp_path_factory.mktemp("original")).home


@pytest.fixture
def space(original: Path, tmp_path: Path) -> ModelSpace:
    """A copy, in a folder with nothing else."""
    return ModelSpace.open(shutil.copytree(original, tmp_path / "home"))


@pytest.fixture
def zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process seal, although its bytes are then not reproducible."""
    monkeypatch.setenv(sealing.VARIABLE, sealing.ZEROS)


def seal_in_a_process(path: Path) -> None:
    code = (
        f"import sys, datetime, pathlib; from modelspace.lab.sealing import seal;"
        f"seal(pathlib.Path(sys.argv[1]), datetime.datetime({MOMENT.year}, {MOMENT.month}, {MOMENT.day}))"
    )
    environment = {**os.environ, sealing.VARIABLE: sealing.ZEROS}
    subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=True)


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DuckDB's memory can be zeroed only on Linux")
def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    homes = [filled(tmp_path / name) for name in ("one", "another/place")]
    before = [home.path.read_bytes() for home in homes]
    assert before[0] != before[1]
    for home in homes:
        seal_in_a_process(home.path)
    assert homes[0].path.read_bytes() == homes[1].path.read_bytes()
    # Sealing twice changes nothing.
    seal_in_a_process(homes[0].path)
    assert homes[0].path.read_bytes() == homes[1].path.read_bytes()
    for home in homes:
        home.rebuild()
    files = [sorted((home.home / "index").iterdir()) for home in homes]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


@pytest.mark.wide
@pytest.mark.usefixtures("zeros")
def test_query_results_do_not_change(space: ModelSpace) -> None:
    def answers() -> list[object]:
        cards = [{**vars(space.show(name)), "seconds": 0, "added_at": ""} for name in "cab"]
        lists = [row.name for row in space.list()], [info.name for info in space.spaces()]
        rankings = [space.nearest("a", space=name).to_dicts() for name in ("saliency", "dds", "also")]
        places = space.sql("SELECT space, name, x, y, placed FROM places").rows
        return [cards, lists, rankings, places, space.sql("FROM pairs").rows, space.maps("b", "saliency").tobytes()]

    before = answers()
    sealing.seal(space.path, MOMENT)
    assert answers() == before
    space.rebuild()
    assert answers() == before
    assert all(check.ok for check in space.verify(deep=True))
    assert sorted(file.name for file in space.home.iterdir()) == ["index", REGISTRY]


@pytest.mark.usefixtures("zeros")
def test_times_follow_from_the_moment_and_the_order(space: ModelSpace) -> None:
    sealing.seal(space.path, MOMENT)
    with Registry.open(space.path) as registry:
        assert [row.added_at for row in registry.models()] == [MOMENT + timedelta(seconds=k) for k in range(3)]
        assert {row.card.seconds for row in registry.models()} == {0.0}
    times = space.sql("SELECT created_at FROM spaces ORDER BY 1").rows
    assert [time for (time,) in times] == [MOMENT.replace(tzinfo=None) + timedelta(seconds=k) for k in range(3)]


@pytest.mark.wide
@pytest.mark.usefixtures("zeros")
def test_models_can_be_added_removed_and_sealed_again(space: ModelSpace) -> None:
    sealing.seal(space.path, MOMENT)
    with Registry.open(space.path) as registry:
        used, generation = {row.model_id for row in registry.models()}, registry.space().generation
    tiny.add(space, "late", tiny.net(9))
    space.remove("a")
    with Registry.open(space.path) as registry:
        assert registry.model("late").model_id > max(used)
        assert registry.space().generation > generation
    sealing.seal(space.path, MOMENT)
    space.rebuild()
    assert [row.name for row in space.list()] == ["c", "b", "late"]
    assert all(check.ok for check in space.verify(deep=True))


@pytest.mark.long
@pytest.mark.usefixtures("zeros")
def test_the_id_depends_only_on_the_content(space: ModelSpace, original: Path, tmp_path: Path) -> None:
    def sealed(space: ModelSpace, moment: datetime = MOMENT) -> tuple[str, str]:
        digest = sealing.seal(space.path, moment)
        with Registry.open(space.path) as registry:
            return digest, registry.registry_id

    copy = ModelSpace.open(shutil.copytree(original, tmp_path / "later"))
    first, same, renamed, later = (
        sealed(space),
        sealed(filled(tmp_path / "same")),
        sealed(filled(tmp_path / "renamed", "cad")),
        sealed(copy, moment=MOMENT + timedelta(1)),
    )
    assert first == same
    assert len({first[0], renamed[0], later[0]}) == len({first[1], renamed[1], later[1]}) == 3


def test_a_process_without_zeroed_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sealing.VARIABLE, raising=False)
    with pytest.raises(ModelspaceError) as caught:
        sealing.seal(tmp_path / REGISTRY, MOMENT)
    assert "DUCKDB_JE_MALLOC_CONF=zero:true" in caught.value.hint


@pytest.mark.usefixtures("zeros")
def test_an_unexpected_time_column_is_refused(space: ModelSpace) -> None:
    duck = duckdb.connect(str(space.path))
    duck.execute("CREATE TABLE more (id INTEGER, seen_at TIMESTAMP)")
    duck.close()
    before = space.path.read_bytes()
    with pytest.raises(ModelspaceError, match="seen_at"):
        sealing.seal(space.path, MOMENT)
    assert space.path.read_bytes() == before


def test_an_unknown_file_format_is_refused(space: ModelSpace, tmp_path: Path) -> None:
    file = tmp_path / "file"
    content = bytearray(space.path.read_bytes())
    content[4096 + 100] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelspaceError, match="unknown file format"):
        sealing._set_identifier(file, "0" * 64)
    assert file.read_bytes() == content


def test_outcomes_keep_their_checksums_valid(space: ModelSpace, zeros: None) -> None:
    space.add_task("flowers")
    space.observe("flowers", "a", 0.5)
    sealing.seal(space.path, MOMENT)
    (outcome,) = space.outcomes("flowers")
    assert (outcome.model, outcome.score) == ("a", 0.5)
    space.rebuild()
    assert [check for check in space.verify(deep=True) if not check.ok] == []
