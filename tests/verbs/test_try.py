"""`try_task`: the best model is found, choices never see the test images, and nothing that was measured is lost."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_pictures import pictures, registry_of
from PIL import Image

from modelspace.embedding import features as features_module
from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.tasks.cache import forget
from modelspace.verbs import try_task as try_module
from modelspace.verbs.bench import Bench
from modelspace.workspace import ModelSpace


@pytest.fixture(scope="module")
def prepared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("try")
    space = registry_of(folder, ("brightness", "grid", "colour", "breaking"))
    pictures(folder / "data", per_class=60)
    space.add_task("colours", folder / "data")
    return folder


@pytest.fixture
def space(prepared_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpace:
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(prepared_home / "home", tmp_path / "home")
    return ModelSpace.open(tmp_path / "home")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of images of each run of a model."""
    counts: list[int] = []
    original = features_module.features

    def counted(model: Any, images: Any, **options: Any) -> Any:
        counts.append(len(images))
        return original(model, images, **options)

    monkeypatch.setattr(features_module, "features", counted)
    return counts


ROUNDS = {"rounds": (15, 30), "finalists": 2}


@pytest.mark.wide
def test_the_best_model_is_found_and_the_worst_is_not_looked_at_for_long(space: ModelSpace) -> None:
    trials = space.try_task("colours", **ROUNDS)
    assert trials.winner is not None
    assert trials.winner.name in ("colour", "grid", "breaking")
    by_name = {trial.name: trial for trial in trials}
    assert by_name["brightness"].stage == "dropped"
    assert by_name["brightness"].images < trials.winner.images == 144
    assert trials.n_test == 36
    assert trials.winner.score is not None
    assert trials.winner.score > 0.9
    assert trials.winner.low is not None
    assert trials.winner.low <= trials.winner.score
    assert trials.metric == "accuracy"
    assert trials.how == "ridge"
    assert [trial.rank for trial in trials] == [1, 2, 3, 4]


def test_what_was_measured_is_stored_as_outcomes(space: ModelSpace) -> None:
    trials = space.try_task("colours", **ROUNDS)
    outcomes = space.outcomes("colours")
    finals = {row.model: row for row in outcomes if row.how == "ridge"}
    assert {name: row.score for name, row in finals.items()} == {
        trial.name: trial.score for trial in trials if trial.score is not None
    }
    for row in finals.values():
        assert row.n_train == 144
        assert row.seed == 0
        assert row.seconds is not None
        assert row.settings == {"readout": "ridge", "n_test": 36}
    hints = {(row.model, row.n_train) for row in outcomes if row.how == "held-out"}
    assert all(row.settings.keys() == {"readout", "value"} for row in outcomes if row.how == "held-out")
    assert {("brightness", 15), ("colour", 15)} <= hints


@pytest.mark.wide
def test_a_second_search_runs_no_model_and_stores_nothing_twice(space: ModelSpace, passes: list[int]) -> None:
    first = space.try_task("colours", **ROUNDS)
    count, n_passes = len(space.outcomes("colours")), len(passes)
    second = space.try_task("colours", **ROUNDS)
    assert len(passes) == n_passes
    assert {(t.name, t.score, t.images) for t in second} == {(t.name, t.score, t.images) for t in first}
    assert len(space.outcomes("colours")) == count


@pytest.mark.wide
def test_removing_the_task_frees_its_cache_unless_another_has_the_same_images(
    space: ModelSpace, prepared_home: Path, passes: list[int]
) -> None:
    space.add_task("same", prepared_home / "data")
    space.try_task("colours", **ROUNDS)
    n_passes = len(passes)
    space.remove_task("colours")
    space.try_task("same", **ROUNDS)
    assert len(passes) == n_passes
    space.remove_task("same")
    space.add_task("colours", prepared_home / "data")
    space.try_task("colours", **ROUNDS)
    assert len(passes) == 2 * n_passes


def test_more_images_cost_only_the_new_ones(space: ModelSpace, passes: list[int]) -> None:
    space.try_task("colours", where="name = 'colour'", rounds=(), images=20)
    assert sum(passes) == 20 + 20
    space.try_task("colours", where="name = 'colour'", rounds=())
    assert sum(passes) == 144 + 36


@pytest.mark.wide
def test_the_budget_runs_the_most_promising_models(space: ModelSpace) -> None:
    for name, score in (("brightness", 0.2), ("grid", 0.5), ("colour", 0.9), ("breaking", 0.4)):
        for task in ("other", "another"):
            if task not in {row.name for row in space.tasks()}:
                space.add_task(task)
            space.observe(task, name, score)
    trials = space.try_task("colours", budget=1)
    assert [trial.name for trial in trials] == ["colour"]
    assert trials.notes[0].startswith("run in the order of outcomes of 2 other tasks")


@pytest.mark.wide
def test_labels_of_test_images_change_scores_and_nothing_else(
    space: ModelSpace, prepared_home: Path, tmp_path: Path
) -> None:
    first = space.try_task("colours", **ROUNDS)
    # The same pictures, but the labels of the test images are turned: what was held out can't have been looked at.
    task_row = space.task("colours")
    bench = Bench(_row(space), first=15)
    names = list(bench.images.classes)
    lines = ["path,label"]
    test = set(bench.split.test)
    for number, file in enumerate(bench.images.files):
        label = int(bench.images.labels[number])
        lines.append(f"{file},{names[(label + 1) % 3 if number in test else label]}")
    table = tmp_path / "turned.csv"
    table.write_text("\n".join(lines), "utf-8")
    space.add_task("turned", table, seed=task_row.seed)
    turned = Bench(_row(space, "turned"), first=15)
    # Classes keep their sizes, but the split is drawn anew within them; so compare with the given split.
    turned.split = bench.split
    runner_scores = {}
    for name in ("colour", "grid"):
        card = _card(space, name)
        assert turned.reading(card, 144)[1] == pytest.approx(
            next(trial.held_out for trial in space.try_task("colours", where=f"name = '{name}'", rounds=()))
        )
        runner_scores[name] = turned.score(card).value
    assert max(runner_scores.values()) < 0.2
    assert first.winner is not None


def _row(space: ModelSpace, name: str = "colours") -> Any:
    from modelspace.registry import Registry, outcomes

    with Registry.open(space.path) as registry:
        return outcomes.task(registry, name)


def _card(space: ModelSpace, name: str) -> Any:
    from modelspace.registry import Registry

    with Registry.open(space.path) as registry:
        return registry.model(name).card


@pytest.mark.wide
def test_a_model_that_fails_on_the_data_is_recorded_and_the_search_goes_on(space: ModelSpace, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", per_class=20, seed=1)
    for number in range(5):
        for label in ("red", "blue"):
            shade = 250 - number if label == "red" else 240 - number
            Image.new("RGB", (12, 12), (shade, shade, shade)).save(data / label / f"white{number}.png")
    space.add_task("bright", data)
    trials = space.try_task("bright", rounds=(20,), finalists=3)
    failed = [trial for trial in trials if trial.stage == "failed"]
    assert [trial.name for trial in failed] == ["breaking"]
    assert "too bright" in failed[0].note
    assert trials.winner is not None
    assert trials.winner.name != "breaking"
    row = next(row for row in space.outcomes("bright") if row.model == "breaking")
    assert row.score is None
    assert "too bright" in row.note
    assert space.prospects("bright", 4)[3].why.startswith("failed: ")
    # It may do better another day: it is run again, after the others, and the failure is not stored twice.
    space.try_task("bright", rounds=(20,), finalists=3)
    assert sum(row.score is None for row in space.outcomes("bright")) == 1


@pytest.mark.wide
def test_a_model_that_can_not_be_loaded_is_left_out_and_is_no_outcome(space: ModelSpace) -> None:
    import torch
    from torch import nn

    from modelspace.types import Preprocessing

    live = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten())
    live.weight = nn.Parameter(torch.ones(1))  # type: ignore[assignment]
    space.add(live, name="live", preprocessing=Preprocessing((12, 12), mean=(0.0,) * 3, std=(1.0,) * 3))
    trials = space.try_task("colours", **ROUNDS)
    lost = next(trial for trial in trials if trial.name == "live")
    assert lost.stage == "not loaded"
    assert "in memory" in lost.note
    assert "live" not in {row.model for row in space.outcomes("colours")}
    again = space.try_task("colours", **ROUNDS, models={"live": live})
    assert next(trial for trial in again if trial.name == "live").held_out is not None


@pytest.mark.wide
def test_other_weights_under_a_known_address_are_refused(space: ModelSpace, prepared_home: Path) -> None:
    code = prepared_home / "nets.py"
    text = code.read_text("utf-8")
    try:
        code.write_text(text.replace("nn.Parameter(torch.ones(3))", "nn.Parameter(torch.zeros(3) + 5)"), "utf-8")
        trials = space.try_task("colours", **ROUNDS)
    finally:
        code.write_text(text, "utf-8")
    lost = next(trial for trial in trials if trial.name == "colour")
    assert lost.stage == "not loaded"
    assert "differ from those" in lost.note


@pytest.mark.wide
def test_an_interrupted_search_keeps_what_it_measured_and_goes_on(space: ModelSpace, passes: list[int]) -> None:
    class Stop(BaseException):
        pass

    def stop(number: int, rounds: int, model: str, done: int, total: int, n_images: int) -> None:
        if (number, done) == (1, 2):
            raise Stop

    with pytest.raises(Stop):
        space.try_task("colours", **ROUNDS, on_step=stop)
    kept = space.outcomes("colours")
    assert len(kept) == 2
    assert passes == [15, 15]
    space.try_task("colours", **ROUNDS)
    # The two models that had been looked at were not run on the same images again.
    assert passes.count(15) >= 4
    whole = sum(passes)
    forget(_row(space).data_sha256)
    passes.clear()
    space.try_task("colours", **ROUNDS)
    assert sum(passes) == whole


@pytest.mark.wide
def test_a_search_killed_in_the_middle_leaves_a_registry_that_goes_on(space: ModelSpace) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_search_until_killed, args=(str(space.home),))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert all(check.ok for check in space.verify())
    assert 0 < len(space.outcomes("colours")) < 4
    assert space.try_task("colours", **ROUNDS).winner is not None


def _search_until_killed(home: str) -> None:
    import os

    space = ModelSpace.open(home)

    def die(number: int, rounds: int, model: str, done: int, total: int, n_images: int) -> None:
        if done == 2:
            os._exit(9)

    space.try_task("colours", rounds=(15, 30), finalists=2, on_step=die)


@pytest.mark.wide
def test_regression(space: ModelSpace, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(80):
        red = int(rng.integers(40, 200))
        Image.new("RGB", (12, 12), (red, int(rng.integers(40, 200)), 90)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{red / 255 + 0.001}")
    (tmp_path / "red.csv").write_text("\n".join(lines), "utf-8")
    space.add_task("redness", tmp_path / "red.csv")
    trials = space.try_task("redness", **ROUNDS)
    assert trials.metric == "r2"
    by_name = {trial.name: trial for trial in trials}
    assert by_name["colour"].score is not None
    assert by_name["colour"].score > 0.95
    assert by_name["brightness"].stage == "dropped"
    space.add_task("error", tmp_path / "red.csv", metric="rmse")
    lower = space.try_task("error", **ROUNDS)
    assert lower.winner is not None
    assert lower.winner.score is not None
    assert lower.winner.score < 0.1
    prospects = space.prospects("error", 4)
    assert prospects[0].score is not None
    assert prospects[0].score < 0.1


@pytest.mark.wide
def test_logistic_readouts(space: ModelSpace) -> None:
    trials = space.try_task("colours", how="logistic", **ROUNDS)
    assert trials.how == "logistic"
    assert trials.winner is not None
    assert trials.winner.score is not None
    assert trials.winner.score > 0.9


@pytest.mark.wide
def test_fine_tuning_measures_the_last_and_is_not_repeated(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelspace.embedding import finetune as module

    runs = []
    original = module.finetune

    def counted(*arguments: Any, **options: Any) -> Any:
        runs.append(options)
        return original(*arguments, **options)

    monkeypatch.setattr(module, "finetune", counted)
    trials = space.try_task("colours", how="finetune", epochs=1, **ROUNDS)
    assert trials.how == "finetune"
    assert len(runs) == 2
    for options in runs:
        parts = [set(options[part]) for part in ("train", "validation", "test")]
        assert not (parts[0] & parts[1])
        assert not (parts[0] & parts[2])
        assert not (parts[1] & parts[2])
        labels = Bench(_row(space)).labels
        assert {int(labels[number]) for number in options["validation"]} == {0, 1, 2}
    assert trials.winner is not None
    assert trials.winner.score is not None
    assert trials.winner.score > 0.9
    space.try_task("colours", how="finetune", epochs=1, **ROUNDS)
    assert len(runs) == 2
    space.try_task("colours", how="finetune", epochs=2, **ROUNDS)
    assert len(runs) == 4


@pytest.mark.wide
def test_a_program_measures_the_last(space: ModelSpace, tmp_path: Path) -> None:
    script = tmp_path / "score.py"
    script.write_text(
        "import csv, sys\n"
        "name, train, test, seed, metric = sys.argv[1:]\n"
        "rows = [list(csv.DictReader(open(table))) for table in (train, test)]\n"
        "assert len(rows[0]) == 144 and len(rows[1]) == 36, rows\n"
        "assert {row['label'] for row in rows[0]} == {'red', 'green', 'blue'}\n"
        "print('training', name)\n"
        "print({'colour': 0.25, 'grid': 0.75}.get(name, 0.5))\n",
        "utf-8",
    )
    lines: list[str] = []
    command = f"{sys.executable} {script} {{name}} {{train}} {{test}} {{seed}} {{metric}}"
    trials = space.try_task("colours", run=command, rounds=(15,), finalists=3, on_line=lines.append)
    scores = {trial.name: trial.score for trial in trials if trial.score is not None}
    assert scores
    assert all(scores[name] == {"colour": 0.25, "grid": 0.75}.get(name, 0.5) for name in scores)
    assert trials.winner is not None
    assert trials.winner.score == max(scores.values())
    assert any(line.startswith("training") for line in lines)
    assert {row.how for row in space.outcomes("colours")} == {"held-out", "script"}


def test_a_program_may_measure_what_is_no_known_metric(space: ModelSpace, prepared_home: Path) -> None:
    space.add_task("own", prepared_home / "data", metric="top5", higher_is_better=True)
    with pytest.raises(UsageError, match="can't be computed"):
        space.try_task("own")
    trials = space.try_task("own", run=f"{sys.executable} -c 'print(0.5)'", rounds=(15,), finalists=1)
    assert trials.winner is not None
    assert trials.winner.score == 0.5
    assert trials.winner.held_out is None


@pytest.mark.wide
def test_a_program_that_fails_is_a_failure_of_that_model(space: ModelSpace) -> None:
    trials = space.try_task("colours", run=f"{sys.executable} -c 'print(float(\"nan\"))'", rounds=(15,), finalists=1)
    assert trials.winner is None
    failed = [trial for trial in trials if trial.stage == "failed"]
    assert len(failed) == 1
    assert "no model could be measured" in trials.notes[-1]


@pytest.mark.wide
def test_a_program_that_is_not_there_is_an_error(space: ModelSpace) -> None:
    with pytest.raises(NotFoundError):
        space.try_task("colours", run="no-such-program-anywhere", rounds=(15,))
    with pytest.raises(UsageError, match="modle"):
        space.try_task("colours", run="echo {modle}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "a budget of 0"),
        ({"finalists": 0}, "at least one finalist"),
        ({"images": 3}, "too few"),
        ({"how": "ridge", "run": "echo 1"}, "not ridge"),
        ({"epochs": 3}, "epochs are of fine-tuning"),
        ({"rounds": (60, 30)}, "a race can't have"),
        ({"wehre": "x"}, "unknown option"),
    ],
)
def test_senseless_searches_are_refused(space: ModelSpace, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        space.try_task("colours", **options)
    assert len(space.outcomes("colours")) == 0


def test_an_unknown_readout(space: ModelSpace) -> None:
    with pytest.raises(NotFoundError, match="no readout 'svm'"):
        space.try_task("colours", how="svm")


def test_tasks_without_data_or_with_changed_data_are_refused(space: ModelSpace, tmp_path: Path) -> None:
    space.add_task("bare")
    with pytest.raises(UsageError, match="has no data"):
        space.try_task("bare")
    data = pictures(tmp_path / "data", per_class=6)
    space.add_task("small", data)
    next((data / "red").iterdir()).unlink()
    with pytest.raises(ConflictError, match="changed since"):
        space.try_task("small")
    shutil.rmtree(data)
    with pytest.raises(NotFoundError, match="no data set"):
        space.try_task("small")


@pytest.mark.wide
def test_near_copies_are_run_once(space: ModelSpace, prepared_home: Path) -> None:
    copy = prepared_home / "copy.py"
    copy.write_text((prepared_home / "nets.py").read_text("utf-8").replace("torch.ones(3)", "torch.ones(3) * 1.5"))
    known = space.show("colour")
    space.add(f"python:{copy}:colour", name="colour-copy", preprocessing=known.preprocessing)
    trials = space.try_task("colours", **ROUNDS)
    names = {trial.name for trial in trials}
    assert len(names & {"colour", "colour-copy"}) == 1
    assert any("near-copy of" in note for note in trials.notes)
    twin = next(row for row in space.prospects("colours", 9) if row.stands_for)
    assert {twin.name, *twin.stands_for} == {"colour", "colour-copy"}


def test_a_large_registry_starts_with_the_middles_of_clusters(
    space: ModelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelspace.verbs import prospects

    monkeypatch.setattr(try_module, "MANY", 2)
    monkeypatch.setattr(prospects, "MANY", 2)
    trials = space.try_task("colours", budget=2, rounds=(15,), finalists=1)
    assert len(trials) == 2
    assert len(space.suggest("colours", 3)) == 3
