"""``timm:NAME`` and ``timm:NAME.TAG``: the models of timm, with the preprocessing that timm keeps beside the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe
from modelspace.sources.downloads import explained, line, package
from modelspace.sources.heads import classes_in
from modelspace.sources.weights import LoadedWeights, load_weights

timm: Any = package("timm")

#: What a configuration must state; timm itself would fill in ImageNet's values.
_NEEDED = ("input_size", "mean", "std", "interpolation", "crop_pct")

#: Data sets by the last part of a tag, where that names one.
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


def load(rest: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Build the network, load its weights, and read its configuration.

    With a tag the configuration of that tag is the model's, whether the weights are downloaded or lie in a file. Without
    a tag and with a file nobody knows what the file was trained with, and the flags have to say.

    Raises:
        NotFoundError: no such network or tag, or one without weights.
        ModelspaceError: the weights can't be downloaded or don't fit.
        UsageError: preprocessing that nobody states.
    """
    if ":" in rest or "/" in rest:
        raise UsageError(f"timm:{rest} is not the name of a network in timm", f"for the hub write hf-hub:{_bare(rest)}")
    name, _, tag = rest.partition(".")
    if not timm.is_model(name):
        networks = timm.list_models(include_tags=False)
        raise NotFoundError(
            f"timm {timm.__version__} has no network called {name!r}",
            did_you_mean(name, networks, f"pip install -U timm; it has {len(networks)} networks"),
        )
    known = [full.partition(".")[2] for full in timm.list_models(f"{name}.*", pretrained=True, include_tags=True)]
    if tag and weights is None and tag not in known:
        shown = ", ".join(f"timm:{name}.{each}" for each in known[:6]) or "none; load a file with `weights=`"
        raise NotFoundError(
            f"timm {timm.__version__} has no weights {tag!r} for {name}", did_you_mean(tag, known, f"it has {shown}")
        )
    if not known and weights is None:
        raise NotFoundError(
            f"timm has no trained weights for {name}, and random ones say nothing", "load a file with `weights=`"
        )
    taken = LoadedWeights()
    if weights is not None:
        module, taken = build(rest, weights)
    else:
        offline = (
            f"or fetch the file where there is a connection, and add `weights=file` to timm:{name}.{tag or known[0]}"
        )
        with explained(f"timm:{rest}", offline):
            module = timm.create_model(rest, pretrained=True)
    config: dict[str, Any] = dict(getattr(module, "pretrained_cfg", None) or {})
    tag = str(config.get("tag") or tag)
    # The configuration belongs to the weights; to a file's weights only if the user says whose they are.
    stated = preprocessing_of(config) if weights is None or rest.endswith(f".{tag}") else {}
    revision = None if weights is not None else _revision(config)
    tags = dict(taken.tags)
    for key, value in (("revision", revision), ("licence", config.get("license")), ("paper", _paper(config))):
        if value:
            tags[key] = str(value)
    tags["timm"] = str(timm.__version__)
    full = f"{name}.{tag}" if tag and stated else rest
    return describe(
        module,
        uri=f"timm:{full}",
        name=full,
        flags=flags,
        stated=stated,
        architecture=name,
        layer=layer_of(config),
        task="classification" if config.get("num_classes") and stated else None,
        data=_DATA.get(tag.rpartition("_")[2]) if stated else None,
        tags=tags,
        notes=taken.notes,
    )


def build(name: str, weights: str, **options: Any) -> tuple[nn.Module, LoadedWeights]:
    """The network without trained weights, with those of a file loaded into it, and what was taken from the file."""
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


def preprocessing_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """timm's configuration of a model in our terms; empty where it leaves out what can't be guessed.

    The image is resized to input size / crop_pct, rounded down, and its middle is taken (timm's
    `transforms_imagenet_eval`).

    >>> preprocessing_of({"input_size": (3, 224, 224), "mean": [0.5], "std": [0.5], "interpolation": "bicubic",
    ...                   "crop_pct": 0.875})["resize"]
    (256, 256)
    """
    if any(config.get(key) is None for key in _NEEDED):
        return {}
    sides = tuple(int(side) for side in config["input_size"][1:])
    stated: dict[str, Any] = {
        "input_size": sides,
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "value_range": (0.0, 1.0),
        "resize": tuple(math.floor(side / config["crop_pct"]) for side in sides),
        "crop": config.get("crop_mode") or "center",
        "interpolation": config["interpolation"],
    }
    if config["input_size"][0] == 3:
        stated["channels"] = "rgb"
    elif config["input_size"][0] == 1:
        stated["channels"] = "gray"
    return stated


def layer_of(config: Mapping[str, Any]) -> str | None:
    """The input of the first head where a model has several, such as distilled ones; None: to be found."""
    heads = config.get("classifier")
    return f"{heads[0]}:in" if isinstance(heads, list | tuple) and len(heads) > 1 else None


def _bare(rest: str) -> str:
    return rest.removeprefix("hf-hub:").removeprefix("hf_hub:")


def _paper(config: Mapping[str, Any]) -> str | None:
    found = config.get("paper_ids")
    return found if isinstance(found, str) else ", ".join(found) if found else None


def _revision(config: Mapping[str, Any]) -> str | None:
    """The commit on the hub that the weights in the cache came from; else the address of the file."""
    from huggingface_hub import try_to_load_from_cache

    hub = config.get("hf_hub_id")
    for file in (config.get("hf_hub_filename"), "model.safetensors", "pytorch_model.bin"):
        if hub and file:
            path = try_to_load_from_cache(str(hub), str(file))
            if isinstance(path, str):
                return path.replace("\\", "/").partition("/snapshots/")[2].partition("/")[0] or None
    url = config.get("url")
    return str(url) if url else None
