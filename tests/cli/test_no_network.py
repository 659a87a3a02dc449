"""Queries open no socket: neither Python code, which an audit hook would see, nor a library, which strace would."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Runs commands of the command line in one process in which a socket is an error.
CODE = """
import sys
opened = []
def hook(event, arguments):
    if event.startswith("socket."):
        opened.append(event)
        raise RuntimeError(f"a socket: {event}")
sys.addaudithook(hook)
from typer.testing import CliRunner
from modelspace.cli.app import app
for words in sys.argv[2:]:
    result = CliRunner().invoke(app, [*words.split("|"), "--home", sys.argv[1]])
    assert result.exit_code == 0, (words, result.output, result.exception)
assert opened == [], opened
"""

COMMANDS = (
    "nearest|curvature",
    "nearest|curvature|--where|task LIKE 'd%'",
    "list",
    "show|curvature",
    "spaces",
    "sql|FROM nearest('curvature', 3)",
    "verify",
    "tree|--format|newick",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "registry.duckdb", tmp_path)
    shutil.copytree(ROOT / "index", tmp_path / "index")
    return tmp_path


@pytest.mark.wide
def test_no_query_opens_a_socket(home: Path) -> None:
    export = f"export|{home / 'out'}"
    done = subprocess.run([sys.executable, "-c", CODE, home, *COMMANDS, export], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_socket_would_be_seen(home: Path) -> None:
    code = CODE.replace("assert opened == []", "import socket; socket.socket(); assert opened == []")
    done = subprocess.run([sys.executable, "-c", code, home], capture_output=True, text=True)
    assert "a socket: socket.__new__" in done.stderr


@pytest.mark.wide
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_library_opens_one_either(home: Path, tmp_path: Path) -> None:
    """With the process of SQL, which strace follows."""
    log = tmp_path / "calls"
    words = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=socket,connect,sendto", sys.executable, "-c", CODE]
    done = subprocess.run([*words, home, *COMMANDS[:2], COMMANDS[5]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "socket(" not in log.read_text()
