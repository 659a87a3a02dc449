"""The simulated population: what is stored, what affinities follow from it, and that both agree."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from modelspace.registry import MapBlock, Registry
from modelspace.representations import kernels, maps
from modelspace.spaces import affinity, anchors, coordinates
from modelspace.spaces.kinds import space_of
from modelspace.types import Preprocessing
from modelspace.workspace import ModelSpace

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import simulate_population  # noqa: E402
from population import draws, families, filling, hub, page, targets  # noqa: E402
from population.kernels import KernelPopulation  # noqa: E402
from population.maps import MapPopulation  # noqa: E402

N, IMAGES = 90, 12


@pytest.fixture(scope="module")
def people() -> families.Families:
    return families.families(3, N)


@pytest.fixture(scope="module")
def kernel_population(people: families.Families) -> KernelPopulation:
    return KernelPopulation(3, people, hub.tasks(3, people), IMAGES)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small population past a small number of exact models, filled in three goes; ids are missing among the first."""
    home = tmp_path_factory.mktemp("population")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coordinates, "MAX_EXACT", 24)
        patch.setattr(filling, "BATCH", 32)
        patch.setattr(simulate_population, "FEATURE_IMAGES", IMAGES)
        patch.setattr(simulate_population, "IMAGES", IMAGES)
        patch.setattr(simulate_population, "CANVAS", 6)
        for count in (10, 40, N):
            simulate_population.fill(home, count, 3, ["dds", "transfer", "gradient_x_input"])
            if count == 10:  # as if models had been added and removed
                with Registry.open(home / "registry.duckdb", write=True) as registry, registry.transaction():
                    registry.rows("SELECT nextval('main.model_ids') FROM range(5)")
    return home


def test_draws_are_functions_of_their_keys() -> None:
    a = draws.uniform(1, np.arange(20_000))
    assert np.array_equal(a[7], draws.uniform(1, 7))
    assert not np.array_equal(a, draws.uniform(2, np.arange(20_000)))
    assert np.histogram(a, 10, (0, 1))[0] == pytest.approx(2000, abs=200)
    b = draws.normal(5, np.arange(20_000))
    assert (b.mean(), b.std()) == pytest.approx((0, 1), abs=0.03)
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 0.03


def test_a_larger_population_begins_with_the_smaller_one(people: families.Families) -> None:
    larger = families.families(3, 4 * N)
    for name in ("role", "base", "parent", "four_bits"):
        assert np.array_equal(getattr(larger, name)[:N], getattr(people, name))
    some = np.arange(N)
    assert hub.Hub(3, larger).names(some) == hub.Hub(3, people).names(some)


def test_descent(people: families.Families) -> None:
    larger = families.families(0, 5_000)
    numbers = np.arange(len(larger))
    assert (larger.role[larger.base] == families.BASE).all()
    assert (larger.parent[larger.role == families.FINE_TUNE] == larger.base[larger.role == families.FINE_TUNE]).all()
    copies = larger.role == families.COPY
    assert (larger.role[larger.parent[copies]] != families.COPY).all()
    assert (larger.parent[copies] < numbers[copies]).all()
    assert np.array_equal(larger.base[larger.parent], larger.base)
    sizes = np.bincount(larger.base)
    assert (sizes == 1).sum() > 300  # without relatives
    assert sizes.max() > 100


def test_affinities_of_kernels_are_those_of_what_is_stored(kernel_population: KernelPopulation) -> None:
    ids = np.arange(20)
    codes, scales = kernel_population.codes(ids)
    stored = [
        kernels.from_block(MapBlock(0, IMAGES, code.tobytes(), scale.tobytes()), 8)
        for code, scale in zip(codes, scales, strict=True)
    ]
    unit = np.stack([kernel / np.linalg.norm(kernel) for kernel in stored]).reshape(20, -1)
    assert np.abs(unit @ unit.T - kernel_population.affinities(ids, ids)).max() < 1e-12
    # The same from the features alone, which is how coordinates are computed.
    assert np.abs(kernel_population.against(ids, kernel_population.table(ids)) - unit @ unit.T).max() < 1e-12
    for kernel in stored:  # a centred Gram matrix
        assert np.abs(kernel.sum(axis=0)).max() < 1e-6 * np.linalg.norm(kernel)
        assert np.linalg.eigvalsh(kernel)[0] > -1e-9 * np.linalg.norm(kernel)


@pytest.mark.parametrize("method", ["gradient_x_input", "saliency"])
def test_affinities_of_maps_are_those_of_what_is_stored(people: families.Families, method: str) -> None:
    population = MapPopulation(3, people, hub.tasks(3, people), 5, 6, 4, targets.SHAPES[method])
    ids = np.arange(20)
    codes, scales = population.codes(ids)
    rows = np.stack(
        [
            maps.unit(maps.decode(MapBlock(0, 5, code.tobytes(), scale.tobytes()), 36, 4))
            for code, scale in zip(codes, scales, strict=True)
        ]
    )
    if method == "saliency":
        assert rows.min() >= 0
    expected = np.einsum("aie,bie->ab", rows, rows) / 5
    assert np.abs(expected - population.affinities(ids, ids)).max() < 1e-12


@pytest.mark.wide
def test_what_is_written_is_what_add_would_write(home: Path) -> None:
    """Coordinates are those that `anchors.place` computes from the stored blocks, and stored affinities the maps'."""
    with Registry.open(home / "registry.duckdb") as registry:
        for row in registry.spaces():
            spec, space = row.spec, space_of(row.spec)
            assert row.has_anchors
            assert (row.n_models, row.end) == (N, N)
            ids, vectors = registry.vectors(spec.space_id)[:2]
            for position in (3, 23, 24, 50, N - 1):
                model_id = int(ids[position])
                blocks = affinity.stored_blocks(registry, spec, model_id)
                placed = anchors.place(registry, space, blocks, {}).vector
                assert np.abs(placed - vectors[position]).max() < 2e-6
            embeddings = {e.model_id: e for e in registry.embeddings(spec.space_id)}
            exact, later = embeddings[int(ids[20])], embeddings[int(ids[60])]
            assert (len(exact.affinities), len(later.affinities), len(later.vector)) == (20, 0, 0)
            blocks = affinity.stored_blocks(registry, spec, exact.model_id)
            means = affinity.contributions(registry, spec, blocks, [int(i) for i in ids[:20]])
            assert exact.affinities == pytest.approx([float(v.mean()) for v in means.values()], abs=1e-10)


@pytest.mark.wide
def test_it_passes_verify(home: Path) -> None:
    checks = ModelSpace.open(home).verify(deep=True)
    assert [check.what for check in checks if not check.ok] == []
    assert {check.what.partition(":")[0] for check in checks} > {"dds", "transfer", "gradient_x_input"}


def test_a_changed_block_is_noticed(home: Path) -> None:
    with Registry.open(home / "registry.duckdb", write=True) as registry:
        space_id = registry.space("dds").spec.space_id
        registry.execute("BEGIN")
        registry.execute("UPDATE main.maps SET scales = codes WHERE model_id = 70 AND space_id = ?", [space_id])
        assert registry.changed_maps(space_id, [69, 70]) == [70]
        registry.execute("ROLLBACK")


def test_metadata(home: Path) -> None:
    models = ModelSpace.open(home).list()
    assert len({model.name for model in models}) == N
    with Registry.open(home / "registry.duckdb") as registry:
        rows = registry.models()
    for row in rows:
        assert row.card.preprocessing == Preprocessing.imagenet(row.card.preprocessing.input_size)
        assert set(row.card.tags) == {"family", "role", "licence", "downloads"}
        assert row.card.task in hub.TASKS
    assert {row.card.tags["role"] for row in rows} == set(families.ROLES)


def test_another_population_is_not_mixed_in(home: Path) -> None:
    with pytest.raises(SystemExit, match="is not a population with seed 4"):
        simulate_population.fill(home, N + 1, 4, ["dds", "transfer", "gradient_x_input"])
    assert json.loads((home / "population.json").read_text())["seed"] == 3


def test_a_section_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "scale.md"
    file.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n")
    page.replace_section("x", r"new \1", file)
    assert file.read_text() == "a\n<!-- x: begin -->\n\nnew \\1\n\n<!-- x: end -->\nb\n"
    with pytest.raises(ValueError, match="no section 'y'"):
        page.replace_section("y", "", file)


def test_affinities_follow_those_of_the_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few models and small maps, so the limits are wide; docs/scale.md has the whole table."""
    monkeypatch.setattr(targets, "SAMPLE", 120)
    many = families.families(0, 1_000)
    tasks = hub.tasks(0, many)
    small = {
        "dds": KernelPopulation(0, many, tasks, 200),
        "gradient_x_input": MapPopulation(0, many, tasks, 30, 16, 8, targets.SHAPES["gradient_x_input"]),
    }
    both = {name: (targets.measured(name), targets.simulated(population, many)) for name, population in small.items()}
    for measured, simulated in both.values():
        quantiles = [np.percentile(values[targets.UNRELATED], (5, 25, 50, 75, 95)) for values in (measured, simulated)]
        assert quantiles[0] == pytest.approx(quantiles[1], abs=0.12)
        for relation in targets.RELATIONS[1:]:
            assert np.median(simulated[relation]) == pytest.approx(np.median(measured[relation]), abs=0.13)
        order = [np.median(simulated[relation]) for relation in targets.RELATIONS]
        assert order[0] < order[1] < order[3] < order[2]  # two bases, fine-tunes, copies of 4 bits, of 8 bits
    table = targets.table(both)
    assert table.count("| zoo |") == table.count("| population |") == 8
