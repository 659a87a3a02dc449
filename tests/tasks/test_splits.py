"""Splits depend on seed and content alone, and every beginning of the training images is balanced."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.errors import UsageError
from modelspace.tasks.data import LabelledImages
from modelspace.tasks.splits import PER_CLASS, spending_order, split


def images(counts: list[int], kind: str = "classification") -> LabelledImages:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    hashes = tuple(hashlib.sha256(f"{label} {k}".encode()).hexdigest() for k, label in enumerate(labels))
    files = tuple(Path(f"{k}.png") for k in range(len(labels)))
    classes = tuple(f"c{label}" for label in range(len(counts))) if kind == "classification" else ()
    return LabelledImages("data", kind, files, tuple(labels), classes, hashes)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=2, max_size=12), st.integers(0, 3), st.integers(6, 80))
def test_parts_are_disjoint_complete_and_hold_every_class(counts: list[int], seed: int, first: int) -> None:
    data = images(counts)
    parts = split(data, seed, first)
    assert sorted((*parts.train, *parts.test)) == list(range(len(data)))
    for part in (parts.train, parts.test):
        assert {data.labels[number] for number in part} == set(range(len(counts)))
    held_out = Counter(data.labels[number] for number in parts.test)
    assert all(held_out[label] == max(1, min(round(0.2 * n), n - 1)) for label, n in enumerate(counts))


def test_file_names_and_their_order_do_not_matter() -> None:
    data = images([20, 30])
    order = list(range(50))[::-1]
    moved = replace(
        data,
        files=tuple(Path(f"other/{k}") for k in order),
        labels=tuple(data.labels[k] for k in order),
        hashes=tuple(data.hashes[k] for k in order),
    )
    first, second = split(data, 0), split(moved, 0)
    assert [data.hashes[k] for k in first.train] == [moved.hashes[k] for k in second.train]
    assert [data.hashes[k] for k in first.test] == [moved.hashes[k] for k in second.test]


def test_seeds_differ() -> None:
    data = images([20, 30])
    assert split(data, 0).test != split(data, 1).test


def test_an_added_image_moves_no_image_of_another_class() -> None:
    before, after = images([20, 30]), images([20, 31])
    held_out = {before.hashes[k] for k in split(before, 0).test if before.labels[k] == 0}
    assert held_out == {after.hashes[k] for k in split(after, 0).test if after.labels[k] == 0}


def test_beginnings_are_balanced_over_few_classes() -> None:
    data = images([100, 100, 40])
    train = split(data, 0).train
    for size in (6, 30, 60, 90):
        counts = Counter(data.labels[k] for k in train[:size])
        assert max(counts.values()) - min(counts.values()) <= 1


def test_with_many_classes_the_first_images_show_some_of_them_well() -> None:
    data = images([10] * 100)
    counts = Counter(data.labels[k] for k in split(data, 0, first=60).train[:60])
    assert len(counts) == 60 // PER_CLASS
    assert set(counts.values()) == {PER_CLASS}
    assert len({data.labels[k] for k in split(data, 0, first=60).train}) == 100


def test_regression_is_one_class_in_random_order() -> None:
    data = replace(images([50]), kind="regression", classes=(), labels=tuple(float(k) for k in range(50)))
    parts = split(data, 0)
    assert len(parts.test) == 10
    assert list(parts.train) != sorted(parts.train)
    assert list(parts.test) != sorted(parts.test)


def test_the_order_spends_every_image_once() -> None:
    members = [[1, 2, 3, 4, 5], [6], [7, 8], [9, 10, 11, 12]]
    assert sorted(spending_order(members, 6)) == list(range(1, 13))


def test_too_few_images() -> None:
    with pytest.raises(UsageError, match="at least four"):
        split(images([1, 2]), 0)
