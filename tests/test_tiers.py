"""The tiers of the tests: each test is run by one of Make's three targets, and the core has something of everything."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiers
from _pytest.mark.expression import Expression

ROOT = Path(__file__).resolve().parents[1]


class Item:
    """What a plugin sees of a test."""

    path = ROOT / "tests" / "test_words.py"

    def __init__(self, nodeid: str, **arguments: int) -> None:
        self.nodeid = nodeid
        self.markers = {name: (number,) for name, number in arguments.items()}

    def get_closest_marker(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(args=self.markers[name]) if name in self.markers else None

    def add_marker(self, name: str) -> None:
        self.markers[name] = ()


def tiers_of(*items: Item) -> list[str]:
    """The tiers of these tests, of which all are collected together."""
    tiers.mark_cases(list(items))  # type: ignore[arg-type]
    return [tiers.tier(item) for item in items]  # type: ignore[arg-type]


def cases(n: int, **arguments: int) -> list[Item]:
    return [Item(f"a.py::test_cases[{case}]", **arguments) for case in range(n)]


def test_all_but_every_third_case_of_a_sampled_test_are_long() -> None:
    others = [Item("b.py::test_cases[0]", sampled=3), Item("a.py::test_other")]
    long = ["core", "long", "long"]
    assert tiers_of(*cases(7, sampled=3), *others) == [*long, *long, "core", "core", "core"]


def test_all_but_the_first_cases_are_wide() -> None:
    assert tiers_of(*cases(4, first=2)) == ["core", "core", "wide", "wide"]


def test_the_first_of_those_that_are_sampled() -> None:
    assert tiers_of(*cases(7, sampled=2, first=2)) == ["core", "long", "core", "long", "wide", "long", "wide"]


def test_marked_tests() -> None:
    items = [Item("a.py::test_a", wide=0), Item("a.py::test_b", long=0), Item("a.py::test_c", wide=0, long=0)]
    assert tiers_of(*items, *cases(2, wide=0, sampled=2)) == ["wide", "long", "long", "wide", "long"]


def expressions() -> dict[str, str]:
    """Target of the Makefile -> what it gives to `pytest -m`."""
    target, found = "", {}
    for line in (ROOT / "Makefile").read_text("utf-8").splitlines():
        target = match[1] if (match := re.match(r"([\w-]+):", line)) else target
        if "$(PYTEST)" in line and line.startswith("\t"):
            found[target] = line.partition(" -m ")[2].strip('"')
    return found


def test_makes_targets_run_the_tiers() -> None:
    assert expressions() == {target: tiers.TIERS[tier] for target, tier in tiers.TARGETS.items()}
    assert set(tiers.TARGETS.values()) == set(tiers.TIERS)
    program = (ROOT / ".ci" / "run").read_text("utf-8")
    assert re.findall(r"^make (?:-j 2 )?([\w-]+)", program, re.MULTILINE) == ["test", "test-wide"]


@pytest.mark.parametrize("marks", [set(), {"wide"}, {"long"}, {"wide", "long"}], ids=["none", "wide", "long", "both"])
def test_whatever_its_marks_a_test_is_in_one_tier(marks: set[str]) -> None:
    chosen = [
        name for name, text in tiers.TIERS.items() if Expression.compile(text).evaluate(lambda mark, **_: mark in marks)
    ]
    assert chosen == [tiers.tier(Item("a.py::test_a", **dict.fromkeys(marks, 0)))]  # type: ignore[arg-type]


def test_every_collected_test_is_in_the_tier_that_its_marks_choose(request: pytest.FixtureRequest) -> None:
    """The cases are marked before `-m` chooses."""
    for item in request.session.items:
        marks = {mark.name for mark in item.iter_markers()}
        chosen = [
            name
            for name, text in tiers.TIERS.items()
            if Expression.compile(text).evaluate(lambda m, **_: m in marks)  # noqa: B023
        ]
        assert chosen == [request.config.stash[tiers.COLLECTED][item.nodeid]], item.nodeid


def lacking(collected: dict[str, str]) -> list[str]:
    """Folders of which the core runs no test."""
    folders: dict[str, set[str]] = {}
    for test, name in collected.items():
        folders.setdefault(Path(test.partition("::")[0]).parent.as_posix(), set()).add(name)
    return [folder for folder, names in folders.items() if "core" not in names]


def test_the_core_has_a_test_of_every_folder(request: pytest.FixtureRequest) -> None:
    """Of those that were collected, if whole folders were."""
    collected = request.config.stash[tiers.COLLECTED]
    if all((ROOT / argument).is_dir() for argument in request.config.args):
        assert lacking(collected) == []


def test_a_folder_without_is_named() -> None:
    assert lacking({"tests/a/b.py::c": "wide", "tests/a/b.py::d": "long", "tests/e.py::f": "core"}) == ["tests/a"]
