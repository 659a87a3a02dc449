"""Affinity matrices from files, to evaluate published ones next to ours; what `export` and `heatmap` write is read."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelspace.errors import DamagedError, NotFoundError, UsageError
from modelspace.evaluation.rankings import Array
from modelspace.files import absent, is_regular


def read_affinity(path: str | Path, names: Sequence[str] | str | Path | None = None) -> tuple[tuple[str, ...], Array]:
    """Read a square affinity matrix with the names of its models.

    Args:
        path: a `.npy` file, or a table: CSV, Parquet, or a JSON list of objects. A table is either square (names in
            the first line and first column; without the column, rows are in the order of the first line), or it has
            the columns target, source and score (or affinity), or a, b and affinity: each pair of models once, in
            both directions, and 1 for a model with itself unless the table says otherwise.
        names: for a `.npy` file: the names in order, or a file with one name per line or a JSON list; by default the
            `.txt`, `.names.txt` or `.json` file with the same stem.

    Returns:
        (names, matrix): (n,) and (n, n) float64, row = target, column = source, higher = nearer. Pairs missing from a
        file of rows are NaN.

    Raises:
        NotFoundError: a file is missing.
        UsageError: names and matrix differ in size, or a name occurs twice.
        DamagedError: the file does not hold numbers.
    """
    path = Path(path)
    if not is_regular(path):
        raise NotFoundError(absent(path))
    if path.suffix.lower() == ".npy":
        try:
            matrix = np.load(path, allow_pickle=False)
        except Exception as error:  # numpy evaluates the header, which raises errors of Python's parser too
            raise DamagedError(f"{path.name} is not a NumPy array of numbers: {error}") from error
        if matrix.dtype.kind not in "fiu":
            raise DamagedError(f"{path.name} holds {matrix.dtype}, not numbers")
        read = _checked(path.name, _names(path, names), matrix.astype(np.float64))
        if len(matrix) > 2 and not np.triu(matrix, 1).any():
            raise UsageError(
                f"{path.name} has only zeros above its diagonal, as exported vectors have",
                "write the affinities: `space.export('affinity.npy', what='affinity')`",
            )
        return read
    rows = _rows(path)
    if not rows:
        raise UsageError(f"{path.name} is empty")
    figure = next((column for column in ("score", "affinity") if column in rows[0]), None)
    if figure and {"target", "source"} <= set(rows[0]):
        return _from_rows(path.name, rows, figure)
    if {"a", "b", "affinity"} <= set(rows[0]):
        return _from_pairs(path.name, rows)
    return _from_square(path.name, rows)


def _rows(path: Path) -> list[list[str]]:
    """The lines of a table, the first with the columns' names."""
    if path.suffix.lower() == ".parquet":
        from modelspace.registry.files import read_parquet

        columns = read_parquet(path)
        cells = zip(*columns.values(), strict=True)
        return [list(columns), *([_text(value) for value in row] for row in cells)]
    if path.suffix.lower() == ".json":
        return _json_rows(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DamagedError(f"{path.name} can't be read as a CSV file: {error}", "save it as CSV in UTF-8") from error


def _json_rows(path: Path) -> list[list[str]]:
    try:
        objects = json.loads(path.read_text(encoding="utf-8"))
        return [list(objects[0]), *([_text(each[key]) for key in objects[0]] for each in objects)] if objects else []
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path.name} is not JSON: {error}") from error
    except (KeyError, TypeError, IndexError, AttributeError):
        raise UsageError(f"{path.name} is not a list of objects with the same keys") from None


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _names(path: Path, names: Sequence[str] | str | Path | None) -> tuple[str, ...]:
    if names is not None and not isinstance(names, str | Path):
        return tuple(names)
    beside = [path.with_suffix(suffix) for suffix in (".txt", ".names.txt", ".json")]
    candidates = beside if names is None else [Path(names)]
    file = next((candidate for candidate in candidates if is_regular(candidate)), None)
    if file is None:
        raise NotFoundError(
            f"the names of the models in {path.name} are not known",
            f"write them, one per line, to {candidates[0].name} next to it",
        )
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{file.name} is not text: {error}", "save it in UTF-8") from error
    if file.suffix.lower() == ".json":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"{file.name} is not JSON: {error}") from error
        if not isinstance(value, list):
            raise UsageError(f"{file.name} is not a list of names")
        return tuple(str(name) for name in value)
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _from_rows(file: str, rows: list[list[str]], figure: str) -> tuple[tuple[str, ...], Array]:
    column_of = {name: position for position, name in enumerate(rows[0])}
    if twice := next((name for name in ("target", "source", figure) if rows[0].count(name) > 1), None):
        raise UsageError(f"{file} has the column {twice!r} twice", "leave one of them out")
    cells: dict[tuple[str, str], float] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) < len(rows[0]):
            raise DamagedError(f"{file}, row {number} has {len(row)} cells, not {len(rows[0])}")
        pair = row[column_of["target"]], row[column_of["source"]]
        if pair in cells:
            raise UsageError(f"{file}, row {number}: {pair[0]} from {pair[1]} occurs twice")
        cells[pair] = _number(row[column_of[figure]], file, number)
    names = tuple(dict.fromkeys(name for pair in cells for name in pair))
    matrix = np.full((len(names), len(names)), np.nan)
    index_of = {name: position for position, name in enumerate(names)}
    for (target, source), value in cells.items():
        matrix[index_of[target], index_of[source]] = value
    return _checked(file, names, matrix)


def _from_pairs(file: str, rows: list[list[str]]) -> tuple[tuple[str, ...], Array]:
    """The symmetric matrix of a table with the columns a, b and affinity, in which a pair may occur either way."""
    header = ["target" if name == "a" else "source" if name == "b" else name for name in rows[0]]
    names, matrix = _from_rows(file, [header, *rows[1:]], "affinity")
    other_way = matrix.T
    if (conflict := np.isfinite(matrix) & np.isfinite(other_way) & (matrix != other_way)).any():
        first, second = np.argwhere(conflict)[0]
        raise UsageError(f"{file} has two affinities of {names[first]} and {names[second]}")
    matrix = np.where(np.isfinite(matrix), matrix, other_way)
    diagonal = np.diagonal(matrix)
    np.fill_diagonal(matrix, np.where(np.isfinite(diagonal), diagonal, 1.0))
    return names, matrix


def _from_square(file: str, rows: list[list[str]]) -> tuple[tuple[str, ...], Array]:
    header, body = rows[0], rows[1:]
    has_row_names = bool(body) and len(body[0]) == len(body) + 1
    columns = tuple(name.strip() for name in (header[1:] if has_row_names and len(header) == len(body) + 1 else header))
    row_names = tuple(row[0].strip() for row in body) if has_row_names else columns
    width = len(columns) + has_row_names
    if any(len(row) != width for row in body) or len(row_names) != len(body) or set(row_names) != set(columns):
        raise UsageError(
            f"{file} is not a square table with the same names across and down",
            "first line: an empty cell and the names; then one line per model: its name and its affinities",
        )
    values = [[_number(cell, file, number) for cell in row[has_row_names:]] for number, row in enumerate(body, start=2)]
    matrix = np.array(values, dtype=np.float64)
    order = [row_names.index(name) for name in columns]
    return _checked(file, columns, matrix[order])


def _number(text: str, file: str, row: int) -> float:
    if not text.strip():
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise DamagedError(f"{file}, row {row}: {text!r} is not a number") from None


def _checked(file: str, names: tuple[str, ...], matrix: Array) -> tuple[tuple[str, ...], Array]:
    if matrix.shape != (len(names), len(names)):
        raise UsageError(f"{file} has a matrix of shape {matrix.shape} for {len(names)} names")
    if len(set(names)) != len(names):
        raise UsageError(f"{file} names a model twice")
    return names, matrix
