"""Measuring transfer: a small readout on a frozen encoder, trained on few images of the target, and its held-out loss.

Like Taskonomy for each pair of tasks (Zamir et al., CVPR 2018, section 3.2), but cheaper: images are encoded once per
source, and the readouts of all targets and seeds of a source are trained together, as slices of the same matrix
products. Gradients of different readouts don't mix, so the result is that of training each separately, up to rounding.

The readout is the same for all sources: features on an 8 x 8 grid, standardised, with two coordinate channels; one
3 x 3 convolution with ReLU; then a linear layer from each cell to its 4 x 4 block of the label, or from the means over
the image's four quadrants to the label's vector or class.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelspace.errors import ModelspaceError, UsageError
from modelspace.lab import training
from modelspace.lab.tasks import CLASS, CLASS_MAP, DENSE, TASKS, Scaling, Task, task
from modelspace.worlds import WORLDS

#: Colorization and inpainting are sources only, as in Taskonomy's transfer table.
TARGETS = tuple(name for name in TASKS if name not in ("colorization", "inpainting_whole"))
#: Scenes of a world that no network was trained or scored on.
FIRST_TRAIN, FIRST_HELD_OUT = 2_000_000, 3_000_000
#: Side of the rendered images, the labels and the readout's grid, in pixels or cells.
SIDE, LABEL_SIDE, GRID = 64, 32, 8
BLOCK = LABEL_SIDE // GRID


@dataclass(frozen=True)
class Budget:
    """Data and training of a readout; part of a measurement's identity.

    Chosen on two encoders of the zoo at 8 epochs: with rates of 0.004 and 0.01 all readouts were less trained than with
    0.025 (test losses 5 to 81 % and 1 to 18 % higher). One source with 18 targets and 3 seeds took 18 s on one core.

    Attributes:
        pool: number of rendered training scenes.
        images: number of scenes drawn from the pool for each seed, so that seeds differ in data, weights and order.
        held_out: number of held-out scenes, the same for all.
        epochs: passes over the images.
        batch: images per step.
        hidden: channels of the readout's convolution.
        rate: peak learning rate.
        channels: encoder outputs with more channels are projected onto this many principal components.
    """

    pool: int = 1536
    images: int = 1024
    held_out: int = 512
    epochs: int = 10
    batch: int = 32
    hidden: int = 16
    rate: float = 2.5e-2
    channels: int = 32

    def __post_init__(self) -> None:
        if not self.batch <= self.images <= self.pool or min(self.held_out, self.epochs, self.hidden, self.batch) < 1:
            raise UsageError("a budget needs batch <= images <= pool, and at least one of everything")


@dataclass(frozen=True)
class Scenes:
    """Rendered scenes with the labels of all targets, as readouts need them.

    Attributes:
        rgb: (N, 3, 64, 64) uint8.
        labels: target -> packed labels (`pack`).
    """

    rgb: Tensor
    labels: Mapping[str, Tensor]


def prepare(
    cache: Path, budget: Budget, targets: Sequence[str], device: str = "cpu", world: str = "rooms"
) -> tuple[Scenes, Scenes]:
    """The pool and the held-out scenes of a world, from the cache or rendered.

    Labels are scaled by the pool's mean and standard deviation.
    """
    if world not in WORLDS:
        raise UsageError(f"transfer can't be measured in {world!r}", f"use {' or '.join(WORLDS)}")
    parts = []
    for first, count in ((FIRST_TRAIN, budget.pool), (FIRST_HELD_OUT, budget.held_out)):
        rgb: list[Tensor] = []
        labels: dict[str, list[Tensor]] = {name: [] for name in targets}
        for part in training.rendered(cache, first, count, SIDE, device, world):
            rgb.append((part.rgb * 255).round().to(torch.uint8))
            for name in targets:
                labels[name].append(task(name).label(part))
        parts.append((torch.cat(rgb), {name: torch.cat(values) for name, values in labels.items()}))
    scenes = []
    for rgb_all, labels_all in parts:
        packed = {}
        for name, label in labels_all.items():
            if not task(name).classifies:
                label = Scaling.measure(parts[0][1][name]).apply(label)
            packed[name] = pack(task(name), label).to(device)
        scenes.append(Scenes(rgb_all.to(device), packed))
    return scenes[0], scenes[1]


def constant_losses(pool: Scenes, held_out: Scenes) -> dict[str, float]:
    """Held-out loss of the best constant prediction: the pool's mean, or its class frequencies.

    Dense labels have one mean per channel, class maps one frequency per class. A label that no readout predicts better
    than this cannot rank sources.
    """
    out = {}
    for name, label in held_out.labels.items():
        target, pool_label = task(name), pool.labels[name]
        if target.classifies:
            shares = torch.bincount(pool_label.flatten(), minlength=target.outputs).double() + 1
            out[name] = float(-(shares / shares.sum()).log()[label.flatten()].mean())
        else:
            out[name] = float(label.double().square().mean())  # the pool's mean is 0 after scaling
    return out


def pack(target: Task, label: Tensor) -> Tensor:
    """Rearrange a label into the shape of the readout's prediction.

    Returns:
        (N, 64, 16 n) float32 for DENSE: for each channel the 16 = 4 x 4 pixels of a cell in row order; (N, 64, 16)
        int64 for CLASS_MAP; the label itself for VECTOR and CLASS.
    """
    if target.kind not in (DENSE, CLASS_MAP):
        return label
    flat = label[:, None] if target.kind == CLASS_MAP else label
    if flat.shape[-1] != LABEL_SIDE:
        raise UsageError(f"labels of {target.name} have side {flat.shape[-1]}, the readout predicts {LABEL_SIDE}")
    return F.pixel_unshuffle(flat, BLOCK).flatten(2).transpose(1, 2).contiguous()


@torch.no_grad()
def encode(encoder: nn.Module, target: Task, rgb: Tensor, input_size: int, batch: int = 128) -> Tensor:
    """The encoder's output (N, C, 8, 8) float32 for images, corrupted if the target asks for it.

    Larger grids are averaged, smaller ones interpolated; a vector is repeated in all cells.
    """
    generator = torch.Generator().manual_seed(5)
    modes = [(module, module.training) for module in encoder.modules()]
    rows = []
    try:
        encoder.eval()
        for part in torch.split(rgb, batch):
            x = training.network_input(target, part, generator)
            if x.shape[-1] != input_size:
                x = F.interpolate(x, (input_size, input_size), mode="bilinear", antialias=True)
            output = encoder(x).float()
            if output.dim() == 2:
                output = output[:, :, None, None]
            if output.dim() != 4:
                raise UsageError(f"an encoder's output of shape {tuple(output.shape)} has no grid", "tap another layer")
            rows.append(_on_grid(output))
    finally:
        for module, mode in modes:
            module.training = mode
    return torch.cat(rows)


def patches(pool: Tensor, held_out: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Patches of features, the input of the readout's convolution: (N, 64, 9 (C + 2)) each.

    Channels are standardised by the pool's mean and standard deviation over images and cells; a constant channel
    becomes 0. If there are more than `channels`, they are first projected onto the pool's principal components.
    """
    flat = pool.double().transpose(0, 1).flatten(1)
    mean = flat.mean(1, keepdim=True)
    basis = torch.eye(len(flat), dtype=torch.float64, device=pool.device)
    if len(flat) > channels:
        vectors = torch.linalg.eigh((flat - mean) @ (flat - mean).T / flat.shape[1]).eigenvectors
        basis = vectors[:, -channels:].flip(1).T
    spread = (basis @ (flat - mean)).std(1)
    scale = torch.where(spread > 1e-8 * flat.abs().max().clamp_min(1e-30), 1 / spread, 0.0)
    basis, shift = (basis * scale[:, None]).float(), mean[:, 0].float()
    return _unfolded(pool, basis, shift), _unfolded(held_out, basis, shift)


def measure(
    encoder: nn.Module,
    input_size: int,
    pool: Scenes,
    held_out: Scenes,
    targets: Sequence[str],
    seeds: Sequence[int],
    budget: Budget,
) -> dict[tuple[str, int], np.ndarray]:
    """Held-out losses of one source for each target and seed.

    Args:
        encoder: frozen; run in eval mode, and restored to its previous mode.
        input_size: side of its input in pixels.
        pool: training scenes.
        held_out: held-out scenes.
        targets: names of tasks.
        seeds: each determines the training images, initial weights and order.
        budget: of each readout.

    Returns:
        (target, seed) -> (held-out images,) float32 loss per image: mean squared error of the scaled label, or
        cross-entropy in nats, averaged over pixels.

    Raises:
        ModelspaceError: a loss is not finite.
    """
    result: dict[tuple[str, int], np.ndarray] = {}
    for group in _by_input(targets):
        first = task(group[0])
        features, test_features = (encode(encoder, first, scenes.rgb, input_size) for scenes in (pool, held_out))
        x, y = patches(features, test_features, budget.channels)
        readouts = Readouts([task(name) for name in group], seeds, x.shape[-1], budget.hidden, x.device)
        readouts.fit(x, pool.labels, budget)
        for name, losses in readouts.losses(y, held_out.labels).items():
            for seed, row in zip(seeds, losses, strict=True):
                if not np.isfinite(row).all():
                    raise ModelspaceError(f"the readout of {name} with seed {seed} has a loss that is not finite")
                result[name, seed] = row
    return result


class Readouts:
    """Readouts for K seeds x T targets on the same features, trained in parallel.

    Args:
        tasks: T targets.
        seeds: K seeds.
        n_in: length of a patch.
        hidden: channels of each readout's convolution.
        device: of its parameters.
    """

    def __init__(
        self, tasks: Sequence[Task], seeds: Sequence[int], n_in: int, hidden: int, device: torch.device | str = "cpu"
    ) -> None:
        self.tasks, self.seeds, self.hidden = list(tasks), list(seeds), hidden

        def draw(name: str, seed: int, part: str, shape: tuple[int, ...], gain: float) -> Tensor:
            # Each readout has its own generator, so its weights do not depend on which others are trained with it.
            generator = torch.Generator().manual_seed(_number(name, str(seed), part))
            return torch.randn(shape, generator=generator) * math.sqrt(gain / shape[0])

        first = [
            torch.cat([draw(t.name, seed, "first", (n_in, hidden), 2.0) for t in tasks], dim=1) for seed in self.seeds
        ]
        self.first = torch.stack(first).to(device)
        self.first_bias = torch.zeros(len(seeds), 1, self.first.shape[-1], device=device)
        self.second, self.second_bias = [], []
        for t in tasks:
            dense = t.kind in (DENSE, CLASS_MAP)
            shape = (hidden, t.outputs * BLOCK**2) if dense else (4 * hidden, t.outputs)
            weights = [draw(t.name, seed, "second", shape, 1.0) for seed in self.seeds]
            self.second.append(torch.stack(weights).to(device))
            self.second_bias.append(torch.zeros(len(seeds), 1, shape[1], device=device))

    def parameters(self) -> list[Tensor]:
        """The parameters of all readouts."""
        return [self.first, self.first_bias, *self.second, *self.second_bias]

    def predict(self, x: Tensor) -> Iterator[tuple[Task, Tensor]]:
        """Predictions of all targets for patches (K, B, 64, n_in).

        Yields:
            (K, B, 64, 16 n) for dense targets, (K, B, n) for vectors and classes.
        """
        k, b = x.shape[:2]
        cells = torch.baddbmm(self.first_bias, x.flatten(1, 2), self.first).relu_()
        for number, target in enumerate(self.tasks):
            hidden = cells[:, :, number * self.hidden : (number + 1) * self.hidden]
            if target.kind not in (DENSE, CLASS_MAP):
                hidden = hidden.view(k, b, 2, GRID // 2, 2, GRID // 2, self.hidden).mean((3, 5)).flatten(2)
            out = torch.baddbmm(self.second_bias[number], hidden, self.second[number])
            yield target, out.view(k, b, GRID**2, -1) if target.kind in (DENSE, CLASS_MAP) else out

    def fit(self, x: Tensor, labels: Mapping[str, Tensor], budget: Budget) -> None:
        """Train each readout on its seed's images, with AdamW and cosine decay; x: (pool, 64, n_in)."""
        orders = [self._order(seed, len(x), budget) for seed in self.seeds]
        steps = len(orders[0])
        parameters = [part.requires_grad_() for part in self.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=budget.rate, weight_decay=0.01)
        for step in range(steps):
            warm = max(1, steps // 10)
            decay = max(0.0, (step - warm) / max(1, steps - warm))
            warm_up = min(1.0, (step + 1) / warm)
            optimiser.param_groups[0]["lr"] = budget.rate * warm_up * 0.5 * (1 + math.cos(math.pi * decay))
            batch = torch.stack([order[step] for order in orders]).to(x.device)
            # The sum of mean losses gives each readout the gradient of its own loss.
            losses = [
                _image_losses(target, out, labels[target.name][batch]).mean(1).sum()
                for target, out in self.predict(x[batch])
            ]
            optimiser.zero_grad()
            sum(losses, torch.zeros((), device=x.device)).backward()  # type: ignore[no-untyped-call]  # as in `train`
            optimiser.step()
        for part in parameters:
            part.requires_grad_(False)

    @torch.no_grad()
    def losses(self, x: Tensor, labels: Mapping[str, Tensor], batch: int = 64) -> dict[str, np.ndarray]:
        """Losses per image, target -> (K, N) float32; x: (N, 64, n_in)."""
        parts: dict[str, list[Tensor]] = {t.name: [] for t in self.tasks}
        for rows in torch.split(torch.arange(len(x), device=x.device), batch):
            for target, out in self.predict(x[rows].expand(len(self.seeds), -1, -1, -1)):
                label = labels[target.name][rows]
                parts[target.name].append(_image_losses(target, out, label.expand(len(self.seeds), *label.shape)))
        return {name: torch.cat(losses, dim=1).cpu().numpy().astype(np.float32) for name, losses in parts.items()}

    @staticmethod
    def _order(seed: int, pool: int, budget: Budget) -> list[Tensor]:
        """The images of each step: the seed's sample of the pool, reshuffled for each epoch."""
        generator = torch.Generator().manual_seed(_number("order", str(seed)))
        sample = torch.randperm(pool, generator=generator)[: budget.images]
        n_used = budget.images // budget.batch * budget.batch
        steps: list[Tensor] = []
        for _ in range(budget.epochs):
            shuffled = sample[torch.randperm(budget.images, generator=generator)]
            steps += torch.split(shuffled[:n_used], budget.batch)
        return steps


def _image_losses(target: Task, out: Tensor, label: Tensor) -> Tensor:
    """(K, B) loss of each image, from a prediction and a packed label with leading axes (K, B)."""
    if target.kind == CLASS:
        return F.cross_entropy(out.flatten(0, 1), label.flatten(), reduction="none").view(label.shape)
    if target.kind == CLASS_MAP:
        # (K, B, 64, n 16) -> (rows, n, 16), with the classes in one dimension.
        logits = out.view(-1, target.outputs, BLOCK**2)
        losses = F.cross_entropy(logits, label.reshape(-1, BLOCK**2), reduction="none")
        return losses.view(*label.shape[:2], -1).mean(2)
    return (out - label).square().flatten(2).mean(2)


def _on_grid(output: Tensor) -> Tensor:
    side = output.shape[-2], output.shape[-1]
    if side == (GRID, GRID):
        return output
    if min(side) >= GRID:
        return F.adaptive_avg_pool2d(output, GRID)
    return F.interpolate(output, (GRID, GRID), mode="bilinear", align_corners=False)


def _unfolded(features: Tensor, basis: Tensor, shift: Tensor) -> Tensor:
    x = torch.einsum("kc,nchw->nkhw", basis, features - shift[:, None, None])
    steps = torch.linspace(-1, 1, GRID, device=x.device)
    coordinates = torch.stack([steps.expand(GRID, GRID), steps[:, None].expand(GRID, GRID)]).expand(len(x), -1, -1, -1)
    padded = F.pad(torch.cat([x, coordinates], dim=1), (1, 1, 1, 1), mode="replicate")
    return F.unfold(padded, 3).transpose(1, 2).contiguous()


def _by_input(targets: Sequence[str]) -> list[list[str]]:
    """Group targets whose input images are corrupted in the same way."""
    groups: dict[object, list[str]] = {}
    for name in targets:
        groups.setdefault(task(name).corrupt, []).append(name)
    return list(groups.values())


def _number(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("/".join(words).encode()).digest()[:8], "big") >> 1
