"""The zoo's architectures: shapes, sizes, tapped layers; and the flat worlds that some are trained on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from modelspace.errors import NotFoundError
from modelspace.worlds import patterns
from modelspace.zoo.architectures import ARCHITECTURES, architecture, decoder, fresh, tapped
from modelspace.zoo.tasks import FACE_TASKS, TASKS, task


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they bring here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shapes_size_and_gradient(name: str) -> None:
    plan = architecture(name)
    outputs = 14 if name == "segmentation_net" else 8
    network = fresh(lambda: plan.build(outputs), 0).eval()
    x = torch.randn(2, 3, plan.input_size, plan.input_size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    predicted, output = network(x), tapped(network, plan.layer, x)
    half = plan.input_size // 2
    if plan.layer == "fc:in":
        assert predicted.shape == (2, outputs)
        assert output.dim() == 2
    elif plan.predicts:
        assert predicted.shape == (2, outputs, half, half)
        assert output.dim() == 4
    else:
        assert output.shape == (2, 16, 8, 8)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    assert (gradient.flatten(1).norm(dim=1) > 1e-6).all()
    stored = network.state_dict().values()
    assert sum(value.numel() * value.element_size() for value in stored) < 490_000
    assert not any(module._forward_hooks for module in network.modules())


def test_the_encoder_has_no_state_that_a_pass_changes() -> None:
    network = architecture("taskonomy_encoder").build(1).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_fresh_weights_depend_on_the_seed_alone() -> None:
    build = architecture("resnet50").build
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one, two, other = (fresh(lambda: build(8), seed).state_dict()["fc.weight"] for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", [*TASKS, *FACE_TASKS])
def test_decoders_answer_in_the_shape_of_the_label(name: str) -> None:
    t = task(name)
    shape = {"dense": (2, t.outputs, 32, 32), "class_map": (2, t.outputs, 32, 32)}.get(t.kind, (2, t.outputs))
    assert decoder(t, 16, 8, 32)(torch.zeros(2, 16, 8, 8)).shape == shape


def test_tapping_gives_a_modules_input_or_output() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    x = torch.ones(1, 2)
    assert torch.equal(tapped(network, "1:in", x), tapped(network, "0:out", x))
    assert torch.equal(tapped(network, "output", x), network(x))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(NotFoundError, match="no architecture 'vgg'"):
        architecture("vgg")
    with pytest.raises(NotFoundError, match="no world 'mars'"):
        patterns.draw_pictures("mars", 0, 1, 0, 16)


@pytest.mark.parametrize("world", patterns.PAINTERS)
def test_picture_k_of_a_flat_world_does_not_depend_on_how_many_are_drawn(world: str) -> None:
    many = patterns.draw_pictures(world, 0, 4, 7, 24)
    few = patterns.draw_pictures(world, 2, 2, 7, 24)
    assert torch.equal(many.rgb[2:], few.rgb)
    assert torch.equal(many.face[2:], few.face)
    assert not torch.equal(many.rgb, patterns.draw_pictures(world, 0, 4, 8, 24).rgb)
    assert 0 <= many.rgb.min() <= many.rgb.max() <= 1
    assert many.rgb.std() > 0.08


def test_face_coordinates_and_heat_fit_each_other() -> None:
    p = patterns.draw_pictures("faces", 0, 6, 1, 48)
    assert (p.face[:, 0].mean((1, 2)) > 0.1).all()
    for face, heat in zip(p.face, p.heat, strict=True):
        whole = face[0] == 1  # pixels that are all face
        u, v = face[1][whole], face[2][whole]
        assert ((u / 0.75) ** 2 + v**2 <= 1).all()  # within the head's ellipse
        row, column = divmod(int(heat[0].argmax()), 48)
        assert face[1:, row, column].abs().max() < 0.12  # the heat's peak is the face's centre
        assert heat.max() > 0.95
    assert patterns.draw_pictures("patterns", 0, 2, 1, 24).heat.max() == 0
