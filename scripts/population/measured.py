"""Measure how near quantised copies and fine-tunes of the zoo's encoders are to their originals.

    python scripts/population/measured.py

Writes scripts/population/measured.json: relation -> space -> affinities, in the spaces of the shipped registry. A
quantised copy has weights rounded to 8 or 4 bits per output channel. A fine-tune was trained on 512 rendered rooms for
another task, encoder and new decoder together, for 100 steps of AdamW at rates from 3e-5 to 1e-3.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

TOP = Path(__file__).resolve().parents[2]
sys.path.append(str(TOP / "scripts"))

from build_registry import make_spaces  # noqa: E402

from modelspace import zoo  # noqa: E402
from modelspace.lab import tasks, training  # noqa: E402
from modelspace.lab.decoders import decoder  # noqa: E402
from modelspace.registry import Registry  # noqa: E402

FILE = Path(__file__).with_name("measured.json")

#: Encoders with the tasks that they are fine-tuned on, and learning rates.
ENCODERS = {
    "rgb2depth": ("rgb2sfnorm", 1e-3),
    "reshade": ("segmentsemantic", 3e-4),
    "edge2d": ("rgb2depth", 1e-4),
    "autoencoder": ("edge3d", 3e-5),
    "class_1000": ("class_places", 1e-3),
    "segment2d": ("keypoint2d", 3e-4),
    "curvature": ("segment25d", 1e-4),
    "room_layout": ("vanishing_point", 3e-5),
}
IMAGES, BATCH, STEPS = 512, 32, 100


def rounded(module: torch.nn.Module, bits: int) -> torch.nn.Module:
    """A copy whose weight tensors are rounded to 2^bits - 1 levels per output channel."""
    out, most = copy.deepcopy(module), 2 ** (bits - 1) - 1
    with torch.no_grad():
        for weight in out.parameters():
            if weight.dim() > 1:
                step = weight.flatten(1).abs().amax(1).clamp_min(1e-12).view(-1, *[1] * (weight.dim() - 1)) / most
                weight.copy_((weight / step).round() * step)
    return out


def tuned(module: torch.nn.Module, name: str, rate: float, cache: Path) -> torch.nn.Module:
    """A copy that was trained for another task."""
    torch.manual_seed(0)
    target = tasks.task(name)
    data = training.Data.load(cache, target, 0, IMAGES, 64)
    out = copy.deepcopy(module).eval()
    with torch.no_grad():
        shape = out(torch.zeros(1, 3, 64, 64)).shape
    head = decoder(target, shape[1], shape[-1], 32)
    optimiser = torch.optim.AdamW([*out.parameters(), *head.parameters()], lr=rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        at = torch.randint(len(data), (BATCH,), generator=generator)
        x = training.network_input(target, data.rgb[at], generator)
        loss = target.loss(head(out(x)), data.label[at])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(out.parameters(), 1.0)
        optimiser.step()
    return out.requires_grad_(True).eval()


def relatives(name: str, cache: Path) -> Iterator[tuple[str, torch.nn.Module]]:
    """(relation, module) of each relative of a network of the zoo."""
    module = zoo.load(name)
    yield "quantised copy, 8 bits", rounded(module, 8)
    yield "quantised copy, 4 bits", rounded(module, 4)
    target, rate = ENCODERS[name]
    yield "fine-tune", tuned(module, target, rate, cache)


def measure() -> dict[str, dict[str, list[float]]]:
    """Affinities of relatives to their originals, by relation and space."""
    out: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        space = make_spaces(Path(folder) / "home")
        for name in ENCODERS:
            space.add(f"zoo:{name}", device="cpu")
            for number, (relation, module) in enumerate(relatives(name, Path(folder) / "cache")):
                preprocessing = zoo.card(name).preprocessing
                relative = space.add(
                    module, name=f"{name}-{number}", preprocessing=preprocessing, layer="output", device="cpu"
                ).card.name
                with Registry.open(space.path) as registry:
                    at = {row.card.name: row.model_id for row in registry.models()}
                    for row in registry.spaces():
                        ids, vectors = registry.vectors(row.spec.space_id)[:2]
                        order = ids.tolist()
                        pair = vectors[[order.index(at[name]), order.index(at[relative])]].astype(float)
                        values = out.setdefault(relation, {}).setdefault(row.spec.name, [])
                        values.append(round(float(pair[0] @ pair[1]), 6))
                print(name, relation, {space: values[-1] for space, values in out[relation].items()}, flush=True)
    return out


if __name__ == "__main__":
    FILE.write_text(json.dumps(measure(), indent=1) + "\n")
