"""`verify` on a registry of drawn models: which checks it makes, what it names, what it advises.

These are the quick tests of `verbs/verify.py`, which scripts/run_mutants.py tries on its mutants;
tests/verbs/test_verify.py damages a registry of networks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from PIL import Image
from small_spaces import BOTH, KERNELS, MAPS, add, blocks_of, create

from modelspace.home import INDEX, REGISTRY
from modelspace.registry import Registry
from modelspace.results import Check
from modelspace.spaces import affinity, coordinates
from modelspace.spaces.neighbours import load_index
from modelspace.spaces.probe_sets import ProbeChoice, create_probes
from modelspace.verbs import pending, verify
from modelspace.verbs.verify import _Comparison

MODELS = 12
ABOUT_MAPS = (
    "restore a copy of the registry, or remove the model and add it again; "
    "don't use `space.rebuild(coordinates=True)`, which would rely on the damaged maps"
)
REBUILD = "run `space.rebuild(coordinates=True)`"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve models in a space of maps; the first three also in a space of kernels and a blend. No index files."""
    home = tmp_path_factory.mktemp("whole")
    with create(home / REGISTRY, MAPS, KERNELS) as registry:
        for seed in range(MODELS):
            add(registry, seed, MAPS, *((KERNELS,) if seed < 3 else ()))
        with registry.transaction():
            registry.add_space(BOTH, default=False)
            affinity.fill(registry, BOTH)
    return home


@pytest.fixture
def home(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "home")
    return tmp_path / "home"


def checks(home: Path, deep: bool = False) -> dict[str, Check]:
    """By what they check; without that of the images, whose fingerprint is made up."""
    found = verify.verify(home, deep=deep, progress=None)
    return {check.what: check for check in found if check.what != "probe set rooms"}


def failures(home: Path, deep: bool = True) -> dict[str, Check]:
    return {what: check for what, check in checks(home, deep).items() if not check.ok}


def change(home: Path, statement: str, *values: object) -> None:
    """Change a row, and drop the checksums, which would tell: here the numbers alone must."""
    with duckdb.connect(str(home / REGISTRY)) as db:
        (count,) = db.execute(statement, list(values)).fetchall()[0]
        assert count >= 1
        db.execute("UPDATE embeddings SET vector_checksum = NULL, affinities_checksum = NULL")
        db.execute("UPDATE maps SET checksum = NULL")


def edit(home: Path, model_id: int, column: str, change_of: Callable[[Any], Any], table: str = "embeddings") -> None:
    """Change what the space of maps has stored for a model."""
    where = f"WHERE space_id = '{MAPS.space_id}' AND model_id = {model_id}"
    where += " AND first_image = 0" if table == "maps" else ""
    with duckdb.connect(str(home / REGISTRY)) as db:
        (value,) = db.execute(f"SELECT {column} FROM {table} {where}").fetchall()[0]
    change(home, f"UPDATE {table} SET {column} = ? {where}", change_of(value))


def roll_maps(home: Path, *model_ids: int) -> None:
    for model_id in model_ids:
        edit(home, model_id, "codes", partial(rolled, by=model_id), "maps")


def rolled(data: bytes, by: int) -> bytes:
    return np.roll(np.frombuffer(data, "<f4"), by).tobytes()


def raised(at: int, by: float) -> Callable[[list[float]], list[float]]:
    return lambda values: [value + by * (k == at) for k, value in enumerate(values)]


@pytest.mark.wide
def test_the_checks_of_a_whole_registry(home: Path) -> None:
    found = verify.verify(home, deep=False, progress=None)
    spaces = [f"{name}: {what}" for name in ("saliency", "dds", "both") for what in ("vectors", "maps", "index file")]
    assert [check.what for check in found] == ["tables", *spaces]
    assert all(check.ok for check in found)
    by_name = {check.what: check for check in found}
    assert by_name["tables"].detail == "12 models, 3 spaces"
    assert by_name["saliency: vectors"].detail.startswith("12 models; largest error of an inner product ")
    assert by_name["dds: vectors"].detail.startswith("3 models; ")
    # of the models at positions 0, 2, 5, 8 and 11
    assert by_name["saliency: maps"].detail.startswith("26 affinities recomputed; largest difference ")
    for check in found:
        error = check.detail.rpartition(" ")[2]
        assert check.what.endswith(("file", "tables")) or 0 <= float(error) < 1e-9
        assert check.hint == ("run `space.rebuild()`" if check.what.endswith("file") else "")
    deep = [check.what for check in verify.verify(home, deep=True, progress=None)]
    assert deep == ["tables", "probe set rooms", *spaces]
    assert checks(home, deep=True)["saliency: maps"].detail.startswith("66 affinities recomputed")
    assert not failures(home)


@pytest.mark.wide
def test_progress(home: Path) -> None:
    steps: list[tuple[int, int]] = []
    verify.verify(home, deep=True, progress=lambda done, total: steps.append((done, total)))
    assert steps == [*((k, 12) for k in range(1, 13)), *[(1, 3), (2, 3), (3, 3)] * 2]
    steps.clear()
    verify.verify(home, deep=False, progress=lambda done, total: steps.append((done, total)))
    assert steps[:5] == [(k, 5) for k in range(1, 6)]


@pytest.mark.wide
def test_an_empty_space_has_only_an_index_file(tmp_path: Path) -> None:
    create(tmp_path / REGISTRY, MAPS).close()
    assert list(checks(tmp_path)) == ["tables", "saliency: index file"]
    assert checks(tmp_path)["tables"].detail == "0 models, 1 spaces"


@pytest.mark.first(1)
@pytest.mark.parametrize("deep", [False, True])
def test_images_are_compared_with_their_fingerprint_if_deep(tmp_path: Path, deep: bool) -> None:
    """Of rendered images the version that renders them is compared, stored images are read."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for k in range(3):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{k}.png")
    path = tmp_path / "home" / REGISTRY
    create_probes(path, "drawn", ProbeChoice("rooms", images=2))
    create_probes(path, "stored", ProbeChoice(tmp_path / "images", images=3))
    found = checks(path.parent, deep)
    if not deep:
        assert list(found) == ["tables"]
        return
    assert found["probe set drawn"] == Check("probe set drawn", True, "renders the same images", "")
    assert found["probe set stored"] == Check("probe set stored", True, "3 stored images", "")
    change(path.parent, "UPDATE probe_images SET png = (SELECT png FROM probe_images WHERE k = 1) WHERE k = 2")
    found = checks(path.parent, deep)
    assert found["probe set drawn"].ok
    damaged = found["probe set stored"]
    assert (damaged.ok, damaged.hint) == (False, "restore a copy of the registry")
    assert "fingerprint" in damaged.detail


def test_a_rendered_probe_set_that_shows_something_else(home: Path) -> None:
    """The fingerprint "probes" is that of no rooms. Another version may render them, so a copy is of no use."""
    check = next(c for c in verify.verify(home, deep=True, progress=None) if c.what == "probe set rooms")
    assert not check.ok
    assert check.hint != "restore a copy of the registry"


@pytest.mark.wide
def test_contradicting_tables_are_named_and_need_a_copy(home: Path) -> None:
    change(home, "UPDATE models SET layer = 'x' WHERE name = 'm1'")
    found = checks(home)
    assert "tables" not in found
    assert found["model m1"].hint == "restore a copy of the registry"
    assert "identity" in found["model m1"].detail
    assert list(failures(home)) == ["model m1"]


def test_saved_passes_are_checked_last(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "checks", lambda path: iter([Check("finished pass", True, str(path))]))
    assert verify.verify(home, deep=False, progress=None)[-1].detail == str(home / REGISTRY)


@pytest.mark.wide
def test_index_files(home: Path) -> None:
    """A missing or stale one is built by the next query; a damaged one is a failure."""
    check = checks(home)["saliency: index file"]
    assert (check.ok, check.detail) == (True, "missing: the file does not exist")
    with Registry.open(home / REGISTRY) as registry:
        load_index(registry, registry.space("saliency"))
    assert checks(home)["saliency: index file"] == Check("saliency: index file", True, "fresh", "")
    with Registry.open(home / REGISTRY, write=True) as registry:
        add(registry, 20, MAPS)
    check = checks(home)["saliency: index file"]
    assert (check.ok, check.hint) == (True, "run `space.rebuild()`")
    assert check.detail.startswith("stale: generation is")
    (home / INDEX / f"{MAPS.space_id}.json").write_text("{")
    check = failures(home)["saliency: index file"]
    assert (check.detail, check.hint) == ("damaged: the manifest is not JSON", "run `space.rebuild()`")


# ---- damage


def test_damaged_vectors_are_rebuilt(home: Path) -> None:
    edit(home, 5, "vector", raised(0, 1e-4))
    found = failures(home)
    assert list(found) == ["saliency: vectors"]
    assert found["saliency: vectors"].hint == REBUILD
    assert 1e-5 < float(found["saliency: vectors"].detail.rpartition(" ")[2]) < 1e-3


def test_damaged_affinities_are_rebuilt(home: Path) -> None:
    edit(home, 6, "affinities", raised(2, 2e-4))
    found = failures(home)
    assert list(found) == ["saliency: vectors", "saliency: maps"]
    assert {check.hint for check in found.values()} == {REBUILD}
    assert found["saliency: maps"].detail == "66 affinities recomputed; largest difference 2.0e-04"
    assert found["saliency: vectors"].detail == "12 models; largest error of an inner product 2.0e-04"


def test_a_difference_that_rounding_explains_is_none(home: Path) -> None:
    edit(home, 6, "affinities", raised(2, 0.9e-6))
    assert not failures(home)


@pytest.mark.sampled(2)
@pytest.mark.wide
@pytest.mark.parametrize(
    ("damaged", "named"),
    [((1,), "m0"), ((12,), "m11"), ((4, 9), "m3, m8"), ((10, 11), "m9, m10"), ((2, 4, 6, 8, 10), "m1, m3, m5, m7, m9")],
)
def test_models_with_damaged_maps_are_named(home: Path, damaged: tuple[int, ...], named: str) -> None:
    roll_maps(home, *damaged)
    check = failures(home)["saliency: maps"]
    assert check.detail.endswith(f"; the affinities were not computed from the stored maps of {named}")
    assert check.hint == ABOUT_MAPS
    assert set(failures(home)) <= {"saliency: maps", "both: maps"}


@pytest.mark.wide
def test_all_pairs_are_compared_if_the_sample_disagrees(home: Path) -> None:
    assert checks(home)["saliency: maps"].detail.startswith("26 affinities")
    roll_maps(home, 10, 11)
    assert checks(home)["saliency: maps"].detail.startswith("66 affinities")


@pytest.mark.wide
def test_five_models_are_named_and_the_others_counted(home: Path) -> None:
    roll_maps(home, 2, 4, 6, 8, 10, 12)
    assert failures(home)["saliency: maps"].detail.endswith(" of m1, m3, m5, m7, m9 and 1 more")


def test_with_damaged_maps_vectors_are_not_rebuilt_from_them(home: Path) -> None:
    roll_maps(home, 4)
    edit(home, 9, "vector", raised(1, 1e-4))
    found = failures(home)
    assert found["saliency: vectors"].hint == "restore a copy of the registry"
    assert found["saliency: maps"].hint == ABOUT_MAPS


def test_missing_maps_of_the_first_model(home: Path) -> None:
    change(home, "DELETE FROM maps WHERE model_id = 1 AND space_id = ?", MAPS.space_id)
    check = failures(home, deep=False)["saliency: maps"]
    assert check.detail == "maps of model 1 in space 'saliency' are missing"
    assert check.hint == "run `space.verify()`"


@pytest.mark.wide
def test_past_the_cap_vectors_of_projected_models_need_not_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With those that own an axis they must."""
    defaults = (2, coordinates.TOLERANCE)
    monkeypatch.setattr(coordinates.Factor.__init__, "__defaults__", defaults)
    monkeypatch.setattr(coordinates.Factor.from_rows.__func__, "__defaults__", defaults)  # type: ignore[attr-defined]
    with create(tmp_path / REGISTRY, MAPS) as registry:
        for seed in range(3):
            add(registry, seed, MAPS)
        model_id = add(registry, 3)
        # as a registry would have it that kept more affinities than its coordinates need
        with registry.transaction():
            affinity.append(registry, MAPS, model_id, blocks_of(3), {})
            rows = registry.embeddings(MAPS.space_id)
            full = affinity.contributions(registry, MAPS, blocks_of(3), [1, 2, 3])
            rows[3] = type(rows[3])(
                model_id, 3, rows[3].vector, np.array([full[i].mean() for i in (1, 2, 3)]), None, rows[3].residual
            )
            registry.replace_coordinates(MAPS.space_id, rows)
    assert not failures(tmp_path)
    edit(tmp_path, model_id, "vector", raised(1, 1e-4))
    assert list(failures(tmp_path)) == ["saliency: vectors"]


# ---- which model is damaged


def compared(*suspects: tuple[int, int]) -> _Comparison:
    """Pairs whose affinity and vectors agree, and contradict the maps."""
    out = _Comparison()
    for position in range(8):
        maps = np.array([0.5 + 0.1 * ((other, position) in suspects) for other in range(position)])
        out.take(position, maps, np.full(position, 0.5), np.full(position, 0.5))
    return out


@pytest.mark.parametrize(
    ("pairs", "damaged"),
    [
        ((), []),
        (((1, 4),), [1, 4]),  # which of the two can't be told
        (((1, 4), (1, 5)), [1]),
        (((1, 4), (2, 5)), [1, 2, 4, 5]),
        (tuple((a, b) for b in range(8) for a in range(b) if {a, b} & {3, 6}), [3, 6]),
        (((0, 3), (1, 3), (2, 3), (4, 6)), [3, 4, 6]),
    ],
)
def test_of_two_models_that_disagree_the_one_with_more_disagreements_is_damaged(
    pairs: tuple[tuple[int, int], ...], damaged: list[int]
) -> None:
    found = compared(*pairs)
    assert found.pairs == 28
    assert found.worst == pytest.approx(0.1 if pairs else 0.0)
    assert sorted(found.contradicted) == sorted(pairs)
    assert found.damaged() == damaged


def test_a_model_is_suspected_only_if_affinity_and_vectors_contradict_its_maps() -> None:
    maps, stored = np.array([0.5, 0.5, 0.5, np.nan]), np.array([0.5, 0.6, 0.6, 0.5])
    found = _Comparison()
    found.take(4, maps, stored, np.array([0.7, 0.5, 0.7, 0.5]))
    assert found.contradicted == [(2, 4), (3, 4)]
    assert (found.pairs, found.worst) == (4, np.inf)
    found.take(0, np.zeros(0), np.zeros(0), np.zeros(0))
    assert (found.pairs, found.worst) == (4, np.inf)
    edge = _Comparison()
    edge.take(1, np.array([0.0]), np.array([verify.TOLERANCE]), np.array([1.0]))
    edge.take(1, np.array([0.0]), np.array([1.0]), np.array([verify.TOLERANCE]))
    assert not edge.contradicted
