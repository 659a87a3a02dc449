"""Labelled images: a folder with one subfolder per class, or a table of paths and labels. Nothing is copied."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.files import expanded, is_folder, is_regular, open_regular, special_kind
from modelspace.names import did_you_mean
from modelspace.probes.decoding import FORMATS
from modelspace.tasks.metrics import KINDS, Kind

#: Suffixes of files that are taken for images.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})

#: Columns of a table: the image's path, relative to the table's folder, and its label.
PATH, LABEL = "path", "label"

#: Share of unreadable images that is left out with a note; more are an error.
MAX_UNREADABLE = 0.01

#: Fewer images than this per class make intervals wide.
FEW = 10

#: How many names a message lists.
_LISTED = 5

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LabelledImages:
    """A data set.

    Attributes:
        location: the folder or table, as the user gave it.
        kind: "classification" or "regression".
        files: (n,) paths, in the order of their names.
        labels: (n,) numbers of classes, or real numbers.
        classes: names of the classes, sorted; empty for regression.
        hashes: (n,) SHA-256 of each file.
        notes: what was left out, and what makes results uncertain.
    """

    location: str
    kind: Kind
    files: tuple[Path, ...]
    labels: tuple[int, ...] | tuple[float, ...]
    classes: tuple[str, ...]
    hashes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the images and their labels, whatever the files are called and wherever they lie."""
        names: Sequence[object] = self.classes or self.labels
        labels = (names[int(label)] for label in self.labels) if self.classes else iter(names)
        lines = sorted(f"{digest} {label}" for digest, label in zip(self.hashes, labels, strict=True))
        return hashlib.sha256("\n".join([self.kind, *lines]).encode()).hexdigest()


@dataclass(frozen=True)
class _Entry:
    """An image file and its label as text."""

    file: Path
    label: str


def read(location: str | Path, kind: Kind | None = None, progress: Progress | None = None) -> LabelledImages:
    """Read a data set; every image is opened and hashed, none is decoded in full.

    Args:
        location: a folder with one subfolder per class; or a CSV or Parquet file with the columns "path" and "label".
        kind: of the labels; default: regression if a table has a label that is a number with a fraction, else
            classification.
        progress: called with (images read, total images).

    Raises:
        NotFoundError: the folder, the table or an image is missing.
        UsageError: no images, one class, a class with a single image, an image with two labels, labels that are not
            numbers in a regression, or an unknown kind.
        ModelspaceError: more than 1% of the images can't be read, or the table can't.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"{kind!r} is not a kind of labels", f"use {' or '.join(KINDS)}")
    place = expanded(Path(location))
    if is_folder(place):
        if kind == "regression":
            raise UsageError("the subfolders of a folder are classes, not numbers", "for regression give a CSV file")
        entries, kind = list(_in_folder(place)), "classification"
    elif is_regular(place):
        entries = _in_table(place)
        kind = kind or _kind(entries)
    else:
        if special := special_kind(place):
            raise UsageError(f"{location} is {special}", "give a folder of images, or a CSV or Parquet file")
        names = [other.name for other in place.parent.iterdir()] if is_folder(place.parent) else []
        raise NotFoundError(f"there is no data set {location}", did_you_mean(place.name, names))
    if not entries:
        raise UsageError(
            f"{location} has no labelled images",
            "put the images in one subfolder per class, or give a CSV file with the columns path,label",
        )
    readable, hashes, notes = _readable(entries, str(location), progress)
    kept, hashes, duplicates = _unique(readable, hashes)
    notes += duplicates
    numbers, classes = _labels(kept, kind)
    if kind == "classification":
        notes += _check_classes(numbers, classes)
    files = tuple(entry.file for entry in kept)
    return LabelledImages(str(location), kind, files, numbers, classes, tuple(hashes), tuple(notes))


# --- where images and labels come from


def _in_folder(folder: Path) -> Iterator[_Entry]:
    subfolders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    for subfolder in subfolders:
        for parent, folders, names in os.walk(subfolder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if Path(name).suffix.lower() in SUFFIXES:
                    yield _Entry(Path(parent) / name, subfolder.name)


def _in_table(table: Path) -> list[_Entry]:
    rows = list(_rows_of(table))
    missing = [path for path, _ in rows if not is_regular(table.parent / path)]
    if missing:
        listing = ", ".join(missing[:_LISTED]) + (", ..." if len(missing) > _LISTED else "")
        raise NotFoundError(
            f"{len(missing)} of {len(rows)} images of {table.name} are missing: {listing}",
            "paths are relative to the folder of the table",
        )
    unlabelled = [path for path, label in rows if not label]
    if unlabelled:
        raise UsageError(f"{len(unlabelled)} images of {table.name} have no label, for example {unlabelled[0]}")
    return [_Entry(table.parent / path, label) for path, label in rows]


def _rows_of(table: Path) -> Iterator[tuple[str, str]]:
    if table.suffix.lower() == ".parquet":
        from modelspace.registry.files import read_parquet

        columns = read_parquet(table, (PATH, LABEL))
        yield from zip(map(str, columns[PATH]), map(_text, columns[LABEL]), strict=True)
        return
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if not {PATH, LABEL} <= set(reader.fieldnames or ()):
                raise UsageError(
                    f"{table.name} has the columns {', '.join(reader.fieldnames or ['(none)'])}",
                    f"its first line must name the columns {PATH} and {LABEL}",
                )
            for row in reader:
                yield (row[PATH] or "").strip(), (row[LABEL] or "").strip()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ModelspaceError(f"{table} can't be read as a CSV file: {error}", "save it as CSV in UTF-8") from error


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _kind(entries: Sequence[_Entry]) -> Kind:
    """Regression if every label is a number and one has a fraction."""
    try:
        return "regression" if any(not float(entry.label).is_integer() for entry in entries) else "classification"
    except (ValueError, OverflowError):
        return "classification"


# --- checks


def _readable(
    entries: Sequence[_Entry], location: str, progress: Progress | None
) -> tuple[list[_Entry], list[str], list[str]]:
    """The entries whose file is an image, the hashes of those files, and a note on the others."""
    readable: list[_Entry] = []
    hashes: list[str] = []
    broken: list[str] = []
    for number, entry in enumerate(entries, 1):
        digest = _hash_of_image(entry.file)
        if digest is None:
            broken.append(entry.file.name)
        else:
            readable.append(entry)
            hashes.append(digest)
        if progress is not None:
            progress(number, len(entries))
    if not broken:
        return readable, hashes, []
    listing = ", ".join(broken[:_LISTED]) + (", ..." if len(broken) > _LISTED else "")
    if len(broken) > MAX_UNREADABLE * len(entries):
        raise ModelspaceError(
            f"{len(broken)} of {len(entries)} images of {location} can't be read: {listing}",
            "remove or replace them; up to 1% are left out",
        )
    return readable, hashes, [f"left out, because they can't be read: {listing}"]


def _hash_of_image(file: Path) -> str | None:
    """SHA-256 of a file, or None if it is not an image."""
    try:
        with open_regular(file) as stream:
            digest = hashlib.file_digest(stream, "sha256")
            stream.seek(0)
            with Image.open(stream, formats=FORMATS) as image:
                image.verify()
    except Exception:  # Pillow's decoders raise many kinds of errors on damaged files
        return None
    return digest.hexdigest()


def _unique(entries: Sequence[_Entry], hashes: Sequence[str]) -> tuple[list[_Entry], list[str], list[str]]:
    """Each image once, so that none is in the training and in the test part.

    Raises:
        UsageError: the same image has two labels.
    """
    first: dict[str, _Entry] = {}
    for entry, digest in zip(entries, hashes, strict=True):
        earlier = first.setdefault(digest, entry)
        if earlier.label != entry.label:
            raise UsageError(
                f"the same image has two labels: {earlier.file.name} is {earlier.label}, {entry.file.name} is "
                f"{entry.label}",
                "remove one of them",
            )
    n_copies = len(entries) - len(first)
    notes = [f"{n_copies} copies of other images are left out"] if n_copies else []
    return list(first.values()), list(first), notes


def _labels(entries: Sequence[_Entry], kind: Kind) -> tuple[tuple[int, ...] | tuple[float, ...], tuple[str, ...]]:
    if kind == "classification":
        classes = tuple(sorted({entry.label for entry in entries}))
        numbers = {name: number for number, name in enumerate(classes)}
        return tuple(numbers[entry.label] for entry in entries), classes
    values = []
    for entry in entries:
        try:
            value = float(entry.label)
        except ValueError:
            raise UsageError(f"the label {entry.label!r} of {entry.file.name} is not a number") from None
        if value != value or value in (float("inf"), float("-inf")):
            raise UsageError(f"the label of {entry.file.name} is {entry.label}", "labels must be finite numbers")
        values.append(value)
    if len(set(values)) < 2:
        raise UsageError("all labels are the same number", "a task needs at least two")
    return tuple(values), ()


def _check_classes(numbers: Sequence[float], classes: Sequence[str]) -> list[str]:
    """Notes on small classes.

    Raises:
        UsageError: one class alone, or a class with a single image.
    """
    if len(classes) < 2:
        raise UsageError(f"all images have the label {classes[0]}", "a task needs at least two classes")
    counts = Counter(int(number) for number in numbers)
    single = [classes[number] for number, count in sorted(counts.items()) if count < 2]
    if single:
        listing = ", ".join(single[:_LISTED]) + (", ..." if len(single) > _LISTED else "")
        raise UsageError(
            f"{len(single)} classes have a single image: {listing}",
            "each class needs one image for training and one for the test: add images, or leave the class out",
        )
    smallest = min(counts.values())
    if smallest >= FEW:
        return []
    return [f"the smallest class has {smallest} images, so scores are uncertain"]
