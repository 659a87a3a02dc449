"""Benchmark a whole process of `modelspace nearest NAME` against the imports that it needs.

    python scripts/bench_query.py [--home DIR] [--name NAME] [--runs N]

The floor is a process that only imports numpy, duckdb, faiss and typer. Both are run alternately, so that a busy
machine slows both, and compared by their medians. The exit code is always 0: no threshold is checked.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from modelspace.workspace import ModelSpace

FLOOR = ["-c", "import numpy, duckdb, faiss, typer"]


def seconds(arguments: list[str]) -> float:
    """Wall time of one Python process, which may cache compiled modules like an installed program."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def measure(candidates: dict[str, list[str]], runs: int) -> dict[str, list[float]]:
    """Times of each candidate, measured alternately after one warm-up run of each."""
    for arguments in candidates.values():
        seconds(arguments)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, arguments in candidates.items():
            times[name].append(seconds(arguments))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--name", help="the query model; default: the first of the registry")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()

    models = ModelSpace.open(options.home).list()
    name = options.name or models[0].name
    query = ["-m", "modelspace", "nearest", name, "--home", str(options.home)]
    candidates = {
        "imports alone": FLOOR,
        "nearest, as a table": query,
        "nearest, as JSON": [*query, "--format", "json"],
        "by affinity alone": [*query, "--rerank", "none"],
    }
    times = measure(candidates, options.runs)
    floor = statistics.median(times["imports alone"])
    print(f"{len(models)} models, {options.runs} alternating runs each; nearest {name}")
    print(f"{'':22}{'median s':>10}{'minimum s':>10}{'of the imports':>16}")
    for label, values in times.items():
        median = statistics.median(values)
        print(f"{label:22}{median:10.3f}{min(values):10.3f}{median / floor:16.2f}")


if __name__ == "__main__":
    main()
