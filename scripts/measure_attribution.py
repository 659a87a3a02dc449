"""How good can a ranking by attribution maps be? Choose the best form on some targets, and report it on others.

    python scripts/measure_attribution.py            # the sweep, on the targets `chosen` of `rooms` only
    python scripts/measure_attribution.py --report   # what was chosen, on `kept` and on `yards`, into the lab book
    python scripts/measure_attribution.py --second   # a second round: reference images, chosen in repainted rooms too

The rule, written before any figure was seen:

1. A candidate's figures are the means of Spearman, P@5 and 1 - regret@1 over the targets `chosen` of the oracle
   `rooms` (`modelspace.evaluation.splits`). Within a stage, candidates are ranked by each of the three (ties share
   their mean rank), and the smallest mean of the three ranks wins; of equals the one with the higher Spearman, then
   the one with fewer backward passes, then the first.
2. Stage 1 tries every scalar with and without the input, every treatment of channels and three corrections for hubs, on
   a canvas of 32 pixels. Stage 2 tries, for the winner, every canvas, smoothing, centring, way of comparing and
   correction. Stage 3 repeats stage 1 with what stage 2 chose; stage 4 repeats stage 2 for the winner of stage 3.
   Stage 5 tries, with all that is chosen then, the other engines (γ-rule, integrated gradients, SmoothGrad) and
   earlier layers, each with ΣT and the centred energy, with and without the input, and each correction; channels are
   treated as chosen.
3. A candidate is eligible if a space could have it: a model's vector must not depend on other models (subtracting the
   mean map over models does), and the explained layer is the model's own. Others are measured and shown.
4. The best eligible candidate of stages 4 and 5 together is evaluated once on the targets `kept` and once on the
   oracle `yards`, next to gradient*input as it is, saliency, `transfer`, popularity and random.

The second round came later, when rooms that no network was trained in could be used to choose (the oracle `repainted`).
It tries the scalars that stage 1 had passed over, T's inner product with T of reference images, with every treatment of
channels, canvas, smoothing, centring, way of comparing and correction, and takes the smallest mean of the six ranks in
both worlds.

Gradients are computed once at full input size and cached, as are the figures of every candidate: a killed run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from attribution_sweep import gradients, page
from attribution_sweep.candidates import (
    CHANNELS,
    MEAN_OF_IMAGES,
    MEAN_OF_MODELS,
    NOTHING,
    OWN_MEAN,
    PER_IMAGE,
    WHOLE,
    Candidate,
    matrix,
)
from oracle_parts import oracle_part
from reproduction import passes
from scipy.stats import rankdata

from modelspace import evaluation
from modelspace.evaluation import metrics, splits
from modelspace.spaces import hubness
from modelspace.workspace import ModelSpace

HUBS = (hubness.NONE, hubness.CENTRED, hubness.CSLS)
CANVASES, SIGMAS = (4, 8, 16, 32, 64), (0.0, 1.0, 2.0, 4.0)
CENTRINGS = (NOTHING, OWN_MEAN, MEAN_OF_IMAGES, MEAN_OF_MODELS)

PAGE = passes.TOP / "docs" / "lab-book" / "attribution.md"
#: What the figures say, which the page begins with.
COMMENT = Path(__file__).parent / "attribution_sweep" / "comment.md"

Figures = tuple[float, float, float]


class Selection:
    """Figures of candidates on the selection targets, kept in a file.

    Args:
        names: the encoders.
        file: JSON of candidate -> figures.
        oracle: whose targets `chosen` count.
    """

    def __init__(self, names: Sequence[str], file: Path, oracle: str = "rooms") -> None:
        self.names, self.file = tuple(names), file
        self.known: dict[str, Figures] = {}
        if file.is_file():
            self.known = {key: tuple(value) for key, value in json.loads(file.read_text("utf-8")).items()}
        whole = oracle_part(oracle, splits.SELECTION)
        sources = tuple(name for name in whole.sources if name in self.names)
        part = whole.subset(whole.targets, sources)
        self._truth, self._gain = part.truth(), part.gain()
        self._relevant = metrics.relevant_counts(self._truth)
        self._at = np.ix_([self.names.index(name) for name in part.targets], [self.names.index(n) for n in sources])

    def figures(self, scores: np.ndarray) -> Figures:
        """Spearman, P@5 and 1 - regret@1 of scores of all pairs, means over the targets."""
        table = scores[self._at]
        precision = metrics.precision_at_k(table, self._truth, self._relevant)[:, 4]
        regret = metrics.regret_at_k(table, self._gain, relative=True)[:, 0]
        return float(metrics.spearman(table, self._truth).mean()), float(precision.mean()), float(1 - regret.mean())

    def measure(self, candidates: Iterable[Candidate]) -> dict[Candidate, Figures]:
        """Figures of candidates, those of the same maps together; computed where the file lacks them."""
        outcomes: dict[Candidate, Figures] = {}
        scores: np.ndarray | None = None
        previous: Candidate | None = None
        unsaved = 0
        for candidate in candidates:
            key = json.dumps(asdict(candidate), sort_keys=True)
            plain = replace(candidate, hubs=hubness.NONE)
            if key not in self.known:
                if scores is None or plain != previous:
                    scores, previous = matrix(self.names, plain), plain
                self.known[key] = self.figures(hubness.corrected(scores, candidate.hubs))
                unsaved += 1
            outcomes[candidate] = self.known[key]
            if unsaved >= 50:
                self.save()
                unsaved = 0
        self.save()
        return outcomes

    def save(self) -> None:
        """Write the file."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.file.with_suffix(".part")
        unfinished.write_text(json.dumps(self.known, indent=0), encoding="utf-8")
        unfinished.replace(self.file)


def ordered(outcomes: Mapping[Candidate, tuple[float, ...]]) -> list[Candidate]:
    """Candidates from best to worst by the rule of the module docstring."""
    candidates = list(outcomes)
    table = np.array([outcomes[candidate] for candidate in candidates]).round(9)
    ranks = rankdata(-table, axis=0).mean(axis=1)
    order = sorted(range(len(candidates)), key=lambda i: (round(ranks[i], 6), -table[i, 0], candidates[i].passes, i))
    return [candidates[i] for i in order]


def best(outcomes: Mapping[Candidate, tuple[float, ...]]) -> Candidate:
    """The best eligible candidate."""
    return next(candidate for candidate in ordered(outcomes) if candidate.is_eligible)


def scalars_and_channels(base: Candidate) -> list[Candidate]:
    """Stages 1 and 3."""
    return [
        replace(base, scalar=scalar, times_input=times_input, channels=channels, hubs=hubs)
        for scalar, times_input, channels, hubs in product(
            (*gradients.SCALARS, *gradients.STACKS), (True, False), CHANNELS, HUBS
        )
        # Of stacks times the input only the mean over channels is cached.
        if not (scalar in gradients.STACKS and times_input and channels != CHANNELS[0])
    ]


def canvases(base: Candidate) -> list[Candidate]:
    """Stages 2 and 4."""
    return [
        replace(base, canvas=canvas, sigma=sigma, centring=centring, compared=compared, hubs=hubs)
        for sigma, canvas, centring, compared, hubs in product(SIGMAS, CANVASES, CENTRINGS, (PER_IMAGE, WHOLE), HUBS)
        if not (base.scalar in gradients.STACKS and canvas == 64)  # stacks are cached at half size
    ]


def engines_and_layers(base: Candidate, engines: Sequence[str], layers: Sequence[str]) -> list[Candidate]:
    """Stage 5."""
    kinds = [(engine, "") for engine in engines] + [("plain", layer) for layer in layers]
    return [
        replace(base, engine=engine, layer=layer, scalar=scalar, times_input=times_input, hubs=hubs)
        for (engine, layer), scalar, times_input, hubs in product(kinds, gradients.FEW, (True, False), HUBS)
    ]


def references() -> list[Candidate]:
    """The second round."""
    return [
        Candidate(
            scalar,
            times_input=times_input,
            channels=channels,
            canvas=canvas,
            sigma=sigma,
            centring=centring,
            compared=compared,
            hubs=hubs,
        )
        for scalar, times_input, channels, canvas, sigma, centring, compared, hubs in product(
            [scalar for scalar in gradients.STACKS if "reference" in scalar],
            (False, True),
            CHANNELS,
            (8, 16, 32),
            (0.0, 1.0, 2.0),
            (NOTHING, OWN_MEAN, MEAN_OF_IMAGES),
            (PER_IMAGE, WHOLE),
            HUBS,
        )
        if channels == CHANNELS[0] or not times_input
    ]


def second_round(names: Sequence[str], work: Path) -> None:
    """Choose in both worlds, and print the figures of the best on what it was not chosen on."""
    parts = [Selection(names, work / f"references-{oracle}.json", oracle) for oracle in ("rooms", "repainted")]
    figures = [part.measure(references()) for part in parts]
    both = {candidate: figures[0][candidate] + figures[1][candidate] for candidate in figures[0]}
    print("Spearman, P@5 and 1 - regret@1 in rooms and in repainted rooms:")
    for candidate in ordered(both)[:8]:
        print("  {:.3f} {:.3f} {:.3f}   {:.3f} {:.3f} {:.3f}  {}".format(*both[candidate], candidate))
    winner = best(both)
    scores = hubness.corrected(matrix(names, winner), winner.hubs)
    for oracle, targets in (("rooms", splits.HELD_OUT), ("yards", None), ("streets", None)):
        outcome = evaluation.evaluate({"references": (tuple(names), scores)}, oracle_part(oracle, targets))
        print(f"\n{oracle}, {targets or 'all targets'}\n\n{outcome.to_markdown((5,))}")


def sweep(
    selection: Selection, engines: Sequence[str], layers: Sequence[str]
) -> tuple[list[dict[Candidate, Figures]], Candidate]:
    """The stages, and the winner of the last two."""
    stages: list[dict[Candidate, Figures]] = []
    base = Candidate()
    for stage in (scalars_and_channels, canvases, scalars_and_channels, canvases):
        stages.append(selection.measure(stage(base)))
        describe(len(stages), stages[-1])
        base = best(stages[-1])
    stages.append(selection.measure(engines_and_layers(base, engines, layers)))
    describe(5, stages[-1])
    return stages, best(stages[-2] | stages[-1])


def report(names: Sequence[str], stages: Sequence[dict[Candidate, Figures]], winner: Candidate) -> None:
    """Evaluate the winner on what it was not chosen on, and write the page."""
    stored = ModelSpace.open(passes.TOP).kernels(names, "dds")
    tables = page.features_of(names, stored)
    outcomes = page.held_out(names, winner, tables)
    orders = [ordered(stage) for stage in stages]
    comment = COMMENT.read_text(encoding="utf-8") if COMMENT.is_file() else ""
    text = page.page(names, stages, orders, winner, outcomes, tables[page.DDS], comment)
    PAGE.write_text(text, encoding="utf-8")
    print(PAGE)


def describe(number: int, outcomes: dict[Candidate, Figures], first: int = 8) -> None:
    """Print the first candidates of a stage."""
    print(f"stage {number}: {len(outcomes)} candidates", flush=True)
    for candidate in ordered(outcomes)[:first]:
        print("  {:.3f} {:.3f} {:.3f}  {}".format(*outcomes[candidate], candidate), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="evaluate the winner and write the page")
    parser.add_argument("--second", action="store_true", help="the second round alone")
    parser.add_argument("--engines", default=",".join(gradients.ENGINES[1:]), help="engines of stage 5; may be empty")
    parser.add_argument("--layers", default=",".join(gradients.LAYERS), help="layers of stage 5; may be empty")
    parser.add_argument("--work", type=Path, default=gradients.CACHE, help="folder for gradients and figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    gradients.CACHE = options.work
    if options.second:
        second_round(passes.FULL.tasks, options.work)
        return
    selection = Selection(passes.FULL.tasks, options.work / "figures.json")
    engines, layers = (list(filter(None, text.split(","))) for text in (options.engines, options.layers))
    stages, winner = sweep(selection, engines, layers)
    print(f"winner: {winner}")
    if options.report:
        report(selection.names, stages, winner)


if __name__ == "__main__":
    main()
