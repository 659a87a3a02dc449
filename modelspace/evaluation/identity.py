"""Which models of a registry an oracle measured: by their weights where the oracle knows them, else by name alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelspace.evaluation.names import match
from modelspace.evaluation.oracles import Oracle


@dataclass(frozen=True)
class Identified:
    """Models that an oracle measured.

    Attributes:
        oracle_names: name of a model with the weights of one that was measured -> its name in the oracle.
        others: models with the name of a measured one, but other weights. They are not what was measured.
        by_name: models with the name of a measured one, or another spelling of it, whose weights are not known.
    """

    oracle_names: Mapping[str, str]
    others: tuple[str, ...]
    by_name: tuple[str, ...]


def identify(oracle: Oracle, models: Sequence[tuple[str, str]]) -> Identified:
    """Find the measured models.

    Args:
        oracle: measured transfer.
        models: (name, SHA-256 of the weights). Of several models with the weights of one that was measured, the one
            with its name counts, or else the first.

    >>> import numpy as np
    >>> oracle = Oracle("x", (), ("depth", "edges"), np.zeros((0, 2)), weights={"depth": "a", "edges": "b"})
    >>> identified = identify(oracle, [("mine", "a"), ("edges", "c")])
    >>> identified.oracle_names, identified.others
    ({'mine': 'depth'}, ('edges',))
    """
    measured = tuple(dict.fromkeys((*oracle.targets, *oracle.sources)))
    names = [name for name, _ in models]
    called = {mine: theirs for theirs, mine in zip(measured, match(measured, names), strict=True) if mine is not None}
    known = {oracle.weights[name]: name for name in measured if name in oracle.weights}
    by_weights: dict[str, str] = {}
    taken: set[str] = set()
    # First those that are also called like the measured model.
    for name, weights in sorted(models, key=lambda model: called.get(model[0]) != known.get(model[1], "")):
        theirs = known.get(weights)
        if theirs is not None and theirs not in taken:
            by_weights[name] = theirs
            taken.add(theirs)
    by_name = [mine for mine, theirs in called.items() if theirs not in oracle.weights and mine not in by_weights]
    others = [mine for mine, theirs in called.items() if theirs in oracle.weights and mine not in by_weights]
    return Identified(by_weights, tuple(others), tuple(by_name))
