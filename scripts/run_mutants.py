"""Change the core modules a little, and count how many of the changes their own tests notice.

    python scripts/run_mutants.py                               # a sample of 40 mutants per module
    python scripts/run_mutants.py --sample 0                    # all mutants
    python scripts/run_mutants.py --module spaces/hubness.py --show
    python scripts/run_mutants.py --page                        # also write docs/lab-book/mutants.md

A mutant is the module with one comparison, operator, connective, condition, constant or returned value changed, or one
statement left out (scripts/mutation/changes.py). It is killed if a test fails. Exit code 1: a module is below 85 %.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mutation import changes, page, trials
from mutation.modules import MODULES
from mutation.results import GOAL, Result, described

ROOT = Path(__file__).resolve().parents[1]


def run(module: str, sample: int, seed: int, workers: int, verbose: bool = False) -> Result:
    """Try the mutants of one module: a random sample of them, or all if `sample` is 0."""
    began = time.monotonic()
    file = ROOT / "modelspace" / module
    everything = changes.mutants(ast.parse(file.read_text()))
    chosen = everything
    if 0 < sample < len(everything):
        picks = random.Random(f"{seed} {module}").sample(range(len(everything)), sample)
        chosen = [everything[i] for i in sorted(picks)]
    name = "modelspace." + module.removesuffix(".py").replace("/", ".")
    tests = [f"tests/{test}" for test in MODULES[module]]
    outcomes = []
    for outcome in trials.trials(name, file, chosen, tests, workers):
        outcomes.append(outcome)
        if verbose:
            print(f"  {outcome.verdict:8} {outcome.seconds:4.1f} s  {described(outcome)}", flush=True)
    return Result(module, len(everything), sorted(outcomes, key=lambda o: o.mutant.line), time.monotonic() - began)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", action="append", choices=sorted(MODULES), help="only this one; repeatable")
    parser.add_argument("--sample", type=int, default=40, help="mutants per module; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--verbose", action="store_true", help="print every outcome as it comes")
    parser.add_argument("--show", action="store_true", help="also list the equivalent mutants")
    parser.add_argument("--page", action="store_true", help="write docs/lab-book/mutants.md")
    options = parser.parse_args(arguments)
    trials.prepare()
    results = []
    for module in options.module or MODULES:
        result = run(module, options.sample, options.seed, options.workers, options.verbose)
        results.append(result)
        print(
            f"{module:28} {len(result.outcomes):4} of {result.total:4} mutants, {len(result.equivalent):2} equivalent, "
            f"{result.share:4.0%} killed, {result.seconds:4.0f} s",
            flush=True,
        )
        for o in result.survivors + (result.equivalent if options.show else []):
            print(f"  {o.verdict}: {described(o)}", flush=True)
        if options.page:  # after each module: what is measured is not lost
            page.write(results, options.sample, options.seed)
    return int(any(result.share < GOAL for result in results))


if __name__ == "__main__":
    sys.exit(main())
