"""Eight processes for a few seconds; `scripts/torture/concurrent_use.py --full` lets them work for ten minutes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from torture import concurrent_use  # noqa: E402
from torture.concurrent_use import Report  # noqa: E402


@pytest.mark.wide
def test_eight_processes_lose_nothing() -> None:
    reports, failures = concurrent_use.torture(6.0, 0)
    assert failures == []
    counts = sum((report.counts for report in reports), reports[0].counts.__class__())
    assert counts["add"] > 0
    assert counts["rank"] + counts["read"] > 0
    assert counts["sql"] > 0


@pytest.mark.wide
def test_a_lost_and_an_unknown_change_are_seen(tmp_path: Path) -> None:
    concurrent_use.prepare(tmp_path)
    concurrent_use._add(tmp_path, "m1001", "3")
    concurrent_use._add(tmp_path, "m1002", "4")
    report = Report("change", models={"m1001": "2", "m1003": "5"})
    assert concurrent_use.lost(tmp_path, [report]) == [
        "m1001: step 2 was acknowledged, 3 is stored",
        "m1002: step None was acknowledged, 4 is stored",
        "m1003: step 5 was acknowledged, None is stored",
    ]


def test_an_answer_of_two_states_is_seen(tmp_path: Path) -> None:
    concurrent_use.prepare(tmp_path)
    concurrent_use.require_whole(tmp_path)
    with concurrent_use.Registry.open(tmp_path / "registry.duckdb", write=True) as registry:
        last = concurrent_use.SPACES[-1].space_id
        registry.execute("DELETE FROM main.embeddings WHERE position = 2 AND space_id = ?", [last])
    report = Report("rank")
    assert not report.attempt("read", lambda: concurrent_use.require_whole(tmp_path))
    assert "has other models than the registry" in report.failures[0]
