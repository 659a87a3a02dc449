"""Whether a model's output is a function of the image alone: not of chance, of earlier passes or of the batch.

The maps and kernels of a model that fails this check would depend on chance or on the batch size, so that a model added
twice would differ from itself. The check runs each model a few times on two probe images.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelspace.attribution.engine import encoder_output, gradient_of, ready
from modelspace.attribution.tensors import Contents, contents
from modelspace.encoder.batches import batch_size
from modelspace.encoder.layers import Tap
from modelspace.encoder.precision import Watch
from modelspace.errors import EmbeddingError

#: Accepted relative difference of T between two passes over the same batch: the results are equal except for the order
#: in which a GPU adds.
_REPEATED = 1e-4

#: Accepted relative difference of T between batch sizes: other kernels are chosen, which round differently.
_ROUNDING = 1e-3

#: The same where a model computes in half precision.
_ROUNDING_OF_HALF = 0.05

#: The same for gradients, where rounding may switch a unit on or off.
_ROUNDING_OF_GRADIENT = 0.05

#: Largest share of an image's gradient that may reach another image: rounding, not a dependence.
_INDEPENDENT = 1e-5

#: Number of passes, and of copies of the images in each, for a model that draws random numbers: enough for a rare
#: event, such as a dropped path, to occur.
_DRAWS, _COPIES = 12, 8


@dataclass(frozen=True)
class Target:
    """What `modelspace.attribution.engine.judge_target` judges: T and two gradients, on their device."""

    output: Tensor
    of_sum: Tensor
    of_first: Tensor


@dataclass(frozen=True)
class _Pass:
    """The result of a pass over a batch, per image: T, and the gradient of a sum of its elements with random signs.

    `leak` is the share of the first image's gradient that the others get, and `target` what else was seen with it.
    """

    output: Tensor
    gradient: Tensor | None
    leak: float = 0.0
    target: Target | None = None

    def difference(self, other: _Pass) -> float:
        """Largest relative difference of T over the images."""
        return _relative(self.output, other.output)


@dataclass(frozen=True)
class Seen:
    """What the check found on the way, so that nothing is computed twice.

    Attributes:
        half: the half-precision type that the model computes T in, or None.
        gradient: of a sum of T's elements with random signs, (B, elements) float64 on the CPU; None without gradients.
        target: T and the gradients of ΣT and of the first image's elements; None without gradients, and for a model of
            batch size 1.
    """

    half: torch.dtype | None
    gradient: Tensor | None
    target: Target | None = None


def check_forward(tap: Tap, x: Tensor, *, gradients: bool = True) -> Seen:
    """Refuse a model whose T depends on more than the image.

    Args:
        tap: the tapped model, frozen.
        x: (2, C, H, W), preprocessed; two different images.
        gradients: whether maps will be computed, so that gradients too must depend on the image alone.

    Raises:
        EmbeddingError: the forward pass is random, keeps state or depends on the batch; says by how much and what to
            do. Also as for `modelspace.attribution.engine.encoder_output`.
    """
    before, drawn_before = _buffers(tap.module), _generators()
    in_turn = batch_size(tap.module) == 1  # batches are taken apart, so images can't meet
    together = _run(tap, x, gradients, crosstalk=gradients and not in_turn)
    draws = _generators() != drawn_before
    with Watch() as watch:
        repeated = _run(tap, x, False)
    seen = Seen(watch.first, together.gradient, together.target)
    size = together.difference(repeated)
    if draws:
        size = max(size, _spread(tap, x))
    changed = _changed(tap.module, before)
    if size > _REPEATED:
        text = f"the same images gave an encoder output that differs by {_percent(size)}"
        raise _is_random(text) if draws and not changed else _keeps_state(changed, text)
    if in_turn:
        if changed:
            raise _keeps_state(changed, "")
        return seen
    alone = _joined([_run(tap, x[k : k + 1], gradients) for k in range(len(x))])
    # After passes over other images: the same images would leave the same statistics.
    changed = _changed(tap.module, before)
    # One pass for both: in another order, and with an image more.
    longer = _reversed(_run(tap, torch.cat([x.flip(0), x[:1]]), gradients), len(x))
    if changed:
        # What it writes may not affect T now, but might after hundreds of images.
        raise _keeps_state(changed, "")
    rounding = _ROUNDING if seen.half is None else _ROUNDING_OF_HALF
    if text := _difference(together, alone, rounding):
        raise _depends_on_the_batch(f"{text} alone")
    if text := _difference(together, longer, rounding):
        reordered = _reversed(_run(tap, x.flip(0), gradients), len(x))
        place = "behind the other one" if _difference(together, reordered, rounding) else "in a longer batch"
        raise _depends_on_the_batch(f"{text} {place}")
    if together.leak > _INDEPENDENT:
        raise _depends_on_the_batch("the gradient of one image's output reaches the other image")
    return seen


def _difference(together: _Pass, other: _Pass, rounding: float) -> str:
    """What differs by more than rounding, T or its gradient, and by how much; empty if nothing does."""
    if (size := together.difference(other)) > rounding:
        return f"the encoder output of an image differs by {_percent(size)}"
    if together.gradient is not None and other.gradient is not None:
        size = _relative(together.gradient, other.gradient)
        if size > max(_ROUNDING_OF_GRADIENT, 10 * rounding):
            return f"the gradient of an image differs by {_percent(size)}"
    return ""


def _run(tap: Tap, x: Tensor, gradients: bool, crosstalk: bool = False) -> _Pass:
    """One pass; signs are the same for every image and every batch.

    Args:
        tap: as of `check_forward`.
        x: likewise.
        gradients: whether the gradient is taken.
        crosstalk: whether it is also seen how much of the first image's gradient the others get.
    """
    leak, target = 0.0, None
    with ready(tap, x) as source:
        output = encoder_output(tap, source, graphical=gradients)
        if not gradients:
            return _Pass(_rows(output), None)
        signs = _signs(output).expand_as(output)
        gradient = gradient_of(output, source, signs, keep=crosstalk)
        if crosstalk:
            weights = torch.zeros_like(output)
            weights[0] = signs[0]
            first = gradient_of(output, source, weights, keep=True)
            of_sum = gradient_of(output, source, torch.ones_like(output))
            target = Target(output.detach(), of_sum.detach(), first.detach())
            own, rest = float(first[0].norm()), float(first[1:].norm())
            leak = rest / own if own > 0 else (float("inf") if rest > 0 else 0.0)
    return _Pass(_rows(output), _rows(gradient), leak, target)


def _rows(values: Tensor) -> Tensor:
    """One row per image, in float64 on the CPU."""
    return values.detach().flatten(1).cpu().double()


def _reversed(longer: _Pass, n: int) -> _Pass:
    """The first n images of a pass, in reverse order."""
    gradient = None if longer.gradient is None else longer.gradient[:n].flip(0)
    return _Pass(longer.output[:n].flip(0), gradient)


def _spread(tap: Tap, x: Tensor) -> float:
    """Largest relative difference of T over many passes of many copies of the same images."""
    many = x.repeat(_COPIES, *[1] * (x.dim() - 1))
    passes = [_run(tap, many, False) for _ in range(_DRAWS)]
    return max(passes[0].difference(each) for each in passes[1:])


def _signs(output: Tensor) -> Tensor:
    """Random signs, (1, ...)."""
    drawn = torch.randint(0, 2, output.shape[1:], generator=torch.Generator().manual_seed(0))
    return (drawn * 2 - 1).to(output)[None]


def _joined(passes: list[_Pass]) -> _Pass:
    gradients = [each.gradient for each in passes if each.gradient is not None]
    return _Pass(torch.cat([each.output for each in passes]), torch.cat(gradients) if gradients else None)


def _relative(a: Tensor, b: Tensor) -> float:
    """Largest norm of the difference of two rows, relative to the larger of their norms."""
    if a.shape != b.shape:
        return float("inf")
    size = torch.maximum(a.norm(dim=1), b.norm(dim=1))
    difference = (a - b).norm(dim=1)
    return float(torch.where(size > 0, difference / size.clamp_min(1e-300), difference).max())


def _buffers(module: nn.Module) -> dict[str, Contents]:
    return {name: contents(buffer) for name, buffer in module.named_buffers()}


def _changed(module: nn.Module, before: dict[str, Contents]) -> list[str]:
    """Names of the buffers that a pass wrote into."""
    now = dict(module.named_buffers())
    return [
        name
        for name in sorted({*before, *now})
        if name not in before or name not in now or not before[name].is_same(now[name])
    ]


def _generators() -> tuple[object, ...]:
    """The states of the random number generators that models usually draw from."""
    state = random.getstate(), _numpy_state(), torch.get_rng_state().numpy().tobytes()
    if torch.cuda.is_available():
        return (*state, *(each.numpy().tobytes() for each in torch.cuda.get_rng_state_all()))
    return state


def _numpy_state() -> tuple[bytes, int]:
    state: Any = np.random.get_state(legacy=False)
    return state["state"]["key"].tobytes(), int(state["state"]["pos"])


def _is_random(seen: str) -> EmbeddingError:
    return EmbeddingError(
        f"the forward pass is random, also in eval mode: {seen}",
        "tap a `layer=` before the random part, average passes with `stochastic=8`, "
        "or wrap the model so that it draws the same numbers every time",
    )


def _keeps_state(changed: list[str], seen: str) -> EmbeddingError:
    named = f"it writes into {', '.join(changed[:3])}{' and others' if len(changed) > 3 else ''}" if changed else ""
    return EmbeddingError(
        f"the forward pass keeps state, also in eval mode: {' and '.join(filter(None, (named, seen)))}",
        "tap a `layer=` before that part, or switch it off: "
        "observers, teachers and running statistics belong to training",
    )


def _depends_on_the_batch(seen: str) -> EmbeddingError:
    return EmbeddingError(
        f"the encoder output of one image depends on the other images of its batch: {seen}",
        "attribution needs a model that treats images one by one, as in eval mode; or choose a `layer=` before that",
    )


def _percent(size: float) -> str:
    return f"{size:.0%}" if size >= 0.1 else f"{100 * size:.2g}%"
