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

#: Files with more than about ten seconds of processor time in `make test-wide`, the longest first, and then those with
#: more than about four in `make test`. The first two have most of `make test-long`.
LONGEST = (
    "docs/test_tutorial.py",
    "scripts/test_build_registry.py",
    "docs/test_commands_run.py",
    "verbs/test_add_many.py",
    "verbs/test_try.py",
    "verbs/test_add_many_ray.py",
    "verbs/test_merge.py",
    "verbs/test_pending.py",
    "torture/test_crash.py",
    "verbs/test_repair.py",
    "verbs/test_verify_drawn.py",
    "verbs/test_tasks.py",
    "torture/test_damage.py",
    "verbs/test_time_limit.py",
    "sources/test_file.py",
    "spaces/test_anchors.py",
    "cli/test_output.py",
    "verbs/test_published.py",
    "torture/test_names_and_files.py",
    "registry/test_foreign.py",
    "embedding/test_checks.py",
    "verbs/pictures/test_map.py",
    "encoder/test_architectures.py",
    "cli/test_hints.py",
    "torture/test_power.py",
    "torture/test_resources.py",
    "spaces/test_blends.py",
    "scripts/test_shipped.py",
    "embedding/test_unusual_tensors.py",
    "docs/test_how_to.py",
    "verbs/test_export_registries.py",
    "verbs/test_verify.py",
    "spaces/test_affinity.py",
    "docs/test_readme.py",
    "torture/test_models.py",
    "zoo/test_weights.py",
    "torture/test_hostile_files.py",
    "verbs/test_backup.py",
    "scripts/test_wheel.py",
    "verbs/pictures/test_gallery.py",
    "cli/test_streams.py",
    "embedding/test_finetune.py",
    "verbs/pictures/test_few_models.py",
    "docs/test_site.py",
    "docs/test_plug_in.py",
    "worlds/test_yards.py",
    "verbs/test_change.py",
    "verbs/test_prospects.py",
    "verbs/test_workspace.py",
    "server/test_app.py",
    "verbs/test_evaluate.py",
    "registry/test_undo.py",
    "spaces/test_stored_affinities.py",
    "spaces/test_milvus.py",
    "registry/test_open.py",
    "spaces/test_ranker.py",
    "cli/test_spelling.py",
    "spaces/test_kernel_spaces.py",
    "registry/test_rows.py",
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
