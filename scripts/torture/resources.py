"""Run commands while resources run out or signals arrive: one sentence, nothing lost, no internal error.

    python scripts/torture/resources.py                 # 100 commands
    python scripts/torture/resources.py --full          # 1,000
    python scripts/torture/resources.py --only signal --count 300 --seed 3

The disk is full at every 4 KiB that a command writes, inodes, file descriptors and memory run out, single system calls
fail (with strace, where it may be used), the registry may not be written, standard streams are closed, terminals are
odd, stored times lie in the future, and SIGINT, SIGTERM and SIGHUP arrive at random moments. After each command the
registry must pass its checks and be what it was before the command, or what the command makes of it; an exit code of 0
means the latter.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from modelspace.errors import ModelspaceError
from modelspace.registry import Registry

COUNT, COUNT_IN_FULL = 100, 1000
PAGE = 4096
MEGABYTE = 1 << 20

#: The commands; H is the registry's folder, O the folder of another registry, T a folder for files.
COMMANDS: dict[str, list[str]] = {
    "init": ["init", "--method", "rsa", "--images", "4", "--home", "H"],
    "add": ["add", "zoo:edge2d", "--home", "H"],
    "remove": ["remove", "curvature", "--home", "H"],
    "rename": ["rename", "curvature", "bent", "--home", "H"],
    "tag": ["tag", "curvature", "owner=me", "--home", "H"],
    "merge": ["merge", "O", "--home", "H"],
    "rebuild": ["rebuild", "--coordinates", "--home", "H"],
    "map": ["map", "--home", "H", "--out", "T/map.svg"],
    "nearest": ["nearest", "curvature", "--home", "H"],
    "sql": ["sql", "FROM models", "--home", "H"],
    "list": ["list", "--home", "H"],
    "verify": ["verify", "--deep", "--home", "H"],
    "export": ["export", "T/out", "--home", "H"],
}
#: The registries that the commands are run on, and their models.
REGISTRIES = {"home": ("curvature", "reshade", "keypoint2d"), "other": ("edge3d",)}

#: How a process ends that DuckDB ends: it does where it can't open the system's files of limits (/proc/self/cgroup and
#: those that it names). It is counted apart, and the registry must be as it was before or after all the same.
CRASHES = (-signal.SIGABRT,)

SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}

#: System calls that strace lets fail, with their errors.
CALLS = {
    "pwrite64": ("ENOSPC", "EIO"),
    "write": ("ENOSPC", "EIO"),
    "fsync": ("EIO", "ENOSPC"),
    "rename": ("EACCES", "ENOSPC"),
    "openat": ("EMFILE", "EACCES", "EIO"),
    "ftruncate": ("EIO",),
    "unlink": ("EACCES",),
}


# ---- the process that runs the commands: it has imported everything, and forks for each


#: What commands import late. Another user may have no right to read Python's own modules then.
IMPORTED = (
    *("encodings.cp437", "plistlib", "torch", "matplotlib.backends.backend_svg", "matplotlib.font_manager"),
    *(
        f"modelspace.cli.{name}"
        for name in ("app", "commands", "failures", "signals", "streams", "supervised", "tables")
    ),
    *("modelspace.analysis.projection", "modelspace.embedding.prepare", "modelspace.verbs.add", "modelspace.workspace"),
)


def serve() -> None:
    """Read requests, one JSON object a line; answer with the process's number, then with its exit code."""
    for name in IMPORTED:
        importlib.import_module(name)
    for name in sys.modules["modelspace.cli.commands"].COMMANDS:
        sys.modules["modelspace.cli.commands"].load(name)
    sys.modules["torch"].set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(request: dict[str, Any]) -> None:
    """One command, in the child process; does not return."""
    os.setsid()
    faulthandler.enable(sys.stderr)
    out, err = (os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for file in (request["out"], request["err"]))
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
        os.dup2(file, number)
    os.closerange(3, 64)
    os.environ.update(request["environment"])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=request["encoding"])
    for number in request["closed"]:
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
    for name, limit in request["limits"].items():
        if name == "RLIMIT_AS":
            limit += int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
        resource.setrlimit(getattr(resource, name), (limit, limit))
    if request["user"]:
        os.setgid(request["user"])
        os.setuid(request["user"])
    if request["stopped"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    from modelspace.cli import main

    try:
        main(request["words"])
    except SystemExit as ended:
        with contextlib.suppress(OSError, AttributeError):
            sys.stdout.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 0)
    except BaseException as error:
        print(f"Traceback: {error!r} {traceback.format_exc()}", file=sys.stderr, flush=True)
    os._exit(99)


class Server:
    """The process that runs commands (`serve`)."""

    def __init__(self, cache: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "MODELSPACE_CACHE": str(cache),
                "MPLCONFIGDIR": str(cache.with_name("fonts")),
            },
        )
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def run(self, request: dict[str, Any], in_between: Callable[[int], None] | None) -> int:
        """Run a command, and return its exit code; `in_between` gets the process's number."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        number = int(self._line())
        if in_between:
            in_between(number)
        return int(self._line())

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


# ---- faults


@dataclass
class Fault:
    """What goes wrong during one command.

    Attributes:
        kind: the resource.
        label: what reproduces it, with the command.
        request: changes to the request.
        free: bytes that are free on the disk; None: enough.
        inodes: number of files that can still be created; None: enough.
        future: whether the times stored in the registry lie in the future.
        read_only: whether the registry may be read only.
        in_between: called with the process's number while the command runs.
        codes: exit codes, besides 0 and 1, that are right; -n where signal n ended the process, which says nothing.
    """

    kind: str
    label: str
    request: dict[str, Any] = field(default_factory=dict)
    free: int | None = None
    inodes: int | None = None
    future: bool = False
    read_only: bool = False
    in_between: Callable[[int], None] | None = None
    codes: tuple[int, ...] = ()


def disk(rng: random.Random) -> Fault:
    free = PAGE * int(rng.choice((rng.randrange(0, 40), rng.randrange(0, 400), rng.randrange(0, 1200))))
    return Fault("disk full", f"{free} bytes free", free=free)


def inodes(rng: random.Random) -> Fault:
    count = rng.randrange(0, 8)
    return Fault("no inodes", f"{count} files can be created", inodes=count)


def file_size(rng: random.Random) -> Fault:
    limit = rng.randrange(0, 4 * MEGABYTE)
    return Fault("file size", f"files of at most {limit} bytes", {"limits": {"RLIMIT_FSIZE": limit}})


def descriptors(rng: random.Random) -> Fault:
    limit = rng.choice((8, 12, 16, 20, 24, 28, 32, 32))
    return Fault("file descriptors", f"{limit} descriptors", {"limits": {"RLIMIT_NOFILE": limit}})


def memory(rng: random.Random) -> Fault:
    limit = rng.choice((1, 5, 20, 50, 100, 200, 400, 800)) * MEGABYTE
    return Fault("memory", f"{limit >> 20} MB more", {"limits": {"RLIMIT_AS": limit}})


def permission(_: random.Random) -> Fault:
    return Fault("permission", "another user, read only", {"user": 65534}, read_only=True)


def streams(rng: random.Random) -> Fault:
    closed = rng.choice(([0], [1], [2], [0, 1], [1, 2], [0, 1, 2]))
    return Fault("closed streams", f"closed {closed}", {"closed": closed})


def terminals(rng: random.Random) -> Fault:
    environment = {
        "TERM": rng.choice(("dumb", "unknown", "", "xterm-256color")),
        "COLUMNS": rng.choice(("1", "0", "-5", "x", "80")),
        "NO_COLOR": rng.choice(("", "1")),
        "LANG": rng.choice(("C", "xx_YY.nothing")),
    }
    encoding = rng.choice(("ascii", "latin-1", "utf-8", "cp1252"))
    return Fault("odd terminals", f"{environment} {encoding}", {"environment": environment, "encoding": encoding})


def clock(_: random.Random) -> Fault:
    return Fault("clock", "stored times in the future", future=True)


def signals(rng: random.Random) -> Fault:
    name, delay = rng.choice(sorted(SIGNALS)), rng.choice((rng.uniform(0, 0.3), rng.uniform(0, 2.0)))

    def send(process: int) -> None:
        time.sleep(0.02 + delay)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, getattr(signal, name))

    return Fault(
        "signals", f"{name} after {delay:.3f} s", in_between=send, codes=(SIGNALS[name], -getattr(signal, name))
    )


def calls(rng: random.Random) -> Fault:
    """A system call fails once, or from then on; strace is attached to the process before it starts the command."""
    call = rng.choice(sorted(CALLS))
    error, number = rng.choice(CALLS[call]), rng.choice((1, 2, 3, 5, 8, 13, 21, 34, 55))
    when = f"{number}{rng.choice(('', '+'))}"

    def attach(process: int) -> None:
        while _state(process) != "T":
            time.sleep(0.005)
        inject = f"inject={call}:error={error}:when={when}"
        tracer = subprocess.Popen(
            ["strace", "-f", "-o", os.devnull, "-e", f"trace={call}", "-e", inject, "-p", str(process)],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracer.stderr is not None
        tracer.stderr.readline()
        os.kill(process, signal.SIGCONT)
        # It ends with the process.
        tracer.communicate(timeout=120)

    label = f"{call} fails with {error} at {when}"
    return Fault("system calls", label, {"stopped": True}, in_between=attach)


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


FAULTS: dict[str, Callable[[random.Random], Fault]] = {
    "disk": disk,
    "inodes": inodes,
    "size": file_size,
    "descriptors": descriptors,
    "memory": memory,
    "permission": permission,
    "streams": streams,
    "terminals": terminals,
    "clock": clock,
    "signal": signals,
    "calls": calls,
}


# ---- the attempts


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system in memory, of 64 MB, mounted at a folder; False where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True)
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", folder], check=False)


class Torture:
    """Runs commands under faults in a folder, and collects failures.

    Args:
        folder: an empty folder.
        disk: a folder on a small file system, for what is written.
        may_mount: whether that is a file system of its own.
    """

    def __init__(self, folder: Path, disk: Path, may_mount: bool) -> None:
        self.folder, self.disk = folder, disk
        self.outcomes: Counter[str] = Counter()
        self.tried: Counter[str] = Counter()
        self.failures: list[str] = []
        self.cache = folder / "cache"
        fonts = folder / "fonts"
        fonts.mkdir()
        fonts.chmod(0o777)
        self.server = Server(self.cache)
        options = ["--images", "4", "--canvas", "8", "--method", "saliency", "--method", "dds", "--home"]
        for name, models in REGISTRIES.items():
            self._plain(["init", *options, str(folder / name)])
            for model in models:
                self._plain(["add", f"zoo:{model}", "--home", str(folder / name)])
        self.faults = dict(FAULTS)
        if not may_mount:
            del self.faults["disk"], self.faults["inodes"]
        if not shutil.which("strace"):
            del self.faults["calls"]
        if os.geteuid() != 0:
            del self.faults["permission"]
        self.before = state(folder / "home")
        self.after = {name: self._result(words) for name, words in COMMANDS.items()}

    def _request(self, words: Sequence[str], changes: dict[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = {
            "words": list(words),
            "out": str(self.folder / "out.txt"),
            "err": str(self.folder / "err.txt"),
            "environment": {},
            "encoding": "utf-8",
            "closed": [],
            "limits": {},
            "user": 0,
            "stopped": False,
        }
        return {**plain, **changes}

    def _plain(self, words: Sequence[str]) -> None:
        """Run a command that must succeed."""
        code = self.server.run(self._request(words, {}), None)
        if code != 0:
            raise RuntimeError(f"{' '.join(words)}: {code}\n{(self.folder / 'err.txt').read_text()}")

    def _words(self, words: Sequence[str]) -> list[str]:
        places = {"H": self.disk / "home", "O": self.folder / "other", "T": self.disk / "files"}
        return [
            str(places[word[0]]) + word[1:] if word[:1] in places and word[1:2] in ("", "/") else word for word in words
        ]

    def _result(self, words: Sequence[str]) -> Any:
        """What a command makes of the registry when nothing goes wrong."""
        self._fresh()
        self._plain(self._words(words))
        return state(self.disk / "home")

    def _fresh(self) -> None:
        """A new copy of the registry, and nothing else on the disk."""
        for entry in self.disk.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.rmtree(self.cache / "pending", ignore_errors=True)
        shutil.copytree(self.folder / "home", self.disk / "home")
        (self.disk / "files").mkdir()

    def attempt(self, kind: str, command: str, seed: int) -> None:
        """One command under one fault."""
        rng = random.Random(f"{kind} {command} {seed}")
        fault = self.faults[kind](rng)
        self._fresh()
        home = self.disk / "home"
        if fault.future:
            with duckdb.connect(str(home / "registry.duckdb")) as db:
                db.execute("UPDATE models SET added_at = added_at + INTERVAL 10 YEAR")
        if fault.read_only:
            readable = [self.disk, self.folder / "other", self.cache]
            for path in [each for folder in readable for each in (folder, *folder.rglob("*"))]:
                path.chmod(0o555 if path.is_dir() else 0o444)
        with self._shortage(fault):
            code = self.server.run(self._request(self._words(COMMANDS[command]), fault.request), fault.in_between)
        self.tried[fault.kind] += 1
        err = (self.folder / "err.txt").read_text("utf-8", "replace")
        label = f"{command} ({fault.kind}: {fault.label}) --only {kind} --commands {command} --first {seed} --count 1"
        problems = list(self._problems(command, code, err, fault))
        for problem in problems:
            self.failures.append(f"{label}: {problem}")
            print(f"FAILED: {self.failures[-1]}", flush=True)
        if not problems and code in (0, 1, *fault.codes):
            self.outcomes["done" if code == 0 else "refused"] += 1

    @contextlib.contextmanager
    def _shortage(self, fault: Fault) -> Iterator[None]:
        """Take away the room on the disk."""
        ballast = self.disk / "ballast"
        if fault.free is not None:
            room = os.statvfs(self.disk)
            size = room.f_bavail * room.f_frsize - fault.free
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, size))
        used = os.statvfs(self.disk)
        if fault.inodes is not None:
            number = used.f_files - used.f_ffree + fault.inodes
            subprocess.run(["mount", "-o", f"remount,nr_inodes={number}", self.disk], check=True)
        try:
            yield
        finally:
            ballast.unlink(missing_ok=True)
            if fault.inodes is not None:
                subprocess.run(["mount", "-o", f"remount,nr_inodes={used.f_files}", self.disk], check=True)

    def _problems(self, command: str, code: int, err: str, fault: Fault) -> Iterator[str]:
        crashed = fault.kind == "system calls" and fault.label.startswith("openat") and code in CRASHES
        if crashed:
            self.outcomes["crashed"] += 1
        elif code == 2 and "can't be written: Permission denied" in err:
            pass  # a wrong call: the picture was to go where this user may not write
        elif code not in (0, 1, *fault.codes):
            yield f"exit code {code}: {brief(err)}"
        elif any(words in err for words in ("Traceback", "unexpected ", "Fatal Python", "terminate called")):
            yield f"no plain sentence: {brief(err)}"
        elif code > 0 and not err.strip() and 2 not in fault.request.get("closed", ()) and not _is_mute(fault):
            yield f"exit code {code} without a message"
        elif sum(line.startswith("error: ") for line in err.splitlines()) > 1:
            yield f"more than one error: {brief(err)}"
        try:
            now = state(self.disk / "home")
        except (ModelspaceError, duckdb.Error) as error:
            yield f"the registry can't be read: {error}"
            return
        if now == self.after[command]:
            pass
        elif code == 0:
            yield "it reports success, and the registry is not what it should be"
        elif now != self.before and not self._partly(command, now):
            yield "the registry is neither as before nor as after"
        if crashed or "a library ended the command" in err:
            return  # the next writer cleans up after it
        if fault.label.startswith("unlink"):
            return  # what can't be removed stays
        if left := [path.name for path in (self.disk / "home").rglob("*") if path.suffix in (".lock", ".tmp")]:
            yield f"left behind: {', '.join(left)}"

    def _partly(self, command: str, now: Any) -> bool:
        """Commands of several transactions: each space of `rebuild`, each space and step of `init`."""
        return command in ("rebuild", "init") and now["models"] == self.before["models"]

    def close(self) -> None:
        """End the server."""
        self.server.close()


def _is_mute(fault: Fault) -> bool:
    """Whether a fault keeps a command from writing its message: all writes fail, from some call on."""
    return fault.kind == "system calls" and fault.label.startswith("write fails") and fault.label.endswith("+")


def state(home: Path) -> Any:
    """What a registry holds, without times and generations, after its checks."""
    with Registry.open(home / "registry.duckdb") as registry:
        if problems := registry.check():
            raise ModelspaceError(f"checks fail: {problems[0].subject}: {problems[0].message}")
        names = {row.model_id: row.card.name for row in registry.models()}
        return {
            "models": {row.card.name: (dict(row.card.tags), sorted(row.spaces)) for row in registry.models()},
            "spaces": {
                space.spec.name: [
                    (names[row.model_id], [round(value, 6) for value in row.affinities.tolist()])
                    for row in registry.embeddings(space.spec.space_id)
                ]
                for space in registry.spaces()
            },
        }


def brief(text: str) -> str:
    """A message, abridged in its middle."""
    text = " | ".join(text.strip().splitlines())
    return text if len(text) <= 500 else f"{text[:250]} ... {text[-250:]}"


def plan(kinds: Sequence[str], commands: Sequence[str], first: int, count: int) -> list[tuple[str, str, int]]:
    """Kinds and commands in turn, so that any number of attempts covers them evenly."""
    pairs = [(kind, command) for command in commands for kind in kinds]
    random.Random(0).shuffle(pairs)
    return [(*pairs[k % len(pairs)], first + k // len(pairs)) for k in range(count)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT, help="number of commands")
    parser.add_argument("--full", action="store_true", help=f"{COUNT_IN_FULL} commands")
    parser.add_argument("--seed", "--first", type=int, default=0, help="seed of the first round of faults")
    parser.add_argument("--only", choices=sorted(FAULTS), action="append", help="only this kind of fault")
    parser.add_argument("--commands", choices=list(COMMANDS), action="append", help="only this command")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name) / "disk") as mounted:
        Path(name).chmod(0o755)
        torture = Torture(Path(name), Path(name) / "disk", mounted)
        kinds = [kind for kind in options.only or sorted(FAULTS) if kind in torture.faults]
        count = COUNT_IN_FULL if options.full else options.count
        for attempt in plan(kinds, options.commands or list(COMMANDS), options.seed, count):
            torture.attempt(*attempt)
        torture.close()
    figures = {
        "commands": sum(torture.tried.values()),
        "done": torture.outcomes["done"],
        "refused in one sentence": torture.outcomes["refused"],
        "ended by a crash of a library": torture.outcomes["crashed"],
        **{f"with {kind}": number for kind, number in sorted(torture.tried.items())},
        "failures": len(torture.failures),
    }
    seconds = time.monotonic() - started
    if options.out:
        options.out.write_text(json.dumps({"figures": figures, "seconds": round(seconds, 1)}, indent=2) + "\n")
    print(f"resources: {', '.join(f'{value} {label}' for label, value in figures.items())} ({seconds:.0f} s)")
    return 1 if torture.failures else 0


if __name__ == "__main__":
    sys.exit(main())
