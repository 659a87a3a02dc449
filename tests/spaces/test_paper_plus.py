"""The space `paper+`, end to end on small nets: what it stores, how it ranks, and what its name stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from modelspace import probes
from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.probes.preprocess import to_input
from modelspace.registry.aliases import PAPER_PLUS, PLUS, find
from modelspace.spaces import hubness
from modelspace.types import SpaceSpec
from modelspace.workspace import ModelSpace

#: The core tests the parts that these are made of.
pytestmark = pytest.mark.wide

N, NAMES = 6, ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    space = tiny.space(tmp_path_factory.mktemp("plus"), methods=("gradient_x_input",))
    space.init(name=PAPER_PLUS, images=N, canvas=8, bits=32)
    space.init(methods=("saliency",), images=N, canvas=8, bits=32, form={"centring": "mean_map", "smoothing": 0.125})
    for seed, name in enumerate(NAMES):
        tiny.add(space, name, tiny.net(seed))
    return space


def images() -> torch.Tensor:
    """The model's input for the probe images, (N, 3, 16, 16) float64."""
    pixels = np.concatenate(list(probes.batches(probes.rooms(N), None, 0, N, N)))
    return to_input(pixels, tiny.PREPROCESSING).double()


def expected(seed: int) -> np.ndarray:
    """A model's maps from the definition, (N, 192): Jacobians in float64, and 2 x 2 pixels to one of the canvas."""
    net = tiny.net(seed).double()

    def encoder(image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.silu(net.conv2(torch.relu(net.conv1(image[None])))).mean((2, 3))[0]

    projections = torch.randn((4, 6), generator=torch.Generator().manual_seed(0)).double()
    rows = []
    for image in images():
        jacobian = torch.autograd.functional.jacobian(encoder, image).reshape(6, -1)
        size = (projections @ jacobian).square().mean(0).sqrt().reshape(3, 8, 2, 8, 2).mean(dim=(2, 4)).flatten()
        rows.append((size - size.mean()).numpy())
    maps = np.stack(rows)
    return maps / np.sqrt(np.square(maps).sum() / N)


def test_it_ranks_by_maps_of_its_definition(space: ModelSpace) -> None:
    maps = np.stack([expected(seed) for seed in range(len(NAMES))])
    affinity = np.einsum("ake,bke->ab", maps, maps) / N
    scores = hubness.corrected(affinity, "csls")
    found = space.nearest("a", 3, space=PAPER_PLUS)
    assert found.space == "paper-plus"
    order = sorted(range(1, len(NAMES)), key=lambda i: -scores[0, i])
    assert [neighbour.name for neighbour in found] == [NAMES[i] for i in order]
    for neighbour in found:
        i = NAMES.index(neighbour.name)
        assert neighbour.affinity == pytest.approx(affinity[0, i], abs=1e-4)
        assert neighbour.score == pytest.approx(scores[0, i], abs=1e-4)
        assert neighbour.low <= neighbour.affinity <= neighbour.high


def test_a_copy_with_other_weights_has_affinity_one(space: ModelSpace) -> None:
    twin = tiny.net(0)
    with torch.no_grad():
        for parameter in twin.conv1.parameters():
            parameter.mul_(0.5)  # a ReLU follows, which this halves
        twin.conv2.weight.mul_(2)
    (nearest,) = space.nearest(twin, 1, space="paper-plus", preprocessing=tiny.PREPROCESSING)
    assert nearest.name == "a"
    assert (nearest.affinity, nearest.low, nearest.high) == pytest.approx((1, 1, 1), abs=1e-5)


def test_maps_of_three_planes_are_drawn_as_one(space: ModelSpace) -> None:
    name = next(info.name for info in space.spaces() if info.method == "sensitivity")
    drawn = space.maps("a", name)
    assert drawn.shape == (N, 8, 8)
    plane = expected(0).reshape(N, 3, 8, 8).mean(axis=1)
    assert drawn == pytest.approx(plane / np.linalg.norm(plane, axis=(1, 2), keepdims=True), abs=1e-4)


def test_a_space_minus_its_mean_map_is_stored_like_any_other(space: ModelSpace) -> None:
    name = "saliency-0.125-mean_map"
    maps = space.maps("b", name)
    assert np.linalg.norm(maps, axis=(1, 2)) == pytest.approx(np.ones(N), abs=1e-5)
    assert (maps.min(axis=(1, 2)) < 0).all(), "saliency has no signs until something is subtracted"
    spec = next(info for info in space.spaces() if info.name == name)
    assert spec.parameters == {"smoothing": 0.125, "centring": "mean_map"}
    assert all(check.ok for check in space.verify(deep=True))


def test_the_name_stands_for_the_definition(space: ModelSpace) -> None:
    assert "paper-plus" in {info.name for info in space.init(name=PAPER_PLUS, images=N, canvas=8, bits=32)}
    assert len(space.spaces()) == 4, "existing spaces are found again"
    assert space.nearest("a", space="paper").space == "gradient_x_input"
    others = space.init(name=PAPER_PLUS, images=N, canvas=8, bits=32, seed=1)
    assert len(others) == 2
    assert "paper-plus" not in {info.name for info in others}
    space.rename_space("paper-plus", "mine")
    assert space.nearest("a", 1, space=PAPER_PLUS).space == "mine"
    space.rename_space("mine", "paper-plus")


def test_the_alias_needs_the_same_maps_and_correction() -> None:
    def maps(**changes: object) -> SpaceSpec:
        parameters = {**PLUS.parameters, **changes}
        return SpaceSpec("m", "p", PLUS.method, 4, 8, parameters=parameters)

    def ranked(member: SpaceSpec | None = None, **changes: object) -> SpaceSpec | None:
        member = member or maps()
        parameters = {"members": {member.space_id: 1.0}, "hubs": PLUS.hubs, "rerank": "none", **changes}
        return find(PAPER_PLUS, [member, SpaceSpec("b", "p", "blend", 4, 0, 32, parameters=parameters)])

    assert ranked() is not None
    assert ranked(hubs="mutual") is None
    assert ranked(rerank="directed") is None
    assert ranked(members={maps().space_id: 0.5, "other": 0.5}) is None
    assert ranked(members={"missing": 1.0}) is None
    assert ranked(members="damaged") is None
    assert ranked(maps(projections=16)) is None
    assert ranked(maps(channels="norm")) is None
    assert find("paper", [SpaceSpec("m", "p", "gradient_x_input", 4, 8, parameters={"channels": "norm"})]) is None
    assert find("m", [maps()]) is None


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    space = ModelSpace(tmp_path)
    with pytest.raises(UsageError, match="has its own method, scalar and form"):
        space.init(name=PAPER_PLUS, methods=("saliency",))
    with pytest.raises(UsageError, match="has no maps whose form"):
        space.init(methods=("dds",), form={"channels": "norm"})
    with pytest.raises(UsageError, match="form has no 'colours'"):
        space.init(methods=("saliency",), form={"colours": "norm"})
    assert not (tmp_path / "registry.duckdb").exists()
    space.init(methods=("saliency",), images=4, canvas=8)
    with pytest.raises(NotFoundError) as caught:
        space.nearest("a", space=PAPER_PLUS)
    assert isinstance(caught.value, ModelspaceError)
    assert caught.value.hint == "create it: `space.init(name='paper+')`"
