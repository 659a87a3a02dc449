"""From gradients to affinities: every way of making maps and comparing them, as arithmetic on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from attribution_sweep import gradients
from modelspace.spaces import hubness

Array = np.ndarray

#: How the channels of a map become one plane, or are all kept.
MEAN, ABSOLUTE_MEAN, MEAN_ABSOLUTE, NORM, EACH = (
    "mean",
    "absolute value of the mean",
    "mean of absolute values",
    "Euclidean norm",
    "all kept",
)
CHANNELS = (MEAN, ABSOLUTE_MEAN, MEAN_ABSOLUTE, NORM, EACH)

#: What is subtracted from maps of unit norm before they are compared.
NOTHING, OWN_MEAN, MEAN_OF_IMAGES, MEAN_OF_MODELS = (
    "nothing",
    "its own mean",
    "the model's mean over images",
    "the image's mean over models",
)

#: Mean cosine of each image's maps, or one cosine of all maps of a model, which keep their scale.
PER_IMAGE, WHOLE = "image by image", "all at once"


@dataclass(frozen=True)
class Candidate:
    """One way of comparing models by attribution.

    Attributes:
        scalar: a key of `gradients.SCALARS` or `gradients.STACKS`.
        engine: one of `gradients.ENGINES`.
        layer: the layer whose output is explained; "" for the encoder output.
        times_input: whether the gradient is multiplied by the input.
        channels: one of `CHANNELS`.
        canvas: side of the maps in pixels, a divisor of the input's.
        sigma: of a Gaussian that smooths maps before they are put on the canvas, in pixels of the input.
        centring: what is subtracted.
        compared: `PER_IMAGE` or `WHOLE`.
        hubs: hubness correction of the ranking.
    """

    scalar: str = "sum"
    engine: str = "plain"
    layer: str = ""
    times_input: bool = True
    channels: str = MEAN
    canvas: int = 32
    sigma: float = 0.0
    centring: str = NOTHING
    compared: str = PER_IMAGE
    hubs: str = hubness.NONE

    @property
    def is_eligible(self) -> bool:
        """Whether a space could have it: a model's vector must not depend on other models, nor on another layer."""
        return self.centring != MEAN_OF_MODELS and not self.layer

    @property
    def passes(self) -> int:
        """Backward passes per image."""
        if self.scalar in gradients.STACKS:
            return gradients.STACKS[self.scalar][1]
        seeds = int(self.scalar.split()[0]) if "random" in self.scalar else 1
        return seeds * {"smoothgrad": gradients.COPIES, "integrated": gradients.STEPS}.get(self.engine, 1)

    def __str__(self) -> str:
        of = "gradient*input" if self.times_input else "gradient"
        words = [f"{of} of {self.scalar}"]
        if self.engine != "plain":
            words.append(self.engine)
        if self.layer:
            words.append(f"layer {self.layer}")
        words.append(f"channels: {self.channels}")
        words.append(f"canvas {self.canvas}")
        if self.sigma:
            words.append(f"smoothed by {self.sigma:g} px")
        if self.centring != NOTHING:
            words.append(f"minus {self.centring}")
        if self.compared != PER_IMAGE:
            words.append("compared all at once")
        if self.hubs != hubness.NONE:
            words.append(f"hubs {self.hubs}")
        return "; ".join(words)


@lru_cache(maxsize=3)
def _raw(names: tuple[str, ...], engine: str, layer: str, part: str, key: str) -> Array:
    return gradients.load(names, engine, layer, part, key)


def _single(planes: Array, channels: str) -> Array:
    """(..., C, H, W) -> (..., C', H, W), C' = 1 unless channels are kept."""
    if channels == EACH:
        return planes
    if channels == NORM:
        return np.sqrt(np.square(planes).sum(axis=-3, keepdims=True))
    if channels == MEAN_ABSOLUTE:
        return np.abs(planes).mean(axis=-3, keepdims=True)
    mean = planes.mean(axis=-3, keepdims=True)
    return np.abs(mean) if channels == ABSOLUTE_MEAN else mean


@lru_cache(maxsize=2)
def planes(names: tuple[str, ...], scalar: str, engine: str, layer: str, times_input: bool, channels: str) -> Array:
    """(models, images, planes, H, W) float32: before smoothing; all seeds of a stack are planes of an image."""
    part, key = gradients.file_of(scalar)
    values = _raw(names, engine, layer, part, key)
    if scalar not in gradients.STACKS:
        return _single(values * _raw(names, "plain", "", "scalars", "x") if times_input else values, channels)
    stack = values[:, :, : gradients.STACKS[scalar][1]]
    selected = stack[..., 3:, :, :] if times_input else stack[..., :3, :, :]
    selected = _single(selected, channels)
    return selected.reshape(*selected.shape[:2], -1, *selected.shape[-2:])


def on_canvas(values: Array, canvas: int) -> Array:
    """(..., H, W) -> (..., canvas, canvas): means over areas; the canvas divides H and W, and may equal them."""
    side = values.shape[-1]
    if canvas == side:
        return values
    step = side // canvas
    if step * canvas != side:
        raise ValueError(f"a canvas of {canvas} does not divide a map of {side} pixels")
    return values.reshape(*values.shape[:-2], canvas, step, canvas, step).mean(axis=(-3, -1))


@lru_cache(maxsize=1)
def _smoothed(
    names: tuple[str, ...], scalar: str, engine: str, layer: str, times_input: bool, channels: str, sigma: float
) -> Array:
    """`planes` after a Gaussian of this many pixels of the input."""
    values = planes(names, scalar, engine, layer, times_input, channels)
    width = sigma * values.shape[-1] / gradients.SIDE
    return gaussian_filter(values, sigma=(0, 0, 0, width, width), mode="nearest", truncate=3) if sigma else values


@lru_cache(maxsize=1)
def _rows(names: tuple[str, ...], c: Candidate) -> Array:
    """Maps as rows, (models, images, elements) float32, not scaled; c: without what is done to rows."""
    values = _smoothed(names, c.scalar, c.engine, c.layer, c.times_input, c.channels, c.sigma)
    values = on_canvas(values, min(c.canvas, values.shape[-1]))
    return values.reshape(*values.shape[:2], -1)


def rows(names: Sequence[str], candidate: Candidate) -> Array:
    """Maps as rows, (models, images, elements) float32, before they are scaled and centred."""
    return _rows(tuple(names), replace(candidate, centring=NOTHING, compared=PER_IMAGE, hubs=hubness.NONE))


def unit(values: Array) -> Array:
    """Rows of norm 1; a zero row stays zero."""
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(norms > 0, norms, 1)


def centred(values: Array, centring: str, compared: str) -> Array:
    """Rows without what `centring` says, ready to be compared: of unit norm, or of mean squared norm 1."""
    scaled = (
        unit(values)
        if compared == PER_IMAGE
        else values / np.sqrt(np.square(values).sum(-1, keepdims=True).mean(1, keepdims=True))
    )
    if centring == OWN_MEAN:
        scaled = scaled - scaled.mean(axis=-1, keepdims=True)
    elif centring == MEAN_OF_IMAGES:
        scaled = scaled - scaled.mean(axis=1, keepdims=True)
    elif centring == MEAN_OF_MODELS:
        scaled = scaled - scaled.mean(axis=0, keepdims=True)
    if compared == PER_IMAGE:
        return unit(scaled)
    return scaled / np.sqrt(np.square(scaled).sum(-1, keepdims=True).mean(1, keepdims=True))


def affinity(values: Array) -> Array:
    """Mean inner product of rows, (models, models), from rows (models, images, elements)."""
    flat = values.reshape(len(values), -1)
    result: Array = flat @ flat.T / values.shape[1]
    return result


def matrix(names: Sequence[str], candidate: Candidate) -> Array:
    """Scores of all pairs, (models, models), row = target, before correction for hubs."""
    return affinity(centred(rows(names, candidate), candidate.centring, candidate.compared))
