"""Checks of a model on two images before its pass: deterministic, image by image, precise, and worth explaining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from modelspace.attribution.engine import MapRequest, check_target, judge_target
from modelspace.encoder.forward import check_forward
from modelspace.encoder.layers import Tap, before_last
from modelspace.encoder.precision import Gradients, Precision, half_inside, measure
from modelspace.errors import EmbeddingError, NoGradientError, NoisyTargetError

#: Smallest accepted cosine of a map with that of a float64 pass.
EXACT = 0.999

#: Largest number of consecutive squashings or norms that are skipped.
_STEPS_BACK = 4


@dataclass(frozen=True)
class Checked:
    """What the checks of a model found.

    Attributes:
        notes: for the user.
        gradient: of ΣT, of the shape of the images, on their device; None if no maps were requested.
    """

    notes: tuple[str, ...] = ()
    gradient: torch.Tensor | None = None


def check_model(tap: Tap, x: torch.Tensor, requests: Sequence[MapRequest]) -> Checked:
    """Refuse a model whose maps or kernels would not be meaningful.

    Args:
        tap: the tapped model, frozen.
        x: (2, C, H, W), preprocessed.
        requests: the maps that will be computed; none for kernels alone, which need no gradient.

    Raises:
        EmbeddingError: the forward pass is random, keeps state or depends on the batch; the explained sum is constant
            or saturated and another layer is better; or internal half precision makes the maps inaccurate.
        NoGradientError: the gradient is zero, or the explained sum is constant or saturated at all layers tried.
    """
    sums = any(request.of_sum for request in requests)
    seen = check_forward(tap, x, gradients=bool(requests))
    if seen.gradient is None:
        return Checked()
    try:
        constant = sums and seen.half is None
        if seen.target is None:
            gradient = check_target(tap, x, constant=constant)
        else:
            gradient = seen.target.of_sum
            judge_target(seen.target.output, gradient, seen.target.of_first, constant)
        plain = Gradients(gradient.flatten(1).cpu().double(), seen.gradient)
        return Checked(tuple(judge(measure(tap, x, seen.half, plain), sums)), gradient)
    except NoisyTargetError as error:
        better, _ = steadier(tap, x)
        if better.layer != tap.layer:
            error.hint = f"choose {better.found_by} with `layer={better.layer!r}`"
            raise
        raise NoGradientError(error.message, error.hint) from error


def steadier(tap: Tap, x: torch.Tensor) -> tuple[Tap, tuple[str, ...]]:
    """A tap whose maps are not noise: the given one, or one before the softmax, sigmoid or norm that its T ends in.

    Args:
        tap: the tapped model, frozen.
        x: (2, C, H, W), preprocessed.

    Returns:
        The tap, and a note for the user if it is not the given one. The given one is also returned if no earlier tap is
        better, or if the forward pass is not a function of the image, so that they can't be compared.
    """
    current, why = tap, ""
    for _ in range(_STEPS_BACK):
        earlier = before_last(tap.module, x, current)
        if earlier is None or not (noise := _noise(current, x)):
            break
        current, why = earlier, why or noise
    if current is tap or _noise(current, x) or not _is_function(tap, x):
        return tap, ()
    return current, (f"explains {current.layer}, {current.found_by}: {why}",)


def _noise(tap: Tap, x: torch.Tensor) -> str:
    """Why maps of ΣT would be rounding noise; empty if they are not, or if half precision is the cause."""
    try:
        precision = measure(tap, x, half_inside(tap, x))
        if precision.half is None:
            judge(precision, sums=True)
            if precision.of_elements is None:
                check_target(tap, x)
    except NoisyTargetError as error:
        return error.message
    except EmbeddingError:
        return ""
    return ""


def _is_function(tap: Tap, x: torch.Tensor) -> bool:
    """Whether T of an image is a function of that image alone."""
    try:
        check_forward(tap, x, gradients=False)
    except EmbeddingError:
        return False
    return True


def judge(precision: Precision, sums: bool) -> list[str]:
    """Notes that follow from the measured precision, or a refusal.

    Args:
        precision: as measured.
        sums: whether maps of ΣT are computed.

    Raises:
        EmbeddingError: the maps would be noise.
    """
    if precision.of_elements is None:
        # Half precision without a reference to compare with: the error of its maps is unknown.
        if precision.half is not None:
            raise _half(precision, "and can't run in float64 to compare")
        return []
    if precision.half is not None:
        cosine = min(precision.of_elements, precision.of_sum if sums and precision.of_sum is not None else 1.0)
        if cosine < EXACT:
            raise _half(precision, f"and its maps have a cosine of {cosine:.3f} with those of a float64 pass")
        return [f"computes in {_name(precision)} inside; its maps agree with a float64 pass (cosine {cosine:.4f})"]
    if precision.of_elements < EXACT:
        raise NoisyTargetError(
            "the encoder output is saturated or ill-conditioned: in float32 its gradient is rounding noise "
            f"(cosine {precision.of_elements:.3f} with that of a float64 pass)",
            "choose the tensor before the last softmax, sigmoid or norm with `layer=`",
        )
    if sums and precision.of_sum is not None and precision.of_sum < EXACT:
        raise NoisyTargetError(
            "the sum of the encoder output is constant: its gradient is rounding noise "
            f"(cosine {precision.of_sum:.3f} with that of a float64 pass)",
            "the layer ends in a softmax or a norm; choose the tensor before it with `layer=`, for example "
            "`layer='NAME:in'`",
        )
    return []


def _half(precision: Precision, seen: str) -> EmbeddingError:
    works = precision.of_full is not None and precision.of_full >= EXACT
    hint = (
        "run it in float32 with `float32=True`"
        if works
        else "load it in float32, for example with model.float(), and without autocast in its forward pass"
    )
    return EmbeddingError(f"the model computes in {_name(precision)} inside, {seen}", hint)


def _name(precision: Precision) -> str:
    return str(precision.half).removeprefix("torch.")
