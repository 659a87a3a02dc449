"""Atlas and report agree with the queries; curves agree with an evaluation."""

from __future__ import annotations

import base64
import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_space import NAMES, FakeFit, make

from modelspace.errors import NotFoundError, UsageError
from modelspace.spaces.ranking import Ranking
from modelspace.verbs.pictures import pages
from modelspace.verbs.pictures.curves import curves_picture, read_curves
from modelspace.workspace import ModelSpace

EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    made = make(tmp_path_factory.mktemp("pages"))
    made.tag("d", {"note": EVIL}, task=EVIL)
    with pytest.MonkeyPatch.context() as patch:
        FakeFit(patch)
        made.map()
        made.map(space="saliency")
    return made


def document(page: str) -> dict[str, Any]:
    found = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def unpacked(text: str, kind: str, width: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind).reshape(-1, width)


@pytest.mark.wide
@pytest.mark.parametrize("name", ["gradient_x_input", "saliency"])
def test_the_neighbours_of_an_atlas_are_those_of_nearest(space: ModelSpace, name: str) -> None:
    data = document(space.atlas(space=name, k=4).html)
    assert data["names"] == NAMES
    nearest = data["nearest"]
    models = unpacked(nearest["models"], "<u4", 4)
    for i, model in enumerate(NAMES):
        expected = space.nearest(model, 4, space=name)
        assert [NAMES[j] for j in models[i]] == [row.name for row in expected]
        for field in ("affinity", "low", "high"):
            np.testing.assert_allclose(
                unpacked(nearest[field], "<f4", 4)[i], [getattr(row, field) for row in expected], atol=1e-6
            )


@pytest.mark.wide
def test_an_atlas_has_the_scores_and_ties_of_nearest(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = document(space.atlas().html)["nearest"]
    assert plain["ordered_by"] == "affinity"
    assert "score" not in plain, "the affinity says it"
    monkeypatch.setattr(pages, "_ranking", lambda spec, n: Ranking("csls"))
    nearest = document(space.atlas(k=4).html)["nearest"]
    assert nearest["ordered_by"] == "affinity corrected for hubs (csls)"
    numbers, scores = unpacked(nearest["models"], "<u4", 4), unpacked(nearest["score"], "<f4", 4)
    tied = unpacked(nearest["tied"], "<u1", 4)
    for i, model in enumerate(NAMES):
        expected = space.nearest(model, 4, hubs="csls")
        assert [NAMES[j] for j in numbers[i]] == [row.name for row in expected]
        np.testing.assert_allclose(scores[i], [row.score for row in expected], atol=1e-6)
        assert tied[i].astype(bool).tolist() == [row.tied_with_next for row in expected]


@pytest.mark.wide
def test_a_second_map_is_of_the_same_models_in_another_space(space: ModelSpace) -> None:
    data = document(space.atlas(beside="saliency", k=3).html)
    alone = document(space.atlas(space="saliency", k=3).html)
    assert (data["space"], data["beside"]["space"]) == ("gradient_x_input", "saliency")
    for key in ("places", "note"):
        assert data["beside"][key] == alone[key]
    assert data["beside"]["nearest"] == alone["nearest"]
    assert alone["beside"] is None
    assert alone["space"] == "saliency", "the commands to copy name the space, which is not the default"
    assert document(space.atlas().html)["space"] == ""
    with pytest.raises(UsageError, match="both maps are of the space 'saliency'"):
        space.atlas(space="saliency", beside="saliency")
    with pytest.raises(NotFoundError, match="salience"):
        space.atlas(beside="salience")


def test_models_that_a_space_lacks_are_left_out_of_its_lists() -> None:
    numbers = np.array([[1, 2], [2, 0], [0, 1]])
    values = np.array([[0.9, 0.8], [0.7, 0.6], [0.5, 0.4]])
    ties = np.array([[True, False], [True, False], [False, False]])
    lists = pages._Nearest(numbers, values, (values - 0.1, values + 0.1), values * 2, ties)
    # The first model becomes number 3 of four, the second is unknown, and the third becomes number 0.
    moved = lists.in_rows(np.array([3, -1, 0]), 4)
    assert moved.numbers[3].tolist() == [0, 0]
    np.testing.assert_array_equal(moved.affinities[3], [0.8, np.nan])
    np.testing.assert_array_equal(moved.affinities[0], [0.5, np.nan])
    assert moved.numbers[0, 0] == 3
    assert np.isnan(moved.affinities[1:3]).all()
    assert moved.scores is not None
    np.testing.assert_array_equal(moved.scores[3], [1.6, np.nan])
    assert moved.bounds is not None
    np.testing.assert_allclose(moved.bounds[0][3, 0], 0.7)
    assert moved.tied is not None
    assert not moved.tied.any(), "what it was tied with is left out"
    same = lists.in_rows(np.arange(3), 3)
    np.testing.assert_array_equal(same.numbers, numbers)
    np.testing.assert_array_equal(same.tied, ties)


def test_the_probe_images_of_the_maps_come_along(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    data = document(space.atlas().html)
    assert data["tiles"] == len(data["images"]) == 3
    width, height, pixels = data["images"][1]
    shown = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 3)
    (image,) = space.probe_images(images=[1])
    step = image.shape[0] // height
    mean = image.reshape(height, step, width, step, 3).mean(axis=(1, 3))
    assert np.abs(shown - mean).max() <= 0.5

    def fails(*_: object) -> None:
        raise NotFoundError("the images are on another machine")

    monkeypatch.setattr(pages, "probe_photographs", fails)
    data = document(space.atlas().html)
    assert (data["images"], data["tiles"]) == ([], 3)


def test_of_very_many_models_it_has_no_intervals(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    with_intervals = document(space.atlas().html)["nearest"]
    monkeypatch.setattr(pages, "MAX_INTERVALS", 5)
    without = document(space.atlas().html)["nearest"]
    assert "low" not in without
    assert without["models"] == with_intervals["models"]
    assert without["affinity"] == with_intervals["affinity"]


def test_an_atlas_has_all_columns_and_they_are_data(space: ModelSpace) -> None:
    page = space.atlas()
    assert EVIL not in page.html
    columns = {column["name"]: column for column in document(page.html)["columns"]}
    assert {"group", "task", "architecture", "parameters", "layer", "uri", "note"} <= set(columns)
    assert "tag group" not in columns
    again = document(space.atlas(group_by="task").html)["columns"]
    assert [column["name"] for column in again if column["name"] in ("group", "tag group", "task")] == [
        "group",
        "tag group",
    ]
    assert columns["note"]["texts"] == [EVIL]
    thumbnails = document(page.html)["thumbnails"]
    assert [(width, height) for width, height, *_ in thumbnails.values()] == [(24, 8)] * 6


def test_an_atlas_of_some_models_ranks_among_them(space: ModelSpace) -> None:
    data = document(space.atlas(where="name IN ('a', 'b', 'c')").html)
    assert data["names"] == ["a", "b", "c"]
    first = unpacked(data["nearest"]["models"], "<u4", 2)[0]
    assert [data["names"][j] for j in first] == [row.name for row in space.nearest("a", where="name IN ('b', 'c')")]
    with pytest.raises(UsageError, match="at least 1"):
        space.atlas(k=0)


@pytest.mark.wide
def test_a_report_names_the_space_and_its_duplicates(space: ModelSpace, tmp_path: Path) -> None:
    report = space.report(threshold=0.5)
    text = report.markdown()
    assert "gradient\\_x\\_input" in text
    assert "6 of rooms" in text
    assert re.search(r"\| a \| a2 \|", text)
    assert EVIL not in report.html()
    assert [section.heading for section in report.sections][:2] == ["Counts", "Map"]


VALUE = {
    "methods": [
        {"method": method, "summary": {"precision": {"mean": p}, "recall": {"mean": r}}}
        for method, p, r in (
            ("ours", [1.0, 0.5], [0.2, 0.4]),
            ("random", [0.25, 0.25], [0.1, 0.2]),
            ("popularity", [0.5, 0.5], [0.1, 0.3]),
        )
    ]
}


def write_csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "figure", "k", "mean", "low", "high"])
        for row in VALUE["methods"]:
            writer.writerow([row["method"], "spearman", "", 0.3, 0.1, 0.5])
            for figure in ("precision", "recall"):
                writer.writerows(
                    [
                        [row["method"], figure, k + 1, mean, 0, 1]
                        for k, mean in enumerate(row["summary"][figure]["mean"])
                    ]
                )


def test_curves_of_json_and_csv_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps(VALUE))
    write_csv(tmp_path / "e.csv")
    curves = read_curves(tmp_path / "e.json")
    assert curves == read_curves(tmp_path / "e.csv")
    assert curves["ours"] == {"precision": [1.0, 0.5], "recall": [0.2, 0.4]}
    picture = curves_picture(tmp_path / "e.csv")
    drawn = {line.get_gid(): line for axes in picture.axes for line in axes.lines if line.get_gid()}
    assert set(drawn) == {"line:ours", "line:popularity"}


def test_curves_have_the_intervals_of_the_file_as_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    value = json.loads(json.dumps(VALUE)) | {
        "oracle": "rooms",
        "targets": ["a"],
        "sources": ["b", "c"],
        "confidence": 0.9,
    }
    value["methods"][0]["summary"]["precision"] |= {"low": [0.8, None], "high": [1.0, None]}
    (tmp_path / "e.json").write_text(json.dumps(value))
    picture = curves_picture(tmp_path / "e.json")
    bands = [collection.get_gid() for axes in picture.axes for collection in axes.collections]
    assert bands == ["band:ours"], "one of precision, none of recall"
    ends = picture.axes[0].collections[0].get_paths()[0].vertices
    assert {0.8, 1.0} <= set(np.asarray(ends)[:, 1])
    (caption,) = [text.get_text() for text in picture.texts if text.get_gid() == "caption"]
    assert caption == "Oracle rooms: 1 targets, 2 sources; bands: 90% intervals over targets; drawn 2026-01-01"
    write_csv(tmp_path / "e.csv")
    panels = curves_picture(tmp_path / "e.csv").axes
    assert [[c.get_gid() for c in axes.collections] for axes in panels] == [["band:ours", "band:popularity"]] * 2
    plain = curves_picture(tmp_path / "e.json").facts["curves"]
    assert plain == read_curves(tmp_path / "e.json")


def test_files_without_curves_are_refused(tmp_path: Path) -> None:
    for name, content in {
        "a.json": "{}",
        "b.json": "no json",
        "c.csv": "name,task\na,b\n",
        "d.txt": "x",
        "e.json": json.dumps({"methods": VALUE["methods"][1:2]}),
    }.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UsageError) as caught:
            read_curves(tmp_path / name)
        assert "`space.evaluate()" in caught.value.hint
    with pytest.raises(NotFoundError, match=r"none\.json"):
        read_curves(tmp_path / "none.json")
