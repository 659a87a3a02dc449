"""Published accuracies: what the script takes from the source tables, and that the page has the package's figures."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from modelspace.evaluation import published

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def importer() -> ModuleType:
    return script("import_published")


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return script("table_published")


@pytest.mark.long
def test_the_page_is_what_the_script_writes(table: ModuleType) -> None:
    assert table.PAGE.read_text("utf-8") == table.page()


def test_the_page_names_every_source_and_licence(table: ModuleType) -> None:
    text = table.PAGE.read_text("utf-8")
    for entry in published.tables().values():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{entry.name}` | {entry.title}"))
        assert f"{entry.origin}, commit {entry.commit} | {entry.licence}" in line


def test_the_index_is_that_of_the_script(importer: ModuleType) -> None:
    index = tomllib.loads((published.folder() / "index.toml").read_text("utf-8"))
    assert set(index) == {*importer.TABLES, *importer.VIEWS}
    for name, entry in importer.TABLES.items():
        assert index[name]["title"] == entry.title
        assert (index[name]["origin"], index[name]["commit"]) == (entry.origin, entry.commit)
        assert index[name].get("reported", {}) == dict(entry.reported)
    for row in published.measurements(published.tables()["transfergraph-records"]):
        assert row.own == importer.is_own(row.target, row.source)


@pytest.mark.parametrize(
    ("target", "source", "own"),
    [
        ("cifar10", "someone/vit-cifar-10", True),
        ("cifar10", "someone/vit-cifar100", False),
        ("cifar100", "someone/vit-cifar10", False),
        ("pets", "someone/vit-petals", False),
        ("pets", "someone/oxford-pets", True),
        ("eurosat", "eurosat/vit", False),
        ("stanfordcars", "someone/car-classifier", False),
        ("voc2007", "resnet50@faster-rcnn_c4_voc_142202221", True),
        ("voc2007", "resnet50@imagenet", False),
        ("aircraft", "resnet50", False),
    ],
)
def test_a_models_name_says_whether_it_knows_the_target(
    importer: ModuleType, target: str, source: str, own: bool
) -> None:
    assert importer.is_own(target, source) is own


def test_rows_are_converted_marked_and_checked(importer: ModuleType, tmp_path: Path) -> None:
    entry = replace(importer.TABLES["transfergraph-vtab1k"], file="few.csv")
    header = "target,model,framework,lr,epochs,train_slice,val_accuracy,accuracy\n"
    rows = ["eurosat,a/vit-eurosat,,,25,:800,1,0.95", "dmlab,b/vit,,,25,:800,1,0.3", "dmlab,b/vit,,,25,:100%,1,0.71234"]
    (tmp_path / "few.csv").write_text(header + "\n".join(rows) + "\n")
    cells = importer.read(tmp_path, entry)
    assert cells == {("eurosat", "a/vit-eurosat"): ["95", "1"], ("dmlab", "b/vit"): ["71.234", ""]}
    assert importer.to_csv(cells, []).splitlines()[0] == "target,source,score,own"
    (tmp_path / "few.csv").write_text(header + "\n".join([rows[0], rows[0]]) + "\n")
    with pytest.raises(ValueError, match="occurs twice"):
        importer.read(tmp_path, entry)
    (tmp_path / "few.csv").write_text(header + rows[0].replace("0.95", "95") + "\n")
    with pytest.raises(ValueError, match="9500"):
        importer.read(tmp_path, entry)
