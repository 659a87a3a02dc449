"""For the whole run: a cache of rendered rooms separate from the user's; the longest files come first; required tests
are not skipped."""

from __future__ import annotations

import os

import pytest
from file_order import pytest_collection_modifyitems
from hypothesis import settings
from required_parts import pytest_configure, pytest_make_collect_report, pytest_runtest_makereport

# A slow moment of the machine is no fault of the code.
settings.register_profile("modelspace", deadline=None)
settings.load_profile("modelspace")

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_make_collect_report",
    "pytest_runtest_makereport",
]


@pytest.fixture(scope="session", autouse=True)
def _cache_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    if "MODELSPACE_TEST_CACHE" in os.environ:  # scripts/run_mutants.py, whose runs share one
        os.environ["MODELSPACE_CACHE"] = os.environ["MODELSPACE_TEST_CACHE"]
        return
    base = tmp_path_factory.getbasetemp()
    # Workers of one run have folders of their own below a shared one.
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    os.environ["MODELSPACE_CACHE"] = str(shared / "rooms-cache")
