"""A pool without workers: one model after the other in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from modelspace.deprecated import renamed
from modelspace.verbs.pools import Job, JobResult, Report, run_job


class SerialPool:
    """Embeds in this process, so models may be live modules.

    Args:
        path: the registry.
        report: called after each batch of images.
    """

    count = 1

    def __init__(self, path: Path, report: Report | None = None) -> None:
        self._path = path
        self._report = report
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Queue a job; see `Pool`."""
        self._jobs.append(job)

    def results(self) -> Iterator[JobResult]:
        """Run the jobs; see `Pool`."""
        while self._jobs:
            job = self._jobs.popleft()

            def report(done: int, total: int, number: int = job.number) -> None:
                if self._report:
                    self._report(number, done, total)

            yield run_job(self._path, job, report)

    def close(self) -> None:
        """Drop the queued jobs; see `Pool`."""
        self._jobs.clear()


__getattr__ = renamed(__name__, {"Here": "SerialPool"})
