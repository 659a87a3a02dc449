"""The order of the test files: the longest first, and every file in one piece."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import file_order
import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_longest_files_exist_and_are_named_once() -> None:
    assert [name for name in file_order.LONGEST if not (ROOT / "tests" / name).is_file()] == []
    assert len(set(file_order.LONGEST)) == len(file_order.LONGEST)


def test_they_come_first_in_one_piece() -> None:
    short, others = ROOT / "tests" / "test_words.py", [ROOT / "tests" / name for name in file_order.LONGEST[:2]]
    items = [
        SimpleNamespace(path=path, name=name, get_closest_marker=lambda _: None)
        for path in (short, *others[::-1])
        for name in "ab"
    ]
    file_order.pytest_collection_modifyitems(items)  # type: ignore[arg-type]
    assert [path for path, _ in groupby(item.path for item in items)] == [*others, short]
    assert [item.name for item in items] == list("ababab")


def test_this_run_is_in_that_order(request: pytest.FixtureRequest) -> None:
    ranks = [file_order.rank(item.path) for item in request.session.items]
    assert ranks == sorted(ranks)


def test_make_keeps_the_order() -> None:
    (line,) = [line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if "--dist loadfile" in line]
    assert "-n 2 --dist loadfile --no-loadscope-reorder" in line


class Item:
    """What a plugin sees of a test."""

    path = ROOT / "tests" / "test_words.py"

    def __init__(self, nodeid: str, sampled: int | None) -> None:
        self.nodeid = nodeid
        self.sampled = sampled
        self.markers: list[str] = []

    def get_closest_marker(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(args=(self.sampled,)) if name == "sampled" and self.sampled else None

    def add_marker(self, name: str) -> None:
        self.markers.append(name)


def test_all_but_every_third_case_of_a_sampled_test_are_long() -> None:
    items = [Item(f"a.py::test_cases[{case}]", 3) for case in range(7)]
    items += [Item("b.py::test_cases[0]", 3), Item("a.py::test_other", None)]
    file_order.pytest_collection_modifyitems(items)  # type: ignore[arg-type]
    assert [item.markers for item in items[:7]] == [[], ["long"], ["long"], [], ["long"], ["long"], []]
    assert [item.markers for item in items[7:]] == [[], []]


def test_this_run_leaves_out_what_is_long(request: pytest.FixtureRequest) -> None:
    """The cases are marked before `-m` chooses."""
    long = [item.nodeid for item in request.session.items if item.get_closest_marker("long")]
    assert not long or request.config.getoption("-m") != "not long"
