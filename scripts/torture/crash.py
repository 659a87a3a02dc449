"""Kill -9 at random points of every verb that writes, and look at what the next user finds.

    python scripts/torture/crash.py                          # 28 kills
    python scripts/torture/crash.py --full --out crash.json  # 500 kills
    python scripts/torture/crash.py --kills 50 --seed 3 --verb add

Each command runs as a process of its own, forked from one that has imported everything. Half of the kills fall anywhere
in its run, half after it has taken the registry's lock. Then the registry must hold a state before or after a
transaction of the command (after the last one, if the process had ended with exit code 0), pass the checks of `verify`,
and accept one more change, after which no temporary file, log or lock is left.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture import verbs
from torture.figures import Progress

#: Seconds after which a process counts as hanging.
PATIENCE = 120.0

#: Packages whose modules a command may import, imported before the first fork.
PRELOADED = ("cli", "verbs", "embedding", "spaces", "plots", "attribution", "zoo", "probes")


@dataclass(frozen=True)
class Course:
    """One run of a verb that was not killed.

    Attributes:
        states: digests of the states that the registry passes through; the last is the state after it.
        seconds: from start to end.
        writing: from the first lock file to the end, in seconds.
    """

    states: tuple[str, ...]
    seconds: float
    writing: float


@dataclass
class Result:
    """What was tried of a verb.

    Attributes:
        kills: number of processes that were killed while they ran.
        finished: number of processes that ended before they could be killed.
        failures: what is wrong, and what makes it again.
    """

    kills: int = 0
    finished: int = 0
    failures: list[str] = field(default_factory=list)


def preload() -> None:
    """Import what commands import, but run nothing that starts threads."""
    for package in PRELOADED:
        folder = importlib.import_module(f"modelspace.{package}")
        for module in pkgutil.iter_modules(folder.__path__, f"{folder.__name__}."):
            importlib.import_module(module.name)
    for name in ("torch", "faiss", "matplotlib.figure", "matplotlib.backends.backend_svg", "modelspace.workspace"):
        importlib.import_module(name)


def start(work: Callable[[], object]) -> int:
    """Call a function in a forked process, which ends with the exit code that it returns (0 if none); its number."""
    process = os.fork()
    if process == 0:
        code = 70
        try:
            code = int(work() or 0)  # type: ignore[call-overload]
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(code)
    return process


def answer(work: Callable[[], str]) -> str:
    """What a function returns in a forked process; what ended the process, if it did not come to that."""
    reading, writing = os.pipe()

    def send() -> None:
        os.write(writing, work().encode()[:60_000])

    process = start(send)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return text if code == 0 else f"the process that looked ended with {code}: {text}"


def ended(process: int, seconds: float) -> int | None:
    """The exit code of a process that ends within this time; None if it still runs then."""
    deadline = time.monotonic() + seconds
    while True:
        number, status = os.waitpid(process, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.0005)


def fresh(prepared: verbs.Verbs, verb: verbs.Verb) -> Path:
    """A copy of the home that a verb starts from."""
    work = prepared.folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(prepared.folder / verb.home, work)
    return work


def observed(prepared: verbs.Verbs, verb: verbs.Verb) -> Course:
    """Run a verb twice without killing it: once to see its states, once to time it."""
    work, snapshots = fresh(prepared, verb), prepared.folder / "snapshots"
    shutil.rmtree(snapshots, ignore_errors=True)
    code = ended(start(lambda: _run_with_snapshots(prepared.words(verb), work, snapshots)), PATIENCE)
    assert code == 0, f"{verb.name} ended with {code}"
    states = [answer(lambda: verbs.digest(prepared.folder / verb.home, of_any_run=True))]
    for folder in (*sorted(snapshots.iterdir()), work):
        state = answer(lambda folder=folder: verbs.digest(folder, of_any_run=True))  # type: ignore[misc]
        if state != states[-1]:
            states.append(state)
    assert all(len(state) in (4, 16) for state in states), f"{verb.name}: {states}"
    work, begin = fresh(prepared, verb), time.monotonic()
    process = start(lambda: verbs.run(prepared.words(verb), work))
    wait_for_lock(work, process)
    locked = time.monotonic()
    assert ended(process, PATIENCE) == 0
    return Course(tuple(states), time.monotonic() - begin, time.monotonic() - locked)


def _run_with_snapshots(words: list[str], home: Path, snapshots: Path) -> int:
    """Run a command, with a copy of its home before and after each commit."""
    from modelspace.registry.connection import Connection

    commit = Connection.commit

    def copied(connection: Connection) -> None:
        for moment in ("before", "after"):
            if moment == "after":
                commit(connection)
            shutil.copytree(home, snapshots / f"{len(list(snapshots.glob('*'))):04d}")

    snapshots.mkdir()
    Connection.commit = copied  # type: ignore[method-assign]
    return verbs.run(words, home)


def wait_for_lock(home: Path, process: int) -> None:
    """Wait until a lock file appears in a home, or the process has ended."""
    while not any(name.endswith(".lock") for name in os.listdir(home)):
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.0005)


def killed(prepared: verbs.Verbs, verb: verbs.Verb, course: Course, rng: random.Random, result: Result) -> str:
    """Kill one process of a verb, and say what is wrong then; empty if nothing."""
    work = fresh(prepared, verb)
    process = start(lambda: verbs.run(prepared.words(verb), work))
    if rng.random() < 0.5:
        code = ended(process, rng.uniform(0, course.seconds))
    else:
        wait_for_lock(work, process)
        code = ended(process, rng.uniform(0, course.writing))
    if code is None:
        os.kill(process, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code == -signal.SIGKILL:
        result.kills += 1
    else:
        result.finished += 1
        if code != 0:
            return f"the command ended with exit code {code}"
    legal = set(course.states[-1:] if code == 0 else course.states)
    write = verbs.may_write(verb, rng.randrange(2))
    return answer(lambda: verbs.trouble(work, legal, write=write, of_any_run=True))


def try_verb(prepared: verbs.Verbs, verb: verbs.Verb, kills: int, seed: int) -> Result:
    """Kill `kills` processes of a verb."""
    rng, course, result = random.Random(f"{seed} {verb.name}"), observed(prepared, verb), Result()
    if len(course.states) > verb.states:
        result.failures.append(f"{verb.name}: passes through {len(course.states)} states, expected {verb.states}")
    while result.kills < kills and result.finished < 3 * kills + 10:
        if what := killed(prepared, verb, course, rng, result):
            number = result.kills + result.finished
            result.failures.append(f"{verb.name}, seed {seed}, process {number}: {what}")
            shutil.copytree(prepared.folder / "work", Path(tempfile.mkdtemp()) / "home")
    return result


def main() -> None:
    """Run the program; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2 * len(verbs.VERBS), help="number of kills, over all verbs")
    parser.add_argument("--full", action="store_true", help="500 kills")
    parser.add_argument("--verb", action="append", choices=verbs.NAMES, help="only this verb; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills")
    parser.add_argument("--out", type=Path, help="JSON file of the figures, from which a rerun goes on")
    arguments = parser.parse_args()
    chosen = [verb for verb in verbs.VERBS if not arguments.verb or verb.name in arguments.verb]
    total = 500 if arguments.full else arguments.kills
    progress = Progress(arguments.out, {"kills": total, "seed": arguments.seed})
    preload()
    with tempfile.TemporaryDirectory(dir=verbs.MEMORY) as folder:
        prepared = verbs.Verbs(Path(folder).resolve())
        assert ended(start(lambda: prepared.prepare(verbs.homes_of(chosen))), 10 * PATIENCE) == 0
        for number, verb in enumerate(chosen):
            if not progress.has(verb.name):
                share = total // len(chosen) + (number < total % len(chosen))
                result = try_verb(prepared, verb, share, arguments.seed)
                progress.add(verb.name, result.kills, result.failures)
    failures = progress.failures()
    progress.finish({"kills": progress.total(), "kills after which something was wrong": len(failures)})
    print(*failures, sep="\n", end="\n" if failures else "")
    print(f"{progress.total()} kills in {len(chosen)} verbs, {len(failures)} after which something was wrong")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
