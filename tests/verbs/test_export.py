"""Export: other programs read back the content of the registry."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import duckdb
import numpy as np
import pytest
from tiny import add, near, net, space
from typer.testing import CliRunner

from modelspace.analysis import parse_newick
from modelspace.cli.app import app
from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.workspace import ModelSpace

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    where = space(tmp_path_factory.mktemp("export"))
    for name, module in {"a": net(1), "b": near(1, 0.1), "c": net(2), "d": near(2, 0.1), "e": net(3)}.items():
        add(where, name, module, task=f"task, {name}", tags={"group": name.upper(), 'odd "key"': "x;y"})
    return where


def rows(file: Path) -> list[dict[str, object]]:
    return duckdb.connect().sql(f"SELECT * FROM '{file}'").df().to_dict("records")


def square(file: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Columns, names and numbers of a CSV whose first column is the name."""
    head, *body = csv.reader(file.open(encoding="utf-8", newline=""))
    assert head[0] == "name"
    return head[1:], [row[0] for row in body], np.array([[float(cell) for cell in row[1:]] for row in body])


@pytest.mark.wide
def test_a_folder_gets_everything_but_the_maps(shelf: ModelSpace, tmp_path: Path) -> None:
    made = shelf.export(tmp_path / "out")
    assert [(Path(row.file).name, row.what, row.format, row.rows) for row in made] == [
        ("models.parquet", "models", "parquet", 5),
        ("affinity.parquet", "affinity", "parquet", 10),
        ("vectors.npy", "vectors", "npy", 5),
        ("neighbours.parquet", "neighbours", "parquet", 20),
        ("tree.nwk", "tree", "newick", 5),
    ]
    assert all(Path(row.file).stat().st_size == row.bytes > 0 for row in made)
    assert not [name for name in os.listdir(tmp_path / "out") if name.endswith(".tmp")]


def test_models_in_parquet_csv_and_json(shelf: ModelSpace, tmp_path: Path) -> None:
    for suffix in ("parquet", "csv", "json"):
        shelf.export(tmp_path / f"models.{suffix}")
    table = duckdb.connect().sql(f"FROM '{tmp_path}/models.parquet'")
    types = dict(zip(table.columns, map(str, table.types), strict=True))
    assert types["tags"] == "MAP(VARCHAR, VARCHAR)"
    assert types["output_shape"] == "INTEGER[]"
    assert (types["added_at"], types["parameters"]) == ("TIMESTAMP", "BIGINT")
    by_duckdb = table.fetchall()
    by_json = json.loads((tmp_path / "models.json").read_text("utf-8"))
    by_csv = list(csv.DictReader((tmp_path / "models.csv").open(encoding="utf-8", newline="")))
    for info, row, words, cells in zip(shelf.list(), by_duckdb, by_json, by_csv, strict=True):
        found = dict(zip(table.columns, row, strict=True))
        assert found["name"] == words["name"] == cells["name"] == info.name
        assert found["task"] == words["task"] == cells["task"] == info.task
        assert found["tags"] == words["tags"] == json.loads(cells["tags"]) == info.tags
        assert found["spaces"] == words["spaces"] == list(info.spaces)
        assert found["weights_sha256"] == info.weights_sha256
        assert float(cells["seconds"]) == words["seconds"] == found["seconds"] == info.seconds
        assert json.loads(found["preprocessing"]) == info.preprocessing
        assert info.added_at.startswith(cells["added_at"][:19])


def test_affinities_long_and_wide_and_as_an_array(shelf: ModelSpace, tmp_path: Path) -> None:
    expected = shelf.affinity("saliency")
    for suffix in ("parquet", "csv"):
        shelf.export(tmp_path / f"long.{suffix}", "affinity", space="saliency")
        shelf.export(tmp_path / f"wide.{suffix}", "affinity", space="saliency", wide=True)
        pairs = rows(tmp_path / f"long.{suffix}")
        assert len(pairs) == 10
        for pair in pairs:
            i, j = expected.names.index(pair["a"]), expected.names.index(pair["b"])
            assert pair["affinity"] == expected.matrix[i, j]
    columns, names, numbers = square(tmp_path / "wide.csv")
    assert columns == names == list(expected.names)
    np.testing.assert_array_equal(numbers, expected.matrix)
    shelf.export(tmp_path / "square.npy", "affinity", space="saliency", dtype="float32")
    array = np.load(tmp_path / "square.npy", allow_pickle=False)
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, expected.matrix, atol=1e-7)
    assert (tmp_path / "square.names.txt").read_text("utf-8").split("\n") == [*expected.names, ""]


def test_inner_products_of_exported_vectors_are_affinities(shelf: ModelSpace, tmp_path: Path) -> None:
    expected = shelf.affinity().matrix
    shelf.export(tmp_path / "vectors.npy")
    shelf.export(tmp_path / "single.npy", dtype="float32")
    shelf.export(tmp_path / "vectors.csv", "vectors")
    shelf.export(tmp_path / "vectors.parquet", "vectors")
    vectors = np.load(tmp_path / "vectors.npy", allow_pickle=False)
    assert vectors.dtype == np.float64
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-12)
    assert np.load(tmp_path / "single.npy").dtype == np.float32
    np.testing.assert_array_equal(square(tmp_path / "vectors.csv")[2], vectors)
    frame = pandas.read_csv(tmp_path / "vectors.csv", index_col="name")
    np.testing.assert_allclose(frame.to_numpy(), vectors, atol=1e-15)
    stored = np.stack([row["vector"] for row in rows(tmp_path / "vectors.parquet")])
    np.testing.assert_array_equal(stored, vectors)
    some = shelf.export(tmp_path / "some.npy", where="name <> 'c'")
    assert some[0].rows == 4
    np.testing.assert_allclose(
        (lambda v: v @ v.T)(np.load(tmp_path / "some.npy")), np.delete(np.delete(expected, 2, 0), 2, 1), atol=1e-12
    )


def test_neighbours_are_those_of_nearest(shelf: ModelSpace, tmp_path: Path) -> None:
    shelf.export(tmp_path / "near.parquet", "neighbours", k=3)
    found = rows(tmp_path / "near.parquet")
    assert len(found) == 15
    for name in "abcde":
        mine = [row for row in found if row["name"] == name]
        ranking = shelf.nearest(name, k=3)
        assert [row["rank"] for row in mine] == [1, 2, 3]
        assert [row["neighbour"] for row in mine] == [row.name for row in ranking]
        np.testing.assert_allclose([row["affinity"] for row in mine], [row.affinity for row in ranking], atol=1e-9)
        np.testing.assert_allclose([row["distance"] for row in mine], [row.distance for row in ranking], atol=1e-6)


def test_the_tree_reads_back(shelf: ModelSpace, tmp_path: Path) -> None:
    shelf.export(tmp_path / "tree.nwk")
    tree = parse_newick((tmp_path / "tree.nwk").read_text("utf-8"))
    assert sorted(leaf.name for leaf in tree.leaves()) == list("abcde")
    shelf.export(tmp_path / "tree.json", "tree", method="ward")
    assert json.loads((tmp_path / "tree.json").read_text("utf-8"))["method"] == "ward"


def test_maps_are_a_file_per_model(shelf: ModelSpace, tmp_path: Path) -> None:
    made = shelf.export(tmp_path / "out", ["maps"], space="saliency", where="name IN ('a', 'c')")
    assert [Path(row.file).name for row in made] == ["a.npy", "c.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "maps" / "c.npy"), shelf.maps("c", "saliency"))
    with pytest.raises(ConflictError, match=r"a\.npy exists already"):
        shelf.export(tmp_path / "out", ["maps"], where="name = 'a'")


def test_nothing_is_overwritten_unless_that_is_said(shelf: ModelSpace, tmp_path: Path) -> None:
    file = tmp_path / "models.csv"
    file.write_text("mine", "utf-8")
    with pytest.raises(ConflictError, match="exists already") as caught:
        shelf.export(file)
    assert "`force=True`" in caught.value.hint
    assert file.read_text("utf-8") == "mine"
    shelf.export(file, force=True)
    assert file.read_text("utf-8").startswith("name,")
    # The names beside an array count too, and are looked at before anything is written.
    (tmp_path / "v.names.txt").write_text("mine", "utf-8")
    with pytest.raises(ConflictError, match=r"v\.names\.txt"):
        shelf.export(tmp_path / "v.npy")
    assert not (tmp_path / "v.npy").exists()


def test_a_failure_leaves_the_old_file_and_nothing_else(
    shelf: ModelSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelspace.registry import files

    file = tmp_path / "models.parquet"
    file.write_text("old", "utf-8")

    def half(columns: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_parquet", half)
    with pytest.raises(KeyboardInterrupt):
        shelf.export(file, force=True)
    assert os.listdir(tmp_path) == ["models.parquet"]
    assert file.read_text("utf-8") == "old"


@pytest.mark.parametrize(
    ("target", "what", "format", "words"),
    [
        ("x.parquet", ["tree"], None, "tree can't be written as parquet"),
        ("x.dat", [], None, "unknown format of 'x.dat'"),
        ("x.csv", ["models", "affinity"], None, "single file"),
        ("x.csv", ["model"], None, "'model' can't be exported"),
        ("x.csv", [], "cvs", "unknown format 'cvs'"),
        ("x.npy", ["maps"], None, "one file per model"),
        ("x", ["tree"], "csv", "tree can't be written as csv"),
    ],
)
def test_what_does_not_go_together(
    shelf: ModelSpace, tmp_path: Path, target: str, what: list[str], format: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        shelf.export(tmp_path / target, what, format=format)
    assert os.listdir(tmp_path) == []


def test_a_space_that_is_not_there(shelf: ModelSpace, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="salency"):
        shelf.export(tmp_path / "v.npy", space="salency")


def test_the_command(shelf: ModelSpace, tmp_path: Path) -> None:
    home = ["--home", str(shelf.home)]
    result = CliRunner().invoke(app, ["export", str(tmp_path / "v.npy"), "--dtype", "float32", *home])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "v.npy" in result.stdout
    assert np.load(tmp_path / "v.npy").dtype == np.float32
    again = CliRunner().invoke(app, ["export", str(tmp_path / "v.npy"), *home])
    assert (again.exit_code, again.stdout) == (1, "")
    assert "--force" in again.stderr
    forced = CliRunner().invoke(app, ["export", str(tmp_path / "v.npy"), "--force", "-q", *home])
    assert (forced.exit_code, forced.output) == (0, "")


def test_quotes_in_names_and_tables_wider_than_a_batch(tmp_path: Path) -> None:
    from modelspace.registry.files import write_parquet

    file = tmp_path / "it's.parquet"
    columns = {f'c"{i}': ("DOUBLE", [float(i), None, i / 3]) for i in range(600)}
    write_parquet(columns, file)
    read = duckdb.connect().execute("FROM read_parquet(?)", [str(file)])
    assert [column[0] for column in read.description] == list(columns)
    assert read.fetchall()[2][500] == 500 / 3
