"""docs/tutorial.md, executed in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)

#: Words of a line of output that may differ between machines: numbers, and the mark of a tie.
VARIES = re.compile(r"^[-+.\d,]+$|^≈$")


def run(command: str, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "MODELSPACE_HOME"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env=environment, shell=True, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def like(shown: str, printed: str) -> bool:
    """Whether each line on the page was printed with the same words, ignoring numbers and the order of lines.

    >>> like("1  edge2d  0.5", "rank\\n2  edge2d  0.4  more"), like("1  edge2d", "1  curvature")
    (True, False)
    """
    lines = [set(line.split()) for line in printed.splitlines()]
    wanted = [{word for word in line.split() if not VARIES.match(word)} for line in shown.splitlines()]
    return all(any(words <= line for line in lines) for words in wanted if not words & {"≈", "tied"})


@pytest.mark.long
@pytest.mark.slow
def test_the_tutorial_does_what_it_shows(tmp_path: Path) -> None:
    printed = ""
    done = {"commands": 0, "files": 0, "outputs": 0}
    for language, title, text in BLOCK.findall(PAGE.read_text("utf-8")):
        if title == "install":
            continue  # fetches packages; below it is checked that what it names exists
        if title:
            (tmp_path / title).write_text(text, "utf-8")
            done["files"] += 1
        elif language == "sh":
            commands = [line for line in text.replace("\\\n", " ").splitlines() if line]
            printed = "\n".join(run(command, tmp_path) for command in commands)
            done["commands"] += len(commands)
        else:
            assert language == "text"
            assert like(text, printed), f"the page shows\n{text}\nand this was printed\n{printed}"
            done["outputs"] += 1
    assert done == {"commands": 12, "files": 3, "outputs": 6}
    # What the tutorial promises: the two sources that it recommends are those that its check finds best.
    ranked = [line.split()[1] for line in printed.splitlines()]
    losses = [float(line.split()[2]) for line in printed.splitlines()]
    assert set(ranked[:2]) == {"edge2d", "keypoint2d"}
    assert max(losses[:2]) < min(losses[2:])
    assert (tmp_path / "tree.png").stat().st_size > 10_000


def test_the_installation_names_what_exists() -> None:
    (install,) = [text for _, title, text in BLOCK.findall(PAGE.read_text("utf-8")) if title == "install"]
    assert "--constraint modelspace/constraints.txt ./modelspace" in install
    assert (ROOT / "constraints.txt").is_file()


def test_other_words_are_seen() -> None:
    assert not like("edge2d  0.5", "keypoint2d  0.5")
    assert like("edge2d  0.5", "1  edge2d  0.7\n2  keypoint2d  0.1")
