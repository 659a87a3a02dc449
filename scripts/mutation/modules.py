"""The modules whose tests are tried on mutants, and the mutants that no test can kill."""

from __future__ import annotations

#: Module, as a path in modelspace/ -> the files of its own tests, in tests/.
MODULES: dict[str, tuple[str, ...]] = {
    "representations/maps.py": ("representations/test_maps.py", "embedding/test_canvas.py"),
    "representations/kernels.py": (
        "representations/test_kernel_blocks.py",
        "representations/test_triangles.py",
        "spaces/test_kernel_spaces.py",
    ),
    "spaces/coordinates.py": ("spaces/test_coordinates.py",),
    "spaces/affinity.py": ("spaces/test_stored_affinities.py",),
    "spaces/hubness.py": ("spaces/test_hubness.py",),
    "spaces/predictability.py": ("spaces/test_predictability.py",),
    "spaces/bootstrap.py": ("spaces/test_bootstrap.py",),
    "spaces/neighbours.py": ("spaces/test_ranker.py", "spaces/test_proposals.py"),
    "spaces/proposals.py": ("spaces/test_proposals.py",),
    "verbs/verify.py": ("verbs/test_verify_drawn.py",),
    "evaluation/metrics.py": ("evaluation/test_metrics.py",),
}

#: Seeds of samples whose survivors were looked at when tests were written.
SEEN = (0, 1, 2, 3)

#: (Seed, sample, module, share killed) of samples when first drawn, before tests for their survivors were added.
#: Equivalent mutants do not count.
FIRST_DRAWN = (
    (1, 20, "spaces/coordinates.py", 0.84),
    (1, 20, "evaluation/metrics.py", 0.84),
    (1, 20, "representations/maps.py", 0.80),
    (2, 25, "spaces/coordinates.py", 22 / 22),
    (2, 25, "evaluation/metrics.py", 24 / 25),
    (2, 25, "representations/maps.py", 19 / 22),
    (2, 25, "representations/kernels.py", 22 / 24),
    (0, 46, "spaces/affinity.py", 45 / 45),
    (0, 25, "spaces/neighbours.py", 23 / 24),
    (0, 25, "verbs/verify.py", 23 / 23),
    (3, 25, "representations/maps.py", 22 / 22),
    (3, 25, "representations/kernels.py", 20 / 23),
    (3, 25, "spaces/coordinates.py", 20 / 20),
    (3, 25, "spaces/affinity.py", 25 / 25),
    (3, 25, "spaces/hubness.py", 21 / 23),
    (3, 24, "spaces/predictability.py", 24 / 24),
    (3, 25, "spaces/bootstrap.py", 20 / 23),
    (3, 25, "spaces/neighbours.py", 24 / 24),
    (3, 25, "verbs/verify.py", 23 / 23),
    (3, 25, "evaluation/metrics.py", 23 / 23),
)

_NEGATIVE = "numpy computes a length that is given as any negative number"
_ROUNDING = "they differ where a float is exactly the bound, and there the results are equal or within rounding"
_REPLACED = "the array is replaced before a row of it is read"
_UNREAD = "it adds zeros for models that own no axis, which are not read"
_LENGTHS = "the sequences that are zipped are as long as each other, whatever the models"
_CUT = "one more candidate is proposed, and cut off again"
_EIGHT = "packing codes of 8 bits into bytes leaves them as they are"
_SKIPPED = "what is skipped is empty, or fails the next condition"

#: (Module, function, change) -> why the changed module does the same.
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("representations/maps.py", "quantise", "1 → 2 in -1"): _NEGATIVE,
    ("representations/maps.py", "quantise", "1 → 2 in -1 (2)"): _NEGATIVE,
    ("representations/maps.py", "decode", "1 → 2 in -1"): _NEGATIVE,
    ("representations/maps.py", "dequantise", "1 → 2 in -1"): _NEGATIVE,
    ("representations/maps.py", "pack", "1 → 2 in -1"): _NEGATIVE,
    ("representations/maps.py", "MapWriter.write", "1 → 2 in -1"): _NEGATIVE,
    ("representations/kernels.py", "condensed", "1 → 2 in values.shape[1] (2)"): (
        "the number of tokens is never the smaller one: T is only averaged where it is larger than MOST"
    ),
    (
        "representations/kernels.py",
        "condensed",
        "1 → 2 in range(1, GRID + 1)",
    ): "where a side of 1 fits and 2 does not, 1 is the default",
    ("spaces/hubness.py", "module", "1024 → 1025 in _ROWS = 1024"): "the size of a chunk changes memory, not results",
    ("spaces/bootstrap.py", "intervals", "n > 1 → n >= 1"): _SKIPPED,
    ("spaces/coordinates.py", "Factor.__init__", "0 → 1 in (0, 0)"): _REPLACED,
    ("spaces/coordinates.py", "Factor.__init__", "0 → 1 in (0, 0) (2)"): _REPLACED,
    ("spaces/coordinates.py", "Factor.append", "vector @ vector > 1.0 → vector @ vector >= 1.0"): _ROUNDING,
    ("spaces/coordinates.py", "Factor.append", "residual < -_EXCESS → residual <= -_EXCESS"): _ROUNDING,
    ("spaces/coordinates.py", "factorise", "1 → 2 in factor.landmarks[-1] + 1"): _UNREAD,
    ("spaces/coordinates.py", "factorise", "0 → 1 in factor.landmarks[-1] + 1 if factor.landmarks else 0"): _UNREAD,
    ("spaces/coordinates.py", "factorise", "len(known) < needed → len(known) <= needed"): _UNREAD,
    ("representations/maps.py", "quantise", "1 → 2 in np.where(hi > lo, (hi - lo) / top, 1)"): (
        "the step of a map with one value divides zeros"
    ),
    ("representations/maps.py", "quantise", "2 → 3 in 1:2"): "there are two columns",
    ("representations/maps.py", "recut", "blocks[-1].n_images <= per_block → blocks[-1].n_images < per_block"): (
        "equal blocks are cut again, into equal blocks"
    ),
    ("spaces/affinity.py", "_factorised", "True → False in strict=True"): _LENGTHS,
    ("spaces/neighbours.py", "Ranker._rank", "True → False in strict=True"): _LENGTHS,
    ("spaces/neighbours.py", "Ranker._proposed", "True → False in strict=True"): _LENGTHS,
    ("spaces/neighbours.py", "Ranker._compared", "1 → 2 in n_nearest + 1"): _CUT,
    ("spaces/neighbours.py", "Ranker._rank", "1 → 2 in 1 if self._is_exact else CANDIDATES"): _CUT,
    ("spaces/neighbours.py", "Ranker._rank", "1 → 2 in k + 1 (3)"): _CUT,
    ("spaces/hubness.py", "Score.__call__", "1 → 2 in -1"): _NEGATIVE,
    ("spaces/hubness.py", "corrected", "n - 1 → n + 1 (2)"): "there are no more than n - 1 columns to take",
    ("spaces/bootstrap.py", "intervals", "lower <= ROUNDING → lower < ROUNDING"): _ROUNDING,
    ("spaces/bootstrap.py", "intervals", "upper >= -ROUNDING → upper > -ROUNDING"): _ROUNDING,
    ("representations/maps.py", "dequantise", "2 → 3 in 1:2"): "there are two columns",
    ("representations/kernels.py", "condensed", "values * sign → values / sign"): "signs are 1 and -1",
    ("representations/kernels.py", "to_block", "8 → 9 in bits >= 8"): _EIGHT,
    ("representations/kernels.py", "_levels", "8 → 9 in bits >= 8"): _EIGHT,
    ("representations/kernels.py", "_levels", "bits >= 8 → bits > 8"): _EIGHT,
    ("verbs/verify.py", "_images", "2 → 3 in row.n_images or 2"): "rendered sets are compared without their images",
    ("evaluation/metrics.py", "bootstrap", "1 → 2 in -1"): _NEGATIVE,
    ("evaluation/metrics.py", "_per_target", "len(t) > 1 → len(t) >= 1"): _SKIPPED,
}
