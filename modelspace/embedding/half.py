"""Running a model in bfloat16, which GPUs compute several times faster: only where its maps stay those of float32.

Parameters, input and T stay float32. Matrix products and convolutions, forward and backward, take bfloat16 numbers, as
under torch's autocast. bfloat16 has 8 bits of precision, and each layer rounds again, so maps of deep networks move:
each model is compared with itself on its first images, and one whose maps move too far runs in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from modelspace.attribution.engine import MapRequest, explain
from modelspace.embedding.checks import check_model
from modelspace.encoder.layers import Tap
from modelspace.encoder.precision import smallest_cosine
from modelspace.errors import EmbeddingError

#: Names of the number types that a model can be run in.
DTYPES = ("float32", "bf16")

#: Smallest accepted cosine of a map, or of T, in bfloat16 with that in float32.
LOWEST = 0.999

#: Number of images that are compared.
N_COMPARED = 8


@dataclass(frozen=True)
class HalfTap(Tap):
    """A tap on the model in bfloat16; T has the type of the images."""

    def __call__(self, x: Tensor) -> Tensor:
        """As `Tap`."""
        # A check in float64 disables autocast, and then T is in float64 too.
        with torch.autocast(x.device.type, torch.bfloat16):
            output = super().__call__(x)
        return output.to(x.dtype) if output.is_floating_point() else output


def in_bf16(tap: Tap, x: Tensor, requests: Sequence[MapRequest]) -> tuple[Tap, str]:
    """A tap on the model in bfloat16 if that keeps its maps, else the tap itself; and a note for the user.

    Args:
        tap: the tapped model, frozen.
        x: (B, C, H, W) float32, preprocessed: the first images.
        requests: the maps that will be computed; T is always compared.
    """
    half = HalfTap(tap.layer, tap.found_by, tap.module, tap.calls)
    # The centred energy subtracts a mean over all images, which is not known yet; what it has in common with others is.
    kinds = tuple(dict.fromkeys(replace(each, scalar="energy", images=0) if each.images else each for each in requests))
    try:
        lowest, what = _lowest_cosine(explain(tap, x, kinds), explain(half, x, kinds))
        if lowest >= LOWEST:
            check_model(half, x[:2], requests)
    except EmbeddingError as error:
        return tap, f"runs in float32, since bf16 could not be compared with it: {error.message}"
    if lowest < LOWEST:
        return tap, f"runs in float32, since in bf16 the cosine of {what} with float32's falls to {lowest:.4f}"
    return half, f"runs in bf16: on the first {len(x)} images cosines with float32 are {lowest:.5f} or more"


def _lowest_cosine(
    full: tuple[dict[MapRequest, Tensor], Tensor], half: tuple[dict[MapRequest, Tensor], Tensor]
) -> tuple[float, str]:
    """The lowest cosine of two passes over the same images, and of what."""
    pairs = [("the encoder output", full[1], half[1])]
    pairs += [(f"{request.method} maps", full[0][request], half[0][request]) for request in full[0]]
    return min((_cosine(a, b), name) for name, a, b in pairs)


def _cosine(a: Tensor, b: Tensor) -> float:
    """Lowest cosine of corresponding images; 0 where it is undefined."""
    return smallest_cosine(a.detach().flatten(1).cpu().double(), b.detach().flatten(1).cpu().double())
