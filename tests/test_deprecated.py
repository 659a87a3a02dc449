"""Renamed names: the old ones still work, with a warning, and give the same object."""

from __future__ import annotations

import importlib
import sys
import warnings

import pytest

from modelspace.deprecated import MOVED_MODULES, renamed, renamed_argument


@pytest.mark.parametrize("old", sorted(MOVED_MODULES))
def test_a_moved_module_is_the_new_one(old: str) -> None:
    sys.modules.pop(f"modelspace.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"modelspace.{old} is now modelspace.{MOVED_MODULES[old]}"):
        module = importlib.import_module(f"modelspace.{old}")
    assert module is importlib.import_module(f"modelspace.{MOVED_MODULES[old]}")
    assert module.__name__ == f"modelspace.{MOVED_MODULES[old]}"


@pytest.mark.filterwarnings("ignore:modelspace.pictures is now")
def test_modules_in_a_moved_folder_are_found() -> None:
    sys.modules.pop("modelspace.pictures.figures", None)
    with pytest.warns(DeprecationWarning, match=r"modelspace\.pictures\.figures is now modelspace\.verbs\."):
        figures = importlib.import_module("modelspace.pictures.figures")
    assert figures is importlib.import_module("modelspace.verbs.pictures.figures")


def test_the_warning_names_the_line_that_imports() -> None:
    sys.modules.pop("modelspace.hubs", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        importlib.import_module("modelspace.hubs")
    sys.modules.pop("modelspace.hubs", None)
    with pytest.warns(DeprecationWarning, match=r"modelspace\.hubs is now") as direct:
        exec(compile("import modelspace.hubs", "someone.py", "exec"), {})
    assert direct[0].filename == "someone.py"
    assert len(caught) == 1


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("modelspace.nonsense")
    with pytest.raises(AttributeError, match="nonsense"):
        importlib.import_module("modelspace.spaces").nonsense  # noqa: B018


def test_a_renamed_attribute_is_the_new_one() -> None:
    from modelspace import spaces
    from modelspace.spaces import create

    with pytest.warns(
        DeprecationWarning, match=r"modelspace\.spaces\.DEFAULT_CANVAS is now modelspace\.spaces\.create"
    ):
        assert spaces.DEFAULT_CANVAS is create.DEFAULT_CANVAS
    lookup = renamed("modelspace.names", {"old": "check_name"})
    with pytest.warns(DeprecationWarning, match=r"modelspace\.names\.old"):
        assert lookup("old") is importlib.import_module("modelspace.names").check_name


def test_a_renamed_argument_is_passed_on_under_its_new_name() -> None:
    @renamed_argument("told", "on_outcome")
    def call(a: int, *, on_outcome: int = 0) -> tuple[int, int]:
        return a, on_outcome

    assert call(1, on_outcome=2) == (1, 2)
    with pytest.warns(DeprecationWarning, match=r"call\(told=\.\.\.\) is now .*call\(on_outcome=\.\.\.\)") as caught:
        assert call(1, told=3) == (1, 3)  # type: ignore[call-arg]
    assert caught[0].filename == __file__
    with pytest.raises(TypeError, match="both 'on_outcome' and its old name 'told'"):
        call(1, on_outcome=2, told=3)  # type: ignore[call-arg]


def test_the_attributes_that_a_space_definition_used_to_have() -> None:
    from modelspace import types

    spec = types.SpaceSpec("dds", "probes", "dds", n_images=9, canvas=0)
    with pytest.warns(DeprecationWarning, match=r"SpaceSpec\.kind"):
        assert spec.kind == "geometry"
    with pytest.warns(DeprecationWarning, match=r"SpaceSpec\.row_length"):
        assert spec.row_length == 9
    with pytest.warns(DeprecationWarning, match=r"SpaceSpec\.members"):
        assert spec.members == {}
    with pytest.warns(DeprecationWarning, match=r"types\.GEOMETRIES"):
        assert types.GEOMETRIES == ("dds", "linear_cka", "rsa")
    with pytest.raises(AttributeError):
        spec.nonsense  # noqa: B018


def test_what_training_needs_of_an_architecture_is_in_the_lab() -> None:
    from modelspace.lab import decoders
    from modelspace.zoo import architectures

    for name in ("count_parameters", "decoder", "fresh", "tapped"):
        with pytest.warns(DeprecationWarning, match=rf"modelspace\.lab\.decoders\.{name}"):
            assert getattr(architectures, name) is getattr(decoders, name)


def test_renamed_functions_of_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelspace import evaluation
    from modelspace.evaluation import splits

    # Importing the old module binds it to this name; the tests above do.
    monkeypatch.delattr(evaluation, "judge", raising=False)
    with pytest.warns(DeprecationWarning, match=r"modelspace\.evaluation\.judge is now modelspace\.evaluation\.eval"):
        assert evaluation.judge is evaluation.evaluate
    with pytest.warns(DeprecationWarning, match=r"splits\.half"):
        assert splits.half is splits.split
