"""The commands that draw: files in the format of their suffix, and output on the right stream."""

from __future__ import annotations

import json
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest
from picture_space import NAMES, FakeFit, make
from typer.testing import CliRunner

from modelspace.analysis import parse_newick
from modelspace.cli.app import app

#: The first bytes of each format.
MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-", ".html": b"<!doctype html>", ".md": b"# "}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("cli")).home


@pytest.fixture
def run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    FakeFit(monkeypatch)
    monkeypatch.setenv("MODELSPACE_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, list(words), env={"COLUMNS": "100"})


@pytest.mark.sampled(2)
@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["map"], "map.png"),
        (["map", "--out", "m.SVG", "--title", "Ours", "--group-by", "task"], "m.SVG"),
        (["tree", "--support", "20"], "tree.png"),
        (["tree", "--method", "single", "--out", "t.pdf"], "t.pdf"),
        (["heatmap"], "heatmap.png"),
        (["heatmap", "--format", "csv", "--out", "h.svg"], "h.svg"),
        (["gallery"], "gallery.png"),
        (["gallery", "b", "--image", "5", "--colours", "redblue", "--out", "g.svg"], "g.svg"),
        (["atlas"], "atlas.html"),
        (["atlas", "--beside", "saliency", "-k", "2", "--out", "two.html"], "two.html"),
        (["report"], "report.html"),
        (["report", "--out", "r.md", "--space", "saliency"], "r.md"),
    ],
    ids=" ".join,
)
def test_files_have_the_format_of_their_suffix(run: Any, tmp_path: Path, words: list[str], file: str) -> None:
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    content = (tmp_path / file).read_bytes()
    suffix = Path(file).suffix.lower()
    assert content.startswith(MAGIC[suffix])
    if suffix == ".svg":
        assert xml.etree.ElementTree.fromstring(content).tag.endswith("svg")
    if "csv" not in words:
        assert done.stdout.split("\n")[0] == file
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == [file]


@pytest.mark.wide
def test_the_map_reports_its_neighbour_recall(run: Any) -> None:
    run("map")
    done = run("map")
    assert "true neighbours are among its 5 nearest on the map" in done.stdout
    assert "as stored" in done.stdout
    assert done.stderr == ""
    record = json.loads(run("map", "--format", "json").stdout)
    assert (record["file"], record["models"], record["coordinates"], record["stored"]) == ("map.png", 6, "stored", True)
    assert 0 <= record["recall"] <= 1
    assert run("map", "-q").stdout == "map.png\n"
    refitted = run("map", "--refit", "--no-store")
    assert "newly computed" in refitted.stdout
    assert refitted.stderr == "note: the coordinates were not stored\n"


def test_trees_for_other_programs(run: Any, tmp_path: Path) -> None:
    done = run("tree", "--format", "newick")
    assert {leaf.name for leaf in parse_newick(done.stdout).leaves()} == set(NAMES)
    tree = json.loads(run("tree", "--format", "json", "--where", "task <> 'task d'", "--support", "0").stdout)
    assert {node["name"]: node["group"] for node in tree["nodes"] if node["name"]} == {
        **{"a": "2D", "a2": "2D", "b": "3D", "b_2": "3D"},
        "c": None,
    }
    assert "b_2" in run("tree", "--format", "text").stdout
    assert list(tmp_path.iterdir()) == []


def test_affinities_for_other_programs(run: Any, tmp_path: Path) -> None:
    lines = run("heatmap", "--format", "csv").stdout.split()
    assert lines[0] == "a,b,affinity"
    assert len(lines) == 16
    assert len(json.loads(run("heatmap", "--format", "json", "--where", "name < 'b'").stdout)) == 1
    assert list(tmp_path.iterdir()) == []


def test_curves_need_no_registry(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELSPACE_HOME")
    summary = {"precision": {"mean": [0.5, 0.4]}, "recall": {"mean": [0.1, 0.3]}}
    Path("e.json").write_text(json.dumps({"methods": [{"method": "ours", "summary": summary}]}))
    done = run("curves", "e.json", "--out", "c.svg")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "c.svg\n  methods  ours\n"
    assert (tmp_path / "c.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["map", "--out", "map.jpg"], 2, "map.jpg", ".png"),
        (["tree", "--out", "tree"], 2, "'tree'", ".svg"),
        (["atlas", "--out", "atlas.png"], 2, "atlas.png", ".html"),
        (["report", "--out", "report.pdf"], 2, "report.pdf", ".md"),
        (["heatmap", "--out", "none/h.png"], 2, "no folder none", "mkdir -p none"),
        (["map", "--space", "salience"], 1, "no space 'salience'", "saliency"),
        (["tree", "--where", "name = 'a'"], 1, "1 model", "--where"),
        (["heatmap", "--group-by", "grup"], 2, "grup", "group"),
        (["gallery", "aa"], 1, "no model 'aa'", "a2"),
        (["gallery", "a", "--image", "99"], 1, "no probe image 99", "0 to 5"),
        (["gallery", "a", "--device", "cpu"], 2, "takes no device", "--layers"),
        (["gallery", "a", "--layers", ""], 2, "no layer", "auto"),
        (["curves", "none.json"], 1, "none.json", "modelspace evaluate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_have_a_hint(run: Any, tmp_path: Path, words: list[str], code: int, message: str, hint: str) -> None:
    done = run(*words)
    assert done.exit_code == code, done.stderr
    error, advice = done.stderr.rstrip().split("\nhint: ")
    assert error.startswith("error: ")
    assert message in error
    assert hint in advice
    assert list(tmp_path.iterdir()) == []
