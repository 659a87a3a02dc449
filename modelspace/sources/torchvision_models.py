"""``torchvision:NAME/WEIGHTS``: the models of torchvision, with the transforms that come with their weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe
from modelspace.sources.downloads import download_errors, line, package
from modelspace.sources.heads import classes_in
from modelspace.sources.weights import LoadedWeights, load_weights, read_state, with_versions

torchvision: Any = package("torchvision")
models: Any = package("torchvision.models")

#: Transforms of the models that take a batch of images, and their tasks.
_TASKS = {"ImageClassification": "classification", "SemanticSegmentation": "semantic segmentation"}


def load(path: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Build the network as torchvision does for these weights, and read their transforms.

    ``NAME/WEIGHTS`` with a file: the file contains those weights. ``NAME`` with a file: its preprocessing is unknown
    and must come from the flags. ``NAME`` alone is refused: torchvision would build a network with random weights.

    Raises:
        NotFoundError: no such network or weights.
        ModelspaceError: the weights can't be downloaded or don't fit.
        UsageError: incomplete preprocessing; weights not named.
    """
    name, slash, weights_name = path.partition("/")
    names = [*models.list_models(module=models), *models.list_models(module=models.segmentation)]
    if name not in models.list_models():
        raise NotFoundError(
            f"torchvision {torchvision.__version__} has no network called {name!r}",
            did_you_mean(name, names, "pip install -U torchvision"),
        )
    if name not in names:
        raise UsageError(
            f"torchvision:{name} does not take a batch of images",
            "detectors, video and optical flow models are not supported; wrap one in a factory and use python:",
        )
    entries = list(models.get_model_weights(name))
    if not slash and weights is None:
        raise UsageError(
            f"torchvision:{name} names no weights, and a model with random weights is not useful",
            f"write {' or '.join(f'torchvision:{name}/{entry.name}' for entry in entries)}; or add `weights=file`",
        )
    version = {"torchvision": torchvision.__version__}
    if not slash:
        assert weights is not None
        module, taken = _with_user_weights(name, weights)
        tags = {**taken.tags, **version}
        return describe(module, uri=f"torchvision:{name}", name=name, flags=flags, tags=tags, notes=taken.notes)

    entry = _weights_entry(name, entries, weights_name)
    uri = f"torchvision:{name}/{entry.name}"
    offline = f"or download {entry.url.rpartition('/')[2]} on a machine with a connection, and add `weights=file`"
    with download_errors(uri, offline), _weights_from(weights, name, entry) as read:
        module = _build(name, entry, weights)
    taken = read[-1] if read else LoadedWeights()
    transforms = entry.transforms()
    kind = type(transforms).__name__
    if kind not in _TASKS:
        raise UsageError(f"{uri} does not take single images: its transforms are {kind}", "use python: with a factory")
    return describe(
        module,
        uri=uri,
        name=f"{name}-{entry.name}",
        flags=flags,
        preprocessing=preprocessing_of(transforms),
        architecture=name,
        # Of an encoder and decoder, the encoder is tapped.
        layer="backbone" if kind == "SemanticSegmentation" and hasattr(module, "backbone") else None,
        task=_TASKS[kind],
        data=_data(entry.name),
        tags={**taken.tags, **version, "url": entry.url},
        notes=taken.notes,
    )


def _weights_entry(name: str, entries: list[Any], weights_name: str) -> Any:
    """The entry of torchvision's enum for a name of weights."""
    if weights_name.upper() == "DEFAULT":
        return models.get_model_weights(name).DEFAULT
    for entry in entries:
        if entry.name == weights_name.upper():
            return entry
    raise NotFoundError(
        f"torchvision {torchvision.__version__} has no weights {weights_name!r} for {name}",
        f"it has {', '.join(f'torchvision:{name}/{entry.name}' for entry in entries)}",
    )


def preprocessing_of(transforms: Any) -> dict[str, Any]:
    """Translate a preset of torchvision into fields of `modelspace.types.Preprocessing`.

    A single resize side is that of the shorter side. A segmentation model takes the whole image, which is square for
    square images.
    """
    resize = _box(transforms.resize_size)
    crop = getattr(transforms, "crop_size", None)
    fields: dict[str, Any] = {
        "input_size": _box(crop) if crop is not None else resize,
        "mean": tuple(transforms.mean),
        "std": tuple(transforms.std),
        "channels": "rgb",
        "value_range": (0.0, 1.0),
        "interpolation": transforms.interpolation.value,
    }
    if crop is not None:
        fields |= {"resize": resize, "crop": "center" if len(_sides(transforms.resize_size)) == 1 else "squash"}
    return fields


def _sides(size: Any) -> list[int]:
    return [int(size)] if isinstance(size, int) else [int(side) for side in size]


def _box(size: Any) -> tuple[int, int]:
    sides = _sides(size)
    return sides[0], sides[-1]


def _build(name: str, entry: Any, weights: str | None) -> nn.Module:
    options = {"weights_backbone": None} if name in models.list_models(module=models.segmentation) else {}
    try:
        module: nn.Module = models.get_model(name, weights=entry, progress=sys.stderr.isatty(), **options)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, RuntimeError) and "Error(s) in loading state_dict" not in str(error):
            raise
        raise ModelspaceError(
            f"the weights in {weights or entry.url} don't fit torchvision:{name}/{entry.name}: {line(error)[:160]}",
            f"for your own weights write torchvision:{name} and set the preprocessing",
        ) from error
    return module


@contextmanager
def _weights_from(file: str | None, name: str, entry: Any) -> Iterator[list[LoadedWeights]]:
    """Make torchvision's builder read a file, if one is given, instead of downloading weights; yields what was loaded.

    The builder configures the network for its weights (auxiliary heads, input size), and gets them from `entry`. Only
    tensors are read in either case.
    """
    download = entry.get_state_dict
    read: list[LoadedWeights] = []

    def get_state_dict(*args: Any, **options: Any) -> Any:
        if file is not None:
            untrained = models.get_model(name, weights=None, **_offline_options(name))
            state, taken = read_state(file, untrained)
            read.append(taken)
            return _versioned(state, untrained)
        return download(*args, **{**options, "weights_only": True})

    entry.get_state_dict = get_state_dict
    try:
        yield read
    finally:
        del entry.get_state_dict


def _versioned(state: Any, untrained: nn.Module) -> Any:
    """The state dict with the versions of its layers, which safetensors lack and MNASNet checks."""
    if hasattr(state, "_metadata"):
        return state
    return with_versions(state, untrained)


def _offline_options(name: str) -> dict[str, Any]:
    """Options with which a builder downloads nothing and warns of nothing."""
    if name in models.list_models(module=models.segmentation):
        return {"weights_backbone": None}
    return {"init_weights": False} if name in ("googlenet", "inception_v3") else {}


def _with_user_weights(name: str, weights: str) -> tuple[nn.Module, LoadedWeights]:
    """A network with the user's weights, and the same number of classes."""
    options: dict[str, Any] = {"weights": None, **_offline_options(name)}
    if options.keys() & {"weights_backbone", "init_weights"}:
        # Auxiliary heads are only needed for training: build them if the file has their weights.
        auxiliary = any("aux" in str(key).partition(".")[0].lower() for key in read_state(weights)[0])
        if "init_weights" in options:
            options["aux_logits"] = auxiliary
        elif auxiliary:
            options["aux_loss"] = True
    module: nn.Module = models.get_model(name, **options)
    classes = classes_in(weights, module)
    if classes is not None:
        module = models.get_model(name, **options, num_classes=classes)
    return module, load_weights(module, weights)


def _data(weights: str) -> str | None:
    if weights.startswith("IMAGENET1K"):
        return "ImageNet-1k"
    return "COCO" if weights.startswith("COCO") else None
