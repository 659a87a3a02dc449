"""How long each score from labels takes, as a ratio to the ridge readout in one run.

    python scripts/bench_scores.py [--images 120 400 2000] [--features 512 2048] [--repeats 3]

Ten classes around ten centres; the model's own classifier has 1,000 classes. Each figure is the median of the repeats.
"""

from __future__ import annotations

import argparse
from statistics import median

import numpy as np

from modelspace import scores


def data(n: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, d) float32, labels (n,) and class outputs (n, 1000)."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 10
    features = rng.normal(size=(n, d)) * rng.gamma(0.5, 1.0, d) + rng.normal(size=(10, d))[labels]
    logits = rng.normal(size=(n, 1000)) + 3 * np.eye(1000)[labels * 7]
    outputs = np.exp(logits)
    return features.astype(np.float32), labels, outputs / outputs.sum(axis=1, keepdims=True)


def measure(n: int, d: int, repeats: int) -> dict[str, float]:
    """Seconds of each score."""
    features, labels, outputs = data(n, d)
    rounds = [scores.timed(features, labels, class_outputs=outputs) for _ in range(repeats)]
    return {name: median(times[name].seconds for times in rounds) for name in rounds[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[120, 400, 2000])
    parser.add_argument("--features", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    columns = {(n, d): measure(n, d, options.repeats) for n in options.images for d in options.features}
    print("| score | " + " | ".join(f"{n} x {d}" for n, d in columns) + " |")
    print("|---|" + "---|" * len(columns))
    reference = [column[scores.DEFAULT] for column in columns.values()]
    print(f"| {scores.DEFAULT}, seconds | " + " | ".join(f"{seconds:.3f}" for seconds in reference) + " |")
    for name in scores.SCORES:
        cells = [f"{column[name] / seconds:.2f}" for column, seconds in zip(columns.values(), reference, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
