"""Pictures of more models than can be compared in pairs: a sample, which they say, and all models where they are shown.

The limits are lowered to a handful of models.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pytest
from picture_space import FakeFit
from small_spaces import BOTH, KERNELS, MAPS, add, create, expected

from modelspace.analysis import Projection, fit_projection, neighbour_recall
from modelspace.errors import DamagedError, ModelspaceWarning, UsageError
from modelspace.registry import Registry
from modelspace.spaces import affinity, coordinates, kinds
from modelspace.verbs import export
from modelspace.verbs.pictures import layout, pages, sampling
from modelspace.workspace import ModelSpace

#: The core tests the parts that these are made of.
pytestmark = pytest.mark.wide

ALL = (MAPS, KERNELS, BOTH)
COUNT = 20


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spaces with anchors: of most pairs no affinity is stored."""
    home = tmp_path_factory.mktemp("many")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coordinates, "MAX_EXACT", 4)
        with create(home / "registry.duckdb", *ALL) as registry:
            for seed in range(COUNT):
                add(registry, seed, *ALL)
    return home


@pytest.fixture
def space(filled: Path, tmp_path: Path) -> ModelSpace:
    shutil.copytree(filled, tmp_path / "home")
    return ModelSpace.open(tmp_path / "home")


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sampling, layout, pages):
        monkeypatch.setattr(module, "MAX_EXACT", 12)
    monkeypatch.setattr(sampling, "DRAWN", 7)
    monkeypatch.setattr(sampling, "MEASURED", 5)
    monkeypatch.setattr(sampling, "FITTED", 10)
    monkeypatch.setattr(pages, "LISTED", 6)


class Fit(FakeFit):
    """Places without UMAP, also of vectors; remembers what was fitted."""

    def __call__(self, names: Sequence[str], affinity: Any = None, *, seed: int = 0, **options: Any) -> Projection:
        if affinity is not None:
            return super().__call__(names, affinity, seed=seed, **options)
        self.calls += 1
        self.names, self.vectors = names, options["vectors"]
        points = np.random.default_rng([seed, self.calls]).normal(size=(len(names), 2))
        recall = neighbour_recall(points, neighbours=np.zeros((len(names), 5), dtype=int))
        return fit_projection(names[:2], np.eye(2)).__class__(tuple(names), points, {"method": "fake"}, seed, recall)


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> Fit:
    return Fit(monkeypatch)


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
@pytest.mark.parametrize(("tile", "columns"), [(1, 5), (256 << 20, 4096)])
def test_affinities_of_all_pairs_are_those_of_the_definition(
    spec: Any, tile: int, columns: int, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "_TILE_BYTES", tile)
    monkeypatch.setattr(kinds, "_COLUMNS", columns)
    seeds = [1, 5, 9, 13, 19]
    with Registry.open(filled / "registry.duckdb") as registry:
        ids, matrix = affinity.matrix(registry, spec, {seed + 1 for seed in seeds})
    assert ids == [seed + 1 for seed in seeds]
    np.testing.assert_allclose(matrix, expected(spec, seeds), atol=2e-6)
    np.testing.assert_array_equal(matrix, matrix.T)


def test_a_model_without_maps_has_no_affinities(space: ModelSpace) -> None:
    with duckdb.connect(str(space.path)) as duck:
        duck.execute("DELETE FROM maps WHERE model_id = 9 AND first_image = 8")
    with Registry.open(space.path) as registry, pytest.raises(DamagedError, match="model 9"):
        affinity.matrix(registry, MAPS, {8, 9, 10})


@pytest.mark.parametrize("name", ["saliency", "dds", "both"])
def test_a_tree_of_more_shows_a_sample_that_covers_them_and_says_so(space: ModelSpace, name: str) -> None:
    clustered = space.clusters(space=name, support=0)
    assert clustered.tree.n_leaves == len(clustered.affinity) == 7
    assert clustered.selection.total == COUNT
    assert "7 of 20 models are shown" in clustered.notes[0]
    assert space.clusters(space=name, support=0).selection.names == clustered.selection.names
    picture = clustered.draw()
    assert picture.facts["notes"] == clustered.notes
    assert "7 models that cover 20" in " ".join(text.get_text() for text in picture.texts)
    seeds = [model_id - 1 for model_id in clustered.selection.ids]
    truth = expected({spec.name: spec for spec in ALL}[name], seeds)
    np.testing.assert_allclose(clustered.affinity, truth, atol=2e-6)


def test_a_sample_has_the_size_that_is_asked_for(space: ModelSpace) -> None:
    assert space.clusters(support=0, sample=3).tree.n_leaves == 3
    some = space.clusters(support=0, sample=3, where="model_id > 10")
    assert (some.selection.total, min(some.selection.ids) > 10) == (10, True)
    whole = space.clusters(support=0, where="model_id > 10", sample=12)
    assert (whole.tree.n_leaves, whole.selection.total, whole.notes) == (10, None, ())
    assert space.heatmap(sample=4).facts["models"] == 4
    for sample in (1, 13):
        with pytest.raises(UsageError, match=f"a sample of {sample} models"):
            space.clusters(sample=sample)
    with pytest.raises(UsageError, match="6 or more"):
        space.map(sample=5)


def test_a_map_is_fitted_to_some_and_has_all(space: ModelSpace, fit: Fit) -> None:
    picture = space.map()
    laid_out = picture.facts["layout"]
    assert (len(fit.names), laid_out.n_fitted, picture.facts["models"]) == (10, 10, COUNT)
    assert "fitted to 10 models drawn at random" in picture.facts["notes"][0]
    points = np.array(space.sql("SELECT x, y FROM places").rows)
    assert len(np.unique(points, axis=0)) == COUNT
    assert picture.facts["recall"].drawn == 5
    fitted = [int(name) for name in fit.names]
    ids, vectors = _vectors(space)
    np.testing.assert_array_equal(fit.vectors, vectors[np.isin(ids, fitted)])
    second = space.map()
    assert (second.facts["layout"].origin, second.facts["layout"].n_fitted, fit.calls) == ("stored", 10, 1)
    assert second.facts["notes"] == picture.facts["notes"]
    space.map(refit=True, sample=15)
    assert len(fit.names) == 15
    assert space.map(refit=True, sample=20).facts["notes"] == ()
    assert len(fit.names) == COUNT


def test_many_new_models_are_placed_at_once(space: ModelSpace, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_PLACED_IN_TURN", 2)
    space.map()
    before = dict(space.sql("SELECT name, [x, y] FROM places").rows)
    with Registry.open(space.path, write=True) as registry:
        for seed in range(COUNT, COUNT + 4):
            add(registry, seed, *ALL)
    laid_out = space.map().facts["layout"]
    assert (laid_out.origin, laid_out.n_new, laid_out.n_fitted) == ("placed", 4, 10)
    after = dict(space.sql("SELECT name, [x, y] FROM places").rows)
    assert {name: after[name] for name in before} == before
    assert len({tuple(place) for place in after.values()}) == COUNT + 4


def _vectors(space: ModelSpace) -> tuple[np.ndarray, np.ndarray]:
    with Registry.open(space.path) as registry:
        return registry.vectors(registry.space().spec.space_id)


def lists(page: str) -> tuple[str, np.ndarray, np.ndarray]:
    """What the lists of an atlas are ordered by, their models and affinities."""
    data = json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])["nearest"]  # type: ignore[index]
    shape = (-1, data["k"])
    models, values = (np.frombuffer(base64.b64decode(data[key]), kind) for key, kind in
                      (("models", "<u4"), ("affinity", "<f4")))  # fmt: skip
    return data["ordered_by"], models.reshape(shape), values.reshape(shape)


@pytest.mark.parametrize("compared", [COUNT, 3])
@pytest.mark.parametrize("where", [None, "model_id > 5"])
def test_an_atlas_has_the_neighbours_of_all(
    space: ModelSpace, fit: Fit, monkeypatch: pytest.MonkeyPatch, compared: int, where: str | None
) -> None:
    monkeypatch.setattr(sampling, "COMPARED", compared)
    monkeypatch.setattr(sampling, "_QUERIES", 7)
    monkeypatch.setattr(pages, "MAX_INTERVALS", 3)
    atlas = space.atlas(k=4, where=where)
    ordered_by, models, values = lists(atlas.html)
    assert ordered_by == pages.BY_COORDINATES
    assert "fitted to 10 models" in atlas.notes[0]
    assert pages.BY_COORDINATES in atlas.notes[1]
    ids, vectors = _vectors(space)
    vectors = vectors[ids > (0 if where is None else 5)].astype(np.float64)
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    np.testing.assert_array_equal(models, np.argsort(-products, axis=1)[:, :4])
    np.testing.assert_allclose(values, -np.sort(-products, axis=1)[:, :4], atol=1e-5)


def test_a_list_that_the_index_left_short_ends_early(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "COMPARED", 3)
    # The model itself is not found, and one of two others is of no selected model.
    index = SimpleNamespace(count=5, search=lambda queries, k, kept: (
        np.tile(np.float32([0.9, 0.8]), (len(queries), 1)), np.tile([2, 99], (len(queries), 1))))  # fmt: skip
    monkeypatch.setattr(sampling, "load_index", lambda *_: index)
    with Registry.open(space.path) as registry:
        selection = sampling.sampled(registry, _selection(registry), 4)
        numbers, products = sampling.nearest_by_coordinates(registry, selection, 3)
    assert (numbers < 4).all()
    known = [2 in selection.ids and model_id != 2 for model_id in selection.ids]
    assert (~np.isnan(products)).sum(axis=1).tolist() == [int(is_known) for is_known in known]


def _selection(registry: Registry) -> Any:
    from modelspace.verbs.pictures.selection import select

    return select(registry)


def test_a_report_draws_a_sample_and_looks_for_duplicates_among_all(space: ModelSpace, fit: Fit) -> None:
    report = space.report(threshold=0.6)
    text = report.markdown()
    for said in (
        "| all models | 20, of which a sample that covers the others is compared below |",
        "Of 7 of the 20 models, chosen to cover the others.",
        "of 6 models drawn at random, which were compared with all 20.",
    ):
        assert said in text
    assert any("7 of 20 models" in note for note in report.notes)
    rows = next(section for section in report.sections if section.heading == "Nearest").table[1:]
    assert len(rows) == 6
    with Registry.open(space.path) as registry:
        names = [row.card.name for row in registry.models()]
        truth = expected(registry.space().spec, list(range(COUNT)))
    np.fill_diagonal(truth, -1)
    for model, nearest, value in rows:
        i = names.index(model)
        assert names[int(truth[i].argmax())] == nearest
        assert float(value) == pytest.approx(truth[i].max(), abs=1e-4)
    pairs = next(section for section in report.sections if section.heading == "Duplicates").table[1:]
    assert pairs
    for a, b, value in pairs:
        assert float(value) == pytest.approx(truth[names.index(a), names.index(b)], abs=1e-4)


def test_pairs_of_too_many_are_not_exported(space: ModelSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MOST_IN_PAIRS", {"affinity": 15, "tree": 15})
    with pytest.warns(ModelspaceWarning, match="affinity and tree of 20 models are not exported"):
        written = space.export(tmp_path / "out")
    assert [row.what for row in written] == ["models", "vectors", "neighbours"]
    for what in ("affinity", "tree"):
        with pytest.raises(UsageError, match=f"{what} of 20 models has too many pairs"):
            space.export(tmp_path / "other", what)
    assert not (tmp_path / "other").exists()
    (row,) = space.export(tmp_path / "some", "affinity", where="model_id > 5")
    assert row.rows == 15 * 14 // 2
