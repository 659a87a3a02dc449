"""`modelspace evaluate`: spaces, matrices and stored similarities, evaluated on the same pairs, printed and written."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shelf import GI, SALIENCY, fill, make, units
from typer.testing import CliRunner

from modelspace import evaluation
from modelspace.cli.app import app
from modelspace.errors import ConflictError, DamagedError, NotFoundError, UsageError
from modelspace.evaluation import Cost, Evaluation, oracles, stored
from modelspace.evaluation.stored import StoredBaselines
from modelspace.home import REGISTRY
from modelspace.spaces import neighbours
from modelspace.types import SpaceSpec
from modelspace.verbs.evaluate import evaluate, read_matrices
from modelspace.workspace import ModelSpace

ROOT = Path(__file__).resolve().parents[2]
NAMES = [f"m{i}" for i in range(8)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight synthetic models in two spaces with the same affinities; no test writes to it."""
    folder = tmp_path_factory.mktemp("home")
    make(folder / REGISTRY, GI, SALIENCY)
    fill(folder / REGISTRY, NAMES, units(8), GI, SALIENCY)
    return folder


@pytest.fixture
def affinity() -> np.ndarray:
    vectors = units(8)
    return vectors @ vectors.T


@pytest.fixture
def truth(tmp_path: Path, affinity: np.ndarray) -> Path:
    """Measured losses of 6 targets from 7 sources and a stranger, two seeds; self-pairs are measured too."""
    rng = np.random.default_rng(1)
    lines = ["target,source,seed,loss"]
    for i, target in enumerate(NAMES[:6]):
        for j, source in enumerate([*NAMES[:7], "stranger"]):
            near = affinity[i, j] if source != "stranger" else 0.0
            lines += [f"{target},{source},{seed},{1 - near + 0.3 * rng.normal():.5f}" for seed in range(2)]
    path = tmp_path / "measured.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def baselines(names: list[str], **changes: Any) -> StoredBaselines:
    rng = np.random.default_rng(2)
    half = rng.random((len(names),) * 2)
    matrix = (half + half.T) / 2
    np.fill_diagonal(matrix, 1.0)
    known = StoredBaselines(
        names=tuple(names),
        weights=tuple(f"sha of {name}" for name in names),
        layers=("fc:in",) * len(names),
        n_images=5,
        probe_id="probes",
        features="flattened",
        matrices={"SVCCA": matrix, "DDS": matrix**2},
        timed=tuple(names),
        costs={"SVCCA": Cost(2.5, 35, 0), "DDS": Cost(2.0, 35, 0)},
        space_costs={GI.space_id: Cost(4.5, 35, 35)},
    )
    return replace(known, **changes)


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)], env={"MODELSPACE_HOME": None})


def methods(outcome: Evaluation) -> list[str]:
    return [row.method for row in outcome.rows]


# ---- what is judged


def test_the_default_space_is_judged_as_its_affinities_are(home: Path, truth: Path, affinity: np.ndarray) -> None:
    outcome = ModelSpace.open(home).evaluate(oracle=truth)
    assert isinstance(outcome, Evaluation)
    assert methods(outcome) == ["gi", "random", "popularity", "popularity by mean rank"]
    alone = evaluation.evaluate({"x": (NAMES, affinity)}, evaluation.load(truth))
    for figure in ("spearman", "precision", "relative_regret"):
        ours, theirs = outcome.row("gi").summary[figure], alone.row("x").summary[figure]
        assert np.allclose(ours.mean, theirs.mean)
        assert np.allclose(ours.low, theirs.low)
    assert outcome.targets == tuple(NAMES[:6])
    assert outcome.sources == tuple(NAMES[:7])
    assert outcome.left_out == ("m7",)
    assert "oracle measured also has stranger, which the registry or a matrix lacks" in outcome.notes


def test_several_spaces_in_one_table(home: Path, truth: Path) -> None:
    space = ModelSpace.open(home)
    assert methods(space.evaluate(oracle=truth, space="all"))[:2] == ["gi", "saliency"]
    assert methods(space.evaluate(oracle=truth, space=["saliency", "gi", "saliency"]))[:3] == [
        "saliency",
        "gi",
        "random",
    ]
    assert methods(space.evaluate(oracle=truth, space="saliency"))[:2] == ["saliency", "random"]
    with pytest.raises(NotFoundError, match="nonsense"):
        space.evaluate(oracle=truth, space=["gi", "nonsense"])


def test_a_condition_chooses_the_models(home: Path, truth: Path) -> None:
    space = ModelSpace.open(home)
    outcome = space.evaluate(oracle=truth, where="name <> 'm2'")
    assert outcome.targets == ("m0", "m1", "m3", "m4", "m5")
    assert any("also has m2, stranger" in note for note in outcome.notes)
    with pytest.raises(UsageError, match="two or more sources"):
        space.evaluate(oracle=truth, where="name = 'm2'")
    with pytest.raises(UsageError):
        space.evaluate(oracle=truth, where="name === 'm2'")


def test_an_oracle_of_other_models_is_refused(home: Path) -> None:
    with pytest.raises(UsageError, match="only 0 targets of oracle taskonomy"):
        ModelSpace.open(home).evaluate(oracle="taskonomy")


def test_self_pairs_count_only_when_asked_for(home: Path, truth: Path) -> None:
    space = ModelSpace.open(home)
    without, counted = space.evaluate(oracle=truth), space.evaluate(oracle=truth, with_self=True)
    assert len(counted.ks) == len(without.ks) + 1
    assert counted.row("gi").summary["spearman"].mean != without.row("gi").summary["spearman"].mean
    assert "pairs of a model with itself are included" in run("--oracle", truth, "--home", home, "--with-self").stdout
    assert "itself" not in run("--oracle", truth, "--home", home).stdout


def test_the_difference_to_popularity_is_told(home: Path, truth: Path) -> None:
    outcome = ModelSpace.open(home).evaluate(oracle=truth)
    gap = outcome.difference("gi", "popularity", "precision", 5)
    assert any(note.startswith(f"gi minus popularity in P@5 {float(gap.mean):+.2f} [") for note in outcome.notes)


def test_an_oracle_that_was_not_measured_says_how(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracles, "_data", lambda file: tmp_path / "nowhere" / file)
    done = run("--home", home)
    assert done.exit_code == 1
    assert "error: oracle rooms has no data in this installation" in done.stderr
    assert "measure_transfer.py" in done.stderr


def test_without_a_registry_the_hint_says_how_to_make_one(tmp_path: Path, truth: Path) -> None:
    done = run("--oracle", truth, "--home", tmp_path)
    assert done.exit_code == 1
    assert "modelspace init" in done.stderr


# ---- matrices of the caller's own


def write_square(path: Path, names: list[str], matrix: np.ndarray) -> Path:
    rows = [["", *names], *([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))]
    path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return path


@pytest.fixture
def published(tmp_path: Path) -> tuple[list[str], np.ndarray]:
    names = list(evaluation.load("taskonomy").sources)
    return names, np.random.default_rng(0).random((len(names),) * 2)


def test_the_acceptance_figures_on_the_published_order(
    tmp_path: Path, published: tuple[list[str], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no registry here or above
    file = write_square(tmp_path / "mine.csv", *published)
    done = run("--oracle", "taskonomy", "--matrix", file)
    assert done.exit_code == 0, done.stderr
    cells = {line.split("  ")[0]: line.split() for line in done.stdout.splitlines()}
    assert [cell for cell in cells["random"] if ".." not in cell][1:4] == ["0.263"] * 3
    popularity = [cell for cell in cells["popularity"] if ".." not in cell][1:4]
    assert popularity == ["0.389", "0.556", "0.511"]
    assert [f"{float(cell):.2f}" for cell in popularity] == ["0.39", "0.56", "0.51"]
    assert "mine" in cells
    assert "SVCCA" not in done.stdout


def test_an_array_with_its_names_is_the_same_as_a_table(
    tmp_path: Path, published: tuple[list[str], np.ndarray]
) -> None:
    names, matrix = published
    np.save(tmp_path / "array.npy", matrix)
    (tmp_path / "list.txt").write_text("\n".join(names))
    table = write_square(tmp_path / "table.csv", names, matrix)
    one = run("--oracle", "taskonomy", "--matrix", tmp_path / "array.npy", "--names", tmp_path / "list.txt", *JSON)
    two = run("--oracle", "taskonomy", "--matrix", table, *JSON)
    assert one.exit_code == two.exit_code == 0, one.stderr
    assert json.loads(one.stdout)["methods"][0]["summary"] == json.loads(two.stdout)["methods"][0]["summary"]


JSON = ("--format", "json")


def test_a_matrix_beside_a_space(home: Path, truth: Path, tmp_path: Path, affinity: np.ndarray) -> None:
    file = write_square(tmp_path / "copy.csv", NAMES[:6], affinity[:6, :6])
    done = run("--oracle", truth, "--matrix", file, "--space", "gi", "--home", home, *JSON)
    value = json.loads(done.stdout)
    assert [row["method"] for row in value["methods"]][:3] == ["gi", "copy", "random"]
    assert value["sources"] == NAMES[:6]
    assert value["methods"][0]["summary"]["precision"] == value["methods"][1]["summary"]["precision"]


def test_two_methods_of_one_name_are_refused(home: Path, truth: Path, tmp_path: Path, affinity: np.ndarray) -> None:
    file = write_square(tmp_path / "gi.csv", NAMES, affinity)
    with pytest.raises(ConflictError, match="two methods are called gi"):
        ModelSpace.open(home).evaluate(oracle=truth, space="gi", matrices=read_matrices([file]))
    with pytest.raises(ConflictError, match="two methods are called gi"):
        read_matrices([file, file])
    with pytest.raises(ConflictError, match="random"):
        evaluate(None, oracle=truth, matrices={"random": (NAMES, affinity)})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--names", "list.txt"], "--names needs a matrix, and none is given"),
        (["--matrix", "a.npy", "--matrix", "b.npy", "--names", "list.txt"], "there are 2"),
        (["--out", "table.xlsx"], "can't tell how to write table.xlsx"),
        (["--matrix", "MATRIX", "--where", "parameters > 0"], "--space"),
    ],
)
def test_words_that_do_not_fit(
    words: list[str], told: str, tmp_path: Path, published: tuple[list[str], np.ndarray]
) -> None:
    file = write_square(tmp_path / "mine.csv", *published)
    done = run("--oracle", "taskonomy", *(str(file) if word == "MATRIX" else word for word in words))
    assert done.exit_code == 2
    assert told in done.stderr


def test_a_missing_matrix_is_named(tmp_path: Path) -> None:
    done = run("--oracle", "taskonomy", "--matrix", tmp_path / "none.csv")
    assert done.exit_code == 1
    assert "none.csv" in done.stderr


# ---- stored similarities and costs


def test_stored_similarities_are_judged_where_they_hold(home: Path, truth: Path) -> None:
    kept = baselines(NAMES[:7])
    outcome = evaluate(home / REGISTRY, oracle=truth, space="all", baselines=kept)
    assert methods(outcome)[:4] == ["gi", "saliency", "SVCCA", "DDS"]
    alone = evaluation.evaluate({"x": (NAMES[:7], kept.matrices["DDS"])}, evaluation.load(truth))
    assert outcome.row("DDS").summary["spearman"].mean == alone.row("x").summary["spearman"].mean
    assert outcome.row("DDS").cost == Cost(2.0, 35, 0)
    # gi was timed in the run of the similarities; saliency has what `add` recorded: 7 models of 5 images.
    assert outcome.row("gi").cost == Cost(4.5, 35, 35)
    assert outcome.row("saliency").cost == Cost(0.0, 35, 35)
    assert any(note.startswith("seconds of saliency: recorded") for note in outcome.notes)
    assert outcome.left_out == ("m7",)


def test_the_cost_of_all_models_is_not_that_of_some(home: Path, truth: Path) -> None:
    outcome = evaluate(home / REGISTRY, oracle=truth, where="name <> 'm2'", baselines=baselines(NAMES[:7]))
    assert outcome.row("SVCCA").cost is None
    assert outcome.row("gi").cost == Cost(0.0, 30, 30)


@pytest.mark.parametrize(
    ("kept", "named"),
    [
        (baselines(NAMES[:7], weights=("sha of m0", "another", *(f"sha of {name}" for name in NAMES[2:7]))), "m1"),
        (baselines(NAMES[:7], layers=(*("fc:in",) * 6, "output")), "m6"),
        (baselines(NAMES[:5]), "m5, m6"),
    ],
    ids=["other weights", "other layer", "not there"],
)
def test_stale_similarities_are_left_out(home: Path, truth: Path, kept: StoredBaselines, named: str) -> None:
    outcome = evaluate(home / REGISTRY, oracle=truth, baselines=kept)
    assert methods(outcome) == ["gi", "random", "popularity", "popularity by mean rank"]
    assert any(
        note.endswith(f"the package has none for the name, weights and layer of {named}") for note in outcome.notes
    )
    # Nobody's pairs are lost with them.
    assert outcome.sources == tuple(NAMES[:7])


def test_similarities_of_other_images_are_marked(home: Path, truth: Path) -> None:
    same = evaluate(home / REGISTRY, oracle=truth, baselines=baselines(NAMES[:7]))
    other = evaluate(home / REGISTRY, oracle=truth, baselines=baselines(NAMES[:7], n_images=9))
    assert not any("not those of every space" in note for note in same.notes)
    assert any("9 probe images, not those of every space" in note for note in other.notes)


def test_missing_similarities_say_how_to_make_them(
    home: Path, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "FILE", tmp_path / "none.json")
    outcome = ModelSpace.open(home).evaluate(oracle=truth)
    assert any("scripts/compute_baselines.py" in note for note in outcome.notes)


def test_passes_of_methods_with_their_own_are_not_guessed(tmp_path: Path, truth: Path) -> None:
    spec = SpaceSpec("ig", "probes", "integrated_gradients", 5, 8)
    make(tmp_path / REGISTRY, spec)
    fill(tmp_path / REGISTRY, NAMES, units(8), spec)
    cost = ModelSpace.open(tmp_path).evaluate(oracle=truth).row("ig").cost
    assert cost is not None
    assert (cost.forward_passes, cost.backward_passes) == (0, 0)


def test_what_is_dumped_is_loaded(tmp_path: Path) -> None:
    kept = baselines(NAMES)
    path = tmp_path / "kept.json"
    path.write_text(stored.dump(kept))
    back = stored.load(path)
    for method, matrix in kept.matrices.items():
        assert np.abs(back.matrices[method] - matrix).max() <= 5e-7
    assert replace(back, matrices={}) == replace(kept, matrices={})
    names, subset = back.subset(("m3", "m1", "m5"))["SVCCA"]
    assert names == ("m3", "m1", "m5")
    assert subset[0].tolist() == back.matrices["SVCCA"][3, [3, 1, 5]].tolist()


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("names"),
        lambda value: value["names"].pop(),
        lambda value: value["similarities"]["DDS"].pop(),
        lambda value: value["similarities"]["DDS"][3].pop(),
        lambda value: value["similarities"]["DDS"][3].__setitem__(0, None),
        lambda value: value["costs"].update(DDS={"hours": 3}),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: Any) -> None:
    value = json.loads(stored.dump(baselines(NAMES)))
    change(value)
    path = tmp_path / "kept.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DamagedError, match=r"kept\.json"):
        stored.load(path)


def test_the_shipped_similarities_are_of_the_shipped_networks() -> None:
    from modelspace import zoo
    from modelspace.sources import weights_sha256

    kept = stored.load()
    assert set(kept.timed) == {name for group in evaluation.names.SPELLINGS for name in group[:1]}
    assert set(kept.names) == set(zoo.names())
    assert list(kept.matrices) == ["SVCCA", "linear CKA", "RSA", "DDS"]
    for name in kept.names[::7]:
        assert kept.weights[kept.names.index(name)] == weights_sha256(zoo.load(name)), (
            "run scripts/compute_baselines.py"
        )
    assert stored.FILE.stat().st_size <= 100 * 1024
    for matrix in kept.matrices.values():
        assert np.abs(matrix).max() == 1.0
        assert np.unique(matrix).size > 150
    assert len(kept.space_costs) == 6  # three methods, dds, local, and the blend that re-ranks
    assert all(cost.seconds > 0 for cost in kept.space_costs.values())
    passes = kept.n_images * len(kept.timed)
    assert {cost.forward_passes for cost in kept.costs.values()} == {passes}
    assert sorted(cost.backward_passes for cost in kept.space_costs.values())[:2] == [0, 0]


@pytest.mark.wide
def test_the_script_takes_the_encoder_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against plain forward passes of the networks, and affinities against those of a registry."""
    import torch

    from modelspace import zoo
    from modelspace.lab import similarity
    from modelspace.probes.preprocess import to_input

    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("compute_baselines", ROOT / "scripts" / "compute_baselines.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    names = ["edge2d", "resnet50_objects"]
    threads = torch.get_num_threads()
    try:
        made = script.compute(names, names[:1], 5, 12, 1)
        _, specs, images = script.shipped(5, 12)
    finally:
        torch.set_num_threads(threads)
        sys.modules.pop("build_registry", None)
    tables = []
    for name in names:
        card = zoo.card(name)
        x = to_input(images, card.preprocessing, torch.device("cpu"))
        kept: list[torch.Tensor] = []
        module = zoo.load(name)
        if card.layer.endswith(":in"):
            part = module.get_submodule(card.layer.removesuffix(":in"))
            part.register_forward_pre_hook(lambda _, given, kept=kept: kept.append(given[0]))
        with torch.no_grad():
            output = module(x)
        tables.append((kept[0] if kept else output).flatten(1).numpy())
    for method, timed in similarity.compare(tables).items():
        assert np.allclose(made.matrices[method], timed.matrix, atol=1e-5), method
    assert set(made.space_costs) == {spec.space_id for spec in specs}
    assert made.layers == tuple(zoo.card(name).layer for name in names)


# ---- printing and writing


def test_formats_say_the_same(home: Path, truth: Path) -> None:
    words = ("--oracle", truth, "--home", home)
    value = json.loads(run(*words, *JSON).stdout)
    rows = list(csv.DictReader(io.StringIO(run(*words, "--format", "csv").stdout)))
    mean = {(row["method"], row["figure"], row["k"]): float(row["mean"]) for row in rows}
    for entry in value["methods"]:
        assert mean[entry["method"], "spearman", ""] == entry["summary"]["spearman"]["mean"]
        assert mean[entry["method"], "precision", "3"] == entry["summary"]["precision"]["mean"][2]
    assert mean["gi", "forward_passes", ""] == 35
    assert value["notes"]
    text = run(*words).stdout
    assert f"{value['methods'][0]['summary']['spearman']['mean']:.3f}" in text
    for note in value["notes"]:
        assert note in text


@pytest.mark.parametrize("suffix", [".json", ".csv", ".md", ".MD"])
def test_the_table_is_written(home: Path, truth: Path, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"table{suffix}"
    done = run("--oracle", truth, "--home", home, "--out", file)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("oracle measured: 6 targets, 7 sources")
    text = file.read_text("utf-8")
    if suffix == ".json":
        assert json.loads(text)["oracle"] == "measured"
    elif suffix == ".csv":
        assert text.startswith("method,figure,k,mean,low,high\n")
    else:
        assert text.startswith("| method | P@1 | P@3 | P@5 |")
        assert "Gi minus popularity" not in text
        assert "gi minus popularity" in text


def test_a_file_that_cannot_be_written_is_an_error(home: Path, truth: Path, tmp_path: Path) -> None:
    done = run("--oracle", truth, "--home", home, "--out", tmp_path / "none" / "table.md")
    assert done.exit_code == 1
    assert "none" in done.stderr


def test_notes_of_data_formats_go_to_standard_error(home: Path, truth: Path) -> None:
    words = ("--oracle", truth, "--home", home, *JSON)
    assert "note: " in run(*words).stderr
    assert run(*words, "-q").stderr == ""


# ---- published accuracies


def test_published_accuracies_need_no_registry(tmp_path: Path) -> None:
    done = run("--oracle", "sfda-cnn", "--home", tmp_path / "nowhere", "--format", "json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert [row["method"] for row in report["methods"]] == ["random", "static", "static by score"]
    assert report["methods"][1]["summary"]["weighted_kendall"]["mean"] == pytest.approx(0.837, abs=0.001)
    assert report["reported"]["SFDA"] == 0.71
    table = run("--oracle", "sfda-cnn").stdout
    for text in ("tau_w", "0.837", "github.com/TencentARC/SFDA", "accuracy points", "SFDA 0.710", "regret@3"):
        assert text in table


def test_a_registry_in_reach_changes_nothing_and_its_spaces_are_refused(home: Path) -> None:
    assert run("--oracle", "emms-vit", "--home", home).stdout == run("--oracle", "emms-vit").stdout
    for words in (("--space", "all"), ("--where", "name <> 'm1'"), ("--hubs", "csls")):
        done = run("--oracle", "emms-vit", "--home", home, *words)
        assert done.exit_code == 2
        assert "the targets of oracle emms-vit are data sets" in done.stderr
        assert "--space" in done.stderr


def test_a_matrix_of_models_on_data_sets_is_evaluated_beside_static(tmp_path: Path) -> None:
    oracle = evaluation.load("sfda-selfsup")
    rows = [
        f"{target},{source},{oracle.score[i, j]}"
        for i, target in enumerate(oracle.targets)
        for j, source in enumerate(oracle.sources[:6])
    ]
    scores = tmp_path / "scores.csv"
    scores.write_text("\n".join(["target,source,score", *rows]) + "\n")
    report = evaluate(None, oracle="sfda-selfsup", matrices=read_matrices([scores]))
    assert methods(report) == ["scores", "random", "static", "static by score"]
    assert report.row("scores").summary["weighted_kendall"].mean == pytest.approx(1.0)
    assert len(report.sources) == 6
    assert any(note.startswith("scores minus static in P@5") and "static in tau_w" in note for note in report.notes)
    assert any(note.startswith("not evaluated: ") and "and others" in note for note in report.notes)
    figures = {(row[0], row[1]) for row in report.to_rows()}
    assert ("static", "weighted_kendall") in figures


# ---- which models are the measured ones


def test_models_are_matched_by_weights_where_the_oracle_knows_them(home: Path, truth: Path) -> None:
    """m1 has the name of a measured model and other weights; m2 has the weights of the model measured as m1."""
    oracle = evaluation.load(truth)
    plain = evaluate(home / REGISTRY, oracle=oracle, where="name <> 'm7'")
    assert "8" not in plain.sources
    assert any("7 models are matched with oracle measured by name alone" in note for note in plain.notes)
    weights = {name: f"sha of {name}" for name in oracle.sources}
    same = evaluate(home / REGISTRY, oracle=replace(oracle, weights=weights))
    assert not any("by name alone" in note or "by their weights" in note for note in same.notes)
    assert same.row("gi").per_target["spearman"].tolist() == plain.row("gi").per_target["spearman"].tolist()

    moved = evaluate(home / REGISTRY, oracle=replace(oracle, weights={**weights, "m1": "sha of m2", "m2": "gone"}))
    assert "m2" not in moved.sources
    assert any(note.startswith("not evaluated: m1; a model of that name was measured") for note in moved.notes)
    assert any("by their weights, m2 is m1 of oracle measured" in note for note in moved.notes)
    scores = ModelSpace.open(home).affinity("gi")
    table = {"x": ([{"m2": "m1", "m1": "-"}.get(name, name) for name in scores.names], scores.matrix)}
    expected = evaluation.evaluate(table, oracle, models=moved.sources)
    np.testing.assert_allclose(
        moved.row("gi").per_target["spearman"], expected.row("x").per_target["spearman"], atol=1e-12
    )


def test_nets_that_are_only_called_like_the_zoo_are_not_scored(tmp_path: Path) -> None:
    make(tmp_path / REGISTRY, GI)
    fill(tmp_path / REGISTRY, ["autoencoder", "denoise", "edge2d", "reshade"], units(4), GI)
    with pytest.raises(UsageError, match="not evaluated: autoencoder, denoise, edge2d, reshade; a model of that name"):
        ModelSpace.open(tmp_path).evaluate()


def test_a_matrix_is_matched_by_name(tmp_path: Path, published: tuple[list[str], np.ndarray]) -> None:
    file = write_square(tmp_path / "mine.csv", *published)
    outcome = evaluate(None, oracle="rooms", matrices=read_matrices([file]))
    assert "mine: models are matched with the oracle's by name alone" in outcome.notes


def test_of_very_many_models_those_that_were_measured_are_scored(
    home: Path, truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = evaluate(home / REGISTRY, oracle=truth)
    monkeypatch.setattr("modelspace.verbs.evaluate.MAX_SCORED", 7)
    scored: list[int] = []
    whole = neighbours.score_matrix

    def counted(registry: Any, spec: Any, chosen: Any, ranking: Any) -> Any:
        scored.append(len(chosen))
        return whole(registry, spec, chosen, ranking)

    monkeypatch.setattr("modelspace.verbs.evaluate.score_matrix", counted)
    measured = evaluate(home / REGISTRY, oracle=truth)
    assert scored == [7], "m7 was not measured"
    assert measured.to_dict()["methods"] == everything.to_dict()["methods"]
    with pytest.raises(UsageError, match="two"):
        evaluate(home / REGISTRY, oracle="taskonomy")
    assert scored[1:] == [0]
