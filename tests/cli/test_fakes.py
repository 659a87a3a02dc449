"""The fakes of the tests fit the real classes: a call that the real method refuses fails on the fake as well."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from cli_support import Drawing, FakeSpace, Layer, answers, fake_line, survey
from picture_space import FakeFit

from modelspace.analysis import NeighbourRecall, Tree
from modelspace.encoder.layers import Candidate, LayerRow, Survey, Tap
from modelspace.plots import Atlas, Picture, Report
from modelspace.plots.report import Section
from modelspace.registry import ProjectionRow
from modelspace.verbs.pictures.figures import Clustered
from modelspace.verbs.pictures.layout import Layout
from modelspace.workspace import ModelSpace


def parameters(function: Any) -> list[inspect.Parameter]:
    return [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values()]


def test_a_command_that_passes_an_unknown_parameter_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = fake_line(monkeypatch, tmp_path)
    assert line("rename", "depth", "depth2").exit_code == 0
    monkeypatch.setattr(ModelSpace, "rename", lambda self, old: None)  # the real method has lost a parameter
    result = line("rename", "depth", "depth2")
    assert result.exit_code != 0
    assert "ModelSpace.rename(): too many positional arguments" in result.output


@pytest.mark.parametrize(
    ("verb", "args", "options"),
    [
        ("list", (), {"count": 3}),
        ("evaluate", (), {"count": 3}),
        ("nearest", (), {}),
        ("show", ("depth", "gradient_x_input"), {}),
        ("verify", (True,), {}),
    ],
    ids=["unknown name", "unknown name passed on", "too few", "too many", "by position"],
)
def test_the_fake_registry_refuses_what_the_real_one_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: str, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    fake = fake_line(monkeypatch, tmp_path).fake(tmp_path)
    for space in (fake, ModelSpace(tmp_path)):
        with pytest.raises(TypeError, match="argument"):
            getattr(space, verb)(*args, **options)
    assert not fake.calls


def test_options_that_are_passed_on_are_those_of_add(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = fake_line(monkeypatch, tmp_path).fake(tmp_path)
    assert fake.nearest("depth", layer="fc:in").target == "depth"
    with pytest.raises(TypeError, match=r"nearest\(\): got an unexpected keyword argument 'layers'"):
        fake.nearest("depth", layers="fc:in")


def test_every_verb_of_the_fake_is_one_of_the_real_class() -> None:
    assert [verb for verb in answers() if not callable(getattr(ModelSpace, verb, None))] == []


def test_opening_and_creating_take_what_the_real_ones_take() -> None:
    assert parameters(FakeSpace.open) == parameters(ModelSpace.open)
    assert parameters(FakeSpace.create) == parameters(ModelSpace.create)[:1]


def test_the_layers_of_the_fake_are_like_real_ones() -> None:
    assert [(field.name, field.type) for field in fields(Layer)] == [
        (field.name, field.type) for field in fields(LayerRow)
    ]


def test_the_survey_of_the_fake_is_like_a_real_one() -> None:
    assert set(vars(survey())) == {field.name for field in fields(Survey)}
    assert set(vars(survey().tap)) <= {field.name for field in fields(Tap)}
    assert {*vars(survey().candidates[0])} == {field.name for field in fields(Candidate)}


def test_the_drawing_has_only_what_the_real_ones_have() -> None:
    assert parameters(Drawing.draw)[:1] == parameters(Clustered.draw)[:1]
    for name, real in (("draw", Clustered), ("heatmap", Clustered), ("pairs", Clustered)):
        assert [p.name for p in parameters(getattr(Drawing, name))] == [p.name for p in parameters(getattr(real, name))]
    for real in (Picture, Atlas, Report):
        assert parameters(real.save) == parameters(Drawing.save)
    recall, layout = Drawing.facts["recall"], Drawing.facts["layout"]
    for fake, real in (
        (recall, NeighbourRecall),
        (layout, Layout),
        (layout.projection, ProjectionRow),
        (Drawing.sections[0], Section),
        (Drawing.tree, Tree),
    ):
        assert [name for name in vars(fake) if name not in real.__annotations__ and not hasattr(real, name)] == []
    assert {"n_models"} <= set(Atlas.__annotations__)
    assert {"sections"} <= set(Report.__annotations__)


def test_the_fake_fit_refuses_what_the_real_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = FakeFit(monkeypatch)
    with pytest.raises(TypeError, match="neighbors"):
        fit(["a", "b"], [[1.0, 0.5], [0.5, 1.0]], neighbors=1)
    assert fit.calls == 0
