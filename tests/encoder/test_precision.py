"""Constant, saturated and half-precision encoder outputs, distinguished by a pass in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from modelspace.attribution.state import frozen
from modelspace.embedding.checks import check_model, judge
from modelspace.encoder.layers import find_encoder_output
from modelspace.encoder.precision import HALF, Precision, Watch, half_inside, in_precision, measure
from modelspace.errors import EmbeddingError
from modelspace.types import Preprocessing
from modelspace.workspace import ModelSpace

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
PREPROCESSING = Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3)


class Deep(nn.Module):
    """Ten convolutions that compute in a given precision."""

    def __init__(self, inside: str = "float32") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside = inside
        parts: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU()]
        for _ in range(10):
            parts += [nn.Conv2d(32, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU()]
        self.body = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.inside == "float32":
            return self.fc(self.body(x))
        with torch.autocast("cpu", dtype=getattr(torch, self.inside)):
            return self.fc(self.body(x)).float()


class Recogniser(nn.Module):
    """A softmax over many classes at many positions: the sum of its output is the number of positions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 10)))
        self.head = nn.Linear(16, 5000)
        with torch.no_grad():
            self.head.bias[0] += 14.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.head(self.body(x).squeeze(2).transpose(1, 2)), dim=-1)


class Saturated(nn.Module):
    """A sigmoid so saturated that its slope in float32 is only rounding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.body(x) * 40, dim=-1).reshape(len(x), 8, 4, 4)


def measured(net: nn.Module) -> Precision:
    with frozen(net):
        tap = find_encoder_output(net, X, "output")
        return measure(tap, X, half_inside(tap, X))


def test_a_plain_network_agrees_with_float64() -> None:
    precision = measured(Deep().eval())
    assert precision.half is None
    assert min(precision.of_sum or 0, precision.of_elements or 0) > 0.999999
    assert judge(precision, sums=True) == []


@pytest.mark.parametrize("inside", ["bfloat16", "float16"])
def test_half_precision_inside_is_measured_and_float32_offered(inside: str) -> None:
    precision = measured(Deep(inside).eval())
    assert precision.half == getattr(torch, inside)
    assert (precision.of_elements or 1) < 0.999
    assert (precision.of_full or 0) > 0.999999
    with pytest.raises(
        EmbeddingError, match=rf"computes in {inside} inside, and its maps have a cosine of 0\.\d"
    ) as caught:
        judge(precision, sums=True)
    assert "`float32=True`" in caught.value.hint


def test_half_precision_that_does_no_harm_is_a_remark() -> None:
    assert "agree with a float64 pass" in judge(Precision(0.9995, 0.9999, torch.bfloat16, 1.0), sums=True)[0]
    with pytest.raises(EmbeddingError, match="can't run in float64"):
        judge(Precision(None, None, torch.float16), sums=True)
    with pytest.raises(EmbeddingError) as caught:
        judge(Precision(0.9, 0.9, torch.float16, 0.9), sums=True)
    assert "model.float()" in caught.value.hint


def test_a_softmax_has_a_constant_sum_but_elements_that_move() -> None:
    precision = measured(Recogniser().eval())
    assert abs(precision.of_sum or 1) < 0.9
    assert (precision.of_elements or 0) > 0.999
    with pytest.raises(EmbeddingError, match="the sum of the encoder output is constant") as caught:
        judge(precision, sums=True)
    assert "before it" in caught.value.hint
    assert judge(precision, sums=False) == [], "the energy of T is not constant"


def test_saturation_is_called_that() -> None:
    with pytest.raises(EmbeddingError, match="saturated or ill-conditioned"):
        judge(Precision(0.5, 0.4), sums=True)


def test_what_cannot_run_in_float64_is_judged_by_the_threshold_alone() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3 * 32 * 32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.flatten(1).to(torch.float32))

    assert measured(Written()) == Precision(None, None)
    with frozen(net := Written()):
        assert check_model(find_encoder_output(net, X, "output"), X, []).notes == ()


def test_half_inside_needs_no_gradient() -> None:
    for inside, expected in (("float32", None), ("bfloat16", torch.bfloat16)):
        with frozen(net := Deep(inside).eval()):
            assert half_inside(find_encoder_output(net, X, "output"), X) == expected
    assert set(HALF) == {torch.float16, torch.bfloat16}


def test_the_model_comes_back_bit_for_bit() -> None:
    net = Deep("bfloat16").eval()
    before = {name: (id(tensor), tensor.clone()) for name, tensor in net.state_dict(keep_vars=True).items()}
    init = torch.amp.autocast.__init__

    def break_off() -> None:
        with in_precision(net, torch.float64):
            assert net.fc.weight.dtype == torch.float64
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        break_off()
    after = net.state_dict(keep_vars=True)
    for name, (identity, value) in before.items():
        assert id(after[name]) == identity
        assert torch.equal(after[name], value)
    assert torch.amp.autocast.__init__ is init


def test_shared_weights_stay_shared() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    with in_precision(nn.Sequential(first, second), torch.float64):
        assert first.weight is second.weight
    assert first.weight is second.weight


@pytest.mark.wide
@pytest.mark.sampled(2)
@pytest.mark.parametrize("inside", ["bfloat16", "float16"])
def test_a_model_run_in_float32_is_the_float32_model(inside: str, tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, images=4, canvas=16, methods=("gradient_x_input", "dds"))
    with pytest.raises(EmbeddingError, match=inside):
        space.add(Deep(inside), name="half", preprocessing=PREPROCESSING)
    net = Deep(inside)
    space.add(net, name="half", preprocessing=PREPROCESSING, float32=True)
    space.add(Deep(), name="full", preprocessing=PREPROCESSING)
    for method in ("gradient_x_input", "dds"):
        assert space.affinity(method).matrix[0, 1] == pytest.approx(1, abs=1e-5)
    assert net.training
    assert space.sql("SELECT options FROM models ORDER BY name").rows == [("{}",), ('{"float32":true}',)]


@pytest.mark.wide
def test_a_model_with_half_parameters_is_run_in_float32(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, images=4, canvas=16, methods=("gradient_x_input",))
    net = Deep().bfloat16()
    space.add(net, name="half", preprocessing=PREPROCESSING, float32=True)
    assert next(net.parameters()).dtype == torch.bfloat16


def test_watching_a_pass_does_not_import_the_compiler_of_torch() -> None:
    """A dispatch mode that torch hides from its compiler imports it, for two seconds of each process that embeds."""
    assert not hasattr(Watch.__torch_dispatch__, "__wrapped__")
