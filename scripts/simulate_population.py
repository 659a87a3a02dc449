"""Fill a registry with a simulated population of models: families of bases, fine-tunes and quantised copies.

    python scripts/simulate_population.py HOME --models 100000 [--seed 0] [--spaces dds,gradient_x_input]
    python scripts/simulate_population.py --compare [--page]

Kernels and maps are computed, stored as `add` stores them, and pass `modelspace verify`; names and metadata are like
those of a public hub. Affinities follow those measured on the zoo: --compare prints quantiles of both, and --page
writes them into docs/scale.md. A population depends on its seed alone: a larger one begins with the smaller one, and
the same command resumes an interrupted one. Spaces: dds, gradient_x_input, saliency, transfer (which needs dds).

What a registry takes: 28 kB per model with kernels of 200 images, 55 kB more with maps of 100 images.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from build_registry import BITS, CANVAS, FEATURE_IMAGES, IMAGES
from population import hub, targets
from population.families import families
from population.filling import Filler
from population.kernels import KernelPopulation
from population.maps import MapPopulation
from population.page import replace_section

from modelspace.home import REGISTRY
from modelspace.registry import Registry
from modelspace.workspace import ModelSpace

#: What a registry was filled with, next to it.
STATE = "population.json"

MAPS, KERNELS, BLEND = ("gradient_x_input", "saliency"), "dds", "transfer"

#: Models that --compare looks at.
COMPARED = 2_500


def create(home: Path, spaces: list[str]) -> ModelSpace:
    """An empty registry with spaces of rendered rooms, like those of the shipped one."""
    space = ModelSpace(home)
    if KERNELS in spaces or BLEND in spaces:
        space.init(probes="rooms", methods=(KERNELS,), images=FEATURE_IMAGES)
    if BLEND in spaces:
        space.blend(BLEND, {KERNELS: 1.0}, rerank="directed", default=True)
    for method in MAPS:
        if method in spaces:
            space.init(probes="rooms", methods=(method,), images=IMAGES, canvas=CANVAS, bits=BITS)
    return space


def fill(home: Path, models: int, seed: int, spaces: list[str]) -> None:
    """Create a registry or resume filling it, until it has this number of models."""
    state = {"seed": seed, "spaces": sorted(spaces)}
    if (home / REGISTRY).exists():
        if not (home / STATE).exists() or json.loads((home / STATE).read_text()) != state:
            sys.exit(f"{home} is not a population with seed {seed} and spaces {', '.join(spaces)}")
    else:
        create(home, spaces)
        (home / STATE).write_text(json.dumps(state) + "\n")
    with Registry.open(home / REGISTRY, write=True) as registry:
        ((start,),) = registry.rows("SELECT count(*) FROM main.models")
        filler = Filler(registry, seed, max(models, start))
        started, spent = time.perf_counter(), time.process_time()

        def report(count: int) -> None:
            rate = (count - start) / (time.process_time() - spent)
            elapsed = time.perf_counter() - started
            print(f"{count:,} models, {elapsed:.0f} s, {rate:,.0f} per CPU second", flush=True)

        filler.fill(start, models, report)


def compare() -> str:
    """A table of quantiles of affinities in the zoo and in a population, by kind of space and relation."""
    people = families(0, COMPARED)
    tasks = hub.tasks(0, people)
    populations: dict[str, targets.Population] = {KERNELS: KernelPopulation(0, people, tasks, FEATURE_IMAGES)}
    for method in MAPS:
        populations[method] = MapPopulation(0, people, tasks, IMAGES, CANVAS, BITS, targets.SHAPES[method])
    both = {name: (targets.measured(name), targets.simulated(each, people)) for name, each in populations.items()}
    return targets.table(both)


def sizes_of_families(models: int = 100_000) -> str:
    """A sentence on the sizes of the families of a population."""
    sizes = np.sort(np.bincount(families(0, models).base))[::-1]
    sizes = sizes[sizes > 0]
    return (
        f"{models:,} models are {len(sizes):,} families: {int((sizes == 1).sum()):,} models have no relatives, "
        f"the largest family has {sizes[0]:,}, the tenth {sizes[9]:,}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path, nargs="?", help="folder of the registry")
    parser.add_argument("--models", type=int, default=1_000, help="number of models in the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spaces", default=KERNELS, help=f"comma-separated, of: {KERNELS}, {BLEND}, {', '.join(MAPS)}")
    parser.add_argument("--compare", action="store_true", help="compare affinities with those measured on the zoo")
    parser.add_argument("--page", action="store_true", help="with --compare: write the table into docs/scale.md")
    options = parser.parse_args()
    spaces = options.spaces.split(",")
    if unknown := set(spaces) - {KERNELS, BLEND, *MAPS}:
        parser.error(f"unknown spaces: {', '.join(sorted(unknown))}")
    if options.compare:
        text = f"{compare()}\n{sizes_of_families()}\n"
        print(text)
        if options.page:
            replace_section("population", text)
    elif options.home is None:
        parser.error("name a folder, or use --compare")
    else:
        fill(options.home, options.models, options.seed, spaces)


if __name__ == "__main__":
    main()
