"""Measure what saving bytes per model costs: canvas and bits of maps, layout and bits of kernels.

    python scripts/measure_weight.py [--print | --defaults] [--cache DIR] [--models NAME,NAME,...] [--images N]

Writes docs/lab-book/weight.md. Every map and kernel is computed once, unrounded, and cached in .cache/reproduce;
everything else is arithmetic. The figures are those of `modelspace evaluate` (oracle rooms, all targets; models of the
same task), computed by the same functions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from build_registry import BITS, CANVAS, FEATURE_IMAGES, IMAGES
from reproduction import measures, passes
from reproduction.page import wrapped
from reproduction.passes import Scale

from modelspace import evaluation, zoo
from modelspace.evaluation import Evaluation
from modelspace.evaluation.retrieval import same_task
from modelspace.representations import kernels, maps
from modelspace.spaces import predictability
from modelspace.spaces.create import DEFAULT_BITS
from modelspace.spaces.defaults import DEFAULT_CANVAS

PAGE = passes.TOP / "docs" / "lab-book" / "weight.md"
ORACLE = "rooms"

CANVASES, MAP_BITS = (64, 32, 16, 8), (32, 8, 4, 3, 2, 1)
KERNEL_BITS = (16, 8, 4, 3, 2)
SPACES = {"gradient_x_input": "gradient*input", "saliency": "saliency"}

HEAD = """\
# Size of a registry

<!-- Written by scripts/measure_weight.py: change that, and run it again. -->

```sh
make registry        # the shipped registry; unchanged sources give the same bytes
make registry-full   # all probe sets and methods, into .full/
make weight          # measure the figures of this page
```

Almost all of a registry's bytes are quantised maps and kernels. This page measures what saving bytes costs, on the
{models} networks of [the zoo](zoo.md) and the oracle `{oracle}`: the figures of `modelspace evaluate`, from maps and
kernels that are rounded as in a space. "Change" is the paired difference to the unrounded values of the same canvas
or layout, with its 95 % interval over the targets; ρ is Spearman's correlation of the affinities of all pairs of
models with the unrounded ones.

The shipped registry has maps of {map_images} rooms, {canvas} x {canvas} pixels, {bits} bits, and kernels of
{kernel_images} rooms as `modelspace init` stores them. `make registry-full` builds one with all probe sets and
methods.

"""

KERNELS = """\
A kernel is symmetric, so one triangle suffices (`modelspace.representations.kernels.pack_triangle`). "Rows" quantises
each row of the whole matrix between its smallest and largest element, as kernel spaces were stored at first; the
diagonal stretches that range. "Triangle, one range" quantises the diagonal and everything above it, each between its
extremes. "Triangle, a range per row" has extremes for each row above the diagonal, and for the diagonal: as many
ranges as rows. R² is that of the directed ranking (`transfer`), largest change over all pairs.

At 8 bits nothing is lost. At 4, with a range per row, no figure shows a loss, but the rounded matrices are no longer
all positive semi-definite: rounding makes small eigenvalues negative, the ridge regression of the directed ranking
divides by what remains of them, and R² of a pair changes by 0.5. At 3 and 2 bits R² is unusable, while the
affinities are still accurate.
"""


DEFAULTS = """\
## The default of new spaces

A new space of maps has {canvas} x {canvas} pixels of {bits} bits: 27 kB a model with 200 images. With 64 x 64 pixels of
8 bits, the first default, it was 821 kB. ρ and the change are against those (`python scripts/measure_weight.py
--defaults` prints this table alone). No interval shows a loss. Affinities of the same two models differ between
canvases, as ρ says: larger maps show more in pictures, and are what `--canvas 64 --bits 8` makes.

"""

BUILDS = """\
## Reproducible builds

`make registry` with unchanged sources leaves `git status` clean, whatever the folder and the time. Everything that
could differ is fixed:

- Rounding: one thread, and for torch, numpy, numba and their libraries the same set of processor instructions
  (`PINNED` in `scripts/build_registry.py`). With AVX-512 instead of AVX2, affinities change by 5e-5, and positions on
  the stored map by its whole width. Processors without AVX2 give other bytes.
- Times start at SOURCE_DATE_EPOCH, one second apart in order; embedding times are 0.
- The registry's id and its spaces' first generation are hashes of the content.
- DuckDB's file: rows are sorted, one thread writes them in one transaction, unused memory is zeroed, the file's
  random identifier is replaced by a hash, and blocks have 32 KiB instead of 256, which saves 1.6 MB
  (`modelspace/lab/sealing.py`).

`make wheel` is reproducible too: 13.4 MB, with the zoo and without `modelspace/lab`.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def rounded(rows: np.ndarray, bits: int) -> np.ndarray:
    """Maps (models, images, elements) after quantisation to this number of bits, each of unit norm."""
    if bits == 32:
        return rows
    out = np.empty_like(rows)
    for i, row in enumerate(rows):
        codes, scales = maps.quantise(row, bits)
        out[i] = maps.unit(maps.dequantise(codes, scales, bits, row.shape[1]))
    return out


def between_extremes(values: np.ndarray, bits: int) -> np.ndarray:
    """Values rounded to 2^bits equally spaced levels from the smallest to the largest."""
    low, high = values.min(), values.max()
    step = (high - low) / ((1 << bits) - 1) or 1.0
    return np.rint((values - low) / step) * step + low


def by_rows(kernel: np.ndarray, bits: int) -> np.ndarray:
    return np.stack([between_extremes(row, bits) for row in kernel])


def _in_parts(kernel: np.ndarray, bits: int, cuts: Sequence[int]) -> np.ndarray:
    """A kernel from a packed triangle that is rounded with a range for each of its parts."""
    parts = np.split(kernels.pack_triangle(kernel), cuts)
    return kernels.unpack_triangle(np.concatenate([between_extremes(part, bits) for part in parts]))


def one_range(kernel: np.ndarray, bits: int) -> np.ndarray:
    return _in_parts(kernel, bits, [len(kernel)])


def range_per_row(kernel: np.ndarray, bits: int) -> np.ndarray:
    n = len(kernel)
    return _in_parts(kernel, bits, [n, *(n + np.cumsum(np.arange(n - 1, 1, -1)))])


#: Name to (rounding, elements and ranges of n images).
LAYOUTS: Mapping[str, tuple[Callable[[np.ndarray, int], np.ndarray], Callable[[int], tuple[int, int]]]] = {
    "rows": (by_rows, lambda n: (n * n, n)),
    "triangle, one range": (one_range, lambda n: (n * (n + 1) // 2, 2)),
    "triangle, a range per row": (range_per_row, lambda n: (n * (n + 1) // 2, n)),
}


def weight(elements: int, ranges: int, bits: int, models: int) -> str:
    """Megabytes of all models: codes, and two float32 per range."""
    return f"{models * (elements * bits / 8 + 8 * ranges) / 1e6:.2f}"


class Figures:
    """Evaluates matrices over all models of a scale."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.at = np.array([scale.models.index(name) for name in scale.tasks])
        self.tasks = [zoo.card(name).task for name in scale.models]
        self.oracle = evaluation.load(ORACLE)

    def evaluate(self, matrices: Mapping[str, np.ndarray]) -> Evaluation:
        tables = {name: (self.scale.tasks, matrix[np.ix_(self.at, self.at)]) for name, matrix in matrices.items()}
        return evaluation.evaluate(tables, self.oracle)

    def cells(self, outcome: Evaluation, name: str, matrix: np.ndarray, exact: str) -> list[str]:
        """P@1, P@5, Spearman, Kendall, regret@1, change of Spearman, same task."""
        summary = outcome.row(name).summary
        k = min(5, len(outcome.ks))
        gap = outcome.difference(name, exact)
        retrieval = same_task(matrix, self.tasks)
        return [
            f"{summary['precision'].mean[0]:.2f}",
            f"{summary['precision'].mean[k - 1]:.2f}",
            f"{float(summary['spearman'].mean):.3f}",
            f"{float(summary['kendall'].mean):.3f}",
            f"{summary['relative_regret'].mean[0]:.2f}",
            "" if name == exact else f"{gap.mean + 0.0:+.3f} [{gap.low + 0.0:+.3f}, {gap.high + 0.0:+.3f}]",
            "" if retrieval is None else f"{float(retrieval.first.mean):.2f}",
        ]


FIGURES = ("P@1", "P@5", "Spearman", "Kendall", "regret@1", "change of Spearman", "same task first")


def of_maps(figures: Figures, kind: str) -> str:
    """The table of one kind of map."""
    scale, rows = figures.scale, []
    for canvas in CANVASES:
        arrays = [
            passes.embedded(name, "rooms", scale) if canvas == passes.CANVAS else passes.on_canvas(name, canvas, scale)
            for name in scale.models
        ]
        exact = np.stack([maps_of_model[kind][:IMAGES] for maps_of_model in arrays])
        matrices = {str(bits): measures.affinity(rounded(exact, bits)) for bits in MAP_BITS}
        outcome = figures.evaluate(matrices)
        for bits in MAP_BITS:
            matrix = matrices[str(bits)]
            size = weight(exact.shape[1] * canvas**2, exact.shape[1], bits, len(scale.models))
            rho = f"{measures.rank_agreement(matrix, matrices['32']):.4f}"
            rows.append([str(canvas), str(bits), size, rho, *figures.cells(outcome, str(bits), matrix, "32")])
    return table(["canvas", "bits", "MB", "ρ", *FIGURES], rows)


def of_defaults(figures: Figures) -> str:
    """What the canvas and the bits of new spaces lose against those that were the default at first."""
    scale, rows = figures.scale, []
    small, large = f"{DEFAULT_CANVAS} x {DEFAULT_CANVAS}, {DEFAULT_BITS} bits", "64 x 64, 8 bits"
    for method, kind in SPACES.items():
        matrices = {}
        for label, canvas, bits in ((large, 64, 8), (small, DEFAULT_CANVAS, DEFAULT_BITS)):
            arrays = [passes.on_canvas(name, canvas, scale)[kind][:IMAGES] for name in scale.models]
            matrices[label] = measures.affinity(rounded(np.stack(arrays), bits))
        outcome = figures.evaluate(matrices)
        for label, matrix in matrices.items():
            rho = f"{measures.rank_agreement(matrix, matrices[large]):.4f}"
            rows.append([f"`{method}`", label, rho, *figures.cells(outcome, label, matrix, large)])
    return DEFAULTS.format(canvas=DEFAULT_CANVAS, bits=DEFAULT_BITS) + table(["space", "maps", "ρ", *FIGURES], rows)


def of_kernels(figures: Figures) -> str:
    """The table of dds, and of the directed ranking that uses its kernels."""
    scale, rows = figures.scale, []
    exact = measures.kernels("dds", [passes.embedded(n, "rooms", scale)["T"][:FEATURE_IMAGES] for n in scale.models])
    n = len(exact[0])
    affinity, directed = measures.inner(exact), predictability.r2_matrix(exact)
    for layout, (rounding, shape) in LAYOUTS.items():
        for bits in KERNEL_BITS:
            stored = [kernels.unit(rounding(kernel, bits)) for kernel in exact]
            near = measures.inner(stored)
            ranked = predictability.r2_matrix([(kernel + kernel.T) / 2 for kernel in stored])
            outcome = figures.evaluate(
                {"dds": near, "exact": affinity, "transfer": ranked, "transfer, exact": directed}
            )
            size = weight(*shape(n), bits, len(scale.models))
            for name, reference, matrix, unrounded in (
                ("dds", "exact", near, affinity),
                ("transfer", "transfer, exact", ranked, directed),
            ):
                change = f"{np.abs(matrix - unrounded).max():.0e}"
                rows.append([layout, str(bits), size, name, change, *figures.cells(outcome, name, matrix, reference)])
    outcome = figures.evaluate({"dds": affinity, "transfer": directed})
    for name, matrix in (("dds", affinity), ("transfer", directed)):
        rows.append(["unrounded", "64", "", name, "", *figures.cells(outcome, name, matrix, name)])
    return table(["layout", "bits", "MB", "space", "largest change of affinity or R²", *FIGURES], rows)


LRP = """\
The shipped registry has no space of ε-LRP. The two methods are equal if every nonlinearity is a ReLU, leaky or not
(Ancona et al., ICLR 2018): over the pairs of the {tasks} task encoders, for which the oracles are measured, ρ of their
affinities is {rho:.5f}, no affinity differs by more than {largest:.4f}, and Spearman with the oracle by {gap:+.4f}
[{low:+.4f}, {high:+.4f}]. They differ for other nonlinearities: over all {models} networks ρ is {rho_all:.3f}. The
largest difference of an affinity to a task encoder, by architecture, if above 0.01: {listed}. The inpainters
have ELUs, the MobileNets ReLU6. `modelspace init --method epsilon_lrp` creates a space of ε-LRP if that matters.
"""


def of_lrp(figures: Figures) -> str:
    """How far ε-LRP differs from gradient*input: why it is not shipped, and for which networks that matters."""
    scale = figures.scale
    gradient, lrp = (
        measures.affinity(passes.stacked("rooms", kind, scale, scale.models, IMAGES))
        for kind in ("gradient*input", "ε-LRP")
    )
    difference = np.abs(gradient - lrp)
    encoders = np.ix_(figures.at, figures.at)
    gap = figures.evaluate({"gxi": gradient, "lrp": lrp}).difference("lrp", "gxi")
    worst: dict[str, float] = {}
    for i, name in enumerate(scale.models):
        architecture = zoo.card(name).architecture
        worst[architecture] = max(worst.get(architecture, 0.0), float(difference[i, figures.at].max()))
    listed = [
        f"`{name}` {worst[name]:.2f}" for name in sorted(worst, key=worst.__getitem__)[::-1] if worst[name] > 0.01
    ]
    return LRP.format(
        tasks=len(scale.tasks),
        models=len(scale.models),
        rho=measures.rank_agreement(gradient[encoders], lrp[encoders]),
        largest=difference[encoders].max(),
        gap=gap.mean,
        low=gap.low,
        high=gap.high,
        rho_all=measures.rank_agreement(gradient, lrp),
        listed=", ".join(listed) or "none",
    )


def page(scale: Scale) -> str:
    figures = Figures(scale)
    head = HEAD.format(
        models=len(scale.models),
        oracle=ORACLE,
        map_images=IMAGES,
        canvas=CANVAS,
        bits=BITS,
        kernel_images=FEATURE_IMAGES,
    )
    parts = [head]
    for method, kind in SPACES.items():
        parts.append(f"## Maps: `{method}`, {IMAGES} rooms\n\n{of_maps(figures, kind)}\n")
    parts.append(f"{of_defaults(figures)}\n")
    parts.append(f"## Kernels: `dds`, {FEATURE_IMAGES} rooms\n\n{KERNELS}\n{of_kernels(figures)}\n")
    parts.append(f"## ε-LRP and gradient\\*input\n\n{of_lrp(figures)}\n{BUILDS}")
    return wrapped("".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the page instead of writing it")
    parser.add_argument("--defaults", action="store_true", help="print the table on the default of new spaces only")
    parser.add_argument("--cache", type=Path, default=passes.CACHE, help="folder for the unrounded maps")
    parser.add_argument("--models", help="networks of the zoo; default: all")
    parser.add_argument("--images", type=int, default=max(IMAGES, FEATURE_IMAGES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    passes.CACHE = options.cache
    names = tuple(options.models.split(",")) if options.models else passes.FULL.models
    scale = Scale(names, images=options.images, many=options.images)
    text = wrapped(of_defaults(Figures(scale))) if options.defaults else page(scale)
    if options.print or options.defaults:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")
        print(PAGE)


if __name__ == "__main__":
    main()
