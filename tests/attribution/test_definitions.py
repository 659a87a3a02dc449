"""The maps against their definitions, written out in float64 without autograd or with the rules spelled out by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attribution_nets import NETS, Act, build, images
from scipy.special import erf
from torch import Tensor, nn

from modelspace.attribution.engine import attribute
from modelspace.attribution.ledger import ledger

EPSILON = 1e-4


def lrp(net: Callable[[Tensor], Tensor], x: Tensor, **parameters: float | str) -> Tensor:
    return attribute(net, x, ["epsilon_lrp"], {"epsilon_lrp": parameters}).maps["epsilon_lrp"]


# --- a perceptron, layer by layer in numpy (Ancona et al. 2018: the chain rule with g(x) = f(x) / x for f'(x))


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-z))


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[np.ndarray], np.ndarray]]] = {
    "relu": (F.relu, lambda z: np.maximum(z, 0.0)),
    "leaky_relu": (F.leaky_relu, lambda z: np.where(z > 0, z, 0.01 * z)),
    "relu6": (F.relu6, lambda z: np.clip(z, 0.0, 6.0)),
    "elu": (F.elu, lambda z: np.where(z > 0, z, np.expm1(z))),
    "gelu": (F.gelu, lambda z: z * 0.5 * (1.0 + erf(z / math.sqrt(2.0)))),
    "silu": (F.silu, lambda z: z * sigmoid(z)),
    "tanh": (torch.tanh, np.tanh),
    "sigmoid": (torch.sigmoid, sigmoid),
    "softplus": (F.softplus, lambda z: np.log1p(np.exp(z))),
    "exp": (torch.exp, np.exp),
}


@pytest.mark.parametrize("offset", ["secant", "literal"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_epsilon_lrp_of_a_perceptron(name: str, offset: str) -> None:
    f, f_numpy = ACTIVATIONS[name]
    rng = np.random.default_rng(0)
    w1, b1, w2, b2 = (0.4 * rng.normal(size=s) for s in ((20, 12), (20,), (16, 20), (16,)))
    w3 = rng.normal(size=(2, 16))
    x = rng.normal(size=(4, 12))

    def net(t: Tensor) -> Tensor:
        h = f(F.linear(t.flatten(1), torch.from_numpy(w1), torch.from_numpy(b1)))
        return F.linear(f(F.linear(h, torch.from_numpy(w2), torch.from_numpy(b2))), torch.from_numpy(w3))

    def slope(z: np.ndarray) -> np.ndarray:
        f0 = f_numpy(np.zeros(1))[0] if offset == "secant" else 0.0
        return (f_numpy(z) - f0) / (z + EPSILON * np.where(z >= 0, 1.0, -1.0))

    want = np.zeros_like(x)
    for k, row in enumerate(x):
        z1 = w1 @ row + b1
        z2 = w2 @ f_numpy(z1) + b2
        gradient = w3.sum(0) * slope(z2)
        want[k] = row * (w1.T @ ((w2.T @ gradient) * slope(z1)))
    got = lrp(net, torch.from_numpy(x).view(4, 3, 2, 2), epsilon=EPSILON, offset=offset)
    np.testing.assert_allclose(got.flatten(1).numpy(), want, rtol=1e-9, atol=1e-12)


# --- a convolution net with max pooling, by loops


def test_all_three_of_a_convolution_net_by_loops() -> None:
    torch.manual_seed(0)
    conv, fc = nn.Conv2d(2, 3, 3, padding=1, stride=1).double(), nn.Linear(12, 2).double()
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    maps = attribute(
        lambda t: fc(F.max_pool2d(F.relu(conv(t)), 2).flatten(1)), x, ["saliency", "gradient_x_input", "epsilon_lrp"]
    ).maps

    weight, bias, matrix = (p.detach().numpy() for p in (conv.weight, conv.bias, fc.weight))
    for image in range(2):
        padded = np.pad(x[image].numpy(), ((0, 0), (1, 1), (1, 1)))
        z = np.zeros((3, 4, 4))
        for o in range(3):
            for i in range(4):
                for j in range(4):
                    z[o, i, j] = bias[o] + np.sum(weight[o] * padded[:, i : i + 3, j : j + 3])
        y = np.maximum(z, 0.0)
        top = matrix.sum(0).reshape(3, 2, 2)
        plain, modified = np.zeros((2, 6, 6)), np.zeros((2, 6, 6))
        for o in range(3):
            for p in range(2):
                for q in range(2):
                    block = y[o, 2 * p : 2 * p + 2, 2 * q : 2 * q + 2]
                    di, dj = np.unravel_index(np.argmax(block), (2, 2))
                    i, j = 2 * p + di, 2 * q + dj
                    if z[o, i, j] > 0:
                        plain[:, i : i + 3, j : j + 3] += top[o, p, q] * weight[o]
                        modified[:, i : i + 3, j : j + 3] += (
                            top[o, p, q] * weight[o] * y[o, i, j] / (z[o, i, j] + EPSILON)
                        )
        plain, modified = plain[:, 1:5, 1:5], modified[:, 1:5, 1:5]
        np.testing.assert_allclose(maps["saliency"][image].numpy(), np.abs(plain), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(
            maps["gradient_x_input"][image].numpy(), x[image].numpy() * plain, rtol=1e-10, atol=1e-13
        )
        np.testing.assert_allclose(
            maps["epsilon_lrp"][image].numpy(), x[image].numpy() * modified, rtol=1e-10, atol=1e-13
        )


def test_the_plain_maps_are_finite_differences() -> None:
    net, x = build(NETS["attention_sdpa"]).requires_grad_(False), images(1)
    maps = attribute(net, x, ["saliency", "gradient_x_input"]).maps
    step = 1e-6
    for index in [(0, 0, 0, 0), (0, 1, 3, 4), (0, 2, 7, 7)]:
        shift = torch.zeros_like(x)
        shift[index] = step
        slope = float((net(x + shift).sum() - net(x - shift).sum()) / (2 * step))
        assert float(maps["gradient_x_input"][index]) == pytest.approx(float(x[index]) * slope, rel=1e-5, abs=1e-9)
        assert float(maps["saliency"][index]) == pytest.approx(abs(slope), rel=1e-5, abs=1e-9)


# --- products and normalisers: the net written a second time with every ratio, gate and 1/σ as an explicit constant


def fixed(z: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """f(z), but with the slope (f(z) − f(0)) / (z + ε sign z)."""
    sign = torch.where(z >= 0, 1.0, -1.0).to(z)
    slope = ((f(z) - f(torch.zeros_like(z))) / (z + EPSILON * sign)).detach()
    return slope * z + (f(z) - slope * z).detach()


def layer_norm(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    sigma = (z.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt().detach()
    return (z - z.mean(-1, keepdim=True)) / sigma * weight + bias


def signal_and_gate(weights: Tensor, v: Tensor) -> Tensor:
    return weights.detach() @ v


def halves(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, of whose gradient each factor gets half."""
    return (a.detach() @ b + a @ b.detach()) / 2


def attention_by_hand(
    net: nn.Module, x: Tensor, product: Callable[[Tensor, Tensor], Tensor] = signal_and_gate
) -> Tensor:
    b = len(x)
    x = net.patch(x).flatten(2).transpose(1, 2)
    x = torch.cat([net.cls.expand(b, -1, -1), x], 1) + net.pos
    z = layer_norm(x, net.n1.weight, net.n1.bias)
    q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in net.qkv(z).chunk(3, -1))
    weights = (halves(q, k.transpose(-2, -1)) / 2.0).softmax(-1)
    if net.kind == "heads":
        weights = net.mix(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    x = x + net.proj(product(weights, v).transpose(1, 2).reshape(b, 5, 8))
    x = x + net.fc2(fixed(net.fc1(layer_norm(x, net.n2.weight, net.n2.bias)), F.gelu))
    return net.head(layer_norm(x, net.norm.weight, net.norm.bias)[:, 0])


def squeeze_excite_by_hand(net: nn.Module, x: Tensor) -> Tensor:
    x = fixed(net.conv(x), F.silu)
    s = net.gate(net.up(F.silu(net.down(x.mean((2, 3), keepdim=True)))))
    return (x * s.detach()).flatten(1)


def normed(statistic: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda net, x: net.fc(fixed(statistic(net.norm, net.conv(x)), torch.tanh).mean((2, 3)))


def group_norm_by_hand(norm: nn.Module, z: Tensor) -> Tensor:
    groups = z.unflatten(1, (2, 2)).flatten(2)
    sigma = (groups.var(2, unbiased=False, keepdim=True) + norm.eps).sqrt().detach()
    y = ((groups - groups.mean(2, keepdim=True)) / sigma).view_as(z)
    return y * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def instance_norm_by_hand(norm: nn.Module, z: Tensor) -> Tensor:
    sigma = (z.var((2, 3), unbiased=False, keepdim=True) + norm.eps).sqrt().detach()
    y = (z - z.mean((2, 3), keepdim=True)) / sigma
    return y * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def gated_by_hand(net: nn.Module, x: Tensor) -> Tensor:
    a, b = net.conv(x).chunk(2, 1)
    y = a * torch.sigmoid(b).detach()
    rolled = y.roll(1, 1)
    y = 0.5 * (y * rolled.detach() + y.detach() * rolled) + y * y.detach()
    h = c = y.new_zeros(len(y), 6)
    for row in y.permute(2, 0, 1, 3).flatten(2):
        gates = F.linear(row, net.cell.weight_ih, net.cell.bias_ih) + F.linear(h, net.cell.weight_hh, net.cell.bias_hh)
        i, f, g, o = gates.chunk(4, 1)
        i, f, o = (t.sigmoid().detach() for t in (i, f, o))
        c = f * c + i * fixed(g, torch.tanh)
        h = o * fixed(c, torch.tanh)
    return net.fc(h)


def hand_written_by_hand(net: nn.Module, x: Tensor) -> Tensor:
    a, b, c, d, e, f, g = net.conv(x).unbind(1)

    # no epsilon: these are products in the net, so that their gate is the constant
    def ratio(z: Tensor, y: Tensor) -> Tensor:
        return z * (y / z).detach()

    parts = [ratio(a, F.gelu(a)), ratio(b, F.gelu(b, approximate="tanh")), ratio(c, F.silu(c))]
    parts += [ratio(d, F.softsign(d)), ratio(e, F.hardswish(e)), f.flatten(1).softmax(1).view_as(f).detach() * g]
    return torch.stack(parts, 1).flatten(1)


def dynamic_by_hand(net: nn.Module, x: Tensor) -> Tensor:
    pooled = x.mean((2, 3))
    kernels = (net.route(pooled).softmax(1) @ net.kernels).detach().view(-1, 4, 3, 3, 3)
    y = torch.stack([F.conv2d(image[None], kernel, padding=1)[0] for image, kernel in zip(x, kernels, strict=True)])
    theta = (net.theta(pooled).view(-1, 2, 3) * 0.2 + torch.eye(2, 3).to(x)).detach()
    y = F.grid_sample(y, F.affine_grid(theta, [len(x), 4, 8, 8], align_corners=False), align_corners=False)
    y = fixed(y, F.softplus).mean((2, 3))
    return (y / y.norm(dim=1, keepdim=True).detach()) @ F.normalize(net.prototypes).t()


BY_HAND: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "squeeze_excite": squeeze_excite_by_hand,
    "hard_gate": squeeze_excite_by_hand,
    "attention_sdpa": attention_by_hand,
    "attention_softmax": attention_by_hand,
    "attention_einsum": attention_by_hand,
    "attention_talking_heads": attention_by_hand,
    "layer_norm": normed(lambda n, z: layer_norm(z.flatten(1), n.weight.flatten(), n.bias.flatten()).view_as(z)),
    "group_norm": normed(group_norm_by_hand),
    "instance_norm": normed(instance_norm_by_hand),
    "rms_norm": normed(lambda n, z: n.weight * z * (z.pow(2).mean(1, keepdim=True) + 1e-6).rsqrt().detach()),
    "gated": gated_by_hand,
    "hand_written": hand_written_by_hand,
    "dynamic": dynamic_by_hand,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_products_and_normalisers_by_hand(name: str) -> None:
    net, x = build(NETS[name]).requires_grad_(False), images(3)
    leaf = x.clone().requires_grad_()
    output = BY_HAND[name](net, leaf)
    torch.testing.assert_close(output.detach(), net(x), rtol=1e-9, atol=1e-9)  # the same net, else nothing is shown
    want = x * torch.autograd.grad(output.sum(), leaf)[0]
    torch.testing.assert_close(lrp(net, x, epsilon=EPSILON), want, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", [name for name in BY_HAND if name.startswith("attention")])
def test_relevance_through_attention_by_hand(name: str) -> None:
    """Achtibat et al., AttnLRP, ICML 2024: half to each factor of a product, and softmax has its plain gradient."""
    net, x = build(NETS[name]).requires_grad_(False), images(3)
    leaf = x.clone().requires_grad_()
    output = attention_by_hand(net, leaf, halves)
    torch.testing.assert_close(output.detach(), net(x), rtol=1e-9, atol=1e-9)
    want = x * torch.autograd.grad(output.sum(), leaf)[0]
    maps = attribute(net, x, ["attn_lrp", "epsilon_lrp"], {"attn_lrp": {"epsilon": EPSILON}}).maps
    torch.testing.assert_close(maps["attn_lrp"], want, rtol=1e-8, atol=1e-11)
    assert float((maps["attn_lrp"] - maps["epsilon_lrp"]).norm() / maps["epsilon_lrp"].norm()) > 0.01


def test_without_attention_its_rules_change_nothing() -> None:
    net, x = build(NETS["squeeze_excite"]), images(2)
    maps = attribute(net, x, ["attn_lrp", "epsilon_lrp"]).maps
    assert torch.equal(maps["attn_lrp"], maps["epsilon_lrp"])


@pytest.mark.parametrize("live", ["q", "k", "v", "qk", "qv", "kv", "qkv"])
def test_relevance_through_fused_attention_by_hand(live: str) -> None:
    """Factors that do not depend on the input get nothing, and leave all to the others."""
    x = images(2).flatten(2)[:, None]  # (2, 1, 3, 64): one head, three tokens
    constant = torch.randn(2, 1, 3, 64, generator=torch.Generator().manual_seed(5)).double()

    def product(a: Tensor, b: Tensor) -> Tensor:
        return halves(a, b) if a.requires_grad and b.requires_grad else a @ b

    def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return product((product(q, k.transpose(-2, -1)) / 8.0).softmax(-1), v)

    def of(attention: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda t: attention(*(t if name in live else constant for name in "qkv"))

    leaf = x.clone().requires_grad_()
    want = x * torch.autograd.grad(of(by_hand)(leaf).sum(), leaf)[0]

    def net(t: Tensor) -> Tensor:
        return of(F.scaled_dot_product_attention)(t.view(2, 1, 3, 64)).flatten(1)

    image = x.view(2, 3, 8, 8)
    torch.testing.assert_close(attribute(net, image, ["attn_lrp"]).maps["attn_lrp"].view_as(x), want)
    assert ledger(net, image, through_attention=True).residual < 1e-9


def test_statistics_as_features_by_degree() -> None:
    # a norm is homogeneous of degree 1, a variance of degree 2; the tangent of a softmax is its gradient
    x = images(2)
    for f, degree in (
        (lambda t: t.flatten(2).norm(dim=2), 1),
        (lambda t: t.std((2, 3)), 1),
        (lambda t: t.var((2, 3)), 2),
        (lambda t: torch.var_mean(t, (2, 3))[0], 2),
        (lambda t: torch.var_mean(t, (2, 3))[1], 1),
        (lambda t: t.flatten(2).softmax(2)[..., :5], 1),
        (lambda t: t.flatten(2).log_softmax(2)[..., :5], 1),
        (lambda t: t.flatten(2).logsumexp(2), 1),
        (lambda t: t.amax((2, 3)), 1),
    ):
        maps = attribute(f, x, ["gradient_x_input", "epsilon_lrp"]).maps
        torch.testing.assert_close(maps["epsilon_lrp"], maps["gradient_x_input"] / degree)


# --- the paper's own oracle


@pytest.mark.parametrize("name", ["relu", "residual"])
def test_epsilon_lrp_tends_to_gradient_input_on_relu_nets(name: str) -> None:
    net, x = build(NETS[name]), images(2)
    plain = attribute(net, x, ["gradient_x_input"]).maps["gradient_x_input"]
    errors = [float((lrp(net, x, epsilon=e) - plain).norm() / plain.norm()) for e in (1e-2, 1e-4, 1e-6, 1e-12)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1e-4
    assert errors[-1] < 1e-8


def test_epsilon_lrp_is_not_gradient_input_elsewhere() -> None:
    net, x = build(NETS["silu"]), images(2)
    maps = attribute(net, x, ["gradient_x_input", "epsilon_lrp"]).maps
    assert float((maps["epsilon_lrp"] - maps["gradient_x_input"]).norm() / maps["gradient_x_input"].norm()) > 0.05


# --- one function written in several ways


IN_PLACE: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = [
    (F.relu, F.relu_),
    (F.leaky_relu, lambda t: F.leaky_relu(t, inplace=True)),
    (F.elu, F.elu_),
    (F.relu6, lambda t: F.relu6(t, inplace=True)),
    (F.hardswish, lambda t: F.hardswish(t, inplace=True)),
    (F.silu, nn.SiLU(inplace=True)),
    (torch.sigmoid, torch.sigmoid_),
    (torch.tanh, torch.tanh_),
    (lambda t: t.clamp(-1.0, 1.0), lambda t: t.clamp_(-1.0, 1.0)),
]


@pytest.mark.parametrize("index", range(len(IN_PLACE)))
def test_in_place_and_on_a_view_give_the_same_map(index: int) -> None:
    plain, in_place = IN_PLACE[index]
    x = images(2)

    def on_view(t: Tensor) -> Tensor:
        y = t.clone()
        in_place(y.view(len(y), 4, 64))
        return y

    want = lrp(build(lambda: Act(plain)), x)
    torch.testing.assert_close(lrp(build(lambda: Act(in_place)), x), want, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(lrp(build(lambda: Act(on_view)), x), want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_float32_agrees_with_float64(name: str) -> None:
    methods = ["saliency", "gradient_x_input", "epsilon_lrp"]
    net = build(NETS[name])
    wide = attribute(net, images(2), methods).maps
    narrow = attribute(net.float(), images(2, dtype=torch.float32), methods).maps
    for method in methods:
        assert narrow[method].dtype == torch.float32
        error = float((narrow[method].double() - wide[method]).norm() / wide[method].norm())
        assert error < 1e-3, method


def test_activations_far_below_epsilon_keep_their_digits() -> None:
    net, x = build(NETS["residual"]), images(2)
    with torch.no_grad():
        net.bn0.weight.mul_(1e-9)
        net.bn0.bias.mul_(1e-9)
        for layer in (net.a, net.bn1, net.b, net.bn2):
            layer.bias.mul_(1e-9)
        for layer in (net.bn1, net.bn2):
            layer.running_mean.mul_(1e-9)
    wide = lrp(net, x)
    narrow = lrp(net.float(), x.float())
    assert float(wide.abs().max()) < 1e-10
    assert float((narrow.double() - wide).norm() / wide.norm()) < 1e-4


def test_half_precision_inside_a_model() -> None:
    x = images(2, dtype=torch.float32)
    for f in (F.relu, F.silu):

        def tap(t: Tensor, f: Callable[[Tensor], Tensor] = f) -> Tensor:
            return f((t * 3.0).bfloat16()).float()

        want = lrp(lambda t, f=f: f(t * 3.0), x)
        assert float((lrp(tap, x) - want).norm() / want.norm()) < 0.01
