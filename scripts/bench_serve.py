"""Measure `modelspace serve`: many clients that ask one after the other, each for the neighbours of a random model.

    python scripts/bench_serve.py [--home DIR] [--clients N] [--seconds N] [--workers N] [--names N] [--change SECONDS]

Prints requests per second, the median and 99th percentile of the time of an answer, errors, and the largest memory of a
worker. With --change a model's tag is set that often in the meantime, so that answers can't come from memory, and how
long a change takes to be seen is printed. Clients and server share the machine. Exit code 1 if a request failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelspace.workspace import ModelSpace


@dataclass
class Figures:
    """What the clients saw: seconds of each answer, and errors by kind."""

    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seen_s: list[float] = field(default_factory=list)


async def client(port: int, names: list[str], query: str, end: float, figures: Figures, seed: int) -> None:
    """Ask on one connection until the end."""
    choice = random.Random(seed)
    reader: Any = None
    writer: Any = None
    while time.monotonic() < end:
        started = time.perf_counter()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            path = f"/v1/nearest/{choice.choice(names)}{query}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode()
            length = int(re.search(r"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
            body = await asyncio.wait_for(reader.readexactly(length), 60)
            figures.seconds.append(time.perf_counter() - started)
            if not head.startswith("HTTP/1.1 200"):
                figures.errors[f"{head[9:12]} {body.decode()[:100]}"] += 1
            elif len(json.loads(body)["neighbours"]) < 1:
                figures.errors["no neighbours"] += 1
        except (OSError, asyncio.IncompleteReadError, TimeoutError, TypeError) as error:
            figures.errors[type(error).__name__] += 1
            writer = None


def get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as response:
        return json.load(response)


def change(space: ModelSpace, port: int, name: str, number: int) -> float:
    """Set a tag, and return the seconds until the server shows it."""
    space.tag(name, {"bench": str(number)})
    started = time.monotonic()
    while get(port, f"/v1/models/{name}")["tags"].get("bench") != str(number):
        time.sleep(0.01)
    return time.monotonic() - started


async def load(port: int, names: list[str], space: ModelSpace, options: argparse.Namespace) -> Figures:
    figures, end = Figures(), time.monotonic() + options.seconds
    clients = [
        asyncio.create_task(client(port, names, options.query, end, figures, seed)) for seed in range(options.clients)
    ]
    number = 0
    while options.change and time.monotonic() + options.change < end:
        await asyncio.sleep(options.change)
        number += 1
        figures.seen_s.append(await asyncio.to_thread(change, space, port, names[0], number))
    await asyncio.gather(*clients)
    return figures


def peak_mb(parent: int) -> float:
    """The largest resident memory of a process's children, in MB; 0 where /proc does not say."""
    peaks = [0.0]
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if f"PPid:\t{parent}\n" in text and (match := re.search(r"VmHWM:\s+(\d+) kB", text)):
            peaks.append(int(match[1]) / 1024)
    return max(peaks)


def report(figures: Figures, seconds: float, models: int, peak: float) -> None:
    cuts = statistics.quantiles(figures.seconds, n=100)
    count = len(figures.seconds)
    print(f"{models:,} models, {count:,} requests in {seconds:.0f} s: {count / seconds:.0f}/s")
    print(f"p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms, slowest {max(figures.seconds) * 1000:.0f} ms")
    print(f"errors: {sum(figures.errors.values())}; largest worker: {peak:.0f} MB")
    for kind, count in figures.errors.most_common(5):
        print(f"  {count} x {kind}")
    if figures.seen_s:
        print(f"{len(figures.seen_s)} changes, each seen within {max(figures.seen_s):.2f} s of its end")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--names", type=int, default=1000, help="number of models that are asked for")
    parser.add_argument("--query", default="?k=10", help="parameters of each request")
    parser.add_argument("--change", type=float, default=0, help="seconds between changes of the registry")
    options = parser.parse_args()

    space = ModelSpace.open(options.home)
    all_names = list(space)
    names = random.Random(0).sample(all_names, min(options.names, len(all_names)))
    words = ["serve", "--home", str(options.home), "--port", "0", "--workers", str(options.workers)]
    server = subprocess.Popen([sys.executable, "-m", "modelspace", *words], stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        port = int(server.stderr.readline().split()[1].rpartition(":")[2])
        get(port, f"/v1/nearest/{names[0]}")  # workers have started
        figures = asyncio.run(load(port, names, space, options))
        report(figures, options.seconds, len(all_names), peak_mb(server.pid if options.workers > 1 else -1))
        server.send_signal(signal.SIGTERM)
        code = server.wait(30)
        if code:
            print(f"the server ended with exit code {code}")
        return 1 if figures.errors or code else 0
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
