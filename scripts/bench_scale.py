"""Measure how adding, removing, querying, building, memory and disk grow with the number of models, and draw it.

    python scripts/bench_scale.py [--largest 1000000] [--folder .bench/scale] [--page]

At each size, 100 to a million models by factors of ten, a simulated population (`scripts/simulate_population.py`) is
extended to that size, and each step is measured in a process of its own. Results are kept in the folder: the same
command resumes, and does again only what is missing. --page writes the tables and the picture into docs/scale.md.

Times are processor seconds of the process, which other programs on the machine hardly change; each process is kept on
one core, where the system can do that. The population has the spaces `dds` and `transfer`, the default: a kernel of 200
images per model. Queries of an open registry are asked twice: of a model the first time, and again when what they read
is in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simulate_population
from population import hub
from population.drawing import Panel, growth, slope
from population.families import families
from population.page import replace_section
from process_memory import own_mb, peak_mb
from simulate_population import STATE

from modelspace import __version__
from modelspace.home import INDEX, REGISTRY
from modelspace.timing import recorded
from modelspace.workspace import ModelSpace

TOP = Path(__file__).resolve().parent.parent
PICTURE = TOP / "docs" / "pictures" / "scale.svg"

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
SEED, SPACES = 0, ["dds", "transfer"]

#: Models that are queried by affinity and by the default ranking, after a few that only warm up; models that are added
#: and removed; processes.
QUERIES, DIRECTED, WARM_UP, ADDED, PROCESSES = 100, 15, 5, 5, 6

#: Phases of `add` that don't depend on the registry: loading the model, and the pass.
PASS = ("imports", "load", "layer", "images", "checks", "pass")

Result = dict[str, float]


# ---- one step, each in a process of its own


def fill(home: Path, size: int) -> Result:
    """Extend the population."""
    before = len(ModelSpace(home)) if (home / REGISTRY).exists() else 0
    spent = time.process_time()
    simulate_population.fill(home, size, SEED, SPACES)
    return {"filled_per_s": (size - before) / (time.process_time() - spent)}


def build(home: Path, size: int) -> Result:
    """Build all index files from nothing."""
    shutil.rmtree(home / INDEX, ignore_errors=True)
    spent = time.process_time()
    ModelSpace.open(home).rebuild()
    return {
        "build_s": time.process_time() - spent,
        "build_mb": peak_mb(),
        "registry_mb": (home / REGISTRY).stat().st_size / 1e6,
        "index_mb": sum(file.stat().st_size for file in (home / INDEX).rglob("*") if file.is_file()) / 1e6,
    }


def query(home: Path, size: int) -> Result:
    """Ask for neighbours of models all over the population, in one process: by affinity, filtered, and by default."""
    space, names = ModelSpace.open(home), some_names(size, WARM_UP + QUERIES)

    def times(count: int, **options: str) -> list[float]:
        """Milliseconds of each query."""
        asked = [partial(space.nearest, name, **options) for name in names[: WARM_UP + count]]
        return [1e3 * spent(query) for query in asked][WARM_UP:]

    by_affinity = times(QUERIES, space="dds")
    with space.kept_open():
        at_first, repeated = times(QUERIES, space="dds"), times(QUERIES, space="dds")
        own, of_affinity = own_mb(), peak_mb()
    return {
        "kept_p50_ms": statistics.median(at_first),
        "kept_p99_ms": float(np.percentile(at_first, 99)),
        "again_p50_ms": statistics.median(repeated),
        "again_p99_ms": float(np.percentile(repeated, 99)),
        "query_p50_ms": statistics.median(by_affinity),
        "where_p50_ms": statistics.median(times(DIRECTED, space="dds", where=RARE)),
        "default_p50_ms": statistics.median(times(DIRECTED)),
        "query_mb": of_affinity,
        "query_own_mb": own,
        "query_both_mb": peak_mb(),
    }


#: A condition that few models fulfil.
RARE = "tags['licence'] = 'unknown' AND task = 'depth-estimation'"


def process(home: Path, size: int) -> Result:
    """`modelspace nearest NAME`, the whole process, and the same on the registry of 39 models that ships."""
    populations = {
        "": (home, some_names(size, PROCESSES + 1)),
        "shipped_": (TOP, list(ModelSpace(TOP))[: PROCESSES + 1]),
    }
    out: Result = {}
    for prefix, (folder, names) in populations.items():
        for label, options in (("process_s", []), ("affinity_s", ["--rerank", "none"])):
            times = [_spent_by("nearest", name, "--home", str(folder), *options) for name in names]
            out[prefix + label] = statistics.median(times[1:])
    return out


def _spent_by(*arguments: str) -> float:
    """Processor seconds of a `modelspace` command, with its modules compiled."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(TOP / ".bench" / "compiled")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "modelspace", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def add(home: Path, size: int) -> Result:
    """Add small networks, and remove them again: what is spent beyond loading and the pass, and on removing."""
    import torch
    from torch import nn

    from modelspace.types import Preprocessing

    torch.set_num_threads(1)
    space, beyond, removing, named = ModelSpace.open(home), [], [], []
    for left in [name for name in space if name.startswith("bench-")]:  # of an interrupted run
        space.remove(left)
    for number in range(ADDED):
        torch.manual_seed(number)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(392, 5)
        )
        name = f"bench-{number}"
        with recorded(time.process_time) as phases:
            total = spent(partial(space.add, net, name=name, preprocessing=Preprocessing.raw(32), device="cpu"))
        beyond.append(total - sum(seconds for phase, seconds in phases.items() if phase in PASS))
        named.append(name)
    for name in named:
        removing.append(spent(partial(space.remove, name)))
    return {
        "add_s": statistics.median(beyond[1:]),
        "remove_s": statistics.median(removing[1:]),
        "add_mb": peak_mb(),
    }


STEPS: dict[str, Callable[[Path, int], Result]] = {
    "fill": fill,
    "build": build,
    "query": query,
    "process": process,
    "add": add,
}


def spent(work: Callable[[], Any]) -> float:
    """Processor seconds of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def some_names(size: int, count: int) -> list[str]:
    """Names of models spread over a population."""
    ids = np.unique(np.linspace(0, size - 1, min(size, count)).astype(int))
    names = hub.Hub(SEED, families(SEED, size)).names(ids)
    return [names[i % len(names)] for i in range(count)]


# ---- all steps


def run(folder: Path, largest: int) -> dict[int, Result]:
    """Measure what is not in the folder's results yet; returns results by size."""
    folder.mkdir(parents=True, exist_ok=True)
    file, home = folder / "results.json", folder / "home"
    stored: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for size in (size for size in SIZES if size <= largest):
        done = stored.setdefault(str(size), {})
        missing = [step for step in STEPS if step not in done]
        if not missing:
            continue
        if count(home) > size:
            shutil.rmtree(home)  # of a larger size: measured again from nothing
        for step in dict.fromkeys(["fill", *missing]):
            print(f"{size:,} models: {step}", flush=True)
            result = in_process(step, home, size)
            if step in missing:
                done[step] = result
                file.write_text(json.dumps(stored, indent=1) + "\n")
                print("   ", ", ".join(f"{name} {value:.4g}" for name, value in result.items()), flush=True)
    return {
        int(size): {name: value for result in steps.values() for name, value in result.items()}
        for size, steps in stored.items()
        if set(steps) == set(STEPS)
    }


def count(home: Path) -> int:
    """Number of models of a population that is being filled; 0 if there is none."""
    return len(ModelSpace(home)) if (home / STATE).exists() and (home / REGISTRY).exists() else 0


def in_process(step: str, home: Path, size: int) -> Result:
    """The result of one step, measured by this script in a new process."""
    command = [sys.executable, __file__, "--step", step, "--home", str(home), "--size", str(size)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


# ---- the page

#: Title of each panel, and its lines: what is drawn, and under which name it was measured.
PANELS = (
    Panel("adding and removing, s", {"add, beyond the pass": "add_s", "remove": "remove_s"}),
    Panel(
        "query of an open registry, ms",
        {
            "asked first, median": "kept_p50_ms",
            "asked first, 99 %": "kept_p99_ms",
            "asked again, median": "again_p50_ms",
            "asked again, 99 %": "again_p99_ms",
        },
    ),
    Panel(
        "query that opens it, ms",
        {
            "by affinity": "query_p50_ms",
            "by affinity, a rare WHERE": "where_p50_ms",
            "default ranking": "default_p50_ms",
        },
    ),
    Panel(
        "whole process, s",
        {
            "modelspace nearest": "process_s",
            "the same on 39 models": "shipped_process_s",
            "by affinity": "affinity_s",
            "by affinity on 39 models": "shipped_affinity_s",
        },
    ),
    Panel("building the index, s", {"build": "build_s"}),
    Panel(
        "peak memory, MB",
        {
            "queries by affinity": "query_mb",
            "without mapped files": "query_own_mb",
            "and by default, of another index": "query_both_mb",
            "build": "build_mb",
            "add": "add_mb",
        },
    ),
    Panel("disk, MB", {"registry": "registry_mb", "index": "index_mb"}),
)


def tables(results: dict[int, Result]) -> str:
    """Figures by size, and the slopes of the curves."""
    sizes = sorted(results)
    head = ["", *(f"{size:,}" for size in sizes), "slope from 1,000"]
    rows = [head, ["---"] * len(head)]
    for panel in PANELS:
        for label, name in panel.lines.items():
            values = [results[size].get(name, 0.0) for size in sizes]
            shown = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value else "–" for value in values]
            rows.append([f"{panel.title}: {label}", *shown, slope(sizes, values)])
    filled = [f"{results[size]['filled_per_s']:,.0f}" for size in sizes]
    rows.append(["models written per s of the population", *filled, ""])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def section(results: dict[int, Result], largest: int) -> str:
    """The generated section of docs/scale.md."""
    not_run = [f"{size:,}" for size in SIZES if size not in results]
    where = f"{platform.machine()}, Python {platform.python_version()}, modelspace {__version__}, {date.today()}"
    text = f"Measured on one core of a shared machine ({where}).\nTimes are processor time.\n\n"
    text += "![Growth with the number of models](pictures/scale.svg)\n\n" + tables(results)
    if "| –" in text:
        text += "\nA dash: not measured in this run.\n"
    if not_run:
        text += f"\nNot run here: {', '.join(not_run)} models (`--largest {largest}`).\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="stop at this number of models")
    parser.add_argument("--folder", type=Path, default=TOP / ".bench" / "scale", help="results and the population")
    parser.add_argument("--page", action="store_true", help="write docs/scale.md and its picture")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(json.dumps(STEPS[options.step](options.home, options.size)))
        return
    results = run(options.folder, options.largest)
    print(tables(results))
    if options.page:
        growth(sorted(results), PANELS, results).save(PICTURE)
        replace_section("growth", section(results, options.largest))


if __name__ == "__main__":
    main()
