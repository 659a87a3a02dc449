"""Signatures of architectures: equal for equal tensors, near for similar ones, and independent of the classes."""

from __future__ import annotations

import math
import random

import pytest

from modelspace.sources import signatures
from modelspace.sources.signatures import Architecture, digest, matching, similarity, sketch


def net(width: int = 8, layers: int = 40, classes: int = 10) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(layers):
        shapes[f"blocks.{k}.conv.weight"] = (width, width, 3, 3)
        shapes[f"blocks.{k}.bn.weight"] = (width,)
        shapes[f"blocks.{k}.bn.num_batches_tracked"] = ()
    return {**shapes, "fc.weight": (classes, width), "fc.bias": (classes,)}


def architecture(name: str, shapes: dict[str, tuple[int, ...]]) -> Architecture:
    own = signatures.counted(shapes)
    head = ("fc.weight", "fc.bias")
    body = {key: shape for key, shape in own.items() if key not in head}
    total = sum(math.prod(shape) for shape in own.values())
    return Architecture((name,), head, own["fc.bias"][0], digest(body), frozenset(sketch(body)), len(own), total)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (architecture("a:small", net()), architecture("a:deep", net(layers=44)), architecture("a:wide", net(16)))
    monkeypatch.setattr(signatures, "architectures", lambda: table)


def test_the_classes_of_the_head_don_t_matter_and_are_named() -> None:
    (match,) = matching(net(classes=3))
    assert (match.architecture.names, match.classes, match.is_exact) == (("a:small",), 3, True)


def test_counters_may_be_missing() -> None:
    old = {name: shape for name, shape in net().items() if "tracked" not in name}
    assert matching(old)[0].is_exact


def test_a_file_without_a_head_is_an_exact_match_that_says_so() -> None:
    (match,) = matching({name: shape for name, shape in net().items() if not name.startswith("fc")})
    assert match.is_exact
    assert match.is_headless


def test_a_part_of_a_head_is_no_match() -> None:
    matches = matching({name: shape for name, shape in net().items() if name != "fc.bias"})
    assert not any(match.is_exact for match in matches)


def test_a_head_of_two_sizes_is_none() -> None:
    assert not any(match.is_exact for match in matching({**net(), "fc.bias": (3,)}))


def test_a_similar_net_has_the_nearest_first_and_is_never_called_equal() -> None:
    matches = matching(net(layers=43))
    assert matches[0].architecture.names == ("a:deep",)
    assert all(match.share < 1 for match in matches)
    one_more = matching({**net(), "extra": (1,)})
    assert one_more[0].architecture.names == ("a:small",)
    assert not one_more[0].is_exact


def test_unknown_tensors_match_nothing() -> None:
    assert matching({"x": (1, 2), "y": (3,)}) == []
    assert matching({}) == []


def test_a_swapped_shape_is_another_network() -> None:
    changed = net() | {"blocks.3.conv.weight": (8, 8, 1, 1)}
    assert not matching(changed)[0].is_exact


def test_similarity_estimates_the_share_of_equal_tensors() -> None:
    rng = random.Random(0)
    errors = []
    for _ in range(60):
        names = [f"n{rng.random()}" for _ in range(300)]
        cut = rng.randrange(300)
        a = dict.fromkeys(names[:200], (1,))
        b = dict.fromkeys(names[min(cut, 199) :], (1,))
        truth = len(a.keys() & b.keys()) / len(a.keys() | b.keys())
        errors.append(similarity(sketch(a), sketch(b)) - truth)
    # Of `SKETCH` draws, a share has a standard deviation of at most 1 / (2 sqrt(SKETCH)).
    assert abs(sum(errors) / len(errors)) < 0.06
    assert max(map(abs, errors)) < 4 / (2 * math.sqrt(signatures.SKETCH))
