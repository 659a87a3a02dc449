"""Only regular files are opened, wherever a name is read; nothing waits for a pipe or reads a device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import special_files

from modelspace import files
from modelspace.errors import DamagedError
from modelspace.registry import Registry

#: Seconds for all trials together; one that waits for a pipe would never end.
LIMIT = 120

Trials = dict[tuple[str, str], dict[str, Any]]

#: Places where something else than a file is passed over, with what is answered then.
PASSED_OVER = {
    "index_file": "answers 1",
    "index_manifest": "answers 1",
    "index_temporary": "answers 1",
    "finished_pass_waiting": "answers 0",
    "cached_probe_images": "answers 7",
    "cached_features": "answers [0]",
    "probe_folder": "answers 1",
}


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    command = [sys.executable, special_files.__file__, str(tmp_path_factory.mktemp("special"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment)
    except subprocess.TimeoutExpired as error:
        last = (error.stderr or b"").decode().strip().splitlines()[-1:]
        pytest.fail(f"still waiting at {last} after {LIMIT} seconds")
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {(row["place"], row["kind"]): row for row in rows}


@pytest.mark.wide
@pytest.mark.parametrize("place", special_files.PLACES, ids=lambda place: place.__name__)
def test_anything_but_a_file_is_one_sentence_at_once(trials: Trials, place: Any) -> None:
    for kind in special_files.KINDS:
        row = trials[place.__name__, kind]
        if (place.__name__, kind) == ("task_image", "folder"):
            assert row["said"] is None  # a folder is no image, whatever its name
        elif place.__name__ in PASSED_OVER:
            assert (row["how"], row["said"]) == ("result", PASSED_OVER[place.__name__]), row
        else:
            assert row["how"] in ("DamagedError", "NotFoundError", "ProbeError", "UsageError", "ModelspaceError"), row
            assert "\n" not in row["said"]
        assert row["seconds"] < 10, row


@pytest.mark.wide
@pytest.mark.parametrize("place", ["registry_to_open", "registry_to_read", "log_to_read", "log_to_write", "lock"])
def test_what_lies_in_place_of_the_registry_is_named(trials: Trials, place: str) -> None:
    for kind, name in {"pipe": "a named pipe", "socket": "a socket", "folder": "a folder"}.items():
        row = trials[place, kind]
        is_wrong_name = (place, kind) == ("registry_to_read", "folder")
        assert row["how"] == ("UsageError" if is_wrong_name else "DamagedError")
        assert f"is {name}" in row["said"]


def test_a_lock_that_is_a_link_leaves_what_it_points_to_as_it_was(tmp_path: Path) -> None:
    Registry.create(tmp_path / "registry.duckdb")
    (tmp_path / "letter").write_text("of somebody")
    (tmp_path / "registry.duckdb.lock").symlink_to("letter")
    with pytest.raises(DamagedError, match="it is a link, not a file"):
        Registry.open(tmp_path / "registry.duckdb", write=True)
    assert (tmp_path / "letter").read_text() == "of somebody"


def test_a_name_that_becomes_a_pipe_between_the_question_and_the_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "a")
    monkeypatch.setattr(files, "check_regular", lambda path: None)
    with pytest.raises(files.NotRegularError, match="it is a named pipe, not a file"):
        files.open_regular(tmp_path / "a")


def test_regular_files_are_opened_as_ever(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("größe\n".encode())
    (tmp_path / "b").symlink_to("a")
    assert files.read_text(tmp_path / "b") == "größe\n"
    with files.open_regular(tmp_path / "a") as stream:
        assert stream.read(3) == b"gr\xc3"
    with files.open_new(tmp_path / "b") as out:
        out.write(b"new")
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("größe\n", "new")
    with pytest.raises(FileNotFoundError):
        files.open_regular(tmp_path / "c")
    with pytest.raises(IsADirectoryError):
        files.open_new(tmp_path)
