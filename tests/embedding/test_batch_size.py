"""The number of images per pass: 16 on a CPU, on a card what its memory holds easily."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelspace.attribution.engine import frozen
from modelspace.embedding.batch_size import MOST, batch_size_for, kept_bytes
from modelspace.encoder.layers import Tap

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("on purpose")


def test_what_a_pass_keeps_is_counted_once_and_without_the_parameters() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 256, 5), nn.Tanh())
    with frozen(module):
        tap = Tap("output", "", module)
        # A convolution keeps its input, ReLU and tanh their results; a linear layer with frozen weights keeps nothing.
        per_image = (3 * 256 + 8 * 256 + 5) * 4
        assert kept_bytes(tap, X) == 2 * per_image
        assert kept_bytes(tap, X.repeat(3, 1, 1, 1)) == 6 * per_image


def test_a_larger_memory_takes_more_images_up_to_a_limit() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    with frozen(module):
        tap = Tap("output", "", module)
        assert batch_size_for(tap, X) == 16
        per_image = kept_bytes(tap, X) / 2
        sizes = [batch_size_for(tap, X, int(16 * per_image * images)) for images in (1, 31, 32, 100, 10_000)]
        assert sizes == [16, 16, 32, 64, MOST]
    assert batch_size_for(Tap("output", "", Fails()), X, 2**40) == 16
