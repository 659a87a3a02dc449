"""How an attribution becomes the map that a space stores: what is done with its channels, smoothing, centring, scale.

The paper's form is the mean over channels, not smoothed, not centred, of norm 1 (Song et al. 2019); `Form()`. Other
forms are part of a space's parameters, under the names of the attributes of `Form`; a form that is not named there is
the paper's, so that older spaces keep their identity. docs/lab-book/attribution.md compares forms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import UsageError
from modelspace.representations import maps

#: What is done with the channels of an attribution: their mean, the mean of their absolute values, the Euclidean norm,
#: or nothing: a map then has three planes.
MEAN, ABSOLUTE, NORM, EACH = "mean", "absolute", "norm", "each"

#: What is subtracted from a map: nothing, its own mean, or the model's mean map over the probe images.
NOTHING, OWN_MEAN, MEAN_MAP = "none", "own_mean", "mean_map"

#: What has norm 1: the map of each image, or the maps of a model in the mean over images, which keeps their scale.
IMAGE, MODEL = "image", "model"

CHOICES: Mapping[str, tuple[str, ...]] = {
    "channels": (MEAN, ABSOLUTE, NORM, EACH),
    "centring": (NOTHING, OWN_MEAN, MEAN_MAP),
    "scale": (IMAGE, MODEL),
}


@dataclass(frozen=True)
class Form:
    """The form of a space's maps.

    Attributes:
        channels: `MEAN`, `ABSOLUTE`, `NORM` (neither has signs) or `EACH`.
        smoothing: σ of a Gaussian, as a share of the map's side, from 0 to 0.25; before the map is put on the canvas.
        centring: `NOTHING`, `OWN_MEAN` (a cosine is then Pearson's correlation) or `MEAN_MAP`.
        scale: `IMAGE` or `MODEL`; with the latter, an affinity is one cosine of all maps of two models.

    Raises:
        UsageError: an attribute has another value.
    """

    channels: str = MEAN
    smoothing: float = 0.0
    centring: str = NOTHING
    scale: str = IMAGE

    @property
    def n_planes(self) -> int:
        """Planes of a map."""
        return 3 if self.channels == EACH else 1

    def per_block(self, canvas: int, bits: int, n_images: int) -> int:
        """Images per stored block; maps that keep their scale are in one, since all of them are needed to compare."""
        if self.scale == MODEL:
            return n_images
        return max(1, maps.BLOCK_BYTES // -(-self.n_planes * canvas * canvas * bits // 8))

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise UsageError(f"{name}={value!r} is not known for maps", f"use one of: {', '.join(choices)}")
        sigma = self.smoothing
        if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 <= sigma <= 0.25:
            raise UsageError(
                f"smoothing={sigma!r} is not a share of a map's side from 0 to 0.25", "0 leaves maps as they are"
            )

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Form:
        """The form that a space's parameters name, among others.

        >>> Form.of({"epsilon": 1e-4, "channels": "norm"})
        Form(channels='norm', smoothing=0.0, centring='none', scale='image')
        """
        return cls(**{name: parameters[name] for name in NAMES if name in parameters})

    def parameters(self) -> dict[str, Any]:
        """What a space's parameters name of it: what differs from the paper's form.

        >>> Form(channels="norm").parameters()
        {'channels': 'norm'}
        """
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}


#: The parameters of a space that describe the form of its maps; the others are those of its method.
NAMES = tuple(each.name for each in fields(Form))


def gaussian(sigma: float) -> NDArray[np.float32]:
    """Weights of a Gaussian, from -3σ to 3σ, that sum to 1; sigma in pixels, positive."""
    reach = max(1, math.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    normalised: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return normalised


def centred(values: NDArray[np.float32], form: Form) -> NDArray[np.float32]:
    """Maps without what the form's centring names, and of unit norm again if each of them has it.

    A map of which nothing but rounding is left is zero.

    Args:
        values: (n, ...), maps, each of unit norm unless the form keeps their scale: all of one model where the mean map
            is subtracted.
        form: of the maps.
    """
    if form.centring == NOTHING:
        return values
    rows = values.reshape(len(values), -1)
    axis = 1 if form.centring == OWN_MEAN else 0
    rest = rows - rows.mean(axis=axis, keepdims=True, dtype=np.float64)
    norm = np.linalg.norm(rest, axis=1, keepdims=True)
    least = _ROUNDING * np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    scale = np.where(norm > 0, norm, 1) if form.scale == IMAGE else 1.0
    out: NDArray[np.float32] = np.where(norm > least, rest / scale, 0).astype(np.float32).reshape(values.shape)
    return out


_ROUNDING = 1e-5
