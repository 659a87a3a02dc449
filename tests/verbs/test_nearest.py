"""`nearest`: the default number of neighbours, and which ties are marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import add, near, net, space

from modelspace.errors import UsageError
from modelspace.spaces.bootstrap import Member, intervals
from modelspace.workspace import ModelSpace


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    """A target, an exact copy of it twice, a near copy, and five others."""
    where = space(tmp_path_factory.mktemp("nearest"), methods=("saliency",))
    for name in ("target", "copy", "twin"):
        add(where, name, net(0), tags={"of": name})
    add(where, "near", near(0, 0.05))
    for seed in range(1, 6):
        add(where, f"other{seed}", net(seed))
    return where


@pytest.mark.wide
def test_five_are_shown_where_nothing_is_asked_for(shelf: ModelSpace) -> None:
    assert [row.rank for row in shelf.nearest("target")] == [1, 2, 3, 4, 5]
    assert len(shelf.nearest("target", 3)) == 3
    assert len(shelf.nearest("target", 50)) == len(shelf.list()) - 1
    with pytest.raises(UsageError, match="at least 1"):
        shelf.nearest("target", 0)


def test_the_last_row_is_tied_with_the_next_that_is_not_shown(shelf: ModelSpace) -> None:
    (first,) = shelf.nearest("target", 1)
    assert first.name == "copy"
    assert first.tied_with_next, "its twin, which is not shown, has the same maps"
    _, second = shelf.nearest("target", 2)
    assert not second.tied_with_next, "the near copy is farther on every image"
    assert not shelf.nearest("target", 50)[-1].tied_with_next, "nothing comes after it"


def test_marks_do_not_depend_on_how_many_are_shown(shelf: ModelSpace) -> None:
    whole = shelf.nearest("target", 50)
    for k in range(1, len(whole)):
        assert [row.tied_with_next for row in shelf.nearest("target", k)] == [row.tied_with_next for row in whole[:k]]


def test_marks_are_those_of_the_definition(shelf: ModelSpace) -> None:
    """Two neighbours are tied if the bootstrap interval of their paired difference includes zero."""
    shown = shelf.nearest("target", 50)
    cosines = shelf.cosines(["target", *(row.name for row in shown)])[:, 0, 1:].astype(float).T
    expected = intervals([Member(np.ascontiguousarray(cosines))])
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, cosines.shape[1], (2000, cosines.shape[1]))
    for i in range(len(shown) - 1):
        difference = (cosines[i] - cosines[i + 1])[drawn].mean(axis=1)
        low, high = np.quantile(difference, [0.025, 0.975])
        assert bool(expected.tied_with_next[i]) == bool(low <= 0 <= high)
        if abs(low) > 1e-6 and abs(high) > 1e-6:
            assert shown[i].tied_with_next == bool(low <= 0 <= high)


def test_a_condition_is_asked_before_the_ranking(shelf: ModelSpace, tmp_path: Path) -> None:
    assert [row.name for row in shelf.nearest("target", where="name LIKE 'other%'", k=9)] == [
        row.name for row in shelf.nearest("target", 50) if row.name.startswith("other")
    ]
    assert len(shelf.nearest("target", where="name = 'target'")) == 0
