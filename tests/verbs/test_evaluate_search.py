"""`modelspace evaluate --search`: the search replayed on oracles and on the images of tasks, printed and written."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shelf import GI, card, fill, make, units
from typer.testing import CliRunner, Result

from modelspace.cli.app import app
from modelspace.errors import NotFoundError, UsageError
from modelspace.evaluation import load
from modelspace.home import REGISTRY
from modelspace.registry import Registry
from modelspace.search.race import ModelFailedError
from modelspace.types import ModelCard
from modelspace.verbs.bench import Bench
from modelspace.verbs.evaluate_search import COLUMNS, distinct, evaluate_search, spent
from modelspace.workspace import ModelSpace

NAMES = [f"m{number}" for number in range(8)]


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", "--search", *map(str, words)])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight models and two tasks of 150 images of three classes; model 7 fails, the others tell more and more."""
    make(tmp_path / REGISTRY, GI)
    fill(tmp_path / REGISTRY, NAMES, units(8), GI)
    space = ModelSpace.open(tmp_path)
    rng = np.random.default_rng(0)
    for task in ("birds", "flowers"):
        for number in range(150):
            folder = tmp_path / task / "abc"[number % 3]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        space.add_task(task, tmp_path / task)

    def features(bench: Bench, card: ModelCard, numbers: Sequence[int]) -> np.ndarray:
        if card.name == "m7":
            raise ModelFailedError("out of memory")
        noise = np.stack([np.random.default_rng([number, int(card.name[1])]).normal(size=6) for number in numbers])
        noise[:, :3] += 0.4 * int(card.name[1]) * np.eye(3)[bench.labels[list(numbers)].astype(int)]
        if bench.on_images is not None and bench.task.name == "birds":
            bench.on_images(len(numbers), len(numbers))
        return noise

    monkeypatch.setattr(Bench, "features", features)
    return tmp_path


@pytest.mark.wide
def test_tasks_know_each_other(home: Path) -> None:
    done = run("--task", "birds", "--task", "flowers", "--home", home, "--format", "json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    first, second = report["tables"]
    assert (first["name"], second["name"]) == ("tasks", "outcomes of the tasks")
    assert first["targets"] == ["birds", "flowers"]
    figures = {policy["name"]: policy["figures"] for policy in first["policies"]}
    assert figures["race (60), other tasks known"]["regret@1"]["mean"] <= 3
    assert figures["random"]["regret@1"]["mean"] > 10
    assert figures["static"]["weighted_tau"]["mean"] > 0.7
    # Only the features of the first task were extracted in this run.
    assert figures["ridge, 60 images"]["seconds"]["per_target"][1] is None
    assert figures["ridge, 60 images"]["seconds"]["per_target"][0] > 0
    notes = " ".join(report["notes"])
    assert "birds: left out, since they failed: m7" in notes
    assert "flowers: features of earlier runs were used" in notes
    assert "no kernels are stored" in notes
    assert "`" not in notes


@pytest.mark.wide
def test_the_tasks_own_model_is_left_out(home: Path) -> None:
    with Registry.open(home / REGISTRY, write=True) as registry, registry.transaction():
        registry.add_model(card("m6b", task="birds"))
    space, name = ModelSpace.open(home), "birds"
    report = space.evaluate_search(name)
    assert any(note.startswith(f"{name}: left out, since trained for it: ") and "m6b" in note for note in report.notes)
    assert any("one task alone" in note for note in report.notes)


@pytest.mark.wide
def test_all_tasks_a_table_in_the_terminal_and_files(home: Path, tmp_path: Path) -> None:
    done = run("--task", "all", "--oracle", "sfda-cnn", "--home", home, "--out", tmp_path / "search.md")
    assert done.exit_code == 0, done.output
    assert "tasks: 8 models, 2 targets; regret and width in points" in done.stdout
    assert "sfda-cnn: 11 models, 11 targets" in done.stdout
    text = (tmp_path / "search.md").read_text("utf-8")
    assert "| race (60), nothing known |" in text
    assert "`" not in text
    # Seven models can be measured, so none is left to be expected after eight tries.
    for table in (text.split("outcomes of the tasks")[1].split("sfda-cnn")[0], done.stdout.split("sfda-cnn")[0]):
        assert "expected after 3 tries" in table
        assert "expected after 8 tries" not in table


@pytest.mark.wide
def test_where_chooses_models(home: Path) -> None:
    done = run("--task", "birds", "--home", home, "--where", "name in ('m1', 'm2', 'm3', 'm4')", "--format", "json")
    assert json.loads(done.stdout)["tables"][0]["models"] == 4


def test_oracles_need_no_registry(tmp_path: Path) -> None:
    done = run("--oracle", "sfda-cnn", "--oracle", "rooms-all", "--home", tmp_path / "none", "--format", "csv")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert tuple(rows[0]) == COLUMNS
    assert {row["table"] for row in rows} == {"sfda-cnn", "rooms-all"}
    assert {row["policy"] for row in rows} >= {"random", "static", "search", "expected after 3 tries"}


def test_no_measurement_is_replayed_twice() -> None:
    tables = [load(name) for name in distinct()]
    assert len(tables) == len({(oracle.score.shape, float(np.nansum(oracle.score))) for oracle in tables}) >= 10
    assert not {"ncti-cnn", "emms-cnn", "parc-controlled", "rooms"} & set(distinct())


def test_orders_are_balanced_and_differ() -> None:
    labels = np.array([0, 1, 2] * 40)
    orders = spent(labels, True, 4, 0)
    assert orders[0] == tuple(range(120))
    assert len(set(orders)) == 4
    for order in orders:
        assert sorted(order) == list(range(120))
        assert np.bincount(labels[list(order[:60])]).tolist() == [20, 20, 20]
    assert spent(labels, True, 4, 0) == orders


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--space", "gi"), "--space: not for --search"),
        (("--with-self", "--targets", "kept"), "--targets and --with-self: not for --search"),
        (("--oracle", "none"), "there is no oracle none"),
        (("--task", "none"), "none"),
    ],
)
def test_refusals(home: Path, words: tuple[str, ...], message: str) -> None:
    done = run(*words, "--home", home)
    assert done.exit_code != 0
    assert message in done.output


def test_without_search_one_oracle_and_no_task(home: Path) -> None:
    for words in (("--task", "birds"), ("--oracle", "rooms", "--oracle", "yards")):
        done = CliRunner().invoke(app, ["evaluate", *words, "--home", str(home)])
        assert done.exit_code != 0
        assert ("add --search" in done.output) or ("one is evaluated at a time" in done.output)


@pytest.mark.wide
def test_python_refusals(home: Path) -> None:
    space = ModelSpace.open(home)
    with pytest.raises(UsageError, match="at least 10 images"):
        space.evaluate_search("birds", images=5)
    with pytest.raises(UsageError, match="tasks need a registry"):
        evaluate_search(None, "birds")
    with pytest.raises(NotFoundError):
        space.evaluate_search("none")
    report = space.evaluate_search(oracles=[])
    assert report.tables == ()
