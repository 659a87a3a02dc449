"""What the files in a folder are, and a manifest that registers them; nothing is registered, and no code is run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelspace.errors import ConflictError, ModelspaceError, NotFoundError, unwritable
from modelspace.files import expanded, is_folder, is_regular
from modelspace.names import to_name
from modelspace.results import Scanned
from modelspace.sources import identify
from modelspace.sources.base import PreprocessingFlags
from modelspace.sources.fields import FIELDS
from modelspace.temporary import replacing
from modelspace.verbs.loadable import check

#: Called with (files done, total files).
Progress = Callable[[int, int], None]

#: What marks Python in messages.
_BACKTICK = chr(96)

#: What a manifest says where a field of the preprocessing is not known.
_BLANKS = {"input_size": "224", "mean": "[0.0, 0.0, 0.0]", "std": "[1.0, 1.0, 1.0]"}


def scan(
    place: Path, out: Path | None, *, force: bool = False, dry_run: bool = False, progress: Progress | None = None
) -> list[Scanned]:
    """See `modelspace.workspace.ModelSpace.scan`."""
    where = expanded(place)
    if not is_folder(where) and not is_regular(where):
        raise NotFoundError(f"there is no file or folder {place}", "name the folder that holds the weights")
    target = None if out is None else expanded(out)
    if target is not None and target.exists() and not force:
        raise ConflictError(f"{out} exists", "use another name, or overwrite it with `force=True`")
    files = identify.candidates(where) if is_folder(where) else [where]
    if not files:
        raise NotFoundError(
            f"the folder {place} has no model",
            f"looked for {', '.join((*identify.WEIGHTS, *identify.PROGRAMS))}",
        )
    records: list[Scanned] = []
    taken: set[str] = set()
    for number, file in enumerate(files):
        record = _scanned(place, where, file, taken)
        taken.add(record.name)
        records.append(_checked(record) if dry_run else record)
        if progress:
            progress(number + 1, len(files))
    if target is not None and not dry_run:
        _write(target, manifest(records, target.absolute().parent, str(place)))
    return records


def _scanned(place: Path, where: Path, file: Path, taken: set[str]) -> Scanned:
    """What one file is."""
    inside = file.relative_to(where).as_posix() if file != where else file.name
    path = place / inside if file != where else place
    name = _free(_label(file), taken)
    try:
        identified = identify.identify(path)
    except ModelspaceError as error:
        return Scanned(inside, name, "unreadable", message=error.message, hint=error.hint)
    tensors = len(identified.tensors.shapes) if identified.tensors is not None else 0
    status = "unknown" if identified.problem else "incomplete" if identified.missing else "ready"
    if identified.uri.startswith("file:"):
        status = "needs trust"
    best = identified.best
    return Scanned(
        file=inside,
        name=name,
        status=status,
        architecture=identified.architecture,
        others=identified.others,
        classes=best.classes if best is not None and best.is_exact else None,
        tensors=tensors,
        uri=identified.uri,
        weights=identified.weights,
        weights_key=identified.weights_key,
        preprocessing=dict(identified.preprocessing),
        missing=identified.missing,
        message=identify.summary(identified),
        hint=identify.advice(identified),
    )


def _label(file: Path) -> str:
    stem = file.name if file.is_dir() else file.name.removesuffix(".index.json").rpartition(".")[0] or file.name
    folder = file.absolute().parent.name
    # A file of this name says nothing; its folder does.
    return to_name(folder if stem in ("model", "pytorch_model", "weights") and folder else stem) or "model"


def _free(name: str, taken: set[str]) -> str:
    number, label = 1, name
    while label in taken:
        number += 1
        label = f"{name}-{number}"
    return label


def _checked(record: Scanned) -> Scanned:
    """The same after a rehearsal of loading, in which values stand in for what is missing of the preprocessing."""
    if record.status not in ("ready", "incomplete"):
        return record
    stand_ins = {"input_size": (224, 224), "mean": (0.0,) * 3, "std": (1.0,) * 3}
    known = {**{name: stand_ins[name] for name in record.missing}, **record.preprocessing}
    try:
        check(record.uri, record.weights or None, record.weights_key or None, PreprocessingFlags(**known))
    except ModelspaceError as error:
        return replace(record, status="fails", message=error.message, hint=error.hint)
    return record


# ---- the manifest


def manifest(records: Iterable[Scanned], base: Path, place: str) -> str:
    """A manifest (`modelspace.verbs.manifest`) of what was identified.

    Args:
        records: what was identified.
        base: the folder that the manifest is written to; paths in it are relative to that.
        place: the folder that was scanned, for the first line.
    """
    parts = [
        f"# The models in {_one_line(place)}. Where a line says so, fill in what the file does not say.",
        "# docs/how-to/many-models.md has the format.",
    ]
    parts += ["\n".join(_entry(record, base)) for record in records]
    return "\n\n".join(["\n".join(parts[:2]), *parts[2:]]) + "\n"


def _entry(record: Scanned, base: Path) -> list[str]:
    lines = [f"# {_one_line(record.file)}: {_one_line(record.message)}"]
    if record.status in ("unknown", "unreadable"):
        return [*lines, f"# {_one_line(record.hint)}"] if record.hint else lines
    lines += ["[[model]]", f"name = {_text(record.name)}", f"uri = {_text(_relative_uri(record.uri, base))}"]
    if record.weights:
        lines.append(f"weights = {_text(_relative(record.weights, base))}")
    if record.weights_key:
        lines.append(f"weights_key = {_text(record.weights_key)}")
    if record.status == "needs trust":
        lines.append('# trust_code = "SHA256"  # the file can contain code: give its SHA-256 if you trust it')
    lines += _stated(record.preprocessing)
    for name in record.missing:
        lines.append(f"# {name} = {_BLANKS[name]}  # not in the file: fill in what it was trained with")
    return lines


def _stated(preprocessing: Mapping[str, Any]) -> list[str]:
    """The known fields of the preprocessing, as lines of TOML."""
    lines = []
    for name, value in preprocessing.items():
        if name in FIELDS:
            lines.append(f"{name} = {_value(value)}")
        elif name == "inputs":
            lines.append(f"inputs = {_value(value)}")
    return lines


def _value(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_text(str(key))} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    """A basic string of TOML, in which every control character is escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _one_line(text: str) -> str:
    """A text for a comment: no line break, no control character and no backticks."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split())).replace(_BACKTICK, "")


def _relative(path: str, base: Path) -> str:
    absolute = expanded(Path(path)).absolute()
    try:
        return Path(os.path.relpath(absolute, base)).as_posix()
    except ValueError:  # another drive
        return str(absolute)


def _relative_uri(uri: str, base: Path) -> str:
    scheme, _, path = uri.partition(":")
    if scheme in ("onnx", "file"):
        return f"{scheme}:{_relative(path, base)}"
    if scheme == "hf-hub":
        inside = _relative(path, base)
        return f"{scheme}:{inside if inside.startswith(('.', '/')) else f'./{inside}'}"
    return uri


def _write(target: Path, text: str) -> None:
    try:
        with replacing(target) as temporary:
            temporary.write_text(text, "utf-8")
    except OSError as error:
        raise unwritable(target, error) from error
