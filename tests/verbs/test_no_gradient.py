"""A model without a gradient is in the spaces that need none, and in no other; what was left out is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from modelspace.errors import NoGradientError, NotFoundError
from modelspace.verbs.add_many import add_all, entries_of
from modelspace.workspace import ModelSpace


class Ending(nn.Module):
    """A small net whose output ends in a given function of it."""

    def __init__(self, end: str, seed: int = 0) -> None:
        super().__init__()
        self.body, self.end = tiny.net(seed), end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x) * 50
        return {"rounded": torch.round, "detached": torch.Tensor.detach, "dead": torch.zeros_like}[self.end](y)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    space = tiny.space(tmp_path_factory.mktemp("registry"), methods=("saliency", "dds", "rsa"))
    space.blend("kernels", {"dds": 1, "rsa": 1})
    space.blend("mixed", {"dds": 1, "saliency": 1})
    tiny.add(space, "whole", tiny.net(7))
    return space


@pytest.mark.wide
@pytest.mark.parametrize(("end", "reason"), [("rounded", "is zero everywhere"), ("detached", "has no gradient")])
def test_kernel_spaces_are_filled_and_the_others_named(space: ModelSpace, end: str, reason: str) -> None:
    added = tiny.add(space, end, Ending(end), layer="output")
    assert added.status == "added"
    assert set(added.spaces) == {"dds", "rsa", "kernels"}
    note = added.notes[-1]
    assert note.startswith("not in saliency, which needs a gradient: ")
    assert reason in note
    assert "`layer=`" in note
    # The kernels are those of the same features with a gradient.
    assert space.nearest(end, space="kernels")[0].name
    with pytest.raises(NotFoundError, match="is not in space 'saliency'"):
        space.nearest(end, space="saliency")


@pytest.mark.wide
def test_adding_it_again_changes_nothing(space: ModelSpace) -> None:
    tiny.add(space, "twice", Ending("rounded", 3), layer="output")
    again = tiny.add(space, "twice", Ending("rounded", 3), layer="output")
    assert (again.status, again.spaces) == ("unchanged", ())
    assert "not in saliency" in again.notes[0]


@pytest.mark.wide
def test_the_kernel_is_that_of_the_features(space: ModelSpace) -> None:
    class Fixed(nn.Module):
        def __init__(self, *, detached: bool) -> None:
            super().__init__()
            self.body, self.detached = tiny.net(5), detached

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.body(x)
            return y.detach() if self.detached else y

    tiny.add(space, "with", Fixed(detached=False), layer="output")
    tiny.add(space, "without", Fixed(detached=True), layer="output")
    matrix = space.affinity("dds")
    names = list(matrix.names)
    assert matrix.matrix[names.index("with"), names.index("without")] == pytest.approx(1, abs=1e-6)


def test_a_model_that_no_space_can_hold_is_refused_with_the_first_reason(space: ModelSpace) -> None:
    with pytest.raises(NoGradientError, match="gradient"):
        tiny.add(space, "dead", Ending("dead"), layer="output")
    assert "dead" not in [model.name for model in space.list()]


def test_a_registry_of_maps_alone_refuses_it(tmp_path: Path) -> None:
    space = tiny.space(tmp_path, methods=("saliency",), images=3)
    with pytest.raises(NoGradientError, match="zero everywhere"):
        tiny.add(space, "rounded", Ending("rounded"), layer="output")
    assert not space.list()


def test_many_models_are_told_the_same(space: ModelSpace) -> None:
    entry = {"model": Ending("rounded", 9), "name": "of_many", "layer": "output", "preprocessing": tiny.PREPROCESSING}
    (outcome,) = add_all(space.path, entries_of([entry]))
    assert outcome.status == "added"
    assert "saliency" not in outcome.spaces
    assert "not in saliency" in outcome.notes[0]
