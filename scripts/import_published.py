"""Convert tables of published fine-tuning accuracies into the package's data.

    python scripts/import_published.py FOLDER

FOLDER has the CSV files that `TABLES` names, each extracted from the public repository named there; only figures are
taken. Writes modelspace/evaluation/data/published/: one CSV file per table, compressed above 48 kB, with the columns
target, source, score (accuracy in percent), own (1 if the source was trained on the target's own data set) and one
column per published method; and index.toml, which says where each is from. Writes the same bytes every time.

Rules, the same for every table:

- A pair of target and source occurs once in each source table. Twice would be an error, not a mean.
- An accuracy that the source gives as a share is written in percent.
- TransferGraph's VTAB runs used 800 images, 80% or all of the training data. Only runs with the commonest amount of
  each target are kept: figures with other amounts of data rank the amounts, not the models.
- NCTI writes 0.0 for two models on two targets where all others have 96 and more, and PARC -1 for ten pairs: these are
  not measurements, and left out.
- own: the source's name plainly names the target's data set (`OWN`). Such a pair is kept and marked, and never counts.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "modelspace" / "evaluation" / "data" / "published"

#: Files larger than this are compressed.
MOST_BYTES = 48_000

Row = Mapping[str, str]
Text = Callable[[Row], str]


def column(name: str) -> Text:
    """The function that reads one column."""
    return lambda row: row[name]


@dataclass(frozen=True)
class Table:
    """One source table.

    Attributes:
        file: its name in the folder.
        title: what was measured, for the index.
        origin: repository and path.
        commit: of the repository.
        licence: of the repository.
        score: column of the accuracy.
        unit: of that column, "percent" or "share".
        target: how the target is read.
        source: how the source is read.
        checkpoints: whose pretrained weights a source's name means: "torchvision", "timm", "huggingface" or "" if a
            name alone does not say so.
        keep: which rows are used.
        notes: what a reader should know.
        reported: weighted Kendall of published methods on this table, as their papers give it.
        method_columns: columns with the scores of published methods.
        repeats: another table that has all of these figures too, or "".
        method_file: another file with scores of methods, its columns "Dataset" and "Model".
    """

    file: str
    title: str
    origin: str
    commit: str
    licence: str
    score: str = "accuracy"
    unit: str = "percent"
    target: Text = field(default_factory=lambda: column("target"))
    source: Text = field(default_factory=lambda: column("model"))
    checkpoints: str = ""
    keep: Callable[[Row], bool] = lambda row: True
    notes: str = ""
    reported: Mapping[str, float] = field(default_factory=dict)
    method_columns: tuple[str, ...] = ()
    method_file: str = ""
    repeats: str = ""


#: TLL's spellings, as torchvision's.
_TLL_MODELS = {
    "GoogleNet": "googlenet",
    "Inception V3": "inception_v3",
    "ResNet50": "resnet50",
    "ResNet101": "resnet101",
    "ResNet152": "resnet152",
    "DenseNet121": "densenet121",
    "DenseNet169": "densenet169",
    "Densenet201": "densenet201",
    "MobileNet V2": "mobilenet_v2",
    "MNasNet": "mnasnet1_0",
}
_SPIDER_TARGETS = {"Cars": "StanfordCars", "Pet": "OxfordIIITPets"}
#: Model Spider's further methods on TLL's ten networks; H-Score, LEEP, LogME and NCE come with TLL's own table.
_SPIDER_METHODS = {
    "NLEEP": "NLEEP",
    "OTCE": "OTCE",
    "PACTranDirichlet": "PACTran-Dirichlet",
    "GBC": "GBC",
    "LFC": "LFC",
}

#: Names, without the owner, of models that were plainly trained on the target: a pattern per target, in lower case.
OWN = {
    "caltech101": "caltech-?101",
    "cifar10": r"cifar-?10(?!\d)",
    "cifar100": "cifar-?100",
    "dtd": r"(^|[-_])dtd([-_]|$)",
    "eurosat": "eurosat",
    "flowers": "flowers",
    "oxford_flowers102": "flowers",
    "food101": "food-?101",
    "kitti": "kitti",
    "oxford_iiit_pet": r"(^|[-_])pets?([-_]|$)",
    "pets": r"(^|[-_])pets?([-_]|$)",
    "resisc45": "resisc",
    "stanfordcars": "stanford-?cars",
    "sun397": "sun-?397",
    "svhn": "svhn",
    "svhn_cropped": "svhn",
    "voc2007": r"(^|[-_])voc([-_0-9]|$)",
}


def is_own(target: str, source: str) -> bool:
    """Whether the source's name says that it was trained on the target's data set.

    >>> is_own("cifar10", "nateraw/vit-base-patch16-224-cifar10"), is_own("cifar10", "Ahmed9275/Vit-Cifar100")
    (True, False)
    >>> is_own("DTD", "resnet50@DTD"), is_own("voc2007", "resnet50@faster-rcnn_c4_voc_142202221")
    (True, True)
    """
    _, at, data = source.partition("@")
    if at and data == target:
        return True
    name = (data if at else source.rpartition("/")[2]).lower()
    pattern = OWN.get(target.lower())
    return pattern is not None and re.search(pattern, name) is not None


def _architecture_at(architecture: str, data: str) -> Text:
    return lambda row: f"{row[architecture]}@{row[data]}"


_COMMONEST = {
    "cifar100": ":80%",
    "diabetic_retinopathy_detection": ":100%",
    "dmlab": ":100%",
}


def _commonest_amount(row: Row) -> bool:
    return row["train_slice"] == _COMMONEST.get(row["target"], ":800")


TABLES: dict[str, Table] = {
    "sfda-cnn": Table(
        "sfda_supervised_cnn.csv",
        "11 supervised CNNs of torchvision, fine-tuned on 11 data sets",
        "github.com/TencentARC/SFDA, tw_group1.py",
        "3b7edf7",
        "none stated",
        checkpoints="torchvision",
        notes="The code names torchvision's first checkpoints (resnet50-19c8e357 and others).",
        reported={"SFDA": 0.710, "NLEEP": 0.611, "LogME": 0.509, "PARC": 0.467, "LEEP": 0.410},
    ),
    "ncti-selfsup": Table(
        "ncti_selfsup_rn50.csv",
        "12 self-supervised ResNet-50, fine-tuned on 13 data sets",
        "github.com/BUserName/NCTI",
        "b18d395",
        "MIT",
        keep=lambda row: float(row["accuracy"]) != 0,
        notes="0.0 for SimCLR v1 and v2 on EuroSAT and RESISC45 is read as not measured.",
    ),
    "emms-vit": Table(
        "emms_vit.csv",
        "13 vision transformers, fine-tuned on 11 data sets",
        "github.com/OpenGVLab/Multitask-Model-Selector",
        "24d1008",
        "none stated",
    ),
    "modelspider-66x7": Table(
        "modelspider_66x7.csv",
        "3 architectures trained on 22 data sets, transferred to 7",
        "github.com/zhangyikaii/Model-Spider, learnware/learnware_info.py",
        "d2a53e4",
        "MIT",
        source=_architecture_at("architecture", "source"),
        notes="A source is architecture@data set that it was trained on.",
    ),
    "tll-cnn": Table(
        "tll_logme_10cnn.csv",
        "10 supervised CNNs of torchvision, fine-tuned on 8 data sets",
        "github.com/thuml/Transfer-Learning-Library, examples/model_selection/README.md",
        "c4aa59e",
        "MIT",
        source=lambda row: _TLL_MODELS[row["model"]],
        notes="Models by torchvision's names. HScore, LEEP, LogME and NCE are TLL's; NLEEP, OTCE, PACTran-Dirichlet, "
        "GBC and LFC are from github.com/zhangyikaii/Model-Spider, assests/baseline_results.csv, commit d2a53e4 (MIT). "
        "TLL's NCE on DTD repeats its LogME digit for digit, and Model Spider's is used instead: with TLL's own column "
        "NCE has a mean tau_w of 0.687.",
        reported={"Model Spider": 0.800},
        method_columns=("HScore", "LEEP", "LogME", "NCE"),
        method_file="modelspider_baseline_scores.csv",
    ),
    "transfergraph-vtab1k": Table(
        "transfergraph_vtab1k.csv",
        "292 vision models of the Hugging Face hub on 19 tasks of VTAB",
        "github.com/zLizy/transferability_graph, doc/ftrecords_img.csv",
        "9c22047",
        "none stated",
        unit="share",
        checkpoints="huggingface",
        keep=_commonest_amount,
        notes="800 training images; CIFAR-100 80%, Diabetic Retinopathy and DMLab all training data. Runs with other "
        "amounts than the target's commonest are left out. 25 epochs, except two runs.",
    ),
    "transfergraph-records": Table(
        "transfergraph_records.csv",
        "180 vision models of the Hugging Face hub on 13 data sets, all training data",
        "github.com/zLizy/transferability_graph, doc/records.csv",
        "9c22047",
        "none stated",
        score="test_accuracy",
        unit="share",
        target=column("finetuned_dataset"),
        checkpoints="huggingface",
    ),
    "parc": Table(
        "parc_all.csv",
        "70 models of 5 architectures from many source data sets, transferred to 7",
        "github.com/dbolya/parc, oracles/",
        "ddfca43",
        "none stated",
        score="Oracle",
        target=column("Target Dataset"),
        source=_architecture_at("Architecture", "Source Dataset"),
        keep=lambda row: float(row["Oracle"]) != -1,
        notes="A source is architecture@data set or detector. -1 is read as not measured. Models on their own data set "
        "are not in the table.",
    ),
    "parc-controlled": Table(
        "parc_controlled.csv",
        "4 architectures trained on 8 data sets, transferred to 7",
        "github.com/dbolya/parc, oracles/",
        "ddfca43",
        "none stated",
        score="Oracle",
        target=column("Target Dataset"),
        source=_architecture_at("Architecture", "Source Dataset"),
        notes="A source is architecture@data set. Models on their own data set are not in the table. All figures "
        "are in parc too.",
        repeats="parc",
    ),
    "stm32": Table(
        "stm32_modelzoo_readme_top1.csv",
        "small CNNs for microcontrollers on 6 data sets: from scratch (tfs), frozen (tl) or fine-tuned (fft)",
        "github.com/STMicroelectronics/stm32ai-modelzoo, tables of the READMEs",
        "not recorded",
        "figures of READMEs",
        score="top1",
        target=column("dataset"),
        notes="A source is architecture, width, input size and how it was trained. Three data sets have one model each "
        "and can't be ranked.",
    ),
}

#: Oracles that are another one's table: name -> its fields in the index.
VIEWS: dict[str, dict[str, object]] = {
    "sfda-selfsup": {
        "title": "12 self-supervised ResNet-50, fine-tuned on 11 data sets",
        "part_of": "ncti-selfsup",
        "origin": "github.com/TencentARC/SFDA, tw_group2.py",
        "commit": "3b7edf7",
        "licence": "none stated",
        "notes": "The same figures as ncti-selfsup, without EuroSAT and RESISC45.",
        "without": ["eurosat", "resisc"],
    },
    "ncti-cnn": {
        "title": "11 supervised CNNs of torchvision, fine-tuned on 11 data sets",
        "part_of": "sfda-cnn",
        "origin": "github.com/BUserName/NCTI",
        "commit": "b18d395",
        "licence": "MIT",
        "notes": "The same table as sfda-cnn.",
    },
    "emms-cnn": {
        "title": "11 supervised CNNs of torchvision, fine-tuned on 11 data sets",
        "part_of": "sfda-cnn",
        "origin": "github.com/OpenGVLab/Multitask-Model-Selector",
        "commit": "24d1008",
        "licence": "none stated",
        "notes": "The same table as sfda-cnn.",
    },
}

#: Where a view's table must be found again: name -> file in the folder.
_SAME_FILES = {
    "ncti-cnn": "ncti_supervised.csv",
    "emms-cnn": "emms_cnn.csv",
    "sfda-selfsup": "sfda_selfsup_rn50.csv",
}

Cells = dict[tuple[str, str], list[str]]


def read(folder: Path, table: Table) -> Cells:
    """(target, source) -> score in percent, own, and the scores of methods.

    Raises:
        ValueError: a pair occurs twice, or a figure is not one.
    """
    cells: Cells = {}
    methods = _methods(folder, table)
    for row in _rows(folder / table.file):
        if not table.keep(row):
            continue
        pair = table.target(row), table.source(row)
        if pair in cells:
            raise ValueError(f"{table.file}: {pair} occurs twice")
        percent = float(row[table.score]) * (100 if table.unit == "share" else 1)
        if not 0 <= percent <= 100:
            raise ValueError(f"{table.file}: {pair} has {percent}")
        other = methods.get(pair, {})
        more = [*_own_methods(row, table, other), *(other[name] for name in other if name in _SPIDER_METHODS)]
        cells[pair] = [f"{percent:.4f}".rstrip("0").rstrip("."), "1" if is_own(*pair) else "", *more]
    return cells


def method_names(table: Table) -> list[str]:
    """The published methods of a table."""
    return [*table.method_columns, *(_SPIDER_METHODS.values() if table.method_file else ())]


def to_csv(cells: Cells, methods: list[str]) -> str:
    """The package's file; the column "own" only if a pair is marked."""
    has_own = any(values[1] for values in cells.values())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["target", "source", "score", *(["own"] if has_own else []), *methods])
    for (target, source), (score, own, *more) in cells.items():
        writer.writerow([target, source, score, *([own] if has_own else []), *more])
    return out.getvalue()


def entry(table: Table, cells: Cells, file: str) -> dict[str, object]:
    """The fields of a table in the index."""
    fields: dict[str, object] = {
        "title": table.title,
        "file": file,
        "models": len({source for _, source in cells}),
        "targets": len({target for target, _ in cells}),
        "measurements": len(cells),
        "own": sum(values[1] == "1" for values in cells.values()),
        "unit": table.unit,
        "origin": table.origin,
        "commit": table.commit,
        "licence": table.licence,
        "checkpoints": table.checkpoints,
        "repeats": table.repeats,
        "notes": table.notes,
        "methods": method_names(table),
        "reported": dict(table.reported),
    }
    return {name: value for name, value in fields.items() if value not in ("", [], {})}


def view_entry(fields: Mapping[str, object], cells: Cells) -> dict[str, object]:
    """The fields of a part of a table in the index, with its own counts."""
    without = fields.get("without", [])
    assert isinstance(without, list)
    pairs = [pair for pair in cells if pair[0] not in without]
    counts = {
        "models": len({source for _, source in pairs}),
        "targets": len({target for target, _ in pairs}),
        "measurements": len(pairs),
    }
    return {**fields, **counts}


def to_toml(index: Mapping[str, Mapping[str, object]]) -> str:
    """The index; every value is a text, a number, a list of texts or a table of numbers."""
    lines = ["# Written by scripts/import_published.py."]
    for name, fields in index.items():
        lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in fields.items())]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {number}' for key, number in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(f'"{text}"' for text in value) + "]"
    return str(value) if isinstance(value, int) else f'"{value}"'


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _methods(folder: Path, table: Table) -> dict[tuple[str, str], Row]:
    """(target, source) -> the row of the other file with methods' scores; empty without such a file."""
    if not table.method_file:
        return {}
    rows = _rows(folder / table.method_file)
    return {(_SPIDER_TARGETS.get(row["Dataset"], row["Dataset"]), row["Model"]): row for row in rows}


def _own_methods(row: Row, table: Table, other: Row) -> list[str]:
    """The scores of methods in the table itself; one that repeats another's on the data set is of the other file."""
    return [other[name] if name == "NCE" and row["target"] == "DTD" else row[name] for name in table.method_columns]


def _check_repeated(folder: Path) -> None:
    """NCE must be a copy of LogME on DTD, and nowhere else."""
    for row in _rows(folder / TABLES["tll-cnn"].file):
        if (row["NCE"] == row["LogME"]) != (row["target"] == "DTD"):
            raise ValueError(f"NCE of {row['model']} on {row['target']}")


def _check_view(folder: Path, view: str, cells: Cells) -> None:
    """A view's own file must hold the same figures."""
    rows = _rows(folder / _SAME_FILES[view])
    without = VIEWS[view].get("without", [])
    assert isinstance(without, list)
    ours = {pair: float(values[0]) for pair, values in cells.items() if pair[0] not in without}
    theirs = {(row["target"], row["model"]): float(row["accuracy"]) for row in rows}
    if ours != theirs:
        raise ValueError(f"{view} differs from {VIEWS[view]['part_of']}")


def _check_repeats(name: str, cells: Cells, others: Cells) -> None:
    """All figures must be in the other table."""
    if any(others.get(pair) != values for pair, values in cells.items()):
        raise ValueError(f"{name} has other figures than the table that it repeats")


def _check_amounts(folder: Path) -> None:
    """The amounts of `_COMMONEST` must be the commonest ones."""
    counts: dict[str, Counter[str]] = {}
    for row in _rows(folder / TABLES["transfergraph-vtab1k"].file):
        counts.setdefault(row["target"], Counter())[row["train_slice"]] += 1
    for target, slices in counts.items():
        if slices.most_common(1)[0][0] != _COMMONEST.get(target, ":800"):
            raise ValueError(f"{target}: {slices}")


def convert(folder: Path, output: Path) -> dict[str, dict[str, object]]:
    """Write all tables and the index, and return the index."""
    output.mkdir(parents=True, exist_ok=True)
    _check_amounts(folder)
    _check_repeated(folder)
    index: dict[str, dict[str, object]] = {}
    for name, table in TABLES.items():
        cells = read(folder, table)
        if table.repeats:
            _check_repeats(name, cells, read(folder, TABLES[table.repeats]))
        data = to_csv(cells, method_names(table)).encode()
        file = f"{name}.csv"
        if len(data) > MOST_BYTES:
            data, file = gzip.compress(data, 9, mtime=0), f"{file}.gz"
        (output / file).write_bytes(data)
        index[name] = entry(table, cells, file)
        for view, fields in VIEWS.items():
            if fields["part_of"] == name:
                _check_view(folder, view, cells)
                index[view] = view_entry(fields, cells)
    (output / "index.toml").write_text(to_toml(index), encoding="utf-8")
    return index


def main() -> None:
    """Convert the folder of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the source tables")
    index = convert(parser.parse_args().folder, OUTPUT)
    print(f"{len(index)} oracles, {sum(path.stat().st_size for path in OUTPUT.iterdir()):,} bytes")


if __name__ == "__main__":
    main()
