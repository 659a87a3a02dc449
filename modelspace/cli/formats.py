"""Records as JSON or CSV on standard output; tables are in `modelspace.cli.tables`."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from enum import Enum, StrEnum
from typing import Any

from modelspace.cli.screen import is_terminal, printable
from modelspace.cli.spelling import record_in_flags


class Format(StrEnum):
    """The choices of ``--format``."""

    table = "table"
    json = "json"
    csv = "csv"


def plain(value: Any) -> Any:
    """The value as JSON types.

    Dates and times become ISO 8601, bytes hexadecimal, decimals numbers if a float holds them exactly, else text; NaN
    and infinities, which JSON lacks, become null.
    """
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):  # numpy
        return plain(value.tolist())
    if hasattr(value, "as_tuple"):  # Decimal
        if not value.is_finite():
            return None
        number = int(value) if value == value.to_integral_value() else float(value)
        return number if str(number) == str(value.normalize()) or number == value else str(value)
    return str(value)


def to_json(value: Any) -> str:
    """Indented JSON, not escaped to ASCII, with keys in the order of the columns.

    >>> print(to_json([{"name": "Zürich", "share": 0.1}]))
    [
      {
        "name": "Zürich",
        "share": 0.1
      }
    ]
    """
    return visible_json(json.dumps(plain(value), ensure_ascii=False, indent=2, allow_nan=False))


def visible_json(text: str) -> str:
    r"""The same JSON without control and invisible characters, which become \uXXXX; letters of any script stay.

    >>> print(visible_json('["\u202eZürich"]'))
    ["\u202eZürich"]
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def to_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """CSV (RFC 4180) with "\\n" line ends; lists and dictionaries as JSON, booleans in lower case, null as empty.

    >>> print(to_csv(["name", "tags"], [["a, b", {"k": 1}]]), end="")
    name,tags
    "a, b","{""k"": 1}"
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_cell(plain(value)) for value in row] for row in rows])
    return file.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    _write(to_json(value) + "\n")


def print_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as CSV."""
    _write(to_csv(columns, rows))


def print_text(text: str) -> None:
    """Print machine-readable text that is neither JSON nor CSV."""
    _write(text)


def print_records(records: Any, format: Format) -> None:
    """Print records (`modelspace.results.Records`) as JSON or CSV."""
    rows = [record_in_flags(row) for row in records.to_dicts()]
    if format is Format.json:
        print_json(rows)
    else:
        print_csv(records.columns, [list(row.values()) for row in rows])


def print_selected(columns: Sequence[str], rows: Sequence[Sequence[Any]], format: Format) -> None:
    """Print some columns of records as JSON or CSV."""
    if format is Format.json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_csv(columns, rows)


def print_record(record: Any, format: Format) -> None:
    """Print one dataclass record, or a dictionary, as a JSON object or a CSV with one row."""
    row = record_in_flags(record if isinstance(record, Mapping) else _as_dict(record))
    if format is Format.json:
        print_json(row)
    else:
        print_csv(list(row), [list(row.values())])


def _as_dict(record: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(record)


def _write(text: str) -> None:
    """Write UTF-8 regardless of the terminal's encoding, since these formats are for programs."""
    if is_terminal(sys.stdout):  # a file or a program gets the text as it is stored
        text = printable(text, keep="\n")
    sys.stdout.flush()
    try:
        content = text.encode("utf-8", "surrogateescape")  # a file name that is not UTF-8 stays the same bytes
    except UnicodeEncodeError:
        content = text.encode("utf-8", "backslashreplace")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
