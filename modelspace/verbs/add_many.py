"""Registering many models: a pool loads and embeds them, and only this process writes, in the order of the manifest.

The order matters because a model's coordinates depend on its position: the same manifest gives the same registry with
any number of workers. Results that arrive early wait, and no job is started far ahead of the oldest unfinished one, so
the number of results in memory is bounded. Registered models are not loaded again, so a rerun resumes an interrupted
run.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspace.deprecated import renamed_argument
from modelspace.errors import ModelspaceError, NotFoundError
from modelspace.files import absent, expanded, is_folder, is_regular
from modelspace.names import did_you_mean
from modelspace.registry import ModelRow, Registry
from modelspace.registry.interrupts import deferred
from modelspace.results import PLANNED, Added, Outcome
from modelspace.sources import SOURCES, flags_of, parse_uri
from modelspace.spaces.kinds import space_of
from modelspace.verbs import loadable, manifest, pending
from modelspace.verbs.manifest import Entry
from modelspace.verbs.passes import check_batch_size
from modelspace.verbs.pools import Job, JobResult, Pool, describe, require_workers

if TYPE_CHECKING:
    from modelspace.verbs.pools import Report

#: Called with (models done, total models, current model, its images done, its total images).
BulkProgress = Callable[[int, int, str, int, int], None]

#: Number of attempts for a model whose worker died or found the registry busy.
TRIES = 2
#: Number of attempts to store a model while other processes lock the registry; each waits 10 seconds.
STORE_TRIES = 6
#: Number of jobs per worker that may be started beyond the oldest unfinished one.
_AHEAD = 2


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while models were added. The registry is intact and has all finished models.

    Attributes:
        outcomes: of all models, including those not reached.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        super().__init__()
        self.outcomes = list(outcomes)


def entries_of(models: str | Path | Iterable[Mapping[str, Any] | Entry]) -> list[Entry]:
    """The entries of a manifest file or catalog, or of the given mappings."""
    if isinstance(models, str | Path):
        return manifest.read(models)
    values: list[Any] = list(models)
    if all(isinstance(value, Entry) for value in values):
        return values
    return manifest.from_mappings(values)


@renamed_argument("told", "on_outcome")
def add_all(
    path: Path,
    entries: Sequence[Entry],
    *,
    workers: int | None = None,
    ray: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    replacing: bool = False,
    dry_run: bool = False,
    progress: BulkProgress | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    pool: Pool | None = None,
) -> list[Outcome]:
    """See `modelspace.workspace.ModelSpace.add_all`; `pool` is used instead of one chosen by `workers` and `ray`."""
    check_batch_size(batch_size)
    waited = () if dry_run else pending.notes_of(pending.store_waiting(path))
    plans = plan(path, entries, replacing)
    if waited and plans:
        plans[0] = replace(plans[0], notes=(*waited, *plans[0].notes))
    if dry_run:
        outcomes = [checked(entry, outcome) for entry, outcome in zip(entries, plans, strict=True)]
        for outcome in outcomes:
            if on_outcome:
                on_outcome(outcome)
        return outcomes
    run = _Run(path, entries, plans, device, batch_size, replacing, progress, on_outcome)
    if not run.order:
        return run.finish()
    pool = pool or _open_pool(path, workers, ray, len(run.order), run.report)
    return run.run(pool, _AHEAD * pool.count)


def _open_pool(path: Path, workers: int | None, ray: str | None, jobs: int, report: Report) -> Pool:
    if workers is not None:
        require_workers(workers)
    if ray is not None:
        from modelspace.verbs.pools.ray import RayPool

        return RayPool(path, ray, workers)
    if workers is not None:
        from modelspace.verbs.pools.processes import ProcessPool

        return ProcessPool(path, min(workers, jobs), report)
    from modelspace.verbs.pools.serial import SerialPool

    return SerialPool(path, report)


# ---- planning, before anything is loaded


def plan(path: Path, entries: Sequence[Entry], replacing: bool = False) -> list[Outcome]:
    """What would be done with each entry, without loading its model; status "would add", ...

    An entry counts as registered if a model of its name (or, without a name, of its address) has the same address,
    weights, layer and preprocessing, is in every space, and is newer than its files. With `replacing`, every model is
    loaded and compared.

    Raises:
        NotFoundError: the registry has no space yet.
    """
    with Registry.open(path) as registry:
        spaces = [row.spec.name for row in registry.spaces() if not space_of(row.spec).is_derived]
        rows = registry.models()
    if not spaces:
        raise NotFoundError("the registry has no space yet", "make one with `space.init()`")
    by_name = {row.card.name: row for row in rows}
    by_uri: dict[str, list[ModelRow]] = {}
    for row in rows:
        by_uri.setdefault(row.card.uri, []).append(row)
    outcomes = []
    for number, entry in enumerate(entries, 1):
        uri = entry.model if isinstance(entry.model, str) else None

        def outcome(status: str, name: str = entry.label or f"model {number}", **details: Any) -> Outcome:
            return Outcome(number, name, status, uri, **details)  # noqa: B023 - only called in this iteration

        if entry.model is None:
            outcomes.append(outcome("needs", message=entry.needs, hint="give the entry a uri"))
            continue
        namesake = by_name.get(entry.name) if entry.name else None
        candidates = [namesake] if namesake else by_uri.get(uri or "", []) if not entry.name else []
        registered = next((candidate for candidate in candidates if _is_same(entry, candidate)), None)
        missing = tuple(name for name in spaces if registered is None or name not in registered.spaces)
        if registered is not None and not missing and not replacing:
            outcomes.append(outcome("unchanged", registered.card.name, notes=_metadata_notes(entry, registered)))
        elif registered is not None and missing:
            outcomes.append(outcome("would complete", registered.card.name, spaces=missing))
        elif namesake is not None:
            outcomes.append(outcome("would compare", spaces=missing))
        else:
            outcomes.append(outcome("would add", spaces=missing))
    return outcomes


def _is_same(entry: Entry, row: ModelRow) -> bool:
    """Whether a registered model is the entry's, as far as this shows without loading it."""
    card, options = row.card, entry.options
    layer, weights = options.get("layer"), options.get("weights")
    # A user-given layer is stored as it was given, which may be a pattern.
    choice = card.layer_choice
    if choice.given if layer is None else layer not in (card.layer, choice.pattern):
        return False
    if card.uri != entry.model or card.tags.get("weights") != weights:
        return False
    if "weights_key" in options and card.tags.get("weights_key") != options["weights_key"]:
        return False
    for key, value in flags_of(options.get("preprocessing")).stated().items():
        stored = getattr(card.preprocessing, key)
        if value != stored and not (isinstance(stored, tuple) and len(value) == 1 and set(value) == set(stored)):
            return False
    if row.added_at > datetime.now(UTC):
        return False  # the clock was set back: dates of files say nothing
    loaded_at = row.added_at - timedelta(seconds=card.seconds)
    return all(_changed_at(file) < loaded_at for file in _files(entry))


def _files(entry: Entry) -> list[Path]:
    """The files that an entry names."""
    files = [Path(entry.options["weights"])] if "weights" in entry.options else []
    if isinstance(entry.model, str):
        scheme, address = parse_uri(entry.model)
        module = address.rpartition(":")[0]
        if scheme == "python" and module.endswith(".py"):
            files.append(expanded(Path(module)))
        elif scheme in manifest.FILE_SCHEMES:
            files.append(expanded(Path(address)))
    return files


def _changed_at(file: Path) -> datetime:
    try:
        # A copy may keep the date of the contents; the date of the file's entry is the system's.
        status = file.stat()
        return datetime.fromtimestamp(max(status.st_mtime, status.st_ctime), UTC)
    except OSError:  # a deleted file doesn't invalidate the registered model
        return datetime.min.replace(tzinfo=UTC)


def _metadata_notes(entry: Entry, row: ModelRow) -> tuple[str, ...]:
    """A note if the metadata of an entry differ from the registered ones, which are not changed."""
    options, card = entry.options, row.card
    differs = any(options.get(key) not in (None, getattr(card, key)) for key in ("task", "data")) or any(
        card.tags.get(key) != value for key, value in options.get("tags", {}).items()
    )
    note = f"task, data and tags were not changed; `space.tag({card.name!r}, ...)` sets them"
    return (note,) if differs else ()


def checked(entry: Entry, outcome: Outcome) -> Outcome:
    """The plan, or a failure if the address or files are known to be wrong without loading the model."""
    if entry.model is None or outcome.status == "unchanged":
        return outcome
    try:
        for file in _files(entry):
            if not is_regular(file):
                siblings = [other.name for other in file.parent.glob("*")] if is_folder(file.parent) else []
                raise NotFoundError(absent(file), did_you_mean(file.name, siblings))
        if isinstance(entry.model, str):
            options = entry.options
            _check_address(entry.model, options.get("weights"))
            flags = flags_of(options.get("preprocessing"))
            loadable.check(entry.model, options.get("weights"), options.get("weights_key"), flags)
    except ModelspaceError as error:
        return Outcome(outcome.entry, outcome.name, "failed", outcome.uri, message=error.message, hint=error.hint)
    return outcome


def _check_address(uri: str, weights: str | None) -> None:
    """Check the address of a model as far as possible without loading it.

    Raises:
        ModelspaceError: loading the model would fail.
    """
    scheme, address = parse_uri(uri)
    module, _, name = address.rpartition(":")
    if scheme == "zoo":
        from modelspace import zoo

        zoo.card(address)
    elif scheme == "python" and module.endswith(".py"):
        _check_factory(expanded(Path(module)), name)
    elif scheme == "python":
        _check_package(module.partition(".")[0])
    elif scheme == "package":
        from modelspace.sources import package

        package.find(address)
    else:
        _check_installed(scheme)
        if scheme == "taskonomy":
            from modelspace.sources import taskonomy

            encoder = taskonomy.find(address)
            file = taskonomy.cache_path(encoder)
            if weights is None and not is_regular(file):
                raise NotFoundError(f"its weights are missing: {file}", f"fetch {taskonomy.URL}{encoder.file}")
        elif scheme == "timm":
            from modelspace.sources.timm_models import timm

            if not timm.is_model(address.partition(".")[0]):
                networks = timm.list_models(include_tags=False)
                raise NotFoundError(f"timm has no network called {address!r}", did_you_mean(address, networks))


def _check_package(package: str) -> None:
    """Raise NotFoundError if a Python package is neither in the current folder nor installed."""
    folder = Path.cwd()
    if (folder / package).is_dir() or (folder / f"{package}.py").is_file() or package in sys.modules:
        return
    if not package.isidentifier() or not importlib.util.find_spec(package):
        raise NotFoundError(f"there is no Python module {package!r}", "is it installed, and is the name right?")


def _check_factory(file: Path, name: str) -> None:
    """Raise an error if a Python file has no such name at its top level; the file is parsed, not run."""
    try:
        body = ast.parse(file.read_bytes(), str(file)).body
    except (SyntaxError, ValueError) as error:
        raise ModelspaceError(f"{file} is not Python: {error}") from None
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif not isinstance(node, ast.Expr):
            # Assignments, and definitions nested in an if or a try.
            names |= {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
            names |= {child.name for child in ast.walk(node) if isinstance(child, ast.FunctionDef | ast.ClassDef)}
    if name.partition(".")[0] not in names and "*" not in names and "__getattr__" not in names:
        raise NotFoundError(f"{file} has no {name}", did_you_mean(name, names, f"it has {', '.join(sorted(names))}"))


def _check_installed(scheme: str) -> None:
    info = SOURCES[scheme]
    try:
        importlib.import_module(info.module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ModelspaceError(
            f"addresses starting with {scheme}: need the Python package {package!r}, which is not installed",
            f"pip install 'modelspace-db[{info.extra}]'" if info.extra else f"pip install {package}",
        ) from None


# ---- the run


class _Run:
    """One run over a manifest; see `add_all`."""

    def __init__(
        self,
        path: Path,
        entries: Sequence[Entry],
        plans: Sequence[Outcome],
        device: str,
        batch_size: int | None,
        replacing: bool,
        progress: BulkProgress | None,
        on_outcome: Callable[[Outcome], None] | None,
    ) -> None:
        self.path, self.entries, self.plans = path, entries, plans
        self.device, self.batch_size, self.replacing = device, batch_size, replacing
        self.progress, self.on_outcome = progress, on_outcome
        self.outcomes: dict[int, Outcome] = {}
        self.order = [i for i, outcome in enumerate(plans) if outcome.status in PLANNED]
        for i, outcome in enumerate(plans):
            if outcome.status not in PLANNED:
                self.conclude(i, outcome)

    def run(self, pool: Pool, ahead: int) -> list[Outcome]:
        """Embed the planned models and store them in order, at most `ahead` jobs beyond the oldest unfinished one."""
        position = {job: i for i, job in enumerate(self.order)}
        tries: Counter[int] = Counter()
        waiting: dict[int, JobResult] = {}
        submitted = stored = 0

        def submit() -> None:
            nonlocal submitted
            while submitted < len(self.order) and submitted < stored + ahead:
                pool.submit(self.job(self.order[submitted]))
                submitted += 1

        try:
            submit()
            for result in pool.results():
                tries[result.number] += 1
                if result.retry and tries[result.number] < TRIES:
                    pool.submit(self.job(result.number))
                    continue
                waiting[position[result.number]] = result
                ready = list(itertools.takewhile(waiting.__contains__, itertools.count(stored)))
                with deferred():
                    self.store_all([waiting[i] for i in ready])
                # Deleted only now, so that after an interruption they are still stored below.
                for i in ready:
                    del waiting[i]
                stored += len(ready)
                submit()
        except BaseException as error:
            pool.close()
            for i in sorted(waiting):
                if self.order[i] not in self.outcomes:
                    with suppress(KeyboardInterrupt), deferred():
                        self.store(waiting[i])
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(self.finish()) from None
            raise
        finally:
            pool.close()
        return self.finish()

    def job(self, i: int) -> Job:
        """The job of an entry."""
        entry = self.entries[i]
        return Job(i, {"device": self.device, **entry.options}, entry.batch_size or self.batch_size, self.replacing)

    def report(self, i: int, done: int, total: int) -> None:
        """Report the images done of an entry's model."""
        if self.progress:
            self.progress(len(self.outcomes), len(self.entries), self.entries[i].label, done, total)

    def store_all(self, results: Sequence[JobResult]) -> None:
        """Write embedded models to the registry, several in one transaction, and record the outcomes.

        If one of several can't be stored, each is stored by itself, and those that can't are reported.
        """
        passes = {result.number: result.computed for result in results if result.computed and result.computed.spaces}
        added: dict[int, Added] = {}
        if len(passes) > 1:
            with suppress(Exception):
                rows = pending.store_batch(self.path, list(passes.values()), self.replacing, STORE_TRIES)
                added = dict(zip(passes, rows, strict=True))
        for result in results:
            self.store(result, added.get(result.number))

    def store(self, result: JobResult, added: Added | None = None) -> None:
        """Write an embedded model to the registry, unless it was added already, and record the outcome."""
        entry, plan = self.entries[result.number], self.plans[result.number]

        def failed(message: str, hint: str) -> Outcome:
            return replace(plan, status="failed", spaces=(), message=message, hint=hint)

        if result.computed is None:
            self.conclude(result.number, failed(result.message, result.hint))
            return
        try:
            # Workers read the registry all the time, and the embedding took minutes, so it is tried several times.
            added = added or pending.store_or_keep(self.path, result.computed, self.replacing, tries=STORE_TRIES)
        except Exception as error:
            # The transaction was rolled back, and the next model may succeed.
            message, hint = describe(error)
            self.conclude(result.number, failed(message, hint))
            return
        if added.status == "unchanged":
            with Registry.open(self.path) as registry:
                notes = (*plan.notes, *added.notes, *_metadata_notes(entry, registry.model(added.name)))
            outcome = Outcome(plan.entry, added.name, "unchanged", plan.uri or added.card.uri, notes=notes)
        else:
            outcome = Outcome(
                plan.entry,
                added.name,
                added.status,
                plan.uri or added.card.uri,
                added.spaces,
                added.card.seconds,
                notes=(*plan.notes, *added.notes),
            )
        self.conclude(result.number, outcome)

    def conclude(self, i: int, outcome: Outcome) -> None:
        """Record and report the outcome of an entry."""
        self.outcomes[i] = outcome
        if self.on_outcome:
            self.on_outcome(outcome)
        if self.progress:
            self.progress(len(self.outcomes), len(self.entries), outcome.name, 0, 0)

    def finish(self) -> list[Outcome]:
        """The outcomes of all entries, in the order of the manifest."""
        return [
            self.outcomes.get(i) or Outcome(plan.entry, plan.name, "not reached", plan.uri)
            for i, plan in enumerate(self.plans)
        ]
