"""The files of an export: tables, arrays and texts that appear together, or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from modelspace.errors import UsageError, unwritable
from modelspace.results import Exported
from modelspace.temporary import Together

#: Name -> (DuckDB's type, values).
Columns = dict[str, tuple[str, Sequence[Any]]]


class OutputFiles:
    """Files that are written under temporary names and get their own at the end of `output_files`."""

    def __init__(self, files: Together) -> None:
        self._files = files
        self._n_bytes: dict[Path, int] = {}

    def text(self, file: Path, text: str) -> None:
        """Write a text file."""

        def save(temporary: Path) -> None:
            temporary.write_bytes(text.encode())

        self._write(file, save)

    def array(self, file: Path, array: np.ndarray, names: Sequence[str] | None = None) -> None:
        """Write a `.npy` file, and its names, one per line, to the file next to it."""

        def save(temporary: Path) -> None:
            with temporary.open("wb") as out:
                np.save(out, array, allow_pickle=False)

        if names is not None:
            self.text(names_file(file), "".join(f"{name}\n" for name in names))
        self._write(file, save)

    def table(self, file: Path, kind: str, columns: Columns) -> None:
        """Write a table as parquet, csv or json."""
        if kind == "parquet":
            from modelspace.registry.files import write_parquet

            check_distinct(columns)
            self._write(file, lambda temporary: write_parquet(columns, temporary))
            return
        rows = list(zip(*(values for _, values in columns.values()), strict=True))
        if kind == "json":
            objects = [dict(zip(columns, row, strict=True)) for row in rows]
            self.text(file, json.dumps(objects, ensure_ascii=False, indent=1, allow_nan=False, default=_cell) + "\n")
            return

        def save(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8", newline="") as out:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerow(columns)
                writer.writerows([_cell(value) for value in row] for row in rows)

        self._write(file, save)

    def folder(self, folder: Path) -> None:
        """Create a folder, also where no file is written to it."""
        try:
            self._files.folder(folder)
        except OSError as error:
            raise unwritable(folder, error) from None

    def exported(self, file: Path, what: str, kind: str, rows: int, space: str = "") -> Exported:
        """The record of a file that was written."""
        return Exported(str(file), what, kind, rows, self._n_bytes[file], space)

    def _write(self, file: Path, write: Callable[[Path], None]) -> None:
        try:
            with self._files.file(file) as temporary:
                write(temporary)
                self._n_bytes[file] = temporary.stat().st_size
        except OSError as error:
            raise unwritable(file, error) from None


@contextmanager
def output_files(target: Path) -> Iterator[OutputFiles]:
    """Write several files, which appear at the end of the block unless an exception leaves it.

    Args:
        target: the file or folder, for errors.

    Raises:
        UsageError: a file can't get its name.
        StorageError: the disk is full.
    """
    try:
        with Together() as files:
            yield OutputFiles(files)
    except OSError as error:
        raise unwritable(error.filename or target, error) from None


def names_file(file: Path) -> Path:
    """The file with the names of an array's rows: `vectors.names.txt` for `vectors.npy`."""
    return file.with_suffix(".names.txt")


def check_distinct(names: Sequence[str] | Mapping[str, Any]) -> None:
    """Raise UsageError if columns differ in upper and lower case only, which Parquet's readers don't tell apart."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise UsageError(
                f"the columns {other!r} and {name!r} of a Parquet file differ only in case",
                "write CSV with `format='csv'`, or a row per pair without `wide=`",
            )


def _cell(value: Any) -> Any:
    """The value of a CSV cell: numbers in full precision, lists and dictionaries as JSON."""
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False)
    return value.isoformat() if isinstance(value, datetime) else value
