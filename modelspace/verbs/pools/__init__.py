"""Where many models are embedded: in this process, in several processes, or on Ray. A pool never writes the registry.

Each kind is one file with one class that implements `Pool`. Importing this package imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelspace.deprecated import renamed
from modelspace.errors import BusyError, ModelspaceError, UsageError

if TYPE_CHECKING:
    from modelspace.verbs.passes import Computed

__all__ = ["Job", "JobResult", "Pool", "Report", "describe", "run_job", "threads_per_worker"]

#: Called with (number of the job, images done, total images).
Report = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Job:
    """One model to load and embed. It can be sent to another process, unless its model is a live module.

    Attributes:
        number: identifies the job.
        options: the fields of `modelspace.embedding.prepare.Request`.
        batch_size: images per pass; None: the default.
        replacing: whether it may replace another model of the same name.
    """

    number: int
    options: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    replacing: bool = False


@dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Attributes:
        number: number of the job.
        computed: the embedded model, to be stored; None if the job failed.
        message, hint: why it failed, as in `ModelspaceError`.
        retry: it failed for a reason outside the model, such as a killed worker, and may succeed if tried again.
    """

    number: int
    computed: Computed | None = None
    message: str = ""
    hint: str = ""
    retry: bool = False


class Pool(Protocol):
    """Runs jobs and yields their results in any order. To be used from one thread.

    Attributes:
        count: number of jobs that run at a time.
    """

    count: int

    def submit(self, job: Job) -> None:
        """Queue a job. Jobs are started in the order of submission."""

    def results(self) -> Iterator[JobResult]:
        """Results as they arrive, until no job is left; includes jobs submitted in the meantime."""

    def close(self) -> None:
        """Stop all workers, even in the middle of a job. May be called twice."""


def run_job(path: Path, job: Job, report: Callable[[int, int], None] | None = None) -> JobResult:
    """Load and embed the model of a job. The registry is only read.

    Exceptions become a `JobResult`, since a model that can't be embedded must not stop the others.
    """
    from modelspace.embedding.prepare import Request
    from modelspace.verbs.add import compute

    try:
        request = Request(**job.options)
        computed = compute(path, request, batch_size=job.batch_size, replacing=job.replacing, progress=report)
    except Exception as error:
        return JobResult(job.number, None, *describe(error), retry=isinstance(error, BusyError))
    return JobResult(job.number, computed)


def require_workers(workers: int) -> None:
    """Raise UsageError if the number of workers is below one."""
    if workers < 1:
        raise UsageError(f"{workers} workers can do nothing", "example: `workers=2`")


def require_address(job: Job) -> None:
    """Raise UsageError if the model of a job is a live module, which can't be sent to another process."""
    if not isinstance(job.options.get("model"), str):
        raise UsageError("a live module can't be sent to another process", "give its address, or leave `workers=` out")


def describe(error: Exception) -> tuple[str, str]:
    """Message and hint for an error of one model."""
    if isinstance(error, ModelspaceError):
        return error.message, error.hint
    lines = str(error).strip().splitlines()
    message = f"unexpected {type(error).__name__}{f': {lines[0]}' if lines else ''}"
    return message, "add it alone with MODELSPACE_DEBUG=1 to see the traceback"


def usable_cores() -> int:
    """Number of processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on Linux
        return os.cpu_count() or 1


def threads_per_worker(workers: int) -> int:
    """Number of threads for each worker, so that together they use every core once."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    threads = max(1, usable_cores() // workers)
    return min(threads, int(limit)) if limit.isdecimal() and int(limit) else threads


__getattr__ = renamed(
    __name__,
    {"Done": "JobResult", "described": "describe", "share_of_cores": "threads_per_worker", "work": "run_job"},
)
