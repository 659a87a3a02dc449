"""Many models on a Ray cluster that the test starts, with actors that are killed."""

from __future__ import annotations

from pathlib import Path

import pytest
import zoo_files

from modelspace.errors import ModelspaceError

pytest.importorskip("ray")

pytestmark = pytest.mark.wide


@pytest.mark.slow
def test_a_killed_actor_costs_only_its_model(tmp_path: Path) -> None:
    import ray

    space = zoo_files.home(tmp_path)
    done = space.add_all(zoo_files.write(tmp_path, "m0", "ends", "killed_once", "broken", "m1"), workers=2, ray="local")
    assert [(outcome.name, outcome.status) for outcome in done] == [
        ("m0", "added"),
        ("ends", "failed"),
        ("killed_once", "added"),
        ("broken", "failed"),
        ("m1", "added"),
    ]
    assert "Ray actor" in done[1].message
    assert "no weights today" in done[3].message
    assert [info.name for info in space.list()] == ["m0", "killed_once", "m1"]
    assert all(check.ok for check in space.verify(deep=True))
    assert not ray.is_initialized()


def test_an_address_without_a_cluster_is_named(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    with pytest.raises(ModelspaceError, match="no Ray cluster at 'nowhere'"):
        space.add_all(zoo_files.write(tmp_path, "m0"), ray="nowhere")
