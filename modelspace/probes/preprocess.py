"""From 8-bit probe images to a model's input."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from modelspace.errors import UsageError
from modelspace.types import Preprocessing

#: ITU-R BT.601 luma of red, green and blue.
LUMA = (0.299, 0.587, 0.114)


def to_input(images: np.ndarray, preprocessing: Preprocessing, device: torch.device | str = "cpu") -> torch.Tensor:
    """The input that a model takes for some probe images, as `modelspace.types.Preprocessing` defines it.

    Nothing is rounded on the way. All of it is worked out on the CPU, so that two devices start from the same numbers.

    Args:
        images: (B, S, S, 3) uint8 RGB; other sides may differ too.
        preprocessing: input size (H, W), channel order, value range, mean and std.
        device: where the result goes.

    Returns:
        (B, C, H, W) float32, contiguous; C is 1 for gray and 3 otherwise.

    Raises:
        UsageError: not such images.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise UsageError(f"probe images are (B, S, S, 3) uint8, not {images.shape} {images.dtype}")
    if min(*images.shape[1:3], *preprocessing.input_size) > 1:
        # Bytes are put in order before they become floats, which is a third faster than the other way round.
        x = torch.tensor(images).permute(0, 3, 1, 2).contiguous().float()
    else:
        # torch 2.13 resizes wrongly to a width of 1, where it can't tell its memory layouts apart, but for this one.
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
    if not len(images):
        x = x.new_empty((0, 3, *preprocessing.input_size))
    elif tuple(x.shape[2:]) != preprocessing.input_size:
        # antialias widens the triangle filter when it shrinks, as Pillow does.
        x = F.interpolate(x, size=preprocessing.input_size, mode="bilinear", align_corners=False, antialias=True)
    if preprocessing.channels == "gray":
        weights = torch.tensor(LUMA).view(1, 3, 1, 1)
        x = (x * weights).sum(dim=1, keepdim=True)
    elif preprocessing.channels == "bgr":
        x = x.flip(1)
    lo, hi = preprocessing.value_range
    # (lo + (hi - lo) * u / 255 - mean) / std as one multiplication and one addition, their factors in float64.
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    scale = torch.from_numpy((hi - lo) / 255 / std).float().view(1, -1, 1, 1)
    shift = torch.from_numpy((lo - mean) / std).float().view(1, -1, 1, 1)
    return (x * scale + shift).contiguous().to(device)
