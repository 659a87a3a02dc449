"""requirements-dev.lock: hashes for all packages, the versions of constraints.txt, and no addresses of an index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements-dev.lock").read_text("utf-8")
CONSTRAINTS = (ROOT / "constraints.txt").read_text("utf-8")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s\\;]+)", text, re.MULTILINE)}


def unhashed(text: str) -> list[str]:
    """Names of requirements without a hash."""
    entries = re.split(r"^(?=[A-Za-z])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
    is_hashed = re.compile(r"--hash=sha256:[0-9a-f]{64}").search
    return [entry.split("=")[0] for entry in entries if entry.strip() and not is_hashed(entry)]


def test_every_package_has_a_hash() -> None:
    assert len(pins(LOCK)) > 100
    assert unhashed(LOCK) == []
    assert unhashed("a==1 \\\n    --hash=sha256:" + "0" * 64 + "\nb==2\n    # via a\n") == ["b"]


def test_versions_are_those_of_the_constraints() -> None:
    locked, wanted = pins(LOCK), pins(CONSTRAINTS)
    assert {name: locked[name] for name in wanted if name in locked} == {n: v for n, v in wanted.items() if n in locked}


def test_all_that_dev_names_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = list(project["dependencies"])
    for extra in ("dev", "docs", "pandas", "timm", "torchvision", "huggingface", "photographs", "onnx"):
        lines += extras[extra]
    names = {normal(re.split(r"[\[<>=; ]", line)[0]) for line in lines} - {"modelspace-db"}
    assert names - pins(LOCK).keys() == set()


def test_no_address_is_in_it() -> None:
    assert not re.search(r"://|--(extra-)?index-url|--find-links", LOCK)
