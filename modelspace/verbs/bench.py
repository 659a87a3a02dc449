"""A task's data, ready for measuring models on it: split, decoded when needed, with the features of earlier runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import ConflictError, EmbeddingError, ModelspaceError, UsageError
from modelspace.registry.rows import TaskRow
from modelspace.search.race import ModelFailedError, Reading
from modelspace.tasks import measuring
from modelspace.tasks.cache import FeatureCache
from modelspace.tasks.data import LabelledImages, read
from modelspace.tasks.metrics import Kind
from modelspace.tasks.pixels import Pixels
from modelspace.tasks.readout import HeldOut, Readout, readout_for
from modelspace.tasks.splits import Split, split
from modelspace.types import ModelCard
from modelspace.verbs.passes import check_batch_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelspace.embedding.prepare import Prepared

Array = NDArray[np.float64]

#: Images whose features are kept at once: an interruption loses at most these.
CHUNK = 256

#: Number of resamples of the test images for an interval.
_RESAMPLES = 500

#: Called with (images done, images of this step).
OnImages = Callable[[int, int], None]


@dataclass(frozen=True)
class Score:
    """A model's score on the test images.

    Attributes:
        value: in the task's metric.
        low, high: 95% interval over the test images; None if there is none.
    """

    value: float
    low: float | None
    high: float | None


class Bench:
    """The images, labels and readout of a task.

    Args:
        task: the task; it needs data.
        readout: name of the readout.
        first: number of images that a search looks at first.
        most: largest number of training images, and of test images; None for all.
        device: of the models.
        batch_size: images per forward pass.
        models: name -> changes of the request that loads it, or the module itself.
        needs_metric: whether the task's metric must be computed here, and not by a program of the user.
        progress: called with (images read, total images) while the data are read.

    Raises:
        UsageError: the task has no data, or its metric can't be computed from predictions.
        ConflictError: the data changed since the task was registered.
        NotFoundError, ModelspaceError: as `modelspace.tasks.data.read`.
    """

    def __init__(
        self,
        task: TaskRow,
        readout: str = "ridge",
        *,
        first: int = 60,
        most: int | None = None,
        device: str = "auto",
        batch_size: int | None = None,
        models: Mapping[str, Any] | None = None,
        needs_metric: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.task = task
        self.images = _images(task, needs_metric, progress)
        parts = split(self.images, task.seed, first)
        self.split = Split(parts.train[:most], parts.test[:most])
        self.labels = np.array(self.images.labels, dtype=np.intp if self.images.classes else np.float64)
        self.readout: Readout = readout_for(readout, self.labels)
        self.pixels = Pixels(self.images)
        self.seconds: dict[str, float] = {}
        self.on_images: OnImages | None = None
        check_batch_size(batch_size)
        self._device, self._batch_size, self._models = device, batch_size, dict(models or {})
        self._caches: dict[str, FeatureCache] = {}
        # The last held-out predictions, which choosing a model and testing it both need.
        self._seen: dict[tuple[str, int], tuple[HeldOut, NDArray[Any]]] = {}

    @property
    def n_train(self) -> int:
        """Number of training images."""
        return len(self.split.train)

    @property
    def n_test(self) -> int:
        """Number of test images."""
        return len(self.split.test)

    def reading(self, card: ModelCard, n_images: int) -> tuple[Reading, float | None]:
        """What a readout of a model's features shows on the first training images, and the metric of its predictions.

        The metric is None if only a program of the user can compute it.

        Raises:
            ModelFailedError: the model can't be loaded, or fails on an image.
        """
        with self.timed(card):
            held_out, labels = self._held_out(card, self.split.train[:n_images])
            known = measuring.computable(self.task.metric)
            metric = measuring.measured(self.task.metric, held_out.predictions, labels) if known else None
        return Reading(held_out.value, held_out.errors, held_out.mistakes), metric

    def score(self, card: ModelCard) -> Score:
        """The score of a model on the test images, by a readout of all training images.

        Raises:
            ModelFailedError: the model can't be loaded, or fails on an image.
        """
        with self.timed(card):
            held_out, labels = self._held_out(card, self.split.train)
            known = self.features(card, self.split.train)
            asked = self.features(card, self.split.test)
            predictions = self.readout.test(known, labels, asked, held_out.fitted)
            return self.scored(predictions, self.labels[list(self.split.test)])

    def scored(self, predictions: Array, labels: NDArray[Any]) -> Score:
        """The metric of some predictions, with its interval."""
        metric = self.task.metric
        value = measuring.measured(metric, predictions, labels)
        draws = []
        random = np.random.default_rng(0)
        for _ in range(_RESAMPLES):
            picks = random.integers(len(labels), size=len(labels))
            try:
                draws.append(measuring.measured(metric, predictions[picks], labels[picks]))
            except UsageError:
                continue  # the resample has one class alone, for which the metric is not defined
        low, high = np.quantile(draws, [0.025, 0.975]) if draws else (value, value)
        return Score(value, float(low), float(high))

    def features(self, card: ModelCard, numbers: Sequence[int]) -> Array:
        """(n, d) features of some images, from the cache where they are known.

        Raises:
            ModelFailedError: the model can't be loaded, or fails on an image.
        """
        cache = self._cache(card)
        hashes = [self.images.hashes[number] for number in numbers]
        missing = cache.missing(hashes)
        if missing:
            self._extract(card, cache, [numbers[place] for place in missing])
        return cache.get(hashes).astype(np.float64)

    @contextmanager
    def prepared(self, card: ModelCard) -> Iterator[Prepared]:
        """A registered model, loaded again, on its device.

        Raises:
            ModelFailedError: it can't be loaded, or has other weights.
        """
        from modelspace.embedding.prepare import prepared
        from modelspace.embedding.stored import check_same, request_for

        try:
            changes = self._models.get(card.name, {})
            request = request_for(card, **changes) if isinstance(changes, Mapping) else _request(card, changes)
            request = replace(request, device=self._device)
            with ExitStack() as opened:
                model = opened.enter_context(prepared(request, self._example()))
                check_same(card, model.card)
                stack = opened.pop_all()
        except ModelspaceError as error:
            raise ModelFailedError(sentence(error), by_model=isinstance(error, EmbeddingError)) from error
        with stack:
            yield model

    def _held_out(self, card: ModelCard, numbers: Sequence[int]) -> tuple[HeldOut, NDArray[Any]]:
        """Held-out predictions, and the labels in their numbering, which is of the classes that occur."""
        key = (card.name, len(numbers))
        if key in self._seen:
            return self._seen[key]
        labels = self.labels[list(numbers)]
        if self.images.classes:
            labels = np.unique(labels, return_inverse=True)[1].reshape(-1)
        features = self.features(card, numbers)
        try:
            self._seen = {key: (self.readout.held_out(features, labels), labels)}
        except UsageError as error:
            raise ModelFailedError(sentence(error)) from error
        return self._seen[key]

    def _extract(self, card: ModelCard, cache: FeatureCache, numbers: Sequence[int]) -> None:
        from modelspace.embedding.features import features

        with self.prepared(card) as model:
            for start in range(0, len(numbers), CHUNK):
                part = numbers[start : start + CHUNK]
                done = start

                def report(count: int, done: int = done) -> None:
                    if self.on_images is not None:
                        self.on_images(done + count, len(numbers))

                with as_failure():
                    table = features(
                        model,
                        self.pixels.take(part),
                        first=min(part),
                        batch_size=self._batch_size,
                        on_batch=report,
                    )
                cache.put([self.images.hashes[number] for number in part], table)

    def _cache(self, card: ModelCard) -> FeatureCache:
        from modelspace.embedding.features import VERSION

        if card.name not in self._caches:
            key = f"{card.identity()} {VERSION}"
            self._caches[card.name] = FeatureCache(self.images.fingerprint, key)
        return self._caches[card.name]

    def _example(self) -> np.ndarray:
        """Two images of one size, on which a model is tapped."""
        image = self.pixels[self.split.train[0]]
        other = self.pixels[self.split.train[1]]
        return np.stack([image, other if other.shape == image.shape else image[::-1, ::-1]])

    @contextmanager
    def timed(self, card: ModelCard) -> Iterator[None]:
        """Count the wall time of a measurement of the model."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[card.name] = self.seconds.get(card.name, 0.0) + time.perf_counter() - start


@contextmanager
def as_failure() -> Iterator[None]:
    """Turn the errors of a model in a forward pass into a failure of that model alone."""
    from modelspace.attribution.memory import is_out_of_memory

    try:
        yield
    except EmbeddingError as error:
        raise ModelFailedError(sentence(error)) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelFailedError("out of memory (give fewer images per pass with `batch_size=`)") from error


def _images(task: TaskRow, needs_metric: bool, progress: Callable[[int, int], None] | None) -> LabelledImages:
    if not task.location:
        raise UsageError(
            f"task {task.name!r} has no data, so no model can be tried on it",
            "register it with its images: `space.add_task('name', 'folder')`",
        )
    if needs_metric and not measuring.computable(task.metric):
        raise UsageError(
            f"the metric {task.metric!r} can't be computed from predictions",
            "give a program that measures it, with `run=`, or observe scores that were measured elsewhere",
        )
    images = read(task.location, cast(Kind, task.kind), progress)
    if images.fingerprint != task.data_sha256:
        raise ConflictError(
            f"the data of task {task.name!r} changed since it was registered",
            "register them under a new name, so that old scores stay with the old data: "
            f"`space.add_task('new', {task.location!r})`",
        )
    return images


def _request(card: ModelCard, module: Any) -> Any:
    from modelspace.embedding.prepare import Request

    return Request(module, name=card.name, layer=card.layer, preprocessing=card.preprocessing, **card.options)


def sentence(error: ModelspaceError) -> str:
    """An error and its hint in one line."""
    return f"{error.message} ({error.hint})" if error.hint else error.message
