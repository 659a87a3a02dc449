"""Benchmark whole processes, `modelspace nearest NAME` and a shell completion, against the imports that a query needs.

    python scripts/bench_query.py [--home DIR] [--name NAME] [--runs N]

The floor is a process that only imports numpy, duckdb, faiss and typer. All are run alternately, so that a busy machine
slows all, and compared by their medians, of processor time as well as of wall time: the one is less disturbed by other
programs. The exit code is always 0: no threshold is checked.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from modelspace.workspace import ModelSpace


class Process(NamedTuple):
    """A Python process to measure.

    Attributes:
        words: arguments of the interpreter.
        variables: additions to the environment.
    """

    words: list[str]
    variables: Mapping[str, str] = {}


class Seconds(NamedTuple):
    """What a process took."""

    wall: float
    processor: float


def seconds(process: Process) -> Seconds:
    """Times of one process, which may cache compiled modules like an installed program."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *process.words],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**environment, **process.variables},
    )
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure(candidates: dict[str, Process], runs: int) -> dict[str, list[Seconds]]:
    """Times of each candidate, measured alternately after one warm-up run of each."""
    for process in candidates.values():
        seconds(process)
    times: dict[str, list[Seconds]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, process in candidates.items():
            times[name].append(seconds(process))
    return times


def medians(times: list[Seconds]) -> Seconds:
    return Seconds(*(statistics.median(values) for values in zip(*times, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--name", help="the query model; default: the first of the registry")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()

    models = ModelSpace.open(options.home).list()
    name = options.name or models[0].name
    query = ["-m", "modelspace", "nearest", name, "--home", str(options.home)]
    asked = f"modelspace show --home {options.home} "
    candidates = {
        "imports alone": Process(["-c", "import numpy, duckdb, faiss, typer"]),
        "nearest, as a table": Process(query),
        "nearest, as JSON": Process([*query, "--format", "json"]),
        "by affinity alone": Process([*query, "--rerank", "none"]),
        "completion of a name": Process(
            ["-m", "modelspace"],
            {"_MODELSPACE_COMPLETE": "complete_bash", "COMP_WORDS": asked, "COMP_CWORD": "4"},
        ),
        "Python alone": Process(["-c", "pass"]),
    }
    times = measure(candidates, options.runs)
    floor = medians(times["imports alone"])
    print(f"{len(models)} models, {options.runs} alternating runs each, medians; nearest {name}")
    print(f"{'':22}{'wall s':>10}{'of the imports':>16}{'processor s':>14}{'of the imports':>16}")
    for label, values in times.items():
        wall, processor = medians(values)
        print(f"{label:22}{wall:10.3f}{wall / floor.wall:16.2f}{processor:14.3f}{processor / floor.processor:16.2f}")


if __name__ == "__main__":
    main()
