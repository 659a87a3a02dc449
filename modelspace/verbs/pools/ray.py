"""Actors of a Ray cluster (the extra `ray`). Its machines must see the registry, and the files in addresses, at the same paths.

An actor that dies costs its job alone, which is handed back to be tried again on a new actor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelspace.errors import ModelspaceError, UsageError
from modelspace.verbs.pools import Done, Job, work

LOCAL = "local"


class OnRay:
    """Embeds in the actors of a Ray cluster.

    Args:
        path: the registry.
        address: of the cluster, "auto" for the one that this machine belongs to, or "local" to start one here for as
            long as the pool is open. If this process has a connection already, that one is used and left open.
        workers: number of actors; default: one for each GPU of the cluster, else one for each CPU.

    Raises:
        ModelspaceError: ray is not installed, or there is no cluster.
    """

    def __init__(self, path: Path, address: str = LOCAL, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise UsageError(f"{workers} workers can do nothing", "example: `workers=2`")
        try:
            import ray
        except ImportError as error:
            raise ModelspaceError("ray is not installed", "pip install 'modelspace[ray]'") from error
        self._ray: Any = ray
        self._path = path.absolute()
        self._jobs: deque[Job] = deque()
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Job]] = {}
        self._started = not ray.is_initialized()
        if self._started:
            _connect(ray, address, workers)
        has = ray.cluster_resources()
        gpus = int(has.get("GPU", 0))
        self.count = workers or gpus or max(1, int(has.get("CPU", 1)))
        # A share of a GPU where there are more workers than GPUs; Ray gives each actor the GPUs that it may see.
        self._kind: Any = ray.remote(num_cpus=1, num_gpus=min(1.0, gpus / self.count) if gpus else 0)(_Actor)

    def submit(self, job: Job) -> None:
        if not isinstance(job.options.get("model"), str):
            raise UsageError(
                "a live module can't be sent to another process", "give its address, or leave `workers=` out"
            )
        self._jobs.append(job)
        self._hand_out()

    def results(self) -> Iterator[Done]:
        while self._jobs or self._busy:
            self._hand_out()
            ready, _ = self._ray.wait(list(self._busy), num_returns=1)
            for reference in ready:
                yield self._result(reference)

    def close(self) -> None:
        self._jobs.clear()
        actors = [*self._idle, *(actor for actor, _ in self._busy.values())]
        self._idle, self._busy = [], {}
        for actor in actors:
            with suppress(Exception):  # it may be dead, or its cluster gone
                self._ray.kill(actor)
        if self._started:
            self._started = False
            self._ray.shutdown()

    def _hand_out(self) -> None:
        while self._jobs and len(self._busy) < self.count:
            actor = self._idle.pop() if self._idle else self._kind.remote(str(self._path))
            job = self._jobs.popleft()
            self._busy[actor.work.remote(job)] = (actor, job)

    def _result(self, reference: Any) -> Done:
        actor, job = self._busy.pop(reference)
        try:
            done: Done = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            with suppress(Exception):
                self._ray.kill(actor)
            lines = str(error).strip().splitlines()
            return Done(
                job.number,
                None,
                f"the Ray actor that embedded it ended ({type(error).__name__})",
                lines[0] if lines else "",
                again=True,
            )
        self._idle.append(actor)
        return done


class _Actor:
    """What runs on the cluster."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def work(self, job: Job) -> Done:
        return work(self._path, job)


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
