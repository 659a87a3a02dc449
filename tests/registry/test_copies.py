"""What copies of vectors are compared with: checksums that change with a vector, and the labels of models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_spaces import KERNELS, MAPS, add, create

from modelspace.errors import DamagedError, NotFoundError
from modelspace.registry import Registry
from modelspace.registry.copies import labels, sums, vector_of


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with create(tmp_path / "registry.duckdb", MAPS, KERNELS) as registry:
        for seed in range(3):
            add(registry, seed, MAPS, KERNELS)
        yield registry


def test_checksums_are_of_the_vector_the_model_and_the_space(registry: Registry) -> None:
    before, other = sums(registry, MAPS.space_id), sums(registry, KERNELS.space_id)
    assert before.ids.tolist() == [1, 2, 3]
    assert before.positions.tolist() == [0, 1, 2]
    assert len({*before.sums.tolist(), *other.sums.tolist()}) == 6
    add(registry, 3, MAPS)
    assert sums(registry, MAPS.space_id).sums.tolist()[:3] == before.sums.tolist()


def test_vectors_without_checksums_get_one_that_does_not_depend_on_later_models(registry: Registry) -> None:
    registry.execute("UPDATE main.embeddings SET vector_checksum = NULL")
    before = sums(registry, MAPS.space_id)
    assert (before.sums > 0).all()
    add(registry, 3, MAPS)
    registry.execute("UPDATE main.embeddings SET vector_checksum = NULL")
    assert sums(registry, MAPS.space_id).sums.tolist()[:3] == before.sums.tolist()
    registry.execute("UPDATE main.embeddings SET vector = list_transform(vector, lambda x: -x) WHERE model_id = 2")
    assert sums(registry, MAPS.space_id).sums.tolist()[0] == before.sums.tolist()[0]
    assert sums(registry, MAPS.space_id).sums.tolist()[1] != before.sums.tolist()[1]


def test_a_vector_is_that_of_the_matrix_and_a_changed_one_is_an_error(registry: Registry) -> None:
    ids, matrix = registry.vectors(MAPS.space_id)
    for model_id, row in zip(ids.tolist(), matrix, strict=True):
        vector = vector_of(registry, MAPS.space_id, model_id)
        np.testing.assert_array_equal(vector, row[: len(vector)])
        assert not row[len(vector) :].any()
    with pytest.raises(NotFoundError, match="model 9 is not in the space"):
        vector_of(registry, MAPS.space_id, 9)
    registry.execute("UPDATE main.embeddings SET vector = list_transform(vector, lambda x: -x) WHERE model_id = 2")
    with pytest.raises(DamagedError, match="the vector of model 2 is not what was stored"):
        vector_of(registry, MAPS.space_id, 2)


def test_labels(registry: Registry) -> None:
    assert labels(registry, []) == {}
    (label,) = labels(registry, [2]).values()
    assert (label["name"], label["data"], label["architecture"]) == ("m1", "data of m1", "net 1")
    assert isinstance(label["tags"], dict)
