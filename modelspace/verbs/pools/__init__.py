"""Where models are embedded: in this process, in several, or on Ray. A pool computes and writes nothing.

Each kind is one file with one class that has the methods of `Pool`. Importing this package imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelspace.errors import BusyError, ModelspaceError

if TYPE_CHECKING:
    from modelspace.verbs.add import Computed

__all__ = ["Done", "Job", "Pool", "Report", "described", "share_of_cores", "work"]

#: Called with (number of the job, images done, images in all).
Report = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Job:
    """One model to load and embed. It can be sent from one process to another, unless its model is a live module.

    Attributes:
        number: tells it from the other jobs.
        options: the entries of `modelspace.embedding.prepare.Request`.
        batch_size: images per pass; None: the default.
        replacing: whether it may replace another model of its name.
    """

    number: int
    options: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    replacing: bool = False


@dataclass(frozen=True)
class Done:
    """What came of a job.

    Attributes:
        number: of the job.
        computed: the model, ready to be stored; None where it failed.
        message, hint: why it failed, as in `ModelspaceError`.
        again: it failed for a reason outside the model, as when its worker was killed, so that another try may do.
    """

    number: int
    computed: Computed | None = None
    message: str = ""
    hint: str = ""
    again: bool = False


class Pool(Protocol):
    """Takes jobs and gives results, in any order; usable from one thread.

    Attributes:
        count: how many jobs are under way at a time.
    """

    count: int

    def submit(self, job: Job) -> None:
        """Take a job. Jobs are begun in the order in which they were submitted."""

    def results(self) -> Iterator[Done]:
        """Results as they come, until no job is left; jobs submitted meanwhile are among them."""

    def close(self) -> None:
        """Stop all workers, in the middle of a job if need be. Closing twice is allowed."""


def work(path: Path, job: Job, report: Callable[[int, int], None] | None = None) -> Done:
    """Load and embed the model of a job. The registry is only read.

    Whatever an exception says becomes a `Done`: one model that can't be embedded is no reason to stop the others.
    """
    from modelspace.embedding.prepare import Request
    from modelspace.verbs.add import compute

    try:
        request = Request(**job.options)
        computed = compute(path, request, batch_size=job.batch_size, replacing=job.replacing, progress=report)
    except Exception as error:
        return Done(job.number, None, *described(error), again=isinstance(error, BusyError))
    return Done(job.number, computed)


def described(error: Exception) -> tuple[str, str]:
    """Message and hint of what went wrong with one model."""
    if isinstance(error, ModelspaceError):
        return error.message, error.hint
    lines = str(error).strip().splitlines()
    what = f"unexpected {type(error).__name__}{f': {lines[0]}' if lines else ''}"
    return what, "add it alone with MODELSPACE_DEBUG=1 to see where it happened"


def share_of_cores(workers: int) -> int:
    """How many threads each of so many workers may use, so that together they use every core once."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores // workers)
    return min(share, int(limit)) if limit.isdecimal() and int(limit) else share
