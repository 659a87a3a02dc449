"""Attribution maps of a simulated population: for each probe image, one of a pool of stored maps.

The pool of an image has `CLUSTERS` different maps, each with near variants. A model takes, for most images, the map of
its own cluster, and for the others that of a random one: models of one cluster look at the same pixels, the more so the
surer they are of it. A fine-tune takes other maps for some images, a quantised copy takes near variants. The affinity
of two models, the mean cosine of their maps, is

    mean over images k of G_k[a, a'],

where G_k has the cosines of the pool's maps, as they are stored: exact, without decoding a model's maps.

A map with both signs (gradient*input) is noise plus a map that is common to the image, with a coefficient of either
sign that belongs to the cluster. A map without negative values (saliency) is a power of the absolute value of noise;
the exponent belongs to the cluster: maps that spread out are nearer to all others than those with few bright pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from modelspace.representations import maps
from population import draws
from population.draws import Floats, Integers
from population.families import COPY, FINE_TUNE, Families

#: Different maps of an image, each with a variant for copies of 8 bits and one for copies of 4.
CLUSTERS, VARIANTS = 48, 3
POOL = CLUSTERS * VARIANTS

_POOL, _OWN, _OTHERS, _RANDOM, _SURE, _CLUSTER, _DRIFT, _REPLACED, _NEW, _BLUR, _VARIED = range(301, 312)


@dataclass(frozen=True)
class Shape:
    """How models draw their maps; fitted to measured affinities (`population.targets`).

    Attributes:
        signed: whether maps have both signs.
        common: smallest and largest coefficient of the common map, or exponent of the noise.
        clusters: the probability of cluster j falls like exp(-j / clusters).
        task: probability that a base has its task's cluster and not one of its own.
        sure: smallest and largest share of images for which a base takes its own cluster's map.
        drift: a, b and p: for a share a + (b - a) uᵖ of images, u in 0..1, a fine-tune has other maps than its base.
        noise: share of noise in the variants for copies of 8 and of 4 bits.
        varied: smallest share of images for which a copy has variants.
    """

    signed: bool = True
    common: tuple[float, float] = (-0.15, 0.45)
    clusters: float = 12.0
    task: float = 0.3
    sure: tuple[float, float] = (0.3, 0.95)
    drift: tuple[float, float, float] = (0.1, 0.95, 0.35)
    noise: tuple[float, float] = (0.3, 0.8)
    varied: float = 0.15


class MapPopulation:
    """The maps of a population.

    Args:
        seed: of the population.
        people: who descends from whom.
        tasks: (n,) the number of each model's task.
        n_images: number of probe images.
        canvas: side of a map in pixels.
        bits: per pixel.
        shape: how maps are drawn.
    """

    def __init__(
        self,
        seed: int,
        people: Families,
        tasks: Integers,
        n_images: int,
        canvas: int,
        bits: int,
        shape: Shape | None = None,
    ) -> None:
        self.seed, self.people, self.tasks, self.n_images = seed, people, tasks, n_images
        self.canvas, self.bits, self.shape = canvas, bits, shape or Shape()

    @cached_property
    def pool(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Floats]:
        """Codes (images, POOL, bytes), scales (images, POOL, 8) and cosines (images, POOL, POOL) of the stored maps."""
        codes, scales, cosines = [], [], []
        for image in range(self.n_images):
            image_codes, image_scales = maps.quantise(self._maps(image), self.bits)
            decoded = maps.dequantise(image_codes, image_scales, self.bits, self.canvas**2)
            unit = maps.unit(decoded)
            codes.append(image_codes)
            scales.append(image_scales.astype("<f4").view(np.uint8))
            cosines.append(unit @ unit.T)
        return np.stack(codes), np.stack(scales), np.stack(cosines)

    def _maps(self, image: int) -> NDArray[np.float32]:
        """The pool's maps of one image, (POOL, pixels) of unit norm."""
        generator = np.random.default_rng([self.seed, _POOL, image, self.shape.signed])
        pixels = self.canvas**2
        low, high = self.shape.common
        amount = np.linspace(low, high, CLUSTERS)[:, None]
        noise = generator.standard_normal((CLUSTERS, 1, pixels), dtype=np.float32)
        change = generator.standard_normal((CLUSTERS, VARIANTS, pixels), dtype=np.float32)
        share = np.array([0.0, *self.shape.noise], dtype=np.float32)[:, None]
        varied = np.sqrt(1 - share**2) * noise + share * change
        if self.shape.signed:
            common = generator.standard_normal(pixels, dtype=np.float32)
            out = np.sqrt(1 - amount**2)[:, None] * varied + amount[:, None] * common
        else:
            out = np.abs(varied) ** amount[:, None]
        out = out.reshape(POOL, pixels)
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), dtype=np.float32)

    def slots(self, ids: Integers) -> Integers:
        """For each image the number of a model's map in the pool, (n, images)."""
        people, seed, image = self.people, self.seed, np.arange(self.n_images)
        parent, base = people.parent[ids], people.base[ids]
        cluster = self._of_bases(base)
        tuned = np.where(people.role[ids] == COPY, parent, ids)
        low, high, power = self.shape.drift
        share = low + (high - low) * draws.uniform(seed, _DRIFT, tuned) ** power
        share *= people.role[tuned] == FINE_TUNE
        replaced = draws.uniform(seed, _REPLACED, tuned[:, None], image) < share[:, None]
        cluster = np.where(replaced, draws.below(CLUSTERS, seed, _NEW, tuned[:, None], image), cluster)
        share = self.shape.varied + (1 - self.shape.varied) * draws.uniform(seed, _BLUR, ids)
        varied = draws.uniform(seed, _VARIED, ids[:, None], image) < (share * (people.role[ids] == COPY))[:, None]
        return cluster * VARIANTS + varied * np.where(people.four_bits[ids], 2, 1)[:, None]

    def _of_bases(self, ids: Integers) -> Integers:
        shape, seed = self.shape, self.seed
        of_task = self._cluster(draws.uniform(seed, _CLUSTER, self.tasks[ids]))
        of_base = self._cluster(draws.uniform(seed, _OWN, ids))
        own = np.where(draws.uniform(seed, _SURE, ids, 1) < shape.task, of_task, of_base)
        low, high = shape.sure
        sure = low + (high - low) * draws.uniform(seed, _SURE, ids, 2)
        image, column = np.arange(self.n_images), ids[:, None]
        random = draws.below(CLUSTERS, seed, _RANDOM, column, image)
        return np.where(draws.uniform(seed, _OTHERS, column, image) < sure[:, None], own[:, None], random)

    def _cluster(self, chance: Floats) -> Integers:
        weight = np.exp(-np.arange(CLUSTERS) / self.shape.clusters)
        # Clusters next to each other in popularity have different coefficients of the common map.
        mixed = (np.arange(CLUSTERS) * 29) % CLUSTERS
        return mixed[np.searchsorted(np.cumsum(weight / weight.sum()), chance).clip(max=CLUSTERS - 1)]

    def codes(self, ids: Integers) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Stored maps: codes (n, images x bytes) and scales (n, images x 8)."""
        codes, scales, _ = self.pool
        image, number = np.arange(self.n_images), self.slots(ids)
        return codes[image, number].reshape(len(ids), -1), scales[image, number].reshape(len(ids), -1)

    def table(self, ids: Integers) -> Floats:
        """Cosines of the maps of the pool with those of m models, over the number of images: (images x POOL, m)."""
        cosines = self.pool[2]
        number = self.slots(ids)
        out = np.stack([cosines[image][:, number[:, image]] for image in range(self.n_images)])
        return np.asarray(out.reshape(-1, len(ids)) / self.n_images)

    def against(self, ids: Integers, table: NDArray[np.floating]) -> NDArray[np.floating]:
        """Linear functions of the maps of n models, given on each map of the pool as (images x POOL, m): (n, m).

        With `table` they are affinities.
        """
        number = self.slots(ids) + np.arange(self.n_images) * POOL
        out = np.empty((len(ids), table.shape[1]), dtype=table.dtype)
        for model, rows in enumerate(number):
            out[model] = table[rows].sum(axis=0)
        return out

    def affinities(self, ids: Integers, others: Integers) -> Floats:
        """Affinities of n and m models, (n, m)."""
        return np.asarray(self.against(ids, self.table(others)))
