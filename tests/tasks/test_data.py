"""Labelled images: what is read, what is left out with a note, and what is refused."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.tasks import data


def image(file: Path, seed: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 5, 3), dtype=np.uint8)).save(file)
    return file


def folder(root: Path, counts: dict[str, int], first: int = 0) -> Path:
    seed = first
    for name, count in counts.items():
        for number in range(count):
            image(root / name / f"{number}.png", seed := seed + 1)
    return root


def table(file: Path, rows: Sequence[tuple[str, str]], header: tuple[str, ...] = ("path", "label")) -> Path:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return file


def labelled(root: Path, labels: Sequence[str]) -> list[tuple[str, str]]:
    return [
        (image(root / "images" / f"{i}.png", i).relative_to(root).as_posix(), label) for i, label in enumerate(labels)
    ]


def test_a_folder_has_one_class_per_subfolder(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", {"rose": 11, "aster": 12})
    (root / "rose" / "notes.txt").write_text("no image")
    image(root / "rose" / "deep" / "x.PNG", 99)
    image(root / ".hidden" / "y.png", 98)
    calls: list[tuple[int, int]] = []
    images = data.read(root, progress=lambda done, total: calls.append((done, total)))
    assert (images.kind, images.classes, len(images), images.notes) == ("classification", ("aster", "rose"), 24, ())
    assert images.labels == (0,) * 12 + (1,) * 12
    assert all(file.parent.name in ("aster", "rose", "deep") for file in images.files)
    assert calls[0] == (1, 24)
    assert calls[-1] == (24, 24)


def test_a_table_of_names_and_one_of_numbers(tmp_path: Path) -> None:
    names = data.read(table(tmp_path / "a.csv", labelled(tmp_path, ["b", "a"] * 10)))
    assert (names.kind, names.classes, names.labels[:2]) == ("classification", ("a", "b"), (1, 0))
    whole = data.read(table(tmp_path / "b.csv", labelled(tmp_path, ["10", "9"] * 10)))
    assert (whole.kind, whole.classes) == ("classification", ("10", "9"))
    numbers = data.read(table(tmp_path / "c.csv", labelled(tmp_path, ["1.5", "2"] * 10)))
    assert (numbers.kind, numbers.classes, numbers.labels[:2]) == ("regression", (), (1.5, 2.0))
    assert data.read(tmp_path / "b.csv", "regression").labels[:2] == (10.0, 9.0)


def test_a_parquet_table(tmp_path: Path) -> None:
    rows = labelled(tmp_path, ["1.5", "2.5", "3.5"])
    values = ", ".join(f"('{path}', {label})" for path, label in rows)
    duckdb.sql(
        f"COPY (SELECT * FROM (VALUES {values}) AS t(path, label)) TO '{tmp_path / 'a.parquet'}' (FORMAT parquet)"
    )
    assert data.read(tmp_path / "a.parquet").labels == (1.5, 2.5, 3.5)
    duckdb.sql(f"COPY (SELECT 1 AS path) TO '{tmp_path / 'b.parquet'}' (FORMAT parquet)")
    with pytest.raises(UsageError, match=r"b.parquet has the columns path"):
        data.read(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModelspaceError, match=r"c.parquet can't be read"):
        data.read(tmp_path / "c.parquet")


def test_the_fingerprint_is_of_images_and_labels_alone(tmp_path: Path) -> None:
    root = folder(tmp_path / "one", {"a": 3, "b": 3})
    before = data.read(root).fingerprint
    (root / "a" / "0.png").rename(root / "a" / "renamed.png")
    moved = root.rename(tmp_path / "two")
    assert data.read(moved).fingerprint == before
    (moved / "a" / "1.png").rename(moved / "b" / "1b.png")
    assert data.read(moved).fingerprint != before
    (moved / "b" / "1b.png").rename(moved / "a" / "1.png")
    assert data.read(moved).fingerprint == before
    image(moved / "a" / "1.png", 77)
    assert data.read(moved).fingerprint != before
    rows = labelled(tmp_path, ["1", "2", "1", "2"])
    names = data.read(table(tmp_path / "t.csv", rows)).fingerprint
    assert data.read(tmp_path / "t.csv", "regression").fingerprint != names


def test_one_percent_unreadable_is_left_out_and_more_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", {"a": 50, "b": 50})
    (root / "a" / "0.png").write_bytes(b"not an image")
    images = data.read(root)
    assert len(images) == 99
    assert images.notes == ("left out, because they can't be read: 0.png",)
    (root / "b" / "1.png").write_bytes(b"")
    with pytest.raises(ModelspaceError, match=r"2 of 100 images .* can't be read: 0.png, 1.png"):
        data.read(root)


def test_copies_are_left_out_and_contradictions_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", {"a": 12, "b": 12})
    (root / "a" / "copy.png").write_bytes((root / "a" / "3.png").read_bytes())
    images = data.read(root)
    assert len(images) == 24
    assert images.notes == ("1 copies of other images are left out",)
    (root / "b" / "copy.png").write_bytes((root / "a" / "3.png").read_bytes())
    with pytest.raises(UsageError, match="the same image has two labels"):
        data.read(root)


def test_small_classes(tmp_path: Path) -> None:
    assert data.read(folder(tmp_path / "ten", {"a": 10, "b": 10})).notes == ()
    notes = data.read(folder(tmp_path / "nine", {"a": 10, "b": 9})).notes
    assert notes == ("the smallest class has 9 images, so scores are uncertain",)
    with pytest.raises(UsageError, match="all images have the label a"):
        data.read(folder(tmp_path / "one", {"a": 10}))
    with pytest.raises(UsageError, match="1 classes have a single image: c"):
        data.read(folder(tmp_path / "single", {"a": 3, "b": 3, "c": 1}))


def test_missing_data(tmp_path: Path) -> None:
    folder(tmp_path / "flowers", {"a": 2, "b": 2})
    with pytest.raises(NotFoundError) as caught:
        data.read(tmp_path / "flower")
    assert "flowers" in caught.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="has no labelled images"):
        data.read(tmp_path / "empty")
    rows = [*labelled(tmp_path, ["a", "b"]), ("images/gone.png", "a")]
    with pytest.raises(NotFoundError, match=r"1 of 3 images of t.csv are missing: images/gone.png"):
        data.read(table(tmp_path / "t.csv", rows))


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (["a", ""], None, "1 images of t.csv have no label"),
        (["1.5", "x"], "regression", "the label 'x' of 1.png is not a number"),
        (["1.5", "nan"], "regression", "the label of 1.png is nan"),
        (["1.5", "1.5"], "regression", "all labels are the same number"),
        (["a", "b"], "ranking", "'ranking' is not a kind of labels"),
    ],
)
def test_labels_that_can_not_be_learned(tmp_path: Path, labels: list[str], kind: data.Kind, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        data.read(table(tmp_path / "t.csv", labelled(tmp_path, labels)), kind)


def test_a_folder_is_no_regression(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="classes, not numbers"):
        data.read(folder(tmp_path / "d", {"1": 2, "2": 2}), "regression")


def test_tables_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"t.csv has the columns file, label"):
        data.read(table(tmp_path / "t.csv", [], ("file", "label")))
    (tmp_path / "u.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(ModelspaceError, match="can't be read as a CSV file"):
        data.read(tmp_path / "u.csv")
