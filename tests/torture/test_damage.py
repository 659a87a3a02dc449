"""A few mutations, and that a wrong answer would be seen; `scripts/torture/damage.py --full` makes 2,000."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from torture import damage  # noqa: E402
from torture.damage import CRASH, FOUND, NO_HINT, OLDER_SAID, REFUSED, SAME, UNNAMED, WRONG, Homes, Mutation  # noqa: E402

from modelspace.spaces.index import OLDER  # noqa: E402

WHAT = ("nearest", "nearest dds", "list", "outcomes", "verify", "rename", "nearest after", "list after")


def run(*words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own, because it forks; `before` is code that changes the product first."""
    code = f"{before}\nimport sys; sys.path.insert(0, 'scripts')\nfrom torture import damage; damage.main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300)


@pytest.mark.wide
def test_a_mutation_of_each_target(tmp_path: Path) -> None:
    process = run("--mutations", "8", "--out", str(tmp_path / "out.json"))
    assert process.returncode == 0, process.stdout + process.stderr
    assert re.match(r"mutations 8; same answers \d", process.stdout)
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]
    assert figures["mutations"] == 8
    assert sum(figures[kind] for kind in damage.KINDS) == 8
    assert {damage.target_of(number)[0] for number in range(8)} >= {"index", "registry", "log", "rows", "undo"}


@pytest.mark.long
def test_wrong_answers_are_seen_where_rows_are_not_checked() -> None:
    """Without checksums, a changed outcome is answered as if it were right."""
    before = "from modelspace.registry import checksums; checksums.of_outcome = lambda values: 0"
    process = run("--only", "5", before=before)
    assert process.returncode == 1, process.stdout + process.stderr
    assert re.match("mutation: silently wrong: .*outcomes.note .*outcomes answers", process.stdout)
    assert run("--only", "5").stdout.startswith("mutation: refused with a hint: ")


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    """Answers of two states, without the homes."""
    answers = {(state, "rename"): {what: f"{what} of {state}" for what in WHAT} for state in ("old", "rest")}
    for state in answers.values():
        state |= {"verify": "checked", "rename": "done"}
    return Homes(tmp_path, answers)


def lines_of(homes: Homes, state: str, **changes: dict[str, str]) -> list[dict[str, str]]:
    """What a home of this state says, with changed entries of some lines."""
    answers = homes.answers[state, "rename"]
    lines = [{"what": what, "kind": "answer", "text": answers[what], "note": ""} for what in WHAT]
    return [line | changes.get(line["what"].replace(" ", "_"), {}) for line in lines]


def test_what_a_mutation_comes_to(homes: Homes) -> None:
    def kind(lines: list[dict[str, str]], target: str = "registry", end: str = "") -> str:
        return damage.judged(homes, Mutation(target, "rest"), lines, end)[0]

    refused = {"kind": "refused", "text": "it is damaged", "class": "DamagedError"}
    assert kind(lines_of(homes, "rest")) == SAME
    assert kind(lines_of(homes, "rest", nearest=refused)) == REFUSED
    assert kind(lines_of(homes, "rest", verify={"note": "maps: damaged"})) == FOUND
    assert kind(lines_of(homes, "rest", outcomes={"text": "another"})) == WRONG
    assert kind(lines_of(homes, "rest", nearest_after={"text": "another"}, nearest=refused)) == WRONG
    assert kind(lines_of(homes, "old")) == WRONG
    assert kind(lines_of(homes, "rest", nearest={"kind": "unnamed"})) == UNNAMED
    assert kind(lines_of(homes, "rest", nearest={"kind": "no hint"})) == NO_HINT
    assert kind(lines_of(homes, "rest")[:2], end="ended with -11") == CRASH
    assert kind(lines_of(homes, "rest"), target="rows") == WRONG  # verify must find a changed row
    assert kind(lines_of(homes, "rest", verify={"note": "maps: damaged"}), target="rows") == FOUND


def test_after_a_change_that_is_refused_the_answers_are_those_before_it(homes: Homes) -> None:
    refused = {"kind": "refused", "text": "it is damaged", "class": "DamagedError"}
    before = {"nearest_after": {"text": "nearest of rest"}, "list_after": {"text": "list of rest"}}
    mutation = Mutation("registry", "rest")
    assert damage.judged(homes, mutation, lines_of(homes, "rest", rename=refused, **before), "")[0] == REFUSED
    assert damage.judged(homes, mutation, lines_of(homes, "rest", rename=refused), "")[0] == WRONG


def test_an_older_registry_must_say_so(homes: Homes) -> None:
    mutation = Mutation("registry", "rest", legal=("old",), is_older=True)
    said = {"nearest": {"note": OLDER}, "nearest_dds": {"note": OLDER}, "verify": {"note": "of a later state"}}
    assert damage.judged(homes, mutation, lines_of(homes, "old", **said), "")[0] == OLDER_SAID
    for what in said:
        less = {key: value for key, value in said.items() if key != what}
        assert damage.judged(homes, mutation, lines_of(homes, "old", **less), "")[0] == WRONG


def test_a_process_that_crashes_or_hangs_is_seen() -> None:
    code = (
        "import os, signal, sys, time; sys.path.insert(0, 'scripts')\n"
        "from torture import damage; damage.PATIENCE = 1.0\n"
        "def crash(say): say({'what': 'nearest'}); os.kill(os.getpid(), signal.SIGSEGV)\n"
        "print(damage.told(crash))\n"
        "print(damage.told(lambda say: time.sleep(60)))\n"
        "print(damage.told(lambda say: say({'what': 'x' * 200_000}))[1] == '')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60, check=True
    )
    assert process.stdout == "([{'what': 'nearest'}], 'ended with -11')\n([], 'still busy after 1 s')\nTrue\n"
