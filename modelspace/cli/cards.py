"""The metadata of a model, and what was measured of it, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modelspace.cli import figures


def size_text(preprocessing: Mapping[str, Any]) -> str:
    """The input size as HEIGHTxWIDTH.

    >>> size_text({"input_size": [192, 256]})
    '192x256'
    """
    return figures.shape(preprocessing["input_size"])


def input_text(preprocessing: Mapping[str, Any]) -> str:
    """A `modelspace.types.Preprocessing` dictionary as one line.

    >>> values = {"mean": (0, 0, 0), "std": (1, 1, 1), "value_range": (0, 1)}
    >>> input_text({"input_size": (64, 64), "channels": "rgb", **values})
    '64x64 rgb, values 0..1, mean 0, std 1'
    """
    lo, hi = preprocessing["value_range"]
    return (
        f"{size_text(preprocessing)} {preprocessing['channels']}{_optional_text(preprocessing)}, values "
        f"{lo:g}..{hi:g}, mean {figures.numbers(preprocessing['mean'])}, std {figures.numbers(preprocessing['std'])}"
    )


def _optional_text(preprocessing: Mapping[str, Any]) -> str:
    """The entries that are not at their defaults, each after a comma.

    >>> _optional_text({"input_size": [8, 8], "resize": [9, 9], "crop": "center", "layout": "nhwc"})
    ', center of 9x9, nhwc'
    """
    parts = []
    if resize := preprocessing.get("resize"):
        parts.append(f"{preprocessing['crop']} of {figures.shape(resize)}")
    parts += [preprocessing[key] for key in ("interpolation", "layout") if key in preprocessing]
    if "alpha" in preprocessing:
        parts.append(f"alpha {preprocessing['alpha']:g}")
    if "inputs" in preprocessing:
        parts.append(f"with {', '.join(preprocessing['inputs'])}")
    return "".join(f", {part}" for part in parts)


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
        ("torch", model.torch or "unknown"),
        ("added", model.added_at),
        ("spaces", ", ".join(model.spaces) or "none"),
        ("tags", ", ".join(f"{key}={value}" for key, value in model.tags.items())),
    ]


def neighbours_text(neighbours: Any) -> str:
    """The nearest models (`modelspace.results.Neighbours`) with what they are ranked by, as one line."""
    return ", ".join(f"{row.name} {row.score:.4f}" for row in neighbours) + f" (space {neighbours.space})"


def outcomes_text(outcomes: Iterable[Any]) -> str:
    """What was measured of a model (`modelspace.results.OutcomeInfo`), as one line."""
    return ", ".join(
        f"{row.task} failed" if row.score is None else f"{row.task} {row.metric} {row.score:.4g}" for row in outcomes
    )
