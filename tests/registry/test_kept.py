"""A registry that stays open between queries: it shows the present state, and lets writers in."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import shelf

from modelspace.errors import DamagedError, NotFoundError
from modelspace.registry import Registry
from modelspace.registry import reading as reading_module
from modelspace.registry.kept import kept_open, reading


@pytest.fixture
def path(tmp_path: Path) -> Path:
    shelf.filled(tmp_path / "registry.duckdb", 4)
    return tmp_path / "registry.duckdb"


def rename(path: Path, old: str, new: str) -> float:
    """Rename a model, and return the seconds that it took."""
    started = time.monotonic()
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.rename_model(old, new)
    return time.monotonic() - started


def names(path: Path) -> list[str]:
    with reading(path) as registry:
        return registry.model_names()


def test_it_stays_open_in_the_block_and_no_longer(path: Path) -> None:
    with kept_open(path):
        with reading(path) as first:
            pass
        with kept_open(path), reading(path) as second:
            assert second is first
        with reading(path) as third:
            assert third is first
    with reading(path) as last:
        assert last is not first
    assert rename(path, "m0", "a") < 5


@pytest.mark.skipif(sys.platform == "win32", reason="only on Linux and Unix: Windows keeps no lock")
def test_writers_of_this_process_and_of_others_are_let_in(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from modelspace.registry import Registry\n"
        "registry = Registry.open(Path(sys.argv[1]), write=True, timeout=20)\n"
        "with registry, registry.transaction(): registry.rename_model('a', 'b')\n"
    )
    with kept_open(path):
        assert names(path)[0] == "m0"
        rename(path, "m0", "a")
        assert names(path)[0] == "a"
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        assert names(path)[0] == "b"


def test_threads_do_not_share_it(path: Path) -> None:
    with kept_open(path), reading(path) as mine:
        found: list[object] = []

        def read() -> None:
            with reading(path) as registry:
                found.extend([registry, registry.model_names()])

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        assert found[0] is not mine
        assert found[1] == mine.model_names()


def test_a_file_that_was_replaced_is_opened_again(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    rename(path, "m0", "later")
    with kept_open(path):
        assert names(path)[0] == "later"
        path.with_name("copy").replace(path)
        assert names(path)[0] == "m0"


def test_an_error_leaves_nothing_open(path: Path) -> None:
    with kept_open(path):
        with pytest.raises(NotFoundError), reading(path) as registry:
            registry.model("nobody")
        assert rename(path, "m0", "a") < 5
    with pytest.raises(NotFoundError), kept_open(path.with_name("none")), reading(path.with_name("none")):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="only on Linux and Unix: Windows keeps no lock")
def test_labels_that_stay_in_memory_are_those_of_the_file(path: Path) -> None:
    with Registry.open(path) as registry:
        expected = registry.labels([1, 2, 3, 4, 99])
    with kept_open(path):
        for round_ in range(3):
            for _ in range(5):  # the third look-up of a name reads all labels
                with reading(path) as registry:
                    assert registry.labels([99, 4, 1]) == {i: expected[i] for i in (4, 1)}
                    assert registry.find_label(expected[3].name) == expected[3]
                    assert registry.find_label("nobody") is None
            with mock.patch.object(registry, "rows", side_effect=AssertionError("read again")):
                assert registry.labels([1, 2, 3, 4, 99]) == expected
            rename(path, expected[3].name, f"name{round_}")
            expected[3] = replace(expected[3], name=f"name{round_}")


def test_many_models_are_read_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry.open(path) as registry:
        space_id = registry.space().spec.space_id
        expected = {i: list(registry.map_blocks(space_id, i)) for i in (1, 2, 4)}, registry.labels([1, 2, 4])
        for joined, dense, densest in ((1, 8, 0), (2, 8, 0), (2, 99, 0), (48, 8, 2), (48, 8, 99)):
            monkeypatch.setattr("modelspace.registry.reading._JOINED", joined)
            monkeypatch.setattr("modelspace.registry.reading._DENSE", dense)
            monkeypatch.setattr("modelspace.registry.reading._DENSEST", densest)
            registry.forget_blocks()
            registry.fetch_blocks(space_id, [4, 2, 1, 77])
            blocks = {i: list(registry.map_blocks(space_id, i)) for i in (1, 2, 4)}
            assert (blocks, registry.labels([4, 2, 1, 77])) == expected
            assert list(registry.map_blocks(space_id, 77)) == []


def test_what_a_query_reads_of_a_few_models(path: Path) -> None:
    with Registry.open(path) as registry:
        space_id = registry.space().spec.space_id
        cards = {row.model_id: row.card for row in registry.models()}
        labels = registry.labels([3, 99, 1])
        assert sorted(labels) == [1, 3]
        for model_id, label in labels.items():
            card = cards[model_id]
            shown = (label.name, label.task, label.data, label.architecture, label.uri)
            assert shown == (card.name, card.task, card.data, card.architecture, card.uri)
        assert registry.find_label("m2") == registry.labels([3])[3]
        assert registry.find_label("nobody") is None
        assert [row.card.name for row in registry.models_by_id([3, 1]).values()] == ["m0", "m2"]
        plain = {i: list(registry.map_blocks(space_id, i)) for i in (1, 2, 4)}
        registry.fetch_blocks(space_id, [1, 4])
        for i in (1, 2, 4):
            assert list(registry.map_blocks(space_id, i)) == plain[i]
        for first in (0, 3):
            expected = [(i, block) for i in (1, 4) for block in plain[i] if block.first_image == first]
            assert list(registry.map_blocks_at(space_id, first, [4, 1])) == expected
        registry.forget_blocks()
        assert list(registry.map_blocks_at(space_id, 0, [4, 1])) == [(i, plain[i][0]) for i in (1, 4)]
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.execute("UPDATE main.maps SET codes = repeat('x', 7)::BLOB WHERE model_id = 3 AND part = 0")
    with Registry.open(path) as registry, pytest.raises(DamagedError, match="'m2'"):
        registry.fetch_blocks(space_id, [1, 3])


@pytest.mark.parametrize("most", [1, 4])
def test_names_are_looked_up_in_memory(path: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all labels, or where they are many by the hash of a name; the same as one by one."""
    monkeypatch.setattr(reading_module, "_MOST_LABELS", most)
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.execute("UPDATE main.models SET name = ? WHERE name = 'm3'", ["not\nshown"])
    with Registry.open(path) as registry:
        stored = registry.model_names()
        expected = {name: registry.find_label(name) for name in (*stored, "m9", "")}
    assert {name for name, label in expected.items() if label is None} == {"m9", ""}
    with kept_open(path), reading(path) as registry:
        for name in (*expected, *expected):
            assert registry.find_label(name) == expected[name]
        assert (registry._hashes is not None) is (most == 1)
        assert (registry._names is not None) is (most == 4)
        if most == 1:
            # Two names with one hash are told apart.
            hashes, ids = registry._hashes
            registry._hashes = hashes.repeat(2), np.stack([ids, np.roll(ids, 1)], axis=1).ravel()
            assert [registry.find_label(name) for name in expected] == list(expected.values())
