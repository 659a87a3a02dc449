"""Many models at once: in order, resumable, one failure at a time, workers that die, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zoo_files
from tiny import PREPROCESSING, net

from modelspace.errors import BusyError, ModelspaceError, NotFoundError, UsageError
from modelspace.registry import Registry
from modelspace.results import Outcome
from modelspace.verbs import add_many, manifest
from modelspace.verbs.add import compute
from modelspace.verbs.pools import Job, JobResult, run_job, threads_per_worker
from modelspace.verbs.pools.processes import ProcessPool
from modelspace.workspace import ModelSpace

M = ("m0", "m1", "m2", "m3", "m4")


def names(space: ModelSpace) -> list[str]:
    return [info.name for info in space.list()]


def statuses(outcomes: Any) -> dict[str, str]:
    return {outcome.name: outcome.status for outcome in outcomes}


class Scripted:
    """A pool that returns results in a chosen order, and records the number of pending jobs.

    Args:
        pick: from the pending jobs to the position of the one to finish next.
        answer: from a job to its result; default: it is embedded.
    """

    count = 2

    def __init__(
        self,
        path: Path,
        pick: Callable[[int], int] = lambda n: n - 1,
        answer: Callable[[Job], JobResult | None] | None = None,
    ) -> None:
        self.path, self.pick, self.answer = path, pick, answer
        self.jobs: deque[Job] = deque()
        self.begun: list[int] = []
        self.most = 0
        self.closed = False

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        self.begun.append(job.number)
        self.most = max(self.most, len(self.jobs))

    def results(self) -> Iterator[JobResult]:
        while self.jobs:
            at = self.pick(len(self.jobs))
            job = self.jobs[at]
            del self.jobs[at]
            yield (self.answer(job) if self.answer else None) or run_job(self.path, job)

    def close(self) -> None:
        self.closed = True


# ---- in this process


def test_a_manifest_is_added_in_its_order_and_one_failure_stops_nothing(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    file = zoo_files.write(tmp_path, "m0", "broken", "m1")
    told: list[Outcome] = []
    steps: list[tuple[int, int, str, int, int]] = []
    done = space.add_all(file, on_outcome=told.append, progress=lambda *step: steps.append(step))
    assert statuses(done) == {"m0": "added", "broken": "failed", "m1": "added"}
    assert [outcome.entry for outcome in done] == [1, 2, 3]
    assert "no weights today" in done[1].message
    assert names(space) == ["m0", "m1"]
    assert told == list(done)
    assert (0, 3, "m0", 4, 4) in steps
    assert steps[-1][:2] == (3, 3)
    assert done[0].spaces == ("gradient_x_input", "saliency")
    assert all(check.ok for check in space.verify(deep=True))
    assert space.spaces()[0].index == "fresh"


@pytest.mark.wide
def test_a_rerun_loads_only_what_is_left(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    space.add_all(zoo_files.write(tmp_path, "m0", "m1"))
    before = (tmp_path / "home" / "registry.duckdb").read_bytes()
    assert set(statuses(space.add_all(tmp_path / "models.toml")).values()) == {"unchanged"}
    assert (tmp_path / "home" / "registry.duckdb").read_bytes() == before
    assert zoo_files.loaded(tmp_path) == ["m0", "m1"]
    # The file has the same text, but is younger than the models now: it is loaded and compared.
    later = time.time() + 5
    os.utime(tmp_path / "nets.py", (later, later))
    assert statuses(space.add_all(tmp_path / "models.toml")) == {"m0": "unchanged", "m1": "unchanged"}
    assert zoo_files.loaded(tmp_path) == ["m0", "m1"] * 2


def test_a_file_that_was_replaced_by_an_older_one_is_loaded(tmp_path: Path) -> None:
    """`cp -p` keeps the date of the contents."""
    space = zoo_files.home(tmp_path)
    space.add_all(zoo_files.write(tmp_path, "m0"))
    copy = tmp_path / "older.py"
    copy.write_text((tmp_path / "nets.py").read_text())
    os.utime(copy, (1e9, 1e9))
    os.replace(copy, tmp_path / "nets.py")
    (outcome,) = space.add_all(tmp_path / "models.toml", dry_run=True)
    assert outcome.status == "would compare"


def test_with_a_clock_that_was_set_back_dates_say_nothing(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    space.add_all(zoo_files.write(tmp_path, "m0"))
    (outcome,) = space.add_all(tmp_path / "models.toml", dry_run=True)
    assert outcome.status == "unchanged"
    with Registry.open(space.path, write=True) as registry, registry.transaction():
        registry.execute("UPDATE main.models SET added_at = added_at + INTERVAL 1 YEAR")
    (outcome,) = space.add_all(tmp_path / "models.toml", dry_run=True)
    assert outcome.status == "would compare"


@pytest.mark.wide
def test_what_differs_from_the_registered_model_is_loaded(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    zoo_files.write(tmp_path)
    uri = f"python:{tmp_path}/nets.py:m0"
    space.add_all([{"uri": uri, "name": "m0", "layer": "fc:in"}])

    def status(**options: Any) -> str:
        (outcome,) = space.add_all([{"uri": uri, "name": "m0", **options}], dry_run=True)
        return outcome.status

    assert status(layer="fc:in") == "unchanged"
    assert status() == "would compare"
    assert status(layer="conv") == "would compare"
    assert status(layer="fc:in", input_size=16, mean=0.5) == "unchanged"
    assert status(layer="fc:in", input_size=32) == "would compare"
    assert status(layer="fc:in", weights="w.safetensors") == "failed"  # there is no such file
    assert status(layer="fc:in", task="depth") == "unchanged"
    (outcome,) = space.add_all([{"uri": uri, "name": "m0", "layer": "fc:in", "task": "depth"}])
    assert "`space.tag('m0', ...)`" in outcome.notes[0]
    # Found by itself, and then named: the same layer.
    space.add_all([{"uri": f"python:{tmp_path}/nets.py:m1", "name": "m1"}])
    for layer, expected in ((None, "unchanged"), ("fc:in", "unchanged"), ("conv", "would add")):
        (outcome,) = space.add_all([{"uri": f"python:{tmp_path}/nets.py:m1", "layer": layer}], dry_run=True)
        assert outcome.status == expected
    (conflict,) = space.add_all([{"uri": uri, "name": "m0", "layer": "conv"}])
    assert conflict.status == "failed"
    assert "`replace=True`" in conflict.hint
    (replaced,) = space.add_all([{"uri": uri, "name": "m0", "layer": "conv"}], replace=True)
    assert (replaced.status, space.show("m0").layer) == ("replaced", "conv")


@pytest.mark.wide
def test_a_new_space_is_filled_by_the_same_manifest(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    file = zoo_files.write(tmp_path, "m0", "m1")
    space.add_all(file)
    space.init(methods=["saliency"], images=3, canvas=4, name="small")
    assert statuses(space.add_all(file, dry_run=True)) == {"m0": "would complete", "m1": "would complete"}
    done = space.add_all(file)
    assert [(outcome.status, outcome.spaces) for outcome in done] == [("completed", ("small",))] * 2


def test_a_dry_run_sees_what_is_not_there_and_runs_nothing(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    zoo_files.write(tmp_path)
    here = f"python:{tmp_path}/nets.py"
    done = space.add_all(
        [
            {"uri": f"{here}:m0"},
            {"uri": f"{here}:m00"},
            {"uri": f"python:{tmp_path}/net.py:m0"},
            {"uri": "zoo:rgb2dept"},
            {"uri": "python:no_such_package.models:make"},
            {"uri": f"{here}:m1", "weights": str(tmp_path / "w.safetensors")},
            {"needs": "a checkpoint", "name": "later"},
        ],
        dry_run=True,
    )
    told = [(outcome.status, outcome.message) for outcome in done]
    assert [status for status, _ in told] == ["would add", *["failed"] * 5, "needs"]
    for (_, message), words in zip(
        told[1:6], ("has no m00", "net.py", "rgb2dept", "no_such_package", "w.safetensors"), strict=True
    ):
        assert words in message
    assert "did you mean" in done[1].hint
    assert zoo_files.loaded(tmp_path) == []
    assert names(space) == []


@pytest.mark.wide
def test_dictionaries_and_live_modules_in_this_process_only(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    entries = [{"model": net(seed), "name": f"live{seed}", "preprocessing": PREPROCESSING} for seed in (1, 2)]
    assert statuses(space.add_all(entries)) == {"live1": "added", "live2": "added"}
    with pytest.raises(UsageError, match="a live module can't be sent"):
        space.add_all([{**entries[0], "name": "again"}], workers=1)
    with pytest.raises(UsageError, match="0 workers"):
        space.add_all([{**entries[0], "name": "again"}], workers=0)


def test_a_registry_without_a_space_is_refused_at_once(tmp_path: Path) -> None:
    from modelspace.registry import Registry

    Registry.create(tmp_path / "registry.duckdb")
    with pytest.raises(NotFoundError, match="no space yet"):
        ModelSpace(tmp_path).add_all(zoo_files.write(tmp_path, "m0"))


# ---- the driver, over a pool that answers as the test wants


@pytest.mark.sampled(3)
@pytest.mark.wide
@pytest.mark.parametrize("seed", range(3))
def test_positions_are_the_manifests_in_whatever_order_results_come(tmp_path: Path, seed: int) -> None:
    import random

    order = random.Random(seed)
    space = zoo_files.home(tmp_path)
    entries = manifest.read(zoo_files.write(tmp_path, *M))
    pool = Scripted(space.path, pick=order.randrange)
    done = add_many.add_all(space.path, entries, pool=pool)
    assert set(statuses(done).values()) == {"added"}
    assert names(space) == list(M)
    assert list(space.affinity().names) == list(M)
    assert pool.closed


@pytest.mark.wide
def test_a_slow_first_model_holds_back_a_bounded_number_of_results(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    zoo_files.write(tmp_path)
    entries = manifest.from_mappings([{"uri": f"python:{tmp_path}/nets.py:m0", "name": f"n{i}"} for i in range(12)])
    seen: list[int] = []

    def first_last(n: int) -> int:
        seen.append(n)
        return n - 1  # the newest each time, so that the oldest waits until nothing else is out

    pool = Scripted(space.path, pick=first_last)
    add_many.add_all(space.path, entries, pool=pool)
    assert pool.most <= 2 * pool.count
    assert max(seen) <= 2 * pool.count
    assert pool.begun == list(range(12))
    assert names(space) == [f"n{i}" for i in range(12)]


@pytest.mark.wide
def test_a_lost_job_is_tried_once_more_and_then_reported(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    entries = manifest.read(zoo_files.write(tmp_path, "m0", "m1", "m2"))
    tries: list[int] = []

    def answer(job: Job) -> JobResult | None:
        tries.append(job.number)
        lost = JobResult(job.number, None, "its worker ended", "more memory", retry=True)
        return lost if job.number == 1 or (job.number == 0 and tries.count(0) == 1) else None

    done = add_many.add_all(space.path, entries, pool=Scripted(space.path, answer=answer))
    assert statuses(done) == {"m0": "added", "m1": "failed", "m2": "added"}
    assert (tries.count(0), tries.count(1), tries.count(2)) == (2, 2, 1)
    assert (done[1].message, done[1].hint) == ("its worker ended", "more memory")
    assert names(space) == ["m0", "m2"]


@pytest.mark.wide
def test_an_interruption_keeps_what_is_finished_even_out_of_order(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    file = zoo_files.write(tmp_path, *M)

    def answer(job: Job) -> JobResult | None:
        if job.number == 2:
            raise KeyboardInterrupt
        return None

    # 3 and 1 are finished before 2 is begun, 0 never is.
    order = iter((3, 1, 1))
    pool = Scripted(space.path, pick=lambda n: next(order), answer=answer)
    with pytest.raises(add_many.Interrupted) as caught:
        add_many.add_all(space.path, manifest.read(file), pool=pool)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert statuses(caught.value.outcomes) == {
        "m0": "not reached",
        "m1": "added",
        "m2": "not reached",
        "m3": "added",
        "m4": "not reached",
    }
    assert pool.closed
    assert names(space) == ["m1", "m3"]
    assert all(check.ok for check in space.verify(deep=True))
    done = space.add_all(file)
    assert statuses(done) == dict(zip(M, ("added", "unchanged", "added", "unchanged", "added"), strict=True))


def test_a_pool_that_fails_as_a_whole_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)

    def answer(job: Job) -> JobResult | None:
        if job.number == 0:
            raise ModelspaceError("no more workers")
        return None

    pool = Scripted(space.path, answer=answer)
    with pytest.raises(ModelspaceError, match="no more workers"):
        add_many.add_all(space.path, manifest.read(zoo_files.write(tmp_path, "m0", "m1")), pool=pool)
    assert names(space) == ["m1"]


@pytest.mark.wide
def test_storing_waits_for_a_busy_registry_and_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelspace.verbs import pending

    space = zoo_files.home(tmp_path)
    real, calls = pending.store, []

    def store(path: Path, computed: Any, replacing: bool, *timeout: float) -> Any:
        calls.append(computed.card.name)
        if computed.card.name == "m0" and calls.count("m0") < 3:
            raise BusyError("process 1 is using it")
        if computed.card.name == "m1":
            raise MemoryError
        return real(path, computed, replacing)

    monkeypatch.setattr(pending, "store", store)
    done = space.add_all(zoo_files.write(tmp_path, "m0", "m1", "m2"))
    assert statuses(done) == {"m0": "added", "m1": "failed", "m2": "added"}
    assert done[1].message == "unexpected MemoryError"
    # The pass of m1 is saved, and tried again before the next model.
    assert calls == ["m0", "m0", "m0", "m1", "m1", "m2"]
    assert "the finished pass of m1 still waits: unexpected MemoryError" in done[2].notes[0]
    monkeypatch.setattr(pending, "store", real)
    assert [outcome.status for outcome in space.resume()] == ["added"]


@pytest.mark.wide
def test_a_name_that_was_taken_meanwhile_fails_alone(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    zoo_files.write(tmp_path)
    uri = f"python:{tmp_path}/nets.py"

    def answer(job: Job) -> JobResult | None:
        if job.number == 0:
            space.add(f"{uri}:m1", name="m0")
        return None

    # What was computed before somebody else took the name.
    from modelspace.embedding.prepare import Request

    early = compute(space.path, Request(f"{uri}:m0", "m0"), batch_size=None, replacing=False, progress=None)
    entries = manifest.from_mappings([{"uri": f"{uri}:m0", "name": "m0"}, {"uri": f"{uri}:m2", "name": "m2"}])
    pool = Scripted(
        space.path,
        answer=lambda job: answer(job) or (replace(JobResult(0), computed=early) if job.number == 0 else None),
    )
    done = add_many.add_all(space.path, entries, pool=pool)
    assert statuses(done) == {"m0": "failed", "m2": "added"}
    assert "taken in the meantime" in done[0].message


# ---- processes


@pytest.mark.wide
@pytest.mark.slow
def test_workers_give_the_same_registry_and_a_dead_one_costs_only_its_model(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
    alone, spread = zoo_files.home(tmp_path / "one"), zoo_files.home(tmp_path / "two")
    alone.add_all(zoo_files.write(tmp_path / "one", "late", "m1", "m2"))
    file = zoo_files.write(tmp_path / "two", "late", "ends", "m1", "killed_once", "broken", "m2")
    steps: list[tuple[int, int, str, int, int]] = []
    done = spread.add_all(file, workers=2, progress=lambda *step: steps.append(step))
    assert statuses(done) == {
        "late": "added",
        "ends": "failed",
        "m1": "added",
        "killed_once": "added",
        "broken": "failed",
        "m2": "added",
    }
    assert "exit code 3" in done[1].message
    assert "memory" in done[1].hint
    assert "no weights today" in done[4].message
    assert any(images == in_all == 4 for *_, images, in_all in steps)
    assert names(spread) == ["late", "m1", "killed_once", "m2"]
    assert all(check.ok for check in spread.verify(deep=True))
    one, two = alone.affinity().to_pandas(), spread.affinity().to_pandas()
    assert (two.loc[one.index, one.index] - one).abs().to_numpy().max() < 1e-9


def test_a_worker_that_never_begins_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelspace.verbs.pools import processes

    monkeypatch.setattr(processes, "_serve", os._exit)  # called with what it can't take, so that it ends
    pool = ProcessPool(tmp_path / "registry.duckdb", 1)
    pool.submit(Job(0, {"model": "zoo:rgb2depth"}))
    try:
        with pytest.raises(ModelspaceError, match="exited before it was ready") as caught:
            list(pool.results())
        assert "__main__" in caught.value.hint
    finally:
        pool.close()
        pool.close()


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_ctrl_c_stops_the_workers_and_keeps_what_is_finished(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    file = zoo_files.write(tmp_path, "m0", "hangs", "m1")
    words = ["add", "--manifest", str(file), "--workers", "1", "--home", str(space.home), "--format", "json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "modelspace", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    since = time.monotonic()
    while time.monotonic() - since < 60 and not (tmp_path / "hanging").exists():
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the worker too
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again to resume" in err
    assert "Traceback" not in err
    told = {row["name"]: row["status"] for row in json.loads(out)}
    assert told == {"m0": "added", "hangs": "not reached", "m1": "not reached"}
    assert names(space) == ["m0"]
    assert all(check.ok for check in space.verify(deep=True))
    while time.monotonic() - since < 60 and _alive(process.pid):
        time.sleep(0.1)
    assert _alive(process.pid) == []


@pytest.mark.wide
def test_ctrl_c_while_a_model_is_written_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB would cancel its statement; the signal is sent from within the write, so that it always interrupts it."""
    from modelspace.verbs import pending

    space = zoo_files.home(tmp_path)
    file = zoo_files.write(tmp_path, "m0", "m1")
    real, written = pending.store, []

    def store(*words: object) -> object:
        if not written:
            os.kill(os.getpid(), signal.SIGINT)
        written.append(words)
        return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(pending, "store", store)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt) as stopped:
            space.add_all(file)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert {one.name: one.status for one in stopped.value.outcomes} == {"m0": "added", "m1": "not reached"}  # type: ignore[attr-defined]
    assert names(space) == ["m0"]
    assert all(check.ok for check in space.verify(deep=True))


def _alive(group: int) -> list[int]:
    """Processes of a group that are not zombies; empty if there is no /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(") ")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_per_worker(n) for n in (1, 2, 3, 20)] == [8, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads_per_worker(2) == 2


# ---- the command


def test_a_dry_run_makes_no_registry(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from modelspace.cli.app import app

    file = zoo_files.write(tmp_path, "m0")
    words = ["add", "--manifest", str(file), "--dry-run", "--home", str(tmp_path / "new")]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "modelspace init" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.wide
def test_the_command_adds_a_manifest_and_leaves_with_1_where_one_failed(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from modelspace.cli.app import app

    space = zoo_files.home(tmp_path)
    file = zoo_files.write(tmp_path, "m0", "broken")
    words = ["add", "--manifest", str(file), "--home", str(space.home)]
    dry = CliRunner().invoke(app, [*words, "--dry-run"])
    assert (dry.exit_code, names(space)) == (0, [])
    assert "2 models: 2 to be added" in dry.stderr
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "added m0" in result.stderr
    assert "2 models: 1 added, 1 FAILED" in result.stderr
    assert "no weights today" in result.stdout
    again = CliRunner().invoke(app, [*words, "--format", "json"])
    assert [row["status"] for row in json.loads(again.stdout)] == ["unchanged", "failed"]
    quiet = CliRunner().invoke(app, [*words, "--quiet"])
    assert (quiet.exit_code, quiet.stdout) == (1, "")
    assert quiet.stderr.startswith("error: broken: ")
