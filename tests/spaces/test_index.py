"""The index agrees with exact inner products, and a file that is stale or damaged is never used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shelf
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.errors import DamagedError, NotFoundError, UsageError
from modelspace.registry import Registry
from modelspace.spaces import index, index_kinds

SPACE, REGISTRY = "0123456789abcdef", "00000000-0000-0000-0000-000000000001"


def vectors(n: int, d: int = 16, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Source:
    """Stands for the registry; counts how often the index had to be built."""

    def __init__(self, n: int, d: int = 16, seed: int = 0) -> None:
        self.matrix = vectors(n, d, seed)
        self.ids = np.random.default_rng(seed).permutation(10 * n + 1)[:n].astype(np.int64)
        self.fetched = 0

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        self.fetched += 1
        return self.ids, self.matrix

    def load(self, folder: Path, generation: int = 1, **options) -> index.SpaceIndex:  # type: ignore[no-untyped-def]
        defaults = {"registry_id": REGISTRY, "fetch": self}
        return index.load(folder, SPACE, **{**defaults, **options, "generation": generation})


def slow_search(ids: np.ndarray, matrix: np.ndarray, query: np.ndarray, k: int) -> tuple[list[float], list[int]]:
    """The definition, in float64."""
    scores = [float(np.dot(row.astype(np.float64), query.astype(np.float64))) for row in matrix]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[:k]
    return [scores[i] for i in order], [int(ids[i]) for i in order]


def agrees(loaded: index.SpaceIndex, source: Source, k: int = 5) -> None:
    queries = vectors(4, source.matrix.shape[1], seed=99)
    scores, ids = loaded.search(queries, k)
    assert (scores.dtype, ids.dtype) == (np.float32, np.int64)
    for query, row_scores, row_ids in zip(queries, scores, ids, strict=True):
        expected_scores, expected_ids = slow_search(source.ids, source.matrix, query, k)
        np.testing.assert_allclose(row_scores, expected_scores, atol=1e-6)
        assert row_ids.tolist() == expected_ids


@pytest.mark.parametrize("n", [1, 2, 50])
def test_search_is_exact(tmp_path: Path, n: int) -> None:
    source = Source(n)
    for _ in range(2):  # built, then loaded
        loaded = source.load(tmp_path)
        assert loaded.exact
        assert loaded.dimension == 16
        np.testing.assert_array_equal(loaded.ids, source.ids)
        for k in (1, n, n + 7):
            agrees(loaded, source, k)
        scores, ids = loaded.search(source.matrix, 10 * n)
        assert scores.shape == ids.shape == (n, n)  # and no -1 where FAISS would pad
        assert sorted(ids[0]) == sorted(source.ids)
        for model_id, row in zip(source.ids, source.matrix, strict=True):
            np.testing.assert_array_equal(loaded.vector(int(model_id)), row)
    assert source.fetched == 1


def test_queries_of_another_length_are_padded_or_cut(tmp_path: Path) -> None:
    source = Source(20)
    loaded = source.load(tmp_path)
    short = vectors(1, 9)
    padded = np.concatenate([short, np.zeros((1, 7), np.float32)], axis=1)
    longer = np.concatenate([padded, np.ones((1, 3), np.float32)], axis=1)
    expected = loaded.search(padded, 5)
    for query in (short, longer, short.astype(np.float64), np.asfortranarray(padded)):
        np.testing.assert_array_equal(loaded.search(query, 5)[1], expected[1])
        np.testing.assert_allclose(loaded.search(query, 5)[0], expected[0], atol=1e-6)


def test_wrong_queries_are_refused(tmp_path: Path) -> None:
    loaded = Source(5).load(tmp_path)
    for queries in (vectors(2)[0], np.full((1, 16), np.nan, np.float32), np.full((1, 16), np.inf)):
        with pytest.raises(UsageError):
            loaded.search(queries, 1)
    with pytest.raises(UsageError, match="at least 1"):
        loaded.search(vectors(1), 0)
    with pytest.raises(NotFoundError):
        loaded.vector(10**6)
    assert loaded.search(np.zeros((0, 16)), 3)[0].shape == (0, 3)


def test_an_empty_space(tmp_path: Path) -> None:
    source = Source(0)
    for _ in range(2):
        loaded = source.load(tmp_path)
        assert (len(loaded.ids), loaded.dimension) == (0, 0)
        scores, ids = loaded.search(vectors(2), 4)
        assert scores.shape == ids.shape == (2, 0)
    assert source.fetched == 1
    assert index.status(tmp_path, SPACE, REGISTRY, 1) == ("fresh", "")


def test_invalid_vectors_from_the_registry_are_refused(tmp_path: Path) -> None:
    """FAISS accepts a duplicate id and NaN silently."""
    rows = vectors(3)
    broken = rows.copy()
    broken[1, 2] = np.nan
    for ids, matrix in (([1, 2, 1], rows), ([1, 2], rows), ([1, 2, 3], broken), ([1, 2, 3], rows[0])):
        with pytest.raises(DamagedError):
            Source(3).load(tmp_path, fetch=lambda ids=ids, matrix=matrix: (np.array(ids), matrix))
    assert list(tmp_path.iterdir()) == []


def test_the_files_depend_only_on_the_vectors(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Source(300, 32).load(tmp_path / name)
    for suffix in ("faiss", "json"):
        first, second = ((tmp_path / name / f"{SPACE}.{suffix}").read_bytes() for name in ("one", "two"))
        assert first == second
    manifest = json.loads((tmp_path / "one" / f"{SPACE}.json").read_text())
    assert set(manifest) == {
        *("format", "space_id", "registry_id", "generation", "count", "dimension", "kind", "bytes", "sha256"),
        *("epoch", "last", "recall", "recall_filtered", "identity", "added", "removed", "checksum"),
    }


def test_a_stale_file_is_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(10)
    source.load(tmp_path)
    assert index.status(tmp_path, SPACE, REGISTRY, 1) == ("fresh", "")
    assert index.status(tmp_path, SPACE, REGISTRY, 2).state == "stale"
    assert index.status(tmp_path, SPACE, "another", 1).state == "stale"
    assert index.status(tmp_path, "f" * 16, REGISTRY, 1).state == "missing"
    newer = Source(12, seed=1)
    agrees(newer.load(tmp_path, generation=2), newer)
    assert newer.fetched == 1
    foreign = Source(12, seed=2)
    agrees(foreign.load(tmp_path, generation=2, registry_id="another"), foreign)
    assert foreign.fetched == 1
    monkeypatch.setattr(index, "FORMAT", index.FORMAT + 1)
    foreign.load(tmp_path, generation=2, registry_id="another")
    assert foreign.fetched == 2


def test_the_file_of_another_space_is_not_used_under_this_name(tmp_path: Path) -> None:
    source, other = Source(10), Source(10, seed=5)
    index.load(tmp_path, "f" * 16, registry_id=REGISTRY, generation=1, fetch=other)
    for suffix in ("faiss", "json"):
        os.rename(tmp_path / f"{'f' * 16}.{suffix}", tmp_path / f"{SPACE}.{suffix}")
    agrees(source.load(tmp_path), source)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_changed_byte_is_detected(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """FAISS loads a damaged file without complaint: 221 of 2,000 mutated files returned wrong results."""
    folder = tmp_path_factory.mktemp("mutated")
    source = Source(20, 8)
    source.load(folder)
    file = folder / f"{SPACE}.{data.draw(st.sampled_from(['faiss', 'json']))}"
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "grow", "empty"])):
        case "flip":
            content[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del content[at:]
        case "grow":
            content += b"\0" * 10
        case "empty":
            content.clear()
    file.write_bytes(content)
    state = index.status(folder, SPACE, REGISTRY, 1).state
    agrees(source.load(folder), source)
    if file.suffix == ".faiss":
        assert state == "damaged"
        assert source.fetched == 2
    assert index.status(folder, SPACE, REGISTRY, 1).state == "fresh"
    agrees(source.load(folder), source)
    assert source.fetched <= 2


@pytest.mark.parametrize("change", [{"count": 21}, {"dimension": 7}, {"kind": "SQ8"}, {"bytes": 1}, {"count": 0}])
def test_a_manifest_that_contradicts_the_index_is_rejected(tmp_path: Path, change: dict) -> None:
    source = Source(20, 8)
    source.load(tmp_path)
    manifest = tmp_path / f"{SPACE}.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    agrees(source.load(tmp_path), source)
    assert source.fetched == 2


@pytest.mark.parametrize("content", [b"", b"[]", b"nonsense", b"\xff\xfe", b"null", b'{"format": 1}'])
def test_an_invalid_manifest(tmp_path: Path, content: bytes) -> None:
    source = Source(20, 8)
    source.load(tmp_path)
    (tmp_path / f"{SPACE}.json").write_bytes(content)
    agrees(source.load(tmp_path), source)
    assert source.fetched == 2


def test_an_interruption_leaves_no_partial_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(20, 8)
    source.load(tmp_path)
    replace, allowed = os.replace, []

    def stopped(*paths: object) -> None:
        if not allowed:
            raise KeyboardInterrupt
        allowed.pop()
        replace(*paths)  # type: ignore[arg-type]

    newer = Source(25, 8, seed=3)
    monkeypatch.setattr(os, "replace", stopped)
    for finished in (0, 1):  # of the two files
        allowed[:] = [None] * finished
        with pytest.raises(KeyboardInterrupt):
            newer.load(tmp_path, generation=2)
        assert sorted(file.suffix for file in tmp_path.iterdir()) == [".faiss", ".json"]
        assert index.status(tmp_path, SPACE, REGISTRY, 2).state in ("stale", "damaged")
    monkeypatch.undo()
    agrees(newer.load(tmp_path, generation=2), newer)
    agrees(newer.load(tmp_path, generation=2), newer)
    assert newer.fetched == 3


def test_a_read_only_folder_is_no_error(tmp_path: Path) -> None:
    source = Source(20, 8)
    (tmp_path / "file").write_text("")
    agrees(source.load(tmp_path / "file" / "index"), source)
    assert index.status(tmp_path / "file" / "index", SPACE, REGISTRY, 1).state == "missing"
    agrees(source.load(tmp_path / "not written", write=False), source)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_removing_keeps_the_named_spaces(tmp_path: Path) -> None:
    for space, correction in (("a" * 16, "none"), ("b" * 16, "none"), ("b" * 16, "csls")):
        index.load(tmp_path, space, registry_id=REGISTRY, generation=1, fetch=Source(30), correction=correction)
    (tmp_path / f".{'a' * 16}.faiss.{dead()}.tmp").write_text("left by a killed process")
    (tmp_path / f".{'b' * 16}.csls.json.{dead()}.tmp").write_text("left by a killed process")
    (tmp_path / "README.md").write_text("a user's file")
    assert len(list(tmp_path.iterdir())) == 9
    index.remove(tmp_path, {"a" * 16})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", f"{'a' * 16}.faiss", f"{'a' * 16}.json"]
    index.remove(tmp_path / "none", set())


def test_removing_keeps_the_files_of_others(tmp_path: Path) -> None:
    """Only a manifest of ours, and the file that it describes: not the suffix, nor even a space's id as a name."""
    index.load(tmp_path, SPACE, registry_id=REGISTRY, generation=1, fetch=Source(3))
    manifest = json.loads((tmp_path / f"{SPACE}.json").read_text())
    other = "c" * 16
    without = {key: value for key, value in manifest.items() if key != "sha256"}
    for name, content in (
        ("search.json", '{"mine": 1}'),
        ("own.faiss", "x"),
        (f"{other}.json", '{"space_id": "' + other + '"}'),  # a name like ours, another's content
        (f"{other}.faiss", "x"),
        ("d" * 16 + ".json", json.dumps(manifest)),  # a copy that describes another file
        ("d" * 16 + ".faiss", "x"),
        (f"{SPACE}.csls.json", json.dumps(without | {"correction": "csls"})),
        ("e" * 16 + ".faiss", "x"),  # without a manifest
        ("f" * 16 + ".json", "[" * 100_000),
        (f".{SPACE}.faiss.tmp", "x"),
        (f".notes.{dead()}.tmp", "x"),
        ("manifest.json", json.dumps(manifest)),
    ):
        (tmp_path / name).write_text(content)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / f"{'0' * 16}.json").symlink_to(tmp_path / f"{SPACE}.json")
    names = {file.name for file in tmp_path.iterdir()}
    index.remove(tmp_path, set())
    assert names - {file.name for file in tmp_path.iterdir()} == {f"{SPACE}.json", f"{SPACE}.faiss"}


@pytest.mark.wide
def test_many_models_are_proposed_by_eight_bit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coordinates of a triangular factor: near zero except for a few large entries, where one-bit codes fail."""
    monkeypatch.setattr(index_kinds, "ROWS_BYTES", 1000)
    rng = np.random.default_rng(0)
    source = Source(3000, 128)
    source.matrix = (0.002 * rng.normal(size=source.matrix.shape)).astype(np.float32)
    for row, family in zip(source.matrix, rng.integers(0, 40, len(source.matrix)), strict=True):
        row[family * 3 + rng.integers(0, 3, 3)] += rng.uniform(0.1, 0.5, 3)
    queries = source.matrix[:100]
    exact = [set(slow_search(source.ids, source.matrix, query, 10)[1]) for query in queries]
    contents = []
    for folder in (tmp_path / "one", tmp_path / "one", tmp_path / "two"):
        loaded = source.load(folder)
        assert not loaded.exact
        _, ids = loaded.search(queries, 10)
        _, candidates = loaded.search(queries, 80)
        assert np.mean([len(a & set(b)) / 10 for a, b in zip(exact, ids.tolist(), strict=True)]) > 0.97
        assert np.mean([len(a & set(b)) / 10 for a, b in zip(exact, candidates.tolist(), strict=True)]) > 0.999
        np.testing.assert_array_equal(loaded.vector(int(source.ids[7])), source.matrix[7])
        assert sorted(loaded.search(queries[:1], 10**6)[1][0]) == sorted(source.ids)
        contents.append((folder / f"{SPACE}.faiss").read_bytes())
    assert contents[0] == contents[2]
    codes_and_ids = source.matrix.size + 2 * 8 * len(source.ids)
    assert len(contents[0]) - source.matrix.nbytes < 1.2 * codes_and_ids + 128 * source.matrix.shape[1] * 4
    assert source.fetched == 2


@pytest.mark.wide
def test_the_index_follows_the_registry_through_add_remove_damage_and_reopening(tmp_path: Path) -> None:
    path, folder = tmp_path / "registry.duckdb", tmp_path / "index"
    shelf.make(path)
    pool = shelf.units(10)
    rng = np.random.default_rng(0)
    unit_of: dict[int, int] = {}  # model id -> index of its unit vector

    def add() -> None:
        number = next(i for i in range(len(pool)) if i not in unit_of.values())
        with Registry.open(path, write=True) as registry, registry.transaction():
            model_id = registry.add_model(shelf.card(f"m{number}"))
            unit_of[model_id] = number
            row = shelf.rows(pool[list(unit_of.values())], list(unit_of))[-1]
            registry.add_embedding(shelf.GI.space_id, row, shelf.blocks("x"))

    def remove() -> None:
        model_id = int(rng.choice(list(unit_of)))
        del unit_of[model_id]
        with Registry.open(path, write=True) as registry, registry.transaction():
            registry.remove_model(model_id)
            registry.replace_coordinates(shelf.GI.space_id, shelf.rows(pool[list(unit_of.values())], list(unit_of)))

    def damage() -> None:
        file = folder / f"{shelf.GI.space_id}.faiss"
        if file.exists() and (content := bytearray(file.read_bytes())):
            content[int(rng.integers(len(content)))] ^= 1
            file.write_bytes(content)

    def delete() -> None:
        index.remove(folder, set())

    steps: list[Callable[[], None]] = [add, add, add, remove, damage, add, delete, add, add, remove, remove, add]
    for step in [*steps, damage, *steps]:
        step()
        with Registry.open(path) as registry:
            row = registry.space()
            loaded = index.load(
                folder,
                row.spec.space_id,
                registry_id=registry.registry_id,
                generation=row.generation,
                fetch=lambda registry=registry: registry.vectors(shelf.GI.space_id),
            )
        assert loaded.ids.tolist() == list(unit_of)
        units = pool[list(unit_of.values())]
        for model_id, unit in zip(list(unit_of), units, strict=True):
            scores, ids = loaded.search(loaded.vector(model_id)[None], len(unit_of))
            expected = units @ unit
            np.testing.assert_allclose(scores[0], np.sort(expected)[::-1], atol=2e-6)
            assert ids[0].tolist() == [list(unit_of)[i] for i in np.argsort(-expected, kind="stable")]


def test_faiss_is_imported_on_use_only() -> None:
    code = (
        "import sys; from modelspace import registry; from modelspace.spaces import index\n"
        "from modelspace.registry import sql\n"
        "heavy = ('faiss', 'torch', 'pandas', 'pyarrow', 'matplotlib', 'scipy', 'difflib')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize("d", [1, 15, 16, 21, 441])
def test_lists_of_vectors_of_any_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, d: int) -> None:
    """FAISS gets vectors of a length that it is fast at; the zeros at their ends are seen nowhere else."""
    monkeypatch.setattr(index_kinds, "ROWS_BYTES", 1)
    source = Source(600, d)
    built = source.load(tmp_path)
    for loaded in (built, source.load(tmp_path)):
        lists = loaded.base
        assert isinstance(lists, index_kinds.Lists)
        assert (lists.dimension, lists.matrix.shape) == (d, (600, d))
        assert lists._index.d % 16 == 0
        assert d <= lists._index.d < d + 16
        lists.probes = lists.n_lists  # all lists are visited, so what is proposed for 200 is everything
        scores, ids = loaded.search(source.matrix[:3], 200)
        for query, row_scores, row_ids in zip(source.matrix[:3], scores, ids, strict=True):
            expected, _ = slow_search(source.ids, source.matrix, query, 200)
            np.testing.assert_allclose(row_scores, expected, atol=1e-6)
            np.testing.assert_allclose(
                row_scores, source.matrix[[list(source.ids).index(i) for i in row_ids]] @ query, atol=1e-6
            )
    assert source.fetched == 1
