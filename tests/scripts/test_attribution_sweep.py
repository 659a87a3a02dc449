"""The sweep over forms of attribution: its mathematics against definitions, and its rule of choice."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import measure_attribution  # noqa: E402
from attribution_sweep import candidates, gradients, page  # noqa: E402
from attribution_sweep.candidates import Candidate  # noqa: E402

#: The core tests the parts that these are made of.
pytestmark = pytest.mark.wide


def test_relevance_follows_the_gamma_rule() -> None:
    """R_i = Σ_j a_i (w_ij + γ w±_ij) / (Σ_i a_i (w_ij + γ w±_ij) + b_j + γ b±_j) R_j, ± the sign of z_j."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(4, 3, 1, 1, generator=generator, dtype=torch.float64)
    bias = torch.randn(4, generator=generator, dtype=torch.float64)
    layer = gradients.GammaConvolution(weight, bias, nn.Conv2d(3, 4, 1), 0.25)
    a = torch.rand(1, 3, 1, 1, generator=generator, dtype=torch.float64).requires_grad_(True)
    z = layer(a)
    assert torch.allclose(z, torch.nn.functional.conv2d(a, weight, bias))
    assert (z < 0).any()
    assert (z > 0).any()
    share = torch.rand(4, generator=generator, dtype=torch.float64)
    relevance = torch.autograd.grad(z, a, share.reshape(1, 4, 1, 1))[0].flatten() * a.detach().flatten()
    expected = np.zeros(3)
    for j in range(4):
        z_j = float(z[0, j])
        sign = 1 if z_j > 0 else -1
        changed = [float(w + 0.25 * (w if w * sign > 0 else 0)) for w in weight[j].flatten()]
        b = float(bias[j] + 0.25 * (bias[j] if bias[j] * sign > 0 else 0))
        total = sum(float(a[0, i]) * changed[i] for i in range(3)) + b
        for i in range(3):
            expected[i] += float(a[0, i]) * changed[i] / total * z_j * float(share[j])
    assert relevance.numpy() == pytest.approx(expected)


def test_folded_batch_norms_change_no_output() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    net(torch.randn(8, 3, 6, 6))  # running statistics
    net.eval()
    changed = gradients.with_gamma(net, 1.0)
    x = torch.randn(2, 3, 6, 6)
    assert torch.allclose(changed(x), net(x), atol=1e-5)
    kinds = [type(module).__name__ for module in changed]
    assert kinds == ["GammaConvolution", "Identity", "ReLU", "GammaConvolution"]
    assert (changed[0].gamma, changed[3].gamma) == (0.0, 1.0)
    assert isinstance(net[1], nn.BatchNorm2d), "the network itself is not changed"


@pytest.mark.parametrize("scalar", gradients.SINGLE)
def test_a_seed_is_the_derivative_of_its_scalar(scalar: str) -> None:
    generator = torch.Generator().manual_seed(2)
    output = torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64).requires_grad_(True)
    known = gradients.statistics(lambda x: x, torch.randn(5, 3, 2, 2, generator=generator), output.detach()[:1])
    value = {
        "sum": lambda t: t.sum(),
        "absolute": lambda t: t.abs().sum(),
        "energy": lambda t: t.square().sum() / 2,
        "centred energy": lambda t: (t - known.channel).square().sum() / 2,
        "centred energy by position": lambda t: (t - known.position).square().sum() / 2,
        "standardised energy": lambda t: ((t - known.channel).square() / known.variance).sum() / 2,
    }[scalar]
    expected = torch.autograd.grad(value(output), output)[0]
    assert torch.allclose(gradients.seed(scalar, output.detach(), known).to(expected), expected)


def test_root_mean_square_and_stack_are_those_of_single_gradients() -> None:
    net = nn.Conv2d(3, 2, 3, padding=1)
    x = torch.randn(2, 3, 4, 4)
    weights = torch.randn(4, 2, 4, 4)
    stack, roots = gradients._stack(net, x, weights)
    single = []
    for weight in weights:
        source = x.clone().requires_grad_(True)
        single.append(torch.autograd.grad((net(source) * weight).sum(), source)[0])
    assert torch.allclose(roots[1], single[0].abs(), atol=1e-6)
    assert torch.allclose(roots[4], torch.stack(single).square().mean(0).sqrt(), atol=1e-5)
    halved = single[2].reshape(2, 3, 2, 2, 2, 2).mean(dim=(3, 5))
    assert torch.allclose(stack[:, 2, :3], halved, atol=1e-6)
    product = (single[2] * x).mean(1).reshape(2, 2, 2, 2, 2).mean(dim=(2, 4))
    assert torch.allclose(stack[:, 2, 3], product, atol=1e-6)


def test_affinity_is_the_mean_cosine_after_centring() -> None:
    maps = np.random.default_rng(0).standard_normal((3, 5, 4))
    for centring in measure_attribution.CENTRINGS:
        found = candidates.affinity(candidates.centred(maps, centring, candidates.PER_IMAGE))
        scaled = np.array([[row / np.linalg.norm(row) for row in model] for model in maps])
        axis = {candidates.OWN_MEAN: 2, candidates.MEAN_OF_IMAGES: 1, candidates.MEAN_OF_MODELS: 0}.get(centring)
        if axis is not None:
            scaled = scaled - scaled.mean(axis=axis, keepdims=True)
        expected = np.mean(
            [
                [np.dot(scaled[1, k], scaled[2, k]) / np.linalg.norm(scaled[1, k]) / np.linalg.norm(scaled[2, k])]
                for k in range(5)
            ]
        )
        assert found[1, 2] == pytest.approx(expected), centring
        assert np.diag(found) == pytest.approx(np.ones(3))


def test_all_at_once_keeps_the_scale_of_images() -> None:
    maps = np.random.default_rng(1).standard_normal((2, 5, 4)) * np.array([1, 2, 3, 4, 50])[:, None]
    found = candidates.affinity(candidates.centred(maps, candidates.NOTHING, candidates.WHOLE))
    first, second = maps.reshape(2, -1)
    assert found[0, 1] == pytest.approx(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def test_planes_and_canvas() -> None:
    values = np.random.default_rng(2).standard_normal((2, 3, 3, 4, 4))
    assert candidates._single(values, candidates.NORM)[1, 2, 0, 3, 0] == pytest.approx(
        np.hypot.reduce(values[1, 2, :, 3, 0])
    )
    assert candidates._single(values, candidates.ABSOLUTE_MEAN).min() >= 0
    assert candidates._single(values, candidates.EACH).shape == values.shape
    small = candidates.on_canvas(values, 2)
    assert small[0, 0, 0, 1, 0] == pytest.approx(values[0, 0, 0, 2:, :2].mean())
    with pytest.raises(ValueError, match="does not divide"):
        candidates.on_canvas(values, 3)


def test_the_best_has_the_smallest_mean_rank_and_can_be_a_space() -> None:
    base = Candidate()
    found = {
        replace(base, canvas=4): (0.5, 0.5, 0.5),
        replace(base, canvas=8): (0.6, 0.6, 0.1),
        replace(base, canvas=16): (0.7, 0.4, 0.6),
        replace(base, canvas=32, centring=candidates.MEAN_OF_MODELS): (0.9, 0.9, 0.9),
        replace(base, canvas=64, layer="stem"): (0.8, 0.8, 0.8),
    }
    order = measure_attribution.ordered(found)
    assert [candidate.canvas for candidate in order] == [32, 64, 16, 8, 4]
    assert measure_attribution.best(found).canvas == 16


def test_equals_go_to_fewer_passes() -> None:
    dear, cheap = Candidate(scalar="4 random projections"), Candidate(scalar="1 random projection")
    assert measure_attribution.ordered({dear: (0.5, 0.5, 0.5), cheap: (0.5, 0.5, 0.5)}) == [cheap, dear]


def test_shares_of_maps_that_only_images_tell_apart() -> None:
    image = np.random.default_rng(4).standard_normal((1, 5, 16))
    same = page.shares(np.repeat(image, 3, axis=0))
    assert sum(same) == pytest.approx(1)
    assert same[2:] == pytest.approx((0, 0))
    assert same[0] == pytest.approx(float(np.square(candidates.unit(image).mean(axis=1)).sum()))
    swapped = page.shares(np.repeat(image.transpose(1, 0, 2), 3, axis=1))
    assert (swapped[0], swapped[2]) == pytest.approx((same[0], same[1]))
    assert page.shares(np.random.default_rng(5).standard_normal((9, 9, 400)))[3] > 0.7


def test_a_page_has_a_row_for_each_value_of_each_factor() -> None:
    base = Candidate()
    found = {base: (0.5, 0.4, 0.9), replace(base, canvas=16): (0.6, 0.4, 0.9)}
    text = page.of_stage(found, measure_attribution.ordered(found))
    assert "| canvas | 16 | 1 | 0.60 | 0.40 | 0.10 | 0.60 | 0.40 | 0.10 |" in text
    assert "| canvas | 32 | 2 |" in text
    assert "| hubs |" not in text, "all have the same"
    assert "gradient\\*input of sum" in text


def test_no_candidate_looks_at_held_out_targets(tmp_path: Path) -> None:
    names = measure_attribution.passes.FULL.tasks
    selection = measure_attribution.Selection(names, tmp_path / "figures.json")
    scores = np.random.default_rng(3).standard_normal((len(names), len(names)))
    first = selection.figures(scores)
    kept = measure_attribution.splits.split(
        measure_attribution.evaluation.load("rooms").targets, measure_attribution.splits.HELD_OUT
    )
    for name in kept:
        scores[names.index(name)] = 0.0
    assert selection.figures(scores) == first
    scores[[name not in kept for name in names]] = 0.0
    assert selection.figures(scores) != first
