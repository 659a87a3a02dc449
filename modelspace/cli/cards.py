"""What is known of a model, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelspace.cli import figures


def size_text(preprocessing: Mapping[str, Any]) -> str:
    """
    >>> size_text({"input_size": [192, 256]})
    '192x256'
    """
    return figures.shape(preprocessing["input_size"])


def input_text(preprocessing: Mapping[str, Any]) -> str:
    """The dictionary of `modelspace.types.Preprocessing` as one line.

    >>> input_text({"input_size": (64, 64), "mean": (0, 0, 0), "std": (1, 1, 1), "channels": "rgb", "value_range": (0, 1)})
    '64x64 rgb, values 0..1, mean 0, std 1'
    """
    lo, hi = preprocessing["value_range"]
    return (
        f"{size_text(preprocessing)} {preprocessing['channels']}, values {lo:g}..{hi:g}, "
        f"mean {figures.numbers(preprocessing['mean'])}, std {figures.numbers(preprocessing['std'])}"
    )


def lines(model: Any) -> list[tuple[str, str]]:
    """Labelled lines of a `modelspace.results.ModelInfo`."""
    return [
        ("task", model.task or ""),
        ("data", model.data or ""),
        ("architecture", model.architecture),
        ("parameters", f"{model.parameters:,}"),
        ("address", model.uri),
        ("layer", f"{model.layer} ({model.layer_found_by}), {figures.shape(model.output_shape)}"),
        ("input", input_text(model.preprocessing)),
        ("weights", f"sha256 {model.weights_sha256}"),
        ("seconds", figures.seconds(model.seconds)),
        ("added", model.added_at),
        ("spaces", ", ".join(model.spaces) or "none"),
        ("tags", ", ".join(f"{key}={value}" for key, value in model.tags.items())),
    ]
