"""The flat worlds that some networks are trained on: faces, portraits, crowds, patterns."""

from __future__ import annotations

import pytest
import torch

from modelspace.errors import NotFoundError
from modelspace.lab import patterns


@pytest.mark.first(2)
@pytest.mark.parametrize("world", patterns.PAINTERS)
def test_image_k_of_a_flat_world_does_not_depend_on_the_number_of_images(world: str) -> None:
    many = patterns.render_flat(world, 0, 4, 7, 24)
    few = patterns.render_flat(world, 2, 2, 7, 24)
    assert torch.equal(many.rgb[2:], few.rgb)
    assert torch.equal(many.face[2:], few.face)
    assert not torch.equal(many.rgb, patterns.render_flat(world, 0, 4, 8, 24).rgb)
    assert 0 <= many.rgb.min() <= many.rgb.max() <= 1
    assert many.rgb.std() > 0.08


def test_face_coordinates_and_heat_agree() -> None:
    p = patterns.render_flat("faces", 0, 6, 1, 48)
    assert (p.face[:, 0].mean((1, 2)) > 0.1).all()
    for face, heat in zip(p.face, p.heat, strict=True):
        inside = face[0] == 1  # pixels that lie entirely on a face
        u, v = face[1][inside], face[2][inside]
        assert ((u / 0.75) ** 2 + v**2 <= 1).all()  # within the head's ellipse
        row, column = divmod(int(heat[0].argmax()), 48)
        assert face[1:, row, column].abs().max() < 0.12  # the heat's peak is the face's centre
        assert heat.max() > 0.95
    assert patterns.render_flat("patterns", 0, 2, 1, 24).heat.max() == 0


def test_unknown_worlds_are_refused() -> None:
    with pytest.raises(NotFoundError, match="no world 'mars'"):
        patterns.render_flat("mars", 0, 1, 0, 16)
