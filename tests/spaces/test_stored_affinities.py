"""Affinities in registries of a few drawn models: added, blended, projected, removed and recomputed.

These are the quick tests of `spaces/affinity.py`, which scripts/run_mutants.py tries on its mutants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_spaces import BOTH, KERNELS, MAPS, N, add, blocks_of, create, expected, images, place, seeds_of

from modelspace.registry import Registry
from modelspace.spaces import affinity, coordinates
from modelspace.spaces.kinds import KernelSpace
from modelspace.types import SpaceSpec


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with create(tmp_path / "registry.duckdb", MAPS, KERNELS) as opened:
        yield opened


@pytest.fixture
def few_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three axes at most, in place of 4096."""
    monkeypatch.setattr(coordinates, "MAX_AXES", 3)
    defaults = (3, coordinates.TOLERANCE)
    monkeypatch.setattr(coordinates.Factor.__init__, "__defaults__", defaults)
    monkeypatch.setattr(coordinates.Factor.from_rows.__func__, "__defaults__", defaults)  # type: ignore[attr-defined]
    monkeypatch.setattr(coordinates.factorise, "__defaults__", defaults)


def check(registry: Registry, spec: SpaceSpec, seeds: list[int], lengths: list[int] | None = None) -> None:
    """The space holds these models, and its affinities, vectors and matrix are right."""
    truth = expected(spec, seeds)
    stored = registry.embeddings(spec.space_id)
    assert seeds_of(registry, [row.model_id for row in stored]) == seeds
    assert [row.position for row in stored] == list(range(len(seeds)))
    assert [len(row.affinities) for row in stored] == (lengths or list(range(len(seeds))))
    for position, row in enumerate(stored):
        np.testing.assert_allclose(row.affinities, truth[position, : len(row.affinities)], atol=1e-12)
    owners = [row.position for row in stored if row.axis is not None]
    vectors = coordinates.matrix([row.vector for row in stored])
    np.testing.assert_allclose(vectors @ vectors[owners].T, truth[:, owners], atol=1e-9)
    ids, matrix = affinity.matrix(registry, spec, {row.model_id for row in stored})
    assert ids == [row.model_id for row in stored]
    np.testing.assert_allclose(matrix, truth, atol=1e-12)


@pytest.mark.parametrize("spec", [MAPS, KERNELS], ids=["maps", "kernels"])
def test_affinities_of_added_models_are_those_of_the_definition(registry: Registry, spec: SpaceSpec) -> None:
    for seed in (3, 1, 2, 0):
        add(registry, seed, spec)
    check(registry, spec, [3, 1, 2, 0])
    assert registry.is_exact(spec.space_id, coordinates.TOLERANCE)


def test_what_each_image_contributes_to_affinities_with_stored_models(registry: Registry) -> None:
    ids = {seed: add(registry, seed, MAPS, KERNELS) for seed in (0, 1, 2)}
    for spec in (MAPS, KERNELS):
        assert affinity.stored_blocks(registry, spec, ids[1]) == {spec.space_id: blocks_of(1)[spec.space_id]}
        given = affinity.contributions(registry, spec, blocks_of(5), [ids[2], ids[0]])
        assert list(given) == [ids[2], ids[0]]
        np.testing.assert_allclose(given[ids[0]], images(spec, 5, 0), atol=1e-12)
        np.testing.assert_allclose(given[ids[2]], images(spec, 5, 2), atol=1e-12)
        pairs = affinity.contributions_of_all(registry, spec, [ids[2], ids[0]])
        np.testing.assert_allclose(pairs[:, 0, 1], images(spec, 0, 2), atol=1e-6)
    assert affinity.stored_blocks(registry, BOTH, ids[1]) == blocks_of(1)
    kernels = dict(affinity.kernels(registry, KernelSpace(KERNELS), [ids[2], ids[1]]))
    assert sorted(kernels) == [ids[1], ids[2]]
    assert np.linalg.norm(kernels[ids[1]]) == pytest.approx(np.sqrt(N))
    assert (kernels[ids[1]] * kernels[ids[2]]).sum() / N == pytest.approx(images(KERNELS, 1, 2).mean())


def test_known_affinities_are_taken_and_the_others_computed(registry: Registry) -> None:
    first, second = add(registry, 0, MAPS), add(registry, 1, MAPS)
    known = affinity.affinities(registry, MAPS, blocks_of(2))
    assert list(known) == [first, second]
    np.testing.assert_allclose(list(known.values()), expected(MAPS, [0, 1, 2])[2, :2], atol=1e-12)
    with registry.transaction():
        model_id = registry.add_model(replace(registry.models()[0].card, name="m2", weights_sha256="2"))
        affinity.append(registry, MAPS, model_id, blocks_of(2), {first: known[first] - 0.125})
    stored = registry.embeddings(MAPS.space_id)[2]
    np.testing.assert_allclose(stored.affinities, [known[first] - 0.125, known[second]], atol=1e-12)


def test_a_blend_is_filled_with_the_models_of_all_members_in_order_of_registration(registry: Registry) -> None:
    """The members hold them in another order, and other models too."""
    ids = {seed: add(registry, seed, MAPS) for seed in (4, 0, 1, 2)}
    for seed in (2, 4, 1):
        place(registry, ids[seed], seed, KERNELS)
    add(registry, 3, KERNELS)
    with registry.transaction():
        registry.add_space(BOTH, default=False)
        assert affinity.fill(registry, BOTH) == 3
    check(registry, BOTH, [4, 1, 2])
    assert registry.check() == []


def test_an_empty_blend(registry: Registry) -> None:
    with registry.transaction():
        registry.add_space(BOTH, default=False)
        assert affinity.fill(registry, BOTH) == 0
    assert affinity.matrix(registry, BOTH, {1})[0] == []


def test_a_blend_follows_its_members_when_models_are_added(registry: Registry) -> None:
    with registry.transaction():
        registry.add_space(BOTH, default=False)
    ids = [add(registry, seed, MAPS, KERNELS, BOTH) for seed in (0, 1)]
    outside = add(registry, 3, MAPS, KERNELS)
    check(registry, BOTH, [0, 1])
    known = {
        MAPS.space_id: {ids[0]: 0.2, ids[1]: 0.4, outside: 0.9},
        KERNELS.space_id: {ids[0]: 0.6, ids[1]: 0.0, outside: 0.9},
    }
    assert affinity.affinities(registry, BOTH, blocks_of(2), known) == {
        ids[0]: pytest.approx(0.5),
        ids[1]: pytest.approx(0.1),
    }
    del known[KERNELS.space_id][ids[1]]
    assert affinity.affinities(registry, BOTH, blocks_of(2), known) == {ids[0]: pytest.approx(0.5)}
    # one member is unknown, or all are: computed from the blocks
    for few in ({MAPS.space_id: known[MAPS.space_id]}, None):
        computed = affinity.affinities(registry, BOTH, blocks_of(2), few)
        assert computed == {i: pytest.approx(images(BOTH, 2, seed).mean()) for i, seed in zip(ids, (0, 1), strict=True)}
    # only blends follow from other spaces
    assert affinity.affinities(registry, MAPS, blocks_of(2), known)[ids[0]] == pytest.approx(images(MAPS, 2, 0).mean())


@pytest.mark.parametrize("spec", [MAPS, KERNELS], ids=["maps", "kernels"])
def test_a_projected_model_has_its_affinities_as_inner_products(registry: Registry, spec: SpaceSpec) -> None:
    for seed in (0, 1, 2):
        add(registry, seed, spec)
    vector = affinity.project(registry, spec, blocks_of(7))
    assert vector.shape == (3,)
    assert len(registry.models()) == 3
    vectors = coordinates.matrix([row.vector for row in registry.embeddings(spec.space_id)])
    np.testing.assert_allclose(vectors @ vector, expected(spec, [0, 1, 2, 7])[3, :3], atol=1e-12)


@pytest.mark.first(1)
@pytest.mark.parametrize("gone", [0, 1, 3])
def test_removal_closes_the_gap_in_every_space_that_holds_the_model(registry: Registry, gone: int) -> None:
    with registry.transaction():
        registry.add_space(BOTH, default=False)
    seeds = [0, 1, 2, 3]
    ids = [add(registry, seed, *((KERNELS,) if seed == gone else (MAPS, KERNELS))) for seed in seeds]
    for model_id, seed in zip(ids, seeds, strict=True):
        if seed != gone:
            place(registry, model_id, seed, BOTH)
    with registry.transaction():
        affinity.remove(registry, ids[gone])
    seeds.remove(gone)
    for spec in (MAPS, KERNELS, BOTH):
        check(registry, spec, seeds)
    assert registry.check() == []


def test_rebuilding_computes_affinities_and_vectors_from_the_maps(registry: Registry) -> None:
    for seed in (0, 1, 2, 3):
        add(registry, seed, MAPS, KERNELS)
    with registry.transaction():
        rows = registry.embeddings(MAPS.space_id)
        wrong = [replace(row, affinities=row.affinities * 0 + 0.5, vector=np.ones(1), axis=None) for row in rows]
        registry.replace_coordinates(MAPS.space_id, wrong)
    steps: list[tuple[int, int]] = []
    with registry.transaction():
        affinity.rebuild(registry, MAPS, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    check(registry, MAPS, [0, 1, 2, 3])
    with registry.transaction():
        affinity.rebuild(registry, KERNELS)
    check(registry, KERNELS, [0, 1, 2, 3])


def test_the_matrix_of_some_models(registry: Registry) -> None:
    ids = [add(registry, seed, MAPS) for seed in (0, 1, 2, 3)]
    given, matrix = affinity.matrix(registry, MAPS, {ids[3], ids[1]})
    assert given == [ids[1], ids[3]]
    np.testing.assert_allclose(matrix, expected(MAPS, [1, 3]), atol=1e-12)
    assert affinity.matrix(registry, MAPS, ())[1].shape == (0, 0)


# ---- past the largest number of axes


@pytest.mark.usefixtures("few_axes")
def test_past_the_cap_a_model_is_compared_with_the_owners_of_axes_alone(registry: Registry) -> None:
    """A copy of the second model owns no axis, so the axes run out with the fourth model."""
    for seed in (0, 1):
        add(registry, seed, MAPS)
    with registry.transaction():
        copy = registry.add_model(replace(registry.models()[0].card, name="m1 again", weights_sha256="1 again"))
        affinity.append(registry, MAPS, copy, blocks_of(1), {})
    for seed in (2, 3, 4):
        add(registry, seed, MAPS)
    stored = registry.embeddings(MAPS.space_id)
    assert [row.axis for row in stored] == [0, 1, None, 2, None, None]
    assert [len(row.affinities) for row in stored] == [0, 1, 2, 3, 4, 4]
    assert list(affinity.affinities(registry, MAPS, blocks_of(5))) == [row.model_id for row in stored[:4]]
    vector = affinity.project(registry, MAPS, blocks_of(5))
    vectors = coordinates.matrix([row.vector for row in stored])
    truth = expected(MAPS, [0, 1, 1, 2, 5])
    np.testing.assert_allclose(vectors[:4] @ vector, truth[4, :4], atol=1e-9)
    ids = [row.model_id for row in stored]
    seeds = [0, 1, 1, 2, 3, 4]
    for some in ([0, 4, 5], [4, 5], [0, 1, 2, 3, 4, 5]):
        _, matrix = affinity.matrix(registry, MAPS, {ids[i] for i in some})
        np.testing.assert_allclose(matrix, expected(MAPS, [seeds[i] for i in some]), atol=1e-12)


@pytest.mark.first(1)
@pytest.mark.usefixtures("few_axes")
@pytest.mark.parametrize(("gone", "lengths"), [(0, [0, 1, 2, 2, 2]), (3, [0, 1, 2, 3, 3]), (5, [0, 1, 2, 3, 3])])
def test_past_the_cap_removal_and_rebuilding_stay_exact(registry: Registry, gone: int, lengths: list[int]) -> None:
    """Removing the owner of an axis makes room for a later model; what it lacks is computed from the maps."""
    seeds = [0, 1, 2, 3, 4, 5]
    ids = [add(registry, seed, MAPS, KERNELS) for seed in seeds]
    check(registry, MAPS, seeds, [0, 1, 2, 3, 3, 3])
    with registry.transaction():
        affinity.remove(registry, ids[gone])
    seeds.remove(gone)
    check(registry, MAPS, seeds, lengths)
    with registry.transaction():
        affinity.rebuild(registry, MAPS)
        registry.add_space(BOTH, default=False)
        assert affinity.fill(registry, BOTH) == 5
    check(registry, MAPS, seeds, [0, 1, 2, 3, 3])
    check(registry, BOTH, seeds, [0, 1, 2, 3, 3])


# ---- names


def test_a_model_is_found_by_its_name_or_not(registry: Registry) -> None:
    model_id = add(registry, 0, MAPS)
    row = affinity.find(registry, "m0")
    assert row is not None
    assert row.model_id == model_id
    assert affinity.find(registry, "m1") is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_old_names() -> None:
    old = {"cosines": "contributions", "all_cosines": "contributions_of_all", "stored_maps": "stored_blocks"}
    assert all(getattr(affinity, name) is getattr(affinity, new) for name, new in old.items())
