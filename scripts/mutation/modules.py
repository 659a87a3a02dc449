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
    "spaces/affinity.py": ("spaces/test_affinity.py", "spaces/test_blends.py"),
    "spaces/hubness.py": ("spaces/test_blends.py",),
    "spaces/predictability.py": ("spaces/test_blends.py",),
    "spaces/bootstrap.py": ("spaces/test_bootstrap.py",),
    "spaces/neighbours.py": ("verbs/test_nearest.py", "spaces/test_blends.py"),
    "verbs/verify.py": ("verbs/test_verify.py",),
    "evaluation/metrics.py": ("evaluation/test_metrics.py",),
}

#: (Module, function, change) -> why the changed module does the same.
EQUIVALENT: dict[tuple[str, str, str], str] = {}
