"""The page of the lab book on mutants, out of results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mutation.modules import FIRST_DRAWN, MODULES, SEEN
from mutation.results import GOAL, Result
from mutation.trials import Outcome

PAGE = Path(__file__).resolve().parents[2] / "docs" / "lab-book" / "mutants.md"

_HEAD = """# Mutants: what the tests would not notice

    make mutants                                                   # 40 mutants per module
    python scripts/run_mutants.py --page --seed {seed} --sample {sample}     # the table below

A mutant is a module with one small change: a comparison, operator, connective, condition, constant or returned value,
or a statement left out. The module's own tests, and no others, run against it; the mutant is killed if one fails. The
goal is {goal:.0%} on each of the ten modules that affinities, rankings and their checks are computed by.

`scripts/run_mutants.py` makes the mutants itself (`scripts/mutation/changes.py`). mutmut and cosmic-ray start a process
for every mutant, and each would import torch for two seconds; here the libraries are imported once, and a mutant is a
fork that imports modelspace alone, 0.3 s of processor time plus its tests. Tests that reach the changed statement run
first, the fastest before the others. The tests of affinities, rankings and `verify` use small registries of drawn
numbers (`tests/support/small_spaces.py`); those on networks take half a minute and more, and are not counted here.

{table}
`--sample 0` tries all, `--module spaces/hubness.py` one module, `--show` also lists the mutants that count as
equivalent, `--page` writes this page.

| module | its tests | mutants | tried | killed | equivalent | survived | share killed |
|---|---|---:|---:|---:|---:|---:|---:|
"""


def write(results: Sequence[Result], sample: int, seed: int) -> None:
    """Write docs/lab-book/mutants.md."""
    PAGE.write_text(text(results, sample, seed))


def text(results: Sequence[Result], sample: int, seed: int) -> str:
    """The page."""
    chosen = f"The table is of {sample} mutants per module, or all where there are fewer, drawn with seed {seed}."
    table = chosen if sample else "The table is of all mutants."
    lines = [_HEAD.format(goal=GOAL, table=table, seed=seed, sample=sample)[:-1]]
    lines += map(_row, results)
    lines += [
        "",
        "The share is of the mutants that can be killed: those that are not equivalent.",
        "",
        *_earlier(sample, seed),
    ]
    lines += _listed("Survivors", [(result, result.survivors) for result in results], "No test notices these.")
    lines += _listed(
        "Equivalent mutants",
        [(result, result.equivalent) for result in results],
        "These do what the module does, up to rounding. They are named in `scripts/mutation/modules.py`.",
    )
    return "\n".join(lines).rstrip() + "\n"


def _earlier(sample: int, seed: int) -> Iterator[str]:
    """Which samples the tests were written with in view, and what those gave before."""
    seen = ", ".join(map(str, SEEN))
    if not sample or seed in SEEN:
        yield "Tests were written with survivors of this sample in view, so a new `--seed` gives the fairer estimate."
    else:
        yield f"Tests were written with survivors of the seeds {seen} in view; this sample was drawn afterwards."
    yield from (
        "",
        "## Before tests were added",
        "",
        "What samples gave when they were first drawn, without mutants that were then found to be equivalent:",
        "",
    )
    yield from ("| seed | sample | module | share killed |", "|---:|---:|---|---:|")
    yield from (f"| {s} | {size} | `{module}` | {share:.0%} |" for s, size, module, share in FIRST_DRAWN)
    yield from (
        "",
        "All 104 mutants of `spaces/neighbours.py` were tried once. Of those that survived, `CANDIDATES = 9`,",
        "`RERANKED = 201` and `k + 3` proposed neighbours are not equivalent: they change the time of a query,",
        "and hardly ever its result.",
        "",
    )


def _row(result: Result) -> str:
    tests = ", ".join(f"`{test}`" for test in MODULES[result.module])
    counts = (result.total, len(result.outcomes), result.killed, len(result.equivalent), len(result.survivors))
    return f"| `{result.module}` | {tests} | " + " | ".join(map(str, counts)) + f" | {result.share:.0%} |"


def _listed(title: str, parts: Sequence[tuple[Result, Sequence[Outcome]]], introduction: str) -> Iterator[str]:
    yield from (f"## {title}", "", introduction, "", "| module | function | change | |", "|---|---|---|---|")
    for result, outcomes in parts:
        for outcome in outcomes:
            remark = result.why_equivalent(outcome) or ("no test reaches it" if outcome.verdict == "not run" else "")
            change = outcome.mutant.change.replace("|", "\\|")
            yield f"| `{result.module}` | `{outcome.mutant.function}` | `{change}` | {remark} |"
    yield ""
