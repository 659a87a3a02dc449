"""A pytest plugin: which of `make test`, `make test-wide` and `make test-long` runs a test.

A test is in the core, which `make test` runs, unless it or its file is marked as wide or long, so a new test is in the
core. Of a test with many cases, `first(n)` leaves all but the first n to `make test-wide`, and `sampled(n)` all but
every n-th to `make test-long`. The cases that `first` counts are those that `sampled` leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

#: Tier -> what `pytest -m` chooses it by. Exactly one of them is true of every test.
TIERS: Mapping[str, str] = {"core": "not wide and not long", "wide": "wide and not long", "long": "long"}

#: Make's target -> tier.
TARGETS: Mapping[str, str] = {"tests": "core", "test-wide": "wide", "test-long": "long"}

#: The tier of every test that was collected, with those that `-m` and `-k` leave out.
COLLECTED = pytest.StashKey[dict[str, str]]()


def tier(item: pytest.Item) -> str:
    """The tier of a test whose cases are marked."""
    return next((name for name in ("long", "wide") if item.get_closest_marker(name)), "core")


def mark_cases(items: list[pytest.Item]) -> None:
    """Mark the cases that `sampled(n)` and `first(n)` leave to other tiers."""
    for number, item in _numbered(items, "sampled"):
        if number % item.get_closest_marker("sampled").args[0]:  # type: ignore[union-attr]
            item.add_marker("long")
    for number, item in _numbered([item for item in items if tier(item) == "core"], "first"):
        if number >= item.get_closest_marker("first").args[0]:  # type: ignore[union-attr]
            item.add_marker("wide")


def _numbered(items: list[pytest.Item], marker: str) -> list[tuple[int, pytest.Item]]:
    """The cases of each test with this marker, numbered from 0."""
    seen: Counter[str] = Counter()
    numbered = []
    for item in items:
        if item.get_closest_marker(marker) is not None:
            test = item.nodeid.partition("[")[0]
            numbered.append((seen[test], item))
            seen[test] += 1
    return numbered
