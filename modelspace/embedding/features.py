"""Features of labelled images: T of a model, reduced, for scores from labels and readouts. Forward passes only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from modelspace.embedding.embed import DEFAULT_BATCH_SIZE, outputs
from modelspace.embedding.prepare import Prepared
from modelspace.probes.preprocess import to_input
from modelspace.representations import kernels

if TYPE_CHECKING:
    import torch

#: T is reduced to at most this many numbers per image (`modelspace.representations.kernels.reduced`): with a hundred
#: images a linear readout gains nothing from more.
MOST = 2048

#: Changes whenever the features of the same model and images would change; part of the key under which they are cached.
VERSION = 1


def features(
    model: Prepared,
    images: Sequence[np.ndarray],
    *,
    first: int = 0,
    batch_size: int | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """T of a model for some images, reduced.

    Args:
        model: prepared and frozen.
        images: n arrays (height, width, 3) uint8, of any sizes.
        first: number of the first image, on which the random numbers of a stochastic model depend.
        batch_size: images per forward pass.
        on_batch: called with the number of images done after each batch.

    Returns:
        (n, d) float32, d at most `MOST`.

    Raises:
        EmbeddingError: the model fails on an image, or T is not finite.
    """
    passes = int(model.card.options.get("stochastic", 1))
    size = batch_size or DEFAULT_BATCH_SIZE
    parts = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        x = to_inputs(batch, model)
        parts.append(kernels.reduced(outputs(model.tap, x, passes, first + start), MOST).cpu().numpy())
        if on_batch is not None:
            on_batch(start + len(batch))
    return np.concatenate(parts)


def to_inputs(images: Sequence[np.ndarray], model: Prepared) -> torch.Tensor:
    """A model's input for a batch of images of any sizes; see `modelspace.probes.preprocess.to_input`.

    Args:
        images: arrays (height, width, 3) uint8.
        model: whose preprocessing and device are used.
    """
    import torch

    # Neighbours of one size are preprocessed together.
    runs = [np.stack(list(run)) for _, run in groupby(images, key=lambda image: image.shape)]
    return torch.cat([to_input(run, model.card.preprocessing, model.device) for run in runs])
