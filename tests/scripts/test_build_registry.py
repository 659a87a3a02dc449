"""Building the shipped registry again gives the same files, byte for byte, in any folder and at any time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelspace.home import INDEX, REGISTRY
from modelspace.workspace import ModelSpace

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_registry.py"
LITTLE = ["--models", "autoencoder,rgb2depth,class_1000", "--images", "3", "--feature-images", "12"]


def start(home: Path, folder: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), "--home", str(home), *LITTLE]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, umask=0o077
    )


def files(home: Path) -> dict[str, bytes]:
    return {str(file.relative_to(home)): file.read_bytes() for file in sorted(home.rglob("*")) if file.is_file()}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DuckDB's memory begins as zeros on Linux alone")
def test_a_build_is_repeated_byte_for_byte(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "another" / "place"
    other.parent.mkdir()
    processes = [start(one, tmp_path), start(other, other.parent, OMP_NUM_THREADS="2", TZ="Asia/Tokyo")]
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "note:" not in "".join(printed)
    built = files(one)
    assert len(built) == 1 + 2 * 5
    assert files(other) == built
    assert [info.name for info in ModelSpace.open(one).spaces()] == [
        "gradient_x_input",
        "saliency",
        "dds",
        "local",
        "transfer",
    ]
    assert all(check.ok for check in ModelSpace.open(one).verify(deep=True))

    # Over what is there, and with another time: the time is the only difference.
    shutil.rmtree(other / INDEX)
    (other / REGISTRY).write_bytes(b"not a registry")
    again = start(other, tmp_path, SOURCE_DATE_EPOCH="1700000000")
    again.communicate(timeout=300)
    assert again.returncode == 0
    later = files(other)
    assert later.keys() == built.keys()
    assert later[REGISTRY] != built[REGISTRY]
    assert {name for name in built if built[name] == later[name]} == {name for name in built if name.endswith(".faiss")}
    assert ModelSpace.open(other).list()[0].added_at == "2023-11-14T22:13:20+00:00"
