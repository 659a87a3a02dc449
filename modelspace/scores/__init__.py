"""Scores from labels: how well a model's features tell the labels of a data set apart, without training the model.

One file each, listed in one table. Every score is higher for the better model, and is comparable between models on
the same images and labels only.

    >>> import numpy as np
    >>> labels = np.arange(40) % 2
    >>> features = np.random.default_rng(0).normal(size=(40, 8))
    >>> features[:, 0] += 3 * labels
    >>> 0.5 < score("ridge", features, labels) < 1.0
    True

Labels that are integers or booleans are classes, floats are numbers to be predicted. Importing this package loads
neither numpy nor scipy; scikit-learn is needed by the logistic score alone.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from modelspace.errors import ConflictError, NotFoundError, UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["DEFAULT", "SCORES", "ScoreInfo", "Timed", "applicable", "score", "table", "timed"]

Needs = Literal["features", "class outputs"]
Handles = Literal["classification", "regression"]

#: The score that is used if none is named.
DEFAULT = "ridge"


@dataclass(frozen=True)
class ScoreInfo:
    """One score from labels.

    Attributes:
        name: as users type it.
        summary: one line for help texts and tables.
        needs: "features", or "class outputs": the probabilities that the model's own classifier gives.
        handles: kinds of labels for which it is defined.
        source: author, venue, year.
        module: where its function `score` is; empty for `modelspace.scores` plus the name.
    """

    name: str
    summary: str
    needs: Needs
    handles: tuple[Handles, ...]
    source: str
    module: str = ""

    def function(self) -> Callable[..., float]:
        """The function `score(features or class outputs, labels)`, imported now."""
        module = importlib.import_module(self.module or f"modelspace.scores.{self.name}")
        function: Callable[..., float] = module.score
        return function


@dataclass(frozen=True)
class Timed:
    """A score and what it cost.

    Attributes:
        score: higher is better.
        seconds: wall time of the score alone, without computing the features.
    """

    score: float
    seconds: float


def table(*entries: ScoreInfo) -> Mapping[str, ScoreInfo]:
    """Scores by name.

    Raises:
        ConflictError: two scores have the same name.
    """
    result: dict[str, ScoreInfo] = {}
    for entry in entries:
        if entry.name in result:
            raise ConflictError(f"two scores are called {entry.name!r}", "give one of them another name")
        result[entry.name] = entry
    return MappingProxyType(result)


_BOTH: tuple[Handles, ...] = ("classification", "regression")
_CLASSES: tuple[Handles, ...] = ("classification",)
SCORES = table(
    ScoreInfo(
        "ridge",
        "share of the constant predictor's leave-one-out squared error that a ridge readout removes",
        "features",
        _BOTH,
        "Hoerl & Kennard, Technometrics 1970; leave-one-out: Allen, Technometrics 1974",
    ),
    ScoreInfo(
        "logistic",
        "accuracy of logistic regression on held-out images, five folds",
        "features",
        _CLASSES,
        "Cox, J. Roy. Stat. Soc. B 1958",
    ),
    ScoreInfo(
        "knn",
        "leave-one-out accuracy of the five nearest neighbours by cosine",
        "features",
        _BOTH,
        "Cover & Hart, IEEE Trans. Inf. Theory 1967",
    ),
    ScoreInfo(
        "logme",
        "log maximum evidence of a Bayesian linear model, per image",
        "features",
        _BOTH,
        "You, Liu, Wang & Long, ICML 2021",
    ),
    ScoreInfo(
        "hscore",
        "variance between classes relative to shrunk total covariance",
        "features",
        _CLASSES,
        "Bao et al., ICIP 2019; shrinkage: Ibrahim, Ponomareva & Mazumder, ECML PKDD 2022",
    ),
    ScoreInfo(
        "leep",
        "expected log likelihood of the labels given the model's own class probabilities",
        "class outputs",
        _CLASSES,
        "Nguyen, Hassner, Seeger & Archambeau, ICML 2020",
    ),
    ScoreInfo(
        "nce",
        "minus the conditional entropy of the labels given the model's most likely class",
        "class outputs",
        _CLASSES,
        "Tran, Nguyen & Hassner, ICCV 2019",
    ),
    ScoreInfo(
        "parc",
        "rank correlation of the images' feature distances with their label distances",
        "features",
        _BOTH,
        "Bolya, Mittapalli & Hoffman, NeurIPS 2021",
    ),
    ScoreInfo(
        "gbc",
        "minus the overlap of the classes' Gaussians (Bhattacharyya coefficients)",
        "features",
        _CLASSES,
        "Pándy, Agostinelli, Uijlings, Ferrari & Mensink, CVPR 2022",
    ),
    ScoreInfo(
        "transrate",
        "coding rate of all features minus that within the classes",
        "features",
        _CLASSES,
        "Huang, Huang, Rong, Yang & Wei, ICML 2022",
    ),
    ScoreInfo(
        "alignment",
        "centred alignment of the features' kernel with the labels'",
        "features",
        _BOTH,
        "Cortes, Mohri & Rostamizadeh, JMLR 2012",
    ),
)


def score(
    name: str,
    features: ArrayLike | None,
    labels: ArrayLike,
    *,
    class_outputs: ArrayLike | None = None,
    n_classes: int | None = None,
    **options: Any,
) -> float:
    """One score of one model on labelled images; higher is better.

    Args:
        name: one of `SCORES`.
        features: (n, d) of the images, finite; None if the score needs class outputs alone.
        labels: (n,) integers or booleans for classes, floats for regression.
        class_outputs: (n, z) probabilities of the model's own z classes, rows that sum to 1.
        n_classes: how many classes the task has, numbered from 0. A class without an image counts for nothing; the
            number only bounds the labels.
        options: of the score's own function.

    Raises:
        NotFoundError: no such score.
        UsageError: the score does not handle such labels or lacks class outputs; a value is not finite; one class
            alone, or one image for each class; all numbers equal.
    """
    info = _info(name)
    _check_kind(info, labels, n_classes)
    given = features if info.needs == "features" else class_outputs
    if given is None:
        raise UsageError(f"score {name} needs {info.needs}, which were not given", _hint(info))
    return float(info.function()(given, labels, **options))


def timed(
    features: ArrayLike | None,
    labels: ArrayLike,
    names: Iterable[str] | None = None,
    *,
    class_outputs: ArrayLike | None = None,
    n_classes: int | None = None,
) -> dict[str, Timed]:
    """Every named score of the same features, with its wall time.

    Features are converted to float64 and modules imported before any time is measured, so that no score pays for
    another.

    Args:
        features: as `score` takes them.
        labels: likewise.
        names: of `SCORES`; default: `applicable`.
        class_outputs: as `score` takes them.
        n_classes: likewise.
    """
    import numpy as np

    values = None if features is None else np.asarray(features, dtype=np.float64)
    outputs = None if class_outputs is None else np.asarray(class_outputs, dtype=np.float64)
    if names is None:
        names = applicable(labels, features is not None, class_outputs is not None)
    result = {}
    for name in names:
        _info(name).function()
        start = time.perf_counter()
        value = score(name, values, labels, class_outputs=outputs, n_classes=n_classes)
        result[name] = Timed(value, time.perf_counter() - start)
    return result


def applicable(labels: ArrayLike, features: bool = True, class_outputs: bool = False) -> tuple[str, ...]:
    """Names of the scores that can be computed from these labels and inputs.

    >>> applicable([0.5, 1.5])
    ('ridge', 'knn', 'logme', 'parc', 'alignment')
    """
    from modelspace.scores.inputs import kind

    at_hand = [name for name, given in (("features", features), ("class outputs", class_outputs)) if given]
    return tuple(info.name for info in SCORES.values() if kind(labels) in info.handles and info.needs in at_hand)


def _info(name: str) -> ScoreInfo:
    if name not in SCORES:
        raise NotFoundError(f"no score from labels is called {name!r}", f"scores: {', '.join(SCORES)}")
    return SCORES[name]


def _check_kind(info: ScoreInfo, labels: ArrayLike, n_classes: int | None) -> None:
    from modelspace.scores import inputs

    kind = inputs.kind(labels)
    if kind not in info.handles:
        able = ", ".join(name for name, other in SCORES.items() if kind in other.handles)
        raise UsageError(f"score {info.name} is not made for {kind}", f"use one of {able}")
    if n_classes is not None and kind == "classification":
        inputs.check_range(labels, n_classes)


def _hint(info: ScoreInfo) -> str:
    if info.needs == "features":
        return "pass the features of the images"
    return "pass the class outputs, the softmax of the model's classifier, or use a score of features"
