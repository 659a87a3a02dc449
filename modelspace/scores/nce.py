"""NCE: negative conditional entropy (Tran, Nguyen & Hassner, ICCV 2019).

    NCE = Σ_{y,z} P(y, z) log P(y | z),

with z the class that the model's own classifier finds most likely for an image, and P the shares of the images. At
most 0, at least minus the entropy of the labels: that is where the classifier says the same of all images. Of classes
that are equally likely the first counts.

Overestimates where z takes nearly as many values as there are images: each image is then alone with its z.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from modelspace.scores.inputs import classes, one_hot, probabilities


def score(class_outputs: ArrayLike, labels: ArrayLike) -> float:
    """Minus the entropy of the labels given the model's class, in nats; at most 0.

    Args:
        class_outputs: (n, z) probabilities.
        labels: (n,) integers.

    Raises:
        UsageError: see `modelspace.scores.inputs`.
    """
    outputs = probabilities(class_outputs)
    numbers = classes(labels, len(outputs))
    _, taken = np.unique(outputs.argmax(axis=1), return_inverse=True)
    joint = one_hot(numbers).T @ one_hot(taken.reshape(-1)) / len(outputs)
    return float(xlogy(joint, joint).sum() - xlogy(joint.sum(axis=0), joint.sum(axis=0)).sum())
