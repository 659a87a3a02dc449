"""Models embedded in spaces that were made after them, each loaded again from what the registry knows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import PREPROCESSING, net, space
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.errors import NotFoundError, UsageError
from modelspace.registry import Registry
from modelspace.results import Outcome
from modelspace.verbs.add_many import Interrupted
from modelspace.workspace import ModelSpace

SOURCE = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1), nn.SiLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
"""
METHODS = ("saliency", "dds")


def add_models(registry: ModelSpace, folder: Path) -> None:
    """Two models of a Python file with weights of their own, one with a layer by hand, and a module in memory."""
    make = f"python:{folder / 'nets.py'}:make"
    registry.add(make, name="a", weights=folder / "a.pt", preprocessing=PREPROCESSING)
    registry.add(make, name="b", weights=folder / "b.pt", preprocessing=PREPROCESSING, layer="2", float32=True)
    registry.add(net(1), name="c", preprocessing=PREPROCESSING)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry whose models lack `dds` and a blend of it, and `full`, whose models were added to both spaces."""
    folder = tmp_path_factory.mktemp("fill")
    (folder / "nets.py").write_text(SOURCE)
    namespace: dict[str, Callable[[], torch.nn.Module]] = {}
    exec(SOURCE, namespace)
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        torch.save(namespace["make"]().state_dict(), folder / f"{name}.pt")
    add_models(space(folder / "full", methods=METHODS, images=8, bits=8), folder)
    registry = space(folder / "home", methods=METHODS[:1], images=8, bits=8)
    add_models(registry, folder)
    registry.init(methods=METHODS[1:], images=8, bits=8)
    registry.blend("both", {"saliency": 1, "dds": 1})
    return folder


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    """A copy of the unfilled registry; the models' files stay where they are."""
    shutil.copytree(original / "home", tmp_path / "home")
    return tmp_path / "home"


def by_name(outcomes: list[Outcome] | object) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in outcomes}  # type: ignore[attr-defined]


@pytest.mark.wide
def test_what_can_be_loaded_is_filled_as_if_it_had_been_added_to_all_spaces(original: Path, home: Path) -> None:
    registry, full = ModelSpace.open(home), ModelSpace.open(original / "full")
    seen: list[tuple[int, int, str]] = []
    done = by_name(registry.fill("dds", progress=lambda n, total, name, *_: seen.append((n, total, name))))
    assert {name: outcome.status for name, outcome in done.items()} == {
        "a": "completed",
        "b": "completed",
        "c": "failed",
    }
    assert done["a"].spaces == ("dds", "both")  # the blend follows
    assert done["c"].message == "'c' was added as a module in memory, so it can't be loaded again"
    assert "space.fill(modules={'c': module})" in done["c"].hint
    assert {name for *_, name in seen} == {"a", "b"}
    done = by_name(registry.fill(modules={"c": net(1)}))
    assert {name: outcome.spaces for name, outcome in done.items()} == {"c": ("dds", "both")}
    assert list(registry.fill()) == []
    for name in METHODS:
        assert np.array_equal(registry.affinity(name).matrix, full.affinity(name).matrix)
    assert registry.affinity("both").names == ("a", "b", "c")
    assert all(check.ok for check in registry.verify(deep=True))
    assert {row.name: (row.layer, row.layer_found_by) for row in registry.list()} == {
        row.name: (row.layer, row.layer_found_by) for row in full.list()
    }


@pytest.mark.wide
def test_a_blend_is_filled_through_its_members_or_without_a_pass(home: Path) -> None:
    registry = ModelSpace.open(home)
    assert by_name(registry.fill("both", models=["b"]))["b"].spaces == ("dds", "both")
    with Registry.open(registry.path, write=True) as stored, stored.transaction():
        stored.rows("DELETE FROM embeddings WHERE space_id = ?", [stored.space("both").spec.space_id])
    done = by_name(registry.fill("both", models=["b"]))
    assert (done["b"].status, done["b"].spaces, done["b"].seconds) == ("completed", ("both",), 0.0)


def test_other_weights_and_other_code_are_refused_by_name(original: Path, home: Path, tmp_path: Path) -> None:
    registry = ModelSpace.open(home)
    done = by_name(registry.fill(models=["a"], weights={"a": original / "b.pt"}))["a"]
    assert done.status == "failed"
    assert "differ from those that 'a' was registered with" in done.message
    assert "weights=" in done.hint
    assert "'input_size': (16, 16)" in done.hint
    source = original / "nets.py"
    text = source.read_text()
    try:
        source.write_text(text.replace("nn.SiLU()", "nn.GELU()"))
        changed = by_name(registry.fill(models=["a"]))["a"]
    finally:
        source.write_text(text)
    assert (changed.status, changed.message) == ("failed", "the code of 'a' changed since it was registered")
    assert "a" not in registry.affinity("dds").names


def test_weights_that_were_moved_can_be_named(original: Path, home: Path, tmp_path: Path) -> None:
    registry = ModelSpace.open(home)
    moved = tmp_path / "moved.pt"
    shutil.move(original / "a.pt", moved)
    try:
        for dry_run in (True, False):
            failed = by_name(registry.fill("dds", models=["a"], dry_run=dry_run))["a"]
            assert failed.status == "failed"
            assert failed.hint.endswith("`weights={'a': file}` says where its weights are now")
        words = ["fill", "dds", "--model", "a", "--home", str(home)]
        refused = CliRunner().invoke(app, words)
        assert refused.exit_code == 1
        assert "--weights a=FILE says where its weights are now" in " ".join(refused.stdout.split())
        done = CliRunner().invoke(app, [*words, "--weights", f"a={moved}"])
        assert (done.exit_code, "1 model: 1 completed" in done.stderr) == (0, True), done.output
    finally:
        shutil.move(moved, original / "a.pt")


def test_a_dry_run_changes_nothing(home: Path) -> None:
    registry = ModelSpace.open(home)
    before = registry.path.read_bytes()
    done = by_name(registry.fill(dry_run=True))
    assert {name: outcome.status for name, outcome in done.items()} == {
        "a": "would complete",
        "b": "would complete",
        "c": "failed",
    }
    assert done["b"].spaces == ("dds", "both")
    assert registry.path.read_bytes() == before


@pytest.mark.wide
def test_an_interruption_keeps_what_was_finished(home: Path) -> None:
    registry = ModelSpace.open(home)

    def progress(number: int, total: int, name: str, images: int, of: int) -> None:
        if name == "b" and images:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        registry.fill(progress=progress)
    assert [outcome.status for outcome in caught.value.outcomes] == ["completed", "not reached", "not reached"]
    assert registry.affinity("dds").names == ("a",)
    assert list(by_name(registry.fill(models=["a", "b"]))) == ["b"]


def test_what_is_named_must_exist(home: Path) -> None:
    registry = ModelSpace.open(home)
    with pytest.raises(NotFoundError, match="no space 'ddt'"):
        registry.fill("ddt")
    with pytest.raises(NotFoundError, match="no model 'x'"):
        registry.fill(models=["x"])
    with pytest.raises(UsageError, match="weights are given for x, which no space to be filled lacks"):
        registry.fill(weights={"x": "y.pt"})
