"""Several processes on this machine, each with its own torch.

They are spawned, never forked: a fork of a process that has used OpenMP hangs. If one dies, only its job fails, which
can be retried, and a new process replaces it. (`concurrent.futures` would break the whole pool.)
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
from typing import Any

from modelspace.deprecated import renamed
from modelspace.errors import ModelspaceError
from modelspace.verbs.pools import (
    Job,
    JobResult,
    Report,
    require_address,
    require_workers,
    run_job,
    threads_per_worker,
)

_READY = "ready"
#: Seconds that a worker has to exit before it is killed.
_TIMEOUT = 2.0


class ProcessPool:
    """Embeds in N processes; with several GPUs, worker i uses GPU i modulo their number.

    Args:
        path: the registry.
        workers: N.
        report: called after each batch of images.

    Raises:
        UsageError: fewer than one worker.
    """

    def __init__(self, path: Path, workers: int, report: Report | None = None) -> None:
        require_workers(workers)
        self._path = path.absolute()
        self.count = workers
        self._report = report
        self._context = multiprocessing.get_context("spawn")
        self._jobs: deque[Job] = deque()
        self._workers: list[_Worker | None] = [None] * workers
        self._any_ready = False  # whether any worker ever reached its main loop

    def submit(self, job: Job) -> None:
        """Queue a job; see `Pool`."""
        require_address(job)
        self._jobs.append(job)
        self._dispatch()

    def results(self) -> Iterator[JobResult]:
        """Results as they arrive; see `Pool`."""
        while self._jobs or any(worker and worker.job for worker in self._workers):
            self._dispatch()
            busy: dict[Any, int] = {worker.pipe: i for i, worker in enumerate(self._workers) if worker and worker.job}
            for pipe in wait(list(busy)):
                result = self._receive(busy[pipe])
                self._dispatch()
                if result:
                    yield result

    def close(self) -> None:
        """Stop all workers; see `Pool`."""
        self._jobs.clear()
        workers, self._workers = [worker for worker in self._workers if worker], [None] * self.count
        for worker in workers:
            worker.pipe.close()
        for worker in workers:
            worker.end()

    def _dispatch(self) -> None:
        """Give queued jobs to idle workers, starting new ones if needed."""
        for slot in range(self.count):
            if not self._jobs:
                return
            worker = self._workers[slot]
            if worker is None:
                worker = self._workers[slot] = _Worker(self._context, self._path, slot, self.count)
            if worker.job is None:
                worker.job = self._jobs.popleft()
                # A worker that has just died is detected when its pipe is read.
                with suppress(OSError):
                    worker.pipe.send(worker.job)

    def _receive(self, slot: int) -> JobResult | None:
        """Read a message of a worker: a result, or None for anything else."""
        worker = self._workers[slot]
        assert worker is not None
        assert worker.job is not None
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            return self._replace_dead(slot, worker, worker.job)
        if message == _READY:
            self._any_ready = True
        elif isinstance(message, JobResult):
            worker.job = None
            return message
        elif self._report:
            self._report(worker.job.number, *message)
        return None

    def _replace_dead(self, slot: int, worker: _Worker, job: Job) -> JobResult:
        """Free the slot of a dead worker, and return the result of its job."""
        self._workers[slot] = None
        worker.end()
        reason = worker.exit_reason()
        if not self._any_ready:
            raise ModelspaceError(
                f"a worker exited before it was ready ({reason})",
                "in a script, put the call below 'if __name__ == \"__main__\":'; or leave `workers=` out",
            )
        return JobResult(
            job.number,
            None,
            f"the process that embedded it died ({reason})",
            "is there enough memory? try fewer workers, or a smaller batch size",
            retry=True,
        )


class _Worker:
    """One process, its pipe, and its current job."""

    def __init__(self, context: multiprocessing.context.SpawnContext, path: Path, slot: int, count: int) -> None:
        self.pipe, child_pipe = context.Pipe()
        self.job: Job | None = None
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(child_pipe, path, slot, threads_per_worker(count)), daemon=True
        )
        with _ignore_interrupts():
            self.process.start()
        child_pipe.close()  # so that the pipe closes when the process exits

    def end(self) -> None:
        """Stop the process."""
        self.pipe.close()
        if self.job is not None:
            self.process.terminate()
        self.process.join(_TIMEOUT)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def exit_reason(self) -> str:
        """The signal or exit code of the process."""
        code = self.process.exitcode
        if code is not None and code < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


@contextmanager
def _ignore_interrupts() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C even while starting; the parent process stops them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _serve(pipe: Connection, path: Path, slot: int, threads: int) -> None:
    """The main loop of a worker, until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a model's code prints must not mix with the data that the command prints.
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(threads)
    devices = torch.cuda.device_count()
    pipe.send(_READY)
    with suppress(EOFError, OSError):  # the parent process has exited
        while True:
            job = pipe.recv()
            if devices > 1 and job.options.get("device", "auto") == "auto":
                job = replace(job, options={**job.options, "device": f"cuda:{slot % devices}"})
            pipe.send(run_job(path, job, lambda done, total: pipe.send((done, total))))


__getattr__ = renamed(__name__, {"Processes": "ProcessPool"})
