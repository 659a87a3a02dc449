"""What worker processes gain: the whole zoo into a fresh registry, by this process alone and by 1, 2, ... workers.

    python scripts/bench_workers.py [--workers 1 2] [--images N] [--rounds R]

Rounds of the ways are interleaved, and the ratio of medians to the way without workers is printed. A worker imports torch
once, about two seconds, and each gets its share of the threads. Seconds are of the wall: run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


def once(workers: int, images: int) -> float:
    """Seconds of one `modelspace add --manifest zoo`."""
    with tempfile.TemporaryDirectory() as home:
        program = [sys.executable, "-m", "modelspace"]
        subprocess.run([*program, "init", "--images", str(images), "--home", home, "-q"], check=True)
        more = ["--workers", str(workers)] if workers else []
        started = time.perf_counter()
        command = [*program, "add", "--manifest", "zoo", "--home", home, "-q", "--device", "cpu", *more]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, default=200, help="the default of 'modelspace init'")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    ways = [0, *options.workers]
    spent: dict[int, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            spent[way].append(once(way, options.images))
    base = statistics.median(spent[0])
    print(f"39 models, {options.images} images, {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f} at the end")
    print(f"this process alone: {base:.1f} s")
    for way in options.workers:
        took = statistics.median(spent[way])
        print(f"{way} worker{'' if way == 1 else 's'}: {took:.1f} s, {took / base:.2f} x")


if __name__ == "__main__":
    main()
