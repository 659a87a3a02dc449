"""The zoo's networks: small relatives of those that the paper embeds.

An encoder takes preprocessed images (B, 3, S, S) and returns the tensor that is explained, so its tapped layer is its
output, unless its entry in `ARCHITECTURES` names another. No encoder ends in a normalisation, which would make the sum of
its output constant, nor in a plain ReLU, which can be dead for a whole image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modelspace.errors import NotFoundError
from modelspace.zoo import literature_nets
from modelspace.zoo.blocks import Bottleneck, Residual, conv
from modelspace.zoo.tasks import CLASS_MAP, DENSE, Task


class TaskonomyEncoder(nn.Module):
    """The paper's modified ResNet-50 made small: (B, 3, 64, 64) to (B, 16, 8, 8), 8 times down, no pooling.

    The last convolution has a bias and a leaky ReLU, where Taskonomy has batch norm and ReLU.
    """

    channels = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, 3, 2), nn.ReLU())
        self.stages = nn.Sequential(
            Residual(16, 24), Residual(24, 40, 2), Residual(40, 48, 2), Bottleneck(48, 48), Bottleneck(48, 48)
        )
        self.compress = nn.Sequential(nn.Conv2d(48, self.channels, 3, 1, 1), nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.compress(self.stages(self.stem(x)))


@dataclass(frozen=True)
class Architecture:
    """How a network of the zoo is built.

    Attributes:
        build: from the number of outputs of its task to a fresh network.
        input_size: side of its input in pixels.
        layer: the tensor to explain: "output", or "MODULE:in" or "MODULE:out" for that module's input or output.
    """

    build: Callable[[int], nn.Module]
    input_size: int = 64
    layer: str = "output"

    @property
    def predicts(self) -> bool:
        """Whether the network answers its task itself; else it is an encoder, and a decoder is trained with it."""
        return self.layer != "output"


ARCHITECTURES: dict[str, Architecture] = {
    "taskonomy_encoder": Architecture(lambda outputs: TaskonomyEncoder()),
    "inception": Architecture(literature_nets.inception, 80, "fc:in"),
    "inception_resnet": Architecture(literature_nets.inception_resnet, 80, "fc:in"),
    "vgg16": Architecture(literature_nets.vgg16, 64, "fc:in"),
    "vgg19": Architecture(literature_nets.vgg19, 64, "fc:in"),
    "resnet50": Architecture(literature_nets.resnet50, 64, "fc:in"),
    "resnet101": Architecture(literature_nets.resnet101, 64, "fc:in"),
    "resnet152": Architecture(literature_nets.resnet152, 64, "fc:in"),
    "mobilenet_100": Architecture(literature_nets.mobilenet_100, 64, "fc:in"),
    "mobilenet_050": Architecture(literature_nets.mobilenet_050, 48, "fc:in"),
    "mobilenet_025": Architecture(literature_nets.mobilenet_025, 40, "fc:in"),
    "inpainter": Architecture(literature_nets.Inpainter, 64, "middle:out"),
    "depth_net": Architecture(literature_nets.DepthNet, 64, "encoder:out"),
    "segmentation_net": Architecture(literature_nets.SegmentationNet, 64, "coarse:out"),
    "face_aligner": Architecture(literature_nets.FaceAligner, 64, "blocks:out"),
    "face_detector": Architecture(literature_nets.FaceDetector, 96, "fourth:out"),
    "colorizer": Architecture(literature_nets.Colorizer, 64, "middle:out"),
}


def architecture(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        NotFoundError: there is none.
    """
    if name not in ARCHITECTURES:
        raise NotFoundError(f"there is no architecture {name!r}", f"the architectures are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


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
