"""Nets shared by the tests of exported files, in the formats of exported models."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelspace.attribution.engine import attribute, check_target, frozen
from modelspace.encoder.layers import find_encoder_output
from modelspace.sources.file import metadata

STATED = {"input_size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}
METHODS = ("saliency", "gradient_x_input", "epsilon_lrp")


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        y += x
        return self.act(y)


class Residual(nn.Module):
    """A small residual net: in-place operations, a function, dropout, a classifier."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = self.blocks(x)
        return self.fc(self.drop(x.mean((2, 3))))


class Gated(nn.Module):
    """Squeeze and excitation with hard-swish, and a choice that depends on the input's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)
        self.act = nn.Hardswish()
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        if x.size(2) > 100:
            x = F.avg_pool2d(x, 2)
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = x * gate
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Attention(nn.Module):
    """One block of a vision transformer, attention written out."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)
        self.fc = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * (c // 2) ** -0.5).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, n, c))
        x = x + self.outer(F.gelu(self.inner(self.norm2(x))))
        return self.fc(x.mean(1))


class Dense(nn.Module):
    """Concatenation, average pooling, leaky ReLU, a 1 x 1 convolution as the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.norm = nn.GroupNorm(2, 12)
        self.head = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(F.leaky_relu(self.a(x), 0.2), 3, 2, 1)
        x = self.norm(torch.cat([x, torch.tanh(self.b(x))], 1))
        return self.head(x).mean((2, 3))


class Decoder(nn.Module):
    """An encoder-decoder: its output is an image."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, 2, 1)
        self.up = nn.ConvTranspose2d(6, 4, 4, 2, 1)
        self.end = nn.Conv2d(4, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.down(x))
        x = F.interpolate(torch.sigmoid(self.up(x)), scale_factor=2, mode="bilinear")
        return self.end(F.pad(x, (1, 1, 1, 1), mode="reflect"))


class Shuffled(nn.Module):
    """Channel shuffle by reshaping, a split, ReLU6, depthwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.depth = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(x))
        a, b = x.chunk(2, 1)
        x = torch.cat([a, F.relu6(self.depth(b))], 1)
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


NETS: dict[str, type[nn.Module]] = {
    "residual": Residual,
    "gated": Gated,
    "attention": Attention,
    "dense": Dense,
    "decoder": Decoder,
    "shuffled": Shuffled,
}


def make(name: str) -> nn.Module:
    """One of `NETS` with fixed weights and running statistics, in evaluation mode."""
    torch.manual_seed(0)
    module = NETS[name]()
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape) * 0.3)
    return module.eval()


def images(n: int = 3, side: int = 16) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def write(module: nn.Module, kind: str, path: Path, *, batch: int = 1, described: bool = True) -> Path:
    """Save as "export", "dynamic" (exported for any batch), "trace", "script" or "frozen"."""
    extra = metadata(STATED, task="shapes", data="drawn") if described else {}
    x = images(2 if kind == "dynamic" else batch)  # torch takes a batch of one for a constant
    if kind in ("export", "dynamic"):
        dynamic: Any = ({0: torch.export.Dim.DYNAMIC},) if kind == "dynamic" else None
        buffer = io.BytesIO()  # torch.export.save wants the name to end in .pt2
        torch.export.save(torch.export.export(module, (x,), dynamic_shapes=dynamic), buffer, extra_files=extra)
        path.write_bytes(buffer.getvalue())
        return path
    script = torch.jit.trace(module, x) if kind == "trace" else torch.jit.script(module)
    torch.jit.save(torch.jit.freeze(script) if kind == "frozen" else script, str(path), _extra_files=extra)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def maps(module: nn.Module, x: Tensor, layer: str | None = None) -> dict[str, Tensor]:
    """Maps of the default tap by all methods."""
    tap = find_encoder_output(module, x[:2], layer)
    with frozen(tap.module):
        check_target(tap, x[:2])
        result = attribute(tap, x, METHODS)
    return {**result.maps, "output": result.output}


def assert_same_maps(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Equal up to `tolerance` of the largest value."""
    for name, value in wanted.items():
        if name != "output" or found[name].shape == value.shape:
            error = float((found[name] - value).abs().max() / value.abs().max())
            assert error < tolerance, (name, error)


def footprint(module: nn.Module) -> dict[str, Any]:
    """The state of a module that a pass might change."""
    state = {name: (value.clone(), value.data_ptr()) for name, value in module.state_dict().items()}
    parts = [
        (name, part.training, sorted(vars(part)), len(part._forward_hooks)) for name, part in module.named_modules()
    ]
    return {
        "state": {name: (value.numpy().tobytes(), place) for name, (value, place) in state.items()},
        "addresses": {name: value.data_ptr() for name, value in module.state_dict().items()},
        "parts": parts,
        "requires_grad": [(name, p.requires_grad, p.grad is None) for name, p in module.named_parameters()],
    }
