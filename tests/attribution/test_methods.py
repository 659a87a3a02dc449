"""The table of methods can be read without torch, and parameters are checked against it."""

import subprocess
import sys

import pytest

from modelspace.attribution import METHODS, method_parameters
from modelspace.errors import NotFoundError, UsageError

_LIGHT = "import sys; import {module}; print(sorted({{'torch', 'captum'}} & set(sys.modules)))"


def _loaded_by(module: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", _LIGHT.format(module=module)], capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def test_the_table_does_not_import_torch() -> None:
    assert _loaded_by("modelspace.attribution") == "[]"


@pytest.mark.wide
def test_the_engine_imports_torch_but_not_captum() -> None:
    # shows that the test above can fail
    assert _loaded_by("modelspace.attribution.engine") == "['torch']"


def test_the_table_names_every_method_once() -> None:
    graph = ["gradient_x_input", "saliency", "epsilon_lrp", "attn_lrp", "sensitivity"]
    assert list(METHODS) == [*graph, "integrated_gradients", "noise_tunnel"]
    assert all(name == info.name and info.summary for name, info in METHODS.items())
    assert [name for name, info in METHODS.items() if not info.signed] == ["saliency", "sensitivity"]
    assert [name for name, info in METHODS.items() if not info.of_scalar] == ["sensitivity"]
    assert [name for name, info in METHODS.items() if info.captum] == ["integrated_gradients", "noise_tunnel"]
    assert METHODS["epsilon_lrp"].defaults["epsilon"] == 1e-4


def test_parameters_are_defaults_overwritten() -> None:
    assert method_parameters("saliency") == {}
    assert method_parameters("integrated_gradients", {"n_steps": 8}) == {"n_steps": 8, "baseline": 0.0}
    assert method_parameters("epsilon_lrp", {"epsilon": 1}) == {"epsilon": 1.0, "offset": "secant"}


def test_an_unknown_method_suggests() -> None:
    with pytest.raises(
        NotFoundError, match=r"no attribution method 'epsilon_lpr'\ndid you mean epsilon_lrp\? methods: "
    ):
        method_parameters("epsilon_lpr")


@pytest.mark.parametrize(
    ("method", "overrides", "message"),
    [
        ("saliency", {"epsilon": 1.0}, "saliency has no parameter 'epsilon'\nits parameters: none"),
        ("epsilon_lrp", {"epsilon": 0.0}, "epsilon=0.0 is not a number above zero\nthe default is epsilon=0.0001"),
        ("epsilon_lrp", {"epsilon": "x"}, "epsilon='x' is not a number above zero"),
        ("epsilon_lrp", {"epsilon": float("nan")}, "epsilon=nan is not a number above zero"),
        ("epsilon_lrp", {"offset": "none"}, "offset='none' is not one of secant, literal"),
        ("integrated_gradients", {"n_steps": 1.5}, "n_steps=1.5 is not a whole number above zero"),
        ("integrated_gradients", {"n_steps": True}, "n_steps=True is not a whole number above zero"),
        ("noise_tunnel", {"seed": "a"}, "seed='a' is not a whole number"),
    ],
)
def test_wrong_parameters_are_named(method: str, overrides: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        method_parameters(method, overrides)
    assert message in str(caught.value)
