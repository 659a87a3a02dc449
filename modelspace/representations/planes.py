"""How an attribution becomes the map that a space stores: what is done with its channels, smoothing and centring.

The paper's form is the mean over channels, not smoothed and not centred (Song et al. 2019); `Form()`. Other forms are
part of a space's parameters, under the names of the attributes of `Form`; a form that is not named there is the
paper's, so that older spaces keep their identity. docs/lab-book/attribution.md compares forms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import UsageError

#: What is done with the channels of an attribution: their mean, the mean of their absolute values, the Euclidean norm.
MEAN, ABSOLUTE, NORM = "mean", "absolute", "norm"

#: What is subtracted from a map of unit norm: nothing, its own mean, or the model's mean map over the probe images.
NOTHING, OWN_MEAN, MEAN_MAP = "none", "own_mean", "mean_map"

CHOICES: Mapping[str, tuple[str, ...]] = {
    "channels": (MEAN, ABSOLUTE, NORM),
    "centring": (NOTHING, OWN_MEAN, MEAN_MAP),
}


@dataclass(frozen=True)
class Form:
    """The form of a space's maps.

    Attributes:
        channels: `MEAN`, `ABSOLUTE` or `NORM`; the last two have no signs.
        smoothing: σ of a Gaussian, as a share of the map's side, from 0 to 0.25; before the map is put on the canvas.
        centring: `NOTHING`, `OWN_MEAN` (a cosine is then Pearson's correlation) or `MEAN_MAP`.

    Raises:
        UsageError: an attribute has another value.
    """

    channels: str = MEAN
    smoothing: float = 0.0
    centring: str = NOTHING

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
        Form(channels='norm', smoothing=0.0, centring='none')
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
    return (weights / weights.sum()).astype(np.float32)


def centred(maps: NDArray[np.float32], centring: str) -> NDArray[np.float32]:
    """Maps without what `centring` names, of unit norm; a map of which nothing is left is zero.

    Args:
        maps: (n, height, width), each of unit norm: all of one model where the mean map is subtracted.
        centring: one of `CHOICES`.
    """
    if centring == NOTHING:
        return maps
    axis = (1, 2) if centring == OWN_MEAN else (0,)
    rest = maps - maps.mean(axis=axis, keepdims=True, dtype=np.float64)
    norm = np.linalg.norm(rest, axis=(1, 2), keepdims=True)
    # What rounding leaves of a uniform map, or of maps that are all equal, is no pattern.
    out: NDArray[np.float32] = np.where(norm > _ROUNDING, rest / np.maximum(norm, _ROUNDING), 0).astype(np.float32)
    return out


_ROUNDING = 1e-5
