"""Benchmark worker processes: add the whole zoo to a new registry without workers and with 1, 2, ... of them.

    python scripts/bench_workers.py [--workers 1 2] [--images N] [--rounds R]

Rounds are interleaved, and the ratio of medians to the run without workers is printed. Each worker imports torch once,
which takes about two seconds, and gets its share of the threads. Times are wall time: run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


def seconds(workers: int, images: int) -> float:
    """Seconds of one `modelspace add --manifest zoo`."""
    with tempfile.TemporaryDirectory() as home:
        program = [sys.executable, "-m", "modelspace"]
        subprocess.run([*program, "init", "--images", str(images), "--home", home, "-q"], check=True)
        flags = ["--workers", str(workers)] if workers else []
        started = time.perf_counter()
        command = [*program, "add", "--manifest", "zoo", "--home", home, "-q", "--device", "cpu", *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, default=200, help="the default of 'modelspace init'")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    times: dict[int, list[float]] = {workers: [] for workers in (0, *options.workers)}
    for _ in range(options.rounds):
        for workers, values in times.items():
            values.append(seconds(workers, options.images))
    base = statistics.median(times[0])
    print(f"39 models, {options.images} images, {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f} at the end")
    print(f"this process alone: {base:.1f} s")
    for workers in options.workers:
        median = statistics.median(times[workers])
        print(f"{workers} worker{'' if workers == 1 else 's'}: {median:.1f} s, {median / base:.2f} x")


if __name__ == "__main__":
    main()
