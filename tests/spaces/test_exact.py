"""Exact search without FAISS: the same file, the same models."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from modelspace.spaces.exact import ExactRows

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(60, 7)).astype(np.float32)
IDS = RNG.permutation(1000)[:60].astype(np.int64)


def of_faiss(ids: np.ndarray, vectors: np.ndarray) -> tuple[faiss.IndexIDMap2, bytes]:
    inner = faiss.index_factory(vectors.shape[1], "Flat", faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap2(inner)
    index.add_with_ids(vectors, ids)
    inner.this.disown()  # the id map owns it
    index.own_fields = True
    return index, faiss.serialize_index(index).tobytes()


def test_the_file_is_that_of_faiss() -> None:
    index, data = of_faiss(IDS, VECTORS)
    assert ExactRows(IDS, VECTORS).to_bytes() == data
    rows = ExactRows.from_bytes(data)
    assert rows is not None
    np.testing.assert_array_equal(rows.ids, IDS)
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    np.testing.assert_array_equal(rows.reconstruct(int(IDS[5])), index.reconstruct(int(IDS[5])))


@pytest.mark.parametrize("k", [1, 3, 14, 15, 60])
def test_the_models_are_those_of_faiss(k: int) -> None:
    queries = RNG.normal(size=(5, 7)).astype(np.float32)
    scores, ids = ExactRows(IDS, VECTORS).search(queries, k)
    expected_scores, expected_ids = of_faiss(IDS, VECTORS)[0].search(queries, k)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)
    np.testing.assert_array_equal(ids, expected_ids)


@pytest.mark.parametrize("k", [2, 30])
def test_equal_scores_are_in_order_of_position(k: int) -> None:
    vectors = np.ones((40, 2), np.float32)
    vectors[20] = 2.0
    ids = ExactRows(np.arange(40)[::-1], vectors).search(np.ones((1, 2), np.float32), k)[1]
    assert ids[0].tolist() == [19, *(i for i in range(39, -1, -1) if i != 19)][:k]


def test_any_other_file_is_left_to_faiss() -> None:
    data = ExactRows(IDS, VECTORS).to_bytes()
    assert ExactRows.from_bytes(data) is not None
    for cut in (0, 20, 80, 90, len(data) - 1):
        assert ExactRows.from_bytes(data[:cut]) is None
    assert ExactRows.from_bytes(data + b"\0") is None
    quantised = faiss.index_factory(7, "SQ8", faiss.METRIC_INNER_PRODUCT)
    quantised.train(VECTORS)
    assert ExactRows.from_bytes(faiss.serialize_index(quantised).tobytes()) is None
    # Every byte before the vectors, and those that count the ids, are checked.
    for place in [*range(82), *range(len(data) - 8 * 61, len(data) - 8 * 60)]:
        changed = bytearray(data)
        changed[place] ^= 0xFF
        assert ExactRows.from_bytes(bytes(changed)) is None, place
