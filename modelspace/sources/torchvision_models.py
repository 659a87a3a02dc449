"""``torchvision:NAME/WEIGHTS``: the models of torchvision, with the transforms that come with their weights."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe
from modelspace.sources.downloads import explained, line, package
from modelspace.sources.heads import classes_in
from modelspace.sources.weights import LoadedWeights, load_weights, read_state

torchvision: Any = package("torchvision")
models: Any = package("torchvision.models")

#: Transforms of models that take a batch of single images.
_TASKS = {"ImageClassification": "classification", "SemanticSegmentation": "semantic segmentation"}


def load(rest: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Build the network as torchvision does for these weights, and read their transforms.

    ``NAME/WEIGHTS`` with a file: the file holds those weights. ``NAME`` with a file: nobody knows what it was trained
    with, and the flags have to say. ``NAME`` alone is refused: torchvision would make a network with random weights.

    Raises:
        NotFoundError: no such network or weights.
        ModelspaceError: the weights can't be downloaded or don't fit.
        UsageError: preprocessing that nobody states; weights not named.
    """
    name, slash, wanted = rest.partition("/")
    names = [*models.list_models(module=models), *models.list_models(module=models.segmentation)]
    if name not in models.list_models():
        raise NotFoundError(
            f"torchvision {torchvision.__version__} has no network called {name!r}",
            did_you_mean(name, names, "pip install -U torchvision"),
        )
    if name not in names:
        raise UsageError(
            f"torchvision:{name} does not take a batch of single images",
            "detectors, video and optical flow models are not supported; wrap one in a factory and use python:",
        )
    known = list(models.get_model_weights(name))
    if not slash and weights is None:
        raise UsageError(
            f"torchvision:{name} names no weights, and random ones say nothing",
            f"write {' or '.join(f'torchvision:{name}/{each.name}' for each in known)}; or add `weights=file`",
        )
    version = {"torchvision": torchvision.__version__}
    if not slash:
        assert weights is not None
        module, taken = _own(name, weights)
        tags = {**taken.tags, **version}
        return describe(module, uri=f"torchvision:{name}", name=name, flags=flags, tags=tags, notes=taken.notes)

    entry = next((each for each in known if each.name == wanted.upper()), None)
    if wanted.upper() == "DEFAULT":
        entry = models.get_model_weights(name).DEFAULT
    if entry is None:
        raise NotFoundError(
            f"torchvision {torchvision.__version__} has no weights {wanted!r} for {name}",
            f"it has {', '.join(f'torchvision:{name}/{each.name}' for each in known)}",
        )
    uri = f"torchvision:{name}/{entry.name}"
    offline = f"or fetch {entry.url.rpartition('/')[2]} where there is a connection, and add `weights=file`"
    with explained(uri, offline), _given(name, entry, weights) as read:
        module = _build(name, entry, weights)
    taken = read[-1] if read else LoadedWeights()
    transforms = entry.transforms()
    kind = type(transforms).__name__
    if kind not in _TASKS:
        raise UsageError(f"{uri} takes no single images: its transforms are {kind}", "use python: with a factory")
    return describe(
        module,
        uri=uri,
        name=f"{name}-{entry.name}",
        flags=flags,
        stated=preprocessing_of(transforms),
        architecture=name,
        # Of an encoder and a decoder, the encoder is explained.
        layer="backbone" if kind == "SemanticSegmentation" and hasattr(module, "backbone") else None,
        task=_TASKS[kind],
        data=_data(entry.name),
        tags={**taken.tags, **version, "url": entry.url},
        notes=taken.notes,
    )


def preprocessing_of(transforms: Any) -> dict[str, Any]:
    """torchvision's preset in our terms.

    Resizing to one side makes the shorter side that long; a segmentation model takes the whole image, which for a
    square image is a square.
    """
    resize = _box(transforms.resize_size)
    crop = getattr(transforms, "crop_size", None)
    stated: dict[str, Any] = {
        "input_size": _box(crop) if crop is not None else resize,
        "mean": tuple(transforms.mean),
        "std": tuple(transforms.std),
        "channels": "rgb",
        "value_range": (0.0, 1.0),
        "interpolation": transforms.interpolation.value,
    }
    if crop is not None:
        stated |= {"resize": resize, "crop": "center" if len(_sides(transforms.resize_size)) == 1 else "squash"}
    return stated


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
            f"for weights of your own write torchvision:{name} and state the preprocessing",
        ) from error
    return module


@contextmanager
def _given(name: str, entry: Any, weights: str | None) -> Iterator[list[LoadedWeights]]:
    """Let torchvision's builder find a file's weights where it would download them; yields what was taken from the file.

    The builder knows what each network needs to be like for its weights (auxiliary heads, input size), and asks `entry`
    for them. Whichever they are, nothing but tensors is read.
    """
    plain = entry.get_state_dict
    read: list[LoadedWeights] = []

    def get_state_dict(*args: Any, **options: Any) -> Any:
        if weights is not None:
            untrained = models.get_model(name, weights=None, **_built_without(name))
            state, taken = read_state(weights, untrained)
            read.append(taken)
            return _versioned(state, untrained)
        return plain(*args, **{**options, "weights_only": True})

    entry.get_state_dict = get_state_dict
    try:
        yield read
    finally:
        del entry.get_state_dict


def _versioned(state: Any, untrained: nn.Module) -> Any:
    """The state dict with the versions of its layers; safetensors keep none, and MNASNet asks for its own."""
    if hasattr(state, "_metadata"):
        return state
    versioned = OrderedDict(state)
    versioned._metadata = untrained.state_dict()._metadata  # type: ignore[attr-defined]
    return versioned


def _built_without(name: str) -> dict[str, Any]:
    """What a builder needs to be told so that it downloads nothing and says nothing."""
    if name in models.list_models(module=models.segmentation):
        return {"weights_backbone": None}
    return {"init_weights": False} if name in ("googlenet", "inception_v3") else {}


def _own(name: str, weights: str) -> tuple[nn.Module, LoadedWeights]:
    """A network with the weights of the user, and as many classes as they have."""
    options: dict[str, Any] = {"weights": None, **_built_without(name)}
    if options.keys() & {"weights_backbone", "init_weights"}:
        # Heads for training alone are there or not, as the file has it.
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
