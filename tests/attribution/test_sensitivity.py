"""Sensitivity: the root mean square of gradients of random projections of T, against the Jacobian of T."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modelspace.attribution.engine import MapRequest, attribute, explain
from modelspace.embedding.checks import check_model
from modelspace.encoder.layers import find_encoder_output
from modelspace.errors import EmbeddingError, NoGradientError, UsageError


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.SiLU(), nn.Conv2d(5, 4, 3, 1, 1)).double().eval()


X = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def jacobian(module: nn.Module, image: Tensor) -> Tensor:
    """(elements of T, elements of the image)."""
    whole = torch.autograd.functional.jacobian(lambda x: module(x[None]).flatten(), image)
    return whole.reshape(len(whole), -1)


def sensitivity(module: nn.Module, count: int) -> Tensor:
    return attribute(module, X, ["sensitivity"], {"sensitivity": {"projections": count}}).maps["sensitivity"]


def test_it_is_the_root_mean_square_over_projections() -> None:
    module = net()
    found = sensitivity(module, 3)
    shape = module(X).shape[1:]
    projections = torch.randn((3, *shape), generator=torch.Generator().manual_seed(0)).double().reshape(3, -1)
    for k in range(2):
        gradients = projections @ jacobian(module, X[k])
        assert torch.allclose(found[k].flatten(), gradients.square().mean(0).sqrt())


def test_with_many_projections_it_tends_to_the_norms_of_the_jacobians_columns() -> None:
    module = net()
    columns = jacobian(module, X[0]).norm(dim=0)
    errors = [float((sensitivity(module, count)[0].flatten() / columns - 1).abs().mean()) for count in (1, 4, 64)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.12  # about 0.67 / √(2 · 64)


def test_it_shares_a_pass_with_other_maps_and_changes_none() -> None:
    requests = [MapRequest.of(name) for name in ("sensitivity", "saliency", "epsilon_lrp")]
    together, _ = explain(net(), X, requests)
    for request in requests:
        alone, _ = explain(net(), X, [request])
        assert torch.allclose(alone[request], together[request]), request.method


def test_gradients_whose_squares_leave_float32_are_kept() -> None:
    module = net().float()
    plain = attribute(module, X.float(), ["sensitivity"]).maps["sensitivity"]
    for size in (1e-25, 1e25):
        with torch.no_grad():
            tap = nn.Sequential(module, _Scaled(size))
        scaled = attribute(tap, X.float(), ["sensitivity"]).maps["sensitivity"]
        assert torch.allclose(scaled / size, plain, rtol=1e-4)


class _Scaled(nn.Module):
    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x * self.size


def test_a_constant_sum_does_no_harm() -> None:
    """After a norm ΣT is constant, which saliency can't explain; T itself is not."""
    module = nn.Sequential(net().float(), nn.Flatten(), nn.LayerNorm(36))
    x = X.float()
    tap = find_encoder_output(module, x, "output")
    check_model(tap, x, [MapRequest.of("sensitivity")])
    with pytest.raises(EmbeddingError, match="constant"):
        check_model(tap, x, [MapRequest.of("saliency")])


def test_what_it_refuses() -> None:
    with pytest.raises(NoGradientError, match="sensitivity is zero everywhere"):
        attribute(nn.Sequential(net(), _Scaled(0.0)), X, ["sensitivity"])
    with pytest.raises(UsageError, match="explains the whole encoder output"):
        MapRequest.of("sensitivity", None, "energy")
    with pytest.raises(UsageError, match="projections=0 is not a whole number above zero"):
        attribute(net(), X, ["sensitivity"], {"sensitivity": {"projections": 0}})
