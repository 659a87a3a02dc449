"""The image processors of Hugging Face's transformers, read from their `preprocessor_config.json`.

The classes themselves are not used: they round images to 8 bits in between, and don't report which part of an image a
model sees. The file says what they do. Fields that older files leave out have the same default in every supported
class; the classes that differ are refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from modelspace.deprecated import renamed_argument
from modelspace.errors import UsageError
from modelspace.sources.fields import FIELDS, preprocessing_hint

#: By Pillow's number or by name.
_INTERPOLATIONS = {
    0: "nearest",
    2: "bilinear",
    3: "bicubic",
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}

#: Switches of steps that no field of `Preprocessing` describes.
_UNSUPPORTED_STEPS = (
    "do_thumbnail",
    "do_align_long_axis",
    "do_crop_margin",
    "do_image_splitting",
    "do_color_quantize",
    "do_grayscale",
    "crop_to_patches",
)

#: Classes that crop before they resize, or split an image into parts.
_UNSUPPORTED_CLASSES = (
    "Perceiver", "ImageGPT", "Donut", "Nougat", "Pix2Struct", "Idefics", "LlavaNext", "Vivit", "VideoMAE", "Tvp",
)  # fmt: skip


def _hint(**fields: str) -> str:
    names = ("input_size", "mean", "std", "resize")
    defaults = {name: FIELDS[name].examples[0] for name in names}
    return f"set the preprocessing, for example {preprocessing_hint(**defaults, **fields)}"


@renamed_argument("who", "model")
def preprocessing_of(config: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Translate an image processor's configuration into fields of `modelspace.types.Preprocessing`.

    Args:
        config: the file's content.
        model: the model, for error messages.

    Raises:
        UsageError: `Preprocessing` can't express what the processor does.

    >>> values = preprocessing_of(
    ...     {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
    ...      "resample": 3,
    ...      "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
    ...     "facebook/dinov2-small",
    ... )
    >>> values["input_size"], values["resize"], values["crop"], values["interpolation"]
    ((224, 224), (256, 256), 'center', 'bicubic')
    """
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    steps = [key for key in _UNSUPPORTED_STEPS if config.get(key)]
    if kind.startswith(_UNSUPPORTED_CLASSES) or steps:
        raise UsageError(
            f"the image processor of {model} has an unsupported step: {steps[0] if steps else kind}", _hint()
        )
    values: dict[str, Any] = {"channels": "bgr" if config.get("do_flip_channel_order") else "rgb"}
    values |= _geometry(config, kind, model)
    values |= _normalisation(config, kind, model)
    return values


def _geometry(config: Mapping[str, Any], kind: str, model: str) -> dict[str, Any]:
    """Sizes, crop and interpolation."""
    size, crop = config.get("size"), config.get("crop_size")
    crops = config.get("do_center_crop", crop is not None) and crop is not None
    if not config.get("do_resize", True):
        if not crops:
            return {}
        raise UsageError(f"the image processor of {model} crops images of any size without resizing them", _hint())
    if size is None:
        return {}
    values: dict[str, Any] = {"interpolation": _interpolation(config, model)}
    box, keeps_aspect = _box(size, model)
    crop_pct = config.get("crop_pct")
    if kind.startswith("ConvNext") and keeps_aspect and box[0] < 384:
        # Below 384 pixels these resize to size / crop_pct, by default 224 / 256, and crop to the size.
        resize = int(box[0] / (crop_pct or 224 / 256))
        return values | {"input_size": box, "resize": (resize, resize), "crop": "center"}
    if kind.startswith("PoolFormer") and crop_pct:
        target = _box(crop, model)[0] if crops else box
        resize = math.floor(box[0] / crop_pct)
        return values | {"input_size": target, "resize": (resize, resize), "crop": "center"}
    if kind.startswith("Levit") and keeps_aspect:
        box = (int(box[0] * 256 / 224),) * 2
    if config.get("do_pad") and not keeps_aspect and "size_divisor" in config:
        raise UsageError(f"the image processor of {model} pads to multiples of {config['size_divisor']}", _hint())
    if crops:
        fit = "center" if keeps_aspect else "squash"
        return values | {"input_size": _box(crop, model)[0], "resize": box, "crop": fit}
    # Only the shorter side may be set; probe images are square, so it gives both.
    return values | {"input_size": box}


def _box(size: Any, model: str) -> tuple[tuple[int, int], bool]:
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
            # Bounds of both sides; on a square image the smaller one decides.
            return (min(edges), min(edges)), True
    raise UsageError(f"the image processor of {model} has an ambiguous size: {size!r}", _hint())


def _interpolation(config: Mapping[str, Any], model: str) -> str:
    resample = config.get("resample")
    if resample is None:
        raise UsageError(f"the image processor of {model} has no resize filter", _hint(interpolation="bilinear"))
    name = _INTERPOLATIONS.get(resample)
    if name is None:
        raise UsageError(
            f"the image processor of {model} resizes with Pillow's filter {resample}, which is not supported",
            _hint(interpolation="bicubic"),
        )
    return name


def _normalisation(config: Mapping[str, Any], kind: str, model: str) -> dict[str, Any]:
    """Value range, mean and std."""
    factor = float(config.get("rescale_factor") or 1 / 255) if config.get("do_rescale", True) else 1.0
    offset = -1.0 if config.get("rescale_offset") else 0.0
    # Rounded, so that 255 * (1 / 255) is exactly 1.
    top = round(255 * factor + offset, 9)
    values: dict[str, Any] = {"value_range": (offset, top)}
    mean, std = config.get("image_mean"), config.get("image_std")
    # MobileViT's class ignores the mean of its parent class, which is in the file.
    if config.get("do_normalize") is False or ("do_normalize" not in config and kind.startswith("MobileViT")):
        return values | {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    if mean is None or std is None:
        return values
    if "do_normalize" not in config:
        raise UsageError(f"the image processor of {model} has a mean, but not whether it is used", _hint())
    means = [float(mean)] * 3 if isinstance(mean, int | float) else [float(value) for value in mean]
    stds = [float(std)] * 3 if isinstance(std, int | float) else [float(value) for value in std]
    if config.get("include_top"):
        stds = [value * value for value in stds]  # EfficientNet's processor divides by std twice
    return values | {"mean": tuple(means), "std": tuple(stds)}
