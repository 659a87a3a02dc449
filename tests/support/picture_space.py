"""A small real registry for the tests of pictures, and a projection without UMAP, which takes long to import."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import add, near, net, space

from modelspace.analysis import Projection, fit_projection, neighbour_recall
from modelspace.verbs.pictures import layout
from modelspace.workspace import ModelSpace

NAMES = ["a", "a2", "b", "b_2", "c", "d"]
GROUPS = {"a": "2D", "a2": "2D", "b": "3D", "b_2": "3D"}


def make(home: Path) -> ModelSpace:
    """Six nets in two families and two singletons; four of them have the tag "group"."""
    made = space(home, methods=["gradient_x_input", "saliency"])
    nets = {"a": net(1), "a2": near(1, 0.1), "b": net(2), "b_2": near(2, 0.1), "c": net(3), "d": net(4)}
    for name, module in nets.items():
        tags = {"group": GROUPS[name]} if name in GROUPS else None
        add(made, name, module, task=f"task {name[0]}", tags=tags)
    return made


class FakeFit:
    """Replaces `fit_projection`: random places that depend on the seed and the call, and the number of calls.

    A call must fit the signature of the real function.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        monkeypatch.setattr(layout, "fit_projection", self)

    def __call__(self, names: Sequence[str], affinity: Any = None, *, seed: int = 0, **options: Any) -> Projection:
        inspect.signature(fit_projection).bind(names, affinity, seed=seed, **options)
        self.calls += 1
        points = np.random.default_rng([seed, self.calls]).normal(size=(len(names), 2))
        recall = neighbour_recall(points, affinity=affinity)
        return Projection(tuple(names), points, {"method": "fake"}, seed, recall)
