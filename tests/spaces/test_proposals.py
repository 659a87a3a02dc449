"""The file that proposes sources of a large space: what it proposes, how queries use it, and when they don't."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_spaces import BOTH, KERNELS, MAPS, N, add, create, drawn, fill
from spoiled_files import spoil

from modelspace.errors import NotFoundError
from modelspace.home import INDEX, REGISTRY
from modelspace.registry import Registry
from modelspace.spaces import affinity, block_files, index, index_kinds, neighbours, predictability, proposals
from modelspace.spaces.kinds import KernelSpace, space_of
from modelspace.spaces.neighbours import Ranker, Target, load_index
from modelspace.spaces.proposals import Proposals
from modelspace.spaces.ranking import Ranking
from modelspace.verbs.verify import verify

SEEDS = range(17)
DIRECTED = Ranking(rerank="directed")
KERNEL_SPACE = KernelSpace(KERNELS)
EVERY = slice(None)


def make(folder: Path) -> Path:
    """A registry of 17 models, with an empty folder for the index."""
    folder.mkdir(parents=True)
    fill(folder / REGISTRY, SEEDS)
    return folder / REGISTRY


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("proposals") / "home").parent


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "home")
    return tmp_path / "home" / REGISTRY


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    with Registry.open(path) as opened:
        yield opened


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if these models were very many, of which a query compares two or three."""
    monkeypatch.setattr(neighbours, "SCREENED", 3)
    monkeypatch.setattr(neighbours, "RERANKED", 2)
    monkeypatch.setattr(neighbours, "CANDIDATES", 1)


def file_of(registry: Registry) -> Path:
    return registry.path.parent / INDEX / f"{KERNELS.space_id}.proposals"


def written(registry: Registry) -> Proposals:
    proposals.refresh(registry, KERNEL_SPACE)
    file = Proposals.open(file_of(registry))
    assert file is not None
    return file


def left_out(target: int, source: int) -> float:
    """R² of the target's features from the source's, each image predicted from the others."""
    kernel, other = (drawn(seed)[1].astype(np.float64) for seed in (source, target))
    total = 0.0
    for image in range(N):
        rest = np.arange(N) != image
        regularised = kernel[np.ix_(rest, rest)] + np.trace(kernel) / N * np.eye(N - 1)
        weights = np.zeros(N)
        weights[rest] = -np.linalg.solve(regularised, kernel[rest, image])
        weights[image] = 1.0
        total += float(weights @ other @ weights)
    return 1 - total / float(np.trace(other))


def kernel_of(registry: Registry, model_id: int) -> np.ndarray:
    (kernel,) = KERNEL_SPACE.rough_kernels(list(registry.map_blocks(KERNELS.space_id, model_id)), EVERY)
    return kernel


def asked(registry: Registry, model_id: int, k: int = 1, spec: str = "dds", **options: object) -> list[int]:
    ranker = Ranker(registry, registry.space(spec), DIRECTED, **options)  # type: ignore[arg-type]
    return ranker.rank(Target("m", model_id), k).model_ids


def test_they_are_the_models_that_predict_the_target_best(registry: Registry) -> None:
    file = written(registry)
    assert file.ids.tolist() == list(range(1, len(SEEDS) + 1))
    for target in (0, 7, 16):
        truth = {seed + 1: left_out(target, seed) for seed in SEEDS}
        proposed = file.propose(kernel_of(registry, target + 1), 5)
        assert proposed is not None
        best = sorted(truth, key=lambda i: -truth[i])
        # 8 bits may change the order of models that are about as good.
        np.testing.assert_allclose([truth[i] for i in proposed], [truth[i] for i in best[:5]], atol=0.02)
        assert proposed == file.propose(7.5 * kernel_of(registry, target + 1), 5)
        among = np.array([3, 5, 11, 99])
        some = file.propose(kernel_of(registry, target + 1), 2, among)
        assert some is not None
        np.testing.assert_allclose(
            [truth[i] for i in some], sorted((truth[i] for i in (3, 5, 11)), reverse=True)[:2], atol=0.02
        )
        for count in (len(SEEDS), 100):
            every = file.propose(kernel_of(registry, target + 1), count)
            assert every is not None
            assert sorted(every) == list(truth)


def test_all_numbers_decide_among_the_best_by_the_first(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "_FIRST", 8)
    file = written(registry)
    assert (file._first.shape[1], file._others.shape[1]) == (8, 8)
    truth = {seed + 1: left_out(3, seed) for seed in SEEDS}
    proposed = file.propose(kernel_of(registry, 4), 5)
    assert proposed is not None
    best = sorted(truth.values(), reverse=True)[:5]
    np.testing.assert_allclose([truth[i] for i in proposed], best, atol=0.02)
    monkeypatch.setattr(proposals, "_AMONG", 2)
    two = file.propose(kernel_of(registry, 4), 1)
    assert two is not None
    assert two[0] in proposed


def test_parts_of_a_file_have_sums_of_their_own(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are written and searched in parts propose the same; a changed number is noticed, and counted."""
    kernel = kernel_of(registry, 4)
    some = np.array([2, 6, 7, 16])
    expected = [written(registry).propose(kernel, 5, among) for among in (None, some)]
    monkeypatch.setattr(proposals, "_FIRST", 8)
    monkeypatch.setattr(proposals, "_ROWS", 5)
    proposals.refresh(registry, KERNEL_SPACE, renew=True)
    file = Proposals.open(file_of(registry))
    assert file is not None
    assert (len(file._parts.sums), file.n_damaged()) == (4, 0)
    assert [file.propose(kernel, 5, among) for among in (None, some)] == expected
    intact = file_of(registry).read_bytes()
    n_numbers = 16 * len(SEEDS)
    for at, n_damaged in ((len(intact) - 1, 1), (len(intact) - n_numbers, 5), (len(intact) - n_numbers // 2 - 1, 2)):
        changed = bytearray(intact)
        changed[at] ^= 1
        file_of(registry).write_bytes(changed)
        damaged = Proposals.open(file_of(registry))
        assert damaged is not None
        assert damaged.propose(kernel, 5) is None
        assert damaged.n_damaged() == n_damaged


def test_the_projection_is_the_best_of_its_length(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of projected kernels and centred matrices are those of the truncated decomposition."""
    monkeypatch.setattr(proposals, "LENGTH", 8)
    ids = np.arange(1, len(SEEDS) + 1)
    projection = proposals._projection(registry, KERNEL_SPACE, ids)
    kernels = np.stack([kernel_of(registry, i) for i in ids.tolist()])
    kernels /= np.trace(kernels, axis1=1, axis2=2)[:, None, None]
    matrices = predictability.rough_matrices(kernels)
    a, b = (table.reshape(len(ids), -1).astype(np.float64) for table in (kernels, matrices - matrices.mean(axis=0)))
    left, values, right = np.linalg.svd(a @ b.T)
    best = (left[:, :8] * values[:8]) @ right[:8]
    centred = proposals._triangles((matrices - matrices.mean(axis=0)).astype(np.float32))
    products = (proposals._triangles(kernels) @ projection.kernels) @ (centred @ projection.matrices).T
    np.testing.assert_allclose(products, best, atol=1e-4 * np.abs(best).max())
    assert np.abs(a @ b.T - best).max() > 1e-3 * np.abs(best).max()


def test_numbers_outside_of_the_range_are_its_ends() -> None:
    one = np.ones((1, 1), np.float32)
    projection = proposals._Projection(one, one, np.array([-1.0], np.float32), np.array([0.5], np.float32))
    numbers = np.array([[-2.0], [-1.0], [0.2], [126.5], [127.0], [900.0]], np.float32)
    assert projection.codes(numbers).ravel().tolist() == [0, 0, 2, 255, 255, 255]


def test_inner_products_of_matrices_are_kept() -> None:
    tables = np.random.default_rng(0).standard_normal((2, 5, 5)).astype(np.float32)
    tables += tables.transpose(0, 2, 1)
    first, second = proposals._triangles(tables)
    assert first @ second == pytest.approx(float((tables[0] * tables[1]).sum()), rel=1e-5)


def test_blocks_are_read_from_the_copies_and_missing_ones_from_the_registry(path: Path) -> None:
    with Registry.open(path) as registry:
        block_files.refresh(registry, KERNEL_SPACE)
    with Registry.open(path, write=True) as registry:
        add(registry, 30, MAPS, KERNELS)
    with Registry.open(path) as registry:
        written(registry)
        expected = file_of(registry).read_bytes()
        block_files.attach(registry, KERNEL_SPACE)
        assert registry.block_sources[KERNELS.space_id](len(SEEDS) + 1) is None
        proposals.refresh(registry, KERNEL_SPACE, renew=True)
        assert file_of(registry).read_bytes() == expected


def test_a_target_without_features_gets_none(registry: Registry) -> None:
    assert written(registry).propose(np.zeros((N, N), np.float32), 3) == []


def test_queries_find_them_where_they_are_not_the_nearest(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of those that are proposed is that of all, which the nearest alone is not."""
    for name in ("SCREENED", "RERANKED", "CANDIDATES"):
        monkeypatch.setattr(neighbours, name, 1)

    def scores() -> np.ndarray:
        ranker = Ranker(registry, registry.space("dds"), DIRECTED)
        ids = registry.model_ids(KERNELS.space_id)
        return np.array([ranker.rank(Target("m", i), 0).scores[0].mean() for i in ids])

    before = scores()
    written(registry)
    after = scores()
    kernels = [drawn(seed)[1].astype(np.float64) for seed in SEEDS]
    every = predictability.r2_matrix(kernels)
    np.fill_diagonal(every, -np.inf)
    best = every.max(axis=1)
    assert (best - before).mean() > 0.0005
    assert (best - after).mean() < 0.2 * (best - before).mean()
    assert (after >= before - 1e-6).all()


@pytest.mark.usefixtures("few")
def test_what_is_compared(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest, those that are proposed, and the nearest of the newest; among the chosen ones alone."""
    file = written(registry)
    file.ids = np.arange(1, 14)  # as if 14 to 17 had been added since
    monkeypatch.setattr(Proposals, "propose", lambda *_: [9, 12, 99])
    monkeypatch.setattr(proposals, "opened", lambda *_: file)
    ranker, target = Ranker(registry, registry.space("dds"), DIRECTED), Target("m", 4)
    query = ranker._index.vector(4)
    nearest, newest = (list(ranker._proposed(target, query, 3, ids)) for ids in (None, np.arange(14, 18)))
    assert (len(nearest), len(newest)) == (2, 3)
    assert set(ranker._compared(target, query, 1)) == {*nearest, 9, 12, *newest}
    some = Ranker(registry, registry.space("dds"), DIRECTED, [4, 9, 16, 3, 5, 6])
    assert {9, 16} <= set(some._compared(target, query, 1)) <= {9, 16, 3, 5, 6}


@pytest.mark.usefixtures("few")
def test_a_model_that_was_removed_is_not_proposed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry.open(path) as registry:
        best = asked(registry, 4)[0]
        file = written(registry)
    with Registry.open(path, write=True) as registry, registry.transaction():
        affinity.remove(registry, best)
    monkeypatch.setattr(proposals, "opened", lambda *_: file)  # the epoch of a large space stays
    with Registry.open(path) as registry:
        ranked = asked(registry, 4, 3)
        assert len(ranked) >= 3
        assert best not in ranked


@pytest.mark.usefixtures("few")
def test_other_rankings_and_small_spaces_use_none(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    written(registry)
    opened: list[object] = []
    monkeypatch.setattr(proposals, "opened", lambda _, space: opened.append(space))
    Ranker(registry, registry.space("dds"), Ranking()).rank(Target("m", 4), 2)
    Ranker(registry, registry.space("dds"), Ranking(rerank="jaccard")).rank(Target("m", 4), 2)
    asked(registry, 4, chosen=[4, 5, 6, 7])
    monkeypatch.setattr(neighbours, "SCREENED", len(SEEDS))
    asked(registry, 4)
    assert opened == []


@pytest.mark.usefixtures("few")
def test_a_target_without_a_kernel_is_refused(path: Path) -> None:
    with Registry.open(path) as registry:
        written(registry)
    with Registry.open(path, write=True) as registry:
        new = add(registry, 30, MAPS)
    with Registry.open(path) as registry, pytest.raises(NotFoundError, match="whose features the re-ranking needs"):
        asked(registry, new, spec="saliency")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """The file is not used then, or proposes what it did before."""
    folder = tmp_path_factory.getbasetemp() / "one changed byte of proposals"
    if not folder.exists():
        with Registry.open(make(folder)) as registry, pytest.MonkeyPatch.context() as patch:
            patch.setattr(proposals, "_FIRST", 8)
            written(registry)
            shutil.copy(file_of(registry), folder / "intact")
    intact = (folder / "intact").read_bytes()
    at = data.draw(st.integers(0, len(intact) - 1))
    changed = bytearray(intact)
    changed[at] ^= data.draw(st.integers(1, 255))
    with Registry.open(folder / REGISTRY) as registry:
        kernel = kernel_of(registry, 4)
    (folder / "changed").write_bytes(changed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proposals, "_FIRST", 8)
        before, after = Proposals.open(folder / "intact"), Proposals.open(folder / "changed")
    assert before is not None
    assert after is None or after.propose(kernel, 5) in (None, before.propose(kernel, 5))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("change", ["cut", "longer", "empty", "text", "folder", "gone", "numbers"])
def test_what_is_no_such_file_is_not_used(registry: Registry, change: str) -> None:
    without = [asked(registry, target) for target in (4, 8)]
    written(registry)
    file = file_of(registry)
    if change == "numbers":
        data = file.read_bytes()
        file.write_bytes(data[: -len(SEEDS) * 16] + bytes(len(SEEDS) * 16))
    else:
        data = spoil(file, change)
    assert [asked(registry, target) for target in (4, 8)] == without
    proposals.refresh(registry, KERNEL_SPACE, renew=change == "numbers")
    if change != "folder":
        assert file.read_bytes() == data


def test_it_is_of_one_registry_and_one_epoch(path: Path, tmp_path: Path) -> None:
    with Registry.open(path) as registry:
        written(registry)
        assert proposals.opened(registry, KERNEL_SPACE) is not None
        file = file_of(registry)
    with Registry.open(make(tmp_path / "other")) as other:
        shutil.copy(file, file_of(other))
        assert proposals.opened(other, KERNEL_SPACE) is None
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.execute("UPDATE main.spaces SET epoch = coalesce(epoch, 0) + 1")
    with Registry.open(path) as registry:
        assert proposals.opened(registry, KERNEL_SPACE) is None
        assert proposals.check(registry, KERNEL_SPACE) is None
        written(registry)
        assert proposals.opened(registry, KERNEL_SPACE) is not None


def test_it_is_written_with_the_index_of_many_models(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    load_index(registry, registry.space("dds"), renew=True)
    assert not file_of(registry).exists()
    monkeypatch.setattr(neighbours, "Lists", index_kinds.Rows)
    for name in ("saliency", "both"):
        load_index(registry, registry.space(name), renew=True)
    assert [file.name for file in file_of(registry).parent.glob("*.proposals")] == [file_of(registry).name]
    data, inode = file_of(registry).read_bytes(), file_of(registry).stat().st_ino
    load_index(registry, registry.space("both"), renew=True)
    assert file_of(registry).stat().st_ino == inode
    load_index(registry, registry.space("dds"), renew=True)
    assert file_of(registry).stat().st_ino != inode
    assert file_of(registry).read_bytes() == data
    index.remove(file_of(registry).parent, {MAPS.space_id})
    assert not file_of(registry).exists()


def test_it_is_written_again_when_a_tenth_of_the_models_are_newer(path: Path) -> None:
    with Registry.open(path) as registry:
        written(registry)
        inode = file_of(registry).stat().st_ino
    for seed, expected in ((30, 17), (31, 19)):  # one of 18 models is newer, and two of 19
        with Registry.open(path, write=True) as registry:
            add(registry, seed, MAPS, KERNELS)
        with Registry.open(path) as registry:
            proposals.refresh(registry, KERNEL_SPACE)
            file = proposals.opened(registry, KERNEL_SPACE)
            assert file is not None
            assert len(file.ids) == expected
            assert (file_of(registry).stat().st_ino == inode) == (expected == 17)


def test_it_is_not_written_for_other_spaces_or_models_that_are_all_alike(tmp_path: Path, registry: Registry) -> None:
    for spec in (MAPS, BOTH, KernelSpace.define("rsa", "rsa", "probes", N, 0, 32, "sum")):
        proposals.refresh(registry, space_of(spec), renew=True)
    (tmp_path / "alike" / INDEX).mkdir(parents=True)
    for count in (0, 1, 5):
        home = tmp_path / f"alike {count}"
        (home / INDEX).mkdir(parents=True)
        with create(home / REGISTRY, KERNELS) as alike:
            for seed in range(count):
                add(alike, seed, KERNELS)
            proposals.refresh(alike, KERNEL_SPACE, renew=True)
        assert not list((home / INDEX).iterdir())
    assert not list(file_of(registry).parent.iterdir())


def test_verify_checks_it(path: Path) -> None:
    def checked() -> list[tuple[bool, str]]:
        checks = verify(path.parent, deep=False, progress=None)
        return [(check.ok, check.detail) for check in checks if check.what == "dds: proposals"]

    assert checked() == []
    with Registry.open(path) as registry:
        written(registry)
        file = file_of(registry)
    assert checked() == [(True, "17 models")]
    intact = file.read_bytes()
    file.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    assert checked() == [(False, "17 of 17 are damaged")]
