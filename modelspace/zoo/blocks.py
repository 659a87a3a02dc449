"""Building blocks that several architectures share."""

from __future__ import annotations

from torch import Tensor, nn


def conv(n_in: int, n_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution that preserves (stride 1) or halves (stride 2) the side, then batch norm."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(n_out)
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions with a skip connection (He et al., CVPR 2016)."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv(n_in, n_out, 3, stride)
        self.second = conv(n_out, n_out)
        self.skip = nn.Identity() if n_in == n_out and stride == 1 else conv(n_in, n_out, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.second(self.relu(self.first(x))) + self.skip(x))
        return y


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions with a skip connection (He et al., CVPR 2016)."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        middle = n_out // 2
        self.path = nn.Sequential(
            conv(n_in, middle, 1), nn.ReLU(), conv(middle, middle, 3, stride), nn.ReLU(), conv(middle, n_out, 1)
        )
        self.skip = nn.Identity() if n_in == n_out and stride == 1 else conv(n_in, n_out, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.path(x) + self.skip(x))
        return y
