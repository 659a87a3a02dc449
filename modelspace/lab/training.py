"""Training the zoo: rendered data, one network per task, scores on held-out rooms.

Everything is a function of its arguments: the same job on the same device with the same number of threads gives
bit-identical weights, also after it was killed and resumed. Nothing here prints.
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
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modelspace.deprecated import renamed
from modelspace.errors import ConflictError, ModelspaceError
from modelspace.lab.decoders import count_parameters, decoder, fresh, tapped
from modelspace.lab.patterns import FlatRender, render_flat
from modelspace.lab.tasks import CLASS_MAP, DENSE, Constant, Scaling, Task, task
from modelspace.worlds import WORLDS
from modelspace.worlds.raycast import Render
from modelspace.worlds.room_scenes import RENDERER_VERSION
from modelspace.zoo.architectures import architecture

#: Seed of the training and held-out rooms ("zoo" in ASCII), unlikely to be chosen for a probe set.
WORLD = 0x7A6F6F
#: Index of the first held-out room; training rooms start at 0.
HELD_OUT = 1_000_000

_SHARD = 250
_HALF_FIELDS = {"normals", "curvature"}  # stored as float16


@dataclass(frozen=True)
class Job:
    """One network to train.

    Attributes:
        name: of the network in the zoo.
        task: a name in `modelspace.lab.tasks.TASKS`.
        architecture: a name in `modelspace.zoo.architectures.ARCHITECTURES`.
        world: a name in `modelspace.worlds.WORLDS`, or a flat world: a name in `modelspace.lab.patterns.PAINTERS`.
        steps: optimiser steps.
        images: number of training scenes.
        batch: images per step.
        rate: peak learning rate.
        seed: of the weights and the order of the images.
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
        """What identifies the job of a checkpoint."""
        return {**asdict(self), "renderer": world_version(self.world)}

    def number(self, purpose: str) -> int:
        """A 63-bit seed for one purpose within this job."""
        text = f"{self.seed}/{self.name}/{purpose}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a lock file; yields whether it was acquired. It is released if the holder is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a file atomically, after writing the new one next to it and flushing it to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write(temporary)
    with open(temporary, "rb+") as handle:
        os.fsync(handle.fileno())
    temporary.chmod(0o644)
    os.replace(temporary, path)


# ---- data


def world_version(world: str) -> int:
    """Version of a world's renderer; flat worlds have that of rooms."""
    return WORLDS[world].version if world in WORLDS else RENDERER_VERSION


def _shard_file(cache: Path, world: str, first: int, count: int, size: int) -> Path:
    return cache / world / f"v{world_version(world)}-w{WORLD}-{size}px-{first}-{count}.safetensors"


def _render(world: str, first: int, count: int, size: int, device: str) -> Render | FlatRender:
    if world not in WORLDS:
        return render_flat(world, first, count, WORLD, size)
    renderer = WORLDS[world].load()
    scenes: Render = renderer.render(renderer.sample_scenes(first, count, WORLD), size, device)
    return scenes


def _write_shard(path: Path, world: str, first: int, count: int, size: int, device: str) -> None:
    r = _render(world, first, count, size, device)
    tensors = {f.name: getattr(r, f.name).cpu().contiguous() for f in fields(r)}
    tensors["rgb"] = (tensors["rgb"] * 255 + 0.5).floor().to(torch.uint8)
    for name in _HALF_FIELDS & tensors.keys():
        tensors[name] = tensors[name].half()
    replace_file(path, lambda temporary: save_file(tensors, str(temporary)))


def _read_shard(path: Path, world: str) -> Render | FlatRender:
    tensors = load_file(str(path))
    tensors["rgb"] = tensors["rgb"].float() / 255
    for name in _HALF_FIELDS & tensors.keys():
        tensors[name] = tensors[name].float()
    return Render(**tensors) if world in WORLDS else FlatRender(**tensors)


def rendered(
    cache: Path, first: int, count: int, size: int, device: str = "cpu", world: str = "rooms"
) -> Iterator[Render | FlatRender]:
    """Yield scenes first .. first + count - 1 in order, in shards, from the cache; missing ones are rendered.

    Several processes may fill the same cache: each shard is rendered by one of them. Images are rounded to 8 bits.
    """
    spans = [(start, min(_SHARD, first + count - start)) for start in range(first, first + count, _SHARD)]
    files = [_shard_file(cache, world, start, n, size) for start, n in spans]
    wait = False
    while missing := [k for k, file in enumerate(files) if not file.exists()]:
        for k in missing:
            with locked(files[k].with_suffix(".lock"), wait=wait) as acquired:
                if acquired and not files[k].exists():
                    _write_shard(files[k], world, *spans[k], size, device)
        wait = True
    for file in files:
        yield _read_shard(file, world)


@dataclass(frozen=True)
class Data:
    """Images (N, 3, S, S) uint8 and a task's unscaled labels, on one device."""

    rgb: Tensor
    label: Tensor

    @classmethod
    def load(
        cls, cache: Path, target: Task, first: int, count: int, size: int, device: str = "cpu", world: str = "rooms"
    ) -> Data:
        """Load scenes first .. first + count - 1 from the cache, or render them."""
        images, labels = [], []
        for part in rendered(cache, first, count, size, device, world):
            images.append((part.rgb * 255).round().to(torch.uint8))
            labels.append(target.label(part))
        return cls(torch.cat(images).to(device), torch.cat(labels).to(device))

    def __len__(self) -> int:
        return len(self.rgb)

    def scaled(self, scaling: Scaling | None) -> Data:
        """The data with scaled labels."""
        return self if scaling is None else replace(self, label=scaling.apply(self.label))


def network_input(target: Task, rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Encoder input from uint8 images: corrupted if the task asks for it, then normalised with mean and std 0.5."""
    x = rgb.float() / 255
    if target.corrupt is not None:
        x = target.corrupt(x, generator)
    return ((x - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)


# ---- one network


class EncoderDecoder(nn.Module):
    """The network that is shipped, and a decoder that is discarded; a network with its own head has no decoder."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        target, plan = task(job.task), architecture(job.architecture)
        self.encoder = fresh(lambda: plan.build(target.outputs), job.number("encoder"))
        self.decoder: nn.Module = nn.Identity()
        if plan.predicts:
            return
        with torch.no_grad():
            self.encoder.eval()
            shape = self.encoder(torch.zeros(1, 3, plan.input_size, plan.input_size)).shape
            self.encoder.train()
        side = shape[-1] if len(shape) == 4 else 1
        self.decoder = fresh(lambda: decoder(target, shape[1], side, plan.input_size // 2), job.number("decoder"))

    def forward(self, x: Tensor) -> Tensor:
        """The prediction for network inputs."""
        prediction: Tensor = self.decoder(self.encoder(x))
        return prediction


def _rate(job: Job, step: int) -> float:
    """Linear warm-up over a tenth of the steps, then cosine decay to 1% (Loshchilov and Hutter 2017)."""
    warm = max(1, job.steps // 10)
    if step < warm:
        return job.rate * (step + 1) / warm
    progress = (step - warm) / max(1, job.steps - warm)
    return job.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(
    job: Job,
    data: Data,
    checkpoint: Path | None = None,
    every: int = 200,
    on_checkpoint: Callable[[int, float], None] | None = None,
) -> tuple[EncoderDecoder, float]:
    """Train a network on scaled data; resumes from `checkpoint` if it exists.

    Args:
        job: what to train.
        data: images and scaled labels.
        checkpoint: file to write checkpoints to; None for no checkpoints.
        every: number of steps between checkpoints.
        on_checkpoint: called with the step and the running loss after each checkpoint.

    Returns:
        The network in eval mode, and the seconds that training took.

    Raises:
        ConflictError: the checkpoint belongs to another job.
        ModelspaceError: the loss is not finite.
    """
    target, device = task(job.task), data.rgb.device
    model = EncoderDecoder(job).to(device).train()
    for part in model.parameters():
        if part.dim() == 4:
            part.data = part.data.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=job.rate, weight_decay=0.02)
    generator = torch.Generator().manual_seed(job.number("order"))
    begin, previous_seconds, running = 0, 0.0, 0.0
    if checkpoint is not None and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state["job"] != job.identity():
            raise ConflictError(
                f"{checkpoint.name} is a checkpoint of another job",
                "delete it, or use the same steps, images and seed",
            )
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"].cpu())
        begin, previous_seconds, running = state["step"], state["seconds"], state["running"]
    started = time.perf_counter()
    total = torch.zeros((), device=device)
    for step in range(begin, job.steps):
        for group in optimiser.param_groups:
            group["lr"] = _rate(job, step)
        batch = torch.randint(len(data), (job.batch,), generator=generator).to(device)
        predicted = model(network_input(target, data.rgb[batch], generator))
        loss = target.loss(predicted, data.label[batch])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        optimiser.step()
        total += loss.detach()
        if (step + 1) % every == 0:
            running, total = float(total) / every, torch.zeros((), device=device)
            if not math.isfinite(running):
                raise ModelspaceError(
                    f"the loss of {job.name} is not finite after {step + 1} steps", "use a lower learning rate"
                )
            if checkpoint is not None:
                state = {
                    "job": job.identity(),
                    "step": step + 1,
                    "running": running,
                    "seconds": previous_seconds + time.perf_counter() - started,
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "generator": generator.get_state(),
                }
                replace_file(checkpoint, partial(torch.save, state))
            if on_checkpoint is not None:
                on_checkpoint(step + 1, running)
    return model.eval(), previous_seconds + time.perf_counter() - started


# ---- scores


@torch.no_grad()
def apply(target: Task, module: nn.Module, rgb: Tensor, batch: int = 100, layer: str = "output") -> Tensor:
    """`module`'s `layer` for all images, corrupted with noise that depends only on their number."""
    generator = torch.Generator().manual_seed(5)
    parts = torch.split(rgb, batch)
    return torch.cat([tapped(module, layer, network_input(target, part, generator)) for part in parts])


def _grid(target: Task, label: Tensor, side: int) -> Tensor:
    """Labels as a matrix (rows, values) float64: one row per cell of a side x side grid, or per image."""
    if target.classifies:
        label = F.one_hot(label, target.outputs).movedim(-1, 1).float()
    if target.kind in (DENSE, CLASS_MAP):
        label = F.adaptive_avg_pool2d(label, side).movedim(1, -1).flatten(0, -2)
    return label.double()


def _features(target: Task, output: Tensor) -> Tensor:
    """Encoder output with the rows of `_grid`: the 3 x 3 cells around each cell, or 2 x 2 means per image."""
    if output.dim() == 4 and target.kind in (DENSE, CLASS_MAP):
        side = output.shape[-1]
        padded = F.pad(output, (1, 1, 1, 1), mode="replicate")
        patches = [padded[..., i : i + side, j : j + side] for i in range(3) for j in range(3)]
        return torch.cat(patches, 1).movedim(1, -1).flatten(0, -2).double()
    if output.dim() == 4:
        output = F.adaptive_avg_pool2d(output, 2)
    return output.flatten(1).double()


def readout(target: Task, output: Tensor, label: Tensor, ridge: float = 30.0) -> float:
    """Error of a linear readout of the encoder's output: squared error relative to that of the mean, 1 - R².

    A ridge regression on standardised features, fitted on the first two thirds of the images and tested on the others.
    It needs no decoder, so it can be reproduced from the shipped weights.

    Args:
        target: the task.
        output: (N, C, h, w) or (N, C) of the encoder.
        label: N scaled labels.
        ridge: weight of the penalty.
    """
    cut = len(output) * 2 // 3
    side = output.shape[-1] if output.dim() == 4 else 1
    x, y = (_features(target, part) for part in (output[:cut], output[cut:]))
    a, b = (_grid(target, part, side) for part in (label[:cut], label[cut:]))
    mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
    x, y, y_mean = (x - mean) / std, (y - mean) / std, a.mean(0)
    weights = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype), x.T @ (a - y_mean))
    return float(((b - y_mean - y @ weights) ** 2).sum() / ((b - y_mean) ** 2).sum())


def scores(target: Task, layer: str, model: EncoderDecoder, held_out: Data, constant: Constant) -> dict[str, Any]:
    """Loss, the constant predictor's loss, their ratio, accuracies for classes, and the readout on 300 images."""
    predicted = apply(target, model, held_out.rgb)
    loss, constant_loss = float(target.loss(predicted, held_out.label)), constant.loss(target, held_out.label)
    out: dict[str, Any] = {"loss": loss, "constant_loss": constant_loss, "ratio": loss / constant_loss}
    if target.classifies:
        out["accuracy"] = float((predicted.argmax(1) == held_out.label).double().mean())
        out["constant_accuracy"] = constant.accuracy(held_out.label)
    subset = Data(held_out.rgb[:300].cpu(), held_out.label[:300].cpu())
    out["readout"] = readout(target, apply(target, model.encoder.cpu(), subset.rgb, layer=layer), subset.label)
    return out


# ---- the zoo's files


def save_weights(path: Path, encoder: nn.Module) -> tuple[str, int]:
    """Write an encoder's tensors; returns the file's SHA-256 and its size in bytes."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    replace_file(path, lambda temporary: save_file(tensors, str(temporary)))
    content = path.read_bytes()
    return hashlib.sha256(content).hexdigest(), len(content)


def save_entry(folder: Path, name: str, entry: dict[str, Any]) -> None:
    """Add or replace one entry in a folder's zoo.json."""
    with locked(folder / ".zoo.lock"):
        path = folder / "zoo.json"
        table = json.loads(path.read_text()) if path.exists() else {}
        table[name] = entry
        text = json.dumps(table, indent=1, sort_keys=True) + "\n"
        replace_file(path, lambda temporary: temporary.write_text(text))


def run(
    job: Job,
    cache: Path,
    out: Path,
    device: str = "cpu",
    held_out: int = 1000,
    every: int = 200,
    on_checkpoint: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Render the data, train and score a network, and write its files; returns its entry in zoo.json.

    Args:
        job: what to train.
        cache: folder for rendered images and checkpoints.
        out: folder for zoo.json and weights/NAME.safetensors.
        device: "cpu" or "cuda".
        held_out: number of held-out scenes.
        every: number of steps between checkpoints.
        on_checkpoint: as in `train`.
    """
    target, plan = task(job.task), architecture(job.architecture)
    data = Data.load(cache, target, 0, job.images, plan.input_size, device, job.world)
    test_data = Data.load(cache, target, HELD_OUT, held_out, plan.input_size, device, job.world)
    scaling = None if target.classifies else Scaling.measure(data.label)
    constant = Constant.fit(target, data.label)
    checkpoint = cache / "checkpoints" / f"{job.name}.pt"
    model, seconds = train(job, data.scaled(scaling), checkpoint, every, on_checkpoint)
    entry: dict[str, Any] = {
        **scores(target, plan.layer, model, test_data.scaled(scaling), constant),
        "task": job.task,
        "group": target.group,
        "architecture": job.architecture,
        "input_size": plan.input_size,
        "layer": plan.layer,
        "outputs": target.outputs,
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


__getattr__ = renamed(__name__, {"Pair": "EncoderDecoder"})
