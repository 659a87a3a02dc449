"""The pool that is no pool: one model after the other in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from modelspace.verbs.pools import Done, Job, Report, work


class Here:
    """Embeds in this process; live modules are welcome.

    Args:
        path: the registry.
        report: told after every batch of images.
    """

    count = 1

    def __init__(self, path: Path, report: Report | None = None) -> None:
        self._path = path
        self._report = report
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def results(self) -> Iterator[Done]:
        while self._jobs:
            job = self._jobs.popleft()

            def report(done: int, total: int, number: int = job.number) -> None:
                if self._report:
                    self._report(number, done, total)

            yield work(self._path, job, report)

    def close(self) -> None:
        self._jobs.clear()
