"""A compacted registry is smaller and has the same content."""

from pathlib import Path

import pytest
from tiny import add, net, space

from modelspace.errors import BusyError
from modelspace.registry import Registry
from modelspace.registry.compaction import compact
from modelspace.workspace import ModelSpace


@pytest.fixture
def filled(tmp_path: Path) -> ModelSpace:
    registered = space(tmp_path, methods=["saliency"], images=50, canvas=64, bits=32)
    for seed in range(3):
        add(registered, f"m{seed}", net(seed))
    registered.remove("m1")
    return registered


@pytest.mark.wide
def test_it_is_smaller_with_the_same_content(filled: ModelSpace) -> None:
    before = filled.nearest("m0").to_dicts(), filled.show("m2"), filled.sql("SELECT affinity('m0', 'm2')").rows
    old, new = compact(filled.path)
    assert new < old
    assert new == filled.path.stat().st_size
    assert (
        filled.nearest("m0").to_dicts(),
        filled.show("m2"),
        filled.sql("SELECT affinity('m0', 'm2')").rows,
    ) == before
    assert all(check.ok for check in filled.verify(deep=True))
    assert sorted(file.name for file in filled.home.iterdir()) == ["index", "registry.duckdb"]


@pytest.mark.wide
def test_ids_are_not_reused_and_models_can_be_added(filled: ModelSpace) -> None:
    with Registry.open(filled.path) as registry:
        used = {row.model_id for row in registry.models()}
    compact(filled.path)
    add(filled, "late", net(7))
    with Registry.open(filled.path) as registry:
        assert registry.model("late").model_id > max(used)
        assert registry.check() == []


@pytest.mark.wide
def test_it_needs_exclusive_access(filled: ModelSpace) -> None:
    with Registry.open(filled.path), pytest.raises(BusyError):
        compact(filled.path, timeout=0.2)
    assert len(filled.list()) == 2
