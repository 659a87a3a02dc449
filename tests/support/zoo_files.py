"""A folder with small nets in a Python file and a manifest over them, for the tests of many models at once."""

from __future__ import annotations

from pathlib import Path

from tiny import space

from modelspace.workspace import ModelSpace

NETS = """
import os, pathlib, signal, time
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent


class Net(nn.Module):
    modelspace_preprocessing = {"input_size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}

    def __init__(self, seed):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.fc = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def counted(name, seed):
    with open(HERE / "loaded.txt", "a") as file:
        file.write(name + "\\n")
    return Net(seed)


def m0(): return counted("m0", 0)
def m1(): return counted("m1", 1)
def m2(): return counted("m2", 2)
def m3(): return counted("m3", 3)
def m4(): return counted("m4", 4)


def late():
    time.sleep(1.0)
    return counted("late", 5)


def broken():
    raise ValueError("no weights today")


def ends():
    os._exit(3)


def killed_once():
    if not (HERE / "killed").exists():
        (HERE / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return counted("killed_once", 6)


def hangs():
    (HERE / "hanging").touch()
    time.sleep(100)
"""


def write(folder: Path, *names: str) -> Path:
    """nets.py, and a manifest of these factories, each under its name."""
    (folder / "nets.py").write_text(NETS, "utf-8")
    text = "".join(f'[[model]]\nname = "{name}"\nuri = "python:nets.py:{name}"\n\n' for name in names)
    manifest = folder / "models.toml"
    manifest.write_text(text, "utf-8")
    return manifest


def home(folder: Path) -> ModelSpace:
    return space(folder / "home", methods=("gradient_x_input", "saliency"), images=4, canvas=4)


def loaded(folder: Path) -> list[str]:
    """The factories that were called, in order."""
    file = folder / "loaded.txt"
    return file.read_text("utf-8").split() if file.exists() else []
