"""Each command makes one call on the library and prints the result."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest
from cli_support import Layer, Line, card, fake_line, model, neighbour, space_row, survey

from modelspace.cli.app import COMMANDS
from modelspace.errors import EmbeddingError, NotFoundError
from modelspace.results import Added, Check, IndexInfo, ModelInfo, Neighbours, Outcome, Records, SpaceInfo
from modelspace.sources import PreprocessingFlags


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    summary = {"precision": {"mean": [0.5]}, "recall": {"mean": [0.1]}}
    (tmp_path / "evaluation.json").write_text(json.dumps({"methods": [{"method": "ours", "summary": summary}]}))
    return fake_line(monkeypatch, tmp_path)


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    return fake_line(monkeypatch, tmp_path, registry=False)


def only_call(line: Line) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    assert len(line.calls) == 1, line.calls
    return line.calls[0]


# ---- init, spaces, probes


def test_init_passes_only_what_was_given(empty: Line) -> None:
    result = empty("init")
    assert result.exit_code == 0, result.output
    assert only_call(empty) == ("init", (), {"default": False})
    assert "gradient_x_input" in result.stdout
    assert "next: modelspace add URI" in result.stderr


def test_init_takes_every_option(empty: Line) -> None:
    words = "--probes photos --method saliency --method epsilon_lrp --images 30 --canvas 32 --bits 4 --space s --seed 7"
    result = empty("init", *words.split(), "--per-subfolder", "2", "--default", "--home", "there")
    assert result.exit_code == 0, result.output
    verb, _, options = only_call(empty)
    assert verb == "init"
    assert options == {
        "probes": "photos",
        "methods": ["saliency", "epsilon_lrp"],
        "images": 30,
        "canvas": 32,
        "bits": 4,
        "name": "s",
        "seed": 7,
        "per_subfolder": 2,
        "default": True,
        "on_cost": ANY,
    }
    assert "registry: there" in result.stderr


def test_init_asks_before_many_images(empty: Line) -> None:
    def costly(*, on_cost: Any, **_: Any) -> Records[SpaceInfo]:
        on_cost("900,000 probe images take about 2.0 days to render")
        return Records([space_row()], SpaceInfo)

    empty.answer("init", costly)
    refused = empty("init", "--images", "900000")
    assert refused.exit_code == 2
    assert "2.0 days to render; create it? there is no terminal to ask on" in refused.stderr
    assert empty("init", "--images", "900000", "--yes").exit_code == 0


def test_spaces_can_set_the_default_first(line: Line) -> None:
    result = line("spaces", "--set-default", "saliency")
    assert [call[:2] for call in line.calls] == [("set_default", ("saliency",)), ("spaces", ())]
    assert "saliency" in result.stdout
    assert "queries now use the space saliency" in result.stderr


def test_spaces_are_removed_after_a_question_and_renamed(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = line("spaces", "rename", "saliency", "dots")
    assert only_call(line) == ("rename_space", ("saliency", "dots"), {})
    assert renamed.stderr == "the space saliency is now called dots\n"
    unasked = line("spaces", "remove", "saliency")
    assert unasked.exit_code == 2
    assert "(saliency: 3 models)" in unasked.stderr
    assert "--yes does it without asking" in unasked.stderr
    assert line("spaces", "remove", "saliency", "dds", "--yes").stderr == "removed saliency, dds\n"
    assert line.calls[-1] == ("remove_space", (["saliency", "dds"],), {})
    monkeypatch.setattr("modelspace.cli.confirm.is_terminal", lambda _: True)
    refused = line("spaces", "remove", "saliency", input="n\n")
    assert (refused.exit_code, "aborted" in refused.stderr) == (1, True)
    assert line("spaces", "remove", "saliency", input="y\n").exit_code == 0
    assert [call[0] for call in line.calls].count("remove_space") == 2


def test_an_empty_space_is_removed_without_a_question(line: Line) -> None:
    line.answer("spaces", Records([space_row("saliency", n_models=0)], SpaceInfo))
    assert line("spaces", "remove", "saliency").exit_code == 0
    assert line.calls[-1] == ("remove_space", (["saliency"],), {})


def test_remove_takes_several_names_or_a_condition(line: Line) -> None:
    assert line("remove", "depth", "edges").exit_code == 2  # no terminal to ask on
    assert "remove 2 models (depth, edges)?" in line("remove", "depth", "edges", "depth").stderr
    assert not [call for call in line.calls if call[0] == "remove_all"]
    assert line("remove", "depth", "edges", "-y").stderr == "removed depth, edges\n"
    assert line.calls[-1] == ("remove_all", (["depth", "edges"],), {})
    assert line("remove", "--where", "true", "--yes").exit_code == 0
    assert line.calls[-2:] == [("list", ("true",), {}), ("remove_all", (["depth", "normals", "edges"],), {})]
    line.answer("list", Records([], ModelInfo))
    assert line("remove", "--where", "false").stderr == "no model matches the condition\n"
    for words in ([], ["depth", "--where", "true"]):
        assert "or choose them with --where" in line("remove", *words).stderr


def test_tag_takes_several_names_or_a_condition(line: Line) -> None:
    assert line("tag", "depth", "edges", "a=b", "--unset", "c").stderr == "changed depth, edges\n"
    options = {"where": None, "task": None, "data": None}
    assert only_call(line) == ("tag_all", ({"a": "b", "c": None}, ["depth", "edges"]), options)
    assert line("tag", "--where", "true", "a=b").stderr == "changed depth, edges\n"
    assert line.calls[-1] == ("tag_all", ({"a": "b"}, []), {**options, "where": "true"})
    for words in (["a=b"], ["depth", "a=b", "--where", "true"]):
        assert "or choose them with --where" in line("tag", *words).stderr


def test_probes_create_list_show(line: Line) -> None:
    created = line("probes", "create", "photos", "folder", "--images", "30", "--size", "128", "--format", "json")
    assert line.calls[-1] == ("create_probes", ("photos", "folder"), {"images": 30, "size": 128})
    assert json.loads(created.stdout)["name"] == "photos"
    listed = line("probes", "list")
    assert "rooms" in listed.stdout
    assert "any" in listed.stdout  # a rendered set has any number of images
    assert json.loads(line("probes", "show", "rooms", "--format", "json").stdout)["spec"]["seed"] == 0
    missing = line("probes", "show", "room")
    assert missing.exit_code == 1
    assert "did you mean rooms?" in missing.stderr


# ---- add


def test_add_passes_every_option(line: Line) -> None:
    words = """
        add python:nets.py:make --name n --weights w.safetensors --layer fc:in --input-size 32x48 --mean 0.1,0.2,0.3
        --std 1 --channels bgr --value-range -1 1 --task t --data d --tag a=b --tag c=d=e --device cpu --batch-size 4
        --replace
    """
    result = line(*words.split())
    assert result.exit_code == 0, result.output
    verb, args, options = only_call(line)
    assert (verb, args) == ("add", ("python:nets.py:make",))
    flags = options.pop("preprocessing")
    assert flags == PreprocessingFlags((32, 48), (0.1, 0.2, 0.3), (1.0,), "bgr", (-1.0, 1.0))
    assert options == {
        "name": "n",
        "weights": "w.safetensors",
        "layer": "fc:in",
        "task": "t",
        "data": "d",
        "tags": {"a": "b", "c": "d=e"},
        "device": "cpu",
        "batch_size": 4,
        "replace": True,
        "progress": None,
        "on_note": ANY,
    }


def test_add_says_why_a_stored_model_needs_all_images(empty: Line) -> None:
    result = empty("add", "zoo:depth", "--images", "50")
    assert result.exit_code == 2
    assert "models are compared image by image" in result.stderr
    assert "modelspace init --home small --images 50" in result.stderr
    assert not empty.calls


def test_add_says_what_is_explained_where_and_what_comes_next(line: Line) -> None:
    result = line("add", "zoo:depth")
    for word in ("added depth", "fc:in (input of the last linear map)", "8x16x16", "gradient_x_input", "3.2 s"):
        assert word in result.stdout
    assert result.stderr == "next: modelspace nearest depth\n"


def test_add_creates_a_missing_registry_and_says_so(empty: Line) -> None:
    result = empty("add", "zoo:depth")
    assert [call[0] for call in empty.fake.calls] == ["create", "add"]
    assert "created a registry in" in result.stderr
    assert "created a registry" not in result.stdout


def test_add_uses_the_existing_registry(line: Line) -> None:
    result = line("add", "zoo:depth")
    assert [call[0] for call in line.fake.calls] == ["open", "add"]
    assert "created a registry" not in result.output


def test_fill_passes_its_options_on_and_counts(line: Line) -> None:
    words = "fill dds --model a --model b --weights a=x=1.pt --dry-run --device cpu --batch-size 2"
    result = line(*words.split())
    expected = {
        "models": ("a", "b"),
        "weights": {"a": "x=1.pt"},
        "dry_run": True,
        "device": "cpu",
        "batch_size": 2,
        "progress": None,
        "on_outcome": None,
    }
    assert only_call(line) == ("fill", ("dds",), expected)
    assert "1 model: 1 completed" in result.stderr
    failed = Outcome(1, "c", "failed", "module", message="was a module", hint="see `space.list()`")
    line.answer("fill", Records([failed], Outcome))
    result = line("fill")
    assert result.exit_code == 1
    assert "was a module | see 'modelspace list'" in " ".join(result.stdout.split())
    wrong = line("fill", "--weights", "a.pt")
    assert (wrong.exit_code, "the weights 'a.pt' is not of the form NAME=FILE" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("uri", ["depth", "nowhere:depth", "zoo:"])
def test_add_creates_no_registry_for_a_bad_address(empty: Line, uri: str) -> None:
    result = empty("add", uri)
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("error: ")
    assert empty.fake.calls == []


def test_adding_again_says_that_nothing_changed(line: Line) -> None:
    line.answer("add", Added("depth", "unchanged", (), card("depth"), ()))
    result = line("add", "zoo:depth")
    assert result.exit_code == 0
    assert "depth is already registered; nothing was changed" in result.stdout
    assert "modelspace tag" not in result.stderr
    tagged = line("add", "zoo:depth", "--tag", "licence=gpl")
    assert "task, data and tags were not changed; 'modelspace tag depth ...' sets them" in tagged.stderr


def test_add_json_is_one_object(line: Line) -> None:
    result = line("add", "zoo:depth", "--format", "json", "-q")
    added = json.loads(result.stdout)
    assert (added["status"], added["spaces"], added["card"]["layer"]) == ("added", ["gradient_x_input"], "fc:in")
    assert result.stderr == ""


def test_quiet_silences_what_add_says(line: Line) -> None:
    result = line("add", "zoo:depth", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_add_of_a_manifest_is_one_call_too(line: Line, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text('[[model]]\nname = "depth"\nuri = "zoo:depth"\n', "utf-8")
    words = "add --manifest models.toml --workers 2 --ray local --device cpu --batch-size 4 --replace --format json"
    result = line(*words.split())
    assert result.exit_code == 0, result.output
    verb, (entries,), options = only_call(line)
    assert verb == "add_all"
    assert [entry.name for entry in entries] == ["depth"]
    assert callable(options.pop("on_outcome"))
    assert options == {
        "progress": None,
        "dry_run": False,
        "workers": 2,
        "ray": "local",
        "device": "cpu",
        "batch_size": 4,
        "replace": True,
    }
    assert [row["status"] for row in json.loads(result.stdout)] == ["added", "needs"]
    assert "2 models: 1 added, 1 skipped" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to add"),
        (["zoo:depth", "--manifest", "zoo"], "URI is for one model"),
        (["--manifest", "zoo", "--name", "x"], "--name is for one model"),
        (["--manifest", "zoo", "--input-size", "3"], "--input-size is for one model"),
        (["--manifest", "zoo", "--tag", "a=b"], "--tag is for one model"),
        (["zoo:depth", "--dry-run"], "are for many models"),
        (["zoo:depth", "--workers", "2"], "are for many models"),
        (["--manifest", "zo"], "there is no manifest zo"),
    ],
)
def test_add_takes_one_or_many_but_not_both(empty: Line, words: list[str], message: str) -> None:
    result = empty("add", *words)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert empty.fake.calls == []


def test_export_passes_every_option(line: Line) -> None:
    words = "export out --what affinity --what vectors --format npy --wide -k 3 --dtype float32 --method ward --space s"
    result = line(*words.split(), "--where", "task = 'x'", "--force")
    assert result.exit_code == 0, result.output
    verb, args, options = only_call(line)
    assert (verb, args) == ("export", ("out", ["affinity", "vectors"]))
    assert options == {
        "format": "npy",
        "space": "s",
        "where": "task = 'x'",
        "force": True,
        "wide": True,
        "method": "ward",
        "k": 3,
        "dtype": "float32",
    }
    assert "models.csv" in result.stdout


def test_merge_passes_every_option(line: Line) -> None:
    words = "merge other --spaces a --spaces b --on-conflict rename --suffix -x --where true --dry-run"
    result = line(*words.split())
    assert result.exit_code == 0, result.output
    verb, args, options = only_call(line)
    assert (verb, args) == ("merge", ("other",))
    assert options == {
        "spaces": ["a", "b"],
        "on_conflict": "rename",
        "suffix": "-x",
        "where": "true",
        "dry_run": True,
        "progress": None,
    }
    line("merge", "other", "--spaces", "all")
    assert line.calls[-1][2]["spaces"] == "all"
    line("merge", "other")
    assert line.calls[-1][2]["spaces"] == "shared"


# ---- nearest


def test_nearest_passes_every_option(line: Line) -> None:
    result = line(
        "nearest", "zoo:depth", "-k", "3", "--where", "task = 'x'", "--space", "s", "--layer", "l", "--mean", "0"
    )
    assert result.exit_code == 0, result.output
    verb, args, options = only_call(line)
    assert (verb, args) == ("nearest", ("zoo:depth", 3))
    assert options == {
        "where": "task = 'x'",
        "space": "s",
        "progress": None,
        "on_note": ANY,
        "layer": "l",
        "preprocessing": PreprocessingFlags(mean=(0.0,)),
    }


def test_nearest_of_a_name_asks_for_five_and_nothing_else(line: Line) -> None:
    line("nearest", "depth")
    expected = {"where": None, "space": None, "progress": None, "on_note": ANY}
    assert only_call(line) == ("nearest", ("depth", 5), expected)


def test_nearest_refuses_loading_options_for_a_name(line: Line) -> None:
    result = line("nearest", "depth", "--layer", "fc")
    assert result.exit_code == 2
    assert "names take no layer" in result.stderr
    assert line.calls == []


def test_nearest_json(line: Line) -> None:
    rows = json.loads(line("nearest", "depth", "--format", "json").stdout)
    assert [row["name"] for row in rows] == ["normals", "edges", "floor"]
    assert {"rank", "name", "affinity", "low", "high", "distance", "task"} <= set(rows[0])
    assert rows[0]["affinity"] == 0.41234567890123
    assert rows[0]["tied_with_next"] is True
    assert list(rows[0])[:3] == ["rank", "name", "affinity"]


def test_nearest_csv(line: Line) -> None:
    rows = list(csv.DictReader(io.StringIO(line("nearest", "depth", "--format", "csv").stdout)))
    assert [row["name"] for row in rows] == ["normals", "edges", "floor"]
    assert float(rows[0]["affinity"]) == 0.41234567890123


def test_ties_are_marked_between_the_rows_and_explained(line: Line) -> None:
    lines = line("nearest", "depth").stdout.splitlines()
    marked = [text for text in lines[2:5] if "≈" in text]
    assert len(marked) == 1
    assert "edges" in marked[0]
    assert lines[5].startswith("≈ tied with the line above")


def test_no_tie_no_footnote(line: Line) -> None:
    line.answer("nearest", Neighbours([neighbour(1, "a", 0.5), neighbour(2, "b", 0.4)], "depth", "s"))
    assert "≈" not in line("nearest", "depth").output


def test_the_last_shown_may_be_tied_with_one_that_is_not(line: Line) -> None:
    line.answer("nearest", Neighbours([neighbour(1, "a", 0.5, tied=True)], "depth", "s"))
    output = line("nearest", "depth", "-k", "1").stdout
    assert "-k 2 shows it" in output
    assert "≈" not in output


def test_nearest_without_a_neighbour(line: Line) -> None:
    line.answer("nearest", Neighbours([], "depth", "s"))
    table = line("nearest", "depth", "--where", "task = 'none'")
    assert (table.exit_code, table.stdout) == (0, "")
    assert "no other model in space s matches the condition" in table.stderr
    assert json.loads(line("nearest", "depth", "--format", "json").stdout) == []


def test_notes_go_to_standard_error(line: Line) -> None:
    line.answer("nearest", Neighbours([neighbour(1, "a", 0.5)], "zoo:depth", "s", ["explains fc:in (stated by zoo)"]))
    result = line("nearest", "zoo:depth", "--format", "json")
    json.loads(result.stdout)
    assert result.stderr == "note: explains fc:in (stated by zoo)\n"
    assert line("nearest", "zoo:depth", "--format", "json", "-q").stderr == ""


# ---- task, observe, outcomes


def test_task_add_list_show_remove_rename(line: Line) -> None:
    added = line("task", "add", "flowers", "data", "--metric", "top5", "--direction", "lower", "--seed", "3")
    verb, args, options = only_call(line)
    assert (verb, args) == ("add_task", ("flowers", "data"))
    options.pop("progress")
    assert options == {"metric": "top5", "higher_is_better": False, "seed": 3}
    assert "note: the smallest class has 3 images" in added.stderr
    assert "accuracy (higher is better)" in added.stdout
    assert json.loads(line("task", "show", "flowers", "--format", "json").stdout)["classes"] == ["a", "b"]
    listed = line("task", "list").stdout.splitlines()
    assert listed[0].split() == ["name", "kind", "metric", "better", "images", "classes", "outcomes", "data"]
    assert listed[1].split() == ["flowers", "classification", "accuracy", "higher", "120", "2", "4", "data"]
    assert line("task", "remove", "flowers").stderr == "removed the task flowers and 4 outcomes\n"
    assert line("task", "rename", "flowers", "roses").stderr == "the task flowers is now called roses\n"
    wrong = line("task", "add", "flowers", "--direction", "up")
    assert (wrong.exit_code, "use --direction higher or --direction lower" in wrong.stderr) == (2, True)


def test_observe_one(line: Line) -> None:
    result = line("observe", "flowers", "depth", "0.875", "--how", "finetune", "--n-train", "80", "--seed", "2")
    assert only_call(line) == (
        "observe",
        ("flowers", "depth", 0.875),
        {"how": "finetune", "n_train": 80, "seed": 2},
    )
    assert "flowers, depth: accuracy 0.875" in result.stderr
    failed = line("observe", "flowers", "depth", "--failed", "out of memory")
    assert line.calls[-1] == ("observe", ("flowers", "depth", None), {"failed": "out of memory"})
    assert failed.exit_code == 0


def test_observe_a_file(line: Line) -> None:
    result = line("observe", "flowers", "--from", "results.csv")
    assert only_call(line) == ("observe_file", (Path("results.csv"), "flowers"), {})
    assert "stored 2 outcomes" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["observe", "flowers"], "a task and a model are needed"),
        (["observe", "flowers", "depth"], "either a score or --failed is needed"),
        (["observe", "flowers", "depth", "0.5", "--failed", "x"], "either a score or --failed is needed"),
        (["observe", "flowers", "depth", "0.5", "--from", "x.csv"], "--from has the models and their scores"),
        (["observe", "flowers", "--from", "x.csv", "--seed", "1"], "--from has the models and their scores"),
    ],
)
def test_observations_that_make_no_sense(line: Line, words: list[str], message: str) -> None:
    result = line(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not line.calls


def test_outcomes_are_listed(line: Line) -> None:
    lines = line("outcomes", "flowers", "--model", "depth").stdout.splitlines()
    assert only_call(line) == ("outcomes", ("flowers",), {"model": "depth"})
    assert lines[0].split() == ["task", "model", "score", "metric", "how", "measured", "note"]
    assert lines[1].split()[:3] == ["flowers", "depth", "0.9000"]
    assert lines[2].split()[:3] == ["flowers", "normals", "failed"]
    assert "out of memory" in lines[2]


def test_published_outcomes_are_imported(line: Line) -> None:
    result = line("outcomes", "--import", "published", "--all-models")
    assert only_call(line) == ("import_published", (["published"],), {"all_models": True, "dry_run": False})
    assert result.stdout.splitlines()[1].split()[:5] == ["sfda-cnn", "11", "1", "11", "0"]
    assert "note: resnet34 could be a or b" in result.stderr
    assert "stored 11 outcomes (sfda-cnn)" in result.stderr


# ---- nearest --task, suggest, try


def test_prospects_for_a_task(line: Line) -> None:
    result = line("nearest", "--task", "flowers", "-k", "7", "--where", "parameters < 9")
    assert line.calls[0] == ("prospects", ("flowers", 7), {"where": "parameters < 9", "space": None})
    lines = result.stdout.splitlines()
    assert lines[0] == "models for task flowers, the most promising first"
    assert lines[1].split()[:5] == ["rank", "name", "accuracy", "80%", "interval"]
    assert lines[2].split()[:4] == ["1", "depth", "0.875", "0.775..0.975"]
    assert lines[3].split()[:2] == ["2", "edges"]
    assert lines[-1] == "ranked by outcomes"


def test_prospects_without_scores_have_no_columns_for_them(line: Line) -> None:
    lines = line("suggest", "flowers", "-n", "2").stdout.splitlines()
    assert only_call(line) == ("suggest", ("flowers", 2), {"where": None, "space": None})
    assert "accuracy" not in lines[1]
    assert lines[-1] == "no outcome of any task is registered"


@pytest.mark.parametrize("words", [["depth", "--task", "flowers"], ["--task", "flowers", "--hubs", "csls"]])
def test_a_task_takes_no_options_of_models(line: Line, words: list[str]) -> None:
    result = line("nearest", *words)
    assert result.exit_code == 2
    assert "modelspace nearest --task flowers" in result.stderr
    assert not line.calls


def test_trials(line: Line) -> None:
    words = ["--budget", "8", "--rounds", "30,90", "--how", "logistic", "--images", "0", "--device", "cpu"]
    result = line("try", "flowers", *words)
    verb, arguments, options = only_call(line)
    assert (verb, arguments) == ("try_task", ("flowers",))
    given = {key: value for key, value in options.items() if not key.startswith("on_")}
    assert given == {"budget": 8, "rounds": (30, 90), "how": "logistic", "images": 0, "device": "cpu"}
    lines = result.stdout.splitlines()
    assert lines[0] == "task flowers: 4 models, 1,200 images forwarded"
    assert lines[2].split()[:4] == ["1", "depth", "0.975", "0.950..0.990"]
    assert lines[3].split()[1] == "≈"
    assert "start from depth; normals can't be told apart" in lines[-1]
    assert "next: modelspace show depth" in result.stderr


def test_trials_as_data(line: Line) -> None:
    rows = json.loads(line("try", "flowers", "--format", "json").stdout)
    assert [row["stage"] for row in rows] == ["finalist", "finalist", "dropped", "failed"]
    assert rows[2]["score"] is None


def test_scores_from_labels(line: Line) -> None:
    result = line("scores", "flowers", "depth", "edges", "--score", "ridge", "--score", "leep", "--images", "60")
    options = {"names": ["ridge", "leep"], "images": 60, "progress": None}
    assert only_call(line) == ("label_scores", ("flowers", ["depth", "edges"]), options)
    lines = [words.split() for words in result.stdout.splitlines()]
    assert lines[1:5] == [["model", "ridge", "leep"], ["edges", "0.500", "-1.250"], ["depth", "0.250"], ["floor"]]
    assert lines[5] == ["milliseconds", "for", "each", "model:", "ridge", "5,", "leep", "1"]
    assert result.stderr == "floor: out of memory\n"


def test_rounds_are_numbers(line: Line) -> None:
    result = line("try", "flowers", "--rounds", "many")
    assert result.exit_code == 2
    assert "--rounds many are not numbers of images" in result.stderr


# ---- list, show, remove, rename, tag


def test_list(line: Line) -> None:
    result = line("list", "--where", "parameters < 5")
    assert only_call(line) == ("list", ("parameters < 5",), {})
    for word in ("depth", "zoo:normals", "1.23M", "fc:in", "64x64", "no room for added_at, weights_sha256"):
        assert word in result.stdout


def test_list_sorts_limits_and_chooses_columns(line: Line) -> None:
    rows = [("b", 2, None, "x"), ("a", 3, "t", "z"), ("c", 1, "s", None)]
    tagged = [
        model(name, parameters=n, task=task, tags={"group": group} if group else {}) for name, n, task, group in rows
    ]
    line.answer("list", Records(tagged, ModelInfo))

    def names(*words: str) -> list[str]:
        return [row["name"] for row in json.loads(line("list", *words, "--format", "json").stdout)]

    assert names("--sort", "parameters") == ["c", "b", "a"]
    assert names("--sort", "parameters", "--reverse", "--limit", "2") == ["a", "b"]
    assert names("--sort", "task") == ["c", "a", "b"]  # what is unknown comes last
    assert names("--sort", "group", "--reverse") == ["a", "b", "c"]
    assert names("--reverse") == ["c", "a", "b"]
    chosen = line("list", "--columns", "name, weights_sha256,group", "--limit", "1", "--format", "csv").stdout
    assert chosen == f"name,weights_sha256,group\nb,{'0123456789abcdef' * 4},x\n"
    head, first, *_ = line("list", "--columns", "name,weights_sha256,output_shape,group").stdout.splitlines()
    assert head.split() == ["name", "weights_sha256", "output_shape", "group"]
    assert first.split() == ["b", "0123456789abcdef" * 4, "8,16,16", "x"]
    for words, message in (
        (["--sort", "paramters"], "did you mean parameters"),
        (["--columns", "name,tsk"], "did you mean task"),
        (["--limit", "0"], "--limit must be at least 1"),
    ):
        refused = line("list", *words)
        assert (refused.exit_code, message in refused.stderr) == (2, True), refused.stderr


def test_list_json_has_every_field(line: Line) -> None:
    row = json.loads(line("list", "--format", "json").stdout)[0]
    assert row["uri"] == "zoo:depth"
    assert row["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert row["parameters"] == 1_234_567
    assert row["weights_sha256"] == "0123456789abcdef" * 4
    assert (row["layer"], row["seconds"]) == ("fc:in", 3.25)


def test_list_of_nothing(line: Line) -> None:
    line.answer("list", Records([], ModelInfo))
    result = line("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no model is registered yet" in result.stderr
    assert line("list", "--format", "csv").stdout.startswith("name,task,")


def test_verbose_prints_the_time_of_each_phase(line: Line) -> None:
    from modelspace.timing import phase

    def slow(*_: Any, **__: Any) -> Added:
        with phase("load"), phase("checks"):
            return Added("depth", "added", ("saliency",), card("depth"), ())

    line.answer("add", slow)
    said = line("add", "zoo:depth", "--verbose").stderr.splitlines()
    assert said[0].startswith("time: load 0.0")
    assert "checks 0.0" in said[0]
    assert said[0].endswith("in all")
    assert "time:" not in line("add", "zoo:depth").stderr
    assert line("add", "zoo:depth", "-v", "-q").stderr == ""
    assert line("nearest", "depth", "-v").stderr.startswith("time: other")
    assert line("rebuild", "-v").stderr.startswith("time: other")
    line.answer("add", EmbeddingError("no gradient"))
    assert "time: other" in line("add", "zoo:depth", "-v").stderr


def test_compare_prints_both_directions_and_the_cluster(line: Line, tmp_path: Path) -> None:
    head, names, *rows = line("compare", "depth", "edges").stdout.splitlines()
    assert only_call(line) == ("compare", ("depth", "edges"), {"space": None})
    assert head == "A: depth, B: edges"
    assert "A for B" in names
    assert rows[0].split() == ["saliency", "0.5000", "0.4000..0.6000", "1.000", "3", "of", "4"]
    assert rows[1].split() == ["transfer", "0.7000", "0.6000..0.8000", "0.3000", "0.2000", "0.900", "2", "of", "4"]
    assert rows[3] == "in the tree of transfer, the height 0.900 merges depth with edges"
    drawn = line("compare", "depth", "edges", "--out", "two.png", "--image", "3", "--space", "transfer")
    assert line.calls[-1] == ("gallery", (["depth", "edges"],), {"images": [3], "space": "transfer"})
    assert "wrote two.png" in drawn.stderr


def test_show_has_the_nearest_five(line: Line) -> None:
    output = line("show", "depth").stdout
    assert ("nearest", ("depth",), {"k": 5}) in line.calls
    assert "normals 0.4123, edges 0.4000, floor 0.1000 (space gradient_x_input)" in " ".join(output.split())
    shown = json.loads(line("show", "depth", "--format", "json").stdout)
    assert [row["name"] for row in shown["neighbours"]] == ["normals", "edges", "floor"]
    line.answer("nearest", NotFoundError("model 'depth' is not in space 'dds'"))
    missing = line("show", "depth")
    assert (missing.exit_code, "nearest" in missing.stdout) == (0, False)
    assert "note: no neighbours: model 'depth' is not in space 'dds'" in missing.stderr


def test_show_is_a_card(line: Line) -> None:
    output = line("show", "depth").stdout
    for word in ("1,234,567", "sha256 0123456789abcdef", "licence=mit", "values 0..1", "std 0.229,0.224,0.225"):
        assert word in output
    assert "flowers accuracy 0.9, flowers failed" in output


def test_show_json_is_one_object(line: Line) -> None:
    assert json.loads(line("show", "depth", "--format", "json").stdout)["tags"] == {"licence": "mit"}


def test_remove_prints_what_was_removed(line: Line) -> None:
    result = line("remove", "depth")
    assert [call[:2] for call in line.calls] == [("show", ("depth",)), ("remove", ("depth",))]
    assert result.stderr == "removed depth (zoo:depth)\n"
    assert result.stdout == ""


def test_remove_of_nothing_calls_nothing_more(line: Line) -> None:
    result = line("remove", "dept")
    assert result.exit_code == 1
    assert "did you mean depth?" in result.stderr
    assert [call[0] for call in line.calls] == ["show"]


def test_rename(line: Line) -> None:
    assert line("rename", "depth", "deep").stderr == "depth is now called deep\n"
    assert only_call(line) == ("rename", ("depth", "deep"), {})


def test_tag(line: Line) -> None:
    result = line("tag", "depth", "a=b", "c=", "--unset", "old", "--task", "t", "--data", "d")
    assert result.exit_code == 0, result.output
    assert only_call(line) == ("tag", ("depth", {"a": "b", "c": "", "old": None}), {"task": "t", "data": "d"})
    assert "tags licence=mit" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "of the form KEY=VALUE"),
        (["a=b", "a=c"], "given twice"),
        (["a=b", "--unset", "a"], "both set and unset"),
        ([], "nothing to set"),
    ],
)
def test_tag_refuses(line: Line, words: list[str], message: str) -> None:
    result = line("tag", "depth", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert line.calls == []


# ---- layers, sql, verify, rebuild


def test_layers_marks_the_explained_layer(empty: Line) -> None:
    result = empty("layers", "zoo:depth", "--input-size", "32")
    verb, args, options = only_call(empty)
    assert (verb, args) == ("survey", ("zoo:depth",))
    assert options == {"preprocessing": PreprocessingFlags(input_size=(32, 32)), "device": "auto"}
    marked = [text for text in result.stdout.splitlines() if "input of" in text]
    assert len(marked) == 2
    assert "Linear" in marked[0]
    assert "explained: fc:in (input of the last linear map)" in result.stderr


def test_layers_prints_the_candidates_below_the_table(line: Line) -> None:
    rows = line("layers", "zoo:depth").stdout.split("\n\n")[1].splitlines()
    assert [row.split() for row in rows] == [
        ["candidate", "why"],
        ["fc:in", "input", "of", "the", "last", "linear", "map"],
        ["output", "the", "model's", "output"],
    ]
    line.answer("survey", survey(candidates=survey().candidates[:1]))
    assert "candidate" not in line("layers", "zoo:depth").stdout


def test_layers_lists_what_ran_where_add_refuses(line: Line) -> None:
    rows = [
        Layer("conv", "Conv2d", (8, 32, 32), 216),
        Layer("rnn", "LSTM", (2, 16), 90, refusal="its first axis is 16", input_refusal="it is given no tensor"),
        Layer("fc", "Linear", (2, 10), 90, refusal="its first axis is 16", input_refusal="its first axis is 16"),
    ]
    error = NotFoundError("no layer 'x' for `layer=`", "did you mean fc? `space.layers(model)` lists them")
    line.answer("survey", survey(rows=rows, tap=None, refusal=error, candidates=(), complete=False))
    result = line("layers", "zoo:depth")
    assert result.exit_code == 0
    table = result.stdout.splitlines()
    assert "explained" not in result.stdout.replace("can't be explained", "")[len(table[0]) :]
    assert table[0].split()[-3:] == ["can't", "be", "explained"]
    assert table[1].endswith("1")
    assert table[2].endswith("  output: its first axis is 16; input: it is given no tensor")
    assert table[3].endswith("1  its first axis is 16")
    assert result.stderr == ("note: 'modelspace add' refuses it: no layer 'x' for --layer\nnote: did you mean fc?\n")
    assert line("layers", "zoo:depth", "--quiet").stderr == ""
    rows = json.loads(line("layers", "zoo:depth", "--format", "json").stdout)
    assert [row["refusal"] for row in rows] == ["", "its first axis is 16", "its first axis is 16"]


def test_layers_fails_where_nothing_ran(line: Line) -> None:
    line.answer("survey", survey(rows=[], tap=None, refusal=EmbeddingError("it fails", "wrap it"), complete=False))
    result = line("layers", "zoo:depth")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: it fails\nhint: wrap it\n")


@pytest.mark.parametrize(
    ("layer", "explained"),
    [("conv", "output"), ("fc:in", "input"), ("output:boxes.0", "part boxes.0"), ("fc:1", "part 1")],
)
def test_layers_says_what_of_a_module_is_explained(line: Line, layer: str, explained: str) -> None:
    line.answer("survey", survey(tap=SimpleNamespace(layer=layer, found_by="")))
    rows = json.loads(line("layers", "zoo:depth", "--format", "json").stdout)
    marks = {row["name"]: row["explained"] for row in rows if row["explained"]}
    assert marks == {layer.partition(":")[0]: explained}


def test_layers_json_and_csv(line: Line) -> None:
    rows = json.loads(line("layers", "zoo:depth", "--format", "json").stdout)
    assert [(row["name"], row["explained"]) for row in rows] == [("conv", None), ("fc", "input"), ("output", None)]
    assert [row["candidates"] for row in rows] == [
        [],
        [{"layer": "fc:in", "reason": "input of the last linear map"}],
        [{"layer": "output", "reason": "the model's output"}],
    ]
    table = list(csv.DictReader(io.StringIO(line("layers", "zoo:depth", "--format", "csv").stdout)))
    assert json.loads(table[0]["shape"]) == [8, 32, 32]


def test_sql_from_an_argument_a_file_and_standard_input(line: Line, tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("SELECT 2", "utf-8")
    for words, piped, query in (
        (["SELECT 1"], None, "SELECT 1"),
        (["--file", "q.sql"], None, "SELECT 2"),
        (["-f", "q.sql"], None, "SELECT 2"),
        (["-"], "SELECT 3", "SELECT 3"),
        ([], "SELECT 4", "SELECT 4"),
        (["-f", "-"], "SELECT 5", "SELECT 5"),
    ):
        result = line("sql", *words, input=piped)
        assert result.exit_code == 0, result.output
        assert line.calls[-1] == ("sql", (query,), {})
    assert "depth" in result.stdout
    assert result.stderr == "2 rows\n"


def test_sql_limits(line: Line) -> None:
    whole = line("sql", "SELECT 1", "--timeout", "5", "--max-rows", "2")
    assert only_call(line) == ("sql", ("SELECT 1",), {"timeout_s": 5, "max_rows": 3})
    assert "more rows" not in whole.stderr
    cut = line("sql", "SELECT 1", "--max-rows", "1", "--format", "csv")
    assert cut.stdout == "name,n\ndepth,1\n"
    assert "there are more rows" in cut.stderr


def test_sql_refuses_two_queries_and_a_missing_file(line: Line) -> None:
    assert line("sql", "SELECT 1", "-f", "q.sql").exit_code == 2
    missing = line("sql", "-f", "nowhere.sql")
    assert (missing.exit_code, missing.stderr) == (1, "error: nowhere.sql: No such file or directory\n")


def test_sql_json(line: Line) -> None:
    assert json.loads(line("sql", "x", "--format", "json").stdout) == [
        {"name": "depth", "n": 1},
        {"name": "normals", "n": 2},
    ]


def test_verify_that_passes(line: Line) -> None:
    result = line("verify", "--deep")
    assert result.exit_code == 0
    assert only_call(line) == ("verify", (), {"deep": True, "progress": None, "on_check": ANY})
    assert "ok" in result.stdout
    assert "all checks passed" in result.stderr


@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_verify_that_failed_exits_with_1_and_says_how_to_fix_it(line: Line, format: str) -> None:
    line.answer("verify", Records([Check("a", True, "fine"), Check("maps", False, "0.5 off", "run it")], Check))
    result = line("verify", "--format", format, "--quiet")
    assert result.exit_code == 1
    assert {"table": "FAILED", "json": '"ok": false', "csv": "maps,false,0.5 off,run it"}[format] in result.stdout
    assert "to fix: maps: run it" in result.stderr


def test_rebuild(line: Line) -> None:
    line.answer("rebuild", Records([space_row(), space_row("b")], SpaceInfo))
    result = line("rebuild", "--coordinates")
    assert only_call(line) == ("rebuild", (), {"coordinates": True, "compact": False, "progress": None})
    assert result.stderr == "rebuilt the vectors and index files of 2 spaces\n"


# ---- what all commands share

#: The required arguments of each command.
REQUIRED = {
    "init": [],
    "add": ["zoo:depth"],
    "fill": [],
    "nearest": ["depth"],
    "compare": ["depth", "edges"],
    "evaluate": [],
    "map": [],
    "tree": [],
    "heatmap": [],
    "gallery": ["depth"],
    "curves": ["evaluation.json"],
    "atlas": [],
    "open": ["--no-browser"],
    "report": [],
    "serve": [],
    "list": [],
    "show": ["depth"],
    "remove": ["depth"],
    "rename": ["depth", "deep"],
    "tag": ["depth", "a=b"],
    "task": ["list"],
    "suggest": ["flowers"],
    "try": ["flowers"],
    "scores": ["flowers"],
    "observe": ["flowers", "depth", "0.9"],
    "outcomes": [],
    "spaces": [],
    "probes": ["list"],
    "layers": ["zoo:depth"],
    "scan": ["weights"],
    "sql": ["SELECT 1"],
    "export": ["models.csv"],
    "merge": ["other"],
    "verify": [],
    "doctor": [],
    "rebuild": [],
    "index": ["status"],
    "backup": [],
    "restore": [],
}
NEEDS_NO_REGISTRY = {"init", "add", "layers", "scan", "curves", "restore", "doctor"}
PRINTS_NO_DATA = {"remove", "rename", "tag", "observe", "restore", "serve"}
#: The data of a tree is not a table (test_pictures.py), and the format of an export is that of its files.
PRINTS_NO_TABLE = PRINTS_NO_DATA | {"tree", "export"}


def test_every_command_is_tried() -> None:
    assert set(REQUIRED) == set(COMMANDS)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in NEEDS_NO_REGISTRY])
def test_home_comes_from_the_option_the_variable_and_the_parents(line: Line, tmp_path: Path, command: str) -> None:
    words = [command, *REQUIRED[command]]
    assert line(*words, "--home", str(tmp_path)).exit_code == 0
    missing = line(*words, "--home", str(tmp_path / "nowhere"))
    assert missing.exit_code == 1
    assert "modelspace init" in missing.stderr
    assert line(*words, env={"MODELSPACE_HOME": str(tmp_path / "nowhere")}).exit_code == 1


@pytest.mark.first(18)
@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in PRINTS_NO_TABLE])
def test_json_is_json_and_csv_has_a_header(line: Line, command: str) -> None:
    words = [command, *REQUIRED[command]]
    json.loads(line(*words, "--format", "json").stdout)
    rows = list(csv.reader(io.StringIO(line(*words, "--format", "csv").stdout)))
    assert len(rows) > 1
    assert all(len(row) == len(rows[0]) for row in rows)


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_says_nothing_on_standard_error(line: Line, command: str) -> None:
    result = line(command, *REQUIRED[command], "-q")
    assert (result.exit_code, result.stderr) == (0, "")


def test_text_that_looks_like_markup_is_printed_verbatim(line: Line) -> None:
    marked_up = model("depth", task="[red]x[/red]", data=":smile:", uri="python:[bold]a.py:f", tags={"[b]": "[/b]"})
    line.answer("list", Records([marked_up], ModelInfo))
    line.answer("show", marked_up)
    for output in (line("list").stdout, line("show", "depth").stdout):
        assert "[red]x[/red]" in output
        assert ":smile:" in output
        assert "python:[bold]a.py:f" in output
    assert "[b]=[/b]" in line("show", "depth").stdout


def test_control_characters_never_reach_the_terminal(line: Line) -> None:
    line.answer("show", model("depth", task="a\x1b[2Jb", data="c\nd", tags={"x": "\u202eevil"}))
    output = line("show", "depth").stdout
    assert "\x1b" not in output
    assert "a\\x1b[2Jb" in output
    assert "c\\nd" in output
    assert "\\u202eevil" in output


# ---- serve


def test_serve_passes_its_options_and_says_where(line: Line) -> None:
    result = line("serve", "--port", "0", "--workers", "2", "--token-file", "token", "--host", "0.0.0.0")
    assert result.exit_code == 0, result.output
    options = {"host": "0.0.0.0", "port": 0, "token_file": Path("token"), "workers": 2, "on_ready": ANY}
    assert only_call(line) == ("serve", (), options)
    assert result.stdout == ""
    assert result.stderr == "serving http://127.0.0.1:8265 (Ctrl-C stops)\n"


def test_serve_warns_where_anybody_may_ask(line: Line) -> None:
    assert "everyone who reaches 0.0.0.0 can ask" in line("serve", "--host", "0.0.0.0").stderr
    assert "can ask" not in line("serve", "--host", "::1").stderr
    assert line("serve", "--host", "0.0.0.0", "-q").stderr == ""
    refused = line("serve", "--port", "99999")
    assert (refused.exit_code, "the port must be in 0..65535" in refused.stderr) == (2, True)


# ---- index


def test_index_push_status_and_drop(line: Line) -> None:
    pushed = line("index", "push", "--index", "milvus:a.db", "--whole", "--space", "dds")
    assert only_call(line) == (
        "push_index", ("milvus:a.db",), {"space": "dds", "whole": True, "progress": ANY}
    )  # fmt: skip
    assert pushed.stderr == "wrote 3 vectors\n"
    assert "dds" in pushed.stdout
    assert line("index", "status", "--deep").exit_code == 0
    assert line.calls[-1] == ("index_status", (None,), {"space": None, "deep": True})
    line.answer("index_status", Records([IndexInfo("dds", "damaged", "a row", 3, 3, 0, 1, 1.0)], IndexInfo))
    damaged = line("index", "status")
    assert (damaged.exit_code, damaged.stderr) == (1, "dds: a row\nto fix: modelspace index push\n")
    assert line("index", "drop").exit_code == 2
    assert line("index", "drop", "--yes").stderr == "dropped dds\n"
    assert line.calls[-1] == ("drop_index", (None,), {"space": None})


def test_nearest_and_export_take_an_index(line: Line) -> None:
    assert line("nearest", "depth", "--index", "milvus:a.db").exit_code == 0
    assert line.calls[-1][2]["index"] == "milvus:a.db"
    assert line("export", "neighbours.csv", "--what", "neighbours", "--index", "local").exit_code == 0
    assert line.calls[-1][2]["index"] == "local"
