"""The claim about cost (8): all times are processor time of one run, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from modelspace.embedding.prepare import Request, prepared
from modelspace.lab import similarity
from reproduction import drawing, passes, verdicts
from reproduction.data import Data
from reproduction.page import Section, table

REPEATS = 2

#: Pairs of models on which SVCCA pair by pair is timed; the total is extrapolated to all pairs.
SAMPLE = 24


@dataclass(frozen=True)
class Times:
    """Seconds of processor time for a number of images.

    Attributes:
        forward: (models,) of the forward pass alone.
        backward: (models,) of the pass that computes maps.
        product: of the affinity of two models from their maps.
        vectors: (models,) of a model's singular vectors, of the whole T.
        correlate: of a pair's canonical correlations from stored singular vectors.
        pairwise: of a pair including singular vectors, mean over sampled pairs.
    """

    forward: np.ndarray
    backward: np.ndarray
    product: float
    vectors: np.ndarray
    correlate: float
    pairwise: float

    def attribution(self, at: Sequence[int]) -> float:
        """Of all affinities between the models at these indices."""
        return float(self.backward[at].sum()) + self.product * _pairs(len(at))

    def stored(self, at: Sequence[int]) -> float:
        """Of SVCCA with stored singular vectors."""
        return float((self.forward + self.vectors)[at].sum()) + self.correlate * _pairs(len(at))

    def by_pair(self, at: Sequence[int]) -> float:
        """Of SVCCA pair by pair."""
        return float(self.forward[at].sum()) + self.pairwise * _pairs(len(at))


def _pairs(n: int) -> float:
    return n * (n - 1) / 2


def _seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The minimum over repeats: a busy machine only ever adds to a time."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def measure(data: Data, images: int) -> tuple[Times, list[int]]:
    """Times with this number of rooms, and the number of elements of T per model."""
    _, pixels = passes.images("rooms", images)
    spec = passes.spec("gradient*input", images)
    forward, backward, tables, sizes = [], [], [], []
    for name in data.models:
        with prepared(Request(f"zoo:{name}", device="cpu"), pixels[:2]) as ready:
            tables.append(passes.outputs(ready, pixels, whole=True))
            forward.append(_seconds(partial(passes.outputs, ready, pixels, whole=True)))
            backward.append(_seconds(partial(passes.unit_maps, ready, pixels, [spec])))
        sizes.append(tables[-1].shape[1])
    maps = [passes.embedded(name, "rooms", data.scale)["gradient*input"].ravel() for name in data.models[:2]]
    # The time does not depend on the values, so maps are repeated up to the number of images.
    a, b = (np.resize(values, images * values.size // data.scale.images) for values in maps)
    product = _seconds(lambda: [float(a @ b) for _ in range(20)]) / 20
    features = [table.astype(np.float64) for table in tables]
    vectors = [_seconds(partial(similarity.svcca, [table]), 1) for table in features]
    bases = [_basis(table) for table in features]
    pairs = list(combinations(range(len(bases)), 2))
    rng = np.random.default_rng(0)
    sample = [pairs[i] for i in rng.choice(len(pairs), min(SAMPLE, len(pairs)), replace=False)]
    correlations = _seconds(lambda: [np.linalg.svd(bases[i].T @ bases[j], compute_uv=False) for i, j in pairs], 1)
    correlate = correlations / len(pairs)
    pairwise = _seconds(lambda: [similarity.svcca([features[i], features[j]]) for i, j in sample], 1) / len(sample)
    return Times(np.array(forward), np.array(backward), product, np.array(vectors), correlate, pairwise), sizes


def _basis(table: np.ndarray) -> np.ndarray:
    """The maximum number of directions that `similarity.svcca` uses; a pair's cost depends only on that number."""
    vectors, _, _ = np.linalg.svd(table - table.mean(axis=0), full_matrices=False)
    return vectors[:, : max(1, len(table) // 5)]


def cost(data: Data) -> Section:
    """Claim 8."""
    measured = {images: measure(data, images) for images in data.scale.timed}
    everyone, encoders = list(range(len(data.models))), data.at(data.tasks)
    rows = []
    for images, (times, _) in measured.items():
        for label, at in ((f"{len(encoders)} encoders", encoders), (f"all {len(everyone)}", everyone)):
            ours, stored, by_pair = times.attribution(at), times.stored(at), times.by_pair(at)
            n_inputs = len(at) * images
            rows.append(
                [
                    str(images), label, f"{n_inputs} / {n_inputs}", f"{ours:.1f}", f"{n_inputs} / 0",
                    f"{stored:.1f} ({stored / ours:.2f} x)", f"{by_pair:.1f} ({by_pair / ours:.1f} x)",
                ]
            )  # fmt: skip
    per = []
    for images, (times, _) in measured.items():
        n = len(everyone)
        per.append(
            [
                str(images), *(f"{each.mean() * 1e3:.0f}" for each in (times.forward, times.backward, times.vectors)),
                f"{times.product * 1e3:.3f}", f"{times.correlate * 1e3:.3f}", f"{times.pairwise * 1e3:.1f}",
                f"{times.backward.mean() + n * times.product:.3f}",
                f"{(times.forward + times.vectors).mean() + n * times.correlate:.3f}",
                f"{times.forward.mean() + n * times.pairwise:.2f}",
            ]
        )  # fmt: skip
    most = max(measured)
    times, sizes = measured[most]
    ours, by_pair, stored = times.attribution(everyone), times.by_pair(everyone), times.stored(everyone)
    verdict = verdicts.cost(ours, by_pair, stored)
    ns = [20, 39, 100, 200, 500, 1000, 2000]

    def at_n(n: int, per_model: float, per_pair: float) -> float:
        return n * per_model + _pairs(n) * per_pair

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
        f"All {len(data.models)} models, {', '.join(map(str, measured))} rooms (the paper has 1,000 images), one "
        "thread, processor time, in one run: a pass with gradient\\*input at 32 bits and all inner products, against "
        "SVCCA of the same models at the same layers and images, of the whole T: "
        f" {min(sizes)} to {max(sizes)} elements per image, median "
        f"{int(np.median(sizes))}. SVCCA in two ways: each pair from the outputs (timed on {SAMPLE} random pairs, "
        "times the number of pairs), and with each model's singular vectors computed once and kept.",
        verdicts.COST_RULE,
        verdict,
        f"SVCCA pair by pair {by_pair / ours:.1f} x, with vectors kept {stored / ours:.2f} x the time of attribution",
        [
            "Seconds for all affinities; passes are images forward / backward:",
            table(
                [
                    "images", "models", "passes", "gradient*input", "passes of SVCCA", "SVCCA, vectors kept",
                    "SVCCA, by pair",
                ],
                rows,
            ),
            "Milliseconds per model and per pair, and seconds for one more model in addition to 39:",
            table(
                [
                    "images", "forward", "forward and backward", "singular vectors", "affinity of a pair",
                    "correlation of a pair", "SVCCA of a pair", "one more: gradient*input",
                    "one more: SVCCA, kept", "one more: SVCCA, by pair",
                ],
                per,
            ),
            "Training per pair, as for the oracle `rooms`: half a minute per source for 18 targets and 3 seeds of a "
            "small readout ([evaluation](evaluation.md)), that is 20 minutes for 39 models, and it needs labels.",
            "The forward passes are the same for all; the backward pass and the work per pair differ. With each "
            "model's singular vectors kept, as the definition of SVCCA allows, a pair is as cheap as for attribution. "
            "Kernels of T (DDS, linear CKA) also need only an inner product per pair, and no backward pass.",
        ],
        {"cost.png": ("Seconds for all affinities against the number of models", picture)},
    )  # fmt: skip
