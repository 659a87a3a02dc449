"""A pass on a CUDA device against the same pass on the CPU; `MODELSPACE_TEST_DEVICE=cpu` tries the tests themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelspace.attribution.engine import frozen
from modelspace.embedding.embed import Embedding, embed
from modelspace.embedding.process_state import compute_exactly, process_state_kept
from modelspace.encoder.layers import find_encoder_output
from modelspace.representations.maps import decode
from modelspace.types import Preprocessing, SpaceSpec
from modelspace.workspace import ModelSpace

DEVICE = os.environ.get("MODELSPACE_TEST_DEVICE", "cuda")
pytestmark = pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device")

SIDE = 32
STATED = Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (11, 40, 40, 3), dtype=np.uint8)
SPECS = (
    SpaceSpec("saliency", "p", "saliency", 11, 16, 32),
    SpaceSpec("gradient_x_input", "p", "gradient_x_input", 11, 16, 32),
    SpaceSpec("epsilon_lrp", "p", "epsilon_lrp", 11, 16, 32, "sum", {"epsilon": 1e-4, "offset": "secant"}),
    SpaceSpec("energy", "p", "gradient_x_input", 11, 16, 32, "energy"),
    SpaceSpec("dds", "p", "dds", 11, 0, 32),
)


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    body: list[nn.Module] = []
    for k in range(4):
        body += [nn.Conv2d(16 if k else 3, 16, 3, 1 + k % 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*body, nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.SiLU(), nn.AdaptiveAvgPool2d(2))


class Attention(nn.Module):
    """Patches, one block of attention with layer norms, and the mean of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.norm, self.after = nn.LayerNorm(32), nn.LayerNorm(32)
        self.qkv, self.out, self.up = (nn.Linear(32, n) for n in (96, 32, 64))
        self.down = nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        parts = self.qkv(self.norm(tokens)).reshape(len(x), -1, 3, 2, 16).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(mixed)
        tokens = tokens + self.down(nn.functional.gelu(self.up(self.after(tokens))))
        return tokens.mean(1)


NETS = {"convolutions": convolutions, "attention": Attention}


def passed(module: nn.Module, device: str, specs: Sequence[SpaceSpec] = SPECS, size: int = 4) -> Embedding:
    """A pass with the settings of `add`."""
    batches = [IMAGES[first : first + size] for first in range(0, len(IMAGES), size)]
    with process_state_kept(), frozen(module.eval().to(device)):
        compute_exactly()
        example = torch.zeros(2, 3, SIDE, SIDE, device=device)
        tap = find_encoder_output(module, example, "output")
        return embed(tap, STATED, batches, specs, device=torch.device(device))


def rows(embedding: Embedding, spec: SpaceSpec) -> NDArray[np.float64]:
    """Unit maps, or the rows of the kernel."""
    decoded = decode(embedding.blocks[spec.space_id][0], spec.canvas**2 or spec.n_images, 32).astype(np.float64)
    return decoded / np.linalg.norm(decoded, axis=1, keepdims=True)


@pytest.mark.parametrize("name", NETS)
def test_maps_and_kernels_are_those_of_the_cpu(name: str) -> None:
    expected, found = passed(NETS[name](), "cpu"), passed(NETS[name](), DEVICE)
    for spec in SPECS:
        cosines = (rows(expected, spec) * rows(found, spec)).sum(1)
        assert cosines.min() > 0.9999, spec.space_id


@pytest.mark.parametrize("name", NETS)
def test_the_same_pass_gives_the_same_bits(name: str) -> None:
    first, second = passed(NETS[name](), DEVICE), passed(NETS[name](), DEVICE)
    assert first.blocks == second.blocks


def test_float32_is_not_rounded_to_tf32() -> None:
    """The factors of TF32 have 10 bits, which would give an error of some 1e-4."""

    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 64, 7, 4)
            self.seen: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            if x.dtype == torch.float32:
                exact = nn.functional.conv2d(x.double(), self.conv.weight.double(), self.conv.bias.double(), 4)
                self.seen.append((y - exact).abs().max() / exact.abs().max())
            return torch.tanh(y)

    net = Convolution()
    passed(net, DEVICE, SPECS[:1])
    assert net.seen
    assert max(float(error) for error in net.seen) < 5e-6


class Hungry(nn.Module):
    """Asks for more memory than there is for more than three images at once. `sizes`: what came through."""

    def __init__(self) -> None:
        super().__init__()
        self.body = convolutions()
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 3:
            torch.empty(1 << 50, device=x.device)
        self.sizes.append(len(x))
        return self.body(x)


def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same_maps() -> None:
    hungry = Hungry()
    halved = passed(hungry, DEVICE, size=8)
    assert max(hungry.sizes) <= 3
    assert "memory ran out, so the images were run 2 at a time" in halved.notes[0]
    whole = passed(convolutions(), DEVICE, size=8)
    for spec in SPECS:
        assert (rows(whole, spec) * rows(halved, spec)).sum(1).min() > 0.9999


@pytest.mark.parametrize("place", ["cpu", DEVICE])
def test_a_live_model_comes_back_where_it_was_as_it_was(place: str, tmp_path: Path) -> None:
    module = convolutions().to(place)
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    space = ModelSpace.create(tmp_path, images=4, canvas=8, methods=("saliency", "dds"))
    options = {"device": DEVICE} if place == "cpu" else {}
    space.add(module, name="mine", preprocessing=STATED, layer="output", **options)
    assert module.training
    for name, tensor in module.state_dict().items():
        assert tensor.device.type == torch.device(place).type
        assert torch.equal(tensor, before[name])
    # and what was computed is what the CPU computes
    space.add(module.cpu(), name="there", preprocessing=STATED, layer="output", device="cpu", replace=True)
    assert space.affinity("saliency").matrix[0, 1] == pytest.approx(1, abs=1e-3)


def test_bf16_is_used_and_gives_the_same_bits_again(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []

    class Smooth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 8, 4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            seen.append(y.dtype)
            return nn.functional.softplus(y)

    space = tiny.space(tmp_path, methods=("gradient_x_input", "dds"))
    net = Smooth()
    options = {"preprocessing": STATED, "layer": "output", "device": DEVICE}
    assert space.add(net, name="half", dtype="bf16", **options).card.options == {"dtype": "bf16"}
    assert torch.bfloat16 in seen
    assert all(record.same_bits for record in space.reembed("half", module=net, device=DEVICE))
    space.add(net, name="full", **options)
    assert space.affinity("gradient_x_input").matrix[0, 1] == pytest.approx(1, abs=1e-3)


def test_half_inside_a_model_is_judged_as_on_the_cpu(tmp_path: Path) -> None:
    """The device's own autocast, which the model opens itself."""

    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = convolutions()

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast(x.device.type, torch.bfloat16):
                return self.body(x).float()

    space = ModelSpace.create(tmp_path, images=4, canvas=8, methods=("saliency",))
    added = space.add(Inside(), name="m", preprocessing=STATED, layer="output", device=DEVICE, float32=True)
    assert added.card.options == {"float32": True}
    space.add(convolutions(), name="plain", preprocessing=STATED, layer="output", device=DEVICE)
    assert space.affinity("saliency").matrix[0, 1] == pytest.approx(1, abs=1e-5)
