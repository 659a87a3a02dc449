"""What `evaluate` reads as a matrix: everything that `export` and `heatmap` write of affinities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_spaces
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.cli.spelling import in_flags
from modelspace.errors import DamagedError, ModelspaceError, UsageError
from modelspace.evaluation import read_affinity
from modelspace.workspace import ModelSpace


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    home = tmp_path_factory.mktemp("home")
    with small_spaces.create(home / "registry.duckdb", small_spaces.KERNELS) as registry:
        for seed in (3, 0, 2, 1):
            small_spaces.add(registry, seed, small_spaces.KERNELS)
    return ModelSpace.open(home)


@pytest.mark.first(3)
@pytest.mark.parametrize("file", ["a.npy", "a.csv", "a.parquet", "wide.csv", "wide.parquet"])
def test_exported_affinities(space: ModelSpace, tmp_path: Path, file: str) -> None:
    space.export(tmp_path / file, "affinity", wide=file.startswith("wide"))
    names, matrix = read_affinity(tmp_path / file)
    expected = space.affinity()
    order = [names.index(name) for name in expected.names]
    np.testing.assert_array_equal(matrix[np.ix_(order, order)], expected.matrix)


@pytest.mark.parametrize("format", ["csv", "json"])
def test_the_pairs_of_a_heatmap(space: ModelSpace, tmp_path: Path, format: str) -> None:
    done = CliRunner().invoke(app, ["heatmap", "--format", format, "--home", str(space.home)])
    (tmp_path / f"a.{format}").write_text(done.stdout)
    names, matrix = read_affinity(tmp_path / f"a.{format}")
    expected = space.affinity()
    order = [names.index(name) for name in expected.names]
    np.testing.assert_allclose(matrix[np.ix_(order, order)], expected.matrix, atol=1e-12)


def test_exported_vectors_are_no_affinities(space: ModelSpace, tmp_path: Path) -> None:
    """Their rows are of one number, so only their content tells."""
    for file in ("v.npy", "v.csv", "v.parquet"):
        space.export(tmp_path / file, "vectors")
    with pytest.raises(UsageError, match="as exported vectors have") as caught:
        read_affinity(tmp_path / "v.npy")
    assert in_flags(caught.value.hint) == "write the affinities: modelspace export affinity.npy --what affinity"
    for file in ("v.csv", "v.parquet"):
        with pytest.raises(UsageError, match="not a square table"):
            read_affinity(tmp_path / file)


def test_pairs_in_any_order(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("a,b,affinity\nx,y,0.5\nz,x,0.25\nx,x,0.75\ny,x,0.5\n")
    names, matrix = read_affinity(file)
    assert names == ("x", "y", "z")
    np.testing.assert_array_equal(matrix, [[0.75, 0.5, 0.25], [0.5, 1, np.nan], [0.25, np.nan, 1]])
    file.write_text("a,b,affinity\nx,y,0.5\ny,x,0.25\n")
    with pytest.raises(UsageError, match="two affinities of x and y"):
        read_affinity(file)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.json", "[{]", DamagedError, "not JSON"),
        ("a.json", json.dumps([{"a": "x", "b": "y", "affinity": 1}, {"a": "x"}]), UsageError, "the same keys"),
        ("a.json", "3", UsageError, "not a list of objects"),
        ("a.json", "[]", UsageError, "is empty"),
        ("a.json", json.dumps([{"a": "x", "b": "y", "affinity": "high"}]), DamagedError, "'high' is not a number"),
        ("a.parquet", "no", ModelspaceError, "can't be read"),
        ("m.csv", "a,b,affinity,affinity\nx,y,1,2\n", UsageError, "has the column 'affinity' twice"),
        ("m.csv", "a,b,,affinity,\nx,y\n", DamagedError, "row 2 has 2 cells, not 5"),
    ],
)
def test_what_is_no_matrix(tmp_path: Path, name: str, content: str, error: type[ModelspaceError], message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        read_affinity(tmp_path / name)
