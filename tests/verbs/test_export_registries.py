"""Export of every content in every format from registries of 0 to 39 models: it reads back, or nothing is written."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import shelf
import small_spaces
from small_spaces import BOTH, KERNELS, MAPS

from modelspace.analysis import parse_newick
from modelspace.errors import ConflictError, ModelspaceError, UsageError
from modelspace.registry import Registry
from modelspace.results import Exported
from modelspace.spaces import affinity
from modelspace.verbs.export import WHAT
from modelspace.workspace import ModelSpace

ROOT = Path(__file__).parents[2]

#: Name -> further fields of the card, and the number that maps and kernels are drawn with; equal numbers are copies.
MODELS: dict[str, list[tuple[str, int, dict[str, Any]]]] = {
    "0": [],
    "1": [("alone", 0, {})],
    "2": [("tagged", 0, {"tags": {"group": "2D"}}), ("untagged", 1, {"task": None, "data": "", "architecture": ""})],
    "5": [
        ("A", 0, {"tags": {"key": "x", "value": "NULL"}}),
        ("b", 0, {"tags": {}, "task": None}),
        ("x_y-1.0", 2, {"tags": {"group": "=1+1", 'odd "key"': ""}, "parameters": 0}),
        ("N4", 3, {"tags": {"group": "3D"}, "task": "a,b\nc"}),
        ("z", 4, {"output_shape": (), "tags": {"group": "[]"}}),
    ],
}
#: The models of the registry "5" that its space of kernels and its blend lack.
WITHOUT_KERNELS = ("z",)


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ModelSpace]]:
    made = {}
    for label, models in MODELS.items():
        home = tmp_path_factory.mktemp(label)
        with small_spaces.create(home / "registry.duckdb", BOTH, MAPS, KERNELS) as registry:
            for name, seed, fields in models:
                specs = (MAPS,) if name in WITHOUT_KERNELS else (MAPS, KERNELS, BOTH)
                with registry.transaction():
                    model_id = registry.add_model(shelf.card(name, **fields))
                    for spec in specs:
                        affinity.append(registry, spec, model_id, small_spaces.blocks_of(seed), {})
        made[label] = ModelSpace.open(home)
    for task in ("flowers", "empty"):
        made["5"].add_task(task)
    made["5"].observe("flowers", "A", 0.5)
    made["5"].observe("flowers", "b", 0.25, note="=2")
    shipped = tmp_path_factory.mktemp("39")
    shutil.copy(ROOT / "registry.duckdb", shipped)
    made["39"] = ModelSpace.open(shipped)
    with ExitStack() as readers:  # while a registry is open for reading, opening it again takes less than half the time
        for space in made.values():
            readers.enter_context(Registry.open(space.path))
        yield made


def members(space: ModelSpace, name: str) -> list[str]:
    with Registry.open(space.path) as registry:
        spec = registry.space(name).spec
        names = {row.model_id: row.card.name for row in registry.models()}
        return [names[i] for i in registry.model_ids(spec.space_id)]


def table(record: Exported) -> list[dict[str, Any]]:
    """The rows of an exported table, by another reader than the writer."""
    if record.format == "parquet":
        read = duckdb.connect().execute("FROM read_parquet(?)", [record.file])
        columns = [column[0] for column in read.description]
        return [dict(zip(columns, row, strict=True)) for row in read.fetchall()]
    text = Path(record.file).read_text("utf-8")
    return list(json.loads(text) if record.format == "json" else csv.DictReader(text.splitlines(keepends=True)))


def check_models(space: ModelSpace, record: Exported, names: list[str], wide: bool) -> None:
    infos = {info.name: info for info in space.list()}
    rows = table(record)
    assert len(rows) == len(infos)
    for row in rows:
        info = infos[row["name"]]
        tags = json.loads(row["tags"]) if record.format == "csv" else row["tags"]
        assert tags == info.tags, record.format
        assert (row["task"] or None, row["parameters"]) == (info.task, row["parameters"].__class__(info.parameters))


def check_affinity(space: ModelSpace, record: Exported, names: list[str], wide: bool) -> None:
    expected = space.affinity(record.space)
    assert list(expected.names) == names
    if record.format == "npy":
        array = np.load(record.file, allow_pickle=False)
        np.testing.assert_array_equal(array, expected.matrix)
        assert Path(record.file).with_suffix(".names.txt").read_text("utf-8").splitlines() == names
    elif wide:
        rows = table(record)
        assert [row["name"] for row in rows] == names
        numbers = [[float(row[name]) for name in names] for row in rows]
        np.testing.assert_array_equal(np.array(numbers).reshape(expected.matrix.shape), expected.matrix)
    else:
        pairs = [(row["a"], row["b"], float(row["affinity"])) for row in table(record)]
        assert [pair[:2] for pair in pairs] == list(itertools.combinations(names, 2))
        for a, b, value in pairs:
            assert value == expected.matrix[names.index(a), names.index(b)]


def check_vectors(space: ModelSpace, record: Exported, names: list[str], wide: bool) -> None:
    if record.format == "npy":
        vectors = np.load(record.file, allow_pickle=False)
    else:
        rows = table(record)
        assert [row["name"] for row in rows] == names
        vectors = np.array(
            [row["vector"] if record.format == "parquet" else list(row.values())[1:] for row in rows], dtype=float
        )
    expected = space.affinity(record.space).matrix
    vectors = vectors.reshape(len(names), vectors.size // max(1, len(names)))
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-9)


def check_neighbours(space: ModelSpace, record: Exported, names: list[str], wide: bool) -> None:
    rows = table(record)
    for name in names[:2]:
        mine = [row["neighbour"] for row in rows if row["name"] == name]
        assert mine == [near.name for near in space.nearest(name, k=10, space=record.space)]
        assert len(mine) == min(10, len(names) - 1)


def check_tree(space: ModelSpace, record: Exported, names: list[str], wide: bool) -> None:
    text = Path(record.file).read_text("utf-8")
    if record.format == "newick":
        assert sorted(leaf.name for leaf in parse_newick(text).leaves()) == sorted(names)
    else:
        assert all(json.dumps(name) in text for name in names)


def check_tasks(space: ModelSpace, record: Exported, names: list[str], wide: bool) -> None:
    assert [row["name"] for row in table(record)] == [row.name for row in space.tasks()]


def check_outcomes(space: ModelSpace, record: Exported, names: list[str], wide: bool) -> None:
    rows = table(record)
    assert [(row["task"], row["model"], float(row["score"])) for row in rows] == [
        (row.task, row.model, row.score) for row in space.outcomes()
    ]


CHECKS: dict[str, Callable[[ModelSpace, Exported, list[str], bool], None]] = {
    "models": check_models,
    "affinity": check_affinity,
    "vectors": check_vectors,
    "neighbours": check_neighbours,
    "tree": check_tree,
    "tasks": check_tasks,
    "outcomes": check_outcomes,
}
#: Contents that are of one space.
OF_A_SPACE = ("affinity", "vectors", "neighbours", "tree")


def cases(spaces: list[str], label: str) -> Iterator[tuple[str, str, str, bool]]:
    """(content, format, space, wide): all formats of the first space, one of the others."""
    for what, kinds in WHAT.items():
        if what == "maps" or (what, label) == ("neighbours", "39"):  # below; the second takes seconds
            continue
        yield from ((what, kind, spaces[0], False) for kind in kinds)
        if what in OF_A_SPACE:
            yield from ((what, kinds[0], name, False) for name in spaces[1:])
        if what == "affinity":
            yield from ((what, kind, spaces[-1], True) for kind in kinds)


@pytest.mark.sampled(2)
@pytest.mark.wide
@pytest.mark.parametrize("label", [*MODELS, "39"])
def test_every_content_in_every_format_reads_back(
    label: str, registries: dict[str, ModelSpace], tmp_path: Path
) -> None:
    space = registries[label]
    spaces = [row.name for row in space.spaces()] if label != "39" else ["transfer", "saliency"]
    for what, kind, name, wide in cases(spaces, label):
        names = members(space, name)
        folder = tmp_path / f"{what} {kind} {name} {wide}"
        options: dict[str, Any] = {"space": name} if what in OF_A_SPACE else {}
        if what == "tree" and len(names) < 2:
            with pytest.raises(ModelspaceError, match=r"holds \d models?, but a tree needs 2 or more"):
                space.export(folder, what, format=kind, **options)
            assert not folder.exists()
            continue
        (record,) = space.export(folder, what, format=kind, wide=wide, **options)
        assert record.space == options.get("space", "")
        CHECKS[what](space, record, names, wide)


@pytest.mark.first(1)
@pytest.mark.parametrize("label", [*MODELS, "39"])
def test_a_folder_gets_all_that_there_is(label: str, registries: dict[str, ModelSpace], tmp_path: Path) -> None:
    records = registries[label].export(tmp_path / "out")
    expected = ["models", "affinity", "vectors", "neighbours"]
    expected += ["tree"] if int(label) > 1 else []
    expected += ["tasks", "outcomes"] if label == "5" else []
    assert [record.what for record in records] == expected
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".")]


@pytest.mark.first(3)
@pytest.mark.parametrize("label", [*MODELS, "39"])
def test_maps_are_those_of_a_space_that_has_them(label: str, registries: dict[str, ModelSpace], tmp_path: Path) -> None:
    """The default space is a blend, which has none."""
    space = registries[label]
    where = "name IN ('curvature', 'edge2d')" if label == "39" else None
    records = space.export(tmp_path / "out", ["models", "maps"], where=where)
    names = ["curvature", "edge2d"] if label == "39" else [name for name, *_ in MODELS[label]]
    assert [record.what for record in records] == ["models", *("maps" for _ in names)]
    assert (tmp_path / "out" / "maps").is_dir()
    for record, name in zip(records[1:], names, strict=True):
        assert record.space == ("gradient_x_input" if label == "39" else "saliency")
        np.testing.assert_array_equal(np.load(record.file), space.maps(name, record.space))
    with pytest.raises(UsageError, match="holds no attribution maps"):
        space.export(tmp_path / "new", ["models", "maps"], space="dds")
    assert not (tmp_path / "new").exists()


def test_a_failure_at_the_last_file_leaves_nothing(
    registries: dict[str, ModelSpace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = registries["5"]
    with pytest.raises(ModelspaceError, match="tree"):
        space.export(tmp_path / "a" / "b", ["models", "affinity", "tree"], where="name = 'A'")
    assert os.listdir(tmp_path) == []
    # Of the files that are overwritten, the old ones stay.
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "models.parquet").write_text("mine")
    (tmp_path / "out" / "tree.nwk").mkdir()
    with pytest.raises(ModelspaceError, match=r"tree\.nwk can't be written: Is a directory"):
        space.export(tmp_path / "out", force=True)
    assert sorted(os.listdir(tmp_path / "out")) == ["models.parquet", "tree.nwk"]
    assert (tmp_path / "out" / "models.parquet").read_text() == "mine"
    # The second of two renamings fails.
    replace, calls = os.replace, []

    def fail(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error", str(target))
        replace(source, target)

    monkeypatch.setattr("modelspace.temporary.os.replace", fail)
    with pytest.raises(ModelspaceError, match="Input/output error"):
        space.export(tmp_path / "new", ["models", "tasks"])
    assert sorted(os.listdir(tmp_path)) == ["out"]


def test_a_file_in_place_of_a_folder_is_a_sentence(registries: dict[str, ModelSpace], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file", tmp_path / "file" / "models.csv", tmp_path / "file" / "folder"):
        with pytest.raises(UsageError, match="can't be written: Not a directory"):
            registries["2"].export(target)
    with pytest.raises(UsageError, match="can't be written: Not a directory"):
        registries["2"].export(tmp_path / "file", "maps")
    assert (tmp_path / "file").read_text() == "mine"


def test_names_that_differ_in_case_are_no_columns_of_one_parquet_file(tmp_path: Path) -> None:
    with small_spaces.create(tmp_path / "registry.duckdb", MAPS) as registry, registry.transaction():
        for seed, name in enumerate(("Net", "net", "Name")):
            model_id = registry.add_model(shelf.card(name))
            affinity.append(registry, MAPS, model_id, small_spaces.blocks_of(seed), {})
    space = ModelSpace.open(tmp_path)
    with pytest.raises(UsageError, match="differ only in case"):
        space.export(tmp_path / "wide.parquet", "affinity", wide=True)
    with pytest.raises(UsageError, match="differ only in case"):
        space.export(tmp_path / "wide.parquet", "affinity", wide=True, where="name <> 'net'")
    (record,) = space.export(tmp_path / "wide.csv", "affinity", wide=True)
    check_affinity(space, record, ["Net", "net", "Name"], True)


def test_an_existing_file_of_maps_is_seen_before_anything_is_computed(
    registries: dict[str, ModelSpace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "tagged.npy").write_text("mine")
    monkeypatch.setattr("modelspace.verbs.export.output_files", None)
    with pytest.raises(ConflictError, match=r"tagged\.npy exists already"):
        registries["2"].export(tmp_path, ["models", "maps"])
