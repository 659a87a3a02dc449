"""From 8-bit probe images to a model's input."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from modelspace.errors import UsageError
from modelspace.types import Placement, Preprocessing

#: ITU-R BT.601 luma of red, green and blue.
LUMA = (0.299, 0.587, 0.114)


def to_input(images: np.ndarray, preprocessing: Preprocessing, device: torch.device | str = "cpu") -> torch.Tensor:
    """A model's input for a batch of probe images, as defined by `modelspace.types.Preprocessing`.

    Nothing is rounded. Everything is computed on the CPU, so that the input is the same for every device.

    Args:
        images: (B, H, W, 3) uint8 RGB, usually square.
        preprocessing: size, crop, channel order, value range, mean and std, layout.
        device: of the result.

    Returns:
        float32, contiguous: (B, C, H, W), or (B, H, W, C) for the layout "nhwc". C is 1 for gray, 4 for rgba and 3
        otherwise.

    Raises:
        UsageError: the images have another shape or type.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise UsageError(f"probe images are (B, S, S, 3) uint8, not {images.shape} {images.dtype}")
    height, width = preprocessing.input_size
    placed = preprocessing.placement((images.shape[1], images.shape[2]))
    if min(*images.shape[1:3], *placed.resized) > 1:
        # Permuting bytes and then converting them to floats is a third faster than the other way round.
        x = torch.tensor(images).permute(0, 3, 1, 2).contiguous().float()
    else:
        # To a width of 1, where memory layouts are ambiguous, torch 2.13 resizes correctly only with this one.
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
    if not len(images):
        x = x.new_empty((0, 3, height, width))
    else:
        x = _resized(x, placed.resized, preprocessing.interpolation)
        x = _crop(x, placed, preprocessing)
    if preprocessing.channels == "gray":
        weights = torch.tensor(LUMA).view(1, 3, 1, 1)
        x = (x * weights).sum(dim=1, keepdim=True)
    elif preprocessing.channels == "bgr":
        x = x.flip(1)
    lo, hi = preprocessing.value_range
    # (lo + (hi - lo) * u / 255 - mean) / std as one multiplication and one addition, with constants in float64.
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    scale = torch.from_numpy((hi - lo) / 255 / std).float().view(1, -1, 1, 1)
    shift = torch.from_numpy((lo - mean) / std).float().view(1, -1, 1, 1)
    x = x * scale + shift
    if preprocessing.crop == "border":
        _blank(x, placed, preprocessing)
    if preprocessing.channels == "rgba":
        x = torch.cat([x, x.new_full((len(x), 1, height, width), preprocessing.alpha)], dim=1)
    if preprocessing.layout == "nhwc":
        x = x.permute(0, 2, 3, 1)
    return x.contiguous().to(device)


def on_image(maps: torch.Tensor, preprocessing: Preprocessing, image: tuple[int, int]) -> torch.Tensor:
    """Maps of a model's input in the frame of the whole probe image: layout and crop undone.

    The constant fourth channel of rgba is not part of the image and is dropped. Maps are 0 where the model did not see
    the image; a border around the image is cut off.

    Args:
        maps: in the shape of the model's input, (B, C, H, W) or (B, H, W, C).
        preprocessing: of that model.
        image: (height, width) of the probe images.

    Returns:
        (B, 1 or 3, h, w), where h x w pixels, the size that the preprocessing resizes to, cover the whole image.
    """
    if preprocessing.layout == "nhwc":
        maps = maps.permute(0, 3, 1, 2)
    maps = maps[:, : preprocessing.n_colours]
    placed = preprocessing.placement(image)
    margins = _margins(placed, (maps.shape[2], maps.shape[3]))
    # A negative margin crops.
    return F.pad(maps, margins) if any(margins) else maps


def _resized(x: torch.Tensor, size: tuple[int, int], interpolation: str) -> torch.Tensor:
    if tuple(x.shape[2:]) == size:
        return x
    if interpolation == "nearest":
        return F.interpolate(x, size=size, mode="nearest-exact")
    # When shrinking, antialias widens the filter, as Pillow does.
    x = F.interpolate(x, size=size, mode=interpolation, align_corners=False, antialias=True)
    return x.clamp_(0, 255) if interpolation == "bicubic" else x


def _margins(placed: Placement, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Pixels by which the resized image exceeds the input: left, right, top, bottom; negative where it is smaller."""
    bottom = placed.resized[0] - placed.top - size[0]
    right = placed.resized[1] - placed.left - size[1]
    return placed.left, right, placed.top, bottom


def _crop(x: torch.Tensor, placed: Placement, preprocessing: Preprocessing) -> torch.Tensor:
    """The crop of the resized image, (B, 3, H, W); black where there is no image."""
    margins = _margins(placed, preprocessing.input_size)
    return F.pad(x, [-margin for margin in margins]) if any(margins) else x


def _blank(x: torch.Tensor, placed: Placement, preprocessing: Preprocessing) -> None:
    """Set the border around the image to 0, which is `mean` before normalisation."""
    left, right, top, bottom = (max(0, -margin) for margin in _margins(placed, preprocessing.input_size))
    height, width = preprocessing.input_size
    x[:, :, :top] = 0
    x[:, :, height - bottom :] = 0
    x[:, :, :, :left] = 0
    x[:, :, :, width - right :] = 0
