"""Rendered images kept between runs."""

from pathlib import Path

import numpy as np
import pytest

from modelspace.probes import cache

SHAPE = (4, 4, 3)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path / "cache"))
    return []


def take(first: int, count: int, asked: list[tuple[int, int]]) -> np.ndarray:
    def render(start: int, number: int) -> np.ndarray:
        asked.append((start, number))
        return np.stack([np.full(SHAPE, start + k, dtype=np.uint8) for k in range(number)])

    return cache.images("set", first, count, SHAPE, render)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (0, 16), (15, 2), (3, 40), (31, 1), (32, 16)])
def test_every_range_is_what_was_rendered(first: int, count: int, asked: list[tuple[int, int]]) -> None:
    for _ in range(2):
        got = take(first, count, asked)
        assert got[:, 0, 0, 0].tolist() == list(range(first, first + count))
    assert len(asked) == len(set(asked))


def test_a_damaged_file_is_rendered_again(asked: list[tuple[int, int]], tmp_path: Path) -> None:
    take(0, 4, asked)
    (file,) = (tmp_path / "cache").iterdir()
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    file.write_bytes(bytes(damaged))
    assert take(0, 4, asked)[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert asked == [(0, 16), (0, 16)]
    file.write_bytes(b"")
    take(0, 4, asked)
    assert len(asked) == 3


def test_a_folder_that_cannot_be_written_is_no_error(
    asked: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path / "file" / "below"))
    take(0, 4, asked)
    take(0, 4, asked)
    assert len(asked) == 2


def test_nothing_is_kept_where_the_variable_is_empty(
    asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSPACE_CACHE", "")
    assert take(5, 2, asked)[:, 0, 0, 0].tolist() == [5, 6]
    assert asked == [(5, 2)]
