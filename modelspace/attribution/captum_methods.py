"""Captum's IntegratedGradients and NoiseTunnel, image by image.

One image at a time keeps memory at `n_steps` or `n_samples` images, and makes a map independent of how the images are
batched. The noise is the same for every image and model: each time it is drawn from the same seed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial

import torch
from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel, Saliency
from torch import Tensor

from modelspace.attribution import METHODS
from modelspace.attribution.memory import is_out_of_memory
from modelspace.errors import ModelspaceError

Forward = Callable[[Tensor], Tensor]


def integrated_gradients(forward: Forward, x: Tensor, n_steps: int, baseline: float) -> Tensor:
    """(x − b) times the gradient averaged from b to x (Sundararajan, Taly, Yan, ICML 2017, equation 1).

    Args:
        forward: (B, C, H, W) -> (B,).
        x: (B, C, H, W).
        n_steps: points of the Gauss-Legendre quadrature.
        baseline: every value of b, in units of the preprocessed input.

    Returns:
        (B, C, H, W)
    """
    method = IntegratedGradients(forward)

    def attribute(image: Tensor, at_once: int | None) -> Tensor:
        maps: Tensor = method.attribute(
            _leaf(image), baselines=baseline, n_steps=n_steps, method="gausslegendre", internal_batch_size=at_once
        )
        return maps

    maps = [_in_memory(partial(attribute, image), n_steps) for image in torch.split(x, 1)]
    return torch.cat(maps).detach().to(x.dtype)


def _in_memory(attribute: Callable[[int | None], Tensor], n_steps: int) -> Tensor:
    """Run a method with all its steps at once (None) or, whenever memory runs out, with half as many."""
    at_once: int | None = None
    while True:
        try:
            return attribute(at_once)
        except Exception as error:
            if at_once == 1 or not is_out_of_memory(error):
                raise
        at_once = ((at_once or n_steps) + 1) // 2


def noise_tunnel(forward: Forward, x: Tensor, base: str, n_samples: int, noise: float, seed: int) -> Tensor:
    """The base method averaged over noisy copies of the input (Smilkov et al., SmoothGrad, 2017, section 3).

    Args:
        forward: (B, C, H, W) -> (B,).
        x: (B, C, H, W).
        base: "gradient_x_input" or "saliency".
        n_samples: noisy copies per image.
        noise: standard deviation as a share of the image's range, max − min.
        seed: of the noise; the global random state is unchanged.

    Returns:
        (B, C, H, W)
    """
    method = NoiseTunnel(InputXGradient(forward) if base == "gradient_x_input" else Saliency(forward))
    devices = [x.device] if x.device.type == "cuda" else []
    maps = []
    for image in torch.split(x, 1):
        spread = noise * float(image.max() - image.min())
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            maps.append(method.attribute(_leaf(image), nt_type="smoothgrad", nt_samples=n_samples, stdevs=spread))
    return torch.cat(maps).detach()


def _leaf(image: Tensor) -> Tensor:
    return image.detach().clone().requires_grad_(True)


#: Name in `modelspace.attribution.METHODS` -> function of (forward, x, parameters).
COMPUTE: dict[str, Callable[..., Tensor]] = {
    "integrated_gradients": integrated_gradients,
    "noise_tunnel": noise_tunnel,
}


def function_of(method: str) -> Callable[..., Tensor]:
    """What computes a method: a row of `COMPUTE`, or the function that a plug-in names.

    Raises:
        ModelspaceError: the plug-in has no such function.
    """
    if method in COMPUTE:
        return COMPUTE[method]
    module, _, name = METHODS[method].function.partition(":")
    try:
        function: Callable[..., Tensor] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelspaceError(f"the plug-in for {method} has no function {module}:{name}: {error}") from error
    return function
