"""What a network of the zoo is trained and measured with, and not shipped with: decoders, taps, fresh weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from modelspace.lab.tasks import CLASS_MAP, DENSE, Task


def decoder(task: Task, channels: int, side: int, label_side: int) -> nn.Module:
    """What turns an encoder's output (B, channels, side, side) into a task's prediction; trained, never shipped.

    Dense tasks: 3 x 3 convolutions with doubling in between, up to `label_side`. Vectors and classes: two linear maps.
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
    """The tensor `layer` of one forward pass; no hook is left behind."""
    if layer == "output":
        return network(x)
    name, side = layer.rsplit(":", 1)
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(args[0] if side == "in" else output)

    handle = network.get_submodule(name).register_forward_hook(keep)
    try:
        network(x)
    finally:
        handle.remove()
    return seen[-1]


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def fresh(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network with weights that depend on `seed` alone; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
