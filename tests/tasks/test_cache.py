"""The cache of features: kept under model and image, damaged files are no loss, and it can be forgotten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelspace.tasks.cache import FeatureCache, forget


def table(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


def test_what_was_put_is_there_for_the_next_process(tmp_path: Path) -> None:
    first = FeatureCache("data", "model", tmp_path)
    assert first.missing(["a", "b"]) == [0, 1]
    first.put(["a", "b"], table(2))
    first.put(["c"], table(1, 1))
    second = FeatureCache("data", "model", tmp_path)
    assert second.missing(["c", "x", "a"]) == [1]
    assert np.array_equal(second.get(["c", "a", "b"]), np.vstack([table(1, 1), table(2)]))
    with pytest.raises(KeyError):
        second.get(["x"])


def test_models_and_data_sets_do_not_mix(tmp_path: Path) -> None:
    FeatureCache("data", "model", tmp_path).put(["a"], table(1))
    assert FeatureCache("data", "other", tmp_path).missing(["a"]) == [0]
    assert FeatureCache("more", "model", tmp_path).missing(["a"]) == [0]


@pytest.mark.parametrize("damage", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: bytes) -> None:
    cache = FeatureCache("data", "model", tmp_path)
    cache.put(["a"], table(1))
    cache.put(["b"], table(1, 1))
    next(path for path in sorted(tmp_path.rglob("*.npz"))).write_bytes(damage)
    assert len(FeatureCache("data", "model", tmp_path).missing(["a", "b"])) == 1


def test_tables_that_are_not_features_are_left_out(tmp_path: Path) -> None:
    FeatureCache("data", "model", tmp_path).put(["a"], np.array([[np.nan, 1.0, 2.0]], dtype=np.float32))
    assert FeatureCache("data", "model", tmp_path).missing(["a"]) == [0]


def test_a_folder_that_can_not_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = FeatureCache("data", "model", tmp_path / "file")
    cache.put(["a"], table(1))
    assert cache.missing(["a"]) == []


def test_no_cache_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSPACE_CACHE", "")
    cache = FeatureCache("data", "model")
    cache.put(["a"], table(1))
    assert np.array_equal(cache.get(["a"]), table(1))
    assert FeatureCache("data", "model").missing(["a"]) == [0]
    assert forget("data") == 0


def test_a_data_set_is_forgotten_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path))
    for data in ("data", "other"):
        for model in ("m", "n"):
            FeatureCache(data, model).put(["a"], table(1))
    assert forget("data") == 2
    assert FeatureCache("data", "m").missing(["a"]) == [0]
    assert FeatureCache("other", "m").missing(["a"]) == []
    assert forget("data") == 0 == forget("")
