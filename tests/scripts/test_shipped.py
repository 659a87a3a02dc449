"""The registry at the top level of the project: it can be queried in place, and holds what the zoo's weights give. So
does the full one, if `make registry-full` has been run; a small one like it is always built."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from modelspace import zoo
from modelspace.embedding.prepare import Request, prepared
from modelspace.home import INDEX, REGISTRY
from modelspace.registry import Registry
from modelspace.spaces import affinity
from modelspace.spaces.kinds import space_of
from modelspace.spaces.probe_sets import images
from modelspace.verbs.add import run_pass
from modelspace.workspace import ModelSpace

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import build_registry  # noqa: E402

AGAIN = ("rgb2sfnorm", "class_1000")
SHIPPED, FULL, LITTLE = "shipped", "full", "little"

#: What git should have to carry.
MOST_BYTES = 8_000_000


def digests(home: Path) -> dict[str, str]:
    files = [home / REGISTRY, *sorted((home / INDEX).iterdir())]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def held(home: Path) -> set[tuple[str, str]]:
    return {(info.method, info.probes) for info in ModelSpace.open(home).spaces()}


def expected(methods: tuple[str, ...], probes: tuple[str, ...]) -> set[tuple[str, str]]:
    return {(method, name) for method in (*methods, "dds", "local", "blend") for name in probes}


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models in all spaces of the full registry, of few images."""
    home = tmp_path_factory.mktemp("full")
    space = build_registry.make_spaces(
        home, 3, feature_images=12, probes=build_registry.PROBES, methods=build_registry.METHODS
    )
    build_registry.fill(space, AGAIN)
    build_registry.finish(space, None)
    return home


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Path:
    if request.param == FULL and not (build_registry.FULL / REGISTRY).is_file():
        pytest.skip("there is no full registry: run 'make registry-full'")
    if request.param == LITTLE:
        return request.getfixturevalue("little")  # type: ignore[no-any-return]
    return ROOT if request.param == SHIPPED else build_registry.FULL


def test_it_holds_the_whole_zoo_and_an_index_that_fits() -> None:
    shipped = ModelSpace.open(ROOT)
    assert {info.name for info in shipped.list()} == set(zoo.names())
    assert [info.name for info in shipped.spaces() if info.is_default] == ["transfer"]
    for info in shipped.spaces():
        assert info.index == "fresh"
        assert info.n_models == len(zoo.names())


def test_it_holds_the_standard_spaces_and_is_small() -> None:
    assert held(ROOT) == expected(build_registry.SHIPPED_METHODS, build_registry.PROBES[:1])
    assert (ROOT / REGISTRY).stat().st_size <= MOST_BYTES
    assert len(list((ROOT / INDEX).iterdir())) == 2 * len(held(ROOT))


@pytest.mark.wide
@pytest.mark.parametrize("home", [FULL, LITTLE], indirect=True)
def test_the_full_registry_has_all_methods_and_probe_sets(home: Path) -> None:
    assert held(home) == expected(build_registry.METHODS, build_registry.PROBES)
    assert [info.name for info in ModelSpace.open(home).spaces() if info.is_default] == ["transfer"]
    for info in ModelSpace.open(home).spaces():
        assert info.index == "fresh"
        assert info.n_models == len(ModelSpace.open(home).list())


def test_task_group_architecture_and_training_data_can_be_queried() -> None:
    shipped = ModelSpace.open(ROOT)
    query = "SELECT count(*), count(task), count(task_group), count(nullif(architecture, '')), count(data) FROM catalog"
    assert shipped.sql(query).rows == [(len(zoo.names()),) * 5]
    groups = dict(shipped.sql("SELECT task_group, count(*) FROM catalog GROUP BY 1").rows)
    assert set(groups) == {"2D", "3D", "geometric", "semantic"}


@pytest.mark.wide
def test_queries_change_no_byte_of_it() -> None:
    before = digests(ROOT)
    shipped = ModelSpace.open(ROOT)
    shipped.nearest("rgb2depth")
    shipped.sql("FROM nearest('rgb2depth', 3)")
    shipped.list()
    assert all(check.ok for check in shipped.verify())
    assert digests(ROOT) == before


def test_without_its_index_it_answers_the_same(tmp_path: Path) -> None:
    shutil.copy(ROOT / REGISTRY, tmp_path / REGISTRY)
    assert (
        ModelSpace.open(tmp_path).nearest("rgb2depth").to_dicts()
        == ModelSpace.open(ROOT).nearest("rgb2depth").to_dicts()
    )
    # And the indexes that are made, of the space and of the maps that are its evidence, are byte for byte the shipped.
    made = digests(tmp_path)
    assert len(made) == 5
    assert made.items() <= digests(ROOT).items()


def test_its_weights_are_the_zoos() -> None:
    from modelspace import sources

    for name in ("rgb2depth", "class_places"):
        assert ModelSpace.open(ROOT).show(name).weights_sha256 == sources.load(f"zoo:{name}").weights_sha256


@pytest.mark.first(1)
@pytest.mark.parametrize("name", AGAIN)
@pytest.mark.parametrize("home", [SHIPPED, FULL, LITTLE], indirect=True)
def test_a_model_embedded_again_has_the_same_affinities(home: Path, name: str) -> None:
    path = home / REGISTRY
    with Registry.open(path) as registry:
        rows = registry.spaces()
        sets = {row.probe_id: row for row in registry.probe_sets()}
    wanted = [(row.spec, sets[row.spec.probe_id]) for row in rows if not space_of(row.spec).is_derived]
    example = next(images(path, wanted[0][1], 0, 2, 2))
    with prepared(Request(f"zoo:{name}", device="cpu"), example) as ready:
        blocks, card, _ = run_pass(path, ready, wanted, None, None)
    shipped = ModelSpace.open(home)
    assert card.identity() == stored_identity(path, name)
    for spec, _ in wanted:
        stored = shipped.affinity(spec.name)
        position = stored.names.index(name)
        with Registry.open(path) as registry:
            ids = {row.card.name: row.model_id for row in registry.models()}
            again = affinity.contributions(registry, spec, blocks, [ids[other] for other in stored.names])
        found = np.array([again[ids[other]].mean() for other in stored.names])
        # Codes may differ by one where another processor rounds differently.
        np.testing.assert_allclose(found, stored.matrix[position], atol=2e-3)


def stored_identity(path: Path, name: str) -> str:
    with Registry.open(path) as registry:
        return registry.model(name).card.identity()


@pytest.mark.long
def test_its_report_says_how_far_it_agrees_with_measured_transfer() -> None:
    shipped = ModelSpace.open(ROOT)
    section = shipped.report().sections[-1]
    assert section.heading == "Agreement with measured transfer"
    by_method = {row[0]: row for row in section.table}
    own = shipped.evaluate().row("transfer").summary
    assert by_method["transfer"][2] == f"{own['precision'].mean[4]:.2f}"
    assert by_method["transfer"][3] == f"{float(own['spearman'].mean):.2f}"
    assert {"random", "popularity", "SVCCA"} <= set(by_method)
