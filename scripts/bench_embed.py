"""Benchmark the embedding pass, as a ratio to the least work that it has to do.

The floor is a bare loop of forward passes and gradients with respect to the input, at the same batch size, on the same
images, already on the device: saliency and gradient*input need at least this. Its images are in torch's usual order in
memory; the pass may choose another, so its ratio can be below 1. Floor and pass alternate, each pass is divided by the
mean of the floors before and after it, and the median of these ratios is printed: machines are noisy, and the minimum
is a moment when the processor ran faster. On a CPU, times are processor time, not wall time. Both run with the settings
of `modelspace add` (no TF32, deterministic algorithms). Memory is the peak resident size of a separate process.

    python scripts/bench_embed.py [--images N] [--rounds R] [--threads T] [--device cpu|cuda] [--spaces]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from process_memory import peak_mb
from torch import nn

from modelspace.attribution import METHODS
from modelspace.attribution.engine import frozen
from modelspace.embedding.embed import embed
from modelspace.embedding.process_state import compute_exactly
from modelspace.encoder.layers import find_encoder_output
from modelspace.probes.preprocess import to_input
from modelspace.spaces.kinds import KernelSpace
from modelspace.types import Preprocessing, SpaceSpec


class Bottleneck(nn.Module):
    """The residual block of ResNet-50 (He et al., CVPR 2016, figure 5, right)."""

    def __init__(self, n_in: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(n_in, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        changes_shape = stride != 1 or n_in != out
        self.skip: nn.Module = (
            nn.Sequential(nn.Conv2d(n_in, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            if changes_shape
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.skip(x))


def resnet50() -> nn.Module:
    """ResNet-50 with random weights: 25.6 million parameters."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    n_in = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(n_in, width, stride if block == 0 else 1))
            n_in = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, 1000))


def small() -> nn.Module:
    """An encoder of the zoo's architecture."""
    from modelspace import zoo

    return zoo.load(zoo.names()[0])


NETS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    # name: (factory, input side, images per batch)
    "resnet50": (resnet50, 224, 16),
    "zoo encoder": (small, 64, 16),
}

#: Spaces as METHOD or METHOD:SCALAR.
CASES = {
    "saliency + gradient*input": ("saliency", "gradient_x_input"),
    "all three": ("saliency", "gradient_x_input", "epsilon_lrp"),
}

#: Spaces that --spaces adds to gradient*input.
FURTHER = {
    "gradient*input": ("gradient_x_input",),
    "  and saliency": ("gradient_x_input", "saliency"),
    "  and dds (standard spaces)": ("gradient_x_input", "dds"),
    "  and dds, CKA, RSA": ("gradient_x_input", "dds", "linear_cka", "rsa"),
    "  and its energy": ("gradient_x_input", "gradient_x_input:energy"),
    "  and its centred energy": ("gradient_x_input", "gradient_x_input:centred_energy"),
    "  and epsilon-LRP": ("gradient_x_input", "epsilon_lrp"),
    "dds alone": ("dds",),
}


def batches(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(images), size):
        yield images[first : first + size]


def clock(device: torch.device) -> float:
    """Processor time on a CPU, where other processes may run; wall time on an accelerator, after all of its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if device.type == "cpu" else time.perf_counter()


def floor(tap: Callable[[torch.Tensor], torch.Tensor], inputs: list[torch.Tensor]) -> float:
    """Seconds that the bare loop takes."""
    started = clock(inputs[0].device)
    for x in inputs:
        leaf = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(tap(leaf).sum(), leaf)
        gradient.sum().item()
    return clock(inputs[0].device) - started


def spaces(names: tuple[str, ...], n_images: int) -> list[SpaceSpec]:
    specs = []
    for name in names:
        method, _, scalar = name.partition(":")
        if method in KernelSpace.methods():
            specs.append(SpaceSpec(name, "bench", method, n_images, 0, 16))
        else:
            parameters = dict(METHODS[method].defaults)
            specs.append(SpaceSpec(name, "bench", method, n_images, 64, 8, scalar or "sum", parameters))
    return specs


def ratios(
    name: str, n_images: int, rounds: int, device: torch.device, cases: Mapping[str, tuple[str, ...]]
) -> tuple[float, dict[str, float]]:
    """Milliseconds per image of the floor, and the median ratio of each case to it."""
    compute_exactly()
    factory, side, batch = NETS[name]
    torch.manual_seed(0)
    module = factory().to(device)
    preprocessing = Preprocessing((side, side), (0.5,) * 3, (0.5,) * 3)
    images = np.random.default_rng(0).integers(0, 256, (n_images, 128, 128, 3), dtype=np.uint8)
    with frozen(module):
        inputs = [to_input(part, preprocessing, device) for part in batches(images, batch)]
        tap = find_encoder_output(module, inputs[0][:2], None)
        multiples: dict[str, list[float]] = {case: [] for case in cases}
        floor(tap, inputs)
        floors = [floor(tap, inputs)]
        for _ in range(rounds):
            for case, methods in cases.items():
                started = clock(device)
                embed(tap, preprocessing, list(batches(images, batch)), spaces(methods, n_images), device=device)
                seconds = clock(device) - started
                floors.append(floor(tap, inputs))
                multiples[case].append(2 * seconds / (floors[-2] + floors[-1]))
    medians = {case: statistics.median(values) for case, values in multiples.items()}
    return 1000 * statistics.median(floors) / n_images, medians


def speed(name: str, n_images: int, rounds: int, device: torch.device, cases: Mapping[str, tuple[str, ...]]) -> None:
    """Print the ratios of one net."""
    milliseconds, medians = ratios(name, n_images, rounds, device, cases)
    _, side, batch = NETS[name]
    print(f"{name:12s} {side} px, batch {batch}: floor {milliseconds:.2f} ms per image")
    for case, ratio in medians.items():
        print(f"  {case:27s} {ratio:.2f} x", flush=True)


def memory(n_images: int) -> None:
    """Print the peak resident size of one pass; run in a separate process."""
    module = small()
    preprocessing = Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3)
    device = torch.device("cpu")

    def images() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for first in range(0, n_images, 16):
            yield rng.integers(0, 256, (min(16, n_images - first), 128, 128, 3), dtype=np.uint8)

    with frozen(module):
        tap = find_encoder_output(module, to_input(next(images()), preprocessing, device)[:2], None)
        embed(tap, preprocessing, images(), spaces(CASES["all three"], n_images), device=device)
    print(peak_mb())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="per pass; 200 is the default of 'modelspace init'")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--nets", nargs="*", default=list(NETS), choices=list(NETS))
    parser.add_argument("--spaces", action="store_true", help="measure what each additional space costs instead")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        memory(options.memory)
        return
    for name in options.nets:
        cases = FURTHER if options.spaces else CASES
        speed(name, options.images, options.rounds, torch.device(options.device), cases)
    if options.spaces:
        return
    peaks = {}
    for n_images in (100, 1000):
        command = [sys.executable, __file__, "--memory", str(n_images)]
        peaks[n_images] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"peak memory, three methods: {peaks[100]:.0f} MB with 100 images, {peaks[1000]:.0f} MB with 1,000")
    stored = 3 * 900 * 64 * 64 / 1e6
    print(
        f"  growth {peaks[1000] - peaks[100]:.0f} MB, of which {stored:.0f} MB are codes of the additional 900 images"
    )


if __name__ == "__main__":
    main()
