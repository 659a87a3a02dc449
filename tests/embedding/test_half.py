"""bf16: used where it keeps a model's maps, else float32 with a note; stored, found again, and never mixed up."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor, nn

from modelspace.attribution.engine import MapRequest, frozen
from modelspace.embedding.half import HalfTap, in_bf16
from modelspace.embedding.prepare import Request
from modelspace.encoder.layers import find_encoder_output
from modelspace.errors import ConflictError, UsageError
from modelspace.workspace import ModelSpace

X = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
MAPS = [MapRequest.of("gradient_x_input"), MapRequest.of("saliency", scalar="centred_energy", images=6)]


class Smooth(nn.Module):
    """One convolution and an even activation: nothing that rounding could switch. `seen`: the types it computed in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.seen: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        self.seen.append(y.dtype)
        return torch.nn.functional.softplus(y)


class Steps(nn.Module):
    """Ten layers of units that rounding switches: maps in bfloat16 are others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for k in range(10):
            layers += [nn.Conv2d(8 if k else 3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Typed(nn.Module):
    """Fails in any type but float32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if y.dtype not in (torch.float32, torch.float64):
            raise TypeError("float32 alone")
        return torch.tanh(y)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    return tiny.space(tmp_path_factory.mktemp("bf16"), methods=("gradient_x_input", "saliency", "dds"))


def chosen(net: nn.Module, requests: list[MapRequest]) -> tuple[type, str]:
    with frozen(net):
        tap, note = in_bf16(find_encoder_output(net, X[:2], "output"), X, requests)
        assert tap(X).dtype == torch.float32
    return type(tap), note


@pytest.mark.wide
def test_it_is_used_where_maps_stay_and_nowhere_else() -> None:
    kind, note = chosen(Smooth(), MAPS)
    assert kind is HalfTap
    assert note.startswith("runs in bf16: on the first 8 images cosines with float32 are 0.999")
    # near 0 the rule of a smooth unit divides differences that bfloat16 has no digits for
    kind, note = chosen(Smooth(), [MapRequest.of("epsilon_lrp")])
    assert kind is not HalfTap
    assert "the cosine of epsilon_lrp maps with float32's falls to 0." in note
    kind, note = chosen(Steps(), MAPS)
    assert kind is not HalfTap
    assert note.startswith("runs in float32, since in bf16 the cosine of ")
    # T alone is compared where no maps are wanted, and it hardly moves
    assert chosen(Steps(), [])[0] is HalfTap
    kind, note = chosen(Typed(), MAPS)
    assert kind is not HalfTap
    assert "bf16 could not be compared with it: the forward pass fails" in note
    assert "float32 alone" in note


@pytest.mark.wide
def test_the_model_computes_in_it_and_is_stored_and_found_with_it(space: ModelSpace) -> None:
    net = Smooth()
    added = space.add(net, name="half", preprocessing=tiny.PREPROCESSING, dtype="bf16", layer="output")
    assert torch.bfloat16 in net.seen
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert added.card.options == {"dtype": "bf16"}
    assert sum("runs in bf16" in note for note in added.notes) == 1
    again = space.add(net, name="half", preprocessing=tiny.PREPROCESSING, dtype="bf16", layer="output")
    assert again.status == "unchanged"
    with pytest.raises(ConflictError, match="options"):
        space.add(net, name="half", preprocessing=tiny.PREPROCESSING, layer="output")
    net.seen.clear()
    fresh = space.reembed("half", module=net)
    assert torch.bfloat16 in net.seen
    assert all(record.same_bits for record in fresh)
    space.add(net, name="full", preprocessing=tiny.PREPROCESSING, layer="output")
    for name in ("gradient_x_input", "saliency", "dds"):
        assert space.affinity(name).matrix[0, 1] == pytest.approx(1, abs=1e-3)
    found = space.nearest(net, k=1, preprocessing=tiny.PREPROCESSING, layer="output", dtype="bf16")
    assert any("registered as half" in note for note in found.notes)


@pytest.mark.wide
def test_a_model_whose_maps_move_is_stored_as_the_float32_model_that_ran(space: ModelSpace) -> None:
    net = Steps()
    added = space.add(net, name="steps", preprocessing=tiny.PREPROCESSING, dtype="bf16", layer="output")
    assert added.card.options == {}
    assert any(note.startswith("runs in float32") for note in added.notes)
    for dtype in ("bf16", "float32"):
        again = space.add(net, name="steps", preprocessing=tiny.PREPROCESSING, dtype=dtype, layer="output")
        assert again.status == "unchanged"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "fp8"}, "'fp8' is not a number type"),
        ({"dtype": "bf16", "float32": True}, "in float32 and in bf16"),
        ({"dtype": "bf16", "stochastic": 4}, "can't be compared"),
    ],
)
def test_what_it_does_not_go_with_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Request("zoo:depth", **options)  # type: ignore[arg-type]


@pytest.mark.wide
def test_float32_is_float32_on_cuda_and_the_settings_come_back(tmp_path: Path) -> None:
    seen = []

    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 4, 4)

        def forward(self, x: Tensor) -> Tensor:
            cudnn = torch.backends.cudnn
            seen.append((cudnn.allow_tf32, cudnn.deterministic, torch.get_float32_matmul_precision()))
            return torch.tanh(self.conv(x))

    def settings() -> tuple[object, ...]:
        cudnn = torch.backends.cudnn
        return cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, torch.get_float32_matmul_precision()

    before = settings()
    space = ModelSpace.create(tmp_path, images=2, canvas=8, methods=("saliency",))
    space.add(Asks(), name="asks", preprocessing=tiny.PREPROCESSING, layer="output")
    assert set(seen) == {(False, True, "highest")}
    assert settings() == before
