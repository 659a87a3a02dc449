"""Eight processes on one registry at the same time: they add, remove, query and run SQL, and one is plain DuckDB.

    python scripts/torture/concurrent_use.py                                # 15 seconds
    python scripts/torture/concurrent_use.py --full --out concurrent.json   # 10 minutes
    python scripts/torture/concurrent_use.py --seconds 60 --seed 4

Four processes add, tag and remove models of their own, two rank neighbours, one runs SQL, and one holds the file open
with DuckDB alone, as another program would. Each change that was acknowledged must be there at the end, and each answer
must be of one state: positions 0..n-1, the same models in all spaces, unit vectors. A process may be refused only by an
error that names the process it waited for, and not before the time that it was to wait nor long after it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

import small_spaces

from modelspace.errors import BusyError
from modelspace.home import REGISTRY
from modelspace.registry import Registry
from modelspace.spaces import affinity
from modelspace.workspace import ModelSpace
from torture.figures import Progress

SPACES = (small_spaces.MAPS, small_spaces.KERNELS, small_spaces.BOTH)

#: What the eight processes do.
ROLES = ("change", "change", "change", "change", "rank", "rank", "sql", "duckdb")

#: Seconds that a process waits for others, and that it may take beyond that on a busy machine.
WAIT, SLACK = 5.0, 20.0

#: Models that a process of changes keeps at most.
MOST = 5


@dataclass
class Report:
    """What one process did.

    Attributes:
        role: one of `ROLES`.
        counts: of operations by name, and of refusals ("refused").
        longest: seconds of the longest operation.
        models: name -> tag "step" of its own models, as far as acknowledged.
        failures: what was wrong.
    """

    role: str
    counts: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    models: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def attempt(self, name: str, work: Callable[[], object]) -> bool:
        """Do an operation; whether it was done. It may be refused by an error that names the holder."""
        begin, done = time.monotonic(), False
        try:
            work()
            done = True
            self.counts[name] += 1
        except BusyError as error:
            self.counts["refused"] += 1
            if not re.search(r"process \d+ is (using|changing)|another process is reading", error.message):
                self.failures.append(f"{self.role}: {name} was refused without naming the holder: {error.message}")
        except Exception as error:
            self.failures.append(f"{self.role}: {name}: {type(error).__name__}: {error}".replace("\n", " "))
        seconds = time.monotonic() - begin
        self.longest = max(self.longest, seconds)
        if seconds > WAIT + SLACK:
            self.failures.append(f"{self.role}: {name} took {seconds:.0f} seconds")
        return done


def prepare(home: Path) -> None:
    """A registry of three spaces and four models."""
    with small_spaces.create(home / REGISTRY, *SPACES) as registry:
        for seed in range(4):
            small_spaces.add(registry, seed, *SPACES)


def changes(report: Report, home: Path, rng: random.Random, number: int) -> None:
    """One change of a model of one's own, and what the registry must hold once it is acknowledged."""
    names = sorted(report.models)
    kind = rng.choice(("add", "tag", "remove")) if names else "add"
    if kind == "add" and len(names) >= MOST:
        kind = "remove"
    step = str(sum(report.counts.values()))
    if kind == "add":
        name = f"m{1000 * (number + 1) + int(step)}"
        if report.attempt(kind, lambda: _add(home, name, step)):
            report.models[name] = step
        return
    name = rng.choice(names)
    if kind == "tag" and report.attempt(kind, lambda: _tag(home, name, step)):
        report.models[name] = step
    if kind == "remove" and report.attempt(kind, lambda: _remove(home, name)):
        del report.models[name]


def _add(home: Path, name: str, step: str) -> None:
    with Registry.open(home / REGISTRY, write=True, timeout=WAIT) as registry:
        small_spaces.add(registry, int(name[1:]), *SPACES)
        with registry.transaction():
            registry.update_model(registry.model(name).model_id, tags={"step": step})


def _tag(home: Path, name: str, step: str) -> None:
    with Registry.open(home / REGISTRY, write=True, timeout=WAIT) as registry, registry.transaction():
        registry.update_model(registry.model(name).model_id, tags={"step": step})


def _remove(home: Path, name: str) -> None:
    with Registry.open(home / REGISTRY, write=True, timeout=WAIT) as registry, registry.transaction():
        affinity.remove(registry, registry.model(name).model_id)


def ranks(report: Report, home: Path, rng: random.Random, number: int) -> None:
    """A ranking, or a look at all coordinates of one state."""
    if rng.random() < 0.5:
        report.attempt("rank", lambda: _rank(home, rng))
    else:
        report.attempt("read", lambda: require_whole(home))


def _rank(home: Path, rng: random.Random) -> None:
    name = f"m{rng.randrange(4)}"
    space = rng.choice(SPACES).name
    neighbours = list(ModelSpace.open(home).nearest(name, k=3, space=space))
    assert len(neighbours) == 3, f"{len(neighbours)} neighbours instead of 3"
    assert all(-1.0001 <= neighbour.affinity <= 1.0001 for neighbour in neighbours), "an affinity out of range"


def require_whole(home: Path) -> None:
    """Look whether one opening shows one state.

    Raises:
        AssertionError: it does not.
    """
    with Registry.open(home / REGISTRY, timeout=WAIT) as registry:
        ids = {row.model_id for row in registry.models()}
        for space in SPACES:
            rows = registry.embeddings(space.space_id)
            assert {row.model_id for row in rows} == ids, f"{space.name} has other models than the registry"
            assert [row.position for row in rows] == list(range(len(rows))), f"{space.name}: positions with a gap"
            for row in rows:
                assert abs(float(np.linalg.norm(row.vector)) - 1) < 1e-6, f"{space.name}: a vector is not of unit norm"
                assert len(row.affinities) == row.position, f"{space.name}: affinities of another number of models"


def queries(report: Report, home: Path, rng: random.Random, number: int) -> None:
    """Users' SQL."""
    report.attempt("sql", lambda: _sql(home))


def _sql(home: Path) -> None:
    result = ModelSpace.open(home).sql(
        "SELECT (SELECT count(*) FROM models), (SELECT count(DISTINCT name) FROM models),"
        " (SELECT count(*) FROM main.embeddings)"
    )
    n_models, n_names, n_rows = next(iter(result.rows))
    assert n_models == n_names, "a name twice"
    assert n_rows == len(SPACES) * n_models, f"{n_rows} rows of {n_models} models"


def holds(report: Report, home: Path, rng: random.Random, number: int) -> None:
    """Hold the file open for a moment with DuckDB alone. It does not wait, so refusals are expected."""
    try:
        duck = duckdb.connect(str(home / REGISTRY), read_only=True)
    except duckdb.IOException as error:
        report.counts["refused"] += 1
        if "lock" not in str(error):
            report.failures.append(f"duckdb: {error}")
        time.sleep(0.05)
        return
    try:
        first = duck.execute("SELECT count(*), count(DISTINCT name) FROM main.models").fetchall()
        time.sleep(rng.expovariate(1 / 0.2))
        if duck.execute("SELECT count(*), count(DISTINCT name) FROM main.models").fetchall() != first:
            report.failures.append("duckdb: the file changed while it was open")
        report.counts["held"] += 1
    finally:
        duck.close()
    time.sleep(rng.expovariate(1 / 0.3))


WORK: dict[str, Callable[[Report, Path, random.Random, int], None]] = {
    "change": changes,
    "rank": ranks,
    "sql": queries,
    "duckdb": holds,
}


def serve(home: Path, number: int, seconds: float, seed: int) -> Report:
    """Do the work of one of the eight processes for some seconds."""
    report, rng = Report(ROLES[number]), random.Random(f"{seed} {number}")
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(report.failures) < 20:
        WORK[report.role](report, home, rng, number)
        time.sleep(rng.expovariate(1 / 0.02))
    return report


def lost(home: Path, reports: list[Report]) -> list[str]:
    """What was acknowledged and is missing at the end, or the other way round."""
    expected = {name: step for report in reports for name, step in report.models.items()}
    with Registry.open(home / REGISTRY, write=True) as registry:
        problems = [f"at the end: {problem}" for problem in registry.check()]
        kept = {row.card.name: row.card.tags.get("step") for row in registry.models()}
    for seed in range(4):
        kept.pop(f"m{seed}", None)
    for name in sorted(expected.keys() | kept.keys()):
        if expected.get(name) != kept.get(name):
            problems.append(f"{name}: step {expected.get(name)} was acknowledged, {kept.get(name)} is stored")
    return problems


def together(home: Path, seconds: float, seed: int) -> list[Report]:
    """Run the eight processes, each in a fresh interpreter."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--seconds", str(seconds), "--seed", str(seed), "--home", str(home)]
    processes = [
        subprocess.Popen([*command, "--number", str(number)], stdout=subprocess.PIPE, text=True, env=environment)
        for number in range(len(ROLES))
    ]
    reports = []
    for role, process in zip(ROLES, processes, strict=True):
        text, _ = process.communicate(timeout=seconds + 300)
        if process.returncode:
            reports.append(Report(role, failures=[f"{role}: its process ended with {process.returncode}"]))
            continue
        values = json.loads(text)
        reports.append(Report(**{**values, "counts": Counter(values["counts"])}))
    return reports


def torture(seconds: float, seed: int, folder: str | None = None) -> tuple[list[Report], list[str]]:
    """Reports of the eight processes on a new registry, and all failures."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        home = Path(name)
        prepare(home)
        reports = together(home, seconds, seed)
        failures = [line for report in reports for line in report.failures] + lost(home, reports)
        failures += [f"left over: {file.name}" for file in home.iterdir() if file.name not in (REGISTRY, "index")]
    return reports, failures


def main() -> None:
    """Run the program; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="how long the processes work")
    parser.add_argument("--full", action="store_true", help="10 minutes")
    parser.add_argument("--seed", type=int, default=0, help="seed of what they do")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.number is not None:
        print(json.dumps(serve(arguments.home, arguments.number, arguments.seconds, arguments.seed).__dict__))
        return
    seconds = 600.0 if arguments.full else arguments.seconds
    progress = Progress(arguments.out, {"seconds": seconds, "seed": arguments.seed})
    reports, failures = torture(seconds, arguments.seed)
    counts = sum((report.counts for report in reports), Counter[str]())
    refused = counts.pop("refused", 0)
    acknowledged = counts["add"] + counts["tag"] + counts["remove"]
    longest = max(report.longest for report in reports)
    progress.add("eight processes", counts.total(), failures)
    progress.finish(
        {
            "changes acknowledged": acknowledged,
            "answers": counts.total() - acknowledged,
            "refused with the holder's name": refused,
            "longest operation in seconds": round(longest, 1),
            "failures": len(failures),
        }
    )
    print(*(f"seed {arguments.seed}: {line}" for line in failures), sep="\n", end="\n" if failures else "")
    print(
        f"{len(ROLES)} processes, {seconds:.0f} seconds: {acknowledged} changes acknowledged, "
        f"{counts.total() - acknowledged} answers, {refused} refusals, longest operation {longest:.1f} seconds, "
        f"{len(failures)} failures"
    )
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
