"""`prospects` and `suggest`: the order of models for a task, what it rests on, and what is said of it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import shelf

from modelspace.errors import NotFoundError, UsageError
from modelspace.registry import Registry
from modelspace.search.coverage import NEAR_COPY
from modelspace.verbs import knowledge as knowledge_module
from modelspace.workspace import ModelSpace

SCORES = [0.1, 0.9, 0.5, 0.3, 0.7, 0.2]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    home = tmp_path_factory.mktemp("prospects")
    shelf.filled(home / "registry.duckdb", 6)
    result = ModelSpace(home)
    result.add_task("flowers")
    return result


@pytest.fixture
def space(prepared: ModelSpace, tmp_path: Path) -> ModelSpace:
    shutil.copy(prepared.path, tmp_path)
    return ModelSpace(tmp_path)


@pytest.fixture(scope="module")
def prepared_with_others(prepared: ModelSpace, tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    home = tmp_path_factory.mktemp("others")
    shutil.copy(prepared.path, home)
    result = ModelSpace(home)
    observe_others(result, SCORES)
    return result


@pytest.fixture
def with_others(prepared_with_others: ModelSpace, tmp_path: Path) -> ModelSpace:
    """The same with outcomes of four other tasks."""
    shutil.copy(prepared_with_others.path, tmp_path)
    return ModelSpace(tmp_path)


def names(space: ModelSpace) -> list[str]:
    return [row.name for row in space.list()]


def observe_others(space: ModelSpace, scores: list[float], tasks: int = 4) -> None:
    """Outcomes of other tasks, in which model k is scores[k] good, on tasks of different levels."""
    for number in range(tasks):
        space.add_task(f"other{number}")
        for name, score in zip(names(space), scores, strict=True):
            space.observe(f"other{number}", name, 0.3 + 0.1 * number + 0.3 * score + 0.002 * number * len(name))


def test_without_kernels_and_outcomes_the_order_is_that_of_size_and_says_so(space: ModelSpace) -> None:
    listed = names(space)
    with Registry.open(space.path, write=True) as registry, registry.transaction():
        for number, name in enumerate(listed):
            registry.execute("UPDATE main.models SET parameters = ? WHERE name = ?", [100 + number % 4, name])
    prospects = space.prospects("flowers", 6)
    assert [row.parameters for row in prospects] == sorted((row.parameters for row in prospects), reverse=True)
    assert prospects.notes == (
        "no outcome of any task is registered: this is the order of the number of parameters, which says next to "
        "nothing",
    )
    assert {row.basis for row in prospects} == {"size"}
    assert {(row.score, row.low, row.high) for row in prospects} == {(None, None, None)}


@pytest.mark.wide
def test_outcomes_of_other_tasks_rank_and_predict(with_others: ModelSpace) -> None:
    space = with_others
    prospects = space.prospects("flowers", 6)
    expected = [names(space)[k] for k in (1, 4, 2, 3, 5, 0)]
    assert [row.name for row in prospects] == expected
    assert prospects.notes == ("ranked by outcomes of 4 other tasks",)
    scores = [row.score for row in prospects]
    assert all(score is not None for score in scores)
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    for row in prospects:
        assert row.low is not None
        assert row.high is not None
        assert 0 <= row.low < row.score < row.high <= 1  # type: ignore[operator]
        assert row.basis == "outcomes"
        assert "in 4 outcomes" in row.why


@pytest.mark.wide
def test_a_measured_model_stands_with_its_score(with_others: ModelSpace) -> None:
    space = with_others
    worst = names(space)[0]
    before = {row.name: row for row in space.prospects("flowers", 6)}
    space.observe("flowers", worst, 0.95)
    prospects = {row.name: row for row in space.prospects("flowers", 6)}
    measured = prospects[worst]
    assert (measured.score, measured.low, measured.high, measured.basis) == (0.95, 0.95, 0.95, "measured")
    # The task is easier than the others were, for all models.
    for name, row in prospects.items():
        assert name == worst or row.score > before[name].score  # type: ignore[operator]
    assert space.prospects("flowers", 1).notes[0].endswith("and 1 model measured on 'flowers'")


@pytest.mark.wide
def test_measured_models_are_not_suggested(with_others: ModelSpace) -> None:
    space = with_others
    best, second = names(space)[1], names(space)[4]
    assert [row.name for row in space.suggest("flowers", 2)] == [best, second]
    space.observe("flowers", best, 0.8)
    space.observe("flowers", second, failed="out of memory")
    assert best not in {row.name for row in space.suggest("flowers", 9)}
    assert second not in {row.name for row in space.suggest("flowers", 9)}
    assert len(space.suggest("flowers", 9)) == 4


@pytest.mark.wide
def test_the_loop_of_asking_and_telling_ends(space: ModelSpace) -> None:
    seen = []
    while suggestion := space.suggest("flowers"):
        seen.append(suggestion[0].name)
        space.observe("flowers", seen[-1], len(seen) / 10)
    assert sorted(seen) == sorted(names(space))
    assert "every model was measured" in space.suggest("flowers").notes[-1]


@pytest.mark.wide
def test_a_lower_metric_turns_the_order(space: ModelSpace) -> None:
    space.add_task("error", metric="rmse", kind="regression")
    space.add_task("known", metric="rmse", kind="regression")
    for number, name in enumerate(names(space)):
        space.observe("known", name, 1.0 + number)
    assert [row.name for row in space.prospects("error", 6)] == names(space)
    top = space.prospects("error", 1)[0]
    assert top.low is not None
    assert top.low < top.score < top.high  # type: ignore[operator]


@pytest.mark.wide
def test_tasks_in_other_units_rank_but_give_no_score(space: ModelSpace) -> None:
    space.add_task("known", metric="rmse", kind="regression")
    for number, name in enumerate(names(space)):
        space.observe("known", name, 1.0 + number)
    prospects = space.prospects("flowers", 6)
    assert [row.name for row in prospects] == names(space)
    assert {row.score for row in prospects} == {None}


@pytest.mark.wide
def test_held_out_scores_are_a_hint_and_no_measurement(space: ModelSpace) -> None:
    for number, name in enumerate(names(space)):
        space.observe("flowers", name, 0.5 + 0.05 * number, how="held-out", n_train=60)
    prospects = space.prospects("flowers", 6)
    assert [row.name for row in prospects] == names(space)[::-1]
    assert {row.basis for row in prospects} == {"held-out"}
    assert "a readout on 60 images of the task" in prospects[0].why
    assert len(space.suggest("flowers", 6)) == 6


@pytest.mark.wide
def test_near_copies_share_their_outcomes(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    first, copy = names(space)[2], names(space)[5]
    similar = np.eye(6)
    similar[2, 5] = similar[5, 2] = NEAR_COPY
    monkeypatch.setattr(knowledge_module, "_affinity", lambda *_: similar)
    for number in range(3):
        space.add_task(f"other{number}")
        for name in names(space)[:5]:
            space.observe(f"other{number}", name, 0.9 if name == first else 0.4 + 0.01 * len(name))
    prospects = space.prospects("flowers", 6)
    assert {row.name for row in prospects[:2]} == {first, copy}
    assert prospects[0].stands_for == (prospects[1].name,)
    assert [row.name for row in space.suggest("flowers", 6)].count(copy) + [
        row.name for row in space.suggest("flowers", 6)
    ].count(first) == 1


@pytest.mark.wide
def test_outcomes_of_models_that_were_removed_still_tell_how_strong_a_row_is(with_others: ModelSpace) -> None:
    space = with_others
    before = {row.name: row.score for row in space.prospects("flowers", 6)}
    gone = names(space)[1]
    space.remove(gone)
    after = {row.name: row.score for row in space.prospects("flowers", 6)}
    assert gone not in after
    for name, score in after.items():
        assert score is not None
        assert math.isclose(score, before[name], abs_tol=0.02)  # type: ignore[arg-type]


def test_conditions_and_bad_input(space: ModelSpace) -> None:
    keep = names(space)[0]
    assert [row.name for row in space.prospects("flowers", 9, where=f"name = '{keep}'")] == [keep]
    with pytest.raises(UsageError, match="no model meets"):
        space.prospects("flowers", where="name = 'nobody'")
    with pytest.raises(UsageError, match="at least 1"):
        space.prospects("flowers", 0)
    with pytest.raises(NotFoundError, match="flower"):
        space.suggest("flower")
    with pytest.raises(NotFoundError):
        space.prospects("flowers", space="nowhere")


def test_an_empty_registry(tmp_path: Path) -> None:
    empty = ModelSpace.create(tmp_path / "empty", methods=["saliency"], images=4, canvas=8)
    empty.add_task("flowers")
    with pytest.raises(UsageError, match="no models"):
        empty.prospects("flowers")
