"""The disk after a cut of power: the model of it, and the replay of one verb as strace records it."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from torture import power, verbs  # noqa: E402
from torture.power import Recording, Step  # noqa: E402

from modelspace.registry import Registry  # noqa: E402

#: Of a file that is written, flushed, renamed and whose folder is flushed.
REPLACED = [
    Step("create", 1, "new"),
    Step("write", 1, data=b"x" * 1500),
    Step("sync", 1),
    Step("rename", 1, "new", "old"),
    Step("sync folder"),
]


def states(steps: list[Step], draws: int = 60) -> list[tuple[int, dict[str, bytes]]]:
    recording = Recording({0: b"old"}, {"old": 0}, steps)
    return [(number, state) for number, _, state in power.states(recording, draws, random.Random(0))]


def test_a_file_that_is_flushed_before_it_is_renamed_is_old_or_new() -> None:
    kept = [(number, state["old"]) for number, state in states(REPLACED)]
    assert {content for _, content in kept} == {b"old", b"x" * 1500}
    assert {content for number, content in kept if number == 5} == {b"x" * 1500}


def hexadecimal(text: str | bytes) -> str:
    """A text as `strace -xx` prints it."""
    return "".join(f"\\x{byte:02x}" for byte in (text.encode() if isinstance(text, str) else text))


def test_a_descriptor_that_was_duplicated_has_the_same_position(tmp_path: Path) -> None:
    # numpy's `tofile` writes through one; Python duplicates by fcntl.
    file = hexadecimal(str(tmp_path / "f"))
    log = tmp_path / "log"
    log.write_text(
        f'1 openat(AT_FDCWD<{hexadecimal("/")}>, "{file}", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 5<{file}>\n'
        f"1 fcntl(5<{file}>, F_DUPFD_CLOEXEC, 0) = 6<{file}>\n"
        f'1 write(6<{file}>, "{hexadecimal(b"abc")}", 3) = 3\n'
        f"1 close(6<{file}>) = 0\n"
        f'1 write(5<{file}>, "{hexadecimal(b"de")}", 2) = 2\n'
    )
    recording = Recording({}, {})
    power._Reader(recording, tmp_path).read(log)
    assert [(step.offset, step.data) for step in recording.steps if step.kind == "write"] == [(0, b"abc"), (3, b"de")]


def test_a_write_through_an_unknown_descriptor_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f'1 write(6<{hexadecimal(str(tmp_path / "f"))}>, "{hexadecimal(b"abc")}", 3) = 3\n')
    with pytest.raises(power.UnknownCallError, match="not seen to be opened"):
        power._Reader(Recording({}, {}), tmp_path).read(log)


def test_without_the_flush_it_may_be_there_in_part() -> None:
    contents = {state["old"] for _, state in states([step for step in REPLACED if step.kind != "sync"])}
    assert len(contents) > 3
    assert b"" in contents
    assert any(0 < content.count(b"x") < 1500 for content in contents)


def test_without_the_flush_of_the_folder_the_renaming_may_be_lost() -> None:
    last = [state["old"] for number, state in states(REPLACED[:-1]) if number == 4]
    assert set(last) == {b"old", b"x" * 1500}


def test_of_two_writes_the_later_may_survive_alone() -> None:
    steps = [Step("write", 0, offset=0, data=b"a" * 512), Step("write", 0, offset=512, data=b"b" * 512)]
    contents = {state["old"] for number, state in states(steps, 200) if number == 2}
    assert b"old" + bytes(509) + b"b" * 512 in contents
    assert b"a" * 512 in contents


def test_names_keep_their_order() -> None:
    """A log that is removed and created again is never the old one with the new one's content, or both."""
    steps = [Step("unlink", 0, "old"), Step("create", 1, "old"), Step("write", 1, data=b"new"), Step("sync", 1)]
    assert {state.get("old") for _, state in states(steps)} == {b"old", None, b"", b"new"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> verbs.Verbs:
    """Homes of which one holds a small registry, of the newest schema."""
    prepared = verbs.Verbs(tmp_path_factory.mktemp("homes"))
    prepared.prepare(("older",))
    with Registry.open(prepared.folder / "older" / "registry.duckdb", write=True):
        return prepared


TAG = verbs.Verb("tag", ("tag", "m0", "owner=lab"), home="older")

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.mark.wide
@needs_strace
def test_a_cut_of_power_while_a_model_is_tagged(prepared: verbs.Verbs) -> None:
    result = power.cut(TAG, prepared, draws=3, seed=0, limit=6)
    assert result.states == 6
    assert result.failures == []


@pytest.mark.wide
@needs_strace
def test_without_the_undo_file_a_block_that_is_there_in_part_is_seen(prepared: verbs.Verbs) -> None:
    """What DuckDB alone would leave, where the first block of metadata is being written."""
    home = prepared.folder / "without"
    shutil.copytree(prepared.folder / "older", home)
    recording = power.record(prepared.words(TAG), home)
    database = recording.names["registry.duckdb"]
    block = max(i for i, step in enumerate(recording.steps, 1) if (step.file, step.offset) == (database, 12288))
    errors = []
    for number, _, state in power.states(recording, 8, random.Random(0)):
        if number == block:
            power.put({name: content for name, content in state.items() if not name.endswith(".undo")}, home)
            errors.append(verbs.trouble(home, set(), write=False, of_any_run=False))
    assert any("checksum" in error for error in errors)
