"""The forms of maps: channels, smoothing and centring against their definitions, and as parameters of a space."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from modelspace.attribution import _FORM, METHODS
from modelspace.embedding.embed import to_canvas
from modelspace.errors import UsageError
from modelspace.representations import planes
from modelspace.representations.planes import Form
from modelspace.types import SpaceSpec

MAPS = np.random.default_rng(0).standard_normal((3, 3, 12, 8))


def on_canvas(form: Form, side: int = 4) -> np.ndarray:
    return to_canvas(torch.from_numpy(MAPS), side, form).numpy()


def by_definition(plane: np.ndarray, side: int = 4) -> np.ndarray:
    """Means over the areas of a canvas that divides the map, of unit norm."""
    n, height, width = plane.shape
    small = plane.reshape(n, side, height // side, side, width // side).mean(axis=(2, 4))
    return np.stack([image / np.linalg.norm(image) for image in small])


def test_channels() -> None:
    expected = {
        planes.MEAN: MAPS.mean(axis=1),
        planes.ABSOLUTE: np.abs(MAPS).mean(axis=1),
        planes.NORM: np.sqrt(np.square(MAPS).sum(axis=1)),
    }
    assert {*expected, planes.EACH} == set(planes.CHOICES["channels"])
    for channels, plane in expected.items():
        assert on_canvas(Form(channels)) == pytest.approx(by_definition(plane), abs=1e-6), channels
    assert np.array_equal(on_canvas(Form()), to_canvas(torch.from_numpy(MAPS), 4).numpy())


def test_the_norm_of_tiny_gradients_is_no_zero() -> None:
    tiny = to_canvas(torch.from_numpy(MAPS * 1e-30).float(), 4, Form(planes.NORM)).numpy()
    assert tiny == pytest.approx(on_canvas(Form(planes.NORM)), abs=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.125, 0.25])
def test_smoothing_is_a_gaussian_on_both_axes(share: float) -> None:
    smooth = gaussian_filter(MAPS.mean(axis=1), (0, share * 12, share * 8), mode="nearest", radius=(0, *_reach(share)))
    assert on_canvas(Form(smoothing=share)) == pytest.approx(by_definition(smooth), abs=1e-5)


def _reach(share: float) -> tuple[int, int]:
    return len(planes.gaussian(share * 12)) // 2, len(planes.gaussian(share * 8)) // 2


def test_all_channels_are_scaled_and_smoothed_together() -> None:
    form = Form(planes.EACH, smoothing=0.125)
    found = on_canvas(form)
    assert found.shape == (3, 3, 4, 4)
    each = []
    for channel in range(3):
        alone = to_canvas(torch.from_numpy(MAPS[:, channel : channel + 1]), 4, Form(smoothing=0.125, scale="model"))
        each.append(alone.numpy())
    expected = np.stack(each, axis=1)
    expected = expected / np.sqrt(np.square(expected).sum(axis=(1, 2, 3), keepdims=True))
    assert found == pytest.approx(expected, abs=1e-5)
    grey = to_canvas(torch.from_numpy(MAPS[:, :1]), 4, Form(planes.EACH)).numpy()
    assert np.array_equal(grey[:, 0], grey[:, 2])


def test_maps_that_keep_their_scale_are_only_put_on_the_canvas() -> None:
    found = on_canvas(Form(scale=planes.MODEL))
    assert found == pytest.approx(MAPS.mean(axis=1).reshape(3, 4, 3, 4, 2).mean(axis=(2, 4)), abs=1e-6)


def test_centring() -> None:
    maps = on_canvas(Form())
    assert planes.centred(maps, Form()) is maps
    own = planes.centred(maps, Form(centring=planes.OWN_MEAN)).reshape(3, -1)
    assert float(own[0] @ own[1]) == pytest.approx(np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1], abs=1e-6)
    rest = maps.astype(float) - maps.astype(float).mean(axis=0)
    expected = np.stack([each / np.linalg.norm(each) for each in rest])
    assert planes.centred(maps, Form(centring=planes.MEAN_MAP)) == pytest.approx(expected, abs=1e-6)
    kept = planes.centred(1e6 * maps, Form(centring=planes.MEAN_MAP, scale=planes.MODEL))
    assert kept / 1e6 == pytest.approx(rest, abs=1e-6)


def test_what_centring_leaves_nothing_of_is_zero_and_not_rounding() -> None:
    for scale, factor in ((planes.IMAGE, 1.0), (planes.MODEL, 1e-20)):
        uniform = np.full((1, 3, 4, 4), 0.25 * factor, dtype=np.float32)
        assert not planes.centred(uniform, Form(centring=planes.OWN_MEAN, scale=scale)).any()
        alike = np.repeat(on_canvas(Form())[:1] * np.float32(factor), 3, axis=0)
        assert not planes.centred(alike, Form(centring=planes.MEAN_MAP, scale=scale)).any()
        different = on_canvas(Form()) * np.float32(factor)
        assert planes.centred(different, Form(centring=planes.MEAN_MAP, scale=scale)).any()


def test_the_papers_form_is_not_named_so_that_spaces_keep_their_identity() -> None:
    assert Form().parameters() == {}
    form = Form(planes.NORM, 0.03125, planes.OWN_MEAN)
    assert Form.of({**form.parameters(), "epsilon": 1e-4}) == form
    spec = SpaceSpec("x", "probes", "saliency", 4, 8, parameters=Form().parameters())
    assert spec.space_id == SpaceSpec("x", "probes", "saliency", 4, 8).space_id


def test_what_is_no_form_is_refused() -> None:
    with pytest.raises(UsageError, match="channels='median' is not known"):
        Form(channels="median")
    with pytest.raises(UsageError, match="centring='models' is not known"):
        Form.of({"centring": "models"})
    for smoothing in (-0.1, 0.3, float("nan"), True, "much"):
        with pytest.raises(UsageError, match="not a share of a map's side"):
            Form(smoothing=smoothing)  # type: ignore[arg-type]


def test_no_method_has_a_parameter_of_these_names() -> None:
    assert set(_FORM) == set(planes.NAMES)
    assert not set(planes.NAMES) & {name for info in METHODS.built_in.values() for name in info.defaults}
