"""Features of labelled images: T of a model, reduced, for scores from labels and readouts. Forward passes only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from modelspace.attribution.engine import explained
from modelspace.embedding.embed import DEFAULT_BATCH_SIZE, outputs
from modelspace.embedding.prepare import Prepared
from modelspace.encoder.batches import in_batches
from modelspace.encoder.outputs import first_tensor
from modelspace.probes.preprocess import to_input
from modelspace.representations import kernels

if TYPE_CHECKING:
    import torch

#: T is reduced to at most this many numbers per image (`modelspace.representations.kernels.reduced`): with a hundred
#: images a linear readout gains nothing from more.
MOST = 2048

#: The layer that is the model's output itself.
OUTPUT = "output"

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


def class_outputs(model: Prepared, images: Sequence[np.ndarray], *, batch_size: int | None = None) -> np.ndarray | None:
    """The class probabilities that the model's own classifier gives, for scores from labels that need them.

    The model's output is taken for that of a classifier if T lies before it, and it is one number per class and image.

    Args:
        model: prepared and frozen.
        images: n arrays (height, width, 3) uint8, of any sizes.
        batch_size: images per forward pass.

    Returns:
        (n, k) float32, rows of sum 1: the softmax of the output, or the output itself if it is one; None if the model
        has no classifier.

    Raises:
        EmbeddingError: the model fails on an image.
    """
    import torch

    if model.tap.layer == OUTPUT or int(model.card.options.get("stochastic", 1)) > 1:
        return None
    size = batch_size or DEFAULT_BATCH_SIZE
    parts = []
    for start in range(0, len(images), size):
        x = to_inputs(images[start : start + size], model)
        with explained(x), torch.no_grad():
            output = in_batches(model.tap.module, lambda batch: first_tensor(model.tap.module(batch)), x)
        if output.dim() != 2 or output.shape[1] < 2 or not output.is_floating_point():
            return None
        values = output.float()
        sums = values.sum(dim=1)
        if (values < 0).any() or ((sums - 1).abs() > 1e-3).any():
            values = values.softmax(dim=1)
        parts.append(values.cpu().numpy())
    table = np.concatenate(parts)
    return table if np.isfinite(table).all() else None


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
