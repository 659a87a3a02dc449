"""What a file or folder of weights is: the architecture of its tensors, its preprocessing, and how it is registered.

Names and shapes are compared with the signatures of common architectures (`modelspace.sources.signatures`); no module
is built, no code of the file is run and no package of models is needed. Preprocessing is never guessed: it comes from
timm's configuration or a Hugging Face image processor next to the weights, or it is missing.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.files import expanded, is_folder, is_regular, read_text
from modelspace.names import did_you_mean
from modelspace.sources import signatures, tensor_names
from modelspace.sources.signatures import Match
from modelspace.sources.tensor_names import Tensors

#: Ends of names of files that hold weights alone, or may.
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".npz")
#: Those of files that never hold a program; of the others, only the content says it.
WEIGHTS_ALONE = (".safetensors", ".index.json")
#: Ends of names of files that hold a whole model, and the scheme of their addresses.
PROGRAMS = {".onnx": "onnx", ".pt2": "file"}

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"

#: Fields of the preprocessing without a default.
REQUIRED = ("input_size", "mean", "std")

#: Names before every name that wrappers and parts of larger models add.
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.", "encoder.", "student.", "teacher.")
_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")

_LISTED = 4
#: Names of tensors in a difference.
_SHOWN = 2


@dataclass(frozen=True)
class Identified:
    """What is known of a file or folder.

    Attributes:
        path: as it was named.
        tensors: of the weights; None: none was read.
        matches: the architectures with these tensors, or the nearest ones; empty: none is near.
        architecture: the best of their addresses without weights, for example "timm:resnet50"; "": none is exact.
        uri: the address to register; "": it has none.
        weights: the file to load into it; "": the address has its own.
        weights_key: which of the state dicts in it.
        preprocessing: of its image processor or timm's configuration.
        missing: fields of the preprocessing that must be filled in.
        problem: why it can't be registered as it is; "": nothing stands against it but what is missing.
        hint: what to do then.
    """

    path: Path
    tensors: Tensors | None = None
    matches: tuple[Match, ...] = ()
    architecture: str = ""
    uri: str = ""
    weights: str = ""
    weights_key: str = ""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = REQUIRED
    problem: str = ""
    hint: str = ""

    @property
    def best(self) -> Match | None:
        """The match that the architecture is of, or the nearest one."""
        named = (match for match in self.matches if self.architecture in match.architecture.names)
        return next(named, self.matches[0] if self.matches else None)

    @property
    def others(self) -> tuple[str, ...]:
        """Addresses of the other architectures with the same tensors."""
        if not self.architecture:
            return ()
        names = (name for match in self.matches for name in match.architecture.names)
        return tuple(name for name in dict.fromkeys(names) if name != self.architecture)

    @property
    def call(self) -> str:
        """The call of `ModelSpace.add` that registers it, in backticks, with placeholders for what is missing."""
        options = [f"weights={self.weights!r}"] if self.weights else []
        options += [f"weights_key={self.weights_key!r}"] if self.weights_key else []
        if self.missing:
            placeholders = ", ".join(f"'{name}': {_PLACEHOLDERS[name]}" for name in self.missing)
            options.append(f"preprocessing={{{placeholders}}}")
        if self.uri.startswith("file:"):
            options.append("trust_code=sha256")
        if not options:
            return f"`space.add({self.uri!r})`"
        arguments = ", ".join([repr(self.uri), *options])
        return f"`space.add({arguments})`"


_PLACEHOLDERS = {"input_size": "side", "mean": "mean", "std": "std"}


def looks_like_a_path(text: str) -> bool:
    """Whether a text that is no address names a file or folder: one that exists, or one spelled like it.

    >>> looks_like_a_path("./resnet"), looks_like_a_path("vit.safetensors"), looks_like_a_path("resnet50")
    (True, True, False)
    """
    if not text or "\0" in text or "\n" in text:
        return False
    if text.startswith((".", "/", "~")) or text.lower().endswith((*WEIGHTS, *PROGRAMS)):
        return True
    return exists(text) or ("/" in text and ":" not in text.partition("/")[0])


def exists(text: str) -> bool:
    """Whether a text is the path of a file or folder."""
    try:
        return is_folder(expanded(Path(text))) or is_regular(expanded(Path(text)))
    except (OSError, ValueError):
        return False


def candidates(place: Path) -> list[Path]:
    """The models in a folder and below: folders with a configuration and weights, and single files, sorted by path.

    Parts of an index, and files of weights in a folder with a configuration, belong to it.
    """
    out: list[Path] = []
    pending = [place]
    seen: set[tuple[int, int]] = set()
    while pending:
        folder = pending.pop()
        try:
            status = folder.stat()
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise ModelspaceError(f"the folder {folder} can't be read: {error.strerror}") from error
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        visible = [entry for entry in entries if not entry.name.startswith(".")]
        pending += [entry for entry in visible if is_folder(entry)]
        if _has_config(folder):
            out.append(folder)
            continue
        files = [entry for entry in visible if is_regular(entry)]
        indexes = [entry for entry in files if entry.name.endswith(".index.json")]
        out += indexes
        parts = re.compile(r"-\d+-of-\d+\.\w+$")
        out += [
            entry
            for entry in files
            if entry.suffix.lower() in (*WEIGHTS, *PROGRAMS) and not (indexes and parts.search(entry.name))
        ]
    return sorted(out)


def _has_config(folder: Path) -> bool:
    return is_regular(folder / CONFIG) and any(is_regular(file) for file in _weights_in(folder))


def _weights_in(folder: Path) -> Iterator[Path]:
    for name in (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ):
        yield folder / name


def identify(place: Path) -> Identified:
    """Say what a file, or a folder with a configuration, is.

    Raises:
        NotFoundError: there is no such file.
        ModelspaceError: it can't be read, or a folder holds no model or several.
    """
    where = expanded(place)
    if is_folder(where):
        return _folder(place, where)
    if not is_regular(where):
        siblings = [each.name for each in where.parent.glob("*")] if is_folder(where.parent) else []
        raise NotFoundError(f"there is no file {place}", did_you_mean(where.name, siblings))
    if where.suffix.lower() in PROGRAMS:
        scheme = PROGRAMS[where.suffix.lower()]
        return Identified(place, uri=f"{scheme}:{place}")
    if _is_script(where):
        return Identified(place, uri=f"file:{place}")
    tensors = tensor_names.read(where)
    matches, prefix = _matched(tensors.shapes)
    identified = _described(place, tensors, matches, prefix)
    return _with_sidecar(identified, where)


def _is_script(where: Path) -> bool:
    """Whether a file is a TorchScript archive, by the names of its entries."""
    try:
        with zipfile.ZipFile(where) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return "constants.pkl" in names


def _folder(place: Path, where: Path) -> Identified:
    if not _has_config(where):
        inside = candidates(where)
        if len(inside) == 1:
            return identify(place / inside[0].relative_to(where))
        if not inside:
            raise NotFoundError(
                f"the folder {place} has no model",
                f"looked for {', '.join((*WEIGHTS, *PROGRAMS))}, and {CONFIG} next to weights",
            )
        raise UsageError(f"the folder {place} has {len(inside)} models", f"list them with `space.scan({str(place)!r})`")
    config = _json(where / CONFIG)
    uri = f"hf-hub:{_as_folder(place)}"
    tensors = tensor_names.read(next(file for file in _weights_in(where) if is_regular(file)))
    matches, _ = _matched(tensors.shapes)
    preprocessing = _stated_preprocessing(where, config, uri)
    architecture = ""
    if isinstance(config.get("architecture"), str) and "pretrained_cfg" in config:
        architecture = f"timm:{config['architecture']}"
    elif config.get("architectures"):
        architecture = f"transformers:{next(iter(config['architectures']))}"
    missing = tuple(name for name in REQUIRED if name not in preprocessing)
    return Identified(place, tensors, tuple(matches), architecture, uri, "", "", preprocessing, missing)


def _as_folder(place: Path) -> str:
    """A path as `hf-hub:` takes it: it begins with a dot, a slash or a tilde."""
    text = str(place)
    return text if text.startswith((".", "/", "~")) or re.match(r"[A-Za-z]:", text) else f"./{text}"


def _matched(shapes: signatures.Shapes) -> tuple[list[Match], str]:
    """The architectures with these tensors under any wrapper's names, or the nearest ones; and the prefix taken off."""
    best: tuple[list[Match], str] = ([], "")
    for prefix, variant in _variants(shapes):
        matches = signatures.matching(variant)
        if matches and matches[0].is_exact:
            return matches, prefix
        if matches and (not best[0] or matches[0].share > best[0][0].share):
            best = matches, prefix
    return best


def _variants(shapes: signatures.Shapes) -> Iterator[tuple[str, dict[str, tuple[int, ...]]]]:
    """The tensors as they are, and without the names of wrappers and of larger models."""
    plain = dict(shapes)
    yield "", plain
    pattern = re.compile("|".join(map(re.escape, _WRAPPERS)))
    unwrapped = {pattern.sub("", name): shape for name, shape in plain.items()}
    if unwrapped.keys() != plain.keys() and len(unwrapped) == len(plain):
        yield "module.", unwrapped
    for prefix in _PREFIXES:
        part = {name.removeprefix(prefix): shape for name, shape in unwrapped.items() if name.startswith(prefix)}
        if 2 * len(part) > len(plain):
            yield prefix, part


def _described(place: Path, tensors: Tensors, matches: list[Match], prefix: str) -> Identified:
    """What to do with a single file of weights."""
    exact = [match for match in matches if match.is_exact]
    if not exact:
        return Identified(place, tensors, tuple(matches), problem=_nearest(matches, tensors), hint=_factory_hint(place))
    architecture = _named(place, tensors, exact)
    match = next(match for match in exact if architecture in match.architecture.names)
    scheme, _, name = architecture.partition(":")
    problem = hint = ""
    if scheme == "transformers":
        problem = f"its size is in {CONFIG}, which is not next to it"
        folder = _as_folder(place.parent)
        hint = f"put {CONFIG} and {PROCESSOR} next to it, then `space.add('hf-hub:{folder}', weights={str(place)!r})`"
    elif match.is_headless:
        problem = f"it lacks the head ({', '.join(match.architecture.head[:2])})"
        builder = "timm.create_model" if scheme == "timm" else "torchvision.models.get_model"
        hint = f"write a function that returns {builder}({name!r}) without its head: {_factory_hint(place)}"
    uri = "" if problem else architecture
    return Identified(
        place, tensors, tuple(exact), architecture, uri, str(place), tensors.key if tensors.others else "",
        problem=problem, hint=hint,
    )  # fmt: skip


def _named(place: Path, tensors: Tensors, exact: list[Match]) -> str:
    """Of several architectures with the same tensors the one that the file names, in it or in its own name."""
    names = [name for match in exact for name in match.architecture.names]
    stated = [name for name in names if tensors.architecture and name.partition(":")[2] == tensors.architecture]
    if stated:
        return stated[0]
    text = re.sub(r"[^a-z0-9]+", "_", f"{place.absolute().parent.name} {place.name}".lower())
    spelled = [name for name in names if f"_{_words(name)}_" in f"_{text}_"]
    if re.search(r"-[0-9a-f]{8}\.pth$", place.name) and (own := [n for n in spelled if n.startswith("torchvision:")]):
        return own[0]  # torchvision's files end in eight digits of their hash
    return max(spelled, key=len) if spelled else names[0]


def _words(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.partition(":")[2].lower())


def _factory_hint(place: Path) -> str:
    return f"`space.add('python:nets.py:make', weights={str(place)!r})`, where make() builds the network"


def _nearest(matches: list[Match], tensors: Tensors) -> str:
    count = len(signatures.counted(tensors.shapes))
    unknown = f"its {count} tensor{'s are' if count != 1 else ' is'} not those of an architecture that is known here"
    if not matches:
        return unknown
    near = matches[0].architecture
    share = f"about {matches[0].share:.0%} of the tensors are equal"
    difference = _difference(near.names[0], tensors.shapes) or f"{share}, and it has {near.tensors}"
    others = f", then {', '.join(match.architecture.names[0] for match in matches[1:])}" if len(matches) > 1 else ""
    return f"{unknown}; nearest is {near.names[0]} ({difference}){others}"


def _difference(architecture: str, shapes: signatures.Shapes) -> str:
    """How a file differs from an architecture, which is built without weights; "" if its package is missing."""
    own = _built(architecture)
    if own is None:
        return ""
    variants = [signatures.counted(variant) for _, variant in _variants(shapes)]
    given = max(variants, key=lambda each: len(own.keys() & each.keys()))
    shared = own.keys() & given.keys()
    parts = [
        ("lacks", sorted(own.keys() - given.keys())),
        ("has besides", sorted(given.keys() - own.keys())),
        ("has in other shapes", sorted(name for name in shared if own[name] != given[name])),
    ]
    return "; ".join(f"the file {words} {_some(names)}" for words, names in parts if names)


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _built(architecture: str) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes of an architecture, built on the meta device; None without its package, or if it fails."""
    import importlib

    import torch

    package, _, name = architecture.partition(":")
    try:
        with torch.device("meta"):
            if package == "timm":
                module = importlib.import_module("timm").create_model(name, pretrained=False)
            elif package == "torchvision":
                module = importlib.import_module("torchvision.models").get_model(name, weights=None)
            else:
                return None
    # A package that is missing, broken or of another version: the description goes without what differs.
    except Exception:
        return None
    return signatures.counted({key: tuple(value.shape) for key, value in module.state_dict().items()})


# ---- preprocessing, where it is stated


def _with_sidecar(identified: Identified, where: Path) -> Identified:
    """The same with the preprocessing that the file itself, or a file of its name or folder, states."""
    from dataclasses import replace

    assert identified.tensors is not None
    for config in _sidecars(where, identified.tensors):
        stated = _timm_preprocessing(config)
        if stated:
            missing = tuple(name for name in REQUIRED if name not in stated)
            return replace(identified, preprocessing=stated, missing=missing)
    processor = where.parent / PROCESSOR
    if is_regular(processor) and (stated := _processor(processor, str(where))):
        return replace(identified, preprocessing=stated, missing=tuple(n for n in REQUIRED if n not in stated))
    return identified


def _sidecars(where: Path, tensors: Tensors) -> Iterator[Mapping[str, Any]]:
    """Configurations of timm: in the metadata of the file, then next to it, for this file alone."""
    for key in ("pretrained_cfg", "config"):
        try:
            value = json.loads(tensors.metadata.get(key, ""))
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
    beside = where.with_suffix(".json")
    if is_regular(beside):
        yield _json(beside)


def _stated_preprocessing(folder: Path, config: Mapping[str, Any], uri: str) -> dict[str, Any]:
    """The preprocessing of a folder with a configuration."""
    if stated := _timm_preprocessing(config):
        return stated
    processor = folder / PROCESSOR
    return _processor(processor, uri) if is_regular(processor) else {}


def _timm_preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    from modelspace.sources.timm_configs import preprocessing_of

    inner = config.get("pretrained_cfg", config)
    if not isinstance(inner, Mapping):
        return {}
    try:
        return preprocessing_of(inner)
    except (TypeError, ValueError, KeyError, ZeroDivisionError):
        return {}


def _processor(file: Path, uri: str) -> dict[str, Any]:
    from modelspace.sources.processors import preprocessing_of

    try:
        return dict(preprocessing_of(_json(file), uri))
    except (UsageError, TypeError, ValueError, KeyError):
        return {}


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelspaceError(f"{file} can't be read: {type(error).__name__}: {str(error)[:100]}") from error
    if not isinstance(value, dict):
        raise ModelspaceError(f"{file} holds no configuration")
    return value


# ---- in words


def explanation(text: str, lead: str = "is not the address of a model") -> ModelspaceError:
    """The error for a path in the place of an address: what the file is, and the call that registers it.

    Args:
        text: the path.
        lead: what is wrong with it; the sentence goes on with what it is.
    """
    try:
        identified = identify(Path(text))
    except ModelspaceError as error:
        return error
    return UsageError(f"{text} {lead}: {summary(identified)}", advice(identified))


def summary(identified: Identified) -> str:
    """What a file is, as the rest of a sentence."""
    if identified.tensors is None:
        return "it is a whole model, which has an address"
    if not identified.architecture:
        return identified.problem
    count = len(signatures.counted(identified.tensors.shapes))
    match = identified.best
    words = f"its {count} tensors are those of {identified.architecture}"
    if match is not None and match.is_exact:
        if match.classes is not None and match.classes != match.architecture.classes:
            words += f" with {match.classes} classes instead of {match.architecture.classes}"
        if identified.others:
            more = len(identified.others) - _LISTED
            words += f" (and of {', '.join(identified.others[:_LISTED])}{f' and {more} more' if more > 0 else ''})"
    if identified.tensors.others:
        words += f"; it has further state dicts: {', '.join(identified.tensors.others)}"
    return f"{words}, but {identified.problem}" if identified.problem else words


def advice(identified: Identified) -> str:
    """How to register it."""
    if identified.problem:
        return identified.hint
    hint = f"register it with {identified.call}"
    if identified.missing:
        hint += "; the input size, mean and std are not in the file: give those that it was trained with"
    return hint
