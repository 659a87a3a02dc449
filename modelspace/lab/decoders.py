"""Used to train and measure the zoo's networks, but not shipped: decoders, tapped layers, initial weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from modelspace.lab.tasks import CLASS_MAP, DENSE, Task


def decoder(task: Task, channels: int, side: int, label_side: int) -> nn.Module:
    """A decoder from an encoder's output (B, channels, side, side) to a task's prediction; trained, never shipped.

    Dense tasks: 3 x 3 convolutions with upsampling in between, up to `label_side`. Vectors and classes: two linear
    layers.
    """
    if task.kind not in (DENSE, CLASS_MAP):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(channels * side * side, 96), nn.ReLU(), nn.Linear(96, task.outputs)
        )
    layers: list[nn.Module] = []
    width, n_in = 48, channels
    while side < label_side:
        layers += [nn.Conv2d(n_in, width, 3, 1, 1), nn.ReLU(), nn.Upsample(scale_factor=2)]
        n_in, width, side = width, max(24, width * 2 // 3), side * 2
    return nn.Sequential(*layers, nn.Conv2d(n_in, 24, 3, 1, 1), nn.ReLU(), nn.Conv2d(24, task.outputs, 1))


def tapped(network: nn.Module, layer: str, x: Tensor) -> Tensor:
    """The tensor at `layer` in one forward pass; its hook is removed afterwards."""
    if layer == "output":
        output: Tensor = network(x)
        return output
    name, side = layer.rsplit(":", 1)
    tensors: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        tensors.append(args[0] if side == "in" else output)

    handle = network.get_submodule(name).register_forward_hook(hook)
    try:
        network(x)
    finally:
        handle.remove()
    return tensors[-1]


def count_parameters(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def fresh(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose initial weights depend only on `seed`; the global random state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
