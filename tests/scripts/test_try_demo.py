"""`make try-demo` at a short length, and the labelled images of the examples."""

from __future__ import annotations

import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import cut_fashion  # noqa: E402
import labelled_images  # noqa: E402
import try_demo  # noqa: E402

#: Models of the zoo that the short run is about.
MODELS = ("edge2d", "curvature", "class_places", "mobilenet_025_objects")


@pytest.mark.slow
@pytest.mark.long
def test_the_demo_goes_from_folders_to_a_checked_answer(tmp_path: Path) -> None:
    where = f"name IN ({', '.join(map(repr, MODELS))})"
    words = ["--home", str(tmp_path / "home"), "--digits", "20", "--clothing", "20", "--budget", "3", "--where", where]
    words += ["--splits", "2"]
    before = {file: file.stat().st_mtime_ns for file in (ROOT / "registry.duckdb", *(ROOT / "index").rglob("*"))}
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "try_demo.py"), *words],
        env={**os.environ, "MODELSPACE_CACHE": str(tmp_path / "untouched")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert before == {file: file.stat().st_mtime_ns for file in before}
    assert not (tmp_path / "untouched").exists()
    assert list((tmp_path / "home" / "cache").rglob("*.npz"))
    commands = re.findall(r"\$ modelspace (.+?)\033", done.stdout)
    starts = ["task add digits", "nearest --task digits", "try digits", "task add clothing", "nearest --task clothing"]
    starts += ["suggest clothing -n 3", "try clothing --budget 3", "outcomes clothing"]
    assert len(commands) == len(starts)
    assert all(command.startswith(start) for command, start in zip(commands, starts, strict=True)), commands
    assert "no outcome of any task is registered" in done.stdout
    assert "ranked by outcomes of 1 other task" in done.stdout
    check_table(done.stdout)
    splits = re.findall(r"^(\w.+?)  +(\d+\.\d)  +(\d+\.\d)$", done.stdout, re.MULTILINE)
    assert [way for way, _, _ in splits] == [
        "first before anything was tried",
        "first by the outcomes of the digits",
        "picked by try --budget 3",
        "picked by try",
        "any model, on average",
    ]
    assert all(0 <= float(mean) <= float(most) for _, mean, most in splits)
    assert float(splits[-1][1]) > 0


def check_table(printed: str) -> None:
    rows = re.findall(r"^(.+?)  +(\w*) +(\d\.\d+) +(\d+\.\d) +(\d\.\d+) +(\d+\.\d)$", printed, re.MULTILINE)
    assert [row[0] for row in rows] == [
        "best of 4",
        "first before anything was tried",
        "first by the outcomes of the digits",
        "picked by try --budget 3",
        "any model, on average",
    ]
    assert all(row[1] in MODELS for row in rows[:-1])
    assert rows[0][5] == "0.0"
    assert all(float(row[5]) >= 0 for row in rows)
    assert float(rows[-1][5]) > 0
    picked = re.search(r"try clothing.*?start from (\w+)", printed, re.DOTALL)
    assert picked is not None
    assert picked[1] == rows[3][1]


def test_the_table_is_of_points_behind_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    measured = {"a": try_demo.Measured(0.5, 0.75), "b": try_demo.Measured(0.75, 0.5)}
    try_demo.print_table({"picked": "b"}, measured)
    lines = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()[2:]]
    assert lines == [
        ["best of 2", "a", "0.500", "25.0", "0.750", "0.0"],
        ["picked", "b", "0.750", "0.0", "0.500", "25.0"],
        ["any model, on average", "0.625", "12.5", "0.625", "12.5"],
    ]


@pytest.mark.first(1)
@pytest.mark.parametrize(("name", "side"), [("digits", 64), ("clothing", 28)])
def test_a_set_becomes_one_folder_per_class(name: str, side: int, tmp_path: Path) -> None:
    assert labelled_images.main([name, str(tmp_path / "set"), "--per-class", "60"]) == 0
    folders = sorted(folder.name for folder in (tmp_path / "set").iterdir())
    assert folders == sorted(labelled_images.SETS[name]())
    files = list((tmp_path / "set").rglob("*.png"))
    assert len(files) == 600
    contents = set()
    for file in files:
        with Image.open(file) as image:
            assert (image.size, image.mode) == ((side, side), "L")
            contents.add(image.tobytes())
    assert len(contents) == 600


def test_the_sheet_is_small_and_its_licence_stands_next_to_it() -> None:
    assert labelled_images.SHEET.stat().st_size < 400_000
    text = (labelled_images.SHEET.parent / "README.md").read_text("utf-8")
    assert "Copyright (c) 2017 Zalando SE" in text
    assert "THE SOFTWARE IS PROVIDED" in text
    assert {len(images) for images in labelled_images.clothing().values()} == {70}


def write_idx(file: Path, table: np.ndarray) -> None:
    head = struct.pack(f">HBB{table.ndim}I", 0, 8, table.ndim, *table.shape)
    file.write_bytes(gzip.compress(head + table.tobytes()))


def test_a_sheet_is_cut_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images of each class, in any order; the first two of each are kept, in their order."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(10, dtype=np.uint8), 3))
    images = random.integers(0, 256, (30, 28, 28), dtype=np.uint8)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", labels)
    sheet = tmp_path / "sheet.png"
    assert cut_fashion.main(["--source", str(tmp_path), "--per-class", "2", "--out", str(sheet)]) == 0
    monkeypatch.setattr(labelled_images, "SHEET", sheet)
    for label, found in enumerate(labelled_images.clothing().values()):
        assert np.array_equal(found, images[labels == label][:2])


def test_too_few_images_of_a_class_are_refused() -> None:
    with pytest.raises(SystemExit, match="class 0 has only 1 images"):
        cut_fashion.sheet(np.zeros((10, 28, 28), np.uint8), np.arange(10, dtype=np.uint8), 2)
