"""Power cuts: what each verb writes is recorded with strace, and the disk is rebuilt as a cut may leave it.

    python scripts/torture/power.py                         # a sample of states of each verb
    python scripts/torture/power.py --full --out power.json # all prefixes, and 15 drawn states per step
    python scripts/torture/power.py --verb map --seed 7

What an fsync has made durable stays. Of the writes to a file since its last fsync, any may be lost, and the others may
be there in part, by sectors of 512 bytes. Entries of a folder (creation, renaming, removal) that no fsync of the folder
has made durable may be lost; they keep their order where they concern the same name or file. Each state must open for
reading and for writing, hold the state before or after a transaction of the verb (after the last one, once its process
has ended) and pass the checks of `verify`; then one more change must be possible.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture import verbs
from torture.figures import Progress

SECTOR = 512

CALLS = (
    "openat,close,lseek,write,pwrite64,pwritev,writev,ftruncate,fallocate,fsync,fdatasync,sync_file_range,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,copy_file_range,sendfile,dup,dup2,dup3,"
    "fcntl"
)

#: Names of files whose contents no state depends on.
_LOCK = ".lock"


# ---- the recording


@dataclass(frozen=True)
class Step:
    """One change of the disk, in the order of the recording.

    Attributes:
        kind: "write", "truncate", "sync" (a file), "create", "rename", "link", "unlink" or "sync folder".
        file: number of the file, which keeps it when renamed; -1 for "sync folder".
        name: path relative to the home, of the entries' operations; the folder for "sync folder".
        other: the new path of "rename" and "link".
        offset: of a write, or the length of a truncation.
        data: of a write.
    """

    kind: str
    file: int = -1
    name: str = ""
    other: str = ""
    offset: int = 0
    data: bytes = b""


class UnknownCallError(Exception):
    """The verb changed a file by a call that the replay does not know."""


@dataclass
class Recording:
    """The steps of one command.

    Attributes:
        files: number -> content before the command.
        names: path -> number, before the command.
        steps: in order.
    """

    files: dict[int, bytes]
    names: dict[str, int]
    steps: list[Step] = field(default_factory=list)


def record(words: list[str], home: Path) -> Recording:
    """Run a command under strace, as a process of its own.

    Raises:
        SystemExit: it fails.
        UnknownCallError: it used a call that the replay does not know.
    """
    recording = Recording({}, {})
    for number, path in enumerate(sorted(file for file in home.rglob("*") if file.is_file())):
        recording.files[number], recording.names[str(path.relative_to(home))] = path.read_bytes(), number
    log = home.with_name(f"{home.name}.strace")
    trace = ["strace", "-f", "-qq", "-y", "-xx", "-s", str(1 << 24), "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", log]
    command = [*trace, sys.executable, __file__, "--run", str(home), *words]
    process = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode} under strace: {process.stderr[-500:]}")
    _Reader(recording, home).read(log)
    log.unlink()
    return recording


@dataclass
class _Opened:
    """An open file; descriptors that were duplicated share it.

    Attributes:
        number: of the file.
        appends: whether what is written goes to its end.
        position: where the next write goes otherwise.
    """

    number: int
    appends: bool
    position: int = 0


class _Reader:
    """Reads the log of strace into steps."""

    LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<((?:\\x..)*)>)?.*")

    def __init__(self, recording: Recording, home: Path) -> None:
        self.recording = recording
        self.home = str(home.resolve())
        self.names = dict(recording.names)
        self.lengths = {number: len(content) for number, content in recording.files.items()}
        self.by_descriptor: dict[int, _Opened] = {}

    def read(self, log: Path) -> None:
        unfinished: dict[str, str] = {}
        with log.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                process = line.split(" ", 1)[0]
                if line.rstrip().endswith("<unfinished ...>"):
                    unfinished[process] = line.rstrip().removesuffix("<unfinished ...>").rstrip()
                    continue
                if match := re.match(r"\d+ +<\.\.\. \w+ resumed>(.*)", line):
                    line = unfinished.pop(process) + match[1] + "\n"
                if (match := self.LINE.match(line)) and int(match[4]) >= 0:
                    self._call(match[2], match[3], int(match[4]), _text(match[5] or ""))

    def _call(self, call: str, arguments: str, result: int, opened: str) -> None:
        if call == "openat":
            self._open(arguments, result, opened)
        elif call == "fcntl":
            if "F_DUPFD" in arguments:
                self._descriptor("dup", arguments, result)
        elif call in ("dup", "dup2", "dup3", "close", "lseek", "write", "pwrite64", "ftruncate"):
            self._descriptor(call, arguments, result)
        elif call in ("fsync", "fdatasync"):
            self._sync(arguments)
        elif call.startswith(("rename", "link", "unlink", "mkdir", "rmdir")):
            self._entry(call, arguments)
        elif self.home in _text(arguments):
            raise UnknownCallError(f"{call}({arguments[:200]})")

    def _relative(self, path: str) -> str | None:
        path = os.path.normpath(path)
        return path[len(self.home) + 1 :] if path.startswith(self.home + "/") else None

    def _open(self, arguments: str, descriptor: int, opened: str) -> None:
        self.by_descriptor.pop(descriptor, None)
        name = self._relative(opened)
        if name is None or "O_DIRECTORY" in arguments or os.path.isdir(opened):
            return
        if name not in self.names:
            if "O_CREAT" not in arguments:
                return
            number = len(self.lengths)
            self.names[name], self.lengths[number] = number, 0
            self._add(Step("create", number, name))
        number = self.names[name]
        if "O_TRUNC" in arguments and self.lengths[number]:
            self._truncate(number, 0)
        self.by_descriptor[descriptor] = _Opened(number, "O_APPEND" in arguments)

    def _descriptor(self, call: str, arguments: str, result: int) -> None:
        descriptor = int(arguments.split("<", 1)[0].split(",", 1)[0])
        if call == "close":
            self.by_descriptor.pop(descriptor, None)
            return
        if descriptor not in self.by_descriptor:
            self._check_outside(call, arguments)
            return
        opened = self.by_descriptor[descriptor]
        number = opened.number
        if call.startswith("dup"):
            self.by_descriptor[result] = opened
        elif call == "lseek":
            opened.position = result
        elif call == "ftruncate":
            self._truncate(number, int(arguments.rsplit(",", 1)[1]))
        else:
            data = bytes.fromhex(arguments.split('"')[1].replace("\\x", ""))[:result]
            if call == "pwrite64":
                offset = int(arguments.rsplit(",", 1)[1])
            else:
                offset = self.lengths[number] if opened.appends else opened.position
                opened.position = offset + result
            assert len(data) == result, f"strace cut the data of {arguments[:100]}"
            self._add(Step("write", number, offset=offset, data=data))
            self.lengths[number] = max(self.lengths[number], offset + result)

    def _check_outside(self, call: str, arguments: str) -> None:
        """Refuse a change of a file in the home through a descriptor whose opening was not seen.

        Raises:
            UnknownCallError: it is one.
        """
        path = arguments.partition("<")[2].partition(">")[0]
        if call in ("write", "pwrite64", "ftruncate") and self._relative(_text(path)) is not None:
            raise UnknownCallError(f"{call}({arguments[:200]}) through a descriptor that was not seen to be opened")

    def _truncate(self, number: int, length: int) -> None:
        self._add(Step("truncate", number, offset=length))
        self.lengths[number] = length

    def _sync(self, arguments: str) -> None:
        descriptor, path = arguments.split("<", 1)
        opened = _text(path.rstrip(">"))
        if int(descriptor) in self.by_descriptor:
            self._add(Step("sync", self.by_descriptor[int(descriptor)].number))
        elif opened == self.home or self._relative(opened) is not None:
            self._add(Step("sync folder", name=self._relative(opened) or ""))

    def _entry(self, call: str, arguments: str) -> None:
        words = map(_text, re.findall(r'"([^"]*)"', arguments))
        paths = [self._relative(os.path.join(self.home, word)) for word in words]
        if any(path is None for path in paths) or call.startswith(("mkdir", "rmdir")) or "AT_REMOVEDIR" in arguments:
            return  # folders are taken to exist
        name = str(paths[0])
        number = self.names[name]
        if call.startswith("unlink"):
            del self.names[name]
            self._add(Step("unlink", number, name))
            return
        self.names[str(paths[1])] = number
        if call.startswith("rename"):
            del self.names[name]
        self._add(Step("rename" if call.startswith("rename") else "link", number, name, str(paths[1])))

    def _add(self, step: Step) -> None:
        self.recording.steps.append(step)


def _text(hexadecimal: str) -> str:
    """What strace -xx prints, as text."""
    return re.sub(r"((?:\\x[0-9a-f]{2})+)", lambda m: bytes.fromhex(m[1].replace("\\x", "")).decode(), hexadecimal)


# ---- the disk after a cut

#: Chooses what survives of the pending steps of a file, or of entries.
Chooser = Callable[[list[Step]], list[Step]]


@dataclass
class Disk:
    """What is durable at a moment, and what is pending.

    Attributes:
        files: number -> durable content.
        names: path -> number, durable.
        writes: number -> pending writes and truncations, in order.
        entries: pending changes of names, in order.
    """

    files: dict[int, bytes]
    names: dict[str, int]
    writes: dict[int, list[Step]] = field(default_factory=dict)
    entries: list[Step] = field(default_factory=list)

    def take(self, step: Step) -> None:
        """Let one step happen."""
        if step.kind in ("write", "truncate"):
            self.writes.setdefault(step.file, []).append(step)
        elif step.kind == "sync":
            self.files[step.file] = _written(self.files.get(step.file, b""), self.writes.pop(step.file, []))
        elif step.kind == "sync folder":
            inside = [entry for entry in self.entries if step.name in _folders(entry)]
            self.entries = [entry for entry in self.entries if step.name not in _folders(entry)]
            _renamed(self.names, inside)
        else:
            self.entries.append(step)

    def state(self, writes: Chooser, entries: Chooser) -> dict[str, bytes]:
        """Path -> content after a cut, where the choosers say what of the pending steps survives."""
        names = dict(self.names)
        _renamed(names, entries(self.entries))
        pending = {number: writes(steps) for number, steps in self.writes.items()}
        return {name: _written(self.files.get(number, b""), pending.get(number, [])) for name, number in names.items()}


def _folders(entry: Step) -> set[str]:
    return {os.path.dirname(entry.name), os.path.dirname(entry.other or entry.name)}


def _renamed(names: dict[str, int], entries: list[Step]) -> None:
    for entry in entries:
        if entry.kind == "create":
            names[entry.name] = entry.file
        else:
            if entry.kind in ("rename", "unlink"):
                names.pop(entry.name, None)
            if entry.kind in ("rename", "link"):
                names[entry.other] = entry.file


def _written(content: bytes, steps: list[Step]) -> bytes:
    if not steps:
        return content
    changed = bytearray(content)
    for step in steps:
        if step.kind == "truncate":
            del changed[step.offset :]
            changed.extend(bytes(step.offset - len(changed)))
        else:
            changed.extend(bytes(max(0, step.offset - len(changed))))
            changed[step.offset : step.offset + len(step.data)] = step.data
    return bytes(changed)


def everything(steps: list[Step]) -> list[Step]:
    return steps


def nothing(steps: list[Step]) -> list[Step]:
    return []


def drawn_writes(rng: random.Random) -> Chooser:
    """Any of the writes may be lost; the others are complete, or there in part."""

    def choose(steps: list[Step]) -> list[Step]:
        survivors = []
        for step in steps:
            fate = (
                rng.choice(("lost", "complete", "partly")) if step.kind == "write" else rng.choice(("lost", "complete"))
            )
            if fate == "complete":
                survivors.append(step)
            elif fate == "partly":
                survivors += _parts(step, rng)
        return survivors

    return choose


def _parts(step: Step, rng: random.Random) -> Iterator[Step]:
    """The sectors of a write that reach the disk: its beginning, its end, or any of them."""
    first = step.offset // SECTOR * SECTOR
    cuts = [step.offset, *range(first + SECTOR, step.offset + len(step.data), SECTOR), step.offset + len(step.data)]
    sectors = [(start, end) for start, end in itertools.pairwise(cuts) if end > start]
    cut, shape = rng.randrange(len(sectors) + 1), rng.choice(("beginning", "end", "any"))
    for number, (start, end) in enumerate(sectors):
        if (number < cut) if shape == "beginning" else (number >= cut) if shape == "end" else rng.random() < 0.5:
            yield Step("write", step.file, offset=start, data=step.data[start - step.offset : end - step.offset])


def drawn_entries(rng: random.Random) -> Chooser:
    """Any of the changes of names may be lost, and with each all later ones of the same names or file."""

    def choose(steps: list[Step]) -> list[Step]:
        lost: set[object] = set()
        survivors = []
        ordered, cut = rng.random() < 0.5, rng.randrange(len(steps) + 1)
        for number, step in enumerate(steps):
            concerns = {step.name, step.other or step.name, step.file}
            if concerns & lost or (number >= cut if ordered else rng.random() < 0.5):
                lost |= concerns
            else:
                survivors.append(step)
        return survivors

    return choose


def states(recording: Recording, draws: int, rng: random.Random) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """States of the disk after a cut, each once: (number of steps, how it was chosen, path -> content).

    The first of each number of steps is the one in which all steps survive.
    """
    disk = Disk(dict(recording.files), dict(recording.names))
    seen: set[str] = set()
    for number in range(len(recording.steps) + 1):
        if number:
            disk.take(recording.steps[number - 1])
        choices: list[tuple[str, Chooser, Chooser]] = [("all", everything, everything), ("durable", nothing, nothing)]
        if disk.writes or disk.entries:
            choices += [(f"drawn {draw}", drawn_writes(rng), drawn_entries(rng)) for draw in range(draws)]
        for label, writes, entries in choices:
            state = disk.state(writes, entries)
            state = {name: content for name, content in state.items() if not name.endswith(_LOCK)}
            key = _key(state) + ("end" if number == len(recording.steps) else "")
            if key not in seen:
                seen.add(key)
                yield number, label, state


def _key(state: dict[str, bytes]) -> str:
    digests = (f"{name}={hashlib.sha1(state[name]).hexdigest()}" for name in sorted(state))
    return hashlib.sha1("\n".join(digests).encode()).hexdigest()


# ---- the checks


def put(state: dict[str, bytes], home: Path) -> None:
    """Make a folder hold exactly these files."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    for name, content in state.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)


@dataclass
class Result:
    """What was tried of a verb.

    Attributes:
        states: number of states of the disk.
        failures: what is wrong with a state, and what makes it again.
    """

    states: int = 0
    failures: list[str] = field(default_factory=list)


def cut(verb: verbs.Verb, prepared: verbs.Verbs, draws: int, seed: int, limit: int = 0) -> Result:
    """Record a verb, and try the states that a cut of power may leave; with `limit`, a sample of them."""
    work = prepared.folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(prepared.folder / verb.home, work)
    recording = record(prepared.words(verb), work)
    last = len(recording.steps)
    tried = list(states(recording, draws, random.Random(f"{seed} {verb.name}")))
    history, result = [_before(recording, prepared)], Result()
    for _, label, state in tried:
        if label == "all":
            put(state, work)
            kept = _safe_digest(work)
            if kept is not None and kept != history[-1]:
                history.append(kept)
    if len(history) > verb.states:
        result.failures.append(f"{verb.name}: passes through {len(history)} states, expected {verb.states}")
    if limit and len(tried) > limit:
        tried = random.Random(seed).sample(tried, limit)
    for number, label, state in tried:
        put(state, work)
        legal = {history[-1]} if number == last else set(history)
        result.states += 1
        if what := verbs.trouble(work, legal, write=verbs.may_write(verb, result.states), of_any_run=False):
            step = recording.steps[number - 1] if number else None
            described = f"{step.kind} {step.name} file {step.file} at {step.offset}" if step else "the beginning"
            result.failures.append(
                f"{verb.name}, seed {seed}, draws {draws}: after step {number} of {last} ({described}), {label}: {what}"
            )
    return result


def _before(recording: Recording, prepared: verbs.Verbs) -> str:
    work = prepared.folder / "before"
    put({name: recording.files[number] for name, number in recording.names.items()}, work)
    return verbs.digest(work)


def _safe_digest(home: Path) -> str | None:
    """The digest of a copy's state; None if it can't be opened, which `trouble` reports."""
    try:
        return verbs.digest(home)
    except Exception:
        return None


def main() -> None:
    """Run the program; see the module's docstring."""
    if sys.argv[1:2] == ["--run"]:
        sys.exit(verbs.run(sys.argv[3:], Path(sys.argv[2])))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2, help="drawn states per step")
    parser.add_argument("--full", action="store_true", help="15 drawn states per step")
    parser.add_argument("--verb", action="append", choices=verbs.NAMES, help="only this verb; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawn states")
    parser.add_argument("--out", type=Path, help="JSON file of the figures, from which a rerun goes on")
    arguments = parser.parse_args()
    if shutil.which("strace") is None:
        print("strace is not installed: no cut of power was tried")
        return
    chosen = [verb for verb in verbs.VERBS if not arguments.verb or verb.name in arguments.verb]
    draws = 15 if arguments.full else arguments.draws
    progress = Progress(arguments.out, {"draws": draws, "seed": arguments.seed})
    with tempfile.TemporaryDirectory(dir=verbs.MEMORY) as folder:
        prepared = verbs.Verbs(Path(folder).resolve())
        prepared.prepare(verbs.homes_of(chosen))
        for verb in chosen:
            if progress.has(verb.name):
                continue
            result = cut(verb, prepared, draws, arguments.seed)
            progress.add(verb.name, result.states, result.failures)
    total, failures = progress.total(), progress.failures()
    progress.finish({"states of the disk after a cut of power": total, "states with a failure": len(failures)})
    print(*failures, sep="\n", end="\n" if failures else "")
    print(f"{total} states of the disk after a cut of power in {len(progress.done)} verbs, {len(failures)} failures")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
