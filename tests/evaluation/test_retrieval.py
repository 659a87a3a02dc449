"""The other evidence, models of the same task; and targets kept aside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from modelspace import evaluation
from modelspace.errors import NotFoundError, UsageError
from modelspace.evaluation import splits
from modelspace.evaluation.retrieval import same_task
from modelspace.verbs.evaluate import evaluate
from modelspace.workspace import ModelSpace


def test_same_task_by_hand() -> None:
    tasks = ["a", "a", "b", "a", None]
    matrix = np.array(
        [
            [9, 3, 2, 1, 0],  # finds a first, and the other a third
            [1, 9, 3, 2, 0],  # b first
            [1, 2, 9, 3, 0],  # no other b: not asked
            [0, 0, 0, 9, 0],  # all tied: the wrong ones are put first
            [1, 2, 3, 4, 9],  # task not known: not asked
        ]
    )
    found = same_task(matrix, tasks)
    assert found is not None
    assert found.queries == 3
    assert float(found.first.mean) == pytest.approx(1 / 3)
    precisions = [(1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2, (1 / 3 + 2 / 4) / 2]
    assert float(found.average_precision.mean) == pytest.approx(np.mean(precisions))
    assert found.random_first == pytest.approx(0.5)
    only = same_task(matrix, tasks, queries=[True, False, False, False, False])
    assert only is not None
    assert (only.queries, float(only.first.mean)) == (1, 1.0)
    assert same_task(np.eye(2), ["a", "b"]) is None
    with pytest.raises(UsageError, match="shape"):
        same_task(np.eye(3), ["a", "b"])


@pytest.mark.parametrize(("right", "n"), [(1, 4), (3, 7), (7, 7)])
def test_the_expectation_of_a_random_order(right: int, n: int) -> None:
    rng = np.random.default_rng(0)
    tasks = ["q"] + ["q"] * right + ["x"] * (n - right)
    draws = []
    for _ in range(3000):
        matrix = np.zeros((n + 1, n + 1))
        matrix[0, 1:] = rng.permutation(n)
        one = same_task(matrix, tasks, queries=[True] + [False] * n, n_resamples=1)
        assert one is not None
        draws.append(float(one.average_precision.mean))
    assert one.random_average_precision == pytest.approx(np.mean(draws), abs=0.02)


def test_halves_part_the_targets() -> None:
    targets = evaluation.load("rooms").targets
    chosen, kept = splits.half(targets, splits.CHOSEN), splits.half(targets, splits.KEPT)
    assert (len(chosen), len(kept)) == (9, 9)
    assert sorted([*chosen, *kept]) == sorted(targets)
    assert splits.half(targets[::-1], splits.KEPT)[::-1] == kept  # by name, not by place
    assert splits.select(targets, "kept") == kept
    assert splits.select(targets, f"{kept[1]},{chosen[0]}") == tuple(t for t in targets if t in (kept[1], chosen[0]))
    with pytest.raises(NotFoundError, match="'nothing' is not among"):
        splits.select(targets, "nothing")


def test_a_part_of_the_targets_keeps_their_figures() -> None:
    oracle = evaluation.load("rooms")
    rng = np.random.default_rng(0)
    names = tuple(oracle.sources)
    outcome = evaluation.judge({"noise": (names, rng.random((len(names),) * 2))}, oracle)
    kept = splits.half(outcome.targets, splits.KEPT)
    part = outcome.over(kept)
    at = [outcome.targets.index(name) for name in kept]
    assert part.targets == kept
    assert part.sources == outcome.sources
    for whole, some in zip(outcome.rows, part.rows, strict=True):
        assert np.array_equal(some.per_target["spearman"], whole.per_target["spearman"][at], equal_nan=True)
        assert float(some.summary["spearman"].mean) == pytest.approx(whole.per_target["spearman"][at].mean())
    assert float(part.difference("noise", "popularity").mean) == pytest.approx(
        (part.row("noise").per_target["spearman"] - part.row("popularity").per_target["spearman"]).mean()
    )
    with pytest.raises(NotFoundError, match="was not judged"):
        outcome.over(["nothing"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    space = ModelSpace.create(tmp_path_factory.mktemp("judged"), images=12, canvas=8)
    nets = {"t1": tiny.net(0), "t2": tiny.near(0, 0.1), "t3": tiny.net(1), "t4": tiny.net(2)}
    for name, module in nets.items():
        tiny.add(space, name, module, task="same" if name in ("t1", "t2") else name)
    return space


def measured(folder: Path) -> Path:
    path = folder / "measured.csv"
    lines = ["target,source,score"]
    for i in range(1, 5):
        lines += [f"t{i},t{j},{-abs(i - j) - 0.1 * (j > i)}" for j in range(1, 5) if i != j]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_evaluate_judges_what_nearest_ranks_by(home: ModelSpace, tmp_path: Path) -> None:
    outcome = evaluate(home.path, oracle=measured(tmp_path), space="all")
    assert [row.method for row in outcome.rows[:3]] == ["gradient_x_input", "dds", "transfer"]
    assert set(outcome.retrieval) == {"gradient_x_input", "dds", "transfer"}
    names = list(outcome.sources)
    order = np.zeros((len(names), len(names)))
    for target in names:
        for found in home.nearest(target, len(names)):
            order[names.index(target), names.index(found.name)] = -found.rank
    again = evaluation.judge({"x": (names, order)}, evaluation.load(measured(tmp_path)))
    assert np.allclose(
        outcome.row("transfer").per_target["spearman"], again.row("x").per_target["spearman"], equal_nan=True
    )
    assert "same task" in outcome.to_markdown()
    figures = {(row[0], row[1]) for row in outcome.to_rows()}
    assert ("transfer", "same_task_first") in figures
    assert outcome.to_dict()["same_task"]["transfer"]["queries"] == 2


def test_evaluate_takes_another_way_of_ranking_and_some_targets(home: ModelSpace, tmp_path: Path) -> None:
    outcome = evaluate(
        home.path, oracle=measured(tmp_path), space=["dds", "transfer"], rerank="directed", targets="chosen"
    )
    assert [row.method for row in outcome.rows[:2]] == ["dds, directed", "transfer"]
    first, second = outcome.rows[:2]
    assert np.allclose(first.per_target["spearman"], second.per_target["spearman"])
    assert outcome.targets == ("t1", "t3")
    other = evaluate(home.path, oracle=measured(tmp_path), space="gradient_x_input", hubs="csls")
    assert other.rows[0].method == "gradient_x_input, csls"


def test_spaces_that_hold_different_models_are_each_judged_on_their_own(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, methods=("saliency",), images=12, canvas=8)
    tiny.add(space, "t1", tiny.net(1), task="same")
    space.init(methods=("dds",), images=12)
    for number in (2, 3, 4):
        tiny.add(space, f"t{number}", tiny.net(number), task="same")
    outcome = evaluate(space.path, oracle=measured(tmp_path), space=["dds", "saliency"])
    assert {method: found.queries for method, found in outcome.retrieval.items()} == {"dds": 3, "saliency": 4}
