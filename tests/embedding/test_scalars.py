"""The explained scalars: the sum of T, its energy, its centred energy; all over one forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from modelspace import probes
from modelspace.attribution.engine import MapRequest, attribute, explain, mean_output
from modelspace.errors import UsageError
from modelspace.probes.preprocess import to_input
from modelspace.workspace import ModelSpace

N = 6


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    images = np.concatenate(list(probes.batches(probes.rooms(N), None, 0, N, N)))
    return to_input(images, tiny.PREPROCESSING)


def encoder() -> torch.nn.Module:
    net = tiny.net(3)
    return torch.nn.Sequential(net.conv1, torch.nn.ReLU(), net.conv2, torch.nn.SiLU())


def slow_gradient(net: torch.nn.Module, x: torch.Tensor, scalar: str, centre: torch.Tensor | None) -> torch.Tensor:
    """Derivative of the scalar itself, image by image, in float64."""
    net, out = net.double(), []
    for image in x.double():
        source = image[None].clone().requires_grad_(True)
        t = net(source)
        value = {
            "sum": lambda t=t: t.sum(),
            "energy": lambda t=t: t.square().sum() / 2,
            "centred_energy": lambda t=t: (t - centre.double()).square().sum() / 2,
        }[scalar]()
        out.append(torch.autograd.grad(value, source)[0])
    return torch.cat(out)


@pytest.mark.parametrize("scalar", ["sum", "energy", "centred_energy"])
def test_maps_are_those_of_the_scalar(scalar: str, x: torch.Tensor) -> None:
    centre = mean_output(encoder(), [x[:4], x[4:]])
    assert torch.allclose(centre, encoder()(x).mean((0, 2, 3), keepdim=True).double(), atol=1e-6)
    requests = [MapRequest.of(method, None, scalar, N) for method in ("gradient_x_input", "saliency")]
    maps, output = explain(encoder(), x, requests, {N: centre})
    gradient = slow_gradient(encoder(), x, scalar, centre)
    assert torch.allclose(maps[requests[0]].double(), gradient * x.double(), atol=1e-5, rtol=1e-3)
    assert torch.allclose(maps[requests[1]].double(), gradient.abs(), atol=1e-5, rtol=1e-3)
    assert torch.equal(output, encoder()(x))


def test_epsilon_lrp_of_the_energy_tends_to_gradient_times_input_on_a_relu_net(x: torch.Tensor) -> None:
    net = tiny.net(5)
    relu = torch.nn.Sequential(net.conv1, torch.nn.ReLU(), net.conv2, torch.nn.ReLU())
    requests = [
        MapRequest.of("gradient_x_input", None, "energy"),
        MapRequest.of("epsilon_lrp", {"epsilon": 1e-9}, "energy"),
    ]
    maps, _ = explain(relu, x, requests)
    plain, rules = (maps[request] for request in requests)
    assert torch.allclose(plain, rules, atol=1e-4 * float(plain.abs().max()))


def test_kinds_do_not_disturb_each_other(x: torch.Tensor) -> None:
    """One forward pass for all scalars gives the same result as a call for each."""
    centre = {N: mean_output(encoder(), [x])}
    requests = [
        MapRequest.of(method, parameters, scalar, N)
        for scalar in ("sum", "energy", "centred_energy")
        for method, parameters in (
            ("saliency", None),
            ("gradient_x_input", None),
            ("epsilon_lrp", None),
            ("epsilon_lrp", {"epsilon": 0.1}),
        )
    ]
    together, _ = explain(encoder(), x, requests, centre)
    assert list(together) == requests
    for request in requests:
        alone, _ = explain(encoder(), x, [request], centre)
        assert torch.allclose(together[request], alone[request], rtol=1e-5, atol=1e-9), request
    old = attribute(encoder(), x, ("saliency", "epsilon_lrp"))
    assert torch.equal(old.maps["saliency"], together[requests[0]])
    assert torch.allclose(old.maps["epsilon_lrp"], together[requests[2]])


def test_passes_are_as_few_as_can_be(x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {"forward": 0, "backward": 0}
    real = torch.autograd.grad

    def grad(*words: object, **options: object) -> object:
        counted["backward"] += 1
        return real(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.autograd, "grad", grad)
    net = encoder()
    net[0].register_forward_hook(lambda *_: counted.update(forward=counted["forward"] + 1))
    requests = [
        MapRequest.of(method, None, scalar)
        for scalar in ("sum", "energy")
        for method in ("saliency", "gradient_x_input", "epsilon_lrp")
    ]
    explain(net, x, requests)
    assert counted == {"forward": 1, "backward": 4}
    explain(net, x, [])
    assert counted == {"forward": 2, "backward": 4}


@pytest.mark.wide
def test_spaces_of_other_scalars(tmp_path: Path) -> None:
    space = tiny.space(tmp_path)
    space.init(methods=("gradient_x_input", "saliency"), images=N, canvas=8, scalar="energy")
    space.init(methods=("epsilon_lrp",), images=4, canvas=8, scalar="centred_energy", name="centred")
    tiny.add(space, "a", tiny.net(0))
    tiny.add(space, "b", tiny.net(1))
    names = [info.name for info in space.spaces()]
    assert names == [*tiny.METHODS, "gradient_x_input-energy", "saliency-energy", "centred"]
    assert all(info.n_models == 2 for info in space.spaces())
    assert not np.allclose(space.maps("a", "saliency"), space.maps("a", "saliency-energy"), atol=1e-3)
    assert space.maps("a", "centred").shape == (4, 8, 8)
    assert all(check.ok for check in space.verify(deep=True))


def test_a_scalar_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    space = ModelSpace(tmp_path)
    with pytest.raises(UsageError, match="no scalar to choose"):
        space.init(methods=("dds",), scalar="energy")
    with pytest.raises(UsageError, match="no scalar to choose"):
        space.init(methods=("integrated_gradients",), scalar="energy")
    with pytest.raises(UsageError, match=r"scalar .* is not known"):
        space.init(methods=("saliency",), scalar="entropy")
