"""Fine-tuning learns what frozen features lack, is repeatable, and leaves the model as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from modelspace.embedding import finetune as module_under_test
from modelspace.embedding.finetune import FineTuned, finetune, rate
from modelspace.embedding.prepare import Prepared, Request, prepared
from modelspace.errors import EmbeddingError, UsageError

N = 90
PARTS: dict[str, Sequence[int]] = {"train": range(50), "validation": range(50, 70), "test": range(70, N)}
FAST: dict[str, Any] = {"learning_rate": 0.02, "head_learning_rate": 0.02, "epochs": 8, "batch_size": 16}


def task(seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Noise of two sizes whose green channel is bright or dark: (images, greenness in 0..1)."""
    generator = np.random.default_rng(seed)
    images, greenness = [], generator.random(N)
    for number in range(N):
        image = generator.integers(0, 256, (16 + 4 * (number % 2), 16, 3))
        image[..., 1] = image[..., 1] // 4 + 190 * greenness[number]
        images.append(image.astype(np.uint8))
    return images, greenness


def colour_blind(seed: int = 0) -> nn.Module:
    """A small classifier that looks at red alone, with a batch norm that green images would upset."""
    net = tiny.net(seed)
    with torch.no_grad():
        net.conv1.weight[:, 1:] = 0
    net.conv2 = nn.Sequential(net.conv2, nn.BatchNorm2d(6))
    return net


def tuned(module: nn.Module, labels: np.ndarray, images: object = None, **options: Any) -> FineTuned:
    """Fine-tune a module, which must come back as it was."""
    known = task()[0]
    request = Request(module, name="net", preprocessing=tiny.PREPROCESSING, layer=options.pop("layer", None))
    with prepared(request, np.stack(known[:4:2])) as model:
        return finetune(
            model,
            known if images is None else images,
            labels,
            **{"metric": "accuracy", **PARTS, **FAST, **options},
        )


def classes() -> np.ndarray:
    return (task()[1] > 0.5).astype(int)


@pytest.mark.wide
def test_it_learns_what_the_frozen_features_lack() -> None:
    readout = tuned(colour_blind(), classes(), epochs=0)
    assert (readout.epochs, readout.best_epoch, readout.settings["trained"]) == (0, 0, "head")
    result = tuned(colour_blind(), classes())
    assert readout.test <= 0.75 < 0.9 <= result.test
    assert 1 <= result.best_epoch <= result.epochs == 8
    assert result.validation == max(result.validation_scores) == result.validation_scores[result.best_epoch]
    assert result.validation_scores[0] == readout.validation
    assert result.notes == ()


@pytest.mark.wide
def test_the_best_epoch_is_tested() -> None:
    """Training that does harm leaves the weights from before it."""
    images = [image[..., [1, 0, 2]] for image in task()[0]]
    readout = tuned(colour_blind(), classes(), images, metric="loss", epochs=0)
    harmed = tuned(colour_blind(), classes(), images, metric="loss", epochs=2, learning_rate=3.0)
    assert harmed.validation_scores[2] > harmed.validation_scores[0] == readout.validation
    assert harmed.best_epoch == 0
    assert (harmed.validation, harmed.test) == (readout.validation, readout.test)


@pytest.mark.wide
def test_numbers_are_learnt_in_their_own_unit() -> None:
    labels = 5000 + 300 * task()[1]
    assert tuned(colour_blind(), labels, metric="r2", epochs=0).test < 0.2
    assert tuned(colour_blind(), labels, metric="r2").test > 0.7
    error = tuned(colour_blind(), labels, metric="rmse")
    assert error.test < 45  # the labels' deviation is 87
    assert error.validation == min(error.validation_scores)


def test_the_head_alone_reads_what_the_features_hold() -> None:
    """Label: red, which the model sees."""
    images = [image[..., [1, 0, 2]] for image in task()[0]]
    assert tuned(colour_blind(), classes(), images, epochs=0).test > 0.9


@pytest.mark.wide
def test_equal_seeds_give_equal_results_and_others_do_not() -> None:
    first, second, third = (tuned(colour_blind(), classes(), metric="loss", seed=seed) for seed in (1, 1, 2))
    assert first.validation_scores == second.validation_scores
    assert first.test == second.test
    assert first.validation_scores != third.validation_scores


def test_random_states_are_restored() -> None:
    net = colour_blind()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    tuned(net, classes(), epochs=1)
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected


@pytest.mark.wide
def test_the_model_is_unchanged() -> None:
    net = colour_blind().train()
    net.fc.weight.requires_grad_(False)
    net.conv1.weight.grad = torch.ones_like(net.conv1.weight)
    calls: list[int] = []
    hook = net.conv1.register_forward_hook(lambda *_: calls.append(1))

    def state() -> list[object]:
        return [
            {name: value.clone() for name, value in net.state_dict().items()},
            [(each.requires_grad, id(each), each.grad is None) for each in net.parameters()],
            [(name, part.training, list(part._forward_hooks), list(part._forward_pre_hooks))
             for name, part in net.named_modules()],
        ]  # fmt: skip

    before = state()
    images = np.stack(task()[0][:4:2])
    with prepared(Request(net, name="net", preprocessing=tiny.PREPROCESSING), images) as model:
        inside = state()
        finetune(model, task()[0], classes(), metric="accuracy", **PARTS, **FAST)
        assert_equal(inside, state())
    assert_equal(before, state())
    assert torch.equal(net.conv1.weight.grad, torch.ones_like(net.conv1.weight))
    assert calls
    hook.remove()


def assert_equal(one: list[Any], other: list[Any]) -> None:
    assert one[1:] == other[1:]
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


@pytest.mark.wide
def test_statistics_of_batch_norm_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[nn.Module] = []
    network = module_under_test._Network

    def watched(model: Prepared, tap: Any, *rest: Any) -> Any:
        copies.append(tap.module)
        return network(model, tap, *rest)

    monkeypatch.setattr(module_under_test, "_Network", watched)
    net = colour_blind()
    tuned(net, classes())
    before, after = net.conv2[1], copies[0].conv2[1]
    assert torch.equal(before.running_mean, after.running_mean)
    assert torch.equal(before.running_var, after.running_var)
    assert not torch.equal(before.weight, after.weight)


class _Counted:
    """Images that remember the largest batch asked for."""

    def __init__(self) -> None:
        self.images = task()[0]
        self.largest = 0

    def take(self, numbers: Sequence[int]) -> list[np.ndarray]:
        self.largest = max(self.largest, len(numbers))
        return [self.images[number] for number in numbers]


@pytest.mark.wide
def test_images_are_taken_batch_by_batch_and_progress_is_told() -> None:
    images, seen = _Counted(), []
    result = tuned(colour_blind(), classes(), images, epochs=2, progress=lambda done, total: seen.append((done, total)))
    assert images.largest == 16
    assert seen == [(16, 100), (32, 100), (48, 100), (50, 100), (66, 100), (82, 100), (98, 100), (100, 100)]
    assert result.test == tuned(colour_blind(), classes(), epochs=2).test


@pytest.mark.wide
def test_settings_are_json() -> None:
    settings = tuned(colour_blind(), classes(), epochs=1, seed=3).settings
    assert settings == {
        "recipe": 1,
        "epochs": 1,
        "batch_size": 16,
        "learning_rate": 0.02,
        "head_learning_rate": 0.02,
        "weight_decay": 1e-4,
        "seed": 3,
        "trained": "all",
        "parameters": sum(parameter.numel() for parameter in colour_blind().parameters()),
        "n_train": 50,
        "n_validation": 20,
        "n_test": 20,
    }


# --- unusual models


class _OneSize(nn.Module):
    """Accepts four images at a time."""

    modelspace_batch = 4

    def __init__(self) -> None:
        super().__init__()
        self.net = colour_blind()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert len(x) == 4
        result: torch.Tensor = self.net(x)
        return result


def test_a_model_of_one_batch_size_is_trained_alike() -> None:
    one = tuned(_OneSize(), classes(), metric="loss", layer="net.fc:in", epochs=2)
    free = tuned(colour_blind(), classes(), metric="loss", layer="fc:in", epochs=2)
    assert one.validation_scores == pytest.approx(free.validation_scores, rel=1e-4)


class _Constants(nn.Module):
    """A network whose weights are buffers, as a converted file may have them."""

    def __init__(self) -> None:
        super().__init__()
        net = colour_blind()
        for number, (_, value) in enumerate(net.named_parameters()):
            self.register_buffer(f"value{number}", value.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(nn.functional.conv2d(x, self.value0, self.value1, 2, 1))
        return nn.functional.silu(nn.functional.conv2d(x, self.value2, self.value3, 2, 1)).mean((2, 3))


class _WithoutGradient(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = colour_blind()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = self.net(x)
        return result


class _Single(nn.Module):
    """Can't be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.net = colour_blind()

    def __deepcopy__(self, memo: object) -> nn.Module:
        raise TypeError("there is one of me\nonly")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.net(x)
        return result


@pytest.mark.parametrize(
    ("build", "note"),
    [
        (_Constants, "T depends on no parameter of the model: the head alone was trained"),
        (_WithoutGradient, "T depends on no parameter of the model: the head alone was trained"),
        (_Single, "the model can't be copied, so the head alone was trained: there is one of me"),
    ],
)
def test_models_that_train_the_head_alone(build: Callable[[], nn.Module], note: str) -> None:
    result = tuned(build(), classes(), layer="output")
    assert result.notes == (note,)
    assert (result.epochs, result.settings["trained"], result.settings["parameters"]) == (0, "head", 0)
    assert result.validation_scores == (result.validation,)


def test_parameters_in_half_precision_are_trained_in_single() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = colour_blind().bfloat16()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.net(x.to(self.net.conv1.weight.dtype)).float()
            return result

    assert tuned(Half(), classes(), layer="net.fc:in").test >= 0.9


@pytest.mark.wide
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_a_module_computes_are_trained() -> None:
    """The old weight norm keeps a computed tensor, which torch refuses to copy."""
    net = colour_blind()
    net.conv1 = torch.nn.utils.weight_norm(net.conv1)
    net(torch.zeros(1, 3, 16, 16))
    assert not net.conv1.weight.is_leaf
    before = net.conv1.weight.detach().clone()
    result = tuned(net, classes(), layer="fc:in")
    assert result.notes == ()
    assert result.test >= 0.9
    assert torch.equal(net.conv1.weight, before)


@pytest.mark.wide
def test_recurrent_layers_are_trained() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.cells = nn.LSTM(48, 8, num_layers=2, dropout=0.5, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.cells(x.flatten(1, 2).transpose(1, 2))[0][:, -1]
            return result

    first, second = (tuned(Recurrent(), classes(), metric="loss", layer="output", seed=seed) for seed in (1, 1))
    assert first.validation_scores == second.validation_scores
    assert first.validation < first.validation_scores[0]


# --- refusals


def test_a_loss_that_diverges_names_a_smaller_rate() -> None:
    with pytest.raises(EmbeddingError, match="diverged") as caught:
        tuned(colour_blind(), 1.0 * classes(), metric="r2", learning_rate=1e30)
    assert caught.value.hint == "use a smaller learning rate than 1e+30, for example 1e+29"


def test_running_out_of_memory_names_a_smaller_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module_under_test, "_backward", fails)
    with pytest.raises(EmbeddingError, match="memory ran out while training on batches of 16 images") as caught:
        tuned(colour_blind(), classes())
    assert caught.value.hint == "use `batch_size=4`"


def test_a_model_without_a_backward_pass_is_refused() -> None:
    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(context: Any, *grads: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError("inference only")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = colour_blind()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = Forward.apply(self.net(x))
            return result

    with pytest.raises(EmbeddingError, match="can't be trained: inference only"):
        tuned(Net(), classes(), layer="output")


def test_constant_features_are_refused() -> None:
    net = colour_blind()
    with torch.no_grad():
        net.conv1.weight.zero_()
    with pytest.raises(EmbeddingError, match="the same for every training image"):
        tuned(net, classes(), layer="fc:in")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "top5"}, "'top5' can't be computed for classification"),
        ({"metric": "r2"}, "'r2' can't be computed for classification"),
        ({"train": []}, "no training images"),
        ({"validation": [3, 71]}, "image 3 is in the training and the validation part"),
        ({"test": [55]}, "image 55 is in the validation and the test part"),
        ({"epochs": -1}, "-1 epochs"),
        ({"batch_size": 0}, "0 images"),
        ({"learning_rate": 0.0}, "a learning rate of 0.0 trains nothing"),
        ({"head_learning_rate": float("nan")}, "a head learning rate of nan"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tuned(colour_blind(), classes(), **options)


# --- parts of the recipe


class _Grid(nn.Module):
    """A trainable feature map of 32 x 16 x 16 numbers: more than a head gets."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 32, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.conv(x).relu()
        return result


def test_a_large_feature_map_keeps_where_things_are() -> None:
    """Label: the side of a bright square, which an average over all positions doesn't hold."""
    images = [np.zeros((16, 16, 3), np.uint8) for _ in range(N)]
    for number, image in enumerate(images):
        left, top = 8 * (number % 2) + number % 5, number % 11
        image[top : top + 4, left : left + 4] = 200
    labels = np.arange(N) % 2
    head = tuned(_Grid(), labels, images, layer="output", epochs=0)
    assert head.test == 1
    result = tuned(_Grid(), labels, images, layer="output", epochs=1, learning_rate=1e-4)
    assert result.test == 1
    assert result.settings["trained"] == "all"


@pytest.mark.parametrize("steps", [1, 2, 9, 200])
def test_the_learning_rate_rises_and_falls(steps: int) -> None:
    rates = [rate(step, steps) for step in range(steps)]
    peak = rates.index(max(rates))
    assert max(rates) == 1
    assert peak == max(1, round(steps / 10)) - 1
    assert all(0 < value <= 1 for value in rates)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
