"""Commands under a limit of memory run in a child process, whose parent says what ended it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and sets limits of Linux")

#: Runs the program with another app, under a limit that is never reached.
PROGRAM = """
import os, resource, signal, sys, time
import modelspace.cli
from modelspace.cli import app as module
resource.setrlimit(resource.RLIMIT_AS, (64 << 30, resource.RLIM_INFINITY))
def app(**_):
    {body}
module.app = app
modelspace.cli.run()
"""
LIMITED = "this process may use 65,536 MB of address space"
HINT = "hint: close other programs or raise the limit (ulimit -v)"


def run(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("os.write(2, b'terminate called'); os.abort()", ", by SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", ", by SIGSEGV"),
        ("os.write(2, b'memory exhausted'); os._exit(1)", ""),
        ("os._exit(127)", ""),
        ("os._exit(0)", ""),
    ],
)
def test_an_end_by_a_library_is_one_sentence(body: str, cause: str) -> None:
    done = run(body)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith(f"error: a library ended the command{cause}: {LIMITED}; what was stored until then is")
    assert second.startswith(HINT)


@pytest.mark.parametrize("code", [0, 1, 2, 70])
def test_a_command_that_ends_by_itself_ends_as_ever(code: int) -> None:
    done = run(f"print('out'); print('said', file=sys.stderr); sys.exit({code})")
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", "said\n")


def test_without_a_limit_there_is_one_process() -> None:
    unlimited = "resource.RLIM_INFINITY"
    program = PROGRAM.format(body="os.abort()").replace("64 << 30", unlimited)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGABRT


def start(body: str) -> tuple[subprocess.Popen[str], int]:
    """A program that prints its child's number and waits."""
    body = f"print(os.getpid(), flush=True); {body}"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert child != process.pid
    return process, child


@pytest.mark.parametrize(("name", "code", "word"), [("SIGTERM", 143, "terminated"), ("SIGINT", 130, "interrupted")])
def test_signals_are_passed_on(name: str, code: int, word: str) -> None:
    process, _ = start("time.sleep(60)")
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err == f"{word}; the registry is unchanged\n"


def test_the_child_is_killed_with_its_parent() -> None:
    process, child = start("time.sleep(60)")
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def test_another_signal_ends_the_parent_too() -> None:
    process, child = start("time.sleep(60)")
    os.kill(child, signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
