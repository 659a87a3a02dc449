"""Large spaces: lists that propose candidates, files that are mapped, models that are appended, merged and removed."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from modelspace.spaces import index, index_kinds
from modelspace.spaces.index_kinds import Lists, Recall, Rows, Truth

SPACE, REGISTRY = "0123456789abcdef", "00000000-0000-0000-0000-000000000001"
N, D = 1500, 24


def families(n: int, seed: int = 0) -> np.ndarray:
    """Unit vectors in families of ten."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.normal(size=(-(-n // 10), D)), 10, axis=0)[:n] + 0.3 * rng.normal(size=(n, D))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


VECTORS = families(2 * N)


class Space:
    """Stands for the registry: its models by position, and how often all of them were fetched."""

    def __init__(self, n: int = N) -> None:
        self.ids, self.positions, self.rows = np.arange(n) * 3 + 7, np.arange(n), np.arange(n)
        self.generation, self.epoch, self.fetched, self.read, self.listed = 1, 1, 0, 0, 0
        self.built: list[int] = []

    def fetch(self) -> tuple[np.ndarray, np.ndarray]:
        self.fetched += 1
        return self.ids, VECTORS[self.rows]

    def after(self, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        new = self.positions > position
        self.read += int(new.sum())
        return self.ids[new], self.positions[new], VECTORS[self.rows[new]]

    def add(self, count: int) -> None:
        last = int(self.rows[-1]) + 1
        self.ids = np.append(self.ids, np.arange(last, last + count) * 3 + 7)
        self.positions = np.append(self.positions, np.arange(count) + self.positions[-1] + 1)
        self.rows = np.append(self.rows, np.arange(last, last + count))
        self.generation += 1

    def remove(self, *places: int) -> None:
        for name in ("ids", "positions", "rows"):
            setattr(self, name, np.delete(getattr(self, name), places))
        self.generation += 1

    def every(self) -> tuple[np.ndarray, np.ndarray]:
        self.listed += 1
        return self.ids, self.positions

    def load(self, folder: Path, *, write: bool = True, removed: Collection[int] = ()) -> index.SpaceIndex:
        return index.load(
            folder,
            SPACE,
            registry_id=REGISTRY,
            generation=self.generation,
            fetch=self.fetch,
            growth=index.Growth(self.epoch, len(self.ids), self.after, self.every, removed),
            write=write,
            built=lambda base: self.built.append(len(base.ids)),
        )

    def agrees(self, loaded: index.SpaceIndex, least: float = 0.9) -> None:
        """The index has these models and no others, with their vectors, and finds their neighbours."""
        assert loaded.count == len(self.ids)
        assert loaded.ids.tolist() == self.ids.tolist()
        np.testing.assert_array_equal(loaded.vectors(self.ids), VECTORS[self.rows])
        asked = np.append(self.rows[::97], self.rows[-3:])
        scores, ids = loaded.search(VECTORS[asked], 5)
        exact = -np.sort(-(VECTORS[asked] @ VECTORS[self.rows].T), axis=1)[:, :5]
        assert np.isin(ids, self.ids).all()
        np.testing.assert_allclose(scores[:, 0], 1, atol=1e-5)  # each finds itself
        assert (scores >= exact - 1e-5).mean() >= least
        everything = loaded.search(VECTORS[asked[:1]], 10**6)[1][0]
        assert sorted(everything.tolist()) == sorted(self.ids.tolist())


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits at which the spaces of this file are large."""
    monkeypatch.setattr(index_kinds, "ROWS_BYTES", 1000)
    monkeypatch.setattr(index_kinds, "FEW", 20)
    monkeypatch.setattr(index_kinds, "QUERIES", 50)
    monkeypatch.setattr(index, "READ_BYTES", 1000)
    monkeypatch.setattr(index, "REWRITTEN_BYTES", 1000)
    monkeypatch.setattr(index, "LEAST_MERGED", 8)
    monkeypatch.setattr(index, "_TICK", 0.002)


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / f"{SPACE}.json").read_text())


def test_models_are_appended_merged_and_left_out_without_reading_the_others(tmp_path: Path) -> None:
    space = Space()
    space.agrees(space.load(tmp_path))
    base = (tmp_path / f"{SPACE}.faiss").read_bytes()
    assert manifest_of(tmp_path)["kind"] == "lists of 8 bits"
    for count in (1, 4, 3):  # up to the limit
        space.add(count)
        space.agrees(space.load(tmp_path))
    space.remove(3, 700, len(space.ids) - 2)  # two of the file, one of those that were appended
    space.agrees(space.load(tmp_path))
    space.agrees(space.load(tmp_path))  # from the files alone
    manifest = manifest_of(tmp_path)
    assert ([part[0] for part in manifest["added"]], len(manifest["removed"])) == ([1, 4, 3], 3)
    assert (tmp_path / f"{SPACE}.faiss").read_bytes() == base
    assert (space.fetched, space.read, space.built) == (1, 8, [N])
    space.add(20)  # more than the limit
    merged = space.load(tmp_path)
    space.agrees(merged)
    assert (len(merged.base.ids), manifest_of(tmp_path)["added"]) == (N + 28, [])
    assert not (tmp_path / f"{SPACE}.added").exists()
    space.agrees(space.load(tmp_path))
    assert (space.fetched, space.read, space.built) == (1, 28, [N, N + 28])


@pytest.mark.parametrize("mapped", [True, False])
def test_a_removal_that_is_told_needs_no_list_of_all_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool
) -> None:
    monkeypatch.setattr(index, "READ_BYTES", 1000 if mapped else 20 << 20)
    space = Space(300)
    space.load(tmp_path)
    space.add(3)
    space.load(tmp_path)
    listed = space.listed
    for place in (0, 150, len(space.ids) - 4):  # of the file, and of those that were appended
        gone = int(space.ids[place])
        space.remove(place)
        space.agrees(space.load(tmp_path, removed=[gone, 10**9]), 0.8)  # and one that was not in the index
    assert (space.fetched, space.listed) == (1, listed)
    first, second = int(space.ids[5]), int(space.ids[9])
    space.remove(5, 9)  # somebody else removed the second
    space.agrees(space.load(tmp_path, removed=[first]), 0.8)
    assert {first, second} <= set(manifest_of(tmp_path)["removed"])
    assert (space.fetched, space.listed) == (1, listed + 1)


@pytest.mark.first(2)
@pytest.mark.parametrize("change", ["epoch", "growth", "removal", "again"])
def test_what_can_not_be_brought_up_to_date_is_built_again(tmp_path: Path, change: str) -> None:
    space = Space(300)
    space.load(tmp_path)
    if change == "epoch":
        space.rows, space.epoch, space.generation = space.rows[::-1].copy(), 2, 2
    elif change == "growth":
        space.add(200)
    elif change == "removal":
        space.remove(*range(0, 60, 2))
    else:  # a model that was removed and added once more, at another position
        space.ids, space.positions = np.roll(space.ids, -1), np.append(space.positions[1:], 300)
        space.rows, space.generation = np.roll(space.rows, -1), 2
    space.agrees(space.load(tmp_path), 0.8)
    assert space.fetched == 2


@pytest.mark.first(1)
@pytest.mark.parametrize("suffix", [".faiss", ".added", ".json"])
def test_damage_of_a_mapped_file_is_found(tmp_path: Path, suffix: str) -> None:
    space = Space(300)
    space.load(tmp_path)
    space.add(2)
    space.load(tmp_path)
    file = tmp_path / f"{SPACE}{suffix}"
    for part in (0.0, 0.5, 0.999):
        content = bytearray(file.read_bytes())
        content[int(part * len(content))] ^= 4
        file.write_bytes(content)
        fetched = space.fetched
        space.agrees(space.load(tmp_path), 0.8)
        assert space.fetched == fetched + 1
        space.add(1)
        space.load(tmp_path)
    os.truncate(file, file.stat().st_size - 9)
    space.agrees(space.load(tmp_path), 0.8)


def test_a_mapped_file_is_compared_again_only_if_it_may_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, read = Space(300), []
    space.load(tmp_path)
    compare = index._sha256_of
    monkeypatch.setattr(index, "_sha256_of", lambda file: read.append(file) or compare(file))
    space.load(tmp_path)
    assert read == []
    file = tmp_path / f"{SPACE}.faiss"
    file.write_bytes(file.read_bytes())  # as a copy of the folder has it: the same bytes at another time
    monkeypatch.setattr(index, "_TICK", 0.0)
    space.load(tmp_path)
    space.load(tmp_path)
    assert (len(read), space.fetched) == (1, 1)
    assert index.status(tmp_path, SPACE, REGISTRY, 1, deep=False).state == "fresh"
    assert index.status(tmp_path, SPACE, REGISTRY, 1).state == "fresh"
    assert len(read) == 2


def test_an_append_that_was_cut_off_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Space(300)
    space.load(tmp_path)
    space.add(2)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        space.load(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / f"{SPACE}.added").exists()
    assert manifest_of(tmp_path)["added"] == []
    monkeypatch.setattr(index, "READ_BYTES", 1000)
    monkeypatch.setattr(index, "REWRITTEN_BYTES", 1000)
    space.agrees(space.load(tmp_path), 0.8)
    space.agrees(space.load(tmp_path), 0.8)
    assert space.fetched == 1


def test_a_search_among_some_models(tmp_path: Path) -> None:
    space = Space()
    loaded = space.load(tmp_path)
    space.add(3)
    space.remove(5)
    loaded = space.load(tmp_path)
    rng = np.random.default_rng(3)
    for count in (1, 15, 200, 1000):  # compared one by one, and by lists
        kept = np.append(rng.permutation(space.ids)[:count], [2, 7 + 3 * 5])  # and two that are not there
        present = np.flatnonzero(np.isin(space.ids, kept))
        query = VECTORS[[77]]
        scores, ids = loaded.search(query, 8, set(kept.tolist()))
        assert ids.shape == (1, min(8, len(present)))
        assert np.isin(ids, space.ids[present]).all()
        exact = -np.sort(-(query @ VECTORS[space.rows[present]].T), axis=1)[:, : ids.shape[1]]
        assert (scores >= exact - 1e-5).mean() >= (1.0 if count <= 15 else 0.85)
    assert loaded.search(VECTORS[:1], 3, [])[1].shape == (1, 0)


def test_recall_is_measured_and_a_kind_that_lacks_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, vectors = np.arange(N) + 5, VECTORS[:N]
    truth = Truth(ids, vectors)
    assert truth.recall(Rows(ids, vectors)) == Recall(1.0, 1.0)
    assert truth.recall(Rows(ids, np.roll(vectors, 700, axis=0))).plain < 0.2
    built = index_kinds.build(ids, vectors)
    assert isinstance(built, Lists)
    assert built.recall == truth.recall(built)
    assert built.recall.least >= index_kinds.LEAST_RECALL
    exact = vectors @ vectors.T
    np.fill_diagonal(exact, -1)
    tenth = np.sort(exact, axis=1)[:, -10]
    found = [(built.search(vectors[[i]], 11)[0][0] >= tenth[i] - 1e-6).sum() - 1 for i in range(0, N, 7)]
    assert np.mean(found) / 10 == pytest.approx(built.recall.plain, abs=0.03)
    refused = []

    def poor(self: Lists, _: Truth) -> Lists:
        refused.append(self.kind)
        self.recall = Recall(0.99, 0.94)
        return self

    monkeypatch.setattr(Lists, "with_recall", poor)
    assert index_kinds.build(ids, vectors).kind == "rows"
    assert refused == ["lists of 8 bits", "lists of 16 bits"]
