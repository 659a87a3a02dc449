"""Maps against Captum's arrays, and its other methods against their definitions."""

import numpy as np
import pytest
import torch
from attribution_nets import NETS, build, images
from captum.attr import InputXGradient, Saliency
from torch import Tensor

from modelspace.attribution.engine import attribute


@pytest.mark.parametrize("name", ["residual", "attention_mha", "squeeze_excite", "decoder", "functional"])
def test_saliency_and_input_gradient_are_captums(name: str) -> None:
    net, x = build(NETS[name]).requires_grad_(False), images(3)
    maps = attribute(net, x, ["saliency", "gradient_x_input"]).maps

    def scalar(t: Tensor) -> Tensor:
        return net(t.clone()).flatten(1).sum(1)

    for method, mine in ((Saliency(scalar), "saliency"), (InputXGradient(scalar), "gradient_x_input")):
        torch.testing.assert_close(method.attribute(x.clone().requires_grad_()), maps[mine], rtol=1e-12, atol=1e-14)


def test_integrated_gradients_by_quadrature() -> None:
    net, x = build(NETS["squeeze_excite"]).requires_grad_(False), images(2)
    baseline, n_steps = 0.3, 12
    got = attribute(
        net, x, ["integrated_gradients"], {"integrated_gradients": {"n_steps": n_steps, "baseline": baseline}}
    ).maps["integrated_gradients"]
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    total = torch.zeros_like(x)
    for node, weight in zip(nodes, weights, strict=True):
        point = (baseline + 0.5 * (1.0 + node) * (x - baseline)).requires_grad_()
        total += 0.5 * weight * torch.autograd.grad(net(point).sum(), point)[0]
    torch.testing.assert_close(got, (x - baseline) * total, rtol=1e-8, atol=1e-10)


def test_integrated_gradients_add_up() -> None:
    net, x = build(NETS["silu"]).requires_grad_(False), images(2)
    got = attribute(net, x, ["integrated_gradients"], {"integrated_gradients": {"n_steps": 64}}).maps[
        "integrated_gradients"
    ]
    difference = net(x).sum(1) - net(torch.zeros_like(x)).sum(1)
    torch.testing.assert_close(got.sum((1, 2, 3)), difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("base", ["gradient_x_input", "saliency"])
def test_noise_tunnel_by_hand(base: str) -> None:
    net, x = build(NETS["gelu"]).requires_grad_(False), images(2)
    parameters: dict[str, float | int | str] = {"base": base, "n_samples": 5, "noise": 0.2, "seed": 3}
    got = attribute(net, x, ["noise_tunnel"], {"noise_tunnel": parameters}).maps["noise_tunnel"]
    for k in range(2):
        image = x[k : k + 1]
        torch.manual_seed(3)
        spread = 0.2 * float(image.max() - image.min())
        noisy = image + torch.normal(0, torch.full((5, 3, 8, 8), spread))  # Captum draws in float32
        torch.testing.assert_close(attribute(net, noisy, [base]).maps[base].mean(0), got[k], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("method", ["integrated_gradients", "noise_tunnel"])
def test_captums_maps_do_not_depend_on_the_batch_or_the_state(method: str) -> None:
    net, x = build(NETS["residual"]), images(3)
    before = torch.random.get_rng_state()
    together = attribute(net, x, [method]).maps[method]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)
    alone = torch.cat([attribute(net, image, [method]).maps[method] for image in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-13)
    assert not together.requires_grad


def test_all_methods_come_from_one_call_in_the_order_asked_for() -> None:
    methods = ["noise_tunnel", "epsilon_lrp", "integrated_gradients", "saliency", "gradient_x_input"]
    net, x = build(NETS["attention_sdpa"]), images(2)
    result = attribute(net, x, methods)
    assert list(result.maps) == methods
    assert all(map_.shape == x.shape and map_.dtype == x.dtype for map_ in result.maps.values())
    with torch.no_grad():
        torch.testing.assert_close(result.output, net(x), rtol=1e-12, atol=1e-13)
    for method in methods:
        torch.testing.assert_close(
            attribute(net, x, [method]).maps[method], result.maps[method], rtol=1e-12, atol=1e-14
        )
