"""A labelled data set of small pictures for tests, and a registry of models that can be tried on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from modelspace.workspace import ModelSpace

#: The address of networks in a file of the test: the test's folder is put in the place of FOLDER.
NETS = '''
import torch
from torch import nn


class Colour(nn.Module):
    """The mean of each channel: it tells the pictures apart by their colour."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x.mean(dim=(2, 3)) * self.scale


class Brightness(nn.Module):
    """The mean of all channels: it tells dark pictures from bright ones, and nothing of their colour."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 2.0))

    def forward(self, x):
        return x.mean(dim=(1, 2, 3))[:, None] * self.scale * torch.tensor([1.0, -1.0])


class Grid(nn.Module):
    """Pixels of a small grid, most of them noise."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1) * self.scale


class Breaking(nn.Module):
    """Fails on pictures that are nearly white, of which there are none among the probe images."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 4.0))

    def forward(self, x):
        if (x.mean(dim=(1, 2, 3)) > 0.9).any():
            raise RuntimeError("too bright")
        return x.mean(dim=2).flatten(1) * self.scale


def colour():
    return Colour()


def brightness():
    return Brightness()


def grid():
    return Grid()


def breaking():
    return Breaking()
'''

COLOURS = {"blue": (0, 0, 1), "green": (0, 1, 0), "red": (1, 0, 0)}


def pictures(folder: Path, per_class: int = 30, seed: int = 0, size: int = 12) -> Path:
    """A folder of noisy pictures in three colours of random brightness."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            tint = 90 * np.array(colour) * rng.uniform(0.5, 1.0)
            pixels = rng.integers(0, 120, size=(size, size, 3)) + tint
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def registry_of(folder: Path, names: tuple[str, ...] = ("brightness", "grid", "colour")) -> ModelSpace:
    """A registry with some of the networks above, in a space of kernels of 12 probe images."""
    (folder / "nets.py").write_text(NETS, "utf-8")
    space = ModelSpace.create(folder / "home", methods=["dds"], images=12, canvas=8)
    for name in names:
        space.add(
            f"python:{folder / 'nets.py'}:{name}",
            name=name,
            preprocessing={"input_size": 12, "mean": (0.0,) * 3, "std": (1.0,) * 3},
            task="nothing",
        )
    return space
