"""Small versions of the models that the paper embeds besides Taskonomy's.

Classifiers, inpainting, depth, segmentation, face alignment, face detection, and a second colorization network. Each
keeps what is typical of its model: branches, plain stacks, bottlenecks, depthwise convolutions, dilation and ELU,
up-projection, skip fusion. They predict labels without a separate decoder, so the explained tensor is inside the
network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelspace.zoo.blocks import Bottleneck, Residual, conv


def _pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3))


class Classifier(nn.Module):
    """Convolutions, global average pooling, and a linear layer `fc`: (B, 3, S, S) to (B, outputs).

    The pre-logits are the input of `fc`.
    """

    def __init__(self, features: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.fc = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        logits: Tensor = self.fc(_pooled(x) if x.dim() == 4 else x)
        return logits


class Inception(nn.Module):
    """Parallel branches: 1 x 1, 3 x 3, two 3 x 3, and pooling with a 1 x 1 convolution (Szegedy et al., CVPR 2016).

    With `residual`, a 1 x 1 convolution of the branches is added to the input (Inception-ResNet, AAAI 2017).
    """

    def __init__(self, n_in: int, n_out: int, residual: bool = False) -> None:
        super().__init__()
        part = n_out // 4
        relu = nn.ReLU()
        self.one = nn.Sequential(conv(n_in, part, 1), relu)
        self.three = nn.Sequential(conv(n_in, part // 2, 1), relu, conv(part // 2, part, 3), relu)
        self.five = nn.Sequential(
            conv(n_in, part // 2, 1), relu, conv(part // 2, part, 3), relu, conv(part, part, 3), relu
        )
        self.pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(n_in, part, 1), relu)
        self.mix = nn.Conv2d(4 * part, n_in, 1) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)
        return y if self.mix is None else F.relu(x + 0.3 * self.mix(y))


def inception(outputs: int) -> nn.Module:
    """Inception V3-like: input 80."""
    features = nn.Sequential(
        conv(3, 16, 3, 2), nn.ReLU(), conv(16, 32), nn.ReLU(), nn.MaxPool2d(2),
        Inception(32, 64), nn.MaxPool2d(2), Inception(64, 96), Inception(96, 96),
    )  # fmt: skip
    return Classifier(features, 96, outputs)


def inception_resnet(outputs: int) -> nn.Module:
    """Inception-ResNet V2-like: input 80."""
    features = nn.Sequential(
        conv(3, 16, 3, 2), nn.ReLU(), conv(16, 32), nn.ReLU(), nn.MaxPool2d(2),
        Inception(32, 48, True), conv(32, 64, 3, 2), nn.ReLU(), Inception(64, 80, True), Inception(64, 80, True),
        conv(64, 96, 1), nn.ReLU(),
    )  # fmt: skip
    return Classifier(features, 96, outputs)


def _vgg(outputs: int, repeats: tuple[int, ...]) -> nn.Module:
    """Plain 3 x 3 convolutions, max-pooling and two linear layers, no normalisation (Simonyan and Zisserman 2015)."""
    layers: list[nn.Module] = []
    n_in = 3
    for width, count in zip((16, 24, 40, 44), repeats, strict=True):
        for _ in range(count):
            layer = nn.Conv2d(n_in, width, 3, 1, 1)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            layers += [layer, nn.ReLU()]
            n_in = width
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(44 * 4 * 4, 48), nn.ReLU()]
    return Classifier(nn.Sequential(*layers), 48, outputs)


def vgg16(outputs: int) -> nn.Module:
    """VGG 16-like: input 64."""
    return _vgg(outputs, (1, 1, 2, 2))


def vgg19(outputs: int) -> nn.Module:
    """VGG 19-like: input 64."""
    return _vgg(outputs, (1, 2, 2, 3))


def _resnet(outputs: int, repeats: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = [conv(3, 16, 3, 2), nn.ReLU(), nn.MaxPool2d(2)]
    n_in = 16
    for k, (width, count) in enumerate(zip((32, 64, 96), repeats, strict=True)):
        for step in range(count):
            layers.append(Bottleneck(n_in, width, 2 if k and not step else 1))
            n_in = width
    return Classifier(nn.Sequential(*layers), n_in, outputs)


def resnet50(outputs: int) -> nn.Module:
    """ResNet V1 50-like: input 64."""
    return _resnet(outputs, (1, 2, 1))


def resnet101(outputs: int) -> nn.Module:
    """ResNet V1 101-like: input 64."""
    return _resnet(outputs, (1, 4, 1))


def resnet152(outputs: int) -> nn.Module:
    """ResNet V1 152-like: input 64."""
    return _resnet(outputs, (3, 5, 1))


def _mobilenet(outputs: int, share: float) -> nn.Module:
    """Alternating depthwise 3 x 3 and pointwise 1 x 1 convolutions (Howard et al. 2017); `share` of the full width."""
    widths = [int(share * w) for w in (32, 48, 64, 96, 128, 128)]
    layers: list[nn.Module] = [conv(3, widths[0] // 2, 3, 2), nn.ReLU6()]
    n_in = widths[0] // 2
    for width, stride in zip(widths, (1, 2, 1, 2, 1, 1), strict=True):
        layers += [conv(n_in, n_in, 3, stride, groups=n_in), nn.ReLU6(), conv(n_in, width, 1), nn.ReLU6()]
        n_in = width
    return Classifier(nn.Sequential(*layers), n_in, outputs)


def mobilenet_100(outputs: int) -> nn.Module:
    """MobileNet V1-like: input 64."""
    return _mobilenet(outputs, 1.0)


def mobilenet_050(outputs: int) -> nn.Module:
    """0.5 MobileNet-like: input 48."""
    return _mobilenet(outputs, 0.5)


def mobilenet_025(outputs: int) -> nn.Module:
    """0.25 MobileNet-like: input 40."""
    return _mobilenet(outputs, 0.25)


def _up(n_in: int, n_out: int, act: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(n_in, n_out, 3, 1, 1), act)


class Inpainter(nn.Module):
    """Strided, then dilated convolutions with ELU, and a mirrored decoder (Yu et al., CVPR 2018): input 64.

    `middle` returns (B, 48, 16, 16).
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        elu = nn.ELU()
        self.down = nn.Sequential(
            nn.Conv2d(3, 16, 5, 2, 2), elu, nn.Conv2d(16, 32, 3, 1, 1), elu, nn.Conv2d(32, 48, 3, 2, 1), elu
        )
        layers: list[nn.Module] = []
        for dilation in (2, 4, 8, 1):
            layers += [nn.Conv2d(48, 48, 3, 1, dilation, dilation), elu]
        self.middle = nn.Sequential(*layers[:-1])  # ends in a convolution
        self.up = nn.Sequential(elu, _up(48, 24, elu), nn.Conv2d(24, outputs, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.up(self.middle(self.down(x)))
        return image


class UpProjection(nn.Module):
    """Upsampling by 2 with a residual branch (Laina et al., 3DV 2016)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.grow = nn.Upsample(scale_factor=2)
        self.path = nn.Sequential(conv(n_in, n_out), nn.ReLU(), conv(n_out, n_out))
        self.skip = conv(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grow(x)
        return F.relu(self.path(x) + self.skip(x))


class DepthNet(nn.Module):
    """FCRN-like: a bottleneck encoder and up-projections; input 64. `encoder` returns (B, 64, 8, 8)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            conv(3, 16, 3, 2), nn.ReLU(), Bottleneck(16, 32), Bottleneck(32, 64, 2), Bottleneck(64, 64, 2),
            conv(64, 64, 1), nn.LeakyReLU(0.1),
        )  # fmt: skip
        self.up = nn.Sequential(UpProjection(64, 32), UpProjection(32, 24))
        self.head = nn.Conv2d(24, outputs, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        depth: Tensor = self.head(self.up(self.encoder(x)))
        return depth


class SegmentationNet(nn.Module):
    """FCN-like: a plain encoder, scores at 1/8 and 1/4 of the side fused (Long et al., CVPR 2015); input 64.

    `coarse` returns (B, 40, 8, 8).
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.early = nn.Sequential(
            conv(3, 16), nn.ReLU(), nn.MaxPool2d(2), conv(16, 32), nn.ReLU(), nn.MaxPool2d(2), conv(32, 48), nn.ReLU()
        )
        self.late = nn.Sequential(nn.MaxPool2d(2), conv(48, 64), nn.ReLU(), conv(64, 40), nn.ReLU())
        self.coarse = nn.Conv2d(40, 40, 1)
        self.score, self.skip = nn.Conv2d(40, outputs, 1), nn.Conv2d(48, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        early = self.early(x)
        high = F.interpolate(self.score(self.coarse(self.late(early))), scale_factor=2.0, mode="bilinear")
        return F.interpolate(high + self.skip(early), scale_factor=2.0, mode="bilinear")


class FaceAligner(nn.Module):
    """PRN-like: residual blocks, then transposed convolutions up to a position map (Feng et al., ECCV 2018).

    Input 64; `blocks` returns (B, 48, 8, 8).
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, 3, 2), nn.ReLU())
        self.blocks = nn.Sequential(Residual(16, 24, 2), Residual(24, 32, 2), Bottleneck(32, 48))
        self.up = nn.Sequential(
            nn.ConvTranspose2d(48, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(16, outputs, 3, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        positions: Tensor = self.up(self.blocks(self.stem(x)))
        return positions


class FaceDetector(nn.Module):
    """Tiny Face-like: residual features at two scales and a heat map (Hu and Ramanan, CVPR 2017); input 96.

    `fourth` returns (B, 48, 12, 12).
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, 3, 2), nn.ReLU())
        self.third = nn.Sequential(Bottleneck(16, 32, 2), Bottleneck(32, 48))
        self.fourth = nn.Sequential(Bottleneck(48, 48, 2), Bottleneck(48, 48))
        self.side, self.low = nn.Conv2d(48, 16, 1), nn.Conv2d(48, 16, 1)
        self.head = nn.Sequential(nn.ReLU(), _up(16, 16, nn.ReLU()), nn.Conv2d(16, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        third = self.third(self.stem(x))
        fourth = F.interpolate(self.low(self.fourth(third)), scale_factor=2.0, mode="nearest")
        heatmap: Tensor = self.head(self.side(third) + fourth)
        return heatmap


class Colorizer(nn.Module):
    """A plain stack with dilated convolutions, after Zhang et al., ECCV 2016.

    Input 64; `middle` returns (B, 48, 16, 16).
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.down = nn.Sequential(conv(3, 24, 3, 2), nn.ReLU(), conv(24, 40, 3, 2), nn.ReLU())
        self.middle = nn.Sequential(
            nn.Conv2d(40, 48, 3, 1, 2, 2), nn.ReLU(), nn.BatchNorm2d(48), nn.Conv2d(48, 48, 3, 1, 2, 2), nn.ReLU(),
            nn.BatchNorm2d(48), nn.Conv2d(48, 48, 3, 1, 1), nn.LeakyReLU(0.1),
        )  # fmt: skip
        self.up = nn.Sequential(_up(48, 24, nn.ReLU()), nn.Conv2d(24, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.up(self.middle(self.down(x)))
        return image
