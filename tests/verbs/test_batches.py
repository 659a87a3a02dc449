"""Several models in one transaction: what a run over a manifest stores of passes that are ready together."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shelf
from small_spaces import BOTH, KERNELS, MAPS, add, blocks_of, create, expected, seeds_of

from modelspace.errors import ConflictError
from modelspace.registry import Registry
from modelspace.registry.connection import changes
from modelspace.results import Outcome
from modelspace.spaces import affinity, coordinates, kept_anchors
from modelspace.verbs import passes, pending
from modelspace.verbs.add_many import _Run
from modelspace.verbs.manifest import Entry
from modelspace.verbs.passes import Computed
from modelspace.verbs.pools import JobResult


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A registry with the model m0."""
    with create(tmp_path / "registry.duckdb", MAPS, KERNELS, BOTH) as registry:
        add(registry, 0, MAPS, KERNELS, BOTH)
    return tmp_path / "registry.duckdb"


def computed(path: Path, seed: int, weights: str | None = None) -> Computed:
    """A finished pass of the model m<seed>, or of other weights under its name."""
    with Registry.open(path) as registry:
        registry_id = registry.registry_id
    specs = (MAPS, KERNELS, BOTH)
    row = shelf.card(f"m{seed}", data=f"data of m{seed}", architecture=f"net {seed}")
    row = row if weights is None else replace(row, weights_sha256=weights)
    blocks = {space_id: list(some) for space_id, some in blocks_of(seed).items()}
    names, ids = (tuple(spec.name for spec in specs), tuple(spec.space_id for spec in specs))
    return Computed(row, names, blocks, (), registry_id, ids)


def check(path: Path, seeds: Sequence[int]) -> None:
    with Registry.open(path) as registry:
        for spec in (MAPS, KERNELS, BOTH):
            ids, matrix = affinity.matrix(registry, spec, set(registry.model_ids(spec.space_id)))
            assert seeds_of(registry, ids) == list(seeds)
            np.testing.assert_allclose(matrix, expected(spec, list(seeds)), atol=1e-6)
        assert registry.check() == []


@pytest.mark.wide
def test_they_are_compared_with_each_other(path: Path) -> None:
    before = changes.committed
    added = pending.store_batch(path, [computed(path, seed) for seed in (3, 1, 2)], False)
    assert changes.committed == before + 1
    assert [(row.name, row.status) for row in added] == [("m3", "added"), ("m1", "added"), ("m2", "added")]
    check(path, [0, 3, 1, 2])


@pytest.mark.wide
def test_all_are_stored_or_none(path: Path) -> None:
    other = computed(path, 0, "of other weights")
    with pytest.raises(ConflictError, match="'m0' was taken"):
        passes.store_all(path, [computed(path, 1), other], False)
    check(path, [0])


def test_with_anchors_in_memory_a_model_is_compared_under_the_lock_and_gets_the_same_coordinates(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinates, "MAX_EXACT", 4)
    opened: list[bool] = []
    real = Registry.open
    monkeypatch.setattr(Registry, "open", lambda *of, **how: opened.append(how.get("write", False)) or real(*of, **how))
    forgetful = path.with_name("forgetful.duckdb")
    shutil.copyfile(path, forgetful)
    vectors = []
    for file in (path, forgetful):
        for seed in range(1, 9):
            one = computed(path, seed)
            opened.clear()
            assert passes.store(file, one, False).status == "added"
            if file == forgetful:
                kept_anchors.forget()
        assert opened == ([True] if file == path else [False, True])
        check(file, range(9))
        with real(file) as registry:
            vectors.append([registry.vectors(spec.space_id)[1] for spec in (MAPS, KERNELS, BOTH)])
    for kept, read in zip(*vectors, strict=True):
        np.testing.assert_array_equal(kept, read)
    with real(path, write=True) as registry, registry.transaction():  # other anchors than those in memory
        affinity.rebuild(registry, MAPS)
    passes.store(path, computed(path, 9), False)
    check(path, range(10))


def results(path: Path, *seeds: int) -> list[JobResult]:
    return [JobResult(number, computed(path, seed)) for number, seed in enumerate(seeds)]


def run_of(path: Path, n: int) -> _Run:
    entries = [Entry(i + 1, {"model": f"zoo:m{i}"}) for i in range(n)]
    plans = [Outcome(i + 1, f"m{i}", "would add") for i in range(n)]
    return _Run(path, entries, plans, "cpu", None, False, None, None)


@pytest.mark.wide
def test_a_run_stores_what_is_ready_at_once(path: Path) -> None:
    run, before = run_of(path, 3), changes.committed
    run.store_all([*results(path, 1, 2), JobResult(2, None, "it has no layers", "use another")])
    assert changes.committed == before + 1
    assert [(run.outcomes[i].status, run.outcomes[i].message) for i in range(3)] == [
        ("added", ""),
        ("added", ""),
        ("failed", "it has no layers"),
    ]
    check(path, [0, 1, 2])


@pytest.mark.wide
def test_one_that_fails_leaves_the_others(path: Path) -> None:
    run = run_of(path, 3)
    ready = results(path, 1, 0, 2)
    ready[1] = JobResult(1, computed(path, 0, "of other weights"))
    run.store_all(ready)
    assert [run.outcomes[i].status for i in range(3)] == ["added", "failed", "added"]
    assert "'m0' was taken" in run.outcomes[1].message
    check(path, [0, 1, 2])
