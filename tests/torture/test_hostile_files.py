"""Hostile weights, ONNX files, images and texts, at a short length; `scripts/torture/` has the full one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

from torture import graphs, hostile, images, parsers, weights  # noqa: E402

#: Kinds that take the machine's memory or seconds on purpose, and are left to the full length.
LEFT_OUT = (
    "GB",
    "MB",
    "7,900",
    "9,000",
    "30,000",
    "100,000",
    "20,000",
    "2,000",
    "1,000 files",
    "5,000",
    "scans",
    "40 ",
)


def sample(program: ModuleType, step: int) -> list[hostile.Input]:
    """Every `step`-th input of a program."""
    small = [each for each in program.inputs(20, 0) if not any(word in each.name for word in LEFT_OUT)]
    return [each for each in small if each.group != "bomb" or program is weights][::step]


@pytest.mark.wide
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("program", "step"), [(weights, 4), (graphs, 9), (images, 12)])
def test_each_is_refused_in_a_sentence_or_read(program: ModuleType, step: int, tmp_path: Path) -> None:
    if program is graphs:
        pytest.importorskip("onnx")
    tried = sample(program, step)
    assert len(tried) > 20
    rows = [hostile.try_input(each, tmp_path / "input") for each in tried]
    problems = {f"{row['group']}: {row['name']}": text for row in rows if (text := hostile.problem_of(row, 4096))}
    assert problems == {}
    assert {row["result"] for row in rows} == {"refused", "loaded"}


def test_code_that_runs_is_noticed(tmp_path: Path) -> None:
    def run(folder: Path) -> None:
        (folder.parent / hostile.CANARY).mkdir()

    row = hostile.try_input(hostile.Input("code", "mkdir", run, "either"), tmp_path / "input")
    assert hostile.problem_of(row) == "its code ran"


def test_errors_that_are_no_sentence_are_noticed(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise KeyError("w")

    row = hostile.try_input(hostile.Input("bomb", "fails", fail), tmp_path / "input")
    assert hostile.problem_of(row).startswith("internal error KeyError")
    row = hostile.try_input(hostile.Input("bomb", "passes", lambda folder: None), tmp_path / "input")
    assert hostile.problem_of(row) == "was not refused"


@pytest.mark.wide
@pytest.mark.parametrize("parser", parsers.PARSERS, ids=lambda parser: parser.__name__)
@pytest.mark.filterwarnings("ignore")
def test_no_parser_fails(parser: parsers.Parser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSPACE_CACHE", "")
    monkeypatch.setattr(parsers.signal, "setitimer", lambda *_: None)
    tally = parsers.Tally()
    for number in range(40):
        parsers.try_input(parser, number, 1, tmp_path, tally)
    assert tally.failures == []
    assert 0 <= tally.refused <= tally.tried == 40


@pytest.mark.wide
def test_the_programs_print_a_sentence_and_keep_their_figures(tmp_path: Path) -> None:
    out = tmp_path / "parsers.json"
    command = [
        sys.executable,
        str(ROOT / "scripts" / "torture" / "parsers.py"),
        "--minutes",
        "0.005",
        "--out",
        str(out),
    ]
    done = subprocess.run([*command, "--parser", "newick"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failures" in done.stdout
    assert '"newick: tried"' in out.read_text()
