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
    for item in items:
        item.nodeid = f"{item.path}::{item.name}"
    file_order.pytest_collection_modifyitems(SimpleNamespace(stash={}), items)  # type: ignore[arg-type]
    assert [path for path, _ in groupby(item.path for item in items)] == [*others, short]
    assert [item.name for item in items] == list("ababab")


def test_this_run_is_in_that_order(request: pytest.FixtureRequest) -> None:
    ranks = [file_order.rank(item.path) for item in request.session.items]
    assert ranks == sorted(ranks)


def test_make_keeps_the_order() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    assert "python -m pytest -n 2\n" in text
    lines = [line for line in text.splitlines() if "--dist loadfile" in line]
    assert len(lines) == 2
    assert all("$(PYTEST) --dist loadfile --no-loadscope-reorder" in line for line in lines)
