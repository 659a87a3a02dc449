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
from modelspace.encoder.layers import Tap
from modelspace.errors import EmbeddingError

#: Accepted relative difference of T between two passes over the same batch: the results are equal except for the order
#: in which a GPU adds.
_REPEATED = 1e-4

#: Accepted relative difference of T between batch sizes: other kernels are chosen, which round differently.
_ROUNDING = 1e-3

#: The same for gradients, where rounding may switch a unit on or off.
_ROUNDING_OF_GRADIENT = 0.05

#: Largest share of an image's gradient that may reach another image: rounding, not a dependence.
_INDEPENDENT = 1e-5

#: Number of passes, and of copies of the images in each, for a model that draws random numbers: enough for a rare
#: event, such as a dropped path, to occur.
_DRAWS, _COPIES = 12, 8


@dataclass(frozen=True)
class _Pass:
    """The result of a pass over a batch, per image: T, and the gradient of a sum of its elements with random signs."""

    output: Tensor
    gradient: Tensor | None

    def difference(self, other: _Pass) -> float:
        """Largest relative difference of T over the images."""
        return _relative(self.output, other.output)


def check_forward(tap: Tap, x: Tensor, *, gradients: bool = True, rounding: float = _ROUNDING) -> None:
    """Refuse a model whose T depends on more than the image.

    Args:
        tap: the tapped model, frozen.
        x: (2, C, H, W), preprocessed; two different images.
        gradients: whether maps will be computed, so that gradients too must depend on the image alone.
        rounding: accepted relative difference of T between batch sizes; larger for models that compute in half
            precision.

    Raises:
        EmbeddingError: the forward pass is random, keeps state or depends on the batch; says by how much and what to
            do. Also as for `modelspace.attribution.engine.encoder_output`.
    """
    before, drawn_before = _buffers(tap.module), _generators()
    together = _run(tap, x, gradients)
    draws = _generators() != drawn_before
    size = together.difference(_run(tap, x, False))
    if draws:
        size = max(size, _spread(tap, x))
    changed = _changed(tap.module, before)
    if size > _REPEATED:
        seen = f"the same images gave an encoder output that differs by {_percent(size)}"
        raise _is_random(seen) if draws and not changed else _keeps_state(changed, seen)
    alone = _joined([_run(tap, x[k : k + 1], gradients) for k in range(len(x))])
    # After passes over other images: the same images would leave the same statistics.
    changed = _changed(tap.module, before)
    reversed_ = _run(tap, x.flip(0), gradients)
    reordered = _Pass(reversed_.output.flip(0), None if reversed_.gradient is None else reversed_.gradient.flip(0))
    longer = _run(tap, torch.cat([x, x.flip(0)]), gradients)
    first = _Pass(longer.output[: len(x)], None if longer.gradient is None else longer.gradient[: len(x)])
    if changed:
        # What it writes may not affect T now, but might after hundreds of images.
        raise _keeps_state(changed, "")
    for other, situation in ((alone, "alone"), (reordered, "behind the other one"), (first, "in a longer batch")):
        if (size := together.difference(other)) > rounding:
            raise _depends_on_the_batch(f"the encoder output of an image differs by {_percent(size)} {situation}")
        if together.gradient is not None and other.gradient is not None:
            size = _relative(together.gradient, other.gradient)
            if size > max(_ROUNDING_OF_GRADIENT, 10 * rounding):
                raise _depends_on_the_batch(f"the gradient of an image differs by {_percent(size)} {situation}")
    if gradients:
        _check_crosstalk(tap, x)


def _run(tap: Tap, x: Tensor, gradients: bool) -> _Pass:
    """One pass; signs are the same for every image and every batch."""
    with ready(tap, x) as source:
        output = encoder_output(tap, source, graphical=gradients)
        if not gradients:
            return _Pass(output.detach().flatten(1).double().cpu(), None)
        gradient = gradient_of(output, source, _signs(output).expand_as(output))
    return _Pass(output.detach().flatten(1).double().cpu(), gradient.detach().flatten(1).double().cpu())


def _spread(tap: Tap, x: Tensor) -> float:
    """Largest relative difference of T over many passes of many copies of the same images."""
    many = x.repeat(_COPIES, *[1] * (x.dim() - 1))
    passes = [_run(tap, many, False) for _ in range(_DRAWS)]
    return max(passes[0].difference(each) for each in passes[1:])


def _check_crosstalk(tap: Tap, x: Tensor) -> None:
    """Refuse a T with a gradient with respect to another image, which comparing values would not reveal."""
    with ready(tap, x) as source:
        output = encoder_output(tap, source, graphical=True)
        weights = torch.zeros_like(output)
        weights[0] = _signs(output)[0]
        gradient = gradient_of(output, source, weights)
    own, rest = float(gradient[0].norm()), float(gradient[1:].norm())
    if rest > _INDEPENDENT * own:
        raise _depends_on_the_batch("the gradient of one image's output reaches the other image")


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
