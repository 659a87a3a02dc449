"""Actors of a Ray cluster (the extra `ray`).

All its machines must have the registry, and the files in addresses, at the same paths. If an actor dies, only its job
fails, which can be retried on a new actor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelspace.deprecated import renamed
from modelspace.errors import ModelspaceError
from modelspace.verbs.pools import Job, JobResult, require_address, require_workers, run_job

LOCAL = "local"


class RayPool:
    """Embeds in the actors of a Ray cluster.

    Args:
        path: the registry.
        address: address of the cluster, "auto" for the cluster of this machine, or "local" to start one here while the
            pool is open. An existing connection of this process is used and left open.
        workers: number of actors; default: one for each GPU of the cluster, else one for each CPU.

    Raises:
        ModelspaceError: ray is not installed, or there is no cluster.
    """

    def __init__(self, path: Path, address: str = LOCAL, workers: int | None = None) -> None:
        if workers is not None:
            require_workers(workers)
        try:
            import ray
        except ImportError as error:
            raise ModelspaceError("ray is not installed", "pip install 'modelspace-db[ray]'") from error
        self._ray: Any = ray
        self._path = path.absolute()
        self._jobs: deque[Job] = deque()
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Job]] = {}
        self._started = not ray.is_initialized()
        if self._started:
            _connect(ray, address, workers)
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        self.count = workers or gpus or max(1, int(resources.get("CPU", 1)))
        # With more workers than GPUs, each gets a fraction of a GPU; Ray sets the GPUs that an actor sees.
        self._actor_class: Any = ray.remote(num_cpus=1, num_gpus=min(1.0, gpus / self.count) if gpus else 0)(_Actor)

    def submit(self, job: Job) -> None:
        """Queue a job; see `Pool`."""
        require_address(job)
        self._jobs.append(job)
        self._dispatch()

    def results(self) -> Iterator[JobResult]:
        """Results as they arrive; see `Pool`."""
        while self._jobs or self._busy:
            self._dispatch()
            finished, _ = self._ray.wait(list(self._busy), num_returns=1)
            for reference in finished:
                yield self._result(reference)

    def close(self) -> None:
        """Stop all actors; see `Pool`."""
        self._jobs.clear()
        actors = [*self._idle, *(actor for actor, _ in self._busy.values())]
        self._idle, self._busy = [], {}
        for actor in actors:
            with suppress(Exception):  # the actor may be dead, or the cluster down
                self._ray.kill(actor)
        if self._started:
            self._started = False
            self._ray.shutdown()

    def _dispatch(self) -> None:
        """Give queued jobs to idle actors, starting new ones if needed."""
        while self._jobs and len(self._busy) < self.count:
            actor = self._idle.pop() if self._idle else self._actor_class.remote(str(self._path))
            job = self._jobs.popleft()
            self._busy[actor.run.remote(job)] = (actor, job)

    def _result(self, reference: Any) -> JobResult:
        actor, job = self._busy.pop(reference)
        try:
            result: JobResult = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            with suppress(Exception):
                self._ray.kill(actor)
            lines = str(error).strip().splitlines()
            return JobResult(
                job.number,
                None,
                f"the Ray actor that embedded it died ({type(error).__name__})",
                lines[0] if lines else "",
                retry=True,
            )
        self._idle.append(actor)
        return result


class _Actor:
    """A worker on the cluster."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def run(self, job: Job) -> JobResult:
        return run_job(self._path, job)


def _connect(ray: Any, address: str, workers: int | None) -> None:
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, num_cpus=workers, **quiet)
        else:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise ModelspaceError(
            f"there is no Ray cluster at {address!r}{f': {lines[0]}' if lines else ''}",
            "start one with 'ray start --head', or use `ray='local'`",
        ) from error


__getattr__ = renamed(__name__, {"OnRay": "RayPool"})
