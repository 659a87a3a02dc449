"""docs/how-to/try-models.md: its commands are executed on real images and print what it shows; its figures add up."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelspace import ModelSpace
from modelspace.search import race
from modelspace.search.coverage import NEAR_COPY
from modelspace.tasks.splits import TEST_SHARE
from modelspace.verbs import try_task

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "try-models.md").read_text("utf-8")
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)

#: Words of a line of output that may differ between machines and days: numbers, intervals, dates, the mark of a tie.
VARIES = re.compile(r"^[-+.\d,]+$|^s$|^≈$|^—$")

#: A training of one's own, for the example in Python: the score rises with the length of the address.
TRAINING = "def train(uri):\n    return len(uri) / 100\n"


def run(command: str, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "MODELSPACE_HOME"}
    environment |= {"PYTHONPATH": str(ROOT), "MODELSPACE_CACHE": str(folder / "cache"), "COLUMNS": "120"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env=environment, shell=True, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def words(line: str) -> frozenset[str]:
    """What a line says, without what varies.

    >>> sorted(words("   2  ≈  class_1000   0.975  0.912..1.000  0.67 s"))
    ['class_1000']
    """
    return frozenset(word for word in line.split() if not VARIES.match(word))


def missing(shown: str, printed: str) -> list[str]:
    """The lines on the page that were not printed."""
    lines = [words(line) for line in printed.splitlines()]
    return [line for line in shown.splitlines() if words(line) not in lines]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of the shipped registry, and 200 digits in ten subfolders."""
    shutil.copy(ROOT / "registry.duckdb", tmp_path)
    shutil.copytree(ROOT / "index", tmp_path / "index")
    (install,) = [text for _, title, text in BLOCK.findall(PAGE) if title == "images"]
    run(install.replace("scripts/", f"{ROOT}/scripts/"), tmp_path)
    (tmp_path / "mine.py").write_text(TRAINING, "utf-8")
    return tmp_path


@pytest.mark.long
@pytest.mark.slow
def test_the_page_does_what_it_shows(home: Path) -> None:
    printed = ""
    done = {"commands": 0, "outputs": 0, "programs": 0}
    for language, title, text in BLOCK.findall(PAGE):
        if title == "images":
            continue
        if title:
            (home / title).write_text(text, "utf-8")
            printed = run(f"{sys.executable} {title}", home)
            done["programs"] += 1
        elif language == "sh":
            printed = "\n".join(run(command, home) for command in text.splitlines())
            done["commands"] += len(text.splitlines())
        elif language == "text":
            assert not missing(text, printed), (
                f"the page shows\n{missing(text, printed)}\nand this was printed\n{printed}"
            )
            done["outputs"] += 1
    assert done == {"commands": 6, "outputs": 5, "programs": 1}
    space = ModelSpace.open(home)
    outcomes = space.outcomes("digits")
    trained = [row.model for row in outcomes if row.how == "my training"]
    assert len(set(trained)) == 4
    assert printed.strip() == outcomes[0].model
    assert not set(trained) & {row.model for row in outcomes if row.how == "ridge"}
    best = max(row.score for row in outcomes if row.how == "ridge" and row.score is not None)
    assert best >= 0.9  # ten classes: by chance 0.1


def test_another_output_is_seen() -> None:
    assert missing("1  edge2d  0.5\n", "1  keypoint2d  0.5\n") == ["1  edge2d  0.5"]
    assert not missing("1  edge2d  0.5\n", "2  edge2d  0.7\n1  keypoint2d  0.1\n")


def test_the_page_states_the_defaults_of_the_code() -> None:
    text = " ".join(PAGE.split())
    first, second = race.ROUNDS
    assert f"every model sees {first} training images" in text
    assert f"the better half sees {second}" in text
    assert {3: "**The last three** (`--finalists`)"}[race.FINALISTS] in text
    assert f"at most {try_task.MOST_IMAGES:,} (`--images`)" in text
    assert f"without it all are run, at most {try_task.BUDGET}" in text
    assert f"affinity of {NEAR_COPY:.2f}".replace("0.", ".") in text
    assert {0.2: "A fifth of the images of each class"}[TEST_SHARE] in text
    assert f"With fewer than {2 * first} training images there are no rounds" in text


def test_every_column_is_explained() -> None:
    source = inspect.getsource(__import__("modelspace.cli.try", fromlist=["_print"])._print)
    columns = set(re.findall(r'Column\("([^"]+)"', source)) | {"accuracy"}
    explained = set(re.findall(r"^\| `([^`]+)` \| [^|]+ \|$", PAGE, re.MULTILINE))
    assert columns == explained


def test_the_points_behind_follow_from_the_accuracies() -> None:
    rows = re.findall(r"^\| [^|]+ \| [\w ]*\| (\.\d+) \| ([\d.]+) \| (\.\d+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for place in (0, 2):
        best = max(float(row[place]) + float(row[place + 1]) / 100 for row in rows)
        for row in rows:
            assert float(row[place + 1]) == pytest.approx(100 * (best - float(row[place])), abs=0.11), row
