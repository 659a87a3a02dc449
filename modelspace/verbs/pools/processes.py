"""Several processes of this machine, each with its own torch.

They are spawned, never forked: a fork of a process that has used OpenMP hangs. One that dies costs its job alone, which is
handed back to be tried again, and another process takes its place. (`concurrent.futures` would give up the whole pool.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from modelspace.errors import ModelspaceError, UsageError
from modelspace.verbs.pools import Done, Job, Report, share_of_cores, work

_READY = "ready"
#: Seconds that a worker gets to end by itself before it is killed.
_PATIENCE = 2.0


class Processes:
    """Embeds in N processes; with several GPUs, worker i uses GPU i modulo their number.

    Args:
        path: the registry.
        workers: N.
        report: told after every batch of images.

    Raises:
        UsageError: fewer than one worker.
    """

    def __init__(self, path: Path, workers: int, report: Report | None = None) -> None:
        if workers < 1:
            raise UsageError(f"{workers} workers can do nothing", "example: `workers=2`")
        self._path = path.absolute()
        self.count = workers
        self._report = report
        self._context = multiprocessing.get_context("spawn")
        self._jobs: deque[Job] = deque()
        self._workers: list[_Worker | None] = [None] * workers
        self._began = False  # whether a worker ever got as far as waiting for a job

    def submit(self, job: Job) -> None:
        if not isinstance(job.options.get("model"), str):
            raise UsageError(
                "a live module can't be sent to another process", "give its address, or leave `workers=` out"
            )
        self._jobs.append(job)
        self._hand_out()

    def results(self) -> Iterator[Done]:
        while self._jobs or any(worker and worker.job for worker in self._workers):
            self._hand_out()
            busy = {worker.pipe: i for i, worker in enumerate(self._workers) if worker and worker.job}
            for pipe in wait(list(busy)):
                place = busy[pipe]  # type: ignore[index]
                done = self._message(place)
                self._hand_out()
                if done:
                    yield done

    def close(self) -> None:
        self._jobs.clear()
        workers, self._workers = [worker for worker in self._workers if worker], [None] * self.count
        for worker in workers:
            worker.pipe.close()
        for worker in workers:
            worker.end()

    def _hand_out(self) -> None:
        for place in range(self.count):
            if not self._jobs:
                return
            worker = self._workers[place]
            if worker is None:
                worker = self._workers[place] = _Worker(self._context, self._path, place, self.count)
            if worker.job is None:
                worker.job = self._jobs.popleft()
                # One that has just died is noticed when its pipe is read.
                with suppress(OSError):
                    worker.pipe.send(worker.job)

    def _message(self, place: int) -> Done | None:
        """Read what a worker says: a result, or nothing yet."""
        worker = self._workers[place]
        assert worker is not None
        assert worker.job is not None
        try:
            said = worker.pipe.recv()
        except (EOFError, OSError):
            return self._lost(place, worker, worker.job)
        if said == _READY:
            self._began = True
        elif isinstance(said, Done):
            worker.job = None
            return said
        elif self._report:
            self._report(worker.job.number, *said)
        return None

    def _lost(self, place: int, worker: _Worker, job: Job) -> Done:
        self._workers[place] = None
        worker.end()
        how = worker.how()
        if not self._began:
            raise ModelspaceError(
                f"a worker ended before it began ({how})",
                "in a script, put the call below 'if __name__ == \"__main__\":'; or leave `workers=` out",
            )
        return Done(
            job.number,
            None,
            f"the process that embedded it ended ({how})",
            "is there enough memory? try fewer workers, or a smaller batch size",
            again=True,
        )


class _Worker:
    """One process, its pipe, and the job that it has."""

    def __init__(self, context: multiprocessing.context.SpawnContext, path: Path, place: int, count: int) -> None:
        self.pipe, theirs = context.Pipe()
        self.job: Job | None = None
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, path, place, share_of_cores(count)), daemon=True
        )
        with _no_interruption():
            self.process.start()
        theirs.close()  # so that the pipe ends with the process

    def end(self) -> None:
        self.pipe.close()
        if self.job is not None:
            self.process.terminate()
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def how(self) -> str:
        code = self.process.exitcode
        if code is not None and code < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


@contextmanager
def _no_interruption() -> Iterator[None]:
    """What is started inside never sees Ctrl-C, not even while it is starting: the driver stops it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(pipe: Connection, path: Path, place: int, threads: int) -> None:
    """What a worker does until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a model's code prints must not get into the data that the command prints.
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(threads)
    devices = torch.cuda.device_count()
    pipe.send(_READY)
    with suppress(EOFError, OSError):  # the driver has gone
        while True:
            job = pipe.recv()
            if devices > 1 and job.options.get("device", "auto") == "auto":
                job = replace(job, options={**job.options, "device": f"cuda:{place % devices}"})
            pipe.send(work(path, job, lambda done, total: pipe.send((done, total))))
