"""What is often typed wrong, and registries without models: one sentence, and what to type next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import small_spaces
from small_spaces import BOTH, KERNELS, MAPS
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.encoder.layers import _near
from modelspace.errors import UsageError
from modelspace.home import REGISTRY
from modelspace.spaces.kinds import BlendSpace
from modelspace.workspace import ModelSpace


def run(home: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*words, "--home", str(home)], env={"MODELSPACE_HOME": None})
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    directed = BlendSpace.of("directed", [(KERNELS, 1.0)], "none", "directed")
    small_spaces.create(folder / REGISTRY, MAPS, KERNELS, BOTH, directed).close()
    ModelSpace(folder).set_default("directed")
    return folder


@pytest.mark.first(7)
@pytest.mark.parametrize(
    "words",
    [
        *(["show", "x"], ["nearest", "x"], ["remove", "x"], ["rename", "x", "y"], ["tag", "x", "a=b"]),
        *(["compare", "x", "y"], ["verify", "--reembed", "x"], ["evaluate"], ["evaluate", "--space", "dds"]),
        *(["map"], ["tree"], ["heatmap"], ["gallery"], ["atlas"], ["report"], ["list"]),
    ],
)
def test_a_registry_without_models_says_how_to_add_one(empty: Path, tmp_path: Path, words: list[str]) -> None:
    code, said = run(empty, *words)
    assert "modelspace add URI" in said
    assert code == (0 if words == ["list"] else 1)
    assert "internal" not in said


@pytest.mark.parametrize("words", [["heatmap"], ["tree"], ["map"]])
def test_a_picture_is_called_by_its_name(empty: Path, words: list[str]) -> None:
    assert f"but a {words[0]} needs 2 or more" in run(empty, *words)[1]


@pytest.mark.parametrize("words", [["list"], ["init"], ["add", "zoo:edge2d"], ["verify"], ["restore", "x"]])
def test_a_file_is_no_home(empty: Path, tmp_path: Path, words: list[str]) -> None:
    code, said = run(empty / REGISTRY, *words)
    assert (code, f"--home {empty}" in said) == (2, True), said
    file = tmp_path / "notes.txt"
    file.touch()
    code, said = run(file, *words)
    assert (code, "notes.txt is a file, but the home of a registry is a folder" in said) == (2, True), said
    assert run(file / "below", *words)[0] in (1, 2)


@pytest.mark.parametrize("words", [["nearest", "zooo:edge2d"], ["gallery", "zooo:edge2d", "--layers", "auto"]])
def test_an_unknown_scheme_is_no_unknown_model(empty: Path, words: list[str]) -> None:
    code, said = run(empty, *words)
    assert (code, "unknown scheme 'zooo'" in said) == (1, True)
    assert "did you mean zoo?" in said


@pytest.mark.parametrize("words", [["add", "zoo:edge2d"], ["nearest", "zoo:edge2d"], ["scores", "t"], ["try", "t"]])
@pytest.mark.parametrize("size", ["0", "-4"])
def test_a_batch_has_images(empty: Path, words: list[str], size: str) -> None:
    code, said = run(empty, *words, "--batch-size", size)
    if words[0] in ("add", "nearest"):
        assert (code, f"--batch-size must be at least 1, not {size}" in said) == (2, True), said
    else:
        assert code == 1  # there is no such task, which comes first


def test_python_is_told_in_python(empty: Path) -> None:
    space: Any = ModelSpace(empty)
    for call in (lambda: space.nearest("x", batch_size=0), lambda: space.add_all([], batch_size=0)):
        with pytest.raises(UsageError) as error:
            call()
        assert "`batch_size=`" in error.value.message
        assert "--" not in str(error.value)


def test_a_layer_like_no_other_is_answered_with_those_that_exist() -> None:
    executed = ["stem", "stem.0", "stages", "stages.0.first", "pool"]
    assert _near("stages.0.frist", executed).startswith("did you mean stages.0.first")
    assert _near("qqqq", executed).startswith("it has stem, stages, pool, output, and layers below these; ")


@pytest.mark.parametrize("words", [[], ["spaces"], ["spaces", "remove"], ["task", "add"], ["compare"], ["doctor"]])
def test_h_is_help(words: list[str]) -> None:
    result = CliRunner().invoke(app, [*words, "-h"])
    assert result.exit_code == 0
    assert f"Usage: {' '.join(['modelspace', *words])}" in " ".join(result.output.split()).replace(
        "root ", "modelspace "
    )
