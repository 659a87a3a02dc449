"""``hf-hub:ORG/NAME``, ``hf-hub:ORG/NAME@REVISION`` and ``hf-hub:./FOLDER``: vision models of transformers and timm.

Three files of a repository are read: `config.json` names the class of the model, `preprocessor_config.json` has its
preprocessing, and the weights, as safetensors if available. Code in a repository is never run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.files import expanded, read_text
from modelspace.sources import timm_configs
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe
from modelspace.sources.downloads import broken_package, download_errors, line, package
from modelspace.sources.processors import preprocessing_of
from modelspace.sources.weights import LoadedWeights, read_state

hub: Any = package("huggingface_hub")
transformers: Any = package("transformers")

_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")

#: Tasks by the end of a class's name.
_TASKS = {
    "ForImageClassification": "classification",
    "ForImageClassificationWithTeacher": "classification",
    "ForSemanticSegmentation": "semantic segmentation",
    "ForDepthEstimation": "depth",
    "ForMaskedImageModeling": "masked image modeling",
    "ForPreTraining": "masked image modeling",
}

#: Tasks whose models have a decoder: the encoder before it is tapped.
_WITH_DECODER = ("semantic segmentation", "depth", "masked image modeling")


@dataclass(frozen=True)
class _Repository:
    """A repository on this machine.

    Attributes:
        name: org/name on the hub, or a folder.
        uri: the address of the model.
        folder: with the files.
        config: the content of config.json.
        weights: a file of weights to load instead of the repository's, or None.
        revision: the commit; None for a folder.
    """

    name: str
    uri: str
    folder: Path
    config: Mapping[str, Any]
    weights: str | None
    revision: str | None

    @property
    def weights_file(self) -> Path:
        """The file to load weights from."""
        if self.weights is not None:
            return Path(self.weights)
        for name in (*_SAFE, *_PICKLED):
            if (self.folder / name).is_file():
                return self.folder / name
        raise NotFoundError(
            f"there are no weights in hf-hub:{self.name}: neither {_SAFE[0]} nor {_PICKLED[0]}",
            "weights for TensorFlow and Flax are not supported; for a file elsewhere add `weights=file`",
        )

    @property
    def model_name(self) -> str:
        """The last part of the name."""
        return Path(self.name).name if _is_folder(self.name) else self.name.rpartition("/")[2]

    @property
    def tags(self) -> dict[str, str]:
        """The file of weights and the revision."""
        tags = {"weights": self.weights, "revision": self.revision}
        return {key: value for key, value in tags.items() if value}


def load(path: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Download a repository, or read a folder, and build the model that its configuration names.

    Raises:
        NotFoundError: no such repository, revision or folder, or no weights in it.
        ModelspaceError: gated, not reachable, defined by its own code, not a vision model, or weights that don't fit.
        UsageError: incomplete preprocessing.
    """
    name, at, revision = path.rpartition("@") if "@" in path and not _is_folder(path) else (path, "", "")
    folder: Path
    commit: str | None = None
    if _is_folder(name):
        folder = expanded(Path(name))
        if not folder.is_dir():
            raise NotFoundError(
                f"there is no folder {name}",
                "for a model on the hub write hf-hub:org/name, for a folder hf-hub:./folder",
            )
        if not (folder / _CONFIG).is_file():
            raise NotFoundError(f"there is no {_CONFIG} in {name}", "was it written by save_pretrained()?")
    else:
        folder, commit = _fetch(name, revision if at else None, weights is not None)
    config = _read(folder / _CONFIG)
    repository = _Repository(name, f"hf-hub:{path}", folder, config, weights, commit)
    if "architecture" in config and "pretrained_cfg" in config:
        return _timm(repository, flags)
    return _transformers(repository, flags)


def _is_folder(name: str) -> bool:
    """Whether it is a path, not org/name: it begins with a dot, a slash, a tilde or a drive."""
    return name.startswith((".", "/", "~")) or re.match(r"[A-Za-z]:[\\/]", name) is not None


def _fetch(name: str, revision: str | None, config_only: bool) -> tuple[Path, str | None]:
    """Download a repository's files; return their folder in the cache, and the commit."""
    uri = f"hf-hub:{name}" + (f"@{revision}" if revision else "")
    offline = "download the repository on a machine with a connection, and write hf-hub:./folder"
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UsageError(f"{uri} is not the address of a repository", "write hf-hub:org/name, or hf-hub:./folder")
    with download_errors(uri, offline):
        file = Path(hub.hf_hub_download(name, _CONFIG, revision=revision))
        # All other files from the same commit, even if another one is pushed in the meantime.
        commit = file.parent.name if file.parent.parent.name == "snapshots" else revision
        patterns = [_CONFIG, _PROCESSOR] if config_only else [_CONFIG, _PROCESSOR, *_SAFE, "model-*.safetensors"]
        folder = Path(hub.snapshot_download(name, revision=commit, allow_patterns=patterns))
        if not config_only and not any((folder / safe).is_file() for safe in _SAFE):
            folder = Path(
                hub.snapshot_download(name, revision=commit, allow_patterns=[*_PICKLED, "pytorch_model-*.bin"])
            )
    return folder, commit


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text(file))
    except (OSError, ValueError) as error:
        raise ModelspaceError(f"{file} can't be read: {line(error)}", "download it again") from error
    if not isinstance(value, dict):
        raise ModelspaceError(f"{file} has no configuration", "download it again")
    return value


# --- timm


def _timm(repository: _Repository, flags: PreprocessingFlags) -> LoadedModel:
    uri, config = repository.uri, repository.config
    try:
        from modelspace.sources import timm_models
    except ModuleNotFoundError as error:
        raise ModelspaceError(
            f"{uri} is a model of timm, which is not installed", "pip install 'modelspace-db[timm]'"
        ) from error
    pretrained = config["pretrained_cfg"]
    architecture = str(config["architecture"])
    if not timm_models.timm.is_model(architecture):
        raise NotFoundError(
            f"{uri} is a {architecture}, which timm {timm_models.timm.__version__} doesn't have", "pip install -U timm"
        )
    options = {**config.get("model_args", {}), "pretrained_cfg": pretrained}
    if config.get("num_classes") is not None:
        options["num_classes"] = config["num_classes"]
    if config.get("global_pool"):
        options["global_pool"] = config["global_pool"]
    file = repository.weights if repository.weights is not None else str(repository.weights_file)
    module, taken = timm_models.build(architecture, file, **options)
    own = taken.tags if repository.weights is not None else {}
    licence = {"licence": str(pretrained["license"])} if pretrained.get("license") else {}
    return describe(
        module,
        uri=uri,
        name=repository.model_name,
        flags=flags,
        preprocessing=timm_configs.preprocessing_of(pretrained),
        architecture=architecture,
        layer=timm_models.layer_of(pretrained),
        task="classification" if config.get("num_classes") else None,
        tags=repository.tags | own | licence | {"timm": str(timm_models.timm.__version__)},
        notes=taken.notes,
    )


# --- transformers


def _transformers(repository: _Repository, flags: PreprocessingFlags) -> LoadedModel:
    uri, config = repository.uri, repository.config
    kind = str(config.get("model_type") or "")
    if not kind:
        raise ModelspaceError(f"the {_CONFIG} of {uri} names no model_type", "is it a model of transformers or timm?")
    if kind not in transformers.CONFIG_MAPPING:
        code = "; its own code is never run" if "auto_map" in config else ""
        raise ModelspaceError(
            f"{uri} is a {kind!r}, which transformers {transformers.__version__} doesn't have{code}",
            "pip install -U transformers; or read the code, write a factory and use python:",
        )
    settings = transformers.AutoConfig.from_pretrained(
        str(repository.folder), trust_remote_code=False, local_files_only=True
    )
    builder, part = _builder(settings, config, uri)
    module, taken = _build(builder, repository)
    preprocessing = _preprocessing(repository, flags)
    if kind == "vit_mae":
        # By default it masks random patches of the image before the encoder.
        module_config: Any = module.config
        module_config.mask_ratio = 0.0
        patches = (module_config.image_size // module_config.patch_size) ** 2
        preprocessing = {**preprocessing, "inputs": {"noise": {"shape": [patches], "value": 0.0}}}
    task = next((task for end, task in _TASKS.items() if builder.__name__.endswith(end)), None)
    encoder = builder.base_model_prefix if task in _WITH_DECODER else ""
    tags = repository.tags | ({"part": part} if part else {})
    return describe(
        module,
        uri=uri,
        name=repository.model_name,
        flags=flags,
        preprocessing=preprocessing,
        architecture=builder.__name__,
        layer=encoder if encoder and isinstance(getattr(module, encoder, None), nn.Module) else None,
        task=task,
        tags={**tags, **taken.tags, "transformers": transformers.__version__},
        notes=taken.notes,
    )


def _preprocessing(repository: _Repository, flags: PreprocessingFlags) -> dict[str, Any]:
    """The preprocessing of the image processor; empty if it is unsupported but the flags are complete."""
    file = repository.folder / _PROCESSOR
    config = _read(file) if file.is_file() else {}
    try:
        return preprocessing_of(config, repository.uri) if config else {}
    except UsageError:
        if None in (flags.input_size, flags.mean, flags.std):
            raise
        return {}


def _builder(settings: Any, config: Mapping[str, Any], uri: str) -> tuple[Any, str]:
    """The class to build, and which part of the saved model it is, if not all of it."""
    # Of a vision-language model, only the vision part is used.
    vision = getattr(settings, "vision_config", None)
    if vision is not None and type(vision) in transformers.MODEL_MAPPING:
        return _first_class(transformers.MODEL_MAPPING[type(vision)]), "vision"
    name = (config.get("architectures") or [None])[0]
    try:
        if name is not None and hasattr(transformers, name):
            builder = getattr(transformers, name)
        elif type(settings) in transformers.MODEL_MAPPING:
            builder = _first_class(transformers.MODEL_MAPPING[type(settings)])
        else:
            raise ModelspaceError(f"{uri} names no architecture that transformers has", "use python: with a factory")
    except (ImportError, RuntimeError) as error:
        raise broken_package("transformers", error) from error
    if getattr(builder, "main_input_name", "pixel_values") != "pixel_values":
        raise ModelspaceError(
            f"{uri} is a {builder.__name__}, which takes {builder.main_input_name} and not images",
            "modelspace compares models of images",
        )
    return builder, ""


def _first_class(entry: Any) -> Any:
    return entry[0] if isinstance(entry, tuple) else entry


def _build(builder: Any, repository: _Repository) -> tuple[nn.Module, LoadedWeights]:
    """The module with its weights, and what was taken from a file of the user's.

    No weight may be missing, except those of a pooler, which is then omitted.
    """
    state, taken = (None, LoadedWeights()) if repository.weights is None else read_state(repository.weights)
    for options in ({}, {"add_pooling_layer": False}):
        module, missing = _from_pretrained(builder, repository, state, options)
        if not missing:
            return module, taken
        if not all(".pooler." in f".{key}" for key in missing):
            break
    names = ", ".join(sorted(missing)[:3]) + (", ..." if len(missing) > 3 else "")
    raise ModelspaceError(
        f"the weights of {repository.uri} lack {len(missing)} that {builder.__name__} needs ({names})",
        "they would be random: name the class they were saved from under architectures in config.json",
    )


def _from_pretrained(
    builder: Any, repository: _Repository, state: dict[str, Any] | None, options: dict[str, Any]
) -> tuple[nn.Module, list[str]]:
    """A module, and the names of weights that the file lacks."""
    import torch

    uri, folder = repository.uri, str(repository.folder)
    arguments = {**options, "trust_remote_code": False, "local_files_only": True}
    file = repository.weights_file if state is None else None
    if file is not None and file.name in _PICKLED:
        state, _ = read_state(str(file))
    source: str | None
    if state is not None:
        # Read by `read_state`, which runs no code whatever the file's name.
        settings = builder.config_class.from_pretrained(folder, local_files_only=True)
        source = None
        arguments |= {"config": settings, "state_dict": state}
    else:
        source = folder
        arguments["use_safetensors"] = True
    try:
        with _quiet():
            module, report = builder.from_pretrained(source, dtype=torch.float32, output_loading_info=True, **arguments)
    except (ImportError, RuntimeError) as error:
        if isinstance(error, ImportError) or "torchvision::" in str(error):
            raise broken_package("transformers", error) from error
        raise ModelspaceError(
            f"the weights of {uri} don't fit {builder.__name__}: {line(error)}", _MISMATCH_HINT
        ) from error
    except TypeError as error:
        if "add_pooling_layer" not in str(error):
            raise
        return _from_pretrained(builder, repository, state, {})
    except (OSError, ValueError) as error:
        raise ModelspaceError(f"{uri} can't be loaded: {line(error)}", _MISMATCH_HINT) from error
    if report.get("mismatched_keys"):
        name = report["mismatched_keys"][0][0]
        raise ModelspaceError(
            f"the weights of {uri} don't fit {builder.__name__}: {name} has another shape", _MISMATCH_HINT
        )
    return module, sorted(report["missing_keys"])


_MISMATCH_HINT = "are config.json and the weights of the same model?"


@contextmanager
def _quiet() -> Iterator[None]:
    """Turn off transformers' progress bars and its report of unused weights; missing weights are checked here."""
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
