"""A pytest plugin: a test that is skipped because something is missing fails if that is required.

`MODELSPACE_REQUIRE` lists what is required, for example "chromium,pandas". `make test` sets it to what it installs.
With it, a skip for a reason that is not listed below also fails, so that a new reason can't hide tests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import Any

import pytest

VARIABLE = "MODELSPACE_REQUIRE"

#: What may be missing on somebody's machine -> a pattern that the reasons of its skips match, in lower case.
PARTS = {
    "chromium": r"\bchromium\b",
    "playwright": r"\bplaywright\b",
    "pandas": r"\bpandas\b",
    "pyarrow": r"\bpyarrow\b",
    "polars": r"\bpolars\b",
    "starlette": r"\bstarlette\b",
    "uvicorn": r"\buvicorn\b",
    "ray": r"\bray\b",
    "scikit-image": r"\b(skimage|scikit-image)\b",
    "scikit-learn": r"\b(sklearn|scikit-learn)\b",
    "torchvision": r"\btorchvision\b",
    "timm": r"\btimm\b",
    "huggingface": r"\b(huggingface[_-]hub|transformers)\b",
    "onnx": r"\bonnx\b",
    "mlflow": r"\bmlflow\b",
    "milvus": r"\b(pymilvus|milvus|milvus_lite)\b",
    "nbclient": r"\bnbclient\b",
    "mkdocs": r"\bmkdocs\b",
}

#: Reasons of the machine or of a library's version, which are accepted anywhere.
FINE = re.compile(
    "needs a (gpu|cuda device)|needs file permissions|/dev/full|/proc|unix|linux alone|only on linux"
    "|broken pipes are reported differently|are text there|the reference clips the point|no full registry"
    "|1.4 makes a type|fcntl|(strace|groff) is not installed|has no triggers"
    "|this version of torch has the gradient right"
)


def required() -> list[str] | None:
    """The required parts, or None if nothing is required.

    Raises:
        UsageError: a part is not in `PARTS`, so it would have no effect.
    """
    if VARIABLE not in os.environ:
        return None
    names = [name.strip() for name in os.environ[VARIABLE].split(",") if name.strip()]
    if unknown := sorted(set(names) - set(PARTS)):
        raise pytest.UsageError(f"{VARIABLE} names {', '.join(unknown)}; it may name {', '.join(PARTS)}")
    return names


def forbidden(reason: str, names: list[str]) -> str | None:
    """Why a test must not be skipped for this reason, or None if it may be."""
    reason = reason.lower()
    missing = [name for name, pattern in PARTS.items() if re.search(pattern, reason)]
    for name in missing:
        if name in names:
            return f"{name} is required here ({VARIABLE})"
    if not missing and not FINE.search(reason):
        return f"this reason is not known (tests/support/required_parts.py), and {VARIABLE} is set"
    return None


def _fail_instead(report: Any) -> None:
    names = required()
    if names is None or not report.skipped or hasattr(report, "wasxfail"):
        return
    where, line, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
    if problem := forbidden(reason, names):
        report.outcome = "failed"
        report.longrepr = f"{where}:{line}: {reason}\n{problem}"


def pytest_configure() -> None:
    required()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    _fail_instead(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    _fail_instead(report)
    return report
