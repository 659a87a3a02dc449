"""SQL orders by affinity, and says so where the space has another order."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import small_spaces
from small_spaces import KERNELS
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.errors import OrderWarning, UsageError
from modelspace.workspace import ModelSpace


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    home = tmp_path_factory.mktemp("sql")
    with small_spaces.create(home / "registry.duckdb", KERNELS) as registry:
        for seed in range(4):
            small_spaces.add(registry, seed, KERNELS)
    space = ModelSpace.open(home)
    space.blend("transfer", {"dds": 1.0}, rerank="directed", default=True)
    space.blend("corrected", {"dds": 1.0}, hubs="csls")
    return space


def notes(space: ModelSpace, query: str) -> list[str]:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        space.sql(query)
    assert {warning.category for warning in shown} <= {OrderWarning}
    return [str(warning.message) for warning in shown]


@pytest.mark.wide
def test_the_macro_has_a_name_that_says_its_order(space: ModelSpace) -> None:
    for old, new in (
        ("nearest('m0', 2)", "nearest_by_affinity('m0', 2)"),
        ("nearest('m0')", "nearest_by_affinity('m0')"),
        ("nearest_in('dds', 'm1', k := 2)", "nearest_by_affinity_in('dds', 'm1', k := 2)"),
    ):
        assert space.sql(f"FROM {new}").rows == space.sql(f"FROM {old}").rows != []
    every = "SELECT m.name, n.name FROM models m, {}(m.name, 1) n ORDER BY ALL"
    assert space.sql(every.format("nearest_by_affinity")).rows == space.sql(every.format("nearest")).rows
    with pytest.raises(UsageError, match="no model 'nope'"):
        space.sql("FROM nearest_by_affinity('nope')")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("FROM nearest('m0', 2)", "nearest() orders by affinity, and the space transfer ranks by predicted features: "),
        ("FROM NEAREST ('m0')", "nearest_by_affinity() is the same macro"),
        ("FROM nearest_in('corrected', 'm0')", "ranks by affinity corrected for hubs (csls): "),
        ("FROM nearest_in('dds', 'm0')", ""),
        ("FROM nearest_by_affinity('m0')", ""),
        ("SELECT 'nearest(''m0'')' AS text -- nearest('m0')", ""),
    ],
)
def test_a_query_whose_order_is_not_that_of_the_space_says_so(space: ModelSpace, query: str, said: str) -> None:
    shown = notes(space, query)
    assert len(shown) == bool(said)
    assert not said or said in shown[0]


def test_the_command_says_it_on_standard_error(space: ModelSpace) -> None:
    words = ["sql", "FROM nearest('m0', 2)", "--format", "csv", "--home", str(Path(space.home))]
    done = CliRunner().invoke(app, words)
    assert done.stderr.startswith("note: nearest() orders by affinity")
    assert "'modelspace nearest NAME' has that order" in done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert CliRunner().invoke(app, [*words, "-q"]).stderr == ""
