"""Retrieval of models of the same task, and held-out targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from modelspace import evaluation
from modelspace.errors import NotFoundError, UsageError
from modelspace.evaluation import splits
from modelspace.evaluation.retrieval import same_task
from modelspace.registry import Registry
from modelspace.spaces.neighbours import score_matrix
from modelspace.spaces.ranking import Ranking
from modelspace.verbs.evaluate import evaluate
from modelspace.workspace import ModelSpace


def test_same_task_by_hand() -> None:
    tasks = ["a", "a", "b", "a", None]
    matrix = np.array(
        [
            [9, 3, 2, 1, 0],  # one a first, the other third
            [1, 9, 3, 2, 0],  # b first
            [1, 2, 9, 3, 0],  # no other b: not a query
            [0, 0, 0, 9, 0],  # all tied: other tasks come first
            [1, 2, 3, 4, 9],  # task unknown: not a query
        ]
    )
    retrieval = same_task(matrix, tasks)
    assert retrieval is not None
    assert retrieval.queries == 3
    assert float(retrieval.first.mean) == pytest.approx(1 / 3)
    precisions = [(1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2, (1 / 3 + 2 / 4) / 2]
    assert float(retrieval.average_precision.mean) == pytest.approx(np.mean(precisions))
    assert retrieval.random_first == pytest.approx(0.5)
    restricted = same_task(matrix, tasks, queries=[True, False, False, False, False])
    assert restricted is not None
    assert (restricted.queries, float(restricted.first.mean)) == (1, 1.0)
    assert same_task(np.eye(2), ["a", "b"]) is None
    with pytest.raises(UsageError, match="shape"):
        same_task(np.eye(3), ["a", "b"])


@pytest.mark.first(1)
@pytest.mark.parametrize(("n_relevant", "n"), [(1, 4), (3, 7), (7, 7)])
def test_the_expectation_of_a_random_order(n_relevant: int, n: int) -> None:
    rng = np.random.default_rng(0)
    tasks = ["q"] + ["q"] * n_relevant + ["x"] * (n - n_relevant)
    draws = []
    for _ in range(3000):
        matrix = np.zeros((n + 1, n + 1))
        matrix[0, 1:] = rng.permutation(n)
        retrieval = same_task(matrix, tasks, queries=[True] + [False] * n, n_resamples=1)
        assert retrieval is not None
        draws.append(float(retrieval.average_precision.mean))
    assert retrieval.random_average_precision == pytest.approx(np.mean(draws), abs=0.02)


def test_splits_partition_the_targets() -> None:
    targets = evaluation.load("rooms").targets
    selection, held_out = splits.split(targets, splits.SELECTION), splits.split(targets, splits.HELD_OUT)
    assert (len(selection), len(held_out)) == (9, 9)
    assert sorted([*selection, *held_out]) == sorted(targets)
    assert splits.split(targets[::-1], splits.HELD_OUT)[::-1] == held_out  # by name, not by position
    assert splits.select(targets, "kept") == held_out
    assert splits.select(targets, f"{held_out[1]},{selection[0]}") == tuple(
        t for t in targets if t in (held_out[1], selection[0])
    )
    with pytest.raises(NotFoundError, match="'nothing' is not among"):
        splits.select(targets, "nothing")


def test_metrics_per_target_are_those_of_the_whole_evaluation() -> None:
    oracle = evaluation.load("rooms")
    rng = np.random.default_rng(0)
    names = tuple(oracle.sources)
    outcome = evaluation.evaluate({"noise": (names, rng.random((len(names),) * 2))}, oracle)
    held_out = splits.split(outcome.targets, splits.HELD_OUT)
    part = outcome.over(held_out)
    rows = [outcome.targets.index(name) for name in held_out]
    assert part.targets == held_out
    assert part.sources == outcome.sources
    for full, subset in zip(outcome.rows, part.rows, strict=True):
        assert np.array_equal(subset.per_target["spearman"], full.per_target["spearman"][rows], equal_nan=True)
        assert float(subset.summary["spearman"].mean) == pytest.approx(full.per_target["spearman"][rows].mean())
    assert float(part.difference("noise", "popularity").mean) == pytest.approx(
        (part.row("noise").per_target["spearman"] - part.row("popularity").per_target["spearman"]).mean()
    )
    with pytest.raises(NotFoundError, match="was not evaluated"):
        outcome.over(["nothing"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    space = ModelSpace.create(tmp_path_factory.mktemp("evaluated"), images=12, canvas=8)
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


@pytest.mark.wide
def test_evaluate_uses_the_scores_that_nearest_ranks_by(home: ModelSpace, tmp_path: Path) -> None:
    outcome = evaluate(home.path, oracle=measured(tmp_path), space="all")
    assert [row.method for row in outcome.rows[:4]] == ["gradient_x_input", "dds", "local", "transfer"]
    assert set(outcome.retrieval) == {"gradient_x_input", "dds", "local", "transfer"}
    names = list(outcome.sources)
    order = np.zeros((len(names), len(names)))
    for target in names:
        for neighbour in home.nearest(target, len(names)):
            order[names.index(target), names.index(neighbour.name)] = -neighbour.rank
    expected = evaluation.evaluate({"x": (names, order)}, evaluation.load(measured(tmp_path)))
    assert np.allclose(
        outcome.row("transfer").per_target["spearman"], expected.row("x").per_target["spearman"], equal_nan=True
    )
    assert "same task" in outcome.to_markdown()
    figures = {(row[0], row[1]) for row in outcome.to_rows()}
    assert ("transfer", "same_task_first") in figures
    assert outcome.to_dict()["same_task"]["transfer"]["queries"] == 2


def test_evaluate_with_another_ranking_and_a_subset_of_targets(home: ModelSpace, tmp_path: Path) -> None:
    outcome = evaluate(
        home.path, oracle=measured(tmp_path), space=["dds", "transfer"], rerank="directed", targets="chosen"
    )
    assert [row.method for row in outcome.rows[:2]] == ["dds, directed", "transfer, directed"]
    first, second = outcome.rows[:2]
    assert np.allclose(first.per_target["spearman"], second.per_target["spearman"])
    assert outcome.targets == ("t1", "t3")
    other = evaluate(home.path, oracle=measured(tmp_path), space="gradient_x_input", hubs="csls")
    assert other.rows[0].method == "gradient_x_input, csls"
    assert not any("to compare" in note for note in evaluate(home.path, oracle=measured(tmp_path), space="dds").notes)


def test_a_similarity_of_kernels_is_evaluated_with_the_cost_of_its_comparisons(
    home: ModelSpace, tmp_path: Path
) -> None:
    plain, other = (
        evaluate(home.path, oracle=measured(tmp_path), space="dds", rerank=rerank) for rerank in ("none", "jaccard")
    )
    row, without = other.row("dds, jaccard"), plain.row("dds")
    with Registry.open(home.path) as registry:
        spec = registry.space("dds").spec
        ids, matrix = score_matrix(registry, spec, set(registry.model_ids(spec.space_id)), Ranking(rerank="jaccard"))
        names = tuple(registry.model_by_id(i).card.name for i in ids)
    expected = evaluation.evaluate({"x": (names, matrix)}, evaluation.load(measured(tmp_path))).row("x")
    np.testing.assert_allclose(row.per_target["spearman"], expected.per_target["spearman"])
    assert row.cost is not None
    assert without.cost is not None
    (note,) = [note for note in other.notes if note.startswith("seconds of dds, jaccard: those of space dds, and ")]
    seconds = float(note.split(" and ")[1].split()[0])
    assert row.cost.seconds - without.cost.seconds == pytest.approx(seconds, abs=0.006)
    assert row.cost.seconds > without.cost.seconds
    assert row.cost.forward_passes == without.cost.forward_passes


@pytest.mark.wide
def test_retrieval_of_each_space_is_over_its_own_models(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, methods=("saliency",), images=12, canvas=8)
    tiny.add(space, "t1", tiny.net(1), task="same")
    space.init(methods=("dds",), images=12)
    for number in (2, 3, 4):
        tiny.add(space, f"t{number}", tiny.net(number), task="same")
    outcome = evaluate(space.path, oracle=measured(tmp_path), space=["dds", "saliency"])
    assert {method: retrieval.queries for method, retrieval in outcome.retrieval.items()} == {"dds": 3, "saliency": 4}
