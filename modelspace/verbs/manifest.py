"""Manifests: many models in one TOML or CSV file, each with the options of `add`.

    [defaults]
    task = "classification"
    tags = { owner = "me" }

    [[model]]
    name = "resnet18"
    uri = "python:nets.py:resnet18"
    weights = "resnet18.safetensors"
    input_size = 224

Reading a manifest runs no model and does not import torch. All mistakes in a file are reported at once.
"""

from __future__ import annotations

import csv
import io
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.files import expanded, is_regular, special_kind
from modelspace.names import check_name, did_you_mean, near_matches
from modelspace.sources import PreprocessingFlags, parse_uri
from modelspace.sources.fields import FIELDS

#: The manifests that ship with modelspace.
CATALOGS = Path(__file__).parents[1] / "catalogs"

#: Fields of `modelspace.types.Preprocessing`, as spelled in an entry.
PREPROCESSING = tuple(entry.name for entry in fields(PreprocessingFlags))

_TEXTS = ("name", "uri", "weights", "weights_key", "layer", "task", "data", "device", "trust_code", "needs")
#: Keys of an entry. All other fields of `modelspace.embedding.prepare.Request` are allowed too (`_request_fields`).
KEYS = (*_TEXTS, *PREPROCESSING, "tags", "batch_size")
#: Keys that make sense for one model only.
_PER_MODEL = ("name", "uri", "weights", "needs")

_DEFAULTS = "[defaults]"

#: Schemes whose address is just a path.
FILE_SCHEMES = ("file", "onnx")

#: Maximum number of mistakes in the message.
_SHOWN = 20


@dataclass(frozen=True)
class Entry:
    """One model of a manifest.

    Attributes:
        options: fields of `modelspace.embedding.prepare.Request`, including "model" unless the address is missing.
        batch_size: images per pass, or None.
        needs: what the user has to provide if there is no address.
        where: for messages, for example "line 12 (model 3, resnet18)".
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    needs: str = ""
    where: str = ""

    @property
    def model(self) -> Any:
        """The address, or a live module; None if the user has to provide it."""
        return self.options.get("model")

    @property
    def name(self) -> str | None:
        """The model's name, if given."""
        return self.options.get("name")

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.name or (self.model if isinstance(self.model, str) else type(self.model).__name__)


class ManifestError(UsageError):
    """A manifest with mistakes; `mistakes` lists all of them, each with its location."""

    def __init__(self, what: str, mistakes: Sequence[str], hint: str = "") -> None:
        lines = [*mistakes[:_SHOWN], *([f"... and {len(mistakes) - _SHOWN} more"] if len(mistakes) > _SHOWN else [])]
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n  ".join([f"{what} has {count}:", *lines]), hint)
        self.mistakes = tuple(mistakes)


def catalogs() -> list[str]:
    """Names of the manifests that ship with modelspace."""
    return sorted(path.stem for path in CATALOGS.glob("*.toml"))


def find(name: str | Path) -> Path:
    """The file of a manifest: a path, or the name of a catalog.

    Raises:
        NotFoundError: it is neither.
    """
    path = expanded(Path(name))
    if is_regular(path):
        return path
    if str(name) in catalogs():
        return CATALOGS / f"{name}.toml"
    if kind := special_kind(path):
        raise UsageError(f"{path} is {kind}, not a manifest", "name the file, for example zoo.toml")
    siblings = [other.name for other in path.parent.glob("*") if other.suffix in (".toml", ".csv")]
    available = f"catalogs that come with modelspace: {', '.join(catalogs())}"
    suggestion = did_you_mean(str(name), [*catalogs(), *siblings])
    raise NotFoundError(f"there is no manifest {name}", f"{suggestion} {available}".strip())


def read(manifest: str | Path) -> list[Entry]:
    """The models of a manifest file (.toml or .csv) or of a catalog, in order.

    Relative paths of weights and of files in addresses are relative to the manifest's folder.

    Raises:
        NotFoundError: there is no such file or catalog.
        ManifestError: all mistakes in it.
    """
    path = find(manifest)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    if path.suffix.lower() == ".csv":
        return _checked(path.name, *_csv_rows(path.name, text), path.parent)
    return _checked(path.name, *_toml_rows(path.name, text), path.parent)


def from_mappings(values: Iterable[Mapping[str, Any]], base: Path | None = None) -> list[Entry]:
    """The same from dictionaries, with "model" (an address or a live module) as an alias of "uri".

    Args:
        values: one dictionary per model, with the keys of a manifest.
        base: folder of relative paths; default: the current folder.

    Raises:
        ManifestError: all mistakes in them.
    """
    rows = []
    for number, value in enumerate(values, 1):
        entry = dict(value)
        if "model" in entry and "uri" not in entry:
            entry["uri"] = entry.pop("model")
        rows.append(_Row(f"model {number}", entry))
    return _checked("the list of models", rows, [], base or Path.cwd())


@dataclass(frozen=True)
class _Row:
    """One model as written in the file.

    Attributes:
        where: its name in messages.
        values: key -> value, including those from [defaults].
        places: key -> line, if known; "" -> first line.
        inherited: keys whose value comes from [defaults], where its mistakes are reported once.
    """

    where: str
    values: dict[str, Any]
    places: Mapping[str, int] = field(default_factory=dict)
    inherited: Collection[str] = ()

    def at(self, key: str) -> str:
        """The location of a key, for messages."""
        return f"line {self.places[key]} ({self.where})" if key in self.places else self.where


# ---- the two file formats


def _toml_rows(name: str, text: str) -> tuple[list[_Row], list[str]]:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of more digits than Python converts
        raise ManifestError(name, [f"it is not TOML: {error}"], "docs/how-to/many-models.md has an example") from None
    mistakes = [
        f"unknown table {key!r}{_suggestion(key, ('model', 'defaults'))}"
        for key in document
        if key not in ("model", "defaults")
    ]
    defaults, models = document.get("defaults", {}), document.get("model", [])
    if not isinstance(defaults, dict):
        mistakes.append("defaults is not a table: write [defaults]")
        defaults = {}
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        mistakes.append("model is not a list of tables: write [[model]] before each")
        models = []
    lines = _lines(text, len(models))
    mistakes += [f"{_DEFAULTS}: {key!r} belongs to one model, not to all" for key in defaults if key in _PER_MODEL]
    defaults = {key: value for key, value in defaults.items() if key not in _PER_MODEL}
    rows = [_Row(_DEFAULTS, defaults)] if defaults else []
    for number, (model, places) in enumerate(zip(models, lines, strict=True), 1):
        label = f"model {number}" + (f", {model['name']}" if isinstance(model.get("name"), str) else "")
        rows.append(_Row(label, _with_defaults(defaults, model), places, set(defaults) - set(model)))
    if not models and not mistakes:
        mistakes.append("it has no [[model]]")
    return rows, mistakes


def _with_defaults(defaults: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's values on top of the defaults; tags are merged key by key."""
    values = {**defaults, **model}
    if isinstance(defaults.get("tags"), dict) and isinstance(model.get("tags"), dict):
        values["tags"] = {**defaults["tags"], **model["tags"]}
    return values


def _lines(text: str, count: int) -> list[dict[str, int]]:
    """For each [[model]], key -> line, and "" -> first line; empty if the file has another layout.

    tomllib gives no line numbers. A manifest is flat enough to find them by pattern: only a multi-line string can
    contain something that looks like a key, and that makes a line wrong in a message, never in what is read.
    """
    lines: list[dict[str, int]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*\[\[\s*model\s*\]\]", line):
            lines.append({"": number})
            inside = True
        elif table := re.match(r"\s*\[+\s*([\w.]+)", line):
            inside = inside and table[1].startswith("model.")
            if inside:
                lines[-1].setdefault(table[1].removeprefix("model."), number)
        elif inside and (key := re.match(r"""\s*["']?([\w-]+)["']?\s*[.=]""", line)):
            lines[-1].setdefault(key[1], number)
    return lines if len(lines) == count else [{} for _ in range(count)]


def _csv_rows(name: str, text: str) -> tuple[list[_Row], list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[_Row] = []
    mistakes: list[str] = []
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            first, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells) or cells[0].lstrip().startswith("#"):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                mistakes += [
                    f"line {first}: column {column!r} occurs twice"
                    for column in sorted(set(header))
                    if header.count(column) > 1
                ]
                continue
            number = len(rows) + 1
            if len(cells) != len(header):
                mistakes.append(f"line {first} (model {number}): {len(cells)} cells, but {len(header)} columns")
            values: dict[str, Any] = {}
            for column, cell in zip(header, cells, strict=False):
                if not cell.strip():
                    continue
                if column.startswith("tags."):
                    values.setdefault("tags", {})[column.removeprefix("tags.")] = cell.strip()
                else:
                    values[column] = cell.strip()
            label = f"model {number}" + (f", {values['name']}" if "name" in values else "")
            rows.append(_Row(label, values, dict.fromkeys(("", *values), first)))
    except csv.Error as error:
        raise ManifestError(name, [f"line {reader.line_num}: it is not CSV: {error}"]) from None
    if not rows and not mistakes:
        mistakes.append("it has no row below the header")
    return rows, mistakes


# ---- one entry


def _checked(name: str, rows: Sequence[_Row], mistakes: list[str], base: Path) -> list[Entry]:
    entries: list[Entry] = []
    names: dict[str, str] = {}
    unknown: dict[str, list[str]] = {}
    for row in rows:
        before = len(mistakes)
        options, batch_size = _options(row, mistakes, unknown)
        if row.where == _DEFAULTS:
            continue
        needs, uri = options.pop("needs", ""), options.pop("uri", None)
        if uri is None and not needs:
            mistakes.append(f"{row.at('')}: neither uri nor needs says where the model comes from")
        if isinstance(uri, str):
            try:
                parse_uri(uri)
                options = {"model": _anchored(uri, base), **options}
            except ModelspaceError as error:
                mistakes.append(f"{row.at('uri')}: {_in_one_line(error)}")
        elif uri is not None:
            options = {"model": uri, **options}
        if "weights" in options:
            options["weights"] = _absolute(options["weights"], base)
        if (label := options.get("name")) is not None:
            if label in names:
                mistakes.append(f"{row.at('name')}: the name {label!r} is taken by {names[label]}")
            names.setdefault(label, row.at("name"))
        if len(mistakes) == before:
            entries.append(Entry(options, batch_size, needs, row.at("")))
    for key, places in unknown.items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        mistakes.append(f"{places[0]}{more}: unknown key {key!r}{_suggestion(key, [*KEYS, *_request_fields()])}")
    if mistakes:
        hint = (
            f"available keys: {', '.join([*KEYS, *_request_fields()])}"
            if unknown
            else "docs/how-to/many-models.md has examples"
        )
        raise ManifestError(name, mistakes, hint)
    return entries


class _WrongValueError(Exception):
    """An invalid value of an entry; the text says why."""


def _options(row: _Row, mistakes: list[str], unknown: dict[str, list[str]]) -> tuple[dict[str, Any], int | None]:
    """The values of an entry with the types of `Request`; mistakes and unknown keys are added to the lists."""
    options: dict[str, Any] = {}
    preprocessing: dict[str, Any] = {}

    def report(key: str, mistake: str) -> None:
        if key not in row.inherited:
            mistakes.append(f"{row.at(key)}: {mistake}")

    for key, value in row.values.items():
        if value is None:
            continue
        if key in PREPROCESSING:
            preprocessing[key] = value
            continue
        read = _reader(key, value)
        if read is None:
            if key not in row.inherited:
                unknown.setdefault(key, []).append(row.at(key))
            continue
        try:
            options[key] = read(key, value)
        except _WrongValueError as error:
            report(key, str(error))
    try:
        options |= {"preprocessing": _flags(preprocessing)} if preprocessing else {}
    except ModelspaceError as error:
        # At a key of the entry itself, if there is one: mistakes of [defaults] are reported there, once.
        keys = sorted(preprocessing, key=lambda key: key in row.inherited)
        report(keys[0], _plain(_in_one_line(error)))
    batch_size = options.pop("batch_size", None)
    return options, batch_size


def _reader(key: str, value: Any) -> Callable[[str, Any], Any] | None:
    """The function that reads the value of a key; None if there is no such key."""
    whole = key == "preprocessing" and not isinstance(value, str)
    live = key == "uri" and not isinstance(value, str | bool | int | float | list | dict)
    if whole or live:
        return lambda _, value: value
    if key in _TEXTS:
        return _read_text
    if key in _READERS:
        return _READERS[key]
    return _read_other if key in _request_fields() else None


def _read_text(key: str, value: Any) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text.strip():
        raise _WrongValueError(f"{key} is not a string: {value!r}")
    try:
        return check_name(text) if key == "name" else text
    except ModelspaceError as error:
        raise _WrongValueError(_in_one_line(error)) from error


def _read_tags(key: str, value: Any) -> dict[str, str]:
    if isinstance(value, Mapping) and all(isinstance(v, str | int | float | bool) for v in value.values()):
        return {str(tag): _as_text(v) for tag, v in value.items()}
    raise _WrongValueError('tags is not a table of strings: write tags = { group = "3D" }, or tags.group = "3D"')


def _read_batch_size(key: str, value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise _WrongValueError(f"batch_size is not a whole number above 0: {value!r}")
    return number


def _read_other(key: str, value: Any) -> Any:
    read = _request_fields()[key](value)
    if read is None:
        raise _WrongValueError(f"{key} can't be {value!r}")
    return read


#: Readers of the keys whose values are not strings.
_READERS: Mapping[str, Callable[[str, Any], Any]] = {"tags": _read_tags, "batch_size": _read_batch_size}


def _in_one_line(error: ModelspaceError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


def _plain(text: str) -> str:
    """A message about a parameter, turned into one about the key of an entry."""
    return text.replace("`", "")


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flags(values: Mapping[str, Any]) -> PreprocessingFlags:
    """Preprocessing from TOML numbers and lists, or from strings as on the command line."""
    texts = {key: value for key, value in values.items() if isinstance(value, str) and key != "inputs"}
    # In a CSV cell, numbers may be separated by blanks, which need no quotes: "0.485 0.456 0.406".
    spaced = {
        key: re.sub(r"[\s,;]+", ",", value.strip()) if FIELDS[key].form.numbers else value
        for key, value in texts.items()
    }
    parsed = PreprocessingFlags.parse(**spaced)
    typed = PreprocessingFlags.from_dict({key: value for key, value in values.items() if key not in texts})
    return replace(parsed, **typed.stated())


def _request_fields() -> dict[str, Callable[[Any], Any]]:
    """Field -> reader for the fields of `Request` that are not in `KEYS`; a reader returns None for an invalid value.

    Called only for a key that is not in `KEYS`, because it imports torch.
    """
    from modelspace.embedding.prepare import Request

    known = {*KEYS, "model", "preprocessing"}
    return {
        entry.name: _read_switch if isinstance(entry.default, bool) else _read_plain
        for entry in fields(Request)
        if entry.name not in known
    }


def _read_plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else None


def _read_switch(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(value).lower())


def _suggestion(word: str, known: Iterable[str]) -> str:
    nearest = near_matches(word, known, 1)
    return f", did you mean {nearest[0]}?" if nearest else ""


# ---- paths


def _absolute(path: str, base: Path) -> str:
    """A path relative to the manifest, made absolute so that the model is found from any folder and by any worker."""
    return os.path.abspath(base / expanded(Path(path)))


def _anchored(uri: str, base: Path) -> str:
    """An address whose file, if any, is relative to the manifest's folder."""
    scheme, _, address = uri.partition(":")
    module, colon, name = address.rpartition(":")
    if scheme == "python":
        is_file = module.endswith(".py") or "/" in module or os.sep in module
        return f"python:{Path(_absolute(module, base)).as_posix()}:{name}" if is_file else uri
    if scheme == "package":
        return uri
    if scheme in FILE_SCHEMES or (scheme == "hf-hub" and address.startswith(".")):
        return f"{scheme}:{Path(_absolute(address, base)).as_posix()}"
    # Other addresses may name a file with a suffix; a name with a dot counts as a file only if the file exists.
    for file, tail in ((address, ""), (module, colon + name)):
        if Path(file).suffix and is_regular(base / file):
            return f"{scheme}:{Path(_absolute(file, base)).as_posix()}{tail}"
    return uri
