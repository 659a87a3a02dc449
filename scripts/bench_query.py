"""How long a whole process of `modelspace nearest NAME` takes, against the imports that it can't do without.

    python scripts/bench_query.py [--home DIR] [--name NAME] [--runs N]

The floor is a process that imports numpy, duckdb, faiss and typer and ends. The two are run in turns, so that a busy
machine slows both, and compared by their medians. Always exits with 0: it measures, and judges nothing.
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
    """Wall time of one Python process, which may keep its compiled modules as an installed program does."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def measure(candidates: dict[str, list[str]], runs: int) -> dict[str, list[float]]:
    """Times of each candidate, taken in turns after one unmeasured run of each."""
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
    parser.add_argument("--name", help="the model that is asked about; default: the first of the registry")
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
    print(f"{len(models)} models, {options.runs} runs each, in turns; nearest {name}")
    print(f"{'':22}{'median s':>10}{'least s':>10}{'of the imports':>16}")
    for label, taken in times.items():
        median = statistics.median(taken)
        print(f"{label:22}{median:10.3f}{min(taken):10.3f}{median / floor:16.2f}")


if __name__ == "__main__":
    main()
