"""Fine-tuning: all parameters of a model and a linear head are trained on labelled images.

The recipe is plain, the same for every model, and changes nothing in the model that is given:

1. The module is copied. The copy stays in evaluation mode: dropout is off, and batch norm keeps its stored statistics
   while its weights are trained, since those of a batch of 32 out of a few hundred images are noise.
2. T is reduced to at most 2,048 numbers as it is for readouts (`modelspace.representations.kernels.condensed`), and
   standardised with the mean and deviation of the training images under the untrained model, so that one learning rate
   serves models of every scale. An average over all positions would lose where things are.
3. A fresh linear head is fitted to these features with a small penalty on its weights, the model untouched; then head
   and model are trained together (Kumar et al., "Fine-tuning can distort pretrained features", ICLR 2022). From a head
   that knows nothing, the first steps spoil the features, and a few hundred images are too few steps to mend them.
4. AdamW (Loshchilov & Hutter, ICLR 2019) on batches in random order; the learning rate rises over the first tenth of
   the steps and falls to 0 along a cosine; gradients are clipped to norm 1. The loss is the cross-entropy of classes,
   or the squared error of standardised numbers. Images are never augmented: a flip or a crop changes what some labels
   say.
5. After each epoch the validation images are scored. The epoch with the best score, which may be the one before
   training, is scored on the test images, which nothing else sees.

The result is the same for equal seeds on a CPU; a GPU adds in an order of its own.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from modelspace.attribution.engine import explained
from modelspace.attribution.memory import is_out_of_memory
from modelspace.embedding.embed import Progress, seeded
from modelspace.embedding.features import MOST, to_inputs
from modelspace.embedding.prepare import Prepared
from modelspace.encoder.layers import Tap
from modelspace.encoder.precision import in_precision
from modelspace.errors import EmbeddingError, UsageError
from modelspace.representations.kernels import condensed
from modelspace.scores.inputs import check_range, kind
from modelspace.tasks.measuring import computable, measured
from modelspace.tasks.metrics import METRICS

#: Changes whenever the recipe gives other scores; part of the settings of an outcome.
RECIPE = 1

#: Penalty on the squared weights of the first head, shared by the training images; 0.0001 to 0.1 differ little.
PENALTY = 0.01
#: Steps of the first head's fit (L-BFGS), at most.
HEAD_STEPS = 100
#: Share of the steps in which the learning rate rises.
WARM_UP = 0.1
#: Features that vary less than this share of the mean deviation are not scaled up to it.
SMALLEST = 0.1


class Takes(Protocol):
    """Images by their numbers (`modelspace.tasks.pixels.Pixels`)."""

    def take(self, numbers: Sequence[int]) -> Sequence[np.ndarray]:
        """Arrays (height, width, 3) uint8, of any sizes."""


@dataclass(frozen=True)
class FineTuned:
    """The result of fine-tuning.

    Attributes:
        validation: score of the best epoch on the validation images.
        test: score of the same weights on the test images.
        epochs: number of epochs trained.
        best_epoch: 0..epochs; 0 is the fitted head on the untrained model.
        seconds: wall time.
        settings: values of JSON: the recipe's version and parameters, what was trained, and numbers of images.
        validation_scores: of epochs 0..epochs.
        notes: for the user.
    """

    validation: float
    test: float
    epochs: int
    best_epoch: int
    seconds: float
    settings: dict[str, Any]
    validation_scores: tuple[float, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Recipe:
    epochs: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    weight_decay: float
    seed: int

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise UsageError(f"a model can't be trained for {self.epochs} epochs", "0 trains the head alone")
        if self.batch_size < 1:
            raise UsageError(f"a batch can't have {self.batch_size} images", "example: `batch_size=32`")
        for name, low in (("learning_rate", 0), ("head_learning_rate", 0), ("weight_decay", -1)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > low):
                raise UsageError(f"a {name.replace('_', ' ')} of {value} trains nothing", "example: 0.0001")


def finetune(
    model: Prepared,
    images: Sequence[np.ndarray] | Takes,
    labels: ArrayLike,
    *,
    train: Sequence[int],
    validation: Sequence[int],
    test: Sequence[int],
    metric: str,
    epochs: int = 5,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    head_learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    seed: int = 0,
    progress: Progress | None = None,
) -> FineTuned:
    """Fine-tune a copy of a model and score it; the recipe is that of this module.

    A model without parameters that T depends on (a file exported with its weights as constants) and one that can't be
    copied train the head alone, which a note says.

    Args:
        model: prepared; its module is unchanged. It is trained on its device.
        images: arrays (height, width, 3) uint8 of any sizes, by number; decoded and preprocessed batch by batch.
        labels: (n,) integers from 0 for classes, floats for numbers, of all images.
        train: numbers of the images to train on.
        validation: of the images that choose the epoch.
        test: of the images that are scored at the end.
        metric: a name in `modelspace.tasks.metrics.METRICS`.
        epochs: passes over the training images; 0 trains the head alone.
        batch_size: images per step.
        learning_rate: of the model, per step of AdamW.
        head_learning_rate: of the head.
        weight_decay: of both.
        seed: of the order of the images, and of a model that draws random numbers.
        progress: called with (images trained on, their total number) after each step.

    Raises:
        UsageError: a part is empty or overlaps another, or the metric can't be computed or is for other labels.
        EmbeddingError: the model fails on an image, the loss is no longer finite, or memory ran out.
    """
    started = time.monotonic()
    recipe = _Recipe(epochs, batch_size, learning_rate, head_learning_rate, weight_decay, seed)
    parts = _Parts(tuple(map(int, train)), tuple(map(int, validation)), tuple(map(int, test)))
    target = _target(metric, np.asarray(labels), parts.train)
    with seeded(seed, model.device), _in_memory(batch_size), _copied(model) as (tap, notes):
        network = _Network(model, tap, images, recipe.batch_size)
        network.fit_head(parts.train, target)
        tuned = network.parameters() if epochs and not notes else []
        if epochs and not notes and not tuned:
            notes = ("T depends on no parameter of the model: the head alone was trained",)
        recipe = recipe if tuned else replace(recipe, epochs=0)
        scores, best = _trained(network, target, parts, recipe, tuned, progress)
        final = target.score(network.predict(parts.test), parts.test)
    settings = {
        "recipe": RECIPE,
        **asdict(recipe),
        "trained": "all" if tuned else "head",
        "parameters": sum(parameter.numel() for parameter in tuned),
        "n_train": len(parts.train),
        "n_validation": len(parts.validation),
        "n_test": len(parts.test),
    }
    seconds = time.monotonic() - started
    return FineTuned(scores[best], final, recipe.epochs, best, seconds, settings, tuple(scores), notes)


# --- what is trained for


@dataclass(frozen=True)
class _Parts:
    """Numbers of images: disjoint, none of the parts empty."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]

    def __post_init__(self) -> None:
        named = {"training": self.train, "validation": self.validation, "test": self.test}
        for name, numbers in named.items():
            if not numbers:
                raise UsageError(f"there are no {name} images", "a split needs more images")
        known: dict[int, str] = {}
        for name, numbers in named.items():
            for number in numbers:
                if known.setdefault(number, name) != name:
                    raise UsageError(f"image {number} is in the {known[number]} and the {name} part")


@dataclass(frozen=True)
class _Target:
    """Labels, the loss on them, and the score of predictions.

    Attributes:
        metric: that scores.
        labels: (n,) of all images.
        n_outputs: of the head: number of classes, or 1.
        mean, scale: of the training labels, for numbers.
    """

    metric: str
    labels: np.ndarray
    n_outputs: int
    mean: float = 0.0
    scale: float = 1.0

    def loss(self, outputs: Tensor, numbers: Sequence[int]) -> Tensor:
        """Mean loss of the head's outputs, (b, n_outputs), for images by number."""
        labels = torch.as_tensor(self.labels[list(numbers)], device=outputs.device)
        if self.n_outputs > 1:
            return F.cross_entropy(outputs, labels.long())
        return F.mse_loss(outputs[:, 0], ((labels.double() - self.mean) / self.scale).to(outputs.dtype))

    def score(self, outputs: Tensor, numbers: Sequence[int]) -> float:
        """The metric of outputs: of softmax probabilities, or of numbers in the labels' unit."""
        values = outputs.double().cpu()
        predictions = values.softmax(dim=1) if self.n_outputs > 1 else values * self.scale + self.mean
        return measured(self.metric, predictions.numpy(), self.labels[list(numbers)])

    def best(self, scores: Sequence[float]) -> int:
        """Position of the best score, the first of equal ones."""
        return int(np.argmax(scores) if METRICS[self.metric].higher_is_better else np.argmin(scores))


def _target(metric: str, labels: np.ndarray, train: Sequence[int]) -> _Target:
    of = kind(labels)
    if not computable(metric) or of not in METRICS[metric].kinds:
        usable = [name for name, known in METRICS.items() if of in known.kinds]
        raise UsageError(f"{metric!r} can't be computed for {of}", f"use one of {', '.join(usable)}")
    if of == "classification":
        n_classes = int(labels.max()) + 1
        check_range(labels, n_classes)
        return _Target(metric, labels, n_classes)
    known = labels[list(train)].astype(np.float64)
    return _Target(metric, labels, 1, float(known.mean()), float(known.std()) or 1.0)


# --- what is trained


class _Network:
    """A copy of the model with its head, on images by number."""

    def __init__(self, model: Prepared, tap: Tap, images: Sequence[np.ndarray] | Takes, batch_size: int) -> None:
        self.head = nn.Linear(1, 1)
        self.module = tap.module
        self.device = model.device
        self._model = model
        self._tap = tap
        self._images = images
        self._batch_size = batch_size
        self._mean = self._scale = torch.zeros(())

    def fit_head(self, train: Sequence[int], target: _Target) -> None:
        """Standardise T by the training images, and fit the head to it; the model is untouched.

        Raises:
            EmbeddingError: T is not finite, or the same for all images.
        """
        table = self._over(train, self._features)
        if not torch.isfinite(table).all():
            raise EmbeddingError("T is not finite for a training image", "choose another `layer=`")
        deviation = table.std(dim=0, correction=0)
        if not deviation.any():
            raise EmbeddingError("T is the same for every training image", "choose another `layer=`")
        # The square root of their number makes a step of the head change its output by much the same for any number.
        root = math.sqrt(table.shape[1])
        self._mean, self._scale = table.mean(dim=0), root * deviation.clamp_min(SMALLEST * float(deviation.mean()))
        table = (table - self._mean) / self._scale
        self.head = nn.Linear(table.shape[1], target.n_outputs).to(table)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        penalty = PENALTY / len(table)
        optimizer = torch.optim.LBFGS(self.head.parameters(), max_iter=HEAD_STEPS, line_search_fn="strong_wolfe")

        def misfit() -> Tensor:
            optimizer.zero_grad()
            loss = target.loss(self.head(table), train) + penalty / 2 * self.head.weight.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(misfit)  # type: ignore[no-untyped-call]

    def parameters(self) -> list[nn.Parameter]:
        """The model's parameters, with gradients on; none if T depends on none of them."""
        trainable = [each for each in self.module.parameters() if each.is_floating_point() or each.is_complex()]
        for parameter in trainable:
            parameter.requires_grad_(True)
        return trainable if trainable and self._features([0]).requires_grad else []

    def outputs(self, numbers: Sequence[int]) -> Tensor:
        """(b, n_outputs) of the head, in the caller's gradient mode."""
        outputs: Tensor = self.head((self._features(numbers) - self._mean) / self._scale)
        return outputs

    def predict(self, numbers: Sequence[int]) -> Tensor:
        """(n, n_outputs), batch by batch, without gradients."""
        return self._over(numbers, self.outputs)

    def _over(self, numbers: Sequence[int], run: Any) -> Tensor:
        with torch.no_grad():
            size = self._batch_size
            return torch.cat([run(numbers[start : start + size]) for start in range(0, len(numbers), size)])

    def _features(self, numbers: Sequence[int]) -> Tensor:
        arrays = self._images.take(numbers) if hasattr(self._images, "take") else [self._images[k] for k in numbers]
        x = to_inputs(arrays, self._model)
        with explained(x):
            output = self._tap(x)
        if len(output) != len(x):
            raise EmbeddingError(
                f"T has shape {tuple(output.shape)} for {len(x)} images: its first axis is not the batch",
                "choose a `layer=` whose first axis is the batch",
            )
        return condensed(output, MOST)


@contextmanager
def _copied(model: Prepared) -> Iterator[tuple[Tap, tuple[str, ...]]]:
    """A tap on a copy of the module that gradients can train, in float32; on the module itself if it can't be copied.

    Yields:
        The tap, and a note if the module is the given one.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(model.device.type, enabled=False):
        try:
            module = _duplicate(model.tap.module)
        except Exception as error:  # whatever the attributes of somebody's module raise
            if is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
            yield model.tap, (f"the model can't be copied, so the head alone was trained: {reason}",)
            return
        half = any(each.is_floating_point() and each.element_size() < 4 for each in module.parameters())
        with in_precision(module, torch.float32) if half else nullcontext():
            _allow_recurrence(module)
            yield replace(model.tap, module=module), ()


def _duplicate(module: nn.Module) -> nn.Module:
    """A deep copy.

    Tensors that a module has computed and keeps as attributes, as the old weight norm does, lose their history, with
    which torch doesn't copy them; the next forward pass computes them again.
    """
    kept = (value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor))
    return copy.deepcopy(module, {id(value): value.detach().clone() for value in kept if not value.is_leaf})


def _allow_recurrence(module: nn.Module) -> None:
    """cuDNN has no gradient of a recurrent layer in evaluation mode: training mode without dropout is the same."""
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            part.dropout = 0.0
            part.train()


# --- training


def _trained(
    network: _Network,
    target: _Target,
    parts: _Parts,
    recipe: _Recipe,
    tuned: Sequence[nn.Parameter],
    progress: Progress | None,
) -> tuple[list[float], int]:
    """Validation scores of all epochs, and the best epoch, whose weights the network then has."""
    everything = [*tuned, *network.head.parameters()]
    scores = [target.score(network.predict(parts.validation), parts.validation)]
    kept = _weights(everything) if recipe.epochs else []
    best = 0
    for epoch, _ in enumerate(_epochs(network, target, parts.train, recipe, tuned, progress), 1):
        scores.append(target.score(_finite(network.predict(parts.validation), recipe), parts.validation))
        best = target.best(scores)
        if best == epoch:
            kept = _weights(everything)
    with torch.no_grad():
        for parameter, weights in zip(everything, kept, strict=False):
            parameter.copy_(weights)
    return scores, best


def _weights(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.detach().cpu().clone() for parameter in parameters]


def _epochs(
    network: _Network,
    target: _Target,
    train: Sequence[int],
    recipe: _Recipe,
    tuned: Sequence[nn.Parameter],
    progress: Progress | None,
) -> Iterator[None]:
    """Train; yields after each epoch."""
    if not recipe.epochs:
        return
    groups = [
        {"params": list(tuned), "lr": recipe.learning_rate},
        {"params": list(network.head.parameters()), "lr": recipe.head_learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * math.ceil(len(train) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    everything = [*tuned, *network.head.parameters()]
    order = torch.Generator().manual_seed(recipe.seed)
    done = 0
    for _ in range(recipe.epochs):
        shuffled = [train[k] for k in torch.randperm(len(train), generator=order).tolist()]
        for start in range(0, len(train), recipe.batch_size):
            batch = shuffled[start : start + recipe.batch_size]
            optimizer.zero_grad()
            _backward(_finite(target.loss(network.outputs(batch), batch), recipe))
            _finite(nn.utils.clip_grad_norm_(everything, 1.0), recipe)
            optimizer.step()
            schedule.step()
            done += len(batch)
            if progress is not None:
                progress(done, recipe.epochs * len(train))
        yield


def rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step: a linear rise over the first tenth, then half a cosine down to 0.

    >>> [round(rate(step, 20), 2) for step in (0, 1, 2, 11, 20)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rising = max(1, round(WARM_UP * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _backward(loss: Tensor) -> None:
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise EmbeddingError(
            f"the model can't be trained: {reason}", "use a readout of its features instead"
        ) from error


def _finite(values: Tensor, recipe: _Recipe) -> Tensor:
    if not torch.isfinite(values).all():
        raise EmbeddingError(
            "fine-tuning diverged: the loss is no longer finite",
            f"use a smaller learning rate than {recipe.learning_rate:g}, for example {recipe.learning_rate / 10:g}",
        )
    return values


@contextmanager
def _in_memory(batch_size: int) -> Iterator[None]:
    """Turn running out of memory into one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        hint = f"use `batch_size={max(1, batch_size // 4)}`" if batch_size > 1 else "use `device='cpu'`"
        raise EmbeddingError(f"memory ran out while training on batches of {batch_size} images", hint) from error
