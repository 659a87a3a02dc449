"""The verb ``scores``: what all scores from labels say of models on the training images of a task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from modelspace import scores
from modelspace.errors import NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.registry import Registry, outcomes
from modelspace.results import LabelScore, Records
from modelspace.search.race import ModelFailedError
from modelspace.types import ModelCard
from modelspace.verbs.bench import Bench, as_failure

#: Number of images if none is given: from there on, more images change little.
IMAGES = 120


def label_scores(
    path: Path,
    task: str,
    models: Sequence[str] = (),
    *,
    names: Sequence[str] = (),
    images: int = IMAGES,
    where: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Records[LabelScore]:
    """See `modelspace.workspace.ModelSpace.label_scores`."""
    if images < 4:
        raise UsageError(f"{images} images are too few for a score from labels", "use 60 or more")
    with Registry.open(path) as registry:
        row = outcomes.task(registry, task)
        cards = [registry.model(name).card for name in models] or [model.card for model in registry.models(where)]
    if not cards:
        raise UsageError(
            "no model meets the condition" if where else "the registry has no models", "see `space.list()`"
        )
    bench = Bench(row, first=images, device=device, batch_size=batch_size, needs_metric=False)
    labels = bench.labels[list(bench.split.train[:images])]
    chosen = _chosen(names, labels)
    records: list[LabelScore] = []
    for done, card in enumerate(cards):
        if progress is not None:
            progress(done, len(cards))
        records += _of_model(bench, card, labels, chosen)
    if progress is not None:
        progress(len(cards), len(cards))
    return Records(records, LabelScore)


def _chosen(names: Sequence[str], labels: np.ndarray) -> tuple[str, ...]:
    usable = scores.applicable(labels, class_outputs=True)
    if not names:
        return usable
    for name in names:
        if name not in scores.SCORES:
            raise NotFoundError(f"there is no score {name!r}", did_you_mean(name, list(scores.SCORES)))
        if name not in usable:
            raise UsageError(f"the score {name} is not for such labels", f"use {', '.join(usable)}")
    return tuple(dict.fromkeys(names))


def _of_model(bench: Bench, card: ModelCard, labels: np.ndarray, chosen: Sequence[str]) -> Iterator[LabelScore]:
    numbers = bench.split.train[: len(labels)]
    started = time.perf_counter()
    try:
        features = bench.features(card, numbers)
        seconds = time.perf_counter() - started
        outputs = None
        if any(scores.SCORES[name].needs == "class outputs" for name in chosen):
            outputs = _class_outputs(bench, card, numbers)
    except ModelFailedError as error:
        yield from (LabelScore(card.name, name, None, len(numbers), 0.0, 0.0, str(error)) for name in chosen)
        return
    for name in chosen:
        if scores.SCORES[name].needs == "class outputs" and outputs is None:
            yield LabelScore(card.name, name, None, len(numbers), 0.0, seconds, "the model has no class outputs")
            continue
        try:
            result = scores.timed(features, labels, [name], class_outputs=outputs)[name]
        except UsageError as error:
            yield LabelScore(card.name, name, None, len(numbers), 0.0, seconds, error.message)
        else:
            yield LabelScore(card.name, name, result.score, len(numbers), result.seconds, seconds)


def _class_outputs(bench: Bench, card: ModelCard, numbers: Sequence[int]) -> np.ndarray | None:
    from modelspace.embedding.features import class_outputs

    with bench.prepared(card) as model, as_failure():
        return class_outputs(model, bench.pixels.take(numbers))
