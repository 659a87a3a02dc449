"""Decoders, tapped layers and initial weights."""

from __future__ import annotations

import pytest
import torch

from modelspace.lab.decoders import decoder, fresh, tapped
from modelspace.lab.tasks import FACE_TASKS, TASKS, task
from modelspace.zoo.architectures import architecture


def test_initial_weights_depend_only_on_the_seed() -> None:
    build = architecture("resnet50").build
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second, other = (fresh(lambda: build(8), seed).state_dict()["fc.weight"] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.first(15)
@pytest.mark.parametrize("name", [*TASKS, *FACE_TASKS])
def test_decoders_predict_in_the_shape_of_the_label(name: str) -> None:
    t = task(name)
    shape = {"dense": (2, t.outputs, 32, 32), "class_map": (2, t.outputs, 32, 32)}.get(t.kind, (2, t.outputs))
    assert decoder(t, 16, 8, 32)(torch.zeros(2, 16, 8, 8)).shape == shape


def test_tapping_gives_a_modules_input_or_output() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    x = torch.ones(1, 2)
    assert torch.equal(tapped(network, "1:in", x), tapped(network, "0:out", x))
    assert torch.equal(tapped(network, "output", x), network(x))
