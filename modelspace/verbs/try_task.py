"""The verb ``try``: models run on the images of a task, a few images first, and the best of them measured in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelspace.errors import UsageError
from modelspace.registry import Registry, outcomes
from modelspace.results import Trial, Trials
from modelspace.search.coverage import MANY, neighbourhood
from modelspace.search.race import FINALISTS, ROUNDS, ModelFailedError, Reading, Standing, race
from modelspace.types import ModelCard
from modelspace.verbs.bench import Bench, Score
from modelspace.verbs.knowledge import HELD_OUT, Knowledge, knowledge
from modelspace.verbs.prospects import basis_note, trying_order
from modelspace.verbs.tasks import Observation, observe

#: Largest number of models that are run if no budget is given.
BUDGET = 100

#: Largest number of training images, and of test images, that a finalist sees.
MOST_IMAGES = 2000

#: Called before each measurement with (round, rounds, model, models done, models of the round, images).
OnStep = Callable[[int, int, str, int, int, int], None]


@dataclass(frozen=True)
class Search:
    """How a search is done.

    Attributes:
        budget: number of models that are run; default: all, at most `BUDGET`.
        how: readout of the finalists (`modelspace.tasks.readout.READOUTS`).
        rounds: numbers of images of the rounds before the last.
        finalists: number of models that see all images.
        images: largest number of training images, and of test images; 0 for all.
        where: SQL condition on the models.
        space: see `modelspace.verbs.knowledge.knowledge`.
        device: of the models.
        batch_size: images per forward pass.
        models: name -> the module, or changes of the request that loads it.
    """

    budget: int | None = None
    how: str = "ridge"
    rounds: tuple[int, ...] = ROUNDS
    finalists: int = FINALISTS
    images: int = MOST_IMAGES
    where: str | None = None
    space: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    models: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 1:
            raise UsageError(f"a budget of {self.budget} models runs none", "example: `budget=8`")
        if self.finalists < 1:
            raise UsageError(f"a search needs at least one finalist, not {self.finalists}", "example: `finalists=3`")
        if self.images < 0 or 0 < self.images < 10:
            raise UsageError(f"{self.images} images are too few to learn from", "use 0 for all, or hundreds")


def try_task(
    path: Path,
    task_name: str,
    search: Search,
    *,
    progress: Callable[[int, int], None] | None = None,
    on_step: OnStep | None = None,
) -> Trials:
    """See `modelspace.workspace.ModelSpace.try_task`."""
    known = knowledge(path, task_name, search.where, search.space)
    bench = Bench(
        known.task,
        search.how,
        first=search.rounds[0] if search.rounds else ROUNDS[0],
        most=search.images or None,
        device=search.device,
        batch_size=search.batch_size,
        models=search.models,
        progress=progress,
    )
    runner = _Runner(path, bench, known)
    names = _field(known, runner, search)
    result = race(
        names,
        runner.measure,
        bench.n_train,
        rounds=search.rounds,
        finalists=search.finalists,
        expected=known.expected() or None,
        final=runner.final,
        on_step=on_step,
    )
    records = [
        _trial(rank, standing, runner, standing.model in result.tied)
        for rank, standing in enumerate(result.standings, start=1)
    ]
    notes = [*bench.images.notes, basis_note(known), *_verdict(records), *_left(known, names, search)]
    return Trials(records, task_name, known.task.metric, search.how, result.n_forwarded, bench.n_test, notes)


class _Runner:
    """Measures models on a bench, and stores what was measured at once, so that an interruption loses nothing."""

    def __init__(self, path: Path, bench: Bench, known: Knowledge) -> None:
        self.path, self.bench = path, bench
        self.cards: dict[str, ModelCard] = {model.card.name: model.card for model in known.models}
        self.metrics: dict[str, float | None] = {}
        self.scores: dict[str, Score] = {}
        with Registry.open(path) as registry:
            rows = outcomes.outcomes(registry, known.task.name)
        self._stored = {_key(row.model, row.weights_sha256, row.how, row.n_train, row.settings) for row in rows}

    def measure(self, model: str, n_images: int) -> Reading:
        """A readout on the first images."""
        card = self.cards[model]
        with self._failures(card):
            reading, metric = self.bench.reading(card, n_images)
        self.metrics[model] = metric
        if metric is not None and n_images < self.bench.n_train:
            self._store(card, metric, HELD_OUT, n_images)
        return reading

    def final(self, model: str) -> Reading:
        """A readout on all training images, and its score on the test images."""
        card = self.cards[model]
        with self._failures(card):
            reading, self.metrics[model] = self.bench.reading(card, self.bench.n_train)
            self.scores[model] = self.bench.score(card)
        self._store(card, self.scores[model].value, self.bench.readout.name, self.bench.n_train)
        return reading

    @contextmanager
    def _failures(self, card: ModelCard) -> Iterator[None]:
        """Store a model's failure on the data as an outcome, and pass it on."""
        try:
            yield
        except ModelFailedError as error:
            if error.by_model:
                self._store(card, None, self.bench.readout.name, 0, str(error))
            raise

    def _store(self, card: ModelCard, score: float | None, how: str, n_train: int, note: str = "") -> None:
        bench = self.bench
        settings = {"readout": bench.readout.name, "n_test": bench.n_test if how != HELD_OUT else 0}
        key = _key(card.name, card.weights_sha256, how, n_train, settings)
        if key in self._stored:
            return
        seconds = bench.seconds.get(card.name)
        observation = Observation(
            bench.task.name, card.name, score, how, n_train, bench.task.seed, seconds, note, settings=settings
        )
        observe(self.path, [observation])
        self._stored.add(key)


def _key(model: str, weights: str, how: str, n_train: int | None, settings: Mapping[str, Any]) -> tuple[object, ...]:
    return model, weights, how, n_train, tuple(sorted(settings.items()))


def _field(known: Knowledge, runner: _Runner, search: Search) -> list[str]:
    """Names of the models that take part, the most promising first."""
    names = known.names
    count = search.budget or BUDGET
    # Models that were measured before take part as well: the best of all is asked for.
    order = [number for number in known.order() if known.twins.get(names[number]) is None]
    failed = {name for name, row in known.measured.items() if row.score is None}
    order = [number for number in order if names[number] not in failed]
    if len(names) >= MANY and not known.n_tasks and len(order) > count:
        order = _spread(known, runner, search, order, count)
    if not order:
        raise UsageError(
            "all models failed on this task before", "see `space.outcomes(task)`; remove the task to retry"
        )
    return [names[number] for number in order[:count]]


def _spread(known: Knowledge, runner: _Runner, search: Search, order: list[int], count: int) -> list[int]:
    """In a large registry of which nothing is known: the middles of clusters, then the neighbours of the best."""
    first = trying_order(known, max(1, count // 2))[: max(1, count // 2)]
    size = min(search.rounds[0] if search.rounds else ROUNDS[0], runner.bench.n_train)
    values: dict[int, float] = {}
    for number in first:
        try:
            values[number] = runner.measure(known.names[number], size).value
        except ModelFailedError:
            continue
    best = sorted(values, key=lambda number: -values[number])[:3]
    near = neighbourhood(known.affinity, best, first, len(known.names)) if best else []
    allowed = set(order)
    return [*first, *(number for number in near if number in allowed)][:count]


def _trial(rank: int, standing: Standing, runner: _Runner, is_tied: bool) -> Trial:
    score = runner.scores.get(standing.model) if standing.stage == "finalist" else None
    note = standing.why
    if standing.stage == "dropped" and standing.surely_worse:
        note = "surely worse than the leader"
    return Trial(
        rank=rank,
        name=standing.model,
        stage=standing.stage,
        images=standing.n_images,
        held_out=runner.metrics.get(standing.model),
        score=None if score is None else score.value,
        low=None if score is None else score.low,
        high=None if score is None else score.high,
        tied=is_tied,
        seconds=runner.bench.seconds.get(standing.model, 0.0),
        note=note,
    )


def _verdict(records: list[Trial]) -> list[str]:
    """What the search found, in words."""
    if not records or records[0].stage != "finalist":
        return ["no model could be measured; the notes say why"]
    best = records[0].name
    tied = [record.name for record in records if record.tied]
    if not tied:
        return [f"start from {best}"]
    return [f"start from {best}; {' and '.join(tied)} can't be told apart from it with these data"]


def _left(known: Knowledge, names: list[str], search: Search) -> list[str]:
    notes = []
    twins = [f"{name} (near-copy of {other})" for name, other in known.twins.items() if other in names]
    if twins:
        notes.append(f"not run: {', '.join(twins)}")
    failed = sum(row.score is None for row in known.measured.values())
    if failed:
        notes.append(f"{failed} models that failed on these data before were not run again")
    if search.budget is None and len(known.models) - len(known.twins) > BUDGET:
        notes.append(f"the {BUDGET} most promising models were run; run more with `budget=`")
    return notes
