"""T that is constant or saturated: gone back from where it was found, refused with the way out where it was named."""

from __future__ import annotations

from pathlib import Path

import pytest
import structured_nets as nets
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelspace.attribution.engine import MapRequest, frozen
from modelspace.embedding.checks import check_model, steadier
from modelspace.encoder.layers import Tap, find_encoder_output
from modelspace.errors import EmbeddingError, NoGradientError, NoisyTargetError
from modelspace.types import Preprocessing
from modelspace.workspace import ModelSpace

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
STATED = Preprocessing(input_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
SUM = [MapRequest("gradient_x_input")]


class Ending(nn.Module):
    """(B, 10, 12) scores of a linear map, and what is made of them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 10)))
        self.scores = nn.Linear(8, 12)
        self.last: nn.Module = nn.LayerNorm(12) if kind == "module" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.scores(self.body(x).squeeze(2).transpose(1, 2))
        return self.last(ENDINGS[self.kind][0](y))


def written_out(y: Tensor) -> Tensor:
    y = y - y.mean(-1, keepdim=True)
    return y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt()


#: What ends in it, the tensor before that, what it is called.
ENDINGS = {
    "softmax": (lambda y: y.softmax(-1), "scores", "softmax"),
    "layer norm": (lambda y: F.layer_norm(y, (12,)), "scores", "layer norm"),
    "mean of a norm": (lambda y: F.layer_norm(y, (12,)).mean(1), "scores", "layer norm"),
    "scaled": (lambda y: (F.layer_norm(y, (12,)) * 3).flatten(1)[:, :, None], "scores", "layer norm"),
    "quotient": (lambda y: y.exp() / y.exp().sum(-1, keepdim=True), "scores", "norm"),
    "written out": (written_out, "scores", "norm"),
    "module": (lambda y: y, "scores", "layer norm"),
    "two": (lambda y: F.layer_norm(y.softmax(-1), (12,)), "scores", "layer norm"),
}
NOISY = list(ENDINGS)


def tapped(net: nn.Module, layer: str | None = None) -> Tap:
    return find_encoder_output(net, X, layer)


@pytest.mark.sampled(2)
@pytest.mark.first(1)
@pytest.mark.parametrize("kind", NOISY)
def test_a_constant_sum_is_gone_back_from_to_the_tensor_before_it(kind: str) -> None:
    _, layer, called = ENDINGS[kind]
    with frozen(net := Ending(kind).eval()):
        tap = tapped(net, "output")
        better, remarks = steadier(tap, X)
        assert better.layer == layer
        assert better.found_by == f"the last layer before the {called} in which output ends"
        assert remarks[0].startswith(f"explains {layer}, {better.found_by}: the sum of the encoder output is constant")
        assert check_model(better, X, SUM).notes == ()
        # what is not noise stays
        assert steadier(better, X) == (better, ())


@pytest.mark.sampled(2)
@pytest.mark.first(1)
@pytest.mark.parametrize("kind", NOISY)
def test_a_named_layer_with_a_constant_sum_is_refused_and_the_hint_works(kind: str) -> None:
    _, layer, called = ENDINGS[kind]
    with frozen(net := Ending(kind).eval()):
        with pytest.raises(NoisyTargetError, match="constant") as caught:
            check_model(tapped(net, "output"), X, SUM)
        text = f"choose the last layer before the {called} in which output ends with `layer='{layer}'`"
        assert caught.value.hint == text
        assert check_model(tapped(net, layer), X, SUM).notes == ()


def test_the_energy_of_what_has_a_constant_sum_is_not_refused() -> None:
    with frozen(net := Ending("softmax").eval()):
        energy = [MapRequest("gradient_x_input", scalar="energy")]
        assert check_model(tapped(net, "output"), X, energy).notes == ()


class Saturated(nn.Module):
    """Embeddings of norm 1 behind a sigmoid that is 1 in float32 wherever it is computed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + 40).sigmoid()


def test_a_saturated_sigmoid_is_gone_back_from() -> None:
    with frozen(net := Saturated().eval()):
        better, remarks = steadier(tapped(net, "output"), X)
    assert (better.layer, better.found_by) == ("body", "the last layer before the sigmoid in which output ends")
    assert "saturated or ill-conditioned" in remarks[0]


def test_what_ends_in_no_norm_stays_though_its_sum_is_constant() -> None:
    class Differences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Conv2d(3, 4, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.c(x).flatten(1)
            return y - y.mean(1, keepdim=True)

    with frozen(net := Differences().eval()):
        tap = tapped(net, "output")
        assert steadier(tap, X) == (tap, ())
        with pytest.raises(NoGradientError, match="constant") as caught:
            check_model(tap, X, SUM)
    assert "choose the tensor before it" in caught.value.hint


def test_norms_that_are_no_noise_stay() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.LayerNorm(8)).eval()
    with torch.no_grad():
        net[2].weight.copy_(torch.rand(8) + 0.5)
    with frozen(net):
        tap = tapped(net)
        assert tap.layer == "output"
        assert steadier(tap, X) == (tap, ())


def test_a_random_model_is_not_judged_by_the_noise_of_its_dropout() -> None:
    class Noisy(Ending):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(super().forward(x), 0.5)

    with frozen(net := Noisy("softmax").eval()):
        tap = tapped(net, "output")
        assert steadier(tap, X) == (tap, ())
        with pytest.raises(EmbeddingError, match="random"):
            check_model(tap, X, SUM)


def test_half_precision_is_to_blame_and_not_the_softmax_where_it_computes_in_it() -> None:
    """A float64 pass in which the type is written down is none, and no agreement with it means anything."""

    class Half(Ending):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).bfloat16().softmax(-1).float()

    with frozen(net := Half("layer norm").eval()):
        tap = tapped(net, "output")
        assert steadier(tap, X) == (tap, ())
        with pytest.raises(EmbeddingError, match="computes in bfloat16 inside, and can't run in float64"):
            check_model(tap, X, SUM)


# --- as people meet it


@pytest.fixture
def space(tmp_path: Path) -> ModelSpace:
    return ModelSpace.create(tmp_path, methods=("gradient_x_input",), images=4, canvas=8)


@pytest.mark.wide
def test_add_goes_back_and_says_so(space: ModelSpace) -> None:
    net = Ending("layer norm").eval()
    added = space.add(net, name="norm", preprocessing=STATED)
    found_by = "the last layer before the layer norm in which output ends"
    assert (added.card.layer, added.card.layer_found_by) == ("scores", found_by)
    assert added.card.output_shape == (10, 12)
    remarks = [note for note in added.notes if note.startswith(f"explains scores, {found_by}: the sum")]
    assert len(remarks) == 1
    # the same again is the same model
    assert space.add(net, name="norm", preprocessing=STATED).status == "unchanged"
    other = space.add(net, name="named", layer="scores", preprocessing=STATED)
    assert not [note for note in other.notes if note.startswith("explains")]
    assert space.nearest("norm")[0].affinity == pytest.approx(1, abs=1e-6)


@pytest.mark.wide
def test_layers_marks_the_layer_that_add_goes_back_to(space: ModelSpace) -> None:
    net = Ending("layer norm").eval()
    survey = space.survey(net, preprocessing=STATED)
    assert survey.tap is not None
    assert survey.tap.layer == "scores"
    assert next((each.layer, each.reason) for each in survey.candidates) == ("scores", survey.tap.found_by)
    assert len({each.layer for each in survey.candidates}) == len(survey.candidates)
    assert space.layers(net, preprocessing=STATED)[1:] == ("scores", survey.tap.found_by)


def test_layers_of_a_model_that_add_refuses(space: ModelSpace) -> None:
    net = nets.LateMask().eval()
    with pytest.raises(EmbeddingError, match="needs a further input") as caught:
        space.add(net, name="mask", preprocessing=STATED)
    rows, layer, found_by = space.layers(net, preprocessing=STATED)
    assert ([row.name for row in rows], layer, found_by) == (["c"], "", str(caught.value))
    rows, layer, found_by = space.layers(net, preprocessing=STATED, layer="c")
    assert (layer, found_by) == ("c", "--layer c")


@pytest.mark.wide
def test_a_recogniser_is_stored_by_what_is_before_its_softmax(space: ModelSpace) -> None:
    net = nets.Recogniser(classes=2000).eval()
    with torch.no_grad():
        net.fc.bias[0] += 16.0  # the blank wins nearly everywhere, as on any image without text
    assert space.add(net, name="found", preprocessing=STATED).card.layer == "fc:in"
    with pytest.raises(NoisyTargetError, match="the sum of the encoder output is constant") as caught:
        space.add(net, name="named", layer="output", preprocessing=STATED)
    assert caught.value.hint == "choose the last layer before the softmax in which output ends with `layer='fc'`"
    assert space.add(net, name="named", layer="fc", preprocessing=STATED).card.layer == "fc"


@pytest.mark.wide
def test_random_passes_are_averaged_where_they_were_found(space: ModelSpace) -> None:
    class Noisy(Ending):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(super().forward(x), 0.5)

    added = space.add(Noisy("layer norm").eval(), name="noisy", preprocessing=STATED, stochastic=2)
    assert added.card.layer == "output"
