"""Small networks that ship with the package: one per Taskonomy task, trained on rendered rooms, and more.

    >>> from modelspace import zoo
    >>> card = zoo.card("rgb2depth")
    >>> card.group, card.preprocessing.input_size
    ('3D', (64, 64))

Their names and cards are read from zoo.json; only `load` imports torch. The rooms are rendered by
`modelspace.worlds.rooms`. Tasks and training are in `modelspace.lab`, which is in a checkout but not in an installed
package.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspace.errors import DamagedError, NotFoundError
from modelspace.names import near_matches
from modelspace.types import Preprocessing

if TYPE_CHECKING:
    import torch

__all__ = ["ZooCard", "card", "load", "names"]

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class ZooCard:
    """Metadata of a network of the zoo.

    Attributes:
        name: in the zoo, as in "zoo:rgb2depth".
        task: that it was trained for, by Taskonomy's name (docs/lab-book/zoo.md).
        group: "2D", "3D", "geometric" or "semantic".
        architecture: a name in `modelspace.zoo.architectures.ARCHITECTURES`.
        outputs: number of channels, values or classes of the task.
        world: content of its training images: "rooms", "faces", "portraits", "crowds" or "patterns".
        data: the images of that world that it was trained on.
        preprocessing: of its input.
        layer: the tensor to explain, "output" or "MODULE:in" or "MODULE:out".
        score: on held-out scenes: accuracy for classes (higher is better), otherwise mean squared error of the
            scaled label (lower is better).
        constant_score: the same score for the best constant prediction.
        ratio: loss divided by the loss of the best constant prediction; below 1 is better than constant, for every
            task.
        score_name: "accuracy" or "mean squared error".
        sha256: of the weights file.
        licence: SPDX identifier.
        details: the whole entry in zoo.json.
    """

    name: str
    task: str
    group: str
    architecture: str
    outputs: int
    world: str
    data: str
    preprocessing: Preprocessing
    layer: str
    score: float
    constant_score: float
    ratio: float
    score_name: str
    sha256: str
    licence: str
    details: dict[str, Any]

    @property
    def weights(self) -> Path:
        return FOLDER / "weights" / f"{self.name}.safetensors"


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = json.loads((FOLDER / "zoo.json").read_text(encoding="utf-8"))
    return table


def names() -> list[str]:
    """Names of all networks, in alphabetical order."""
    return sorted(_table())


def card(name: str) -> ZooCard:
    """The card of a network.

    Raises:
        NotFoundError: there is no network of that name; the hint lists similar names.
    """
    entry = _table().get(name)
    if entry is None:
        matches = near_matches(name, names()) or names()
        raise NotFoundError(f"the zoo has no network {name!r}", f"similar names: {', '.join(matches)}")
    side = entry["input_size"]
    classes = "accuracy" in entry
    return ZooCard(
        name=name,
        task=entry["task"],
        group=entry["group"],
        architecture=entry["architecture"],
        outputs=entry["outputs"],
        world=entry["world"],
        data=entry["data"],
        preprocessing=Preprocessing((side, side), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        layer=entry["layer"],
        score=entry["accuracy"] if classes else entry["loss"],
        constant_score=entry["constant_accuracy"] if classes else entry["constant_loss"],
        ratio=entry["ratio"],
        score_name="accuracy" if classes else "mean squared error",
        sha256=entry["sha256"],
        licence=entry["licence"],
        details=dict(entry),
    )


def load(name: str) -> torch.nn.Module:
    """The network of that name, in eval mode on the CPU; input (B, 3, S, S), preprocessed as on its card.

    Raises:
        NotFoundError: there is no network of that name, or its weights file is missing.
        DamagedError: the weights file does not have the hash in zoo.json.
    """
    network = card(name)
    try:
        content = network.weights.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(
            f"the weights of {name} are missing", f"train them: python scripts/train_zoo.py --tasks {name}"
        ) from None
    if hashlib.sha256(content).hexdigest() != network.sha256:
        raise DamagedError(f"the weights of {name} do not have the hash in zoo.json", "reinstall modelspace")

    from safetensors.torch import load as tensors

    from modelspace.zoo.architectures import architecture

    module = architecture(network.architecture).build(network.outputs)
    module.load_state_dict(tensors(content))
    return module.eval().requires_grad_(True)
