"""A registry written anew is smaller and the same."""

from pathlib import Path

import pytest
from tiny import add, net, space

from modelspace.errors import BusyError
from modelspace.registry import Registry
from modelspace.registry.compaction import compact
from modelspace.workspace import ModelSpace


@pytest.fixture
def shelf(tmp_path: Path) -> ModelSpace:
    where = space(tmp_path, methods=["saliency"], images=50, canvas=64, bits=32)
    for seed in range(3):
        add(where, f"m{seed}", net(seed))
    where.remove("m1")
    return where


def test_it_is_smaller_and_holds_the_same(shelf: ModelSpace) -> None:
    before = shelf.nearest("m0").to_dicts(), shelf.show("m2"), shelf.sql("SELECT affinity('m0', 'm2')").rows
    old, new = compact(shelf.path)
    assert new < old
    assert new == shelf.path.stat().st_size
    assert (shelf.nearest("m0").to_dicts(), shelf.show("m2"), shelf.sql("SELECT affinity('m0', 'm2')").rows) == before
    assert all(check.ok for check in shelf.verify(deep=True))
    assert sorted(file.name for file in shelf.home.iterdir()) == ["index", "registry.duckdb"]


def test_ids_are_not_given_again_and_models_can_be_added(shelf: ModelSpace) -> None:
    with Registry.open(shelf.path) as registry:
        used = {row.model_id for row in registry.models()}
    compact(shelf.path)
    add(shelf, "late", net(7))
    with Registry.open(shelf.path) as registry:
        assert registry.model("late").model_id > max(used)
        assert registry.check() == []


def test_nobody_else_may_have_it_open(shelf: ModelSpace) -> None:
    with Registry.open(shelf.path), pytest.raises(BusyError):
        compact(shelf.path, timeout=0.2)
    assert len(shelf.list()) == 2
