"""What was tried to make the default ranking right in worlds that its probe images are not of, and dropped.

    python scripts/measure_dropped.py     # three minutes on a core

Two tables of docs/lab-book/evaluation.md: rankings with varied copies of the probe images, and rankings from which a
share of each source's mean score is subtracted. Both have the targets `chosen` of the oracles `rooms` and `repainted`,
on which all this was judged. The first also has what the varied copies would have given on the targets kept aside and
in the other worlds; the second how often a network of the zoo has one of its task first.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from compute_baselines import shipped
from measure_local import IMAGES, combined, outputs_on
from numpy.typing import NDArray
from oracle_parts import oracle_part
from scipy.ndimage import affine_transform

from modelspace import zoo
from modelspace.evaluation import metrics, oracles, splits
from modelspace.evaluation.oracles import Oracle
from modelspace.evaluation.retrieval import same_task
from modelspace.registry import Registry
from modelspace.spaces import hubness
from modelspace.spaces.neighbours import score_matrix
from modelspace.spaces.ranking import Ranking
from modelspace.workspace import ModelSpace

TOP = Path(__file__).resolve().parent.parent

Array = NDArray[np.float64]


def varied(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Copies of images (N, side, side, 3) uint8: turned, cropped, mirrored, of other colours and contrast, noisy."""
    rng = np.random.default_rng(seed)
    out = np.empty_like(images)
    for number, image in enumerate(images):
        pixels = image / 255.0
        angle, zoom = rng.uniform(-0.35, 0.35), rng.uniform(0.65, 1.1)
        cosine, sine = np.cos(angle) * zoom, np.sin(angle) * zoom
        turn = np.array([[cosine, -sine], [sine, cosine]])
        middle = np.array(pixels.shape[:2]) / 2 - 0.5
        is_mirrored = rng.random() < 0.5
        planes = [
            affine_transform(pixels[..., k], turn, middle - turn @ middle, order=1, mode="reflect") for k in range(3)
        ]
        pixels = np.stack(planes, axis=-1)
        if is_mirrored:
            pixels = pixels[:, ::-1]
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        share = rng.uniform(0, 1)
        mix = (1 - share) * np.eye(3) + share * rotation * np.sign(rotation.sum(axis=1, keepdims=True))
        mean = pixels.mean(axis=(0, 1))
        pixels = (pixels - mean) @ mix.T + mean[rng.permutation(3)]
        pixels = np.clip(pixels, 0, 1) ** np.exp(rng.uniform(-0.7, 0.7))
        pixels = (pixels - 0.5) * rng.uniform(0.5, 1.4) + 0.5 + rng.uniform(-0.2, 0.2)
        pixels = pixels + rng.normal(size=pixels.shape) * rng.uniform(0, 0.09)
        out[number] = (np.clip(pixels, 0, 1) * 255).round()
    return out


def figures(matrix: Array, names: Sequence[str], oracle: Oracle) -> str:
    """Spearman, P@5 and regret@1, means over targets."""
    table = matrix[np.ix_([names.index(n) for n in oracle.targets], [names.index(n) for n in oracle.sources])]
    truth, gain = oracle.truth(), oracle.gain()
    precision = metrics.precision_at_k(table, truth, metrics.relevant_counts(truth))[:, 4].mean()
    regret = metrics.regret_at_k(table, gain, relative=True)[:, 0].mean()
    return f"{metrics.spearman(table, truth).mean():.3f} ({precision:.2f}, {regret:.2f})"


def copies() -> Iterator[str]:
    """The first table: rankings with varied copies of the rooms."""
    parts = {
        "rooms, chosen": oracle_part("rooms", splits.SELECTION),
        "repainted": oracle_part("repainted", splits.SELECTION),
        "rooms, kept": oracle_part("rooms", splits.HELD_OUT),
        "yards": oracle_part("yards", None),
        "streets": oracle_part("streets", None),
    }
    names = tuple(name for name in zoo.names() if name in oracles.load("rooms").sources)
    _, _, images = shipped(IMAGES, IMAGES)
    plain, other = combined(outputs_on(images, names)), combined(outputs_on(varied(images), names))
    rankings = {
        "rooms": plain["combined"],
        "rooms for whole images, varied copies for places": (plain["directed dds"] + other["local"]) / 2,
        "rooms and varied copies for both": (plain["combined"] + other["combined"]) / 2,
    }
    yield f"| probe images | {' | '.join(f'{label}: Spearman (P@5, regret@1)' for label in parts)} |"
    yield "|---" * (1 + len(parts)) + "|"
    for label, matrix in rankings.items():
        yield f"| {label} | {' | '.join(figures(matrix, names, oracle) for oracle in parts.values())} |"


def centring(home: Path) -> Iterator[str]:
    """The second table: the default ranking minus a share of each source's mean score onto other models, and more."""
    with Registry.open(ModelSpace.open(home).path) as registry:
        spec, dds = registry.space("transfer").spec, registry.space("dds").spec
        everyone = set(registry.model_ids(spec.space_id))
        ids, scores = score_matrix(registry, spec, everyone, Ranking.of(spec))
        _, affinities = score_matrix(registry, dds, everyone, Ranking.of(dds, hubness.NONE, "none"))
        rows = registry.labels(ids)
        names, tasks = [rows[i].name for i in ids], [rows[i].task for i in ids]
    others = np.where(np.eye(len(names), dtype=bool), np.nan, scores)
    general = np.nanmean(others, axis=0)[None]
    rankings = {f"a share of {share}": scores - share * general for share in (0.0, 0.25, 0.5, 1.0)}
    rankings |= {f"{-share} added": scores - share * general for share in (-0.3, -0.6)}
    rankings |= {f"{share} of the reverse direction added": scores + share * scores.T for share in (0.25, 0.5, 1.0)}
    rankings["CSLS"] = hubness.corrected(scores, hubness.CSLS)
    rankings["dds, centred"] = hubness.corrected(affinities, hubness.CENTRED)
    parts = [oracle_part(name, splits.SELECTION) for name in ("rooms", "repainted", "rooms-all", "repainted-all")]
    yield "| subtracted | rooms | repainted | rooms, all networks | repainted, all | same task first |"
    yield "|---" * 6 + "|"
    for label, matrix in rankings.items():
        retrieval = same_task(matrix, tasks)
        assert retrieval is not None
        cells = [figures(matrix, names, oracle) for oracle in parts]
        first = f"{round(float(retrieval.first.mean) * retrieval.queries)} of {retrieval.queries}"
        yield f"| {label} | {' | '.join(cells)} | {first} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=TOP, help="folder of the registry, for the second table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for lines in (copies(), centring(options.home)):
        print("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
