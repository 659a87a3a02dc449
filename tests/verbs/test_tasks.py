"""Tasks and outcomes in a registry: they outlive models, follow renames, and are stored all or none."""

from __future__ import annotations

import multiprocessing
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import shelf
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.errors import ConflictError, ModelspaceError, NotFoundError, UsageError
from modelspace.registry import Registry, outcomes, schema
from modelspace.verbs import tasks
from modelspace.verbs.export import default_of
from modelspace.workspace import ModelSpace


@pytest.fixture
def space(tmp_path: Path) -> ModelSpace:
    shelf.filled(tmp_path / "registry.duckdb", 4)
    return ModelSpace(tmp_path)


@pytest.fixture
def flowers(space: ModelSpace) -> ModelSpace:
    space.add_task("flowers")
    return space


def test_a_task_without_data(space: ModelSpace) -> None:
    record, notes = space.add_task("flowers", metric="top5", higher_is_better=False, seed=7)
    assert notes == []
    assert (record.name, record.kind, record.metric, record.higher_is_better) == (
        "flowers",
        "classification",
        "top5",
        False,
    )
    assert (record.n_images, record.classes, record.location, record.data_sha256, record.seed) == (None, (), "", "", 7)
    assert list(space.tasks()) == [record] == [space.task("flowers")]


def test_a_task_with_data(space: ModelSpace, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(8):
        file = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(file)
    record, notes = space.add_task("colours", tmp_path / "data")
    assert (record.n_images, record.classes, record.metric) == (8, ("a", "b"), "accuracy")
    assert len(record.data_sha256) == 64
    assert notes == ["the smallest class has 4 images, so scores are uncertain"]
    again, notes = space.add_task("same", tmp_path / "data")
    assert again.data_sha256 == record.data_sha256
    assert notes[-1] == "the task colours has the same images and labels"


@pytest.mark.wide
def test_names_are_unique_and_checked(flowers: ModelSpace) -> None:
    with pytest.raises(ConflictError, match="task 'flowers' exists already"):
        flowers.add_task("flowers")
    with pytest.raises(UsageError, match="can't be the name of a task"):
        flowers.add_task("a b")
    with pytest.raises(UsageError, match="not a kind of labels"):
        flowers.add_task("other", kind="ranking")  # type: ignore[arg-type]
    flowers.add_task("other")
    with pytest.raises(ConflictError, match="task 'flowers' exists already"):
        flowers.rename_task("other", "flowers")
    flowers.rename_task("other", "roses")
    assert [row.name for row in flowers.tasks()] == ["flowers", "roses"]
    with pytest.raises(NotFoundError) as caught:
        flowers.task("flower")
    assert "flowers" in caught.value.hint


@pytest.mark.wide
def test_outcomes_of_a_task_are_listed_best_first(flowers: ModelSpace) -> None:
    flowers.observe(
        "flowers", "m0", 0.5, how="finetune", n_train=80, seed=1, seconds=2.5, note="n", settings={"lr": 0.1}
    )
    flowers.observe("flowers", "m1", failed="out of memory")
    flowers.observe("flowers", "m2", 0.75)
    rows = flowers.outcomes("flowers")
    assert [(row.model, row.score) for row in rows] == [("m2", 0.75), ("m0", 0.5), ("m1", None)]
    assert rows[2].note == "out of memory"
    best = rows[1]
    assert (best.how, best.n_train, best.seed, best.seconds, best.note, best.settings) == (
        "finetune",
        80,
        1,
        2.5,
        "n",
        {"lr": 0.1},
    )
    assert all(row.registered and row.weights_sha256 == f"sha of {row.model}" for row in rows)
    assert [row.model for row in flowers.outcomes()] == ["m0", "m1", "m2"]
    assert [row.model for row in flowers.outcomes(model="m1")] == ["m1"]
    assert flowers.task("flowers").outcomes == 3
    flowers.add_task("errors", metric="loss")
    for model, score in (("m0", 2.0), ("m1", 1.0)):
        flowers.observe("errors", model, score)
    assert [row.model for row in flowers.outcomes("errors")] == ["m1", "m0"]


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (("flowers", "m0", float("nan")), UsageError, "is not a finite number"),
        (("flowers", "m0", float("inf")), UsageError, "is not a finite number"),
        (("flowers", "m0"), UsageError, "neither a score nor a reason"),
        (("flowers", "m9", 0.5), NotFoundError, "there is no model 'm9'"),
        (("roses", "m0", 0.5), NotFoundError, "there is no task 'roses'"),
    ],
)
def test_observations_that_are_refused(flowers: ModelSpace, values: tuple, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        flowers.observe(*values)
    assert list(flowers.outcomes()) == []


def test_numbers_below_zero_are_refused(flowers: ModelSpace) -> None:
    for name in ("n_train", "seconds"):
        with pytest.raises(UsageError, match=f"{name} of m0 is -1"):
            flowers.observe("flowers", "m0", 0.5, **{name: -1})


@pytest.mark.wide
def test_a_removed_model_keeps_its_outcomes_and_gets_them_back(flowers: ModelSpace, tmp_path: Path) -> None:
    flowers.observe("flowers", "m1", 0.5)
    flowers.rename("m1", "other")
    assert flowers.outcomes("flowers")[0].model == "other"
    flowers.remove("other")
    (row,) = flowers.outcomes("flowers")
    assert (row.model, row.registered, row.weights_sha256) == ("other", False, "sha of m1")
    assert flowers.outcomes(model="other")[0].score == 0.5
    with Registry.open(flowers.path, write=True) as registry, registry.transaction():
        registry.add_model(shelf.card("newer", "sha of m1"))
    (row,) = flowers.outcomes("flowers")
    assert (row.model, row.registered) == ("newer", True)


@pytest.mark.wide
def test_removing_a_task_removes_its_outcomes_alone(flowers: ModelSpace) -> None:
    flowers.add_task("roses")
    flowers.observe("flowers", "m0", 0.5)
    flowers.observe("roses", "m0", 0.25)
    assert flowers.remove_task("flowers") == 1
    assert [(row.task, row.score) for row in flowers.outcomes()] == [("roses", 0.25)]
    with pytest.raises(NotFoundError):
        flowers.remove_task("flowers")


def test_a_file_is_stored_all_or_none(flowers: ModelSpace, tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text("model,score,n_train,note,measured_at\nm0,.5,80,,2026-01-02T03:04:05\nm1,,,crashed,\n")
    rows = flowers.observe_file(file, "flowers")
    assert [(row.model, row.score, row.n_train, row.note) for row in rows] == [
        ("m0", 0.5, 80, ""),
        ("m1", None, None, "crashed"),
    ]
    assert rows[0].measured_at == "2026-01-02T03:04:05+00:00"
    flowers.observe_file(file, "flowers")
    assert [row.model for row in flowers.outcomes()] == ["m0", "m1", "m1"]  # m0 at that time is known already
    file.write_text("model,score\nm2,.5\nm9,.5\n")
    with pytest.raises(NotFoundError):
        flowers.observe_file(file, "flowers")
    assert len(flowers.outcomes()) == 3


@pytest.mark.wide
def test_what_outcomes_and_export_write_is_read_and_known(flowers: ModelSpace, tmp_path: Path) -> None:
    flowers.observe("flowers", "m0", 0.5, how="finetune", seed=3, settings={"epochs": 5}, note='=1, "2"')
    flowers.observe("flowers", "m1", failed="crashed")
    stored = flowers.outcomes()
    printed = CliRunner().invoke(app, ["outcomes", "--format", "csv", "--home", str(flowers.home)])
    (tmp_path / "printed.csv").write_text(printed.stdout)
    flowers.export(tmp_path / "exported.csv", "outcomes")
    for name in ("printed.csv", "exported.csv"):
        rows = flowers.observe_file(tmp_path / name, "flowers")
        assert list(rows) == list(stored)
        assert list(flowers.outcomes()) == list(stored)
    text = (tmp_path / "printed.csv").read_text()
    (tmp_path / "other.csv").write_text(text.replace(stored[0].weights_sha256, "0" * 64))
    with pytest.raises(ConflictError, match="m0 on flowers was measured with other weights"):
        flowers.observe_file(tmp_path / "other.csv")
    (tmp_path / "other.csv").write_text(text.replace("accuracy", "f1"))
    with pytest.raises(ConflictError, match="is in f1, and task flowers in accuracy"):
        flowers.observe_file(tmp_path / "other.csv")
    assert list(flowers.outcomes()) == list(stored)


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,score,task,settings\nm0,1,flowers,3\n", "settings is '3'"),
        ("model\nm0\n", "lacks the column score"),
        ("model,score\nm0,.5\n", "lacks the column task"),
        ("task,model,score,colour\n", "unknown column 'colour'"),
        ("task,model,score\nflowers,m0,high\n", "line 2 of r.csv: score is 'high'"),
        ("task,model,score\nflowers,m0,nan\n", "line 2 of r.csv: the score nan"),
        ("task,model,score\nflowers,m0\n", "line 2 of r.csv has another number of columns"),
        ("task,model,score\nflowers,m0,1,2\n", "line 2 of r.csv has another number of columns"),
        ("task,model,score\nflowers,,1\n", "line 2 of r.csv names no model"),
        ("task,model,score\n,m0,1\n", "line 2 of r.csv names no task"),
    ],
)
def test_files_that_are_refused(flowers: ModelSpace, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        flowers.observe_file(tmp_path / "r.csv")
    assert list(flowers.outcomes()) == []


def test_files_that_are_none(flowers: ModelSpace, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no file"):
        flowers.observe_file(tmp_path / "none.csv", "flowers")
    (tmp_path / "r.csv").write_bytes(b"model,score\n\xff,1\n")
    with pytest.raises(ModelspaceError, match="can't be read as a CSV file"):
        flowers.observe_file(tmp_path / "r.csv", "flowers")


def _observe(home: Path, start: int) -> None:
    for number in range(5):
        ModelSpace(home).observe("flowers", "m0", (start + number) / 100)


@pytest.mark.wide
def test_two_who_observe_at_once_lose_nothing(flowers: ModelSpace) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_observe, args=(flowers.home, start)) for start in (0, 50)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(row.score for row in flowers.outcomes("flowers")) == [n / 100 for n in [*range(5), *range(50, 55)]]


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE main.outcomes SET task_id = 99", "its task 99 is missing"),
        ("UPDATE main.outcomes SET model_id = 99", "its model m0 is missing"),
        ("UPDATE main.outcomes SET score = 'nan'", "its score nan is not a finite number"),
        ("INSERT INTO main.tasks FROM main.tasks", "its name exists more than once"),
        ("INSERT INTO main.outcomes FROM main.outcomes", "its id exists more than once"),
    ],
)
def test_verify_names_damaged_tasks_and_outcomes(flowers: ModelSpace, damage: str, message: str) -> None:
    flowers.observe("flowers", "m0", 0.5)
    with Registry.open(flowers.path, write=True) as registry, registry.transaction():
        assert registry.check() == []
        registry.rows(f"{damage} RETURNING *")
        assert message in [problem.message for problem in registry.check()]


@pytest.mark.wide
def test_another_registrys_outcomes(flowers: ModelSpace, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shelf.filled(tmp_path / "other" / "registry.duckdb", 4)
    other = ModelSpace(tmp_path / "other")
    for name, options in (("flowers", {}), ("roses", {}), ("bees", {"metric": "f1"})):
        other.add_task(name, **options)
    flowers.add_task("bees")
    when = datetime(2026, 1, 1, tzinfo=UTC)
    for space in (flowers, other):
        space.observe("flowers", "m0", 0.5, measured_at=when)
    other.observe("flowers", "m1", 0.25)
    other.observe("roses", "m2", 0.75)
    other.observe("bees", "m2", 0.125)
    planned = tasks.merge_tasks(flowers.path, other.path, {"m1": "m3"}, dry_run=True)
    assert [row.status for row in planned] == ["would complete", "would add", "skipped"]
    assert len(flowers.outcomes()) == 1
    merged = tasks.merge_tasks(flowers.path, other.path, {"m1": "m3"})
    assert [(row.name, row.status, row.message) for row in merged[:2]] == [
        ("task flowers", "completed", "1 outcomes"),
        ("task roses", "added", "1 outcomes"),
    ]
    assert (merged[2].name, merged[2].status) == ("task bees", "skipped")
    assert "other data or another metric" in merged[2].message
    again = tasks.merge_tasks(flowers.path, other.path, {"m1": "m3"})
    assert [row.status for row in again] == ["unchanged", "unchanged", "skipped"]
    rows = {(row.task, row.model): (row.score, row.registered) for row in flowers.outcomes()}
    assert rows == {
        ("flowers", "m0"): (0.5, True),
        ("flowers", "m3"): (0.25, False),  # m3 has other weights here
        ("roses", "m2"): (0.75, True),
    }


@pytest.mark.wide
def test_merge_imports_tasks_with_the_models(flowers: ModelSpace, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shelf.filled(tmp_path / "other" / "registry.duckdb", 4)
    other = ModelSpace(tmp_path / "other")
    other.add_task("roses")
    other.observe("roses", "m2", 0.75)
    assert [row.name for row in flowers.merge(other.home)][-1] == "task roses"
    assert [(row.model, row.score, row.registered) for row in flowers.outcomes("roses")] == [("m2", 0.75, True)]


@pytest.mark.first(1)
@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_tasks_and_outcomes_are_exported(flowers: ModelSpace, tmp_path: Path, suffix: str) -> None:
    import duckdb

    flowers.observe("flowers", "m0", 0.5, settings={"lr": 0.1})
    flowers.observe("flowers", "m1", failed="crashed")
    for what in ("tasks", "outcomes"):
        flowers.export(tmp_path / f"{what}.{suffix}", what=[what])
    read = {"csv": "read_csv", "json": "read_json", "parquet": "read_parquet"}[suffix]
    assert duckdb.sql(f"SELECT name, metric FROM {read}('{tmp_path}/tasks.{suffix}')").fetchall() == [
        ("flowers", "accuracy")
    ]
    rows = duckdb.sql(f"SELECT model, score, note FROM {read}('{tmp_path}/outcomes.{suffix}')").fetchall()
    assert [(model, score, note or "") for model, score, note in rows] == [("m0", 0.5, ""), ("m1", None, "crashed")]


def test_a_folder_has_tables_of_tasks_if_there_are_any(space: ModelSpace) -> None:
    assert "tasks" not in default_of(space.path)
    space.add_task("flowers")
    assert default_of(space.path)[-2:] == ("tasks", "outcomes")


def test_a_registry_of_an_older_version_is_read(tmp_path: Path) -> None:
    older = tmp_path / "migrations"
    shutil.copytree(schema.FOLDER, older, ignore=lambda _, names: [name for name in names if name >= "0006"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "FOLDER", older)
        Registry.create(tmp_path / "registry.duckdb")
    space = ModelSpace(tmp_path)
    assert list(space.tasks()) == [] == list(space.outcomes())
    with Registry.open(space.path) as registry:
        assert registry.check() == []
        assert not outcomes.has_tables(registry)


@pytest.mark.wide
def test_models_know_how_many_outcomes_they_have(flowers: ModelSpace) -> None:
    first, second, *others = [row.name for row in flowers.list()]
    flowers.observe("flowers", first, 0.9)
    flowers.observe("flowers", first, failed="out of memory")
    flowers.observe("flowers", second, 0.8)
    assert {row.name: row.outcomes for row in flowers.list()} == {first: 2, second: 1, **dict.fromkeys(others, 0)}
    assert flowers.show(first).outcomes == 2
    flowers.remove(second)
    assert [row.outcomes for row in flowers.list()] == [2, 0, 0]
