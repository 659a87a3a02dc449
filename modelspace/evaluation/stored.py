"""Feature similarities of the shipped zoo, computed once (`scripts/compute_baselines.py`) and shipped with the package.

They are valid only for the weights and layers that they were computed from, so both are stored for each model, and
`StoredBaselines.unknown` tells which models of a registry differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelspace.errors import DamagedError, NotFoundError
from modelspace.evaluation.comparison import Cost
from modelspace.evaluation.rankings import Array

FILE = Path(__file__).parent / "data" / "rooms_baselines.json"
SCRIPT = "python scripts/compute_baselines.py"


@dataclass(frozen=True)
class StoredBaselines:
    """Similarity matrices of n models by their encoder outputs, and what they cost.

    Attributes:
        names: n names of models in the zoo.
        weights: n SHA-256 of their tensors, as `modelspace.types.ModelCard.weights_sha256`.
        layers: n tapped layers, as `ModelCard.layer`.
        n_images: number of probe images.
        probe_id: fingerprint of the probe set.
        features: how T was turned into a feature matrix, as text.
        matrices: method -> (n, n) float64, symmetric, with ones on the diagonal.
        timed: the models that the costs refer to.
        costs: method -> cost of features and comparisons of the timed models.
        space_costs: space id -> cost of their embeddings and affinities in the same run.
    """

    names: tuple[str, ...]
    weights: tuple[str, ...]
    layers: tuple[str, ...]
    n_images: int
    probe_id: str
    features: str
    matrices: Mapping[str, Array]
    timed: tuple[str, ...]
    costs: Mapping[str, Cost]
    space_costs: Mapping[str, Cost]

    def unknown(self, models: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
        """The models that these similarities do not cover: the name is missing, or weights or layer differ.

        Args:
            models: name -> (SHA-256 of the weights, tapped layer).
        """
        known = {name: key for name, *key in zip(self.names, self.weights, self.layers, strict=True)}
        return tuple(name for name, key in models.items() if known.get(name) != list(key))

    def subset(self, names: tuple[str, ...]) -> dict[str, tuple[tuple[str, ...], Array]]:
        """Method -> (names, matrix) of the named models, as `modelspace.evaluation.evaluate` expects it."""
        rows = [self.names.index(name) for name in names]
        return {method: (names, matrix[np.ix_(rows, rows)]) for method, matrix in self.matrices.items()}


def load(path: Path | None = None) -> StoredBaselines:
    """Load stored similarities; by default those that ship with the package, `FILE`.

    Raises:
        NotFoundError: they are not in this installation.
        DamagedError: the file was not written by `dump`.
    """
    path = path or FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError("feature similarities are not in this installation", f"compute them: {SCRIPT}") from None
    try:
        value = json.loads(text)
        baselines = StoredBaselines(
            names=tuple(value["names"]),
            weights=tuple(value["weights"]),
            layers=tuple(value["layers"]),
            n_images=int(value["images"]),
            probe_id=str(value["probe_id"]),
            features=str(value["features"]),
            matrices={method: _square(rows) for method, rows in value["similarities"].items()},
            timed=tuple(value["timed"]),
            costs={method: Cost(**cost) for method, cost in value["costs"].items()},
            space_costs={space: Cost(**cost) for space, cost in value["space_costs"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(
            f"{path.name} does not hold feature similarities: {error!r}", f"recompute it: {SCRIPT}"
        ) from error
    n = len(baselines.names)
    if {len(baselines.weights), len(baselines.layers), *(len(m) for m in baselines.matrices.values())} != {n}:
        raise DamagedError(f"the tables in {path.name} are not all of {n} models", f"recompute it: {SCRIPT}")
    return baselines


def dump(baselines: StoredBaselines) -> str:
    """JSON text, with the entries below the diagonal of each matrix, row by row, to 6 decimals."""
    value: dict[str, Any] = {
        "images": baselines.n_images,
        "probe_id": baselines.probe_id,
        "features": baselines.features,
        "names": list(baselines.names),
        "weights": list(baselines.weights),
        "layers": list(baselines.layers),
        "timed": list(baselines.timed),
        "costs": {method: vars(cost) for method, cost in baselines.costs.items()},
        "space_costs": {space: vars(cost) for space, cost in baselines.space_costs.items()},
        "similarities": {
            method: [[round(float(value), 6) for value in row[:i]] for i, row in enumerate(matrix)]
            for method, matrix in baselines.matrices.items()
        },
    }
    lines = [f" {json.dumps(key)}: {json.dumps(entry)}" for key, entry in value.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _square(rows: list[list[float]]) -> Array:
    matrix = np.eye(len(rows))
    for i, row in enumerate(rows):
        if len(row) != i or not all(math.isfinite(value) for value in row):
            raise ValueError(f"row {i} of a matrix is not {i} finite numbers")
        matrix[i, :i] = matrix[:i, i] = row
    return matrix
