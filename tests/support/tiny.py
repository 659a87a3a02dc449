"""Small nets and spaces shared by the tests."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from modelspace.types import Preprocessing
from modelspace.workspace import ModelSpace

PREPROCESSING = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)

METHODS = ("gradient_x_input", "saliency", "epsilon_lrp")


def net(seed: int = 0, width: int = 6, classes: int = 3) -> nn.Module:
    """A small classifier: its encoder output is the input of `fc`."""
    generator = torch.Generator().manual_seed(seed)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, width, 3, 2, 1)
            self.conv2 = nn.Conv2d(width, width, 3, 2, 1)
            self.fc = nn.Linear(width, classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.conv1(x))
            x = torch.nn.functional.silu(self.conv2(x)).mean((2, 3))
            return self.fc(x)

    module = Net()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return module


def near(seed: int, amount: float, noise_seed: int = 1) -> nn.Module:
    """`net(seed)` with its parameters perturbed by `amount` of their size."""
    module = net(seed)
    generator = torch.Generator().manual_seed(noise_seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.4 * amount)
    return module


def space(home: Path, **options: object) -> ModelSpace:
    """A registry with three spaces of six rooms on a canvas of 8."""
    defaults: dict[str, object] = {"methods": METHODS, "images": 6, "canvas": 8, "bits": 32}
    return ModelSpace.create(home, **{**defaults, **options})


def add(where: ModelSpace, name: str, module: nn.Module, **options: object) -> object:
    return where.add(module, name=name, preprocessing=PREPROCESSING, **options)
