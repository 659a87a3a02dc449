"""Channels last in memory: chosen for what convolves and gives the same, and for nothing else; the same bits again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelspace.attribution.engine import MapRequest, frozen
from modelspace.embedding.checks import check_model
from modelspace.embedding.embed import embed
from modelspace.embedding.memory_layout import prefers_channels_last
from modelspace.encoder.layers import find_encoder_output
from modelspace.representations.maps import decode
from modelspace.types import Preprocessing, SpaceSpec

PLAIN = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)
X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5


class Net(nn.Module):
    """A convolution, and what follows it; `seen`: whether each batch came with channels last."""

    def __init__(self, last: Callable[[Tensor], Tensor] = lambda y: y.mean((2, 3)), channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3))
        self.last = last
        self.seen: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last))
        return self.last(self.body(x))


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1))


def by_memory(y: Tensor) -> Tensor:
    """The first channels of the usual order: reads memory, as a kernel of its own might."""
    return y.as_strided((len(y), 10), (y.stride(0), 1)) * 1.0


#: A net, and whether it runs with channels last.
NETS = {
    "convolutions": (Net, True),
    "flattened": (lambda: Net(lambda y: y.flatten(1)), True),
    "a view": (lambda: Net(lambda y: y.view(len(y), -1)), False),
    "a view across images": (lambda: Net(lambda y: y.view(len(y) * 6, -1).view(len(y), -1)), False),
    "reads memory": (lambda: Net(by_memory), False),
    "no convolution": (Linear, False),
}


@pytest.mark.parametrize("maps", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_it_is_chosen_for_what_convolves_and_gives_the_same(name: str, maps: bool) -> None:
    factory, expected = NETS[name]
    with frozen(net := factory()):
        tap = find_encoder_output(net, X, "output")
        gradient = check_model(tap, X, [MapRequest.of("saliency")]).gradient if maps else None
        assert (gradient is not None) is maps
        assert prefers_channels_last(tap, X, PLAIN, gradient) is expected


def test_other_layouts_channels_and_devices_stay() -> None:
    with frozen(net := Net()):
        tap = find_encoder_output(net, X, "output")
        last = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3, layout="nhwc")
        assert not prefers_channels_last(tap, X, last, None)
        assert not prefers_channels_last(tap, X.to("meta"), PLAIN, None)
    with frozen(gray := Net(channels=1)):
        one = X[:, :1]
        assert not prefers_channels_last(find_encoder_output(gray, one, "output"), one, PLAIN, None)


def test_the_pass_runs_with_it_gives_the_maps_and_kernels_of_the_usual_order_and_the_same_bits_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 20, 20, 3), dtype=np.uint8)
    batches = [images[:3], images[3:6], images[6:]]
    specs = [
        SpaceSpec("lrp", "p", "epsilon_lrp", 7, 8, 32, "sum", {"epsilon": 1e-4, "offset": "secant"}),
        SpaceSpec("energy", "p", "gradient_x_input", 4, 8, 32, "energy"),
        SpaceSpec("dds", "p", "dds", 7, 0, 32),
    ]

    def run(net: Net) -> list[np.ndarray]:
        with frozen(net):
            tap = find_encoder_output(net, X, "output")
            net.seen.clear()
            blocks = embed(tap, PLAIN, batches, specs, device=torch.device("cpu")).blocks
        return [decode(blocks[spec.space_id][0], spec.canvas**2 or spec.n_images, 32) for spec in specs]

    net = Net()
    seen = run(net), net.seen
    assert seen[1][-3:] == [True] * 3
    for one, other in zip(seen[0], run(Net()), strict=True):
        assert np.array_equal(one, other)
    monkeypatch.setattr("modelspace.embedding.memory_layout._DEVICES", ())
    plain = Net()
    usual = run(plain)
    assert set(plain.seen) == {False}
    for one, other in zip(seen[0], usual, strict=True):
        assert np.allclose(one, other, atol=1e-6)
