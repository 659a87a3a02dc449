"""A finished pass that can't be stored: it is saved, and stored by the next writer; bad files lose nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import zoo_files
from tiny import PREPROCESSING, add, net
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.cli.spelling import in_flags
from modelspace.embedding.prepare import Request
from modelspace.errors import BusyError, ConflictError, ModelspaceError, StorageError
from modelspace.registry.connection import translated
from modelspace.verbs import passes, pending
from modelspace.verbs.add import compute
from modelspace.verbs.passes import Computed
from modelspace.workspace import ModelSpace


def names(space: ModelSpace) -> list[str]:
    return [info.name for info in space.list()]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a registry with model "a", which each test copies."""
    space = zoo_files.home(tmp_path_factory.mktemp("original"))
    add(space, "a", net(0))
    return space.home


@pytest.fixture
def space(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpace:
    """A registry with model "a", and short waits for other processes."""
    out = ModelSpace.open(shutil.copytree(original, tmp_path / "home"))
    real = passes.Registry.open.__func__  # type: ignore[attr-defined]

    def impatient(cls: Any, path: Path, *, write: bool = False, timeout: float = 10.0) -> Any:
        return real(cls, path, write=write, timeout=min(timeout, 0.3))

    monkeypatch.setattr(passes.Registry, "open", classmethod(impatient))
    return out


def computed(space: ModelSpace, name: str, seed: int, *, replacing: bool = False) -> Computed:
    request = Request(net(seed), name, preprocessing=PREPROCESSING)
    return compute(space.path, request, batch_size=None, replacing=replacing, progress=None)


@contextmanager
def reader(path: Path) -> Iterator[None]:
    """Another process that has the registry open for reading, as a notebook does."""
    code = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1], read_only=True)"
    code += "; print(1, flush=True); time.sleep(99)"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def kept(space: ModelSpace) -> list[Path]:
    return pending.waiting(space.path)


# ---- a pass is saved, and stored later


@pytest.mark.wide
def test_a_reader_in_another_process_costs_no_pass(space: ModelSpace) -> None:
    before = space.path.read_bytes()
    with reader(space.path):
        with pytest.raises(BusyError) as busy:
            add(space, "b", net(1))
        assert names(space) == ["a"]
        # It still waits while the reader is there; another attempt neither loses nor doubles it.
        (outcome,) = space.resume()
        assert (outcome.status, outcome.name) == ("failed", "b")
        assert "is using" in outcome.message
    assert space.path.read_bytes() == before
    (file,) = kept(space)
    assert file.parent == space.home / "pending"
    assert str(file) in busy.value.hint
    assert "when that process has finished, 'modelspace add --resume' stores it" in in_flags(busy.value.hint)
    assert space.waiting() == ("b",)
    (outcome,) = space.resume()
    assert (outcome.status, outcome.name, outcome.spaces) == ("added", "b", ("gradient_x_input", "saliency"))
    assert names(space) == ["a", "b"]
    assert not (space.home / "pending").exists()
    assert len(space.resume()) == 0
    assert all(check.ok for check in space.verify(deep=True))


def test_what_was_saved_is_what_would_have_been_stored(space: ModelSpace, tmp_path: Path) -> None:
    with reader(space.path), pytest.raises(BusyError):
        add(space, "b", net(1), task="depth", tags={"owner": "me"})
    space.resume()
    other = zoo_files.home(tmp_path / "other")
    add(other, "a", net(0))
    add(other, "b", net(1), task="depth", tags={"owner": "me"})
    np.testing.assert_array_equal(space.maps("b"), other.maps("b"))
    np.testing.assert_array_equal(space.affinity().matrix, other.affinity().matrix)
    mine, theirs = space.show("b"), other.show("b")
    same = {"seconds": 0.0, "added_at": None}
    assert replace(mine, **same) == replace(theirs, **same)


@pytest.mark.first(1)
@pytest.mark.parametrize("seed", [2, 1])
def test_the_next_model_that_is_added_brings_in_what_waits(space: ModelSpace, seed: int) -> None:
    with reader(space.path), pytest.raises(BusyError):
        add(space, "b", net(1))
    added = space.add(net(seed), name="c" if seed == 2 else "b", preprocessing=PREPROCESSING)
    assert added.notes[0] == "b, whose finished pass waited, is now stored (added)"
    assert added.status == ("added" if seed == 2 else "unchanged")
    assert names(space) == (["a", "b", "c"] if seed == 2 else ["a", "b"])
    assert kept(space) == []


@pytest.mark.wide
def test_two_passes_wait_and_are_stored_in_order(space: ModelSpace) -> None:
    with reader(space.path):
        for name, seed in (("z", 1), ("b", 2)):
            with pytest.raises(BusyError):
                add(space, name, net(seed))
    assert space.waiting() == ("z", "b")
    assert [outcome.status for outcome in space.resume()] == ["added", "added"]
    assert names(space) == ["a", "z", "b"]


@pytest.mark.wide
def test_a_manifest_brings_in_what_waits_and_keeps_what_it_cant_store(
    space: ModelSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelspace.verbs.add_many.STORE_TRIES", 1)
    file = zoo_files.write(tmp_path, "m0", "m1")
    with reader(space.path):
        first = space.add_all(file)
        assert [outcome.status for outcome in first] == ["failed", "failed"]
        assert all("`space.resume()`" in outcome.hint for outcome in first)
    loaded = zoo_files.loaded(tmp_path)
    again = space.add_all(file)
    assert [outcome.status for outcome in again] == ["unchanged", "unchanged"]
    assert "m0, whose finished pass waited, is now stored (added)" in again[0].notes
    assert zoo_files.loaded(tmp_path) == loaded
    assert names(space) == ["a", "m0", "m1"]


# ---- the disk


def fail_to_write(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def add_model(*_: object) -> int:
        raise error

    monkeypatch.setattr(passes.Registry, "add_model", add_model)


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        translated(duckdb.IOException('IO Error: Could not write file "r": No space left on device'), Path("r")),
        translated(
            duckdb.FatalException(
                "FATAL Error: Failed: database has been invalidated because of a previous fatal error."
                ' Original error: "Could not write file: No space left on device"'
            ),
            Path("r"),
        ),
    ],
)
def test_a_full_disk_costs_no_pass(space: ModelSpace, error: Exception) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fail_to_write(patch, error)
        with pytest.raises(StorageError, match="o space left on device") as full:
            add(space, "b", net(1))
        assert names(space) == ["a"]
    assert "free space, then `space.resume()` stores it" in full.value.hint
    assert [outcome.status for outcome in space.resume()] == ["added"]
    assert all(check.ok for check in space.verify(deep=True))


SMALL_FILES = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.path[:0] = [{support!r}]
from tiny import add, net
from modelspace.workspace import ModelSpace
from modelspace.verbs import pending
space = ModelSpace.open({home!r})
real = pending.keep
def keep(*words):
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    return real(*words)
pending.keep = keep
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
try:
    add(space, "b", net(1))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.wide
def test_a_write_that_the_system_refuses_costs_no_pass(space: ModelSpace) -> None:
    """Files may not grow beyond 1 kB until the pass is saved: DuckDB fails in the middle of its writing."""
    support = str(Path(__file__).parents[1] / "support")
    code = SMALL_FILES.format(support=support, home=str(space.home))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("StorageError"), done.stdout + done.stderr
    assert names(space) == ["a"]
    assert [outcome.status for outcome in space.resume()] == ["added"]
    assert all(check.ok for check in space.verify(deep=True))


@pytest.mark.wide
def test_a_pass_is_saved_in_the_cache_if_the_folder_cant_be_written(
    space: ModelSpace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path / "cache"))
    (space.home / "pending").write_text("a file, where no folder can be made")
    with pytest.MonkeyPatch.context() as patch:
        fail_to_write(patch, OSError(28, "No space left on device"))
        with pytest.raises(StorageError):
            add(space, "b", net(1))
    (file,) = kept(space)
    assert (tmp_path / "cache") in file.parents
    # Not a pass of another registry that uses the same cache.
    assert pending.waiting(zoo_files.home(tmp_path / "other").path) == []
    assert [outcome.status for outcome in space.resume()] == ["added"]
    assert names(space) == ["a", "b"]


def test_if_nothing_can_be_written_the_message_says_so(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSPACE_CACHE", "")
    (space.home / "pending").write_text("")
    fail_to_write(monkeypatch, OSError(28, "No space left on device"))
    with pytest.raises(StorageError, match="the finished pass can't be saved either"):
        add(space, "b", net(1))


# ---- a process that dies


@pytest.mark.wide
def test_a_process_that_is_killed_after_it_saved_a_pass_loses_nothing(space: ModelSpace, tmp_path: Path) -> None:
    support = str(Path(__file__).parents[1] / "support")
    code = f"""
import os, signal, sys
sys.path[:0] = [{support!r}]
from tiny import add, net
from modelspace.verbs import passes, pending
from modelspace.workspace import ModelSpace
real = pending.keep
def keep(*words):
    real(*words)
    os.kill(os.getpid(), signal.SIGKILL)
pending.keep = keep
def store(*words):
    raise OSError(28, "No space left on device")
pending.store = store
add(ModelSpace.open({str(space.home)!r}), "b", net(1))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert space.waiting() == ("b",)
    added = space.add(net(2), name="c", preprocessing=PREPROCESSING)
    assert added.notes == ("b, whose finished pass waited, is now stored (added)",)
    assert names(space) == ["a", "b", "c"]


@pytest.mark.wide
def test_a_file_that_outlived_its_storing_is_stored_once(space: ModelSpace, tmp_path: Path) -> None:
    """As after a kill between the commit and the removal of the file."""
    for replacing in (False, True):
        file = pending.keep(space.path, computed(space, "b", 1, replacing=replacing), replacing)
        copy = shutil.copy(file, tmp_path / "copy")
        space.resume()
        file.parent.mkdir()
        shutil.copy(copy, file)
        assert [outcome.status for outcome in space.resume()] == ["replaced" if replacing else "unchanged"]
        assert names(space) == ["a", "b"]
        assert kept(space) == []
    assert all(check.ok for check in space.verify(deep=True))


def test_a_half_written_file_is_no_pass(space: ModelSpace) -> None:
    file = pending.keep(space.path, computed(space, "b", 1), False)
    file.rename(file.with_name(f".{file.name}.123.tmp"))
    assert kept(space) == []


def test_what_a_killed_process_left_of_a_pass_goes_with_the_next(space: ModelSpace) -> None:
    file = pending.keep(space.path, computed(space, "b", 1), False)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = file.with_name(f".c-0.pass.{process.pid}.tmp")
    running = file.with_name(f".d-0.pass.{os.getppid()}.tmp")
    for unfinished in (left, running):
        unfinished.write_bytes(file.read_bytes()[:100])
    space.resume()
    assert os.listdir(file.parent) == [running.name]
    assert names(space) == ["a", "b"]


# ---- conflicts


@pytest.mark.wide
def test_a_name_that_was_taken_meanwhile_keeps_the_pass(space: ModelSpace) -> None:
    file = pending.keep(space.path, computed(space, "b", 1), False)
    other = pending.keep(space.path, computed(space, "c", 2), False)
    os.utime(file, (1, 1))
    moved = file.rename(space.home / "elsewhere")
    other = other.rename(space.home / "elsewhere-too")
    add(space, "b", net(3))
    (space.home / "pending").mkdir(exist_ok=True)
    moved.rename(file)
    other.rename(space.home / "pending" / "c-0.pass")
    refused, stored = space.resume()
    assert (refused.status, stored.status) == ("failed", "added")
    assert "the name 'b' was taken in the meantime" in refused.message
    assert str(file) in refused.hint
    assert kept(space) == [file]
    # As the hint says: rename that model.
    space.rename("b", "b-of-others")
    assert [outcome.status for outcome in space.resume()] == ["added"]
    assert names(space) == ["a", "b-of-others", "c", "b"]


@pytest.mark.wide
def test_a_pass_that_conflicts_only_when_it_is_stored_is_saved_too(space: ModelSpace) -> None:
    mine = computed(space, "b", 1)
    add(space, "b", net(3))
    with pytest.raises(ConflictError, match="taken in the meantime") as taken:
        pending.store_or_keep(space.path, mine, False)
    assert "rename or remove that model, then `space.resume()` stores it" in taken.value.hint
    space.remove("b")
    assert [outcome.status for outcome in space.resume()] == ["added"]


def test_a_space_that_changed_refuses_the_pass_alone(space: ModelSpace) -> None:
    # As an earlier version saved it, without ids: a space is only known by its name.
    lost = replace(computed(space, "b", 1), spaces=("gradient_x_input", "gone"), space_ids=())
    file = pending.keep(space.path, lost, False)
    os.utime(file, (1, 1))
    pending.keep(space.path, computed(space, "c", 2), False)
    refused, stored = space.resume()
    assert "space 'gone' was changed" in refused.message
    assert (stored.name, stored.status) == ("c", "added")
    assert kept(space) == [file]


@pytest.mark.wide
def test_a_space_made_meanwhile_lacks_the_model_until_it_is_added_again(space: ModelSpace) -> None:
    pending.keep(space.path, computed(space, "b", 1), False)
    space.init(methods=["epsilon_lrp"], images=4, canvas=4)
    assert [outcome.status for outcome in space.resume()] == ["added"]
    assert "epsilon_lrp" not in space.show("b").spaces
    assert space.add(net(1), name="b", preprocessing=PREPROCESSING).status == "completed"


def test_a_blend_whose_members_lost_the_model_refuses_the_pass(space: ModelSpace) -> None:
    """A pass that only completes a blend needs the maps that its model had in the members."""
    add(space, "b", net(1))
    blend = space.blend("both", {"gradient_x_input": 0.5, "saliency": 0.5})
    done = replace(computed(space, "c", 2), spaces=("both",), space_ids=(blend.space_id,), blocks={})
    pending.keep(space.path, done, False)
    (refused,) = space.resume()
    assert "space 'both' was changed" in refused.message


def test_a_registry_that_was_made_anew_refuses_old_passes(space: ModelSpace, tmp_path: Path) -> None:
    file = pending.keep(space.path, computed(space, "b", 1), False)
    other = zoo_files.home(tmp_path / "other")
    shutil.copytree(file.parent, other.home / "pending")
    (refused,) = other.resume()
    assert "is of another registry" in refused.message
    assert names(other) == []
    assert len(kept(other)) == 1


# ---- damaged files


def damage(file: Path, what: str) -> None:
    if what == "cut":
        file.write_bytes(file.read_bytes()[:-400])
    elif what == "text":
        file.write_text("not a pass")
    elif what == "flipped":
        data = bytearray(file.read_bytes())
        data[data.index(b".codes") + 10] ^= 255
        file.write_bytes(bytes(data))
    else:
        rewrite(file, what)


def rewrite(file: Path, what: str) -> None:
    """The same archive with other content."""
    with zipfile.ZipFile(file) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    content = json.loads(members["pass.json"])
    changes: dict[str, Any] = {
        "format": {"format": 99},
        "name": {"card": {**content["card"], "name": "../../etc/passwd"}},
        "field": {"card": {**content["card"], "surprise": 1}},
        "text-entry": {"card": {**content["card"], "uri": 7}},
        "tags": {"card": {**content["card"], "tags": [1]}},
        "list": {"blocks": [1]},
        "infinite": {"card": {**content["card"], "parameters": float("inf")}},
    }
    if what == "nan":
        scales = next(name for name in members if name.endswith(".scales"))
        members[scales] = np.full(len(members[scales]) // 4, np.nan, "<f4").tobytes()
    if what == "short":
        codes = next(name for name in members if name.endswith(".codes"))
        members[codes] = members[codes][:-1]
    content |= changes.get(what, {})
    members["pass.json"] = b"[" * 100_000 if what == "deep" else json.dumps(content).encode()
    compression = zipfile.ZIP_DEFLATED if what == "deep" else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.wide
@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "what",
    [
        "cut",
        "text",
        "flipped",
        "format",
        "name",
        "field",
        "text-entry",
        "tags",
        "list",
        "nan",
        "infinite",
        "short",
        "deep",
    ],
)
def test_a_damaged_file_is_refused_and_loses_nothing(space: ModelSpace, what: str) -> None:
    file = pending.keep(space.path, computed(space, "b", 1), False)
    os.utime(file, (1, 1))
    damage(file, what)
    bad = file.read_bytes()
    pending.keep(space.path, computed(space, "c", 2), False)
    refused, stored = space.resume()
    assert refused.status == "failed"
    assert str(file) in refused.message
    assert not refused.message.startswith("unexpected")
    assert (stored.name, stored.status) == ("c", "added")
    assert names(space) == ["a", "c"]
    assert file.read_bytes() == bad
    # The other models can still be added; the note says what to do.
    added = space.add(net(3), name="d", preprocessing=PREPROCESSING)
    assert f"{file}" in added.notes[0]
    check = next(check for check in space.verify() if check.what == "finished pass b")
    assert not check.ok


def test_no_saved_pass_runs_code(space: ModelSpace) -> None:
    file = pending.keep(space.path, computed(space, "b", 1), False)
    with zipfile.ZipFile(file) as archive:
        assert {name.rpartition(".")[2] for name in archive.namelist()} == {"json", "codes", "scales"}
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


# ---- what says that passes wait


@pytest.mark.wide
def test_verify_and_list_name_what_waits(space: ModelSpace) -> None:
    assert not [check for check in space.verify() if "pass" in check.what]
    pending.keep(space.path, computed(space, "b", 1), False)
    (check,) = [check for check in space.verify() if "pass" in check.what]
    assert check.ok
    assert check.hint == "run `space.resume()`"
    result = CliRunner().invoke(app, ["list", "--home", str(space.home)])
    assert result.exit_code == 0
    assert "finished passes wait to be stored: b; 'modelspace add --resume' stores them" in result.stderr
    assert "finished" not in result.stdout


@pytest.mark.wide
def test_the_command_stores_what_waits(space: ModelSpace) -> None:
    words = ["add", "--resume", "--home", str(space.home)]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stderr) == (0, "no finished pass waits\n")
    pending.keep(space.path, computed(space, "b", 1), False)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert "1 model: 1 added" in result.stderr
    assert names(space) == ["a", "b"]
    pending.keep(space.path, computed(space, "c", 2), False).write_text("")
    result = CliRunner().invoke(app, [*words, "--format", "json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["status"] == "failed"


@pytest.mark.parametrize("words", [["zoo:curvature"], ["--manifest", "zoo"], ["--name", "b"], ["--dry-run"]])
def test_the_command_adds_no_other_model(space: ModelSpace, words: list[str]) -> None:
    result = CliRunner().invoke(app, ["add", "--resume", *words, "--home", str(space.home)])
    assert result.exit_code == 2
    assert "--resume adds no other model" in result.stderr


def test_an_index_that_cant_be_refreshed_is_no_failure(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: object) -> None:
        raise BusyError("process 1 is using it")

    monkeypatch.setattr(ModelSpace, "_refresh_index", busy)
    assert add(space, "b", net(1)).status == "added"  # type: ignore[attr-defined]
    assert names(space) == ["a", "b"]


def test_a_fault_of_the_pass_itself_is_not_saved(space: ModelSpace) -> None:
    from modelspace.errors import UsageError

    def broken(*_: object) -> None:
        raise UsageError("a number is not finite")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes.affinity, "append", broken)
        with pytest.raises(ModelspaceError, match="not finite"):
            add(space, "b", net(1))
    assert kept(space) == []
