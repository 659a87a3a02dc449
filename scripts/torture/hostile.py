"""Hostile inputs, given to the library one by one in a process that is watched: time, memory, crashes, code that ran.

A program lists its inputs (`Input`); `main` runs them in a child process. A child that crashes, or is still busy with
an input after `SECONDS`, is replaced by one that goes on with the next input. What is counted is kept in the file of
`--out`, so that a program that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Seconds after which an input counts as one that never ends.
SECONDS = 60.0

#: MB by which the memory of the process may grow for one input, if the program does not say otherwise.
GROWTH = 512

#: GB of addresses that the child may use in addition to what it uses at first: the machine is never at risk.
ROOM = 6

#: Longest message of an error; one sentence.
LONGEST = 700

#: Name of the file that is written by code in an input, if it runs. It lies next to the folder of the input.
CANARY = "canary"


@dataclass(frozen=True)
class Input:
    """One hostile input.

    Attributes:
        group: which kind it is; figures are counted by group.
        name: what it is; with the program's seed it says how to reproduce it.
        attempt: writes the input into an empty folder, and gives it to the library.
        must: "refuse", "load" or "either".
    """

    group: str
    name: str
    attempt: Callable[[Path], object]
    must: str = "refuse"


Inputs = Callable[[int, int], Sequence[Input]]


@dataclass
class State:
    """What is known so far; `figures` of the report are made of it.

    Attributes:
        next: number of the next input.
        tried: group -> number of inputs.
        refused: group -> number of inputs that were refused in a sentence.
        failures: what went wrong, with what reproduces it.
        slowest: seconds of the slowest input, and its name.
        largest: MB by which the process grew for the largest input, and its name.
        seconds: of all runs together.
    """

    next: int = 0
    tried: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[float, str] = (0.0, "")
    seconds: float = 0.0

    def take(self, row: dict[str, Any], seed: int, growth: float = GROWTH) -> None:
        """Count the result of one input."""
        group, label = row["group"], f"{row['group']}: {row['name']}"
        self.next = row["number"] + 1
        self.tried[group] = self.tried.get(group, 0) + 1
        self.refused[group] = self.refused.get(group, 0) + (row["result"] == "refused")
        self.slowest = max(self.slowest, (row["seconds"], label), key=lambda entry: entry[0])
        self.largest = max(self.largest, (row["growth"], label), key=lambda entry: entry[0])
        if problem := problem_of(row, growth):
            self.failures.append(f"{label} (--only {row['number']} --seed {seed}): {problem}")

    def report(self) -> dict[str, Any]:
        """The content of the file of `--out`."""
        figures: dict[str, Any] = {
            "inputs": sum(self.tried.values()),
            "refused": sum(self.refused.values()),
            **{f"{group}: tried": count for group, count in self.tried.items()},
            **{f"{group}: refused": count for group, count in self.refused.items()},
            "slowest input (s)": f"{self.slowest[0]:.1f} ({self.slowest[1]})",
            "largest growth (MB)": f"{self.largest[0]:.0f} ({self.largest[1]})",
            "failures": len(self.failures),
        }
        return {"figures": figures, "seconds": round(self.seconds, 1), "state": vars(self)}


def problem_of(row: dict[str, Any], growth: float = GROWTH) -> str:
    """What is wrong with the result of an input; "" if nothing is."""
    if row["ran_code"]:
        return "its code ran"
    if row["result"] not in ("refused", "loaded"):
        return str(row["result"])
    if row["must"] == "refuse" and row["result"] == "loaded":
        return "was not refused"
    if row["must"] == "load" and row["result"] == "refused":
        return f"was refused: {row['said']}"
    if row["growth"] > growth:
        return f"took {row['growth']:.0f} MB"
    if "\n" in row["said"] or len(row["said"]) > LONGEST:
        return f"the message is no sentence: {row['said'][:300]!r}"
    return ""


# --- in the child


def try_input(each: Input, folder: Path) -> dict[str, Any]:
    """Give one input to the library, in an empty folder."""
    from modelspace.errors import ModelspaceError

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    canary = folder.parent / CANARY
    before = _reset_peak()
    start = time.monotonic()
    said = ""
    try:
        each.attempt(folder)
        result = "loaded"
    except ModelspaceError as error:
        result, said = "refused", error.message
    except (Exception, SystemExit) as error:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
        result = f"internal error {type(error).__name__}: {str(error)[:200]} ({where})"
    row = {
        "group": each.group,
        "name": each.name,
        "must": each.must,
        "result": result,
        "said": said,
        "seconds": round(time.monotonic() - start, 3),
        "growth": max(0.0, _peak() - before),
        "ran_code": canary.exists(),
    }
    if canary.is_dir():
        canary.rmdir()
    return row


def _status(key: str) -> float:
    """A figure of this process in MB; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:")), 0.0)


def _peak() -> float:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _reset_peak() -> float:
    """Make the peak the present size, and return it in MB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _child(inputs: Sequence[Input], numbers: Sequence[int]) -> None:
    used = int(_status("VmSize")) << 20
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + (ROOM << 30), used + (ROOM << 30)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the inputs print is no report
    with tempfile.TemporaryDirectory() as root:
        for number in numbers:
            each = inputs[number]
            print(json.dumps({"number": number, "begins": f"{each.group}: {each.name}"}), file=reports, flush=True)
            row = try_input(each, Path(root) / "input")
            print(json.dumps({"number": number, **row}), file=reports, flush=True)


# --- in the parent


def _rows(command: Sequence[str], inputs: Sequence[Input], first: int) -> Iterator[dict[str, Any]]:
    """The results of all inputs from a number on."""
    while first < len(inputs):
        for row in _rows_of_child([*command, "--child", str(first)], inputs, first):
            yield row
            first = row["number"] + 1


def _rows_of_child(command: Sequence[str], inputs: Sequence[Input], first: int) -> Iterator[dict[str, Any]]:
    """The results that one child reports, and that of the input which ends it, if one does."""
    number, ending = first, ""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(SECONDS + (60 if number == first else 0)):
                    process.kill()
                    ending = f"never ends: stopped after {SECONDS:.0f} seconds"
                    break
                line = process.stdout.readline()
                if not line:
                    break
                row = json.loads(line)
                number = row["number"]
                if "begins" not in row:
                    yield row
                    number += 1
        code = process.wait()
        if code and not ending:
            errors.seek(0)
            tail = errors.read()[-300:].decode(errors="replace").strip()
            ending = f"the process ended with {code}: {tail}"
    if number < len(inputs):
        each = inputs[number]
        facts = {"result": ending or "the process ended", "said": "", "seconds": SECONDS, "growth": 0.0}
        yield {"number": number, "group": each.group, "name": each.name, "must": each.must, "ran_code": False, **facts}


def main(file: str, title: str, inputs: Inputs, short: int, full: int, growth: float = GROWTH) -> None:
    """The command line of a program.

    Args:
        file: of the program.
        title: what the inputs are, for the sentence at the end.
        inputs: (number of random ones, seed) -> the inputs, always the same.
        short: number of random ones by default.
        full: with `--full`.
        growth: MB by which the memory of the process may grow for one input.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--count", type=int, default=short, help="random inputs, in addition to those that are listed")
    parser.add_argument("--full", action="store_true", help=f"{full} random inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--only", type=int, help="number of the only input to try; prints what is said")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    count = full if options.full else options.count
    listed = inputs(count, options.seed)
    if options.child is not None:
        _child(listed, range(options.child, len(listed)))
        return
    if options.only is not None:
        with tempfile.TemporaryDirectory() as root:
            print(json.dumps(try_input(listed[options.only], Path(root) / "input"), indent=1))
        return
    key = f"{Path(file).name} --count {count} --seed {options.seed}, {len(listed)} inputs"
    state = _stored(options.out, key)
    command = [sys.executable, file, "--count", str(count), "--seed", str(options.seed)]
    start, before = time.monotonic(), state.seconds
    for row in _rows(command, listed, state.next):
        state.take(row, options.seed, growth)
        state.seconds = before + time.monotonic() - start
        if options.out and (state.next % 100 == 0 or state.next == len(listed)):
            _store(options.out, key, state)
    for failure in state.failures:
        print(failure)
    print(
        f"{sum(state.tried.values()):,} {title}: {sum(state.refused.values()):,} refused in a sentence, the others "
        f"loaded, {len(state.failures)} failures; at most {state.slowest[0]:.1f} s ({state.slowest[1]}) and "
        f"{state.largest[0]:.0f} MB ({state.largest[1]}) for one; {state.seconds:.0f} s in all"
    )
    sys.exit(1 if state.failures else 0)


def _stored(out: Path | None, key: str) -> State:
    """The state of an interrupted run of the same inputs, else a new one."""
    if out is None or not out.is_file():
        return State()
    content = json.loads(out.read_text())
    is_same = content.get("run") == key and not content["figures"].get("complete")
    return State(**content["state"]) if is_same else State()


def _store(out: Path, key: str, state: State) -> None:
    report = {"run": key, **state.report()}
    report["figures"]["complete"] = f", {state.next} inputs" in key
    temporary = out.with_suffix(".part")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    temporary.replace(out)
