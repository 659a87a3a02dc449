"""``timm:NAME`` and ``timm:NAME.TAG``: the models of timm, with the preprocessing that timm stores with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe
from modelspace.sources.downloads import download_errors, line, package
from modelspace.sources.heads import classes_in
from modelspace.sources.timm_configs import preprocessing_of
from modelspace.sources.weights import LoadedWeights, load_weights

timm: Any = package("timm")

#: Data sets by the last part of a tag, if it names one.
_DATA = {
    "in1k": "ImageNet-1k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "in12k": "ImageNet-12k",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "inat21": "iNaturalist 2021",
    "webli": "WebLI",
    "openai": "WIT-400M",
    "jft300m": "JFT-300M",
}


def load(name: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Build the network, load its weights, and read its configuration.

    With a tag, the model has the configuration of that tag, whether the weights are downloaded or come from a file.
    Without a tag, the preprocessing of a file is unknown and must come from the flags.

    Raises:
        NotFoundError: no such network or tag, or one without weights.
        ModelspaceError: the weights can't be downloaded or don't fit.
        UsageError: incomplete preprocessing.
    """
    if ":" in name or "/" in name:
        repository = name.removeprefix("hf-hub:").removeprefix("hf_hub:")
        raise UsageError(f"timm:{name} is not the name of a network in timm", f"for the hub write hf-hub:{repository}")
    architecture, _, tag = name.partition(".")
    known_tags = _check_tag(architecture, tag, weights)
    taken = LoadedWeights()
    if weights is not None:
        module, taken = build(name, weights)
    else:
        offline = (
            "or download the file on a machine with a connection, and add `weights=file` to "
            f"timm:{architecture}.{tag or known_tags[0]}"
        )
        with download_errors(f"timm:{name}", offline):
            module = timm.create_model(name, pretrained=True)
    config: dict[str, Any] = dict(getattr(module, "pretrained_cfg", None) or {})
    tag = str(config.get("tag") or tag)
    # The configuration belongs to the tag's weights; a file has those only if the user names the tag.
    preprocessing = preprocessing_of(config) if weights is None or name.endswith(f".{tag}") else {}
    revision = None if weights is not None else _revision(config)
    tags = dict(taken.tags)
    for key, value in (("revision", revision), ("licence", config.get("license")), ("paper", _paper(config))):
        if value:
            tags[key] = str(value)
    tags["timm"] = str(timm.__version__)
    full_name = f"{architecture}.{tag}" if tag and preprocessing else name
    return describe(
        module,
        uri=f"timm:{full_name}",
        name=full_name,
        flags=flags,
        preprocessing=preprocessing,
        architecture=architecture,
        layer=layer_of(config),
        task="classification" if config.get("num_classes") and preprocessing else None,
        data=_DATA.get(tag.rpartition("_")[2]) if preprocessing else None,
        tags=tags,
        notes=taken.notes,
    )


def _check_tag(architecture: str, tag: str, weights: str | None) -> list[str]:
    """The tags of an architecture's pretrained weights.

    Raises:
        NotFoundError: timm doesn't have the architecture, or the weights that are to be downloaded.
    """
    if not timm.is_model(architecture):
        networks = timm.list_models(include_tags=False)
        raise NotFoundError(
            f"timm {timm.__version__} has no network called {architecture!r}",
            did_you_mean(architecture, networks, f"pip install -U timm; it has {len(networks)} networks"),
        )
    pretrained = timm.list_models(f"{architecture}.*", pretrained=True, include_tags=True)
    known_tags = [full_name.partition(".")[2] for full_name in pretrained]
    if tag and weights is None and tag not in known_tags:
        listing = ", ".join(f"timm:{architecture}.{known}" for known in known_tags[:6])
        raise NotFoundError(
            f"timm {timm.__version__} has no weights {tag!r} for {architecture}",
            did_you_mean(tag, known_tags, f"it has {listing or 'none; load a file with `weights=`'}"),
        )
    if not known_tags and weights is None:
        raise NotFoundError(
            f"timm has no pretrained weights for {architecture}, and a model with random weights is not useful",
            "load a file with `weights=`",
        )
    return known_tags


def build(name: str, weights: str, **options: Any) -> tuple[nn.Module, LoadedWeights]:
    """Build the network without pretrained weights, load those of a file, and say what was taken from it."""
    try:
        module: nn.Module = timm.create_model(name, pretrained=False, **options)
        classes = classes_in(weights, module)
        if classes is not None:
            module = timm.create_model(name, pretrained=False, **{**options, "num_classes": classes})
    except ModelspaceError:
        raise
    except Exception as error:
        raise ModelspaceError(f"timm can't build {name}: {line(error)}", "pip install -U timm") from error
    return module, load_weights(module, weights)


def layer_of(config: Mapping[str, Any]) -> str | None:
    """The input of the first head of a model with several, such as a distilled one; None for other models."""
    heads = config.get("classifier")
    return f"{heads[0]}:in" if isinstance(heads, list | tuple) and len(heads) > 1 else None


def _paper(config: Mapping[str, Any]) -> str | None:
    ids = config.get("paper_ids")
    return ids if isinstance(ids, str) else ", ".join(ids) if ids else None


def _revision(config: Mapping[str, Any]) -> str | None:
    """The commit on the hub of the cached weights, or the URL of the file."""
    from huggingface_hub import try_to_load_from_cache

    hub = config.get("hf_hub_id")
    for file in (config.get("hf_hub_filename"), "model.safetensors", "pytorch_model.bin"):
        if hub and file:
            path = try_to_load_from_cache(str(hub), str(file))
            if isinstance(path, str):
                return path.replace("\\", "/").partition("/snapshots/")[2].partition("/")[0] or None
    url = config.get("url")
    return str(url) if url else None
