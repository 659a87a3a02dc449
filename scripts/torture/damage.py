"""Damage the files of a home and the rows of its registry, and look at what the next user is told.

    python scripts/torture/damage.py                           # 40 mutations
    python scripts/torture/damage.py --full --out damage.json  # 2,000 mutations
    python scripts/torture/damage.py --only 17 --seed 3        # one again, with all that it says
    python scripts/torture/damage.py --mapped --target index   # files that are mapped and appended to

A mutation changes one file of a home as it was left at rest or by a writer that was killed: bits flipped, the end cut
off, a run of zeros, two blocks exchanged, an older copy put back, a file of another space or home, or none at all; or
it changes rows with plain DuckDB. Then a process of its own asks for neighbours, models, outcomes and checks, makes a
change and asks again. Every answer must be that of the intact registry (or of the older or other registry whose file
was put there whole), or an error with a hint; an older registry under a newer index must say so; a changed row must be
found by `verify`; and the process must not crash.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from modelspace.errors import ModelspaceError
from modelspace.home import INDEX, REGISTRY
from modelspace.registry import Registry, schema
from modelspace.spaces import index
from modelspace.spaces.index import OLDER
from modelspace.verbs import pending
from modelspace.verbs.passes import Computed
from modelspace.workspace import ModelSpace
from torture import small_registry, verbs
from torture.figures import Progress

#: Seconds after which a process counts as hanging.
PATIENCE = 120.0

#: Blocks of a registry file, and what lies before them, in bytes.
BLOCK, HEADERS = 262_144, 12_288

#: Mutations of a full run.
FULL = 2000

_NAMES = small_registry.NAMES

#: The model that the newest state of the prepared registry has, and the one that a query adds.
_NEWEST, _ADDED = 4, 7

#: What is done to one home, in order.
_ASKED = ("nearest", "nearest dds", "list", "outcomes", "verify")
_AGAIN = ("nearest", "list")


# ---- homes


@dataclass
class Homes:
    """Homes in known states, made when they are first needed, and what each answers.

    The states are `old`, one model less; `rest`, closed; `early` and `killed`, left by a writer that was killed after
    one of its changes, or after all; `other`, another registry with models of the same names, and `other killed`.

    Attributes:
        folder: holds them.
        answers: state and change -> the answers of the intact home.
    """

    folder: Path
    answers: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def __getitem__(self, state: str) -> Path:
        home = self.folder / state
        if not home.exists():
            _, end = told(lambda _: _MAKERS[state](self))
            assert end == "", f"{state}: {end}"
        return home

    def expected(self, state: str, change: str) -> dict[str, str]:
        """What the intact home of a state answers, before and after a change, by what is asked."""
        if (state, change) not in self.answers:
            work = fresh(self, state)
            lines, end = told(lambda say: ask(work, change, say))
            assert end == "", f"{state}: {end}"
            assert all(line["kind"] == "answer" for line in lines), f"{state}: {lines}"
            self.answers[state, change] = {line["what"]: line["text"] for line in lines}
        return self.answers[state, change]


def _make_old(homes: Homes) -> None:
    small_registry.create(homes.folder / "old", _NAMES[:_NEWEST])
    space = ModelSpace.open(homes["old"])
    _fill_index(space)
    space.backup(homes.folder / "old.duckdb")


def _make_rest(homes: Homes) -> None:
    shutil.copytree(homes["old"], homes.folder / "rest")
    small_registry.add_drawn(homes["rest"] / REGISTRY, _NEWEST, _NAMES[_NEWEST])
    space = ModelSpace.open(homes["rest"])
    space.observe("flowers", _NAMES[_NEWEST], 0.75)
    _fill_index(space)
    space.backup(homes.folder / "rest.duckdb")
    with Registry.open(space.path) as registry:
        spaces = (small_registry.MAPS, small_registry.KERNELS, small_registry.BLEND)
        computed = Computed(
            small_registry.card(_ADDED, "waiting"),
            tuple(spec.name for spec in spaces),
            small_registry.blocks(_ADDED),
            (),
            registry.registry_id,
        )
    pending.keep(space.path, computed, False)


def _make_killed(homes: Homes) -> None:
    work = homes.folder / "open"
    shutil.copytree(homes["rest"], work)
    with Registry.open(work / REGISTRY, write=True) as registry:
        for state in ("early", "killed"):
            with registry.transaction():
                if state == "early":
                    registry.rename_model("reshade", "shading")
                else:
                    small_registry.append(registry, 9, "late", {})
            shutil.copytree(work, homes.folder / state)
            (homes.folder / state / f"{REGISTRY}.lock").unlink()


def _make_other(homes: Homes) -> None:
    small_registry.create(homes.folder / "other", _NAMES[::-1])
    space = ModelSpace.open(homes["other"])
    _fill_index(space)
    space.backup(homes.folder / "other.duckdb")
    with Registry.open(space.path) as registry:
        card, blocks = small_registry.card(11, "waiting"), small_registry.blocks(11)
        names = tuple(row.spec.name for row in registry.spaces())
        computed = Computed(card, names, blocks, (), registry.registry_id)
    pending.keep(space.path, computed, False)


def _make_other_killed(homes: Homes) -> None:
    work = homes.folder / "other open"
    shutil.copytree(homes["other"], work)
    with Registry.open(work / REGISTRY, write=True) as registry:
        with registry.transaction():
            small_registry.append(registry, 10, "foreign", {})
        shutil.copytree(work, homes.folder / "other killed")


_MAKERS: dict[str, Callable[[Homes], None]] = {
    "old": _make_old,
    "rest": _make_rest,
    "early": _make_killed,
    "killed": _make_killed,
    "other": _make_other,
    "other killed": _make_other_killed,
}


def _fill_index(space: ModelSpace) -> None:
    for spec in small_registry.SPACES:
        space.nearest("curvature", space=spec.name)


def fresh(homes: Homes, state: str) -> Path:
    """A copy of a home, always in the same folder."""
    work = homes.folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(homes[state], work)
    return work


# ---- asking

Say = Callable[[Mapping[str, str]], None]


def ask(home: Path, change: str, say: Say) -> None:
    """Ask a home for everything, change it, and ask again.

    Args:
        home: the folder.
        change: "rename", "add" or "resume".
        say: called with each answer: "what" was asked, its "kind" (answer, refused or unnamed), "text", and "note".
    """
    space = ModelSpace(home)
    for what in _ASKED:
        say(_answer(what, lambda what=what: _asked(space, what)))  # type: ignore[misc]
    said = _answer(change, lambda: (_changed(space, change), ""))
    say(said)
    for what in _AGAIN:
        say(_answer(f"{what} after", lambda what=what: _asked(space, what)))  # type: ignore[misc]


def _asked(space: ModelSpace, what: str) -> tuple[str, str]:
    """An answer, and a note with it."""
    if what.startswith("nearest"):
        ranking = space.nearest("curvature", space=what.partition(" ")[2] or None)
        return repr(list(ranking)), " ".join(ranking.notes)
    if what == "list":
        # The time at which a model is added here differs between two runs.
        new = ("added", "waiting")
        models = [replace(model, added_at="") if model.name in new else model for model in space.list()]
        return repr(models), ""
    if what == "outcomes":
        return repr(list(space.outcomes())), ""
    return "checked", "; ".join(f"{check.what}: {check.detail}" for check in space.verify() if not check.ok)


def _changed(space: ModelSpace, change: str) -> str:
    if change == "rename":
        space.rename("edge2d", "edges")
    elif change == "add":
        small_registry.add_drawn(space.path, _ADDED, "added")
    else:
        failed = [outcome for outcome in space.resume() if outcome.status == "failed"]
        for outcome in failed:
            raise ModelspaceError(outcome.message, outcome.hint)
    return "done"


def _answer(what: str, call: Callable[[], tuple[str, str]]) -> dict[str, str]:
    try:
        text, note = call()
        return {"what": what, "kind": "answer", "text": text, "note": note}
    except ModelspaceError as error:
        kind = "refused" if error.hint else "no hint"
        return {"what": what, "kind": kind, "text": error.message, "note": error.hint, "class": type(error).__name__}
    except Exception as error:
        return {"what": what, "kind": "unnamed", "text": f"{type(error).__name__}: {error}", "note": ""}


def told(work: Callable[[Say], object]) -> tuple[list[dict[str, str]], str]:
    """What a function says in a forked process, and how that ended if not well: a signal, an error, or too late."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        code = 70
        try:
            os.close(reading)
            work(lambda line: _send(writing, line))
            code = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(code)
    os.close(writing)
    text, in_time = _received(reading, time.monotonic() + PATIENCE)
    if not in_time:
        os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]
    end = "" if code == 0 else f"still busy after {PATIENCE:g} s" if not in_time else f"ended with {code}"
    return lines, end


def _send(descriptor: int, line: Mapping[str, str]) -> None:
    data = json.dumps(line).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def _received(descriptor: int, deadline: float) -> tuple[bytes, bool]:
    """All that comes through a pipe until it is closed, and whether that was before the deadline."""
    parts: list[bytes] = []
    try:
        while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if not (part := os.read(descriptor, 1 << 16)):
                return b"".join(parts), True
            parts.append(part)
        return b"".join(parts), False
    finally:
        os.close(descriptor)


# ---- mutations


@dataclass
class Mutation:
    """One change of one home.

    Attributes:
        target: what is changed: "index", "manifest", "registry", "log", "undo", "backups", "pass" or "rows".
        state: of the home.
        what: the change, in words.
        file: the file that is changed, relative to the home.
        change: what is made of the home afterwards.
        legal: further states whose answers are right, since the registry's file is theirs.
        is_older: whether an index file is newer than the registry.
    """

    target: str
    state: str
    what: str = ""
    file: str = ""
    change: str = "rename"
    legal: tuple[str, ...] = ()
    is_older: bool = False


#: Target and state of the home, as often as they are chosen.
TARGETS = (
    *([("index", "rest")] * 3),
    *([("manifest", "rest")] * 2),
    *([("registry", "rest")] * 5),
    ("registry", "killed"),
    *([("log", "killed")] * 3),
    *([("undo", "killed")] * 2),
    ("backups", "rest"),
    ("pass", "rest"),
    *([("rows", "rest")] * 3),
)


def target_of(number: int) -> tuple[str, str]:
    """Target and state of mutation `number`: neighbouring numbers have different ones, so a short run has all."""
    return TARGETS[(number * 8) % len(TARGETS)]


def mutate(homes: Homes, number: int, seed: int) -> tuple[Mutation, Path]:
    """Make mutation `number` in a fresh copy of a home; the numbers choose, so each can be made again."""
    rng = random.Random(f"{seed} {number}")
    target, state = target_of(number)
    home = fresh(homes, state)
    mutation = Mutation(target, state, change=rng.choice(("rename", "rename", "add")))
    if target == "rows":
        change_rows(home / REGISTRY, mutation, rng)
        return mutation, home
    if target == "pass":
        mutation.change = "resume"
    mutation.file = _file_of(home, target, rng)
    kinds = [*_BYTES, *_FILES[target]]
    kind = rng.choice(kinds)
    if kind in _BYTES:
        mutation.what = _BYTES[kind](home / mutation.file, rng)
    else:
        mutation.what = kind
        _put(homes, home, mutation, kind, rng)
    return mutation, home


def _file_of(home: Path, target: str, rng: random.Random) -> str:
    names = {"registry": REGISTRY, "log": f"{REGISTRY}.wal", "undo": f"{REGISTRY}.undo", "backups": "backups.json"}
    if target in names:
        return names[target]
    patterns = {
        "index": (f"{INDEX}/*.faiss", f"{INDEX}/*.added"),
        "manifest": (f"{INDEX}/*.json",),
        "pass": ("pending/*.pass",),
    }[target]
    files = [file for pattern in patterns for file in home.glob(pattern)]
    return rng.choice(sorted(files)).relative_to(home).as_posix()


def _flip(file: Path, rng: random.Random) -> str:
    data, count = bytearray(file.read_bytes()), rng.choice((1, 1, 1, 2, 8))
    places = [rng.randrange(_weighted(len(data), rng)) for _ in range(count)]
    for place in places:
        data[place] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    return f"bits flipped in bytes {places}"


def _weighted(size: int, rng: random.Random) -> int:
    """How many bytes from the start are meant: now and then the headers alone, of which there are few."""
    return min(size, HEADERS) if rng.random() < 0.2 else size


def _truncate(file: Path, rng: random.Random) -> str:
    size = file.stat().st_size
    length = rng.choice((rng.randrange(size), max(0, size - rng.randrange(1, 5000)), min(size - 1, HEADERS), 0))
    os.truncate(file, length)
    return f"cut off after {length} of {size} bytes"


def _zeros(file: Path, rng: random.Random) -> str:
    data = bytearray(file.read_bytes())
    start = rng.randrange(_weighted(len(data), rng))
    length = min(len(data) - start, rng.choice((8, 512, 4096, 65_536)))
    data[start : start + length] = bytes(length)
    file.write_bytes(data)
    return f"zeros from byte {start} on, {length} of them"


def _exchange(file: Path, rng: random.Random) -> str:
    data = bytearray(file.read_bytes())
    first = HEADERS if len(data) > HEADERS + 2 * BLOCK and rng.random() < 0.8 else 0
    size = BLOCK if first else rng.choice([n for n in (16, 64, 512, 4096) if 3 * n <= len(data)] or [1])
    places = rng.sample(range((len(data) - first) // size), 2) if len(data) >= 2 * size else (0, 0)
    a, b = (slice(first + place * size, first + (place + 1) * size) for place in places)
    data[a], data[b] = data[b], data[a]
    file.write_bytes(data)
    return f"blocks {places[0]} and {places[1]} of {size} bytes exchanged, counted from byte {first}"


def _append(file: Path, rng: random.Random) -> str:
    count = rng.choice((1, 100, 5000))
    with file.open("ab") as out:
        out.write(rng.randbytes(count))
    return f"{count} bytes appended"


def _remove(file: Path, rng: random.Random) -> str:
    file.unlink()
    return "removed"


#: Changes of the bytes of any file.
_BYTES: dict[str, Callable[[Path, random.Random], str]] = {
    "flip": _flip,
    "truncate": _truncate,
    "zeros": _zeros,
    "exchange": _exchange,
    "append": _append,
}

_OLDER, _OTHER_SPACE, _BOTH_OF_OTHER_SPACE = "an older copy", "of another space", "both files of another space"
_OTHER_HOME, _BOTH_OLDER, _MISSING = "of another home", "both files of an older copy", "removed"

#: The files of an index.
_INDEX_SUFFIXES = (".faiss", ".added", ".json")

#: Files put in the place of a target.
_FILES = {
    "index": (_OLDER, _BOTH_OLDER, _OTHER_SPACE, _BOTH_OF_OTHER_SPACE, _OTHER_HOME, _MISSING),
    "manifest": (_OLDER, _OTHER_SPACE, _OTHER_HOME, _MISSING),
    "registry": (_OLDER, _OTHER_HOME),
    "log": (_OLDER, _OTHER_HOME, _MISSING),
    "undo": (_OLDER, _OTHER_HOME, _MISSING),
    "backups": (_OLDER, _OTHER_HOME, _MISSING),
    "pass": (_OTHER_HOME,),
}


def _put(homes: Homes, home: Path, mutation: Mutation, kind: str, rng: random.Random) -> None:
    """Put another file in the place of the mutation's."""
    file = home / mutation.file
    if kind == _MISSING:
        file.unlink()
    elif kind in (_OTHER_SPACE, _BOTH_OF_OTHER_SPACE):
        other = rng.choice([each for each in sorted(file.parent.glob(f"*{file.suffix}")) if each != file])
        _copy(other, file, (file.suffix,) if kind == _OTHER_SPACE else _INDEX_SUFFIXES)
    else:
        _put_from(homes, file, mutation, kind)


def _copy(source: Path, file: Path, suffixes: Iterable[str]) -> None:
    """Put the files of another index in the place of those of one; what the other lacks is removed."""
    for suffix in suffixes:
        if source.with_suffix(suffix).exists():
            shutil.copy(source.with_suffix(suffix), file.with_suffix(suffix))
        else:
            file.with_suffix(suffix).unlink(missing_ok=True)


def _put_from(homes: Homes, file: Path, mutation: Mutation, kind: str) -> None:
    older = "early" if mutation.target in ("log", "undo") else "old"
    source = homes["other"] if kind == _OTHER_HOME else homes[older]
    if mutation.target in ("log", "undo") and kind == _OTHER_HOME:
        source = homes["other killed"]
    if mutation.target == "pass":
        shutil.copy(next(source.glob("pending/*.pass")), file)
    elif kind == _BOTH_OLDER:
        _copy(source / mutation.file, file, _INDEX_SUFFIXES)
    elif (source / mutation.file).exists():
        shutil.copy(source / mutation.file, file)
    else:  # an index to which nothing had been added
        file.unlink()
    if mutation.target == "registry":
        mutation.legal = (source.name,)
        mutation.is_older = kind == _OLDER


# ---- rows

#: Table -> columns with a checksum, and which row of a table is meant.
_COLUMNS = {
    "embeddings": ("vector", "affinities", "residual"),
    "maps": ("codes", "scales"),
    "outcomes": ("score", "how", "settings", "note", "weights_sha256", "task_id"),
}


def change_rows(path: Path, mutation: Mutation, rng: random.Random) -> None:
    """Change one value of one row, as another program could: by a little, to that of another row, or to nothing."""
    table = rng.choice(tuple(_COLUMNS))
    column = rng.choice(_COLUMNS[table])
    with duckdb.connect(str(path)) as duck:
        rows = duck.execute(f"SELECT rowid, {column} FROM {table} ORDER BY rowid").fetchall()
        kinds = [(row, value) for row, value in rows if value not in (None, [], b"", "")] or rows
        row, value = rng.choice(kinds)
        others = [other for _, other in rows if other != value]
        new = rng.choice(others) if others and rng.random() < 0.4 else _nudged(value, rng)
        if column in ("task_id",):
            new = rng.choice(others)
        duck.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", [new, row])
    mutation.what = f"{table}.{column} of row {row} set to {new!r:.60}, not {value!r:.60}"


def _nudged(value: Any, rng: random.Random) -> Any:
    """A value that is nearly the same."""
    if isinstance(value, bytes):
        place = rng.randrange(len(value))
        return value[:place] + bytes([value[place] ^ (1 << rng.randrange(8))]) + value[place + 1 :]
    if isinstance(value, list):
        place = rng.randrange(len(value))
        return [*value[:place], value[place] * 0.9 + 0.01, *value[place + 1 :]]
    if isinstance(value, str):
        return f"{value} " if not value.startswith("{") else '{"epochs": 3}'
    return value + 0.01


# ---- judging


#: What a mutation can come to, mildest first; the last four are failures.
SAME, REPAIRED, OLDER_SAID, OTHER, FOUND, REFUSED = (
    "same answers",
    "found and repaired: same answers",
    "older, which it says",
    "answers of the file that was put there",
    "same answers, and verify finds it",
    "refused with a hint",
)
NO_HINT, UNNAMED, WRONG, CRASH = "refused without a hint", "unnamed error", "silently wrong", "crash"
FAILURES = (NO_HINT, UNNAMED, WRONG, CRASH)
KINDS = (SAME, REPAIRED, FOUND, OLDER_SAID, OTHER, REFUSED, *FAILURES)


def judged(
    homes: Homes, mutation: Mutation, lines: list[dict[str, str]], end: str, *, repaired: bool = False
) -> tuple[str, str]:
    """What a mutation came to, and why it is a failure, if it is one."""
    if end:
        return CRASH, f"after {[line['what'] for line in lines]} the process {end}"
    for kind, result in (("unnamed", UNNAMED), ("no hint", NO_HINT)):
        for line in lines:
            if line["kind"] == kind:
                return result, f"{line['what']}: {line['text']}"
    differences = {state: _difference(homes, mutation, state, lines) for state in (mutation.state, *mutation.legal)}
    state = next((state for state, difference in differences.items() if not difference), None)
    if state is None:
        return WRONG, f"{differences[mutation.state]}"
    checked = next(line for line in lines if line["what"] == "verify")
    finds = checked["kind"] == "refused" or bool(checked["note"])
    if mutation.target == "rows" and not finds:
        return WRONG, "verify does not find a row that was changed"
    if state != mutation.state:
        return _of_other_state(mutation, lines, finds)
    if any(line["kind"] == "refused" for line in lines):
        return REFUSED, ""
    return (FOUND if finds else REPAIRED if repaired else SAME), ""


def _of_other_state(mutation: Mutation, lines: list[dict[str, str]], finds: bool) -> tuple[str, str]:
    if any(line["kind"] == "refused" for line in lines):
        return REFUSED, ""
    if not mutation.is_older:
        return OTHER, ""
    silent = [
        line["what"] for line in lines if line["what"] in ("nearest", "nearest dds") and OLDER not in line["note"]
    ]
    if silent or not finds:
        return WRONG, f"it is older than its index, which {', '.join(silent) or 'verify'} does not say"
    return OLDER_SAID, ""


def _difference(homes: Homes, mutation: Mutation, state: str, lines: list[dict[str, str]]) -> str:
    """The first answer that is not that of a state; empty if there is none."""
    expected = homes.expected(state, mutation.change)
    done = any(line["what"] == mutation.change and line["kind"] == "answer" for line in lines)
    for line in lines:
        what = line["what"]
        right = expected[what if done else what.removesuffix(" after")]
        if line["kind"] == "answer" and line["text"] != right:
            start = next((i for i, pair in enumerate(zip(line["text"], right, strict=False)) if len({*pair}) > 1), 0)
            here = slice(max(0, start - 60), start + 60)
            return f"{what} answers ...{line['text'][here]}..., not ...{right[here]}..."
    return ""


@dataclass
class Result:
    """What some mutations came to.

    Attributes:
        counts: number of mutations by what they came to, and by class of the first error.
        failures: what is wrong, and what makes it again.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def try_one(homes: Homes, number: int, seed: int, result: Result) -> list[dict[str, str]]:
    """Make one mutation, ask, and note what it came to; returns what was answered."""
    mutation, home = mutate(homes, number, seed)
    damaged = _bytes_of(home, mutation)
    lines, end = told(lambda say: ask(home, mutation.change, say))
    repaired = mutation.target in ("index", "manifest") and _bytes_of(home, mutation) != damaged
    kind, why = judged(homes, mutation, lines, end, repaired=repaired)
    result.counts[kind] += 1
    if kind == REFUSED:
        result.counts[next(line["class"] for line in lines if line["kind"] == "refused")] += 1
    if kind in FAILURES:
        place = f"{mutation.file or 'rows'} ({mutation.state}, {mutation.change})"
        result.failures.append(f"--only {number} --seed {seed}: {place}: {mutation.what}: {kind}: {why}")
    return [{"what": "mutation", "kind": kind, "text": f"{mutation}", "note": why}, *lines]


def _bytes_of(home: Path, mutation: Mutation) -> bytes | None:
    file = home / mutation.file
    return file.read_bytes() if mutation.file and file.is_file() else None


def try_all(homes: Homes, numbers: Iterable[int], seed: int) -> Result:
    """Make the mutations of these numbers."""
    result = Result()
    for number in numbers:
        try_one(homes, number, seed, result)
    return result


def preload(homes: Homes) -> None:
    """Import what the questions import, which a process of its own finds out, but run nothing that starts threads."""
    importlib.import_module("faiss")
    before = set(sys.modules)

    def look(say: Say) -> None:
        ask(fresh(homes, "rest"), "resume", lambda line: None)
        modules = " ".join(name for name in sys.modules if name not in before)
        say({"modules": modules, **schema._definitions_of_migrations(len(schema.known()))})  # noqa: SLF001

    (definitions,), end = told(look)
    assert end == "", end
    for name in definitions.pop("modules").split():
        with suppress(ImportError):
            importlib.import_module(name)
    schema._definitions_of_migrations = lambda number: definitions  # type: ignore[assignment]  # noqa: SLF001


def figures(progress: Progress) -> dict[str, float | str]:
    """The figures of a run: each thing that mutations came to, and the classes of the errors."""
    counts = {kind: progress.counts.get(kind, 0) for kind in KINDS}
    classes = {f"refused with {name}": n for name, n in sorted(progress.counts.items()) if name not in KINDS}
    return {"mutations": progress.total(), **counts, **classes}


_TOGETHER = 20


def main() -> None:
    """Run the program; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=40, help="number of mutations")
    parser.add_argument("--full", action="store_true", help=f"{FULL} mutations")
    parser.add_argument("--mapped", action="store_true", help="index files like those of large spaces")
    parser.add_argument("--target", choices=sorted({target for target, _ in TARGETS}), help="only mutations of this")
    parser.add_argument("--only", type=int, help="make this mutation alone, and print all answers")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations")
    parser.add_argument("--out", type=Path, help="JSON file of the figures, from which a rerun goes on")
    arguments = parser.parse_args()
    if arguments.mapped:
        index.READ_BYTES = index.REWRITTEN_BYTES = 0
    total = FULL if arguments.full else arguments.mutations
    progress = Progress(arguments.out, {"mutations": total, "seed": arguments.seed, "of": arguments.target})
    with tempfile.TemporaryDirectory(dir=verbs.MEMORY) as folder:
        homes = Homes(Path(folder).resolve())
        preload(homes)
        if arguments.only is not None:
            result = Result()
            for line in try_one(homes, arguments.only, arguments.seed, result):
                print(f"{line['what']}: {line['kind']}: {line['text']:.1000}" + (line["note"] and f" [{line['note']}]"))
            sys.exit(bool(result.failures))
        for first in range(0, total, _TOGETHER):
            numbers = [
                number
                for number in range(first, min(total, first + _TOGETHER))
                if arguments.target in (None, target_of(number)[0])
            ]
            if not progress.has(part := f"from {first}"):
                result = try_all(homes, numbers, arguments.seed)
                progress.add(part, len(numbers), result.failures, result.counts)
    failures = progress.failures()
    numbers_of = figures(progress)
    progress.finish(numbers_of)
    print(*failures, sep="\n", end="\n" if failures else "")
    print("; ".join(f"{label} {number}" for label, number in numbers_of.items()))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
