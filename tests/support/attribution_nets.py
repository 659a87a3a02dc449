"""Small networks for the attribution tests: one for each way to write a forward pass.

Each takes (B, 3, 8, 8) and gives (B, ...). `build` seeds, fills batch-norm statistics and biases with other values than
0 and 1, and returns the net in float64 and eval mode.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Act(nn.Module):
    """Convolution, an activation given as a function, mean, linear map."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.fc, self.f = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5), f

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.f(self.conv(x)).mean((2, 3)))


class Residual(nn.Module):
    """ResNet block: skip connection, batch norm, in-place ReLU, max pool, a ReLU module used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn0 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.a, self.bn1 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.b, self.bn2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu, self.pool, self.fc = nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.bn0(self.stem(x))))
        y = self.bn2(self.b(self.relu(self.bn1(self.a(x)))))
        y += x
        return self.fc(self.relu(y).mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self, gate: Callable[[Tensor], Tensor] = torch.sigmoid) -> None:
        super().__init__()
        self.conv, self.down, self.up = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv(x))
        s = self.gate(self.up(F.silu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return (x * s).flatten(1)


class Attention(nn.Module):
    """Vision transformer block with class token and position embedding. kind: mha, sdpa, softmax, einsum, heads."""

    def __init__(self, kind: str = "sdpa", dim: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.kind, self.heads = kind, heads
        self.patch, self.cls = nn.Conv2d(3, dim, 4, 4), nn.Parameter(torch.randn(1, 1, dim))
        self.pos = nn.Parameter(torch.randn(1, 5, dim))
        self.n1, self.n2, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj, self.mix = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.Linear(heads, heads)
        self.mha = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.fc1, self.fc2, self.head = nn.Linear(dim, 16), nn.Linear(16, dim), nn.Linear(dim, 5)

    def attend(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        if self.kind == "mha":
            return self.mha(x, x, x)[0]
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scale = q.shape[-1] ** -0.5
        if self.kind == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v)
        elif self.kind == "einsum":
            y = torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q * scale, k).softmax(-1), v)
        else:
            w = (q * scale @ k.transpose(-2, -1)).softmax(-1)
            if self.kind == "heads":
                w = self.mix(w.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            y = w @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, d))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
        x = x + self.attend(self.n1(x))
        x = x + self.fc2(F.gelu(self.fc1(self.n2(x))))
        return self.head(self.norm(x)[:, 0])


class Normed(nn.Module):
    """A convolution, one normaliser, tanh, linear."""

    def __init__(self, norm: Callable[[Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.conv, self.fc, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5), norm
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.norm(self.conv(x))).mean((2, 3)))


class RootMeanSquare(nn.Module):
    """Written out, as in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6)


class ResponseNorm(nn.Module):
    """ConvNeXt V2's global response normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(p=2, dim=(2, 3), keepdim=True)
        return x + torch.addcmul(
            torch.full((4, 1, 1), 0.1).to(x),
            torch.full((4, 1, 1), 0.7).to(x),
            x * (size / (size.mean(1, keepdim=True) + 1e-6)),
        )


class Functional(nn.Module):
    """Functions, in-place functions, views changed in place, constants, indexing; the only modules are convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.register_buffer("shift", torch.randn(6, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.3  # the input itself
        x = F.leaky_relu(self.a(x), 0.1, inplace=True)
        y = self.b(x)
        y.view(len(y), 6, 64).relu_()
        y = y.clone()  # autograd keeps a ReLU's result, which must not change
        y[:, 1] *= 2.0
        y[:, 2] = y[:, 3].sigmoid()
        y[:, :2].add_(x[:, :2]).clamp_(-1.0, 3.0)
        z = torch.zeros_like(y)
        z[:, ::2] = F.elu_(y[:, ::2] + 0.1)
        z = 1.0 - torch.where(z > 0.2, z, self.shift)
        return F.avg_pool2d(F.pad(z, (1, 1, 1, 1), mode="circular"), 2).flatten(1)[:, ::3][
            :, torch.tensor([0, 3, 5, 20, 33, 44])
        ]


class ViewRelu(nn.Module):
    """The start of a generator: a linear map, a view, and a ReLU in place on the view."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(192, 32),
            nn.Unflatten(1, (8, 2, 2)),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(8, 2, 2, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Reused(nn.Module):
    """One convolution and one activation called in a loop, with dense concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.act = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        steps = [self.stem(x)]
        for _ in range(3):
            steps.append(self.act(self.conv(steps[-1].clone())))
        return torch.cat(steps, 1).mean((2, 3))


class Decoder(nn.Module):
    """Strides, instance norm, up-sampling, pixel shuffle, transposed convolution; output an image."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.InstanceNorm2d(8, affine=True)
        self.shuffle, self.up = nn.PixelShuffle(2), nn.ConvTranspose2d(2, 2, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.elu(self.norm(self.down(x)))
        return self.up(self.shuffle(y)) + F.interpolate(y[:, :2], scale_factor=4, mode="bilinear")


class Gated(nn.Module):
    """Gated linear unit, a gated recurrent cell over rows, products of two plain branches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cell, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.LSTMCell(32, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.glu(self.conv(x), 1)
        y = y * y.roll(1, 1) + y * y
        h = c = y.new_zeros(len(y), 6)
        for row in y.permute(2, 0, 1, 3).flatten(2):
            h, c = self.cell(row, (h, c))
        return self.fc(h)


class Fourier(nn.Module):
    """Global filter: a product with complex weights in the frequency domain; then the spectrum's magnitude."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8, 5, 2))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x, norm="ortho") * torch.view_as_complex(self.weight)
        y = F.gelu(torch.fft.irfft2(spectrum, s=(8, 8), norm="ortho"))
        return torch.cat([y.flatten(1), torch.fft.rfft2(y).abs().flatten(1)], 1)


class Pools(nn.Module):
    """Every pooling, and statistics used as features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.p = nn.Conv2d(3, 6, 3, padding=1), nn.Parameter(torch.tensor([3.0]))

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.conv(x))
        power = F.avg_pool2d(x.clamp(min=1e-3).pow(self.p), 8).pow(1.0 / self.p)
        y = x.flatten(2)
        parts = [power.flatten(1), F.adaptive_max_pool2d(x, 2).flatten(1), F.adaptive_avg_pool2d(x, 3).flatten(1)]
        parts += [
            F.lp_pool2d(x + 2.0, 2.0, 4).flatten(1),
            y.std(2),
            y.var(2),
            y.norm(dim=2),
            y.amax(2),
            y.topk(2, 2)[0][..., 1],
        ]
        parts += [y.logsumexp(2), (y.softmax(2)).cumsum(2)[..., 3], torch.maximum(y[..., 0], y[..., 1]), y.median(2)[0]]
        return torch.cat(parts, 1)


class Dynamic(nn.Module):
    """Kernels and sampling positions that depend on the input, cosine similarity with prototypes, softmax routing."""

    def __init__(self) -> None:
        super().__init__()
        self.route, self.kernels = nn.Linear(3, 2), nn.Parameter(torch.randn(2, 4 * 3 * 9) * 0.3)
        self.theta, self.prototypes = nn.Linear(3, 6), nn.Parameter(torch.randn(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3))
        kernels = (self.route(pooled).softmax(1) @ self.kernels).view(-1, 3, 3, 3)
        y = F.conv2d(x.reshape(1, -1, 8, 8), kernels, padding=1, groups=len(x)).view(len(x), 4, 8, 8)
        theta = self.theta(pooled).view(-1, 2, 3) * 0.2 + torch.eye(2, 3).to(x)
        y = F.grid_sample(y, F.affine_grid(theta, [len(x), 4, 8, 8], align_corners=False), align_corners=False)
        return F.normalize(F.softplus(y).mean((2, 3))) @ F.normalize(self.prototypes).t()


class HandWritten(nn.Module):
    """Activations spelled out: GELU by erf and by tanh, swish, softsign, hard swish, softmax by exp."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d, e, f, g = self.conv(x).unbind(1)
        a = a * 0.5 * (1.0 + torch.erf(a / math.sqrt(2.0)))
        b = 0.5 * b * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (b + 0.044715 * b**3)))
        c, d, e = c * torch.sigmoid(c), d / (1.0 + d.abs()), e * F.relu6(e + 3.0) / 6.0
        weights = torch.exp(f) / torch.exp(f).sum((1, 2), keepdim=True)
        return torch.stack([a, b, c, d, e, weights * g], 1).flatten(1)


NETS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: Act(F.relu),
    "gelu": lambda: Act(F.gelu),
    "silu": lambda: Act(F.silu),
    "sigmoid": lambda: Act(torch.sigmoid),
    "softplus": lambda: Act(F.softplus),
    "prelu": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.Flatten()),
    "residual": Residual,
    "squeeze_excite": SqueezeExcite,
    "hard_gate": lambda: SqueezeExcite(F.hardsigmoid),
    "attention_sdpa": lambda: Attention("sdpa"),
    "attention_mha": lambda: Attention("mha"),
    "attention_softmax": lambda: Attention("softmax"),
    "attention_einsum": lambda: Attention("einsum"),
    "attention_talking_heads": lambda: Attention("heads"),
    "layer_norm": lambda: Normed(nn.LayerNorm([4, 8, 8])),
    "group_norm": lambda: Normed(nn.GroupNorm(2, 4)),
    "instance_norm": lambda: Normed(nn.InstanceNorm2d(4, affine=True)),
    "rms_norm": lambda: Normed(RootMeanSquare()),
    "rms_norm_module": lambda: Normed(nn.RMSNorm([8, 8])),
    "local_response_norm": lambda: Normed(nn.LocalResponseNorm(2)),
    "global_response_norm": lambda: Normed(ResponseNorm()),
    "functional": Functional,
    "view_relu": ViewRelu,
    "reused": Reused,
    "decoder": Decoder,
    "gated": Gated,
    "fourier": Fourier,
    "pools": Pools,
    "dynamic": Dynamic,
    "hand_written": HandWritten,
}


def build(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = make().double().eval()
    with torch.no_grad():
        for name, value in net.named_buffers():
            if name.endswith("running_mean"):
                value.normal_()
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
        for value in net.parameters():
            if value.dim() == 1:
                value.add_(0.3 * torch.randn_like(value))
    return net


def images(n: int = 2, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
