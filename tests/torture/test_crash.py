"""A few kills of each sort; `scripts/torture/crash.py --full` makes 500."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.wide
@pytest.mark.parametrize("kills", [2, pytest.param(4, marks=pytest.mark.long)])
def test_kills_of_a_creation_and_of_a_migration(tmp_path: Path, kills: int) -> None:
    """In a process of its own, because it forks."""
    command = [sys.executable, str(ROOT / "scripts" / "torture" / "crash.py"), "--kills", str(kills), "--seed", "1"]
    command += ["--verb", "init", "--verb", "migration", "--out", str(tmp_path / "out.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert process.returncode == 0, process.stdout + process.stderr
    assert re.fullmatch(rf"{kills} kills in 2 verbs, 0 after which something was wrong\n", process.stdout)
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]
    assert figures == {"kills": kills, "kills after which something was wrong": 0}
