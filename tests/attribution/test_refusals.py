"""Models that can't be attributed are refused with a message that names the reason."""

import pytest
import torch
import torch.nn.functional as F
from attribution_nets import NETS, build, images
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from modelspace.attribution.engine import attribute, check_target
from modelspace.errors import EmbeddingError, NotFoundError, UsageError

ALL = ["saliency", "gradient_x_input", "epsilon_lrp"]


def refused(tap, x: Tensor, methods: list[str]) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(EmbeddingError) as caught:
        attribute(tap, x, methods)
    assert caught.value.hint
    return str(caught.value)


# --- nodes without a rule


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        return 2 * x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        return 2 * gradient


class Relu(Double):
    """Has the name of a node of torch."""


UNKNOWN = {
    "ProdBackward1 x 2": lambda t: t.prod(1) + t.prod(2)[:, :1],
    "CdistBackward0": lambda t: torch.cdist(t.flatten(2), t.flatten(2)),
    "DoubleBackward (an autograd.Function defined by the model)": Double.apply,
    "ReluBackward (an autograd.Function defined by the model)": Relu.apply,
    "RoundBackward0": lambda t: t + torch.round(t),
    "ThresholdBackward0": lambda t: F.threshold(t, 0.1, 7.0),
    "DivBackward2 (division with rounding)": lambda t: t + torch.div(t, 0.5, rounding_mode="floor"),
    "DivBackward0 (a constant divided by an activation)": lambda t: torch.ones_like(t) / (t * t + 1.0),
    "PowBackward1 (base and exponent both depend on the input)": lambda t: t.abs() ** (t * 0.1),
    "ClampBackward0 (more than one argument depends on the input)": lambda t: t.clamp(-t.abs() * 0.5, None),
    "VarMeanBackward0 (variance and mean are both features)": lambda t: torch.cat(torch.var_mean(t, 2), 1),
    "RreluWithNoiseBackward0 (rrelu in train mode)": lambda t: F.rrelu(t, training=True),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_node_without_a_rule_is_named(name: str) -> None:
    conv = build(lambda: nn.Conv2d(3, 4, 3))

    def tap(x: Tensor) -> Tensor:
        return UNKNOWN[name](conv(x)).flatten(1)

    message = refused(tap, images(2), ["epsilon_lrp"])
    assert f"LRP can't follow the model's graph: no rule for {name}\n" in message
    assert "gradient_x_input and saliency need no rules" in message
    if "RoundBackward" not in name:
        assert attribute(tap, images(2), ["gradient_x_input"]).maps.keys() == {"gradient_x_input"}


def test_several_unknown_nodes_are_all_named() -> None:
    message = refused(lambda x: torch.cat([x.prod(1), torch.lgamma(x.abs() + 1).sum(1)], 1), images(2), ["epsilon_lrp"])
    assert "no rule for LgammaBackward0, ProdBackward1\n" in message


def test_an_unknown_node_that_only_feeds_a_gate_does_not_matter() -> None:
    def tap(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x.prod(1, keepdim=True))

    maps = attribute(tap, images(2), ["epsilon_lrp"]).maps
    torch.testing.assert_close(maps["epsilon_lrp"], tap(images(2)))


def test_nothing_else_is_given_where_one_method_fails() -> None:
    refused(lambda x: x.prod(1), images(2), ALL)


def test_a_recurrent_kernel_is_named() -> None:
    lstm = nn.LSTM(24, 5, batch_first=True)
    message = refused(
        lambda x: lstm(x.flatten(1, 2).view(-1, 8, 24))[0], images(2, dtype=torch.float32), ["epsilon_lrp"]
    )
    assert "no rule for MkldnnRnnLayerBackward0" in message
    assert "tap a layer before the recurrent layer" in message


def test_a_scripted_model_is_refused_for_epsilon_lrp_only() -> None:
    net = torch.jit.trace(build(NETS["relu"]), images(2))
    message = refused(net, images(2), ["saliency", "epsilon_lrp"])
    assert message.startswith("LRP can't follow a scripted or traced model (TorchScript)")
    plain = attribute(build(NETS["relu"]), images(2), ["saliency"]).maps["saliency"]
    torch.testing.assert_close(attribute(net, images(2), ["saliency"]).maps["saliency"], plain)


@pytest.mark.parametrize("method", ["saliency", "epsilon_lrp"])
def test_a_checkpointed_block_that_reenters_is_refused(method: str) -> None:
    net = build(NETS["relu"])
    message = refused(lambda x: checkpoint(net, x, use_reentrant=True), images(2), [method])
    assert "CheckpointFunctionBackward" in message
    assert "set_grad_checkpointing(False) in timm" in message


def test_a_checkpointed_block_is_refused_for_epsilon_lrp_only() -> None:
    net, x = build(NETS["relu"]), images(2)

    def tap(t: Tensor) -> Tensor:
        return checkpoint(net, t, use_reentrant=False)

    message = refused(tap, x, ["epsilon_lrp"])
    assert message.startswith("LRP can't look into checkpointed blocks")
    assert "set_grad_checkpointing(False) in timm" in message
    torch.testing.assert_close(attribute(tap, x, ["saliency"]).maps, attribute(net, x, ["saliency"]).maps)


def test_a_compiled_node_is_named() -> None:
    # the node that torch.compile leaves, without the minute that compiling takes
    class CompiledFunction(Double):
        pass

    message = refused(CompiledFunction.apply, images(2), ["epsilon_lrp"])
    assert "no rule for CompiledFunctionBackward\n" in message
    assert "load the model without torch.compile" in message


# --- T


def test_outputs_without_a_gradient_are_refused() -> None:
    x = images(2)
    assert "of type int64, which has no gradient" in refused(lambda t: t.flatten(1).argmax(1), x, ALL)
    assert "of type bool, which has no gradient" in refused(lambda t: t > 0, x, ALL)
    assert "is a list, not a tensor" in refused(lambda t: [t], x, ALL)
    no_gradient = "the encoder output has no gradient with respect to the input"
    assert no_gradient in refused(lambda t: t.detach(), x, ALL)
    weight = torch.ones(2, 3, requires_grad=True)
    assert no_gradient in refused(lambda t: weight * 2, x, ALL)


def test_the_first_axis_must_be_the_batch() -> None:
    message = refused(lambda t: t.transpose(0, 1), images(2), ALL)
    assert "shape (3, 2, 8, 8) for 2 images: its first axis is not the batch" in message
    assert "shape () for 2 images" in refused(lambda t: t.sum(), images(2), ALL)
    assert "its shape is (2, 0)" in refused(lambda t: t.flatten(1)[:, :0], images(2), ALL)


def test_images_that_are_not_images_are_refused() -> None:
    for x, shown in (
        (images(2).half(), "(2, 3, 8, 8) float16"),
        (torch.zeros(2, 3, dtype=torch.int64), "(2, 3) int64"),
    ):
        assert f"the input is {shown}, not a batch of float32 or float64 images" in refused(lambda t: t, x, ALL)
    assert "the input is (0, 3, 8, 8) float64" in refused(lambda t: t, images(2)[:0], ALL)


def test_a_failing_forward_pass_is_one_sentence() -> None:
    message = refused(nn.Conv2d(4, 2, 3).double(), images(2), ALL)
    assert message.startswith("the forward pass fails on an input of (2, 3, 8, 8) float64: ")
    assert "to have 4 channels" in message
    assert len(message.splitlines()) == 2


def test_a_failing_backward_pass_is_one_sentence() -> None:
    def tap(x: Tensor) -> Tensor:
        y = torch.sigmoid(x)
        z = y * 2
        y.add_(1)
        return z

    message = refused(tap, images(2), ALL)
    assert message.startswith("the backward pass fails: one of the variables needed for gradient computation")
    assert len(message.splitlines()) == 2


# --- values


def test_values_that_are_not_numbers_are_refused_with_their_images() -> None:
    x = images(4)
    x[1, 0, 0, 0] = float("nan")
    assert "the encoder output is not finite for image 1 of the batch (counted from 0)" in refused(
        lambda t: t * t, x, ALL
    )
    y = images(3).abs()
    y[0, 0, 0, 0] = y[2, 1, 1, 1] = 0.0
    message = refused(lambda t: t.sqrt(), y, ["saliency"])
    assert "the gradient of the encoder output is not finite for images 0, 2 of the batch" in message
    assert "check the weights and the preprocessing" in message


def test_zero_gradients_are_refused_with_their_images() -> None:
    x = images(3)
    x[2] = -x[2].abs()
    message = refused(F.relu, x, ["saliency"])
    assert "the gradient of the encoder output is zero everywhere for image 2 of the batch" in message
    assert "all 3 images of the batch" in refused(lambda t: F.relu(t - 100), images(3), ALL)
    x = images(2)
    x[0] = 0.0
    # a gradient, but no gradient*input
    assert "gradient_x_input is zero everywhere for image 0" in refused(lambda t: t * 2, x, ALL)
    assert attribute(lambda t: t * 2, x, ["saliency"]).maps["saliency"].min() == 2.0


def test_many_images_are_abridged() -> None:
    x = -images(12).abs()
    x[0] *= -1
    assert "for images 1, 2, 3, 4, 5, 6, 7, 8 ... of the batch" in refused(F.relu, x, ALL)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_very_small_and_very_large_values_are_fine(size: float) -> None:
    # their squares are zero and infinite in float32
    x = images(2, dtype=torch.float32)
    maps = attribute(lambda t: t * size, x, ALL).maps
    torch.testing.assert_close(maps["saliency"], torch.full_like(x, size))


def test_captums_maps_are_checked_too() -> None:
    assert "zero everywhere for all 2 images" in refused(lambda t: F.relu(t - 100), images(2), ["integrated_gradients"])


# --- check_target


def test_a_constant_sum_is_refused() -> None:
    class Uniform(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(192, 16), nn.LayerNorm(16)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.fc(x.flatten(1)))

    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        net, x = Uniform().to(dtype), images(2, dtype=dtype)
        with pytest.raises(EmbeddingError, match=r"the sum of the encoder output is constant.*\n.*NAME:in"):
            check_target(net, x)
        with torch.no_grad():
            net.norm.weight.uniform_(0.5, 1.5)
        check_target(net, x)


def test_a_softmax_is_a_constant_sum() -> None:
    with pytest.raises(EmbeddingError, match="the sum of the encoder output is constant"):
        check_target(lambda x: x.flatten(1).softmax(1), images(2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_not_called_constant(dtype: torch.dtype) -> None:
    """Its roundings are so coarse that every sum would be constant."""
    tap, name = (lambda x: x.flatten(1).square().to(dtype)), str(dtype).removeprefix("torch.")
    with pytest.raises(EmbeddingError, match=f"is computed in {name}.*\n.*`float32=True`"):
        check_target(tap, images(2))
    check_target(tap, images(2), constant=False)


def test_a_batch_that_mixes_is_refused() -> None:
    def tap(x: Tensor) -> Tensor:
        return F.gelu(F.batch_norm(x, None, None, training=True))

    with pytest.raises(EmbeddingError, match="depends on the other images of its batch"):
        check_target(tap, images(2))
    # two images and a first axis of two that is not the batch
    with pytest.raises(EmbeddingError, match="depends on the other images of its batch"):
        check_target(lambda x: (x[:, :2]).transpose(0, 1), images(2))


def test_a_dead_layer_is_refused() -> None:
    with pytest.raises(EmbeddingError, match="the gradient of the encoder output is zero everywhere"):
        check_target(lambda x: F.relu(x - 100), images(2))


@pytest.mark.first(8)
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("n", [1, 2])
def test_usable_targets_pass(name: str, n: int) -> None:
    net = build(NETS[name])
    check_target(net, images(n))
    check_target(net.float(), images(n, dtype=torch.float32))


# --- arguments


def test_wrong_arguments_are_refused() -> None:
    x = images(2)
    with pytest.raises(NotFoundError, match="no attribution method 'grad'"):
        attribute(F.gelu, x, ["grad"])
    with pytest.raises(UsageError, match="no attribution method given"):
        attribute(F.gelu, x, [])
    with pytest.raises(UsageError, match="parameters for epsilon_lrp, which is not among the methods"):
        attribute(F.gelu, x, ["saliency"], {"epsilon_lrp": {"epsilon": 0.1}})


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), KeyError(), ValueError("of no use")])
@pytest.mark.parametrize("backward", [False, True])
def test_whatever_a_model_raises_is_one_sentence(error: BaseException, backward: bool) -> None:
    """`sys.exit()` in a model would end the program with exit code 0, as if all were well."""

    class Raising(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
            if not backward:
                raise error
            return x.clone()

        @staticmethod
        def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
            raise error

    text = refused(lambda x: Raising.apply(x).flatten(1), images(2), ["saliency"])
    assert f"the {'backward' if backward else 'forward'} pass fails" in text
    if not isinstance(error, Exception):
        assert f"it raises {type(error).__name__}" in text
