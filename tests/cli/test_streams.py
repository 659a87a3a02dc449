"""Standard streams that the caller has closed, and signals that end a command."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest
from tiny import add, net, space

from modelspace.workspace import ModelSpace

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs unix signals and descriptors")
pytestmark = POSIX

CLOSED = "standard output: write error: Bad file descriptor"

#: One interpreter runs a command for each set of closed streams: it starts a child by fork, closes them and calls main.
PROGRAM = """
import json, os, sys, tempfile
cases = json.loads(sys.argv[1])
import modelspace.cli.app, modelspace.workspace, modelspace.cli.tables
results = []
for closed, words in cases:
    files = [tempfile.TemporaryFile() for _ in range(3)]
    child = os.fork()
    if child == 0:
        for number in (1, 2):
            os.dup2(files[number].fileno(), number)
        os.dup2(files[0].fileno(), 0)
        names = ("stdin", "stdout", "stderr")
        for number in closed:
            os.close(number)
            setattr(sys, names[number], None)
        from modelspace.cli import main
        try:
            main(words)
        except SystemExit as ended:
            try:
                sys.stdout.flush()
            except OSError:
                os._exit(120)
            os._exit(ended.code or 0)
        os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = []
    for file in files[1:]:
        file.seek(0)
        texts.append(file.read().decode())
    results.append((code, *texts))
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    made_in = tmp_path_factory.mktemp("streams")
    registry = space(made_in, images=4, methods=["gradient_x_input"])
    for seed, name in enumerate(("a", "b", "c")):
        add(registry, name, net(seed))
    return registry


def outcomes(registry: ModelSpace, cases: list[tuple[list[int], list[str]]]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of commands, each with some standard streams closed."""
    home = ["--home", str(registry.home)]
    text = json.dumps([(closed, [*words, *home]) for closed, words in cases])
    done = subprocess.run([sys.executable, "-c", PROGRAM, text], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


@pytest.mark.long
def test_every_set_of_closed_streams(registry: ModelSpace) -> None:
    """Data for a closed output are an error of one sentence; other closed streams change nothing."""
    commands = (
        ["list"],
        ["list", "--format", "json"],
        ["nearest", "a"],
        ["sql", "FROM models"],
        ["verify"],
        ["show", "nothing"],
        ["tag", "a", "owner=me", "--quiet"],
    )
    sets = [[n for n in range(3) if bits[n]] for bits in product((False, True), repeat=3)]
    cases = [(closed, words) for words in commands for closed in sets]
    results = dict(zip([(tuple(c), tuple(w)) for c, w in cases], outcomes(registry, cases), strict=True))
    for words in map(tuple, commands):
        plain = results[(), words]
        for closed in map(tuple, sets):
            code, out, err = results[closed, words]
            assert "Traceback" not in err
            assert out == ("" if 1 in closed else plain[1])
            if 1 in closed and plain[1]:
                assert code == 1
                assert 2 in closed or err.splitlines().count(f"error: {CLOSED}") == 1
            else:
                assert code == plain[0]
                assert err == ("" if 2 in closed else plain[2])
    assert all(check.ok for check in registry.verify(deep=True))


def test_a_real_process_without_streams_leaves_the_registry_alone(registry: ModelSpace) -> None:
    """DuckDB would open the registry as number 1, and what is printed would be written into it."""
    before = hashlib.sha256(registry.path.read_bytes()).hexdigest()
    command = f'exec "{sys.executable}" -m modelspace list --home "{registry.home}" 0<&- 1>&- 2>&-'
    assert subprocess.run(["sh", "-c", command], timeout=60).returncode == 1
    assert hashlib.sha256(registry.path.read_bytes()).hexdigest() == before


def test_closed_input_is_empty_and_no_terminal(registry: ModelSpace) -> None:
    [(code, _, err)] = outcomes(registry, [([0], ["sql"])])
    assert (code, err.splitlines()[0]) == (2, "error: there is no SQL statement")


#: Runs a verb that announces that it has begun, waits for a signal, and has something to clean up.
WAITING = """
import sys, time
from pathlib import Path
from modelspace.cli import main
from modelspace.workspace import ModelSpace
from modelspace.results import Check

def wait(self, *, on_check=None, **_):
    if on_check:
        on_check(Check("tables", True, "all fine"))
    try:
        print("begun", file=sys.stderr, flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", file=sys.stderr, flush=True)

ModelSpace.verify = ModelSpace.models = ModelSpace.spaces = wait
main(sys.argv[1:])
"""

LINES = {
    "SIGINT": (130, "interrupted; the registry is unchanged"),
    "SIGTERM": (143, "terminated; the registry is unchanged"),
    "SIGHUP": (129, "the terminal was closed; the registry is unchanged"),
}


def ended(registry: ModelSpace, words: list[str], name: str) -> tuple[int, str, list[str], float]:
    """Exit code, output, lines of errors, and seconds until the end, of a command that gets a signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, *words, "--home", str(registry.home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"
    started = time.monotonic()
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err.splitlines(), time.monotonic() - started


@pytest.mark.first(2)
@pytest.mark.parametrize("name", LINES)
def test_a_signal_is_one_line_after_cleaning_up(registry: ModelSpace, name: str) -> None:
    code, out, lines, _ = ended(registry, ["spaces"], name)
    assert (code, out, lines) == (LINES[name][0], "", ["cleaned up", LINES[name][1]])


def test_interrupted_verify_prints_what_was_finished(registry: ModelSpace) -> None:
    before = registry.path.read_bytes()
    code, out, lines, seconds = ended(registry, ["verify"], "SIGINT")
    assert code == 130
    assert "all fine" in out
    assert lines == ["cleaned up", "interrupted; the registry is unchanged"]
    assert seconds < 1.5
    assert registry.path.read_bytes() == before


def test_a_signal_ends_a_call_that_does_not_return(registry: ModelSpace) -> None:
    """A lock that is taken twice blocks in C, where Python handles no signal."""
    blocked = """
    import ctypes
    from modelspace.cli import signals
    signals.STUCK = 0.5
    library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)
"""
    program = WAITING.replace("    time.sleep(60)", blocked.replace("\n    ", "\n        "))
    process = subprocess.Popen(
        [sys.executable, "-c", program, "spaces", "--home", str(registry.home)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[1] == "terminated in a call that does not return\n"
    assert process.returncode == 143


def test_an_ignored_signal_stays_ignored(registry: ModelSpace) -> None:
    """`nohup modelspace ...` goes on when the terminal is closed."""
    program = WAITING.replace("time.sleep(60)", "time.sleep(0.5)").replace("main(sys", "signal_();main(sys")
    program = "import signal\ndef signal_(): signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + program
    process = subprocess.Popen(
        [sys.executable, "-c", program, "verify", "--home", str(registry.home)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"
    process.send_signal(signal.SIGHUP)
    err = process.communicate(timeout=20)[1]
    assert "closed" not in err
    assert process.returncode not in (129, -signal.SIGHUP)


def test_a_thread_that_never_ends_does_not_keep_the_program(registry: ModelSpace) -> None:
    program = (
        "import sys, threading, time; from modelspace.cli import main\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "main(sys.argv[1:])"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, "list", "--format", "csv", "--home", str(registry.home)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 4
    assert time.monotonic() - started < 20


@pytest.mark.wide
def test_a_full_standard_error_changes_nothing(registry: ModelSpace) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "modelspace", "verify", "--home", str(registry.home)],
            stdout=subprocess.PIPE,
            stderr=full,
            timeout=60,
        )
    assert done.returncode == 0
    assert b"tables" in done.stdout
    assert os.path.exists(registry.path)
