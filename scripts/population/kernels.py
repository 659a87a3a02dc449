"""Kernels of a simulated population: sums of few binary features of the probe images.

A feature f divides the N images into two halves, +1 and -1. A model has at most `SLOTS` features with integer weights
c of sum W at most `MOST`, and the kernel K = Σ c f fᵀ: the centred Gram matrix of the weighted features. Its entries
are integers from -W to W and its diagonal is W, so 8 bits store it without rounding, and the affinity of two models is

    Σᵢⱼ cᵢ c'ⱼ (fᵢ·f'ⱼ)² / (|K| |K'|),

exactly, without looking at a kernel. Two models without a common feature have affinity E / (E + N) on average, with
E = W² / Σ c² the effective number of features: kernels of real networks have that floor too.

Features are numbered: first concepts, which many models have, then those that few have, each followed by variants in
which some pairs of images have changed sides. A base has a share of concepts, by task, and features of its own. A
fine-tune has variants of most of its base's features, a quantised copy has near variants of some of its original's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from population import draws
from population.draws import Floats, Integers
from population.families import COPY, FINE_TUNE, Families

Codes: TypeAlias = NDArray[np.uint8]

#: Largest sum of weights: entries from -127 to 127 have 255 levels.
MOST = 127

CONCEPT_SLOTS, OWN_SLOTS = 8, 24
SLOTS = CONCEPT_SLOTS + OWN_SLOTS

#: Numbers of features.
CONCEPTS, OWN = 24, 1000

#: Pairs of images that have changed sides in the variants of a slightly and of a much changed fine-tune, and number of
#: variants of each kind, so that two fine-tunes of a base have different ones.
CHANGED, ALTERNATIVES = (2, 6, 12), 8

#: First pair and number of pairs of each variant: the feature itself, that of copies, and those of fine-tunes.
VARIANTS = ((0, 0), (0, 1), *((12 * k, swaps) for swaps in CHANGED for k in range(ALTERNATIVES)))

#: Concepts of which a base has one, and more of it than of others: what kind of network it is.
LEADS = 3

#: Models per step: their kernels fit into a processor's cache.
_STEP = 32

_FEATURE, _SHARE, _TASK, _CONCEPT, _OWN, _WIDTH, _DRIFT, _REPLACED, _NEW, _VARIED, _LEAD, _LOST = range(201, 213)


@dataclass(frozen=True)
class Shape:
    """How models draw their features; fitted to measured affinities (`population.targets`).

    Attributes:
        share: parameters of the Beta distribution of a base's share of concepts.
        lead: weight of the leading concept among a base's concepts; there are `LEADS` of them.
        leading: probability of the first leading concept; the others share the rest evenly.
        task_spread: standard deviation of the logarithms of a task's weights on the concepts.
        base_spread: the same for how a base's weights differ from its task's.
        width: smallest and largest number of own features over which weights fall by a factor of e.
        changed: probabilities that a fine-tune is changed as slightly, or as much, as `CHANGED` says.
        drift: the share of features that change in a fine-tune.
        noise: the share of features that a copy of 8 bits, and one of 4, varies.
        lost: the share of features of which a copy of 4 bits loses one unit of weight.
        fine: largest weight of a feature that a copy of 8 bits, and one of 4, varies.
    """

    share: tuple[float, float] = (2.53, 0.4)
    lead: float = 0.19
    leading: float = 0.97
    task_spread: float = 1.1
    base_spread: float = 0.52
    width: tuple[float, float] = (3.7, 18.1)
    changed: tuple[float, ...] = (0.25, 0.45, 0.3)
    drift: float = 0.85
    noise: tuple[float, float] = (0.4, 0.3)
    fine: tuple[int, int] = (2, MOST)
    lost: float = 0.5


class KernelPopulation:
    """The kernels of a population.

    Args:
        seed: of the population.
        people: who descends from whom.
        tasks: (n,) the number of each model's task.
        n_images: number of probe images.
        shape: how features are drawn.
    """

    bits = 8

    def __init__(self, seed: int, people: Families, tasks: Integers, n_images: int, shape: Shape | None = None) -> None:
        self.seed, self.people, self.tasks, self.n_images = seed, people, tasks, n_images
        self.shape = shape or Shape()
        self.features = features(seed, n_images)
        self._upper = np.ravel_multi_index(np.triu_indices(n_images, 1), (n_images, n_images))
        self._scales = np.tile(np.array([-127, 128], dtype="<f4"), (n_images, 1))

    def slots(self, ids: Integers) -> tuple[Integers, Integers]:
        """The features of models, (n, SLOTS) numbers and (n, SLOTS) weights, of which some are 0."""
        people, seed = self.people, self.seed
        parent, base = people.parent[ids], people.base[ids]
        number, weight = self._of_bases(base)
        # The fine-tune that a model is, or was copied from; a base or its copy replaces nothing.
        tuned = np.where(people.role[ids] == COPY, parent, ids)
        slot, four = np.arange(SLOTS), people.four_bits[ids][:, None]
        kind = np.searchsorted(np.cumsum(self.shape.changed)[:-1], draws.uniform(seed, _DRIFT, tuned), side="right")
        changes = draws.uniform(seed, _REPLACED, tuned[:, None], slot) < self.shape.drift
        changes &= (people.role[tuned] == FINE_TUNE)[:, None]
        variant = 2 + ALTERNATIVES * kind[:, None] + draws.below(ALTERNATIVES, seed, _NEW, tuned[:, None], slot)
        number = number + np.where(changes, variant, 0)
        varied = draws.uniform(seed, _VARIED, ids[:, None], slot) < np.where(four, *self.shape.noise[::-1])
        varied &= (people.role[ids] == COPY)[:, None] & (weight <= np.where(four, *self.shape.fine[::-1]))
        lost = draws.uniform(seed, _LOST, ids[:, None], slot) < self.shape.lost
        lost &= four & (weight > 1)
        return number + (varied & ~changes), weight - lost

    def _of_bases(self, ids: Integers) -> tuple[Integers, Integers]:
        shape, seed, column = self.shape, self.seed, ids[:, None]
        share = _beta(draws.uniform(seed, _SHARE, ids), *shape.share)[:, None]
        concept = np.arange(LEADS, CONCEPTS)
        liking = shape.task_spread * draws.normal(seed, _TASK, self.tasks[ids][:, None], concept)
        liking += shape.base_spread * draws.normal(seed, _CONCEPT, column, concept)
        chosen = np.argsort(-liking, axis=1)[:, : CONCEPT_SLOTS - 1]
        weight = np.exp(np.take_along_axis(liking, chosen, axis=1))
        weight *= (1 - shape.lead) / weight.sum(axis=1, keepdims=True)
        lead = np.full_like(share, shape.lead)
        chance = draws.uniform(seed, _LEAD, column)
        other = 1 + (LEADS - 1) * (chance - shape.leading) / (1 - shape.leading)
        leading = np.where(chance < shape.leading, 0, other.astype(np.int64))
        low, high = shape.width
        width = low * (high / low) ** draws.uniform(seed, _WIDTH, column)
        own = np.exp(-np.arange(OWN_SLOTS) / width)
        own /= own.sum(axis=1, keepdims=True)
        weights = np.hstack([share * lead, share * weight, (1 - share) * own])
        numbers = CONCEPTS + draws.below(OWN, seed, _OWN, column, np.arange(OWN_SLOTS))
        numbers = np.hstack([leading, concept[chosen], numbers]) * len(VARIANTS)
        ends = np.rint(MOST * np.cumsum(weights, axis=1)).astype(np.int64)
        return numbers, np.diff(ends, axis=1, prepend=0)

    def codes(self, ids: Integers) -> tuple[Codes, NDArray[np.uint8]]:
        """Stored kernels: codes (n, bytes) and scales (n, bytes), as `modelspace.representations.kernels` packs them.

        The range of a row is -127..128, so that a step between two codes is 1; that of the diagonal is W.
        """
        n = self.n_images
        codes = np.zeros((len(ids), n + len(self._upper)), dtype=np.uint8)
        scales = np.repeat(self._scales[None], len(ids), axis=0)
        number, weight = self.slots(ids)
        scales[:, -1] = weight.sum(axis=1)[:, None]
        for start in range(0, len(ids), _STEP):
            part = slice(start, start + _STEP)
            table = self.features[number[part]]
            kernel = (table * weight[part, :, None].astype(np.float32)).transpose(0, 2, 1) @ table
            kernel += 127
            codes[part, n:] = kernel.astype(np.uint8).reshape(len(kernel), -1)[:, self._upper]
        return codes, scales.reshape(len(ids), -1).view(np.uint8)

    def norms(self, ids: Integers) -> Floats:
        """Frobenius norms of kernels, (n,)."""
        number, weight = self.slots(ids)
        out = np.empty(len(ids))
        for start in range(0, len(ids), _STEP):
            part = slice(start, start + _STEP)
            table, c = self.features[number[part]], weight[part].astype(np.float64)
            products = (table @ table.transpose(0, 2, 1)).astype(np.float64) ** 2
            out[part] = np.sqrt(np.einsum("ni,nij,nj->n", c, products, c))
        return out

    def table(self, ids: Integers) -> Floats:
        """Inner products of each feature's f fᵀ with the unit kernels of m models: (features, m)."""
        number, weight = self.slots(ids)
        unit = weight / self.norms(ids)[:, None]
        out = np.empty((len(self.features), len(ids)))
        for model, (slots, weights) in enumerate(zip(number, unit, strict=True)):
            products = (self.features @ self.features[slots].T).astype(np.float64)
            out[:, model] = products**2 @ weights
        return out

    def against(self, ids: Integers, table: NDArray[np.floating]) -> NDArray[np.floating]:
        """Linear functions of the unit kernels of n models, given on each feature as (features, m): (n, m).

        With `table` they are affinities.
        """
        number, weight = self.slots(ids)
        unit = (weight / self.norms(ids)[:, None]).astype(table.dtype)
        out = np.empty((len(ids), table.shape[1]), dtype=table.dtype)
        for model, (slots, weights) in enumerate(zip(number, unit, strict=True)):
            out[model] = weights @ table[slots]
        return out

    def affinities(self, ids: Integers, others: Integers) -> Floats:
        """Affinities of n and m models, (n, m), from their kernels."""
        return np.asarray(self._unit(ids) @ self._unit(others).T)

    def _unit(self, ids: Integers) -> Floats:
        """Unit kernels, (n, N (N + 1) / 2), whose inner products are those of whole matrices."""
        codes, _ = self.codes(ids)
        kernels = codes.astype(np.float64) - 127.0
        kernels[:, : self.n_images] = self.slots(ids)[1].sum(axis=1)[:, None]
        kernels[:, self.n_images :] *= np.sqrt(2.0)
        kernels /= np.sqrt(np.einsum("ij,ij->i", kernels, kernels))[:, None]
        return kernels


def features(seed: int, n_images: int) -> NDArray[np.float32]:
    """All features: (count, n_images) of 1 and -1, as many of one as of the other; an odd image has 0."""
    count = CONCEPTS + OWN
    order = np.argsort(draws.words(seed, _FEATURE, np.arange(count)[:, None], np.arange(n_images)), axis=1)
    half = n_images // 2
    out = np.zeros((count, len(VARIANTS), n_images), dtype=np.float32)
    for variant, (first, swaps) in enumerate(VARIANTS):
        sides = np.repeat([1.0, -1.0], half)
        pairs = np.unique((first + np.arange(swaps)) % half)
        sides[pairs], sides[half + pairs] = -1.0, 1.0
        np.put_along_axis(out[:, variant], order[:, : 2 * half], sides[None].repeat(count, axis=0), axis=1)
    return out.reshape(-1, n_images)


def _beta(chance: Floats, a: float, b: float) -> Floats:
    """Quantiles of a Beta distribution."""
    from scipy.special import betaincinv

    return np.asarray(betaincinv(a, b, chance))
