"""``hf-hub:ORG/NAME``, ``hf-hub:ORG/NAME@REVISION`` and ``hf-hub:./FOLDER``: vision models of transformers and timm.

Three files of a repository are read: `config.json` says which class the weights are for, `preprocessor_config.json` what
they take, and the weights themselves, safetensors where there are any. Code in a repository is never run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe
from modelspace.sources.downloads import broken, explained, line, package
from modelspace.sources.processors import preprocessing_of
from modelspace.sources.weights import LoadedWeights, read_state

hub: Any = package("huggingface_hub")
transformers: Any = package("transformers")

_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")

#: What the end of a class's name says of the task.
_TASKS = {
    "ForImageClassification": "classification",
    "ForImageClassificationWithTeacher": "classification",
    "ForSemanticSegmentation": "semantic segmentation",
    "ForDepthEstimation": "depth",
    "ForMaskedImageModeling": "masked image modeling",
    "ForPreTraining": "masked image modeling",
}

#: Tasks whose models end in a decoder: the encoder before it is explained.
_DECODED = ("semantic segmentation", "depth", "masked image modeling")


def load(rest: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Fetch a repository, or take a folder, and build the model that its configuration names.

    Raises:
        NotFoundError: no such repository, revision, folder, or no weights in it.
        ModelspaceError: gated, not reachable, made of code of its own, not a vision model, or weights that don't fit.
        UsageError: preprocessing that nobody states.
    """
    name, at, wanted = rest.rpartition("@") if "@" in rest and not _is_folder(rest) else (rest, "", "")
    folder: Path
    if _is_folder(name):
        folder, revision = Path(name).expanduser(), None
        if not folder.is_dir():
            raise NotFoundError(
                f"there is no folder {name}",
                "for a model on the hub write hf-hub:org/name, for a folder hf-hub:./folder",
            )
        if not (folder / _CONFIG).is_file():
            raise NotFoundError(f"there is no {_CONFIG} in {name}", "is it a folder that save_pretrained() wrote?")
    else:
        folder, revision = _fetch(name, wanted if at else None, weights is not None)
    config = _read(folder / _CONFIG)
    uri = f"hf-hub:{rest}"
    tags = {"revision": revision} if revision else {}
    if "architecture" in config and "pretrained_cfg" in config:
        return _timm(uri, name, config, folder, weights, flags, tags)
    return _transformers(uri, name, config, folder, weights, flags, tags)


def _is_folder(name: str) -> bool:
    """A path, as opposed to org/name: it begins with a dot, a slash, a tilde or a drive."""
    return name.startswith((".", "/", "~")) or re.match(r"[A-Za-z]:[\\/]", name) is not None


def _fetch(name: str, revision: str | None, config_only: bool) -> tuple[Path, str | None]:
    """The folder of the cache that holds a repository's files, and the commit they are of."""
    what = f"hf-hub:{name}" + (f"@{revision}" if revision else "")
    offline = "fetch the repository where there is a connection, and write hf-hub:./folder"
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UsageError(f"{what} is not the address of a repository", "write hf-hub:org/name, or hf-hub:./folder")
    with explained(what, offline):
        file = Path(hub.hf_hub_download(name, _CONFIG, revision=revision))
        # From here on one commit, whatever is pushed in the meantime.
        commit = file.parent.name if file.parent.parent.name == "snapshots" else revision
        patterns = [_CONFIG, _PROCESSOR] if config_only else [_CONFIG, _PROCESSOR, *_SAFE, "model-*.safetensors"]
        folder = Path(hub.snapshot_download(name, revision=commit, allow_patterns=patterns))
        if not config_only and not any((folder / each).is_file() for each in _SAFE):
            folder = Path(
                hub.snapshot_download(name, revision=commit, allow_patterns=[*_PICKLED, "pytorch_model-*.bin"])
            )
    return folder, commit


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelspaceError(f"{file} can't be read: {line(error)}", "fetch it again") from error
    if not isinstance(value, dict):
        raise ModelspaceError(f"{file} holds no configuration", "fetch it again")
    return value


def _weights_file(folder: Path, name: str) -> Path:
    for each in (*_SAFE, *_PICKLED):
        if (folder / each).is_file():
            return folder / each
    raise NotFoundError(
        f"there are no weights in hf-hub:{name}: neither {_SAFE[0]} nor {_PICKLED[0]}",
        "weights for TensorFlow and Flax are not read; a file elsewhere is named with `weights=file`",
    )


def _stated(read: Any, flags: PreprocessingFlags) -> Any:
    """What a configuration states, or nothing where it can't be understood and the flags say everything."""
    try:
        return read()
    except UsageError:
        if None in (flags.input_size, flags.mean, flags.std):
            raise
        return {}


# --- timm


def _timm(
    uri: str,
    name: str,
    config: dict[str, Any],
    folder: Path,
    weights: str | None,
    flags: PreprocessingFlags,
    tags: dict[str, str],
) -> LoadedModel:
    try:
        from modelspace.sources import timm_models
    except ModuleNotFoundError as error:
        raise ModelspaceError(
            f"{uri} is a model of timm, which is not installed", "pip install 'modelspace[timm]'"
        ) from error
    pretrained = config["pretrained_cfg"]
    architecture = str(config["architecture"])
    if not timm_models.timm.is_model(architecture):
        raise NotFoundError(
            f"{uri} is a {architecture}, which timm {timm_models.timm.__version__} doesn't have", "pip install -U timm"
        )
    file = weights if weights is not None else str(_weights_file(folder, name))
    options = {**config.get("model_args", {}), "pretrained_cfg": pretrained}
    if config.get("num_classes") is not None:
        options["num_classes"] = config["num_classes"]
    if config.get("global_pool"):
        options["global_pool"] = config["global_pool"]
    module, taken = timm_models.build(architecture, file, **options)
    if weights is not None:
        tags |= taken.tags
    if pretrained.get("license"):
        tags["licence"] = str(pretrained["license"])
    return describe(
        module,
        uri=uri,
        name=_name(name),
        flags=flags,
        stated=timm_models.preprocessing_of(pretrained),
        architecture=architecture,
        layer=timm_models.layer_of(pretrained),
        task="classification" if config.get("num_classes") else None,
        tags=tags | {"timm": str(timm_models.timm.__version__)},
        notes=taken.notes,
    )


# --- transformers


def _transformers(
    uri: str,
    name: str,
    config: dict[str, Any],
    folder: Path,
    weights: str | None,
    flags: PreprocessingFlags,
    tags: dict[str, str],
) -> LoadedModel:
    kind = str(config.get("model_type") or "")
    if not kind:
        raise ModelspaceError(f"the {_CONFIG} of {uri} names no model_type", "is it a model of transformers or timm?")
    if kind not in transformers.CONFIG_MAPPING:
        runs = " and brings code of its own, which is never run" if "auto_map" in config else ""
        raise ModelspaceError(
            f"{uri} is a {kind!r}, which transformers {transformers.__version__} doesn't have{runs}",
            "pip install -U transformers; or read the code, write a factory and use python:",
        )
    settings = transformers.AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    builder, part = _builder(settings, config, uri)
    if part:
        tags["part"] = part
    module, taken = _built(builder, folder, weights, name, uri)
    file = folder / _PROCESSOR
    found = _read(file) if file.is_file() else {}

    def read() -> dict[str, Any]:
        return preprocessing_of(found, uri) if found else {}

    stated = _stated(read, flags)
    used: Any = module.config
    if kind == "vit_mae":
        # Left alone, it shows its encoder another quarter of the image each time.
        used.mask_ratio = 0.0
        patches = (used.image_size // used.patch_size) ** 2
        stated = {**stated, "inputs": {"noise": {"shape": [patches], "value": 0.0}}}
    task = next((task for end, task in _TASKS.items() if builder.__name__.endswith(end)), None)
    encoder = builder.base_model_prefix if task in _DECODED else ""
    return describe(
        module,
        uri=uri,
        name=_name(name),
        flags=flags,
        stated=stated,
        architecture=builder.__name__,
        layer=encoder if encoder and isinstance(getattr(module, encoder, None), nn.Module) else None,
        task=task,
        tags={**tags, **taken.tags, "transformers": transformers.__version__},
        notes=taken.notes,
    )


def _builder(settings: Any, config: Mapping[str, Any], uri: str) -> tuple[Any, str]:
    """The class that the weights were saved from, and which part of the model it is, where it isn't all of it."""
    # Of a model of images and texts, the half that sees.
    seen = getattr(settings, "vision_config", None)
    if seen is not None and type(seen) in transformers.MODEL_MAPPING:
        return _class(transformers.MODEL_MAPPING[type(seen)]), "vision"
    named = (config.get("architectures") or [None])[0]
    try:
        if named is not None and hasattr(transformers, named):
            builder = getattr(transformers, named)
        elif type(settings) in transformers.MODEL_MAPPING:
            builder = _class(transformers.MODEL_MAPPING[type(settings)])
        else:
            raise ModelspaceError(f"{uri} states no architecture that transformers has", "use python: with a factory")
    except (ImportError, RuntimeError) as error:
        raise broken("transformers", error) from error
    if getattr(builder, "main_input_name", "pixel_values") != "pixel_values":
        raise ModelspaceError(
            f"{uri} is a {builder.__name__}, which takes {builder.main_input_name} and not images",
            "modelspace compares models of images",
        )
    return builder, ""


def _class(found: Any) -> Any:
    return found[0] if isinstance(found, tuple) else found


def _built(builder: Any, folder: Path, weights: str | None, name: str, uri: str) -> tuple[nn.Module, LoadedWeights]:
    """The module with its weights, and what was taken from a file of the user's.

    None of the weights may be made up, but for a pooler that is then left out.
    """
    state, taken = (None, LoadedWeights()) if weights is None else read_state(weights)
    for options in ({}, {"add_pooling_layer": False}):
        module, missing = _loaded(builder, folder, state, name, uri, options)
        if not missing:
            return module, taken
        if not all(".pooler." in f".{key}" for key in missing):
            break
    shown = ", ".join(sorted(missing)[:3]) + (", ..." if len(missing) > 3 else "")
    raise ModelspaceError(
        f"the weights of {uri} lack {len(missing)} that {builder.__name__} needs ({shown})",
        "they would be random: name the class they were saved from under architectures in config.json",
    )


def _loaded(
    builder: Any, folder: Path, state: dict[str, Any] | None, name: str, uri: str, options: dict[str, Any]
) -> tuple[nn.Module, list[str]]:
    import torch

    options = {**options, "trust_remote_code": False, "local_files_only": True}
    file = _weights_file(folder, name) if state is None else None
    if file is not None and file.name in _PICKLED:
        state, _ = read_state(str(file))
    place: Any = str(folder)
    if state is not None:
        # Through our own reader: it runs no code, whatever the file is called.
        settings = builder.config_class.from_pretrained(str(folder), local_files_only=True)
        place = None
        options |= {"config": settings, "state_dict": state}
    else:
        options["use_safetensors"] = True
    try:
        with _quiet():
            module, report = builder.from_pretrained(place, dtype=torch.float32, output_loading_info=True, **options)
    except (ImportError, RuntimeError) as error:
        if isinstance(error, ImportError) or "torchvision::" in str(error):
            raise broken("transformers", error) from error
        raise ModelspaceError(
            f"the weights of {uri} don't fit {builder.__name__}: {line(error)}", _ELSEWHERE
        ) from error
    except TypeError as error:
        if "add_pooling_layer" not in str(error):
            raise
        return _loaded(builder, folder, state, name, uri, {})
    except (OSError, ValueError) as error:
        raise ModelspaceError(f"{uri} can't be loaded: {line(error)}", _ELSEWHERE) from error
    if report.get("mismatched_keys"):
        first = report["mismatched_keys"][0]
        raise ModelspaceError(
            f"the weights of {uri} don't fit {builder.__name__}: {first[0]} has another shape", _ELSEWHERE
        )
    return module, sorted(report["missing_keys"])


_ELSEWHERE = "are config.json and the weights of one and the same model?"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and its report of weights that were left over: what counts is checked here."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _name(name: str) -> str:
    return Path(name).name if _is_folder(name) else name.rpartition("/")[2]
