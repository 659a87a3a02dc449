"""Training the zoo: rendered data, one network for one task, its score on rooms it has not seen.

Everything is a function of its arguments: the same job on the same device with the same number of threads gives the same
weights bit for bit, also when it was killed and continued. Nothing here prints.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modelspace.errors import ConflictError, ModelspaceError
from modelspace.lab.decoders import count_parameters, decoder, fresh, tapped
from modelspace.lab.patterns import Picture, draw_pictures
from modelspace.lab.tasks import CLASS_MAP, DENSE, Constant, Scaling, Task, task
from modelspace.worlds import yards
from modelspace.worlds.room_scenes import RENDERER_VERSION
from modelspace.worlds.rooms import Render, render, sample_scenes
from modelspace.worlds.yard_scenes import YARDS_VERSION
from modelspace.zoo.architectures import architecture

#: Worlds with depth, whose scenes have the labels of all twenty tasks; the others are flat.
SOLID_WORLDS = ("rooms", "yards")

#: Training and held-out rooms are scenes of this world, a seed that nobody picks for a probe set by chance ("zoo").
WORLD = 0x7A6F6F
#: The held-out rooms begin here; training rooms begin at 0.
HELD_OUT = 1_000_000

_SHARD = 250
_HALF_FIELDS = {"normals", "curvature"}  # kept as float16


@dataclass(frozen=True)
class Job:
    """One network to train.

    Attributes:
        name: of the network in the zoo.
        task: a name in `modelspace.lab.tasks.TASKS`.
        architecture: a name in `modelspace.zoo.architectures.ARCHITECTURES`.
        world: "rooms", "yards", or a name in `modelspace.lab.patterns.PAINTERS`.
        steps: optimiser steps.
        images: training scenes.
        batch: images per step.
        rate: highest learning rate.
        seed: of the weights and of the order of the images.
    """

    name: str
    task: str
    architecture: str = "taskonomy_encoder"
    world: str = "rooms"
    steps: int = 1600
    images: int = 8000
    batch: int = 32
    rate: float = 3e-3
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """What a checkpoint belongs to."""
        return {**asdict(self), "renderer": world_version(self.world)}

    def number(self, purpose: str) -> int:
        """A 63-bit seed for one purpose of this job."""
        words = f"{self.seed}/{self.name}/{purpose}".encode()
        return int.from_bytes(hashlib.sha256(words).digest()[:8], "big") >> 1


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Holds an exclusive lock on a file made for it; yields whether it was got. A killed holder lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file beside `path`, flushes it to the disk and puts it in its place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    write(beside)
    with open(beside, "rb+") as handle:
        os.fsync(handle.fileno())
    beside.chmod(0o644)
    os.replace(beside, path)


# ---- data


def world_version(world: str) -> int:
    """Version of the pictures of a world; the flat ones change with the rooms' renderer."""
    return YARDS_VERSION if world == "yards" else RENDERER_VERSION


def _shard_file(cache: Path, world: str, first: int, count: int, size: int) -> Path:
    return cache / world / f"v{world_version(world)}-w{WORLD}-{size}px-{first}-{count}.safetensors"


def _draw(world: str, first: int, count: int, size: int, device: str) -> Render | Picture:
    if world == "rooms":
        return render(sample_scenes(first, count, WORLD), size, device)
    if world == "yards":
        return yards.render(yards.sample_scenes(first, count, WORLD), size, device)
    return draw_pictures(world, first, count, WORLD, size)


def _write_shard(path: Path, world: str, first: int, count: int, size: int, device: str) -> None:
    r = _draw(world, first, count, size, device)
    tensors = {f.name: getattr(r, f.name).cpu().contiguous() for f in fields(r)}
    tensors["rgb"] = (tensors["rgb"] * 255 + 0.5).floor().to(torch.uint8)
    for name in _HALF_FIELDS & tensors.keys():
        tensors[name] = tensors[name].half()
    replace_file(path, lambda beside: save_file(tensors, str(beside)))


def _read_shard(path: Path, world: str) -> Render | Picture:
    tensors = load_file(str(path))
    tensors["rgb"] = tensors["rgb"].float() / 255
    for name in _HALF_FIELDS & tensors.keys():
        tensors[name] = tensors[name].float()
    return Render(**tensors) if world in SOLID_WORLDS else Picture(**tensors)


def rendered(
    cache: Path, first: int, count: int, size: int, device: str = "cpu", world: str = "rooms"
) -> Iterator[Render | Picture]:
    """Scenes first .. first + count - 1 in order, in parts, from the cache; renders what is missing.

    Several processes may prepare the same cache: each shard is made by one of them. Images are rounded to 8 bits.
    """
    spans = [(at, min(_SHARD, first + count - at)) for at in range(first, first + count, _SHARD)]
    files = [_shard_file(cache, world, at, n, size) for at, n in spans]
    wait = False
    while missing := [k for k, file in enumerate(files) if not file.exists()]:
        for k in missing:
            with locked(files[k].with_suffix(".lock"), wait=wait) as mine:
                if mine and not files[k].exists():
                    _write_shard(files[k], world, *spans[k], size, device)
        wait = True
    for file in files:
        yield _read_shard(file, world)


@dataclass(frozen=True)
class Data:
    """Images (N, 3, S, S) uint8 and one task's unscaled labels, on one device."""

    rgb: Tensor
    label: Tensor

    @classmethod
    def load(
        cls, cache: Path, wanted: Task, first: int, count: int, size: int, device: str = "cpu", world: str = "rooms"
    ) -> Data:
        images, labels = [], []
        for part in rendered(cache, first, count, size, device, world):
            images.append((part.rgb * 255).round().to(torch.uint8))
            labels.append(wanted.label(part))
        return cls(torch.cat(images).to(device), torch.cat(labels).to(device))

    def __len__(self) -> int:
        return len(self.rgb)

    def scaled(self, scaling: Scaling | None) -> Data:
        return self if scaling is None else replace(self, label=scaling.apply(self.label))


def network_input(wanted: Task, rgb: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 images to what the encoder is fed: corrupted as the task asks, then mean 0.5 and std 0.5 of 0..1."""
    x = rgb.float() / 255
    if wanted.corrupt is not None:
        x = wanted.corrupt(x, generator)
    return ((x - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)


# ---- one network


class Pair(nn.Module):
    """The network that is kept and the decoder that is thrown away; one that predicts by itself has none."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        wanted, plan = task(job.task), architecture(job.architecture)
        self.encoder = fresh(lambda: plan.build(wanted.outputs), job.number("encoder"))
        self.decoder: nn.Module = nn.Identity()
        if plan.predicts:
            return
        with torch.no_grad():
            self.encoder.eval()
            shape = self.encoder(torch.zeros(1, 3, plan.input_size, plan.input_size)).shape
            self.encoder.train()
        side = shape[-1] if len(shape) == 4 else 1
        self.decoder = fresh(lambda: decoder(wanted, shape[1], side, plan.input_size // 2), job.number("decoder"))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def _rate(job: Job, step: int) -> float:
    """Linear rise over the first tenth of the steps, then half a cosine down to 1% (Loshchilov and Hutter 2017)."""
    warm = max(1, job.steps // 10)
    if step < warm:
        return job.rate * (step + 1) / warm
    share = (step - warm) / max(1, job.steps - warm)
    return job.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def train(
    job: Job,
    data: Data,
    checkpoint: Path | None = None,
    every: int = 200,
    on_checkpoint: Callable[[int, float], None] | None = None,
) -> tuple[Pair, float]:
    """Trains a network on scaled data; continues from `checkpoint` if one of the same job is there.

    Args:
        job: what to train.
        data: images and scaled labels.
        checkpoint: file that is replaced every `every` steps; None keeps none.
        on_checkpoint: called with the step and the running loss after each.

    Returns:
        The network in eval mode and the seconds that all its steps took.

    Raises:
        ConflictError: the checkpoint is of another job.
        ModelspaceError: the loss is not a number any more.
    """
    wanted, device = task(job.task), data.rgb.device
    model = Pair(job).to(device).train()
    for part in model.parameters():
        if part.dim() == 4:
            part.data = part.data.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=job.rate, weight_decay=0.02)
    generator = torch.Generator().manual_seed(job.number("order"))
    begin, spent, running = 0, 0.0, 0.0
    if checkpoint is not None and checkpoint.exists():
        kept = torch.load(checkpoint, map_location=device, weights_only=True)
        if kept["job"] != job.identity():
            raise ConflictError(
                f"{checkpoint.name} is a checkpoint of another job",
                "delete it, or call with its steps, images and seed",
            )
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        generator.set_state(kept["generator"].cpu())
        begin, spent, running = kept["step"], kept["seconds"], kept["running"]
    started = time.perf_counter()
    total = torch.zeros((), device=device)
    for step in range(begin, job.steps):
        for group in optimiser.param_groups:
            group["lr"] = _rate(job, step)
        chosen = torch.randint(len(data), (job.batch,), generator=generator).to(device)
        predicted = model(network_input(wanted, data.rgb[chosen], generator))
        loss = wanted.loss(predicted, data.label[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.detach()
        if (step + 1) % every == 0:
            running, total = float(total) / every, torch.zeros((), device=device)
            if not math.isfinite(running):
                raise ModelspaceError(
                    f"the loss of {job.name} is not a number after {step + 1} steps", "lower the rate"
                )
            if checkpoint is not None:
                state = {
                    "job": job.identity(),
                    "step": step + 1,
                    "running": running,
                    "seconds": spent + time.perf_counter() - started,
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "generator": generator.get_state(),
                }
                replace_file(checkpoint, lambda beside, state=state: torch.save(state, beside))  # type: ignore[misc]
            if on_checkpoint is not None:
                on_checkpoint(step + 1, running)
    return model.eval(), spent + time.perf_counter() - started


# ---- scores


@torch.no_grad()
def apply(wanted: Task, module: nn.Module, rgb: Tensor, batch: int = 100, layer: str = "output") -> Tensor:
    """`module`'s `layer` on all images, corrupted with noise that depends on nothing but their number."""
    generator = torch.Generator().manual_seed(5)
    return torch.cat([tapped(module, layer, network_input(wanted, part, generator)) for part in rgb.split(batch)])


def _grid(wanted: Task, label: Tensor, side: int) -> Tensor:
    """Labels as a table (rows, values) float64: one row per cell of a side x side grid, or per image."""
    if wanted.classifies:
        label = F.one_hot(label, wanted.outputs).movedim(-1, 1).float()
    if wanted.kind in (DENSE, CLASS_MAP):
        label = F.adaptive_avg_pool2d(label, side).movedim(1, -1).flatten(0, -2)
    return label.double()


def _features(wanted: Task, output: Tensor) -> Tensor:
    """Encoder output as a table with the rows of `_grid`: 3 x 3 cells around each cell, or 2 x 2 means per image."""
    if output.dim() == 4 and wanted.kind in (DENSE, CLASS_MAP):
        side = output.shape[-1]
        wide = F.pad(output, (1, 1, 1, 1), mode="replicate")
        near = [wide[..., i : i + side, j : j + side] for i in range(3) for j in range(3)]
        return torch.cat(near, 1).movedim(1, -1).flatten(0, -2).double()
    if output.dim() == 4:
        output = F.adaptive_avg_pool2d(output, 2)
    return output.flatten(1).double()


def readout(wanted: Task, output: Tensor, label: Tensor, ridge: float = 30.0) -> float:
    """How much of the label a linear map of the encoder's output misses: squared error over that of the mean.

    A ridge regression on standardised features, fitted on the first two thirds of the images and judged on the rest.
    It needs no decoder, so it can be measured again from the shipped weights alone.

    Args:
        output: (N, C, h, w) or (N, C) of the encoder.
        label: N scaled labels.
    """
    cut = len(output) * 2 // 3
    side = output.shape[-1] if output.dim() == 4 else 1
    x, y = (_features(wanted, part) for part in (output[:cut], output[cut:]))
    a, b = (_grid(wanted, part, side) for part in (label[:cut], label[cut:]))
    mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
    x, y, middle = (x - mean) / std, (y - mean) / std, a.mean(0)
    weights = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype), x.T @ (a - middle))
    return float(((b - middle - y @ weights) ** 2).sum() / ((b - middle) ** 2).sum())


def scores(wanted: Task, layer: str, model: Pair, held_out: Data, constant: Constant) -> dict[str, Any]:
    """Loss and the constant predictor's, their ratio, the accuracies of classes, and the readout on 300 images."""
    predicted = apply(wanted, model, held_out.rgb)
    loss, plain = float(wanted.loss(predicted, held_out.label)), constant.loss(wanted, held_out.label)
    out: dict[str, Any] = {"loss": loss, "constant_loss": plain, "ratio": loss / plain}
    if wanted.classifies:
        out["accuracy"] = float((predicted.argmax(1) == held_out.label).double().mean())
        out["constant_accuracy"] = constant.accuracy(held_out.label)
    few = Data(held_out.rgb[:300].cpu(), held_out.label[:300].cpu())
    out["readout"] = readout(wanted, apply(wanted, model.encoder.cpu(), few.rgb, layer=layer), few.label)
    return out


# ---- the zoo's files


def save_weights(path: Path, encoder: nn.Module) -> tuple[str, int]:
    """Writes an encoder's tensors; returns the file's SHA-256 and its bytes."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    replace_file(path, lambda beside: save_file(tensors, str(beside)))
    content = path.read_bytes()
    return hashlib.sha256(content).hexdigest(), len(content)


def save_entry(folder: Path, name: str, entry: dict[str, Any]) -> None:
    """Puts one entry into the zoo.json of a folder, leaving the others as they are."""
    with locked(folder / ".zoo.lock"):
        path = folder / "zoo.json"
        table = json.loads(path.read_text()) if path.exists() else {}
        table[name] = entry
        text = json.dumps(table, indent=1, sort_keys=True) + "\n"
        replace_file(path, lambda beside: beside.write_text(text))


def run(
    job: Job,
    cache: Path,
    out: Path,
    device: str = "cpu",
    held_out: int = 1000,
    every: int = 200,
    on_checkpoint: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Renders, trains, scores and ships one network; returns its entry in zoo.json.

    Args:
        job: what to train.
        cache: folder for rendered images and checkpoints.
        out: folder that gets zoo.json and weights/NAME.safetensors.
        device: "cpu" or "cuda".
        held_out: number of scenes for the scores.
        every: steps between checkpoints.
        on_checkpoint: as for `train`.
    """
    wanted, plan = task(job.task), architecture(job.architecture)
    data = Data.load(cache, wanted, 0, job.images, plan.input_size, device, job.world)
    unseen = Data.load(cache, wanted, HELD_OUT, held_out, plan.input_size, device, job.world)
    scaling = None if wanted.classifies else Scaling.measure(data.label)
    constant = Constant.fit(wanted, data.label)
    model, seconds = train(
        job, data.scaled(scaling), cache / "checkpoints" / f"{job.name}.pt", every, on_checkpoint
    )  # fmt: skip
    entry: dict[str, Any] = {
        **scores(wanted, plan.layer, model, unseen.scaled(scaling), constant),
        "task": job.task,
        "group": wanted.group,
        "architecture": job.architecture,
        "input_size": plan.input_size,
        "layer": plan.layer,
        "outputs": wanted.outputs,
        "parameters": count_parameters(model.encoder),
        "steps": job.steps,
        "images": job.images,
        "batch": job.batch,
        "seed": job.seed,
        "seconds": round(seconds, 1),
        "held_out": held_out,
        "renderer": world_version(job.world),
        "world": job.world,
        "data": f"rendered {job.world}, version {world_version(job.world)}, seed {WORLD}, images 0 to {job.images - 1}",
        "licence": "Apache-2.0",
    }
    if scaling is not None:
        entry["label_mean"], entry["label_std"] = scaling.mean.tolist(), scaling.std.tolist()
    entry["sha256"], entry["bytes"] = save_weights(out / "weights" / f"{job.name}.safetensors", model.encoder)
    save_entry(out, job.name, entry)
    return entry
