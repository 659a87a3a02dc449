"""The benchmark of growth: what it measures on a small population, how it resumes, and its table and picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import bench_scale  # noqa: E402
import simulate_population  # noqa: E402
from population.drawing import growth, slope  # noqa: E402

VALUES = ("filled_per_s", *(name for panel in bench_scale.PANELS for name in panel.lines.values()))


def invented(size: int) -> bench_scale.Result:
    """Results that all grow in proportion, but one that does not grow."""
    return dict.fromkeys(VALUES, size / 100) | {"add_s": 0.2}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("scale")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate_population, "FEATURE_IMAGES", 12)
        assert bench_scale.fill(home, 30)["filled_per_s"] > 0
    return home


@pytest.mark.wide
def test_each_step_measures_what_the_panels_show(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_scale, "QUERIES", 3)
    monkeypatch.setattr(bench_scale, "DIRECTED", 1)
    monkeypatch.setattr(bench_scale, "WARM_UP", 1)
    monkeypatch.setattr(bench_scale, "ADDED", 2)
    measured = bench_scale.fill(home, 30) | bench_scale.build(home, 30) | bench_scale.query(home, 30)
    measured |= bench_scale.add(home, 30)
    assert set(measured) == {
        name for name in VALUES if name.removeprefix("shipped_") not in ("process_s", "affinity_s")
    }
    assert bench_scale.count(home) == 30  # what was added is removed
    others = {name: value for name, value in measured.items() if name != "filled_per_s"}
    assert all(value > 0 for value in others.values()), others


def test_names_are_those_of_the_population(home: Path) -> None:
    assert set(bench_scale.some_names(30, 40)) == set(bench_scale.ModelSpace.open(home))


def test_an_interrupted_run_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []

    def step(name: str, home: Path, size: int) -> bench_scale.Result:
        calls.append((name, size))
        if (name, size) == ("query", 1_000) and len(calls) < 9:
            raise KeyboardInterrupt
        return {f"{name}_value": float(size)}

    monkeypatch.setattr(bench_scale, "in_process", step)
    with pytest.raises(KeyboardInterrupt):
        bench_scale.run(tmp_path, 1_000)
    assert set(json.loads((tmp_path / "results.json").read_text())["1000"]) == {"fill", "build"}
    calls.clear()
    calls += [("", 0)] * 9
    results = bench_scale.run(tmp_path, 1_000)
    # The population is extended again if it must be, and only what is missing is measured.
    assert calls[9:] == [("fill", 1_000), ("query", 1_000), ("process", 1_000), ("add", 1_000)]
    assert results[100]["query_value"] == 100
    assert results[1_000]["query_value"] == 1_000


def test_slopes() -> None:
    sizes = [100, 1_000, 10_000, 100_000]
    assert slope(sizes, [5, 1, 10, 100]) == "1.00"  # from 1,000 on
    assert slope(sizes, [1, 3, 3, 3]) == "0.00"
    assert slope(sizes[:2], [1, 2]) == ""


def test_table_and_picture() -> None:
    results = {size: invented(size) for size in (100, 1_000, 10_000)}
    text = bench_scale.section(results, 10_000)
    assert "Not run here: 100,000, 1,000,000 models" in text
    rows = {line.split(" | ")[0].strip("| "): line.rstrip(" |").split(" | ")[1:] for line in text.splitlines()}
    assert rows["adding and removing, s: add, beyond the pass"] == ["0.2", "0.2", "0.2", "0.00"]
    assert rows["building the index, s: build"] == ["1", "10", "100", "1.00"]
    results[100].pop("kept_p50_ms")  # of an earlier version
    assert "| query of an open registry, ms: asked first, median | – | 10 | 100 |" in bench_scale.tables(results)
    picture = growth(sorted(results), bench_scale.PANELS, results)
    assert len(picture.axes) == len(bench_scale.PANELS)
    labels = [line.get_label() for line in picture.axes[0].lines]
    assert labels == ["add, beyond the pass (0.00)", "remove (1.00)"]
    assert [label.get_text() for label in picture.axes[0].get_xticklabels()] == ["100", "1k", "10k"]
    drawn = picture.to_bytes("svg")
    assert drawn.startswith(b"<?xml")
    assert b"mathdefault" not in drawn  # formulas are not set in our pictures
