"""Run the torture programs, three at a time, and keep what each says; a rerun goes on where the last one ended.

    python scripts/torture/run.py                    # each at its short length
    python scripts/torture/run.py --full             # at full length: an hour or more
    python scripts/torture/run.py --full --page      # then write the figures into docs/reliability.md
    python scripts/torture/run.py --only crash --only power

What a program prints is in `.torture/NAME.log`, its figures in `.torture/NAME.json`, how it ended in
`.torture/NAME.done`. A program that has ended well is not run again, unless `--again` is given.

Their folders lie in memory (`/dev/shm`) where that has room: cuts of power are simulated and kills need no disk, so a
disk would only make the programs wait.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: scripts/torture/run.py --page -->", "<!-- end of figures -->"


#: A file system in memory, and the bytes that must be free in it.
MEMORY, ROOM = Path("/dev/shm"), 4 << 30


@dataclass(frozen=True)
class Program:
    """A torture program.

    Attributes:
        name: of its file, without the suffix.
        title: what it tries.
        folder: of its file.
        full: the options of its full length.
        has_out: whether it takes `--out`.
    """

    name: str
    title: str
    folder: Path = HERE
    full: tuple[str, ...] = ("--full",)
    has_out: bool = True


#: The longest first, so that they end at about the same time.
PROGRAMS = (
    Program("power", "Power cuts, replayed from what strace records"),
    Program("crash", "Kills at random points of every writing verb"),
    Program("concurrent_use", "Eight processes at once"),
    Program("parsers", "Parsers of texts"),
    Program("sandbox", "Ways out of the SQL sandbox"),
    Program("damage", "Damaged files and rows"),
    Program("resources", "Full disks, missing permissions, memory, signals"),
    Program("texts", "Hostile texts in every output"),
    Program("foreign", "Foreign registries"),
    Program("weights", "Weights files"),
    Program("graphs", "ONNX files"),
    Program("images", "Images and folders"),
    Program("models", "Models that misbehave"),
    Program("determinism", "The same model twice"),
    Program("torture_onnx", "ONNX operators", ROOT / "scripts", ("--settings", "5000"), has_out=False),
)


def command(program: Program, work: Path, *, full: bool) -> list[str]:
    """The command line of a program, relative to the root of the project."""
    file = (program.folder / f"{program.name}.py").relative_to(ROOT)
    out = ["--out", str(work / f"{program.name}.json")] if program.has_out else []
    return [str(file), *(program.full if full else ()), *out]


def is_done(program: Program, work: Path, *, full: bool) -> bool:
    """Whether a program ended well, at this length."""
    state = ending(program, work)
    return bool(state) and state["code"] == 0 and bool(state["full"] or not full)


def ending(program: Program, work: Path) -> dict[str, object]:
    """How a program ended: code, full, seconds and its last sentence; empty if it did not."""
    try:
        return dict(json.loads((work / f"{program.name}.done").read_text()))
    except (OSError, ValueError):
        return {}


def run(program: Program, work: Path, *, full: bool) -> int:
    """Run a program, and note how it ended; returns its exit code."""
    words = command(program, work, full=full)
    log = work / f"{program.name}.log"
    start = time.monotonic()
    # Modules are compiled once, as in an installed program, also where the caller does not want it next to the sources.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(work / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
        environment["TMPDIR"] = str(MEMORY)
    with log.open("w") as out:
        child = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=out, stderr=out, env=environment)
        # Unlike `wait`, it tells what this child and its own children used, whatever else the machine is doing.
        _, status, usage = os.wait4(child.pid, 0)
    code = child.returncode = os.waitstatus_to_exitcode(status)
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    state = {
        "code": code,
        "full": full,
        "seconds": round(time.monotonic() - start),
        "core_seconds": round(usage.ru_utime + usage.ru_stime),
        "sentence": lines[-1] if lines else "it printed nothing",
        "date": time.strftime("%Y-%m-%d"),
    }
    (work / f"{program.name}.done").write_text(json.dumps(state, indent=1) + "\n")
    return code


def run_all(programs: Sequence[Program], work: Path, *, full: bool, workers: int) -> list[str]:
    """Run the programs; returns the names of those that failed."""
    waiting, failed, lock = list(programs), [], threading.Lock()

    def work_off() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                program = waiting.pop(0)
            code = run(program, work, full=full)
            state = ending(program, work)
            with lock:
                print(
                    f"{program.name}: {'ok' if code == 0 else 'FAILED'} after {state['seconds']} s "
                    f"({state['core_seconds']} s of a core): {state['sentence']}"
                )
                sys.stdout.flush()
                if code:
                    failed.append(program.name)

    threads = [threading.Thread(target=work_off) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def table(work: Path) -> str:
    """The figures of the programs that ended well, as a list in Markdown."""
    lines, seconds = [], []
    for program in PROGRAMS:
        state = ending(program, work)
        if not state or state["code"]:
            continue
        words = " ".join(command(program, Path(), full=bool(state["full"]))).partition(" --out")[0]
        seconds.append(seconds_of(program, work))
        lines.append(f"- **{program.title}.** {state['sentence']}")
        lines.append(f"  (`python {words}`, {seconds[-1]} s, {state['date']})")
    text = "\n".join(line for text in lines for line in wrapped(text)) + "\n"
    if len(seconds) < len(PROGRAMS):
        return text
    return f"{text}\nTogether {round(sum(seconds) / 60)} minutes; three run at a time.\n"


def seconds_of(program: Program, work: Path) -> int:
    """Wall time of a program, with that of the runs which were interrupted and went on."""
    last = float(str(ending(program, work)["seconds"]))
    try:
        return round(max(last, float(json.loads((work / f"{program.name}.json").read_text())["seconds"])))
    except (OSError, ValueError, KeyError):
        return round(last)


def wrapped(text: str, width: int = 118) -> list[str]:
    """A line of the list in lines of at most `width` characters."""
    import textwrap

    indent = "  "
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]


def write_page(work: Path) -> None:
    """Put the figures into the page."""
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(work)}\n{END}{after}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="at full length")
    parser.add_argument("--again", action="store_true", help="run also what has ended well")
    parser.add_argument("--only", action="append", choices=[program.name for program in PROGRAMS])
    parser.add_argument("--workers", type=int, default=3, help="programs at a time; some wait much")
    parser.add_argument("--work", type=Path, default=ROOT / ".torture", help="folder of logs and figures")
    parser.add_argument("--page", action="store_true", help="write the figures into docs/reliability.md")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    chosen = [program for program in PROGRAMS if arguments.only is None or program.name in arguments.only]
    todo = [each for each in chosen if arguments.again or not is_done(each, work, full=arguments.full)]
    started = time.monotonic()
    failed = run_all(todo, work, full=arguments.full, workers=arguments.workers)
    print(f"{len(todo)} programs in {(time.monotonic() - started) / 60:.0f} minutes")
    if arguments.page:
        write_page(work)
    if failed:
        print(f"FAILED: {', '.join(failed)}; what they print is in {work}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
