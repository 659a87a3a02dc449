"""Registering a model: load, embed, compare, write. The registry is opened for writing last and briefly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from modelspace.attribution import METHODS
from modelspace.attribution.engine import MapRequest
from modelspace.embedding.batch_size import batch_size_for
from modelspace.embedding.embed import DEFAULT_BATCH_SIZE, LEAST_BATCH_SIZE, Progress, embed, pick_device
from modelspace.embedding.prepare import Prepared, Request, prepared
from modelspace.errors import ConflictError, EmbeddingError, NoGradientError, NotFoundError
from modelspace.probes.preprocess import to_input
from modelspace.registry import ProbeRow, ProbeSets, Registry, SpaceRow, catalogue
from modelspace.representations.maps import MapBlock
from modelspace.results import Added
from modelspace.spaces import affinity, probe_sets
from modelspace.spaces.kinds import space_of
from modelspace.timing import phase
from modelspace.types import ModelCard, SpaceSpec
from modelspace.verbs import pending
from modelspace.verbs.passes import Computed, check_batch_size

#: Called with a note that must be shown before the result.
OnNote = Callable[[str], None]

#: The expected time of a pass is reported if at least this number of seconds is left after the first batch.
LONG = 30


def add(
    path: Path,
    request: Request,
    *,
    batch_size: int | None,
    replacing: bool,
    progress: Progress | None,
    on_note: OnNote | None = None,
) -> Added:
    """See `modelspace.workspace.ModelSpace.add`."""
    check_batch_size(batch_size)
    waited = pending.notes_of(pending.store_waiting(path, timeout=pending.SHORT_WAIT))
    computed = compute(path, request, batch_size=batch_size, replacing=replacing, progress=progress, on_note=on_note)
    added = pending.store_or_keep(path, computed, replacing)
    return replace(added, notes=tuple(dict.fromkeys((*waited, *added.notes))))


def compute(
    path: Path,
    request: Request,
    *,
    batch_size: int | None,
    replacing: bool,
    progress: Progress | None,
    on_note: OnNote | None = None,
) -> Computed:
    """Load a model and embed it in the spaces that lack it. The registry is only read."""
    registry_id, rows, probes = catalogue.of_file(path)
    sets = ProbeSets(probes)
    if not rows:
        raise NotFoundError("the registry has no space yet", "make one with `space.init()`")
    example = probe_sets.first_images(path, sets[rows[0].spec.probe_id], request.n_images)
    with prepared(request, example, map_requests(row.spec for row in rows)) as model:
        card = model.card
        filled, remarks = _existing_spaces(path, card, replacing)
        notes = [*model.notes, *remarks]
        missing = [row for row in rows if row.spec.name not in filled]
        blocks: dict[str, list[MapBlock]] = {}
        # A blend follows from its members, which are spaces of the same registry.
        pairs = [(row.spec, sets[row.spec.probe_id]) for row in missing if not space_of(row.spec).is_derived]
        if pairs:
            try:
                blocks, card, pass_notes = run_pass(path, model, pairs, batch_size, progress, on_note)
            except NoGradientError as error:
                blocks, card, pass_notes = _kernels_alone(path, model, pairs, batch_size, progress, error, bool(filled))
                stored = {row.spec.space_id for row in rows if row.spec.name in filled}
                missing = _fillable(path, missing, {*stored, *blocks})
            notes += pass_notes
    names, ids = (tuple(row.spec.name for row in missing), tuple(row.spec.space_id for row in missing))
    return Computed(card, names, blocks, tuple(notes), registry_id, ids)


def map_requests(specs: Iterable[SpaceSpec]) -> list[MapRequest]:
    """The kinds of maps that spaces need."""
    collectors = [space_of(spec).collector() for spec in specs]
    return list(dict.fromkeys(each.request for each in collectors if each is not None and each.request is not None))


def _kernels_alone(
    path: Path,
    model: Prepared,
    pairs: Sequence[tuple[SpaceSpec, ProbeRow]],
    batch_size: int | None,
    progress: Progress | None,
    error: NoGradientError,
    is_stored: bool,
) -> tuple[dict[str, list[MapBlock]], ModelCard, tuple[str, ...]]:
    """As `run_pass`, in the spaces that need no gradient, for a model that has none; the note names the others.

    Raises:
        NoGradientError: none of the spaces can be filled, and the model is in no other.
    """
    without = [pair for pair in pairs if not space_of(pair[0]).has_maps]
    if not without and not is_stored:
        raise error
    left = ", ".join(spec.name for spec, _ in pairs if space_of(spec).has_maps)
    note = f"not in {left}, which need{'s' if ',' not in left else ''} a gradient: {error.message}; {error.hint}"
    if not without:
        return {}, model.card, (note,)
    try:
        blocks, card, notes = run_pass(path, model, without, batch_size, progress)
    except EmbeddingError:
        # Without a gradient and without a kernel: the first reason is the telling one.
        raise error from None
    return blocks, card, (note, *notes)


def _fillable(path: Path, missing: Sequence[SpaceRow], known: Collection[str]) -> list[SpaceRow]:
    """Those of the spaces whose blocks, or whose members' blocks, are all in spaces of the given ids."""
    with Registry.open(path) as registry:
        return [
            row
            for row in missing
            if {source.spec.space_id for source in space_of(row.spec).sources(registry)} <= set(known)
        ]


def _existing_spaces(path: Path, card: ModelCard, replacing: bool) -> tuple[tuple[str, ...], list[str]]:
    """The spaces that already hold this model under this name, and notes.

    Raises:
        ConflictError: the name belongs to another model, and `replacing` is False.
    """
    with phase("look up"), Registry.open(path) as registry:
        copies = [row for row in registry.find_identity(card.identity()) if row.card.name != card.name]
        row = affinity.find(registry, card.name)
    notes = [f"same weights, layer and preprocessing as {copy.card.name}" for copy in copies]
    if row is None or replacing:
        return (), notes
    if row.card.is_same_model(card):
        return row.spaces, notes
    raise ConflictError(
        f"the name {card.name!r} belongs to a model with other {' and '.join(row.card.differences(card))} "
        f"({row.card.uri})",
        "use another name with `name=`, or replace that model with `replace=True`",
    )


def run_pass(
    path: Path,
    model: Prepared,
    spaces: Sequence[tuple[SpaceSpec, ProbeRow]],
    batch_size: int | None,
    progress: Progress | None,
    on_note: OnNote | None = None,
) -> tuple[dict[str, list[MapBlock]], ModelCard, tuple[str, ...]]:
    """Embed a model in the given spaces, one pass per probe set.

    After the first batch, `on_note` is called with the expected time if it is long.

    Returns:
        Blocks by space id, the card completed by the pass, and notes for the user.

    Raises:
        EmbeddingError: the model can't be embedded, or after the first batch the passes are expected to take longer
            than `Prepared.max_seconds`.
    """
    blocks: dict[str, list[MapBlock]] = {}
    sets = {row.probe_id: row for _, row in spaces}
    groups = {probe_id: [spec for spec, row in spaces if row.probe_id == probe_id] for probe_id in sets}
    total = sum(max(spec.n_images for spec in specs) for specs in groups.values())
    seconds, offset = 0.0, 0
    checked: set[str] = set()
    shape: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def report(done: int, _: int) -> None:
        if progress:
            progress(offset + done, total)

    def judge(seconds_per_image: float, done: int) -> None:
        expected = seconds_per_image * total
        if model.max_seconds is not None and expected > model.max_seconds:
            raise EmbeddingError(
                f"the pass would take about {expected:.0f} seconds for {total} images, "
                f"more than the {model.max_seconds:g} that are allowed; nothing was stored",
                "allow more with `max_seconds=`, use another `device=`, or make a registry with fewer probe images: "
                "`ModelSpace.create(images=50)`",
            )
        if on_note and seconds_per_image * (total - done) > LONG:
            on_note(_long_pass(model, expected, total))

    for probe_id, specs in groups.items():
        size = max(LEAST_BATCH_SIZE, batch_size or _batch_size(path, model, sets[probe_id]))
        count = max(spec.n_images for spec in specs)
        images = probe_sets.Images(path, sets[probe_id], count, size)
        with phase("pass"):
            result = embed(
                model.tap,
                model.card.preprocessing,
                images,
                specs,
                device=model.device,
                progress=report,
                on_first_batch=judge if offset == 0 else None,
                passes=int(model.card.options.get("stochastic", 1)),
                # One check on two images suffices for all probe sets, unless other spaces need other gradients.
                check=not checked or not set(map(_scalar, specs)) <= checked,
            )
        checked |= set(map(_scalar, specs))
        notes += result.notes
        blocks.update(result.blocks)
        seconds, shape, offset = seconds + result.seconds, result.output_shape, offset + count
    return blocks, replace(model.card, seconds=seconds, output_shape=shape), tuple(dict.fromkeys(notes))


def _batch_size(path: Path, model: Prepared, row: ProbeRow) -> int:
    """Images per pass where the user named no number."""
    if model.device.type != "cuda":
        return DEFAULT_BATCH_SIZE
    example = probe_sets.first_images(path, row, 2)
    return batch_size_for(model.tap, to_input(example, model.card.preprocessing, model.device))


def _long_pass(model: Prepared, expected: float, total: int) -> str:
    """The remark on a pass that takes long, and what can be done about it."""
    remedies = []
    if model.max_seconds is None:
        remedies.append("`max_seconds=` stops a pass that would take too long")
    if model.device.type == "cpu" and (faster := pick_device().type) != "cpu":
        remedies.append(f"`device={faster!r}` is faster")
    lead = f"the pass will take about {_duration(expected)} for {total} images on {model.device}"
    return "; ".join(filter(None, (lead, ", ".join(remedies))))


def _duration(seconds: float) -> str:
    """A rough duration.

    >>> _duration(44), _duration(250), _duration(9000)
    ('40 seconds', '4 minutes', '2.5 hours')
    """
    if seconds < 95:
        return f"{round(seconds, -1):.0f} seconds"
    if seconds < 95 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _scalar(spec: SpaceSpec) -> str:
    """What of T a space explains, which decides what is checked; empty if it has no maps."""
    if not space_of(spec).has_maps:
        return ""
    return spec.scalar if METHODS[spec.method].of_scalar else spec.method
