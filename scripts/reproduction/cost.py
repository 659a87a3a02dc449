"""The claim about cost (8): everything is timed in one run, on one thread, in processor time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from modelspace.embedding.prepare import Request, prepared
from modelspace.lab import similarity
from reproduction import drawing, passes, verdicts
from reproduction.data import Data
from reproduction.page import Section, table

REPEATS = 2

#: Pairs of models on which SVCCA pair by pair is timed; the rest is this, times the number of pairs.
SAMPLE = 24


@dataclass(frozen=True)
class Times:
    """Seconds of processor time for one number of images.

    Attributes:
        forward, backward: (models,) of the forward pass alone, and of the pass that yields maps.
        product: of one affinity of two models from their maps.
        vectors: (models,) of one model's singular vectors, T whole.
        correlate: of one pair's canonical correlations from kept vectors.
        pairwise: of one pair, singular vectors included, mean over sampled pairs.
    """

    forward: np.ndarray
    backward: np.ndarray
    product: float
    vectors: np.ndarray
    correlate: float
    pairwise: float

    def ours(self, at: Sequence[int]) -> float:
        return float(self.backward[at].sum()) + self.product * _pairs(len(at))

    def kept(self, at: Sequence[int]) -> float:
        return float((self.forward + self.vectors)[at].sum()) + self.correlate * _pairs(len(at))

    def by_pair(self, at: Sequence[int]) -> float:
        return float(self.forward[at].sum()) + self.pairwise * _pairs(len(at))


def _pairs(n: int) -> float:
    return n * (n - 1) / 2


def _took(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The least of some repeats: a busy machine adds to a time and never takes from it."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def measure(data: Data, images: int) -> tuple[Times, list[int]]:
    """Times with so many rooms, and the number of elements of T per model."""
    _, pixels = passes.images("rooms", images)
    spec = passes.spec("gradient*input", images)
    forward, backward, tables, sizes = [], [], [], []
    for name in data.models:
        with prepared(Request(f"zoo:{name}", device="cpu"), pixels[:2]) as ready:
            tables.append(passes.outputs(ready, pixels, whole=True))
            forward.append(_took(lambda ready=ready: passes.outputs(ready, pixels, whole=True)))  # type: ignore[misc]
            backward.append(_took(lambda ready=ready: passes._maps(ready, pixels, [spec])))  # type: ignore[misc]
        sizes.append(tables[-1].shape[1])
    few = data.models[:2]
    stored = (passes.embedded(name, "rooms", data.scale)["gradient*input"].ravel() for name in few)
    flat = [np.resize(one, images * one.size // data.scale.images) for one in stored]  # what is in them costs nothing
    product = _took(lambda: [float(flat[0] @ flat[1]) for _ in range(20)]) / 20
    wide = [table.astype(np.float64) for table in tables]
    vectors = [_took(lambda one=one: similarity.svcca([one]), 1) for one in wide]  # type: ignore[misc]
    bases = [_basis(one) for one in wide]
    every = list(combinations(range(len(bases)), 2))
    rng = np.random.default_rng(0)
    sampled = [every[i] for i in rng.choice(len(every), min(SAMPLE, len(every)), replace=False)]
    correlate = _took(lambda: [np.linalg.svd(bases[i].T @ bases[j], compute_uv=False) for i, j in every], 1) / len(
        every
    )
    pairwise = _took(lambda: [similarity.svcca([wide[i], wide[j]]) for i, j in sampled], 1) / len(sampled)
    return Times(np.array(forward), np.array(backward), product, np.array(vectors), correlate, pairwise), sizes


def _basis(one: np.ndarray) -> np.ndarray:
    """As many directions as `similarity.svcca` keeps at most; what a pair's correlation costs depends on it alone."""
    left, _, _ = np.linalg.svd(one - one.mean(axis=0), full_matrices=False)
    return left[:, : max(1, len(one) // 5)]


def cost(data: Data) -> Section:
    """Claim 8."""
    found = {images: measure(data, images) for images in data.scale.timed}
    everyone, encoders = list(range(len(data.models))), data.at(data.tasks)
    rows = []
    for images, (times, _) in found.items():
        for label, at in ((f"{len(encoders)} encoders", encoders), (f"all {len(everyone)}", everyone)):
            ours, kept, by_pair = times.ours(at), times.kept(at), times.by_pair(at)
            rows.append(
                [
                    str(images), label, f"{len(at) * images} / {len(at) * images}", f"{ours:.1f}", f"{len(at) * images} / 0",
                    f"{kept:.1f} ({kept / ours:.2f} x)", f"{by_pair:.1f} ({by_pair / ours:.1f} x)",
                ]
            )  # fmt: skip
    per = []
    for images, (times, _) in found.items():
        n = len(everyone)
        per.append(
            [
                str(images), *(f"{one.mean() * 1e3:.0f}" for one in (times.forward, times.backward, times.vectors)),
                f"{times.product * 1e3:.3f}", f"{times.correlate * 1e3:.3f}", f"{times.pairwise * 1e3:.1f}",
                f"{times.backward.mean() + n * times.product:.3f}",
                f"{(times.forward + times.vectors).mean() + n * times.correlate:.3f}",
                f"{times.forward.mean() + n * times.pairwise:.2f}",
            ]
        )  # fmt: skip
    most = max(found)
    times, sizes = found[most]
    ours, by_pair, kept = times.ours(everyone), times.by_pair(everyone), times.kept(everyone)
    verdict = verdicts.cost(ours, by_pair, kept)
    ns = [20, 39, 100, 200, 500, 1000, 2000]

    def at_n(n: int, fixed: float, each: float) -> float:
        return n * fixed + _pairs(n) * each

    lines = {
        "gradient*input, a pass per model": [at_n(n, times.backward.mean(), times.product) for n in ns],
        "SVCCA, singular vectors kept": [at_n(n, (times.forward + times.vectors).mean(), times.correlate) for n in ns],
        "SVCCA, pair by pair": [at_n(n, times.forward.mean(), times.pairwise) for n in ns],
    }
    picture = drawing.line_panels(
        ns, {f"seconds, {most} images": lines},
        xlabel="models (20 and 39 measured; beyond, extrapolated from the times per model and per pair)",
        title="Time for all affinities", log=True, log_y=True, ticks=ns, height=2.9,
    )  # fmt: skip
    return Section(
        8,
        "Cost",
        "One pass per model, against one computation per pair for SVCCA (and a training per pair for Taskonomy).",
        f"All {len(data.models)} models, {', '.join(map(str, found))} rooms (the paper has 1,000 images), one thread, processor "
        "time, in one run: a pass with gradient\\*input at 32 bits and all inner products, against SVCCA of the same models at "
        f"the same layers and images, of T whole: {min(sizes)} to {max(sizes)} elements per image, median "
        f"{int(np.median(sizes))}. SVCCA in two ways: each pair from the outputs (timed on {SAMPLE} random pairs, "
        "times the number of pairs), and with each model's singular vectors computed once and kept.",
        verdicts.COST_RULE,
        verdict,
        f"SVCCA pair by pair {by_pair / ours:.1f} x, with kept vectors {kept / ours:.2f} x the time of attribution",
        [
            "Seconds for all affinities; passes are images forward / backward:",
            table(
                [
                    "images", "models", "passes", "gradient*input", "passes of SVCCA", "SVCCA, vectors kept", "SVCCA, by pair",
                ],
                rows,
            ),
            "Milliseconds per model and per pair, and seconds for one more model in addition to 39:",
            table(
                [
                    "images", "forward", "forward and backward", "singular vectors", "affinity of a pair",
                    "correlation of a pair", "SVCCA of a pair", "one more: gradient*input", "one more: SVCCA, kept",
                    "one more: SVCCA, by pair",
                ],
                per,
            ),
            "Training per pair, as for the oracle `rooms`: half a minute per source for 18 targets and 3 seeds of a "
            "small readout ([evaluation](evaluation.md)), that is 20 minutes for 39 models, and it needs labels.",
            "The forward passes are the same for all; what differs is the backward pass and the work per pair. With "
            "each model's singular vectors kept, as the definition of SVCCA allows, a pair costs it as little as it "
            "costs attribution. Kernels of T (DDS, linear CKA) need an inner product per pair, too, and no backward "
            "pass.",
        ],
        {"cost.png": ("Seconds for all affinities against the number of models", picture)},
    )  # fmt: skip
