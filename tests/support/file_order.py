"""A pytest plugin: the files that take longest come first, so that no worker is left alone with one at the end.

The workers of `make test` and `make test-wide` take whole files in this order (`--dist loadfile
--no-loadscope-reorder`); by itself xdist would begin with the files of most tests, and end with those of few but long
ones.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import tiers

TESTS = Path(__file__).resolve().parents[1]

#: Files of more than about fifteen seconds of processor time, about the longest first. The
#: tutorial renders the rooms that the others find in the cache.
LONGEST = (
    "docs/test_tutorial.py",
    "docs/test_commands_run.py",
    "embedding/test_unusual_tensors.py",
    "verbs/test_pending.py",
    "verbs/test_add_many.py",
    "verbs/test_merge.py",
    "spaces/test_blends.py",
    "scripts/test_build_registry.py",
    "docs/test_how_to.py",
    "docs/test_readme.py",
    "scripts/test_try_demo.py",
    "scripts/test_shipped.py",
    "zoo/test_weights.py",
    "lab/test_sealing.py",
    "scripts/test_wheel.py",
    "scripts/test_weight.py",
    "cli/test_end_to_end.py",
    "verbs/test_verify.py",
    "test_required_parts.py",
    "registry/test_crash.py",
    "registry/test_compaction.py",
    "verbs/pictures/test_map.py",
    "verbs/pictures/test_pages.py",
    "analysis/test_projection.py",
    "verbs/pictures/test_few_models.py",
    "docs/test_plug_in.py",
    "verbs/test_export_registries.py",
    "plots/test_atlas_layout.py",
    "scripts/test_support_table.py",
    "scripts/test_reproduction.py",
    "scripts/test_real.py",
    "lab/test_training.py",
    "docs/test_site.py",
    "docs/test_notebook.py",
)


def rank(path: Path) -> int:
    """Position of a test file among the longest; the same number for all others."""
    name = path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else ""
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.hookimpl(tryfirst=True)  # before what `-m` leaves out is decided
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The sort is stable: the tests of a file stay together and in their order."""
    tiers.mark_cases(items)
    config.stash[tiers.COLLECTED] = {item.nodeid: tiers.tier(item) for item in items}
    items.sort(key=lambda item: rank(item.path))
