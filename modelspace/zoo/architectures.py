"""The zoo's networks: small versions of those that the paper embeds.

An encoder takes preprocessed images (B, 3, S, S) and returns the tensor that is explained, so its tapped layer is its
output, unless its entry in `ARCHITECTURES` names another. No encoder ends in a normalisation, which would make the sum
of its output constant, or in a plain ReLU, which can be dead for a whole image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from modelspace.deprecated import renamed
from modelspace.errors import NotFoundError
from modelspace.zoo import literature_nets
from modelspace.zoo.blocks import Bottleneck, Residual, conv


class TaskonomyEncoder(nn.Module):
    """A small version of the paper's modified ResNet-50: (B, 3, 64, 64) to (B, 16, 8, 8), stride 8, no pooling.

    The last convolution has a bias and a leaky ReLU, where Taskonomy uses batch norm and ReLU.
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
        features: Tensor = self.compress(self.stages(self.stem(x)))
        return features


@dataclass(frozen=True)
class Architecture:
    """How a network of the zoo is built.

    Attributes:
        build: number of outputs of its task -> a network with fresh weights.
        input_size: side of its input in pixels.
        layer: the tensor to explain: "output", or "MODULE:in" or "MODULE:out" for that module's input or output.
    """

    build: Callable[[int], nn.Module]
    input_size: int = 64
    layer: str = "output"

    @property
    def predicts(self) -> bool:
        """Whether the network predicts its task's label; otherwise it is an encoder, trained with a decoder."""
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
        NotFoundError: there is no such architecture.
    """
    if name not in ARCHITECTURES:
        raise NotFoundError(f"there is no architecture {name!r}", f"the architectures are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


__getattr__ = renamed(
    __name__,
    {name: f"modelspace.lab.decoders.{name}" for name in ("count_parameters", "decoder", "fresh", "tapped")},
)
