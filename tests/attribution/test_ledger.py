"""The completeness ledger closes on every kind of net, and does not close if a rule is wrong."""

import pytest
import torch
import torch.nn.functional as F
from attribution_nets import NETS, Act, build, images
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modelspace.attribution import activations, products, rules
from modelspace.attribution.engine import attribute
from modelspace.attribution.ledger import ledger


@pytest.mark.first(11)
@pytest.mark.parametrize("name", NETS)
def test_the_ledger_closes(name: str) -> None:
    net, x = build(NETS[name]), images(2)
    book = ledger(net, x)
    assert book.residual < 1e-9
    with torch.no_grad():
        assert book.total == pytest.approx(float(net(x.clone()).sum()), rel=1e-12)
    relevance = float(attribute(net, x, ["epsilon_lrp"]).maps["epsilon_lrp"].sum())
    assert book.relevance == pytest.approx(relevance, rel=1e-8, abs=1e-12)
    assert book.residual == pytest.approx(
        abs(book.total - book.relevance - book.bias - book.offset - book.epsilon_leak)
        / max(map(abs, (book.total, book.relevance, book.bias, book.offset, book.epsilon_leak))),
        abs=1e-15,
    )


@pytest.mark.parametrize(("epsilon", "offset"), [(1e-4, "literal"), (1e-2, "secant"), (1.0, "literal")])
@pytest.mark.parametrize("name", ["relu", "sigmoid", "softplus", "residual", "attention_softmax", "pools"])
def test_the_ledger_closes_for_other_parameters(name: str, epsilon: float, offset: str) -> None:
    book = ledger(build(NETS[name]), images(2), epsilon, offset)
    assert book.residual < 1e-9
    if offset == "literal" and name != "pools":  # a softmax as a feature has its tangent's offset all the same
        assert book.offset == 0.0


@pytest.mark.parametrize("name", [name for name in NETS if name.startswith("attention")])
def test_the_ledger_closes_through_attention(name: str) -> None:
    net, x = build(NETS[name]), images(2)
    book = ledger(net, x, through_attention=True)
    assert book.residual < 1e-9
    relevance = float(attribute(net, x, ["attn_lrp"]).maps["attn_lrp"].sum())
    assert book.relevance == pytest.approx(relevance, rel=1e-8, abs=1e-12)


def test_the_shares_of_a_small_net_by_hand() -> None:
    # T = w · sigmoid(v · x + b) + c, one unit
    v, b, w, c, epsilon = 0.7, -0.4, 1.3, 0.25, 1e-2
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid(), nn.Conv2d(1, 1, 1)).double()
    with torch.no_grad():
        for layer, weight, bias in ((net[0], v, b), (net[2], w, c)):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    x = 2.0
    z = v * x + b
    y = 1.0 / (1.0 + float(torch.exp(torch.tensor(-z, dtype=torch.float64))))
    r = (y - 0.5) / (z + epsilon)
    book = ledger(net, torch.full((1, 1, 1, 1), x, dtype=torch.float64), epsilon)
    assert book.total == pytest.approx(w * y + c)
    assert book.relevance == pytest.approx(w * r * v * x)
    assert book.bias == pytest.approx(w * r * b + c)
    assert book.offset == pytest.approx(w * 0.5)
    assert book.epsilon_leak == pytest.approx(w * (y - 0.5 - r * z))


def test_a_constant_without_relevance_has_no_share() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.tensor(3.0) + 5 - 2.0 * torch.ones(3, 8, 8)

    book = ledger(Net(), images(2))
    assert book.bias == pytest.approx(2 * 192 * (5 - 2))
    assert book.relevance == pytest.approx(3 * float(images(2).sum()))


# --- that the ledger can fail


def test_a_nonlinearity_taken_for_linear_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(activations.ACTIVATIONS, "Silu")
    monkeypatch.setattr(rules, "LINEAR", rules.LINEAR | {"Silu"})
    assert ledger(build(NETS["silu"]), images(2)).residual > 1e-3


def test_a_product_counted_twice_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "LINEAR", rules.LINEAR | {"Mul"})
    assert ledger(build(NETS["squeeze_excite"]), images(2)).residual > 1e-3


def test_a_normaliser_with_a_wrong_factor_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    right = products.layer_norm
    monkeypatch.setitem(rules.NORMALISERS, "NativeLayerNorm", lambda node, gradient: 1.5 * right(node, gradient))
    assert ledger(build(NETS["layer_norm"]), images(2)).residual > 1e-3


def test_a_constant_that_is_not_added_is_a_residual() -> None:
    # the one thing that the ledger does not see, as its docstring says
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.pad(x, (1, 1), value=0.5)

    book = ledger(Net(), images(2))
    assert abs(book.total) * book.residual > 1.0


# --- nets put together at random


def _conv(width: int) -> nn.Module:
    return nn.Conv2d(width, width, 3, padding=1)


class _Skip(nn.Module):
    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Gate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class _Tokens(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mha = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        t = self.norm(x.flatten(2).transpose(1, 2))
        return x + self.mha(t, t, t, need_weights=False)[0].transpose(1, 2).view_as(x)


class _Function(nn.Module):
    def __init__(self, f) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x)


_PARTS = {
    "conv": _conv,
    "batch_norm": nn.BatchNorm2d,
    "group_norm": lambda width: nn.GroupNorm(2, width),
    "instance_norm": lambda width: nn.InstanceNorm2d(width, affine=True),
    "relu": lambda width: nn.ReLU(inplace=True),
    "gelu": lambda width: nn.GELU(),
    "silu": lambda width: nn.SiLU(),
    "tanh": lambda width: nn.Tanh(),
    "sigmoid": lambda width: nn.Sigmoid(),
    "softplus": lambda width: nn.Softplus(),
    "elu": lambda width: nn.ELU(inplace=True),
    "hardswish": lambda width: nn.Hardswish(),
    "skip": lambda width: _Skip(_conv(width), nn.BatchNorm2d(width), nn.ReLU()),
    "gate": _Gate,
    "tokens": _Tokens,
    "glu": lambda width: nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.GLU(1)),
    "square": lambda width: _Function(lambda t: t * t),
    "shift": lambda width: _Function(lambda t: 0.5 - t),
    "max_pool": lambda width: nn.MaxPool2d(3, 1, 1),
    "avg_pool": lambda width: nn.AvgPool2d(3, 1, 1),
    "normalise": lambda width: _Function(lambda t: F.normalize(t, dim=1)),
    "shuffle": lambda width: nn.ChannelShuffle(2),
    "clamp_view": lambda width: _Function(lambda t: t.clone().view(len(t), -1).clamp_(-1.0, 1.5).view_as(t)),
}


def _assemble(names: list[str]) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), *(_PARTS[name](4) for name in names), nn.Conv2d(4, 2, 1))


@pytest.mark.wide
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(_PARTS)), min_size=1, max_size=7), st.integers(0, 2**16))
def test_the_ledger_closes_on_random_nets(names: list[str], seed: int) -> None:
    net, x = build(lambda: _assemble(names), seed), images(2, seed)
    for through_attention in (False, True):
        assert ledger(net, x, through_attention=through_attention).residual < 1e-9


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(["conv", "batch_norm", "relu", "skip", "max_pool", "avg_pool", "shuffle"]), max_size=6),
    st.integers(0, 2**16),
)
def test_random_relu_nets_tend_to_gradient_input(names: list[str], seed: int) -> None:
    net = build(lambda: _assemble(["conv", *names]), seed)
    maps = attribute(
        net, images(2, seed), ["gradient_x_input", "epsilon_lrp"], {"epsilon_lrp": {"epsilon": 1e-12}}
    ).maps
    # a ReLU's output may itself be near 1e-12
    torch.testing.assert_close(maps["epsilon_lrp"], maps["gradient_x_input"], rtol=1e-5, atol=1e-7)


def test_every_activation_of_torch_closes() -> None:
    for name in (
        "ReLU6",
        "Hardtanh",
        "SELU",
        "CELU",
        "RReLU",
        "Softsign",
        "Tanhshrink",
        "Softshrink",
        "Hardshrink",
        "Mish",
    ):
        module = getattr(nn, name)()
        assert ledger(build(lambda module=module: Act(module)), images(2)).residual < 1e-9, name
