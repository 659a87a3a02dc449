"""Running tests against mutants, each in a forked process that starts with the libraries imported.

A fork costs milliseconds where a new process would import torch for seconds. The parent imports libraries but never
modelspace, so that the child imports the module under test as it is changed.
"""

from __future__ import annotations

import ast
import atexit
import gc
import importlib.abc
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from mutation.changes import PROBE, Mutant, instrumented, statement_line

ROOT = Path(__file__).resolve().parents[2]

#: Imported once, before the first fork.
LIBRARIES = (
    *(
        "numpy",
        "scipy.stats",
        "scipy.linalg",
        "torch",
        "torch._dynamo",
        "faiss",
        "duckdb",
        "PIL.Image",
        "safetensors.torch",
    ),
    *("pytest", "hypothesis", "typer.testing", "rich.table"),
)

#: Exit codes of a child: the tests failed, which kills the mutant, or all passed.
KILLED, SURVIVED = 1, 0
#: A mutant that takes this many times the time of the whole module's tests, and some seconds, runs forever.
PATIENCE, GRACE = 4.0, 15.0


#: Stop at the first failure; no plugins but our own, no rewritten assertions, no collection of garbage at the end:
#: nothing that takes time and finds no mutants.
_OPTIONS = ("-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:unraisableexception")


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        mutant: the change.
        verdict: "killed", "survived", "timeout" (counts as killed) or "not run" (no test reaches the line).
        seconds: taken.
    """

    mutant: Mutant
    verdict: str
    seconds: float

    @property
    def is_killed(self) -> bool:
        """Whether the tests notice."""
        return self.verdict in ("killed", "timeout")


class _Replacement(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from given code."""

    def __init__(self, name: str, file: Path, code: CodeType, names: dict[str, object] | None = None) -> None:
        self._name, self._file, self._code, self._names = name, file, code, names or {}

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._file, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(self._names)
        exec(self._code, module.__dict__)


class _Recorder:
    """A pytest plugin: which tests reach which statements, and how long each test takes."""

    def __init__(self) -> None:
        self._test = ""
        self.tests: dict[int, set[str]] = {}
        self.seconds: dict[str, float] = {}

    def reach(self, line: int) -> None:
        """Called by the instrumented module before each statement; what runs on import belongs to no test."""
        self.tests.setdefault(line, set()).add(self._test)

    def pytest_runtest_logstart(self, nodeid: str, location: object) -> None:
        self._test = nodeid

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


@dataclass(frozen=True)
class Reach:
    """What the tests of an unchanged module do.

    Attributes:
        tests: line of a statement -> the tests that run it, fastest first; "" stands for its import.
        seconds: that all tests take.
    """

    tests: dict[int, list[str]]
    seconds: float


class _Order:
    """A pytest plugin: the tests that reach the changed statement first, the fastest of them first."""

    def __init__(self, first: Sequence[str]) -> None:
        self._rank = {test: rank for rank, test in enumerate(first)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: self._rank.get(item.nodeid, len(self._rank)))


def prepare() -> None:
    """Import the libraries, and let `modelspace` and the tests' support be found."""
    for name in LIBRARIES:
        importlib.import_module(name)
    loaded = [name for name in sys.modules if name.split(".")[0] == "modelspace"]
    assert not loaded, f"imported before the fork: {loaded}"
    sys.path.insert(0, str(ROOT))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    cache = tempfile.mkdtemp(prefix="rooms-")
    os.environ["MODELSPACE_TEST_CACHE"] = cache
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    # What is imported is never collected: children would only copy its memory. At exit it is, or DuckDB complains.
    gc.freeze()
    atexit.register(gc.unfreeze)


def reached(module: str, file: Path, tests: Sequence[str]) -> Reach:
    """Run the tests of a module as it is.

    Raises:
        RuntimeError: they fail.
    """
    reader, writer = os.pipe()

    def recorded(folder: Path) -> int:
        recorder = _Recorder()
        code = compile(instrumented(ast.parse(file.read_text())), str(file), "exec")
        sys.meta_path.insert(0, _Replacement(module, file, code, {PROBE: recorder.reach}))
        verdict = _pytest(tests, folder, (recorder,))
        with os.fdopen(writer, "w") as pipe:
            json.dump([[[line, sorted(names)] for line, names in recorder.tests.items()], recorder.seconds], pipe)
        return verdict

    began = time.monotonic()
    pid, folder = _fork(recorded)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    output = (folder / "output.txt").read_text()
    shutil.rmtree(folder, ignore_errors=True)
    if os.waitstatus_to_exitcode(status) != SURVIVED:
        raise RuntimeError(f"the tests of {module} fail without a change:\n{output[-2000:]}")
    lines, seconds = json.loads(text)
    by_time = {line: sorted(names, key=lambda name: seconds.get(name, 0.0)) for line, names in lines}
    return Reach(by_time, time.monotonic() - began)


def trials(module: str, file: Path, mutants: Sequence[Mutant], tests: Sequence[str], workers: int) -> Iterator[Outcome]:
    """Run the tests against every mutant, `workers` at a time; outcomes come as they are found.

    Args:
        module: dotted name.
        file: of the module.
        mutants: of it.
        tests: files of tests, relative to the root.
        workers: number of processes.
    """
    tree = ast.parse(file.read_text())
    reach = reached(module, file, tests)
    limit = PATIENCE * reach.seconds + GRACE
    running: dict[int, tuple[Mutant, Path, float]] = {}
    for mutant in mutants:
        first = reach.tests.get(statement_line(tree, mutant.line))
        if not first:
            yield Outcome(mutant, "not run", 0.0)
            continue
        while len(running) >= workers:
            yield from _finished(running, limit)
        code = compile(mutant.code(tree), str(file), "exec")
        pid, folder = _fork(_trial(module, file, code, tests, first))
        running[pid] = (mutant, folder, time.monotonic())
    while running:
        yield from _finished(running, limit)


def _trial(
    module: str, file: Path, code: CodeType, tests: Sequence[str], first: Sequence[str]
) -> Callable[[Path], int]:
    def run(folder: Path) -> int:
        sys.meta_path.insert(0, _Replacement(module, file, code))
        return _pytest(tests, folder, (_Order(first),))

    return run


def _pytest(tests: Sequence[str], folder: Path, plugins: Sequence[object]) -> int:
    import pytest
    from hypothesis import HealthCheck, Phase, settings

    # The same examples for every mutant; what fails is not shrunk, since it is not read.
    phases = (Phase.explicit, Phase.generate)
    quiet = list(HealthCheck)
    profile = settings(deadline=None, database=None, derandomize=True, phases=phases, suppress_health_check=quiet)
    settings.register_profile("mutants", profile)
    settings.load_profile("mutants")
    where = [f"--basetemp={folder / 'tests'}", f"--rootdir={ROOT}"]
    return SURVIVED if pytest.main([*_OPTIONS, *where, *tests], plugins=list(plugins)) == pytest.ExitCode.OK else KILLED


def _fork(run: Callable[[Path], int]) -> tuple[int, Path]:
    """Start a child; returns its id and its folder for temporary files."""
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid, folder
    code = KILLED
    try:
        os.setpgid(0, 0)
        quiet = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(ROOT)
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder)
        code = run(folder)
    finally:
        os._exit(code)


def _finished(running: dict[int, tuple[Mutant, Path, float]], limit: float) -> Iterator[Outcome]:
    """Wait until at least one child ends or has run out of time."""
    while True:
        ended = []
        for pid, (mutant, folder, began) in list(running.items()):
            seconds = time.monotonic() - began
            verdict = _verdict(pid, seconds > limit)
            if verdict:
                del running[pid]
                shutil.rmtree(folder, ignore_errors=True)
                ended.append(Outcome(mutant, verdict, seconds))
        if ended:
            yield from ended
            return
        time.sleep(0.02)


def _verdict(pid: int, is_late: bool) -> str | None:
    """What a child found, or None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        return "survived" if os.waitstatus_to_exitcode(status) == SURVIVED else "killed"
    if not is_late:
        return None
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout"
