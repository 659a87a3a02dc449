"""Published tables of fine-tuning accuracies, as facts: which there are, where each is from, and its rows.

`index.toml` next to the tables says everything about them; scripts/import_published.py writes both.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
import tomllib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from modelspace.errors import DamagedError


@dataclass(frozen=True)
class Table:
    """One published table.

    Attributes:
        name: of the oracle.
        title: what was measured.
        file: its name in the package; that of another table if it is part of that one.
        origin: repository and path.
        commit: of that repository.
        licence: that the repository states.
        models: number of sources.
        targets: number of data sets.
        measurements: number of pairs.
        unit: in which the source gives accuracy, "percent" or "share"; the file has percent.
        own: number of pairs of a model with a data set that it was trained on; they never count.
        checkpoints: whose pretrained weights a source's name means: "torchvision", "huggingface" or "" if a name alone
            does not say so.
        notes: what a reader should know.
        methods: published methods whose scores come along.
        reported: weighted Kendall of published methods as their papers give it, where the scores do not come along.
        part_of: the table that has the same figures, or "".
        without: targets of that table which this one lacks.
        repeats: a table with further figures that has all of these, or "".
    """

    name: str
    title: str
    file: str
    origin: str
    commit: str
    licence: str
    models: int
    targets: int
    measurements: int
    unit: str
    own: int = 0
    checkpoints: str = ""
    notes: str = ""
    methods: tuple[str, ...] = ()
    reported: Mapping[str, float] = field(default_factory=dict)
    part_of: str = ""
    without: tuple[str, ...] = ()
    repeats: str = ""

    @property
    def source(self) -> str:
        """Origin, commit and licence in one line."""
        return f"{self.origin}, commit {self.commit}, licence: {self.licence}"


@dataclass(frozen=True)
class Measurement:
    """The accuracy of one source on one target.

    Attributes:
        target: name of the data set.
        source: name of the model.
        score: accuracy in percent.
        own: whether the model was trained on the target's own data set.
        methods: scores of published methods; empty if none come along.
    """

    target: str
    source: str
    score: float
    own: bool
    methods: Mapping[str, float]


@functools.cache
def tables() -> dict[str, Table]:
    """All published tables by name.

    Raises:
        DamagedError: the package's index can't be read.
    """
    path = folder() / "index.toml"
    try:
        index: dict[str, dict[str, Any]] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedError(f"the package's {path.name} of published tables can't be read", "reinstall") from error
    return {name: _table(name, fields, index) for name, fields in index.items()}


def measurements(table: Table) -> list[Measurement]:
    """The rows of a table, in the order of its file.

    Raises:
        DamagedError: the package's file is missing or wrong.
    """
    path = folder() / table.file
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        rows = [_measurement(row, table) for row in csv.DictReader(io.StringIO(text))]
    except (OSError, EOFError, KeyError, ValueError, zlib.error) as error:
        raise DamagedError(f"the package's table {table.file} can't be read", "reinstall") from error
    return [row for row in rows if row.target not in table.without]


def folder() -> Path:
    """The package's folder of published tables."""
    return Path(str(resources.files("modelspace.evaluation"))) / "data" / "published"


def _table(name: str, fields: Mapping[str, Any], index: Mapping[str, Mapping[str, Any]]) -> Table:
    values = dict(fields)
    if whole := fields.get("part_of"):
        values = {**index[whole], "notes": "", **fields}
    values |= {key: tuple(values.get(key, ())) for key in ("methods", "without")}
    return Table(name, **values)


def _measurement(row: Mapping[str, str], table: Table) -> Measurement:
    methods = {method: float(row[method]) for method in table.methods}
    return Measurement(row["target"], row["source"], float(row["score"]), row.get("own") == "1", methods)
