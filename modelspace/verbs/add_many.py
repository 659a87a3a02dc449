"""Registering many models: a pool loads and embeds them, this process alone writes, in the order of the manifest.

The order is kept because a model's position is part of its coordinates: the same manifest gives the same registry, however
many workers there are. A result that comes early waits, and no job is handed out that is far ahead of the oldest one
missing, so that a bounded number of results is in memory. What is registered already is not loaded again, which makes a rerun
do the rest of an interrupted run.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspace.errors import BusyError, ModelspaceError, NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.registry import ModelRow, Registry
from modelspace.results import PLANNED, Outcome
from modelspace.sources import SOURCES, flags_of, parse_uri
from modelspace.spaces.kinds import space_of
from modelspace.verbs import manifest
from modelspace.verbs.manifest import Entry
from modelspace.verbs.pools import Done, Job, Pool, described

if TYPE_CHECKING:
    from modelspace.verbs.pools import Report

#: Called with (models finished, models in all, what is under way, its images done, its images in all).
BulkProgress = Callable[[int, int, str, int, int], None]

#: A model whose worker died, or found the registry busy, is tried so often in all.
TRIES = 2
#: So often is a model that is ready to be stored tried, where other processes hold the registry; each waits 10 seconds.
_STORE_TRIES = 6
#: Jobs per worker that may be ahead of the oldest one that is not finished.
_AHEAD = 2


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while models were added: the registry is sound, and holds all that was finished.

    Attributes:
        outcomes: of all models, "not reached" among them.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        super().__init__()
        self.outcomes = list(outcomes)


def entries_of(models: str | Path | Iterable[Mapping[str, Any] | Entry]) -> list[Entry]:
    """A manifest's file, the name of a catalog, or the entries themselves."""
    if isinstance(models, str | Path):
        return manifest.read(models)
    given = list(models)
    if all(isinstance(value, Entry) for value in given):
        return given  # type: ignore[return-value]
    return manifest.from_mappings(given)  # type: ignore[arg-type]


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
    told: Callable[[Outcome], None] | None = None,
    pool: Pool | None = None,
) -> list[Outcome]:
    """See `modelspace.workspace.ModelSpace.add_all`.

    Args:
        pool: where to embed; default: as `workers` and `ray` say.
        told: called with each outcome when it is known.
    """
    plans = plan(path, entries, replacing)
    if dry_run:
        outcomes = [_checked(entry, outcome) for entry, outcome in zip(entries, plans, strict=True)]
        for outcome in outcomes:
            if told:
                told(outcome)
        return outcomes
    run = _Run(path, entries, plans, device, batch_size, replacing, progress, told)
    if not run.order:
        return run.finish()
    pool = pool or _open_pool(path, workers, ray, len(run.order), run.report)
    return run.go(pool, _AHEAD * pool.count)


def _open_pool(path: Path, workers: int | None, ray: str | None, jobs: int, report: Report) -> Pool:
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers can do nothing", "example: `workers=2`")
    if ray is not None:
        from modelspace.verbs.pools.ray import OnRay

        return OnRay(path, ray, workers)
    if workers is not None:
        from modelspace.verbs.pools.processes import Processes

        return Processes(path, min(workers, jobs), report)
    from modelspace.verbs.pools.serial import Here

    return Here(path, report)


# ---- before anything is loaded


def plan(path: Path, entries: Sequence[Entry], replacing: bool = False) -> list[Outcome]:
    """What would be done with each entry, as far as the registry and the manifest tell; status "would add", ...

    An entry counts as registered without being loaded if a model of its name (or, without a name, of its address) has this
    address, these weights, layer and preprocessing, is in every space, and is younger than the files that it was loaded
    from. With `replacing`, everything is loaded and compared.

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

        def outcome(status: str, name: str = entry.label or f"model {number}", **more: Any) -> Outcome:
            return Outcome(number, name, status, uri, **more)  # noqa: B023 - called in this round only

        if entry.model is None:
            outcomes.append(outcome("needs", message=entry.needs, hint="give the entry a uri"))
            continue
        named = by_name.get(entry.name) if entry.name else None
        known = [named] if named else by_uri.get(uri or "", []) if not entry.name else []
        same = next((row for row in known if _is_same(entry, row)), None)
        missing = tuple(name for name in spaces if same is None or name not in same.spaces)
        if same is not None and not missing and not replacing:
            outcomes.append(outcome("unchanged", same.card.name, notes=_asks_for_more(entry, same)))
        elif same is not None and missing:
            outcomes.append(outcome("would complete", same.card.name, spaces=missing))
        elif named is not None:
            outcomes.append(outcome("would compare", spaces=missing))
        else:
            outcomes.append(outcome("would add", spaces=missing))
    return outcomes


def _is_same(entry: Entry, row: ModelRow) -> bool:
    """Whether a registered model is the entry's, as far as can be told without loading it."""
    card, options = row.card, entry.options
    layer, weights = options.get("layer"), options.get("weights")
    # A layer that was named is remembered as it was typed; it may be a pattern.
    choice = card.layer_choice
    if choice.given if layer is None else layer not in (card.layer, choice.pattern):
        return False
    if card.uri != entry.model or card.tags.get("weights") != weights:
        return False
    for key, value in flags_of(options.get("preprocessing")).stated().items():
        stored = getattr(card.preprocessing, key)
        if value != stored and not (isinstance(stored, tuple) and len(value) == 1 and set(value) == set(stored)):
            return False
    loaded_at = row.added_at - timedelta(seconds=card.seconds)
    return all(_changed_at(file) < loaded_at for file in _files(entry))


def _files(entry: Entry) -> list[Path]:
    """The files that an entry names."""
    files = [Path(entry.options["weights"])] if "weights" in entry.options else []
    if isinstance(entry.model, str):
        scheme, rest = parse_uri(entry.model)
        place = rest.rpartition(":")[0]
        if scheme == "python" and place.endswith(".py"):
            files.append(Path(place).expanduser())
        elif scheme in manifest.FILE_SCHEMES:
            files.append(Path(rest).expanduser())
    return files


def _changed_at(file: Path) -> datetime:
    try:
        return datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except OSError:  # gone: what is registered stays
        return datetime.min.replace(tzinfo=UTC)


def _asks_for_more(entry: Entry, row: ModelRow) -> tuple[str, ...]:
    options, card = entry.options, row.card
    differs = any(options.get(key) not in (None, getattr(card, key)) for key in ("task", "data")) or any(
        card.tags.get(key) != value for key, value in options.get("tags", {}).items()
    )
    told = f"its task, data and tags are as before; `space.tag({card.name!r}, ...)` sets them"
    return (told,) if differs else ()


def _checked(entry: Entry, outcome: Outcome) -> Outcome:
    """A plan, or why it would fail: what can be known of the address and the files without loading the model."""
    if entry.model is None or outcome.status == "unchanged":
        return outcome
    try:
        for file in _files(entry):
            if not file.is_file():
                beside = [other.name for other in file.parent.glob("*")] if file.parent.is_dir() else []
                raise NotFoundError(f"there is no file {file}", did_you_mean(file.name, beside))
        if isinstance(entry.model, str):
            _check_address(entry.model, entry.options.get("weights"))
    except ModelspaceError as error:
        return Outcome(outcome.entry, outcome.name, "failed", outcome.uri, message=error.message, hint=error.hint)
    return outcome


def _check_address(uri: str, weights: str | None) -> None:
    scheme, rest = parse_uri(uri)
    place, _, name = rest.rpartition(":")
    if scheme == "zoo":
        from modelspace import zoo

        zoo.card(rest)
    elif scheme == "python" and place.endswith(".py"):
        _check_factory(Path(place).expanduser(), name)
    elif scheme == "python":
        package = place.partition(".")[0]
        here = Path.cwd()
        if not (here / package).is_dir() and not (here / f"{package}.py").is_file() and package not in sys.modules:
            found = package.isidentifier() and importlib.util.find_spec(package)
            if not found:
                raise NotFoundError(f"there is no Python module {package!r}", "is it installed, and is the name right?")
    else:
        _check_installed(scheme)
        if scheme == "taskonomy":
            from modelspace.sources import taskonomy

            encoder = taskonomy.find(rest)
            file = taskonomy.cache_path(encoder)
            if weights is None and not file.is_file():
                raise NotFoundError(f"its weights are not there: {file}", f"fetch {taskonomy.URL}{encoder.file}")
        elif scheme == "timm":
            from modelspace.sources.timm_models import timm

            if not timm.is_model(rest.partition(".")[0]):
                networks = timm.list_models(include_tags=False)
                raise NotFoundError(f"timm has no network called {rest!r}", did_you_mean(rest, networks))


def _check_factory(file: Path, name: str) -> None:
    """Whether a Python file has something of this name at its top level; the file is parsed and not run."""
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
            # Assignments, and whatever may hide in an if or a try.
            names |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            names |= {each.name for each in ast.walk(node) if isinstance(each, ast.FunctionDef | ast.ClassDef)}
    if name.partition(".")[0] not in names and "*" not in names and "__getattr__" not in names:
        raise NotFoundError(f"{file} has no {name}", did_you_mean(name, names, f"it has {', '.join(sorted(names))}"))


def _check_installed(scheme: str) -> None:
    info = SOURCES[scheme]
    try:
        importlib.import_module(info.module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ModelspaceError(
            f"addresses that begin with {scheme}: need the Python package {package!r}, which is not installed",
            f"pip install 'modelspace[{info.extra}]'" if info.extra else f"pip install {package}",
        ) from None


# ---- the run


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Ctrl-C takes effect after the block; the second one at once.

    DuckDB looks for it while it works, and would break off the writing of a model that is finished with an error of its own.
    """
    before = signal.getsignal(signal.SIGINT)
    if before in (None, signal.SIG_IGN) or threading.current_thread() is not threading.main_thread():
        yield  # Ctrl-C is not Python's to handle, is ignored anyway, or never reaches this thread
        return
    came = False

    def wait(*_: object) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


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
        told: Callable[[Outcome], None] | None,
    ) -> None:
        self.path, self.entries, self.plans = path, entries, plans
        self.device, self.batch_size, self.replacing = device, batch_size, replacing
        self.progress, self.told = progress, told
        self.outcomes: dict[int, Outcome] = {}
        self.order = [i for i, outcome in enumerate(plans) if outcome.status in PLANNED]
        for i, outcome in enumerate(plans):
            if outcome.status not in PLANNED:
                self.conclude(i, outcome)

    def go(self, pool: Pool, ahead: int) -> list[Outcome]:
        """Embed what has to be, and store it in order; `ahead` jobs at most are between the oldest missing and the newest."""
        rank = {job: at for at, job in enumerate(self.order)}
        tries: Counter[int] = Counter()
        waiting: dict[int, Done] = {}
        submitted = stored = 0

        def fill() -> None:
            nonlocal submitted
            while submitted < len(self.order) and submitted < stored + ahead:
                pool.submit(self.job(self.order[submitted]))
                submitted += 1

        try:
            fill()
            for done in pool.results():
                tries[done.number] += 1
                if done.again and tries[done.number] < TRIES:
                    pool.submit(self.job(done.number))
                    continue
                waiting[rank[done.number]] = done
                while stored in waiting:
                    with _ctrl_c_waits():
                        self.store(waiting[stored])
                    # Only now: an interruption on the way must find it again.
                    del waiting[stored]
                    stored += 1
                fill()
        except BaseException as error:
            pool.close()
            for at in sorted(waiting):
                if self.order[at] not in self.outcomes:
                    with suppress(KeyboardInterrupt), _ctrl_c_waits():
                        self.store(waiting[at])
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(self.finish()) from None
            raise
        finally:
            pool.close()
        return self.finish()

    def job(self, i: int) -> Job:
        entry = self.entries[i]
        return Job(i, {"device": self.device, **entry.options}, entry.batch_size or self.batch_size, self.replacing)

    def report(self, i: int, done: int, total: int) -> None:
        if self.progress:
            self.progress(len(self.outcomes), len(self.entries), self.entries[i].label, done, total)

    def store(self, done: Done) -> None:
        """Write one finished model into the registry, or note why it is none."""
        entry, planned = self.entries[done.number], self.plans[done.number]

        def failed(message: str, hint: str) -> Outcome:
            return Outcome(planned.entry, planned.name, "failed", planned.uri, message=message, hint=hint)

        if done.computed is None:
            self.conclude(done.number, failed(done.message, done.hint))
            return
        try:
            added = self._stored(done)
        except Exception as error:
            # Its transaction was rolled back; the next model may well be storable.
            message, hint = described(error)
            self.conclude(done.number, failed(message, hint))
            return
        filled = added.status != "unchanged"
        outcome = Outcome(
            planned.entry,
            added.name,
            added.status,
            planned.uri or added.card.uri,
            added.spaces,
            added.card.seconds if filled else 0.0,
            notes=added.notes,
        )
        if not filled:
            with Registry.open(self.path) as registry:
                more = _asks_for_more(entry, registry.model(added.name))
            outcome = Outcome(planned.entry, added.name, "unchanged", outcome.uri, notes=(*outcome.notes, *more))
        self.conclude(done.number, outcome)

    def _stored(self, done: Done) -> Any:
        from modelspace.verbs.add import store

        assert done.computed is not None
        for left in range(_STORE_TRIES - 1, -1, -1):
            try:
                return store(self.path, done.computed, self.replacing)
            except BusyError:
                # Workers read the registry all the time, and what was embedded took minutes: don't give up at once.
                if not left:
                    raise
        raise AssertionError

    def conclude(self, i: int, outcome: Outcome) -> None:
        self.outcomes[i] = outcome
        if self.told:
            self.told(outcome)
        if self.progress:
            self.progress(len(self.outcomes), len(self.entries), outcome.name, 0, 0)

    def finish(self) -> list[Outcome]:
        """An outcome for every entry, in the order of the manifest."""
        return [
            self.outcomes.get(i) or Outcome(planned.entry, planned.name, "not reached", planned.uri)
            for i, planned in enumerate(self.plans)
        ]
