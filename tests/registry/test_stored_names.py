"""Names in a registry file that this program can't have written: shown escaped, usable, and renamed."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType

import duckdb
import numpy as np
import pytest
import small_spaces

from modelspace import names
from modelspace.errors import DamagedError, NotFoundError, UsageError
from modelspace.names import check_name, file_name, readable_name
from modelspace.registry import Registry, schema
from modelspace.tasks import cache
from modelspace.workspace import ModelSpace

ODD = (
    "../../ESCAPED",
    "/tmp/absolute",
    "a\nb\x1b[2J",
    "x" * 10_000,
    "",
    "..",
    "\u202egnp",
    "<b>",
    "=cmd|' /C calc'!A0",
)


def changed(home: Path, *statements: str, values: tuple[object, ...] = ()) -> ModelSpace:
    """A registry of m0 .. m3 in a space of maps, changed by another program."""
    with small_spaces.create(home / "registry.duckdb", small_spaces.MAPS) as registry:
        for seed in range(4):
            small_spaces.add(registry, seed, small_spaces.MAPS)
    with duckdb.connect(home / "registry.duckdb") as duck:
        for statement in statements:
            duck.execute(statement, list(values) or None)
    return ModelSpace.open(home)


@pytest.mark.sampled(3)
@pytest.mark.wide
@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_shown_escaped_and_works(tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    space = changed(home, "UPDATE models SET name = ? WHERE model_id = 2", values=(name,))
    shown = readable_name(name)
    assert shown != name
    assert shown.isprintable()
    assert len(shown) <= 128
    assert not set(shown) & set("/\\<>\"'`|=")
    assert [row.name for row in space.list()] == ["m0", shown, "m2", "m3"]
    assert space.show(shown).name == shown
    assert [row.rank for row in space.nearest(shown, k=2)] == [1, 2]
    assert shown in [row.name for row in space.nearest("m0", k=3)]

    before = set(tmp_path.rglob("*"))
    space.export(home / "out", what=["maps"])
    written = {path for path in set(tmp_path.rglob("*")) - before if path.is_file() and "index" not in path.parts}
    assert {path.parent for path in written} == {home / "out" / "maps"}
    assert sorted(path.name for path in written) == sorted(f"{file_name(n)}.npy" for n in ("m0", shown, "m2", "m3"))
    assert np.load(home / "out" / "maps" / file_name(shown, ".npy")).shape == (12, 4, 4)

    problems = [check for check in space.verify() if not check.ok]
    assert [check.what for check in problems] == [f"model {shown}"]
    space.rename(shown, "tame")
    assert [row.name for row in space.list()] == ["m0", "tame", "m2", "m3"]
    assert all(check.ok for check in space.verify())


@pytest.mark.wide
def test_names_of_spaces_probe_sets_and_tasks(tmp_path: Path) -> None:
    space = changed(
        tmp_path,
        "UPDATE spaces SET name = '../s'",
        "UPDATE probe_sets SET name = 'p' || chr(27) || '[2J'",
        "INSERT INTO tasks VALUES (1, 't/../t', '', '', 'classification', 'accuracy', true, 3, [], 0, '2026-01-01')",
        "INSERT INTO outcomes SELECT 1, 1, 1, 'm0', '', 0.5, 'observed', '{}', 1, 0, 0.1, now()::TIMESTAMP, '', NULL",
    )
    assert [row.name for row in space.spaces()] == ["%2E.%2Fs"]
    assert [row.name for row in space.probe_sets()] == ["p%1B%5B2J"]
    assert [row.name for row in space.tasks()] == ["t%2F..%2Ft"]
    assert space.list()[0].spaces == ("%2E.%2Fs",)
    assert [row.rank for row in space.nearest("m0", space="%2E.%2Fs", k=2)] == [1, 2]
    assert [row.task for row in space.outcomes(task="t%2F..%2Ft")] == ["t%2F..%2Ft"]
    space.rename_task("t%2F..%2Ft", "tame")
    assert [row.name for row in space.tasks()] == ["tame"]


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    space = changed(tmp_path)
    with Registry.open(space.path, write=True) as registry, registry.transaction():
        for name in ODD:
            with pytest.raises(UsageError, match="can't be called"):
                registry.rename_model("m1", name)
        registry.rename_model("m1", "Zürich 2")  # what earlier versions allowed in Python
    assert [row.name for row in space.list()] == ["m0", "Zürich 2", "m2", "m3"]
    for name in ("resnet18-v1.5", "_x", "A" * 128):
        assert readable_name(check_name(name)) == name == file_name(name)


def test_two_models_of_one_name_are_not_exported_to_one_file(tmp_path: Path) -> None:
    space = changed(tmp_path, "UPDATE models SET name = 'm0'")
    with pytest.raises(DamagedError, match="one name"):
        space.export(tmp_path / "out", what=["maps"])


def test_different_texts_have_different_names() -> None:
    texts = [
        "a",
        "A/",
        "a/",
        "a%2F",
        "%",
        "",
        " ",
        "x" * 129,
        "x" * 130,
        "../a",
        "%2E./a",
        "a\0",
        "a\ud800",
        "~",
        "con",
    ]
    texts += ["é" * 70, "e\u0301", "a b", "a  b", "nul.txt", ".", "..", "-"]
    for function in (readable_name, file_name):
        assert len({function(text) for text in texts}) == len(texts)
    for text in texts:
        assert Path("/folder", file_name(text, ".npy")).resolve().parent == Path("/folder")
        assert len(file_name(text, ".npy").encode()) <= 204


def test_features_are_only_deleted_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precious = tmp_path / "cache" / "probes.npz"
    precious.parent.mkdir()
    precious.write_text("of another data set")
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path / "cache"))
    for fingerprint in ("..", ".", "../..", str(tmp_path), "/", "0123/../../.."):
        cache.FeatureCache(fingerprint, "model").put(["a" * 64], np.ones((1, 2), np.float32))
        assert cache.forget(fingerprint) == 1
    assert precious.read_text() == "of another data set"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [precious]


@pytest.mark.parametrize("module", [names, schema])
def test_the_examples_in_docstrings(module: ModuleType) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_an_unknown_name_is_not_found(tmp_path: Path) -> None:
    space = changed(tmp_path, "UPDATE models SET name = '../x' WHERE model_id = 1")
    for name in ("%2E.%2Fy", "../x"):
        with pytest.raises(NotFoundError, match=r"did you mean %2E\.%2Fx"):
            space.show(name)
