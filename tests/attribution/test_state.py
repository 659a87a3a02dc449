"""The model is returned bit for bit unchanged, whatever the caller's modes and input."""

import contextlib
import copy
import gc
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from attribution_nets import NETS, build, images
from torch import Tensor, nn

from modelspace.attribution import engine
from modelspace.attribution.engine import attribute, check_target, frozen
from modelspace.attribution.ledger import ledger
from modelspace.attribution.state import is_frozen
from modelspace.encoder.layers import executed_layers, find_encoder_output
from modelspace.errors import EmbeddingError

ALL = ["saliency", "gradient_x_input", "epsilon_lrp", "integrated_gradients", "noise_tunnel"]
FEW = {"integrated_gradients": {"n_steps": 2}, "noise_tunnel": {"n_samples": 2}}


class Restless(nn.Module):
    """Writes to everything that a forward pass may write to, in any mode."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.act, self.fc, self.frozen = nn.ReLU(inplace=True), nn.Linear(4, 2), nn.Linear(2, 2)
        self.frozen.requires_grad_(False)
        self.bn.eval()  # a usual way to train: batch norm held still
        self.register_buffer("seen", torch.tensor([float("nan"), 1.0]))
        self.register_buffer("moved", torch.zeros(2))
        self.register_buffer("none", None)
        self.table = torch.arange(3.0)
        self.calls, self.fails, self.cache = 0, fails, None
        self.conv.weight.grad = torch.ones_like(self.conv.weight)
        self.conv.register_forward_hook(_noop)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.add_(1.0)
        self.seen.data[1] = 5.0
        self.moved = self.moved + 1.0
        self.table[0] += 1.0
        self.cache = x.mean()
        self.late = torch.ones(1)
        self.extra = nn.Linear(2, 2)
        self.conv.register_forward_hook(_noop)
        self.bn.train()
        self.drop.train(False)
        x = self.fc(self.act(self.bn(self.conv(x))).mean((2, 3)))
        if self.fails:
            raise ValueError("of no use")
        return self.frozen(x)


def _noop(*_: Any) -> None:
    return None


def snapshot(module: nn.Module) -> dict[str, Any]:
    """The observable state of a module, with tensors as bytes."""
    seen: dict[str, Any] = {}
    for name, part in module.named_modules():
        seen[f"{name} training"] = part.training
        seen[f"{name} names"] = list(part.__dict__)
        for table in ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks"):
            seen[f"{name} {table}"] = [(key, id(value)) for key, value in getattr(part, table).items()]
        for key, value in part.__dict__.items():
            if not isinstance(value, dict):
                seen[f"{name} {key}"] = (id(value), bits(value) if isinstance(value, Tensor) else None)
    for name, parameter in module.named_parameters():
        seen[f"parameter {name}"] = (bits(parameter), parameter.requires_grad, id(parameter.grad), bits(parameter.grad))
    for name, buffer in module.named_buffers():
        seen[f"buffer {name}"] = (bits(buffer), buffer.requires_grad)
    return seen


def bits(tensor: Tensor | None) -> bytes:
    return b"" if tensor is None else tensor.detach().contiguous().numpy().tobytes()


def test_the_snapshot_notices() -> None:
    # else the tests below could not fail
    net = Restless()
    before = snapshot(net)
    net(images(2, dtype=torch.float32))
    after = snapshot(net)
    changed = {key for key in after if after[key] != before.get(key)}
    for key in (" calls", " cache", " names", " _buffers", " _modules", " table", "conv _forward_hooks", "bn training"):
        assert key in changed, key
    assert {"drop training", "buffer seen", "buffer moved", "buffer bn.running_mean"} <= changed


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_the_model_comes_back_bit_for_bit(fails: bool, inside: bool) -> None:
    torch.manual_seed(0)
    net, x = Restless(fails).train(), images(2, dtype=torch.float32)
    before = snapshot(net)

    def everything() -> None:
        attribute(net, x, ALL, FEW)
        ledger(net, x)
        with pytest.raises(EmbeddingError, match="other images"):  # its batch norm is in train mode
            check_target(net, x)

    if inside:
        with frozen(net):
            assert not net.training
            assert not any(p.requires_grad for p in net.parameters())
            everything() if not fails else _raises(net, x)
            assert is_frozen(net)
            assert is_frozen(net.conv)
    elif fails:
        _raises(net, x)
    else:
        everything()
    assert not is_frozen(net)
    assert not is_frozen(net.conv)
    assert snapshot(net) == before


def _raises(net: nn.Module, x: Tensor) -> None:
    for method in ALL:
        with pytest.raises(EmbeddingError, match="of no use"):
            attribute(net, x, [method], {k: v for k, v in FEW.items() if k == method})
    with pytest.raises(EmbeddingError, match="of no use"):
        find_encoder_output(net, x)
    with pytest.raises(EmbeddingError, match="of no use"):
        executed_layers(net, x)


@pytest.mark.wide
def test_finding_layers_leaves_the_model_alone() -> None:
    net, x = Restless().train(), images(2, dtype=torch.float32)
    before = snapshot(net)
    executed_layers(net, x)
    for layer in (None, "conv", "fc:in", "output"):
        tap = find_encoder_output(net, x, layer)
        assert snapshot(net) == before
        attribute(tap, x, ["saliency", "epsilon_lrp"])
        assert snapshot(net) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_any_exception_restores(error: type[BaseException]) -> None:
    net = Restless().train()
    before = snapshot(net)

    def fail() -> None:
        with frozen(net):
            net(images(2, dtype=torch.float32))
            raise error

    with pytest.raises(error):
        fail()
    assert snapshot(net) == before


@pytest.mark.first(1)
@pytest.mark.parametrize("name", ["residual", "attention_mha", "functional", "reused"])
def test_no_hook_or_gradient_stays_on_usual_nets(name: str) -> None:
    net, x = build(NETS[name]).train(), images(2)
    before, original = snapshot(net), x.clone()
    attribute(net, x, ALL, FEW)
    assert snapshot(net) == before
    assert torch.equal(x, original)
    assert not x.requires_grad


def test_a_model_that_overwrites_its_weights_is_refused() -> None:
    class Decaying(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.weight.mul_(0.9)
            return super().forward(x.flatten(1))

    net = Decaying(192, 2)
    with pytest.raises(EmbeddingError, match="the model overwrites its own parameter weight in the forward pass"):
        attribute(net, images(2, dtype=torch.float32), ["saliency"])
    assert all(p.requires_grad for p in net.parameters())


def test_old_style_weight_norm_and_shared_parameters() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 3, 3)), nn.Flatten(), nn.Linear(108, 4, bias=False))
    net.append(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    net.extend([nn.Linear(4, 4), nn.Linear(4, 4)])
    net[5].weight = net[4].weight
    x = images(2, dtype=torch.float32)
    net(x)
    before = snapshot(net)
    attribute(net, x, ["saliency", "epsilon_lrp"])
    assert snapshot(net) == before


def test_the_graph_is_freed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks left on a node make a cycle through C++ that the garbage collector can't detect."""
    hooks: list[weakref.ref[Any]] = []
    saved: list[weakref.ref[Any]] = []

    def plan(*args: Any) -> Any:
        node_hooks = engine_plan(*args)
        hooks.extend(weakref.ref(hook) for _, hook in node_hooks)
        return node_hooks

    class Box:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor.detach()  # with its node it would make a cycle of its own
            saved.append(weakref.ref(self))

    engine_plan = engine.plan
    monkeypatch.setattr(engine, "plan", plan)
    net, x = build(NETS["residual"]), images(2)
    gc.disable()
    try:
        with torch.autograd.graph.saved_tensors_hooks(Box, lambda box: box.tensor):
            result = attribute(net, x, ["saliency", "epsilon_lrp"])
            assert len(hooks) > 2
            assert len(saved) > 10
            assert {ref() for ref in (*hooks, *saved)} == {None}
            with contextlib.suppress(EmbeddingError):
                attribute(lambda t: net(t).prod(1, keepdim=True), x, ["epsilon_lrp"])
            assert {ref() for ref in saved} == {None}
    finally:
        gc.enable()
    assert all(not value.requires_grad for value in (*result.maps.values(), result.output))


# --- the caller's modes


def test_the_callers_modes_make_no_difference() -> None:
    net, x = build(NETS["residual"]).float(), images(2, dtype=torch.float32)
    want = attribute(net, x, ALL, FEW)
    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with mode:
            # in inference mode this input is a tensor that can record no gradient
            got = attribute(net, x.clone(), ALL, FEW)
            check_target(net, x.clone())
            assert find_encoder_output(net, x.clone()).layer == "fc:in"
        for method in ALL:
            assert torch.equal(got.maps[method], want.maps[method]), (mode, method)
    assert torch.is_grad_enabled()
    with torch.inference_mode(), engine.ready(net, x) as source:
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert source.requires_grad


def test_an_input_that_records_gradients_gets_none() -> None:
    net, x = build(NETS["functional"]), images(2).requires_grad_()
    attribute(net, x, ["saliency"])
    assert x.grad is None
    assert x.is_leaf


def test_a_model_that_changes_its_input_in_place() -> None:
    x = images(2)
    maps = attribute(lambda t: t.mul_(2.0).add_(1.0).relu_(), x, ["gradient_x_input"]).maps
    torch.testing.assert_close(maps["gradient_x_input"], 2 * x * (2 * x + 1 > 0))


@pytest.mark.first(6)
@pytest.mark.parametrize("name", NETS)
def test_one_image_is_treated_as_in_a_batch(name: str) -> None:
    methods = ["saliency", "gradient_x_input", "epsilon_lrp"]
    net, x = build(NETS[name]), images(3)
    together = attribute(net, x, methods).maps
    for k in range(3):
        alone = attribute(net, x[k : k + 1], methods).maps
        for method in methods:
            torch.testing.assert_close(alone[method][0], together[method][k], rtol=1e-9, atol=1e-12)


class Levit(nn.Module):
    """Ends like LeViT's stem. norm: batch norm in eval mode, or instance norm."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3, padding=1), norm(6, affine=True), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        return F.gelu(self.fc(tokens)).flatten(1)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_batch_norm_of_one_image_before_a_transposition(norm: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own gradient is wrong here; see `align_batch_norm`."""
    net, x = build(lambda: Levit(norm)), images(2)
    together = attribute(net, x, ["saliency", "epsilon_lrp"]).maps
    alone = attribute(net, x[:1], ["saliency", "epsilon_lrp"]).maps
    for method in together:
        torch.testing.assert_close(alone[method][0], together[method][0], rtol=1e-9, atol=1e-12)
    # one step of Gauss-Legendre is the middle of the line, and a batch of one inside Captum
    steps = attribute(net, x, ["integrated_gradients"], {"integrated_gradients": {"n_steps": 1}}).maps
    middle = attribute(net, x / 2, ["gradient_x_input"]).maps
    torch.testing.assert_close(steps["integrated_gradients"], 2 * middle["gradient_x_input"], rtol=1e-9, atol=1e-12)
    attempts = attribute(net, x[:1], ["saliency"]).maps["saliency"][0]
    monkeypatch.setattr(engine, "align_batch_norm", lambda kinds: [])
    plain = attribute(net, x[:1], ["saliency"]).maps["saliency"][0]
    if torch.equal(plain, attempts):
        pytest.skip("this version of torch has the gradient right")
    assert float((plain - together["saliency"][0]).abs().max()) > 1e-3 * float(plain.abs().max())


def test_a_deep_copy_of_a_frozen_model_is_not_frozen() -> None:
    net = build(NETS["relu"])
    with frozen(net):
        assert not is_frozen(copy.deepcopy(net))


@pytest.mark.parametrize("count", [0, 1])
def test_an_expanded_constant_of_one_number_or_none_stays(count: int) -> None:
    """Its stride is 0, and torch counts it as contiguous all the same."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    net.register_buffer("scale", torch.tensor(2.0).expand(count))
    scale = net.scale
    with frozen(net):
        net(images(2, dtype=torch.float32))
    assert net.scale is scale
    assert scale.tolist() == [2.0] * count


def test_a_frozen_script_has_no_mode_to_restore() -> None:
    script = torch.jit.freeze(torch.jit.trace(nn.Sequential(nn.Linear(3, 2), nn.ReLU()).eval(), torch.rand(1, 3)))
    with frozen(script):
        assert script(torch.ones(1, 3)).shape == (1, 2)
    assert not hasattr(script, "training")


class Drifting(nn.Linear):
    """Changes its weights in ways that autograd does not count."""

    way = "add"

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "add":
            self.weight.data.add_(1e-7)
        else:
            self.weight.data = self.weight.data * (1 + 1e-6)
        return super().forward(x.flatten(1))


@pytest.mark.parametrize("way", ["add", "exchange"])
@pytest.mark.parametrize("copied", [False, True])
def test_writes_past_autograd_are_refused_and_put_back_where_copied(way: str, copied: bool) -> None:
    net = Drifting(192, 2)
    net.way = way
    before = net.weight.detach().clone()

    def run() -> None:
        with frozen(net, copied=copied):
            net(images(2, dtype=torch.float32))

    with pytest.raises(EmbeddingError, match="overwrites its own parameter weight") as raised:
        run()
    assert torch.equal(net.weight, before) is copied
    assert ("were put back" in raised.value.hint) is copied


def test_large_parameters_are_checked_but_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelspace.attribution.state.COPIED", 100)
    net = Drifting(192, 2)

    def run() -> None:
        with frozen(net, copied=True):
            net(images(2, dtype=torch.float32))

    with pytest.raises(EmbeddingError) as raised:
        run()
    assert raised.value.hint.startswith("reload it")
