"""What a population is compared with: affinities measured on the zoo, and the same quantiles of the population."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from modelspace.registry import Registry
from population import families, maps
from population.draws import Floats, Integers
from population.families import Families
from population.kernels import KernelPopulation
from population.maps import MapPopulation

TOP = Path(__file__).resolve().parents[2]
MEASURED = Path(__file__).with_name("measured.json")

QUANTILES = (1, 5, 25, 50, 75, 95, 99)

#: Relations to an earlier model, in the order of the table; the first is that of two models trained from scratch.
UNRELATED, EIGHT_BITS, FOUR_BITS, TUNED = "two bases", "quantised copy, 8 bits", "quantised copy, 4 bits", "fine-tune"
RELATIONS = (UNRELATED, TUNED, EIGHT_BITS, FOUR_BITS)

#: How maps are drawn, by the method of the space.
SHAPES = {
    "gradient_x_input": maps.Shape(
        signed=True,
        common=(-0.41, 0.40),
        clusters=11.6,
        task=0.65,
        sure=(0.23, 0.99),
        drift=(0.02, 0.93, 0.4),
        noise=(0.3, 0.8),
    ),
    "saliency": maps.Shape(
        signed=False, common=(0.29, 1.6), clusters=13.3, task=0.91, sure=(0.31, 0.79), noise=(0.18, 0.5)
    ),
}

Population: TypeAlias = KernelPopulation | MapPopulation

#: Models of each role that are looked at.
SAMPLE = 400


def measured(space: str, home: Path = TOP) -> dict[str, Floats]:
    """Relation -> affinities: of all pairs of the shipped registry, and of `measured.json`."""
    with Registry.open(home / "registry.duckdb") as registry:
        vectors = registry.vectors(registry.space(space).spec.space_id)[1].astype(np.float64)
    pairs = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    stored: Mapping[str, Mapping[str, list[float]]] = json.loads(MEASURED.read_text())
    return {UNRELATED: pairs} | {relation: np.array(values[space]) for relation, values in stored.items()}


def simulated(population: Population, people: Families) -> dict[str, Floats]:
    """Relation -> affinities of a population's first models of each role."""
    numbers = np.arange(len(people))
    bases = numbers[people.role == families.BASE][:SAMPLE]
    out = {UNRELATED: population.affinities(bases, bases)[np.triu_indices(len(bases), 1)]}
    is_copy = people.role == families.COPY
    for relation, chosen in (
        (TUNED, people.role == families.FINE_TUNE),
        (EIGHT_BITS, is_copy & ~people.four_bits),
        (FOUR_BITS, is_copy & people.four_bits),
    ):
        ids = numbers[chosen][:SAMPLE]
        out[relation] = _to_parents(population, ids, people.parent[ids])
    return out


def _to_parents(population: Population, ids: Integers, parents: Integers) -> Floats:
    """The affinity of each model to its parent."""
    some, at = np.unique(parents, return_inverse=True)
    return np.asarray(population.affinities(ids, some)[np.arange(len(ids)), at])


def table(spaces: Mapping[str, tuple[Mapping[str, Floats], Mapping[str, Floats]]]) -> str:
    """A Markdown table of quantiles: space -> (measured, simulated), each relation -> affinities."""
    head = ["space", "relation", "of", "pairs", *(f"{q} %" for q in QUANTILES)]
    rows = [head, ["---"] * len(head)]
    for space, both in spaces.items():
        for relation in RELATIONS:
            for label, values in zip(("zoo", "population"), both, strict=True):
                cells = [f"{value:.3f}" for value in np.percentile(values[relation], QUANTILES)]
                rows.append([f"`{space}`", relation, label, f"{len(values[relation]):,}", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
