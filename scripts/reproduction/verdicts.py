"""The rules of the verdicts: pure functions of numbers, each with its rule in words; none was fitted to its outcome.

A claim has parts. All true: it holds. Some true: it holds in part. None true: it does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelspace.evaluation import Interval

HOLDS, IN_PART, NOT = "holds", "holds in part", "does not hold"

#: Spearman with the 32-bit matrix by bits, as published.
PAPER_BITS = {1: 0.56, 2: 0.71, 4: 0.85, 8: 0.96, 16: 0.99}


@dataclass(frozen=True)
class Verdict:
    """One of the three words, and a sentence with the numbers that determine it."""

    word: str
    sentence: str


def word(parts: Sequence[bool]) -> str:
    return HOLDS if all(parts) else IN_PART if any(parts) else NOT


def shown(interval: Interval, sign: bool = True) -> str:
    """A figure with its interval.

    >>> shown(Interval(0.1, -0.001, 0.2))
    '+0.10 [+0.00, +0.20]'
    """
    form = "+.2f" if sign else ".2f"
    # Adding zero turns the -0.00 of a tiny loss into +0.00.
    mean, low, high = (
        f"{round(float(value), 2) + 0.0:{form}}" for value in (interval.mean, interval.low, interval.high)
    )
    return f"{mean} [{low}, {high}]"


def floored(value: float) -> str:
    """Four decimals, rounded down, for lower bounds.

    >>> floored(0.99997)
    '0.9999'
    """
    return f"{math.floor(value * 1e4) / 1e4:.4f}"


METHODS_RULE = (
    "Two parts. They coincide: Spearman between the affinity matrices of gradient\\*input and ε-LRP is at least "
    "0.95 on every probe set. Both beat saliency: for each of the two, on at least two of the three probe sets the "
    "mean difference to saliency is above 0 in P@5 and in Spearman, and one of the two intervals excludes 0."
)


def methods(near: Mapping[str, float], gaps: Mapping[str, Sequence[tuple[Interval, Interval]]]) -> Verdict:
    """Claim 1.

    Args:
        near: probe set to Spearman between both methods' affinities.
        gaps: method to a pair (P@5, Spearman) of differences to saliency for each probe set.
    """
    coincide = min(near.values()) >= 0.95
    wins = {
        method: sum(p.mean > 0 and s.mean > 0 and (p.low > 0 or s.low > 0) for p, s in sets)
        for method, sets in gaps.items()
    }
    better = all(count >= 2 for count in wins.values())
    first = next(iter(gaps))
    return Verdict(
        word([coincide, better]),
        f"gradient\\*input and ε-LRP {'coincide' if coincide else 'differ'} (Spearman of their affinities at least "
        f"{floored(min(near.values()))}); gradient\\*input minus saliency, by probe set, is "
        + "; ".join(
            f"{name}: P@5 {shown(p)}, Spearman {shown(s)}" for name, (p, s) in zip(near, gaps[first], strict=True)
        )
        + f", so that it {'beats saliency' if better else 'does not beat saliency'}"
        + (f" (on {wins[first]} of {len(near)} sets)." if len(near) > 1 else "."),
    )


PROBES_RULE = (
    "Two parts. The set, for gradient\\*input and ε-LRP: Spearman between the affinity matrices of every two sets "
    "is at least 0.8, and P@5 differs by at most 0.1 between them. The size, for gradient\\*input: 100 images give "
    "a matrix with Spearman of at least 0.95 with that of 800, and a P@5 that differs by at most 0.05, on average "
    "over disjoint draws."
)


def probe_sets(
    between: Sequence[float], precision: Sequence[Sequence[float]], at_100: Sequence[float], gap: Sequence[float]
) -> Verdict:
    """Claim 2.

    Args:
        between: Spearman between the matrices of each two sets, for both methods.
        precision: P@5 on each set, for each method.
        at_100: Spearman of 100 images with 800, mean over draws, for each measured method.
        gap: absolute difference of P@5 to that of 800, mean over draws, likewise.
    """
    spread = max(max(row) - min(row) for row in precision)
    stable = min(between) >= 0.8 and spread <= 0.1
    enough = min(at_100) >= 0.95 and max(gap) <= 0.05
    return Verdict(
        word([stable, enough]),
        f"affinities of two probe sets agree with Spearman {min(between):.2f} to {max(between):.2f} and P@5 differs by "
        f"up to {spread:.2f} between sets, so the set {'hardly matters' if stable else 'matters'}; 100 images agree "
        f"with 800 with {min(at_100):.3f}, P@5 differs by {max(gap):.3f}, so the number "
        f"{'hardly matters' if enough else 'matters'}.",
    )


BITS_RULE = (
    "One part per number of bits that the paper has a figure for: Spearman with the 32-bit matrix, for "
    "gradient\\*input, is at least the paper's minus 0.05."
)


def bits(measured: Mapping[int, float]) -> Verdict:
    """Claim 3; measured: bits to Spearman with the matrix of 32 bits."""
    parts = [measured[n] >= value - 0.05 for n, value in PAPER_BITS.items()]
    listed = ", ".join(f"{n} bit{'s' * (n > 1)} {measured[n]:.2f} ({value:.2f})" for n, value in PAPER_BITS.items())
    return Verdict(word(parts), f"Spearman with 32 bits is, with the paper's figure in brackets: {listed}.")


DEPTH_RULE = (
    "Two parts. Shallow is uniform: the rank correlation of depth with the uniformity (participation ratio) of the "
    "maps, mean over encoders, is below 0 with its whole interval, for gradient\\*input and for saliency. Deep is "
    "what the task needs: Spearman with the oracle is higher at the deepest layer than at the shallowest, with its "
    "whole interval, for gradient\\*input."
)


def depth(uniform: Mapping[str, Interval], gain: Interval) -> Verdict:
    """Claim 4.

    Args:
        uniform: method to the mean over encoders of the rank correlation of depth with uniformity.
        gain: Spearman with the oracle at the deepest layer minus the shallowest, of gradient*input.
    """
    falls = all(value.high < 0 for value in uniform.values())
    listed = ", ".join(f"{method.replace('*', chr(92) + '*')} {shown(value)}" for method, value in uniform.items())
    return Verdict(
        word([falls, bool(gain.low > 0)]),
        f"depth correlates with uniformity by {listed}; from the shallowest to the deepest layer, agreement with the "
        f"oracle changes by {shown(gain)} in Spearman.",
    )


CLUSTERS_RULE = (
    "Four parts, with gradient\\*input on the rooms. The 4 inpainting models, and the 10 classifiers: on average at "
    "least half of each model's nearest neighbours (3 and 9 of them) belong to its cluster, and at most 1 % of random "
    "sets score as high. Architecture: pairs of one family are closer than pairs of two, with p below 0.05 under "
    "relabelling. The second colorization model: the first is its nearest neighbour among all."
)


def clusters(
    inpainting: tuple[float, float], objects: tuple[float, float], family: tuple[float, float], rank: int, n: int
) -> Verdict:
    """Claim 5.

    Args:
        inpainting: share of the nearest neighbours that are in the set, and p.
        objects: the same for the classifiers.
        family: AUC, and p.
        rank: of the first colorization model for the second.
        n: number of other models.
    """
    parts = [
        inpainting[0] >= 0.5 and inpainting[1] <= 0.01,
        objects[0] >= 0.5 and objects[1] <= 0.01,
        family[0] > 0.5 and family[1] < 0.05,
        rank == 1,
    ]
    return Verdict(
        word(parts),
        f"{inpainting[0]:.0%} of the inpainting models' 3 nearest are inpainting models (p = {inpainting[1]:.3f}), "
        f"{objects[0]:.0%} of the classifiers' 9 nearest are classifiers (p = {objects[1]:.3f}), two of one "
        f"architecture are closer than two of different ones with probability {family[0]:.2f} (p = {family[1]:.3f}), "
        f"and the second colorization model has the first at rank {rank} of {n}.",
    )


TREES_RULE = (
    "One part per subset, with gradient\\*input on the rooms and average linkage: the heights at which models join "
    "correlate by at least 0.9 between the subset's own tree and the merged one, and its clusters recur more "
    "often than after 97.5 % of random relabellings."
)


def trees(shapes: Mapping[str, tuple[float, float, float]]) -> Verdict:
    """Claim 6.

    Args:
        shapes: subset to (cophenetic correlation, share of clusters kept, 97.5th percentile of it by relabelling).
    """
    parts = [height >= 0.9 and share > chance for height, share, chance in shapes.values()]
    listed = "; ".join(
        f"{name}: heights correlate by {height:.3f}, {share:.0%} of the clusters are kept (relabelled: up to "
        f"{chance:.0%})"
        for name, (height, share, chance) in shapes.items()
    )
    return Verdict(word(parts), f"{listed}.")


PLACES_RULE = (
    "Two parts. The ranking differs: Spearman of gradient\\*input with the oracle `rooms` is, for class_places, "
    "below the median of the targets. The sources are about equally good: the spread of losses over sources "
    "(standard deviation, as a share of the constant predictor's loss) is, for class_places, among the lowest third "
    "of the targets."
)


def places(agreement: tuple[float, float], spread: tuple[float, int, int]) -> Verdict:
    """Claim 7.

    Args:
        agreement: Spearman for class_places, and the median of the targets.
        spread: of losses for class_places, its rank from the lowest, and the number of targets.
    """
    differs, equal = agreement[0] < agreement[1], spread[1] <= spread[2] / 3
    return Verdict(
        word([differs, equal]),
        f"for class_places, Spearman is {agreement[0]:+.2f} (median of the targets {agreement[1]:+.2f}), and the "
        f"losses of its sources spread by {spread[0]:.3f} of the constant predictor's, rank {spread[1]} of "
        f"{spread[2]} from the lowest: the ranking {'differs' if differs else 'is not worse than usual'}, and the "
        f"sources are {'about equally good' if equal else 'not equally good'}.",
    )


COST_RULE = (
    "Two parts, at 39 models and the paper's 1,000 images: registering them and all their affinities takes at most a "
    "tenth of SVCCA's time, if SVCCA is computed pair by pair on the whole T; and if each model's singular vectors are "
    "computed once and kept."
)


def cost(ours: float, pairwise: float, stored: float) -> Verdict:
    """Claim 8; processor times of attribution, of SVCCA pair by pair, and of SVCCA with stored singular vectors."""
    return Verdict(
        word([pairwise >= 10 * ours, stored >= 10 * ours]),
        f"attribution takes {ours:.1f} s; SVCCA pair by pair {pairwise:.0f} s, {pairwise / ours:.1f} times as much "
        f"(the target was ten); SVCCA with each model's singular vectors kept {stored:.1f} s, {stored / ours:.2f} "
        "times as much.",
    )


VIEWS_RULE = (
    "A space replaces the paper's as the default if it is better, in Spearman, Kendall and regret@1, on the held-out "
    "targets, and no worse at retrieving a model of the same task (share of nearest neighbours). Met in means: in "
    "part. Met, and every interval of the paired differences excludes 0, with rooms and with yards as probes, on "
    "the kept targets of `rooms` and on all targets of `yards`: holds."
)


def default(
    held_out: Mapping[str, Interval],
    others: Mapping[str, Mapping[str, Interval]],
    first: tuple[float, float],
    popular: Mapping[str, Interval] | None = None,
) -> Verdict:
    """Whether the rule for the default space is met.

    Args:
        held_out: figure to the gain over the paper's space on the held-out targets; positive is better.
        others: the same with other probes or in the other world, by description.
        first: share of models whose nearest neighbour has the same task, for the space and for the paper's.
        popular: the gain in Spearman over popularity by mean rank, by description; not part of the rule.
    """
    met = all(value.mean > 0 for value in held_out.values()) and first[0] >= first[1]
    sure = bool(others) and all(value.low > 0 for gains in (held_out, *others.values()) for value in gains.values())

    def listed(gains: Mapping[str, Interval]) -> str:
        return ", ".join(f"{figure} {shown(value)}" for figure, value in gains.items())

    return Verdict(
        (HOLDS if sure else IN_PART) if met else NOT,
        "`transfer` gains over gradient\\*input, on the kept targets of `rooms` with rooms as probes, "
        f"{listed(held_out)}; "
        + "".join(f"{part}, {listed(gains)}; " for part, gains in others.items())
        + f"the nearest neighbour has the same task for {first[0]:.0%} of the models ({first[1]:.0%} with "
        "gradient\\*input)."
        + (
            " Over popularity by mean rank, which uses the transfers to all other targets, it gains in Spearman "
            + "; ".join(f"{shown(value)} ({part})" for part, value in popular.items())
            + "."
            if popular
            else ""
        ),
    )
