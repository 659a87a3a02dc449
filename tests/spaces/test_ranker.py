"""Rankings of a few drawn models by definition: plain, corrected for hubs, directed, and past the cap on axes.

These are the quick tests of `spaces/neighbours.py`, which scripts/run_mutants.py tries on its mutants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import shelf
from small_spaces import BOTH, KERNELS, MAPS, PROBES, N, add, blocks_of, create, drawn, expected, images

from modelspace.errors import NotFoundError
from modelspace.registry import MapBlock, ModelRow, Registry
from modelspace.spaces import affinity, coordinates, hubness, index, neighbours, predictability, similarities
from modelspace.spaces.bootstrap import Member, intervals
from modelspace.spaces.kinds import BlendSpace, KernelSpace
from modelspace.spaces.neighbours import Ranked, Ranker, Target, kernel_space, load_index, score_matrix
from modelspace.spaces.ranking import PLAIN, Ranking
from modelspace.spaces.views import View
from modelspace.types import SpaceSpec

#: Models in order of registration; 5, 7 and 9 have no kernel.
SEEDS = (4, 0, 7, 2, 5, 9, 1, 3)
WITHOUT_KERNEL = (5, 7, 9)
DIRECTED = Ranking(rerank="directed")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with create(tmp_path_factory.mktemp("ranker") / "registry.duckdb", MAPS, KERNELS) as registry:
        for seed in SEEDS:
            add(registry, seed, MAPS, *(() if seed in WITHOUT_KERNEL else (KERNELS,)))
        with registry.transaction():
            registry.add_space(BOTH, default=False)
            affinity.fill(registry, BOTH)
        yield registry


def id_of(seed: int) -> int:
    return SEEDS.index(seed) + 1


def seeds(ids: Sequence[int]) -> list[int]:
    return [SEEDS[i - 1] for i in ids]


def rank(registry: Registry, seed: int, k: int, spec: SpaceSpec = MAPS, ranking: Ranking = PLAIN) -> Ranked:
    return Ranker(registry, registry.space(spec.name), ranking).rank(Target(f"m{seed}", id_of(seed)), k)


def best(scores: dict[int, float], k: int) -> list[int]:
    return sorted(scores, key=lambda seed: -scores[seed])[:k]


def held(spec: SpaceSpec) -> list[int]:
    return [seed for seed in SEEDS if spec == MAPS or seed not in WITHOUT_KERNEL]


@pytest.mark.first(1)
@pytest.mark.parametrize("spec", [MAPS, KERNELS, BOTH], ids=["maps", "kernels", "blend"])
def test_the_nearest_models_are_those_with_the_largest_affinities(filled: Registry, spec: SpaceSpec) -> None:
    for target in held(spec):
        affinities = {seed: float(images(spec, target, seed).mean()) for seed in held(spec) if seed != target}
        for k in (1, 2, 20):
            ranked = rank(filled, target, k, spec)
            assert seeds(ranked.model_ids) == best(affinities, k + 1)
            truth = [images(spec, target, seed) for seed in seeds(ranked.model_ids)]
            np.testing.assert_allclose(ranked.affinities, truth, atol=1e-6)
            assert ranked.scores is ranked.affinities
            assert ranked.score is None


def test_a_target_that_is_not_registered_is_ranked_by_its_blocks(filled: Registry) -> None:
    for spec in (MAPS, KERNELS, BOTH):
        affinities = {seed: float(images(spec, 6, seed).mean()) for seed in held(spec)}
        ranked = Ranker(filled, filled.space(spec.name), PLAIN).rank(Target("new", blocks=blocks_of(6)), 3)
        assert seeds(ranked.model_ids) == best(affinities, 4)
        np.testing.assert_allclose(ranked.affinities[0], images(spec, 6, seeds(ranked.model_ids)[0]), atol=1e-6)


def test_records(filled: Registry) -> None:
    rows = {row.model_id: row for row in filled.models()}
    ranked = rank(filled, 2, 3)
    records = ranked.records(rows, 3)
    order = seeds(ranked.model_ids)
    assert [record.rank for record in records] == [1, 2, 3]
    bounds = intervals(ranked.members)
    for position, record in enumerate(records):
        row = filled.model(f"m{order[position]}")
        mean = float(images(MAPS, 2, order[position]).mean())
        assert (record.name, record.uri) == (row.card.name, row.card.uri)
        assert (record.task, record.data, record.architecture) == (row.card.task, row.card.data, row.card.architecture)
        assert record.affinity == record.score == pytest.approx(mean)
        assert record.distance == pytest.approx(np.sqrt(2 - 2 * mean))
        assert (record.low, record.high) == (bounds.low[position], bounds.high[position])
        assert record.low < mean < record.high
        assert record.tied_with_next is bool(bounds.tied_with_next[position])
    assert [record.name for record in ranked.records(rows, 1)] == [records[0].name]


def test_a_copy_has_distance_zero_and_number_k_may_be_tied_with_the_one_after_it() -> None:
    rows = {i: _row(i) for i in (1, 2, 3)}
    products = np.array([np.full(N, 1.0 + 1e-12), np.full(N, 0.5), np.full(N, 0.5)])
    ranked = Ranked([2, 3, 1], products, products, [Member(products)])
    first, second = ranked.records(rows, 2)
    assert (first.name, first.distance, first.tied_with_next) == ("m2", 0.0, False)
    assert (second.name, second.distance, second.tied_with_next) == ("m3", pytest.approx(1.0), True)
    assert first.score == first.affinity
    assert len(ranked.records(rows, 9)) == 3
    assert Ranked([], products[:0], products[:0]).records(rows, 3) == []


def test_ties_follow_the_scores_that_rank() -> None:
    """The affinities are tied and the scores are not: by themselves, or as a function of the affinities."""
    rows = {i: _row(i) for i in (1, 2)}
    products = np.full((2, N), 0.5)
    by_scores = Ranked([1, 2], products, products + np.array([[1.0], [0.0]]), [Member(products)])
    record, _ = by_scores.records(rows, 2)
    assert (record.affinity, record.score, record.tied_with_next) == (0.5, 1.5, False)
    function = hubness.Score(np.ones(2), np.array([0.25, 0.0]))
    record, _ = Ranked([1, 2], products, function(products), [Member(products)], function).records(rows, 2)
    assert (record.affinity, record.score, record.tied_with_next) == (0.5, 0.75, False)


def _row(model_id: int) -> ModelRow:
    return ModelRow(model_id, shelf.card(f"m{model_id}"), datetime.now(UTC), ())


# ---- some of the models


def test_only_chosen_models_are_ranked(filled: Registry) -> None:
    """Also those that are far from the target; never the target itself."""
    affinities = {seed: float(images(MAPS, 0, seed).mean()) for seed in SEEDS if seed}
    far = sorted(affinities, key=lambda seed: affinities[seed])[:3]
    row, target = filled.space("saliency"), Target("m0", id_of(0))
    chosen = {id_of(seed) for seed in far}
    for ids in (chosen, chosen | {id_of(0)}, list(chosen)):
        assert seeds(Ranker(filled, row, PLAIN, ids).rank(target, 1).model_ids) == far[:0:-1]
    for nobody in ({id_of(0)}, set()):
        ranked = Ranker(filled, row, PLAIN, nobody).rank(target, 2)
        assert (ranked.model_ids, ranked.affinities.shape, ranked.scores.shape) == ([], (0, N), (0, N))
    assert seeds(Ranker(filled, row, PLAIN, {id_of(0)}).rank(Target("new", blocks=blocks_of(6)), 2).model_ids) == [0]


def test_an_empty_space_has_no_neighbours(tmp_path: Path) -> None:
    with create(tmp_path / "registry.duckdb", MAPS, KERNELS) as registry:
        target = Target("new", blocks=blocks_of(6))
        assert Ranker(registry, registry.space("saliency"), PLAIN).rank(target, 2).model_ids == []
        only = add(registry, 0, MAPS, KERNELS)
        for ranking in (PLAIN, DIRECTED):
            alone = Ranker(registry, registry.space("saliency"), ranking).rank(Target("m0", only), 2)
            assert (alone.model_ids, alone.affinities.shape) == ([], (0, N))
        assert Ranker(registry, registry.space("saliency"), PLAIN).rank(target, 2).model_ids == [only]
        assert score_matrix(registry, MAPS, {only})[0] == [only]


# ---- hubs


@pytest.mark.first(1)
@pytest.mark.parametrize("correction", ["centred", "csls", "mutual"])
def test_corrected_scores_rank(filled: Registry, correction: str) -> None:
    truth = hubness.corrected(expected(MAPS, SEEDS), correction)
    for position, target in enumerate(SEEDS):
        scores = {seed: truth[position, column] for column, seed in enumerate(SEEDS) if seed != target}
        ranked = rank(filled, target, 3, MAPS, Ranking(correction))
        order = seeds(ranked.model_ids)
        assert order == best(scores, 4)
        np.testing.assert_allclose(ranked.affinities, [images(MAPS, target, seed) for seed in order], atol=1e-6)
        np.testing.assert_allclose(np.diff(ranked.scores.mean(1)), np.diff([scores[s] for s in order]), atol=1e-5)
        assert ranked.score is not None
        np.testing.assert_allclose(ranked.score(ranked.affinities), ranked.scores)
        assert all(member.products.shape == (4, N) for member in ranked.members)
        np.testing.assert_allclose(ranked.members[0].products, ranked.affinities)
        first = ranked.records({row.model_id: row for row in filled.models()}, 1)[0]
        assert first.score == pytest.approx(float(ranked.scores[0].mean()))


@pytest.mark.parametrize("correction", ["centred", "csls", "mutual"])
def test_corrected_scores_of_a_target_that_is_not_registered(filled: Registry, correction: str) -> None:
    affinities = np.array([images(MAPS, 6, seed).mean() for seed in SEEDS])
    items = hubness.items(filled.vectors(MAPS.space_id)[1], correction)
    scores = hubness.score(items, correction, affinities)(affinities)
    ranker = Ranker(filled, filled.space("saliency"), Ranking(correction))
    ranked = ranker.rank(Target("new", blocks=blocks_of(6)), 7)
    assert seeds(ranked.model_ids) == best(dict(zip(SEEDS, scores, strict=True)), 8)
    np.testing.assert_allclose(ranked.scores.mean(1), sorted(scores, reverse=True), atol=1e-5)


def test_the_index_of_a_correction_holds_its_items(filled: Registry) -> None:
    row = filled.space("saliency")
    assert load_index(filled, row).dimension == len(SEEDS)
    assert load_index(filled, row, "csls").dimension == len(SEEDS) + 1
    again = load_index(filled, replace(row, generation=row.generation + 1))
    assert again.ids.tolist() == [id_of(seed) for seed in SEEDS]
    assert (filled.path.parent / "index" / f"{MAPS.space_id}.csls.faiss").exists()


# ---- directed


def r2(target: int, source: int) -> np.ndarray:
    kernels = (drawn(seed)[1].astype(np.float64) for seed in (target, source))
    target_kernel, source_kernel = kernels
    return predictability.r2_per_image(target_kernel, predictability.out_of_fold_weights(source_kernel))


@pytest.mark.parametrize("spec", [KERNELS, BOTH, MAPS], ids=["kernels", "blend", "maps"])
def test_directed_scores_rank_the_models_that_have_kernels(filled: Registry, spec: SpaceSpec) -> None:
    ranker = Ranker(filled, filled.space(spec.name), DIRECTED)
    for target in held(KERNELS):
        scores = {seed: float(r2(target, seed).mean()) for seed in held(KERNELS) if seed != target}
        ranked = ranker.rank(Target(f"m{target}", id_of(target)), 2)
        order = seeds(ranked.model_ids)
        assert order == best(scores, 3)
        np.testing.assert_allclose(ranked.scores, [r2(target, seed) for seed in order], atol=1e-4)
        np.testing.assert_allclose(ranked.affinities, [images(spec, target, seed) for seed in order], atol=1e-6)
        assert ranked.score is None
        assert len(ranked.members[0].products) == 3
    new = ranker.rank(Target("new", blocks=blocks_of(6)), 2)
    assert seeds(new.model_ids) == best({seed: float(r2(6, seed).mean()) for seed in held(KERNELS)}, 3)


@pytest.mark.parametrize("name", similarities.NAMES)
def test_similarities_of_kernels_rank_too(filled: Registry, name: str) -> None:
    """In a space of maps as well, whose affinities are shown; what is not registered has the kernel of its pass."""
    ranking = Ranking(rerank=name)
    ranker = Ranker(filled, filled.space("saliency"), ranking)
    ids, matrix = score_matrix(filled, MAPS, {*range(1, len(SEEDS) + 1)}, ranking)
    assert seeds(ids) == held(KERNELS)
    for row, target in enumerate([*held(KERNELS), 6]):
        kernel = drawn(target)[1].astype(np.float64)
        values = {
            seed: similarities.per_image(name, drawn(seed)[1].astype(np.float64), kernel)
            for seed in held(KERNELS)
            if seed != target
        }
        scores = {seed: float(value.mean()) for seed, value in values.items()}
        query = Target("new", blocks=blocks_of(6)) if target == 6 else Target(f"m{target}", id_of(target))
        ranked = ranker.rank(query, 2)
        order = seeds(ranked.model_ids)
        np.testing.assert_allclose([scores[seed] for seed in order], sorted(scores.values())[:-4:-1], atol=1e-5)
        np.testing.assert_allclose(ranked.scores, [values[seed] for seed in order], atol=1e-4)
        np.testing.assert_allclose(ranked.affinities, [images(MAPS, target, seed) for seed in order], atol=1e-6)
        if target != 6:
            expected_row = [scores.get(seed, 1.0) for seed in held(KERNELS)]
            np.testing.assert_allclose(matrix[row], expected_row, atol=1e-5)


def test_ties_of_a_similarity_follow_its_score_and_not_the_affinity(filled: Registry) -> None:
    rows = {row.model_id: row for row in filled.models()}
    ranked = rank(filled, 2, 3, KERNELS, Ranking(rerank="jaccard"))
    records = ranked.records(rows, 3)
    bounds = intervals(ranked.members, ranked.scores)
    assert [record.tied_with_next for record in records] == bounds.tied_with_next[:3].tolist()
    assert [record.score for record in records] == pytest.approx(ranked.scores[:3].mean(axis=1).tolist())


@pytest.mark.wide
def test_the_nearest_are_re_ranked_and_the_others_are_not(filled: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as `RERANKED`, or one more than asked for; the same for targets that are not registered (6 to 14)."""
    for target in (*held(KERNELS), *range(6, 15, 2)):
        others = [seed for seed in held(KERNELS) if seed != target]
        affinities = {seed: float(images(KERNELS, target, seed).mean()) for seed in others}
        for limit, k, count in ((3, 1, 3), (3, 2, 3), (2, 2, 3), (1, 1, 2), (1, 0, 1)):
            for name in ("RERANKED", "SCREENED"):
                monkeypatch.setattr(neighbours, name, limit)
            scores = {seed: float(r2(target, seed).mean()) for seed in best(affinities, count)}
            registered = target in SEEDS
            wanted = Target("t", id_of(target)) if registered else Target("t", blocks=blocks_of(target))
            ranked = Ranker(filled, filled.space("dds"), DIRECTED).rank(wanted, k)
            assert seeds(ranked.model_ids) == best(scores, k + 1)


def test_the_predictor_of_a_source_is_computed_once(filled: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    weights = predictability.out_of_fold_weights
    monkeypatch.setattr(predictability, "out_of_fold_weights", lambda kernel: (computed.append(1), weights(kernel))[1])
    ranker = Ranker(filled, filled.space("dds"), DIRECTED)
    for target in held(KERNELS):
        ranker.rank(Target(f"m{target}", id_of(target)), 2)
    assert len(computed) == len(held(KERNELS))


def test_candidates_are_scored_roughly_before_they_are_scored_as_it_is_defined(
    filled: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On more and more of the images; those that are left are scored by all, and what was computed is kept."""
    asked: list[tuple[int, list[int]]] = []
    rough_scores = View.rough_scores

    def noted(
        view: View, registry: Registry, blocks: dict[str, list[MapBlock]], ids: list[int], n_images: int
    ) -> dict[int, float]:
        asked.append((n_images, sorted(view.unknown(ids, n_images))))
        return rough_scores(view, registry, blocks, ids, n_images)

    monkeypatch.setattr(View, "rough_scores", noted)
    monkeypatch.setattr(neighbours, "_SCREENS", ((N // 3, 2), (N, 1)))
    monkeypatch.setattr(neighbours, "LEFT", 1)
    monkeypatch.setattr(neighbours, "LEFT_PER_SHOWN", 1)
    ranker = Ranker(filled, filled.space("dds"), DIRECTED)
    target = Target("m4", id_of(4))
    ranked = ranker.rank(target, 0)
    others = sorted(id_of(seed) for seed in held(KERNELS) if seed != 4)
    two, one = rough_best(4, N // 3)[:2], ranked.model_ids
    assert asked == [(N // 3, others), (N, sorted(map(id_of, two)))]
    assert seeds(one) == [max(two, key=lambda seed: rough(4, seed, N))]
    np.testing.assert_allclose(ranked.scores, [r2(4, seeds(one)[0])], atol=1e-6)
    asked.clear()
    ranker.rank(target, 0)
    assert asked == [(N // 3, []), (N, [])]
    asked.clear()
    everything = ranker.rank(target, len(others) - 1)
    assert asked == []
    assert sorted(everything.model_ids) == others


def test_parts_of_many_candidates_are_forgotten_one_after_the_other(
    filled: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LEFT", "LEFT_PER_SHOWN"):
        monkeypatch.setattr(neighbours, name, 1)
    expected = rank(filled, 4, 1, KERNELS, DIRECTED).model_ids
    size = KernelSpace(KERNELS).code_bytes(N)
    for count in (1, 2, 3):  # of a model, the target and one, the target and two
        monkeypatch.setattr(neighbours, "_FETCHED_BYTES", count * size)
        assert rank(filled, 4, 1, KERNELS, DIRECTED).model_ids == expected


def rough(target: int, source: int, n_images: int) -> float:
    """R² on some of the images, each predicted from the others."""
    chosen = slice(None, None, N // n_images)
    first, second = (drawn(seed)[1][chosen, chosen].astype(np.float32) for seed in (target, source))
    return float(predictability.rough_r2(first, predictability.rough_matrices(second[None]))[0])


def rough_best(target: int, n_images: int) -> list[int]:
    return best({seed: rough(target, seed, n_images) for seed in held(KERNELS) if seed != target}, len(SEEDS))


def test_a_target_without_a_kernel_is_refused(filled: Registry) -> None:
    with pytest.raises(NotFoundError, match="model 'm5' is not in space 'dds', whose features") as error:
        rank(filled, 5, 2, MAPS, DIRECTED)
    assert "`space.fill('dds', models=['m5'])`" in error.value.hint


def test_sources_without_kernels_cannot_be_chosen(filled: Registry) -> None:
    chosen = [id_of(seed) for seed in WITHOUT_KERNEL]
    ranked = Ranker(filled, filled.space("saliency"), DIRECTED, chosen).rank(Target("m0", id_of(0)), 2)
    assert (ranked.model_ids, ranked.affinities.shape) == ([], (0, N))


def test_which_kernels_a_space_uses(tmp_path: Path) -> None:
    """Its own, else those of a member, else those of any space on the same images."""
    cka = KernelSpace.define("cka", "linear_cka", "probes", N, 0, 32, "sum")
    others = [
        KernelSpace.define("fewer images", "dds", "probes", N - 1, 0, 32, "sum"),
        KernelSpace.define("other images", "dds", "more probes", N, 0, 32, "sum"),
        KernelSpace.define("rsa", "rsa", "probes", N, 0, 32, "sum"),
    ]
    with create(tmp_path / "registry.duckdb") as registry:
        with registry.transaction():
            registry.add_probe_set(replace(PROBES, probe_id="more probes", name="more"), None)
            for spec in (MAPS, *others):
                registry.add_space(spec, default=False)
        with pytest.raises(NotFoundError, match="probe images of space 'saliency'") as error:
            kernel_space(registry, MAPS)
        assert f"images={N}" in error.value.hint
        with registry.transaction():
            for spec in (KERNELS, cka):
                registry.add_space(spec, default=False)
        assert kernel_space(registry, MAPS).spec == KERNELS
        assert kernel_space(registry, cka).spec == cka
        assert kernel_space(registry, others[1]).spec == others[1]
        blend = BlendSpace.of("blend", [(MAPS, 1.0), (cka, 1.0)], "none", "none")
        assert kernel_space(registry, blend).spec == cka
        assert isinstance(kernel_space(registry, MAPS), KernelSpace)


# ---- all pairs


def test_scores_of_all_pairs_are_those_that_queries_rank_by(filled: Registry) -> None:
    some = [0, 5, 1]
    chosen = {id_of(seed) for seed in some}
    order = [seed for seed in SEEDS if seed in some]
    ids, matrix = score_matrix(filled, MAPS, chosen)
    assert seeds(ids) == order
    np.testing.assert_allclose(matrix, expected(MAPS, order), atol=1e-9)
    rows = [SEEDS.index(seed) for seed in order]
    for correction in ("centred", "csls", "mutual"):
        ids, matrix = score_matrix(filled, MAPS, chosen, Ranking(correction))
        assert seeds(ids) == order
        truth = hubness.corrected(expected(MAPS, SEEDS), correction)[np.ix_(rows, rows)]
        np.testing.assert_allclose(matrix, truth, atol=1e-9)
    for spec in (MAPS, BOTH):
        ids, matrix = score_matrix(filled, spec, chosen, DIRECTED)
        assert seeds(ids) == [0, 1]
        np.testing.assert_allclose(matrix, [[r2(a, b).mean() for b in (0, 1)] for a in (0, 1)], atol=1e-5)
    directed = BlendSpace.of("directed", [(MAPS, 1.0), (KERNELS, 3.0)], "none", "directed")
    assert score_matrix(filled, replace(BOTH, parameters=directed.parameters), chosen)[0] == []


def test_ties_are_in_order_of_registration() -> None:
    scores = {3: np.array([0.5, 0.5]), 1: np.array([0.5 + 1e-14, 0.5]), 2: np.array([0.0, 2.0]), 9: np.zeros(2)}
    assert neighbours.in_order(scores) == [2, 1, 3, 9]
    assert neighbours.in_order({2: np.array([0.5 + 2e-13]), 1: np.array([0.5])}) == [1, 2]
    assert neighbours.in_order({1: np.array([0.5]), 2: np.array([0.5 + 1e-10])}) == [2, 1]


# ---- past the cap on axes


@pytest.mark.wide
@pytest.mark.parametrize("correction", ["none", "csls"])
def test_projected_models_are_re_ranked_by_their_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, correction: str
) -> None:
    """With two axes vectors say little about the other models; the index only proposes candidates."""
    defaults = (2, coordinates.TOLERANCE)
    monkeypatch.setattr(coordinates.Factor.__init__, "__defaults__", defaults)
    monkeypatch.setattr(coordinates.Factor.from_rows.__func__, "__defaults__", defaults)  # type: ignore[attr-defined]
    with create(tmp_path / "registry.duckdb", MAPS) as registry:
        for seed in range(10, 22):
            add(registry, seed, MAPS)
        row = registry.space("saliency")
        items = hubness.items(registry.vectors(MAPS.space_id)[1], correction)
        for target in range(12):
            affinities = expected(MAPS, range(10, 22))[target]
            scores = dict(enumerate(hubness.score(items, correction)(affinities)))
            del scores[target]
            ranked = Ranker(registry, row, Ranking(correction)).rank(Target("target", target + 1), 2)
            assert [i - 1 for i in ranked.model_ids] == best(scores, 3)
            np.testing.assert_allclose(ranked.affinities.mean(1), affinities[[i - 1 for i in ranked.model_ids]])


@pytest.mark.first(1)
@pytest.mark.parametrize("spec", [MAPS, KERNELS, BOTH], ids=["maps", "kernels", "blend"])
def test_where_vectors_are_approximate_stored_data_decide(
    filled: Registry, spec: SpaceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half of the coordinates, which an approximation may be, and every model among the candidates."""
    monkeypatch.setattr(neighbours, "CANDIDATES", 100)
    read: list[int] = []
    compared = type(neighbours.space_of(spec)).affinities

    def counting(space, registry, blocks, model_ids):  # type: ignore[no-untyped-def]
        read.extend(model_ids)
        return compared(space, registry, blocks, model_ids)

    monkeypatch.setattr(type(neighbours.space_of(spec)), "affinities", counting)
    for target in held(spec):
        ranker = Ranker(filled, filled.space(spec.name), PLAIN)
        ranker._is_exact = False
        whole = ranker._index.base
        half = whole.matrix.copy()
        half[:, whole.dimension // 2 :] = 0
        ranker._index = index.SpaceIndex(index.Rows(whole.ids, half))
        for k in (1, 2):
            ranked = ranker.rank(Target(f"m{target}", id_of(target)), k)
            exact = rank(filled, target, k, spec)
            assert ranked.model_ids == exact.model_ids
            np.testing.assert_allclose(ranked.affinities, exact.affinities, atol=1e-9)
    assert read
