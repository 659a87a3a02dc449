"""Data of the sections: arrays of the passes and matrices computed from them, each computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modelspace import evaluation, zoo
from modelspace.errors import NotFoundError
from modelspace.evaluation import Evaluation, Oracle
from reproduction import measures, passes
from reproduction.passes import Scale

ORACLE, OTHER_WORLD, PUBLISHED = "rooms", "yards", "taskonomy"


class Data:
    """Arrays of one scale.

    Attributes:
        scale: how much is computed.
        models: names of all models.
        tasks: names of the encoders of the twenty tasks.
    """

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.models, self.tasks = scale.models, scale.tasks
        self._affinities: dict[tuple[str, str], np.ndarray] = {}
        self._views: dict[str, dict[str, np.ndarray]] = {}

    def at(self, names: Sequence[str]) -> list[int]:
        """Indices among all models."""
        return [self.models.index(name) for name in names]

    def affinity(self, probe: str, kind: str) -> np.ndarray:
        """Affinities of all models on all images of a probe set."""
        if (probe, kind) not in self._affinities:
            maps = passes.stacked(probe, kind, self.scale, self.models)
            self._affinities[probe, kind] = measures.affinity(maps)
        return self._affinities[probe, kind]

    def of_tasks(self, matrix: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """The rows and columns of the twenty encoders, as `evaluation.evaluate` expects them."""
        at = self.at(self.tasks)
        return self.tasks, matrix[np.ix_(at, at)]

    def tables(self, probe: str) -> list[np.ndarray]:
        """T of all models."""
        return [passes.embedded(name, probe, self.scale)["T"][: self.scale.images] for name in self.models]

    def views(self, probe: str) -> dict[str, np.ndarray]:
        """Matrices of all models in every space of section 9."""
        if probe not in self._views:
            maps = {kind: passes.stacked(probe, kind, self.scale, self.models) for kind in passes.KINDS}
            self._views[probe] = measures.views(maps, self.tables(probe))
        return self._views[probe]

    def evaluate(self, matrices: Mapping[str, np.ndarray], oracle: str = ORACLE) -> Evaluation:
        """Evaluate matrices over all models, on the twenty encoders."""
        tables = {name: self.of_tasks(matrix) for name, matrix in matrices.items()}
        return evaluation.evaluate(tables, evaluation.load(oracle))

    def task_of(self) -> list[str]:
        return [zoo.card(name).task for name in self.models]

    def group_of(self, names: Sequence[str]) -> dict[str, str]:
        return {name: zoo.card(name).group for name in names}


def oracle(name: str) -> Oracle | None:
    """An oracle, or None if it has not been measured."""
    try:
        return evaluation.load(name)
    except NotFoundError:
        return None
