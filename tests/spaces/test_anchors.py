"""Spaces of more models than have exact vectors, with a cap of four models and three anchors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from small_spaces import BOTH, KERNELS, MAPS, add, blocks_of, create, expected, seeds_of

from modelspace.errors import DamagedError
from modelspace.registry import Registry
from modelspace.registry.sql import query
from modelspace.spaces import affinity, anchors, coordinates, kept_anchors
from modelspace.workspace import ModelSpace

ALL = (MAPS, KERNELS, BOTH)  # members of the blend are defined in another order than that of their ids


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinates, "MAX_EXACT", 4)
    monkeypatch.setattr(coordinates.pivots, "__defaults__", (3, coordinates.ANCHOR_TOLERANCE))
    monkeypatch.setattr(coordinates.pivots_of, "__defaults__", (3, coordinates.ANCHOR_TOLERANCE))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with create(tmp_path / "registry.duckdb", *ALL) as opened:
        for seed in range(6):
            add(opened, seed, *ALL)
        yield opened


def coordinates_by_definition(truth: np.ndarray, chosen: list[int]) -> np.ndarray:
    """Coordinates whose inner products with the chosen models are the affinities: K L⁻ᵀ."""
    lower = np.linalg.cholesky(truth[np.ix_(chosen, chosen)])
    return np.linalg.solve(lower, truth[:, chosen].T).T


def check(registry: Registry, seeds: list[int]) -> None:
    """All three spaces hold these models, and coordinates, readers and matrix are right."""
    for spec in ALL:
        truth = expected(spec, seeds)
        ids, positions, vectors = registry.vectors_after(spec.space_id, -1)
        assert seeds_of(registry, ids.tolist()) == seeds
        assert vectors.dtype == np.float32
        assert (np.diff(positions) > 0).all()
        if spec != BOTH:
            anchor_seeds = [row.model_id - 1 for row in registry.anchors(spec.space_id)]
            together = [*seeds, *anchor_seeds]
            whole = coordinates_by_definition(expected(spec, together), list(range(len(seeds), len(together))))
            np.testing.assert_allclose(vectors, whole[: len(seeds)], atol=1e-4)
        np.testing.assert_allclose(affinity.matrix(registry, spec, set(ids.tolist()))[1], truth, atol=1e-6)
        state = registry.space(spec.space_id)
        assert (state.n_models, state.has_anchors) == (len(seeds), True)
    assert registry.check() == []


@pytest.mark.wide
def test_the_fifth_model_gives_a_space_anchors_and_all_models_coordinates(registry: Registry) -> None:
    check(registry, [0, 1, 2, 3, 4, 5])
    for spec in ALL:
        stored = registry.embeddings(spec.space_id)
        assert [len(row.vector) for row in stored] == [1, 2, 3, 4, 0, 0]
        assert [len(row.affinities) for row in stored] == [0, 1, 2, 3, 0, 0]
        width = 6 if spec == BOTH else 3
        assert {len(row.coordinates) for row in stored if row.coordinates is not None} == {width}
        for row in stored:
            assert row.coordinates is not None
            if not len(row.vector):
                assert row.residual == pytest.approx(1 - float(row.coordinates @ row.coordinates), abs=1e-6)
    assert len(registry.anchors(MAPS.space_id)) == 3
    assert registry.anchors(BOTH.space_id) == []


@pytest.mark.wide
def test_epoch_and_positions_say_which_vectors_an_index_lacks(registry: Registry) -> None:
    before = [(registry.space(spec.space_id), registry.vectors_after(spec.space_id, -1)[1]) for spec in ALL]
    with registry.transaction():
        affinity.remove(registry, 6)  # the last one: its position is not taken again
    add(registry, 6, *ALL)
    for state, positions in before:
        spec = state.spec
        now = registry.space(spec.space_id)
        assert (now.epoch, now.n_models) == (state.epoch, 6)
        assert now.generation > state.generation
        ids, after, vectors = registry.vectors_after(spec.space_id, int(positions[-1]))
        assert (ids.tolist(), after.tolist(), len(vectors)) == ([7], [6], 1)
        expected_columns = [[1, 2, 3, 4, 5, 7], [0, 1, 2, 3, 4, 6]]
        np.testing.assert_array_equal(registry.ids_and_positions(spec.space_id), expected_columns)


@pytest.mark.wide
@pytest.mark.parametrize("gone", [0, 3, 4])
def test_removal_moves_nobody_even_if_an_anchor_goes(registry: Registry, gone: int) -> None:
    kept = [seed for seed in range(6) if seed != gone]
    before = [registry.vectors(spec.space_id)[1][kept] for spec in ALL]
    with registry.transaction():
        affinity.remove(registry, gone + 1)
    for spec, vectors in zip(ALL, before, strict=True):
        np.testing.assert_array_equal(registry.vectors(spec.space_id)[1], vectors)
    check(registry, kept)
    add(registry, 7, *ALL)
    assert seeds_of(registry, registry.model_ids(BOTH.space_id)) == [*kept, 7]


@pytest.mark.first(1)
@pytest.mark.parametrize("spec", ALL)
def test_a_model_that_is_not_stored_gets_the_coordinates_that_it_would_have(registry: Registry, spec: object) -> None:
    projected = affinity.project(registry, spec, blocks_of(6))  # type: ignore[arg-type]
    add(registry, 6, *ALL)
    stored = registry.vectors(spec.space_id)[1][-1]  # type: ignore[attr-defined]
    np.testing.assert_allclose(projected, stored, atol=1e-6)


@pytest.mark.wide
def test_rebuilding_chooses_again_and_joins_the_blends(registry: Registry) -> None:
    with registry.transaction():
        affinity.remove(registry, 2)
    epochs = [registry.space(spec.space_id).epoch for spec in ALL]
    with registry.transaction():
        affinity.rebuild(registry, MAPS)
    changed = [registry.space(spec.space_id).epoch != epoch for spec, epoch in zip(ALL, epochs, strict=True)]
    assert changed == [True, False, True]
    check(registry, [0, 2, 3, 4, 5])
    assert registry.ids_and_positions(MAPS.space_id)[1].tolist() == [0, 1, 2, 3, 4]
    with registry.transaction():
        affinity.rebuild(registry, BOTH)
        affinity.rebuild(registry, KERNELS)
    check(registry, [0, 2, 3, 4, 5])
    with registry.transaction():
        affinity.remove(registry, 3)
        for spec in ALL:
            affinity.rebuild(registry, spec)
    for spec in ALL:  # few enough to be exact again
        assert not registry.space(spec.space_id).has_anchors
        _, vectors = registry.vectors(spec.space_id)
        np.testing.assert_allclose(vectors @ vectors.T, expected(spec, [0, 3, 4, 5]), atol=1e-6)
    assert registry.check() == []


@pytest.mark.wide
def test_a_new_blend_of_many_models_has_coordinates_alone(registry: Registry) -> None:
    filled = registry.vectors(BOTH.space_id)[1]
    with registry.transaction():
        registry.remove_space(BOTH.space_id)
        registry.add_space(BOTH, default=False)
        assert affinity.fill(registry, BOTH) == 6
    np.testing.assert_allclose(registry.vectors(BOTH.space_id)[1], filled, atol=1e-6)
    check(registry, [0, 1, 2, 3, 4, 5])
    assert add(registry, 6, *ALL) == 7


def test_sql_answers_exactly_where_it_can_and_from_coordinates_elsewhere(registry: Registry) -> None:
    path = registry.path
    registry.close()
    truth = expected(MAPS, list(range(6)))
    with Registry.open(path) as reopened:
        vectors = reopened.vectors(MAPS.space_id)[1].astype(float)
    products = vectors @ vectors.T
    for a in range(6):
        for b in range(6):
            ((value,),) = query(path, f"SELECT affinity_in('saliency', 'm{a}', 'm{b}')").rows
            right = 1.0 if a == b else truth[a, b] if max(a, b) < 4 else products[a, b]
            assert value == pytest.approx(right, abs=1e-6)
    rows = query(path, "SELECT name, affinity FROM nearest_in('saliency', 'm5', 10)").rows
    order = sorted(range(5), key=lambda i: -products[5, i])
    assert [row[0] for row in rows] == [f"m{i}" for i in order]
    assert [row[1] for row in rows] == pytest.approx([products[5, i] for i in order], abs=1e-6)
    rows = query(path, "SELECT a, b, affinity FROM pairs").rows
    assert len(rows) == 15
    assert {(a, b): value for a, b, value in rows}["m0", "m3"] == pytest.approx(truth[0, 3], abs=1e-9)


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("damage", "message", "problem"),
    [
        ("UPDATE anchor_maps SET codes = scales WHERE axis = 1", "maps of anchor 1", ""),
        ("DELETE FROM anchor_maps WHERE axis = 2", "missing", "the maps of its anchor 2 don't cover every image once"),
        ("UPDATE anchors SET factor = [0.5] WHERE axis = 0", "factor of an anchor", ""),
        ("DELETE FROM anchors WHERE axis = 1", "factor of an anchor", "its anchors are not numbered 0..n-1 (2)"),
    ],
)
def test_damaged_anchors_are_refused_and_found(registry: Registry, damage: str, message: str, problem: str) -> None:
    kept_anchors.forget()  # as a process that starts now; one that kept them goes on with what it read before
    registry.connection.duck.execute(damage)
    with pytest.raises(DamagedError, match=message):
        anchors.place(registry, anchors.space_of(MAPS), blocks_of(6), {})
    assert not problem or problem in {found.message for found in registry.check()}


def test_anchors_are_kept_from_the_second_use_on_and_give_the_same_coordinates(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    blocks_at = Registry.anchor_blocks_at
    monkeypatch.setattr(Registry, "anchor_blocks_at", lambda *at: read.append(at[1]) or blocks_at(*at))
    stored = [MAPS.space_id, KERNELS.space_id]
    kept_anchors.forget()
    first = [affinity.project(registry, spec, blocks_of(6)) for spec in (MAPS, KERNELS)]
    n_read = len(read)
    assert n_read
    assert not kept_anchors.are_kept(registry.path, stored)
    for _ in range(3):
        for spec, vector in zip((MAPS, KERNELS), first, strict=True):
            np.testing.assert_array_equal(affinity.project(registry, spec, blocks_of(6)), vector)
    assert len(read) == 2 * n_read
    assert kept_anchors.are_kept(registry.path, stored)
    with registry.transaction():  # other anchors than those that are kept
        affinity.remove(registry, 2)
        affinity.rebuild(registry, MAPS)
    now = affinity.project(registry, MAPS, blocks_of(6))
    kept_anchors.forget()
    np.testing.assert_array_equal(affinity.project(registry, MAPS, blocks_of(6)), now)


def test_anchors_that_need_too_much_memory_are_read_each_time(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_anchors.forget()
    expected_vector = affinity.project(registry, MAPS, blocks_of(6))
    monkeypatch.setattr(kept_anchors, "KEPT_BYTES", 1000)
    for _ in range(3):
        np.testing.assert_array_equal(affinity.project(registry, MAPS, blocks_of(6)), expected_vector)
    assert not kept_anchors.are_kept(registry.path, [MAPS.space_id])


def test_the_anchors_of_the_space_used_last_stay(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_anchors.forget()
    for spec in (MAPS, MAPS):
        affinity.project(registry, spec, blocks_of(6))
    n_bytes = kept_anchors.of_space(registry, anchors.space_of(MAPS)).n_bytes  # type: ignore[arg-type]
    monkeypatch.setattr(kept_anchors, "KEPT_BYTES", n_bytes)
    for spec in (KERNELS, KERNELS):
        affinity.project(registry, spec, blocks_of(6))
    assert kept_anchors.are_kept(registry.path, [KERNELS.space_id])
    assert not kept_anchors.are_kept(registry.path, [MAPS.space_id])


@pytest.mark.wide
def test_changed_coordinates_are_refused_and_found(registry: Registry) -> None:
    registry.connection.duck.execute("UPDATE embeddings SET coordinates = [1, 0, 0] WHERE model_id = 5")
    with pytest.raises(DamagedError, match="vector of model 'm4'"):
        registry.vectors(MAPS.space_id)
    with pytest.raises(DamagedError, match="vector of model 'm4'"):
        registry.coordinates(MAPS.space_id, 5)
    assert registry.changed_embeddings(MAPS.space_id) == [5]
    registry.connection.duck.execute("UPDATE embeddings SET coordinates = NULL WHERE model_id = 5")
    registry.connection.duck.execute("UPDATE spaces SET n_models = 9, next_position = 3 WHERE name = 'dds'")
    problems = [f"{problem.subject}: {problem.message}" for problem in registry.check()]
    missing = "its coordinates in the space saliency are missing, not finite, or there without anchors"
    assert f"model m4: {missing}" in problems
    assert "space dds: it counts 9 models, which is not how many it has" in problems
    assert "space dds: its models' positions are not below its next one (3)" in problems


def test_anchors_are_the_models_that_are_explained_least() -> None:
    """On families of near-copies: one of each family before a second of any, and copies never."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(5, 40))
    vectors = np.repeat(centres, 4, axis=0) + 0.05 * draw.normal(size=(20, 40))
    vectors = np.vstack([vectors, vectors[:3]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen, columns = coordinates.pivots(vectors, 20, 1e-9)
    assert len({i // 4 for i in chosen[:5]}) == 5
    assert len(chosen) == 20  # 23 models, of which three are copies
    np.testing.assert_allclose(columns @ columns.T, vectors @ vectors.T, atol=1e-7)
    lower = columns[chosen]
    np.testing.assert_array_equal(lower, np.tril(lower))
    few_chosen, few_columns = coordinates.pivots(vectors, 20, 0.5)
    assert few_chosen == chosen[: len(few_chosen)]
    np.testing.assert_allclose(few_columns @ few_columns[few_chosen].T, (vectors @ vectors.T)[:, few_chosen], atol=1e-9)


@pytest.mark.wide
def test_verify_places_models_again_and_names_the_ones_that_differ(registry: Registry) -> None:
    path = registry.path
    with registry.transaction():
        affinity.remove(registry, 2)  # of the models with exact affinities, which then have a gap
    registry.close()
    space = ModelSpace.open(path.parent)
    checks = {check.what: check for check in space.verify(deep=True) if check.what != "probe set rooms"}
    assert [check for check in checks.values() if not check.ok and "probe" not in check.what] == []
    assert checks["saliency: coordinates"].detail.startswith("5 of 5 models placed again")
    with duckdb.connect(str(path)) as duck:
        duck.execute(
            "UPDATE embeddings SET coordinates_checksum = NULL, coordinates = list_reverse(coordinates)"
            " WHERE model_id = 6 AND space_id = ?",
            [MAPS.space_id],
        )
    (failed,) = [check for check in space.verify() if not check.ok and "probe" not in check.what]
    assert failed.what == "saliency: coordinates"
    assert failed.detail.endswith("not those of the maps: m5")
    assert failed.hint == "run `space.rebuild(coordinates=True)`"
    (exported,) = space.export(path.parent / "out.npy", "vectors", space="saliency")
    assert np.load(exported.file).shape == (5, 3)
