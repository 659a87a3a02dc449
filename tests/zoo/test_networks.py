"""The zoo's architectures: shapes, sizes, tapped layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from modelspace.errors import NotFoundError
from modelspace.lab.decoders import fresh, tapped
from modelspace.zoo.architectures import ARCHITECTURES, architecture


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads are slower here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.first(12)
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


def test_unknown_names_are_refused() -> None:
    with pytest.raises(NotFoundError, match="no architecture 'vgg'"):
        architecture("vgg")
