"""The only module of the sweep that runs networks: gradients of many scalars of T, cached in a folder.

One file per model, engine and layer holds the gradients of every scalar at full input size, float32, so that all else
is arithmetic on arrays, and a killed run continues where it stopped. Maps of several seeds are stored at half size.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from reproduction import passes
from torch import Tensor, nn

from modelspace import zoo
from modelspace.embedding.prepare import Request, prepared
from modelspace.probes.preprocess import to_input
from modelspace.types import canonical_json

CACHE = passes.TOP / ".cache" / "attribution"

#: Number of images that maps are of, and of further images whose T are seeds.
IMAGES, REFERENCES = 100, 4
SEEDS = 4
COUNTS = (1, 4)
#: Side of the encoders' input in pixels.
SIDE = 64
BATCH = 25

#: Scalars with one gradient: name -> description.
SCALARS = {
    "sum": "ΣT",
    "absolute": "Σ|T|",
    "energy": "½|T|²",
    "centred energy": "½|T − mean|², the mean per channel",
    "centred energy by position": "½|T − mean|², the mean per channel and position",
    "standardised energy": "½ Σ z², z the channels of T standardised over images and positions",
    "1 random projection, RMS": "root mean square of the gradient of a random projection of T",
    "4 random projections, RMS": "the same over 4 projections",
}
#: Stacks of gradients, one after the other: name -> (array in the file, number of them).
STACKS = {
    "1 random projection": ("random", 1),
    "4 random projections": ("random", 4),
    "1 reference image": ("reference", 1),
    "4 reference images": ("reference", 4),
}
#: Scalars with one backward pass each.
SINGLE = tuple(name for name in SCALARS if "random" not in name)
#: What is computed of other engines and layers.
FEW = ("sum", "centred energy")
ENGINES = ("plain", "smoothgrad", "integrated", "gamma 0.25", "gamma 1")
LAYERS = ("stages.0", "stages.2", "stages.4")

#: SmoothGrad's copies and noise, as a share of an image's range; steps of integrated gradients.
COPIES, NOISE, STEPS = 4, 0.15, 4

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Statistics:
    """What seeds are computed from.

    Attributes:
        channel: mean of T over images and positions, (1, C, 1, 1).
        position: mean of T over images, (1, C, H, W).
        variance: of T over images and positions, (1, C, 1, 1).
        references: T of the reference images minus `channel`, (REFERENCES, C, H, W).
    """

    channel: Tensor
    position: Tensor
    variance: Tensor
    references: Tensor


def statistics(forward: Forward, x: Tensor, references: Tensor) -> Statistics:
    """Statistics of T on the images `x`."""
    with torch.no_grad():
        output, others = forward(x), forward(references)
    channel = output.mean(dim=(0, 2, 3), keepdim=True)
    return Statistics(
        channel,
        output.mean(0, keepdim=True),
        output.var(dim=(0, 2, 3), keepdim=True).clamp_min(1e-12),
        others - channel,
    )


def seed(scalar: str, output: Tensor, known: Statistics) -> Tensor:
    """The derivative of a scalar with respect to T, of the shape of T (B, C, H, W)."""
    if scalar == "sum":
        return torch.ones_like(output)
    if scalar == "absolute":
        return output.sign()
    if scalar == "energy":
        return output
    if scalar == "centred energy":
        return output - known.channel
    if scalar == "centred energy by position":
        return output - known.position
    assert scalar == "standardised energy"
    return (output - known.channel) / known.variance


def gradients(forward: Forward, x: Tensor, seeds: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
    """Gradient with respect to x of each seed's product with T: seeds is called with T, detached."""
    source = x.detach().clone().requires_grad_(True)
    output = forward(source)
    weights = seeds(output.detach())
    return [torch.autograd.grad(output, source, weight, retain_graph=True)[0] for weight in weights]


def _plain(forward: Forward, x: Tensor, known: Statistics, scalars: Sequence[str]) -> dict[str, Tensor]:
    results = gradients(forward, x, lambda output: [seed(scalar, output, known) for scalar in scalars])
    return dict(zip(scalars, results, strict=True))


def _smoothgrad(forward: Forward, x: Tensor, known: Statistics, scalars: Sequence[str]) -> dict[str, Tensor]:
    """Mean gradient over noisy copies; the noise depends only on the number of the copy."""
    spread = NOISE * (x.amax(dim=(1, 2, 3), keepdim=True) - x.amin(dim=(1, 2, 3), keepdim=True))
    total = {scalar: torch.zeros_like(x) for scalar in scalars}
    for number in range(COPIES):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(number))
        for scalar, results in _plain(forward, x + spread * noise, known, scalars).items():
            total[scalar] += results / COPIES
    return total


def _integrated(forward: Forward, x: Tensor, known: Statistics, scalars: Sequence[str]) -> dict[str, Tensor]:
    """Mean gradient along the line from 0 to x, at the middles of equal steps."""
    total = {scalar: torch.zeros_like(x) for scalar in scalars}
    for number in range(STEPS):
        for scalar, results in _plain(forward, x * ((number + 0.5) / STEPS), known, scalars).items():
            total[scalar] += results / STEPS
    return total


class GammaConvolution(nn.Module):
    """A convolution whose gradient follows the γ-rule: times the input, it is the relevance of γ-LRP.

    R_i = Σ_j a_i (w_ij + γ w⁺_ij) / z⁺_j · R_j with z⁺_j = Σ_i a_i (w_ij + γ w⁺_ij) + b_j + γ b⁺_j, for inputs a ≥ 0
    and z_j > 0 (Montavon et al. 2019); where z_j < 0, w⁻ takes the place of w⁺ (Andéol et al. 2021).
    """

    def __init__(self, weight: Tensor, bias: Tensor, of: nn.Conv2d, gamma: float) -> None:
        super().__init__()
        self.weight, self.bias, self.gamma = weight.detach(), bias.detach(), gamma
        self.stride, self.padding, self.groups = of.stride, of.padding, of.groups

    def _convolved(self, a: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(a, weight, bias, self.stride, self.padding, 1, self.groups)

    def forward(self, a: Tensor) -> Tensor:
        """Values of the plain convolution."""
        z = self._convolved(a, self.weight, self.bias)
        if not self.gamma:
            return z
        up = z + self.gamma * self._convolved(a, self.weight.clamp_min(0), self.bias.clamp_min(0))
        down = z + self.gamma * self._convolved(a, self.weight.clamp_max(0), self.bias.clamp_max(0))
        changed = torch.where(z > 0, up, down)
        safe = torch.where(changed.abs() > 1e-12, changed, torch.ones_like(changed))
        return changed * (z / safe).detach()


def with_gamma(module: nn.Module, gamma: float) -> nn.Module:
    """A copy of an encoder with batch norms folded into convolutions that follow the γ-rule, the first one excepted."""
    module = copy.deepcopy(module).eval()
    first = True
    for parent in list(module.modules()):
        children = list(parent.named_children())
        for number, (name, child) in enumerate(children):
            if not isinstance(child, nn.Conv2d):
                continue
            bias = torch.zeros(child.out_channels) if child.bias is None else child.bias
            weight = child.weight
            if number + 1 < len(children) and isinstance(children[number + 1][1], nn.BatchNorm2d):
                norm = children[number + 1][1]
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                weight, bias = weight * scale.reshape(-1, 1, 1, 1), (bias - norm.running_mean) * scale + norm.bias
                setattr(parent, children[number + 1][0], nn.Identity())
            setattr(parent, name, GammaConvolution(weight, bias, child, 0.0 if first else gamma))
            first = False
    return module


def _stack(forward: Forward, x: Tensor, weights: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
    """Gradients of products of T with several tensors, one after the other.

    Args:
        forward: images -> T.
        x: (B, 3, side, side).
        weights: (seeds, C, H, W), the same for all images.

    Returns:
        At half size (B, seeds, 4, side/2, side/2): the gradient's channels, and the mean over channels of it times the
        input. And at full size the root mean squares over the first seeds: their number -> (B, 3, side, side).
    """
    squares = torch.zeros_like(x)
    halves, roots = [], {}
    results = gradients(forward, x, lambda output: [weight.expand_as(output) for weight in weights])
    for number, gradient in enumerate(results, start=1):
        halves.append(F.avg_pool2d(torch.cat([gradient, (gradient * x).mean(1, keepdim=True)], 1), 2))
        squares += gradient.square()
        if number in COUNTS:
            roots[number] = (squares / number).sqrt()
    return torch.stack(halves, 1), roots


def _of_stack(forward: Forward, x: Tensor, known: Statistics, kind: str) -> dict[str, Tensor]:
    if kind == "reference":
        return {kind: _stack(forward, x, known.references)[0]}
    shape = (SEEDS, known.channel.shape[1], *known.position.shape[2:])
    stack, roots = _stack(forward, x, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    return {kind: stack} | {_root(number): root for number, root in roots.items()}


def _root(number: int) -> str:
    """The scalar with the root mean square over this number of random projections."""
    return f"{number} random projection{'s' if number > 1 else ''}, RMS"


def file_of(scalar: str) -> tuple[str, str]:
    """The part of the cache and the array in it with a scalar's gradients."""
    if scalar in STACKS:
        return STACKS[scalar][0], STACKS[scalar][0]
    return ("random" if "random" in scalar else "scalars"), scalar


def _computed(name: str, engine: str, layer: str, part: str) -> dict[str, np.ndarray]:
    _, pixels = passes.images("rooms", IMAGES + REFERENCES)
    with prepared(Request(f"zoo:{name}", layer=layer or None, device="cpu"), pixels[:2]) as ready:
        x = to_input(pixels, ready.card.preprocessing, ready.device)
        x, references = x[:IMAGES], x[IMAGES:]
        forward: Forward = ready.tap
        if engine.startswith("gamma"):
            forward = with_gamma(ready.tap.module, float(engine.split()[1]))
            with torch.no_grad():
                assert torch.allclose(forward(x[:2]), ready.tap(x[:2]), atol=1e-4)
        known = statistics(forward, x, references)
        run = {"smoothgrad": _smoothgrad, "integrated": _integrated}.get(engine, _plain)
        scalars = SINGLE if engine == "plain" and not layer else FEW
        parts: dict[str, list[Tensor]] = {}
        for first in range(0, IMAGES, BATCH):
            batch = x[first : first + BATCH]
            if part == "scalars":
                results = run(forward, batch, known, scalars)
            else:
                results = _of_stack(forward, batch, known, part)
            for scalar, value in results.items():
                parts.setdefault(scalar, []).append(value)
        arrays = {scalar: torch.cat(values).numpy() for scalar, values in parts.items()}
        return arrays | {"x": x.numpy()} if part == "scalars" else arrays


def _file(name: str, engine: str, layer: str, part: str) -> Path:
    settings = [engine, layer, part, IMAGES, REFERENCES, SEEDS, COPIES, NOISE, STEPS]
    key = canonical_json([zoo.card(name).sha256, *settings])
    label = "-".join(word for word in (name, engine.replace(" ", ""), layer, part) if word)
    return CACHE / f"{label}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"


def compute(name: str, engine: str = "plain", layer: str = "", part: str = "scalars") -> Path:
    """The file with the gradients of a model, computed if it is missing."""
    path = _file(name, engine, layer, part)
    if not path.is_file():
        started = time.process_time()
        arrays = _computed(name, engine, layer, part)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part.npz")
        np.savez(unfinished, **arrays)  # type: ignore[arg-type]  # arrays, none called allow_pickle
        unfinished.replace(path)
        print(f"{name:22s} {engine} {layer} {part} {time.process_time() - started:5.1f} s", flush=True)
    return path


def load(names: Sequence[str], engine: str, layer: str, part: str, key: str) -> np.ndarray:
    """An array of each model, stacked."""
    rows = []
    for name in names:
        with np.load(compute(name, engine, layer, part)) as stored:
            rows.append(stored[key])
    return np.stack(rows)
