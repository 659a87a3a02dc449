"""From two folders of labelled images to the models to start from, on the shipped registry; and how good that was.

    python scripts/try_demo.py [--home DIR] [--digits N] [--clothing N] [--budget N] [--where SQL] [--splits N]

`make try-demo` runs it. Handwritten digits come first, as a task that leaves outcomes behind; photographs of clothing
second (`scripts/labelled_images.py`). Each command is printed before its output. Everything is written to DIR, which
is emptied first: a copy of the shipped registry, the images, and the features that are cached. At last all models are
measured in full, and a table compares the model that the search picked with the best of them and with a random one.
`--splits 10` repeats the second task with ten other splits of the clothing into training and test images, and prints
how far behind each way to choose was on average.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import labelled_images

from modelspace import ModelSpace
from modelspace.home import INDEX, REGISTRY

TOP = Path(__file__).resolve().parent.parent

#: Copy of the registry that knows the outcomes of the digits alone.
AFTER_DIGITS = "after-digits.duckdb"

#: More finalists than there are models: all are measured on all images.
ALL = 1_000_000

#: Ways to choose a model, as the tables name them.
COLD, BY_DIGITS, ANY = "first before anything was tried", "first by the outcomes of the digits", "any model, on average"


def by_budget(budget: int | None) -> str:
    """The same, for a search."""
    return "picked by try" if budget is None else f"picked by try --budget {budget}"


@dataclass(frozen=True)
class Measured:
    """A model's scores by a readout of all training images, each the share of images that it classifies rightly.

    Attributes:
        test: on the test images.
        every: on all images: training images by leave-one-out, and test images.
    """

    test: float
    every: float


def run(*words: str) -> str:
    """Print a command of modelspace, run it in the current folder, and print and return its output."""
    print(f"\n\033[1m$ modelspace {shlex.join(words)}\033[0m", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "modelspace", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(f"the command failed: {done.returncode}")
    return done.stdout


def say(text: str) -> None:
    """Print an explanation between commands."""
    print(f"\n{text}", flush=True)


def set_up(home: Path, digits: int, clothing: int) -> None:
    """A copy of the shipped registry and both folders of images, in an empty folder that becomes the current one."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    shutil.copy(TOP / REGISTRY, home)
    shutil.copytree(TOP / INDEX, home / INDEX)
    os.chdir(home)
    os.environ["MODELSPACE_HOME"] = "."
    os.environ["MODELSPACE_CACHE"] = "cache"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(TOP), os.environ.get("PYTHONPATH"))))
    for name, per_class in (("digits", digits), ("clothing", clothing)):
        count = labelled_images.write(name, Path(name), per_class)
        print(f"{name}/: {count} images in {len(labelled_images.SETS[name]())} subfolders, one per class")


def first(output: str) -> str:
    """The model in the first line of a table of models.

    >>> first("title\\nrank  model  score\\n   1  edge2d  0.5\\n")
    'edge2d'
    """
    match = re.search(r"^ +1 +(\S+)", output, re.MULTILINE)
    assert match is not None, output
    return match[1]


def ask(budget: int, condition: list[str]) -> tuple[dict[str, str], float]:
    """Run the commands; returns what each way to choose recommends for the clothing, and the seconds it took."""
    begun = time.perf_counter()
    say("1. A folder with one subfolder per class becomes a task. Nothing was tried yet, and that is what it says.")
    run("task", "add", "digits", "digits")
    recommended = {COLD: first(run("nearest", "--task", "digits", *condition))}
    say("2. All models see 60 images, the better ones 120, the last three all of them.")
    run("try", "digits", *condition)
    shutil.copy(REGISTRY, AFTER_DIGITS)
    say("3. Another task. What was measured on the digits now tells which models are generally strong.")
    run("task", "add", "clothing", "clothing")
    recommended[BY_DIGITS] = first(run("nearest", "--task", "clothing", *condition))
    run("suggest", "clothing", "-n", "3", *condition)
    recommended[by_budget(budget)] = first(run("try", "clothing", "--budget", str(budget), *condition))
    run("outcomes", "clothing")
    return recommended, time.perf_counter() - begun


def measure_all(where: str | None, folder: str = ".") -> dict[str, Measured]:
    """Every model of the registry in a folder with a readout of all training images of the clothing."""
    trials = ModelSpace.open(folder).try_task("clothing", rounds=(), finalists=ALL, images=0, where=where)
    n_train = max(trial.images for trial in trials)
    result = {}
    for trial in trials:
        if trial.score is not None and trial.held_out is not None:
            every = (trial.held_out * n_train + trial.score * trials.n_test) / (n_train + trials.n_test)
            result[trial.name] = Measured(trial.score, every)
    return result


def print_table(recommended: dict[str, str], measured: dict[str, Measured]) -> None:
    """What each way to choose lost against the best model, in accuracy points, on the test images and on all."""
    best = {part: max(getattr(each, part) for each in measured.values()) for part in ("test", "every")}
    winner = max(measured, key=lambda name: measured[name].every)
    rows = {way: [measured[name]] for way, name in {f"best of {len(measured)}": winner, **recommended}.items()}
    rows[ANY] = list(measured.values())
    names = {ANY: "", f"best of {len(measured)}": winner, **recommended}
    print(f"\n{'start from':<36}  {'model':<24}  {'test':>5}  {'behind':>6}  {'all':>5}  {'behind':>6}")
    for way, models in rows.items():
        figures = []
        for part in ("test", "every"):
            value = sum(getattr(each, part) for each in models) / len(models)
            figures.append(f"{value:5.3f}  {100 * (best[part] - value):6.1f}")
        print(f"{way:<36}  {names[way]:<24}  {'  '.join(figures)}")


def repeat(n_splits: int, budget: int, where: str | None, cold: str) -> dict[str, list[float]]:
    """Points behind the best on all images, for each way to choose and each of some further splits of the clothing.

    Every split starts from a registry that knows the outcomes of the digits alone; features come from the cache.
    """
    behind: dict[str, list[float]] = {}
    for seed in range(1, n_splits + 1):
        chosen = {COLD: cold}
        for search in (budget, None):
            space = _after_digits(Path(f"split-{seed}"), seed)
            chosen[BY_DIGITS] = space.prospects("clothing", 1, where=where)[0].name
            winner = space.try_task("clothing", budget=search, where=where).winner
            assert winner is not None
            chosen[by_budget(search)] = winner.name
        measured = {name: each.every for name, each in measure_all(where, f"split-{seed}").items()}
        values = {way: measured[name] for way, name in chosen.items()}
        values[ANY] = sum(measured.values()) / len(measured)
        for way, value in values.items():
            behind.setdefault(way, []).append(100 * (max(measured.values()) - value))
    return behind


def _after_digits(folder: Path, seed: int) -> ModelSpace:
    """A new registry in a folder: the one after the digits, and the clothing as a task with a seed of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(AFTER_DIGITS, folder / REGISTRY)
    shutil.copytree(INDEX, folder / INDEX)
    space = ModelSpace.open(folder)
    space.add_task("clothing", "clothing", seed=seed)
    return space


def print_splits(behind: dict[str, list[float]]) -> None:
    """Mean and largest of the points behind the best, over splits."""
    count = len(next(iter(behind.values())))
    print(f"\n{f'points behind, {count} other splits':<36}  {'mean':>5}  {'most':>5}")
    for way, points in behind.items():
        print(f"{way:<36}  {sum(points) / count:5.1f}  {max(points):5.1f}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=TOP / ".demo" / "try", metavar="DIR")
    parser.add_argument("--digits", type=int, default=60, metavar="N", help="images per class (default: %(default)s)")
    parser.add_argument("--clothing", type=int, default=70, metavar="N", help="images per class (default: %(default)s)")
    parser.add_argument("--budget", type=int, default=8, metavar="N", help="models to run (default: %(default)s)")
    parser.add_argument("--where", metavar="SQL", help="condition on the models")
    parser.add_argument("--splits", type=int, default=0, metavar="N", help="further splits (default: none)")
    options = parser.parse_args(arguments)
    set_up(options.home, options.digits, options.clothing)
    condition = [] if options.where is None else ["--where", options.where]
    recommended, seconds = ask(options.budget, condition)
    say(f"From the folders to the answer: {seconds:.0f} s. How good was it? All models, measured in full:")
    begun = time.perf_counter()
    measured = measure_all(options.where)
    print_table(recommended, measured)
    some = next(iter(measured.values()))
    n_test = round(0.2 * options.clothing) * len(labelled_images.CLOTHING)
    margin = 196 * (some.test * (1 - some.test) / n_test) ** 0.5
    print(
        f"test: accuracy on {n_test} test images, uncertain by {margin:.0f} points; all: on all images, the training "
        f"images by leave-one-out;\nbehind: points below the best. Measuring all of them took "
        f"{time.perf_counter() - begun:.0f} s."
    )
    if options.splits:
        print_splits(repeat(options.splits, options.budget, options.where, recommended[COLD]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
