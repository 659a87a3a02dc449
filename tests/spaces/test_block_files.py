"""The file of a space's blocks next to its index: what it answers, and when it isn't used or not written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_spaces import BOTH, KERNELS, MAPS, add, create, fill
from spoiled_files import spoil

from modelspace.home import INDEX, REGISTRY
from modelspace.registry import Registry
from modelspace.spaces import block_files, index, index_kinds, neighbours
from modelspace.spaces.block_files import BlockFile
from modelspace.spaces.derived_files import state_of
from modelspace.spaces.kinds import KernelSpace, space_of
from modelspace.spaces.neighbours import Ranker, Target, load_index
from modelspace.spaces.ranking import Ranking
from modelspace.verbs.verify import verify

SEEDS = range(9)
KERNEL_SPACE = KernelSpace(KERNELS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A registry of nine models, with an empty folder for the index."""
    fill(tmp_path / REGISTRY, SEEDS)
    return tmp_path / REGISTRY


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    with Registry.open(path) as opened:
        yield opened


def file_of(registry: Registry, space_id: str = KERNELS.space_id) -> Path:
    return registry.path.parent / INDEX / f"{space_id}.blocks"


def answers(registry: Registry) -> list[tuple[list[int], bytes]]:
    """What is ranked for each model, by affinity and re-ranked, to the bit."""
    out = []
    for ranking in (Ranking(), Ranking(rerank="directed")):
        ranker = Ranker(registry, registry.space("dds"), ranking)
        for model_id in registry.model_ids(KERNELS.space_id):
            ranked = ranker.rank(Target("m", model_id), 5)
            out.append((ranked.model_ids, ranked.scores.tobytes()))
    return out


def forbid(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Lists the models whose blocks are read with DuckDB."""
    read: list[list[int]] = []
    original = registry._read_blocks

    def noted(space_id: str, first: int | None, ids: list[int], check: bool) -> object:
        read.append(list(ids))
        return original(space_id, first, ids, check)

    monkeypatch.setattr(registry, "_read_blocks", noted)
    return read


def test_it_has_what_the_registry_has(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = answers(registry)
    block_files.refresh(registry, KERNEL_SPACE)
    file = BlockFile.open(file_of(registry))
    assert file is not None
    for model_id, block in registry.map_blocks_at(KERNELS.space_id, 0):
        assert file.block(model_id) == block
    assert file.block(0) is file.block(len(SEEDS) + 1) is None
    read = forbid(registry, monkeypatch)
    assert answers(registry) == expected
    assert read == []


def test_it_is_written_with_the_index_of_many_models(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dds", "saliency", "both"):
        load_index(registry, registry.space(name))
    assert not list(file_of(registry).parent.glob("*.blocks"))
    monkeypatch.setattr(neighbours, "Lists", index_kinds.Rows)  # as if these models were many
    for name in ("saliency", "both"):
        load_index(registry, registry.space(name), renew=True)
    assert list(file_of(registry).parent.glob("*.blocks")) == [file_of(registry)]  # of the blend's kernels
    before = file_of(registry).stat()
    load_index(registry, registry.space("both"), renew=True)
    assert file_of(registry).stat().st_ino == before.st_ino
    load_index(registry, registry.space("dds"), renew=True)
    assert file_of(registry).stat().st_ino != before.st_ino
    index.remove(file_of(registry).parent, {row.spec.space_id for row in registry.spaces()})
    assert file_of(registry).exists()
    index.remove(file_of(registry).parent, {MAPS.space_id})
    assert not file_of(registry).exists()


def test_models_that_it_lacks_are_read_from_the_registry(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry.open(path) as registry:
        block_files.refresh(registry, KERNEL_SPACE)
        inode = file_of(registry).stat().st_ino
    with Registry.open(path, write=True) as registry:
        added = add(registry, 11, MAPS, KERNELS)
    with Registry.open(path) as registry:
        block_files.refresh(registry, KERNEL_SPACE)  # one of ten is not worth it
        assert file_of(registry).stat().st_ino == inode
        read = forbid(registry, monkeypatch)
        with_file = answers(registry)
        assert read
        assert {model_id for ids in read for model_id in ids} == {added}
        file_of(registry).unlink()
    with Registry.open(path) as registry:
        assert answers(registry) == with_file
    with Registry.open(path, write=True) as registry:
        add(registry, 12, MAPS, KERNELS)
    with Registry.open(path) as registry:
        block_files.refresh(registry, KERNEL_SPACE)
        assert len(BlockFile.open(file_of(registry)).ids) == len(SEEDS) + 2  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_byte_changes_no_answer(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "one changed byte"
    if not folder.exists():
        (folder / INDEX).mkdir(parents=True)
        with create(folder / REGISTRY, KERNELS) as registry:
            for seed in SEEDS:
                add(registry, seed, KERNELS)
        with Registry.open(folder / REGISTRY) as registry:
            block_files.refresh(registry, KERNEL_SPACE)
            shutil.copy(file_of(registry), folder / "intact")
    intact = (folder / "intact").read_bytes()
    at = data.draw(st.integers(0, len(intact) - 1))
    changed = bytearray(intact)
    changed[at] ^= data.draw(st.integers(1, 255))
    with Registry.open(folder / REGISTRY) as registry:
        file_of(registry).unlink(missing_ok=True)
        expected = answers(registry)
        file_of(registry).write_bytes(changed)
        assert answers(registry) == expected


@pytest.mark.parametrize("change", ["cut", "longer", "empty", "text", "folder", "pipe", "gone"])
def test_what_is_no_such_file_is_not_used(registry: Registry, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = answers(registry)
    block_files.refresh(registry, KERNEL_SPACE)
    file = file_of(registry)
    data = spoil(file, change)
    read = forbid(registry, monkeypatch)
    assert answers(registry) == expected
    assert read
    block_files.refresh(registry, KERNEL_SPACE)
    if change != "folder":
        assert file.read_bytes() == data


def test_it_is_of_one_registry_and_one_epoch(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry with models of the same numbers, and vectors that were computed again."""
    with Registry.open(path) as registry:
        block_files.refresh(registry, KERNEL_SPACE)
    (tmp_path / "other" / INDEX).mkdir(parents=True)
    with create(tmp_path / "other" / REGISTRY, KERNELS) as other:
        for seed in reversed(SEEDS):
            add(other, seed, KERNELS)
    with Registry.open(tmp_path / "other" / REGISTRY) as other:
        shutil.copy(path.parent / INDEX / f"{KERNELS.space_id}.blocks", file_of(other))
        read = forbid(other, monkeypatch)
        used = answers(other)
        assert read
        file_of(other).unlink()
        assert answers(other) == used
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.execute("UPDATE main.spaces SET epoch = coalesce(epoch, 0) + 1")
    with Registry.open(path) as registry:
        read = forbid(registry, monkeypatch)
        answers(registry)
        assert read
        block_files.refresh(registry, KERNEL_SPACE)
        read.clear()
        answers(registry)
        assert read == []


def test_it_is_not_written_where_a_model_has_more_blocks_or_none(registry: Registry) -> None:
    for spec in (MAPS, BOTH):
        block_files.refresh(registry, space_of(spec), renew=True)
    assert not list(file_of(registry).parent.iterdir())
    grids = create(registry.path.parent / "empty.duckdb", KERNELS)
    with grids:
        block_files.refresh(grids, KERNEL_SPACE)
    assert not list(file_of(registry).parent.iterdir())


def test_verify_checks_it(path: Path) -> None:
    """Damaged blocks, and blocks that are whole but not what the registry has; without a file there is no check."""

    def checked(deep: bool) -> list[tuple[bool, str]]:
        checks = verify(path.parent, deep=deep, progress=None)
        return [(check.ok, check.detail) for check in checks if check.what == "dds: copies of blocks"]

    assert checked(deep=True) == []
    with Registry.open(path) as registry:
        block_files.refresh(registry, KERNEL_SPACE)
        file = file_of(registry)
        ids, state = np.array(registry.model_ids(KERNELS.space_id)), state_of(registry, KERNELS.space_id)
        blocks = list(registry.map_blocks_at(KERNELS.space_id, 0))
    assert checked(deep=False) == checked(deep=True) == [(True, "9 blocks")]
    intact = file.read_bytes()
    file.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    assert checked(deep=False) == checked(deep=True) == [(False, "1 of 9 are damaged")]
    exchanged = [(model_id, blocks[0][1]) for model_id, _ in blocks]
    block_files._write(file, ids, state, iter(exchanged))
    assert checked(deep=False) == [(True, "9 blocks")]
    assert checked(deep=True) == [(False, "8 of 9 are damaged")]


def test_a_disk_without_room(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written that would fill it, and an error while writing leaves nothing."""
    kernels = sum(len(block.codes + block.scales) for _, block in registry.map_blocks_at(KERNELS.space_id, 0))
    usage = shutil.disk_usage(registry.path.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=kernels))
    block_files.refresh(registry, KERNEL_SPACE)
    assert not list(file_of(registry).parent.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * kernels))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        block_files.refresh(registry, KERNEL_SPACE)
    assert not list(file_of(registry).parent.iterdir())
    block_files.refresh(registry, KERNEL_SPACE)
    assert file_of(registry).exists()


def test_a_query_of_many_reads_all_that_may_be_needed_at_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a file, no block is decoded before it is needed, and none is asked for twice."""
    block_files.refresh(registry, KERNEL_SPACE)
    expected = [ids for ids, _ in answers(registry)[: len(SEEDS)]]
    monkeypatch.setattr(neighbours, "CANDIDATES", 3)
    monkeypatch.setattr(Registry, "is_exact", lambda *_: False)
    ranker = Ranker(registry, registry.space("dds"), Ranking())
    for model_id, ids in zip(registry.model_ids(KERNELS.space_id), expected, strict=True):
        assert ranker.rank(Target("m", model_id), 5).model_ids == ids
    assert np.array(expected).shape == (len(SEEDS), 6)
