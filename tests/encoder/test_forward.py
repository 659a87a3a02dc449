"""A model whose output depends on more than the image is refused, with the observation and a hint."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelspace.attribution.state import frozen
from modelspace.encoder.forward import check_forward
from modelspace.encoder.layers import find_encoder_output
from modelspace.errors import EmbeddingError
from modelspace.types import Preprocessing
from modelspace.workspace import ModelSpace

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
PREPROCESSING = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.fc = nn.Linear(128, 10)
        self.register_buffer("mean", torch.zeros(3))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x))


class AlwaysDropout(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.dropout(self.body(x), 0.5))


class RareDropPath(Base):
    """Drops a path for one image in ten: most batches of two don't reveal it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x + (torch.rand(len(x), 1, 1, 1) > 0.9) * x.roll(3, 3)))


class PythonNoise(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x * (1 + random.random())))


class NumpyNoise(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x + torch.from_numpy(np.random.normal(size=x.shape)).float()))


class TrainOverridden(Base):
    def __init__(self) -> None:
        super().__init__()
        self.body.append(nn.Dropout(0.5))

    def train(self, mode: bool = True) -> TrainOverridden:
        return self


class RunningStatistics(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mean.mul_(0.5).add_(0.5 * x.detach().mean((0, 2, 3)))
        return self.fc(self.body((x - self.mean[None, :, None, None]) * 4))


class Counter(Base):
    """Its state is a plain attribute, not a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.fc(self.body(x * self.calls))


class SilentObserver(Base):
    """Writes statistics that nothing uses yet."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mean.copy_(x.detach().mean((0, 2, 3)))
        return super().forward(x)


class BatchStatistics(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, deviation = x.mean((0, 2, 3), keepdim=True).detach(), x.std((0, 2, 3), keepdim=True).detach()
        return self.fc(self.body((x - mean) / deviation))


class FirstImage(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x) - self.body(x[:1]))


class LastImage(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x) + 0.1 * self.body(x[-1:]))


class Longer(Base):
    """Only batches of more than two images reveal it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x) + (0.1 * self.body(x[2:3]) if len(x) > 2 else 0))


class GradientAlone(Base):
    """The values of other images cancel, their gradients do not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        other = x.flip(0)
        return self.fc(self.body(x + other - other.detach()))


RANDOM = (AlwaysDropout, RareDropPath, PythonNoise, NumpyNoise, TrainOverridden)
STATE = (RunningStatistics, Counter, SilentObserver)
BATCH = (BatchStatistics, FirstImage, LastImage, Longer)


def check(net: nn.Module, gradients: bool = True) -> None:
    with frozen(net):
        check_forward(find_encoder_output(net, X), X, gradients=gradients)


@pytest.mark.parametrize("gradients", [True, False])
def test_a_function_of_the_image_passes(gradients: bool) -> None:
    check(Base(), gradients)
    check(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(), nn.Flatten()), gradients)


@pytest.mark.first(6)
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", RANDOM)
def test_chance_is_seen(kind: type[Base], gradients: bool) -> None:
    with pytest.raises(EmbeddingError, match=r"random, also in eval mode: .* differs by \d") as caught:
        check(kind(), gradients)
    assert "`stochastic=8`" in caught.value.hint


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", STATE)
def test_state_is_seen_and_named(kind: type[Base], gradients: bool) -> None:
    net = kind()
    with pytest.raises(EmbeddingError, match="keeps state, also in eval mode") as caught:
        check(net, gradients)
    assert ("writes into mean" in caught.value.message) == (kind is not Counter)
    assert torch.equal(net.mean, torch.zeros(3)), "the model comes back as it was"


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", BATCH)
def test_the_batch_is_seen(kind: type[Base], gradients: bool) -> None:
    with pytest.raises(EmbeddingError, match=r"depends on the other images of its batch: .* \d"):
        check(kind(), gradients)


def test_a_gradient_that_crosses_images_is_seen_where_maps_are_wanted() -> None:
    check(GradientAlone(), gradients=False)
    with pytest.raises(EmbeddingError, match="gradient"):
        check(GradientAlone())


def test_random_numbers_that_change_nothing_are_no_chance() -> None:
    class Draws(Base):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.rand(3)
            return super().forward(x)

    check(Draws())


@pytest.mark.sampled(2)
@pytest.mark.wide
@pytest.mark.parametrize("kind", [AlwaysDropout, RareDropPath, TrainOverridden, PythonNoise])
def test_averaged_passes_make_a_random_model_like_itself(kind: type[Base], tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, images=8, canvas=8, methods=("gradient_x_input", "dds"))
    with pytest.raises(EmbeddingError, match="random"):
        space.add(kind(), name="once", preprocessing=PREPROCESSING)
    assert not space.list()
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        space.add(kind(), name=name, preprocessing=PREPROCESSING, stochastic=4, batch_size=4 + seed)
    assert space.show("a").name == "a"
    for method in ("gradient_x_input", "dds"):
        assert space.affinity(method).matrix[0, 1] == pytest.approx(1, abs=1e-6)
    (found,) = space.sql("SELECT options FROM models WHERE name = 'a'").rows
    assert found == ('{"stochastic":4}',)


@pytest.mark.wide
def test_how_a_model_is_run_is_part_of_what_it_is(tmp_path: Path) -> None:
    from modelspace.errors import ConflictError, UsageError

    space = ModelSpace.create(tmp_path, images=4, canvas=8, methods=("saliency",))
    space.add(Base(), name="net", preprocessing=PREPROCESSING)
    with pytest.raises(ConflictError, match="other options"):
        space.add(Base(), name="net", preprocessing=PREPROCESSING, stochastic=2)
    assert space.add(Base(), name="net", preprocessing=PREPROCESSING, stochastic=2, replace=True).status == "replaced"
    with pytest.raises(UsageError, match="can't be averaged"):
        space.add(Base(), name="x", preprocessing=PREPROCESSING, stochastic=1)


@pytest.mark.parametrize(("kind", "situation"), [(BatchStatistics, "alone"), (Longer, "in a longer batch")])
def test_the_refusal_names_the_batch_that_shows_it(kind: type[nn.Module], situation: str) -> None:
    with pytest.raises(EmbeddingError, match=rf"differs by [\d.]+% {situation}\n"):
        check(kind())


def test_images_that_are_run_one_by_one_are_not_checked_in_other_batches() -> None:
    sizes: list[int] = []
    net = Base()
    net.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    with frozen(net):
        tap = find_encoder_output(net, X)
        net.modelspace_batch = 1  # type: ignore[assignment]
        sizes.clear()
        check_forward(tap, X)
    assert sizes == [1] * 4
