"""Shared by the tests of timm, torchvision and transformers: weights like trained ones, and the path to the maps."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from modelspace.attribution.engine import attribute, check_target
from modelspace.embedding.prepare import Request, prepared
from modelspace.probes.preprocess import on_image, to_input
from modelspace.types import ModelCard

METHODS = ("saliency", "gradient_x_input", "epsilon_lrp")


def perturb(module: nn.Module) -> None:
    """Perturb weights so that no scale is 0 or constant, as many are in a new network."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() < 2 or float(parameter.abs().max()) == 0:
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)


def smooth(side: int) -> np.ndarray:
    """(side, side, 3) uint8, without values near 0 and 255, which Pillow's bicubic filter clips between its axes."""
    y, x = np.mgrid[0:side, 0:side] / side
    planes = [np.sin(9 * x + 4 * y), np.cos(7 * y), np.sin(11 * x * y)]
    return np.stack([(128 + 80 * plane).astype(np.uint8) for plane in planes], axis=-1)


def attributed(uri: str, weights: str | None = None) -> ModelCard:
    """Load, tap and explain by three methods on two images; the card."""
    images = np.stack([smooth(96), smooth(96)[::-1].copy()])
    with prepared(Request(uri, weights=weights, device="cpu"), images) as ready:
        x = to_input(images, ready.card.preprocessing)
        check_target(ready.tap, x)
        result = attribute(ready.tap, x, METHODS)
        for method in METHODS:
            whole = on_image(result.maps[method], ready.card.preprocessing, (96, 96))
            assert torch.isfinite(whole).all()
            assert whole.abs().sum() > 0
        return ready.card
