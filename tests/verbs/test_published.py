"""Published accuracies as outcomes: which models they belong to, and that nothing is stored twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shelf
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.errors import ConflictError, NotFoundError
from modelspace.evaluation import published
from modelspace.registry import Registry
from modelspace.verbs import tasks
from modelspace.verbs.published import addresses, task_name
from modelspace.workspace import ModelSpace

VIT = "google/vit-base-patch16-224"
Add = Callable[..., None]


@pytest.fixture
def space(tmp_path: Path) -> ModelSpace:
    shelf.make(tmp_path / "registry.duckdb")
    return ModelSpace(tmp_path)


@pytest.fixture
def add(space: ModelSpace) -> Add:
    """Add a model without maps, with this address."""

    def add(name: str, uri: str, weights: str = "", tags: dict[str, str] | None = None) -> None:
        with Registry.open(space.path, write=True) as registry, registry.transaction():
            registry.add_model(replace(shelf.card(name, weights or f"sha of {uri}", tags=tags or {}), uri=uri))

    return add


def run(space: ModelSpace, *words: str) -> Any:
    return CliRunner().invoke(app, ["outcomes", *words, "--home", str(space.path.parent)])


def accuracies(table: str, source: str) -> dict[str, float]:
    """The table's own figures of a model, by task, without those on the model's own data set."""
    entry = published.tables()[table]
    rows = [row for row in published.measurements(entry) if row.source == source and not row.own]
    return {task_name(entry, row.target): row.score / 100 for row in rows}


def test_a_checkpoint_of_the_registry_has_its_published_accuracies(space: ModelSpace, add: Add) -> None:
    add("mine", "torchvision:resnet50/IMAGENET1K_V1")
    records, notes = space.import_published()
    assert notes == ()
    assert [(row.table, row.matched, row.added) for row in records if row.added] == [
        ("sfda-cnn", {"resnet50": "mine"}, 11)
    ]
    stored = space.outcomes(model="mine")
    assert {row.task: row.score for row in stored} == pytest.approx(accuracies("sfda-cnn", "resnet50"))
    first = space.outcomes("published.sfda-cnn.aircraft")[0]
    assert (first.score, first.metric, first.how, first.registered) == (0.8464, "accuracy", "published", True)
    assert first.note == "github.com/TencentARC/SFDA, tw_group1.py, commit 3b7edf7"
    assert first.settings == {"table": "sfda-cnn", "target": "aircraft", "source": "resnet50"}
    assert space.task("published.sfda-cnn.aircraft").n_images is None
    assert len(space.tasks()) == 11


@pytest.mark.wide
def test_twice_adds_nothing(space: ModelSpace, add: Add) -> None:
    add("vit", f"hf-hub:{VIT}")
    first, _ = space.import_published()
    count = len(space.outcomes())
    assert sum(row.added for row in first) == count > 20
    second, _ = space.import_published()
    assert [(row.added, row.known) for row in second] == [(0, row.added) for row in first]
    assert len(space.outcomes()) == count
    space.rename("vit", "other")
    third, _ = space.import_published()
    assert not any(row.added for row in third)
    assert len(space.outcomes(model="other")) == count
    space.remove("other")
    assert not any(row.added for row in space.import_published()[0])
    add("again", f"hf-hub:{VIT}")
    assert len(space.outcomes(model="again")) == count
    assert not any(row.added for row in space.import_published()[0])
    add("newer", f"hf-hub:{VIT}@abc", "other weights")
    space.remove("again")
    assert sum(row.added for row in space.import_published()[0]) == count, "other weights have outcomes of their own"


@pytest.mark.wide
def test_a_dry_run_stores_nothing(space: ModelSpace, add: Add) -> None:
    add("vit", f"hf-hub:{VIT}")
    would, _ = space.import_published(dry_run=True)
    assert not space.tasks()
    assert not space.outcomes()
    assert [row.added for row in would] == [row.added for row in space.import_published()[0]]


@pytest.mark.sampled(2)
@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("name", "uri", "tags", "matches"),
    [
        ("a", "torchvision:resnet50/IMAGENET1K_V1", {}, True),
        ("a", "timm:resnet50.tv_in1k", {}, True),
        ("a", f"hf-hub:{VIT}", {}, True),
        ("a", f"hf-hub:{VIT.upper()}@4f1c9ab", {}, True),
        ("a", "torchvision:resnet50/IMAGENET1K_V1", {"weights": "resnet50-0676ba61.pth"}, True),
        ("resnet50-IMAGENET1K_V1", "file:resnet50.pt2", {}, True),
        ("google-vit-base-patch16-224", "file:vit.pt2", {}, True),
        # Other weights of the same network.
        ("a", "torchvision:resnet50/IMAGENET1K_V2", {}, False),
        ("a", "timm:resnet50.a1_in1k", {}, False),
        ("a", "timm:resnet50", {}, False),
        ("a", f"hf-hub:{VIT}", {"weights": "own.safetensors"}, False),
        ("a", "timm:resnet50.tv_in1k", {"weights": "own.pth"}, False),
        # A name that does not say which weights.
        ("resnet50", "file:resnet50.pt2", {}, False),
        ("vit-base-patch16-224", "hf-hub:someone/vit-base-patch16-224", {}, False),
        # The sources of these tables don't say which checkpoints they are.
        ("moco-v2", "file:moco-v2.pt2", {}, False),
        ("swin_t", "torchvision:swin_t/IMAGENET1K_V1", {}, False),
    ],
)
def test_only_the_same_checkpoint_matches(
    space: ModelSpace, add: Add, name: str, uri: str, tags: dict[str, str], matches: bool
) -> None:
    add(name, uri, tags=tags)
    records, notes = space.import_published(dry_run=True)
    assert any(row.matched for row in records) is matches
    assert any("no model of the registry is one of these checkpoints" in note for note in notes) is not matches


@pytest.mark.wide
def test_an_ambiguous_match_is_refused_and_listed(space: ModelSpace, add: Add) -> None:
    add("a", "torchvision:resnet50/IMAGENET1K_V1")
    add("b", "timm:resnet50.tv_in1k")
    records, notes = space.import_published("sfda-cnn")
    assert records[0].ambiguous == {"resnet50": ["a", "b"]}
    assert records[0].added == 0
    assert "resnet50 of sfda-cnn could be a or b, and none of them was given its outcomes" in notes
    space.remove("b")
    assert space.import_published("sfda-cnn")[0][0].added == 11
    add("resnet50.tv_in1k", "file:x.pt2")
    assert not space.import_published("sfda-cnn")[0][0].ambiguous, "an address goes before a name"


@pytest.mark.wide
def test_all_models_are_kept_and_claimed_by_a_model_that_comes_later(space: ModelSpace, add: Add) -> None:
    record = space.import_published("sfda-cnn", all_models=True)[0][0]
    assert (record.added, record.matched) == (121, {})
    rows = space.outcomes("published.sfda-cnn.aircraft")
    assert len(rows) == 11
    assert not any(row.registered or row.weights_sha256 for row in rows)
    assert space.import_published("sfda-cnn", all_models=True)[0][0].known == 121
    add("mine", "torchvision:resnet50/IMAGENET1K_V1")
    later = space.import_published("sfda-cnn")[0][0]
    assert (later.added, later.known) == (11, 0)
    rows = space.outcomes("published.sfda-cnn.aircraft")
    assert len(rows) == 11
    assert [(row.model, row.score) for row in rows if row.registered] == [("mine", 0.8464)]
    assert len(space.outcomes()) == 121
    space.remove("mine")
    assert space.import_published("sfda-cnn", all_models=True)[0][0].added == 0


@pytest.mark.wide
def test_a_models_own_data_set_is_left_out(space: ModelSpace, add: Add) -> None:
    add("own", "hf-hub:Ahmed9275/Vit-Cifar100")
    space.import_published()
    names = {row.task for row in space.outcomes(model="own")}
    assert "published.transfergraph-records.cifar100" not in names
    assert "published.transfergraph-records.dtd" in names


def test_each_figure_comes_from_one_table(space: ModelSpace) -> None:
    every = {row.table for row in space.import_published(dry_run=True)[0]}
    tables = published.tables()
    assert set(tables) - every == {"ncti-cnn", "emms-cnn", "sfda-selfsup", "parc-controlled"}
    for name, whole in (("ncti-cnn", "sfda-cnn"), ("parc-controlled", "parc")):
        assert [row.table for row in space.import_published([name, whole], dry_run=True)[0]] == [whole]


@pytest.mark.wide
def test_what_is_in_the_way_is_refused(space: ModelSpace, add: Add) -> None:
    add("mine", "torchvision:resnet50/IMAGENET1K_V1")
    with pytest.raises(NotFoundError, match="no published table 'sfda'"):
        space.import_published("sfda")
    space.add_task("published.sfda-cnn.pets", metric="loss")
    with pytest.raises(ConflictError, match=r"task 'published\.sfda-cnn\.pets' is another one"):
        space.import_published()
    assert not space.outcomes(), "all or nothing"
    space.rename_task("published.sfda-cnn.pets", "pets")
    space.add_task("published.sfda-cnn.pets")
    space.observe("published.sfda-cnn.pets", "mine", 0.5)
    assert space.import_published()[0][0].added == 11, "an outcome of the user's is not a published one"
    assert len(space.outcomes("published.sfda-cnn.pets")) == 2


@pytest.mark.wide
def test_two_registries_with_the_same_figures_merge_without_doubles(
    space: ModelSpace, add: Add, tmp_path: Path
) -> None:
    add("mine", "torchvision:resnet50/IMAGENET1K_V1")
    space.import_published()
    other = tmp_path / "other.duckdb"
    other.write_bytes(space.path.read_bytes())
    space.remove_task("published.sfda-cnn.dtd")
    space.import_published()
    assert len(space.outcomes()) == 11
    tasks.merge_tasks(space.path, other, {})
    assert len(space.outcomes()) == 11


@pytest.mark.wide
def test_the_names_of_tasks_are_legal_and_differ(space: ModelSpace) -> None:
    space.import_published(["transfergraph-vtab1k", "stm32"], all_models=True)
    names = [row.name for row in space.tasks()]
    assert len(set(names)) == len(names) == 19 + 6
    assert "published.transfergraph-vtab1k.clevr-clevr_count" in names


def test_addresses_are_those_that_models_are_added_by() -> None:
    for table in published.tables().values():
        for row in published.measurements(table)[:20]:
            places = addresses(table, row.source)
            assert bool(places) == bool(table.checkpoints)
            assert all(place.partition(":")[0] in ("torchvision", "timm", "hf-hub") for place in places)


# ---- the command


@pytest.mark.wide
def test_the_command_says_what_it_did(space: ModelSpace, add: Add) -> None:
    none = run(space, "--import", "published")
    assert none.exit_code == 0
    assert "looked for, such as torchvision:resnet34/IMAGENET1K_V1" in none.stderr
    assert "stored 0 outcomes; models of the registry in these tables: 0" in none.stderr
    add("mine", "torchvision:resnet50/IMAGENET1K_V1")
    dry = run(space, "--import", "published", "--dry-run")
    assert "would add" in dry.stdout
    assert "would store 11 outcomes (sfda-cnn); models of the registry in these tables: 1" in dry.stderr
    done = run(space, "--import", "sfda-cnn", "--import", "stm32")
    assert "stored 11 outcomes (sfda-cnn); models of the registry in these tables: 1" in done.stderr
    assert done.stdout.splitlines()[1].split()[:5] == ["sfda-cnn", "11", "1", "11", "0"]
    rows = json.loads(run(space, "--import", "sfda-cnn", "--format", "json").stdout)
    assert (rows[0]["known"], rows[0]["matched"]) == (11, {"resnet50": "mine"})


@pytest.mark.parametrize("words", [("--import", "published", "flowers"), ("--all-models",), ("--dry-run",)])
def test_options_that_make_no_sense(space: ModelSpace, words: tuple[str, ...]) -> None:
    done = run(space, *words)
    assert done.exit_code == 2
    assert "--import" in done.stderr
