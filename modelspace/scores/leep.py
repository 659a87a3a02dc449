"""LEEP: log expected empirical prediction (Nguyen, Hassner, Seeger & Archambeau, ICML 2020).

With θ(x) the probabilities of the model's own classes z, the labels are predicted through the empirical joint
distribution of label and z:

    P(y, z) = 1/n Σ_i θ(x_i)_z [y_i = y],    LEEP = 1/n Σ_i log Σ_z P(y_i | z) θ(x_i)_z.

At most 0; never below minus the log of the number of images. Outputs that are the same for all images give minus the
entropy of the labels. A class z that no image takes part in counts for nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from modelspace.scores.inputs import classes, one_hot, probabilities


def score(class_outputs: ArrayLike, labels: ArrayLike) -> float:
    """Mean log likelihood of the labels in nats, at most 0.

    Args:
        class_outputs: (n, z) probabilities.
        labels: (n,) integers.

    Raises:
        UsageError: see `modelspace.scores.inputs`.
    """
    outputs = probabilities(class_outputs)
    of_class = one_hot(classes(labels, len(outputs)))
    joint = of_class.T @ outputs
    total = joint.sum(axis=0)
    given = joint / np.where(total > 0, total, 1.0)
    likelihood = (outputs @ given.T)[of_class > 0]
    return float(np.log(likelihood).mean())
