"""The image processors of Hugging Face's transformers, read from their `preprocessor_config.json`.

The classes themselves are not used: they work on pictures and round to 8 bits on the way, and they can't say which part
of an image a model sees. What they do is in the file; what older files leave out, their classes do in the same way, and
those that do something else are refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from modelspace.errors import UsageError
from modelspace.sources.fields import FIELDS, stating

#: Pillow's numbers.
_INTERPOLATIONS = {
    0: "nearest",
    2: "bilinear",
    3: "bicubic",
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}

#: Steps that no field of ours describes, where they are on.
_FOREIGN = (
    "do_thumbnail",
    "do_align_long_axis",
    "do_crop_margin",
    "do_image_splitting",
    "do_color_quantize",
    "do_grayscale",
    "crop_to_patches",
)

#: Classes that crop before they resize, or cut an image into parts.
_OTHERS = ("Perceiver", "ImageGPT", "Donut", "Nougat", "Pix2Struct", "Idefics", "LlavaNext", "Vivit", "VideoMAE", "Tvp")


def _hint(**more: str) -> str:
    names = ("input_size", "mean", "std", "resize")
    usual = {name: FIELDS[name].examples[0] for name in names}
    return f"state the preprocessing, for example {stating(**usual, **more)}"


def preprocessing_of(config: Mapping[str, Any], who: str) -> dict[str, Any]:
    """The fields of `modelspace.types.Preprocessing` that an image processor's configuration states.

    Args:
        config: the file's content.
        who: the model, for errors.

    Raises:
        UsageError: a processor that does what can't be stated here.

    >>> stated = preprocessing_of(
    ...     {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
    ...      "resample": 3,
    ...      "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
    ...     "it",
    ... )
    >>> stated["input_size"], stated["resize"], stated["crop"], stated["interpolation"]
    ((224, 224), (256, 256), 'center', 'bicubic')
    """
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    foreign = [key for key in _FOREIGN if config.get(key)]
    if kind.startswith(_OTHERS) or foreign:
        what = foreign[0] if foreign else kind
        raise UsageError(f"the image processor of {who} does what can't be stated here: {what}", _hint())
    stated: dict[str, Any] = {"channels": "bgr" if config.get("do_flip_channel_order") else "rgb"}
    stated |= _geometry(config, kind, who)
    stated |= _values(config, kind, who)
    return stated


def _geometry(config: Mapping[str, Any], kind: str, who: str) -> dict[str, Any]:
    size, crop = config.get("size"), config.get("crop_size")
    cropped = config.get("do_center_crop", crop is not None) and crop is not None
    if not config.get("do_resize", True):
        if not cropped:
            return {}
        raise UsageError(f"the image processor of {who} crops images of any size without resizing them", _hint())
    if size is None:
        return {}
    stated: dict[str, Any] = {"interpolation": _interpolation(config, who)}
    box, kept = _box(size, who)
    share = config.get("crop_pct")
    if kind.startswith("ConvNext") and kept and box[0] < 384:
        # Below 384 pixels these resize to the size over crop_pct, by default 224 / 256, and crop to the size.
        resize = int(box[0] / (share or 224 / 256))
        return stated | {"input_size": box, "resize": (resize, resize), "crop": "center"}
    if kind.startswith("PoolFormer") and share:
        target = _box(crop, who)[0] if cropped else box
        resize = math.floor(box[0] / share)
        return stated | {"input_size": target, "resize": (resize, resize), "crop": "center"}
    if kind.startswith("Levit") and kept:
        box = (int(box[0] * 256 / 224),) * 2
    if config.get("do_pad") and not kept and "size_divisor" in config:
        raise UsageError(f"the image processor of {who} pads to multiples of {config['size_divisor']}", _hint())
    if cropped:
        return stated | {"input_size": _box(crop, who)[0], "resize": box, "crop": "center" if kept else "squash"}
    # The shorter side alone is stated: on a square image, as probe images are, both are.
    return stated | {"input_size": box}


def _box(size: Any, who: str) -> tuple[tuple[int, int], bool]:
    """(height, width), and whether the aspect ratio is kept."""
    if isinstance(size, int):
        return (size, size), False
    if isinstance(size, list | tuple) and len(size) == 2:
        return (int(size[0]), int(size[1])), False
    if isinstance(size, Mapping):
        if size.get("height") and size.get("width"):
            return (int(size["height"]), int(size["width"])), False
        edges = [int(size[key]) for key in ("shortest_edge", "longest_edge") if size.get(key)]
        if edges:
            # Both bounds of a square image's one side: the lower one counts.
            return (min(edges), min(edges)), True
    raise UsageError(f"the image processor of {who} states the size {size!r}, which leaves it open", _hint())


def _interpolation(config: Mapping[str, Any], who: str) -> str:
    resample = config.get("resample")
    if resample is None:
        raise UsageError(f"the image processor of {who} does not say how it resizes", _hint(interpolation="bilinear"))
    found = _INTERPOLATIONS.get(resample)
    if found is None:
        raise UsageError(
            f"the image processor of {who} resizes by Pillow's filter {resample}, which is not there",
            _hint(interpolation="bicubic"),
        )
    return found


def _values(config: Mapping[str, Any], kind: str, who: str) -> dict[str, Any]:
    factor = float(config.get("rescale_factor") or 1 / 255) if config.get("do_rescale", True) else 1.0
    shift = -1.0 if config.get("rescale_offset") else 0.0
    # 255 * (1 / 255) is meant to be 1.
    top = round(255 * factor + shift, 9)
    stated: dict[str, Any] = {"value_range": (shift, top)}
    mean, std = config.get("image_mean"), config.get("image_std")
    # MobileViT's class knows no mean, though its parent's lies in the file.
    if config.get("do_normalize") is False or ("do_normalize" not in config and kind.startswith("MobileViT")):
        return stated | {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    if mean is None or std is None:
        return stated
    if "do_normalize" not in config:
        raise UsageError(f"the image processor of {who} states a mean, but not whether it is used", _hint())
    means = [float(mean)] * 3 if isinstance(mean, int | float) else [float(value) for value in mean]
    stds = [float(std)] * 3 if isinstance(std, int | float) else [float(value) for value in std]
    if config.get("include_top"):
        stds = [value * value for value in stds]  # EfficientNet's divides twice
    return stated | {"mean": tuple(means), "std": tuple(stds)}
