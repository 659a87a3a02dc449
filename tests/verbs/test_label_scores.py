"""`label_scores`: all scores from labels of registered models, also those of a classifier, and what can not be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from labelled_pictures import pictures, registry_of

from modelspace.embedding.features import class_outputs
from modelspace.embedding.prepare import Request, prepared
from modelspace.errors import NotFoundError, UsageError
from modelspace.scores import SCORES
from modelspace.workspace import ModelSpace


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    folder = tmp_path_factory.mktemp("scores")
    result = registry_of(folder, ("brightness", "colour"))
    result.add_task("colours", pictures(folder / "data", per_class=20))
    return result


@pytest.mark.wide
def test_every_score_prefers_the_model_that_sees_colours(space: ModelSpace) -> None:
    records = space.label_scores("colours", images=48)
    assert {row.score for row in records} == set(SCORES)
    values = {(row.model, row.score): row.value for row in records}
    for name, info in SCORES.items():
        better, worse = values["colour", name], values["brightness", name]
        if info.needs == "class outputs":
            assert (better, worse) == (None, None)
        else:
            assert better is not None
            assert worse is not None
            assert better > worse, name
    for row in records:
        assert row.n_images == 48
        assert row.seconds >= 0
        assert (row.value is None) == (row.note == "the model has no class outputs")


def test_models_and_scores_are_chosen_by_name(space: ModelSpace) -> None:
    records = space.label_scores("colours", ["colour"], names=["logme", "ridge", "logme"])
    assert [(row.model, row.score) for row in records] == [("colour", "logme"), ("colour", "ridge")]


def test_a_classifier_gives_class_outputs(tmp_path: Path) -> None:
    images = [np.random.default_rng(k).integers(0, 256, (64, 64, 3), np.uint8) for k in range(5)]
    with prepared(Request("zoo:resnet50_objects"), np.stack(images[:2])) as model:
        outputs = class_outputs(model, images, batch_size=2)
    assert outputs is not None
    assert outputs.shape[0] == 5
    assert outputs.shape[1] > 1
    assert np.allclose(outputs.sum(axis=1), 1.0, atol=1e-5)
    with prepared(Request("zoo:curvature"), np.stack(images[:2])) as model:
        assert class_outputs(model, images) is None


@pytest.mark.wide
def test_leep_and_nce_of_a_classifier(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path / "home", methods=["dds"], images=8, canvas=8)
    space.add("zoo:mobilenet_025_objects", name="objects")
    space.add_task("colours", pictures(tmp_path / "data", per_class=10, size=40))
    records = space.label_scores("colours", names=["leep", "nce"])
    assert all(row.value is not None and row.value <= 0 for row in records)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("colours", ["nobody"]), {}, NotFoundError, "nobody"),
        (("colours",), {"names": ["magic"]}, NotFoundError, "no score 'magic'"),
        (("colours",), {"images": 2}, UsageError, "too few"),
        (("colours",), {"where": "name = 'x'"}, UsageError, "no model meets"),
        (("flowers",), {}, NotFoundError, "flowers"),
    ],
)
def test_what_is_not_there_is_named(
    space: ModelSpace, arguments: tuple[object, ...], options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        space.label_scores(*arguments, **options)  # type: ignore[arg-type]
