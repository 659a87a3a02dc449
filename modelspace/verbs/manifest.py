"""Manifests: many models in one file, TOML or CSV, each with what the options of `add` say.

    [defaults]
    task = "classification"
    tags = { owner = "me" }

    [[model]]
    name = "resnet18"
    uri = "python:nets.py:resnet18"
    weights = "resnet18.safetensors"
    input_size = 224

Reading one runs no model and imports no torch. All mistakes of a file are reported at once.
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
from modelspace.names import check_name, did_you_mean, near_matches
from modelspace.sources import PreprocessingFlags, parse_uri
from modelspace.sources.fields import FIELDS

#: The manifests that come with modelspace.
CATALOGS = Path(__file__).parents[1] / "catalogs"

#: Fields of `modelspace.types.Preprocessing`, as they are written in an entry.
PREPROCESSING = tuple(entry.name for entry in fields(PreprocessingFlags))

_TEXTS = ("name", "uri", "weights", "weights_key", "layer", "task", "data", "device", "trust_code", "needs")
#: What an entry may say. Whatever else `modelspace.embedding.prepare.Request` has is allowed too (`_of_request`).
KEYS = (*_TEXTS, *PREPROCESSING, "tags", "batch_size")
#: What makes sense for one model only.
_OF_ONE = ("name", "uri", "weights", "needs")

_DEFAULTS = "[defaults]"

#: Kinds of addresses that are nothing but a path.
FILE_SCHEMES = ("file", "onnx")

#: At most so many mistakes are told.
_TOLD = 20


@dataclass(frozen=True)
class Entry:
    """One model of a manifest.

    Attributes:
        options: entries of `modelspace.embedding.prepare.Request`, with "model" unless the file gives no address.
        batch_size: images per pass, or None.
        needs: where there is no address: what the user has to bring.
        where: for messages, for example "line 12 (model 3, resnet18)".
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    needs: str = ""
    where: str = ""

    @property
    def model(self) -> Any:
        """The address, or a live module; None where the user has to bring something."""
        return self.options.get("model")

    @property
    def name(self) -> str | None:
        """The name to register the model under, if the file gives one."""
        return self.options.get("name")

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return self.name or (self.model if isinstance(self.model, str) else type(self.model).__name__)


class ManifestError(UsageError):
    """A manifest that can't be used; `mistakes` has all of them, each with its place."""

    def __init__(self, what: str, mistakes: Sequence[str], hint: str = "") -> None:
        told = [*mistakes[:_TOLD], *([f"... and {len(mistakes) - _TOLD} more"] if len(mistakes) > _TOLD else [])]
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n  ".join([f"{what} has {count}:", *told]), hint)
        self.mistakes = tuple(mistakes)


def catalogs() -> list[str]:
    """Names of the manifests that come with modelspace."""
    return sorted(path.stem for path in CATALOGS.glob("*.toml"))


def find(name: str | Path) -> Path:
    """The file of a manifest: a path, or the name of a catalog.

    Raises:
        NotFoundError: neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if str(name) in catalogs():
        return CATALOGS / f"{name}.toml"
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a manifest", "name the file, for example zoo.toml")
    beside = [other.name for other in path.parent.glob("*") if other.suffix in (".toml", ".csv")]
    known = f"catalogs that come with modelspace: {', '.join(catalogs())}"
    meant = did_you_mean(str(name), [*catalogs(), *beside])
    raise NotFoundError(f"there is no manifest {name}", f"{meant} {known}".strip())


def read(manifest: str | Path) -> list[Entry]:
    """The models of a manifest file (.toml or .csv) or of a catalog, in its order.

    Relative paths in it, of weights and of files in addresses, are relative to its folder.

    Raises:
        NotFoundError: there is no such file or catalog.
        ManifestError: what is wrong with it, all at once.
    """
    path = find(manifest)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text in UTF-8 ({error.reason} at byte {error.start})") from None
    if path.suffix.lower() == ".csv":
        return _checked(path.name, *_csv_rows(path.name, text), path.parent)
    return _checked(path.name, *_toml_rows(path.name, text), path.parent)


def from_mappings(values: Iterable[Mapping[str, Any]], base: Path | None = None) -> list[Entry]:
    """The same from dictionaries, with "model" (an address or a live module) as another word for "uri".

    Args:
        values: one dictionary for each model, with the entries of a manifest.
        base: what relative paths are relative to; default: the current folder.

    Raises:
        ManifestError: what is wrong with them, all at once.
    """
    rows = []
    for number, value in enumerate(values, 1):
        given = dict(value)
        if "model" in given and "uri" not in given:
            given["uri"] = given.pop("model")
        rows.append(_Row(f"model {number}", given))
    return _checked("the list of models", rows, [], base or Path.cwd())


@dataclass(frozen=True)
class _Row:
    """What stands in the file for one model.

    Attributes:
        where: what to call it in messages.
        values: by key, those of [defaults] among them.
        places: the line of each key, where known; of the beginning as "".
        inherited: keys whose value is that of [defaults], where its mistakes are told once.
    """

    where: str
    values: dict[str, Any]
    places: Mapping[str, int] = field(default_factory=dict)
    inherited: Collection[str] = ()

    def at(self, key: str) -> str:
        return f"line {self.places[key]} ({self.where})" if key in self.places else self.where


# ---- the two kinds of files


def _toml_rows(name: str, text: str) -> tuple[list[_Row], list[str]]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(name, [f"it is not TOML: {error}"], "docs/how-to/many-models.md has an example") from None
    mistakes = [
        f"unknown table {key!r}{_meant(key, ('model', 'defaults'))}"
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
    mistakes += [f"{_DEFAULTS}: {key!r} belongs to one model, not to all" for key in defaults if key in _OF_ONE]
    defaults = {key: value for key, value in defaults.items() if key not in _OF_ONE}
    rows = [_Row(_DEFAULTS, defaults)] if defaults else []
    for number, (model, places) in enumerate(zip(models, lines, strict=True), 1):
        label = f"model {number}" + (f", {model['name']}" if isinstance(model.get("name"), str) else "")
        rows.append(_Row(label, _over(defaults, model), places, set(defaults) - set(model)))
    if not models and not mistakes:
        mistakes.append("it has no [[model]]")
    return rows, mistakes


def _over(defaults: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's values over the defaults; tags are merged one by one."""
    values = {**defaults, **model}
    if isinstance(defaults.get("tags"), dict) and isinstance(model.get("tags"), dict):
        values["tags"] = {**defaults["tags"], **model["tags"]}
    return values


def _lines(text: str, count: int) -> list[dict[str, int]]:
    """For each [[model]] the lines of its keys, and of its beginning as ""; empty for any other layout.

    tomllib reports no lines. A manifest is flat enough to find them: only inside a multi-line string could something
    look like a key, and then the count or a line number in a message is off, never the values read.
    """
    found: list[dict[str, int]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*\[\[\s*model\s*\]\]", line):
            found.append({"": number})
            inside = True
        elif table := re.match(r"\s*\[+\s*([\w.]+)", line):
            inside = inside and table[1].startswith("model.")
            if inside:
                found[-1].setdefault(table[1].removeprefix("model."), number)
        elif inside and (key := re.match(r"""\s*["']?([\w-]+)["']?\s*[.=]""", line)):
            found[-1].setdefault(key[1], number)
    return found if len(found) == count else [{} for _ in range(count)]


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
                    f"line {first}: column {column!r} is there twice"
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
        mistakes.append("it has no line below the header")
    return rows, mistakes


# ---- what stands in an entry


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
        if (stated := options.get("name")) is not None:
            if stated in names:
                mistakes.append(f"{row.at('name')}: the name {stated!r} is taken by {names[stated]}")
            names.setdefault(stated, row.at("name"))
        if len(mistakes) == before:
            entries.append(Entry(options, batch_size, needs, row.at("")))
    for key, places in unknown.items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        mistakes.append(f"{places[0]}{more}: unknown entry {key!r}{_meant(key, [*KEYS, *_of_request()])}")
    if mistakes:
        hint = (
            f"an entry may have: {', '.join([*KEYS, *_of_request()])}"
            if unknown
            else "docs/how-to/many-models.md has examples"
        )
        raise ManifestError(name, mistakes, hint)
    return entries


class _WrongValueError(Exception):
    """A value that an entry can't have; the text says why."""


def _options(row: _Row, mistakes: list[str], unknown: dict[str, list[str]]) -> tuple[dict[str, Any], int | None]:
    """The values of an entry with the types that `Request` wants; what is wrong with them is put on the lists."""
    options: dict[str, Any] = {}
    stated: dict[str, Any] = {}

    def fails(key: str, what: str) -> None:
        if key not in row.inherited:
            mistakes.append(f"{row.at(key)}: {what}")

    for key, value in row.values.items():
        if value is None:
            continue
        if key in PREPROCESSING:
            stated[key] = value
            continue
        read = _reader(key, value)
        if read is None:
            if key not in row.inherited:
                unknown.setdefault(key, []).append(row.at(key))
            continue
        try:
            options[key] = read(key, value)
        except _WrongValueError as error:
            fails(key, str(error))
    try:
        options |= {"preprocessing": _flags(stated)} if stated else {}
    except ModelspaceError as error:
        own = [key for key in stated if key not in row.inherited]
        fails([*own, *stated][0], _plain(_in_one_line(error)))
    batch_size = options.pop("batch_size", None)
    return options, batch_size


def _reader(key: str, value: Any) -> Callable[[str, Any], Any] | None:
    """How the value of a key is read; None: there is no such key."""
    whole = key == "preprocessing" and not isinstance(value, str)
    live = key == "uri" and not isinstance(value, str | bool | int | float | list | dict)
    if whole or live:
        return lambda _, given: given
    if key in _TEXTS:
        return _read_text
    if key in _READERS:
        return _READERS[key]
    return _read_other if key in _of_request() else None


def _read_text(key: str, value: Any) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text.strip():
        raise _WrongValueError(f"{key} is not a text: {value!r}")
    try:
        return check_name(text) if key == "name" else text
    except ModelspaceError as error:
        raise _WrongValueError(_in_one_line(error)) from error


def _read_tags(key: str, value: Any) -> dict[str, str]:
    if isinstance(value, Mapping) and all(isinstance(v, str | int | float | bool) for v in value.values()):
        return {str(tag): _as_text(v) for tag, v in value.items()}
    raise _WrongValueError('tags is not a table of texts: write tags = { group = "3D" }, or tags.group = "3D"')


def _read_batch_size(key: str, value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise _WrongValueError(f"batch_size is not a whole number above 0: {value!r}")
    return number


def _read_other(key: str, value: Any) -> Any:
    read = _of_request()[key](value)
    if read is None:
        raise _WrongValueError(f"{key} can't be {value!r}")
    return read


#: How keys are read whose values are no texts.
_READERS: Mapping[str, Callable[[str, Any], Any]] = {"tags": _read_tags, "batch_size": _read_batch_size}


def _in_one_line(error: ModelspaceError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


def _plain(text: str) -> str:
    """A message about a parameter as one about the key of an entry, which is a key whoever reads it."""
    return text.replace("`", "")


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flags(stated: Mapping[str, Any]) -> PreprocessingFlags:
    """Numbers and lists of TOML, or the texts that the command line's flags take."""
    texts = {key: value for key, value in stated.items() if isinstance(value, str) and key != "inputs"}
    # A cell may separate numbers by blanks, so that it needs no quotes: "0.485 0.456 0.406".
    spaced = {
        key: re.sub(r"[\s,;]+", ",", value.strip()) if FIELDS[key].form.numbers else value
        for key, value in texts.items()
    }
    read = PreprocessingFlags.parse(**spaced)
    rest = PreprocessingFlags.from_dict({key: value for key, value in stated.items() if key not in texts})
    return replace(read, **rest.stated())


def _of_request() -> dict[str, Callable[[Any], Any]]:
    """What `modelspace.embedding.prepare.Request` has beyond `KEYS`, with how each is read; None: it can't be.

    Asked only where an entry is not among `KEYS`: it costs the import of torch.
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


def _meant(word: str, known: Iterable[str]) -> str:
    nearest = near_matches(word, known, 1)
    return f", did you mean {nearest[0]}?" if nearest else ""


# ---- paths


def _absolute(path: str, base: Path) -> str:
    """A path as seen from the manifest. Absolute, so that the model is found from any folder and by any worker."""
    return os.path.abspath(base / Path(path).expanduser())


def _anchored(uri: str, base: Path) -> str:
    """An address whose file, if it names one, is looked up from the manifest's folder."""
    scheme, _, rest = uri.partition(":")
    place, colon, name = rest.rpartition(":")
    if scheme == "python":
        is_file = place.endswith(".py") or "/" in place or os.sep in place
        return f"python:{Path(_absolute(place, base)).as_posix()}:{name}" if is_file else uri
    if scheme == "package":
        return uri
    if scheme in FILE_SCHEMES:
        return f"{scheme}:{Path(_absolute(rest, base)).as_posix()}"
    # Other kinds of addresses may name a file with a suffix; a model's name with a dot is one only if it is there.
    for file, tail in ((rest, ""), (place, colon + name)):
        if Path(file).suffix and (base / file).is_file():
            return f"{scheme}:{Path(_absolute(file, base)).as_posix()}{tail}"
    return uri
