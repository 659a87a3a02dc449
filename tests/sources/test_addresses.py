"""Addresses of models, the table of sources, and what importing the package loads."""

import subprocess
import sys

import pytest

from modelspace import sources, zoo
from modelspace.errors import ConflictError, ModelspaceError, NotFoundError, UsageError
from modelspace.sources import SOURCES, SourceInfo, is_uri, parse_uri, source_table


def imported(statement: str, *modules: str) -> set[str]:
    """The modules among these that a fresh interpreter has loaded after the statement."""
    code = f"{statement}\nimport sys\nprint(*(m for m in {modules!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_no_torch():
    heavy = ("torch", "PIL", "safetensors", "captum")
    assert imported("import modelspace.sources\nmodelspace.sources.parse_uri('zoo:depth')", *heavy) == set()


def test_the_check_above_can_fail():
    assert imported("import PIL", "torch", "PIL") == {"PIL"}


def test_parse_uri_splits_at_the_first_colon():
    assert parse_uri("zoo:depth") == ("zoo", "depth")
    assert parse_uri("python:C:/net.py:make") == ("python", "C:/net.py:make")


def test_an_unknown_scheme_names_the_near_and_the_known_ones():
    with pytest.raises(NotFoundError) as caught:
        parse_uri("pyton:net:make")
    assert caught.value.message == "unknown scheme 'pyton'"
    assert caught.value.hint == f"did you mean python? known schemes: {', '.join(sorted(SOURCES))}"
    with pytest.raises(NotFoundError) as caught:
        parse_uri("qqq:x")
    assert caught.value.hint == f"known schemes: {', '.join(sorted(SOURCES))}"


@pytest.mark.parametrize("text", ["depth", ":depth", ""])
def test_text_without_a_scheme_is_refused(text):
    with pytest.raises(UsageError, match="is not the address of a model") as caught:
        parse_uri(text)
    assert "zoo:rgb2depth" in caught.value.hint


def test_an_address_must_name_a_model():
    with pytest.raises(UsageError, match="names no model") as caught:
        parse_uri("zoo:")
    assert caught.value.hint == "example: zoo:rgb2depth"


def test_a_live_module_cant_be_loaded_again():
    with pytest.raises(UsageError, match="passed as a module from Python"):
        sources.load("live:my.Net")


def test_is_uri_wants_a_known_scheme():
    assert is_uri("zoo:depth")
    assert is_uri("python:x")
    assert not any(is_uri(text) for text in ("depth", "live:x", "C:/models", "http://x", "", None, 3))


def test_a_scheme_can_be_taken_once_only():
    row = SourceInfo("zoo", "one", "", "")
    with pytest.raises(ConflictError, match="the scheme 'zoo' is registered twice, by one and two"):
        source_table([row, SourceInfo("zoo", "two", "", "")])
    with pytest.raises(ConflictError, match="'live'"):
        source_table([SourceInfo("live", "one", "", "")])


def test_the_table_cant_be_changed_by_accident():
    with pytest.raises(TypeError):
        sources.SOURCES["x"] = SourceInfo("x", "x", "", "")


def test_every_row_names_its_own_scheme():
    for scheme, info in sources.SOURCES.items():
        assert scheme == info.scheme
        assert info.summary
        assert info.example.startswith(scheme + ":")
    assert sources.SOURCES["zoo"].example.removeprefix("zoo:") in zoo.names()


def test_a_source_comes_in_by_the_table(monkeypatch, tmp_path):
    (tmp_path / "fake_source.py").write_text(
        "def load(name, weights, flags):\n    return (name, weights, flags.mean)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    fake = SourceInfo("fake", "fake_source", "for tests", "fake:x")
    monkeypatch.setattr(sources, "SOURCES", source_table([*sources.SOURCES.values(), fake]))
    flags = sources.PreprocessingFlags(mean=(0.5,))
    assert sources.load("fake:it", weights="w", preprocessing=flags) == ("it", "w", (0.5,))


def test_a_source_whose_package_is_missing_says_what_to_install(monkeypatch, tmp_path):
    (tmp_path / "needy_source.py").write_text("import not_there.deep\n")
    monkeypatch.syspath_prepend(tmp_path)
    fake = SourceInfo("needy", "needy_source", "for tests", "needy:x")
    monkeypatch.setattr(sources, "SOURCES", source_table([fake]))
    with pytest.raises(ModelspaceError, match="'not_there', which is not installed") as caught:
        sources.load("needy:x")
    assert caught.value.hint == "pip install not_there"
