"""The order of a batch in memory in which convolutions run fastest: channels last, where it gives the same maps.

In this order the channels of a pixel are neighbours in memory, which is how convolutions compute; other orders are
converted for each of them and back. torch passes the order of the input on from layer to layer, so only the input is
reordered, and the model stays as it is. The choice depends on the model alone and not on a clock, so that the same pass
gives the same bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modelspace.attribution.engine import CODE_FAILURES, encoder_output, gradient_of, ready
from modelspace.attribution.graph import kinds_below
from modelspace.attribution.rules import CONVOLUTIONS
from modelspace.embedding.half import HalfTap
from modelspace.encoder.layers import Tap
from modelspace.types import Preprocessing

#: Smallest cosine of gradients, and largest relative difference of T, between the two orders: the results are equal
#: except for rounding, which may switch single units on or off.
_SAME, _ROUNDING = 0.9999, 1e-3

#: The same where a model runs in bfloat16.
_SAME_IN_HALF, _ROUNDING_IN_HALF = 0.999, 0.05

#: Devices whose convolutions are known to be faster in this order.
_DEVICES = ("cpu", "cuda")


def channels_last(x: Tensor) -> Tensor:
    """The batch (B, C, H, W) with its channels last in memory; the same numbers at the same indices."""
    return x.contiguous(memory_format=torch.channels_last)


def prefers_channels_last(tap: Tap, x: Tensor, preprocessing: Preprocessing, gradient: Tensor | None) -> bool:
    """Whether the model convolves, runs on a batch with channels last, and gives the same then.

    Args:
        tap: the tapped model, frozen, which is a function of the image (`modelspace.embedding.checks`).
        x: (2, C, H, W), preprocessed.
        preprocessing: of the model.
        gradient: of ΣT for `x`, where maps will be computed; else None, and T is compared.
    """
    if x.device.type not in _DEVICES or x.dim() != 4 or x.shape[1] == 1 or preprocessing.layout != "nchw":
        return False
    in_half = isinstance(tap, HalfTap)
    try:
        with ready(tap, channels_last(x)) as source:
            output = encoder_output(tap, source, graphical=True)
            if not CONVOLUTIONS.intersection(kinds_below(output.grad_fn).values()):
                return False
            if gradient is not None:
                reordered = gradient_of(output, source, torch.ones_like(output))
                return bool((_rows(reordered) * _rows(gradient)).sum(1).ge(_SAME_IN_HALF if in_half else _SAME).all())
            plain = encoder_output(tap, source.detach().contiguous(), graphical=False)
            rounding = _ROUNDING_IN_HALF if in_half else _ROUNDING
            return bool((output.detach() - plain).abs().max() <= rounding * plain.abs().max())
    except CODE_FAILURES:  # a view of the channels, say, that only the usual order allows; or too little memory
        return False


def _rows(values: Tensor) -> Tensor:
    """(B, ...) -> (B, n) of unit norm, in float32 at least."""
    rows = values.detach().flatten(1)
    return torch.nn.functional.normalize(rows / rows.abs().amax(1, keepdim=True), dim=1)
