"""The command line on a real registry, with small models from a Python file, in real processes where it matters."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelspace.cli.app import app

NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, seed, width=4, amount=0.0):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, 2, 1)
        self.fc = nn.Linear(width, 3)
        first, second = (torch.Generator().manual_seed(number) for number in (seed, 99))
        for generator, scale in ((first, 0.4), (second, amount)):
            with torch.no_grad():
                for p in self.parameters():
                    noise = torch.randn(p.shape, generator=generator) * scale
                    p.copy_(noise if scale == 0.4 else p + noise)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def alpha():
    return Net(1)

def beta():
    return Net(1, amount=0.05)

def gamma():
    return Net(2)

def near_gamma():
    return Net(2, amount=0.05)

def slow():
    import pathlib, time
    pathlib.Path("started").touch()
    time.sleep(50)

def broken():
    raise ValueError("no weights today")
"""

INPUT = ["--input-size", "16", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]


def run(home: Path, *words: str, code: int = 0, input: str | None = None) -> Any:
    result = CliRunner().invoke(app, [*words, "--home", str(home)], input=input, env={"COLUMNS": "80"})
    assert result.exit_code == code, result.output
    return result


def rows(home: Path, *words: str) -> Any:
    return json.loads(run(home, *words, "--format", "json").stdout)


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of three models; the tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "nets.py").write_text(NETS, "utf-8")
    home = folder / "home"
    run(home, "init", "--images", "4", "--canvas", "8", "--method", "gradient_x_input", "--method", "saliency")
    for name in ("alpha", "beta", "gamma"):
        result = run(
            home, "add", f"python:{folder}/nets.py:{name}", *INPUT, "--task", f"task-{name}", "--device", "cpu"
        )
        assert f"added {name}" in result.stdout
        assert "fc:in (" in result.stdout
        assert "gradient_x_input, saliency" in result.stdout
        assert f"next: modelspace nearest {name}" in result.stderr
    return home


@pytest.fixture
def home(shared_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared_home, tmp_path / "home"))


def nets(shared_home: Path) -> str:
    return f"python:{shared_home.parent}/nets.py"


@pytest.mark.wide
def test_nearest_finds_the_near_copy(shared_home: Path) -> None:
    neighbours = rows(shared_home, "nearest", "alpha")
    assert [row["name"] for row in neighbours] == ["beta", "gamma"]
    assert neighbours[0]["low"] <= neighbours[0]["affinity"] <= neighbours[0]["high"] <= 1
    assert neighbours[0]["task"] == "task-beta"
    assert neighbours[0]["rank"] == 1
    assert rows(shared_home, "nearest", "alpha", "-k", "1", "--where", "task = 'task-gamma'")[0]["name"] == "gamma"
    assert "beta" in run(shared_home, "nearest", "alpha", "--space", "saliency").stdout


def test_nearest_of_an_address_stores_nothing(shared_home: Path) -> None:
    before = (shared_home / "registry.duckdb").read_bytes()
    result = run(
        shared_home, "nearest", f"{nets(shared_home)}:near_gamma", *INPUT, "--device", "cpu", "--format", "json"
    )
    assert json.loads(result.stdout)[0]["name"] == "gamma"
    assert "note: explains fc:in" in result.stderr
    known = run(shared_home, "nearest", f"{nets(shared_home)}:beta", *INPUT, "--device", "cpu")
    assert "registered as beta" in known.stderr
    assert (shared_home / "registry.duckdb").read_bytes() == before


def test_list_and_show_name_everything(shared_home: Path) -> None:
    listed = rows(shared_home, "list")
    assert [row["name"] for row in listed] == ["alpha", "beta", "gamma"]
    shown = rows(shared_home, "show", "alpha")
    assert [row["name"] for row in shown.pop("neighbours")] == ["beta", "gamma"]
    assert shown == listed[0]
    assert shown["uri"].endswith("nets.py:alpha")
    assert shown["layer"] == "fc:in"
    assert shown["preprocessing"]["input_size"] == [16, 16]
    assert shown["parameters"] == 4 * 28 + 15
    assert len(shown["weights_sha256"]) == 64
    assert shown["seconds"] > 0
    assert shown["spaces"] == ["gradient_x_input", "saliency"]


def test_adding_again_changes_nothing(home: Path, shared_home: Path) -> None:
    result = run(home, "add", f"{nets(shared_home)}:alpha", *INPUT, "--device", "cpu")
    assert "alpha is already registered; nothing was changed" in result.stdout
    assert len(rows(home, "list")) == 3


def test_a_name_that_is_taken_is_refused_with_the_way_out(home: Path, shared_home: Path) -> None:
    words = ["add", f"{nets(shared_home)}:gamma", *INPUT, "--name", "alpha", "--device", "cpu"]
    refused = run(home, *words, code=1)
    assert "alpha" in refused.stderr
    assert "weights" in refused.stderr
    assert "--name" in refused.stderr
    assert "--replace" in refused.stderr
    assert "replaced alpha" in run(home, *words, "--replace").stdout
    assert rows(home, "show", "alpha")["uri"].endswith(":gamma")


@pytest.mark.wide
def test_remove_rename_tag(home: Path) -> None:
    assert "removed gamma" in run(home, "remove", "gamma").stderr
    run(home, "rename", "beta", "delta")
    run(home, "tag", "delta", "licence=mit", "owner=[red]me", "--task", "edges")
    run(home, "tag", "delta", "--unset", "licence")
    shown = rows(home, "show", "delta")
    assert (shown["tags"], shown["task"]) == ({"owner": "[red]me"}, "edges")
    assert "owner=[red]me" in run(home, "show", "delta").stdout
    assert [row["name"] for row in rows(home, "nearest", "alpha")] == ["delta"]
    assert "did you mean" in run(home, "show", "delt", code=1).stderr


def test_spaces_and_probes(home: Path) -> None:
    run(home, "spaces", "--set-default", "saliency")
    assert [(row["name"], row["is_default"], row["n_models"]) for row in rows(home, "spaces")] == [
        ("gradient_x_input", False, 3),
        ("saliency", True, 3),
    ]
    assert [row["name"] for row in rows(home, "probes", "list")] == ["rooms"]
    assert rows(home, "probes", "create", "seven", "rooms", "--seed", "7")["name"] == "seven"
    assert {row["name"] for row in rows(home, "probes", "list")} == {"rooms", "seven"}
    new_spaces = rows(home, "init", "--probes", "seven", "--images", "4", "--canvas", "8", "--space", "second")
    assert new_spaces[0]["probes"] == "seven"


def test_layers(shared_home: Path) -> None:
    result = CliRunner().invoke(
        app, ["layers", f"{nets(shared_home)}:alpha", *INPUT, "--device", "cpu", "--format", "json"]
    )
    assert result.exit_code == 0, result.output
    layers = json.loads(result.stdout)
    assert [row["name"] for row in layers] == ["conv", "fc", "output"]
    assert [row["explained"] for row in layers] == [None, "input", None]
    assert layers[1]["parameters"] == 15
    assert "explained: fc:in" in result.stderr


def test_sql(shared_home: Path) -> None:
    assert rows(shared_home, "sql", "SELECT name, task FROM models ORDER BY name")[2] == {
        "name": "gamma",
        "task": "task-gamma",
    }
    piped = run(shared_home, "sql", "--format", "csv", input="SELECT count(*) AS n FROM models")
    assert list(csv.reader(io.StringIO(piped.stdout))) == [["n"], ["3"]]
    refused = run(shared_home, "sql", "DROP TABLE models", code=2)
    assert refused.stderr.startswith("error: ")
    assert len(rows(shared_home, "list")) == 3


def test_verify_and_rebuild(home: Path) -> None:
    assert all(check["ok"] for check in rows(home, "verify", "--deep"))
    shutil.rmtree(home / "index")
    assert len(rows(home, "rebuild", "--coordinates")) == 2
    assert all(row["index"] == "fresh" for row in rows(home, "spaces"))
    assert rows(home, "nearest", "alpha")[0]["name"] == "beta"


def test_a_factory_that_fails_leaves_the_registry_unchanged(home: Path, shared_home: Path) -> None:
    failed = run(home, "add", f"{nets(shared_home)}:broken", *INPUT, code=1)
    assert "no weights today" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert len(rows(home, "list")) == 3


@pytest.mark.wide
def test_a_real_process_separates_data_and_messages(shared_home: Path, tmp_path: Path) -> None:
    def process(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "modelspace", *words], capture_output=True, text=True, timeout=60, cwd=tmp_path
        )

    done = process("nearest", "alpha", "--home", str(shared_home))
    assert done.returncode == 0, done.stderr
    assert "beta" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    missing = process("nearest", "alpha")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("error: there is no registry.duckdb")


@pytest.mark.wide
@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_an_interruption_in_a_real_process(home: Path, shared_home: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "modelspace", "add", f"{nets(shared_home)}:slow", *INPUT, "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    start = time.monotonic()
    while not (tmp_path / "started").exists() and time.monotonic() - start < 45:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"interrupted; the registry is unchanged\n")
    assert len(rows(home, "list")) == 3


def test_a_registry_in_the_parent_folder_is_used(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELSPACE_HOME", raising=False)
    monkeypatch.chdir(shared_home / "index")
    result = CliRunner().invoke(app, ["list", "--format", "json"])
    assert len(json.loads(result.stdout)) == 3
